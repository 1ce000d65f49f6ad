//! Snapshots of aggregates: put, get the latest at or before a revision, delete.
//!
//! The body of a put and of a get is the state itself; its revision, schema and kind stand in the
//! query of the one and in `daybook-…` headers of the other.

use axum::response::{IntoResponse, Response};
use daybook_model::{Act, Revision, StreamName};
use daybook_store::snapshot::limits::SNAPSHOT_SIZE_MAX;
use daybook_store::snapshot::{Snapshot, SnapshotError};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::routes;

use super::body::Held;
use super::problem::{Kind, Problem, body_too_large};
use super::query::{Name, Params, parsed};
use super::shapes::{NotRead, NotWritten};
use crate::node::door::{SnapshotDoor, SnapshotRefused};
use crate::node::{Admitted, Context};
use crate::security::gate::Described;
use crate::security::rights::Right;

const REVISION: HeaderName = HeaderName::from_static("daybook-revision");
const SCHEMA: HeaderName = HeaderName::from_static("daybook-schema");
const KIND: HeaderName = HeaderName::from_static("daybook-kind");

/// The routes of this file. What may be done with a stream, its lists say: see `node::door`.
pub fn routes() -> Described<Context> {
    Described::new()
        .routes(Right::Known, routes!(get))
        .routes(Right::Known, routes!(put))
        .routes(Right::Known, routes!(delete))
}

/// The parameters of a put.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PutParams {
    /// The revision whose state it is.
    revision: u64,
    /// The version of its form: yours to count.
    #[serde(default)]
    schema: u32,
    /// What it is of: yours to name.
    #[serde(default)]
    kind: String,
}

/// Keeps a state of a stream. It may be lost at any time, and never has to be kept.
#[utoipa::path(
    put, path = "/v1/snapshots/{name}", tag = "snapshots",
    operation_id = "put_snapshot",
    params(("name" = String, Path, description = "The stream"), PutParams),
    request_body(content = String, content_type = "application/octet-stream"),
    responses((status = 204, description = "It is kept"), NotWritten)
)]
async fn put(
    context: Admitted,
    Name(stream): Name,
    Params(params): Params<PutParams>,
    body: Held<SNAPSHOT_SIZE_MAX>,
) -> Result<StatusCode, Problem> {
    let head = context.door().stream_info(&stream).await?.head;
    if head.is_none_or(|head| head.0 < params.revision) {
        let detail = format!("stream '{stream}' has no event {} yet", params.revision);
        return Err(Problem::field("revision", detail));
    }
    if HeaderValue::from_str(&params.kind).is_err() {
        return Err(Problem::field("kind", "must be visible ASCII"));
    }
    let committed = context.door().committed();
    let snapshot = Snapshot {
        revision: Revision(params.revision),
        schema: params.schema,
        kind: params.kind,
        data: body.bytes.clone(),
    };
    let work = move |snapshots: &SnapshotDoor| snapshots.put(&snapshot, committed);
    blocking(&context, (Act::Write, &stream), work).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The parameters of a get.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GetParams {
    /// Of this revision or the last one before it; the last one if absent.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    at_or_before: Option<u64>,
}

/// The last state of a stream that is kept.
#[utoipa::path(
    get, path = "/v1/snapshots/{name}", tag = "snapshots",
    operation_id = "get_snapshot",
    params(("name" = String, Path, description = "The stream"), GetParams),
    responses(
        (status = 200, description = "It, as it was put", body = String,
         content_type = "application/octet-stream",
         headers(
             ("daybook-revision" = u64, description = "The revision whose state it is"),
             ("daybook-schema" = u32, description = "The version of its form"),
             ("daybook-kind" = String, description = "What it is of"),
         )),
        NotRead,
    )
)]
async fn get(
    context: Admitted,
    Name(stream): Name,
    Params(params): Params<GetParams>,
) -> Result<Response, Problem> {
    let at_or_before = params.at_or_before.map(Revision);
    let work = move |snapshots: &SnapshotDoor| snapshots.latest(at_or_before);
    let found = blocking(&context, (Act::Read, &stream), work).await?;
    let Some(snapshot) = found else { return Err(none(&stream)) };
    let kind = HeaderValue::from_str(&snapshot.kind);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (REVISION, HeaderValue::from(snapshot.revision.0)),
        (SCHEMA, HeaderValue::from(snapshot.schema)),
        // One put over gRPC may have a kind that a header cannot carry.
        (KIND, kind.unwrap_or(HeaderValue::from_static(""))),
    ];
    Ok((headers, snapshot.data).into_response())
}

fn none(stream: &StreamName) -> Problem {
    Problem::new(Kind::SnapshotNotFound, format!("stream '{stream}' has no such snapshot"))
}

/// Forgets all states of a stream.
#[utoipa::path(
    delete, path = "/v1/snapshots/{name}", tag = "snapshots",
    operation_id = "delete_snapshots",
    params(("name" = String, Path, description = "The stream")),
    responses((status = 204, description = "They are forgotten"), NotWritten)
)]
async fn delete(context: Admitted, Name(stream): Name) -> Result<StatusCode, Problem> {
    blocking(&context, (Act::Write, &stream), SnapshotDoor::delete).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Runs `work`, which blocks, off the runtime's own threads, if the caller may do `act`.
async fn blocking<T: Send + 'static>(
    context: &Admitted,
    (act, stream): (Act, &StreamName),
    work: impl FnOnce(&SnapshotDoor) -> Result<T, SnapshotRefused> + Send + 'static,
) -> Result<T, Problem> {
    let Some(snapshots) = context.snapshots(act, stream).await? else {
        return Err(Problem::new(Kind::Unavailable, "this node keeps no snapshots"));
    };
    match tokio::task::spawn_blocking(move || work(&snapshots)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(SnapshotRefused::Reserved(error))) => Err(error.into()),
        Ok(Err(SnapshotRefused::Failed(error))) => Err(failed(error)),
        Err(panicked) => Err(Problem::new(Kind::Internal, panicked.to_string())),
    }
}

fn failed(error: SnapshotError) -> Problem {
    match error {
        SnapshotError::TooLarge { .. } => body_too_large(SNAPSHOT_SIZE_MAX),
        SnapshotError::KindTooLong { .. } => Problem::field("kind", error),
        SnapshotError::Unavailable { .. } => Problem::new(Kind::Unavailable, error.to_string()),
    }
}
