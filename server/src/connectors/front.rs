//! What connectors in a process of their own answer over HTTP: how far they are, and what a person
//! tells them. The routes are those that a node has, with health and numbers beside them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{FromRef, State as Of};
use axum::response::IntoResponse as _;
use axum::routing::get;
use bytes::Bytes;
use daybook_client::resilience::Metrics as Resilience;
use daybook_model::SystemClock;
use http::{StatusCode, header};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use super::Running;
use super::metrics::ConnectorMetrics;
use crate::http::connectors::{self, Known};
use crate::http::ledger::schema;
use crate::node::entrance::Entrance;
use crate::node::listener::{self, Connections};
use crate::node::{Life, Phase, Stopped};
use crate::telemetry::metrics::Metrics;

/// Connections that may be open at a time: those of people and of what watches.
const CONNECTIONS_MAX: usize = 256;

/// A running front.
pub struct Front {
    address: SocketAddr,
    life: Life,
    connections: Connections,
    accepting: JoinHandle<()>,
}

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

impl Front {
    /// Serves what is known of `running` on `listener`; `resilience` counts its calls.
    ///
    /// # Errors
    /// If the listener has no address.
    pub fn start(
        running: Running,
        resilience: &Resilience,
        listener: TcpListener,
    ) -> io::Result<Front> {
        let address = listener.local_addr()?;
        let metrics = Metrics::new();
        metrics.register(Box::new(ConnectorMetrics::new(running.clone())));
        for collector in resilience.collectors() {
            metrics.register(collector);
        }
        let life = Life::new(Arc::new(SystemClock::new()), Arc::new(metrics));
        let routes = routes(Shared { running, life: life.clone() });
        let entrance = Entrance::http_only(routes, life.clone());
        let connections = Connections::new(CONNECTIONS_MAX);
        let serving = listener::serve(listener, entrance, connections.clone(), life.clone());
        Ok(Front { address, life, connections, accepting: tokio::spawn(serving) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops: takes no new connection and finishes what was begun. Connections that are still open
    /// after `deadline` are cut.
    pub async fn stop(self, deadline: Duration) -> Stopped {
        self.life.advance(Phase::Draining);
        let idle = tokio::time::timeout(deadline, self.connections.all_closed()).await.is_ok();
        let connections_cut = if idle { 0 } else { self.connections.open() };
        self.life.advance(Phase::Cut);
        self.connections.all_closed().await;
        if let Err(failed) = self.accepting.await {
            tracing::error!(error = %failed, "the accept loop ended badly");
        }
        Stopped { connections_cut }
    }
}

fn routes(shared: Shared) -> Router {
    let (own, api) = OpenApiRouter::with_openapi(Description::openapi())
        .merge(connectors::routes())
        .split_for_parts();
    let json = Bytes::from(api.to_json().expect("a description is JSON"));
    let described =
        move || async move { ([(header::CONTENT_TYPE, "application/json")], json).into_response() };
    let routes = own
        .route("/openapi.json", get(described))
        .route("/health/live", get(|| async { StatusCode::NO_CONTENT }))
        .route("/health/ready", get(ready))
        .route("/metrics", get(numbers));
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
async fn numbers(Of(shared): Of<Shared>) -> axum::response::Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, shared.life.metrics().render_process()).into_response()
}
