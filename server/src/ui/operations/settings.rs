//! What the server was told at its start, and by whom.

use axum::response::Response;
use maud::{Markup, html};

use crate::ui::api::Trouble;
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
    Ok(visit.page("Configuration").show(&html! {
        p.muted {
            "As it was at the start. Secrets are not shown. " code { "daybook config example" }
            " explains each."
        }
        @if rows.is_empty() {
            (empty("Nothing is known of it.", &html! { "The server runs within another program." }))
        } @else { (table("Settings", &["Setting", "Value", "From"], &rows)) }
    }))
}
