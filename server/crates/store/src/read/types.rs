//! The event types of the log, each with how many events have been of it.
//!
//! The index has no names of types, only hashes: but each event is of one type, and so many entries
//! as all known types have in a segment, so many of its events are known. Where that is not all of
//! them, the first event that no known type has says the name of another.
//!
//! ```text
//!   positions of a segment      0 1 2 3 4 5 6 7
//!   Opened has 5 there          x x . x . x x .     3 are missing
//!   the event at 2 is a Paid    x x x x . x x x     1 is missing, …
//! ```
//!
//! So a segment without a type of its own costs nothing but the counts, and one that has some is read
//! in the index, once. A type all of whose events were removed has no name any more, and is not told.

use std::collections::BTreeMap;

use daybook_model::Position;

use crate::core::Core;
use crate::fetch::fetch;
use crate::index::{Access, Key, KeyKind, View};
use crate::read::ReadError;

/// Types that are found; what a log has more of them has none of meaning.
pub const TYPES_MAX: usize = 1_000;
/// Events that are looked at for a name: those that were removed have none.
const LOOKS_MAX: usize = 4 * TYPES_MAX;
/// Entries of a key that are held at a time.
const ENTRIES_LEN: usize = 64 * 1024;

/// The event types of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventTypes {
    /// How many events have been of each, those that were removed with them.
    pub counts: BTreeMap<String, u64>,
    /// Whether there may be others: more than [`TYPES_MAX`], or too much was removed to find them.
    pub is_cut: bool,
}

/// Neighbouring events whose index is in one piece.
struct Part {
    first: Position,
    /// One of each event: whether its type is known. Empty until it is needed.
    known: Vec<bool>,
    len: u64,
    /// Events of types that are not known.
    missing: u64,
}

struct Search<'a> {
    core: &'a Core,
    view: &'a View,
    committed: Position,
    parts: Vec<Part>,
    keys: Vec<Key>,
    found: EventTypes,
}

/// Finds them. Reads the disk.
pub(crate) fn event_types(core: &Core) -> Result<EventTypes, ReadError> {
    let committed = core.committed();
    let view = core.view.load();
    let sealed = view.sealed.iter().map(|sealed| (sealed.segment.header.first, sealed.end));
    let young = view.memtables.iter().map(|table| (table.first(), table.next().min(committed)));
    let part = |(first, end): (Position, Position)| {
        let len = end.0.saturating_sub(first.0);
        Part { first, known: Vec::new(), len, missing: len }
    };
    let parts = sealed.chain(young).map(part).collect();
    let (keys, found) = (Vec::new(), EventTypes::default());
    Search { core, view: &view, committed, parts, keys, found }.run()
}

impl Search<'_> {
    fn run(mut self) -> Result<EventTypes, ReadError> {
        let mut looks = 0;
        for at in 0..self.parts.len() {
            if self.parts[at].missing == 0 {
                continue;
            }
            self.parts[at].known = vec![false; self.parts[at].len as usize];
            for key in self.keys.clone() {
                self.mark(at, key)?;
            }
            let mut next = 0;
            while let Some(ahead) = self.parts[at].known[next..].iter().position(|known| !known) {
                next += ahead;
                looks += 1;
                if looks > LOOKS_MAX || self.found.counts.len() >= TYPES_MAX {
                    self.found.is_cut = true;
                    return Ok(self.found);
                }
                let position = Position(self.parts[at].first.0 + next as u64);
                let page = fetch(self.core, self.view, &[position], Access::Disk)?;
                let name = page.events().next().map(|event| event.event_type.to_owned());
                match name {
                    Some(name) => self.take(at, name)?,
                    // It was removed; another of its type may not be.
                    None => next += 1,
                }
            }
            self.parts[at].known = Vec::new();
        }
        Ok(self.found)
    }

    /// One more type is known, of which the part at `at` has some.
    fn take(&mut self, at: usize, name: String) -> Result<(), ReadError> {
        let key = self.core.hasher.key(KeyKind::EventType, &name);
        let mut all = 0;
        for (first, count) in self.view.holdings(key, Access::Disk)? {
            let part = self.parts.partition_point(|part| part.first <= first) - 1;
            self.parts[part].missing = self.parts[part].missing.saturating_sub(count);
            all += count;
        }
        for table in &self.view.memtables {
            let count = table.count(key, self.committed);
            let part = self.parts.partition_point(|part| part.first <= table.first()) - 1;
            self.parts[part].missing = self.parts[part].missing.saturating_sub(count);
            all += count;
        }
        self.keys.push(key);
        self.found.counts.insert(name, all);
        self.mark(at, key)
    }

    /// The events of `key` are known, in the part at `at`.
    fn mark(&mut self, at: usize, key: Key) -> Result<(), ReadError> {
        let part = &mut self.parts[at];
        let mut from = 0;
        loop {
            let mut entries = Vec::new();
            match self.view.sealed.get(at) {
                Some(sealed) => {
                    sealed.positions(key, from, ENTRIES_LEN, Access::Disk, &mut entries)?;
                }
                None => {
                    let table = &self.view.memtables[at - self.view.sealed.len()];
                    table.positions(key, from, ENTRIES_LEN, self.committed, &mut entries);
                }
            }
            for entry in &entries {
                if let Some(known) = part.known.get_mut((entry.0 - part.first.0) as usize) {
                    *known = true;
                }
            }
            if entries.len() < ENTRIES_LEN {
                return Ok(());
            }
            from += ENTRIES_LEN as u64;
        }
    }
}
