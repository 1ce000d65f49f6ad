//! How a server protects itself: what its settings say, and which of them make no sense together.
//!
//! ```text
//!   nothing                     this machine only, in the clear, nobody is asked
//!   --tls-cert, --tls-key       encrypted; everyone is asked (--auth required is the default then)
//!   --tls-vault-pki             the same, with a certificate that Vault issues
//!   --tls-client-ca             clients may prove who they are by certificates
//!   --dev                       all of it, made on the spot, for this machine only
//!   --insecure                  beyond this machine without both: said aloud every minute
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;

use super::vault::VaultArgs;
use crate::config::{Exposure, is_this_machine};
use crate::node::{Life, Node, Phase};
use crate::security::first_admin::FIRST_ADMIN;
use crate::security::source::Source;
use crate::security::tls::{ClientsSettings, Demand, TlsSettings, Version};
use crate::security::vault::Keeper;
use crate::security::{Asks, Security, Settings, development};

/// The variable that may hold the first administrator's password.
const ADMIN_PASSWORD_VARIABLE: &str = "DAYBOOK_ADMIN_PASSWORD";

/// The setting that names it.
const ADMIN_PASSWORD_FILE: &str = "--admin-password-file";
/// How often a server says that it is not protected.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// How connections are protected, and who is asked for who they are: of every process that listens.
#[derive(Debug, Args)]
#[command(next_help_heading = "Security")]
pub struct ConnectionArgs {
    /// Encrypt connections: the server's certificate and those up to its authority, a PEM file
    #[arg(long, env = "DAYBOOK_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// The private key of that certificate, a PEM file
    #[arg(long, env = "DAYBOOK_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// Let clients prove who they are by certificates of these authorities, a PEM file; the
    /// common name is the user's login
    #[arg(long, env = "DAYBOOK_TLS_CLIENT_CA", value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,

    /// Whether a client must have such a certificate [default: optional]
    #[arg(long, env = "DAYBOOK_TLS_CLIENT_AUTH", value_name = "WHETHER", value_enum)]
    tls_client_auth: Option<ClientAuth>,

    /// Those authorities' lists of revoked certificates, a PEM file
    #[arg(long, env = "DAYBOOK_TLS_CRL", value_name = "FILE")]
    tls_crl: Option<PathBuf>,

    /// The oldest version of TLS that is spoken [default: 1.3]
    #[arg(long, env = "DAYBOOK_TLS_MIN", value_name = "VERSION", value_enum)]
    tls_min: Option<TlsMin>,

    /// Whether callers are asked who they are [default: required with TLS, else off]
    #[arg(long, env = "DAYBOOK_AUTH", value_name = "WHETHER", value_enum)]
    auth: Option<Auth>,

    /// Believe the tokens (JWT) of the issuer that this file describes
    #[arg(long, env = "DAYBOOK_JWT", value_name = "FILE")]
    jwt: Option<PathBuf>,
}

/// How a server protects itself, which has users.
#[derive(Debug, Args)]
#[command(next_help_heading = "Security")]
pub struct ProtectionArgs {
    #[command(flatten)]
    connections: ConnectionArgs,

    /// The password of the first administrator, in a file; DAYBOOK_ADMIN_PASSWORD may hold it, too
    /// [default: one of chance, shown once]
    #[arg(long, env = "DAYBOOK_ADMIN_PASSWORD_FILE", value_name = "FILE")]
    admin_password_file: Option<PathBuf>,

    /// To develop with: TLS with certificates made in the data directory, and an administrator
    /// whose password is shown; for this machine only
    #[arg(long, env = "DAYBOOK_DEV")]
    dev: bool,

    #[command(flatten)]
    pub(super) vault: VaultArgs,
}

/// Whether a client must have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ClientAuth {
    /// It may.
    Optional,
    /// It must.
    Required,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TlsMin {
    #[value(name = "1.2")]
    V12,
    #[value(name = "1.3")]
    V13,
}

/// Whether callers are asked who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Auth {
    /// Nobody is asked: every caller may do everything.
    Off,
    /// Everyone is asked.
    Required,
}

/// What is made of the settings.
#[derive(Debug)]
pub struct Protection {
    /// Of the node.
    pub settings: Settings,
    /// Who may reach it.
    pub exposure: Exposure,
    /// The password that the first administrator is given, if one is.
    admin_password: Option<Source>,
    /// What was made to develop with.
    pub development: Option<development::Made>,
}

impl ConnectionArgs {
    /// Reads them together, with a certificate that is `issued` instead of read from files, and
    /// `more` that makes no sense while nobody is asked.
    ///
    /// # Errors
    /// What makes no sense, and what to do.
    pub fn read(&self, issued: Option<Source>, more: &[(bool, &str)]) -> anyhow::Result<Settings> {
        let tls = self.tls(issued)?;
        let asks = match self.auth {
            Some(Auth::Off) => Asks::Nobody,
            Some(Auth::Required) => Asks::Everyone,
            None if tls.is_some() => Asks::Everyone,
            None => Asks::Nobody,
        };
        if asks == Asks::Nobody {
            let idle = [
                (self.jwt.is_some(), "--jwt"),
                (self.tls_client_ca.is_some() && !self.demands(), "--tls-client-ca"),
            ];
            if let Some((_, idle)) = idle.iter().chain(more).find(|(given, _)| *given) {
                bail!("{idle} has no use while nobody is asked who they are; say --auth required");
            }
        }
        let tokens = given("--jwt", self.jwt.as_ref())?;
        Ok(Settings { tls, asks, tokens })
    }

    fn demands(&self) -> bool {
        self.tls_client_auth == Some(ClientAuth::Required)
    }

    fn tls(&self, issued: Option<Source>) -> anyhow::Result<Option<TlsSettings>> {
        if issued.is_some() && (self.tls_cert.is_some() || self.tls_key.is_some()) {
            bail!(
                "a server has one certificate; give --tls-vault-pki, or --tls-cert and --tls-key"
            );
        }
        let certificate = given("--tls-cert", self.tls_cert.as_ref())?;
        let key = given("--tls-key", self.tls_key.as_ref())?;
        let (certificate, key) = match (certificate.or(issued.clone()), key.or(issued)) {
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(_), None) => bail!("--tls-cert needs its private key; give --tls-key, too"),
            (None, Some(_)) => bail!("--tls-key needs its certificate; give --tls-cert, too"),
            (None, None) => {
                let idle = [
                    (self.tls_client_ca.is_some(), "--tls-client-ca"),
                    (self.tls_client_auth.is_some(), "--tls-client-auth"),
                    (self.tls_crl.is_some(), "--tls-crl"),
                    (self.tls_min.is_some(), "--tls-min"),
                ];
                if let Some((_, idle)) = idle.iter().find(|(given, _)| *given) {
                    bail!("{idle} has no use without TLS; give --tls-cert and --tls-key, too");
                }
                return Ok(None);
            }
        };
        let clients = match &self.tls_client_ca {
            None if self.tls_crl.is_some() || self.tls_client_auth.is_some() => bail!(
                "--tls-crl and --tls-client-auth say which client certificates are believed; give \
                 --tls-client-ca, too"
            ),
            None => None,
            Some(authorities) => Some(ClientsSettings {
                authorities: Source::given("--tls-client-ca", authorities)?,
                demand: if self.demands() { Demand::Required } else { Demand::Optional },
                revoked: given("--tls-crl", self.tls_crl.as_ref())?,
            }),
        };
        let oldest = match self.tls_min {
            Some(TlsMin::V12) => Version::V12,
            Some(TlsMin::V13) | None => Version::V13,
        };
        Ok(Some(TlsSettings { certificate, key, clients, oldest }))
    }
}

impl ProtectionArgs {
    /// Reads them together. `data` is the data directory, `exposure` what was said of that.
    ///
    /// # Errors
    /// What makes no sense, and what to do; or what cannot be made to develop with.
    pub fn read(&self, data: &Path, exposure: Exposure) -> anyhow::Result<Protection> {
        if self.dev {
            return self.developing(data, exposure);
        }
        let admin_password = given(ADMIN_PASSWORD_FILE, self.admin_password_file.as_ref())?;
        let more = [(admin_password.is_some(), ADMIN_PASSWORD_FILE)];
        let settings = self.connections.read(self.vault.certificate()?, &more)?;
        let exposure = exposed(&settings, exposure);
        Ok(Protection { settings, exposure, admin_password, development: None })
    }

    fn developing(&self, data: &Path, exposure: Exposure) -> anyhow::Result<Protection> {
        let given = &self.connections;
        let more = given.tls_cert.is_some()
            || given.tls_key.is_some()
            || given.tls_client_ca.is_some()
            || given.tls_client_auth.is_some()
            || given.tls_crl.is_some()
            || given.tls_min.is_some()
            || given.auth.is_some()
            || self.admin_password_file.is_some()
            || !self.vault.is_unused();
        if more || exposure != Exposure::ThisMachine {
            bail!(
                "--dev makes certificates and an administrator of its own, for this machine only; \
                 leave out --tls-…, --auth, --admin-password-file, --vault-url and --insecure, or \
                 leave out --dev"
            );
        }
        let made = development::in_data(data)?;
        let clients = ClientsSettings {
            authorities: made.authority.clone().into(),
            demand: Demand::Optional,
            revoked: None,
        };
        let tls = TlsSettings {
            certificate: made.server.certificate.clone().into(),
            key: made.server.key.clone().into(),
            clients: Some(clients),
            oldest: Version::V13,
        };
        let tokens = self.connections.jwt.clone().map(Source::from);
        let settings = Settings { tls: Some(tls), asks: Asks::Everyone, tokens };
        let admin_password = made.password.clone().map(Source::from);
        // Everything that vouches for these certificates lies in the data directory.
        Ok(Protection { settings, exposure, admin_password, development: Some(made) })
    }
}

impl Protection {
    /// All that it rests on: files, and what is kept of Vault.
    #[must_use]
    pub fn sources(&self) -> Vec<&Source> {
        let mut sources = self.settings.sources();
        sources.extend(&self.admin_password);
        sources
    }

    /// The password that the first administrator is given, if one is.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn admin_password(&self) -> anyhow::Result<Option<String>> {
        if let Some(source) = &self.admin_password {
            return Ok(Some(source.read_secret(ADMIN_PASSWORD_FILE)?));
        }
        match std::env::var(ADMIN_PASSWORD_VARIABLE) {
            Ok(password) if !password.is_empty() => Ok(Some(password)),
            _ => Ok(None),
        }
    }

    /// Shows the first administrator's password if it was `made` at this start, or stands in a file
    /// to develop with: on standard error, and not by the log, which may go anywhere.
    pub fn introduce(&self, made: Option<String>, given: Option<String>) {
        let shown = given.filter(|_| self.development.is_some());
        if let Some(password) = made.or(shown) {
            eprintln!("\n  login      {FIRST_ADMIN}\n  password   {password}");
            if let Some(made) = &self.development {
                let ca = made.authority.display();
                eprintln!("  authority  {ca}   (--ca, tlsCaFile)\n");
            } else {
                eprintln!(
                    "\nThat password is shown this once, and is nowhere else: note it now.\n"
                );
            }
        }
    }

    /// Has certificates read again on SIGHUP, keeps what is kept of Vault as it is there, and says
    /// again and again what is not protected.
    ///
    /// # Errors
    /// If signals cannot be listened for.
    pub fn stand_guard(&self, node: &Node, keeper: Option<Keeper>) -> anyhow::Result<()> {
        let addresses = std::iter::once(node.address()).chain(node.admin_address());
        let addresses: Vec<SocketAddr> = addresses.collect();
        let context = node.context();
        let (security, life) = (context.security(), context.life());
        let asker = keeper.as_ref().map(Keeper::asker);
        if let Some(keeper) = keeper {
            tokio::spawn(keeper.watch(security.clone(), life.clone()));
        }
        stand_guard(&self.settings, &addresses, (security, life), asker)
    }

    /// `https` with TLS.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        scheme(&self.settings)
    }

    /// How the server protects itself, for people.
    #[must_use]
    pub fn in_words(&self, address: &SocketAddr) -> String {
        let encrypted = self.settings.tls.is_some();
        let local = is_this_machine(address);
        let asks = self.settings.asks == Asks::Everyone;
        match (encrypted, asks, local) {
            (false, false, true) => "none: not encrypted, no authentication; reachable from this \
                                     machine only"
                .to_owned(),
            (false, false, false) => "NONE: not encrypted, no authentication; whoever reaches \
                                      this address can do anything"
                .to_owned(),
            _ => format!(
                "{}; {}; reachable from {}",
                if encrypted { "TLS" } else { "NOT encrypted" },
                if asks { "everyone is asked who they are" } else { "NO authentication" },
                if local { "this machine only" } else { "other machines" }
            ),
        }
    }
}

/// What a setting names, if it is given.
fn given(what: &'static str, place: Option<&PathBuf>) -> anyhow::Result<Option<Source>> {
    Ok(place.map(|place| Source::given(what, place)).transpose()?)
}

/// Who may come, given what was said of that.
#[must_use]
pub fn exposed(settings: &Settings, said: Exposure) -> Exposure {
    let protected = settings.tls.is_some() && settings.asks == Asks::Everyone;
    if said == Exposure::ThisMachine && protected { Exposure::Protected } else { said }
}

/// `https` with TLS.
#[must_use]
pub fn scheme(settings: &Settings) -> &'static str {
    if settings.tls.is_some() { "https" } else { "http" }
}

/// Has certificates read again on SIGHUP (and `asker` look at Vault), and says again and again what
/// is not protected of a process that listens at `addresses`.
///
/// # Errors
/// If signals cannot be listened for.
pub fn stand_guard(
    settings: &Settings,
    addresses: &[SocketAddr],
    (security, life): (&Security, &Life),
    asker: Option<Arc<Notify>>,
) -> anyhow::Result<()> {
    let protected = settings.tls.is_some() && settings.asks == Asks::Everyone;
    if !protected && !addresses.iter().all(is_this_machine) {
        life.metrics().security.insecure();
        tokio::spawn(warn_again(life.clone()));
    }
    // Without anything to read again the signal stays what it is: the terminal has gone.
    if settings.tls.is_some() || settings.tokens.is_some() {
        let hangups = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        tokio::spawn(reload_on(hangups, asker, security.clone(), life.clone()));
    }
    Ok(())
}

/// Says every minute that the server is not protected.
async fn warn_again(life: Life) {
    let mut interval = tokio::time::interval(WARN_INTERVAL);
    loop {
        tokio::select! {
            _ = interval.tick() => tracing::warn!(
                "--insecure: other machines reach this server, and connections are not encrypted \
                 or nobody is asked who they are; give --tls-cert and --tls-key"
            ),
            () = life.reached(Phase::Draining) => return,
        }
    }
}

async fn reload_on(
    mut hangups: Signal,
    asker: Option<Arc<Notify>>,
    security: Security,
    life: Life,
) {
    loop {
        tokio::select! {
            _ = hangups.recv() => {}
            () = life.reached(Phase::Draining) => return,
        }
        if let Some(asker) = &asker {
            asker.notify_one();
        }
        match security.reload().await {
            Ok(()) => tracing::info!("SIGHUP: certificates and keys are as their files say"),
            Err(reason) => tracing::error!(
                reason,
                "SIGHUP: files of certificates or keys cannot be used; the ones before stay"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        protection: ProtectionArgs,
    }

    fn read(arguments: &str, exposure: Exposure) -> anyhow::Result<Protection> {
        let arguments = std::iter::once("daybook").chain(arguments.split_whitespace());
        Cli::try_parse_from(arguments)?.protection.read(Path::new("nowhere"), exposure)
    }

    #[test]
    fn what_is_said_decides_who_is_asked_and_who_may_come() {
        use Asks::{Everyone, Nobody};
        use Exposure::{Anyone, Protected, ThisMachine};
        let tls = "--tls-cert c --tls-key k";
        let issued = "--tls-vault-pki pki/daybook --tls-vault-names db";
        for (arguments, said, asks, exposure) in [
            (String::new(), ThisMachine, Nobody, ThisMachine),
            (tls.to_owned(), ThisMachine, Everyone, Protected),
            (format!("{tls} --auth off"), ThisMachine, Nobody, ThisMachine),
            (format!("{tls} --auth off"), Anyone, Nobody, Anyone),
            ("--auth required".to_owned(), ThisMachine, Everyone, ThisMachine),
            ("--auth required --jwt f".to_owned(), Anyone, Everyone, Anyone),
            (format!("{tls} --tls-client-ca a --tls-crl r"), ThisMachine, Everyone, Protected),
            (format!("{issued} --tls-min 1.2"), ThisMachine, Everyone, Protected),
        ] {
            let found = read(&arguments, said).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((found.settings.asks, found.exposure), (asks, exposure), "{arguments}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_to_do() {
        for (arguments, advice) in [
            ("--tls-cert c", "--tls-key"),
            ("--tls-key k", "--tls-cert"),
            ("--tls-client-ca a", "--tls-cert"),
            ("--tls-min 1.2", "--tls-cert"),
            ("--tls-cert c --tls-key k --tls-crl r", "--tls-client-ca"),
            ("--tls-cert c --tls-key k --tls-client-ca a --auth off", "--auth required"),
            ("--jwt f", "--auth required"),
            ("--admin-password-file f", "--auth required"),
            ("--dev --auth off", "leave out"),
            ("--dev --vault-url https://v", "leave out"),
            ("--tls-vault-pki pki/daybook", "--tls-vault-names"),
            ("--tls-vault-pki pki --tls-vault-names db", "MOUNT/ROLE"),
            ("--tls-cert c --tls-vault-pki p/d --tls-vault-names db", "one certificate"),
            ("--tls-cert c --tls-key vault:secret", "vault:MOUNT/PATH#FIELD"),
        ] {
            let refused = read(arguments, Exposure::ThisMachine).expect_err(arguments).to_string();
            assert!(refused.contains(advice), "{arguments}: {refused}");
        }
        assert!(read("--dev", Exposure::Anyone).is_err());
    }
}
