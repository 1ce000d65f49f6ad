//! A page: some events in reading order, viewed in the bytes they were read into.

use bytes::Bytes;
use daybook_model::{EventView, Position};

use crate::record;

/// Bytes after which a page ends. Large enough that a page's fixed costs vanish beside its copy,
/// small enough that a thousand readers fit into memory.
pub const PAGE_SIZE_TARGET: usize = 256 * 1024;
/// Events after which a page ends: bounds the work of one step of a reader on tiny events.
pub const PAGE_EVENTS_MAX: usize = 1024;

/// Some events in reading order. Bounded by [`PAGE_SIZE_TARGET`] plus one event, and
/// [`PAGE_EVENTS_MAX`]; their checksums have been verified.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) events: Vec<Located>,
    /// Bytes of the events that were read into it.
    pub(crate) size: usize,
}

/// Where in a page's bytes one event's payload lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located {
    pub position: Position,
    pub chunk: u32,
    pub start: u32,
    pub len: u32,
}

impl Page {
    /// How many events it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Its events in reading order.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = EventView<'_>> + ExactSizeIterator {
        self.events.iter().map(|located| self.view(located))
    }

    /// Its last event in reading order.
    #[must_use]
    pub fn last(&self) -> Option<EventView<'_>> {
        self.events.last().map(|located| self.view(located))
    }

    /// Whether it takes no more events.
    pub(crate) fn is_full(&self) -> bool {
        self.events.len() >= PAGE_EVENTS_MAX || self.size >= PAGE_SIZE_TARGET
    }

    /// Adds bytes in which events lie. Answers their index.
    pub(crate) fn add_chunk(&mut self, bytes: Bytes) -> u32 {
        self.chunks.push(bytes);
        self.chunks.len() as u32 - 1
    }

    pub(crate) fn push(&mut self, located: Located) {
        self.size += located.len as usize;
        self.events.push(located);
    }

    /// Keeps the events that `wants` answers true for.
    pub(crate) fn retain(&mut self, wants: impl Fn(&EventView<'_>) -> bool) {
        let events = std::mem::take(&mut self.events);
        self.events = events.into_iter().filter(|located| wants(&self.view(located))).collect();
    }

    /// Keeps the first `len` events.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.events.truncate(len);
    }

    /// Its events before `position` and the others, if it runs forwards.
    pub(crate) fn split(mut self, position: Position) -> (Page, Page) {
        let at = self.events.partition_point(|located| located.position < position);
        let mut rest = Page { events: self.events.split_off(at), ..Page::default() };
        if let Some(first) = rest.events.first().map(|located| located.chunk) {
            rest.chunks.extend_from_slice(&self.chunks[first as usize..]);
            for located in &mut rest.events {
                located.chunk -= first;
                rest.size += located.len as usize;
            }
        }
        let used = self.events.last().map_or(0, |located| located.chunk as usize + 1);
        self.chunks.truncate(used);
        self.size = self.events.iter().map(|located| located.len as usize).sum();
        (self, rest)
    }

    fn view(&self, located: &Located) -> EventView<'_> {
        let start = located.start as usize;
        let payload = &self.chunks[located.chunk as usize][start..start + located.len as usize];
        record::view(located.position, payload).expect("checked when the page was filled")
    }
}
