//! A certificate that Vault's PKI engine issues, with its key.
//!
//! INVARIANT: the key is made by Vault, comes over TLS, and never touches a disk here.

use std::net::IpAddr;
use std::time::Duration;

use daybook_model::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

use super::call::malformed;
use super::fault::Fault;
use super::name::check_path;
use crate::security::tls::not_after;

/// Names in one certificate: a service has a handful.
const NAMES_MAX: usize = 100;

/// What certificate is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateWish {
    mount: String,
    role: String,
    names: Vec<String>,
    life: Option<Duration>,
}

/// What was issued.
pub struct Issued {
    /// The key, the certificate and those above it, as PEM.
    pub pem: Vec<u8>,
    /// When the certificate ends.
    pub not_after: Timestamp,
}

#[derive(Deserialize)]
struct Parts {
    certificate: String,
    private_key: String,
    #[serde(default)]
    issuing_ca: String,
    #[serde(default)]
    ca_chain: Vec<String>,
}

impl CertificateWish {
    /// By the role that `engine` names, as MOUNT/ROLE, for a server that is called so; it lives as
    /// long as is given, else as long as the role says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(
        engine: &str,
        names: Vec<String>,
        life: Option<Duration>,
    ) -> Result<CertificateWish, String> {
        check_path(engine)?;
        let (mount, role) = engine.rsplit_once('/').ok_or("give MOUNT/ROLE")?;
        if names.is_empty() || names.len() > NAMES_MAX {
            return Err(format!("give one to {NAMES_MAX} names"));
        }
        if let Some(wrong) = names.iter().find(|name| name.is_empty() || name.contains(',')) {
            return Err(format!("'{wrong}' is no name of a server"));
        }
        Ok(CertificateWish { mount: mount.to_owned(), role: role.to_owned(), names, life })
    }

    /// The path to ask for it.
    #[must_use]
    pub fn url_path(&self) -> String {
        format!("{}/issue/{}", self.mount, self.role)
    }

    /// What is asked.
    #[must_use]
    pub fn body(&self) -> Value {
        let is_address = |name: &&String| name.parse::<IpAddr>().is_ok();
        let (addresses, hosts): (Vec<&String>, Vec<&String>) =
            self.names.iter().partition(is_address);
        let listed = |names: &[&String]| {
            names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(",")
        };
        let mut body = Map::new();
        body.insert("format".to_owned(), json!("pem"));
        // An address is no common name; a role may do without one (require_cn=false).
        if let Some((first, others)) = hosts.split_first() {
            body.insert("common_name".to_owned(), json!(first));
            body.insert("alt_names".to_owned(), json!(listed(others)));
        }
        body.insert("ip_sans".to_owned(), json!(listed(&addresses)));
        if let Some(life) = self.life {
            body.insert("ttl".to_owned(), json!(format!("{}s", life.as_secs())));
        }
        Value::Object(body)
    }
}

/// What is in the answer to it.
///
/// # Errors
/// [`Fault`] if that is no certificate with its key.
pub fn issued(data: Value) -> Result<Issued, Fault> {
    let parts: Parts = serde_json::from_value(data).map_err(|error| malformed(&error))?;
    let wrong = |reason: String| Fault::Certificate(reason);
    let leaf = CertificateDer::from_pem_slice(parts.certificate.as_bytes());
    let leaf = leaf.map_err(|_| wrong("it has none in PEM form".to_owned()))?;
    let not_after = not_after(&leaf).map_err(wrong)?;
    let above = if parts.ca_chain.is_empty() { vec![parts.issuing_ca] } else { parts.ca_chain };
    let mut pem = String::new();
    for part in [&parts.private_key, &parts.certificate].into_iter().chain(&above) {
        pem.push_str(part.trim());
        pem.push('\n');
    }
    Ok(Issued { pem: pem.into_bytes(), not_after })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(engine: &str, names: &[&str]) -> Result<CertificateWish, String> {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        CertificateWish::new(engine, names, Some(Duration::from_secs(90)))
    }

    #[test]
    fn names_and_addresses_are_asked_for_as_what_they_are() {
        let asked = wish("team/pki/daybook", &["10.0.0.1", "db.bank.example", "db", "::1"]);
        let asked = asked.expect("a wish");
        assert_eq!(asked.url_path(), "team/pki/issue/daybook");
        let expected = json!({
            "format": "pem", "common_name": "db.bank.example", "alt_names": "db",
            "ip_sans": "10.0.0.1,::1", "ttl": "90s",
        });
        assert_eq!(asked.body(), expected);
        for (engine, names) in [
            ("pki", &["db"][..]),
            ("pki/../daybook", &["db"]),
            ("pki/daybook", &[]),
            ("pki/daybook", &["a,b"]),
            ("pki/daybook", &[""]),
        ] {
            assert!(wish(engine, names).is_err(), "{engine} {names:?}");
        }
    }

    #[test]
    fn an_answer_without_a_certificate_is_none() {
        for data in [
            Value::Null,
            json!({"certificate": "none", "private_key": "hush"}),
            json!({"certificate": "none"}),
        ] {
            let fault = issued(data).err().expect("no certificate").to_string();
            assert!(!fault.contains("hush"), "{fault}");
        }
    }
}
