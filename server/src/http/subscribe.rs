//! Subscriptions as server-sent events.
//!
//! ```text
//!   id: 41                      the revision (of a stream) or position (of the log)
//!   data: {"position":…}        the event, as a read shows it
//!
//!   event: caught-up            all history was delivered; what follows is live
//!   data: {"at":41,"time":"…"}
//!
//!   event: checkpoint           only with a filter: all up to `id` was considered
//!   id: 90000
//!   data: {"position":90000,"time":"…"}
//!
//!   event: problem              the subscription ends; data is a problem of RFC 9457
//! ```
//!
//! A browser's `EventSource` sends the last `id` back as `Last-Event-ID` when it connects again,
//! and the subscription goes on after it: nothing is skipped, nothing comes twice. A comment is
//! sent when nothing else was for [`KEEP_ALIVE`], so that proxies keep the connection and a client
//! that has gone is noticed.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use daybook_model::StreamName;
use daybook_store::{
    Delivery, Page, ReadError, StreamState, SubscribeFrom, Subscription, SubscriptionFilter,
};
use futures_util::stream;
use http::header;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::event;
use super::problem::{Kind, Problem};
use super::query::{self, From, Name, parsed};
use super::shapes::NotRead;
use crate::node::entrance::WithoutEnd;
use crate::node::{Admitted, Context, Endless};
use crate::security::gate::Described;
use crate::security::rights::Right;

/// Silence after which a comment is sent. Below the idle limits of common proxies (30 to 60 s).
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Events considered between two checkpoints of a filtered subscription, unless the request says
/// otherwise. A client that comes back considers at most so many again.
pub const CHECKPOINT_INTERVAL_DEFAULT: u64 = 10_000;
/// What a client does when its connection breaks: it comes back after a second.
const HELLO: &str = "retry: 1000\n: daybook\n\n";

/// The routes of this file. What may be done with a stream, its lists say: see `node::door`.
pub fn routes() -> Described<Context> {
    Described::new().routes(Right::Known, routes!(stream)).routes(Right::Known, routes!(all))
}

/// The parameters of a subscription.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SubscribeParams {
    /// `start` (default), `end`, or the first number to deliver. `Last-Event-ID` outranks it.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>)]
    from: Option<From>,
    /// Events of the log after which a checkpoint is sent though none matched the filter.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    checkpoint_interval: Option<u64>,
    /// Only of streams whose names begin so; several with commas. One filter at most.
    stream_prefix: Option<String>,
    /// Only of types that begin so; several with commas.
    type_prefix: Option<String>,
    /// Only of streams whose names match this.
    stream_regex: Option<String>,
    /// Only of types that match this.
    type_regex: Option<String>,
}

/// Reads the parameters of a subscription from a request's target.
///
/// # Errors
/// [`Problem`] names the parameter that is not valid.
pub fn params(uri: &Uri) -> Result<SubscribeParams, Problem> {
    match axum::extract::Query::try_from_uri(uri) {
        Ok(axum::extract::Query(params)) => Ok(params),
        Err(rejected) => Err(query::not_understood(&rejected.body_text())),
    }
}

/// Events of a stream as they come, what is there already first: server-sent events.
#[utoipa::path(
    get, path = "/v1/streams/{name}/subscribe", tag = "streams",
    operation_id = "subscribe_to_stream",
    params(
        ("name" = String, Path, description = "The stream"),
        ("from" = Option<String>, Query,
         description = "start, end, or the first revision to deliver; start if absent"),
        ("Last-Event-ID" = Option<u64>, Header, description = "Goes on after it"),
    ),
    responses(
        (status = 200, description = "Messages whose `id` is the revision and whose `data` is an \
                                      Event; `event: caught-up` when what follows is live; \
                                      `event: problem` before a bad end",
         body = String, content_type = "text/event-stream"),
        NotRead,
    )
)]
async fn stream(
    context: Admitted,
    Name(name): Name,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    open_stream(&context, &name, &params(&uri)?, &headers).await
}

/// Events of all streams as they come, what is there already first: server-sent events.
#[utoipa::path(
    get, path = "/v1/all/subscribe", tag = "log",
    operation_id = "subscribe_to_all",
    params(
        SubscribeParams,
        ("Last-Event-ID" = Option<u64>, Header, description = "Goes on after it"),
    ),
    responses(
        (status = 200, description = "Messages whose `id` is the position and whose `data` is an \
                                      Event; `event: checkpoint` where a filter has come without \
                                      a match; `event: caught-up` when what follows is live; \
                                      `event: problem` before a bad end",
         body = String, content_type = "text/event-stream"),
        NotRead,
    )
)]
async fn all(context: Admitted, headers: HeaderMap, uri: Uri) -> Result<Response, Problem> {
    open_all(&context, &params(&uri)?, &headers).await
}

/// Subscribes to one stream.
///
/// # Errors
/// [`Problem`]: a parameter is not valid, or the stream is deleted for ever.
pub async fn open_stream(
    context: &Admitted,
    name: &StreamName,
    params: &SubscribeParams,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    if filter(params)?.is_some() || params.checkpoint_interval.is_some() {
        let detail = "filters and checkpoints belong to /v1/all; a stream is delivered whole";
        return Err(Problem::new(Kind::InvalidRequest, detail));
    }
    let from = begin(params.from, headers)?;
    // An answer 410 stops an EventSource; an event in the feed would have it come back for ever.
    if context.door().stream_info(name).await?.state == StreamState::Tombstoned {
        return Err(ReadError::StreamDeleted { stream: name.clone() }.into());
    }
    let subscription = context.door().subscribe_stream(name, from).await?.following();
    Ok(answer(context, subscription, Numbers::Revisions))
}

/// Subscribes to the whole log.
///
/// # Errors
/// [`Problem`]: a parameter is not valid.
pub async fn open_all(
    context: &Admitted,
    params: &SubscribeParams,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let checkpoint_interval = params.checkpoint_interval.unwrap_or(CHECKPOINT_INTERVAL_DEFAULT);
    if checkpoint_interval == 0 {
        return Err(Problem::field("checkpoint_interval", "give at least 1"));
    }
    let filter = filter(params)?.map(|filter| SubscriptionFilter { filter, checkpoint_interval });
    let from = begin(params.from, headers)?;
    let subscription = context.door().subscribe_all(from, filter).await?;
    Ok(answer(context, subscription, Numbers::Positions))
}

fn filter(
    params: &SubscribeParams,
) -> Result<Option<std::sync::Arc<daybook_model::Filter>>, Problem> {
    query::filter(
        params.stream_prefix.as_deref(),
        params.type_prefix.as_deref(),
        params.stream_regex.as_deref(),
        params.type_regex.as_deref(),
    )
}

/// Where to begin: after what the client saw last, or where it asks, or at the start.
fn begin(from: Option<From>, headers: &HeaderMap) -> Result<SubscribeFrom, Problem> {
    if let Some(seen) = headers.get("last-event-id").filter(|value| !value.is_empty()) {
        let seen = seen.to_str().ok().and_then(|text| text.parse().ok());
        return match seen {
            Some(seen) => Ok(SubscribeFrom::After(seen)),
            None => Err(Problem::field("Last-Event-ID", "must be a revision or position")),
        };
    }
    Ok(match from {
        None | Some(From::Start | From::Number(0)) => SubscribeFrom::Start,
        Some(From::End) => SubscribeFrom::End,
        Some(From::Number(number)) => SubscribeFrom::After(number - 1),
    })
}

/// Which of an event's numbers is its `id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbers {
    Revisions,
    Positions,
}

/// A subscription being sent.
struct Feed {
    subscription: Subscription,
    numbers: Numbers,
    begun: bool,
    over: bool,
    _endless: Endless,
}

fn answer(context: &Context, subscription: Subscription, numbers: Numbers) -> Response {
    let endless = context.endless();
    let feed = Feed { subscription, numbers, begun: false, over: false, _endless: endless };
    let chunks = stream::unfold(feed, async |mut feed| {
        let chunk = feed.next().await?;
        Some((Ok::<Bytes, Infallible>(chunk), feed))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Proxies of the nginx family would hold the feed back otherwise.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let mut response = (headers, Body::from_stream(chunks)).into_response();
    response.extensions_mut().insert(WithoutEnd);
    response
}

impl Feed {
    /// The next bytes to send; none when the subscription is over.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if !std::mem::replace(&mut self.begun, true) {
            return Some(Bytes::from_static(HELLO.as_bytes()));
        }
        match tokio::time::timeout(KEEP_ALIVE, self.subscription.next()).await {
            Err(_) => Some(Bytes::from_static(b": still here\n\n")),
            Ok(Ok(delivery)) => Some(show(&delivery, self.numbers)),
            // The server stops: the client comes back by itself and goes on.
            Ok(Err(ReadError::Closed)) => None,
            Ok(Err(error)) => {
                self.over = true;
                let problem = Problem::from(error).to_json();
                Some(format!("event: problem\ndata: {problem}\n\n").into())
            }
        }
    }
}

fn show(delivery: &Delivery, numbers: Numbers) -> Bytes {
    match delivery {
        Delivery::Events(page) => show_events(page, numbers),
        Delivery::Checkpoint { position, time } => format!(
            "event: checkpoint\nid: {position}\n\
             data: {{\"position\":{position},\"time\":\"{}\"}}\n\n",
            event::rfc3339(*time)
        )
        .into(),
        Delivery::CaughtUp { at, time } => {
            let mut text = "event: caught-up\ndata: {\"at\":".to_owned();
            let written = match at {
                Some(at) => write!(text, "{at}"),
                None => write!(text, "null"),
            };
            written.expect("a string takes all");
            write!(text, ",\"time\":\"{}\"}}\n\n", event::rfc3339(*time))
                .expect("a string takes all");
            text.into()
        }
    }
}

fn show_events(page: &Page, numbers: Numbers) -> Bytes {
    let (mut out, mut json) = (Vec::new(), Vec::new());
    for target in page.targets() {
        let id = match numbers {
            Numbers::Revisions => target.number,
            Numbers::Positions => target.event.position.0,
        };
        writeln!(out, "id: {id}").expect("a vector takes all");
        json.clear();
        event::write_target(&target, page.links(), &mut json);
        write_data(&json, &mut out);
    }
    out.into()
}

/// Writes `data:` lines and the blank line that ends a message. JSON stands as its client sent it
/// and may have line breaks between its tokens; a bare one would end the field.
fn write_data(json: &[u8], out: &mut Vec<u8>) {
    for line in json.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_feed_goes_on_after_what_was_seen() {
        let none = HeaderMap::new();
        let mut seen = HeaderMap::new();
        seen.insert("last-event-id", HeaderValue::from_static("41"));
        let mut odd = HeaderMap::new();
        odd.insert("last-event-id", HeaderValue::from_static("x"));
        assert_eq!(begin(None, &none), Ok(SubscribeFrom::Start));
        assert_eq!(begin(Some(From::Number(0)), &none), Ok(SubscribeFrom::Start));
        assert_eq!(begin(Some(From::Number(7)), &none), Ok(SubscribeFrom::After(6)));
        assert_eq!(begin(Some(From::End), &none), Ok(SubscribeFrom::End));
        assert_eq!(begin(Some(From::End), &seen), Ok(SubscribeFrom::After(41)));
        assert!(begin(None, &odd).is_err());
    }

    #[test]
    fn line_breaks_do_not_end_a_message() {
        let mut out = Vec::new();
        write_data(b"{\r\n \"a\": 1\n}", &mut out);
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text, "data: {\ndata: \ndata:  \"a\": 1\ndata: }\n\n");
    }
}
