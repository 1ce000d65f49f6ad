//! What is done to streams as such: list, delete, settings.

use axum::Json;
use axum::response::Response;
use daybook_model::metadata::METADATA_EVENT_TYPE;
use daybook_model::{ContentType, ExpectedRevision, NewEvent, limits};
use daybook_store::{Deletion, Direction, From, ReadError, ReadStream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::append::{Done, ExpectedParams, append_to};
use super::body::Held;
use super::event;
use super::page::{LIMIT_DEFAULT, LIMIT_MAX};
use super::problem::Problem;
use super::query::{Expected, Name, Params, parsed};
use crate::node::Admitted;

/// Bytes of a stream's settings. They are parsed on every append to a cold stream.
pub const METADATA_SIZE_MAX: usize = 64 * 1024;

const _: () = assert!(METADATA_SIZE_MAX < limits::EVENT_SIZE_MAX);

/// The parameters of a list of streams.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    #[serde(default)]
    prefix: String,
    after: Option<String>,
    #[serde(default, deserialize_with = "parsed")]
    limit: Option<u64>,
}

/// A part of the list of streams.
#[derive(Debug, Serialize)]
pub struct Listed {
    streams: Vec<String>,
    /// Give it as `after` to go on; null at the end.
    next: Option<String>,
}

/// `GET /v1/streams?prefix=&after=&limit=`: names in ascending order.
///
/// # Errors
/// [`Problem`]: a parameter is not valid, or the disk failed.
pub async fn list(
    context: Admitted,
    Params(params): Params<ListParams>,
) -> Result<Json<Listed>, Problem> {
    let limit = params.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::field("limit", format!("give 1 to {LIMIT_MAX}")));
    }
    let limit = usize::try_from(limit).expect("at most LIMIT_MAX");
    let streams = context.door().streams(&params.prefix, params.after.as_deref(), limit).await?;
    let next = streams.last().filter(|_| streams.len() == limit).cloned();
    Ok(Json(Listed { streams, next }))
}

/// The parameters of a deletion.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteParams {
    #[serde(default, deserialize_with = "parsed")]
    expected: Option<Expected>,
    #[serde(default, deserialize_with = "parsed")]
    hard: Option<bool>,
}

/// What was deleted.
#[derive(Debug, Serialize)]
pub struct Deleted {
    stream: String,
    /// The position of the event that records the deletion.
    position: Option<u64>,
}

/// `DELETE /v1/streams/{name}?hard=&expected=`
///
/// # Errors
/// [`Problem`]: a parameter is not valid, or why nothing was deleted.
pub async fn delete(
    context: Admitted,
    Name(stream): Name,
    Params(params): Params<DeleteParams>,
) -> Result<Json<Deleted>, Problem> {
    let expected = params.expected.map_or(ExpectedRevision::Any, |expected| expected.0);
    let how = if params.hard == Some(true) { Deletion::Tombstone } else { Deletion::Soft };
    let position = context.door().delete(&stream, expected, how).await?;
    let position = position.map(|position| position.0);
    Ok(Json(Deleted { stream: stream.as_str().to_owned(), position }))
}

/// `GET /v1/streams/{name}/metadata`: the stream's settings and the revision they have in its
/// metadata stream; an empty object and null if it has none.
///
/// # Errors
/// [`Problem`]: the disk failed.
pub async fn metadata(context: Admitted, Name(stream): Name) -> Result<Response, Problem> {
    let query = ReadStream {
        stream: stream.metastream(),
        from: From::End,
        direction: Direction::Backwards,
        count: 1,
    };
    let page = match context.door().read_stream(query).await {
        Ok(mut reader) => reader.next().await?,
        Err(ReadError::StreamNotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let mut members = Map::new();
    members.insert("stream".to_owned(), stream.as_str().into());
    let last = page.as_ref().and_then(|page| page.last());
    let settings = last.and_then(|event| serde_json::from_slice(event.data).ok());
    members.insert("metadata".to_owned(), settings.unwrap_or(Value::Object(Map::new())));
    members.insert("revision".to_owned(), last.map(|event| event.revision.0).into());
    Ok(axum::response::IntoResponse::into_response(Json(Value::Object(members))))
}

/// `PUT /v1/streams/{name}/metadata?expected=`: replaces the stream's settings by the object in
/// the body. The condition is on the revision of the settings, not of the stream.
///
/// # Errors
/// [`Problem`]: the body is not an object, or why it was not appended.
pub async fn set_metadata(
    context: Admitted,
    Name(stream): Name,
    Params(params): Params<ExpectedParams>,
    body: Held<METADATA_SIZE_MAX>,
) -> Result<Json<Done>, Problem> {
    let settings: &RawValue = event::parse(&body.bytes)?;
    if !settings.get().starts_with('{') {
        return Err(Problem::field("body", "must be a JSON object"));
    }
    let event = NewEvent {
        id: context.new_id(),
        event_type: METADATA_EVENT_TYPE.to_owned(),
        content_type: ContentType::Json,
        metadata: bytes::Bytes::new(),
        data: bytes::Bytes::copy_from_slice(settings.get().as_bytes()),
    };
    append_to(&context, stream.metastream(), params.expected(), vec![event]).await.map(Json)
}
