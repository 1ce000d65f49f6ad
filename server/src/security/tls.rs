//! TLS as a server: which certificate is shown, whose certificates are believed, and how both are
//! exchanged while connections are open.
//!
//! ```text
//!   files ── look, every ten seconds, on SIGHUP, when asked ──> changed? ──> ServerConfig
//!                                                                 │ cannot be used: the one
//!                                                                 v before stays, and it is told
//!   connection ─> acceptor() ─> handshake with what is current ─> ClientCertificate
//! ```
//!
//! INVARIANTS: one provider of cryptography, aws-lc-rs, named here and never taken from a process'
//! default. No session is resumed: each connection proves anew who it is, so that a certificate
//! that was revoked meanwhile is refused. A connection keeps what it was made with.

mod certificate;

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use daybook_model::Timestamp;
use parking_lot::Mutex;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::files::FileError;
use super::source::Source;
use crate::telemetry::security::SecurityMetrics;
pub use certificate::{ClientCertificate, not_after};

/// What is spoken within, the better one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// How connections are encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM file of the server's certificate and those between it and its authority.
    pub certificate: Source,
    /// PEM file of its private key; may be the same.
    pub key: Source,
    /// What is asked of clients, if anything is.
    pub clients: Option<ClientsSettings>,
    /// The oldest version that is spoken.
    pub oldest: Version,
}

/// Which certificates of clients are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientsSettings {
    /// PEM file of the authorities that may vouch for clients.
    pub authorities: Source,
    /// Whether a client must have a certificate.
    pub demand: Demand,
    /// PEM file of those authorities' lists of revoked certificates.
    pub revoked: Option<Source>,
}

/// Whether a client must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// It may show one.
    Optional,
    /// Without one there is no connection.
    Required,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 1.2, for clients that know no better.
    V12,
    /// 1.3
    V13,
}

/// TLS as a server. A clone is another handle.
#[derive(Clone)]
pub struct Tls {
    inner: Arc<Inner>,
}

struct Inner {
    settings: TlsSettings,
    current: ArcSwap<ServerConfig>,
    seen: Mutex<Seen>,
    looking: Mutex<()>,
    metrics: SecurityMetrics,
}

/// What the files held when they were last looked at, and what came of it.
struct Seen {
    digest: Option<blake3::Hash>,
    wrong: Option<String>,
}

/// What the files of the settings hold.
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authorities: Option<Vec<u8>>,
    revoked: Option<Vec<u8>>,
}

/// What is made of them.
struct Loaded {
    config: ServerConfig,
    not_after: Timestamp,
}

impl Tls {
    /// Reads the files that `settings` name.
    ///
    /// # Errors
    /// [`FileError`] names the file and what is wrong with it.
    pub fn load(settings: TlsSettings, metrics: SecurityMetrics) -> Result<Tls, FileError> {
        let contents = Contents::read(&settings)?;
        let loaded = build(&settings, &contents)?;
        metrics.certificate_not_after(loaded.not_after);
        let seen = Seen { digest: Some(contents.digest()), wrong: None };
        let inner = Inner {
            settings,
            current: ArcSwap::from_pointee(loaded.config),
            seen: Mutex::new(seen),
            looking: Mutex::new(()),
            metrics,
        };
        Ok(Tls { inner: Arc::new(inner) })
    }

    /// What makes the next connection a secure one.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.inner.current.load_full())
    }

    /// Takes up what has changed in the files.
    ///
    /// # Errors
    /// What is wrong with them. What was in use stays in use.
    pub async fn look(&self) -> Result<(), String> {
        let inner = self.inner.clone();
        let looked = tokio::task::spawn_blocking(move || inner.look()).await;
        looked.unwrap_or_else(|failed| Err(format!("looking at certificates failed: {failed}")))
    }
}

impl Inner {
    fn look(&self) -> Result<(), String> {
        // One after the other: what was read first must not be taken up last.
        let _looking = self.looking.lock();
        let contents = match Contents::read(&self.settings) {
            Ok(contents) => contents,
            Err(error) => return self.failed(None, &error),
        };
        let digest = contents.digest();
        {
            let seen = self.seen.lock();
            if seen.digest == Some(digest) {
                return seen.wrong.clone().map_or(Ok(()), Err);
            }
        }
        match build(&self.settings, &contents) {
            Err(error) => self.failed(Some(digest), &error),
            Ok(loaded) => {
                self.current.store(Arc::new(loaded.config));
                self.metrics.certificate_not_after(loaded.not_after);
                *self.seen.lock() = Seen { digest: Some(digest), wrong: None };
                tracing::info!(
                    ends_s = loaded.not_after.0 / 1_000_000_000,
                    "certificates were changed: new connections use the new ones"
                );
                Ok(())
            }
        }
    }

    /// Counts each failure once, however often it is looked at.
    fn failed(&self, digest: Option<blake3::Hash>, error: &FileError) -> Result<(), String> {
        let wrong = error.to_string();
        let mut seen = self.seen.lock();
        if seen.wrong.as_ref() != Some(&wrong) {
            self.metrics.reload_failed();
        }
        *seen = Seen { digest, wrong: Some(wrong.clone()) };
        Err(wrong)
    }
}

impl Contents {
    fn read(settings: &TlsSettings) -> Result<Contents, FileError> {
        let clients = settings.clients.as_ref();
        let authorities = clients.map(|clients| clients.authorities.read(CLIENT_CA));
        let revoked = clients.and_then(|clients| clients.revoked.as_ref());
        let certificate = settings.certificate.read(CERTIFICATE)?;
        // Read once where it is one place: it may change between two reads.
        let is_one = settings.key == settings.certificate;
        let key = if is_one { certificate.clone() } else { settings.key.read(KEY)? };
        Ok(Contents {
            certificate,
            key,
            authorities: authorities.transpose()?,
            revoked: revoked.map(|list| list.read(CRL)).transpose()?,
        })
    }

    fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        let nothing: &[u8] = &[];
        let optional = [&self.authorities, &self.revoked];
        let optional = optional.map(|file| file.as_deref().unwrap_or(nothing));
        for file in [&self.certificate, &self.key, optional[0], optional[1]] {
            hasher.update(&(file.len() as u64).to_le_bytes()).update(file);
        }
        hasher.finalize()
    }
}

/// The settings, as messages name them.
const CERTIFICATE: &str = "--tls-cert";
const KEY: &str = "--tls-key";
const CLIENT_CA: &str = "--tls-client-ca";
const CRL: &str = "--tls-crl";

fn build(settings: &TlsSettings, contents: &Contents) -> Result<Loaded, FileError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions: &[&SupportedProtocolVersion] = match settings.oldest {
        Version::V12 => &[&TLS13, &TLS12],
        Version::V13 => &[&TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .expect("the provider speaks both versions");
    let builder = match (&settings.clients, &contents.authorities) {
        (Some(clients), Some(authorities)) => {
            let roots = roots(clients.authorities.place(), authorities)?;
            let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            if let (Some(path), Some(revoked)) = (&clients.revoked, &contents.revoked) {
                // The certificates between a client's and its authority are those of the file of
                // authorities' owner: it is the clients' own that are revoked. An authority without
                // a list in the file vouches for nobody.
                verifier = verifier
                    .with_crls(lists(path.place(), revoked)?)
                    .only_check_end_entity_revocation();
            }
            if clients.demand == Demand::Optional {
                verifier = verifier.allow_unauthenticated();
            }
            let verifier = verifier.build().map_err(|error| {
                FileError::new(CLIENT_CA, clients.authorities.place(), error.to_string())
            })?;
            builder.with_client_cert_verifier(verifier)
        }
        _ => builder.with_no_client_auth(),
    };
    let (certificate, key) = (settings.certificate.place(), settings.key.place());
    let chain = certificates(CERTIFICATE, certificate, &contents.certificate)?;
    let not_after = certificate::not_after(&chain[0])
        .map_err(|reason| FileError::new(CERTIFICATE, certificate, reason))?;
    let private = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|error| {
        let reason = format!("{error}; it must hold a private key in PEM form");
        FileError::new(KEY, key, reason)
    })?;
    let mut config = builder.with_single_cert(chain, private).map_err(|error| {
        let reason = format!("{error}; it must hold the private key of the certificate");
        FileError::new(KEY, key, reason)
    })?;
    config.alpn_protocols = PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Loaded { config, not_after })
}

fn roots(path: &Path, pem: &[u8]) -> Result<Arc<RootCertStore>, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(CLIENT_CA, path, pem)? {
        roots
            .add(certificate)
            .map_err(|error| FileError::new(CLIENT_CA, path, error.to_string()))?;
    }
    Ok(Arc::new(roots))
}

/// All certificates of a PEM file; at least one.
fn certificates(
    what: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(FileError::new(what, path, "it has no certificate in PEM form")),
        Err(error) => Err(FileError::new(what, path, error.to_string())),
    }
}

/// All lists of revoked certificates of a PEM file; at least one.
fn lists(path: &Path, pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, FileError> {
    let found = CertificateRevocationListDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(FileError::new(CRL, path, "it has no list (X509 CRL) in PEM form")),
        Err(error) => Err(FileError::new(CRL, path, error.to_string())),
    }
}
