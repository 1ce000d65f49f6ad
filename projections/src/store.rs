//! What keeps the tables of a projection, with its place in the feed.
//!
//! Every build of a projection is a **generation**, with tables of its own. One generation serves;
//! a newer one may be built beside it and take over when it has caught up.
//!
//! A **writer** is the one that may change a generation. Taking over the writing fences whoever had
//! it before: their next commit fails with [`CommitError::Fenced`] and changes nothing.

use std::sync::Arc;

use daybook_client::Checkpoint;
use daybook_model::{Position, Timestamp};

use crate::change::ChangeSet;
use crate::table::{Row, Table, Value};

/// Why a store of tables could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {action}: {reason}")]
pub struct StoreError {
    /// What was tried, of which projection.
    pub action: String,
    /// What happened, and what to do if somebody can do something.
    pub reason: String,
    /// Whether it may succeed later as it is.
    pub transient: bool,
}

/// Why changes were not committed. None of them is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Somebody else writes this generation now.
    #[error("projection {projection} is written by another runner now; this one stops")]
    Fenced {
        /// The projection.
        projection: String,
    },
    /// Only [`StoreError::transient`] ones may have been committed after all: open the writer
    /// again, and its checkpoint says.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A build of a projection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Counts up from 1 within its projection.
    pub number: u32,
    /// The projection's version it is built by.
    pub version: u32,
    /// Whether queries see it.
    pub serving: bool,
    /// Whether it was told to pause, also in a former process.
    pub paused: bool,
    /// How far it is.
    pub checkpoint: Option<Checkpoint>,
}

/// An event that could not be taken in, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The event's position.
    pub position: Position,
    /// Its stream.
    pub stream: String,
    /// Its type.
    pub event_type: String,
    /// Why.
    pub reason: String,
    /// When it was parked.
    pub at: Timestamp,
}

/// The one that may change a generation's tables. Its methods block.
pub trait Writer: Send + 'static {
    /// How far the generation is, as committed or passed.
    fn checkpoint(&self) -> Option<Checkpoint>;

    /// Changed rows with which the runner commits. It may bring as many more as one event changes.
    fn commit_rows_max(&self) -> usize;

    /// The row of `table` under `key`, as committed.
    ///
    /// # Errors
    /// [`StoreError`] names the table.
    fn load(
        &mut self,
        table: &'static Table,
        key: &[Value],
    ) -> Result<Option<Arc<Row>>, StoreError>;

    /// Commits rows, parked events and the place they belong to, together or not at all.
    ///
    /// # Errors
    /// [`CommitError`].
    fn commit(
        &mut self,
        changes: &ChangeSet,
        parked: &[Parked],
        through: Checkpoint,
    ) -> Result<(), CommitError>;

    /// Notes that nothing up to `through` changes a row, if that can be done without waiting and
    /// needs not be kept; false if it is to be committed.
    fn pass(&mut self, through: Checkpoint) -> bool {
        let _ = through;
        false
    }
}
