//! Through an account's events by a slider, and to a moment.
//!
//! The slider says when each event was and what the balance was then, of those whose history the
//! page has; by the keyboard it goes there with Enter, by the pointer when it is let go.

use maud::{Markup, html};
use serde_json::Value;

use crate::ui::pieces::time_of;

/// Which state of an account is shown.
pub struct Place<'a> {
    /// The account.
    pub account: &'a str,
    /// After this event of it.
    pub revision: u64,
    /// Its last one.
    pub head: u64,
    /// Whether it was asked for as it was.
    pub is_past: bool,
    /// Whether by the slider: who came by it may go on with it.
    pub by_slider: bool,
}

/// The forms that lead to another state of it; `history` has its last transactions.
#[must_use]
pub fn travel(place: &Place<'_>, history: &Value) -> Markup {
    let Place { revision, head, .. } = *place;
    let here = format!("/ui/accounts/{}", place.account);
    let entries = history["transactions"].as_array().map_or(&[][..], Vec::as_slice);
    let first = entries.first().and_then(|entry| entry["revision"].as_u64());
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let moments: Vec<String> = entries
        .iter()
        .map(|entry| format!("{} {}", text(entry, "occurred_at"), text(entry, "balance")))
        .collect();
    let shown = entries.iter().find(|entry| entry["revision"] == revision);
    html! {
        section.card aria-label="Time travel" {
            @if place.is_past {
                p.notice.warn {
                    "This is the account as it was after its event " (revision) ". "
                    a href=(here) { "Back to now" }
                }
            }
            form.filters method="get" action=(here) {
                label for="revision" { "As it was after event" }
                input #revision type="range" name="revision" min="0" max=(head) value=(revision)
                    autofocus[place.by_slider] data-go data-slider="at-revision"
                    data-first=[first] data-moments=(moments.join("|"))
                    aria-describedby="revision-hint";
                output #at-revision for="revision" {
                    (revision) " of " (head)
                    @if let Some(entry) = shown { " · " (time_of(&entry["occurred_at"])) }
                }
                button type="submit" { "Show" }
                span #revision-hint.unseen { "Arrow keys choose an event, Enter shows it." }
            }
            form.filters method="get" action=(here) {
                label for="at" { "or at a moment, in UTC" }
                input #at name="at" placeholder="2026-11-23T12:00:00Z" autocomplete="off";
                button type="submit" { "Show" }
            }
        }
    }
}
