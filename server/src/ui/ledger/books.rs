//! The trial balance: what is where, and that it all comes to zero.

use axum::extract::Query;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use crate::ui::api::Trouble;
use crate::ui::pieces::{amount, count, empty, state, table};
use crate::ui::visitor::Visit;

/// How much is asked for.
#[derive(Debug, Default, Deserialize)]
pub struct Which {
    #[serde(default)]
    verify: String,
}

/// `GET /ui/books`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn show(visit: Visit, Query(which): Query<Which>) -> Result<Response, Trouble> {
    let verify = which.verify == "yes";
    let books = visit.api().get(&format!("/v1/trial-balance?verify={verify}")).await?;
    let balanced = books["balanced"] == true && books["verified"]["equal"] != false;
    let rows: Vec<Markup> = books["currencies"].as_array().into_iter().flatten().map(row).collect();
    let word = if balanced { "balanced" } else { "off" };
    Ok(visit.page("Trial balance").with(state(word)).show(&html! {
        @if balanced {
            p.notice.good {
                "Every currency comes to zero at position " strong { (count(&books["position"])) }
                @if !books["verified"].is_null() {
                    ", and equals a fold of " (count(&books["verified"]["events"])) " events of "
                    (count(&books["verified"]["accounts"])) " accounts"
                }
                "."
            }
        } @else {
            p.notice.bad role="alert" {
                "The books do not balance. It must never happen: stop the server, keep the \
                 directory, run " code { "daybook verify" } "."
            }
        }
        @if rows.is_empty() {
            (empty("The books are empty.", &html! { "No money has moved yet." }))
        }
        @else { (table("Trial balance", COLUMNS, &rows)) }
        form.toolbar method="get" action="/ui/books" {
            input type="hidden" name="verify" value="yes";
            button type="submit" { "Compare with every account" }
            span.muted { "Reads the history of all accounts; with many of them it takes a while." }
        }
    }))
}

const COLUMNS: &[&str] =
    &["Currency", ">Customers", ">Cash", ">Clearing", ">Fees", ">FX position", ">Total"];

fn row(sums: &Value) -> Markup {
    let classes = ["customers", "cash", "clearing", "fees", "fx_position", "total"];
    html! { tr {
        th scope="row" { (sums["currency"].as_str().unwrap_or_default()) }
        @for class in classes { td.right { (amount(&sums[class], &Value::Null)) } }
    } }
}
