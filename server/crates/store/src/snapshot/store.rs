//! The snapshot store: what is asked of the sled that is live, within the limits of one snapshot.
//!
//! INVARIANT: opening never fails and no fault of sled reaches a caller; the worst answer is "no
//! snapshot".

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use daybook_cache::{Disposable, Fault};
use daybook_model::{Position, Revision, StreamName};

use super::limits::{KIND_SIZE_MAX, Limits, SNAPSHOT_SIZE_MAX};
use super::live::Live;
use super::{Identity, Snapshot, SnapshotError, SnapshotStats};

/// Snapshots of aggregates, disposable. Shared by threads; all methods block.
#[derive(Debug)]
pub struct SnapshotStore {
    kept: Disposable<Live>,
    damaged: AtomicU64,
}

impl SnapshotStore {
    /// Opens the snapshots in `directory`, which is created if missing and is nobody else's.
    /// Never fails: what cannot be used is set aside and begun anew, and [`SnapshotStore::notes`]
    /// says so; if even that fails, snapshots are off.
    #[must_use]
    pub fn open(directory: &Path, identity: Identity) -> SnapshotStore {
        SnapshotStore::open_with(directory, identity, Limits::default())
    }

    /// As [`SnapshotStore::open`], with a page cache of `cache_size` bytes.
    #[must_use]
    pub fn open_within(directory: &Path, identity: Identity, cache_size: u64) -> SnapshotStore {
        let limits = Limits { cache: cache_size, ..Limits::default() };
        SnapshotStore::open_with(directory, identity, limits)
    }

    pub(super) fn open_with(directory: &Path, identity: Identity, limits: Limits) -> SnapshotStore {
        let kept = Disposable::open(directory, (identity, limits));
        SnapshotStore { kept, damaged: AtomicU64::new(0) }
    }

    /// Keeps `snapshot` of `stream`. The caller has read the event of its revision, and the log's
    /// end was `committed` then. One that is older than all that are kept of a full stream is not
    /// kept. Durable within about a second, not at once.
    ///
    /// # Errors
    /// [`SnapshotError`] if it breaks a limit or snapshots are off.
    pub fn put(
        &self,
        stream: &StreamName,
        snapshot: &Snapshot,
        committed: Position,
    ) -> Result<(), SnapshotError> {
        if snapshot.data.len() > SNAPSHOT_SIZE_MAX {
            return Err(SnapshotError::TooLarge { size: snapshot.data.len() });
        }
        if snapshot.kind.len() > KIND_SIZE_MAX {
            return Err(SnapshotError::KindTooLong { size: snapshot.kind.len() });
        }
        self.with(|live| live.put(stream, snapshot, committed)).map(|_| ())
    }

    /// The newest snapshot of `stream`, or the newest whose revision is at most `at_or_before`.
    /// None if there is none or its sled just failed: replay from the beginning.
    ///
    /// # Errors
    /// [`SnapshotError::Unavailable`] if snapshots are off.
    pub fn latest(
        &self,
        stream: &StreamName,
        at_or_before: Option<Revision>,
    ) -> Result<Option<Snapshot>, SnapshotError> {
        let bound = at_or_before.unwrap_or(Revision(u64::MAX));
        let Some(lookup) = self.with(|live| live.latest(stream, bound))? else { return Ok(None) };
        if lookup.damaged > 0 {
            self.damaged.fetch_add(lookup.damaged, Ordering::Relaxed);
            self.kept.note(format!(
                "{} damaged snapshots of '{stream}' were dropped; its readers replay",
                lookup.damaged
            ));
        }
        Ok(lookup.snapshot)
    }

    /// Removes all snapshots of `stream` and says how many there were.
    ///
    /// # Errors
    /// [`SnapshotError::Unavailable`] if snapshots are off.
    pub fn delete(&self, stream: &StreamName) -> Result<u64, SnapshotError> {
        Ok(self.with(|live| live.delete(stream))?.unwrap_or(0))
    }

    /// The stream and revision of each snapshot, in order; at most
    /// [`ENTRIES_MAX`](super::limits::ENTRIES_MAX). None if its sled just failed.
    ///
    /// # Errors
    /// [`SnapshotError::Unavailable`] if snapshots are off.
    pub fn list(&self) -> Result<Vec<(String, Revision)>, SnapshotError> {
        Ok(self.with(Live::list)?.unwrap_or_default())
    }

    /// How much there is.
    #[must_use]
    pub fn stats(&self) -> SnapshotStats {
        let (entries, bytes) = self.kept.peek(Live::totals).unwrap_or_default();
        let damaged = self.damaged.load(Ordering::Relaxed);
        SnapshotStats { entries, bytes, damaged, rebuilt: self.kept.rebuilt() }
    }

    /// What happened since the process started, oldest first; only the newest
    /// [`NOTES_MAX`](daybook_cache::limits::NOTES_MAX) notes are kept.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.kept.notes()
    }

    /// Why snapshots were begun anew the last time, if they were since the process started.
    #[must_use]
    pub fn rebuilt_reason(&self) -> Option<String> {
        self.kept.rebuilt_reason()
    }

    /// Writes what waits and closes. Later calls find snapshots off.
    pub fn close(&self) {
        self.kept.close();
    }

    /// Asks the live sled. A fault replaces it, and the answer is none.
    fn with<T>(
        &self,
        ask: impl FnOnce(&Live) -> Result<T, Fault>,
    ) -> Result<Option<T>, SnapshotError> {
        self.kept.with(ask).map_err(|off| SnapshotError::Unavailable { reason: off.reason })
    }
}

#[cfg(test)]
impl SnapshotStore {
    pub(super) fn with_live<T>(&self, ask: impl FnOnce(&Live) -> Result<T, Fault>) -> Option<T> {
        self.with(ask).unwrap()
    }
}
