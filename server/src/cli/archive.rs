//! The options of a server that archives its log.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use daybook_backup::{Objects, Recipients};

use crate::backup::{ArchiveSettings, BucketKeySources};
use crate::security::source::Source;

/// The shortest time between two rounds: each lists segments and may write two objects.
const EVERY_MIN: Duration = Duration::from_secs(1);
/// The longest: what is lost with the machine is at most this.
const EVERY_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Where the log is archived.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Archive")]
pub struct ArchiveArgs {
    /// Keep a repository of backups up with the log: a directory, s3://BUCKET/PREFIX,
    /// gs://BUCKET/PREFIX or az://CONTAINER/PREFIX
    #[arg(long, env = "DAYBOOK_ARCHIVE", value_name = "URL", value_parser = place)]
    archive: Option<String>,

    /// How often: what is lost with the machine is no more than that
    #[arg(
        long,
        env = "DAYBOOK_ARCHIVE_EVERY",
        value_name = "DURATION",
        default_value = "10s",
        value_parser = every
    )]
    archive_every: Duration,

    /// Encrypt it to this recipient of age (age1…); several, separated by commas
    #[arg(
        long,
        env = "DAYBOOK_ARCHIVE_RECIPIENT",
        value_name = "RECIPIENT",
        value_delimiter = ','
    )]
    archive_recipient: Vec<String>,

    /// How fast, in MiB a second; as fast as it goes if not given
    #[arg(long, env = "DAYBOOK_ARCHIVE_RATE", value_name = "MIB", value_parser = rate)]
    archive_rate: Option<u64>,

    /// The id of the key of an S3 bucket, in a file or as vault:MOUNT/PATH#FIELD; it may change
    /// while the server runs [default: what AWS_… says]
    #[arg(
        long,
        env = "DAYBOOK_ARCHIVE_ACCESS_KEY",
        value_name = "FILE",
        requires = "archive_secret_key",
        requires = "archive"
    )]
    archive_access_key: Option<PathBuf>,

    /// That key, likewise
    #[arg(
        long,
        env = "DAYBOOK_ARCHIVE_SECRET_KEY",
        value_name = "FILE",
        requires = "archive_access_key"
    )]
    archive_secret_key: Option<PathBuf>,
}

impl ArchiveArgs {
    /// Where the bucket's keys come from, if not from the environment.
    ///
    /// # Errors
    /// If a name of a secret is none, or nothing has such keys.
    pub fn keys(&self) -> anyhow::Result<Option<BucketKeySources>> {
        let (Some(id), Some(secret)) = (&self.archive_access_key, &self.archive_secret_key) else {
            return Ok(None);
        };
        if !self.archive.as_ref().is_some_and(|url| url.starts_with("s3://")) {
            bail!("--archive-access-key is of an S3 bucket; --archive names none (s3://…)");
        }
        let id = Source::given("--archive-access-key", id)?;
        let secret = Source::given("--archive-secret-key", secret)?;
        Ok(Some(BucketKeySources { id, secret }))
    }

    /// What they say, with the bucket's `keys`; none if nothing is archived.
    ///
    /// # Errors
    /// If a recipient is none.
    pub fn settings(
        &self,
        keys: Option<BucketKeySources>,
    ) -> anyhow::Result<Option<ArchiveSettings>> {
        let Some(url) = self.archive.clone() else { return Ok(None) };
        let mut recipients = Recipients::default();
        for each in &self.archive_recipient {
            recipients.add(each).context("--archive-recipient cannot be used")?;
        }
        let (every, rate) = (self.archive_every, self.archive_rate);
        Ok(Some(ArchiveSettings { url, every, recipients, rate, keys }))
    }
}

/// A place for backups.
///
/// # Errors
/// If it is none.
pub fn place(text: &str) -> Result<String, String> {
    Objects::understand(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

/// Bytes a second, from MiB.
///
/// # Errors
/// If it is no number, or zero.
pub fn rate(text: &str) -> Result<u64, String> {
    match text.parse::<u64>() {
        Ok(0) => Err("give at least 1".to_owned()),
        Ok(mib) => Ok(mib.saturating_mul(1024 * 1024)),
        Err(error) => Err(error.to_string()),
    }
}

fn every(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(every) if (EVERY_MIN..=EVERY_MAX).contains(&every) => Ok(every),
        Ok(_) => Err("give 1s to 1day".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
