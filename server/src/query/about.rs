//! What a front says of itself: health and numbers.

use std::time::Duration;

use axum::Json;
use axum::extract::State as Of;
use axum::response::{IntoResponse, Response};
use daybook_projections::views;
use http::StatusCode;
use serde_json::{Map, Value};

use super::State;
use crate::front::numbers;
use crate::node::Phase;

/// Time PostgreSQL has to say whether it is there. Shorter than what asks `/health/ready` waits.
pub const READY_WAIT_MAX: Duration = Duration::from_secs(2);

/// `GET /health/live`: 204 while the process answers at all.
pub async fn live() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// `GET /health/ready`: 200 when PostgreSQL answers and has all tables, else 503 naming what is
/// not there.
pub async fn ready(Of(state): Of<State>) -> Response {
    let mut parts = Map::new();
    let mut missing = Vec::new();
    let mut part = |name: &str, fault: Option<String>| {
        if fault.is_some() {
            missing.push(Value::from(name));
        }
        parts.insert(name.to_owned(), fault.unwrap_or_else(|| "ready".to_owned()).into());
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
    let body = serde_json::json!({ "status": word, "notReady": missing, "parts": parts });
    (status, Json(body)).into_response()
}

/// `GET /metrics`, in Prometheus' text format.
pub async fn metrics(Of(state): Of<State>) -> Response {
    numbers(state.life.metrics().render_front(state.postgres.pool_status()))
}
