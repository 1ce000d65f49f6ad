//! How fast the built-in views catch up with a history, and how soon they see what is committed.
//!
//! ```text
//!   history ──> store ──> feed alone            the ceiling: nothing is kept
//!                  ├────> each view into sled, then all of them at once
//!                  └────> live: 5,000 events a second, from acknowledgement to visible
//! ```
//!
//! Everything is in this process: its processor time and memory are those of the feed, the views
//! and sled together. A rate counts all events of the log, also those that a view does not want: a
//! view has come so far when it has passed them.

mod history;
mod postgres;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use daybook_model::{Clock as _, Position, SystemClock};
use daybook_projections::sled::SledBackend;
use daybook_projections::views::{self, accounts::Accounts};
use daybook_projections::{Backend, Feed as _, Host, Interest, Projection, Seams, Source as _};
use daybook_store::Store;
use hdrhistogram::Histogram;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use self::history::Bank;
use super::report::{Against, Goal, Row};
use super::{Bench, load, place};
use crate::readside::source::StoreSource;

/// Events a second that the live part appends, and of one append.
const LIVE_RATE: u64 = 5_000;
const LIVE_EVENTS: u64 = 5;
/// How long the live part is loaded before it is measured.
const LIVE_WARMUP: Duration = Duration::from_secs(1);
/// How long a view may take to come to the end of the history, or to an event.
const CATCH_UP_MAX: Duration = Duration::from_secs(1800);
/// How often memory is looked at.
const MEMORY_LOOK: Duration = Duration::from_millis(100);
/// What is wanted: events a second into sled, and milliseconds until an event is
/// visible, MiB of a rebuild.
const RATE_GOAL: f64 = 100_000.0;
const LAG_GOAL_MS: f64 = 20.0;
const MEMORY_GOAL_MIB: f64 = 256.0;
/// Bytes of a MiB.
const MIB: f64 = 1024.0 * 1024.0;

/// What a catch-up came to.
struct CaughtUp {
    elapsed: Duration,
    cpu: Duration,
    /// Bytes by which memory grew at most.
    memory: u64,
}

impl Bench {
    pub(super) async fn projections(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        let store = place::open(self.scratch.join("projections")).await?;
        let (events, accounts) = (self.args.history_events, self.args.history_accounts);
        self.say(&format!("a history of {events} events of {accounts} accounts"));
        let mut bank = Bank::default();
        bank.fill(&store, events, accounts).await?;
        let events = store.committed().0;
        self.say("the feed alone");
        let feed = scanned(&store).await?;
        let rate = events as f64 / feed.elapsed.as_secs_f64();
        let mut row = Row::with_goal("views, the feed alone".to_owned(), rate, "events/s", None);
        row.cpu_us = Some(feed.cpu.as_micros() as f64 / events as f64);
        rows.push(row);
        let all: Vec<_> = views::embedded();
        for view in &all {
            let name = format!("view {} into sled, catching up", view.name());
            rows.extend(self.catch_up(&name, &store, vec![view.clone()], rate).await?);
        }
        let name = "all embedded views into sled, catching up";
        rows.extend(self.catch_up(name, &store, all.clone(), rate).await?);
        if let Some(url) = &self.args.postgres {
            rows.extend(self.postgres(url, &store, rate).await?);
        }
        self.live(&store, &mut bank, rows).await?;
        store.close().await;
        Ok(())
    }

    /// Builds `views` from the first event on.
    async fn catch_up(
        &self,
        name: &str,
        store: &Store,
        views: Vec<Arc<dyn Projection>>,
        ceiling: f64,
    ) -> anyhow::Result<[Row; 3]> {
        self.say(name);
        let names: Vec<_> = views.iter().map(|view| view.name()).collect();
        let directory = self.scratch.join(&format!("readmodels-{}", names.join("-")));
        let backend = open(&directory).await?;
        let events = store.committed();
        let caught_up = measured(async {
            let seams = Seams::system();
            let source = StoreSource::new(store.clone(), seams.timer.clone());
            let host = Host::start(&source, &backend, views, &seams);
            for view in names {
                visible(&backend, view, Position(events.0 - 1)).await?;
            }
            host.stop().await;
            Ok(())
        });
        let caught_up = caught_up.await?;
        tokio::task::spawn_blocking(move || backend.close()).await?;
        let rate = events.0 as f64 / caught_up.elapsed.as_secs_f64();
        let goal = Some(Goal::AtLeast(RATE_GOAL));
        let mut row = Row::with_goal(name.to_owned(), rate, "events/s", goal);
        row.cpu_us = Some(caught_up.cpu.as_micros() as f64 / events.0 as f64);
        let mut of_feed = row.clone();
        let feed = Against { name: "the feed alone", figure: ceiling, cpu_us: None, goal: None };
        of_feed.against = Some(feed);
        let memory = caught_up.memory as f64 / MIB;
        let (name, goal) =
            (format!("{name}, memory grown by"), Some(Goal::AtMost(MEMORY_GOAL_MIB)));
        let memory = Row::with_goal(name, memory, "MiB", goal);
        Ok([row, of_feed, memory])
    }

    /// Appends at a steady rate and has each append waited for in the view.
    async fn live(
        &self,
        store: &Store,
        bank: &mut Bank,
        rows: &mut Vec<Row>,
    ) -> anyhow::Result<()> {
        self.say("from acknowledged to visible");
        let backend = open(&self.scratch.join("readmodels-live")).await?;
        let seams = Seams::system();
        let source = StoreSource::new(store.clone(), seams.timer.clone());
        let host = Host::start(&source, &backend, views::embedded(), &seams);
        let name = Accounts.name();
        visible(&backend, name, Position(store.committed().0 - 1)).await?;
        let measured = Duration::from_secs_f64(self.args.seconds.clamp(1.0, 60.0));
        let appends = LIVE_RATE / LIVE_EVENTS * (LIVE_WARMUP + measured).as_secs();
        let warm = LIVE_RATE / LIVE_EVENTS * LIVE_WARMUP.as_secs();
        let mut ticks = interval(
            Duration::from_secs(1) * u32::try_from(LIVE_EVENTS)? / u32::try_from(LIVE_RATE)?,
        );
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let clock = Arc::new(SystemClock::new());
        let mut waiting = Vec::new();
        for number in 0..appends {
            ticks.tick().await;
            let append = bank.deposits(LIVE_EVENTS)?;
            let (store, backend, clock) = (store.clone(), backend.clone(), clock.clone());
            let wait = tokio::spawn(async move {
                let appended = store.append(append).await?;
                let acknowledged = clock.monotonic();
                let position = appended.position.context("an append without events")?;
                visible(&backend, name, position).await?;
                anyhow::Ok(clock.monotonic().saturating_sub(acknowledged))
            });
            waiting.push((number, wait));
        }
        let mut lags = load::histogram()?;
        for (number, wait) in waiting {
            let lag = wait.await??;
            if number >= warm {
                lags.saturating_record(u64::try_from(lag.as_micros())?.max(1));
            }
        }
        host.stop().await;
        rows.extend(lag_rows(&lags));
        Ok(())
    }
}

fn lag_rows(lags: &Histogram<u64>) -> [Row; 2] {
    [("p50", 0.5, None), ("p99", 0.99, Some(Goal::AtMost(LAG_GOAL_MS)))].map(
        |(name, quantile, goal)| {
            let figure = lags.value_at_quantile(quantile) as f64 / 1e3;
            let name = format!("view, acknowledged -> visible at {LIVE_RATE} events/s, {name}");
            let mut row = Row::with_goal(name, figure, "ms", goal);
            row.latency_us = Some(lags.clone());
            row
        },
    )
}

async fn open(directory: &Path) -> anyhow::Result<SledBackend> {
    let directory = directory.to_owned();
    let store = Uuid::from_u128(1);
    Ok(tokio::task::spawn_blocking(move || SledBackend::open(&directory, store)).await?)
}

/// Waits until `position` is visible in a view.
async fn visible(backend: &impl Backend, view: &str, position: Position) -> anyhow::Result<()> {
    match tokio::time::timeout(CATCH_UP_MAX, backend.wait(view, position)).await {
        Ok(reached) => Ok(reached?),
        Err(_) => bail!("the view {view} does not come to position {position}"),
    }
}

/// Reads the feed as a view does, and keeps nothing.
async fn scanned(store: &Store) -> anyhow::Result<CaughtUp> {
    measured(async {
        let source = StoreSource::new(store.clone(), Seams::system().timer);
        let mut feed = source.follow(None, Interest::default()).await?;
        while !feed.next().await?.caught_up {}
        Ok(())
    })
    .await
}

/// What `work` took.
async fn measured(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<CaughtUp> {
    let clock = SystemClock::new();
    let (cpu, memory) = (cpu()?, memory()?);
    let mut most = memory;
    let mut work = std::pin::pin!(work);
    let mut looks = interval(MEMORY_LOOK);
    loop {
        tokio::select! {
            done = &mut work => break done?,
            _ = looks.tick() => most = most.max(self::memory()?),
        }
    }
    let elapsed = clock.monotonic();
    let cpu = self::cpu()?.saturating_sub(cpu);
    Ok(CaughtUp { elapsed, cpu, memory: most.saturating_sub(memory) })
}

/// Bytes of this process's resident memory.
fn memory() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")).context("no VmRSS")?;
    Ok(kib.trim().parse::<u64>()? * 1024)
}

/// Processor time of this process so far.
fn cpu() -> anyhow::Result<Duration> {
    // Linux shows 100 ticks a second to programs everywhere.
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(')').context("no name in /proc/self/stat")?;
    let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
    Ok(TICK * ticks.sum::<Result<u32, _>>()?)
}
