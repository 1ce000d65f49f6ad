//! A page: some events in reading order, viewed in the bytes they were read into.

use std::sync::Arc;

use bytes::Bytes;
use daybook_log::planted::{self, Bug};
use daybook_model::{EventView, Position, Revision, Timestamp};

use crate::read::Direction;
use crate::record;
use crate::scavenge::trace::{self, Hole};
use crate::virtual_stream::Links;

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
    /// How many of the places that were asked for it answers: its events, and those between and
    /// behind them that hold none any more.
    pub(crate) considered: usize,
    /// Of those, the events that were removed.
    pub(crate) holes: Vec<Hole>,
    /// Of the events that are not there any more those with which a stream began, in reading order:
    /// a list of streams shows them, and nobody else.
    births: Vec<Located>,
    pub(crate) links: Option<Arc<Links>>,
}

/// An event of a page that was read through a virtual stream, as the target of a link.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The link's revision.
    pub number: u64,
    /// The event. If it was removed, and is here because its stream began with it, there is only
    /// what the list of streams says: where and when, and the stream's name. It has no type then,
    /// and is hidden.
    pub event: EventView<'a>,
    /// Whether the event may not be shown, only its link: its stream was deleted, or hides it.
    /// Known if the reader was told to follow links.
    pub hidden: bool,
}

/// Where in a page's bytes one event's payload lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Located {
    pub position: Position,
    /// Its number under the key it was read by; its position if it was read by that.
    pub number: u64,
    pub chunk: u32,
    pub start: u32,
    pub len: u32,
    /// Whether its own stream hides it from who comes through a link, or it is not there any more.
    pub hidden: bool,
    /// Whether the payload is what is left of it.
    removed: bool,
}

impl Located {
    /// The event at `position`, numbered by that.
    pub fn new(position: Position, chunk: u32, start: u32, len: u32) -> Located {
        let number = position.0;
        Located { position, number, chunk, start, len, hidden: false, removed: false }
    }

    /// What is left of the event at `position`.
    pub fn removed(self) -> Located {
        Located { hidden: true, removed: true, ..self }
    }
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

    /// Its events in reading order, each with its number under the key it was read by: in a
    /// stream its revision, under a category or a type the place there; read by position, that.
    pub fn numbered(
        &self,
    ) -> impl DoubleEndedIterator<Item = (u64, EventView<'_>)> + ExactSizeIterator {
        self.events.iter().map(|located| (located.number, self.view(located)))
    }

    /// Its events in reading order, as the targets of links.
    pub fn targets(&self) -> impl ExactSizeIterator<Item = Target<'_>> {
        self.events.iter().map(|located| Target {
            number: located.number,
            event: self.view(located),
            hidden: located.hidden,
        })
    }

    /// The virtual stream through which the events were read, if it is one: they are the targets of
    /// its links.
    #[must_use]
    pub fn links(&self) -> Option<&Links> {
        self.links.as_deref()
    }

    /// Numbers the events: what lies at `positions` has the `numbers`.
    pub(crate) fn number(&mut self, positions: &[Position], numbers: impl Iterator<Item = u64>) {
        let mut places = positions.iter().zip(numbers);
        for event in &mut self.events {
            let place = places.by_ref().find(|(position, _)| **position == event.position);
            event.number = place.map_or(event.number, |(_, number)| number);
        }
    }

    /// When the last event that was looked at was committed, if that is known.
    pub(crate) fn last_time(&self) -> Option<Timestamp> {
        let hole = self.holes.last().map(|hole| (hole.position, hole.time));
        let event = self.last().map(|event| (event.position, event.time));
        hole.max(event).map(|(_, time)| time)
    }

    /// Numbers the events by their positions.
    pub(crate) fn number_by_position(&mut self) {
        self.events.iter_mut().for_each(|event| event.number = event.position.0);
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

    /// Adds an event; not one that is gone, of which there is but the place.
    pub(crate) fn push(&mut self, located: Located) {
        if record::is_gone(self.payload(&located)) {
            if self.view(&located).revision == Revision::FIRST {
                self.births.push(Located { hidden: true, ..located });
            }
            return;
        }
        self.size += located.len as usize;
        self.events.push(located);
    }

    /// Adds the place of an event that was removed.
    pub(crate) fn push_hole(&mut self, hole: Hole) {
        self.holes.push(hole);
    }

    /// Adds what is left of a removed event with which a stream began.
    pub(crate) fn push_birth(&mut self, located: Located) {
        self.births.push(located.removed());
    }

    /// Shows the events that are not there any more, as far as a stream began with them, among the
    /// others: it lists streams.
    pub(crate) fn show_births(&mut self, direction: Direction) {
        if self.births.is_empty() || planted::is(Bug::RemovedBirthHidden) {
            return;
        }
        self.events.append(&mut self.births);
        self.events.sort_unstable_by_key(|located| located.position);
        if direction == Direction::Backwards {
            self.events.reverse();
        }
    }

    /// Marks the events that `hides` answers true for.
    pub(crate) fn hide<E>(
        &mut self,
        mut hides: impl FnMut(&EventView<'_>) -> Result<bool, E>,
    ) -> Result<(), E> {
        for at in 0..self.events.len() {
            let hidden = self.events[at].hidden || hides(&self.view(&self.events[at]))?;
            self.events[at].hidden = hidden;
        }
        Ok(())
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
        let events = self.events.split_off(at);
        let mut rest = Page { events, links: self.links.clone(), ..Page::default() };
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

    fn payload(&self, located: &Located) -> &[u8] {
        let start = located.start as usize;
        &self.chunks[located.chunk as usize][start..start + located.len as usize]
    }

    fn view(&self, located: &Located) -> EventView<'_> {
        let payload = self.payload(located);
        let view = match located.removed {
            true => trace::decode(located.position, payload).map(|trace| trace.view()),
            false => record::view(located.position, payload),
        };
        view.expect("checked when the page was filled")
    }
}
