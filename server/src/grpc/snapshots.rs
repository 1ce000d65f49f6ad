//! Snapshots of aggregates over gRPC: our own small service, for clients that replay streams.
//!
//! Snapshots are a cache: losing them costs time and nothing else, so nothing here waits for them
//! to be durable.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use daybook_model::limits::MESSAGE_SIZE_MAX;
use daybook_model::{Act, Revision, StreamName};
use daybook_store::snapshot::Snapshot;
use daybook_wire::proto::snapshots as proto;
use tonic::Status;

use super::{call, status};
use crate::node::Admitted;
use crate::node::door::{SnapshotDoor, SnapshotRefused};

/// Answers Put.
pub async fn put(context: Admitted, request: Request<Body>) -> Response<Body> {
    call::unary_up_to(MESSAGE_SIZE_MAX, request, |put: proto::PutSnapshotRequest| async move {
        let stream = name(&put.stream)?;
        let snapshot =
            put.snapshot.ok_or_else(|| Status::invalid_argument("'snapshot' is not set"))?;
        let head = context.door().stream_info(&stream).await.map_err(status::read)?.head;
        if head.is_none_or(|head| head.0 < snapshot.revision) {
            return Err(Status::failed_precondition(format!(
                "stream '{stream}' has no event {} yet",
                snapshot.revision
            )));
        }
        let committed = context.door().committed();
        let snapshot = Snapshot {
            revision: Revision(snapshot.revision),
            schema: snapshot.schema,
            kind: snapshot.r#type,
            data: snapshot.data,
        };
        let work = move |store: &SnapshotDoor| store.put(&snapshot, committed);
        blocking(&context, (Act::Write, &stream), work).await?;
        Ok(proto::PutSnapshotResponse {})
    })
    .await
}

/// Answers GetLatest.
pub async fn get_latest(context: Admitted, request: Request<Body>) -> Response<Body> {
    call::unary(request, |get: proto::GetLatestSnapshotRequest| async move {
        let stream = name(&get.stream)?;
        let bound = get.at_or_before.map(Revision);
        let work = move |store: &SnapshotDoor| store.latest(bound);
        let found = blocking(&context, (Act::Read, &stream), work).await?;
        let snapshot = found.map(|found| proto::Snapshot {
            revision: found.revision.0,
            schema: found.schema,
            r#type: found.kind,
            data: found.data,
        });
        Ok(proto::GetLatestSnapshotResponse { snapshot })
    })
    .await
}

/// Answers Delete.
pub async fn delete(context: Admitted, request: Request<Body>) -> Response<Body> {
    call::unary(request, |delete: proto::DeleteSnapshotsRequest| async move {
        let stream = name(&delete.stream)?;
        blocking(&context, (Act::Write, &stream), SnapshotDoor::delete).await?;
        Ok(proto::DeleteSnapshotsResponse {})
    })
    .await
}

fn name(stream: &str) -> Result<StreamName, Status> {
    StreamName::new(stream).map_err(|error| status::invalid(&error.into()))
}

/// Runs `work` on a thread that may block: snapshots are read from and written to a disk.
async fn blocking<T: Send + 'static>(
    context: &Admitted,
    (act, stream): (Act, &StreamName),
    work: impl FnOnce(&SnapshotDoor) -> Result<T, SnapshotRefused> + Send + 'static,
) -> Result<T, Status> {
    let snapshots = context.snapshots(act, stream).await.map_err(status::read)?;
    let Some(snapshots) = snapshots else {
        return Err(Status::unavailable("snapshots are off; a restart tries again"));
    };
    match tokio::task::spawn_blocking(move || work(&snapshots)).await {
        Ok(done) => done.map_err(|error| status::snapshot(&error)),
        Err(failed) => Err(Status::unavailable(format!("snapshots failed: {failed}"))),
    }
}
