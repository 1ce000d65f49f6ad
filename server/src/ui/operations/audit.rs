//! The audit log: what was done, and what was denied; newest first.

use axum::extract::Query;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use crate::ui::api::Trouble;
use crate::ui::pieces::{empty, table, text, time_of};
use crate::ui::visitor::Visit;

/// Records on a page.
const RECORDS_LEN: u64 = 50;

/// Which part of it.
#[derive(Debug, Default, Deserialize)]
pub struct Which {
    from: Option<u64>,
}

/// `GET /ui/audit`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn show(visit: Visit, Query(which): Query<Which>) -> Result<Response, Trouble> {
    let from = which.from.map_or("end".to_owned(), |from| from.to_string());
    let path = format!("/v1/streams/%24audit?direction=backwards&limit={RECORDS_LEN}&from={from}");
    let page = match visit.api().get(&path).await {
        Ok(page) => page,
        Err(trouble) if trouble.word == "stream-not-found" => Value::Null,
        Err(trouble) => return Err(trouble),
    };
    let rows: Vec<Markup> = page["events"].as_array().into_iter().flatten().map(row).collect();
    Ok(visit.page("Audit log").show(&html! {
        @if rows.is_empty() {
            (empty("Nothing is recorded.", &html! {
                "Actions are recorded once the server asks who its callers are."
            }))
        } @else { (table("Records", COLUMNS, &rows)) }
        nav.pager aria-label="Pages of the log" {
            @if which.from.is_some() { a href="/ui/audit" { "« Newest" } }
            @if let Some(next) = page["next"].as_u64() {
                a href=(format!("/ui/audit?from={next}")) rel="next" { "Older ›" }
            }
        }
    }))
}

const COLUMNS: &[&str] = &["When", "What", "Who", "Proof", "From", "Action", "About", "Outcome"];

fn row(event: &Value) -> Markup {
    let data = &event["data"];
    let (word, mood) = match event["type"].as_str().unwrap_or_default() {
        "$ActionBegun" => ("begun", "plain"),
        "$ActionEnded" => ("ended", "good"),
        "$Denied" => ("denied", "bad"),
        "$LoginRefused" => ("refused", "bad"),
        _ => ("left out", "warn"),
    };
    html! { tr {
        td.when { (time_of(&event["time"])) }
        td { span.badge.(mood) { (word) } }
        td { (text(&data["who"])) }
        td { (text(&data["proof"])) }
        td { (text(&data["peer"])) }
        td.mono { (text(&data["what"])) }
        td { (text(&data["about"])) }
        td { (text(if data["outcome"].is_null() { &data["why"] } else { &data["outcome"] })) }
    } }
}
