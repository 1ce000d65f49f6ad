//! TLS as a client: who is trusted, who we are, and what a failed handshake means.
//!
//! INVARIANT: one provider of cryptography, aws-lc-rs, named here and never taken from a process'
//! default: what a connection is worth does not depend on what else is linked.

use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme,
};

use crate::connection::ConnectError;
use crate::connection::channel::NotConnected;
use crate::settings::{NodeAddress, Tls, Verification};

/// The one protocol that is spoken within.
const ALPN: &[u8] = b"h2";
const NO_HTTP2: &str =
    "it speaks TLS, but not gRPC (HTTP/2) within; is the port that of the store?";

/// What makes a TCP connection a secure one.
#[derive(Clone)]
pub(super) struct Security {
    connector: TlsConnector,
    verification: Verification,
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Security");
        shown.field("verification", &self.verification).finish_non_exhaustive()
    }
}

impl Security {
    /// Reads the files that `tls` names.
    ///
    /// # Errors
    /// [`ConnectError`] names the file and what is wrong with it.
    pub(super) fn new(tls: &Tls) -> Result<Security, ConnectError> {
        let connector = connector(tls, ALPN)?;
        Ok(Security { connector, verification: tls.verification })
    }

    /// Makes `tcp` a secure connection to `node`.
    pub(super) async fn greet(
        &self,
        node: NodeAddress,
        tcp: TcpStream,
    ) -> Result<TlsStream<TcpStream>, NotConnected> {
        if self.verification == Verification::Off {
            tracing::warn!(
                %node,
                "the server's certificate is NOT checked (tlsVerifyCert=false): whoever answers is \
                 believed and may read and change everything; set tlsCaFile instead"
            );
        }
        let host = node.host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = match ServerName::try_from(host) {
            Ok(name) => name,
            Err(error) => {
                let reason = format!("no certificate can be for this name: {error}");
                return Err(NotConnected::Insecure { node, reason });
            }
        };
        let stream = match self.connector.connect(name, tcp).await {
            Ok(stream) => stream,
            Err(error) => return Err(refusal(node, error)),
        };
        if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(NotConnected::Insecure { node, reason: NO_HTTP2.to_owned() });
        }
        Ok(stream)
    }
}

/// What makes a TCP connection a secure one, within which `protocol` is spoken (`h2`,
/// `http/1.1`): for those who speak to a server otherwise than by a [`crate::Client`]. Reads the
/// files that `tls` names.
///
/// # Errors
/// [`ConnectError`] names the file and what is wrong with it.
pub fn connector(tls: &Tls, protocol: &[u8]) -> Result<TlsConnector, ConnectError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let failed = |error: Error| ConnectError::Tls { reason: error.to_string() };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    let builder = match tls.verification {
        Verification::Full => builder.with_root_certificates(roots(tls.ca_file.as_deref())?),
        Verification::Off => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified { provider }))
        }
    };
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = certificates("userCertFile", &identity.certificate_file)?;
            let key = PrivateKeyDer::from_pem_file(&identity.key_file).map_err(|error| {
                let found = error.to_string();
                bad("userKeyFile", &identity.key_file, &found, "a private key in PEM form")
            })?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                let fit = "the private key of userCertFile's certificate";
                bad("userKeyFile", &identity.key_file, &error.to_string(), fit)
            })?
        }
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Who may vouch for a server.
fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = ca_file else {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "a certificate of this machine's authorities cannot be used");
        }
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let reason = "this machine has no certificates of authorities; install them (package \
                          ca-certificates), or name a file with tlsCaFile";
            return Err(ConnectError::Tls { reason: reason.to_owned() });
        }
        return Ok(roots);
    };
    for certificate in certificates("tlsCaFile", path)? {
        roots.add(certificate).map_err(|error| {
            bad("tlsCaFile", path, &error.to_string(), "certificates of authorities in PEM form")
        })?;
    }
    Ok(roots)
}

/// All certificates of a PEM file; at least one.
fn certificates(
    option: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let takes = "at least one certificate in PEM form";
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad(option, path, &error.to_string(), takes))?;
    if found.is_empty() {
        return Err(bad(option, path, "it has no certificate", takes));
    }
    Ok(found)
}

fn bad(option: &'static str, path: &Path, found: &str, takes: &str) -> ConnectError {
    let reason = format!("{found}; it must hold {takes}");
    ConnectError::BadFile { option, path: path.to_owned(), reason }
}

/// What a failed handshake means, and what to do about it.
fn refusal(node: NodeAddress, error: std::io::Error) -> NotConnected {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<Error>());
    let advice = match cause {
        // The network's fault, not the certificate's.
        None if error.kind() != std::io::ErrorKind::UnexpectedEof => {
            return NotConnected::Unreachable { node, reason: Box::new(error) };
        }
        None | Some(Error::InvalidMessage(_)) => {
            "does it speak TLS at all? If not, and the network between is yours, set tls=false"
        }
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "nobody whom this client trusts vouches for its certificate; name its authority's \
             certificate with tlsCaFile"
        }
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "its certificate is for other names; connect to it by one of them",
        Some(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => "its certificate has expired; renew it, or correct this machine's clock",
        Some(Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => NO_HTTP2,
        Some(Error::AlertReceived(_)) => {
            "it refuses us; if it asks clients for certificates, set userCertFile and userKeyFile"
        }
        Some(_) => "check its certificate and its TLS settings",
    };
    NotConnected::Insecure { node, reason: format!("{error}; {advice}") }
}

/// Believes whoever answers; checks only that they have the key of the certificate they show.
#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
