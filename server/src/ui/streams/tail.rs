//! What is appended, as it is: of one stream, or of the log, with filters.
//!
//! The API's own subscription, whose events become rows on their way: a page gets the beginning of
//! each event's data, however large that is.

use axum::body::Body;
use axum::extract::Query;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use maud::{Markup, html};
use serde::Deserialize;

use super::shown::{COLUMNS_OF_LOG, Shown};
use crate::ui::api::{Trouble, segment};
use crate::ui::feed;
use crate::ui::pieces::{self, table};
use crate::ui::visitor::Visit;

/// Bytes of one message of a subscription: the largest event, in base64, and its frame.
const MESSAGE_SIZE_MAX: usize = 96 * 1024 * 1024;

/// What to follow.
#[derive(Debug, Default, Deserialize)]
pub struct Which {
    #[serde(default)]
    stream: String,
    #[serde(default)]
    stream_prefix: String,
    #[serde(default)]
    type_prefix: String,
}

impl Which {
    fn is_one_stream(&self) -> bool {
        !self.stream.is_empty()
    }

    /// The API's subscription.
    fn path(&self) -> Result<String, Trouble> {
        let Which { stream, stream_prefix, type_prefix } = self;
        match (stream.as_str(), stream_prefix.as_str(), type_prefix.as_str()) {
            ("", "", "") => Ok("/v1/all/subscribe?from=end".to_owned()),
            ("", prefix, "") => {
                Ok(format!("/v1/all/subscribe?from=end&stream_prefix={}", segment(prefix)))
            }
            ("", "", prefix) => {
                Ok(format!("/v1/all/subscribe?from=end&type_prefix={}", segment(prefix)))
            }
            (stream, "", "") => Ok(format!("/v1/streams/{}/subscribe?from=end", segment(stream))),
            _ => Err(Trouble::bad("choose one: a stream, a prefix of names, or a prefix of types")),
        }
    }

    fn query(&self) -> String {
        form_urlencoded::Serializer::new(String::new())
            .append_pair("stream", &self.stream)
            .append_pair("stream_prefix", &self.stream_prefix)
            .append_pair("type_prefix", &self.type_prefix)
            .finish()
    }
}

/// `GET /ui/tail`
///
/// # Errors
/// [`Trouble`] if two filters are given.
pub async fn show(visit: Visit, Query(which): Query<Which>) -> Result<Response, Trouble> {
    which.path()?;
    let of =
        if which.is_one_stream() { format!("Live: {}", which.stream) } else { "Live tail".into() };
    let feed = format!("/ui/tail/feed?{}", which.query());
    let field = |name: &'static str, label: &'static str, value: &str, hint: &'static str| {
        let input = html! {
            input id=(name) name=(name) value=(value) placeholder=(hint) autocomplete="off"
                spellcheck="false";
        };
        pieces::field(name, label, &input)
    };
    Ok(visit.page(of).with(html! {
        p.pulse data-feed=(feed) aria-live="polite" { "waiting for events" }
    }).show(&html! {
        form.filters method="get" action="/ui/tail" {
            (field("stream", "Stream", &which.stream, "account-1"))
            (field("stream_prefix", "or names that begin with", &which.stream_prefix, "account-"))
            (field("type_prefix", "or types that begin with", &which.type_prefix, "Money"))
            button type="submit" { "Follow" }
        }
        p.toolbar {
            button type="button" hidden data-feed-pause { "Pause" }
            button type="button" hidden data-feed-clear { "Clear" }
            span.muted { "Newest on top; the last 200 are kept." }
        }
        noscript { p.notice.warn {
            "Following needs JavaScript. Without it, read a stream's page, or use "
            code { "daybook tail" } "."
        } }
        div data-feed-rows { (table("Events as they are appended", COLUMNS_OF_LOG, &[])) }
    }))
}

/// `GET /ui/tail/feed`
///
/// # Errors
/// [`Trouble`], as the API says it, or if too many are open.
pub async fn follow(visit: Visit, Query(which): Query<Which>) -> Result<Response, Trouble> {
    let room = feed::room(&visit)?;
    let subscribed = visit.api().follow(&which.path()?).await?;
    Ok(feed::answer(&visit, room, rows(subscribed.into_body())))
}

/// The messages of a subscription as rows.
fn rows(body: Body) -> impl Stream<Item = Bytes> + Send {
    let mut waiting = BytesMut::new();
    let whole = body.into_data_stream().take_while(|part| std::future::ready(part.is_ok()));
    whole.filter_map(|part| std::future::ready(part.ok())).map(move |bytes: Bytes| {
        waiting.extend_from_slice(&bytes);
        let mut out = Vec::new();
        while let Some(end) = waiting.windows(2).position(|two| two == b"\n\n") {
            let message = waiting.split_to(end + 2);
            out.extend(row(&message));
        }
        if waiting.len() > MESSAGE_SIZE_MAX {
            waiting.clear();
        }
        // A subscription that says it lives is passed on, so that proxies keep the connection.
        if out.is_empty() {
            Bytes::from_static(b": still here\n\n")
        } else {
            feed::message("rows", &html! { @for row in &out { (row) } })
        }
    })
}

/// An event's message as a row; nothing of the others, or what went wrong.
fn row(message: &[u8]) -> Option<Markup> {
    let text = std::str::from_utf8(message).ok()?;
    let mut data = String::new();
    let mut kind = "message";
    for line in text.lines() {
        match line.split_once(": ") {
            Some(("data", part)) => {
                data.push_str(part);
                data.push('\n');
            }
            Some(("event", name)) => kind = name,
            _ => {}
        }
    }
    match kind {
        "message" => serde_json::from_str::<Shown<'_>>(&data).ok().map(|e| e.row_of_log()),
        "problem" => {
            let trouble = Trouble::read(http::StatusCode::OK, data.as_bytes());
            Some(html! { tr { td colspan="5" { (trouble.title) ": " (trouble.detail) } } })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_rows_and_nothing_else_does() {
        let event = "id: 4\ndata: {\"position\":4,\"revision\":0,\"stream\":\"a-1\",\"id\":\"x\",\
             \"type\":\"Opened\",\"time\":\"2026-01-01T00:00:00.000000000Z\",\
             \"contentType\":\"application/json\",\ndata: \"data\":{\"a\":\"<b>\"}}\n\n";
        let shown = row(event.as_bytes()).expect("a row").into_string();
        assert!(shown.contains("/ui/streams/a-1/0") && shown.contains("&lt;b&gt;"), "{shown}");
        assert!(row(b"event: caught-up\ndata: {}\n\n").is_none());
        assert!(row(b": still here\n\n").is_none());
        let problem = row(b"event: problem\ndata: {\"title\":\"T\",\"detail\":\"D\"}\n\n");
        assert!(problem.expect("it is said").into_string().contains("T: D"));
    }

    #[test]
    fn one_filter_at_a_time() {
        let which = |stream: &str, names: &str, types: &str| Which {
            stream: stream.to_owned(),
            stream_prefix: names.to_owned(),
            type_prefix: types.to_owned(),
        };
        assert!(which("", "", "").path().is_ok());
        assert_eq!(
            which("a/b", "", "").path().expect("one"),
            "/v1/streams/a%2Fb/subscribe?from=end"
        );
        assert!(which("a", "b", "").path().is_err());
        assert!(which("", "b", "c").path().is_err());
    }
}
