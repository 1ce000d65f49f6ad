//! HTTP alone, in a process without a store: the query front, and connectors that run by themselves.
//!
//! ```text
//!   routes ── gate ──> /openapi.json beside them ──> Front: listens, answers, drains, is cut
//! ```
//!
//! INVARIANT: what it serves is its caller's; it knows no store.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use http::header;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::config::is_this_machine;
use crate::node::entrance::Entrance;
use crate::node::hosts::Hosts;
use crate::node::listener::{self, Bounds, Connections};
use crate::node::{Life, Phase, Stopped};
use crate::security::files::FileError;
use crate::security::{Asks, Security, Settings, Tls, Tokens, Visitors};

/// A running front.
pub struct Front {
    address: SocketAddr,
    life: Life,
    security: Security,
    connections: Connections,
    accepting: JoinHandle<()>,
}

/// How a front takes its callers in.
#[derive(Debug)]
pub struct Reception {
    /// Where it listens.
    pub listener: TcpListener,
    /// Connections that may be open at a time.
    pub connections_max: usize,
    /// How connections are protected, and who is asked.
    pub security: Settings,
    /// What everyone belongs to who proves by a certificate who it is.
    pub certificate_groups: Vec<String>,
    /// Names by which it may be called though it asks nobody who they are; see
    /// [`hosts`](crate::node::hosts).
    pub host_names: Vec<String>,
}

/// Why a front cannot start.
#[derive(Debug, thiserror::Error)]
pub enum FrontError {
    /// The listener has no address.
    #[error("the listening socket has no address: {0}")]
    Listener(#[from] io::Error),
    /// A file that security rests on cannot be used.
    #[error(transparent)]
    Security(#[from] FileError),
}

impl Front {
    /// Serves `routes` for as long as `life` says.
    ///
    /// # Errors
    /// [`FrontError`] names the file that cannot be used.
    pub fn start(routes: Router, life: Life, reception: Reception) -> Result<Front, FrontError> {
        let Reception { listener, connections_max, security, certificate_groups, host_names } =
            reception;
        let address = listener.local_addr()?;
        let is_open = security.tls.is_none() && security.asks == Asks::Nobody;
        // Whoever comes from elsewhere is no browser on this machine.
        let is_guarded = is_open && is_this_machine(&address);
        let hosts = is_guarded.then(|| Hosts::new(&host_names));
        let security = guard(security, certificate_groups, &life)?;
        let asker = security.asker().cloned();
        let entrance = Entrance::http_only(routes, life.clone(), asker).called(hosts);
        let connections = Connections::new(connections_max, Bounds::default());
        let tls = security.tls().cloned();
        let serving = listener::serve(listener, entrance, connections.clone(), tls, life.clone());
        tokio::spawn(security.clone().watch(life.clone()));
        let accepting = tokio::spawn(serving);
        Ok(Front { address, life, security, connections, accepting })
    }

    /// How it protects itself.
    #[must_use]
    pub fn security(&self) -> &Security {
        &self.security
    }

    /// The time, the counters, and how far the stop has come.
    #[must_use]
    pub fn life(&self) -> &Life {
        &self.life
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

/// What `settings` say, with the files that they name.
fn guard(settings: Settings, groups: Vec<String>, life: &Life) -> Result<Security, FileError> {
    let metrics = &life.metrics().security;
    let tls = settings.tls.map(|tls| Tls::load(tls, metrics.clone())).transpose()?;
    let visitors = match settings.asks {
        Asks::Nobody => None,
        Asks::Everyone => {
            let (clock, path) = (life.clock().clone(), settings.tokens);
            let tokens = path.map(|path| Tokens::load(path, clock.clone(), metrics.clone()));
            let visitors = Visitors::new(tokens.transpose()?, groups, clock, metrics.clone());
            Some(Arc::new(visitors))
        }
    };
    Ok(Security::without_users(tls, visitors))
}

/// Numbers in Prometheus' text format, as an answer.
pub fn numbers(text: String) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, text).into_response()
}
