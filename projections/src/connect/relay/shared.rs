//! What the parts of one connector share: its relay, its task, and whoever looks after it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use daybook_client::Checkpoint;
use daybook_client::resilience::Wiring;
use parking_lot::Mutex as Short;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::connect::config::ConnectorSettings;
use crate::connect::parked::Parked;
use crate::connect::place::Place;
use crate::connect::sink::Sink;
use crate::connect::streams::Streams;
use crate::consumer::ConsumeError;
use crate::runner::Handle;

/// Positions passed without a message after which the place is written all the same: they would be
/// looked at again after a restart.
const PASSED_MAX: u64 = 10_000;

/// What the parts of one connector share.
pub struct Shared<T, S> {
    pub(in crate::connect) settings: ConnectorSettings,
    pub(in crate::connect) wiring: Wiring,
    pub(in crate::connect) streams: T,
    pub(in crate::connect) place: Mutex<Place<T>>,
    pub(in crate::connect) parked: Mutex<Parked<T>>,
    pub(in crate::connect) sink: Mutex<S>,
    pub(in crate::connect) numbers: Numbers,
    /// Tells the runner what to do, once there is one.
    pub(in crate::connect) handle: Short<Option<Handle>>,
    /// On the monotonic clock: since when there is something confirmed and not written.
    unwritten_since: Short<Option<Duration>>,
}

/// A connector's numbers, for people and metrics.
#[derive(Debug, Default)]
pub struct Numbers {
    /// Messages confirmed since the start.
    pub delivered: AtomicU64,
    /// Messages sent again since the start.
    pub retries: AtomicU64,
    /// Messages parked now.
    pub parked: AtomicU64,
    /// Messages parked since the start.
    pub parked_total: AtomicU64,
    /// Why a message was not taken, the last time.
    pub last_error: Short<Option<String>>,
    /// All up to here is done with; none before the first event, or before it has begun.
    pub checkpoint: Short<Option<Checkpoint>>,
}

impl<T: Streams, S: Sink> Shared<T, S> {
    /// A connector that has not begun yet.
    #[must_use]
    pub fn new(settings: ConnectorSettings, streams: T, sink: S, wiring: Wiring) -> Shared<T, S> {
        let owner: Uuid = uuid::Builder::from_random_bytes(wiring.entropy.bytes()).into_uuid();
        Shared {
            place: Mutex::new(Place::new(streams.clone(), &settings.name, owner)),
            parked: Mutex::new(Parked::new(streams.clone(), &settings.name)),
            sink: Mutex::new(sink),
            numbers: Numbers::default(),
            handle: Short::new(None),
            unwritten_since: Short::new(None),
            settings,
            wiring,
            streams,
        }
    }

    /// Writes the place, if it is time to.
    ///
    /// # Errors
    /// [`ConsumeError`].
    pub async fn write_if_due(&self, place: &mut Place<T>) -> Result<(), ConsumeError> {
        *self.numbers.checkpoint.lock() = place.checkpoint();
        let now = self.wiring.clock.monotonic();
        let since = match place.unwritten() {
            0 => None,
            _ => Some(*self.unwritten_since.lock().get_or_insert(now)),
        };
        let waited =
            since.is_some_and(|since| now.saturating_sub(since) >= self.settings.checkpoint.after);
        let many = place.unwritten() >= self.settings.checkpoint.every;
        if waited || many || place.passed() >= PASSED_MAX {
            place.write().await?;
            *self.unwritten_since.lock() = None;
        }
        Ok(())
    }

    /// Writes the place if it is time to and nobody else is busy with it.
    pub async fn tick(&self) {
        if let Ok(mut place) = self.place.try_lock()
            && let Err(error) = self.write_if_due(&mut place).await
        {
            tracing::debug!(connector = self.settings.name, %error, "the place was not written");
        }
    }

    /// Writes the place if there is anything to write, at the end.
    pub async fn flush(&self) {
        let mut place = self.place.lock().await;
        if place.unwritten() > 0
            && let Err(error) = place.write().await
        {
            let connector = &self.settings.name;
            tracing::warn!(connector, %error, "messages will be sent again: no place was written");
        }
    }

    pub(in crate::connect) fn note(&self, error: &str) {
        *self.numbers.last_error.lock() = Some(error.to_owned());
    }

    pub(in crate::connect) fn count_parked(&self, parked: &Parked<T>) {
        self.numbers.parked.store(parked.len() as u64, Ordering::Relaxed);
    }
}
