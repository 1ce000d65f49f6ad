//! How to reach a server or a cluster, and as whom; and nothing about connecting.
//!
//! ```text
//!   esdb://               user:password@   host:2113,host:2113   /   ? tls=true & nodePreference=…
//!   kurrentdb:// kdb:// kurrent://                                   keys without regard to case
//!   daybook:// http:// https://
//!   each also as esdb+discover:// …
//! ```
//!
//! | Option | Means | Default |
//! |---|---|---|
//! | `tls` | the connection is encrypted and the server proves who it is | `true`, see below |
//! | `tlsVerifyCert` | the server's certificate is checked | `true` |
//! | `tlsCaFile` | PEM file of the authorities that may vouch for it | this machine's |
//! | `userCertFile`, `userKeyFile` | PEM files by which this client proves who it is | none |
//! | `nodePreference` | `leader`, `follower`, `readOnlyReplica`, `random` | `leader` |
//! | `maxDiscoverAttempts` | times that all nodes are asked before a call fails | 10 |
//! | `discoveryInterval` | ms between two of them | 100 |
//! | `gossipTimeout` | ms that one node may take to say who is in the cluster | 5000 |
//! | `defaultDeadline` | ms that a call which does not stream may take | 10000 |
//! | `keepAliveInterval`, `…Timeout` | ms between probes, and for an answer; `-1`: none | 10000 |
//! | `connectionName` | what the server's operator sees | none |
//! | `throwOnAppendFailure` | accepted, without effect: here a conflict always is an error | |
//!
//! The form is KurrentDB's, so that a string which works with its clients works here, and means the
//! same. One thing is only ours: under `daybook://` hosts of the loopback are reached without TLS
//! unless `tls=true` says otherwise, because a server of one's own machine has no certificate.
//! Under every other scheme TLS is used for every host unless `tls=false` says otherwise (`http://`
//! says it by its name). Nothing is ever sent in the clear by surprise.
//!
//! One host is used as it is. With `+discover`, or with several hosts, the nodes are asked who is
//! in the cluster, and the one that `nodePreference` wants is used ([`crate::connection`]).
//!
//! KurrentDB's clients do not agree whether `gossipTimeout` is in seconds or milliseconds. Here it
//! is milliseconds, and a value so small that it must mean seconds is refused.

mod parse;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

pub use parse::ConnectionStringError;

/// The port of a server whose address names none.
pub const PORT_DEFAULT: u16 = 2113;
/// How long a call that does not stream may take, unless told otherwise. KurrentDB's clients use
/// the same.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(10);
/// How often a connection is probed with an HTTP/2 PING, so that a dead peer is noticed.
pub const KEEP_ALIVE_INTERVAL_DEFAULT: Duration = Duration::from_secs(10);
/// How long the answer to a probe may take before the connection counts as dead.
pub const KEEP_ALIVE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// How often all nodes are asked before a call fails: KurrentDB's own.
pub const DISCOVER_ATTEMPTS_DEFAULT: u32 = 10;
/// The wait between two rounds of asking: KurrentDB's own.
pub const DISCOVERY_INTERVAL_DEFAULT: Duration = Duration::from_millis(100);
/// How long one node may take to answer: KurrentDB's own.
pub const GOSSIP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// How to reach a server, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The server's name or address; of several the first. An IPv6 address stands in brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is secured; none: in the clear.
    pub tls: Option<Tls>,
    /// Who is asked where the cluster's nodes are; none: the server is used as it is.
    pub cluster: Option<Cluster>,
    /// Which node of a cluster is wanted.
    pub node_preference: NodePreference,
    /// How long a call that does not stream may take; none means for ever.
    pub default_deadline: Option<Duration>,
    /// How often the connection is probed; none means never.
    pub keep_alive_interval: Option<Duration>,
    /// How long the answer to a probe may take.
    pub keep_alive_timeout: Duration,
    /// A name by which the server's operator recognises this connection.
    pub connection_name: Option<String>,
    /// Sent with every call, if given.
    pub credentials: Option<Credentials>,
    /// Sent instead of credentials, if given. Not part of a connection string.
    pub token: Option<Token>,
    /// How a subscription comes back after it has lost its call. Not part of a connection string.
    pub resume: Resume,
}

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeAddress {
    /// Its name or address. An IPv6 address stands in brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// How the nodes of a cluster are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Whom to ask; at least one.
    pub seeds: Vec<NodeAddress>,
    /// How often all are asked before a call fails; at least 1.
    pub attempts_max: u32,
    /// The wait between two rounds.
    pub interval: Duration,
    /// How long one node may take to answer.
    pub gossip_timeout: Duration,
}

impl Cluster {
    /// A cluster that is found over `seeds`, all else by default.
    #[must_use]
    pub fn of(seeds: Vec<NodeAddress>) -> Cluster {
        Cluster {
            seeds,
            attempts_max: DISCOVER_ATTEMPTS_DEFAULT,
            interval: DISCOVERY_INTERVAL_DEFAULT,
            gossip_timeout: GOSSIP_TIMEOUT_DEFAULT,
        }
    }
}

/// Which node of a cluster calls go to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodePreference {
    /// The one that appends, and no other: what was appended is seen by the next read.
    #[default]
    Leader,
    /// A follower if there is one; its reads may be a little behind.
    Follower,
    /// A node that only follows and is never elected, if there is one.
    ReadOnlyReplica,
    /// Any.
    Random,
}

/// How a connection is secured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Whether the server must prove who it is.
    pub verification: Verification,
    /// PEM file of the authorities that may vouch for the server; none: this machine's.
    pub ca_file: Option<PathBuf>,
    /// How this client proves who it is, if the server asks.
    pub identity: Option<Identity>,
}

/// What is asked of a server's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verification {
    /// That an authority vouches for it, and that it is for the name that was dialled.
    #[default]
    Full,
    /// Nothing: whoever answers is believed. The log says so with every connection.
    Off,
}

/// A client's own certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// PEM file of the certificate and those between it and its authority.
    pub certificate_file: PathBuf,
    /// PEM file of its private key.
    pub key_file: PathBuf,
}

/// A login and its password. Its `Debug` form does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Who.
    pub login: String,
    /// The secret.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("login", &self.login).finish_non_exhaustive()
    }
}

/// A bearer token, as an issuer signed it. Its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}

/// The waits of a subscription that has lost its call. Each is between half of its length and all
/// of it, by chance, so that the subscribers of a restarted server do not come back as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Before the first attempt to go on; doubled for each further one.
    pub wait_min: Duration,
    /// The longest: a server that is back is found within it.
    pub wait_max: Duration,
    /// Attempts in a row that may fail before the subscriber is told.
    pub attempts_max: u32,
}

impl Default for Resume {
    /// Gives up after about five minutes.
    fn default() -> Resume {
        Resume {
            wait_min: Duration::from_millis(100),
            wait_max: Duration::from_secs(5),
            attempts_max: 64,
        }
    }
}

impl Settings {
    /// The settings of a plain connection to `host` and `port`, all else by default.
    #[must_use]
    pub fn plain(host: &str, port: u16) -> Settings {
        Settings {
            host: host.to_owned(),
            port,
            tls: None,
            cluster: None,
            node_preference: NodePreference::Leader,
            default_deadline: Some(DEADLINE_DEFAULT),
            keep_alive_interval: Some(KEEP_ALIVE_INTERVAL_DEFAULT),
            keep_alive_timeout: KEEP_ALIVE_TIMEOUT_DEFAULT,
            connection_name: None,
            credentials: None,
            token: None,
            resume: Resume::default(),
        }
    }

    /// Reads a connection string.
    ///
    /// ```
    /// use daybook_client::Settings;
    /// let settings = Settings::parse("daybook://127.0.0.1:2113?connectionName=billing")?;
    /// assert_eq!(settings.port, 2113);
    /// assert_eq!(settings.connection_name.as_deref(), Some("billing"));
    ///
    /// let settings = Settings::parse("kurrentdb://a.example,b.example?nodePreference=follower")?;
    /// assert!(settings.tls.is_some());
    /// assert_eq!(settings.cluster.expect("two hosts are a cluster").seeds.len(), 2);
    /// # Ok::<(), daybook_client::ConnectionStringError>(())
    /// ```
    ///
    /// # Errors
    /// [`ConnectionStringError`] says what to change.
    pub fn parse(text: &str) -> Result<Settings, ConnectionStringError> {
        parse::parse(text)
    }

    /// The server as a URI; of several the first.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{}://{}:{}", self.scheme(), self.host, self.port)
    }

    /// What stands in the header `Authorization` of each call, if anything does.
    #[must_use]
    pub fn authorization(&self) -> Option<String> {
        if let Some(Token(token)) = &self.token {
            return Some(format!("Bearer {token}"));
        }
        let Credentials { login, password } = self.credentials.as_ref()?;
        Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{login}:{password}"))))
    }

    /// `http` or `https`.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The server, or all that are asked for it, for messages: no credentials.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.cluster {
            None => self.uri(),
            Some(cluster) => {
                let seeds: Vec<_> = cluster.seeds.iter().map(NodeAddress::to_string).collect();
                format!("{}://{}", self.scheme(), seeds.join(","))
            }
        }
    }
}

impl std::str::FromStr for Settings {
    type Err = ConnectionStringError;
    fn from_str(text: &str) -> Result<Settings, ConnectionStringError> {
        Settings::parse(text)
    }
}
