//! The snapshots of one stream, behind a door.

use std::sync::Arc;

use daybook_model::{Position, Revision, StreamName};
use daybook_store::AppendError;
use daybook_store::snapshot::{Snapshot, SnapshotError, SnapshotStore};

use super::guarded::owned;

/// Why a client's snapshot was not put, or its snapshots not deleted.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotRefused {
    /// The stream is the ledger's.
    #[error(transparent)]
    Reserved(AppendError),
    /// The snapshots could not take it.
    #[error(transparent)]
    Failed(#[from] SnapshotError),
}

/// The snapshots of one stream, as a caller may use them. All methods block.
pub struct SnapshotDoor {
    snapshots: Arc<SnapshotStore>,
    stream: StreamName,
}

impl SnapshotDoor {
    /// The door to what `snapshots` has of `stream`, whose caller was asked for.
    pub(in crate::node) fn new(snapshots: Arc<SnapshotStore>, stream: StreamName) -> SnapshotDoor {
        SnapshotDoor { snapshots, stream }
    }

    /// As [`SnapshotStore::put`].
    ///
    /// # Errors
    /// [`SnapshotRefused`]
    pub fn put(&self, snapshot: &Snapshot, committed: Position) -> Result<(), SnapshotRefused> {
        owned(&self.stream).map_err(SnapshotRefused::Reserved)?;
        Ok(self.snapshots.put(&self.stream, snapshot, committed)?)
    }

    /// As [`SnapshotStore::latest`].
    ///
    /// # Errors
    /// [`SnapshotRefused::Failed`]
    pub fn latest(
        &self,
        at_or_before: Option<Revision>,
    ) -> Result<Option<Snapshot>, SnapshotRefused> {
        Ok(self.snapshots.latest(&self.stream, at_or_before)?)
    }

    /// As [`SnapshotStore::delete`].
    ///
    /// # Errors
    /// [`SnapshotRefused`]
    pub fn delete(&self) -> Result<u64, SnapshotRefused> {
        owned(&self.stream).map_err(SnapshotRefused::Reserved)?;
        Ok(self.snapshots.delete(&self.stream)?)
    }
}
