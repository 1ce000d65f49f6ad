//! One connection to one server, shared by everything that talks to it.
//!
//! A [`Client`] is a handle: clones share the connection. It connects with the first call, and
//! again with the first call after the connection was lost; a call that was under way when it broke
//! fails and is not repeated here, because only its caller knows whether that is safe.

use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use daybook_wire::proto::event_store::client::streams::streams_client::StreamsClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::error::CallError;
use crate::settings::{ConnectionStringError, Settings};

/// Bytes of one answer. The protocol's clients agree on 17 MiB: an event of 16 MiB and its frame.
pub const ANSWER_SIZE_MAX: usize = 17 * 1024 * 1024;
/// Bytes that one call may send us before we read them. Large enough that a scan over a fast
/// network never waits for our permission; a subscriber that stops reading holds so much memory.
const STREAM_WINDOW_SIZE: u32 = 2 * 1024 * 1024;
/// As before for all calls of the connection together: this many stalled calls do not yet block the
/// others.
const STALLED_CALLS_MAX: u32 = 64;
/// Bytes of one HTTP/2 frame: fewer, larger ones make a scan cheaper on both sides.
const FRAME_SIZE: u32 = 128 * 1024;
/// Requests that may wait for their turn on the connection before callers wait themselves.
const QUEUE_LENGTH: usize = 1024;

const _: () = assert!((STREAM_WINDOW_SIZE as u64) * (STALLED_CALLS_MAX as u64) < 1 << 31);

/// A client of one event store. A clone is another handle of the same connection.
#[derive(Clone, Debug)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    server: String,
    channel: Channel,
    authorization: Option<MetadataValue<Ascii>>,
    connection_name: Option<MetadataValue<Ascii>>,
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
}

impl Client {
    /// A client for the server that `connection_string` names; see [`crate::settings`]. Connects
    /// with the first call. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ConnectError`] if the string cannot be used. Whether the server is there shows the first
    /// call.
    pub fn new(connection_string: &str) -> Result<Client, ConnectError> {
        Client::with(Settings::parse(connection_string)?)
    }

    /// As [`Client::new`], with settings made otherwise.
    ///
    /// # Errors
    /// [`ConnectError`] if they cannot be used.
    pub fn with(settings: Settings) -> Result<Client, ConnectError> {
        let server = settings.uri();
        let bad = |reason: String| ConnectError::BadAddress { server: server.clone(), reason };
        let mut endpoint = Endpoint::from_shared(server.clone())
            .map_err(|error| bad(error.to_string()))?
            .tcp_nodelay(true)
            .initial_stream_window_size(STREAM_WINDOW_SIZE)
            .initial_connection_window_size(STREAM_WINDOW_SIZE * STALLED_CALLS_MAX)
            .max_frame_size(FRAME_SIZE)
            .buffer_size(QUEUE_LENGTH);
        if let Some(interval) = settings.keep_alive_interval {
            endpoint = endpoint
                .http2_keep_alive_interval(interval)
                .keep_alive_timeout(settings.keep_alive_timeout)
                .keep_alive_while_idle(true);
        }
        if let Some(deadline) = settings.default_deadline {
            endpoint = endpoint.connect_timeout(deadline);
        }
        let authorization = match &settings.credentials {
            Some(known) => {
                let pair = format!("{}:{}", known.login, known.password);
                let value = format!("Basic {}", BASE64_STANDARD.encode(pair));
                let mut value = ascii(&value).map_err(bad)?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let connection_name = match &settings.connection_name {
            Some(name) => Some(ascii(name).map_err(bad)?),
            None => None,
        };
        let channel = endpoint.connect_lazy();
        let inner = Inner { settings, server, channel, authorization, connection_name };
        Ok(Client { inner: Arc::new(inner) })
    }

    /// What it was made with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// The server's address, for messages.
    pub(crate) fn server(&self) -> &str {
        &self.inner.server
    }

    pub(crate) fn channel(&self) -> Channel {
        self.inner.channel.clone()
    }

    pub(crate) fn streams(&self) -> StreamsClient<Channel> {
        StreamsClient::new(self.channel())
            .max_decoding_message_size(ANSWER_SIZE_MAX)
            .max_encoding_message_size(usize::MAX)
    }

    /// A call that ends by itself: with the connection's headers and its deadline.
    pub(crate) fn call<T>(&self, message: T) -> Request<T> {
        let mut request = self.endless_call(message);
        if let Some(deadline) = self.inner.settings.default_deadline {
            request.set_timeout(deadline);
        }
        request
    }

    /// A call that lasts as long as its user wants.
    pub(crate) fn endless_call<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.inner.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        if let Some(name) = &self.inner.connection_name {
            request.metadata_mut().insert("connection-name", name.clone());
        }
        request
    }

    pub(crate) fn call_error(&self, status: &Status) -> CallError {
        CallError::from_status(status, self.server())
    }
}

fn ascii(text: &str) -> Result<MetadataValue<Ascii>, String> {
    MetadataValue::from_str(text).map_err(|error| error.to_string())
}
