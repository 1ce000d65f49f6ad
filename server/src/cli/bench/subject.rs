//! A store in a process of its own, so that its memory and its opening can be measured, and it can
//! be killed.
//!
//! ```text
//!   bench ── an order, one line of JSON ──> daybook bench-store ── one line of JSON ──> bench
//! ```
//!
//! It opens the store, says how that went, and obeys until its input ends.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::Args;
use daybook_model::{Clock as _, ExpectedRevision, Revision, StreamName, SystemClock};
use daybook_store::{Append, AppendError, Appended, Store, StreamCondition};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::process::{self, Memory};
use super::{load, place};

/// Events of one append while streams are filled.
const EVENTS_PER_APPEND: u64 = 1_000;
/// Appends in flight while streams are filled.
const FILL_WINDOW: usize = 4;
/// Appends in flight while events are appended one by one.
const SINGLE_WINDOW: usize = 128;
/// Frames begin at multiples of this many bytes.
const PADDED_TO: usize = daybook_log::frame::ALIGNMENT;
/// A prime above every number of streams: a multiple of it, modulo that number, visits each stream
/// once and neighbours in no order.
const STRIDE: u64 = 2_147_483_647;

/// The process that `bench` fills, opens and kills.
#[derive(Debug, Args)]
pub struct SubjectArgs {
    /// Its data directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// How events are laid out in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    /// A stream's events one after the other.
    Clustered,
    /// Each stream has one event before any has the next.
    Spread,
}

/// What the process is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Fill streams.
    Fill {
        /// Events in all.
        events: u64,
        /// Streams.
        streams: u64,
        /// Where a stream's events lie.
        layout: Layout,
        /// Bytes of an event's data.
        size: usize,
    },
    /// Append so many events, each an append of its own, to one stream.
    Singly {
        /// Events.
        events: u64,
        /// Bytes of the smallest event's data. Up to seven are added, evenly, so that what frames
        /// are padded to counts as it does on average.
        size: usize,
    },
    /// Ask for the state of so many of the streams that were filled.
    Look {
        /// Lookups.
        lookups: u64,
        /// Streams.
        streams: u64,
    },
    /// Close the store and end.
    Close,
}

/// What came of an order; of opening, before the first one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Done {
    /// Microseconds it took.
    pub elapsed_us: u64,
    /// Bytes the log grew by.
    pub log_bytes: u64,
    /// Bytes of the events' data, metadata, types and streams' names.
    pub own_bytes: u64,
    /// Index files that were built.
    pub rebuilt: u64,
    /// Events of the store.
    pub committed: u64,
}

/// Obeys until its input ends.
///
/// # Errors
/// If the store cannot be opened, or an order not be done.
pub fn run(args: SubjectArgs) -> anyhow::Result<ExitCode> {
    let runtime = crate::cli::runtime(None)?;
    let clock = SystemClock::new();
    let store = runtime.block_on(place::open(args.data))?;
    let elapsed_us = micros(&clock);
    let rebuilt = store.stats().index_rebuilt;
    let committed = store.committed().0;
    say(&Done { elapsed_us, rebuilt, committed, ..Done::default() })?;
    for line in std::io::stdin().lines() {
        let order = serde_json::from_str(&line.context("cannot read an order")?)?;
        let (clock, before) = (SystemClock::new(), store.stats().bytes);
        let own_bytes = runtime.block_on(obey(&store, &order))?;
        let log_bytes = store.stats().bytes - before;
        let (elapsed_us, committed) = (micros(&clock), store.committed().0);
        say(&Done { elapsed_us, log_bytes, own_bytes, rebuilt, committed })?;
    }
    runtime.block_on(store.close());
    Ok(ExitCode::SUCCESS)
}

fn micros(clock: &SystemClock) -> u64 {
    u64::try_from(clock.monotonic().as_micros()).unwrap_or(u64::MAX)
}

fn say(done: &Done) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, done)?;
    out.write_all(b"\n").and_then(|()| out.flush()).context("nobody listens")
}

/// Does what it is told; the bytes of what was appended, as its user counts them.
async fn obey(store: &Store, order: &Order) -> anyhow::Result<u64> {
    match *order {
        Order::Fill { events, streams, layout, size } => {
            fill(store, events, streams, layout, size).await
        }
        Order::Singly { events, size } => singly(store, events, size).await,
        Order::Look { lookups, streams } => {
            for number in 0..lookups {
                store.stream_info(&stream(scattered(number, streams))?).await?;
            }
            Ok(0)
        }
        Order::Close => {
            store.close().await;
            Ok(0)
        }
    }
}

fn stream(number: u64) -> anyhow::Result<StreamName> {
    Ok(StreamName::new(&format!("large-{number:08}"))?)
}

fn scattered(number: u64, streams: u64) -> u64 {
    (u128::from(number) * u128::from(STRIDE) % u128::from(streams)) as u64
}

/// The stream and revision of event number `number`.
fn place_of(number: u64, events: u64, streams: u64, layout: Layout) -> (u64, u64) {
    match layout {
        Layout::Spread => (scattered(number % streams, streams), number / streams),
        Layout::Clustered => {
            let each = (events / streams).max(1);
            // What does not divide evenly lengthens the last stream.
            let stream = (number / each).min(streams - 1);
            (stream, number - stream * each)
        }
    }
}

async fn fill(
    store: &Store,
    events: u64,
    streams: u64,
    layout: Layout,
    size: usize,
) -> anyhow::Result<u64> {
    let data = load::data(size);
    let mut own_bytes = 0;
    // Appends that share a stream must not be in flight together.
    let disjoint = layout == Layout::Spread && streams >= EVENTS_PER_APPEND * FILL_WINDOW as u64;
    let mut flight = Flight::new(if disjoint { FILL_WINDOW } else { 1 });
    for first in (0..events).step_by(EVENTS_PER_APPEND as usize) {
        let mut append = Append { streams: Default::default(), events: Vec::new() };
        let mut last = None;
        for number in first..events.min(first + EVENTS_PER_APPEND) {
            let (place, revision) = place_of(number, events, streams, layout);
            if last.replace(place) != Some(place) {
                let (stream, expected) = (stream(place)?, expected(revision));
                append.streams.push(StreamCondition { stream, expected });
            }
            let event = load::event(4, number, data.clone());
            let condition = append.streams.len() - 1;
            own_bytes += own(&append.streams[condition].stream, &event.event_type, &data);
            append.events.push((u32::try_from(condition)?, event));
        }
        flight.send(store, append).await?;
    }
    flight.land().await?;
    Ok(own_bytes)
}

fn expected(revision: u64) -> ExpectedRevision {
    match revision {
        0 => ExpectedRevision::NoStream,
        next => ExpectedRevision::Exact(Revision(next - 1)),
    }
}

fn own(stream: &StreamName, event_type: &str, data: &Bytes) -> u64 {
    (stream.as_str().len() + event_type.len() + data.len()) as u64
}

async fn singly(store: &Store, events: u64, size: usize) -> anyhow::Result<u64> {
    let data: Vec<Bytes> = (0..PADDED_TO).map(|more| load::data(size + more)).collect();
    let stream = StreamName::new("large-single")?;
    let run = store.committed().0;
    let mut own_bytes = 0;
    let mut flight = Flight::new(SINGLE_WINDOW);
    for number in 0..events {
        let event = load::event(5, run + number, data[number as usize % PADDED_TO].clone());
        own_bytes += own(&stream, &event.event_type, &event.data);
        let append = Append::to_stream(stream.clone(), ExpectedRevision::Any, [event]);
        flight.send(store, append).await?;
    }
    flight.land().await?;
    Ok(own_bytes)
}

/// Appends in flight.
struct Flight {
    window: usize,
    appends: VecDeque<JoinHandle<Result<Appended, AppendError>>>,
}

impl Flight {
    fn new(window: usize) -> Flight {
        Flight { window, appends: VecDeque::new() }
    }

    async fn send(&mut self, store: &Store, append: Append) -> anyhow::Result<()> {
        let store = store.clone();
        self.appends.push_back(tokio::spawn(async move { store.append(append).await }));
        if self.appends.len() >= self.window {
            self.wait_for_one().await?;
        }
        Ok(())
    }

    async fn land(mut self) -> anyhow::Result<()> {
        while !self.appends.is_empty() {
            self.wait_for_one().await?;
        }
        Ok(())
    }

    async fn wait_for_one(&mut self) -> anyhow::Result<()> {
        let Some(append) = self.appends.pop_front() else { return Ok(()) };
        append.await.context("an append panicked")??;
        Ok(())
    }
}

/// The other end: the process, as `bench` holds it. Killed when it is dropped.
#[derive(Debug)]
pub struct Subject {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Subject {
    /// Starts the process on `data`; what its opening came to. Blocks, as all of these do.
    ///
    /// # Errors
    /// If it cannot be started, or its store not be opened.
    pub fn open(data: &Path) -> anyhow::Result<(Subject, Done)> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut child = Command::new(program)
            .args([std::ffi::OsStr::new("bench-store"), "--data".as_ref(), data.as_os_str()])
            .env("DAYBOOK_LOG", "error")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a process for the store")?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("the process has no output")?);
        let mut subject = Subject { child, orders, answers };
        let opened = subject.answer()?;
        Ok((subject, opened))
    }

    /// Has an order done.
    ///
    /// # Errors
    /// If the process ended instead.
    pub fn order(&mut self, order: &Order) -> anyhow::Result<Done> {
        self.begin(order)?;
        self.answer()
    }

    /// Gives an order and does not wait.
    ///
    /// # Errors
    /// If the process has ended.
    pub fn begin(&mut self, order: &Order) -> anyhow::Result<()> {
        let Some(orders) = &mut self.orders else { bail!("the process was told to end") };
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        orders.write_all(&line).and_then(|()| orders.flush()).context("the process has ended")
    }

    /// Closes the store in good order.
    ///
    /// # Errors
    /// If it did not end well.
    pub fn close(mut self) -> anyhow::Result<()> {
        self.order(&Order::Close)?;
        self.orders = None;
        let status = self.child.wait().context("cannot wait for the process")?;
        if !status.success() {
            bail!("the process that held the store ended with {status}");
        }
        Ok(())
    }

    /// Its memory now.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        process::memory(&self.child.id().to_string())
    }

    fn answer(&mut self) -> anyhow::Result<Done> {
        let mut line = String::new();
        self.answers.read_line(&mut line).context("cannot read the process' answer")?;
        serde_json::from_str(&line).context("the process that held the store has failed")
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // SIGKILL: what a benchmark wants of it, besides.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_gets_its_events_in_order() {
        for layout in [Layout::Clustered, Layout::Spread] {
            let mut next = vec![0; 7];
            for number in 0..45 {
                let (stream, revision) = place_of(number, 45, 7, layout);
                assert_eq!(revision, next[stream as usize], "{layout:?} {number}");
                next[stream as usize] += 1;
            }
            assert!(next.iter().all(|&events| events >= 6), "{layout:?} {next:?}");
        }
    }
}
