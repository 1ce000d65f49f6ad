//! Streams by the beginning of their names.

use axum::extract::Query;
use axum::response::Response;
use maud::html;
use serde::Deserialize;

use crate::ui::api::{Trouble, segment};
use crate::ui::pieces::{empty, field, stream, table};
use crate::ui::visitor::Visit;

/// Names on a page.
const NAMES_LEN: usize = 50;

/// Which streams.
#[derive(Debug, Default, Deserialize)]
pub struct Which {
    #[serde(default)]
    prefix: String,
    after: Option<String>,
}

/// `GET /ui/streams`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn show(visit: Visit, Query(which): Query<Which>) -> Result<Response, Trouble> {
    let prefix = segment(&which.prefix);
    let after = which.after.as_deref().map(|after| format!("&after={}", segment(after)));
    let path =
        format!("/v1/streams?prefix={prefix}&limit={NAMES_LEN}{}", after.unwrap_or_default());
    let listed = visit.api().get(&path).await?;
    let names: Vec<&str> =
        listed["streams"].as_array().into_iter().flatten().filter_map(|n| n.as_str()).collect();
    let next = listed["next"].as_str();
    let rows: Vec<_> = names.iter().map(|name| html! { tr { td { (stream(name)) } } }).collect();
    Ok(visit.page("Streams").show(&html! {
        form.filters method="get" action="/ui/streams" role="search" {
            (field("prefix", "Name begins with", &html! {
                input #prefix name="prefix" value=(which.prefix) placeholder="account-"
                    autocomplete="off" spellcheck="false";
            }))
            button type="submit" { "Search" }
            @if !which.prefix.is_empty() { a href="/ui/streams" { "All" } }
        }
        details.card {
            summary { "Open or begin a stream by its name" }
            form.filters method="get" action="/ui/streams/" data-open-stream {
                (field("name", "Name", &html! {
                    input #name name="name" required autocomplete="off" spellcheck="false";
                }))
                button type="submit" { "Open" }
            }
        }
        @if names.is_empty() {
            (empty("No stream's name begins so.", &html! {
                "Append an event to begin one, or run " code { "daybook demo --url …" }
                " for some to look at."
            }))
        } @else {
            (table("Streams", &["Name"], &rows))
            nav.pager aria-label="Pages of the list" {
                @if which.after.is_some() {
                    a href=(format!("/ui/streams?prefix={prefix}")) { "« First" }
                }
                @if let Some(next) = next {
                    a href=(format!("/ui/streams?prefix={prefix}&after={}", segment(next)))
                        rel="next" {
                        "Next »"
                    }
                }
            }
        }
    }))
}
