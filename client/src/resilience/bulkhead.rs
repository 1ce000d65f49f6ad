//! A wall between endpoints: so many calls at a time, so many more in a queue, so long.
//!
//! ```text
//!   calls ──> queue, at most waiting_max, first come first served ──> at most inside_max at a time
//!               └── no room, or wait_max is over: Full
//! ```
//!
//! An endpoint that hangs then costs the program `inside_max + waiting_max` calls, and not all it
//! has.
//!
//! INVARIANTS: nobody overtakes; a caller that goes away while it waits, or with its place, gives
//! back what it had.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use daybook_model::Timer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::deadline::within;
use super::settings::InvalidSettings;

/// How much an endpoint may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BulkheadSettings {
    /// Calls at a time.
    pub inside_max: u32,
    /// Calls that wait for a place.
    pub waiting_max: u32,
    /// How long each of them waits.
    pub wait_max: Duration,
}

impl Default for BulkheadSettings {
    fn default() -> BulkheadSettings {
        BulkheadSettings { inside_max: 64, waiting_max: 256, wait_max: Duration::from_secs(1) }
    }
}

/// A call found no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The queue was full.
    #[error("{waiting} calls wait already for one of {inside} places; try again later")]
    QueueFull {
        /// Calls that waited.
        waiting: u32,
        /// All places there are.
        inside: u32,
    },
    /// No place became free in time.
    #[error("none of {inside} places became free within {waited:?}; try again later")]
    WaitedTooLong {
        /// How long it waited.
        waited: Duration,
        /// All places there are.
        inside: u32,
    },
}

/// A bulkhead. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct Bulkhead {
    settings: BulkheadSettings,
    places: Arc<Semaphore>,
    waiting: Arc<AtomicU32>,
    timer: Arc<dyn Timer>,
}

/// A place inside; free again when it is dropped.
#[derive(Debug)]
#[must_use = "a place that is dropped is free again"]
pub struct Place {
    _permit: OwnedSemaphorePermit,
}

/// A place in the queue.
struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Bulkhead {
    /// An empty one.
    ///
    /// # Errors
    /// [`InvalidSettings`]: nobody could ever get in.
    pub fn new(
        settings: BulkheadSettings,
        timer: Arc<dyn Timer>,
    ) -> Result<Bulkhead, InvalidSettings> {
        if settings.inside_max == 0 {
            let (name, rule) = ("inside_max", "give at least 1");
            return Err(InvalidSettings { of: "bulkhead", name, found: "0".to_owned(), rule });
        }
        let places = Arc::new(Semaphore::new(settings.inside_max as usize));
        Ok(Bulkhead { settings, places, waiting: Arc::default(), timer })
    }

    /// A place, at once or after a wait.
    ///
    /// # Errors
    /// [`Full`]: there is none.
    pub async fn enter(&self) -> Result<Place, Full> {
        // The semaphore hands a freed place to the first that waits, so this overtakes nobody.
        if let Ok(permit) = self.places.clone().try_acquire_owned() {
            return Ok(Place { _permit: permit });
        }
        let BulkheadSettings { inside_max: inside, waiting_max, wait_max } = self.settings;
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let queued = Waiting(&self.waiting);
        if waiting >= waiting_max {
            return Err(Full::QueueFull { waiting, inside });
        }
        let place = within(&*self.timer, wait_max, self.places.clone().acquire_owned()).await;
        drop(queued);
        match place {
            Some(permit) => Ok(Place { _permit: permit.expect("it is never closed") }),
            None => Err(Full::WaitedTooLong { waited: wait_max, inside }),
        }
    }

    /// Calls inside now.
    #[must_use]
    pub fn inside(&self) -> u32 {
        let free = u32::try_from(self.places.available_permits()).unwrap_or(u32::MAX);
        self.settings.inside_max.saturating_sub(free)
    }

    /// Calls that wait now.
    #[must_use]
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
