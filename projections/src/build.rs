//! The consumer that keeps one generation of a projection: applies events, commits rows and place.
//!
//! ```text
//!   batch ──> event ──> apply ── ok ──────────────────> rows, changed ──┐ enough, or the end
//!                         ├─ poison, panic: undo, again ─ still: Stop ──┤ of the batch
//!                         │                               └─ Park ──────┤
//!                         └─ a row cannot be read: begin anew           └──> commit with the place
//! ```
//!
//! INVARIANTS: the place is committed with the rows it belongs to, or neither is. What an event
//! changed before it failed is undone. No event is left out without being parked.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use daybook_client::Checkpoint;
use daybook_model::{Clock, Position};
use parking_lot::Mutex;

use crate::backend::Backend;
use crate::change::ChangeSet;
use crate::consumer::{ConsumeError, Consumer, Taken};
use crate::feed::{Batch, FeedEvent, Interest};
use crate::projection::{ApplyError, OnPoison, Projection};
use crate::store::{CommitError, Parked, StoreError, Writer};

/// How often an event that cannot be taken in is tried in all.
pub const ATTEMPTS_MAX: u32 = 3;
/// Bytes of a parked event's error at most; the rest is cut.
pub const REASON_SIZE_MAX: usize = 4096;

/// An event that is to be parked when it is met, though the projection would stop at it.
#[derive(Clone, Debug, Default)]
pub struct Skip(Arc<Mutex<Option<Position>>>);

impl Skip {
    /// The event at `position` is to be parked.
    pub fn set(&self, position: Position) {
        *self.0.lock() = Some(position);
    }

    fn is(&self, position: Position) -> bool {
        *self.0.lock() == Some(position)
    }
}

/// Keeps a generation of a projection.
pub struct Build<B: Backend> {
    backend: B,
    projection: Arc<dyn Projection>,
    generation: u32,
    skip: Skip,
    clock: Arc<dyn Clock>,
    /// None while it is at work in another thread, and after an error.
    work: Option<Work<B::Writer>>,
}

/// What is needed to take in events, to be handed to a thread that may block.
struct Work<W> {
    projection: Arc<dyn Projection>,
    skip: Skip,
    clock: Arc<dyn Clock>,
    writer: W,
    changes: ChangeSet,
    parked: Vec<Parked>,
    /// The last event that is in the changes or parked, until that is committed.
    pending: Option<Checkpoint>,
    taken: Taken,
}

impl<B: Backend> Build<B> {
    /// A consumer that keeps `generation` in `backend`.
    #[must_use]
    pub fn new(
        backend: B,
        projection: Arc<dyn Projection>,
        generation: u32,
        clock: Arc<dyn Clock>,
    ) -> Build<B> {
        Build { backend, projection, generation, skip: Skip::default(), clock, work: None }
    }

    /// To have an event parked that it stopped at.
    #[must_use]
    pub fn skip(&self) -> Skip {
        self.skip.clone()
    }
}

impl<B: Backend> Consumer for Build<B> {
    fn interest(&self) -> Interest {
        self.projection.interest()
    }

    async fn begin(&mut self) -> Result<Option<Checkpoint>, ConsumeError> {
        self.work = None;
        let name = self.projection.name();
        let known = self.backend.generations(name).await?;
        if !known.iter().any(|generation| generation.number == self.generation) {
            let reason = format!("generation {} of {name} is gone", self.generation);
            return Err(ConsumeError::Lost { reason });
        }
        let writer = self.backend.write(&*self.projection, self.generation).await?;
        let checkpoint = writer.checkpoint();
        self.work = Some(Work {
            projection: self.projection.clone(),
            skip: self.skip.clone(),
            clock: self.clock.clone(),
            writer,
            changes: ChangeSet::new(self.projection.tables()),
            parked: Vec::new(),
            pending: None,
            taken: Taken::default(),
        });
        Ok(checkpoint)
    }

    async fn take(&mut self, batch: Batch) -> Result<Taken, ConsumeError> {
        let name = self.projection.name();
        let Some(mut work) = self.work.take() else {
            let reason = format!("{name} was not begun");
            return Err(ConsumeError::Interrupted { reason });
        };
        if work.passes(&batch) {
            self.work = Some(work);
            return Ok(Taken::default());
        }
        let task = tokio::task::spawn_blocking(move || {
            let taken = work.take(&batch);
            (work, taken)
        });
        match task.await {
            Ok((work, Ok(taken))) => {
                self.work = Some(work);
                Ok(taken)
            }
            Ok((_, Err(error))) => Err(error),
            Err(error) => {
                let reason = format!("the work on {name} was cut off: {error}");
                Err(ConsumeError::Interrupted { reason })
            }
        }
    }
}

impl<W: Writer> Work<W> {
    /// Whether nothing of the batch is wanted and that was noted, without waiting.
    fn passes(&mut self, batch: &Batch) -> bool {
        batch.events.is_empty() && batch.through.is_none_or(|through| self.writer.pass(through))
    }

    fn take(&mut self, batch: &Batch) -> Result<Taken, ConsumeError> {
        self.taken = Taken::default();
        for event in &batch.events {
            if self.writer.checkpoint().is_some_and(|at| event.checkpoint <= at) {
                continue;
            }
            if let Err(reason) = self.tried(event)? {
                self.poisoned(event, reason)?;
            } else {
                self.taken.events += 1;
            }
            self.pending = Some(event.checkpoint);
            let enough = self.changes.len() >= self.writer.commit_rows_max();
            if enough || self.parked.len() >= PARKED_PER_COMMIT_MAX {
                self.commit(event.checkpoint)?;
            }
        }
        let through = batch.through.max(self.pending);
        match through {
            Some(through) if self.writer.checkpoint() < Some(through) => self.commit(through)?,
            _ => {}
        }
        Ok(self.taken)
    }

    /// Has the projection take in an event. Inside: why it cannot.
    fn tried(&mut self, event: &FeedEvent) -> Result<Result<(), String>, ConsumeError> {
        let mut attempt = 1;
        loop {
            let mut changes = self.changes.over(&mut self.writer);
            let projection = &self.projection;
            let apply = || projection.apply(event.event.view(), &mut changes);
            let reason = match catch_unwind(AssertUnwindSafe(apply)) {
                Ok(Ok(())) => return Ok(Ok(())),
                Ok(Err(ApplyError::Poison { reason })) => reason,
                Ok(Err(ApplyError::Store(error))) => return Err(error.into()),
                Err(panic) => format!("the projection panicked: {}", text_of(&*panic)),
            };
            self.changes.undo();
            if attempt == ATTEMPTS_MAX {
                return Ok(Err(cut(reason)));
            }
            attempt += 1;
        }
    }

    /// Parks an event, or commits everything before it and stops.
    fn poisoned(&mut self, event: &FeedEvent, reason: String) -> Result<(), ConsumeError> {
        let position = event.event.position;
        let stream = event.event.stream.to_string();
        let event_type = event.event.event_type.clone();
        if self.projection.on_poison() == OnPoison::Park || self.skip.is(position) {
            let name = self.projection.name();
            tracing::error!(projection = name, %position, event_type, "parked: {reason}");
            let at = self.clock.now();
            self.parked.push(Parked { position, stream, event_type, reason, at });
            self.taken.parked += 1;
            return Ok(());
        }
        if let Some(before) = self.pending {
            self.commit(before)?;
        }
        Err(ConsumeError::Poisoned { position, stream, event_type, reason })
    }

    fn commit(&mut self, through: Checkpoint) -> Result<(), ConsumeError> {
        self.writer.commit(&self.changes, &self.parked, through)?;
        self.changes.clear();
        self.parked.clear();
        self.pending = None;
        Ok(())
    }
}

/// Parked events of one commit: so many that it stays as small as one of rows.
const PARKED_PER_COMMIT_MAX: usize = 100;

impl From<StoreError> for ConsumeError {
    fn from(error: StoreError) -> ConsumeError {
        let reason = error.to_string();
        if error.transient {
            ConsumeError::Interrupted { reason }
        } else {
            ConsumeError::Refused { reason }
        }
    }
}

impl From<CommitError> for ConsumeError {
    fn from(error: CommitError) -> ConsumeError {
        match error {
            CommitError::Fenced { .. } => ConsumeError::Fenced { reason: error.to_string() },
            CommitError::Store(error) => error.into(),
        }
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

fn cut(mut reason: String) -> String {
    if reason.len() > REASON_SIZE_MAX {
        let end = (0..=REASON_SIZE_MAX).rev().find(|at| reason.is_char_boundary(*at));
        reason.truncate(end.unwrap_or(0));
    }
    reason
}
