//! Reaching the server: its URL, encryption, the pool, and what a session may take.
//!
//! ```text
//!   sslmode in the URL     require, prefer, disable: as it says
//!   not said               loopback or a socket: disable; else: require
//! ```
//!
//! A certificate is always checked against the system's roots (`SSL_CERT_FILE` names others).
//!
//! INVARIANT: what is shown of a server is host, port and database; never a password.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Connect, Manager, ManagerConfig, Pool, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::error;
use crate::store::StoreError;

/// Connections of one process at most, beside one for each writer. PostgreSQL gives a process of
/// its own to each, and answers no faster above a few per processor.
pub const CONNECTIONS_MAX: usize = 16;
/// Time to reach the server and be let in.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time a query waits for a free connection; above, the server is overloaded and should say so.
pub const POOL_TIMEOUT: Duration = Duration::from_secs(2);
/// Time of one statement in milliseconds: a page takes a few, a commit of many rows some hundred.
pub const STATEMENT_TIMEOUT_MS: u32 = 30_000;
/// Time a statement waits for a lock in milliseconds: somebody's long query on a view must not
/// hold up everybody's, who queue behind the change of that view.
pub const LOCK_TIMEOUT_MS: u32 = 5_000;
/// Time in milliseconds after which a session that stands still within a transaction is ended: a
/// frozen writer must not keep its successor waiting.
pub const IDLE_TRANSACTION_TIMEOUT_MS: u32 = 10_000;
/// Time after which a peer that acknowledges nothing is dead.
const PEER_TIMEOUT: Duration = Duration::from_secs(15);
/// Silence after which it is asked whether it is there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// Why a server cannot be used as it was given. The URL itself is never quoted: it may hold a
/// password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The URL does not parse, or names no server.
    #[error(
        "the PostgreSQL URL cannot be used: {reason}; give \
         postgres://USER:PASSWORD@HOST:5432/DATABASE?sslmode=require"
    )]
    Url {
        /// What is wrong.
        reason: &'static str,
    },
    /// The schema's name is none.
    #[error(
        "'{schema}' cannot be the schema: give a lower-case letter, then letters, digits or '_', \
         {max} at most",
        max = super::names::NAME_SIZE_MAX
    )]
    Schema {
        /// What was given.
        schema: String,
    },
    /// No certificate can be checked.
    #[error("cannot check PostgreSQL's certificate: {reason}; SSL_CERT_FILE names roots to trust")]
    Roots {
        /// What is wrong.
        reason: String,
    },
}

/// A server, and how it is reached.
#[derive(Clone)]
pub struct Server {
    config: Config,
    tls: MakeRustlsConnect,
    name: String,
}

impl fmt::Debug for Server {
    /// Without its password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.name).finish()
    }
}

impl Server {
    /// The server of `url`.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn parse(url: &str) -> Result<Server, SettingsError> {
        let mut config: Config =
            url.parse().map_err(|_| SettingsError::Url { reason: "it does not parse" })?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(SettingsError::Url { reason: "it names no host" });
        }
        if !url.contains("sslmode") {
            let mode = if is_near(&config) { SslMode::Disable } else { SslMode::Require };
            config.ssl_mode(mode);
        }
        if config.get_application_name().is_none() {
            config.application_name("daybook");
        }
        config
            .connect_timeout(CONNECT_TIMEOUT)
            .keepalives_idle(KEEPALIVE_IDLE)
            .tcp_user_timeout(PEER_TIMEOUT);
        let tls = MakeRustlsConnect::new(tls(config.get_ssl_mode())?);
        let name = name(&config);
        Ok(Server { config, tls, name })
    }

    /// Host, port and database: for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A pool of at most `connections_max` connections.
    pub(super) fn pool(&self, connections_max: usize) -> Pool {
        let manager =
            Manager::from_connect(self.config.clone(), self.clone(), ManagerConfig::default());
        Pool::builder(manager)
            .max_size(connections_max.clamp(1, CONNECTIONS_MAX))
            .wait_timeout(Some(POOL_TIMEOUT))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .recycle_timeout(Some(POOL_TIMEOUT))
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a runtime is given, which is all that timeouts need")
    }

    /// A connection beside the pool.
    pub(super) async fn open(&self, action: &str) -> Result<Client, StoreError> {
        match tokio::time::timeout(CONNECT_TIMEOUT, self.session()).await {
            Ok(Ok((client, _))) => Ok(client),
            Ok(Err(cause)) => Err(error::store(action, self.name(), &cause)),
            Err(_) => Err(error::late(action, self.name(), CONNECT_TIMEOUT)),
        }
    }

    async fn session(&self) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
        let (client, connection) = self.config.connect(self.tls.clone()).await?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to PostgreSQL ended");
            }
        });
        let limits = format!(
            "SET statement_timeout = {STATEMENT_TIMEOUT_MS}; SET lock_timeout = {LOCK_TIMEOUT_MS}; \
             SET idle_in_transaction_session_timeout = {IDLE_TRANSACTION_TIMEOUT_MS}; \
             SET client_min_messages = warning"
        );
        client.batch_execute(&limits).await?;
        Ok((client, task))
    }
}

type Opening<'a> = std::pin::Pin<
    Box<dyn Future<Output = Result<(Client, JoinHandle<()>), tokio_postgres::Error>> + Send + 'a>,
>;

impl Connect for Server {
    fn connect(&self, _: &Config) -> Opening<'_> {
        Box::pin(self.session())
    }
}

/// Whether it is on this machine, where nobody listens in.
fn is_near(config: &Config) -> bool {
    let near = |host: &Host| match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        }
    };
    config.get_hosts().iter().all(near) && config.get_hostaddrs().iter().all(IpAddr::is_loopback)
}

fn name(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => config.get_hostaddrs().first().map(IpAddr::to_string).unwrap_or_default(),
    };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("{host}:{port}/{database}")
}

fn tls(mode: SslMode) -> Result<ClientConfig, SettingsError> {
    let mut roots = RootCertStore::empty();
    if mode != SslMode::Disable {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() && mode == SslMode::Require {
            let reason = found.errors.first().map_or_else(
                || "this system has no root certificates".to_owned(),
                ToString::to_string,
            );
            return Err(SettingsError::Roots { reason });
        }
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the protocol versions it is built with");
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_elsewhere_is_reached_encrypted_unless_the_url_says_otherwise() {
        for (url, mode) in [
            ("postgres://daybook:secret@127.0.0.1:5432/books", SslMode::Disable),
            ("postgres://daybook:secret@localhost/books", SslMode::Disable),
            ("host=/run/postgresql dbname=books user=daybook", SslMode::Disable),
            ("postgres://daybook:secret@db.example/books", SslMode::Require),
            ("postgres://daybook:secret@db.example/books?sslmode=disable", SslMode::Disable),
            ("postgres://daybook:secret@127.0.0.1/books?sslmode=prefer", SslMode::Prefer),
        ] {
            let found = Server::parse(url).map(|server| server.config.get_ssl_mode());
            assert_eq!(found, Ok(mode), "{url}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let server = Server::parse("postgres://daybook:secret@127.0.0.1:99/books").expect("a URL");
        assert_eq!(server.name(), "127.0.0.1:99/books");
        for url in [
            "postgres://daybook:secret@127.0.0.1/books?secret=1",
            "postgres://daybook:secret",
            "postgres://daybook:secret@127.0.0.1:secret/books",
            "password=secret",
        ] {
            let error = Server::parse(url).err().map(|error| format!("{error} {error:?}"));
            let error = error.unwrap_or_else(|| panic!("{url} is no server"));
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
