//! What an operator does to a running node.

use axum::extract::State;
use http::StatusCode;

use crate::node::Context;

/// `POST /admin/clock/accept`: accepts the clock after it leapt, so that appends resume.
pub async fn accept_clock(State(context): State<Context>) -> StatusCode {
    context.store().accept_clock();
    tracing::warn!("the clock was accepted by an operator");
    StatusCode::NO_CONTENT
}
