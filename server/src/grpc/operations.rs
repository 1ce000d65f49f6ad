//! Operations: what an operator asks of a node. Protocol section 12.
//!
//! What one node without a cluster has no need of succeeds and does nothing: there is nobody to
//! resign for, no priority to compare, and indexes are merged all the time.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use daybook_store::scavenge::Start;
use daybook_wire::InvalidRequest;
use daybook_wire::proto::operations as proto;
use daybook_wire::proto::operations::scavenge_resp::ScavengeResult;
use daybook_wire::proto::shared::Empty;
use uuid::Uuid;

use super::{call, status};
use crate::node::Context;

/// Answers StartScavenge. How many threads it shall have and where it shall begin is not asked: it
/// has one, is throttled, and passes over what needs none.
pub async fn start_scavenge(
    State(context): State<Context>,
    request: Request<Body>,
) -> Response<Body> {
    call::unary(request, |_: proto::StartScavengeReq| async move {
        let (id, result) = match context.works().scavenge().start() {
            Start::Started(id) => (id, ScavengeResult::Started),
            Start::InProgress(id) => (id, ScavengeResult::InProgress),
        };
        Ok(answer(id, result))
    })
    .await
}

/// Answers StopScavenge.
pub async fn stop_scavenge(
    State(context): State<Context>,
    request: Request<Body>,
) -> Response<Body> {
    call::unary(request, |asked: proto::StopScavengeReq| async move {
        let options = asked
            .options
            .ok_or_else(|| status::invalid(&InvalidRequest::Missing { field: "options" }))?;
        let unknown = || status::scavenge_not_found(&options.scavenge_id);
        let id = Uuid::try_parse(&options.scavenge_id).map_err(|_| unknown())?;
        context.works().scavenge().stop(id).map_err(|_| unknown())?;
        Ok(answer(id, ScavengeResult::Stopped))
    })
    .await
}

fn answer(id: Uuid, result: ScavengeResult) -> proto::ScavengeResp {
    proto::ScavengeResp { scavenge_id: id.to_string(), scavenge_result: result.into() }
}

/// Answers Shutdown: the node stops as on SIGTERM, after this answer.
pub async fn shutdown(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    call::unary(request, |Empty {}| async move {
        tracing::warn!("told to stop by a call of Operations.Shutdown");
        context.life().ask_to_stop();
        Ok(Empty {})
    })
    .await
}

/// Answers MergeIndexes, ResignNode and SetNodePriority: there is nothing to do.
pub async fn nothing(State(_context): State<Context>, request: Request<Body>) -> Response<Body> {
    call::unary(request, |Empty {}| async { Ok(Empty {}) }).await
}
