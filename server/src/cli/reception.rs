//! How a process without users takes callers in: a query front, or connectors that run by
//! themselves. The flags are those of `daybook serve`, but for what users are needed for.

use anyhow::bail;
use clap::Args;

use super::entrance::bind;
use super::protection::{ConnectionArgs, exposed, scheme, stand_guard};
use crate::config::Exposure;
use crate::front::{Front, Reception};
use crate::security::{Asks, Settings};

/// How connections are protected, and what callers belong to.
#[derive(Debug, Args)]
#[command(next_help_heading = "Security")]
pub struct ReceptionArgs {
    #[command(flatten)]
    connections: ConnectionArgs,

    /// Groups of everyone who proves by a certificate who it is, with commas: ledger-read, $monitor
    #[arg(long, env = "DAYBOOK_TLS_CLIENT_GROUPS", value_name = "GROUPS", value_delimiter = ',')]
    tls_client_groups: Vec<String>,

    /// A name by which it may be called though it asks nobody who they are: addresses and localhost
    /// always are; may be given more than once
    #[arg(
        long = "host-name",
        env = "DAYBOOK_HOST_NAMES",
        value_name = "NAME",
        value_delimiter = ','
    )]
    host_names: Vec<String>,
}

/// What is made of it.
pub struct Received {
    settings: Settings,
    reception: Reception,
}

/// What stays known of it once a front runs.
pub struct Guarded(Settings);

impl ReceptionArgs {
    /// Listens on `listen`, for at most so many connections; `said` is what was said of who may
    /// come.
    ///
    /// # Errors
    /// What makes no sense together, and what to do; or if the address is refused or taken.
    pub async fn receive(
        &self,
        listen: &str,
        connections_max: usize,
        said: Exposure,
    ) -> anyhow::Result<Received> {
        let settings = self.settings()?;
        let listener = bind(listen, exposed(&settings, said)).await?;
        let reception = Reception {
            listener,
            connections_max,
            security: settings.clone(),
            certificate_groups: self.tls_client_groups.clone(),
            host_names: self.host_names.clone(),
        };
        Ok(Received { settings, reception })
    }

    fn settings(&self) -> anyhow::Result<Settings> {
        let grouped = !self.tls_client_groups.is_empty();
        let settings = self.connections.read(None, &[(grouped, "--tls-client-groups")])?;
        let certificates = settings.tls.as_ref().is_some_and(|tls| tls.clients.is_some());
        if settings.asks == Asks::Everyone && !certificates && settings.tokens.is_none() {
            bail!(
                "nobody could prove who they are, for this process has no users: give --jwt or \
                 --tls-client-ca, or say --auth off"
            );
        }
        let mut sources = settings.sources().into_iter();
        if let Some(held) = sources.find_map(|source| source.held().cloned()) {
            bail!(
                "{} is in Vault, which is asked by `daybook serve` alone; give a file, as an agent \
                 of Vault's writes it",
                held.place().display()
            );
        }
        if grouped && !certificates {
            bail!("--tls-client-groups has no use without --tls-client-ca; give that, too");
        }
        Ok(settings)
    }
}

impl Received {
    /// The two parts: what a front is started with, and what is needed of it afterwards.
    #[must_use]
    pub fn into_parts(self) -> (Reception, Guarded) {
        (self.reception, Guarded(self.settings))
    }
}

impl Guarded {
    /// Where `front` is, as its callers write it.
    #[must_use]
    pub fn url(&self, front: &Front) -> String {
        format!("{}://{}", scheme(&self.0), front.address())
    }

    /// Has certificates read again on SIGHUP, and says again and again what is not protected.
    ///
    /// # Errors
    /// If signals cannot be listened for.
    pub fn stand_guard(&self, front: &Front) -> anyhow::Result<()> {
        stand_guard(&self.0, &[front.address()], (front.security(), front.life()), None)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        reception: ReceptionArgs,
    }

    #[test]
    fn somebody_must_be_able_to_prove_who_they_are() {
        let tls = "--tls-cert c --tls-key k";
        for (arguments, expected) in [
            (String::new(), Ok(Asks::Nobody)),
            (tls.to_owned(), Err("--auth off")),
            (format!("{tls} --auth off"), Ok(Asks::Nobody)),
            (format!("{tls} --jwt j"), Ok(Asks::Everyone)),
            (format!("{tls} --tls-client-ca a"), Ok(Asks::Everyone)),
            (format!("{tls} --tls-client-ca a --tls-client-groups x,y"), Ok(Asks::Everyone)),
            (format!("{tls} --jwt j --tls-client-groups x"), Err("--tls-client-ca")),
            ("--tls-client-groups x".to_owned(), Err("--tls-client-groups")),
            ("--tls-cert vault:a/b#c --tls-key k --auth off".to_owned(), Err("give a file")),
            ("--auth required --jwt vault:a/b#c".to_owned(), Err("give a file")),
            ("--auth required".to_owned(), Err("--jwt")),
            ("--auth required --jwt j".to_owned(), Ok(Asks::Everyone)),
        ] {
            let words = std::iter::once("daybook").chain(arguments.split_whitespace());
            let settings = Cli::try_parse_from(words).expect("flags").reception.settings();
            match (settings, expected) {
                (Ok(settings), Ok(asks)) => assert_eq!(settings.asks, asks, "{arguments}"),
                (Err(error), Err(word)) => {
                    assert!(error.to_string().contains(word), "{arguments}: {error}");
                }
                (found, _) => panic!("{arguments}: {found:?}"),
            }
        }
    }
}
