//! Reads the postings of one key, in either direction.

use std::sync::Arc;

use daybook_log::planted::{self, Bug};
use daybook_model::Position;

use crate::Page;
use crate::core::Core;
use crate::fetch::fetch;
use crate::index::{Access, Key};
use crate::page::PAGE_EVENTS_MAX;
use crate::read::{Direction, IndexKey, ReadError, blocking};

/// Events of the first page of a reader whose caller may stop at any event.
pub(super) const PAGE_EVENTS_FIRST: u64 = 16;

/// Reads the postings of one key, page by page.
#[derive(Clone)]
pub(super) struct ListReader {
    pub core: Arc<Core>,
    pub key: Key,
    pub committed: Position,
    pub count: u64,
    /// Numbers below are hidden.
    pub floor: u64,
    pub direction: Direction,
    pub next: Option<u64>,
    pub left: u64,
    /// Events of the next page, at most.
    pub page_len: u64,
    /// Whether what is read are streams, each by its first event: listed though that was removed.
    pub lists_streams: bool,
}

impl ListReader {
    /// The next page, its events numbered; empty if what it would hold was removed.
    pub fn read(&mut self, access: Access) -> Result<Option<Page>, ReadError> {
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
        if self.lists_streams {
            page.show_births(self.direction);
        }
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
        let key = key.hashed(&core.hasher);
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
                    lists_streams: false,
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
