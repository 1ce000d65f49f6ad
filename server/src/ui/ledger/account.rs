//! One account: now, or as it was; its balance over time, its transactions and holds; frozen, flagged.

use axum::extract::{Path, Query};
use axum::response::{Redirect, Response};
use http::Method;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{by, key};
use crate::security::rights::Right;
use crate::ui::api::{Sent, Trouble, segment};
use crate::ui::chart::{Chart, Line, POINTS_MAX};
use crate::ui::form::Fields;
use crate::ui::layout::token;
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
    let page = visit.page("Account").below("/ui/accounts", "Accounts");
    let status = now["status"].as_str().unwrap_or_default();
    Ok(page.with(state(status)).show(&html! {
        (travel(&account_id, &account, head, then.is_some()))
        div.cards { (what_it_is(&account)) (holds(&account)) }
        (balance(&history))
        h2 { "Transactions" }
        (listed(&account_id, &transactions, (first, end, head)))
        @if visit.may(Right::FreezeAccounts) { (actions(&visit, &account_id, &now)) }
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
                        (state("flagged")) " " (text(&flag["reason"])) ", by " (text(&flag["flagged_by"]))
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

fn holds(account: &Value) -> Markup {
    let currency = &account["currency"];
    let holds = account["holds"].as_array().map_or(&[][..], Vec::as_slice);
    let rows: Vec<Markup> = holds.iter().map(|hold| html! { tr {
        td { code { (hold["hold_id"].as_str().unwrap_or_default().get(..8).unwrap_or_default()) } }
        td.right { (amount(&hold["remaining"], currency)) }
        td.when { (time_of(&hold["placed_at"])) }
        td.when { (time_of(&hold["expires_at"])) }
    } }).collect();
    card(
        "Holds",
        &html! {
            @if rows.is_empty() { p.muted { "No money is reserved." } }
            @else { (table("Holds", &["Hold", ">Remaining", "Placed", "Expires"], &rows)) }
        },
    )
}

/// A slider through the account's events, and a field for a moment.
fn travel(account_id: &str, account: &Value, head: u64, is_past: bool) -> Markup {
    let revision = account["revision"].as_u64().unwrap_or(head);
    let here = format!("/ui/accounts/{account_id}");
    html! {
        section.card aria-label="Time travel" {
            @if is_past {
                p.notice.warn {
                    "This is the account as it was after its event " (revision) ". "
                    a href=(here) { "Back to now" }
                }
            }
            form.filters method="get" action=(here) {
                label for="revision" { "As it was after event " output #at-revision { (revision) } " of " (head) }
                input #revision type="range" name="revision" min="0" max=(head) value=(revision)
                    data-go data-slider="at-revision";
                button type="submit" { "Show" }
            }
            form.filters method="get" action=(here) {
                label for="at" { "or at a moment, in UTC" }
                input #at name="at" placeholder="2026-11-23T12:00:00Z" autocomplete="off";
                button type="submit" { "Show" }
            }
        }
    }
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
    let points = POINTS_MAX.min(2 * known.len().max(2));
    let (mut values, mut labels, mut next) = (Vec::new(), Vec::new(), 0);
    for point in 0..points {
        let share = point as f64 / (points - 1) as f64;
        let at = first.0.checked_add(span.mul_f64(share)).unwrap_or(last.0);
        let at = if point + 1 == points { last.0 } else { at };
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
            @if end < head { a href=(here((end + TRANSACTIONS_LEN).min(head))) rel="prev" { "‹ Newer" } }
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

fn actions(visit: &Visit, account_id: &str, now: &Value) -> Markup {
    let form = |verb: &str, label: &str, reason: bool| {
        html! {
            form.stacked method="post" action=(format!("/ui/accounts/{account_id}/{verb}")) {
                (token(visit.visitor()))
                input type="hidden" name="key" value=(visit.node().new_id());
                @if reason {
                    label for=(format!("{verb}-reason")) { "Why" }
                    input id=(format!("{verb}-reason")) name="reason" required maxlength="500";
                }
                button.danger[reason] type="submit" { (label) }
            }
        }
    };
    html! {
        div.cards {
            @match now["status"].as_str() {
                Some("active") => {
                    (card("Freeze", &html! {
                        p.muted { "Money goes in, and not out." } (form("freeze", "Freeze the account", true))
                    }))
                }
                Some("frozen") => { (card("Frozen", &form("unfreeze", "Unfreeze the account", false))) }
                _ => {}
            }
            @if now["flagged"].is_null() {
                (card("Flag", &html! {
                    p.muted { "Marks it as suspect; the rules of risk say what follows." }
                    (form("flag", "Flag the account", true))
                }))
            } @else {
                (card("Flagged", &form("unflag", "Take the flag away", false)))
            }
        }
    }
}

/// `POST /ui/accounts/{account_id}/freeze`
///
/// # Errors
/// [`Trouble`]: the form cannot be used, or what the API says.
pub async fn freeze(visit: Visit, id: Path<Uuid>, fields: Fields) -> Result<Redirect, Trouble> {
    let body = json!({ "reason": fields.needed("reason")?, "frozen_by": by(&visit) });
    let path = format!("/v1/accounts/{}/freeze", *id);
    act(&visit, (Method::POST, &path), (body, key(&fields)?), *id).await
}

/// `POST /ui/accounts/{account_id}/unfreeze`
///
/// # Errors
/// As [`freeze`].
pub async fn unfreeze(visit: Visit, id: Path<Uuid>, fields: Fields) -> Result<Redirect, Trouble> {
    let body = json!({ "unfrozen_by": by(&visit) });
    let path = format!("/v1/accounts/{}/unfreeze", *id);
    act(&visit, (Method::POST, &path), (body, key(&fields)?), *id).await
}

/// `POST /ui/accounts/{account_id}/flag`
///
/// # Errors
/// As [`freeze`].
pub async fn flag(visit: Visit, id: Path<Uuid>, fields: Fields) -> Result<Redirect, Trouble> {
    let body = json!({ "reason": fields.needed("reason")?, "flagged_by": by(&visit) });
    let path = format!("/v1/risk/accounts/{}/flag", *id);
    act(&visit, (Method::PUT, &path), (body, key(&fields)?), *id).await
}

/// `POST /ui/accounts/{account_id}/unflag`
///
/// # Errors
/// As [`freeze`].
pub async fn unflag(visit: Visit, id: Path<Uuid>, fields: Fields) -> Result<Redirect, Trouble> {
    let body = json!({ "unflagged_by": by(&visit) });
    let path = format!("/v1/risk/accounts/{}/flag", *id);
    act(&visit, (Method::DELETE, &path), (body, key(&fields)?), *id).await
}

async fn act(
    visit: &Visit,
    (method, path): (Method, &str),
    (body, key): (Value, Uuid),
    id: Uuid,
) -> Result<Redirect, Trouble> {
    visit.api().send(method, path, Sent::Once(body, key)).await?;
    Ok(Redirect::to(&format!("/ui/accounts/{id}?done=done")))
}
