//! What is done to streams as such: list, delete, settings.

use axum::Json;
use daybook_model::metadata::METADATA_EVENT_TYPE;
use daybook_model::{ContentType, ExpectedRevision, NewEvent, limits};
use daybook_store::{Deletion, Direction, From, ReadError, ReadStream};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::append::{Done, ExpectedParams, append_to};
use super::body::Held;
use super::event;
use super::page::limit;
use super::problem::Problem;
use super::query::{Expected, Name, Params, parsed};
use super::shapes::{NotRead, NotWritten};
use crate::node::{Admitted, Context};
use crate::security::gate::Described;
use crate::security::rights::Right;

/// Bytes of a stream's settings. They are parsed on every append to a cold stream.
pub const METADATA_SIZE_MAX: usize = 64 * 1024;

const _: () = assert!(METADATA_SIZE_MAX < limits::EVENT_SIZE_MAX);

/// The routes of this file. What may be done with a stream, its lists say: see `node::door`.
pub fn routes() -> Described<Context> {
    Described::new()
        .routes(Right::Known, routes!(list))
        .routes(Right::Known, routes!(delete))
        .routes(Right::Known, routes!(metadata))
        .routes(Right::Known, routes!(set_metadata))
}

/// The parameters of a list of streams.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// What their names begin with.
    #[serde(default)]
    prefix: String,
    /// The `next` of the page before.
    after: Option<String>,
    /// How many, up to 1000; 100 if nothing is said.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    limit: Option<u64>,
}

/// A part of the list of streams.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamNames)]
pub struct Listed {
    /// Their names, in ascending order.
    streams: Vec<String>,
    /// Give it as `after` to go on; null at the end.
    next: Option<String>,
}

/// Names of streams, in ascending order.
#[utoipa::path(
    get, path = "/v1/streams", tag = "streams",
    operation_id = "list_streams", params(ListParams),
    responses((status = 200, description = "A page", body = Listed), NotRead)
)]
async fn list(
    context: Admitted,
    Params(params): Params<ListParams>,
) -> Result<Json<Listed>, Problem> {
    let limit = limit(params.limit)?;
    let streams = context.door().streams(&params.prefix, params.after.as_deref(), limit).await?;
    let next = streams.last().filter(|_| streams.len() == limit).cloned();
    Ok(Json(Listed { streams, next }))
}

/// The parameters of a deletion.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteParams {
    /// The revision of the last event, or any, no_stream, stream_exists; any if absent.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>)]
    expected: Option<Expected>,
    /// For ever: the name cannot be used again.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<bool>)]
    hard: Option<bool>,
}

/// What was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct Deleted {
    stream: String,
    /// The position of the event that records the deletion.
    position: Option<u64>,
}

/// Deletes a stream: its events are not read any more, and a scavenge removes them.
#[utoipa::path(
    delete, path = "/v1/streams/{name}", tag = "streams",
    operation_id = "delete_stream",
    params(("name" = String, Path, description = "The stream"), DeleteParams),
    responses((status = 200, description = "It is deleted", body = Deleted), NotWritten)
)]
async fn delete(
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

/// The settings of a stream.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StreamMetadata)]
pub struct Metadata {
    stream: String,
    /// `$maxAge`, `$maxCount`, `$tb`, `$cacheControl`, `$acl`, and what you put there.
    #[schema(value_type = Object)]
    metadata: Value,
    /// Their revision, in the stream's metadata stream; null if it has none.
    revision: Option<u64>,
}

/// The settings of a stream; an empty object and null if it has none.
#[utoipa::path(
    get, path = "/v1/streams/{name}/metadata", tag = "streams",
    operation_id = "get_stream_metadata",
    params(("name" = String, Path, description = "The stream")),
    responses((status = 200, description = "They", body = Metadata), NotRead)
)]
async fn metadata(context: Admitted, Name(stream): Name) -> Result<Json<Metadata>, Problem> {
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
    let last = page.as_ref().and_then(|page| page.last());
    let settings = last.and_then(|event| serde_json::from_slice(event.data).ok());
    Ok(Json(Metadata {
        stream: stream.as_str().to_owned(),
        metadata: settings.unwrap_or(Value::Object(Map::new())),
        revision: last.map(|event| event.revision.0),
    }))
}

/// Replaces the settings of a stream. What is expected is the revision of the settings, not of the
/// stream.
#[utoipa::path(
    put, path = "/v1/streams/{name}/metadata", tag = "streams",
    operation_id = "set_stream_metadata",
    params(("name" = String, Path, description = "The stream"), ExpectedParams),
    request_body(content = Object, content_type = "application/json"),
    responses((status = 200, description = "They are durable", body = Done), NotWritten)
)]
async fn set_metadata(
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
