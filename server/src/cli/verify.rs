//! `daybook verify`: reads every byte of a stopped store and checks it.

mod snapshots;
mod trial;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use daybook_log::disk::Disk;
use daybook_log::disk::os::OsDisk;
use daybook_model::Position;
use daybook_store::snapshot::Identity;
use daybook_store::verify::{Progress, Report, verify_and_show};
use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::OwoColorize as _;
use serde_json::{Value, json};

use self::snapshots::{Outcome, Snapshots};
use self::trial::Trial;
use super::report::{Json, colours, facts};
use crate::config::DATA_DEFAULT;
use crate::node::SNAPSHOT_DIRECTORY;

/// Checks a stopped store: every frame, checksum, revision and digest of its log, its index against
/// the log, the snapshots of its accounts against their replay, and their trial balance. Changes
/// nothing.
#[derive(Debug, Args)]
#[command(after_help = "Exits 0 if the store is sound, 1 if not. Damage of the log is named with \
    its file, offset and position: restore from a backup. Index files that are wrong can be \
    deleted: the next start builds them again; so can wrong snapshots. Snapshots are copied to TMPDIR \
    for the check, or not checked if there is no room for them. Books that do not balance are named with the event \
    that began it: keep the directory, and ask for help.")]
pub struct VerifyArgs {
    /// The data directory of the stopped store
    #[arg(long, env = "DAYBOOK_DATA", value_name = "DIR", default_value = DATA_DEFAULT)]
    data: PathBuf,

    #[command(flatten)]
    json: Json,
}

/// Verifies.
///
/// # Errors
/// If the directory cannot be read, or is in use.
pub fn run(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk::open_read_only(&args.data)?);
    let bar = ProgressBar::new(0);
    let style = "{bar:30} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {wide_msg}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    let mut show = |progress: Progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
        bar.set_message(progress.file);
    };
    let mut trial = Trial::default();
    let mut snapshots = snapshots_of(&args.data, &disk);
    let verified = verify_and_show(&disk, &mut show, &mut |event| {
        trial.enter(event);
        if let Ok(Some(snapshots)) = &mut snapshots {
            snapshots.enter(event);
        }
    });
    let snapshots = snapshots
        .map_or_else(|outcome| outcome, |it| it.map(Snapshots::finish).unwrap_or_default());
    bar.finish_and_clear();
    match verified {
        Ok(report) => {
            let index = Index::of(&report, &disk.list()?);
            let wrong = [
                ("its index", !index.wrong.is_empty()),
                ("its books", trial.off().is_some()),
                ("its snapshots", !snapshots.is_sound()),
            ];
            let wrong: Vec<_> = wrong.iter().filter(|it| it.1).map(|it| it.0).collect();
            let sound = wrong.is_empty();
            let mut value = to_json(&report, &index);
            value["sound"] = json!(sound);
            value["trialBalance"] = trial.to_json();
            value["snapshots"] = snapshots.to_json();
            let mut rows = trial.rows();
            rows.extend(snapshots.rows());
            let text = to_text(&report, &wrong, &index, rows);
            args.json.answer(&value, &text)?;
            Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(error) => {
            let value = json!({ "sound": false, "error": error.to_string() });
            let mark =
                if colours() { "NOT SOUND".red().bold().to_string() } else { "NOT SOUND".into() };
            args.json.answer(&value, &format!("{mark}: {error}\n"))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The snapshots beside the log on `disk`, if it can be read.
fn snapshots_of(data: &Path, disk: &Arc<dyn Disk>) -> Result<Option<Snapshots>, Outcome> {
    let segments = daybook_log::recovery::load(&**disk, &mut daybook_log::Recovery::default());
    let Ok(segments) = segments else { return Ok(None) }; // the log is what is wrong
    let Some(last) = segments.last() else { return Ok(None) };
    let header = &last.header;
    // Where the log ends is not known yet; a snapshot beyond it has no event to be compared with.
    let committed = Position(u64::MAX);
    let identity = Identity { store_id: header.store_id, epoch: header.epoch, committed };
    Snapshots::open(&data.join(SNAPSHOT_DIRECTORY), identity)
}

/// What of the index is not as it should be.
struct Index {
    /// Not there, as after a restore: the next start builds them, and nothing is wrong.
    missing: Vec<String>,
    /// There, and not what the log says.
    wrong: Vec<String>,
}

impl Index {
    fn of(report: &Report, files: &[String]) -> Index {
        let bad = report.bad_index_files.iter().cloned();
        let (wrong, missing) = bad.partition(|name| files.contains(name));
        Index { missing, wrong }
    }
}

fn to_json(report: &Report, index: &Index) -> Value {
    json!({
        "segments": report.log.segments,
        "events": report.log.events,
        "commits": report.log.commits,
        "bytes": report.log.bytes,
        "streams": report.streams,
        "removedEvents": report.removed,
        "chain": hex(&report.log.chain),
        "tornTail": report.log.torn_tail,
        "indexFiles": report.index_files,
        "missingIndexFiles": index.missing,
        "wrongIndexFiles": index.wrong,
    })
}

/// What of the store is sound, for people: its log is.
fn state(wrong: &[&str]) -> String {
    let (is, not) = match wrong {
        [] => return "sound".to_owned(),
        [one] => ((*one).to_owned(), if one.ends_with('s') { "are" } else { "is" }),
        several => (several.join(" and "), "are"),
    };
    format!("NOT SOUND: the log is, {is} {not} not")
}

fn to_text(
    report: &Report,
    wrong: &[&str],
    index: &Index,
    beside: Vec<(&'static str, String)>,
) -> String {
    let state = match (colours(), wrong.is_empty()) {
        (true, true) => state(wrong).green().bold().to_string(),
        (true, false) => state(wrong).yellow().bold().to_string(),
        (false, _) => state(wrong),
    };
    let log = &report.log;
    let mut rows = vec![
        ("store", state),
        ("events", log.events.to_string()),
        ("commits", log.commits.to_string()),
        ("removed events", report.removed.to_string()),
        ("streams", report.streams.to_string()),
        ("segments", log.segments.to_string()),
        ("bytes", log.bytes.to_string()),
        ("chain", hex(&log.chain)),
        ("index files", report.index_files.to_string()),
    ];
    if log.torn_tail {
        let text = "the last write was cut off and never acknowledged; the next start clears it";
        rows.push(("torn tail", text.to_owned()));
    }
    rows.extend(beside);
    for file in &index.missing {
        rows.push(("index", format!("{file} is missing; the next start builds it")));
    }
    for file in &index.wrong {
        rows.push(("wrong index", format!("{file}: delete it; the next start builds it again")));
    }
    facts(&rows)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_sound_is_said_first() {
        for (wrong, said) in [
            (&[][..], "sound"),
            (&["its index"], "NOT SOUND: the log is, its index is not"),
            (&["its books"], "NOT SOUND: the log is, its books are not"),
            (
                &["its books", "its snapshots"],
                "NOT SOUND: the log is, its books and its snapshots are not",
            ),
        ] {
            assert_eq!(state(wrong), said);
        }
    }
}
