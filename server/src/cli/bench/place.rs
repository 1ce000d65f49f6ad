//! Where a benchmark keeps its data, and the stores in it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use daybook_log::disk::os::{Access, OsDisk};
use daybook_model::{ExpectedRevision, StreamName, SystemClock, SystemEntropy};
use daybook_store::{Append, Environment, Options, Store, StreamCondition};

use super::load;

/// Streams of one append while streams are made in advance: the most one append may name.
const STREAMS_PER_APPEND: u64 = daybook_model::limits::APPEND_STREAMS_MAX as u64;
/// Events of one append while a log is filled.
const EVENTS_PER_APPEND: u64 = 1_000;

/// Streams of one append while a log is filled, besides the scattered one.
const FILLED_STREAMS: u64 = 100;
/// Appends that each have other streams, before the first ones come again.
const FILLED_TURNS: u64 = 100;

/// A directory for data that nobody keeps; removed when it is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes a directory within `parent`.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn within(parent: &Path) -> anyhow::Result<Scratch> {
        let path = parent.join(format!("daybook-bench-{}", std::process::id()));
        #[expect(clippy::disallowed_methods, reason = "a benchmark's data is not a store's")]
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Scratch { path })
    }

    /// A path in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Opens the store in `directory`, or makes one there.
///
/// # Errors
/// If it cannot be opened.
pub async fn open(directory: PathBuf) -> anyhow::Result<Store> {
    let opened = tokio::task::spawn_blocking(move || {
        let environment = Environment {
            disk: Arc::new(OsDisk::open(&directory, Access::Write)?),
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
        };
        anyhow::Ok(Store::open(environment, Options::default())?)
    });
    opened.await.context("opening the store panicked")?
}

/// Makes the streams that a load is spread over, one event each.
///
/// # Errors
/// If an append fails.
pub async fn make_cold_streams(store: &Store, streams: u64, data: &Bytes) -> anyhow::Result<()> {
    for first in (0..streams).step_by(usize::try_from(STREAMS_PER_APPEND)?) {
        let numbers = first..streams.min(first + STREAMS_PER_APPEND);
        let mut append = Append { streams: Default::default(), events: Vec::new() };
        for (index, number) in numbers.enumerate() {
            let stream = load::spread_stream(number)?;
            append.streams.push(StreamCondition { stream, expected: ExpectedRevision::NoStream });
            append.events.push((u32::try_from(index)?, load::event(1, number, data.clone())));
        }
        store.append(append).await?;
    }
    Ok(())
}

/// Fills a log with `events` events on many streams, and among them, evenly scattered, one stream
/// of `scattered` events; its name.
///
/// # Errors
/// If an append fails.
pub async fn fill(
    store: &Store,
    events: u64,
    scattered: u64,
    data: &Bytes,
) -> anyhow::Result<StreamName> {
    let stream = StreamName::new("scattered")?;
    let every = (events / scattered.max(1)).max(1);
    for first in (0..events).step_by(usize::try_from(EVENTS_PER_APPEND)?) {
        // Stream 0 is the scattered one, the others are those of this append's turn.
        let turn = first / EVENTS_PER_APPEND % FILLED_TURNS;
        let mut append = Append { streams: Default::default(), events: Vec::new() };
        append.streams.push(any(stream.clone()));
        for index in 1..=FILLED_STREAMS {
            append.streams.push(any(StreamName::new(&format!("filled-{turn}-{index}"))?));
        }
        for number in first..events.min(first + EVENTS_PER_APPEND) {
            let index = if number % every == 0 { 0 } else { 1 + number % FILLED_STREAMS };
            append.events.push((u32::try_from(index)?, load::event(2, number, data.clone())));
        }
        store.append(append).await?;
    }
    Ok(stream)
}

fn any(stream: StreamName) -> StreamCondition {
    StreamCondition { stream, expected: ExpectedRevision::Any }
}

/// Writes a stream of `events` events in one piece.
///
/// # Errors
/// If an append fails.
pub async fn write_stream(
    store: &Store,
    name: &str,
    events: u64,
    data: &Bytes,
) -> anyhow::Result<StreamName> {
    let stream = StreamName::new(name)?;
    for first in (0..events).step_by(usize::try_from(EVENTS_PER_APPEND)?) {
        let numbers = first..events.min(first + EVENTS_PER_APPEND);
        let batch = numbers.map(|number| load::event(3, number, data.clone()));
        let append = Append::to_stream(stream.clone(), ExpectedRevision::Any, batch);
        store.append(append).await?;
    }
    Ok(stream)
}
