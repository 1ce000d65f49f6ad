//! The store as the aggregates' [`EventStore`], and the snapshots beside it.
//!
//! ```text
//!   Store            append  head  replay  replay_category  transaction
//!   WithSnapshots    the same, and   snapshot ──────────────> SnapshotStore
//!                                    put_snapshot ─> queue ─> one thread ─┘
//! ```
//!
//! INVARIANTS
//! - What is in memory is answered on the caller's task; only what is not goes to a blocking thread.
//! - A snapshot is disposable: a queue that is full drops it, an error is no more than a note.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use daybook_model::append::{Append, AppendError, Appended};
use daybook_model::{
    CategoryStore, EventStore, EventView, Position, ReadFailed, Revision, Snapshot, StreamName,
};
use uuid::Uuid;

use crate::core::Core;
use crate::fetch::fetch;
use crate::index::{Access, Key, KeyKind};
use crate::read::{Direction, From, IndexKey, ReadError, ReadStream, blocking};
use crate::snapshot::SnapshotStore;
use crate::store::{OpenError, Store};

/// Snapshots that wait to be kept. More are dropped: with the largest that may be kept they hold
/// 64 MiB, and whoever misses one replays its stream and puts it again.
const SNAPSHOTS_WAITING_MAX: usize = 64;

/// An error that names what was read.
fn failed(what: &str) -> impl FnOnce(ReadError) -> ReadFailed {
    let what = what.to_owned();
    move |e| ReadFailed { what, reason: e.to_string() }
}

/// Looks something up in memory, or on a blocking thread if it is not all there.
async fn look_up<T: Send + 'static>(
    core: &Arc<Core>,
    key: Key,
    look: fn(&Core, Key, Access) -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    match look(core, key, Access::Memory) {
        Err(ReadError::NotInMemory) => {
            let core = core.clone();
            blocking(move || look(&core, key, Access::Disk)).await
        }
        answer => answer,
    }
}

/// The number of the last entry of `key`, if it has any.
fn last_number(core: &Core, key: Key, access: Access) -> Result<Option<Revision>, ReadError> {
    let committed = core.committed();
    let count = core.view.load().count(key, committed, access)?;
    Ok(count.checked_sub(1).map(Revision))
}

/// The revision of the event that is the first entry of `key`, if it has any.
pub(crate) fn first_revision(
    core: &Core,
    key: Key,
    access: Access,
) -> Result<Option<Revision>, ReadError> {
    let committed = core.committed();
    let view = core.view.load();
    // Most transactions are new, and counting is all it takes to know.
    if view.count(key, committed, access)? == 0 {
        return Ok(None);
    }
    let positions = view.positions(key, 0, 1, committed, access)?;
    let page = fetch(core, &view, &positions, access)?;
    let removed = page.holes.last().map(|hole| hole.revision);
    Ok(page.last().map(|event| event.revision).or(removed))
}

impl EventStore for Store {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        Store::append(self, append).await
    }

    async fn head(&self, stream: &StreamName) -> Result<Option<Revision>, ReadFailed> {
        let key = self.core().hasher.key(KeyKind::Stream, stream.as_str());
        look_up(self.core(), key, last_number).await.map_err(failed(stream.as_str()))
    }

    /// A soft-deleted stream has no events; one with a tombstone cannot be read.
    async fn replay<F>(
        &self,
        stream: &StreamName,
        from: Revision,
        mut each: F,
    ) -> Result<(), ReadFailed>
    where
        F: FnMut(EventView<'_>) -> ControlFlow<()> + Send,
    {
        let query = ReadStream {
            stream: stream.clone(),
            from: From::Revision(from),
            direction: Direction::Forwards,
            count: u64::MAX,
        };
        let mut reader = match self.read_stream(query).await {
            Ok(reader) => reader.cautious(),
            Err(ReadError::StreamNotFound { .. }) => return Ok(()),
            Err(e) => return Err(failed(stream.as_str())(e)),
        };
        while let Some(page) = reader.next().await.map_err(failed(stream.as_str()))? {
            if page.events().try_for_each(&mut each).is_break() {
                break;
            }
        }
        Ok(())
    }

    async fn transaction(
        &self,
        stream: &StreamName,
        transaction: Uuid,
    ) -> Result<Option<Revision>, ReadFailed> {
        let key = self.core().hasher.transaction(stream.as_str(), transaction);
        look_up(self.core(), key, first_revision).await.map_err(failed(stream.as_str()))
    }

    /// None: a store alone keeps no snapshots.
    async fn snapshot(&self, _: &StreamName, _: Revision) -> Option<Snapshot> {
        None
    }

    /// Drops it: a store alone keeps no snapshots.
    fn put_snapshot(&self, _: &StreamName, _: Snapshot) {}
}

impl CategoryStore for Store {
    async fn replay_category<F>(
        &self,
        category: &str,
        from: u64,
        mut each: F,
    ) -> Result<(), ReadFailed>
    where
        F: FnMut(u64, EventView<'_>) -> ControlFlow<()> + Send,
    {
        let key = IndexKey::Category(category.to_owned());
        let mut reader = self.read_index(&key, from, Direction::Forwards, u64::MAX);
        while let Some(page) = reader.next().await.map_err(failed(category))? {
            let mut numbered = page.numbered();
            if numbered.try_for_each(|(number, event)| each(number, event)).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// A store and the snapshots of its aggregates, if it has any. A clone is another handle.
#[derive(Clone)]
pub struct WithSnapshots {
    store: Store,
    kept: Option<Arc<Kept>>,
}

/// Snapshots, and the way to the thread that writes them. The thread ends with the last handle.
struct Kept {
    snapshots: Arc<SnapshotStore>,
    queue: SyncSender<Waiting>,
}

/// A snapshot that waits, and the log's end when it was put.
struct Waiting {
    stream: StreamName,
    snapshot: Snapshot,
    committed: Position,
}

impl WithSnapshots {
    /// Puts `snapshots` beside `store`, and starts the thread that writes them.
    ///
    /// # Errors
    /// [`OpenError::Start`] if there can be no such thread.
    pub fn new(
        store: Store,
        snapshots: Option<Arc<SnapshotStore>>,
    ) -> Result<WithSnapshots, OpenError> {
        let Some(snapshots) = snapshots else { return Ok(WithSnapshots { store, kept: None }) };
        let (queue, waiting) = sync_channel(SNAPSHOTS_WAITING_MAX);
        // The thread has no part in the store: it must not keep it open.
        let target = snapshots.clone();
        std::thread::Builder::new()
            .name("daybook-snapshots".to_owned())
            .spawn(move || keep(&waiting, &target))
            .map_err(|e| OpenError::Start { reason: format!("cannot start a thread: {e}") })?;
        Ok(WithSnapshots { store, kept: Some(Arc::new(Kept { snapshots, queue })) })
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }
}

/// Keeps what is put, until nobody can put any more.
fn keep(queue: &Receiver<Waiting>, snapshots: &SnapshotStore) {
    while let Ok(Waiting { stream, snapshot, committed }) = queue.recv() {
        if let Err(error) = snapshots.put(&stream, &snapshot, committed) {
            tracing::debug!(%stream, %error, "a snapshot was not kept");
        }
    }
}

impl EventStore for WithSnapshots {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.store.append(append).await
    }

    async fn head(&self, stream: &StreamName) -> Result<Option<Revision>, ReadFailed> {
        self.store.head(stream).await
    }

    async fn replay<F>(
        &self,
        stream: &StreamName,
        from: Revision,
        each: F,
    ) -> Result<(), ReadFailed>
    where
        F: FnMut(EventView<'_>) -> ControlFlow<()> + Send,
    {
        self.store.replay(stream, from, each).await
    }

    async fn transaction(
        &self,
        stream: &StreamName,
        transaction: Uuid,
    ) -> Result<Option<Revision>, ReadFailed> {
        self.store.transaction(stream, transaction).await
    }

    async fn snapshot(&self, stream: &StreamName, at_or_before: Revision) -> Option<Snapshot> {
        let snapshots = self.kept.as_ref()?.snapshots.clone();
        let stream = stream.clone();
        let latest =
            tokio::task::spawn_blocking(move || snapshots.latest(&stream, Some(at_or_before)));
        // Off, or the runtime is stopping: its reader replays.
        latest.await.ok()?.ok()?
    }

    fn put_snapshot(&self, stream: &StreamName, snapshot: Snapshot) {
        if let Some(kept) = &self.kept {
            // Full: it is dropped. Whoever replays more than it would like puts another.
            let (stream, committed) = (stream.clone(), self.store.committed());
            let _ = kept.queue.try_send(Waiting { stream, snapshot, committed });
        }
    }
}

impl CategoryStore for WithSnapshots {
    async fn replay_category<F>(&self, category: &str, from: u64, each: F) -> Result<(), ReadFailed>
    where
        F: FnMut(u64, EventView<'_>) -> ControlFlow<()> + Send,
    {
        self.store.replay_category(category, from, each).await
    }
}
