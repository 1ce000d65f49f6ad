//! What connectors in a process of their own answer over HTTP: how far they are, and what a person
//! tells them. The routes are those that a node has, with health and numbers beside them.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, State as Of};
use axum::response::Response;
use axum::routing::get;
use daybook_client::resilience::Metrics as Resilience;
use daybook_model::SystemClock;
use http::StatusCode;
use tokio::net::TcpListener;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use super::Running;
use super::metrics::ConnectorMetrics;
use crate::front::{Front, described, numbers};
use crate::http::connectors::{self, Known};
use crate::http::ledger::schema;
use crate::node::{Life, Phase};
use crate::telemetry::metrics::Metrics;

/// Connections that may be open at a time: those of people and of what watches.
const CONNECTIONS_MAX: usize = 256;

/// What its requests share. A clone is another handle.
#[derive(Clone)]
struct Shared {
    running: Running,
    life: Life,
}

impl FromRef<Shared> for Known {
    fn from_ref(shared: &Shared) -> Known {
        Known(Some(shared.running.clone()))
    }
}

/// What the description says of itself.
#[derive(OpenApi)]
#[openapi(info(title = "Daybook's connectors"), components(schemas(schema::ProblemShape)))]
struct Description;

/// Serves what is known of `running` on `listener`; `resilience` counts its calls.
///
/// # Errors
/// If the listener has no address.
pub fn start(
    running: Running,
    resilience: &Resilience,
    listener: TcpListener,
) -> io::Result<Front> {
    let metrics = Metrics::new();
    metrics.register(Box::new(ConnectorMetrics::new(running.clone())));
    for collector in resilience.collectors() {
        metrics.register(collector);
    }
    let life = Life::new(Arc::new(SystemClock::new()), Arc::new(metrics));
    let routes = routes(Shared { running, life: life.clone() });
    Front::start(routes, life, CONNECTIONS_MAX, listener)
}

fn routes(shared: Shared) -> Router {
    let own =
        OpenApiRouter::with_openapi(Description::openapi()).merge(connectors::routes().unguarded());
    let routes = described(own)
        .route("/health/live", get(|| async { StatusCode::NO_CONTENT }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(counted));
    crate::http::admitted(routes).with_state(shared)
}

/// `GET /health/ready`: 204 until it is told to stop. A receiver that is away is no fault of ours.
async fn ready(Of(shared): Of<Shared>) -> StatusCode {
    match shared.life.phase() {
        Phase::Running => StatusCode::NO_CONTENT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// `GET /metrics`, in Prometheus' text format.
async fn counted(Of(shared): Of<Shared>) -> Response {
    numbers(shared.life.metrics().render_process())
}
