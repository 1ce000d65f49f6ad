//! What belongs together: the events of one correlation id, in the order in which they happened.

use axum::extract::Path;
use axum::response::Response;
use maud::{Markup, html};

use super::shown::{Events, Shown};
use crate::ui::api::{Trouble, segment};
use crate::ui::pieces::{duration, empty, stream, time};
use crate::ui::visitor::Visit;

/// Events of a chain that are shown.
const EVENTS_LEN: usize = 200;

/// `GET /ui/chain/{correlation}`
///
/// # Errors
/// [`Trouble`], as the API says it.
pub async fn show(visit: Visit, Path(correlation): Path<String>) -> Result<Response, Trouble> {
    let path = format!("/v1/index/correlation/{}?limit={EVENTS_LEN}", segment(&correlation));
    let bytes = visit.api().bytes(&path).await?;
    let page = Events::read(&bytes)?;
    let began = page.events.first().and_then(at);
    Ok(visit.page("What belongs together").below("/ui/streams", "Streams").show(&html! {
        p { "Events whose metadata has the correlation id " code { (correlation) } }
        @if page.events.is_empty() {
            (empty("No event has this correlation id.", &html! {
                "Clients set it as " code { "$correlationId" } " in an event's metadata."
            }))
        }
        ol.timeline { @for event in &page.events { (entry(event, began)) } }
        @if !page.at_end && page.events.len() == EVENTS_LEN {
            p.muted { "These are the first " (EVENTS_LEN) "; there are more." }
        }
    }))
}

fn at(event: &Shown<'_>) -> Option<jiff::Timestamp> {
    event.time.parse().ok()
}

fn entry(event: &Shown<'_>, began: Option<jiff::Timestamp>) -> Markup {
    let after = at(event).zip(began).map(|(at, began)| at.duration_since(began).unsigned_abs());
    html! {
        li {
            div.when {
                (time(&event.time)) @if let Some(after) = after {
                    span.muted { "+" (duration(after)) }
                }
            }
            div {
                a href=(event.path()) { strong { (event.event_type) } } " in "
                    (stream(&event.stream))
                div { (event.preview()) }
            }
        }
    }
}
