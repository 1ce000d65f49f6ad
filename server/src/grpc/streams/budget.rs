//! The bytes that appends hold from when they are received until they are answered. Flow control
//! bounds what is not read yet; this bounds what is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use daybook_model::NewEvent;
use daybook_model::limits::{APPEND_EVENTS_MAX, APPEND_SIZE_MAX};
use daybook_store::AppendError;

use crate::grpc::status;

/// Bytes held by all appends together before further ones are refused as overload, unless there is
/// less memory. Room for eight of the largest.
pub const HELD_SIZE_MAX: usize = 8 * APPEND_SIZE_MAX;
/// Bytes one event costs beside its own: its struct, its allocations. Bounds floods of empty
/// events.
const EVENT_OVERHEAD: usize = 128;

/// Bytes that one append holds at most: with less, the largest would never be taken.
pub const HELD_SIZE_MIN: usize = APPEND_SIZE_MAX + APPEND_EVENTS_MAX * EVENT_OVERHEAD;

/// The bytes held. A clone counts the same ones.
#[derive(Clone, Debug)]
pub struct Budget {
    held: Arc<AtomicUsize>,
    held_max: usize,
}

/// What one append holds; given back when dropped.
#[derive(Debug)]
pub struct Held {
    budget: Budget,
    charged: usize,
    size: usize,
    events: usize,
}

/// Why an event cannot be held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its append breaks a limit of its own.
    Append(AppendError),
    /// All appends together hold too much.
    Busy,
}

impl Budget {
    /// One of `held_max` bytes.
    #[must_use]
    pub fn new(held_max: usize) -> Budget {
        Budget { held: Arc::default(), held_max }
    }

    /// Begins an append, which holds nothing yet.
    #[must_use]
    pub fn begin(&self) -> Held {
        Held { budget: self.clone(), charged: 0, size: 0, events: 0 }
    }
}

impl Held {
    /// Holds `event` as well.
    ///
    /// # Errors
    /// [`Refused`]; the event should be dropped.
    pub fn hold(&mut self, event: &NewEvent) -> Result<(), Refused> {
        let size = event.data.len() + event.metadata.len() + event.event_type.len();
        self.size += size;
        self.events += 1;
        if self.size > APPEND_SIZE_MAX {
            return Err(Refused::Append(status::over_append_size(self.size)));
        }
        if self.events > APPEND_EVENTS_MAX {
            return Err(Refused::Append(AppendError::Malformed {
                reason: "it has too many events; split it",
            }));
        }
        let charge = size + EVENT_OVERHEAD;
        self.charged += charge;
        let before = self.budget.held.fetch_add(charge, Ordering::Relaxed);
        if before + charge > self.budget.held_max { Err(Refused::Busy) } else { Ok(()) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.charged, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use daybook_model::ContentType;
    use uuid::Uuid;

    use super::*;

    fn event(size: usize) -> NewEvent {
        NewEvent {
            id: Uuid::nil(),
            event_type: "T".to_owned(),
            content_type: ContentType::Binary,
            metadata: Bytes::new(),
            data: vec![0; size].into(),
        }
    }

    #[test]
    fn one_append_holds_at_most_its_limit_and_gives_it_back() {
        let budget = Budget::new(HELD_SIZE_MAX);
        let mut held = budget.begin();
        let quarter = event(APPEND_SIZE_MAX / 4 - 1);
        for _ in 0..4 {
            assert_eq!(held.hold(&quarter), Ok(()));
        }
        let refused = held.hold(&event(0));
        assert!(matches!(refused, Err(Refused::Append(AppendError::TooLarge { .. }))));
        drop(held);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn all_appends_together_are_bounded() {
        let budget = Budget::new(HELD_SIZE_MAX);
        budget.held.store(HELD_SIZE_MAX - 200, Ordering::Relaxed);
        let mut held = budget.begin();
        assert_eq!(held.hold(&event(10)), Ok(()));
        assert_eq!(held.hold(&event(10)), Err(Refused::Busy));
        drop(held);
        assert_eq!(budget.held.load(Ordering::Relaxed), HELD_SIZE_MAX - 200);
    }
}
