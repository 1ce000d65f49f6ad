//! One account: now, or as it was; its balance over time, its transactions.

use axum::extract::{Path, Query};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::travel::{Place, travel};
use super::{holds, standing};
use crate::security::rights::Right;
use crate::ui::api::{Trouble, segment};
use crate::ui::chart::{Chart, Line, POINTS_MAX};
use crate::ui::pieces::{
    amount, card, empty, facts, id, id_link, state, stream, table, text, time_of,
};
use crate::ui::visitor::Visit;

/// Transactions on a page.
const TRANSACTIONS_LEN: u64 = 25;
/// Transactions that the chart is drawn of: the last ones.
const CHART_LEN: u64 = 500;

/// Which state of it.
#[derive(Debug, Default, Deserialize)]
pub struct Which {
    /// As it was after this event.
    revision: Option<String>,
    /// As it was then.
    at: Option<String>,
    /// The first transaction of the page.
    from: Option<u64>,
}

/// `GET /ui/accounts/{account_id}`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn show(
    visit: Visit,
    Path(account_id): Path<String>,
    Query(which): Query<Which>,
) -> Result<Response, Trouble> {
    let path = format!("/v1/accounts/{}", segment(&account_id));
    let now = visit.api().get(&path).await?;
    let head = now["revision"].as_u64().unwrap_or_default();
    let given = |value: &Option<String>| value.clone().filter(|value| !value.trim().is_empty());
    let then = match (given(&which.at), given(&which.revision)) {
        (Some(at), _) => Some(format!("?at={}", segment(at.trim()))),
        (None, Some(number)) => Some(format!("?revision={}", segment(number.trim()))),
        (None, None) => None,
    };
    let account = match &then {
        Some(query) => visit.api().get(&format!("{path}{query}")).await?,
        None => now.clone(),
    };
    let end = which.from.unwrap_or(head).min(head);
    let first = end.saturating_sub(TRANSACTIONS_LEN - 1);
    let shown = format!("{path}/transactions?cursor={first}&limit={}", end - first + 1);
    let transactions = visit.api().get(&shown).await?;
    let from = head.saturating_sub(CHART_LEN - 1);
    let asked = format!("{path}/transactions?cursor={from}&limit={CHART_LEN}");
    let history = visit.api().get(&asked).await?;
    let revision = account["revision"].as_u64().unwrap_or(head);
    let by_slider = which.revision.is_some();
    let place = Place { account: &account_id, revision, head, is_past: then.is_some(), by_slider };
    let page = visit.page("Account").below("/ui/accounts", "Accounts");
    let status = now["status"].as_str().unwrap_or_default();
    Ok(page.with(state(status)).show(&html! {
        (travel(&place, &history))
        div.cards.two { (what_it_is(&account)) (balance(&history)) }
        (holds::listed(&visit, &account, then.is_none()))
        h2 { "Transactions" }
        (listed(&account_id, &transactions, (first, end, head)))
        @if visit.may(Right::FreezeAccounts) { (standing::actions(&visit, &account_id, &now)) }
    }))
}

fn what_it_is(account: &Value) -> Markup {
    let currency = &account["currency"];
    let money = |name: &str| amount(&account[name], currency);
    let account_id = account["account_id"].as_str().unwrap_or_default();
    let owner = account["owner_id"].as_str().unwrap_or_default();
    card(
        "What it is",
        &facts(&[
            ("Balance", html! { strong { (money("balance")) } }),
            ("Available", money("available")),
            ("Held", money("held")),
            ("Overdraft limit", money("overdraft_limit")),
            (
                "Withdrawn today",
                html! {
                    (money("withdrawn_today")) " of " (money("daily_withdrawal_limit"))
                },
            ),
            ("Type", text(&account["account_type"])),
            (
                "Flag",
                match &account["flagged"] {
                    Value::Null => html! { "none" },
                    flag => html! {
                        (state("flagged")) " " (text(&flag["reason"])) ", by "
                        (text(&flag["flagged_by"]))
                    },
                },
            ),
            ("Account", id(account_id)),
            ("Owner", id_link(&format!("/ui/accounts?owner={owner}"), owner)),
            ("Opened", time_of(&account["opened_at"])),
            ("Changed", time_of(&account["updated_at"])),
            ("Stream", stream(&format!("ledger.account-{account_id}"))),
        ]),
    )
}

/// The balance over time: evenly spaced moments, and what the balance was then.
fn balance(history: &Value) -> Markup {
    let entries = history["transactions"].as_array().map_or(&[][..], Vec::as_slice);
    let known: Vec<(jiff::Timestamp, f64)> = entries
        .iter()
        .filter_map(|entry| {
            let at = entry["occurred_at"].as_str()?.parse().ok()?;
            // Only drawn: sums are the ledger's.
            Some((at, entry["balance"].as_str()?.parse().ok()?))
        })
        .collect();
    let (Some(first), Some(last)) = (known.first(), known.last()) else {
        return html! {};
    };
    let span = last.0.duration_since(first.0);
    let (mut values, mut labels, mut next) = (Vec::new(), Vec::new(), 0);
    for point in 0..POINTS_MAX {
        let share = point as f64 / (POINTS_MAX - 1) as f64;
        let at = first.0.checked_add(span.mul_f64(share)).unwrap_or(last.0);
        let at = if point + 1 == POINTS_MAX { last.0 } else { at };
        while next < known.len() && known[next].0 <= at {
            next += 1;
        }
        values.push(known.get(next.saturating_sub(1)).map(|(_, value)| *value));
        labels.push(format!("{at:.0}").replace('T', " ").replace('Z', " UTC"));
    }
    let unit = entries.first().and_then(|entry| entry["currency"].as_str()).unwrap_or_default();
    let lines = vec![Line { name: "balance", values }];
    Chart { title: "Balance over time", unit, lines, labels }.draw()
}

fn listed(account_id: &str, page: &Value, (first, end, head): (u64, u64, u64)) -> Markup {
    let entries = page["transactions"].as_array().map_or(&[][..], Vec::as_slice);
    let rows: Vec<Markup> = entries.iter().rev().map(row).collect();
    let here = |from: u64| format!("/ui/accounts/{account_id}?from={from}");
    html! {
        @if rows.is_empty() { (empty("Nothing has happened.", &html! { "" })) }
        @else { (table("Transactions", COLUMNS, &rows)) }
        nav.pager aria-label="Pages of the history" {
            @if end < head {
                a href=(here((end + TRANSACTIONS_LEN).min(head))) rel="prev" { "‹ Newer" }
            }
            @if first > 0 { a href=(here(first - 1)) rel="next" { "Older ›" } }
        }
    }
}

const COLUMNS: &[&str] =
    &[">Event", "When", "What", ">Amount", ">Balance", "Contra", "Description", "Transfer"];

fn row(entry: &Value) -> Markup {
    let currency = &entry["currency"];
    html! { tr {
        td.right { (text(&entry["revision"])) }
        td.when { (time_of(&entry["occurred_at"])) }
        td { (text(&entry["type"])) }
        td.right { (amount(&entry["amount"], currency)) }
        td.right { (amount(&entry["balance"], currency)) }
        td { (text(&entry["contra"])) }
        td { (text(&entry["description"])) }
        td { @if let Some(id) = entry["transfer_id"].as_str() {
            (id_link(&format!("/ui/transfers/{id}"), id))
        } }
    } }
}
