//! One stream: its events, newest first, and what may be done with it.

use axum::extract::{Path, Query};
use axum::response::Response;
use daybook_model::{Act, StreamName};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::shown::{COLUMNS, COLUMNS_OF_LOG, Events};
use crate::ui::api::{Trouble, segment};
use crate::ui::layout::token;
use crate::ui::pieces::{empty, stream_path, table};
use crate::ui::visitor::Visit;

/// Events on a page.
const EVENTS_LEN: u64 = 25;

/// Which part of it.
#[derive(Debug, Default, Deserialize)]
pub struct Which {
    from: Option<u64>,
    /// Of a form that opens a stream by its name.
    #[serde(default)]
    name: String,
}

/// `GET /ui/streams/{name}`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn show(
    visit: Visit,
    Path(name): Path<String>,
    Query(which): Query<Which>,
) -> Result<Response, Trouble> {
    let stream = StreamName::new(&name).map_err(|error| Trouble::bad(&error.to_string()))?;
    let from = which.from.map_or("end".to_owned(), |from| from.to_string());
    let path = format!("/v1/streams/{}", segment(&name));
    let query = format!("?direction=backwards&limit={EVENTS_LEN}&from={from}");
    let bytes = match visit.api().bytes(&format!("{path}{query}")).await {
        Ok(bytes) => Some(bytes),
        // A stream that is not there may be begun.
        Err(trouble) if trouble.word == "stream-not-found" => None,
        Err(trouble) => return Err(trouble),
    };
    let events = bytes.as_deref().map(Events::read).transpose()?;
    let door = visit.node().door();
    let may = async |act| door.may(act, &stream).await.unwrap_or(false);
    let metadata = if may(Act::ReadMetadata).await {
        Some(visit.api().get(&format!("{path}/metadata")).await?)
    } else {
        None
    };
    let body = html! {
        (listed(&name, events.as_ref()))
        @if !is_virtual(&name) && may(Act::Write).await {
            (append_form(&visit, &name, events.as_ref()))
        }
        @if let Some(metadata) = &metadata {
            (settings(&visit, &name, metadata, may(Act::WriteMetadata).await))
        }
        @if !is_virtual(&name) && events.is_some() && may(Act::Delete).await {
            (delete_form(&visit, &name))
        }
    };
    let tail = format!("/ui/tail?stream={}", segment(&name));
    let page = visit.page(name).below("/ui/streams", "Streams");
    Ok(page.with(html! { a.button href=(tail) { "Follow live" } }).show(&body))
}

/// Whether a stream is made of the index: nobody writes it.
fn is_virtual(name: &str) -> bool {
    let made = ["$ce-", "$et-", "$bc-", "$category-"];
    name == "$streams" || made.iter().any(|prefix| name.starts_with(prefix))
}

fn listed(name: &str, events: Option<&Events<'_>>) -> Markup {
    let Some(Events { events, head, first, next, .. }) = events else {
        return empty(
            "There is no such stream.",
            &html! {
                "It was never written to, or was deleted. Append an event to begin it."
            },
        );
    };
    let through_links = events.iter().any(|event| event.link.is_some());
    let rows: Vec<Markup> = events
        .iter()
        .map(|event| if through_links { event.row_of_log() } else { event.row() })
        .collect();
    let columns = if through_links { COLUMNS_OF_LOG } else { COLUMNS };
    let number = |event: &super::shown::Shown<'_>| {
        event.link.as_ref().map_or(event.revision, |link| link.revision)
    };
    let newest = events.first().map(number);
    let newer = newest.filter(|newest| head.is_some_and(|head| *newest < head));
    let path = stream_path(name);
    html! {
        p.muted {
            @if let (Some(first), Some(head)) = (first, head) {
                "Revisions " (first) " to " (head) "; newest first."
            }
        }
        @if rows.is_empty() {
            (empty("Nothing is left here.", &html! { "Retention hides the rest." }))
        }
        @else { (table("Events", columns, &rows)) }
        nav.pager aria-label="Pages of the stream" {
            @if let Some(newer) = newer {
                a href=(path) { "« Newest" }
                a href=(format!("{path}?from={}", newer + EVENTS_LEN)) rel="prev" { "‹ Newer" }
            }
            @if let Some(next) = next {
                a href=(format!("{path}?from={next}")) rel="next" { "Older ›" }
            }
        }
    }
}

fn append_form(visit: &Visit, name: &str, events: Option<&Events<'_>>) -> Markup {
    let head = events.and_then(|events| events.head);
    html! {
        details.card {
            summary { "Append an event" }
            form.stacked method="post" action=(format!("{}/append", stream_path(name))) {
                (token(visit.visitor()))
                label for="type" { "Type" }
                input #type name="type" required autocomplete="off" spellcheck="false";
                label for="data" { "Data, in JSON" }
                textarea #data name="data" rows="6" required spellcheck="false" { "{}" }
                label for="metadata" { "Metadata, in JSON (may be empty)" }
                textarea #metadata name="metadata" rows="2" spellcheck="false" {}
                label for="expected" { "Expected revision" }
                select #expected name="expected" {
                    @match head {
                        Some(head) => { option value=(head) { "exactly " (head) ", as shown" } }
                        None => { option value="no_stream" { "no stream, as shown" } }
                    }
                    option value="any" { "any" }
                }
                button type="submit" { "Append" }
            }
        }
    }
}

fn settings(visit: &Visit, name: &str, metadata: &Value, may_write: bool) -> Markup {
    let text = serde_json::to_string_pretty(&metadata["metadata"]).unwrap_or_default();
    let expected =
        metadata["revision"].as_u64().map_or("no_stream".to_owned(), |number| number.to_string());
    html! {
        details.card {
            summary { "Settings (metadata)" }
            p.muted {
                code { "$maxAge" } ", " code { "$maxCount" } ", " code { "$tb" }
                " say what is kept, " code { "$acl" } " who may do what."
            }
            @if may_write {
                form.stacked method="post" action=(format!("{}/metadata", stream_path(name))) {
                    (token(visit.visitor()))
                    input type="hidden" name="expected" value=(expected);
                    label for="settings" { "Settings, a JSON object" }
                    textarea #settings name="metadata" rows="8" spellcheck="false" { (text) }
                    button type="submit" { "Save" }
                }
            } @else {
                pre.body tabindex="0" { (text) }
            }
        }
    }
}

fn delete_form(visit: &Visit, name: &str) -> Markup {
    html! {
        details.card {
            summary { "Delete this stream" }
            form.stacked method="post" action=(format!("{}/delete", stream_path(name))) {
                (token(visit.visitor()))
                p {
                    "Its events are hidden at once and removed by the next scavenge. It can be \
                     begun again, unless it is deleted for ever."
                }
                label for="confirm" { "Type the stream's name: " code { (name) } }
                input #confirm name="confirm" required autocomplete="off" spellcheck="false";
                label.check {
                    input type="checkbox" name="hard" value="yes"; " for ever (a tombstone)"
                }
                button.danger type="submit" { "Delete" }
            }
        }
    }
}

/// `GET /ui/streams/?name=…`: opens a stream by its name.
///
/// # Errors
/// [`Trouble`] if there is no name.
pub async fn open(Query(which): Query<Which>) -> Result<axum::response::Redirect, Trouble> {
    let name = StreamName::new(which.name.trim()).map_err(|e| Trouble::bad(&e.to_string()))?;
    Ok(axum::response::Redirect::to(&stream_path(name.as_str())))
}
