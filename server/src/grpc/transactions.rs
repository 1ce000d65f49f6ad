//! Lookups of commands by their ids over gRPC: our own small service, for clients that decide
//! commands on aggregates themselves.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use daybook_model::StreamName;
use daybook_wire::proto::transactions as proto;
use tonic::Status;
use uuid::Uuid;

use super::{call, status};
use crate::node::Admitted;

/// Answers Find.
pub async fn find(context: Admitted, request: Request<Body>) -> Response<Body> {
    call::unary(request, |find: proto::FindTransactionRequest| async move {
        let stream =
            StreamName::new(&find.stream).map_err(|error| status::invalid(&error.into()))?;
        let transaction = Uuid::try_parse(&find.transaction).map_err(|_| {
            Status::invalid_argument("'transaction' is no UUID; write it as 8-4-4-4-12 hex digits")
        })?;
        let found = context.door().transaction(&stream, transaction).await.map_err(status::read)?;
        let revision = found.map_err(|failed| status::lookup(&failed))?;
        Ok(proto::FindTransactionResponse { revision: revision.map(|revision| revision.0) })
    })
    .await
}
