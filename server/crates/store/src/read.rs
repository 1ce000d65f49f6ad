//! What can be read, and how.

use std::sync::Arc;

use daybook_log::disk::DiskError;
use daybook_model::watch::Found;
use daybook_model::{EventView, Filter, Position, Revision, StreamMetadata, StreamName, Timestamp};

use crate::Page;
use crate::core::Core;
use crate::fetch::fetch;
use crate::index::{Access, Key, KeyHasher, KeyKind, View};
use crate::page::PAGE_EVENTS_MAX;
use crate::resolve::settings;
use crate::virtual_stream::{self, Links};
use list::{ListReader, PAGE_EVENTS_FIRST};

pub use list::IndexReader;
pub use types::{EventTypes, TYPES_MAX};

mod list;
pub(crate) mod types;

/// Which way a reader goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From older to newer.
    Forwards,
    /// From newer to older.
    Backwards,
}

/// Where in a stream a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// At the first event.
    Start,
    /// At the last event (backwards), or after it (forwards).
    End,
    /// At this revision, itself included.
    Revision(Revision),
}

/// A read of one stream.
#[derive(Clone, Debug)]
pub struct ReadStream {
    /// The stream.
    pub stream: StreamName,
    /// Where it begins.
    pub from: From,
    /// Which way it goes.
    pub direction: Direction,
    /// At most so many events.
    pub count: u64,
}

/// Where in the log a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllFrom {
    /// At the first event.
    Start,
    /// After the last event.
    End,
    /// Forwards: at this position, itself included. Backwards: before it.
    Position(Position),
}

/// A read of the whole log.
#[derive(Clone, Debug)]
pub struct ReadAll {
    /// Where it begins.
    pub from: AllFrom,
    /// Which way it goes.
    pub direction: Direction,
    /// At most so many events that the filter wants.
    pub count: u64,
    /// Which events it wants; all if none.
    pub filter: Option<Arc<Filter>>,
}

/// A key of the index other than a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexKey {
    /// What stands before the first `-` of a stream's name.
    Category(String),
    /// An event type.
    EventType(String),
    /// The `$correlationId` of an event's metadata.
    Correlation(String),
}

impl IndexKey {
    pub(crate) fn hashed(&self, hasher: &KeyHasher) -> Key {
        match self {
            IndexKey::Category(name) => hasher.key(KeyKind::Category, name),
            IndexKey::EventType(name) => hasher.key(KeyKind::EventType, name),
            IndexKey::Correlation(id) => hasher.key(KeyKind::Correlation, id),
        }
    }
}

/// Why something could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The stream was never written, or is soft-deleted.
    #[error("stream '{stream}' is not found")]
    StreamNotFound {
        /// The stream.
        stream: StreamName,
    },
    /// The stream has a tombstone.
    #[error("stream '{stream}' is deleted")]
    StreamDeleted {
        /// The stream.
        stream: StreamName,
    },
    /// The caller may not do this with a stream.
    #[error(transparent)]
    Denied(#[from] daybook_model::Denied),
    /// Stored bytes are not what was written.
    #[error(
        "{file} is damaged at offset {offset} (position {position}): {reason}; run `daybook \
         verify`, then restore from a backup"
    )]
    Damaged {
        /// The file.
        file: String,
        /// The byte in it.
        offset: u64,
        /// The event.
        position: Position,
        /// What is wrong.
        reason: &'static str,
    },
    /// An index file is not what was written. It is being built anew.
    #[error(
        "the index file {file} is damaged at offset {offset}; it is being built anew from the \
         log, try again in a moment"
    )]
    IndexDamaged {
        /// The file.
        file: String,
        /// The byte in it.
        offset: u64,
    },
    /// The disk failed to read.
    #[error("{reason}")]
    Disk {
        /// The action, the file and the reason.
        reason: String,
    },
    /// The answer is not in memory, and the caller wanted no disk to be touched. Never leaves the
    /// store.
    #[error("not in memory")]
    NotInMemory,
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

impl std::convert::From<DiskError> for ReadError {
    fn from(e: DiskError) -> ReadError {
        ReadError::Disk { reason: e.to_string() }
    }
}

/// Runs `read`, which may touch the disk, where it does not hold up other tasks.
pub(crate) async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(result) => result,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(_) => Err(ReadError::Closed),
    }
}

/// What a stream's metadata lets a reader see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visible {
    /// The first revision that is not hidden.
    pub first: u64,
    /// Events before this time are hidden.
    cutoff: Option<Timestamp>,
}

impl Visible {
    /// What can be seen of the stream `name` with `count` events. Of a metadata stream only the
    /// newest event is seen, unless its own metadata says otherwise.
    pub fn of(name: &StreamName, metadata: &StreamMetadata, count: u64, core: &Core) -> Visible {
        let max_count = metadata.max_count.or(name.is_metastream().then_some(1));
        let by_count = max_count.map_or(0, |max| count.saturating_sub(max));
        let cutoff = metadata.max_age.map(|age| {
            let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
            Timestamp(core.environment.clock.now().0.saturating_sub(age))
        });
        Visible { first: by_count.max(metadata.truncate_before.unwrap_or(0)), cutoff }
    }

    /// Whether `event` can be seen.
    pub fn shows(&self, event: &EventView<'_>) -> bool {
        event.revision.0 >= self.first && self.cutoff.is_none_or(|cutoff| event.time >= cutoff)
    }

    /// Leaves out what is too old.
    pub fn retain(&self, page: &mut Page) {
        if let Some(cutoff) = self.cutoff {
            page.retain(|event| event.time >= cutoff);
        }
    }
}

/// What can be read of a stream that can be.
pub(crate) struct Readable {
    key: Key,
    count: u64,
    pub visible: Visible,
}

impl Readable {
    /// What can be read of `stream`, or why nothing can.
    pub fn of(
        core: &Core,
        view: &View,
        stream: &StreamName,
        committed: Position,
        access: Access,
    ) -> Result<Readable, ReadError> {
        let key = core.hasher.key(KeyKind::Settings, stream.as_str());
        let settings = settings(core, view, key, committed, access)?;
        let described = match stream.described() {
            Some(described) => {
                let key = core.hasher.key(KeyKind::Settings, described);
                crate::resolve::settings(core, view, key, committed, access)?.tombstoned
            }
            None => false,
        };
        if settings.tombstoned || described {
            return Err(ReadError::StreamDeleted { stream: stream.clone() });
        }
        let key = virtual_stream::key(&core.hasher, stream);
        let count = view.count(key, committed, access)?;
        if count == 0 || settings.metadata.is_soft_deleted() {
            return Err(ReadError::StreamNotFound { stream: stream.clone() });
        }
        let visible = Visible::of(stream, &settings.metadata, count, core);
        Ok(Readable { key, count, visible })
    }
}

/// Up to `limit` events from `start` on, below `committed`.
pub(crate) fn read_span(
    core: &Core,
    view: &View,
    start: Position,
    committed: Position,
    limit: u64,
    access: Access,
) -> Result<Page, ReadError> {
    let end = committed.0.min(start.0.saturating_add(limit));
    if start.0 >= end {
        return Ok(Page::default());
    }
    let positions: Vec<Position> = (start.0..end).map(Position).collect();
    fetch(core, view, &positions, access)
}

/// Reads one stream, page by page.
#[derive(Clone)]
pub struct StreamReader {
    list: ListReader,
    visible: Visible,
    links: Option<Arc<Links>>,
    /// Whether each link's target is asked whether it may be shown.
    following: bool,
    head: u64,
    left: u64,
}

impl StreamReader {
    pub(crate) fn open(
        core: &Arc<Core>,
        query: &ReadStream,
        access: Access,
    ) -> Result<StreamReader, ReadError> {
        let stream = &query.stream;
        let committed = core.committed();
        let view = core.view.load();
        let Readable { key, count, visible } =
            Readable::of(core, &view, stream, committed, access)?;
        let head = count - 1;
        let next = match (query.from, query.direction) {
            (From::Start, Direction::Forwards) => visible.first,
            (From::Start, Direction::Backwards) => 0,
            (From::End, Direction::Forwards) => count,
            (From::End, Direction::Backwards) => head,
            (From::Revision(r), Direction::Forwards) => r.0.max(visible.first),
            (From::Revision(r), Direction::Backwards) => r.0.min(head),
        };
        let floor = visible.first;
        let links = Links::of(stream, core.store_id).map(Arc::new);
        let list = ListReader {
            core: core.clone(),
            key,
            committed,
            count,
            floor,
            direction: query.direction,
            next: Some(next),
            left: u64::MAX,
            page_len: PAGE_EVENTS_MAX as u64,
            lists_streams: links.as_ref().is_some_and(|links| links.list_streams()),
        };
        Ok(StreamReader { list, visible, links, following: false, head, left: query.count })
    }

    /// The revision of the stream's last event when the reader was opened.
    #[must_use]
    pub fn last_revision(&self) -> Option<Revision> {
        Some(Revision(self.head))
    }

    /// The first revision that is not hidden by the stream's metadata.
    #[must_use]
    pub fn first_revision(&self) -> Option<Revision> {
        Some(Revision(self.visible.first))
    }

    /// Finds out which events their own streams hide, if the stream is one of links: for who
    /// follows them. See [`Page::targets`].
    #[must_use]
    pub fn following(mut self) -> StreamReader {
        self.following = true;
        self
    }

    /// Reads a short page first, and longer ones after it: for who may stop at any event.
    #[must_use]
    pub(crate) fn cautious(mut self) -> StreamReader {
        self.list.page_len = PAGE_EVENTS_FIRST;
        self
    }

    /// The next page; none at the end.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or its bytes are damaged.
    pub async fn next(&mut self) -> Result<Option<Page>, ReadError> {
        let mut reader = self.clone();
        let page = match reader.read(Access::Memory) {
            Err(ReadError::NotInMemory) => {
                let mut again = self.clone();
                let (page, after) =
                    blocking(move || again.read(Access::Disk).map(|page| (page, again))).await?;
                *self = after;
                self.list.core.found(page.as_ref(), Found::Disk);
                return Ok(page);
            }
            other => other?,
        };
        *self = reader;
        self.list.core.found(page.as_ref(), Found::Memory);
        Ok(page)
    }

    /// The next page; none at the end. May read the disk.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or its bytes are damaged.
    pub fn next_page(&mut self) -> Result<Option<Page>, ReadError> {
        self.read(Access::Disk)
    }

    fn read(&mut self, access: Access) -> Result<Option<Page>, ReadError> {
        while self.left > 0 {
            // What is hidden by its age does not count, so it is read a page at a time.
            let cut = self.visible.cutoff.is_some();
            self.list.left = if cut { u64::MAX } else { self.left };
            let Some(mut page) = self.list.read(access)? else { break };
            self.visible.retain(&mut page);
            page.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= page.len() as u64;
            if page.is_empty() {
                continue;
            }
            if let Some(links) = &self.links {
                page.links = Some(links.clone());
                if self.following {
                    virtual_stream::hide(&self.list.core, links, &mut page, access)?;
                }
            }
            return Ok(Some(page));
        }
        Ok(None)
    }
}

/// Pages without an event that the filter wants that are read in one go: a reader whose caller has
/// gone away stops after so many.
const PAGES_AT_ONCE: usize = 64;

/// Reads the whole log, page by page.
#[derive(Clone)]
pub struct AllReader {
    core: Arc<Core>,
    committed: Position,
    direction: Direction,
    /// Forwards the position that is next; backwards the one after it.
    at: u64,
    left: u64,
    filter: Option<Arc<Filter>>,
    /// If only the events of one key are read.
    indexed: Option<Indexed>,
}

/// The events of one key that are read as a part of the log.
#[derive(Clone)]
struct Indexed {
    key: Key,
    list: Option<ListReader>,
}

/// Whether an event is the system's: what is read by a key as a part of the log leaves them out.
pub(crate) fn is_system(event: &EventView<'_>) -> bool {
    event.stream.starts_with('$') || event.event_type.starts_with('$')
}

impl AllReader {
    pub(crate) fn open(core: &Arc<Core>, query: ReadAll) -> AllReader {
        let committed = core.committed();
        let at = match query.from {
            AllFrom::Start => 0,
            AllFrom::End => committed.0,
            AllFrom::Position(position) => position.0.min(committed.0),
        };
        AllReader {
            core: core.clone(),
            committed,
            direction: query.direction,
            at,
            left: query.count,
            filter: query.filter,
            indexed: None,
        }
    }

    /// Reads only the events of `key` that are not the system's, as if a filter wanted them.
    pub(crate) fn of_key(mut self, key: &IndexKey) -> AllReader {
        let key = key.hashed(&self.core.hasher);
        self.indexed = Some(Indexed { key, list: None });
        self
    }

    /// The next page; none at the end.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or its bytes are damaged.
    pub async fn next(&mut self) -> Result<Option<Page>, ReadError> {
        loop {
            let mut reader = self.clone();
            let mut found = Found::Memory;
            let page = match reader.read(Access::Memory) {
                Err(ReadError::NotInMemory) => {
                    found = Found::Disk;
                    let mut again = self.clone();
                    let read = move || again.read(Access::Disk).map(|page| (page, again));
                    let (page, after) = blocking(read).await?;
                    reader = after;
                    page
                }
                other => other?,
            };
            *self = reader;
            match page {
                Some(page) if page.is_empty() => tokio::task::yield_now().await,
                page => {
                    self.core.found(page.as_ref(), found);
                    return Ok(page);
                }
            }
        }
    }

    /// The next page; none at the end. May read the disk.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or its bytes are damaged.
    pub fn next_page(&mut self) -> Result<Option<Page>, ReadError> {
        loop {
            match self.read(Access::Disk)? {
                Some(page) if page.is_empty() => {}
                page => return Ok(page),
            }
        }
    }

    /// The next page; empty if many events were read in vain and there may be more.
    fn read(&mut self, access: Access) -> Result<Option<Page>, ReadError> {
        let mut limit = match self.filter {
            Some(_) => PAGE_EVENTS_MAX as u64,
            None => self.left.min(PAGE_EVENTS_MAX as u64),
        };
        for _ in 0..PAGES_AT_ONCE {
            if self.left == 0 {
                return Ok(None);
            }
            if self.indexed.is_some() {
                return self.read_indexed(access);
            }
            let mut page = self.read_span(limit, access)?;
            // What was removed may go on for long.
            limit = PAGE_EVENTS_MAX as u64;
            let considered = page.considered as u64;
            if considered == 0 {
                return Ok(None);
            }
            self.at = match self.direction {
                Direction::Forwards => self.at + considered,
                Direction::Backwards => self.at - considered,
            };
            if let Some(filter) = &self.filter {
                page.retain(|event| filter.wants(event));
            }
            page.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.left -= page.len() as u64;
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
        Ok(Some(Page::default()))
    }

    fn read_indexed(&mut self, access: Access) -> Result<Option<Page>, ReadError> {
        let Some(Indexed { key, list }) = &mut self.indexed else { return Ok(None) };
        let list = match list {
            Some(list) => list,
            None => {
                let view = self.core.view.load();
                let number = view.rank(*key, Position(self.at), self.committed, access)?;
                let next = match self.direction {
                    Direction::Forwards => Some(number),
                    Direction::Backwards => number.checked_sub(1),
                };
                list.insert(ListReader {
                    core: self.core.clone(),
                    key: *key,
                    committed: self.committed,
                    count: view.count(*key, self.committed, access)?,
                    floor: 0,
                    direction: self.direction,
                    next,
                    left: u64::MAX,
                    page_len: self.left.min(PAGE_EVENTS_MAX as u64),
                    lists_streams: false,
                })
            }
        };
        let Some(mut page) = list.read(access)? else { return Ok(None) };
        page.retain(|event| !is_system(event));
        page.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        page.number_by_position();
        self.left -= page.len() as u64;
        Ok(Some(page))
    }

    fn read_span(&self, limit: u64, access: Access) -> Result<Page, ReadError> {
        let view = self.core.view.load();
        match self.direction {
            Direction::Forwards => {
                read_span(&self.core, &view, Position(self.at), self.committed, limit, access)
            }
            Direction::Backwards => {
                let first = self.at.saturating_sub(limit);
                let positions: Vec<Position> = (first..self.at).rev().map(Position).collect();
                fetch(&self.core, &view, &positions, access)
            }
        }
    }
}
