//! A client of HTTP/1.1 over TLS: no more of either than the tests need.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::pki::{Authority, Leaf};
use super::{PATIENCE, soon};

/// How a client comes.
#[derive(Clone, Copy)]
pub struct Visitor<'a> {
    /// Whom it believes.
    pub trust: &'a Authority,
    /// What it shows, if anything.
    pub shows: Option<&'a Leaf>,
    /// What it speaks.
    pub version: &'static SupportedProtocolVersion,
}

/// The older version.
pub const OLD: &SupportedProtocolVersion = &TLS12;

impl<'a> Visitor<'a> {
    /// One that shows nothing.
    pub fn believing(trust: &'a Authority) -> Visitor<'a> {
        Visitor { trust, shows: None, version: &TLS13 }
    }

    /// The same, with a certificate.
    pub fn showing(self, leaf: &'a Leaf) -> Visitor<'a> {
        Visitor { shows: Some(leaf), ..self }
    }

    /// Connects.
    pub async fn connect(self, address: SocketAddr) -> io::Result<Connection> {
        self.connect_from(Ipv4Addr::LOCALHOST, address).await
    }

    /// Connects from one of this machine's addresses.
    pub async fn connect_from(self, from: Ipv4Addr, to: SocketAddr) -> io::Result<Connection> {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(self.trust.pem().as_bytes());
        roots.add(authority.expect("a certificate")).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[self.version])
            .expect("a version")
            .with_root_certificates(roots);
        let config = match self.shows {
            None => config.with_no_client_auth(),
            Some(leaf) => {
                let chain = CertificateDer::from_pem_slice(leaf.certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("a key");
                let chain = vec![chain.expect("a certificate")];
                config.with_client_auth_cert(chain, key).expect("its key")
            }
        };
        let name = ServerName::try_from("localhost").expect("a name");
        let connecting = async {
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from((from, 0)))?;
            let stream = socket.connect(to).await?;
            TlsConnector::from(Arc::new(config)).connect(name, stream).await
        };
        let stream = soon("a handshake", connecting).await?;
        Ok(Connection { stream })
    }

    /// The status and the text of one answer. An error if there is no secure connection.
    pub async fn get(self, address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
        self.connect(address).await?.get(path).await
    }
}

/// Takes connections within TLS and leads each to `inner`, which speaks in the clear: the protocol
/// is `protocol`, and nobody vouches for it but `authority`.
pub async fn veiled(authority: &Authority, protocol: &[u8], inner: SocketAddr) -> SocketAddr {
    let leaf = authority.server(1);
    let chain = CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("a version")
        .with_no_client_auth();
    let mut config = config.with_single_cert(vec![chain], key).expect("its key");
    config.alpn_protocols = vec![protocol.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Who is not believed, or goes away, ends its connection.
                let Ok(mut outer) = acceptor.accept(stream).await else { return };
                let Ok(mut inner) = TcpStream::connect(inner).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
            });
        }
    });
    address
}

/// A secure connection.
pub struct Connection {
    stream: TlsStream<TcpStream>,
}

impl Connection {
    /// What it goes over.
    pub fn into_stream(self) -> TlsStream<TcpStream> {
        self.stream
    }

    /// What the server has shown.
    pub fn shown(&self) -> Vec<u8> {
        let chain = self.stream.get_ref().1.peer_certificates();
        chain.and_then(<[_]>::first).expect("a certificate").to_vec()
    }

    /// As [`Visitor::get`], once more on this connection.
    pub async fn get(&mut self, path: &str) -> io::Result<(u16, String)> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let asking = async {
            self.stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            loop {
                let read = self.stream.read_buf(&mut answer).await?;
                let text = String::from_utf8_lossy(&answer).into_owned();
                if let Some((status, body)) = whole(&text) {
                    return Ok((status, body));
                }
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("an answer, or an end")
    }
}

/// The status and body, once all of it is there.
fn whole(text: &str) -> Option<(u16, String)> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
    (body.len() >= length).then(|| (status, body.to_owned()))
}
