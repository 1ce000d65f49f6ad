//! `daybook load`: many users who move money among themselves, and whether it is all still there.
//!
//! ```text
//!   settle    each user opens an account over a connection of its own, and pays into it
//!   trade     closed loops until time is up: 1 in 20 transfers to a hot account, 1 user in 100
//!             flagged as risky, 1 in 10 also reading         <- throughput and latency
//!   pause     if asked for: in the middle of that the server hangs for some seconds
//!   check     from the outside: the log, the accounts, the books against what users were told
//! ```
//!
//! The server is a process of its own, started on an empty directory unless `--url` names another,
//! so that its processor time can be told from the users'. Latency is what a user sees, from
//! sending a transfer to its final state; a closed loop tells what a machine can carry, not what a
//! user waits for at a given rate.
//!
//! INVARIANT: a run whose checks could not all be made fails, as one whose money is gone does.
//!
//! Not here: open loops, several machines, ramps.

pub mod amount;
pub mod audit;
pub mod chart;
pub mod check;
pub mod html;
pub mod http;
pub mod machine;
pub mod pause;
pub mod plan;
pub mod report;
pub mod stats;
pub mod target;
pub mod user;
pub mod verdict;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use daybook_model::{Clock as _, Entropy as _, SystemClock, SystemEntropy};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};

use self::audit::{Sent, Told};
use self::check::Checker;
use self::pause::{Paused, Times, Way};
use self::plan::{MERCHANTS, Plan, USERS_MAX};
use self::report::{Outcomes, Processor, Report, thousands};
use self::stats::{Recorder, Second};
use self::target::Target;
use self::user::{Shared, User};
use super::remote::IdentityArgs;
use super::report::Json;

/// Users who open their accounts at a time: a thousand connections in one instant would measure the
/// kernel's queue.
const SETTLING_MAX: usize = 128;
/// Of the series.
const SECOND: Duration = Duration::from_secs(1);
/// How long transfers that were begun may take once time is up.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(120);

/// Lets many users move money among themselves, measures that, and checks that none is lost.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  daybook load                                          1,000 users for 20 s
  daybook load --users 100 --seconds 60 --html=load.html --json=load.json
  daybook load --pause 5                                the server hangs for 5 s
  daybook load --url http://127.0.0.1:2113 --seconds 5  a server that runs already
  daybook load --url https://db:2113 --ca ca.crt --user teller --password-file secret

The exit code is 1 if any check of consistency fails.")]
pub struct LoadArgs {
    /// Users, each with an account and a connection of its own
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1000,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(USERS_MAX))
    )]
    users: u32,

    /// How long they transfer, in seconds
    #[arg(long, value_name = "S", default_value_t = 20.0)]
    seconds: f64,

    /// A server that runs already: http://HOST:PORT [default: one started for the run]
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    #[command(flatten)]
    identity: IdentityArgs,

    /// Where a directory for that server's data is made, and removed again; choose the disk that
    /// matters
    #[arg(long, value_name = "DIR", default_value = ".", conflicts_with = "url")]
    data: PathBuf,

    /// Stop the server in the middle of the run for so many seconds, which come on top of
    /// '--seconds'; users then go through a circuit breaker, and the report says what it did
    #[arg(long, value_name = "S", conflicts_with = "url")]
    pause: Option<f64>,

    /// Write the report as a page with charts
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    #[command(flatten)]
    json: Json,
}

/// Runs the load.
///
/// # Errors
/// If the server does not start or cannot be asked, or a user cannot open an account.
pub fn run(args: LoadArgs) -> anyhow::Result<ExitCode> {
    if cfg!(debug_assertions) {
        eprintln!("note: this is a debug build; its figures say nothing. Use cargo run --release");
    }
    if !(0.1..=86_400.0).contains(&args.seconds) {
        bail!("--seconds takes 0.1 to 86400");
    }
    if args.pause.is_some_and(|pause| !(0.1..=3600.0).contains(&pause)) {
        bail!("--pause takes 0.1 to 3600");
    }
    machine::make_room_for_connections(u64::from(args.users));
    super::runtime(None)?.block_on(async {
        let report = measure(&args).await?;
        if let Some(path) = &args.html {
            #[expect(clippy::disallowed_methods, reason = "a report is not the store's")]
            std::fs::write(path, html::page(&report))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        args.json.answer(&report.to_json(), &report.to_text())?;
        Ok(if report.is_consistent() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

async fn measure(args: &LoadArgs) -> anyhow::Result<Report> {
    let target = Target::reach(args.url.as_deref(), &args.identity, &args.data).await?;
    let version = target.version().await?;
    let chance = SystemEntropy.bytes();
    let plan = Plan::new(chance, args.users);
    let shared = Arc::new(Shared {
        plan,
        address: target.address().clone(),
        way: if args.pause.is_some() { Way::guarded()? } else { Way::Straight },
        recorder: Recorder::new(),
        clock: SystemClock::new(),
        over: AtomicBool::new(false),
    });
    let mut checker = Checker::new(plan, target.address().clone());
    let marks = checker.marks().await?;
    let users = settle(&shared, seed(chance)).await?;
    let length = Length {
        trade: Duration::from_secs_f64(args.seconds),
        pause: args.pause.map(Duration::from_secs_f64),
    };
    let traded = trade(&shared, users, length, &target).await?;
    let progress = ProgressBar::new_spinner();
    progress.enable_steady_tick(Duration::from_millis(200));
    let say = |what: &str| progress.set_message(what.to_owned());
    let checked = checker.check(marks, &traded.sent, &say).await;
    progress.finish_and_clear();
    let checked = checked.context("the consistency of the server cannot be checked")?;
    Ok(Report {
        version,
        url: args.url.clone(),
        machine: machine::describe(),
        users: args.users,
        seconds: traded.series.iter().map(|second| second.length_s).sum(),
        series: traded.series,
        totals: shared.recorder.totals(),
        outcomes: outcomes(&traded.sent),
        processor: traded.processor,
        checks: checked
            .checks
            .into_iter()
            .chain(traded.paused.as_ref().map(Paused::check))
            .collect(),
        paused: traded.paused,
    })
}

/// How long there is trade.
#[derive(Clone, Copy, Debug)]
struct Length {
    /// With a server that runs.
    trade: Duration,
    /// With one that hangs, in the middle of that.
    pause: Option<Duration>,
}

fn seed(chance: [u8; 16]) -> u64 {
    let [.., a, b, c, d, e, f, g, h] = chance;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// Opens the merchants' accounts, then those of all users, who come back ready.
async fn settle(shared: &Arc<Shared>, seed: u64) -> anyhow::Result<Vec<User>> {
    let users = shared.plan.users();
    let progress = ProgressBar::new(u64::from(users));
    progress.set_style(style("opening accounts {wide_bar} {pos}/{len}")?);
    let mut first = User::new(0, seed, Arc::clone(shared));
    for merchant in users..users + MERCHANTS {
        first.open(merchant).await?;
    }
    let settling = stream::iter(0..users).map(|index| {
        let shared = Arc::clone(shared);
        let settled = tokio::spawn(async move {
            let mut user = User::new(index, seed, shared);
            user.settle().await.map(|()| user)
        });
        async {
            let user = settled.await.context("a user panicked")??;
            progress.inc(1);
            anyhow::Ok(user)
        }
    });
    let settled = settling.buffered(SETTLING_MAX).try_collect().await;
    progress.finish_and_clear();
    settled
}

/// What came of the trade.
struct Traded {
    series: Vec<Second>,
    /// By sender.
    sent: Vec<Vec<Sent>>,
    processor: Processor,
    paused: Option<Paused>,
}

async fn trade(
    shared: &Arc<Shared>,
    users: Vec<User>,
    length: Length,
    target: &Target,
) -> anyhow::Result<Traded> {
    // What was recorded while accounts were opened is no part of the series.
    let _ = shared.recorder.take_second(SECOND);
    let (server_before, load_before) = (target.cpu_us()?, machine::cpu_us()?);
    let trading: Vec<_> = users
        .into_iter()
        .map(|mut user| {
            tokio::spawn(async move {
                user.trade().await;
                user.into_sent()
            })
        })
        .collect();
    let duration = length.trade + length.pause.unwrap_or_default();
    let (series, times) =
        tokio::try_join!(watch(shared, duration), interrupt(shared, length, target))?;
    shared.over.store(true, Ordering::Relaxed);
    let (server_after, load_after) = (target.cpu_us()?, machine::cpu_us()?);
    let drained = async {
        let mut sent = Vec::with_capacity(trading.len());
        for user in trading {
            sent.push(user.await.context("a user panicked")?);
        }
        anyhow::Ok(sent)
    };
    let sent = tokio::time::timeout(DRAIN_TIMEOUT, drained).await.with_context(|| {
        format!("transfers still wait {} s after time was up", DRAIN_TIMEOUT.as_secs())
    })??;
    let seconds = |us: u64| us as f64 / 1e6;
    let server_s = server_after.zip(server_before).map(|(after, before)| seconds(after - before));
    let processor = Processor { server_s, load_s: seconds(load_after - load_before) };
    let paused = match (&shared.way, times) {
        (Way::Guarded(guarded), Some(times)) => Some(guarded.paused(times)),
        _ => None,
    };
    Ok(Traded { series, sent, processor, paused })
}

/// Stops the server in the middle of the trade, if it is to be, and has it go on.
async fn interrupt(
    shared: &Shared,
    length: Length,
    target: &Target,
) -> anyhow::Result<Option<Times>> {
    let (Way::Guarded(guarded), Some(pause)) = (&shared.way, length.pause) else {
        return Ok(None);
    };
    let begun = guarded.now();
    tokio::time::sleep(length.trade / 2).await;
    let stopped = guarded.now();
    target.stop()?;
    tokio::time::sleep(pause).await;
    target.go_on()?;
    Ok(Some(Times { begun, stopped, resumed: guarded.now() }))
}

/// Takes the time, second by second, and shows how it goes.
async fn watch(shared: &Shared, duration: Duration) -> anyhow::Result<Vec<Second>> {
    let progress = ProgressBar::new(u64::try_from(duration.as_millis())?);
    progress.set_style(style("{msg} {wide_bar} {elapsed} of {prefix}, {eta} left")?);
    progress.set_prefix(format!("{:.0}s", duration.as_secs_f64()));
    let begun = shared.clock.monotonic();
    let (mut series, mut last, mut errors) = (Vec::new(), Duration::ZERO, 0);
    while last < duration {
        tokio::time::sleep(SECOND.min(duration - last)).await;
        let now = shared.clock.monotonic() - begun;
        let second = shared.recorder.take_second(now - last);
        errors += second.errors;
        progress.set_position(u64::try_from(now.as_millis())?);
        progress.set_message(format!(
            "{} transfers/s, p99 {:.0} ms, {errors} errors",
            thousands(second.transfers as f64 / second.length_s),
            second.p99_ms
        ));
        series.push(second);
        last = now;
    }
    progress.finish_and_clear();
    Ok(series)
}

fn style(template: &str) -> anyhow::Result<ProgressStyle> {
    Ok(ProgressStyle::with_template(template)?)
}

fn outcomes(sent: &[Vec<Sent>]) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for sent in sent.iter().flatten() {
        *match sent.told {
            Told::Completed => &mut outcomes.completed,
            Told::Compensated => &mut outcomes.compensated,
            Told::Failed => &mut outcomes.failed,
            Told::Unknown => &mut outcomes.unknown,
        } += 1;
    }
    outcomes
}
