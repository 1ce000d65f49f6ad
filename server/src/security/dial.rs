//! A connection of our own to somebody else's HTTP/1.1, over TLS where that is asked for.

use bytes::Bytes;
use daybook_client::{ConnectError, Tls, tls_connector};
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;

/// What is spoken within TLS.
const PROTOCOL: &[u8] = b"http/1.1";

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answers there.
    #[error("{host}:{port} cannot be reached: {reason}")]
    Unreachable {
        /// The host.
        host: String,
        /// Its port.
        port: u16,
        /// What the system said.
        reason: std::io::Error,
    },
    /// TLS cannot be set up on this side.
    #[error(transparent)]
    Settings(#[from] ConnectError),
    /// Whoever answers cannot be trusted, or does not trust us.
    #[error("no secure connection to {host}:{port}: {reason}")]
    Insecure {
        /// The host.
        host: String,
        /// Its port.
        port: u16,
        /// What went wrong.
        reason: String,
    },
    /// It does not speak HTTP.
    #[error("{host}:{port} does not speak HTTP: {reason}")]
    Http {
        /// The host.
        host: String,
        /// Its port.
        port: u16,
        /// What came.
        reason: hyper::Error,
    },
}

/// Connects to `host`, an IPv6 address in brackets, over TLS if that is given.
///
/// # Errors
/// [`DialError`]
pub async fn dial(
    host: &str,
    port: u16,
    tls: Option<&Tls>,
) -> Result<SendRequest<Full<Bytes>>, DialError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let connector = tls.map(|tls| tls_connector(tls, PROTOCOL)).transpose()?;
    let named = || (host.to_owned(), port);
    let stream = TcpStream::connect((bare, port)).await.map_err(|reason| {
        let (host, port) = named();
        DialError::Unreachable { host, port, reason }
    })?;
    let greeted = match connector {
        None => greet(stream).await,
        Some(connector) => {
            let insecure = |reason: String| {
                let (host, port) = named();
                DialError::Insecure { host, port, reason }
            };
            let name = ServerName::try_from(bare.to_owned());
            let name = name.map_err(|error| insecure(error.to_string()))?;
            let stream = connector.connect(name, stream).await;
            greet(stream.map_err(|error| insecure(error.to_string()))?).await
        }
    };
    greeted.map_err(|reason| {
        let (host, port) = named();
        DialError::Http { host, port, reason }
    })
}

async fn greet<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with its sender; what goes wrong shows in the answer.
    tokio::spawn(connection);
    Ok(sender)
}
