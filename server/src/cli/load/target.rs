//! The server that is talked to: one that runs already, or one of this program's own on a
//! directory that is removed afterwards.

use std::path::Path;

use anyhow::Context as _;
use daybook_client::Settings;
use serde::Deserialize;

use super::http::{Address, Connection, Request};
use crate::cli::bench::place::Scratch;
use crate::cli::bench::process::Server;
use crate::cli::remote::IdentityArgs;

/// A server. One that was started for this ends when it is dropped.
#[derive(Debug)]
pub struct Target {
    address: Address,
    url: String,
    /// In this order: the server ends before its directory is removed.
    own: Option<(Server, Scratch)>,
}

impl Target {
    /// The server at `url`, called as `identity` says; else a new one with its data below
    /// `directory`.
    ///
    /// # Errors
    /// If the URL is none, the identity cannot be used, or no server starts.
    pub async fn reach(
        url: Option<&str>,
        identity: &IdentityArgs,
        directory: &Path,
    ) -> anyhow::Result<Target> {
        if let Some(url) = url {
            let address = Address::of(&identity.settings(url).context("--url cannot be used")?)?;
            return Ok(Target { address, url: url.trim_end_matches('/').to_owned(), own: None });
        }
        let scratch = Scratch::within(directory)?;
        let server = Server::store(&scratch.join("data")).await?;
        let url = server.url();
        let address = Address::of(&Settings::parse(&url)?)?;
        Ok(Target { address, url, own: Some((server, scratch)) })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it was started for this.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Its version.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub async fn version(&self) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        struct Info {
            version: String,
        }
        let mut connection = Connection::new(self.address.clone());
        let answer = connection.send(Request::get("/info")).await?;
        let info = answer.accepted::<Info>();
        let info = info.map_err(|refusal| anyhow::anyhow!("GET /info: {}", refusal.detail))?;
        Ok(info.version)
    }

    /// Stops it, in the middle of whatever it does, if it was started for this.
    ///
    /// # Errors
    /// If it was not, or the system refuses.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.own()?.stop()
    }

    /// Has it go on.
    ///
    /// # Errors
    /// As above.
    pub fn go_on(&self) -> anyhow::Result<()> {
        self.own()?.go_on()
    }

    fn own(&self) -> anyhow::Result<&Server> {
        let own = self.own.as_ref().map(|(server, _)| server);
        own.context("only a server that was started for the run can be stopped")
    }

    /// Microseconds of processor time it has used, if it was started for this.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn cpu_us(&self) -> anyhow::Result<Option<u64>> {
        self.own.as_ref().map(|(server, _)| server.cpu_us()).transpose()
    }
}
