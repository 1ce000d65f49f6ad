//! The store as its users see it: async at the rim, threads behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use daybook_log::backup::Backup;
use daybook_log::disk::{Disk, DiskError};
use daybook_log::{Recovery, Sizes};
use daybook_model::append::{Append, AppendError, Appended, Deletion, EndedState, StreamCondition};
use daybook_model::metadata::{METADATA_EVENT_TYPE, TOMBSTONE_EVENT_TYPE};
use daybook_model::{
    Clock, Entropy, Epoch, ExpectedRevision, NewEvent, Position, Revision, StreamMetadata,
    StreamName,
};
use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::Page;
use crate::commit::Committer;
use crate::core::{self, Core};
use crate::feed::{SubscribeFrom, Subscription, SubscriptionFilter};
use crate::index::{Access, KeyKind};
use crate::maintenance;
use crate::observe::Times;
use crate::open::{first_append, open};
use crate::pipeline::Pipeline;
use crate::prepare::Prepared;
use crate::read::{
    AllFrom, AllReader, Direction, From, IndexKey, IndexReader, ReadAll, ReadError, ReadStream,
    StreamReader, Visible, blocking,
};
use crate::resolve::{Resolution, resolve, settings};
use crate::scavenge::Scavenge;
use crate::status::{About, Health, Stats, StreamInfo, StreamState};
use crate::virtual_stream;
use crate::writer::{Decider, Reply, Request};

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

/// How often an append is resolved again because something it rests on changed meanwhile. Each time
/// another append was made durable, so only a stream that others never stop writing gets here.
const RESOLVE_ATTEMPTS_MAX: usize = 100;
/// Bytes of an append that are hashed on the caller's own thread: about a tenth of a millisecond.
const PREPARE_INLINE_MAX: usize = 256 * 1024;
/// Threads that build missing index files when a store is opened. Each holds the index of one
/// segment in memory, some 100 MiB if all of its events are on streams of their own.
const BUILD_THREADS_MAX: usize = 4;
/// Names of one page of [`Store::streams`].
pub const STREAMS_PAGE_MAX: usize = 10_000;

/// The order among appends that are in flight together; see [`Store::append_in`].
#[derive(Debug, Default)]
pub struct Lane(tokio::sync::Mutex<()>);

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
        let opened = open(environment, options.sizes, threads.min(BUILD_THREADS_MAX))?;
        let core = opened.core;
        let mut decider = Decider::new(core.clone(), opened.journal.chain(), opened.last_time);
        let mut committer = Committer::new(core.clone(), opened.journal);
        if core.committed() == Position::FIRST {
            first_event(&core, &mut decider, &mut committer)?;
        }
        let pipeline = Arc::new(Pipeline::default());
        let mut threads = Vec::new();
        let write = pipeline.clone();
        threads.push(spawn("daybook-writer", move || write.write(decider))?);
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
            events: get(&counters.events),
            bytes: get(&counters.bytes),
            batches: get(&counters.batches),
            queue_depth: self.inner.pipeline.depth() as u64,
            segments: sizes.len() as u64,
            log_bytes: sizes.iter().sum(),
            index_bytes: tables.chain(view.runs.iter().map(|run| run.table.size)).sum(),
            active_keys: view.active().inner.read().keys.len() as u64,
            subscriptions: get(&counters.subscriptions),
            index_rebuilt: self.inner.rebuilt,
            open_us: self.inner.open_us,
            disk_free: core.environment.disk.free_space().unwrap_or(0),
        }
    }

    /// Appends atomically; answers when it is durable.
    ///
    /// # Errors
    /// [`AppendError`]; only [`AppendError::Unknown`] leaves open whether it happened.
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.submit(self.prepare_off_thread(append).await?, None).await
    }

    /// As [`Store::append`], and says of all conditions that fail, not of the first alone. What is
    /// expected may be more than a revision: `ended` says of streams, by their index in the append,
    /// how they must have ended.
    ///
    /// # Errors
    /// As [`Store::append`]; [`AppendError::ChecksFailed`] instead of a wrong expected revision,
    /// except where nothing was expected and only a part of the ids is known.
    pub async fn append_checked(
        &self,
        append: Append,
        mut ended: Vec<(u32, EndedState)>,
    ) -> Result<Appended, AppendError> {
        ended.sort_unstable_by_key(|(stream, _)| *stream);
        let mut prepared = self.prepare_off_thread(append).await?;
        prepared.checks = Some(ended.into_boxed_slice());
        self.submit(prepared, None).await
    }

    /// As [`Store::append`], for one of several appends that are in flight together: they reach
    /// the writer in the order in which their futures were first polled, so that each may expect
    /// what the one before leaves.
    ///
    /// # Errors
    /// As [`Store::append`].
    pub async fn append_in(&self, lane: &Lane, append: Append) -> Result<Appended, AppendError> {
        self.submit(self.prepare_off_thread(append).await?, Some(lane)).await
    }

    /// Prepares an append where hashing it does not hold up other tasks.
    async fn prepare_off_thread(&self, append: Append) -> Result<Box<Prepared>, AppendError> {
        let size: usize = append.events.iter().map(|(_, event)| event.data.len()).sum();
        if size < PREPARE_INLINE_MAX {
            return self.prepare(&append, None);
        }
        let store = self.clone();
        let prepared = tokio::task::spawn_blocking(move || store.prepare(&append, None));
        prepared
            .await
            .unwrap_or_else(|_| Err(AppendError::Closed { reason: "it is stopping".to_owned() }))
    }

    fn prepare(
        &self,
        append: &Append,
        deletion: Option<Deletion>,
    ) -> Result<Box<Prepared>, AppendError> {
        let core = self.core();
        let salt = core.environment.entropy.bytes();
        Ok(Box::new(Prepared::new(&core.hasher, salt, append, deletion)?))
    }

    pub(crate) async fn submit(
        &self,
        mut prepared: Box<Prepared>,
        lane: Option<&Lane>,
    ) -> Result<Appended, AppendError> {
        let core = self.core();
        for _ in 0..RESOLVE_ATTEMPTS_MAX {
            if let Some(reason) = core.stop_reason() {
                return Err(AppendError::Closed { reason });
            }
            let turn = match lane {
                Some(lane) => Some(lane.0.lock().await),
                None => None,
            };
            let resolved;
            (prepared, resolved) = self.resolve(prepared).await?;
            let resolved = match resolved {
                Resolution::Write(resolved) => resolved,
                Resolution::Answer(answer) => {
                    self.count_answer(&answer);
                    return answer;
                }
            };
            let refusals = *core.refusals.borrow();
            let (answer, reply) = oneshot::channel();
            let queued = core.environment.clock.monotonic();
            let request = Request { prepared, resolved, answer, queued };
            if let Err((_, waiting)) = self.inner.pipeline.submit(request) {
                if self.inner.pipeline.is_closing() {
                    return Err(AppendError::Closed { reason: "it is stopping".to_owned() });
                }
                core::count(&core.counters.overloads, 1);
                return Err(AppendError::Overloaded { waiting });
            }
            drop(turn);
            match reply.await {
                Ok(Reply::Written(appended, _prepared)) => return Ok(appended),
                Ok(Reply::Done(answer)) => return answer,
                Ok(Reply::Again { prepared: back, until }) => {
                    prepared = back;
                    self.wait_for(until, refusals).await?;
                }
                Err(_) => {
                    let reason = "the store stopped before it was durable".to_owned();
                    return Err(AppendError::Unknown { reason });
                }
            }
        }
        Err(AppendError::Overloaded { waiting: self.inner.pipeline.depth() })
    }

    async fn resolve(
        &self,
        mut prepared: Box<Prepared>,
    ) -> Result<(Box<Prepared>, Resolution), AppendError> {
        let unreadable = |e: ReadError| AppendError::Read { reason: e.to_string() };
        match resolve(self.core(), &mut prepared, Access::Memory) {
            Err(ReadError::NotInMemory) => {}
            other => return Ok((prepared, other.map_err(unreadable)?)),
        }
        let core = self.core().clone();
        blocking(move || {
            let resolution = resolve(&core, &mut prepared, Access::Disk)?;
            Ok((prepared, resolution))
        })
        .await
        .map_err(unreadable)
    }

    fn count_answer(&self, answer: &Result<Appended, AppendError>) {
        let counters = &self.core().counters;
        match answer {
            Ok(_) => core::count(&counters.duplicates, 1),
            Err(_) => core::count(&counters.rejections, 1),
        }
    }

    /// Waits until everything below `until` is committed, or a group was refused since `refusals`
    /// were: what was waited for may never come then.
    async fn wait_for(&self, until: Position, refusals: u64) -> Result<(), AppendError> {
        let core = self.core();
        let (mut committed, mut closed) = (core.committed.subscribe(), core.closed.subscribe());
        let mut refused = core.refusals.subscribe();
        tokio::select! {
            _ = refused.wait_for(|count| *count != refusals) => Ok(()),
            _ = committed.wait_for(|committed| *committed >= until) => Ok(()),
            _ = closed.wait_for(|closed| *closed) => {
                let reason = self.core().stop_reason().unwrap_or_default();
                Err(AppendError::Closed { reason })
            }
        }
    }

    /// Deletes a stream. Answers with the position of what was written for it, if anything was.
    ///
    /// # Errors
    /// [`AppendError`], as for an append. A stream that never was cannot be soft-deleted.
    pub async fn delete(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        how: Deletion,
    ) -> Result<Option<Position>, AppendError> {
        virtual_stream::refuse(stream)?;
        let core = self.core();
        let id = core.environment.entropy.bytes();
        let id = uuid::Builder::from_random_bytes(id).into_uuid();
        let append = match how {
            Deletion::Tombstone => {
                let event = NewEvent::json(id, TOMBSTONE_EVENT_TYPE, Vec::new());
                Append::to_stream(stream.clone(), expected, [event])
            }
            Deletion::Soft => {
                if self.soft_delete_is_done(stream, expected).await? {
                    return Ok(None);
                }
                let data = StreamMetadata::soft_delete_data();
                let event = NewEvent::json(id, METADATA_EVENT_TYPE, data);
                let checked = StreamCondition { stream: stream.clone(), expected };
                let written = StreamCondition {
                    stream: stream.metastream(),
                    expected: ExpectedRevision::Any,
                };
                let streams = SmallVec::from_vec(vec![checked, written]);
                Append { streams, events: vec![(1, event)] }
            }
        };
        let prepared = self.prepare(&append, Some(how))?;
        Ok(self.submit(prepared, None).await?.position)
    }

    /// Whether the stream is soft-deleted already. A stream that cannot be is an error.
    async fn soft_delete_is_done(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
    ) -> Result<bool, AppendError> {
        let info = self.stream_info(stream).await;
        let info = info.map_err(|e| AppendError::Read { reason: e.to_string() })?;
        let wrong = Err(AppendError::WrongExpectedRevision {
            index: 0,
            stream: stream.clone(),
            expected,
            actual: info.head,
        });
        match (info.state, expected) {
            (StreamState::Tombstoned, _) => Err(AppendError::StreamDeleted {
                index: 0,
                stream: stream.clone(),
                tombstoned: true,
            }),
            (StreamState::Missing, ExpectedRevision::NoStream) if info.has_metadata => Ok(false),
            (StreamState::Missing, _) => wrong,
            (_, ExpectedRevision::NoStream) => wrong,
            (StreamState::SoftDeleted, ExpectedRevision::Exact(r)) if Some(r) != info.head => wrong,
            (StreamState::SoftDeleted, _) => Ok(true),
            (StreamState::Live, _) => Ok(false),
        }
    }

    /// What is known of a stream.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or its bytes are damaged.
    pub async fn stream_info(&self, stream: &StreamName) -> Result<StreamInfo, ReadError> {
        let (core, stream) = (self.core().clone(), stream.clone());
        blocking(move || stream_info(&core, &stream)).await
    }

    /// Up to `limit` names of streams that begin with `prefix`, ascending, after `after`. At most
    /// [`STREAMS_PAGE_MAX`].
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or its bytes are damaged.
    pub async fn streams(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, ReadError> {
        let (core, prefix, after) =
            (self.core().clone(), prefix.to_owned(), after.map(str::to_owned));
        let limit = limit.min(STREAMS_PAGE_MAX);
        blocking(move || core.view.load().names(&prefix, after.as_deref(), limit)).await
    }

    /// Reads a stream.
    ///
    /// # Errors
    /// [`ReadError::StreamNotFound`] if it was never written or is soft-deleted,
    /// [`ReadError::StreamDeleted`] if it has a tombstone.
    pub async fn read_stream(&self, query: ReadStream) -> Result<StreamReader, ReadError> {
        match StreamReader::open(self.core(), &query, Access::Memory) {
            Err(ReadError::NotInMemory) => {}
            other => return other,
        }
        let core = self.core().clone();
        blocking(move || StreamReader::open(&core, &query, Access::Disk)).await
    }

    /// Reads the log.
    #[must_use]
    pub fn read_all(&self, query: ReadAll) -> AllReader {
        AllReader::open(self.core(), query)
    }

    /// Reads one event of a stream; none if it does not exist or is hidden.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or its bytes are damaged.
    pub async fn read_event(
        &self,
        stream: &StreamName,
        revision: Revision,
    ) -> Result<Option<Page>, ReadError> {
        let query = ReadStream {
            stream: stream.clone(),
            from: From::Revision(revision),
            direction: Direction::Forwards,
            count: 1,
        };
        let mut reader = match self.read_stream(query).await {
            Ok(reader) => reader,
            Err(ReadError::StreamNotFound { .. } | ReadError::StreamDeleted { .. }) => {
                return Ok(None);
            }
            Err(e) => return Err(e),
        };
        let page = reader.next().await?;
        Ok(page.filter(|page| page.numbered().next().is_some_and(|(n, _)| n == revision.0)))
    }

    /// Reads the events of an index key from its `from`-th on.
    #[must_use]
    pub fn read_index(
        &self,
        key: &IndexKey,
        from: u64,
        direction: Direction,
        count: u64,
    ) -> IndexReader {
        IndexReader::open(self.core(), key, from, direction, count)
    }

    /// Reads the events of an index key that are not the system's as a part of the log: as
    /// [`Store::read_all`] with a filter that wants them, without reading the others.
    #[must_use]
    pub fn read_all_of(
        &self,
        key: &IndexKey,
        from: AllFrom,
        direction: Direction,
        count: u64,
    ) -> AllReader {
        let query = ReadAll { from, direction, count, filter: None };
        AllReader::open(self.core(), query).of_key(key)
    }

    /// Subscribes to the events of an index key that are not the system's, as a part of the log. A
    /// checkpoint is delivered each time `checkpoint_interval` of the key's events, at least 1, were
    /// considered.
    #[must_use]
    pub fn subscribe_all_of(
        &self,
        key: &IndexKey,
        from: SubscribeFrom,
        checkpoint_interval: u64,
    ) -> Subscription {
        let key = key.hashed(&self.core().hasher);
        Subscription::indexed(self.core().clone(), key, from, checkpoint_interval)
    }

    /// Subscribes to a stream, which need not exist yet.
    #[must_use]
    pub fn subscribe_stream(&self, stream: &StreamName, from: SubscribeFrom) -> Subscription {
        Subscription::stream(self.core().clone(), stream.clone(), from)
    }

    /// Subscribes to the log.
    #[must_use]
    pub fn subscribe_all(
        &self,
        from: SubscribeFrom,
        filter: Option<SubscriptionFilter>,
    ) -> Subscription {
        Subscription::all(self.core().clone(), from, filter)
    }

    /// A backup of everything that is durable now, about to be taken. Blocks for as long as it
    /// takes to read the active segment.
    ///
    /// # Errors
    /// [`daybook_log::OpenError`] if the active segment is not sound.
    pub fn backup(&self) -> Result<Backup, daybook_log::OpenError> {
        let committed = self.committed();
        let view = self.core().view.load();
        let sealed = view.sealed.iter().map(|each| each.segment.clone());
        let young = view.memtables.iter().map(|table| table.segment.clone());
        Backup::new(&sealed.chain(young).collect::<Vec<_>>(), committed)
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

/// What is known of a stream. May read the disk.
pub(crate) fn stream_info(core: &Core, stream: &StreamName) -> Result<StreamInfo, ReadError> {
    let committed = core.committed();
    let view = core.view.load();
    let key = core.hasher.key(KeyKind::Settings, stream.as_str());
    let settings = settings(core, &view, key, committed, Access::Disk)?;
    let key = virtual_stream::key(&core.hasher, stream);
    let count = view.count(key, committed, Access::Disk)?;
    let visible = Visible::of(stream, &settings.metadata, count, core);
    let state = if settings.tombstoned {
        StreamState::Tombstoned
    } else if count == 0 {
        StreamState::Missing
    } else if settings.metadata.is_soft_deleted() {
        StreamState::SoftDeleted
    } else {
        StreamState::Live
    };
    Ok(StreamInfo {
        state,
        head: count.checked_sub(1).map(Revision),
        first: Revision(visible.first.min(count)),
        has_metadata: settings.exists,
        metadata: settings.metadata,
    })
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
