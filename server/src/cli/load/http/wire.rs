//! What an HTTP connection runs over: TCP, or TLS on it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use daybook_client::{Tls, tls_connector};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;

/// What is spoken within TLS.
const PROTOCOL: &[u8] = b"http/1.1";

/// How connections to one server are made secure. A clone shares what was read of files.
#[derive(Clone)]
pub struct Secure {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Secure {
    /// For connections to `host`.
    ///
    /// # Errors
    /// If the certificates that `tls` names cannot be used, or the host can have none.
    pub fn new(tls: &Tls, host: &str) -> anyhow::Result<Secure> {
        let connector = tls_connector(tls, PROTOCOL)?;
        Ok(Secure { connector, name: ServerName::try_from(bare(host).to_owned())? })
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
