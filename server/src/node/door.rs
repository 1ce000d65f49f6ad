//! The doors through which clients reach the store and its snapshots.
//!
//! ```text
//!   gRPC, HTTP ─> Door ─────────┬─ reads, subscriptions ─────────────> store
//!                 SnapshotDoor  └─ writes ─ reserved? ─ no ──────────> store
//!                                              └─ yes: AppendError::Reserved
//!   ledger ───────────────────────────────────────────────────────────> store
//! ```
//!
//! Streams that have an [`Owner`](daybook_model::Owner) hold what was decided by rules: those of the
//! ledger money that was moved, those of users who may call. What a client could append to them,
//! delete of them, or put beside them as a snapshot, would be believed.
//!
//! INVARIANT: a request never holds a bare [`Store`] or [`SnapshotStore`], so that no new route
//! can forget to ask. A door therefore lends neither; it repeats what clients may do.

use std::sync::Arc;

use daybook_log::backup::{Backup, Extent};
use daybook_model::{
    Epoch, EventStore as _, ExpectedRevision, Position, ReadFailed, Revision, StreamName,
};
use daybook_store::observe::Times;
use daybook_store::snapshot::{Snapshot, SnapshotError, SnapshotStats, SnapshotStore};
use daybook_store::{
    About, AllFrom, AllReader, Append, AppendError, Appended, Deletion, Direction, EndedState,
    Health, IndexKey, IndexReader, Lane, Page, ReadAll, ReadError, ReadStream, Scavenge, Stats,
    Store, StreamInfo, StreamReader, SubscribeFrom, Subscription, SubscriptionFilter,
};
use uuid::Uuid;

/// The store, as clients may use it. A clone is another handle.
#[derive(Clone)]
pub struct Door {
    store: Store,
}

impl Door {
    /// The door to `store`.
    #[must_use]
    pub fn new(store: Store) -> Door {
        Door { store }
    }

    /// As [`Store::append`].
    ///
    /// # Errors
    /// [`AppendError::Reserved`] if it names a stream that is the ledger's, or another owner's.
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        check_all(&append)?;
        self.store.append(append).await
    }

    /// As [`Store::append_checked`].
    ///
    /// # Errors
    /// [`AppendError::Reserved`] if it names a stream that is the ledger's, or another owner's.
    pub async fn append_checked(
        &self,
        append: Append,
        ended: Vec<(u32, EndedState)>,
    ) -> Result<Appended, AppendError> {
        check_all(&append)?;
        self.store.append_checked(append, ended).await
    }

    /// As [`Store::append_in`].
    ///
    /// # Errors
    /// [`AppendError::Reserved`] if it names a stream that is the ledger's, or another owner's.
    pub async fn append_in(&self, lane: &Lane, append: Append) -> Result<Appended, AppendError> {
        check_all(&append)?;
        self.store.append_in(lane, append).await
    }

    /// As [`Store::delete`].
    ///
    /// # Errors
    /// [`AppendError::Reserved`] if the stream is the ledger's, or another owner's.
    pub async fn delete(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        how: Deletion,
    ) -> Result<Option<Position>, AppendError> {
        check(stream)?;
        self.store.delete(stream, expected, how).await
    }

    /// As [`Store::about`].
    #[must_use]
    pub fn about(&self) -> About {
        self.store.about()
    }

    /// As [`Store::committed`].
    #[must_use]
    pub fn committed(&self) -> Position {
        self.store.committed()
    }

    /// As [`Store::epoch_at`].
    #[must_use]
    pub fn epoch_at(&self, position: Position) -> Option<Epoch> {
        self.store.epoch_at(position)
    }

    /// As [`Store::health`].
    #[must_use]
    pub fn health(&self) -> Health {
        self.store.health()
    }

    /// As [`Store::accept_clock`].
    pub fn accept_clock(&self) {
        self.store.accept_clock();
    }

    /// As [`Store::times`].
    #[must_use]
    pub fn times(&self) -> &Times {
        self.store.times()
    }

    /// As [`Store::stats`].
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.store.stats()
    }

    /// As [`Store::stream_info`].
    ///
    /// # Errors
    /// As there.
    pub async fn stream_info(&self, stream: &StreamName) -> Result<StreamInfo, ReadError> {
        self.store.stream_info(stream).await
    }

    /// As the store's [`daybook_model::EventStore::transaction`].
    ///
    /// # Errors
    /// As there.
    pub async fn transaction(
        &self,
        stream: &StreamName,
        transaction: Uuid,
    ) -> Result<Option<Revision>, ReadFailed> {
        self.store.transaction(stream, transaction).await
    }

    /// As [`Store::streams`].
    ///
    /// # Errors
    /// As there.
    pub async fn streams(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, ReadError> {
        self.store.streams(prefix, after, limit).await
    }

    /// As [`Store::read_stream`].
    ///
    /// # Errors
    /// As there.
    pub async fn read_stream(&self, query: ReadStream) -> Result<StreamReader, ReadError> {
        self.store.read_stream(query).await
    }

    /// As [`Store::read_all`].
    #[must_use]
    pub fn read_all(&self, query: ReadAll) -> AllReader {
        self.store.read_all(query)
    }

    /// As [`Store::read_event`].
    ///
    /// # Errors
    /// As there.
    pub async fn read_event(
        &self,
        stream: &StreamName,
        revision: Revision,
    ) -> Result<Option<Page>, ReadError> {
        self.store.read_event(stream, revision).await
    }

    /// As [`Store::read_index`].
    #[must_use]
    pub fn read_index(
        &self,
        key: &IndexKey,
        from: u64,
        direction: Direction,
        count: u64,
    ) -> IndexReader {
        self.store.read_index(key, from, direction, count)
    }

    /// As [`Store::read_all_of`].
    #[must_use]
    pub fn read_all_of(
        &self,
        key: &IndexKey,
        from: AllFrom,
        direction: Direction,
        count: u64,
    ) -> AllReader {
        self.store.read_all_of(key, from, direction, count)
    }

    /// As [`Store::subscribe_all_of`].
    #[must_use]
    pub fn subscribe_all_of(
        &self,
        key: &IndexKey,
        from: SubscribeFrom,
        checkpoint_interval: u64,
    ) -> Subscription {
        self.store.subscribe_all_of(key, from, checkpoint_interval)
    }

    /// As [`Store::subscribe_stream`].
    #[must_use]
    pub fn subscribe_stream(&self, stream: &StreamName, from: SubscribeFrom) -> Subscription {
        self.store.subscribe_stream(stream, from)
    }

    /// As [`Store::subscribe_all`].
    #[must_use]
    pub fn subscribe_all(
        &self,
        from: SubscribeFrom,
        filter: Option<SubscriptionFilter>,
    ) -> Subscription {
        self.store.subscribe_all(from, filter)
    }

    /// As [`Store::scavenge`].
    #[must_use]
    pub fn scavenge(&self) -> &Scavenge {
        self.store.scavenge()
    }

    /// As [`Store::extent`].
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.store.extent()
    }

    /// As [`Store::backup`]. Blocks.
    ///
    /// # Errors
    /// As there.
    pub fn backup(&self) -> Result<Backup, daybook_log::OpenError> {
        self.store.backup()
    }
}

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

/// The snapshots, as clients may use them. All methods block.
#[derive(Clone)]
pub struct SnapshotDoor {
    snapshots: Arc<SnapshotStore>,
}

impl SnapshotDoor {
    /// The door to `snapshots`.
    #[must_use]
    pub fn new(snapshots: Arc<SnapshotStore>) -> SnapshotDoor {
        SnapshotDoor { snapshots }
    }

    /// As [`SnapshotStore::put`].
    ///
    /// # Errors
    /// [`SnapshotRefused`]
    pub fn put(
        &self,
        stream: &StreamName,
        snapshot: &Snapshot,
        committed: Position,
    ) -> Result<(), SnapshotRefused> {
        check(stream).map_err(SnapshotRefused::Reserved)?;
        Ok(self.snapshots.put(stream, snapshot, committed)?)
    }

    /// As [`SnapshotStore::latest`].
    ///
    /// # Errors
    /// [`SnapshotRefused::Failed`]
    pub fn latest(
        &self,
        stream: &StreamName,
        at_or_before: Option<Revision>,
    ) -> Result<Option<Snapshot>, SnapshotRefused> {
        Ok(self.snapshots.latest(stream, at_or_before)?)
    }

    /// As [`SnapshotStore::delete`].
    ///
    /// # Errors
    /// [`SnapshotRefused`]
    pub fn delete(&self, stream: &StreamName) -> Result<u64, SnapshotRefused> {
        check(stream).map_err(SnapshotRefused::Reserved)?;
        Ok(self.snapshots.delete(stream)?)
    }

    /// As [`SnapshotStore::stats`].
    #[must_use]
    pub fn stats(&self) -> SnapshotStats {
        self.snapshots.stats()
    }
}

/// Refuses an append that names a stream of the server's own, also if it only checks it.
fn check_all(append: &Append) -> Result<(), AppendError> {
    append.streams.iter().try_for_each(|part| check(&part.stream))
}

fn check(stream: &StreamName) -> Result<(), AppendError> {
    if stream.owner().is_some() {
        return Err(AppendError::Reserved { stream: stream.clone() });
    }
    Ok(())
}
