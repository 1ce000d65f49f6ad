//! The options of a server that has secrets, or its certificate, in Vault.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::security::source::Source;
use crate::security::vault::{
    Auth, CertificateWish, Held, Keeper, POLL_DEFAULT, Seams, Settings, TIMEOUT, TOKEN_FILE,
    VaultUrl, check_path,
};

/// How often secrets may be looked at: no more often than this.
const POLL_MIN: Duration = Duration::from_secs(1);
/// And no less: what was taken back is used no longer.
const POLL_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The shortest life of a certificate: it is renewed after two thirds, and Vault may be slow.
const LIFE_MIN: Duration = Duration::from_secs(15);
/// The longest that any authority gives.
const LIFE_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// Where Vault is, and what is wanted of it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Vault")]
pub struct VaultArgs {
    /// Where HashiCorp Vault or OpenBao is: https://HOST:8200. Then vault:MOUNT/PATH#FIELD names a
    /// secret wherever a file of --tls-…, --jwt, --admin-password-file and --trace-headers or a
    /// connector's secret is named, and for --read-models
    #[arg(long, env = "DAYBOOK_VAULT_URL", value_name = "URL")]
    vault_url: Option<String>,

    /// Who may vouch for it, a PEM file [default: this machine's authorities]
    #[arg(long, env = "DAYBOOK_VAULT_CA", value_name = "FILE")]
    vault_ca: Option<PathBuf>,

    /// The namespace that paths lie in
    #[arg(long, env = "DAYBOOK_VAULT_NAMESPACE", value_name = "NAME")]
    vault_namespace: Option<String>,

    /// Prove to it who this server is by the token in this file; another one is taken up
    #[arg(long, env = "DAYBOOK_VAULT_TOKEN_FILE", value_name = "FILE")]
    vault_token_file: Option<PathBuf>,

    /// Or by its service account in Kubernetes, for this role
    #[arg(
        long,
        env = "DAYBOOK_VAULT_KUBERNETES_ROLE",
        value_name = "ROLE",
        conflicts_with = "vault_token_file"
    )]
    vault_kubernetes_role: Option<String>,

    /// Where that method is mounted, below auth/
    #[arg(
        long,
        env = "DAYBOOK_VAULT_KUBERNETES_MOUNT",
        value_name = "MOUNT",
        default_value = "kubernetes"
    )]
    vault_kubernetes_mount: String,

    /// The service account's token
    #[arg(
        long,
        env = "DAYBOOK_VAULT_KUBERNETES_TOKEN_FILE",
        value_name = "FILE",
        default_value = TOKEN_FILE
    )]
    vault_kubernetes_token_file: PathBuf,

    /// How often secrets are looked at; one that was changed is taken up without a restart
    #[arg(
        long,
        env = "DAYBOOK_VAULT_POLL",
        value_name = "DURATION",
        default_value = "1m",
        value_parser = poll
    )]
    vault_poll: Duration,

    /// Encrypt connections with a certificate that this role of its PKI engine issues: MOUNT/ROLE.
    /// It is renewed before it ends; its key is in memory only
    #[arg(long, env = "DAYBOOK_TLS_VAULT_PKI", value_name = "MOUNT/ROLE")]
    tls_vault_pki: Option<String>,

    /// The names and addresses of this server in that certificate, separated by commas; the first
    /// name is its common name
    #[arg(
        long,
        env = "DAYBOOK_TLS_VAULT_NAMES",
        value_name = "NAMES",
        value_delimiter = ',',
        requires = "tls_vault_pki"
    )]
    tls_vault_names: Vec<String>,

    /// How long it lives [default: as the role says]
    #[arg(
        long,
        env = "DAYBOOK_TLS_VAULT_TTL",
        value_name = "DURATION",
        value_parser = life,
        requires = "tls_vault_pki"
    )]
    tls_vault_ttl: Option<Duration>,
}

impl VaultArgs {
    /// The certificate that is to be issued, if one is.
    ///
    /// # Errors
    /// What is wrong with what was said of it.
    pub fn certificate(&self) -> anyhow::Result<Option<Source>> {
        let Some(engine) = &self.tls_vault_pki else { return Ok(None) };
        if self.tls_vault_names.is_empty() {
            bail!("--tls-vault-pki needs the names of this server; give --tls-vault-names, too");
        }
        let wish = CertificateWish::new(engine, self.tls_vault_names.clone(), self.tls_vault_ttl);
        let wish = wish.map_err(|reason| {
            anyhow::anyhow!("--tls-vault-pki and --tls-vault-names cannot be used: {reason}")
        })?;
        Ok(Some(Source::Vault(Arc::new(Held::certificate(wish)))))
    }

    /// Whether nothing was said of it.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.vault_url.is_none() && self.tls_vault_pki.is_none()
    }

    /// Fetches those of `wanted` that are in Vault, and keeps them from then on; none if none is.
    ///
    /// # Errors
    /// What makes no sense, or did not come, and what to do.
    pub async fn start(&self, wanted: &[&Source]) -> anyhow::Result<Option<Keeper>> {
        let wanted: Vec<Arc<Held>> =
            wanted.iter().filter_map(|source| source.held().cloned()).collect();
        match (self.settings()?, wanted.first()) {
            (None, None) => Ok(None),
            (None, Some(held)) => {
                bail!("{} is in Vault; say where that is: --vault-url", held.place().display())
            }
            (Some(_), None) => bail!(
                "--vault-url has no use: nothing names a secret (vault:MOUNT/PATH#FIELD), and there \
                 is no --tls-vault-pki"
            ),
            (Some(settings), Some(_)) => {
                let keeper = Keeper::start(&settings, &wanted, Seams::default()).await;
                Ok(Some(keeper.context("cannot start without what is kept in Vault")?))
            }
        }
    }

    fn settings(&self) -> anyhow::Result<Option<Settings>> {
        let Some(url) = &self.vault_url else {
            let idle = [
                (self.vault_ca.is_some(), "--vault-ca"),
                (self.vault_namespace.is_some(), "--vault-namespace"),
                (self.vault_token_file.is_some(), "--vault-token-file"),
                (self.vault_kubernetes_role.is_some(), "--vault-kubernetes-role"),
                (self.vault_poll != POLL_DEFAULT, "--vault-poll"),
            ];
            if let Some((_, idle)) = idle.iter().find(|(given, _)| *given) {
                bail!("{idle} has no use without Vault; give --vault-url, too");
            }
            return Ok(None);
        };
        let url = VaultUrl::parse(url, self.vault_ca.clone());
        let url = url.map_err(|reason| anyhow::anyhow!("--vault-url cannot be used: {reason}"))?;
        let auth = match (&self.vault_token_file, &self.vault_kubernetes_role) {
            (Some(file), _) => Auth::TokenFile(file.clone()),
            (None, Some(role)) => {
                let mount = self.vault_kubernetes_mount.clone();
                check_path(&mount).map_err(|reason| {
                    anyhow::anyhow!("--vault-kubernetes-mount cannot be used: {reason}")
                })?;
                let token_file = self.vault_kubernetes_token_file.clone();
                Auth::Kubernetes { mount, role: role.clone(), token_file }
            }
            (None, None) => bail!(
                "--vault-url needs to know who this server is; give --vault-token-file, or \
                 --vault-kubernetes-role"
            ),
        };
        let (namespace, poll) = (self.vault_namespace.clone(), self.vault_poll);
        Ok(Some(Settings { url, namespace, auth, poll, timeout: TIMEOUT }))
    }
}

fn poll(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(poll) if (POLL_MIN..=POLL_MAX).contains(&poll) => Ok(poll),
        Ok(_) => Err("give 1s to 1day".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn life(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(life) if (LIFE_MIN..=LIFE_MAX).contains(&life) => Ok(life),
        Ok(_) => Err("give 15s to 10years".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        vault: VaultArgs,
    }

    /// What is said of these arguments, if `named` is all that a server needs.
    async fn refused(arguments: &str, named: &str) -> Option<String> {
        let arguments = std::iter::once("daybook").chain(arguments.split_whitespace());
        let source = Source::given("--tls-key", Path::new(named)).expect("a source");
        let args = match Cli::try_parse_from(arguments) {
            Ok(cli) => cli.vault,
            Err(error) => return Some(error.to_string()),
        };
        args.start(&[&source]).await.err().map(|error| error.to_string())
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_refused_with_what_to_do() {
        let (secret, file) = ("vault:secret/daybook#key", "key.pem");
        for (arguments, named, advice) in [
            ("", secret, "--vault-url"),
            ("--vault-ca ca", file, "--vault-url"),
            ("--vault-poll 5s", file, "--vault-url"),
            ("--vault-url https://v --vault-token-file t", file, "no use"),
            ("--vault-url https://v", secret, "--vault-kubernetes-role"),
            ("--vault-url http://v --vault-token-file t", secret, "https://HOST:8200"),
            ("--vault-token-file t --vault-kubernetes-role r", secret, "cannot be used with"),
            (
                "--vault-url https://v --vault-kubernetes-role r --vault-kubernetes-mount ../sys/x?y",
                secret,
                "--vault-kubernetes-mount",
            ),
            ("--vault-poll 1ms", secret, "1s to 1day"),
            ("--tls-vault-names db", secret, "--tls-vault-pki"),
            ("--tls-vault-ttl 1s --tls-vault-pki p/d", secret, "15s"),
        ] {
            let said = refused(arguments, named).await.expect(arguments);
            assert!(said.contains(advice), "{arguments}: {said}");
        }
        assert_eq!(refused("", file).await, None);
    }
}
