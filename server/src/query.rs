//! The query front: the read side's HTTP alone, over read models in PostgreSQL.
//!
//! ```text
//!   node, or `daybook projections run` ──writes──> PostgreSQL <──reads── front, front, front …
//!                                                            /v1/accounts, /v1/transfers …
//!                                                            /health/*, /metrics, /openapi.json
//! ```
//!
//! A front keeps nothing: any number of them answer alike, and each may be killed at any time. It
//! needs no right in the database but to read the schema. What a node serves from a store or by its
//! ledger is not here.
//!
//! INVARIANTS: knows no store and no ledger; changes nothing in the database.

pub mod about;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::FromRef;
use axum::response::IntoResponse as _;
use axum::routing::get;
use bytes::Bytes;
use daybook_model::SystemClock;
use daybook_projections::models::ReadModels;
use daybook_projections::postgres::Postgres;
use http::header;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::http::ledger::schema;
use crate::http::readside;
use crate::http::readside::answer::Tables;
use crate::node::entrance::Entrance;
use crate::node::listener::{self, Connections};
use crate::node::{Life, Phase, Stopped};
use crate::telemetry::metrics::Metrics;

/// A running front.
pub struct Front {
    address: SocketAddr,
    life: Life,
    connections: Connections,
    accepting: JoinHandle<()>,
}

/// What its requests share. A clone is another handle.
#[derive(Clone)]
pub struct State {
    postgres: Postgres,
    life: Life,
}

impl FromRef<State> for Tables {
    fn from_ref(state: &State) -> Tables {
        Tables(Some(ReadModels::Postgres(state.postgres.clone())))
    }
}

/// What the description says of itself.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Daybook's read models",
        description = "Lists of accounts, transfers and payments. Every answer says as_of: the \
                       position in the log that it reflects.",
    ),
    components(schemas(schema::ProblemShape))
)]
struct Description;

impl Front {
    /// Serves the read models in `postgres` on `listener`, on at most so many connections.
    /// PostgreSQL need not be there yet.
    ///
    /// # Errors
    /// If the listener has no address.
    pub fn start(
        postgres: Postgres,
        connections_max: usize,
        listener: TcpListener,
    ) -> io::Result<Front> {
        let address = listener.local_addr()?;
        let life = Life::new(Arc::new(SystemClock::new()), Arc::new(Metrics::new()));
        let state = State { postgres, life: life.clone() };
        let entrance = Entrance::http_only(routes(state), life.clone());
        let connections = Connections::new(connections_max);
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

fn routes(state: State) -> Router {
    let (lists, api) = OpenApiRouter::with_openapi(Description::openapi())
        .merge(readside::front())
        .split_for_parts();
    let json = Bytes::from(api.to_json().expect("a description is JSON"));
    let described =
        move || async move { ([(header::CONTENT_TYPE, "application/json")], json).into_response() };
    let routes = lists
        .route("/openapi.json", get(described))
        .route("/health/live", get(about::live))
        .route("/health/ready", get(about::ready))
        .route("/metrics", get(about::metrics));
    crate::http::admitted(routes).with_state(state)
}
