//! The load: so many writers, each in a closed loop, each on streams of its own, each append with
//! the exact revision it must find.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use daybook_client::{Appender, Client};
use daybook_model::{
    Clock as _, ContentType, Entropy as _, ExpectedRevision, NewEvent, Revision, StreamName,
    SystemClock, SystemEntropy,
};
use daybook_store::{Append, Store};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use hdrhistogram::Histogram;
use uuid::Uuid;

use super::raw::RawLog;

/// Events get this type.
const EVENT_TYPE: &str = "BenchEvent";
/// Latencies are kept to three digits, up to a minute, in microseconds.
const LATENCY_MAX_US: u64 = 60_000_000;

/// Where a writer's appends go.
#[derive(Clone)]
pub enum Target {
    /// The raw file, in this process.
    Raw(RawLog),
    /// A store in this process.
    Store(Store),
    /// A server, one call an append; writers share the connections.
    Unary(Vec<Client>),
    /// A server, one call a writer, so many appends in flight on it.
    Batch(Vec<Client>, std::num::NonZeroU32),
}

/// Which stream an append goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streams {
    /// Each writer has one.
    Own,
    /// Each append has one.
    New,
    /// Each writer has an equal part of so many, which exist already, and goes through it.
    Spread(u64),
}

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Writers.
    pub clients: u64,
    /// Events of one append.
    pub events: u64,
    /// Bytes of one event's data.
    pub size: usize,
    /// Which stream an append goes to.
    pub streams: Streams,
    /// How long is measured.
    pub duration: Duration,
    /// How long the load runs before that.
    pub warmup: Duration,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Appends that were acknowledged while it was measured.
    pub appends: u64,
    /// How long that was.
    pub elapsed: Duration,
    /// From an append's sending to its answer, in microseconds.
    pub latency_us: Histogram<u64>,
    /// Microseconds of processor time of the server's process meanwhile, if it has one.
    pub server_cpu_us: Option<u64>,
}

impl Measured {
    /// Appends a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.appends as f64 / self.elapsed.as_secs_f64()
    }

    /// The faster of two: what other programs disturbed less.
    #[must_use]
    pub fn better(self, other: Option<Measured>) -> Measured {
        match other {
            Some(other) if other.rate() > self.rate() => other,
            _ => self,
        }
    }

    /// Microseconds of the server's processor time an append.
    #[must_use]
    pub fn server_cpu_us_per_append(&self) -> Option<f64> {
        self.server_cpu_us.map(|us| us as f64 / self.appends.max(1) as f64)
    }
}

/// How far a measurement is. Writers look at it between appends.
const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const OVER: u8 = 2;

/// An empty histogram of latencies.
///
/// # Errors
/// Never with these bounds.
pub fn histogram() -> anyhow::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).context("no such histogram")
}

/// Runs the load and measures it. `cpu_us` tells the server's processor time.
///
/// # Errors
/// The first append that failed.
pub async fn measure(
    target: &Target,
    shape: Shape,
    cpu_us: impl Fn() -> anyhow::Result<Option<u64>>,
) -> anyhow::Result<Measured> {
    let phase = Arc::new(AtomicU8::new(WARMING));
    let clock = Arc::new(SystemClock::new());
    let (run, _) = Uuid::from_bytes(SystemEntropy.bytes()).as_u64_pair();
    let writers: Vec<_> = (0..shape.clients)
        .map(|index| {
            let source = Source::new(run, index, shape);
            let (phase, clock) = (Arc::clone(&phase), Arc::clone(&clock));
            tokio::spawn(write(target.clone(), source, phase, clock))
        })
        .collect();
    tokio::time::sleep(shape.warmup).await;
    let (cpu_before, started) = (cpu_us()?, clock.monotonic());
    phase.store(MEASURING, Ordering::Release);
    tokio::time::sleep(shape.duration).await;
    phase.store(OVER, Ordering::Release);
    let (cpu_after, elapsed) = (cpu_us()?, clock.monotonic() - started);
    let mut latency_us = histogram()?;
    for writer in writers {
        latency_us.add(writer.await.context("a writer panicked")??)?;
    }
    Ok(Measured {
        appends: latency_us.len(),
        elapsed,
        latency_us,
        server_cpu_us: cpu_after.zip(cpu_before).map(|(after, before)| after - before),
    })
}

async fn write(
    target: Target,
    mut source: Source,
    phase: Arc<AtomicU8>,
    clock: Arc<SystemClock>,
) -> anyhow::Result<Histogram<u64>> {
    let mut latency_us = histogram()?;
    let note = |latency_us: &mut Histogram<u64>, sent: Duration| {
        if phase.load(Ordering::Relaxed) == MEASURING {
            let took = (clock.monotonic() - sent).as_micros();
            latency_us.saturating_record(u64::try_from(took).unwrap_or(LATENCY_MAX_US));
        }
    };
    if let Target::Batch(clients, window) = &target {
        let client = &clients[source.index as usize % clients.len()];
        let appender = client.appender(*window);
        pipeline(&appender, window.get() as usize, &mut source, &phase, &clock, |sent| {
            note(&mut latency_us, sent);
        })
        .await?;
        return Ok(latency_us);
    }
    while phase.load(Ordering::Relaxed) != OVER {
        let (stream, expected, events) = source.next()?;
        let sent = clock.monotonic();
        match &target {
            Target::Raw(log) => {
                log.append(events).await?;
            }
            Target::Store(store) => {
                store.append(Append::to_stream(stream, expected, events)).await?;
            }
            Target::Unary(clients) => {
                let client = &clients[source.index as usize % clients.len()];
                client.append(&stream, expected, events).await?;
            }
            Target::Batch(..) => unreachable!("pipelined above"),
        }
        note(&mut latency_us, sent);
    }
    Ok(latency_us)
}

/// Keeps `window` appends in flight. The revisions are known before the answers: nobody else writes
/// to these streams.
async fn pipeline(
    appender: &Appender,
    window: usize,
    source: &mut Source,
    phase: &AtomicU8,
    clock: &SystemClock,
    mut answered: impl FnMut(Duration),
) -> anyhow::Result<()> {
    let mut flying = FuturesOrdered::new();
    loop {
        let over = phase.load(Ordering::Relaxed) == OVER;
        if !over && flying.len() < window {
            let (stream, expected, events) = source.next()?;
            let sent = clock.monotonic();
            let pending = appender.send(&stream, expected, events).await?;
            flying.push_back(async move { (sent, pending.await) });
            continue;
        }
        let Some((sent, answer)) = flying.next().await else { return Ok(()) };
        answer?;
        answered(sent);
    }
}

/// What one writer appends.
struct Source {
    run: u64,
    index: u64,
    shape: Shape,
    data: Bytes,
    own: StreamName,
    /// The next revision of each of the writer's streams.
    revisions: Vec<u32>,
    at: usize,
    appends: u64,
    ids: u64,
}

impl Source {
    fn new(run: u64, index: u64, shape: Shape) -> Source {
        let own = StreamName::new(&format!("bench.{run:016x}-{index}"));
        let streams = match shape.streams {
            Streams::Own | Streams::New => 1,
            Streams::Spread(streams) => streams / shape.clients.max(1),
        };
        // Streams that the load spreads over have one event each already.
        let next = u32::from(matches!(shape.streams, Streams::Spread(_)));
        Source {
            run,
            index,
            shape,
            data: data(shape.size),
            own: own.expect("a name of digits"),
            revisions: vec![next; usize::try_from(streams.max(1)).expect("fits into memory")],
            at: 0,
            appends: 0,
            ids: index << 40,
        }
    }

    fn next(&mut self) -> anyhow::Result<(StreamName, ExpectedRevision, Vec<NewEvent>)> {
        let revision = self.revisions[self.at];
        let stream = match self.shape.streams {
            Streams::Own => self.own.clone(),
            Streams::New => StreamName::new(&format!("{}.{}", self.own.as_str(), self.appends))?,
            Streams::Spread(_) => {
                let number = self.at as u64 * self.shape.clients + self.index;
                spread_stream(number)?
            }
        };
        let expected = match revision {
            _ if self.shape.streams == Streams::New => ExpectedRevision::NoStream,
            0 => ExpectedRevision::NoStream,
            next => ExpectedRevision::Exact(Revision(u64::from(next) - 1)),
        };
        self.revisions[self.at] += u32::try_from(self.shape.events)?;
        // A stride that shares no factor with most lengths: neighbours are not visited in turn.
        self.at = (self.at + 7_919) % self.revisions.len();
        self.appends += 1;
        let events = (0..self.shape.events).map(|_| {
            self.ids += 1;
            event(self.run, self.ids, self.data.clone())
        });
        Ok((stream, expected, events.collect()))
    }
}

/// The name of stream number `number` of those a load can be spread over.
///
/// # Errors
/// Never: the name is one.
pub fn spread_stream(number: u64) -> anyhow::Result<StreamName> {
    Ok(StreamName::new(&format!("cold-{number}"))?)
}

/// An event of a load.
#[must_use]
pub fn event(run: u64, number: u64, data: Bytes) -> NewEvent {
    NewEvent {
        id: Uuid::from_u64_pair(run, number),
        event_type: EVENT_TYPE.to_owned(),
        content_type: ContentType::Json,
        metadata: Bytes::new(),
        data,
    }
}

/// Bytes of the JSON that holds the filler.
const FRAME: usize = "{\"pad\":\"\"}".len();

/// JSON of `size` bytes (at least ten), as an event's data.
#[must_use]
pub fn data(size: usize) -> Bytes {
    let filler: String = "0123456789abcdef".chars().cycle().take(size.max(FRAME) - FRAME).collect();
    format!("{{\"pad\":\"{filler}\"}}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_json_of_the_size_asked_for() {
        let data = data(256);
        assert_eq!(data.len(), 256);
        assert!(serde_json::from_slice::<serde_json::Value>(&data).is_ok());
    }
}
