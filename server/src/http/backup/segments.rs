//! `GET /admin/backup/segments`, and bytes of one of them: for a backup that takes only what its
//! repository does not have. All of it is durable, and none of it changes while it has its name.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use daybook_log::backup::hex;
use http::header;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::body;
use super::super::problem::{Kind, Problem};
use super::super::query::Params;
use crate::node::Context;

/// Bytes of one answer.
pub const BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The segments of a running server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its header, in hexadecimal.
    pub header: String,
}

/// Which bytes.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Range {
    from: u64,
    size: u64,
}

/// Lists the segments.
pub async fn list(State(context): State<Context>) -> Json<Listing> {
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

/// Answers with some bytes of a segment.
///
/// # Errors
/// If there is no such segment (any more: a scavenge rewrites them), or no such bytes in it.
pub async fn bytes(
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
    let bytes: Body = match read.await {
        Ok(Ok(bytes)) => body::hold(bytes)?,
        Ok(Err(error)) => return Err(Problem::new(Kind::Damaged, error.to_string())),
        Err(panicked) => return Err(Problem::new(Kind::Internal, panicked.to_string())),
    };
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}
