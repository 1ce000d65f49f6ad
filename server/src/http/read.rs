//! Reads: a stream, the whole log, a key of the index; one page of JSON at a time.

use std::time::Duration;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::response::Response;
use daybook_model::{Position, Revision};
use daybook_store::{AllFrom, Direction, IndexKey, ReadAll, ReadStream};
use http::header::ACCEPT;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::page::{self, PageBuilder, limit};
use super::problem::{Kind, Problem};
use super::query::{self, From, Name, Params, Way, parsed};
use super::shapes::{IndexPageShape, LogPageShape, NotRead, StreamPageShape};
use super::subscribe;
use crate::node::{Admitted, Context};
use crate::security::gate::Described;
use crate::security::rights::Right;

/// Time one read may take. A filter that nothing matches walks the whole log; a subscription with
/// checkpoints is the tool for that.
const READ_TIME_MAX: Duration = Duration::from_secs(30);

/// The routes of this file. What may be done with a stream, its lists say: see `node::door`.
pub fn routes() -> Described<Context> {
    Described::new()
        .routes(Right::Known, routes!(stream))
        .routes(Right::Known, routes!(all))
        .routes(Right::Known, routes!(index))
}

/// The parameters of a read. Those of a subscription are read by [`subscribe`] from the same query.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReadParams {
    /// start, end, or a number; by default the first one in the direction.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>)]
    from: Option<From>,
    /// forwards or backwards; forwards if absent.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>)]
    direction: Option<Way>,
    /// How many, up to 1000; 100 if nothing is said.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    limit: Option<u64>,
}

/// The parameters of a read of the whole log.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ReadAllParams {
    /// start, end, or a position; by default the first one in the direction.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>)]
    from: Option<From>,
    /// forwards or backwards; forwards if absent.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>)]
    direction: Option<Way>,
    /// How many, up to 1000; 100 if nothing is said.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    limit: Option<u64>,
    /// Only of streams whose names begin so; several with commas. One filter at most.
    stream_prefix: Option<String>,
    /// Only of types that begin so; several with commas.
    type_prefix: Option<String>,
    /// Only of streams whose names match this.
    stream_regex: Option<String>,
    /// Only of types that match this.
    type_regex: Option<String>,
}

fn direction(given: Option<Way>) -> Direction {
    given.map_or(Direction::Forwards, |way| way.0)
}

/// Whether a client wants server-sent events rather than a page.
fn wants_feed(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|kinds| kinds.contains("text/event-stream"))
}

/// Events of a stream, page by page; or as they come, for who accepts `text/event-stream`.
#[utoipa::path(
    get, path = "/v1/streams/{name}", tag = "streams",
    operation_id = "read_stream",
    params(("name" = String, Path, description = "The stream"), ReadParams),
    responses(
        (status = 200, description = "A page", content(
            (StreamPageShape = "application/json"), (String = "text/event-stream"))),
        NotRead,
    )
)]
async fn stream(
    context: Admitted,
    Name(name): Name,
    headers: HeaderMap,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    if wants_feed(&headers) {
        let params = subscribe::params(request.uri())?;
        return subscribe::open_stream(&context, &name, &params, &headers).await;
    }
    let Params(params) = params_of::<ReadParams>(request).await?;
    let limit = limit(params.limit)? as u64;
    let direction = direction(params.direction);
    let from = match (params.from, direction) {
        (Some(From::Start), _) | (None, Direction::Forwards) => daybook_store::From::Start,
        (Some(From::End), _) | (None, Direction::Backwards) => daybook_store::From::End,
        (Some(From::Number(number)), _) => daybook_store::From::Revision(Revision(number)),
    };
    let query = ReadStream { stream: name.clone(), from, direction, count: limit };
    let mut reader = context.door().read_stream(query).await?.following();
    let mut page = PageBuilder::new(limit);
    let mut at_end = false;
    while !page.is_full() {
        match reader.next().await? {
            Some(events) => page.take(&events),
            None => {
                at_end = true;
                break;
            }
        };
    }
    let head = reader.last_revision().map(|revision| revision.0);
    let last = page.last().map(|last| last.number);
    let begin = match params.from {
        Some(From::Number(number)) => Some(number),
        Some(From::Start) | None => Some(0),
        Some(From::End) => Some(head.map_or(0, |head| head.saturating_add(1))),
    };
    let next = page::next_number(direction, last, begin);
    let mut members = Map::new();
    members.insert("stream".to_owned(), name.as_str().into());
    members.insert("head".to_owned(), head.into());
    members.insert("first".to_owned(), reader.first_revision().map(|r| r.0).into());
    ends(&mut members, next, at_end || is_last(direction, last, head));
    Ok(page.finish(&members))
}

/// Whether `last` is the last event there is in this direction.
fn is_last(direction: Direction, last: Option<u64>, head: Option<u64>) -> bool {
    match direction {
        Direction::Forwards => last.is_some() && last >= head,
        Direction::Backwards => last == Some(0),
    }
}

fn ends(members: &mut Map<String, Value>, next: Option<u64>, at_end: bool) {
    members.insert("next".to_owned(), next.into());
    members.insert("atEnd".to_owned(), (at_end || next.is_none()).into());
}

async fn params_of<T: serde::de::DeserializeOwned + Send>(
    request: axum::extract::Request,
) -> Result<Params<T>, Problem> {
    use axum::extract::FromRequestParts;
    let (mut parts, _) = request.into_parts();
    Params::<T>::from_request_parts(&mut parts, &()).await
}

/// Events of all streams, page by page; or as they come, for who accepts `text/event-stream`.
#[utoipa::path(
    get, path = "/v1/all", tag = "log",
    operation_id = "read_all", params(ReadAllParams),
    responses(
        (status = 200, description = "A page", content(
            (LogPageShape = "application/json"), (String = "text/event-stream"))),
        NotRead,
    )
)]
async fn all(
    context: Admitted,
    headers: HeaderMap,
    request: axum::extract::Request,
) -> Result<Response, Problem> {
    if wants_feed(&headers) {
        let params = subscribe::params(request.uri())?;
        return subscribe::open_all(&context, &params, &headers).await;
    }
    let Params(params) = params_of::<ReadAllParams>(request).await?;
    let limit = limit(params.limit)? as u64;
    let direction = direction(params.direction);
    let filter = query::filter(
        params.stream_prefix.as_deref(),
        params.type_prefix.as_deref(),
        params.stream_regex.as_deref(),
        params.type_regex.as_deref(),
    )?;
    let from = match (params.from, direction) {
        (Some(From::Start), _) | (None, Direction::Forwards) => AllFrom::Start,
        (Some(From::End), _) | (None, Direction::Backwards) => AllFrom::End,
        (Some(From::Number(number)), _) => AllFrom::Position(Position(number)),
    };
    // Before the reader is opened, so that the cursor of an empty page skips nothing.
    let end = context.door().committed();
    let mut reader =
        context.door().read_all(ReadAll { from, direction, count: limit, filter }).await?;
    let mut page = PageBuilder::new(limit);
    let reading = async {
        while !page.is_full() {
            match reader.next().await? {
                Some(events) => page.take(&events),
                None => return Ok::<bool, Problem>(true),
            };
        }
        Ok(false)
    };
    let Ok(at_end) = tokio::time::timeout(READ_TIME_MAX, reading).await else {
        let detail = "the filter matched too little in the time of one read; subscribe instead";
        return Err(Problem::new(Kind::TimedOut, detail));
    };
    let at_end = at_end?;
    let last = page.last().map(|last| last.position);
    // A page that ended at the end has considered all up to `end`, matching or not.
    let last = if at_end && direction == Direction::Forwards {
        last.max(end.0.checked_sub(1))
    } else {
        last
    };
    let next = page::next_position(direction, last, end.0);
    let mut members = Map::new();
    members.insert("committed".to_owned(), end.0.into());
    ends(&mut members, next, at_end);
    Ok(page.finish(&members))
}

/// Events of one category, type or correlation, of all streams.
#[utoipa::path(
    get, path = "/v1/index/{kind}/{key}", tag = "log",
    operation_id = "read_index",
    params(
        ("kind" = String, Path, description = "category, type or correlation"),
        ("key" = String, Path, description = "Which one"),
        ReadParams,
    ),
    responses((status = 200, description = "A page", body = IndexPageShape), NotRead)
)]
async fn index(
    context: Admitted,
    path: Result<Path<(String, String)>, PathRejection>,
    Params(params): Params<ReadParams>,
) -> Result<Response, Problem> {
    let Path((kind, key)) = path.map_err(|e| Problem::field("key", e.body_text()))?;
    let index_key = match kind.as_str() {
        "category" => IndexKey::Category(key.clone()),
        "type" => IndexKey::EventType(key.clone()),
        "correlation" => IndexKey::Correlation(key.clone()),
        _ => {
            let detail = format!("there is no index '{kind}'; give category, type or correlation");
            return Err(Problem::new(Kind::NoSuchRoute, detail));
        }
    };
    let limit = limit(params.limit)? as u64;
    let direction = direction(params.direction);
    let from = match (params.from, direction) {
        (Some(From::Start), _) | (None, Direction::Forwards) => 0,
        (Some(From::End), _) | (None, Direction::Backwards) => u64::MAX,
        (Some(From::Number(number)), _) => number,
    };
    let mut reader = context.door().read_index(&index_key, from, direction, limit).await?;
    let mut page = PageBuilder::new(limit);
    let (mut last, mut at_end) = (None, false);
    while !page.is_full() {
        let Some(events) = reader.next().await? else {
            at_end = true;
            break;
        };
        let taken = page.take(&events) as usize;
        let numbered = events.numbered().nth(taken.wrapping_sub(1));
        last = numbered.map(|(number, _)| number).or(last);
    }
    let next = page::next_number(direction, last, (from != u64::MAX).then_some(from));
    let mut members = Map::new();
    members.insert("index".to_owned(), kind.into());
    members.insert("key".to_owned(), key.into());
    ends(&mut members, next, at_end);
    Ok(page.finish(&members))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_event_is_recognised() {
        assert!(is_last(Direction::Forwards, Some(4), Some(4)));
        assert!(!is_last(Direction::Forwards, Some(3), Some(4)));
        assert!(is_last(Direction::Backwards, Some(0), Some(4)));
        assert!(!is_last(Direction::Backwards, None, Some(4)));
    }
}
