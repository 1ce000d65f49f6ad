//! Who waits for what: a stream's subscriber for its key, that of a part of the log for its key and,
//! now and then, for the log to have gone on without it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use daybook_model::{Position, Timer};
use parking_lot::Mutex;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, watch};

use crate::index::key::KeyMap;
use crate::index::{EventKeys, Key};

/// Events of the log after which a subscription to a part of it, of which none of them was, is told
/// how far it is: seldom enough that a thousand idle ones cost nothing beside the appends, and often
/// enough that none stands days behind.
pub const IDLE_EVENTS: u64 = 4096;

/// Who waits for which key.
#[derive(Debug, Default)]
pub(crate) struct KeyWaiters {
    waiting: AtomicUsize,
    keys: Mutex<KeyMap<Key, (Arc<Notify>, usize)>>,
    /// Told each time [`IDLE_EVENTS`] more events were committed.
    pub(super) far: Arc<Notify>,
    /// How many were, while somebody waited.
    passed: AtomicU64,
}

impl KeyWaiters {
    pub(super) fn register(&self, key: Key) -> Arc<Notify> {
        let mut keys = self.keys.lock();
        let entry = keys.entry(key).or_insert_with(|| (Arc::new(Notify::new()), 0));
        entry.1 += 1;
        self.waiting.fetch_add(1, Ordering::SeqCst);
        entry.0.clone()
    }

    pub(super) fn leave(&self, key: Key) {
        let mut keys = self.keys.lock();
        if let Some(entry) = keys.get_mut(&key) {
            entry.1 -= 1;
            if entry.1 == 0 {
                keys.remove(&key);
            }
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether nobody waits for any key.
    pub fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0
    }

    /// Wakes whoever waits for one of the keys of committed events.
    pub fn wake<'a>(&self, events: impl Iterator<Item = &'a EventKeys>) {
        let keys = self.keys.lock();
        let mut count = 0;
        for event in events {
            count += 1;
            for key in event {
                if let Some((notify, _)) = keys.get(key) {
                    notify.notify_waiters();
                }
            }
        }
        let before = self.passed.fetch_add(count, Ordering::Relaxed);
        if before / IDLE_EVENTS != before.wrapping_add(count) / IDLE_EVENTS {
            self.far.notify_waiters();
        }
    }
}

/// A wait for a [`Notify`] that was begun: nothing that happens from now on is missed.
pub(super) type Begun = Pin<Box<OwnedNotified>>;

pub(super) fn begin(notify: &Arc<Notify>) -> Begun {
    let mut notified = Box::pin(notify.clone().notified_owned());
    notified.as_mut().enable();
    notified
}

/// When who follows a part of the log is told how far the log went on without it.
pub(super) enum Pace {
    /// After [`IDLE_EVENTS`], or as many more as the interval is.
    Events { far: Arc<Notify>, interval: u64 },
    /// So long after it did.
    Time {
        committed: watch::Receiver<Position>,
        timer: Arc<dyn Timer>,
        every: Duration,
        /// It is that long ago.
        over: bool,
    },
}

impl Pace {
    /// Begins to wait, before a look.
    pub(super) fn begin(&mut self) -> Option<Begun> {
        match self {
            Pace::Events { far, .. } => Some(begin(far)),
            Pace::Time { committed, .. } => {
                committed.borrow_and_update();
                None
            }
        }
    }

    /// Waits for what it may be time after; `behind` as in [`Pace::is_to_tell`]: something is untold.
    /// May be dropped: who is behind then waits anew, though the log goes on no more.
    pub(super) async fn over(&mut self, far: Option<Begun>, behind: bool) {
        match self {
            Pace::Events { .. } => {
                if let Some(far) = far {
                    far.await;
                }
            }
            Pace::Time { committed, timer, every, over } => {
                // It fails when the store is gone, which the next look finds.
                if behind || committed.changed().await.is_ok() {
                    timer.sleep(*every).await;
                }
                *over = true;
            }
        }
    }

    /// Whether so many untold places are to be told.
    pub(super) fn is_to_tell(&mut self, untold: u64) -> bool {
        match self {
            Pace::Events { interval, .. } => untold >= IDLE_EVENTS.max(*interval),
            Pace::Time { over, .. } => std::mem::take(over) && untold > 0,
        }
    }
}
