//! What goes on: server-sent events that carry markup, for pages that a script keeps up to date.
//!
//! ```text
//!   event: swap      data: elements, each of which takes the place of the one with its id
//!   event: rows      data: rows of a table, oldest first
//!   event: over      data: why it ended; the page does not come back
//! ```
//!
//! INVARIANT: a feed ends with the session that began it, with its user's standing, and with the
//! server's work. How many there are at a time is bounded.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http::{HeaderName, StatusCode, header};
use maud::Markup;
use tokio::sync::OwnedSemaphorePermit;

use super::api::Trouble;
use super::session::FEEDS_OF_SESSION_MAX;
use super::visitor::Visit;
use crate::node::Phase;
use crate::node::entrance::WithoutEnd;
use crate::node::shares::{Holder, Share, Shares};

/// Feeds of callers without a session, by their logins. How many there are in all, consoles bound.
static WITHOUT_SESSION: Shares = Shares::new(usize::MAX, FEEDS_OF_SESSION_MAX);

/// Room for a feed, until it is dropped.
pub struct Room {
    _place: OwnedSemaphorePermit,
    _share: Option<Share>,
}

/// Room for one more feed of the visitor. Without a session, a login has as much as a session has.
///
/// # Errors
/// [`Trouble`] if it has too many open.
pub fn room(visit: &Visit) -> Result<Room, Trouble> {
    let too_many = || {
        let detail = "too many live pages are open in this session: close some, or reload";
        Trouble::of(StatusCode::TOO_MANY_REQUESTS, "Too many live pages", detail)
    };
    let visitor = visit.visitor();
    let share = if visitor.session().is_none() {
        let holder = Holder::of(Some(visitor.caller()), None);
        Some(WITHOUT_SESSION.hold(holder, 1).ok_or_else(too_many)?)
    } else {
        None
    };
    let place = visitor.feeds().clone().try_acquire_owned().map_err(|_| too_many())?;
    Ok(Room { _place: place, _share: share })
}

/// `markup` as a message of this kind.
#[must_use]
pub fn message(kind: &str, markup: &Markup) -> Bytes {
    // A line break would end the message's data; in markup it is as good as a space.
    let line = markup.0.replace(['\r', '\n'], " ");
    format!("event: {kind}\ndata: {line}\n\n").into()
}

/// An answer that goes on with `messages` until one of its ends.
pub fn answer<S>(visit: &Visit, room: Room, messages: S) -> Response
where
    S: Stream<Item = Bytes> + Send + 'static,
{
    let context: crate::node::Context = (**visit.node()).clone();
    let endless = context.endless();
    let session = visit.visitor().session().cloned();
    let over = Box::pin(async move {
        let ended = async {
            match session {
                Some(session) => session.ended().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = ended => {}
            () = context.reached(Phase::Draining) => {}
        }
    });
    let hello = stream::iter([Bytes::from_static(b"retry: 2000\n: daybook\n\n")]);
    let bye = stream::iter([Bytes::from_static(b"event: over\ndata: reload the page\n\n")]);
    let body = hello.chain(Box::pin(messages).take_until(over)).chain(bye).map(move |bytes| {
        // Held as long as the answer is.
        let (_room, _endless) = (&room, &endless);
        Ok::<Bytes, Infallible>(bytes)
    });
    let head = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let mut response = (head, Body::from_stream(body)).into_response();
    response.extensions_mut().insert(WithoutEnd);
    response
}
