//! Servers in this process, on a directory or on any disk.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use daybook::node::{Config, Context, Node, StartError};
use daybook_client::Client;
use daybook_log::disk::Disk;
use daybook_model::{Clock, SystemClock, SystemEntropy};
use daybook_store::{Environment, Options, Sizes, Store};
use tokio::net::TcpListener;

use super::PATIENCE;

/// Segments so small that a few events fill one.
pub const SMALL: Sizes = Sizes { first: 16 * 1024, max: 64 * 1024 };

/// A server and a client of it.
pub struct Server {
    node: Node,
    /// A client with a connection of its own.
    pub client: Client,
}

impl Server {
    /// A server on `data`.
    pub async fn start(data: &Path) -> Server {
        Server::try_start(data, Sizes::default()).await.expect("a server")
    }

    /// A server set up so.
    pub async fn start_with(config: Config) -> Server {
        Server::of(Node::start(config, listener().await).await.expect("a server"))
    }

    /// A server on `data`, or why there is none.
    pub async fn try_start(data: &Path, sizes: Sizes) -> Result<Server, StartError> {
        let config = Config {
            options: Options { sizes, ..Options::default() },
            ..Config::in_directory(data)
        };
        Ok(Server::of(Node::start(config, listener().await).await?))
    }

    /// A server on any disk, without snapshots.
    pub async fn on(disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, sizes: Sizes) -> Server {
        let environment = Environment { disk, clock, entropy: Arc::new(SystemEntropy) };
        let config = Config {
            options: Options { sizes, ..Options::default() },
            ..Config::in_directory("nowhere")
        };
        let node = Node::start_in(environment, None, config, listener().await).await;
        Server::of(node.expect("a server"))
    }

    /// As [`Server::on`], with the machine's clock and small segments.
    pub async fn on_disk(disk: Arc<dyn Disk>) -> Server {
        Server::on(disk, Arc::new(SystemClock::new()), SMALL).await
    }

    fn of(node: Node) -> Server {
        let client = client(node.address());
        Server { node, client }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.node.address()
    }

    /// What its requests share.
    pub fn context(&self) -> &Context {
        self.node.context()
    }

    /// Its store.
    pub fn store(&self) -> &Store {
        self.node.store()
    }

    /// Stops it; its directory can be opened again then.
    pub async fn stop(self) {
        drop(self.client);
        self.node.stop(PATIENCE).await;
    }
}

/// A client of the server at `address`, with a connection of its own.
pub fn client(address: SocketAddr) -> Client {
    Client::new(&format!("daybook://{address}?tls=false&defaultDeadline=60000")).expect("a client")
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}
