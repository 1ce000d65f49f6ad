//! Reads of the store, and subscriptions to it.

use std::sync::Arc;
use std::time::Duration;

use daybook_model::{AccessList, Revision, StreamName, Timer};

use super::Store;
use crate::Page;
use crate::core::Core;
use crate::feed::{SubscribeFrom, Subscription, SubscriptionFilter};
use crate::index::{Access, KeyKind};
use crate::read::{
    AllFrom, AllReader, Direction, EventTypes, From, IndexKey, IndexReader, ReadAll, ReadError,
    ReadStream, StreamReader, Visible, blocking, types,
};
use crate::resolve::settings;
use crate::status::{StreamInfo, StreamState};
use crate::virtual_stream;

/// Names of one page of [`Store::streams`].
pub const STREAMS_PAGE_MAX: usize = 10_000;

impl Store {
    /// What is known of a stream.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or its bytes are damaged.
    pub async fn stream_info(&self, stream: &StreamName) -> Result<StreamInfo, ReadError> {
        let (core, stream) = (self.core().clone(), stream.clone());
        blocking(move || stream_info(&core, &stream)).await
    }

    /// Who may use the stream called `name`, or the whole log if that is `$all`, as its newest
    /// metadata says; none if it does not. Of a stream in use it is in memory.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or its bytes are damaged.
    pub async fn access_list(&self, name: &str) -> Result<Option<Arc<AccessList>>, ReadError> {
        fn look(
            core: &Core,
            name: &str,
            access: Access,
        ) -> Result<Option<Arc<AccessList>>, ReadError> {
            let key = core.hasher.key(KeyKind::Settings, name);
            let committed = core.committed();
            let view = core.view.load();
            Ok(settings(core, &view, key, committed, access)?.access.clone())
        }
        match look(self.core(), name, Access::Memory) {
            Err(ReadError::NotInMemory) => {}
            other => return other,
        }
        let (core, name) = (self.core().clone(), name.to_owned());
        blocking(move || look(&core, &name, Access::Disk)).await
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

    /// The event types of the log, each with how many events have been of it.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or its bytes are damaged.
    pub async fn event_types(&self) -> Result<EventTypes, ReadError> {
        let core = self.core().clone();
        blocking(move || types::event_types(&core)).await
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

    /// As [`Store::subscribe_all_of`], for who is to know at any time how far it is: where there is
    /// none of the key's events, a checkpoint is delivered `every` time after the log went on.
    /// It is never woken by each append, as one to the whole log is.
    #[must_use]
    pub fn follow_all_of(
        &self,
        key: &IndexKey,
        from: SubscribeFrom,
        every: Duration,
        timer: Arc<dyn Timer>,
    ) -> Subscription {
        let key = key.hashed(&self.core().hasher);
        Subscription::timed(self.core().clone(), key, from, every, timer)
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
