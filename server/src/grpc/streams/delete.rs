//! Delete and Tombstone. Protocol section 5.7; the store decides its tables.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use daybook_model::{ExpectedRevision, Position};
use daybook_store::Deletion;
use daybook_wire::proto::shared::{Empty, StreamIdentifier};
use daybook_wire::proto::streams::{
    DeleteReq, DeleteResp, TombstoneReq, TombstoneResp, delete_resp, tombstone_resp,
};
use daybook_wire::{InvalidRequest, stream};
use tonic::Status;

use super::{Room, shown_position};
use crate::grpc::{call, status};

/// Answers Delete: the stream reads as not found, and may go on.
pub async fn delete(room: Room, request: Request<Body>) -> Response<Body> {
    use delete_resp::{Position, PositionOption};
    call::unary(request, |request: DeleteReq| async {
        let options = request.options.ok_or_else(|| missing("options"))?;
        let expected = options.expected_stream_revision.map(Into::into);
        let done = run(&room, options.stream_identifier, expected, Deletion::Soft).await?;
        let position = done.map_or(PositionOption::NoPosition(Empty {}), |number| {
            PositionOption::Position(Position { commit_position: number, prepare_position: number })
        });
        Ok(DeleteResp { position_option: Some(position) })
    })
    .await
}

/// Answers Tombstone: the stream ends for ever.
pub async fn tombstone(room: Room, request: Request<Body>) -> Response<Body> {
    use tombstone_resp::{Position, PositionOption};
    call::unary(request, |request: TombstoneReq| async {
        let options = request.options.ok_or_else(|| missing("options"))?;
        let expected = options.expected_stream_revision.map(Into::into);
        let done = run(&room, options.stream_identifier, expected, Deletion::Tombstone).await?;
        let position = done.map_or(PositionOption::NoPosition(Empty {}), |number| {
            PositionOption::Position(Position { commit_position: number, prepare_position: number })
        });
        Ok(TombstoneResp { position_option: Some(position) })
    })
    .await
}

/// The number of the position of what the deletion wrote, if it wrote anything.
async fn run(
    room: &Room,
    identifier: Option<StreamIdentifier>,
    expected: Option<ExpectedRevision>,
    how: Deletion,
) -> Result<Option<u64>, Status> {
    let stream = stream::from_proto(identifier.as_ref()).map_err(|e| status::invalid(&e))?;
    let expected = expected.ok_or_else(|| missing("expected_stream_revision"))?;
    let store = room.node.door();
    let written = store.delete(&stream, expected, how).await.map_err(status::append)?;
    Ok(written.map(|position: Position| shown_position(store, position)))
}

fn missing(field: &'static str) -> Status {
    status::invalid(&InvalidRequest::Missing { field })
}
