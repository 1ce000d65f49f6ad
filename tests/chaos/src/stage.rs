//! What an experiment plays on: the server on its disk and network, the proxy, and the users' site.
//!
//! INVARIANT: everything it holds is undone when it is dropped: processes ended, volumes unmounted,
//! namespaces and directories removed, the server first.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tempfile::TempDir;

use crate::faults::namespace::Namespace;
use crate::faults::volume::Volume;
use crate::faults::{Fault, look, readiness};
use crate::http::Connection;
use crate::proxy::Proxy;
use crate::server::{Launch, Server};
use crate::users::Site;

/// The stage.
pub struct Stage {
    // Dropped in this order.
    server: Option<Server>,
    /// Between the users and the server.
    pub proxy: Arc<Proxy>,
    /// What the users have in common.
    pub site: Arc<Site>,
    /// How the server is started.
    pub launch: Launch,
    /// What is worth telling about the course of things.
    pub notes: Vec<String>,
    volume: Option<Volume>,
    namespace: Option<Namespace>,
    _directory: TempDir,
}

impl Stage {
    /// A stage for `fault`, with the server running on an empty directory.
    ///
    /// # Errors
    /// If anything it needs cannot be had.
    pub async fn set(fault: &Fault, binary: &Path, seed: u64) -> anyhow::Result<Stage> {
        let directory = TempDir::with_prefix("daybook-chaos-").context("no directory for data")?;
        let volume = match fault {
            Fault::FullDisk => {
                Some(Volume::new(&std::env::temp_dir()).map_err(|error| anyhow!(error))?)
            }
            _ => None,
        };
        let namespace = match fault {
            Fault::Partition | Fault::Netem(..) => {
                Some(Namespace::new().map_err(|error| anyhow!(error))?)
            }
            _ => None,
        };
        let disk = volume.as_ref().map_or(directory.path(), Volume::path);
        let launch = Launch {
            binary: binary.to_owned(),
            data: disk.join("data"),
            wrapper: namespace.as_ref().map(Namespace::wrapper).unwrap_or_default(),
            host: namespace.as_ref().map_or("127.0.0.1".to_owned(), Namespace::host),
        };
        let server = launch.start().await?;
        let proxy = Arc::new(Proxy::start(server.address(), seed).await.context("no proxy")?);
        let site = Arc::new(Site::new(proxy.address(), server.address(), seed)?);
        Ok(Stage {
            server: Some(server),
            proxy,
            site,
            launch,
            notes: Vec::new(),
            volume,
            namespace,
            _directory: directory,
        })
    }

    /// The server that runs.
    ///
    /// # Errors
    /// If none does.
    pub fn server(&self) -> anyhow::Result<&Server> {
        self.server.as_ref().context("no server runs")
    }

    /// The server that runs, to be ended.
    ///
    /// # Errors
    /// If none does.
    pub fn take_server(&mut self) -> anyhow::Result<Server> {
        self.server.take().context("no server runs")
    }

    /// Starts the server anew on the same data; new connections are led to it.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start_server(&mut self) -> anyhow::Result<()> {
        let server = self.launch.start().await?;
        self.proxy.lead_to(server.address());
        self.site.server.send_replace(server.address());
        self.server = Some(server);
        Ok(())
    }

    /// The server's own disk.
    ///
    /// # Errors
    /// If it has none.
    pub fn volume(&self) -> anyhow::Result<&Volume> {
        self.volume.as_ref().context("no volume was made for this fault")
    }

    /// The server's own network.
    ///
    /// # Errors
    /// If it has none.
    pub fn namespace(&self) -> anyhow::Result<&Namespace> {
        self.namespace.as_ref().context("no network was made for this fault")
    }

    /// Waits until the server says of itself that it is ready, or is not.
    ///
    /// # Errors
    /// If it does not say so in `limit`.
    pub async fn until_ready(&self, wanted: bool, limit: Duration) -> anyhow::Result<()> {
        let mut connection = Connection::new(self.server()?.address());
        let reached = async {
            while readiness(&mut connection).await.map(|(ready, _)| ready) != Some(wanted) {
                look().await;
            }
        };
        match tokio::time::timeout(limit, reached).await {
            Ok(()) => Ok(()),
            Err(_) => bail!("after {limit:?} the server still does not say that ready is {wanted}"),
        }
    }

    /// Notes in what state the server says that its store is.
    pub async fn note_state(&mut self) {
        let Ok(server) = self.server() else { return };
        if let Some((_, state)) = readiness(&mut Connection::new(server.address())).await {
            self.notes.push(format!("the store says: {state}"));
        }
    }
}
