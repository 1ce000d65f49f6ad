//! How fast events are read: the whole log and one stream, in process and over gRPC.

use std::time::Duration;

use daybook_client::{Client, Events, ReadAll as RemoteAll, ReadStream as RemoteStream};
use daybook_model::{Clock as _, StreamName, SystemClock};
use daybook_store::{AllFrom, Direction, From, ReadAll, ReadStream, Store};
use futures_util::TryStreamExt as _;

/// What a read came to.
#[derive(Clone, Copy, Debug)]
pub struct Scanned {
    /// Events.
    pub events: u64,
    /// Bytes of their data: proof that each was looked at.
    pub bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl Scanned {
    /// Events a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.events as f64 / self.elapsed.as_secs_f64()
    }
}

/// Reads the whole log of a store in this process.
///
/// # Errors
/// If it cannot be read.
pub async fn all_in_process(store: &Store) -> anyhow::Result<Scanned> {
    let clock = SystemClock::new();
    let mut reader = store.read_all(ReadAll {
        from: AllFrom::Start,
        direction: Direction::Forwards,
        count: u64::MAX,
        filter: None,
    });
    let (mut events, mut bytes) = (0, 0);
    while let Some(page) = reader.next().await? {
        for event in page.events() {
            events += 1;
            bytes += event.data.len() as u64;
        }
    }
    Ok(Scanned { events, bytes, elapsed: clock.monotonic() })
}

/// Reads one stream of a store in this process.
///
/// # Errors
/// If it cannot be read.
pub async fn stream_in_process(store: &Store, stream: &StreamName) -> anyhow::Result<Scanned> {
    let clock = SystemClock::new();
    let query = ReadStream {
        stream: stream.clone(),
        from: From::Start,
        direction: Direction::Forwards,
        count: u64::MAX,
    };
    let mut reader = store.read_stream(query).await?;
    let (mut events, mut bytes) = (0, 0);
    while let Some(page) = reader.next().await? {
        for event in page.events() {
            events += 1;
            bytes += event.data.len() as u64;
        }
    }
    Ok(Scanned { events, bytes, elapsed: clock.monotonic() })
}

/// Reads the whole log of a server.
///
/// # Errors
/// If it cannot be read.
pub async fn all_over_grpc(client: &Client) -> anyhow::Result<Scanned> {
    let clock = SystemClock::new();
    let events = client.read_all(RemoteAll::default()).await?;
    count(events, &clock).await
}

/// Reads one stream of a server.
///
/// # Errors
/// If it cannot be read.
pub async fn stream_over_grpc(client: &Client, stream: &StreamName) -> anyhow::Result<Scanned> {
    let clock = SystemClock::new();
    let events = client.read_stream(RemoteStream::new(stream.clone())).await?;
    count(events, &clock).await
}

async fn count(mut answers: Events, clock: &SystemClock) -> anyhow::Result<Scanned> {
    let (mut events, mut bytes) = (0, 0);
    while let Some(resolved) = answers.try_next().await? {
        if let Some(event) = resolved.event {
            events += 1;
            bytes += event.data.len() as u64;
        }
    }
    Ok(Scanned { events, bytes, elapsed: clock.monotonic() })
}
