//! The load: so many writers, each in a closed loop, on something that only it writes to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use hdrhistogram::Histogram;

/// Latencies are kept to three digits, up to a minute, in microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;
/// How long the load runs before it is measured, of the time measured: a quarter.
const WARMUP_PART: u32 = 4;
/// Appends in flight on each stream of appends.
pub const WINDOW: u32 = 32;

/// How Daybook's writers append; UmaDB has unary calls only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// One call an append.
    Unary,
    /// One call a writer, [`WINDOW`] appends in flight on it.
    Pipelined,
}

/// One line of the comparison.
#[derive(Debug, PartialEq)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// Writers.
    pub clients: u64,
    /// Connections they share.
    pub connections: usize,
    /// Events of one append.
    pub events: u64,
    /// How Daybook's writers append.
    pub how: How,
    /// What is wanted of the ratio of Daybook to UmaDB.
    pub goal: f64,
}

const fn unary(
    name: &'static str,
    clients: u64,
    connections: usize,
    events: u64,
    goal: f64,
) -> Scenario {
    Scenario { name, clients, connections, events, how: How::Unary, goal }
}

/// What is compared.
pub const SCENARIOS: &[Scenario] = &[
    unary("1 client", 1, 1, 1, 1.3),
    unary("16 clients", 16, 16, 1, 1.3),
    unary("128 clients", 128, 128, 1, 1.3),
    unary("1,000 clients, 16 connections", 1000, 16, 1, 1.3),
    unary("128 clients x 10 events", 128, 128, 10, 2.0),
    Scenario {
        name: "128 clients x 10 events, ours pipelined",
        clients: 128,
        connections: 16,
        events: 10,
        how: How::Pipelined,
        goal: 4.0,
    },
];

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Of what.
    pub scenario: &'static Scenario,
    /// Bytes of one event's data.
    pub size: usize,
    /// How long is measured.
    pub duration: Duration,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Appends that were acknowledged meanwhile.
    pub appends: u64,
    /// How long that was.
    pub elapsed: Duration,
    /// From an append's sending to its answer.
    pub latency_us: Histogram<u64>,
    /// Microseconds of the server's processor time meanwhile.
    pub server_cpu_us: u64,
}

impl Measured {
    /// Appends a second.
    pub fn rate(&self) -> f64 {
        self.appends as f64 / self.elapsed.as_secs_f64()
    }

    /// Microseconds of the server's processor time an append.
    pub fn cpu_us_per_append(&self) -> f64 {
        self.server_cpu_us as f64 / self.appends.max(1) as f64
    }
}

const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const OVER: u8 = 2;

/// How far the measurement is, as a writer sees it, and what the writer measured.
pub struct Phase {
    state: Arc<AtomicU8>,
    latency_us: Histogram<u64>,
}

impl Phase {
    fn new(state: Arc<AtomicU8>) -> anyhow::Result<Phase> {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)?;
        Ok(Phase { state, latency_us })
    }

    /// Whether to stop.
    pub fn is_over(&self) -> bool {
        self.state.load(Ordering::Relaxed) == OVER
    }

    /// Notes an append that was sent at `sent` and is answered now.
    pub fn answered(&mut self, sent: Instant) {
        if self.state.load(Ordering::Relaxed) == MEASURING {
            let us = u64::try_from(sent.elapsed().as_micros()).unwrap_or(LATENCY_MAX_US);
            self.latency_us.saturating_record(us);
        }
    }
}

/// Runs a writer for each number and measures them. A writer runs until its phase is over.
pub async fn measure<W>(
    shape: Shape,
    cpu_us: impl Fn() -> anyhow::Result<u64>,
    writer: impl Fn(u64, Phase) -> W,
) -> anyhow::Result<Measured>
where
    W: Future<Output = anyhow::Result<Phase>> + Send + 'static,
{
    let state = Arc::new(AtomicU8::new(WARMING));
    let mut writers = Vec::new();
    for number in 0..shape.scenario.clients {
        writers.push(tokio::spawn(writer(number, Phase::new(Arc::clone(&state))?)));
    }
    tokio::time::sleep(shape.duration / WARMUP_PART).await;
    let (cpu_before, started) = (cpu_us()?, Instant::now());
    state.store(MEASURING, Ordering::Release);
    tokio::time::sleep(shape.duration).await;
    state.store(OVER, Ordering::Release);
    let (server_cpu_us, elapsed) = (cpu_us()? - cpu_before, started.elapsed());
    let mut latency_us = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)?;
    for writer in writers {
        latency_us.add(writer.await.context("a writer panicked")??.latency_us)?;
    }
    Ok(Measured { appends: latency_us.len(), elapsed, latency_us, server_cpu_us })
}

/// Bytes of the JSON that holds the filler.
const FRAME: usize = "{\"pad\":\"\"}".len();

/// JSON of `size` bytes (at least ten), as an event's data.
pub fn data(size: usize) -> Bytes {
    let filler: String = "0123456789abcdef".chars().cycle().take(size.max(FRAME) - FRAME).collect();
    format!("{{\"pad\":\"{filler}\"}}").into()
}
