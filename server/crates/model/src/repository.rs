//! Many aggregates of one kind over an event store.
//!
//! ```text
//!   execute ─> slot of the aggregate ─ nobody there ─> turn: all that waits here, as one append
//!                 │ someone has the turn                 state  (cached, or snapshot + replay)
//!                 └> queue ─────────────────────────┐    repeated?  decide  evolve   each in order
//!                      wakes with an answer, or     │    append, expecting the state's revision
//!                      with the turn of the next <──┴──  lost race: load what is new, decide again
//! ```
//!
//! A hot aggregate does not collapse into retries: its commands queue here, and while one append is
//! in fdatasync the next batch gathers. Nobody drives the queue but those who wait in it: who has
//! had the turn hands it to the first in the queue, so no command waits for another's convenience,
//! and no task has to be spawned.
//!
//! How each question is answered:
//! - *Can the cache lie?* What is accepted is appended at the revision it was decided on. What is
//!   refused is answered only if the stream's head is still at that revision.
//! - *Can a command happen twice?* Its transaction id is looked up in the store's index before it
//!   is decided, as of the state it is decided on. The digest of the request tells a retry from
//!   another request under the same id. Event ids are derived from it, too.
//! - *What if a caller goes away?* Its future is dropped. If it held the turn, those whose commands
//!   were in its append get [`AppendError::Unknown`], the cached state is forgotten, and the turn
//!   goes on. A command still queued is not executed.
//!
//! INVARIANT: no lock is held across an await.

mod batch;
mod load;
mod slot;
pub mod task;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::aggregate::Aggregate;
use crate::append::AppendError;
use crate::{Clock, Entropy, EventStore, Revision, Snapshot, StreamName, Timer};
use batch::{Batch, Mark};
use slot::{Answer, Baton, Entered, Entry, Loaded, Settled, Signal, Slot};
pub use task::{Companion, ExecuteError, Executed, LoadError, Record, Task, Transaction};

/// Aggregates whose state is kept in memory unless the options say otherwise: some 64 MiB of
/// accounts.
pub const CACHE_LEN_DEFAULT: usize = 65_536;
/// Events after which a snapshot is put unless the options say otherwise: replaying so many takes
/// less than a millisecond.
pub const SNAPSHOT_EVERY_DEFAULT: u64 = 200;
/// Commands of one append. More would make the first of them wait for the last.
pub const BATCH_LEN_MAX: usize = 256;
/// Commands that may wait for one aggregate: a second of a hot one's throughput.
pub const QUEUE_LEN_MAX: usize = 16_384;
/// Races that a batch may lose in a row before its commands are answered with a conflict. The
/// repository's own commands never race each other; another process has to win each time.
pub const ATTEMPTS_MAX: u32 = 8;
/// The longest wait before the second attempt; it doubles with each, and a random part is taken.
const BACKOFF_FIRST: Duration = Duration::from_millis(2);

/// How a repository is set up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Aggregates kept in memory.
    pub cache_len: usize,
    /// A snapshot is put each time a stream grows past a multiple of this; 0 for never.
    pub snapshot_every: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { cache_len: CACHE_LEN_DEFAULT, snapshot_every: SNAPSHOT_EVERY_DEFAULT }
    }
}

/// What the repository has done, for metrics. Counts since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Appends made.
    pub batches: AtomicU64,
    /// Commands in them.
    pub commands: AtomicU64,
    /// Races lost to others.
    pub conflicts: AtomicU64,
    /// Retries recognised by their transaction id.
    pub repeats: AtomicU64,
    /// States taken from memory.
    pub hits: AtomicU64,
    /// States made from snapshot and events.
    pub loads: AtomicU64,
}

/// The aggregates of kind `A` in a store of kind `S`. A clone is another handle to the same.
pub struct Repository<A: Aggregate, S> {
    inner: Arc<Inner<A, S>>,
}

impl<A: Aggregate, S> Clone for Repository<A, S> {
    fn clone(&self) -> Repository<A, S> {
        Repository { inner: self.inner.clone() }
    }
}

struct Inner<A: Aggregate, S> {
    store: S,
    clock: Arc<dyn Clock>,
    timer: Arc<dyn Timer>,
    entropy: Arc<dyn Entropy>,
    slots: quick_cache::sync::Cache<StreamName, Arc<Slot<A>>>,
    snapshot_every: u64,
    counters: Counters,
}

impl<A: Aggregate, S: EventStore> Repository<A, S> {
    /// A repository over `store`.
    #[must_use]
    pub fn new(
        store: S,
        clock: Arc<dyn Clock>,
        timer: Arc<dyn Timer>,
        entropy: Arc<dyn Entropy>,
        options: Options,
    ) -> Repository<A, S> {
        let slots = quick_cache::sync::Cache::new(options.cache_len.max(1));
        let snapshot_every = options.snapshot_every;
        let counters = Counters::default();
        let inner = Inner { store, clock, timer, entropy, slots, snapshot_every, counters };
        Repository { inner: Arc::new(inner) }
    }

    /// The store beneath.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.inner.store
    }

    /// What it has done.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// Does what `task` commands, once; answers when it is durable.
    ///
    /// # Errors
    /// [`ExecuteError`]; only [`AppendError::Unknown`] leaves open whether it happened: the same
    /// task again tells.
    pub async fn execute(
        &self,
        stream: &StreamName,
        task: Task<A>,
    ) -> Result<Executed<A>, ExecuteError<A::Rejection>> {
        let transaction = task.transaction;
        match self.settle(stream, task).await? {
            Settled::Executed(executed) => Ok(executed),
            // Replaying history is not done in a turn: it may take long, and others wait.
            Settled::Repeated(first) => self.first_answer(stream, transaction, first).await,
        }
    }

    /// Has the task done in a turn: its own or another's.
    async fn settle(&self, stream: &StreamName, task: Task<A>) -> Answer<A> {
        let slot = self.slot(stream);
        let (own, baton) = match slot.enter(task)? {
            Entered::Turn(task, baton) => (task, baton),
            Entered::Queued(answer) => match answer.await {
                Ok(Signal::Answer(answer)) => return *answer,
                Ok(Signal::Turn(task, baton)) => (task, baton),
                Err(_) => return Err(abandoned()),
            },
        };
        let others = slot.gather(own.transaction.id, BATCH_LEN_MAX - 1);
        self.turn(stream, &slot, own, others, baton).await
    }

    /// Does one batch, and hands the turn on.
    async fn turn(
        &self,
        stream: &StreamName,
        slot: &Arc<Slot<A>>,
        own: Box<Task<A>>,
        others: Vec<Entry<A>>,
        baton: Baton<A>,
    ) -> Answer<A> {
        let (mut tasks, mut answers) = (vec![own], Vec::with_capacity(others.len()));
        for Entry { task, signal } in others {
            tasks.push(task);
            answers.push(signal);
        }
        let outcomes = self.commit(stream, slot, &tasks).await;
        let mut outcomes = outcomes.into_iter();
        let own = outcomes.next().unwrap_or_else(|| Err(abandoned()));
        // The next batch begins before the answers of this one are looked at.
        baton.pass();
        for (signal, outcome) in answers.into_iter().zip(outcomes) {
            // Whoever does not wait any more does not hear.
            let _ = signal.send(Signal::Answer(Box::new(outcome)));
        }
        own
    }

    /// Decides and appends `tasks` until an append is made; answers each.
    async fn commit(
        &self,
        stream: &StreamName,
        slot: &Slot<A>,
        tasks: &[Box<Task<A>>],
    ) -> Vec<Answer<A>> {
        let mut moved: Vec<Option<ExecuteError<A::Rejection>>> = Vec::new();
        moved.resize_with(tasks.len(), || None);
        let mut attempt = 0;
        let fail =
            |error: ExecuteError<A::Rejection>| tasks.iter().map(|_| Err(error.clone())).collect();
        loop {
            let mut batch = match self.decide(stream, slot, tasks, &moved).await {
                Ok(batch) => batch,
                Err(error) => return fail(ExecuteError::Load(error)),
            };
            if batch.is_empty() {
                // Nothing to append, so no append proves that the state is the newest.
                match self.inner.store.head(stream).await {
                    Ok(head) if head == batch.base.revision => return batch.answers(None),
                    Ok(_) => {}
                    Err(error) => return fail(ExecuteError::Load(error.into())),
                }
            } else {
                match self.inner.store.append(batch.append(stream)).await {
                    Ok(appended) => {
                        count(&self.inner.counters.batches, 1);
                        count(&self.inner.counters.commands, tasks.len() as u64);
                        self.took(stream, slot, &batch);
                        return batch.answers(appended.position);
                    }
                    Err(AppendError::WrongExpectedRevision { index, stream, actual, .. })
                        if index > 0 =>
                    {
                        let task = batch.task_of_stream(index);
                        moved[task] = Some(ExecuteError::CompanionMoved { stream, actual });
                        continue;
                    }
                    Err(AppendError::WrongExpectedRevision { .. }) => {}
                    Err(error) => {
                        slot.forget();
                        return fail(ExecuteError::Append(error));
                    }
                }
            }
            attempt += 1;
            count(&self.inner.counters.conflicts, 1);
            if attempt == ATTEMPTS_MAX {
                let stream = stream.clone();
                return fail(ExecuteError::Conflict { stream });
            }
            self.back_off(attempt).await;
            match self.refresh(stream, Some(batch.base)).await {
                // This slot may not be the cache's any more.
                Ok(loaded) => slot.keep(loaded),
                Err(error) => return fail(ExecuteError::Load(error)),
            }
        }
    }

    /// Decides each task on the state the one before leaves.
    async fn decide(
        &self,
        stream: &StreamName,
        slot: &Slot<A>,
        tasks: &[Box<Task<A>>],
        moved: &[Option<ExecuteError<A::Rejection>>],
    ) -> Result<Batch<A>, LoadError> {
        let base = match slot.loaded() {
            Some(loaded) => {
                count(&self.inner.counters.hits, 1);
                loaded
            }
            None => {
                let loaded = self.refresh(stream, None).await?;
                slot.keep(loaded.clone());
                loaded
            }
        };
        let mut batch = Batch::new(base);
        for (task, moved) in tasks.iter().zip(moved) {
            if let Some(error) = moved {
                batch.answer(Err(error.clone()));
                continue;
            }
            let first = match batch.base.revision {
                Some(_) => self.inner.store.transaction(stream, task.transaction.id).await?,
                None => None,
            };
            match first {
                Some(first) => batch.answer(Ok(Settled::Repeated(first))),
                None => batch.decide(stream, task, self.inner.clock.now()),
            }
        }
        Ok(batch)
    }

    /// The answer that the first request of `transaction` got, whose first event is at `first`.
    async fn first_answer(
        &self,
        stream: &StreamName,
        transaction: Transaction,
        first: Revision,
    ) -> Result<Executed<A>, ExecuteError<A::Rejection>> {
        let mut mark = None;
        let read = |event: crate::EventView<'_>| {
            mark = Mark::read(event.metadata);
            ControlFlow::Break(())
        };
        let read = self.inner.store.replay(stream, first, read).await;
        read.map_err(|error| ExecuteError::Load(error.into()))?;
        let Some(mark) = mark.filter(|mark| mark.digest == transaction.digest) else {
            let (stream, id) = (stream.clone(), transaction.id);
            return Err(ExecuteError::TransactionReused { stream, id });
        };
        count(&self.inner.counters.repeats, 1);
        let revision = Revision(first.0 + u64::from(mark.events) - 1);
        let state = self.load_at(stream, revision).await.map_err(ExecuteError::Load)?;
        Ok(Executed { state, revision: Some(revision), position: None, repeated: true })
    }

    /// Takes in that `batch` is durable.
    fn took(&self, stream: &StreamName, slot: &Slot<A>, batch: &Batch<A>) {
        let Some(revision) = batch.revision else { return };
        let state = batch.state.clone();
        slot.keep(Arc::new(Loaded { state, revision: Some(revision) }));
        let every = self.inner.snapshot_every;
        let before = batch.base.revision.map_or(0, |revision| revision.0 + 1);
        if every > 0 && before / every != (revision.0 + 1) / every {
            let snapshot = Snapshot {
                revision,
                schema: A::SCHEMA,
                kind: A::KIND.to_owned(),
                data: batch.state.to_snapshot(),
            };
            self.inner.store.put_snapshot(stream, snapshot);
        }
    }

    fn slot(&self, stream: &StreamName) -> Arc<Slot<A>> {
        let made: Result<_, std::convert::Infallible> =
            self.inner.slots.get_or_insert_with(stream, || Ok(Arc::default()));
        match made {
            Ok(slot) => slot,
            Err(never) => match never {},
        }
    }

    /// Waits a random part of a time that doubles with each attempt.
    async fn back_off(&self, attempt: u32) {
        let longest = BACKOFF_FIRST * 2u32.pow(attempt.min(ATTEMPTS_MAX));
        let [low, high, ..] = self.inner.entropy.bytes();
        let part = f64::from(u16::from_le_bytes([low, high])) / f64::from(u16::MAX);
        self.inner.timer.sleep(longest.mul_f64(part)).await;
    }
}

fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

fn abandoned<R: std::error::Error>() -> ExecuteError<R> {
    let reason = "the request whose append it shared went away".to_owned();
    ExecuteError::Append(AppendError::Unknown { reason })
}
