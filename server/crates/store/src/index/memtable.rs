//! The index of one segment while it is in memory: the active one's, and a sealed one's until its
//! files are written.

use std::sync::Arc;

use daybook_log::Segment;
use daybook_log::planted::{self, Bug};
use daybook_model::{EventView, Position};
use parking_lot::RwLock;
use smallvec::SmallVec;

use crate::index::key::{EventKeys, IdentityState, Key, KeyHasher, KeyMap, id_key_of};
use crate::scavenge::trace::Trace;

/// What the index needs of one event.
pub(crate) struct Entry<'a> {
    /// Its record's offset in the segment.
    pub offset: u32,
    /// Bytes of the record.
    pub size: u32,
    pub keys: &'a [Key],
    pub id_key: u64,
    /// The stream's name, if this is its first event.
    pub born: Option<&'a str>,
}

/// Positions of one key, relative to the segment's first.
pub(crate) type Postings = SmallVec<[u32; 4]>;

/// The index of one segment in memory.
pub(crate) struct Memtable {
    pub segment: Arc<Segment>,
    pub inner: RwLock<Inner>,
}

/// What a memtable's lock guards.
#[derive(Default)]
pub(crate) struct Inner {
    pub keys: KeyMap<Key, Postings>,
    /// Offsets of the records by relative position, and the end of the last one.
    pub offsets: Vec<u32>,
    pub end: u32,
    pub id_keys: Vec<u64>,
    /// The streams that began here.
    pub names: Vec<Box<str>>,
}

impl Memtable {
    pub fn new(segment: Arc<Segment>) -> Memtable {
        let inner = Inner { keys: KeyMap::with_hasher(IdentityState), ..Inner::default() };
        Memtable { segment, inner: RwLock::new(inner) }
    }

    /// The position of the segment's first event.
    pub fn first(&self) -> Position {
        self.segment.header.first
    }

    /// The position after the last event indexed.
    pub fn next(&self) -> Position {
        Position(self.first().0 + self.inner.read().offsets.len() as u64)
    }

    /// How many entries `key` has below `committed`.
    pub fn count(&self, key: Key, committed: Position) -> u64 {
        let inner = self.inner.read();
        let Some(list) = inner.keys.get(&key) else { return 0 };
        self.visible(list, committed).len() as u64
    }

    /// Up to `limit` positions of `key` below `committed`, from its `from`-th entry here on.
    pub fn positions(
        &self,
        key: Key,
        from: u64,
        limit: usize,
        committed: Position,
        out: &mut Vec<Position>,
    ) {
        let inner = self.inner.read();
        let Some(list) = inner.keys.get(&key) else { return };
        let visible = self.visible(list, committed);
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(visible.len());
        let first = self.first().0;
        out.extend(
            visible[from..]
                .iter()
                .take(limit)
                .map(|&relative| Position(first + u64::from(relative))),
        );
    }

    fn visible<'a>(&self, list: &'a [u32], committed: Position) -> &'a [u32] {
        let end = committed.0.saturating_sub(self.first().0);
        match list.last() {
            Some(&last) if u64::from(last) < end => list,
            _ => &list[..list.partition_point(|&relative| u64::from(relative) < end)],
        }
    }
}

impl Inner {
    /// Adds the next event.
    pub fn add(&mut self, entry: &Entry<'_>) {
        let relative = self.offsets.len() as u32;
        self.offsets.push(entry.offset);
        self.end = entry.offset + entry.size;
        self.id_keys.push(entry.id_key);
        for key in entry.keys {
            self.keys.entry(*key).or_default().push(relative);
        }
        if let Some(name) = entry.born {
            self.names.push(name.into());
        }
    }

    /// Adds the next event, which was removed.
    pub fn add_trace(&mut self, trace: &Trace<'_>, offset: u32, size: u32) {
        let forgotten = planted::is(Bug::RemovedKeysForgotten);
        let keys: &[Key] = if forgotten { &[] } else { &trace.keys };
        let id_key = id_key_of(&trace.hole.id);
        self.add(&Entry { offset, size, keys, id_key, born: trace.born });
    }

    /// Adds the next event, as it is read back from the log.
    pub fn add_view(&mut self, hasher: &KeyHasher, event: &EventView<'_>, offset: u32, size: u32) {
        let keys: EventKeys = hasher.event_keys(event);
        let id_key = hasher.id_key(keys[0], event.id);
        let born = (event.revision.0 == 0).then_some(event.stream);
        self.add(&Entry { offset, size, keys: &keys, id_key, born });
    }
}
