//! One HTTP/2 connection to one node. It connects with the first call, and again with the first
//! call after it was lost.
//!
//! INVARIANT: which node it is, is decided elsewhere.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::Service;

use crate::connection::ConnectError;
use crate::connection::tls::Security;
use crate::settings::{NodeAddress, Settings};

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

/// Makes channels to nodes, all in the same way.
#[derive(Clone, Debug)]
pub(super) struct Dialler {
    keep_alive: Option<(Duration, Duration)>,
    connect_timeout: Option<Duration>,
    security: Option<Security>,
}

impl Dialler {
    /// # Errors
    /// [`ConnectError`] if a file that TLS needs cannot be used.
    pub(super) fn new(settings: &Settings) -> Result<Dialler, ConnectError> {
        let interval = settings.keep_alive_interval;
        Ok(Dialler {
            keep_alive: interval.map(|interval| (interval, settings.keep_alive_timeout)),
            connect_timeout: settings.default_deadline,
            security: settings.tls.as_ref().map(Security::new).transpose()?,
        })
    }

    /// A channel to `node`; at `via` if its name was looked up already.
    ///
    /// # Errors
    /// [`ConnectError::BadAddress`].
    pub(super) fn channel(
        &self,
        node: &NodeAddress,
        via: Option<SocketAddr>,
    ) -> Result<Channel, ConnectError> {
        let scheme = if self.security.is_some() { "https" } else { "http" };
        let name = format!("{scheme}://{node}");
        let bad = |reason: String| ConnectError::BadAddress { server: name.clone(), reason };
        let origin = Uri::try_from(&name).map_err(|error| bad(error.to_string()))?;
        let dialled = via.map_or(name.clone(), |via| format!("{scheme}://{via}"));
        let mut endpoint = Endpoint::from_shared(dialled)
            .map_err(|error| bad(error.to_string()))?
            .origin(origin)
            .initial_stream_window_size(STREAM_WINDOW_SIZE)
            .initial_connection_window_size(STREAM_WINDOW_SIZE * STALLED_CALLS_MAX)
            .max_frame_size(FRAME_SIZE)
            .buffer_size(QUEUE_LENGTH);
        if let Some((interval, timeout)) = self.keep_alive {
            endpoint = endpoint
                .http2_keep_alive_interval(interval)
                .keep_alive_timeout(timeout)
                .keep_alive_while_idle(true);
        }
        if let Some(timeout) = self.connect_timeout {
            endpoint = endpoint.connect_timeout(timeout);
        }
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let node = node.clone();
        Ok(match &self.security {
            None => endpoint.connect_with_connector_lazy(Plain { node, tcp }),
            Some(security) => {
                let security = security.clone();
                endpoint.connect_with_connector_lazy(Secured { node, tcp, security })
            }
        })
    }
}

/// No connection to a node came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotConnected {
    /// Nobody answered.
    #[error("no connection to {node}")]
    Unreachable {
        node: NodeAddress,
        #[source]
        reason: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Somebody did, and cannot be trusted, or does not trust us.
    #[error("no secure connection to {node}: {reason}")]
    Insecure { node: NodeAddress, reason: String },
}

type Connecting<Io> = Pin<Box<dyn Future<Output = Result<TokioIo<Io>, NotConnected>> + Send>>;

/// Connects in the clear.
#[derive(Debug)]
struct Plain {
    node: NodeAddress,
    tcp: HttpConnector,
}

impl Service<Uri> for Plain {
    type Response = TokioIo<TcpStream>;
    type Error = NotConnected;
    type Future = Connecting<TcpStream>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NotConnected>> {
        poll_tcp(&mut self.tcp, &self.node, cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, node) = (self.tcp.call(uri), self.node.clone());
        Box::pin(async move { connecting.await.map_err(|error| unreachable_node(node, error)) })
    }
}

/// Connects over TLS.
#[derive(Debug)]
struct Secured {
    node: NodeAddress,
    tcp: HttpConnector,
    security: Security,
}

impl Service<Uri> for Secured {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = NotConnected;
    type Future = Connecting<TlsStream<TcpStream>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NotConnected>> {
        poll_tcp(&mut self.tcp, &self.node, cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.tcp.call(uri);
        let (node, security) = (self.node.clone(), self.security.clone());
        Box::pin(async move {
            let tcp = connecting.await.map_err(|error| unreachable_node(node.clone(), error))?;
            security.greet(node, tcp.into_inner()).await.map(TokioIo::new)
        })
    }
}

fn poll_tcp(
    tcp: &mut HttpConnector,
    node: &NodeAddress,
    cx: &mut Context<'_>,
) -> Poll<Result<(), NotConnected>> {
    let tcp: Poll<Result<(), _>> = Service::<Uri>::poll_ready(tcp, cx);
    tcp.map_err(|error| unreachable_node(node.clone(), error))
}

fn unreachable_node(
    node: NodeAddress,
    reason: impl std::error::Error + Send + Sync + 'static,
) -> NotConnected {
    NotConnected::Unreachable { node, reason: Box::new(reason) }
}
