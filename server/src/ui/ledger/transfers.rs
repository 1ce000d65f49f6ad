//! Transfers: lists by state and time, and one with the steps of its saga.

use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Redirect, Response};
use daybook_model::Timestamp;
use http::Method;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::by;
use crate::http::event::rfc3339;
use crate::security::rights::Right;
use crate::ui::api::{Sent, Trouble, segment};
use crate::ui::form::Fields;
use crate::ui::layout::token;
use crate::ui::pieces::{
    amount, card, duration, empty, facts, field, id, id_link, state, stream, table, text, time_of,
};
use crate::ui::visitor::Visit;

/// Transfers on a page.
const TRANSFERS_LEN: usize = 50;
const NS: i64 = 1_000_000_000;
/// Periods that a list may be of, in seconds; the first is the usual one.
const PERIODS: &[(&str, &str, Option<i64>)] = &[
    ("day", "the last day", Some(86_400)),
    ("hour", "the last hour", Some(3_600)),
    ("week", "the last week", Some(7 * 86_400)),
    ("all", "the beginning", None),
];
const STATES: [&str; 6] =
    ["running", "compensating", "failed", "completed", "compensated", "abandoned"];

/// Which transfers.
#[derive(Debug, Default, Deserialize)]
pub struct Which {
    #[serde(default)]
    transfer: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    account: String,
    #[serde(default)]
    since: String,
    cursor: Option<String>,
}

/// `GET /ui/transfers`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn show(visit: Visit, Query(which): Query<Which>) -> Result<Response, Trouble> {
    if !which.transfer.trim().is_empty() {
        let path = format!("/ui/transfers/{}", segment(which.transfer.trim()));
        return Ok(Redirect::to(&path).into_response());
    }
    let period = PERIODS.iter().find(|(word, ..)| *word == which.since).unwrap_or(&PERIODS[0]);
    let mut asked = format!("/v1/transfers?direction=backwards&limit={TRANSFERS_LEN}");
    let given = [("state", &which.state), ("account", &which.account)];
    for (name, value) in given.into_iter().filter(|(_, value)| !value.trim().is_empty()) {
        asked.push_str(&format!("&{name}={}", segment(value.trim())));
    }
    // What is not over is shown whenever it began.
    let is_open = matches!(which.state.as_str(), "running" | "compensating" | "failed");
    if let Some(seconds) = period.2.filter(|_| !is_open) {
        let from = visit.node().clock().now().0.saturating_sub(seconds * NS);
        // To the hour, so that a page's cursor and the next page's question are of the same list.
        let from = Timestamp(from - from.rem_euclid(60 * NS));
        asked.push_str(&format!("&from={}", segment(&rfc3339(from))));
    }
    if let Some(cursor) = &which.cursor {
        asked.push_str(&format!("&cursor={}", segment(cursor)));
    }
    let found = visit.api().get(&asked).await?;
    let overview = visit.api().get("/v1/sagas/overview?limit=1").await.ok();
    let rows: Vec<Markup> = found["transfers"].as_array().into_iter().flatten().map(row).collect();
    let next = found["next"].as_str();
    let newest = form_urlencoded::Serializer::new(String::new())
        .append_pair("state", &which.state)
        .append_pair("account", &which.account)
        .append_pair("since", &which.since)
        .finish();
    Ok(visit.page("Transfers").show(&html! {
        @if let Some(overview) = &overview { (counts(overview)) }
        (filters(&which, period.0))
        @if rows.is_empty() {
            (empty("No such transfer.", &html! {
                "Choose a longer period or another state, or begin one with "
                code { "POST /v1/transfers" } "."
            }))
        } @else {
            (table("Transfers, newest first", COLUMNS, &rows))
        }
        nav.pager aria-label="Pages of the list" {
            @if which.cursor.is_some() { a href=(format!("/ui/transfers?{newest}")) { "« Newest" } }
            @if let Some(next) = next {
                a href=(format!("/ui/transfers?{newest}&cursor={}", segment(next))) rel="next" {
                    "Older ›"
                }
            }
        }
    }))
}

fn counts(overview: &Value) -> Markup {
    let states = overview["states"].as_array().map_or(&[][..], Vec::as_slice);
    let place = |entry: &&Value| {
        STATES.iter().position(|word| entry["state"] == *word).unwrap_or(STATES.len())
    };
    let mut states: Vec<&Value> = states.iter().collect();
    states.sort_by_key(place);
    html! {
        dl.tiles { @for entry in states {
            @let word = entry["state"].as_str().unwrap_or_default();
            div.tile {
                dt { (state(word)) }
                dd.beside { strong { (crate::ui::pieces::count(&entry["transfers"])) }
                    a href=(format!("/ui/transfers?state={word}&since=all")) { "show" } }
            }
        } }
    }
}

fn filters(which: &Which, period: &str) -> Markup {
    html! {
        form.filters method="get" action="/ui/transfers" role="search" {
            (field("transfer", "Transfer", &html! {
                input #transfer name="transfer" placeholder="its id" autocomplete="off"
                    spellcheck="false";
            }))
            (field("account", "or account", &html! {
                input #account name="account" value=(which.account) placeholder="its id"
                    autocomplete="off" spellcheck="false";
            }))
            (field("state", "State", &html! {
                select #state name="state" {
                    option value="" { "any" }
                    @for word in STATES {
                        option value=(word) selected[which.state == word] { (word) }
                    }
                }
            }))
            (field("since", "Since", &html! {
                select #since name="since" {
                    @for (word, label, _) in PERIODS {
                        option value=(word) selected[*word == period] { (label) }
                    }
                }
            }))
            button type="submit" { "Search" }
        }
    }
}

const COLUMNS: &[&str] = &["Transfer", "State", "Began", ">Amount", "From", "To", "Description"];

fn row(transfer: &Value) -> Markup {
    let id_of = |name: &str| transfer[name].as_str().unwrap_or_default();
    let account = |name: &str| id_link(&format!("/ui/accounts/{}", id_of(name)), id_of(name));
    let own = id_of("transfer_id");
    html! { tr {
        td { (id_link(&format!("/ui/transfers/{own}"), own)) }
        td { (state(id_of("state"))) }
        td.when { (time_of(&transfer["initiated_at"])) }
        td.right { (amount(&transfer["amount"], &transfer["currency"])) }
        td { (account("sender_account_id")) }
        td { (account("receiver_account_id")) }
        td { (text(&transfer["description"]))
            @if let Some(reason) = transfer["reason"].as_str() { div.muted { (reason) } } }
    } }
}

/// `GET /ui/transfers/{transfer_id}`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn one(visit: Visit, Path(transfer_id): Path<String>) -> Result<Response, Trouble> {
    let id_of = segment(&transfer_id);
    let transfer = visit.api().get(&format!("/v1/transfers/{id_of}")).await?;
    let saga = visit.api().get(&format!("/v1/sagas/{id_of}")).await?;
    let word = transfer["state"].as_str().unwrap_or_default();
    let page = visit.page("Transfer").below("/ui/transfers", "Transfers").with(html! {
        span #state data-refresh="3000" { (state(word)) }
    });
    Ok(page.show(&html! {
        div #now.stack data-refresh="3000" {
            @if let Some(reason) = transfer["reason"].as_str() {
                p.notice.warn { (reason) }
            }
            div.cards { (what_it_is(&transfer)) (progress(&saga)) }
            section.card { h2 { "Steps" } (steps(&transfer)) }
        }
        div #orders data-refresh="3000" {
            @if word == "failed" && visit.may(Right::SettleSagas) { (actions(&visit, &id_of)) }
        }
    }))
}

fn what_it_is(transfer: &Value) -> Markup {
    let id_of = |name: &str| transfer[name].as_str().unwrap_or_default();
    let account = |name: &str| id_link(&format!("/ui/accounts/{}", id_of(name)), id_of(name));
    let own = id_of("transfer_id");
    card(
        "What it is",
        &facts(&[
            ("Amount", html! { strong { (amount(&transfer["amount"], &transfer["currency"])) } }),
            ("Credited", amount(&transfer["credited_amount"], &transfer["credited_currency"])),
            ("From", account("sender_account_id")),
            ("To", account("receiver_account_id")),
            ("Description", text(&transfer["description"])),
            (
                "Conversion",
                match &transfer["fx"] {
                    Value::Null => html! { "none" },
                    fx => html! { "at " (text(&fx["rate"])) " to " (text(&fx["currency"])) },
                },
            ),
            ("Transfer", id(own)),
            ("Stream", stream(&format!("ledger.transfer-{own}"))),
        ]),
    )
}

fn progress(saga: &Value) -> Markup {
    card(
        "Saga",
        &facts(&[
            ("State", state(saga["state"].as_str().unwrap_or_default())),
            (
                "Next step",
                html! {
                    (saga["step"].as_str().map_or("–".to_owned(), |step| step.replace('_', " ")))
                },
            ),
            ("Next attempt", text(&saga["attempt"])),
            ("Began", time_of(&saga["initiated_at"])),
            ("Undone unless done by", time_of(&saga["deadline"])),
        ]),
    )
}

/// Each attempt, and how long after the one before it ended.
fn steps(transfer: &Value) -> Markup {
    let steps = transfer["steps"].as_array().map_or(&[][..], Vec::as_slice);
    let at = |value: &Value| value.as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
    let mut before = at(&transfer["initiated_at"]);
    let entries: Vec<Markup> = steps
        .iter()
        .map(|step| {
            let now = at(&step["at"]);
            let took = before.zip(now).map(|(before, now)| now.duration_since(before));
            before = now;
            let undoes = step["direction"] == "compensation";
            let failed = step["outcome"] == "failed";
            let mood = if failed {
                "bad"
            } else if undoes {
                "undo"
            } else {
                ""
            };
            html! { li.(mood) {
                div.when {
                    (time_of(&step["at"]))
                    @if let Some(took) = took {
                        span.muted { "took " (duration(took.unsigned_abs())) }
                    }
                }
                div {
                    @if undoes { "undo " }
                    strong {
                        (step["step"].as_str().unwrap_or_default().replace('_', " "))
                    }
                    " " (state(step["outcome"].as_str().unwrap_or_default()))
                    @if step["attempt"].as_u64().is_some_and(|attempt| attempt > 1) {
                        " " span.muted { "attempt " (text(&step["attempt"])) }
                    }
                    @if let Some(reason) = step["reason"].as_str() { div.muted { (reason) } }
                }
            } }
        })
        .collect();
    html! {
        @if entries.is_empty() { p.muted { "No step was taken yet." } }
        ol.timeline { @for entry in &entries { (entry) } }
    }
}

fn actions(visit: &Visit, id: &str) -> Markup {
    html! {
        div.cards {
            (card("Try again", &html! {
                p.muted { "When what stopped it is mended." }
                form.stacked method="post" action=(format!("/ui/transfers/{id}/resume")) {
                    (token(visit.visitor()))
                    button type="submit" { "Resume" }
                }
            }))
            (card("Give up", &html! {
                p.muted { "Only when somebody has seen to the money by other means." }
                form.stacked method="post" action=(format!("/ui/transfers/{id}/abandon")) {
                    (token(visit.visitor()))
                    label for="reason" { "Why, and what was done about the money" }
                    input #reason name="reason" required maxlength="500";
                    button.danger type="submit" { "Abandon" }
                }
            }))
        }
    }
}

/// `POST /ui/transfers/{transfer_id}/resume`
///
/// # Errors
/// [`Trouble`]: the form cannot be used, or what the API says.
pub async fn resume(visit: Visit, id: Path<Uuid>, _own: Fields) -> Result<Redirect, Trouble> {
    let body = json!({ "resumed_by": by(&visit) });
    tell(&visit, *id, "resume", &body).await
}

/// `POST /ui/transfers/{transfer_id}/abandon`
///
/// # Errors
/// As [`resume`].
pub async fn abandon(visit: Visit, id: Path<Uuid>, fields: Fields) -> Result<Redirect, Trouble> {
    let body = json!({ "reason": fields.needed("reason")?, "abandoned_by": by(&visit) });
    tell(&visit, *id, "abandon", &body).await
}

async fn tell(visit: &Visit, id: Uuid, verb: &str, body: &Value) -> Result<Redirect, Trouble> {
    let path = format!("/v1/sagas/{id}/{verb}");
    visit.api().send(Method::POST, &path, Sent::Json(body.to_string())).await?;
    Ok(Redirect::to(&format!("/ui/transfers/{id}?done=done")))
}
