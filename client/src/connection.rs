//! The way to one server, or to the node of a cluster that is wanted, shared by everything that
//! talks to it.
//!
//! ```text
//!   append  read  subscribe …                       settings: one host, or seeds to ask
//!        │ call                                                │
//!        v                                                     v
//!      route ── which node? ──> known ──> channel ──> HTTP/2 (over tls) ──> node
//!        ^                        │ not yet, or lost
//!        │                        v
//!        │                    discovery ── who is in the cluster? ──> seeds, members
//!        └── an answer "not the leader, b:2113 is", or a broken connection: the next call
//!            goes to b, or asks again
//! ```
//!
//! A [`Client`] is a handle: clones share the connection, and it stays valid whatever becomes of
//! the nodes. It connects with the first call, and again with the first call after the connection
//! was lost; callers that wait for a node to be found wait for one search together.
//!
//! Certificates and keys are read when the client is made; new ones need a new client.
//!
//! INVARIANT: a call that was under way when its connection broke, or that came to a node which is
//! not the leader, fails and is not repeated here: only its caller knows whether that is safe.

mod channel;
mod discovery;
mod route;
mod tls;
mod trace;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use daybook_wire::proto::event_store::client::streams::streams_client::StreamsClient;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Request, Status};

use crate::error::CallError;
use crate::settings::{ConnectionStringError, NodePreference, Settings};
pub(crate) use channel::NotConnected;
pub(crate) use discovery::NoNode;
pub use route::Route;
pub use tls::connector as tls_connector;

/// Bytes of one answer. The protocol's clients agree on 17 MiB: an event of 16 MiB and its frame.
pub const ANSWER_SIZE_MAX: usize = 17 * 1024 * 1024;

/// A client of one event store. A clone is another handle of the same connection.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    server: String,
    route: Route,
    headers: Headers,
}

/// Why a client could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The connection string cannot be used.
    #[error(transparent)]
    ConnectionString(#[from] ConnectionStringError),
    /// The server's address is not one.
    #[error("'{server}' is not the address of a server: {reason}")]
    BadAddress {
        /// What was given.
        server: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A name or password that cannot be sent.
    #[error("the {what} cannot be sent with a call: {reason}; use printable ASCII")]
    BadHeader {
        /// Which.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that TLS needs.
    #[error("the file {} that {option} names cannot be used: {reason}", path.display())]
    BadFile {
        /// The option.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what it should be.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {reason}")]
    Tls {
        /// What is missing, and what to do.
        reason: String,
    },
}

/// What the deadline of a call leaves for finding a node; kept beside the request.
#[derive(Clone, Copy, Debug)]
struct Deadline(Duration);

impl Client {
    /// A client for the server or cluster that `connection_string` names; see [`crate::settings`].
    /// Connects with the first call. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ConnectError`] if the string, or a file that it names, cannot be used. Whether the server
    /// is there shows the first call.
    pub fn new(connection_string: &str) -> Result<Client, ConnectError> {
        Client::with(Settings::parse(connection_string)?)
    }

    /// As [`Client::new`], with settings made otherwise.
    ///
    /// # Errors
    /// [`ConnectError`] if they cannot be used.
    pub fn with(settings: Settings) -> Result<Client, ConnectError> {
        let headers = Headers::of(&settings)?;
        let route = Route::new(&settings, headers.clone())?;
        let server = settings.name();
        let inner = Inner { settings, server, route, headers };
        Ok(Client { inner: Arc::new(inner) })
    }

    /// What it was made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The server's address, or those that are asked for it, for messages.
    pub(crate) fn server(&self) -> &str {
        &self.inner.server
    }

    /// What carries calls of any service to the node that is to have them.
    pub(crate) fn channel(&self) -> Route {
        self.inner.route.clone()
    }

    pub(crate) fn streams(&self) -> StreamsClient<Route> {
        StreamsClient::new(self.channel())
            .max_decoding_message_size(ANSWER_SIZE_MAX)
            .max_encoding_message_size(usize::MAX)
    }

    /// A call that ends by itself: with the connection's headers and its deadline.
    pub(crate) fn call<T>(&self, message: T) -> Request<T> {
        let mut request = self.endless_call(message);
        if let Some(deadline) = self.inner.settings.default_deadline {
            request.set_timeout(deadline);
            request.extensions_mut().insert(Deadline(deadline));
        }
        request
    }

    /// A call that lasts as long as its user wants.
    pub(crate) fn endless_call<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        self.inner.headers.put(request.metadata_mut());
        request
    }

    pub(crate) fn call_error(&self, status: &Status) -> CallError {
        CallError::from_status(status, self.server())
    }
}

/// What goes with every call.
#[derive(Clone, Debug)]
struct Headers {
    authorization: Option<MetadataValue<Ascii>>,
    connection_name: Option<MetadataValue<Ascii>>,
    requires_leader: MetadataValue<Ascii>,
}

impl Headers {
    fn of(settings: &Settings) -> Result<Headers, ConnectError> {
        let authorization = match settings.authorization() {
            Some(value) => {
                let mut value = ascii("login or token", &value)?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let name = settings.connection_name.as_deref();
        let connection_name = name.map(|name| ascii("connection name", name)).transpose()?;
        let leader = settings.node_preference == NodePreference::Leader;
        let requires_leader = MetadataValue::from_static(if leader { "true" } else { "false" });
        Ok(Headers { authorization, connection_name, requires_leader })
    }

    fn put(&self, metadata: &mut MetadataMap) {
        if let Some(authorization) = &self.authorization {
            metadata.insert("authorization", authorization.clone());
        }
        if let Some(name) = &self.connection_name {
            metadata.insert("connection-name", name.clone());
        }
        metadata.insert("requires-leader", self.requires_leader.clone());
    }
}

fn ascii(what: &'static str, text: &str) -> Result<MetadataValue<Ascii>, ConnectError> {
    MetadataValue::from_str(text)
        .map_err(|error| ConnectError::BadHeader { what, reason: error.to_string() })
}
