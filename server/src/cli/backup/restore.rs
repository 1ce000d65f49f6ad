//! `daybook restore`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use daybook_backup::{Plan, Until};
use daybook_log::Sizes;
use daybook_log::backup::{MANIFEST_NAME, refuse_unless_empty, restore};
use daybook_log::disk::os::{Access, OsDisk};
use daybook_model::{Position, SystemEntropy, Timestamp};
use indicatif::HumanBytes;
use serde_json::{Value, json};

use super::{From, bar, of_manifest, show};
use crate::cli::report::{Json, facts};
use crate::config::DATA_DEFAULT;
use crate::http::backup::list::ManifestView;
use crate::http::event::rfc3339;

/// Restores a backup into an empty data directory and raises the store's epoch.
#[derive(Debug, Args)]
#[command(after_help = "Every object is read and compared before the data directory is touched. \
    The restored store is in its next epoch: a consumer that comes with a position which was \
    committed after the backup is told that its history is gone.")]
pub struct RestoreArgs {
    #[command(flatten)]
    from: From,

    /// The data directory; empty, or made
    #[arg(long, env = "DAYBOOK_DATA", value_name = "DIR", default_value = DATA_DEFAULT)]
    data: PathBuf,

    /// Restore up to the append that holds this position
    #[arg(long, value_name = "POSITION", conflicts_with = "to_time")]
    to_position: Option<u64>,

    /// Restore up to the last append made at this time or before: 2026-07-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    to_time: Option<jiff::Timestamp>,

    /// Use this backup (`daybook backup list` names them) instead of the best one
    #[arg(long, value_name = "NAME")]
    backup: Option<String>,

    /// Say what would be restored, and check that it can be; write nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    json: Json,
}

impl RestoreArgs {
    fn until(&self) -> anyhow::Result<Until> {
        Ok(match (self.to_position, self.to_time) {
            (Some(position), _) => Until::Position(Position(position)),
            (None, Some(time)) => {
                let time = i64::try_from(time.as_nanosecond()).context("--to-time is too far")?;
                Until::Time(Timestamp(time))
            }
            (None, None) => Until::End,
        })
    }
}

/// Restores.
///
/// # Errors
/// Why nothing was restored.
pub fn run(args: RestoreArgs) -> anyhow::Result<ExitCode> {
    if Path::new(&args.from.from).join(MANIFEST_NAME).is_file() {
        return unpacked(&args);
    }
    let runtime = crate::cli::runtime(Some(1))?;
    if args.data.exists() && !args.dry_run {
        // Better now than after an hour of reading.
        refuse_unless_empty(&OsDisk::open(&args.data, Access::Write)?)?;
    }
    let repository = args.from.open(&runtime)?;
    let plan = Plan::new(&repository, args.until()?, args.backup.as_deref())?;
    let reading = bar("read");
    let verified = plan.verify(&mut |done, all| show(&reading, done, all));
    reading.finish_and_clear();
    verified?;
    if args.dry_run {
        let text = format!("{}{}", of_plan(&plan), of_manifest(&plan.manifest));
        args.json.answer(&plan_json(&args, &plan, None), &text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let to = OsDisk::open(&args.data, Access::Write)?;
    let writing = bar("restored");
    let restored = plan.restore(&to, &SystemEntropy, Sizes::default(), &mut |done, all| {
        show(&writing, done, all);
    });
    writing.finish_and_clear();
    let (epoch, _) = restored?;
    let rows = [("restored to", args.data.display().to_string()), ("new epoch", epoch.to_string())];
    let text = format!("{}{}", facts(&rows), of_plan(&plan));
    args.json.answer(&plan_json(&args, &plan, Some(epoch.0)), &text)?;
    Ok(ExitCode::SUCCESS)
}

fn of_plan(plan: &Plan) -> String {
    facts(&[
        ("backup", plan.name.key.clone()),
        ("events", plan.end.to_string()),
        ("last append", rfc3339(plan.last_time)),
        ("segments", plan.segments.len().to_string()),
        ("bytes", HumanBytes(plan.size()).to_string()),
    ])
}

fn plan_json(args: &RestoreArgs, plan: &Plan, epoch: Option<u32>) -> Value {
    json!({
        "data": args.data,
        "dryRun": args.dry_run,
        "epoch": epoch,
        "backup": plan.name.key,
        "end": plan.end.0,
        "lastAppend": rfc3339(plan.last_time),
        "segments": plan.segments.len(),
        "bytes": plan.size(),
        "manifest": ManifestView::new(&plan.manifest),
    })
}

/// A directory that the server's tar file was unpacked into.
fn unpacked(args: &RestoreArgs) -> anyhow::Result<ExitCode> {
    if args.to_position.is_some() || args.to_time.is_some() || args.backup.is_some() || args.dry_run
    {
        bail!(
            "an unpacked download is restored whole: --to-…, --backup and --dry-run are of \
               repositories"
        );
    }
    let from = OsDisk::open_read_only(Path::new(&args.from.from))?;
    let to = OsDisk::open(&args.data, Access::Write)?;
    let bar = bar("restored");
    let restored = restore(&from, &to, &SystemEntropy, Sizes::default(), &mut |done, all| {
        show(&bar, done, all);
    });
    bar.finish_and_clear();
    let restored = restored?;
    let value =
        json!({ "data": args.data, "epoch": restored.epoch.0, "manifest": restored.manifest });
    let rows = [
        ("restored to", args.data.display().to_string()),
        ("new epoch", restored.epoch.to_string()),
        ("events", restored.manifest.end.to_string()),
    ];
    args.json.answer(&value, &facts(&rows))?;
    Ok(ExitCode::SUCCESS)
}
