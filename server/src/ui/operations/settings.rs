//! What the server was told at its start, and by whom; and what it logs, which can be changed.

use axum::response::{Redirect, Response};
use http::Method;
use maud::{Markup, html};
use serde_json::json;

use crate::security::rights::Right;
use crate::ui::api::{Sent, Trouble};
use crate::ui::form::Fields;
use crate::ui::layout::token;
use crate::ui::pieces::{empty, table, text};
use crate::ui::visitor::Visit;

/// `GET /ui/config`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn show(visit: Visit) -> Result<Response, Trouble> {
    let told = visit.api().get("/admin/config").await?;
    let settings = told["settings"].as_array().map_or(&[][..], Vec::as_slice);
    let rows: Vec<Markup> = settings
        .iter()
        .map(|setting| {
            let is_default = setting["from"] == "default";
            html! { tr {
                th scope="row" { code { (text(&setting["name"])) } }
                td.wide { (text(&setting["value"])) }
                td {
                    @if is_default { span.muted { "default" } } @else { (text(&setting["from"])) }
                }
            } }
        })
        .collect();
    // A server within another program may have nothing to do with what that one logs.
    let logged = visit.api().get("/admin/log").await.ok();
    let logged = logged.as_ref().and_then(|logged| logged["filter"].as_str());
    Ok(visit.page("Configuration").show(&html! {
        @if let Some(filter) = logged { (log_form(&visit, filter)) }
        p.muted {
            "As it was at the start. Secrets are not shown. " code { "daybook config example" }
            " explains each."
        }
        @if rows.is_empty() {
            (empty("Nothing is known of it.", &html! { "The server runs within another program." }))
        } @else { (table("Settings", &["Setting", "Value", "From"], &rows)) }
    }))
}

fn log_form(visit: &Visit, filter: &str) -> Markup {
    html! {
        details.card {
            summary { "Logged now: " code { (filter) } }
            @if visit.may(Right::Operate) {
                form.stacked method="post" action="/ui/config/log" {
                    (token(visit.visitor()))
                    label for="filter" { "What is logged until the next start" }
                    input #filter name="filter" value=(filter) required autocomplete="off"
                        spellcheck="false" aria-describedby="filter-hint";
                    p #filter-hint.muted {
                        "error, warn, info, debug, trace; of a part alone: "
                        code { "info,daybook_store=debug" }
                    }
                    button type="submit" { "Log this" }
                }
            }
        }
    }
}

/// `POST /ui/config/log`
///
/// # Errors
/// [`Trouble`]: the form cannot be used, or what the API says.
pub async fn set_log(visit: Visit, fields: Fields) -> Result<Redirect, Trouble> {
    let sent = Sent::Json(json!({ "filter": fields.needed("filter")? }).to_string());
    visit.api().send(Method::PUT, "/admin/log", sent).await?;
    Ok(Redirect::to("/ui/config?done=done"))
}
