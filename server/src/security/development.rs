//! Certificates to develop and test with: an authority, a server and a client that it vouches for.
//!
//! INVARIANT: what is made is for one machine or one test; no file that exists is written over.

use std::path::{Path, PathBuf};

use daybook_model::{Clock as _, SystemClock};
use jiff::ToSpan as _;
use jiff::civil::Date;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::files::{self, FileError};
use super::first_admin::{FIRST_ADMIN, password};

/// Days that such certificates hold: a year, so that nobody grows used to them.
pub const DAYS: i32 = 365;
/// Where in the data directory `--dev` keeps them.
const DIRECTORY: &str = "dev";
/// The names of this machine.
pub const HOSTS_DEFAULT: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// The setting, as messages name it.
const WHAT: &str = "the certificates' file";

/// The files that were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The authority's certificate.
    pub authority: PathBuf,
    /// Its private key: whoever has it can make certificates that are believed.
    pub authority_key: PathBuf,
    /// The server's.
    pub server: Pair,
    /// A client's.
    pub client: Pair,
    /// The administrator's password, if one was made.
    pub password: Option<PathBuf>,
}

/// A certificate and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// PEM file of the certificate.
    pub certificate: PathBuf,
    /// PEM file of the key.
    pub key: PathBuf,
}

/// Why none could be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A name, or the machine's clock, is beyond what certificates can say.
    #[error("certificates cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// The places of the files in `directory`.
fn places(directory: &Path) -> Made {
    let pair = |name: &str| Pair {
        certificate: directory.join(format!("{name}.crt")),
        key: directory.join(format!("{name}.key")),
    };
    let authority = pair("ca");
    Made {
        authority: authority.certificate,
        authority_key: authority.key,
        server: pair("server"),
        client: pair("client"),
        password: None,
    }
}

/// Makes them in `directory`: the server's for `hosts`, the client's for the user `login`.
///
/// # Errors
/// [`MakeError`] if one of the files is there already, or a name cannot be in a certificate.
pub fn make(directory: &Path, hosts: &[String], login: &str) -> Result<Made, MakeError> {
    let made = places(directory);
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(DnType::CommonName, "Daybook development authority");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    hold(&mut params);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    files::make_directory(WHAT, directory)?;
    files::write_new(WHAT, &made.authority, &certificate.pem())?;
    files::write_new(WHAT, &made.authority_key, &key.serialize_pem())?;
    let issuer = Issuer::new(params, key);
    let server = CertificateParams::new(hosts)?;
    let name = hosts.first().map_or("localhost", String::as_str);
    let usage = ExtendedKeyUsagePurpose::ServerAuth;
    vouch(&issuer, &made.server, (server, name, usage))?;
    let client = CertificateParams::new(Vec::new())?;
    let usage = ExtendedKeyUsagePurpose::ClientAuth;
    vouch(&issuer, &made.client, (client, login, usage))?;
    Ok(made)
}

/// Writes a certificate of `issuer`.
fn vouch(
    issuer: &Issuer<'_, KeyPair>,
    to: &Pair,
    (mut params, name, usage): (CertificateParams, &str, ExtendedKeyUsagePurpose),
) -> Result<(), MakeError> {
    hold(&mut params);
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    files::write_new(WHAT, &to.certificate, &certificate.pem())?;
    files::write_new(WHAT, &to.key, &key.serialize_pem())?;
    Ok(())
}

/// Those in the data directory, made if they are not there; with the administrator's password.
///
/// # Errors
/// [`MakeError`]
pub fn in_data(data: &Path) -> Result<Made, MakeError> {
    let directory = data.join(DIRECTORY);
    let kept = directory.join("admin-password");
    let mut made = places(&directory);
    if !made.server.certificate.exists() {
        let hosts = HOSTS_DEFAULT.map(str::to_owned);
        made = make(&directory, &hosts, FIRST_ADMIN)?;
    }
    if !kept.exists() {
        let secret = password(&daybook_model::SystemEntropy);
        files::write_new("--dev", &kept, &format!("{secret}\n"))?;
    }
    made.password = Some(kept);
    Ok(made)
}

/// From the day before, because clocks differ, for as long as they hold.
fn hold(params: &mut CertificateParams) {
    let seconds = SystemClock::new().now().0 / 1_000_000_000;
    let now = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let today = now.to_zoned(jiff::tz::TimeZone::UTC).date();
    let part = |number: i8| u8::try_from(number).unwrap_or(1);
    let at =
        |date: Date| date_time_ymd(i32::from(date.year()), part(date.month()), part(date.day()));
    params.not_before = at(today.saturating_sub(1.day()));
    params.not_after = at(today.saturating_add(DAYS.days()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exists_is_not_written_over() {
        let directory = tempfile::TempDir::new().expect("a directory");
        let hosts = ["localhost".to_owned()];
        let made = make(directory.path(), &hosts, "ada").expect("made");
        assert!(made.client.key.exists());
        let again = make(directory.path(), &hosts, "ada").expect_err("they are there");
        assert!(again.to_string().contains("ca.crt"), "{again}");
    }

    #[test]
    fn what_a_data_directory_has_is_used_again() {
        let directory = tempfile::TempDir::new().expect("a directory");
        let first = in_data(directory.path()).expect("made");
        let read = |made: &Made| {
            let password = made.password.clone().expect("a password");
            files::read_secret("", &password).expect("read")
        };
        let (made, secret) = (first.clone(), read(&first));
        let second = in_data(directory.path()).expect("found");
        assert_eq!((second.clone(), read(&second)), (made, secret.clone()));
        assert_eq!(secret.len(), 40);
    }
}
