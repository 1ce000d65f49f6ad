//! `daybook import`: the events of another server, or of a file, into a store of our own.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use daybook_model::Timestamp;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use owo_colors::OwoColorize as _;
use serde_json::json;

use super::report::{Json, colours, facts};
use super::signals::Signals;
use crate::config::DATA_DEFAULT;
use crate::moving::source::Step;
use crate::moving::{Source, Tally, Target};

/// How long what was taken may wait for more of it. Shorter than anyone looks.
const QUIET: Duration = Duration::from_millis(50);

/// Quiet steps after which it is looked again whether the source has more: about a second.
const QUIET_LOOK: u32 = 20;

/// Brings the events of another server, or of a file, into a data directory that no server uses.
#[derive(Debug, Args)]
#[command(
    after_help = "Ids, types, data, metadata, times and revisions stay as they are; positions \
    are new. System streams stay behind and are counted; stream metadata comes along. What was \
    broken off goes on where it was. At the end all of it is read back and its digest compared.

Examples:
  daybook import --from 'kurrentdb://admin:changeit@db:2113' --data ./data
  daybook import --from 'kurrentdb://db:2113?tls=false' --data ./data --follow
  daybook import --from events.jsonl --data ./data && daybook serve --data ./data"
)]
pub struct ImportArgs {
    /// A server's connection string, a file of JSON lines, or - for standard input
    #[arg(long, value_name = "SOURCE")]
    from: String,

    /// The data directory; empty, made, or one that this import began
    #[arg(long, env = "DAYBOOK_DATA", value_name = "DIR", default_value = DATA_DEFAULT)]
    data: PathBuf,

    /// Go on with what the source commits meanwhile. At Ctrl-C what it has by then is still taken;
    /// a second one ends it at once
    #[arg(long)]
    follow: bool,

    #[command(flatten)]
    json: Json,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// All the source has is taken.
    Complete,
    /// It was asked to stop before that.
    Stopped,
}

/// Imports.
///
/// # Errors
/// Why it cannot go on. What was taken stays, and the next run goes on after it.
pub fn run(args: ImportArgs) -> anyhow::Result<ExitCode> {
    super::runtime(None)?.block_on(import(args))
}

async fn import(args: ImportArgs) -> anyhow::Result<ExitCode> {
    let name = Source::name(&args.from)?;
    let mut signals = Signals::new()?;
    let (mut source, mut target) = begin(&args, &name).await?;
    let bar = bar();
    let taken = take_all(&mut source, &mut target, &mut signals, (&bar, args.follow)).await;
    bar.finish_and_clear();
    let end = match taken {
        Ok(end) => end,
        Err(error) => {
            target.close().await;
            return Err(error);
        }
    };
    let reading = ProgressBar::new(0).with_style(style("reading back"));
    let read = target
        .read_back(|done, all| {
            reading.set_length(all);
            reading.set_position(done);
        })
        .await;
    reading.finish_and_clear();
    let progress = target.progress().clone();
    target.close().await;
    let same = read?.agrees_with(&progress.tally);
    let complete = end == End::Complete;
    let value = json!({
        "source": progress.source, "data": args.data, "mark": progress.mark,
        "complete": complete, "verified": same, "tally": progress.tally,
    });
    let state = match (same, end) {
        (false, _) => mark("NOT THE SAME as what was taken: do not use it", Mark::Bad),
        (true, End::Complete) => mark("complete", Mark::Good),
        (true, End::Stopped) => mark("not complete; run it again to go on", Mark::Bad),
    };
    let mut text = facts(&[
        ("from", progress.source.clone()),
        ("to", args.data.display().to_string()),
        ("state", state),
    ]);
    text.push_str(&of_tally(&progress.tally));
    args.json.answer(&value, &text)?;
    Ok(if same && complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Opens both ends. A store that is made begins at the time of the source's first event.
async fn begin(args: &ImportArgs, name: &str) -> anyhow::Result<(Source, Target)> {
    if Target::exists(&args.data)? {
        let target = Target::open(&args.data, name, Timestamp(0)).await?;
        let mark = target.progress().mark.clone();
        return match Source::open(&args.from, mark.as_ref()).await {
            Ok(source) => Ok((source, target)),
            Err(error) => {
                target.close().await;
                Err(error)
            }
        };
    }
    let mut source = Source::open(&args.from, None).await?;
    let (first, place) = loop {
        match source.next(QUIET).await? {
            Step::Event(event, place) => break (event, place),
            Step::Quiet => {}
            Step::CaughtUp | Step::End => bail!("{name} has no events; there is nothing to import"),
        }
    };
    let mut target = Target::open(&args.data, name, first.time).await?;
    target.take(*first, place).await?;
    Ok((source, target))
}

async fn take_all(
    source: &mut Source,
    target: &mut Target,
    signals: &mut Signals,
    (bar, follow): (&ProgressBar, bool),
) -> anyhow::Result<End> {
    // Whether it was asked to stop, and only what the source has now is still to come.
    let mut ending = false;
    let mut quiet = 0;
    loop {
        let step = tokio::select! {
            step = source.next(QUIET) => step?,
            () = signals.next() => {
                if !follow || ending {
                    target.commit().await?;
                    return Ok(End::Stopped);
                }
                ending = true;
                source.look_for_end().await?;
                Step::Quiet
            }
        };
        let (at, end) = source.progress();
        match step {
            Step::Event(event, place) => {
                target.take(*event, place).await?;
                quiet = 0;
                show(bar, source, target, "");
            }
            Step::Quiet if target.is_dirty() => target.commit().await?,
            Step::CaughtUp | Step::Quiet if follow && !ending => {
                // Live is what is said when nothing comes and the source has no more.
                if quiet == 0 {
                    source.look_for_end().await?;
                }
                quiet = (quiet + 1) % QUIET_LOOK;
                let (at, end) = source.progress();
                let behind = at < end;
                show(bar, source, target, if behind { "; behind" } else { "; nothing is behind" });
            }
            Step::Quiet if at < end || !ending => show(bar, source, target, ""),
            Step::CaughtUp if ending && at < end => {}
            Step::Quiet | Step::CaughtUp | Step::End => {
                target.commit().await?;
                return Ok(End::Complete);
            }
        }
        if ending && !target.is_dirty() && at >= end {
            return Ok(End::Complete);
        }
    }
}

fn show(bar: &ProgressBar, source: &Source, target: &Target, state: &str) {
    let (at, end) = source.progress();
    bar.set_length(end);
    bar.set_position(at);
    let tally = &target.progress().tally;
    let (events, bytes) = (HumanCount(tally.events), HumanBytes(tally.bytes));
    bar.set_message(format!("{events} events, {bytes}{state}"));
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0).with_style(style("importing"));
    if std::io::stderr().is_terminal() {
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    bar
}

fn style(verb: &str) -> ProgressStyle {
    let style = format!("{verb} {{bar:30}} {{percent:>3}} % {{msg}} {{eta}}");
    ProgressStyle::with_template(&style).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn of_tally(tally: &Tally) -> String {
    let mut rows = vec![
        ("events", HumanCount(tally.events).to_string()),
        ("bytes", HumanBytes(tally.bytes).to_string()),
        ("digest", tally.digest.to_string()),
    ];
    if tally.holes > 0 {
        rows.push(("places without an event", HumanCount(tally.holes).to_string()));
    }
    if tally.moved > 0 {
        rows.push(("times moved forward", HumanCount(tally.moved).to_string()));
    }
    let mut text = facts(&rows);
    if !tally.left.is_empty() {
        text.push_str("left behind\n");
        for (reason, count) in &tally.left {
            text.push_str(&format!("{:>12}  {reason}\n", HumanCount(*count).to_string()));
        }
    }
    text
}

/// How a state is coloured.
enum Mark {
    Good,
    Bad,
}

fn mark(text: &str, mark: Mark) -> String {
    if !colours() {
        return text.to_owned();
    }
    match mark {
        Mark::Good => text.green().bold().to_string(),
        Mark::Bad => text.red().bold().to_string(),
    }
}
