//! What a certificate says.

use aws_lc_rs::digest::{SHA256, digest};
use daybook_model::Timestamp;
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::security::files::hex;

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

/// The certificate that a client showed, and for which one of our authorities vouches; among its
/// requests' extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Of its subject: the login of a user.
    pub common_name: Option<String>,
    /// SHA-256 of all of it, as hexadecimal digits.
    pub fingerprint: String,
    /// When it ends.
    pub not_after: Timestamp,
}

impl ClientCertificate {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(der: &CertificateDer<'_>) -> Result<ClientCertificate, String> {
        let certificate = parse(der)?;
        let mut names = certificate.subject().iter_common_name();
        let common_name = names.next().and_then(|name| name.as_str().ok());
        // Two names are none: nobody must choose between them.
        let common_name = common_name.filter(|_| names.next().is_none());
        Ok(ClientCertificate {
            common_name: common_name.map(str::to_owned),
            fingerprint: hex(digest(&SHA256, der).as_ref()),
            not_after: end(&certificate),
        })
    }
}

/// When a certificate ends.
///
/// # Errors
/// What is wrong with it.
pub fn not_after(der: &CertificateDer<'_>) -> Result<Timestamp, String> {
    parse(der).map(|certificate| end(&certificate))
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    match X509Certificate::from_der(der) {
        Ok((_, certificate)) => Ok(certificate),
        Err(error) => Err(format!("it cannot be read: {error}")),
    }
}

fn end(certificate: &X509Certificate<'_>) -> Timestamp {
    Timestamp(certificate.validity().not_after.timestamp().saturating_mul(SECOND))
}
