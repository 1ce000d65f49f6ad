//! The store as its users see it: async at the rim, threads behind it.
//!
//! ```text
//!   store    opens it, starts and stops its threads; what it is, and how it is
//!   append   what is written
//!   read     what is read and followed
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use daybook_log::backup::{Backup, Extent};
use daybook_log::disk::{Disk, DiskError};
use daybook_log::{Recovery, Sizes};
use daybook_model::watch::Watch;
use daybook_model::{Clock, Entropy, Epoch, Position};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::commit::Committer;
use crate::core::Core;
use crate::maintenance;
use crate::observe::Times;
use crate::open::{first_append, open};
use crate::pipeline::Pipeline;
use crate::prepare::Prepared;
use crate::read::ReadError;
use crate::scavenge::Scavenge;
use crate::status::{About, Health, Stats};
use crate::tail::TAIL_SIZE_DEFAULT;
use crate::writer::{Decider, Request};

mod append;
mod read;

pub use append::Lane;
pub use read::STREAMS_PAGE_MAX;
pub(crate) use read::stream_info;

/// What the store needs of the machine.
#[derive(Clone)]
pub struct Environment {
    /// The data directory.
    pub disk: Arc<dyn Disk>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Unguessable bytes.
    pub entropy: Arc<dyn Entropy>,
}

/// How the store is set up.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How large the log's segments are.
    pub sizes: Sizes,
    /// What it may keep in memory.
    pub memory: Memory,
}

/// What the store may keep in memory that it could do without. What it needs (the index of the
/// active segment, the duplicate window) comes on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of index blocks.
    pub blocks: u64,
    /// Bytes of the newest commits, from which live readers are served.
    pub tail: usize,
    /// Threads that build missing index files when the store is opened. Each holds the index of
    /// one segment, some 100 MiB if all of its events are on streams of their own.
    pub build_threads: usize,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory { blocks: BLOCKS_SIZE_DEFAULT, tail: TAIL_SIZE_DEFAULT, build_threads: 4 }
    }
}

/// Why a store could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log.
    #[error(transparent)]
    Log(#[from] daybook_log::OpenError),
    /// The index could neither be read nor built.
    #[error("cannot open the index: {0}")]
    Read(#[from] ReadError),
    /// A thread could not be started, or the store's first event not be written.
    #[error("cannot start the store: {reason}")]
    Start {
        /// Why.
        reason: String,
    },
}

impl std::convert::From<DiskError> for OpenError {
    fn from(e: DiskError) -> OpenError {
        OpenError::Log(e.into())
    }
}

/// Bytes of index blocks kept in memory unless the options say otherwise.
const BLOCKS_SIZE_DEFAULT: u64 = 64 * 1024 * 1024;
/// The event store. A clone is another handle to the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    pipeline: Arc<Pipeline>,
    scavenge: Scavenge,
    threads: Mutex<Vec<JoinHandle<()>>>,
    recovery: Recovery,
    rebuilt: u64,
    open_us: u64,
}

impl Store {
    /// Opens the store in `environment.disk`, or makes one there. Blocks; starts its threads.
    ///
    /// # Errors
    /// [`OpenError`] names the file, the reason and what to do.
    pub fn open(environment: Environment, options: Options) -> Result<Store, OpenError> {
        let clock = environment.clock.clone();
        let started = clock.monotonic();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let build_threads = options.memory.build_threads.min(threads);
        let memory = Memory { build_threads, ..options.memory };
        let opened = open(environment, options.sizes, memory)?;
        let core = opened.core;
        let mut decider = Decider::new(core.clone(), opened.journal.chain(), opened.last_time);
        let mut committer = Committer::new(core.clone(), opened.journal);
        if core.committed() == Position::FIRST {
            first_event(&core, &mut decider, &mut committer)?;
        }
        let pipeline = Arc::new(Pipeline::new(decider));
        let mut threads = Vec::new();
        let write = pipeline.clone();
        threads.push(spawn("daybook-writer", move || write.write())?);
        let (commit, shared) = (pipeline.clone(), core.clone());
        threads.push(spawn("daybook-committer", move || commit.commit(committer, &shared))?);
        let shared = core.clone();
        threads.push(spawn("daybook-maintenance", move || maintenance::run(&shared))?);
        let shared = core.clone();
        threads.push(spawn("daybook-spare", move || maintenance::prepare_spares(&shared))?);
        let scavenge = Scavenge::new(core.clone());
        let own = scavenge.clone();
        threads.push(spawn("daybook-scavenge", move || own.run())?);
        let open_us = clock.monotonic().saturating_sub(started).as_micros() as u64;
        let (recovery, rebuilt) = (opened.recovery, opened.rebuilt);
        let threads = Mutex::new(threads);
        let inner = Inner { core, pipeline, scavenge, threads, recovery, rebuilt, open_us };
        Ok(Store { inner: Arc::new(inner) })
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    /// What identifies the store.
    #[must_use]
    pub fn about(&self) -> About {
        let epochs = self.core().epochs.read();
        let epoch = epochs.last().map_or(Epoch(0), |(_, epoch)| *epoch);
        let format = daybook_log::segment::FORMAT;
        About { store_id: self.core().store_id, epoch, format }
    }

    /// What opening the log found and did.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.inner.recovery
    }

    /// The end of what is durable: the position the next event will have.
    #[must_use]
    pub fn committed(&self) -> Position {
        self.core().committed()
    }

    /// The epoch that wrote `position`; none at the end and beyond.
    #[must_use]
    pub fn epoch_at(&self, position: Position) -> Option<Epoch> {
        self.core().epoch_at(position)
    }

    /// Where each epoch began, oldest first.
    #[must_use]
    pub fn epochs(&self) -> Vec<(Position, Epoch)> {
        self.core().epochs.read().clone()
    }

    /// Whether appends are taken.
    #[must_use]
    pub fn health(&self) -> Health {
        self.core().health.lock().clone()
    }

    /// Accepts the clock after a leap, so that appends resume.
    pub fn accept_clock(&self) {
        self.core().accept_clock();
    }

    /// Scavenges: they give back the space of what nobody may read any more.
    #[must_use]
    pub fn scavenge(&self) -> &Scavenge {
        &self.inner.scavenge
    }

    /// How long the steps of the write path take.
    #[must_use]
    pub fn times(&self) -> &Times {
        &self.core().times
    }

    /// Has `watch` follow appends and reads from now on. The first one stays.
    pub fn follow_work(&self, watch: Arc<dyn Watch>) {
        // A second one would be told of work that the first has begun.
        let _ = self.core().watch.set(watch);
    }

    /// Who follows its work, if anybody does.
    #[must_use]
    pub fn watch(&self) -> Option<&Arc<dyn Watch>> {
        self.core().watch.get()
    }

    /// Numbers for people and metrics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let core = self.core();
        let counters = &core.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let view = core.view.load();
        let sealed = view.sealed.iter().map(|each| &each.segment);
        let segments = sealed.chain(view.memtables.iter().map(|table| &table.segment));
        let sizes: Vec<u64> = segments.map(|segment| segment.header.size).collect();
        let tables = view.sealed.iter().map(|each| each.table.size);
        Stats {
            committed: core.committed().0,
            appends: get(&counters.appends),
            duplicates: get(&counters.duplicates),
            rejections: get(&counters.rejections),
            overloads: get(&counters.overloads),
            failures: get(&counters.failures),
            events: get(&counters.events),
            bytes: get(&counters.bytes),
            batches: get(&counters.batches),
            queue_depth: self.inner.pipeline.depth() as u64,
            segments: sizes.len() as u64,
            log_bytes: sizes.iter().sum(),
            index_bytes: tables.chain(view.runs.iter().map(|run| run.table.size)).sum(),
            active_keys: view.active().inner.read().keys.len() as u64,
            subscriptions: get(&counters.subscriptions),
            read_from_memory: get(&counters.read_from_memory),
            read_from_disk: get(&counters.read_from_disk),
            spare_failures: core.spares.failures(),
            index_rebuilt: self.inner.rebuilt,
            open_us: self.inner.open_us,
            disk_free: core.environment.disk.free_space().unwrap_or(0),
        }
    }

    /// Everything that is durable now, for a backup.
    #[must_use]
    pub fn extent(&self) -> Extent {
        let committed = self.committed();
        let view = self.core().view.load();
        let sealed = view.sealed.iter().map(|each| each.segment.clone());
        let young = view.memtables.iter().map(|table| table.segment.clone());
        Extent { segments: sealed.chain(young).collect(), committed }
    }

    /// A backup of everything that is durable now, about to be taken. Blocks for as long as it
    /// takes to read the active segment.
    ///
    /// # Errors
    /// [`daybook_log::OpenError`] if the active segment is not sound.
    pub fn backup(&self) -> Result<Backup, daybook_log::OpenError> {
        Backup::new(&self.extent())
    }

    /// Takes no more appends, makes durable what waits, stops the threads. Subscriptions end.
    pub async fn close(&self) {
        self.inner.pipeline.close();
        self.inner.scavenge.close();
        let inner = self.inner.clone();
        let joined = tokio::task::spawn_blocking(move || {
            let threads = std::mem::take(&mut *inner.threads.lock());
            for thread in threads {
                inner.core.wake_maintenance();
                inner.core.spares.stop();
                if thread.join().is_err() {
                    tracing::error!("a thread of the store panicked");
                }
            }
            inner.core.close();
        });
        if joined.await.is_err() {
            tracing::error!("cannot wait for the store's threads");
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Whoever forgot to close loses nothing that was acknowledged: the threads end by
        // themselves.
        self.pipeline.close();
        self.scavenge.close();
    }
}

/// Writes the event at position 0, which names the store.
fn first_event(
    core: &Arc<Core>,
    decider: &mut Decider,
    committer: &mut Committer,
) -> Result<(), OpenError> {
    let start = |reason: String| OpenError::Start { reason };
    let append = first_append(core);
    let salt = core.environment.entropy.bytes();
    let prepared = Prepared::new(&core.hasher, salt, &append, None);
    let prepared = Box::new(prepared.map_err(|e| start(e.to_string()))?);
    let facts = SmallVec::from_elem(Default::default(), 1);
    let resolved = crate::resolve::Resolved { as_of: Position::FIRST, facts };
    let (answer, _) = oneshot::channel();
    let queued = core.environment.clock.monotonic();
    let mut group = decider.group();
    decider.add(Request { prepared, resolved, answer, queued }, &mut group);
    committer.commit(group).map_err(|e| start(e.to_string()))
}

/// Starts a thread whose panic ends the process: the write path must not limp on.
fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    let guarded = move || {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
            std::process::abort();
        }
    };
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(guarded)
        .map_err(|e| OpenError::Start { reason: format!("cannot start thread {name}: {e}") })
}
