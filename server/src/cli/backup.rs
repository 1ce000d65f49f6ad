//! `daybook backup`: takes one, and looks after those that were taken; `daybook restore`.
//!
//! ```text
//!   backup --to URL          take        of a running server (--url), by what it says of its
//!                                        segments (origin), or of a stopped store (--data)
//!   backup now                  now      by a server that archives its log, with its credentials
//!   backup list | verify | prune         inspect
//!   backup keygen                        keygen
//!   restore --from URL       restore
//! ```
//!
//! All but `now` talk to the repository themselves, with the credentials of whoever calls them: a server is
//! asked for its bytes and needs to know of no bucket.

mod inspect;
mod keygen;
mod now;
mod origin;
pub mod restore;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::{Args, Subcommand};
use daybook_backup::{Access, Keys, Manifest, Objects, Pace, Repository, Taken, take};
use daybook_log::backup::Extent;
use daybook_log::disk::os::OsDisk;
use daybook_model::{Clock as _, SystemClock, Timestamp};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::runtime::Runtime;

use super::archive::{place, rate};
use super::remote::Remote;
use super::report::{Json, facts};
use crate::http::backup::list::ManifestView;
use crate::http::backup::status::{Outcome, Report};
use crate::http::event::rfc3339;

/// Times that a backup begins again because a scavenge rewrote what it was about to read.
const ATTEMPTS: u32 = 3;

/// Bytes a second of a server's backup: what costs the appends of two busy processors less than a
/// twentieth (docs/benchmarks.md), and copies a terabyte in eighteen hours, once.
const RATE_DEFAULT: u64 = 16 * 1024 * 1024;

/// Takes a backup of a running server (--url) or of a stopped store (--data): what the repository
/// does not have yet is copied.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "A repository is a directory, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or \
        az://CONTAINER/PREFIX; an object store's credentials come from AWS_…, GOOGLE_… and \
        AZURE_… in the environment. See docs/backup.md."
)]
pub struct BackupArgs {
    /// The repository; made if it is not there
    #[arg(long, value_name = "URL", required = true, value_parser = place)]
    to: Option<String>,

    /// Take it from a stopped store instead of a server
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    #[command(flatten)]
    remote: Remote,

    /// Encrypt it to this recipient of age (age1…); may be given several times
    #[arg(long, value_name = "RECIPIENT")]
    recipient: Vec<String>,

    /// Encrypt it to the recipients in FILE, one a line
    #[arg(long, value_name = "FILE")]
    recipients_file: Option<PathBuf>,

    /// Leave it in clear, though the newest backup there is encrypted
    #[arg(long, conflicts_with_all = ["recipient", "recipients_file"])]
    plain: bool,

    /// How fast, in MiB a second, or 'full': as fast as it goes; 16 of a server, so that its appends
    /// do not feel it, and 'full' of a stopped store
    #[arg(long, value_name = "MIB", value_parser = speed)]
    rate: Option<Speed>,

    #[command(flatten)]
    json: Json,

    #[command(subcommand)]
    command: Option<BackupCommand>,
}

/// What is done with backups that were taken.
#[derive(Debug, Subcommand)]
enum BackupCommand {
    /// Have a server that archives its log bring now what the archive does not have yet.
    Now(now::NowArgs),
    /// List the backups in a repository.
    List(inspect::ListArgs),
    /// Read every object that backups are made of, and compare it with what was written.
    Verify(inspect::VerifyArgs),
    /// Remove backups that are not to be kept; shows what it would do, unless --delete is given.
    Prune(inspect::PruneArgs),
    /// Make a key that backups can be encrypted to; keep it where the backups are not.
    Keygen(keygen::KeygenArgs),
}

/// Does what it is told.
///
/// # Errors
/// Why there is no new backup; none of the old ones is harmed.
pub fn run(args: BackupArgs) -> anyhow::Result<ExitCode> {
    let runtime = super::runtime(Some(1))?;
    match args.command {
        Some(BackupCommand::Now(args)) => now::run(&args, &runtime),
        Some(BackupCommand::List(args)) => inspect::list(&args, &runtime),
        Some(BackupCommand::Verify(args)) => inspect::verify(&args, &runtime),
        Some(BackupCommand::Prune(args)) => inspect::prune(&args, &runtime),
        Some(BackupCommand::Keygen(args)) => keygen::run(&args),
        None => run_take(&args, &runtime),
    }
}

fn run_take(args: &BackupArgs, runtime: &Runtime) -> anyhow::Result<ExitCode> {
    let to = args.to.as_deref().context("--to is missing")?;
    let bar = bar("copied");
    let taken = match &args.data {
        Some(data) => {
            let now = now();
            let disk = OsDisk::open_read_only(data)?;
            take_from(args, runtime, (&Extent::of_disk(&disk)?, now), &bar)
        }
        None => take_remote(args, runtime, &bar),
    };
    bar.finish_and_clear();
    let taken = taken?;
    let value = json!({
        "to": to,
        "backup": taken.name.key,
        "objectsWritten": taken.moved.objects,
        "bytesWritten": taken.moved.bytes,
        "bytesReused": taken.moved.reused,
        "segments": taken.segments,
        "manifest": ManifestView::new(&taken.manifest),
    });
    let rows = [
        ("repository", to.to_owned()),
        ("backup", taken.name.key.clone()),
        ("written", written(&taken)),
        ("there before", HumanBytes(taken.moved.reused).to_string()),
    ];
    args.json.answer(&value, &format!("{}{}", facts(&rows), of_manifest(&taken.manifest)))?;
    Ok(ExitCode::SUCCESS)
}

fn written(taken: &Taken) -> String {
    format!("{} in {} objects", HumanBytes(taken.moved.bytes), taken.moved.objects)
}

fn take_from(
    args: &BackupArgs,
    runtime: &Runtime,
    (extent, now): (&Extent, Timestamp),
    bar: &ProgressBar,
) -> anyhow::Result<Taken> {
    let store = extent.segments.first().context("the log has no segment")?.header.store_id;
    let mut keys = Keys::default();
    for each in &args.recipient {
        keys.recipients.add(each).context("--recipient cannot be used")?;
    }
    if let Some(file) = &args.recipients_file {
        keys.recipients.add(&text(file)?).context("--recipients-file cannot be used")?;
    }
    let to = args.to.as_deref().unwrap_or_default();
    let objects = Objects::open(to, Access::Write, runtime.handle().clone())?;
    let in_clear = keys.recipients.is_empty();
    let repository = Repository::open_for(store, objects, keys, args.pace())?;
    if in_clear && !args.plain && repository.is_encrypted()? {
        bail!(
            "the newest backup in {to} is encrypted, and this one would not be; nothing was \
             written. Give --recipient, or --plain if it is to lie there in clear"
        );
    }
    Ok(take(&repository, extent, now, &mut |done, all| show(bar, done, all))?)
}

/// Of a running server, which is told how it went.
fn take_remote(args: &BackupArgs, runtime: &Runtime, bar: &ProgressBar) -> anyhow::Result<Taken> {
    let mut attempt = 1;
    let taken = loop {
        let (extent, now) = origin::extent(&args.remote, runtime.handle())?;
        match take_from(args, runtime, (&extent, now), bar) {
            Err(_) if attempt < ATTEMPTS && origin::has_changed(&extent, args, runtime) => {
                attempt += 1;
            }
            done => break done,
        }
    };
    let outcome = if taken.is_ok() { Outcome::Complete } else { Outcome::BrokenOff };
    let body = Bytes::from(serde_json::to_vec(&Report { outcome })?);
    let told = runtime.block_on(args.remote.begin("POST", "/admin/backup/status", body));
    if let Err(error) = told {
        tracing::warn!(%error, "the server could not be told how the backup went");
    }
    taken
}

/// How fast a backup may be.
#[derive(Clone, Copy, Debug)]
enum Speed {
    /// As fast as it goes.
    Full,
    /// So many bytes a second.
    Bytes(u64),
}

fn speed(text: &str) -> Result<Speed, String> {
    match text {
        "full" => Ok(Speed::Full),
        _ => rate(text).map(Speed::Bytes).map_err(|error| format!("{error}; or give full")),
    }
}

impl BackupArgs {
    fn pace(&self) -> Pace {
        Pace::new(match self.rate {
            Some(Speed::Bytes(rate)) => Some(rate),
            Some(Speed::Full) => None,
            None => self.data.is_none().then_some(RATE_DEFAULT),
        })
    }
}

/// Which repository is looked at.
#[derive(Debug, Args)]
struct From {
    /// The repository: a directory, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX
    #[arg(long, value_name = "URL", value_parser = place)]
    from: String,

    /// The key that encrypted backups are read with, as age-keygen writes it
    #[arg(long, value_name = "FILE", env = "DAYBOOK_BACKUP_IDENTITY")]
    identity: Option<PathBuf>,

    /// How fast, in MiB a second; as fast as it goes if not given
    #[arg(long, value_name = "MIB", value_parser = rate)]
    rate: Option<u64>,
}

impl From {
    fn open(&self, runtime: &Runtime) -> anyhow::Result<Arc<Repository>> {
        let mut keys = Keys::default();
        if let Some(file) = &self.identity {
            keys.identities.add(&text(file)?).context("--identity cannot be used")?;
        }
        let objects = Objects::open(&self.from, Access::Read, runtime.handle().clone())?;
        Ok(Arc::new(Repository::open(objects, keys, Pace::new(self.rate))?))
    }
}

fn text(file: &std::path::Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn now() -> Timestamp {
    SystemClock::new().now()
}

fn of_manifest(manifest: &Manifest) -> String {
    let encrypted = match manifest.recipients.len() {
        0 => "no".to_owned(),
        n => format!("to {n} recipients"),
    };
    facts(&[
        ("store", manifest.store.to_string()),
        ("taken", rfc3339(Timestamp(manifest.taken))),
        ("epoch", manifest.epoch.to_string()),
        ("events", manifest.end.to_string()),
        ("size", HumanBytes(manifest.size).to_string()),
        ("encrypted", encrypted),
        ("chain", manifest.chain.clone()),
    ])
}

fn bar(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(0);
    let style = "{msg} {bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.with_message(what)
}

fn show(bar: &ProgressBar, done: u64, all: u64) {
    bar.set_length(all);
    bar.set_position(done);
}
