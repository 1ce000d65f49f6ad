//! HTTP alone, in a process without a store: the query front, and connectors that run by themselves.
//!
//! ```text
//!   routes ── described ──> /openapi.json beside them ──> Front: listens, answers, drains, is cut
//! ```
//!
//! INVARIANT: what it serves is its caller's; it knows no store.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use http::header;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use utoipa_axum::router::OpenApiRouter;

use crate::node::entrance::Entrance;
use crate::node::listener::{self, Bounds, Connections};
use crate::node::{Life, Phase, Stopped};

/// A running front.
pub struct Front {
    address: SocketAddr,
    life: Life,
    connections: Connections,
    accepting: JoinHandle<()>,
}

impl Front {
    /// Serves `routes` on `listener`, on at most so many connections, for as long as `life` says.
    ///
    /// # Errors
    /// If the listener has no address.
    pub fn start(
        routes: Router,
        life: Life,
        connections_max: usize,
        listener: TcpListener,
    ) -> io::Result<Front> {
        let address = listener.local_addr()?;
        let entrance = Entrance::http_only(routes, life.clone());
        let connections = Connections::new(connections_max, Bounds::default());
        let serving = listener::serve(listener, entrance, connections.clone(), None, life.clone());
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

/// `routes`, with their description beside them.
pub fn described<S>(routes: OpenApiRouter<S>) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    let (routes, api) = routes.split_for_parts();
    let json = Bytes::from(api.to_json().expect("a description is JSON"));
    let answer =
        move || async move { ([(header::CONTENT_TYPE, "application/json")], json).into_response() };
    routes.route("/openapi.json", get(answer))
}

/// Numbers in Prometheus' text format, as an answer.
pub fn numbers(text: String) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, text).into_response()
}
