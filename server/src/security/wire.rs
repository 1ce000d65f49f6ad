//! What an HTTP connection of ours to others runs over: TCP, or TLS on it.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use daybook_client::{ConnectError, Tls, tls_connector};
use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

/// What is spoken within TLS: HTTP/1.1.
pub const HTTP_1: &[u8] = b"http/1.1";
/// What is spoken within TLS: HTTP/2, as gRPC needs it.
pub const HTTP_2: &[u8] = b"h2";

/// Whether a URL's host is this machine, so that nobody is between.
#[must_use]
pub fn is_this_machine(host: &str) -> bool {
    host == "localhost" || bare(host).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Why connections cannot be made secure.
#[derive(Debug, thiserror::Error)]
pub enum SecureError {
    /// The certificates cannot be used.
    #[error(transparent)]
    Settings(#[from] ConnectError),
    /// Nobody can vouch for such a host.
    #[error("'{host}' is no name that a certificate could be for; give a host name or an address")]
    Name {
        /// The host.
        host: String,
    },
}

/// How connections to one server are made secure. A clone shares what was read of files.
#[derive(Clone)]
pub struct Secure {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Secure {
    /// For connections to `host`, in which `protocol` is spoken.
    ///
    /// # Errors
    /// If the certificates that `tls` names cannot be used, or the host can have none.
    pub fn new(tls: &Tls, host: &str, protocol: &[u8]) -> Result<Secure, SecureError> {
        let connector = tls_connector(tls, protocol)?;
        let name = ServerName::try_from(bare(host).to_owned());
        let name = name.map_err(|_| SecureError::Name { host: host.to_owned() })?;
        Ok(Secure { connector, name })
    }
}

/// A connection.
#[derive(Debug)]
pub enum Wire {
    /// In the clear.
    Plain(TcpStream),
    /// Within TLS; boxed, because it is large and the other one is not.
    Secure(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// Connects to `host`, an IPv6 address in brackets.
    ///
    /// # Errors
    /// What the system says, or why the server is not trusted.
    pub async fn connect(host: &str, port: u16, secure: Option<&Secure>) -> io::Result<Wire> {
        let stream = TcpStream::connect((bare(host), port)).await?;
        stream.set_nodelay(true)?;
        let Some(Secure { connector, name }) = secure else { return Ok(Wire::Plain(stream)) };
        let stream = connector.connect(name.clone(), stream).await?;
        Ok(Wire::Secure(Box::new(stream)))
    }
}

/// Makes connections to one server, for clients that want somebody who does. Whatever URL they ask
/// for is that server's.
#[derive(Clone)]
pub struct Dialler {
    host: String,
    port: u16,
    secure: Option<Secure>,
}

impl Dialler {
    /// For the server at `host`.
    #[must_use]
    pub fn new(host: &str, port: u16, secure: Option<Secure>) -> Dialler {
        Dialler { host: host.to_owned(), port, secure }
    }
}

impl std::fmt::Debug for Dialler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl tower::Service<Uri> for Dialler {
    type Response = TokioIo<Wire>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Wire>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Dialler { host, port, secure } = self.clone();
        Box::pin(async move { Wire::connect(&host, port, secure.as_ref()).await.map(TokioIo::new) })
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_read(context, room),
            Wire::Secure(stream) => Pin::new(stream).poll_read(context, room),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Secure(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(context),
            Wire::Secure(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Secure(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
