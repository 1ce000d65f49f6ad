//! `daybook backup list`, `verify` and `prune`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use daybook_backup::Kind;
use daybook_backup::check::check;
use daybook_backup::list::page;
use daybook_backup::prune::{GRACE, Keep, Mode, prune as prune_repository};
use daybook_model::Timestamp;
use indicatif::HumanBytes;
use serde_json::json;
use tokio::runtime::Runtime;

use super::{From, bar, now, show};
use crate::cli::report::{Json, facts, table};
use crate::http::backup::list::BackupView;
use crate::http::event::rfc3339;

/// Lists backups.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    from: From,

    #[command(flatten)]
    json: Json,
}

/// Checks backups.
#[derive(Debug, Args)]
#[command(after_help = "Exits 0 if all is as it was written, 1 if not. Encrypted backups are \
    compared as they are stored; with --identity they are read, too.")]
pub struct VerifyArgs {
    #[command(flatten)]
    from: From,

    /// Check this backup alone (the beginning of its name is enough)
    #[arg(long, value_name = "NAME")]
    backup: Option<String>,

    #[command(flatten)]
    json: Json,
}

/// Removes backups.
#[derive(Debug, Args)]
#[command(after_help = "A backup stays if any rule keeps it. The newest always does, and what \
    archiving keeps up.")]
pub struct PruneArgs {
    #[command(flatten)]
    from: From,

    /// Keep so many of the newest
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_last: usize,

    /// Keep the newest of each of so many days (UTC) that have one
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_daily: usize,

    /// Keep the newest of each of so many weeks that have one
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_weekly: usize,

    /// Keep the newest of each of so many spans of thirty days that have one
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep_monthly: usize,

    /// How long objects stay that no backup names: longer than a backup takes
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    grace: Option<Duration>,

    /// Do it
    #[arg(long)]
    delete: bool,

    #[command(flatten)]
    json: Json,
}

/// Lists.
///
/// # Errors
/// If there is no repository, or a manifest cannot be read.
pub fn list(args: &ListArgs, runtime: &Runtime) -> anyhow::Result<ExitCode> {
    let repository = args.from.open(runtime)?;
    let mut page = page(&repository, None, usize::MAX)?;
    // The last line of a terminal is the one that is seen.
    page.backups.reverse();
    let mut rows = table(&["Taken", "Kind", "Epoch", "Events", "Size", "Encrypted", "Name"]);
    for (name, manifest) in &page.backups {
        rows.add_row([
            rfc3339(Timestamp(manifest.taken)),
            if manifest.kind == Kind::Archive { "archive" } else { "backup" }.to_owned(),
            manifest.epoch.to_string(),
            manifest.end.to_string(),
            HumanBytes(manifest.size).to_string(),
            if manifest.recipients.is_empty() { "no" } else { "yes" }.to_owned(),
            name.key.clone(),
        ]);
    }
    let backups: Vec<_> = page.backups.iter().map(BackupView::new).collect();
    let bad = page.problems;
    let value = json!({ "store": repository.store(), "backups": backups, "problems": bad });
    let problems: String = bad.iter().map(|line| format!("{line}\n")).collect();
    args.json.answer(&value, &format!("{rows}\n{problems}"))?;
    Ok(if bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Verifies.
///
/// # Errors
/// If the repository cannot be asked.
pub fn verify(args: &VerifyArgs, runtime: &Runtime) -> anyhow::Result<ExitCode> {
    let repository = args.from.open(runtime)?;
    let bar = bar("read");
    let found = check(&repository, args.backup.as_deref(), &mut |done, all| show(&bar, done, all));
    bar.finish_and_clear();
    let found = found?;
    if found.backups == 0 {
        anyhow::bail!("{} has no such backup", repository.location());
    }
    let sound = found.problems.is_empty();
    let value = json!({
        "sound": sound,
        "backups": found.backups,
        "objects": found.objects,
        "bytes": found.bytes,
        "decrypted": found.read,
        "checked": found.checked(),
        "notChecked": found.not_checked(),
        "unnamedObjects": found.unnamed,
        "unnamed": found.unnamed_keys,
        "problems": found.problems,
    });
    let mut rows = vec![
        ("backups", if sound { "sound" } else { "NOT SOUND" }.to_owned()),
        ("looked at", found.backups.to_string()),
        ("objects", found.objects.to_string()),
        ("bytes", HumanBytes(found.bytes).to_string()),
        ("objects that no backup names", found.unnamed.to_string()),
    ];
    rows.extend(found.unnamed_keys.iter().map(|key| ("of use to none", key.clone())));
    rows.push(("checked", found.checked().to_owned()));
    rows.push(("not checked", found.not_checked().to_owned()));
    rows.extend(found.problems.iter().map(|problem| ("problem", problem.clone())));
    args.json.answer(&value, &facts(&rows))?;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prunes.
///
/// # Errors
/// If no rule is given; if the repository cannot be asked, or a manifest that stays not be read.
pub fn prune(args: &PruneArgs, runtime: &Runtime) -> anyhow::Result<ExitCode> {
    let keep = Keep {
        last: args.keep_last,
        daily: args.keep_daily,
        weekly: args.keep_weekly,
        monthly: args.keep_monthly,
    };
    if keep == Keep::default() {
        anyhow::bail!("say what to keep: --keep-last, --keep-daily, --keep-weekly, --keep-monthly");
    }
    let repository = args.from.open(runtime)?;
    let mode = if args.delete { Mode::Remove } else { Mode::Show };
    let pruned = prune_repository(&repository, &keep, (now(), args.grace.unwrap_or(GRACE)), mode)?;
    let value = json!({
        "deleted": args.delete,
        "kept": pruned.kept,
        "removed": pruned.removed,
        "objects": pruned.objects,
        "bytes": pruned.bytes,
    });
    let (will, and) =
        if args.delete { ("removed", "") } else { ("would remove", " (give --delete to do it)") };
    let mut rows: Vec<_> = pruned.kept.iter().map(|name| ("keeps", name.clone())).collect();
    rows.extend(pruned.removed.iter().map(|name| (will, name.clone())));
    let objects = format!("{} objects, {}{and}", pruned.objects, HumanBytes(pruned.bytes));
    rows.push((will, objects));
    args.json.answer(&value, &facts(&rows))?;
    Ok(ExitCode::SUCCESS)
}
