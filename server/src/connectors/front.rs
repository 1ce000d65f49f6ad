//! What connectors in a process of their own answer over HTTP: how far they are, and what a person
//! tells them. The routes are those that a node has, with health and numbers beside them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, State as Of};
use axum::response::Response;
use daybook_client::resilience::Metrics as Resilience;
use daybook_model::SystemClock;
use http::StatusCode;
use utoipa::OpenApi;
use utoipa_axum::routes;

use super::Running;
use super::metrics::ConnectorMetrics;
use crate::front::{Front, FrontError, Reception, numbers};
use crate::http::connectors::{self, Known};
use crate::http::ledger::schema;
use crate::http::openapi::{Proofs, published};
use crate::node::{Life, Phase};
use crate::security::gate::{Described, Gate};
use crate::security::rights::Right;
use crate::telemetry::metrics::Metrics;

/// Connections that may be open at a time: those of people and of what watches.
pub const CONNECTIONS_MAX: usize = 256;

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
#[openapi(
    info(title = "Daybook's connectors"),
    components(schemas(schema::ProblemShape)),
    modifiers(&Proofs)
)]
struct Description;

/// Serves what is known of `running`; `resilience` counts its calls.
///
/// # Errors
/// [`FrontError`] names the file that cannot be used.
pub fn start(
    running: Running,
    resilience: &Resilience,
    reception: Reception,
) -> Result<Front, FrontError> {
    let metrics = Metrics::new();
    metrics.register(Box::new(ConnectorMetrics::new(running.clone())));
    for collector in resilience.collectors() {
        metrics.register(collector);
    }
    let life = Life::new(Arc::new(SystemClock::new()), Arc::new(metrics));
    let routes = routes(Shared { running, life: life.clone() });
    Front::start(routes, life, reception)
}

fn routes(shared: Shared) -> Router {
    let gate = Gate::without_store(shared.life.clock().clone());
    let described = connectors::routes().merge(about());
    let (routes, _) = published(&gate, described, Description::openapi()).into_parts();
    crate::http::admitted(routes).with_state(shared)
}

fn about() -> Described<Shared> {
    Described::new()
        .routes(Right::Anyone, routes!(live))
        .routes(Right::Anyone, routes!(ready))
        .routes(Right::Monitor, routes!(counted))
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

/// Whether it has not been told to stop. A receiver that is away is no fault of ours.
#[utoipa::path(
    get, path = "/health/ready", tag = "about",
    operation_id = "get_readiness",
    responses(
        (status = 204, description = "It has not"),
        (status = 503, description = "It stops"),
    )
)]
async fn ready(Of(shared): Of<Shared>) -> StatusCode {
    match shared.life.phase() {
        Phase::Running => StatusCode::NO_CONTENT,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The process' figures, in Prometheus' text format.
#[utoipa::path(
    get, path = "/metrics", tag = "about",
    operation_id = "get_metrics",
    responses((status = 200, description = "They", body = String, content_type = "text/plain"))
)]
async fn counted(Of(shared): Of<Shared>) -> Response {
    numbers(shared.life.metrics().render_process())
}
