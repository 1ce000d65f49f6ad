//! The audit log: what was done, and what was denied; newest first, by who, what, outcome and time.

use axum::extract::Query;
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use crate::ui::api::{Trouble, segment};
use crate::ui::pieces::{empty, field, table, text, time_of};
use crate::ui::visitor::Visit;

/// Records on a page.
const RECORDS_LEN: u64 = 50;
/// Outcomes to choose from: as they begin in the log, and in words.
const OUTCOMES: &[(&str, &str)] = &[
    ("", "any"),
    ("denied", "denied"),
    ("refused", "login refused"),
    ("begun", "begun"),
    ("2", "done"),
    ("4", "refused"),
    ("5", "failed"),
];

/// Which part of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Which {
    who: String,
    what: String,
    outcome: String,
    since: String,
    until: String,
    cursor: Option<String>,
}

impl Which {
    /// What is given, as a query: of this page, as it was typed.
    fn typed(&self) -> String {
        query(&[
            ("who", self.who.trim()),
            ("what", self.what.trim()),
            ("outcome", &self.outcome),
            ("since", &self.since),
            ("until", &self.until),
        ])
    }

    /// The same, of the API.
    fn asked(&self) -> String {
        let (since, until) = (moment(&self.since), moment(&self.until));
        query(&[
            ("who", self.who.trim()),
            ("what", self.what.trim()),
            ("outcome", &self.outcome),
            ("since", &since),
            ("until", &until),
        ])
    }
}

fn query(given: &[(&str, &str)]) -> String {
    let given = given.iter().filter(|(_, value)| !value.is_empty());
    given.map(|(name, value)| format!("&{name}={}", segment(value))).collect()
}

/// A moment as the API wants it; fields of a form say it without a zone, and mean UTC.
fn moment(typed: &str) -> String {
    match typed.len() {
        0 => String::new(),
        // To the minute: 2026-11-23T12:00
        16 => format!("{typed}:00Z"),
        19 => format!("{typed}Z"),
        _ => typed.to_owned(),
    }
}

/// `GET /ui/audit`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn show(visit: Visit, Query(which): Query<Which>) -> Result<Response, Trouble> {
    let (typed, asked) = (which.typed(), which.asked());
    let cursor = which.cursor.as_deref().map(|cursor| format!("&cursor={}", segment(cursor)));
    let cursor = cursor.unwrap_or_default();
    let path = format!("/admin/audit?limit={RECORDS_LEN}{asked}{cursor}");
    let page = visit.api().get(&path).await?;
    let rows: Vec<Markup> = page["records"].as_array().into_iter().flatten().map(row).collect();
    let next = page["next"].as_str();
    Ok(visit.page("Audit log").show(&html! {
        (filters(&which))
        @if !rows.is_empty() { (table("Records", COLUMNS, &rows)) }
        @else if next.is_some() {
            (empty("Nothing here fits.", &html! { "Older records have yet to be looked through." }))
        } @else if typed.is_empty() {
            (empty("Nothing is recorded.", &html! {
                "Actions are recorded once the server asks who its callers are."
            }))
        } @else {
            (empty("No such record.", &html! { "Take a filter away, or choose a longer time." }))
        }
        nav.pager aria-label="Pages of the log" {
            @if which.cursor.is_some() { a href=(format!("/ui/audit?{typed}")) { "« Newest" } }
            @if let Some(next) = next {
                a href=(format!("/ui/audit?cursor={}{typed}", segment(next))) rel="next" {
                    "Older ›"
                }
            }
        }
    }))
}

fn filters(which: &Which) -> Markup {
    let moment = |name: &'static str, label: &'static str, value: &str| {
        let input = html! {
            input id=(name) name=(name) type="datetime-local" step="1" value=(value);
        };
        field(name, label, &input)
    };
    html! {
        form.filters method="get" action="/ui/audit" role="search" {
            (field("who", "Who", &html! {
                input #who name="who" value=(which.who) placeholder="a user" size="12"
                    autocomplete="off" spellcheck="false";
            }))
            (field("what", "What", &html! {
                input #what name="what" value=(which.what) placeholder="/admin/, bob"
                    autocomplete="off" spellcheck="false";
            }))
            (field("outcome", "Outcome", &html! {
                select #outcome name="outcome" {
                    @for (value, label) in OUTCOMES {
                        option value=(value) selected[which.outcome == *value] { (label) }
                    }
                }
            }))
            (moment("since", "From, in UTC", &which.since))
            (moment("until", "To, in UTC", &which.until))
            button type="submit" { "Search" }
        }
    }
}

const COLUMNS: &[&str] = &["When", "Outcome", "Who", "Action", "About", "Why", "Proof", "Address"];

fn row(record: &Value) -> Markup {
    let outcome = record["outcome"].as_str().unwrap_or_default();
    let who = record["who"].as_str();
    html! { tr {
        td.when { (time_of(&record["time"])) }
        td {
            span.badge.(mood(outcome)) { (outcome) }
            @if let Some(count) = record["count"].as_u64() { " " (count) }
        }
        td { @match who {
            Some(who) => { a href=(format!("/ui/audit?who={}", segment(who))) { (who) } }
            None => { (text(&record["who"])) }
        } }
        td.mono.action { (text(&record["what"])) }
        td { (text(&record["about"])) }
        td { (text(&record["why"])) }
        td { (text(&record["proof"])) }
        td { (text(&record["peer"])) }
    } }
}

/// How an outcome looks: what was denied and what failed stands out.
fn mood(outcome: &str) -> &'static str {
    match outcome {
        "begun" => "plain",
        "done" | "grpc-status 0" => "good",
        "left out" => "warn",
        status if status.starts_with(['2', '3']) => "good",
        _ => "bad",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_moment_is_one_of_utc() {
        for (typed, asked) in [
            ("", ""),
            ("2026-11-23T12:00", "2026-11-23T12:00:00Z"),
            ("2026-11-23T12:00:05", "2026-11-23T12:00:05Z"),
            ("2026-11-23T12:00:05.25Z", "2026-11-23T12:00:05.25Z"),
            ("yesterday", "yesterday"),
        ] {
            assert_eq!(moment(typed), asked);
        }
    }

    #[test]
    fn a_page_and_its_next_one_ask_the_same() {
        let which = Which {
            who: " ada ".to_owned(),
            what: "POST /ui/users".to_owned(),
            since: "2026-11-23T12:00".to_owned(),
            ..Which::default()
        };
        let typed = "&who=ada&what=POST%20%2Fui%2Fusers&since=2026-11-23T12%3A00";
        assert_eq!(which.typed(), typed);
        assert_eq!(which.asked(), format!("{typed}%3A00Z"));
    }
}
