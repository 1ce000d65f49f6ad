//! Accounts, by owner, state and currency.

use axum::extract::Query;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use crate::ui::api::{Trouble, segment};
use crate::ui::pieces::{amount, empty, field, id_link, state, table, text, time_of};
use crate::ui::visitor::Visit;

/// Accounts on a page.
const ACCOUNTS_LEN: usize = 50;

/// Which accounts.
#[derive(Debug, Default, Deserialize)]
pub struct Which {
    #[serde(default)]
    account: String,
    #[serde(default)]
    owner: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    currency: String,
    cursor: Option<String>,
}

impl Which {
    /// What is given, as a query: of this page and of the API alike.
    fn query(&self) -> String {
        let given =
            [("owner", &self.owner), ("status", &self.status), ("currency", &self.currency)];
        let given = given.into_iter().filter(|(_, value)| !value.trim().is_empty());
        given.map(|(name, value)| format!("&{name}={}", segment(value.trim()))).collect()
    }
}

/// `GET /ui/accounts`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn show(visit: Visit, Query(which): Query<Which>) -> Result<Response, Trouble> {
    if !which.account.trim().is_empty() {
        let path = format!("/ui/accounts/{}", segment(which.account.trim()));
        return Ok(Redirect::to(&path).into_response());
    }
    let query = which.query();
    let cursor = which.cursor.as_deref().map(|c| format!("&cursor={}", segment(c)));
    let path = format!("/v1/accounts?limit={ACCOUNTS_LEN}{query}{}", cursor.unwrap_or_default());
    let found = visit.api().get(&path).await?;
    let rows: Vec<Markup> = found["accounts"].as_array().into_iter().flatten().map(row).collect();
    let choice = |value: &'static str, label: &'static str| {
        html! { option value=(value) selected[which.status == value] { (label) } }
    };
    Ok(visit.page("Accounts").show(&html! {
        form.filters method="get" action="/ui/accounts" role="search" {
            (field("account", "Account", &html! {
                input #account name="account" placeholder="its id" autocomplete="off"
                    spellcheck="false";
            }))
            (field("owner", "or owner", &html! {
                input #owner name="owner" value=(which.owner) placeholder="its id"
                    autocomplete="off" spellcheck="false";
            }))
            (field("status", "State", &html! {
                select #status name="status" {
                    (choice("", "any")) (choice("active", "active")) (choice("frozen", "frozen"))
                    (choice("closed", "closed"))
                }
            }))
            (field("currency", "Currency", &html! {
                input #currency name="currency" value=(which.currency) placeholder="EUR" size="4"
                    maxlength="3" autocomplete="off";
            }))
            button type="submit" { "Search" }
        }
        @if rows.is_empty() {
            (empty("No such account.", &html! {
                "Open one with " code { "POST /v1/accounts" } ", or run "
                code { "daybook demo --url …" } " for some to look at."
            }))
        } @else {
            (table("Accounts", COLUMNS, &rows))
        }
        nav.pager aria-label="Pages of the list" {
            @if which.cursor.is_some() { a href=(format!("/ui/accounts?{query}")) { "« First" } }
            @if let Some(next) = found["next"].as_str() {
                a href=(format!("/ui/accounts?cursor={}{query}", segment(next))) rel="next" {
                    "Next »"
                }
            }
        }
        @if let Some(position) = found["as_of"].as_u64() {
            p.muted { "As of position " (position) " of the log." }
        }
    }))
}

const COLUMNS: &[&str] =
    &["Account", "Type", "State", ">Balance", ">Available", ">Held", "Owner", "Changed"];

fn row(account: &Value) -> Markup {
    let id = account["account_id"].as_str().unwrap_or_default();
    let owner = account["owner_id"].as_str().unwrap_or_default();
    let currency = &account["currency"];
    html! { tr {
        td { (id_link(&format!("/ui/accounts/{id}"), id)) }
        td { (text(&account["account_type"])) }
        td {
            (state(account["status"].as_str().unwrap_or_default()))
            @if account["flagged"] == true { " " (state("flagged")) }
        }
        td.right { (amount(&account["balance"], currency)) }
        td.right { (amount(&account["available"], currency)) }
        td.right { (amount(&account["held"], currency)) }
        td { (id_link(&format!("/ui/accounts?owner={owner}"), owner)) }
        td.when { (time_of(&account["updated_at"])) }
    } }
}
