//! Authorities, and what they vouch for, made anew for each test.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason,
    RevokedCertParams, SerialNumber, date_time_ymd,
};

/// Somebody who vouches for others.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM form.
pub struct Leaf {
    pub certificate: String,
    pub key: String,
    serial: SerialNumber,
}

/// How long a certificate holds.
#[derive(Clone, Copy)]
pub enum Holds {
    Now,
    Once,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    /// A server's certificate for this machine.
    pub fn server(&self, serial: u64) -> Leaf {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let params = CertificateParams::new(names).expect("names");
        self.vouch(params, serial, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's certificate with this common name.
    pub fn client(&self, login: &str, serial: u64, holds: Holds) -> Leaf {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, login);
        if matches!(holds, Holds::Once) {
            params.not_after = date_time_ymd(2001, 1, 1);
        }
        self.vouch(params, serial, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn vouch(
        &self,
        mut params: CertificateParams,
        serial: u64,
        usage: ExtendedKeyUsagePurpose,
    ) -> Leaf {
        let serial = SerialNumber::from(serial);
        params.serial_number = Some(serial.clone());
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Leaf { certificate, key: key.serialize_pem(), serial }
    }

    /// A list of these as revoked, in PEM form.
    pub fn revoking(&self, revoked: &[&Leaf]) -> String {
        let revoked_certs = revoked.iter().map(|leaf| RevokedCertParams {
            serial_number: leaf.serial.clone(),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).expect("a list").pem().expect("PEM")
    }

    /// Its own certificate, in PEM form.
    pub fn pem(&self) -> &str {
        &self.pem
    }
}

/// A file with `text`.
pub fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("a file");
    path
}
