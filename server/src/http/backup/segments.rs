//! `GET /admin/backup/segments`, and bytes of one of them: for a backup that takes only what its
//! repository does not have. All of it is durable, and none of it changes while it has its name.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use daybook_log::backup::hex;
use http::header;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;
use uuid::Uuid;

use super::super::problem::{Kind, Problem};
use super::super::query::Params;
use super::super::shapes::NotRead;
use crate::node::Context;
use crate::security::gate::Described;
use crate::security::rights::Right;

/// Bytes of one answer.
pub const BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new()
        .routes(Right::Administer, routes!(list))
        .routes(Right::Administer, routes!(bytes))
}

/// The segments of a running server.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Segments)]
pub struct Listing {
    /// The store.
    pub store: Uuid,
    /// When that was, in nanoseconds since 1970: what is older is there, or was under way.
    pub now: i64,
    /// Every position below is durable.
    pub committed: u64,
    /// Its segments, oldest first.
    pub segments: Vec<Listed>,
}

/// One of them.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Segment)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its header, in hexadecimal.
    pub header: String,
}

/// Which bytes.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Range {
    /// The first one.
    from: u64,
    /// How many, up to 8 MiB.
    size: u64,
}

/// The segments of the log: what an incremental backup asks first.
#[utoipa::path(
    get, path = "/admin/backup/segments", tag = "backup",
    operation_id = "list_segments",
    responses((status = 200, description = "They", body = Listing))
)]
async fn list(State(context): State<Context>) -> Json<Listing> {
    let now = context.clock().now().0;
    let extent = context.works().extent();
    let segments = extent.segments.iter().map(|segment| Listed {
        name: segment.name.clone(),
        header: hex(&segment.header.encode()),
    });
    Json(Listing {
        store: context.about().store_id,
        now,
        committed: extent.committed.0,
        segments: segments.collect(),
    })
}

/// Some bytes of a segment. A scavenge may have rewritten it since it was listed.
#[utoipa::path(
    get, path = "/admin/backup/segments/{name}", tag = "backup",
    operation_id = "read_segment",
    params(("name" = String, Path, description = "The segment"), Range),
    responses(
        (status = 200, description = "They", body = String,
         content_type = "application/octet-stream"),
        NotRead,
    )
)]
async fn bytes(
    State(context): State<Context>,
    Path(name): Path<String>,
    Params(range): Params<Range>,
) -> Result<Response, Problem> {
    let extent = context.works().extent();
    let Some(segment) = extent.segments.iter().find(|segment| segment.name == name).cloned() else {
        let detail = format!("there is no segment {name}; a scavenge may have rewritten it");
        return Err(Problem::new(Kind::SegmentNotFound, detail));
    };
    let within = range.from.checked_add(range.size).is_some_and(|end| end <= segment.header.size);
    if !within || range.size > BYTES_MAX {
        let size = segment.header.size;
        let detail = format!("give from and size within {size}, and a size up to {BYTES_MAX}");
        return Err(Problem::new(Kind::InvalidRequest, detail));
    }
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; usize::try_from(range.size).unwrap_or(0)];
        segment.file.read_at(&mut bytes, range.from).map(|()| bytes)
    });
    let bytes = match read.await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) => return Err(Problem::new(Kind::Damaged, error.to_string())),
        Err(panicked) => return Err(Problem::new(Kind::Internal, panicked.to_string())),
    };
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}
