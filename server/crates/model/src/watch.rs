//! Who follows what a request brings about, for a tracing system; or nobody, which costs nothing.
//!
//! ```text
//!   a request, recorded ──> task ──> append ─── Watch::append ──> Some(Watched) ── stored(Steps)
//!                              └───> a saga's step ─ Watch::step ─> Some(Watched) ── dropped: over
//!   any other               ──> task ──> append ─── Watch::append ──> None
//! ```
//!
//! The store, the orchestrator and the projections ask a [`Watch`] on the task that does the work;
//! whose work that is, is known to the one that implements it. So the heart knows no spans, no
//! exporters and no headers.
//!
//! INVARIANT: a watch decides nothing, waits for nothing, and is asked by no thread of the store.
//! Of an append it may change the metadata of its events, and nothing else.

use std::fmt;
use std::time::Duration;

use uuid::Uuid;

use crate::Timestamp;
use crate::append::Append;

/// Follows work. Asked on the task that does it.
pub trait Watch: Send + Sync {
    /// An append begins. May add to the metadata of its events the span that they are written under.
    fn append(&self, append: &mut Append) -> Option<Box<dyn Watched>>;

    /// A step of a saga begins. What is begun while it lasts is a part of it.
    fn step(&self, step: &SagaStep) -> Option<Box<dyn Watched>>;

    /// A page was read.
    fn page(&self, events: usize, found: Found);

    /// Events, by metadata and time, are about to be taken in by `taker`.
    fn batch(
        &self,
        taker: &str,
        events: &mut dyn Iterator<Item = (&[u8], Timestamp)>,
    ) -> Option<Box<dyn Watched>>;
}

/// Work that is followed, until this is dropped.
pub trait Watched: Send {
    /// It did not come to a good end.
    fn failed(&mut self, why: &dyn fmt::Display);

    /// It was an append, which is durable.
    fn stored(&mut self, steps: &Steps);
}

/// A step of a saga.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SagaStep {
    /// The saga's name.
    pub saga: &'static str,
    /// The step's name.
    pub step: &'static str,
    /// Whether it is taken, or taken back: `action` or `compensation`.
    pub direction: &'static str,
    /// Which of the sagas.
    pub id: Uuid,
}

/// Where a page was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// In memory.
    Memory,
    /// At least a part of it on the disk.
    Disk,
}

/// When an append came how far, by the monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// It was resolved, and put into the writer's queue.
    pub queued: Duration,
    /// The writer had decided it, and encoded it into a batch.
    pub decided: Duration,
    /// The committer began with that batch.
    pub begun: Duration,
    /// The batch was written.
    pub written: Duration,
    /// The batch was durable.
    pub synced: Duration,
    /// It was indexed, and readers saw it.
    pub published: Duration,
    /// Appends of the batch.
    pub batch: u64,
}
