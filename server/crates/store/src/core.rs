//! What the writer, the committer and all readers share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use daybook_log::{Segment, Spares};
use daybook_model::watch::{Found, Watch};
use daybook_model::{Epoch, Position, Timestamp};
use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::watch;
use uuid::Uuid;

use crate::feed::KeyWaiters;
use crate::index::KeyHasher;
use crate::index::View;
use crate::index::ids::IdWindow;
use crate::index::table::BlockCache;
use crate::page::Page;
use crate::resolve::SettingsCache;
use crate::status::Health;
use crate::store::Environment;
use crate::tail::Tail;
use crate::writer::Pending;

/// Counters, for [`crate::Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub appends: AtomicU64,
    pub duplicates: AtomicU64,
    pub rejections: AtomicU64,
    pub overloads: AtomicU64,
    pub failures: AtomicU64,
    pub events: AtomicU64,
    pub bytes: AtomicU64,
    pub batches: AtomicU64,
    pub subscriptions: AtomicU64,
    pub read_from_memory: AtomicU64,
    pub read_from_disk: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// What the store's parts share. Readers and the committer meet at one number, `committed`.
pub(crate) struct Core {
    pub environment: Environment,
    pub store_id: Uuid,
    pub store_salt: u64,
    pub hasher: KeyHasher,
    /// The end of what is durable and indexed; the feed's watermark.
    pub committed: watch::Sender<Position>,
    committed_now: AtomicU64,
    pub view: ArcSwap<View>,
    pub tail: Tail,
    /// Empty lists, for the next groups' waiting appends.
    pub pending: Mutex<Vec<Vec<Pending>>>,
    pub ids: RwLock<IdWindow>,
    /// Where each epoch began, oldest first.
    pub epochs: RwLock<Vec<(Position, Epoch)>>,
    pub health: Mutex<Health>,
    /// Whether `health` says that appends are refused for good.
    stopped: AtomicBool,
    clock_accepted: AtomicBool,
    /// The two clocks when an operator accepted them.
    accepted_clocks: Mutex<Option<(Timestamp, Duration)>>,
    pub counters: Counters,
    pub blocks: Arc<BlockCache>,
    pub settings: SettingsCache,
    pub waiters: KeyWaiters,
    pub spares: Arc<Spares>,
    /// Held while index files are written or merged.
    pub maintenance: Mutex<()>,
    /// Whether there may be work for the maintenance thread, which waits for it.
    pub work: (Mutex<bool>, Condvar),
    pub times: crate::observe::Times,
    /// Who follows the work that requests bring about; nobody, most of the time.
    pub watch: OnceLock<Arc<dyn Watch>>,
    /// How many groups were refused: what waits for their positions must look again.
    pub refusals: watch::Sender<u64>,
    /// Raised when the store closes: every wait ends.
    pub closed: watch::Sender<bool>,
}

/// What [`Core::new`] is made from.
pub(crate) struct Parts {
    pub environment: Environment,
    pub store_id: Uuid,
    pub store_salt: u64,
    pub committed: Position,
    pub view: View,
    pub ids: IdWindow,
    pub epochs: Vec<(Position, Epoch)>,
    pub blocks: Arc<BlockCache>,
    pub tail: Tail,
    pub spares: Arc<Spares>,
}

impl Core {
    pub fn new(parts: Parts) -> Core {
        Core {
            hasher: KeyHasher::new(parts.store_id),
            environment: parts.environment,
            store_id: parts.store_id,
            store_salt: parts.store_salt,
            committed: watch::Sender::new(parts.committed),
            committed_now: AtomicU64::new(parts.committed.0),
            view: ArcSwap::from_pointee(parts.view),
            tail: parts.tail,
            pending: Mutex::default(),
            ids: RwLock::new(parts.ids),
            epochs: RwLock::new(parts.epochs),
            health: Mutex::new(Health::Writable),
            stopped: AtomicBool::new(false),
            clock_accepted: AtomicBool::new(false),
            accepted_clocks: Mutex::new(None),
            counters: Counters::default(),
            blocks: parts.blocks,
            settings: SettingsCache::new(),
            waiters: KeyWaiters::default(),
            spares: parts.spares,
            maintenance: Mutex::new(()),
            work: (Mutex::new(true), Condvar::new()),
            times: crate::observe::Times::default(),
            watch: OnceLock::new(),
            refusals: watch::Sender::new(0),
            closed: watch::Sender::new(false),
        }
    }

    /// The end of what is durable. Ask this before [`Core::view`], never after.
    pub fn committed(&self) -> Position {
        Position(self.committed_now.load(Ordering::Acquire))
    }

    /// Makes everything below `end` visible.
    pub fn publish(&self, end: Position) {
        self.committed_now.store(end.0, Ordering::Release);
        self.committed.send_replace(end);
    }

    pub fn epoch_at(&self, position: Position) -> Option<Epoch> {
        if position >= self.committed() {
            return None;
        }
        let epochs = self.epochs.read();
        let at = epochs.partition_point(|(first, _)| *first <= position);
        epochs.get(at.checked_sub(1)?).map(|(_, epoch)| *epoch)
    }

    /// Notes the epoch of a segment that has become the active one.
    pub fn note_epoch(&self, segment: &Segment) {
        let mut epochs = self.epochs.write();
        if epochs.last().is_none_or(|(_, epoch)| *epoch != segment.header.epoch) {
            epochs.push((segment.header.first, segment.header.epoch));
        }
    }

    /// Tells who follows the work of this task, if anybody does, of a page that was read.
    pub fn found(&self, page: Option<&Page>, found: Found) {
        if let (Some(watch), Some(page)) = (self.watch.get(), page) {
            watch.page(page.len(), found);
        }
    }

    /// Notes whether appends are taken, unless they are refused for good already.
    pub fn set_health(&self, health: Health) {
        let mut now = self.health.lock();
        if !matches!(*now, Health::Poisoned { .. } | Health::Closed) {
            *now = health;
        }
    }

    /// Notes that no append is taken any more in this process, because of `reason`.
    pub fn poison(&self, reason: String) {
        *self.health.lock() = Health::Poisoned { reason };
        self.stopped.store(true, Ordering::Release);
        self.refusals.send_modify(|count| *count += 1);
    }

    /// Notes that the disk has room again.
    pub fn end_disk_full(&self) {
        let mut now = self.health.lock();
        if matches!(*now, Health::DiskFull { .. }) {
            *now = Health::Writable;
        }
    }

    /// Notes that the clock is right again.
    pub fn end_clock_leap(&self) {
        let mut now = self.health.lock();
        if matches!(*now, Health::ClockLeapt { .. }) {
            *now = Health::Writable;
        }
    }

    /// Notes that the store takes no more appends, and ends every wait.
    pub fn close(&self) {
        let mut now = self.health.lock();
        if !matches!(*now, Health::Poisoned { .. }) {
            *now = Health::Closed;
        }
        self.stopped.store(true, Ordering::Release);
        drop(now);
        self.closed.send_replace(true);
    }

    /// Asks the maintenance thread to look for work.
    pub fn wake_maintenance(&self) {
        *self.work.0.lock() = true;
        self.work.1.notify_all();
    }

    /// Lets the writer accept the clock as it is now.
    pub fn accept_clock(&self) {
        let clock = &self.environment.clock;
        *self.accepted_clocks.lock() = Some((clock.now(), clock.monotonic()));
        self.clock_accepted.store(true, Ordering::Release);
        let mut now = self.health.lock();
        if matches!(*now, Health::ClockLeapt { .. }) {
            *now = Health::Writable;
        }
    }

    /// The clocks as an operator accepted them, if that was done since this was last asked.
    pub fn take_clock_acceptance(&self) -> Option<(Timestamp, Duration)> {
        if !self.clock_accepted.load(Ordering::Relaxed) {
            return None;
        }
        self.clock_accepted.store(false, Ordering::Relaxed);
        self.accepted_clocks.lock().take()
    }

    /// Whether appends are refused for good in this process.
    pub fn stop_reason(&self) -> Option<String> {
        if !self.stopped.load(Ordering::Acquire) {
            return None;
        }
        match &*self.health.lock() {
            Health::Poisoned { reason } => Some(format!("an earlier write failed: {reason}")),
            Health::Closed => Some("it is stopping".to_owned()),
            _ => None,
        }
    }
}
