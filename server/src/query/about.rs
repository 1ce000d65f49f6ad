//! What a front says of itself: health and numbers.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State as Of;
use axum::response::{IntoResponse, Response};
use daybook_projections::views;
use http::StatusCode;
use utoipa_axum::routes;

use super::State;
use crate::front::numbers;
use crate::http::about::Readiness;
use crate::node::Phase;
use crate::security::gate::Described;
use crate::security::rights::Right;

/// Time PostgreSQL has to say whether it is there. Shorter than what asks `/health/ready` waits.
pub const READY_WAIT_MAX: Duration = Duration::from_secs(2);

/// The routes of this file.
pub fn routes() -> Described<State> {
    Described::new()
        .routes(Right::Anyone, routes!(live))
        .routes(Right::Anyone, routes!(ready))
        .routes(Right::Monitor, routes!(metrics))
}

/// Whether the process answers at all.
#[utoipa::path(
    get, path = "/health/live", tag = "about",
    operation_id = "get_liveness",
    responses((status = 204, description = "It does"))
)]
async fn live() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Whether PostgreSQL answers and has all tables, and if not, what is not there.
#[utoipa::path(
    get, path = "/health/ready", tag = "about",
    operation_id = "get_readiness",
    responses(
        (status = 200, description = "It does", body = Readiness),
        (status = 503, description = "It does not; the body says why", body = Readiness),
    )
)]
async fn ready(Of(state): Of<State>) -> Response {
    let mut parts = BTreeMap::new();
    let mut missing = Vec::new();
    let mut part = |name: &'static str, fault: Option<String>| {
        if fault.is_some() {
            missing.push(name);
        }
        parts.insert(name, fault.unwrap_or_else(|| "ready".to_owned()));
    };
    let stopping = state.life.phase() != Phase::Running;
    part("front", stopping.then(|| "stopping".to_owned()));
    match tokio::time::timeout(READY_WAIT_MAX, state.postgres.places()).await {
        Ok(Ok(places)) => {
            part("postgres", None);
            for view in views::complete() {
                let absent = !places.contains_key(view.name());
                let fault = "not there yet: does anything keep the read models in this database \
                             up to date?";
                part(view.name(), absent.then(|| fault.to_owned()));
            }
        }
        Ok(Err(error)) => part("postgres", Some(error.to_string())),
        Err(_) => part("postgres", Some("it does not answer in time".to_owned())),
    }
    let (status, word) = match missing.is_empty() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    (status, Json(Readiness { status: word, not_ready: missing, parts })).into_response()
}

/// The front's figures, in Prometheus' text format.
#[utoipa::path(
    get, path = "/metrics", tag = "about",
    operation_id = "get_metrics",
    responses((status = 200, description = "They", body = String, content_type = "text/plain"))
)]
async fn metrics(Of(state): Of<State>) -> Response {
    numbers(state.life.metrics().render_front(state.postgres.pool_status()))
}
