//! Authorities, and what they vouch for, made anew for each test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// Somebody who vouches for others.
pub struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
pub struct Leaf {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

/// Whether a server asks its clients who they are.
pub enum Clients<'a> {
    Anybody,
    VouchedForBy(&'a Authority),
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate for `name`, by this authority.
    pub fn vouch_for(&self, name: &str) -> Leaf {
        self.vouch(CertificateParams::new(vec![name.to_owned()]).expect("a name"))
    }

    /// A certificate for `name` that has expired.
    pub fn vouched_once_for(&self, name: &str) -> Leaf {
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.not_after = date_time_ymd(2001, 1, 1);
        self.vouch(params)
    }

    fn vouch(&self, params: CertificateParams) -> Leaf {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Leaf { certificate, key }
    }

    /// Its own certificate, in a file.
    pub fn file(&self, directory: &TempDir, name: &str) -> PathBuf {
        write(directory.path(), name, &self.certificate.pem())
    }
}

impl Leaf {
    /// Certificate and key, in files.
    pub fn files(&self, directory: &TempDir, name: &str) -> (PathBuf, PathBuf) {
        let certificate = format!("{name}.crt");
        let certificate = write(directory.path(), &certificate, &self.certificate.pem());
        let key = write(directory.path(), &format!("{name}.key"), &self.key.serialize_pem());
        (certificate, key)
    }

    /// TLS as a server that is this, for these clients.
    pub fn acceptor(&self, clients: Clients<'_>) -> TlsAcceptor {
        self.acceptor_within(&[b"h2"], clients)
    }

    /// As before, for other protocols than ours within.
    pub fn acceptor_within(&self, protocols: &[&[u8]], clients: Clients<'_>) -> TlsAcceptor {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider's own versions");
        let builder = match clients {
            Clients::Anybody => builder.with_no_client_auth(),
            Clients::VouchedForBy(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.certificate.der().clone()).expect("an authority");
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let chain: Vec<CertificateDer<'static>> = vec![self.certificate.der().clone()];
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key");
        let mut config = builder.with_single_cert(chain, key).expect("its key");
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A file with `text`.
#[expect(clippy::disallowed_methods, reason = "a test arranges files")]
pub fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("a file");
    path
}
