//! `daybook bench`: what this machine's disk and processors allow, and how much of it we reach.
//!
//! ```text
//!   store   N writers ──> store                             beside   a raw file, group commit
//!   unary   N clients ── one call an append ──> a server    beside   a server that only writes
//!   batch   N clients ── one call, many in flight ──> it    beside     what it gets to that file
//!   scan    one reader of the whole log, of one stream, of a scattered one: in process and by gRPC
//!   feed    1,000 events a second, from their acknowledgement to their subscriber
//!   subscribers   what 1,000 that wait cost, and what 100 slow ones cost a fast one
//!   projections   the built-in views into sled: catching up, and how soon an event is visible
//!   persistent    groups of consumers, beside plain subscriptions to the same
//!   backup    appends over gRPC to a server that archives, and to one that is backed up meanwhile
//!   proofs    unary appends of callers who are asked who they are, beside those who are not
//!   strangers   unary appends while a thousand others never end their requests, beside without them
//!   breaker   what a circuit breaker adds to a call that succeeds
//!   large   ten million events in a million streams: filling, memory, index, opening
//! ```
//!
//! Machines differ, so the ceiling is measured in the same run, by the same clients, a moment after
//! each figure, and both more than once, the better counting; trust the ratios. Writers are closed
//! loops: each waits for its answer, and each append expects an exact revision of the writer's own
//! stream. Servers are processes of their own, on the same processors as their load; their
//! processor time is the system's account of them.
//!
//! Not here: other people's servers (see `tests/bench`), open loops, networks.

pub mod backup;
pub mod breaker;
pub mod feed;
pub mod large;
pub mod limit;
pub mod load;
pub mod persistent;
pub mod place;
pub mod process;
pub mod projections;
pub mod proofs;
pub mod raw;
pub mod report;
pub mod scan;
pub mod subject;
pub mod subscribers;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use daybook_client::Client;
use indicatif::ProgressBar;
use serde_json::json;

use self::load::{Measured, Shape, Streams, Target, measure};
use self::place::Scratch;
use self::process::Server;
use self::raw::RawLog;
use self::report::{Against, Goal, Row};
use super::report::{Json, print};

/// How long the load runs before it is measured, of the time measured: a quarter.
const WARMUP_PART: u32 = 4;
/// Events of the stream that is read alone.
const STREAM_EVENTS: u64 = 10_000;
/// Events a second of the feed.
const FEED_RATE: u64 = 1_000;

/// Measures appends, reads and the feed, beside what the machine allows.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  daybook bench                              everything, some minutes
  daybook bench --only unary --clients 128 --seconds 10
  daybook bench --only store --streams spread:1000000 --json=bench.json
  daybook bench --only large                 some minutes, and 6 GB of disk")]
pub struct BenchArgs {
    /// What to measure; 'large' only when it is named
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_values = ["store", "unary", "batch", "scan", "feed", "subscribers", "breaker"]
    )]
    only: Vec<Part>,

    /// Numbers of writers
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 128, 1000])]
    clients: Vec<u64>,

    /// Events of one append; besides one, ten are measured at 128 writers
    #[arg(long, default_value_t = 1)]
    events: u64,

    /// Bytes of one event
    #[arg(long, default_value_t = 256)]
    size: usize,

    /// Which streams are written: own (one a writer), new (one an append), spread:N (N cold ones)
    #[arg(long, default_value = "own", value_parser = parse_streams)]
    streams: Streams,

    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,

    /// How often each figure and its ceiling are measured in turn; the better of each counts
    #[arg(long, default_value_t = 2)]
    rounds: u32,

    /// Appends in flight on each call of 'batch'
    #[arg(long, default_value = "32")]
    window: NonZeroU32,

    /// Connections of 'batch', and of 'unary' with more than 128 clients (fewer have one each)
    #[arg(long, default_value_t = 16)]
    connections: usize,

    /// Events of the log that is read
    #[arg(long, default_value_t = 300_000)]
    scan_events: u64,

    /// Events of the history of 'projections'
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    history_events: u64,

    /// Accounts of it
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    history_accounts: u64,

    /// A PostgreSQL server into which 'projections' builds the views as well
    #[arg(long, env = "DAYBOOK_POSTGRES", hide_env_values = true, value_name = "URL")]
    postgres: Option<String>,

    /// Events of 'large'
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    large_events: u64,

    /// Streams of 'large'
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    large_streams: u64,

    /// Where a directory for the data is made, and removed again; choose the disk that matters
    #[arg(long, value_name = "DIR", default_value = ".")]
    data: PathBuf,

    #[command(flatten)]
    json: Json,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Part {
    /// Appends to a store in this process.
    Store,
    /// Appends over gRPC, one call each.
    Unary,
    /// Appends over gRPC, pipelined over one call a writer.
    Batch,
    /// Reads of the whole log and of one stream.
    Scan,
    /// From acknowledgement to subscriber.
    Feed,
    /// Subscribers that wait, and slow ones.
    Subscribers,
    /// The built-in views: catching up, and live.
    Projections,
    /// Groups of consumers, beside plain subscriptions.
    Persistent,
    /// Appends while the log is archived or backed up, beside appends while it is not.
    Backup,
    /// What it costs to ask who calls.
    Proofs,
    /// What strangers who end nothing cost the honest.
    Strangers,
    /// What a circuit breaker costs.
    Breaker,
    /// A large store: filling, memory, index, opening.
    Large,
}

fn parse_streams(text: &str) -> Result<Streams, &'static str> {
    match text.split_once(':') {
        None if text == "own" => Ok(Streams::Own),
        None if text == "new" => Ok(Streams::New),
        Some(("spread", count)) => match count.replace('_', "").parse() {
            Ok(count) if count > 0 => Ok(Streams::Spread(count)),
            _ => Err("give spread:N with a number of streams"),
        },
        _ => Err("give own, new or spread:N"),
    }
}

/// Measures.
///
/// # Errors
/// If a server does not start, or an append or read fails.
pub fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    if cfg!(debug_assertions) {
        eprintln!("note: this is a debug build; its figures say nothing. Use cargo run --release");
    }
    super::runtime(None)?.block_on(async {
        let bench = Bench::new(args)?;
        let mut rows = Vec::new();
        let mut parts = bench.args.only.clone();
        parts.sort_unstable();
        parts.dedup();
        for part in parts {
            match part {
                Part::Store => bench.store(&mut rows).await?,
                Part::Unary | Part::Batch => bench.server(part, &mut rows).await?,
                Part::Scan => bench.scan(&mut rows).await?,
                Part::Feed => bench.feed(&mut rows).await?,
                Part::Subscribers => bench.subscribers(&mut rows).await?,
                Part::Projections => bench.projections(&mut rows).await?,
                Part::Persistent => bench.persistent(&mut rows).await?,
                Part::Backup => bench.backup(&mut rows).await?,
                Part::Proofs => bench.proofs(&mut rows).await?,
                Part::Strangers => bench.strangers(&mut rows).await?,
                Part::Breaker => rows.extend(breaker::measure().await?),
                Part::Large => bench.large(&mut rows)?,
            }
        }
        bench.progress.finish_and_clear();
        bench.answer(&rows)?;
        Ok(ExitCode::SUCCESS)
    })
}

struct Bench {
    args: BenchArgs,
    scratch: Scratch,
    progress: ProgressBar,
}

impl Bench {
    fn new(args: BenchArgs) -> anyhow::Result<Bench> {
        if args.events == 0 || args.clients.contains(&0) || args.connections == 0 {
            bail!("--clients, --events and --connections take numbers from 1 on");
        }
        let scratch = Scratch::within(&args.data)?;
        let progress = ProgressBar::new_spinner();
        progress.enable_steady_tick(Duration::from_millis(200));
        Ok(Bench { args, scratch, progress })
    }

    /// Writers and events an append, one pair a measurement.
    fn shapes(&self) -> Vec<Shape> {
        let events = self.args.events;
        let mut shapes: Vec<_> = self.args.clients.iter().map(|n| self.shape(*n, events)).collect();
        if events == 1 && self.args.clients.contains(&128) && self.args.streams == Streams::Own {
            shapes.push(self.shape(128, 10));
        }
        shapes
    }

    fn shape(&self, clients: u64, events: u64) -> Shape {
        let duration = Duration::from_secs_f64(self.args.seconds.clamp(0.1, 3600.0));
        Shape {
            clients,
            events,
            size: self.args.size,
            streams: self.args.streams,
            duration,
            warmup: duration / WARMUP_PART,
        }
    }

    fn say(&self, what: &str) {
        self.progress.set_message(what.to_owned());
    }

    /// Makes the streams that exist before the load begins.
    async fn prepare(&self, directory: PathBuf) -> anyhow::Result<()> {
        if let Streams::Spread(streams) = self.args.streams {
            self.say(&format!("making {streams} streams"));
            let store = place::open(directory).await?;
            place::make_cold_streams(&store, streams, &load::data(self.args.size)).await?;
            store.close().await;
        }
        Ok(())
    }

    async fn store(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        let raw = RawLog::create(&self.scratch.join("raw"))?;
        for (number, shape) in self.shapes().into_iter().enumerate() {
            let name = name("store", &shape);
            self.say(&name);
            let (mut ours, mut limit) = (None, None);
            for round in 0..self.args.rounds {
                // Revisions are counted from one event a cold stream: each load has its own store.
                let directory = self.scratch.join(&format!("store-{number}-{round}"));
                self.prepare(directory.clone()).await?;
                let store = place::open(directory).await?;
                let target = Target::Store(store.clone());
                ours = Some(measure(&target, shape, || Ok(None)).await?.better(ours));
                store.close().await;
                let target = Target::Raw(raw.clone());
                limit = Some(measure(&target, shape, || Ok(None)).await?.better(limit));
            }
            let (Some(ours), Some(limit)) = (ours, limit) else { bail!("--rounds is 0") };
            let goal = if shape.clients >= 1000 || shape.events > 1 { 0.3 } else { 0.5 };
            let goal = (shape.streams == Streams::Own).then_some(goal);
            rows.push(Row::of_appends(name, &ours, Some(against("raw file", &limit, goal))));
        }
        Ok(())
    }

    async fn server(&self, part: Part, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        let label = if part == Part::Unary { "unary" } else { "batch" };
        let unary: BTreeMap<String, f64> =
            rows.iter().map(|row| (row.name.clone(), row.figure)).collect();
        let limit = Server::limit(&self.scratch.join("raw-server")).await?;
        for (number, shape) in self.shapes().into_iter().enumerate() {
            let name = name(label, &shape);
            self.say(&name);
            let (mut ours, mut ceiling) = (None, None);
            for round in 0..self.args.rounds {
                let directory = self.scratch.join(&format!("{label}-{number}-{round}"));
                self.prepare(directory.clone()).await?;
                let server = Server::store(&directory).await?;
                ours = Some(self.load(part, &server, shape).await?.better(ours));
                drop(server);
                ceiling = Some(self.load(part, &limit, shape).await?.better(ceiling));
            }
            let (Some(ours), Some(ceiling)) = (ours, ceiling) else { bail!("--rounds is 0") };
            let own = shape.streams == Streams::Own;
            let goal = (part == Part::Unary && own && shape.events == 1).then_some(0.85);
            rows.push(Row::of_appends(
                name.clone(),
                &ours,
                Some(against("server", &ceiling, goal)),
            ));
            let twin = name.replacen("batch", "unary", 1);
            if let (Part::Batch, Some(figure)) = (part, unary.get(&twin)) {
                let goal = matches!(shape.clients, 16 | 128).then_some(2.5).filter(|_| own);
                let goal = goal.map(Goal::AtLeast);
                let against = Against { name: "our unary", figure: *figure, cpu_us: None, goal };
                rows.push(Row::of_appends(name, &ours, Some(against)));
            }
        }
        Ok(())
    }

    async fn load(&self, part: Part, server: &Server, shape: Shape) -> anyhow::Result<Measured> {
        let own = part == Part::Unary && shape.clients <= 128;
        let most = if own { usize::MAX } else { self.args.connections };
        let connections = usize::try_from(shape.clients)?.min(most);
        let clients = (0..connections).map(|_| Client::new(&server.url()));
        let clients: Vec<_> = clients.collect::<Result<_, _>>()?;
        let target = match part {
            Part::Batch => Target::Batch(clients, self.args.window),
            _ => Target::Unary(clients),
        };
        measure(&target, shape, || server.cpu_us().map(Some)).await
    }

    async fn scan(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        let directory = self.scratch.join("scan");
        let data = load::data(self.args.size);
        self.say(&format!("filling a log with {} events", self.args.scan_events));
        let store = place::open(directory.clone()).await?;
        let one = place::write_stream(&store, "one", STREAM_EVENTS, &data).await?;
        let scattered = place::fill(&store, self.args.scan_events, STREAM_EVENTS, &data).await?;
        self.say("reading in process");
        let reads = [
            ("scan of all, in process", best(|| scan::all_in_process(&store)).await?, 4e6),
            ("one stream, in process", best(|| scan::stream_in_process(&store, &one)).await?, 0.0),
            (
                "a scattered stream, in process",
                best(|| scan::stream_in_process(&store, &scattered)).await?,
                0.0,
            ),
        ];
        rows.extend(reads.map(|(name, scanned, goal)| scan_row(name, &scanned, goal)));
        store.close().await;
        drop(store);
        self.say("reading over gRPC");
        let server = Server::store(&directory).await?;
        let client = Client::new(&server.url())?;
        let all = best(|| scan::all_over_grpc(&client)).await?;
        let stream = best(|| scan::stream_over_grpc(&client, &one)).await?;
        let thin = best(|| scan::stream_over_grpc(&client, &scattered)).await?;
        rows.push(scan_row("scan of all, gRPC", &all, 1e6));
        rows.push(scan_row("one stream of 10,000, gRPC", &stream, 5e5));
        rows.push(scan_row("a scattered stream, gRPC", &thin, 1.5e5));
        Ok(())
    }

    async fn feed(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        self.say("feed");
        let server = Server::store(&self.scratch.join("feed")).await?;
        let duration = Duration::from_secs_f64(self.args.seconds.clamp(1.0, 60.0));
        let fed = feed::measure(&server.url(), FEED_RATE, duration, self.args.size).await?;
        for (name, quantile, most) in [("p50", 0.5, 0.45), ("p99", 0.99, 1.5)] {
            let figure = fed.acknowledged_us.value_at_quantile(quantile) as f64 / 1e3;
            let name = format!("feed, acknowledged -> delivered, {name}");
            let mut row = Row::with_goal(name, figure, "ms", Some(Goal::AtMost(most)));
            row.latency_us = Some(fed.acknowledged_us.clone());
            rows.push(row);
        }
        let name = "feed, sent -> delivered".to_owned();
        let mut row = Row::with_goal(name, FEED_RATE as f64, "events/s", None);
        row.latency_us = Some(fed.sent_us);
        rows.push(row);
        Ok(())
    }

    fn answer(&self, rows: &[Row]) -> anyhow::Result<()> {
        let value = json!({
            "version": crate::VERSION,
            "processors": std::thread::available_parallelism().map_or(0, usize::from),
            "eventSize": self.args.size,
            "seconds": self.args.seconds,
            "rows": report::to_json(rows),
        });
        if self.args.json.wanted() {
            self.args.json.answer(&value, &report::to_table(rows))
        } else {
            print(&report::to_table(rows))
        }
    }
}

fn name(part: &str, shape: &Shape) -> String {
    let streams = match shape.streams {
        Streams::Own => String::new(),
        Streams::New => ", new streams".to_owned(),
        Streams::Spread(streams) => format!(", {streams} streams"),
    };
    format!("{part} {} x {}{streams}", shape.clients, shape.events)
}

fn against(name: &'static str, measured: &Measured, goal: Option<f64>) -> Against {
    let cpu_us = measured.server_cpu_us_per_append();
    Against { name, figure: measured.rate(), cpu_us, goal: goal.map(Goal::AtLeast) }
}

fn scan_row(name: &str, scanned: &scan::Scanned, goal: f64) -> Row {
    let goal = (goal > 0.0).then_some(Goal::AtLeast(goal));
    Row::with_goal(name.to_owned(), scanned.rate(), "events/s", goal)
}

/// The fastest of three: the first one also finds its bytes.
async fn best<R>(read: impl Fn() -> R) -> anyhow::Result<scan::Scanned>
where
    R: Future<Output = anyhow::Result<scan::Scanned>>,
{
    let mut best = read().await?;
    for _ in 0..2 {
        let again = read().await?;
        if again.elapsed < best.elapsed {
            best = again;
        }
    }
    Ok(best)
}
