//! What can be read, and how.

use std::sync::Arc;

use daybook_log::disk::DiskError;
use daybook_log::planted::{self, Bug};
use daybook_model::{Filter, Position, Revision, StreamMetadata, StreamName, Timestamp};

use crate::Page;
use crate::core::Core;
use crate::fetch::fetch;
use crate::index::{Access, Key, KeyKind, View};
use crate::page::PAGE_EVENTS_MAX;
use crate::resolve::settings;

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

    /// Leaves out what is too old.
    pub fn retain(&self, page: &mut Page) {
        if let Some(cutoff) = self.cutoff {
            page.retain(|event| event.time >= cutoff);
        }
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
        let key = core.hasher.key(KeyKind::Settings, stream.as_str());
        let settings = settings(core, &view, key, committed, access)?;
        let described = match stream.described() {
            Some(described) => {
                let key = core.hasher.key(KeyKind::Settings, described);
                crate::resolve::settings(core, &view, key, committed, access)?.tombstoned
            }
            None => false,
        };
        if settings.tombstoned || described {
            return Err(ReadError::StreamDeleted { stream: stream.clone() });
        }
        let key = core.hasher.key(KeyKind::Stream, stream.as_str());
        let count = view.count(key, committed, access)?;
        let Some(head) = count.checked_sub(1).filter(|_| !settings.metadata.is_soft_deleted())
        else {
            return Err(ReadError::StreamNotFound { stream: stream.clone() });
        };
        let visible = Visible::of(stream, &settings.metadata, count, core);
        let next = match (query.from, query.direction) {
            (From::Start, Direction::Forwards) => visible.first,
            (From::Start, Direction::Backwards) => 0,
            (From::End, Direction::Forwards) => count,
            (From::End, Direction::Backwards) => head,
            (From::Revision(r), Direction::Forwards) => r.0.max(visible.first),
            (From::Revision(r), Direction::Backwards) => r.0.min(head),
        };
        let floor = visible.first;
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
        };
        Ok(StreamReader { list, visible, head, left: query.count })
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
                return Ok(page);
            }
            other => other?,
        };
        *self = reader;
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
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
        Ok(None)
    }
}

/// Events of the first page of a reader whose caller may stop at any event.
const PAGE_EVENTS_FIRST: u64 = 16;

/// Reads the postings of one key, page by page.
#[derive(Clone)]
struct ListReader {
    core: Arc<Core>,
    key: Key,
    committed: Position,
    count: u64,
    /// Numbers below are hidden.
    floor: u64,
    direction: Direction,
    next: Option<u64>,
    left: u64,
    /// Events of the next page, at most.
    page_len: u64,
}

impl ListReader {
    /// The next page, its events numbered; empty if what it would hold was removed.
    fn read(&mut self, access: Access) -> Result<Option<Page>, ReadError> {
        let Some(next) = self.next else { return Ok(None) };
        let limit = self.left.min(self.page_len);
        let forwards = self.direction == Direction::Forwards;
        let at_end = if forwards { next >= self.count } else { next < self.floor };
        if limit == 0 || at_end {
            self.next = None;
            return Ok(None);
        }
        let view = self.core.view.load();
        let first = if forwards { next } else { (next + 1).saturating_sub(limit).max(self.floor) };
        // What was committed after the reader was opened is not its to read, and a sealed segment
        // no longer tells it apart by position.
        let left = if planted::is(Bug::ReaderBeyondItsEnd) { limit } else { self.count - next };
        let len = if forwards { limit.min(left) } else { next + 1 - first };
        let mut positions =
            view.positions(self.key, first, len as usize, self.committed, access)?;
        if !forwards {
            positions.reverse();
        }
        let mut page = fetch(&self.core, &view, &positions, access)?;
        let considered = page.considered as u64;
        if forwards {
            page.number(&positions, next..);
        } else {
            page.number(&positions, (0..=next).rev());
        }
        self.page_len = (4 * self.page_len).min(PAGE_EVENTS_MAX as u64);
        self.left -= page.len() as u64;
        self.next =
            if forwards { Some(next + considered) } else { (next + 1).checked_sub(considered + 1) };
        Ok((considered > 0).then_some(page))
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
        }
    }

    /// The next page; none at the end.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or its bytes are damaged.
    pub async fn next(&mut self) -> Result<Option<Page>, ReadError> {
        loop {
            let mut reader = self.clone();
            let page = match reader.read(Access::Memory) {
                Err(ReadError::NotInMemory) => {
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
                page => return Ok(page),
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
        for _ in 0..PAGES_AT_ONCE {
            if self.left == 0 {
                return Ok(None);
            }
            let mut page = self.read_span(access)?;
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

    fn read_span(&self, access: Access) -> Result<Page, ReadError> {
        let limit = match self.filter {
            Some(_) => PAGE_EVENTS_MAX as u64,
            None => self.left.min(PAGE_EVENTS_MAX as u64),
        };
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

/// Reads the events of one index key, page by page.
#[derive(Clone)]
pub struct IndexReader {
    core: Arc<Core>,
    key: Key,
    committed: Position,
    direction: Direction,
    from: u64,
    left: u64,
    list: Option<ListReader>,
}

impl IndexReader {
    pub(crate) fn open(
        core: &Arc<Core>,
        key: &IndexKey,
        from: u64,
        direction: Direction,
        left: u64,
    ) -> IndexReader {
        let key = match key {
            IndexKey::Category(name) => core.hasher.key(KeyKind::Category, name),
            IndexKey::EventType(name) => core.hasher.key(KeyKind::EventType, name),
            IndexKey::Correlation(id) => core.hasher.key(KeyKind::Correlation, id),
        };
        let committed = core.committed();
        IndexReader { core: core.clone(), key, committed, direction, from, left, list: None }
    }

    /// The next page; none at the end. [`Page::numbered`] has the events' numbers under the key.
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
                return Ok(page);
            }
            other => other?,
        };
        *self = reader;
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
        let list = match &mut self.list {
            Some(list) => list,
            None => {
                let view = self.core.view.load();
                let count = view.count(self.key, self.committed, access)?;
                let backwards = self.direction == Direction::Backwards;
                let next = if backwards {
                    count.checked_sub(1).map(|last| last.min(self.from))
                } else {
                    Some(self.from)
                };
                self.list.insert(ListReader {
                    core: self.core.clone(),
                    key: self.key,
                    committed: self.committed,
                    count,
                    floor: 0,
                    direction: self.direction,
                    next,
                    left: self.left,
                    page_len: PAGE_EVENTS_MAX as u64,
                })
            }
        };
        loop {
            match list.read(access)? {
                Some(page) if page.is_empty() => {}
                page => return Ok(page),
            }
        }
    }
}
