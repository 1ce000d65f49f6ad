//! The listeners of a node: one for everyone, or one for clients and one for operators.
//!
//! ```text
//!   --listen         2113   everything; with --admin-listen what asks for no right over the server
//!   --admin-listen   2116   everything: operators' tools read events, too
//! ```
//!
//! Both have the same protection, the same limits of a connection, and the same stop. Operators'
//! connections are counted for themselves: clients that take all there are keep no operator out.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::Life;
use super::entrance::Entrance;
use super::listener::{self, Connections};
use crate::security::tls::Tls;

/// Connections on operators' own listener: people, their tools, and what collects figures.
pub const OPERATORS_CONNECTIONS_MAX: usize = 256;
/// Those of one address, whatever clients have: four addresses would have to keep operators out.
pub const OPERATORS_PER_ADDRESS_MAX: usize = OPERATORS_CONNECTIONS_MAX / 4;

/// Where a node listens.
#[derive(Debug)]
pub struct Listeners {
    /// For everyone, or for all but operators.
    pub clients: TcpListener,
    /// For operators, if they have one of their own.
    pub operators: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(clients: TcpListener) -> Listeners {
        Listeners { clients, operators: None }
    }
}

/// A listener whose connections are taken.
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    connections: Connections,
    accepting: JoinHandle<()>,
}

impl Listening {
    /// Takes connections of `listener` as far as there is room, and leads them to `entrance`.
    ///
    /// # Errors
    /// If the listener has no address.
    pub(super) fn start(
        listener: TcpListener,
        entrance: Entrance,
        connections: Connections,
        (tls, life): (Option<Tls>, Life),
    ) -> io::Result<Listening> {
        let address = listener.local_addr()?;
        let serving = listener::serve(listener, entrance, connections.clone(), tls, life);
        Ok(Listening { address, connections, accepting: tokio::spawn(serving) })
    }

    /// Connections that are open.
    pub(super) fn open(&self) -> usize {
        self.connections.open()
    }

    /// Resolves when none is.
    pub(super) async fn all_closed(&self) {
        self.connections.all_closed().await;
    }

    /// Resolves when it takes none any more, and the last one has ended.
    pub(super) async fn ended(self) {
        self.connections.all_closed().await;
        if let Err(failed) = self.accepting.await {
            tracing::error!(error = %failed, "the accept loop ended badly");
        }
    }
}
