//! The directory: which segments hold a key, and how many entries each.
//!
//! A run covers neighbouring segments: `<first position>-<end position>.dir`. Sealing a segment
//! adds a run of its own; when [`FAN_OUT`] neighbouring runs of one tier exist they are merged to
//! one of the next, in the background. A lookup asks at most `FAN_OUT` runs a tier, most of which
//! answer from their filter.
//!
//! ```text
//!   value of a key   for each segment that holds it: distance of its index in the run, varint,
//!                    twice, and odd if a count follows, varint, which is 1 otherwise
//!   OFFSETS key      for each segment of the run: (first position, generation), varints
//! ```

use std::sync::Arc;

use daybook_log::disk::{Disk, DiskError};
use daybook_model::Position;
use smallvec::SmallVec;
use uuid::Uuid;

use crate::index::Access;
use crate::index::key::Key;
use crate::index::posting;
use crate::index::sealed::Sealed;
use crate::index::table::{BlockCache, Table, TableHeader, TableKind, TableWriter, take_entry};
use crate::read::ReadError;
use crate::record::{put_varint, take_varint};

/// How a run's file ends.
pub(crate) const DIRECTORY_SUFFIX: &str = ".dir";
/// Runs of one tier that are merged to one of the next. Few: runs that are not merged repeat most of
/// their segments' keys, a third of the index where events are spread over many streams.
pub(crate) const FAN_OUT: usize = 3;

/// A run of the directory.
#[derive(Debug)]
pub(crate) struct Run {
    pub table: Table,
    /// The first positions of the segments it covers.
    pub segments: Vec<Position>,
}

/// How many entries of a key one segment holds.
pub(crate) type Holding = (Position, u64);
/// The segments that hold a key, oldest first.
pub(crate) type Holdings = SmallVec<[Holding; 4]>;

/// The file name of the run that covers `first` to `end`.
pub(crate) fn run_name(first: Position, end: Position) -> String {
    format!("{:020}-{:020}{DIRECTORY_SUFFIX}", first.0, end.0)
}

/// What the name of a run says.
pub(crate) fn parse_run_name(name: &str) -> Option<(Position, Position)> {
    let (first, end) = name.strip_suffix(DIRECTORY_SUFFIX)?.split_once('-')?;
    Some((Position(first.parse().ok()?), Position(end.parse().ok()?)))
}

fn run_header(store_id: Uuid, first: Position, end: Position) -> TableHeader {
    TableHeader { kind: TableKind::Directory, store_id, first, end, generation: 0 }
}

impl Run {
    /// Opens the run that covers the segments of `sealed`; none if it must be built.
    pub fn open(
        disk: &dyn Disk,
        sealed: &[Arc<Sealed>],
        cache: Arc<BlockCache>,
    ) -> Result<Option<Run>, ReadError> {
        let (Some(first), Some(last)) = (sealed.first(), sealed.last()) else { return Ok(None) };
        let (start, end) = (first.segment.header.first, last.end);
        let header = run_header(first.segment.header.store_id, start, end);
        let Some(table) = Table::open(disk, &run_name(start, end), cache, &header)? else {
            return Ok(None);
        };
        let mut covered = Vec::new();
        table.values(Key::OFFSETS, 0, Access::Disk, &mut |_, value| {
            covered = value.to_vec();
            false
        })?;
        // Not the generations: what a segment holds of a key is the same in all of them.
        let firsts = |covered: &[u8]| decode_covered(covered).unwrap_or_default();
        if firsts(&covered) != firsts(&encode_covered(sealed)) {
            return Ok(None);
        }
        let segments = sealed.iter().map(|each| each.segment.header.first).collect();
        Ok(Some(Run { table, segments }))
    }

    /// Adds the segments of this run that hold `key` to `out`.
    pub fn holdings(&self, key: Key, access: Access, out: &mut Holdings) -> Result<(), ReadError> {
        if !self.table.may_have(key) {
            return Ok(());
        }
        let mut sound = true;
        self.table.values(key, 0, access, &mut |_, value| {
            sound = self.decode(value, out).is_some();
            false
        })?;
        if sound {
            return Ok(());
        }
        Err(ReadError::Damaged {
            file: self.table.name.clone(),
            offset: 0,
            position: self.table.header.first,
            reason: "a directory entry is not what this version writes; remove the file, and the \
                     next start rebuilds it",
        })
    }

    fn decode(&self, mut value: &[u8], out: &mut Holdings) -> Option<()> {
        let mut index = 0usize;
        while !value.is_empty() {
            let (distance, count) = take_holding(&mut value)?;
            index = index.checked_add(usize::try_from(distance).ok()?)?;
            out.push((*self.segments.get(index)?, count));
        }
        Some(())
    }
}

fn encode_covered(sealed: &[Arc<Sealed>]) -> Vec<u8> {
    let mut out = Vec::new();
    for each in sealed {
        put_varint(&mut out, each.segment.header.first.0);
        put_varint(&mut out, u64::from(each.segment.header.generation));
    }
    out
}

/// The first positions of the segments of a run.
fn decode_covered(mut covered: &[u8]) -> Option<Vec<u64>> {
    let mut firsts = Vec::new();
    while !covered.is_empty() {
        firsts.push(take_varint(&mut covered)?);
        take_varint(&mut covered)?;
    }
    Some(firsts)
}

/// Writes the run of one segment, from its index. The caller syncs the names.
pub(crate) fn write_first(disk: &Arc<dyn Disk>, sealed: &Arc<Sealed>) -> Result<(), ReadError> {
    let one = std::slice::from_ref(sealed);
    let mut writer = begin(disk, one)?;
    let mut current: Option<(Key, u64)> = None;
    let mut value = Vec::new();
    let mut list = Vec::new();
    sealed.table.entries(&mut |key, number, chunk| {
        if key == Key::OFFSETS {
            return Ok(());
        }
        // Only the last chunk of a key says how many entries it has.
        list.clear();
        posting::decode(chunk, &mut list);
        let count = u64::from(number) + list.len() as u64;
        if let Some((before, total)) = current
            && before != key
        {
            value.clear();
            put_holding(&mut value, 0, total);
            writer.entry(before, 0, &value)?;
        }
        current = Some((key, count));
        Ok(())
    })?;
    if let Some((key, total)) = current {
        value.clear();
        put_holding(&mut value, 0, total);
        writer.entry(key, 0, &value)?;
    }
    for block in 0..sealed.table.name_block_count() {
        for name in sealed.table.name_block(block)? {
            writer.name(&name)?;
        }
    }
    Ok(writer.finish()?)
}

fn put_holding(value: &mut Vec<u8>, distance: u64, count: u64) {
    put_varint(value, distance << 1 | u64::from(count != 1));
    if count != 1 {
        put_varint(value, count);
    }
}

fn take_holding(value: &mut &[u8]) -> Option<(u64, u64)> {
    let distance = take_varint(value)?;
    let count = if distance & 1 == 1 { take_varint(value)? } else { 1 };
    Some((distance >> 1, count))
}

fn begin(disk: &Arc<dyn Disk>, sealed: &[Arc<Sealed>]) -> Result<TableWriter, DiskError> {
    let (first, last) = (&sealed[0], &sealed[sealed.len() - 1]);
    let (start, end) = (first.segment.header.first, last.end);
    let header = run_header(first.segment.header.store_id, start, end);
    let mut writer = TableWriter::new(disk.clone(), run_name(start, end), &header, true)?;
    writer.entry(Key::OFFSETS, 0, &encode_covered(sealed))?;
    Ok(writer)
}

/// Merges neighbouring runs, which cover `sealed`, to one. The caller syncs the names.
pub(crate) fn merge(
    disk: &Arc<dyn Disk>,
    runs: &[Arc<Run>],
    sealed: &[Arc<Sealed>],
) -> Result<(), ReadError> {
    let mut writer = begin(disk, sealed)?;
    let mut cursors: Vec<EntryCursor> = Vec::with_capacity(runs.len());
    let mut base = 0;
    for run in runs {
        cursors.push(EntryCursor::new(run.clone(), base)?);
        base += run.segments.len() as u64;
    }
    let mut value = Vec::new();
    while let Some(key) = cursors.iter().filter_map(|cursor| cursor.key).min() {
        value.clear();
        let mut last = 0;
        for cursor in &mut cursors {
            if cursor.key == Some(key) {
                // What a run covers is no list of holdings; `begin` wrote the merged run's own.
                if key != Key::OFFSETS {
                    cursor.append(&mut value, &mut last);
                }
                cursor.advance()?;
            }
        }
        if key != Key::OFFSETS {
            writer.entry(key, 0, &value)?;
        }
    }
    let mut names: Vec<NameCursor> =
        runs.iter().map(|run| NameCursor::new(run.clone(), "")).collect::<Result<_, _>>()?;
    while let Some(name) = next_name(&mut names)? {
        writer.name(&name)?;
    }
    Ok(writer.finish()?)
}

/// Walks the entries of one run, a block at a time.
struct EntryCursor {
    run: Arc<Run>,
    /// The index of the run's first segment in the merged run.
    base: u64,
    block: usize,
    bytes: bytes::Bytes,
    key: Option<Key>,
    value: bytes::Bytes,
}

impl EntryCursor {
    fn new(run: Arc<Run>, base: u64) -> Result<EntryCursor, ReadError> {
        let (bytes, value) = (bytes::Bytes::new(), bytes::Bytes::new());
        let mut cursor = EntryCursor { run, base, block: 0, bytes, key: None, value };
        cursor.advance()?;
        Ok(cursor)
    }

    fn advance(&mut self) -> Result<(), ReadError> {
        self.key = None;
        while self.bytes.is_empty() {
            if self.block == self.run.table.block_count() {
                return Ok(());
            }
            self.bytes = self.run.table.block_bytes(self.block)?;
            self.block += 1;
        }
        let mut rest = &self.bytes[..];
        let Some((key, _, value)) = take_entry(&mut rest) else {
            self.bytes = bytes::Bytes::new();
            return self.advance();
        };
        self.value = self.bytes.slice_ref(value);
        self.bytes = self.bytes.slice_ref(rest);
        self.key = Some(key);
        Ok(())
    }

    /// Appends this run's holdings to a merged value whose last index is `last`.
    fn append(&self, out: &mut Vec<u8>, last: &mut u64) {
        let mut value = &self.value[..];
        let mut index = self.base;
        while let Some((distance, count)) = take_holding(&mut value) {
            index += distance;
            put_holding(out, index - *last, count);
            *last = index;
        }
    }
}

/// Walks the names of one run from one on, a block at a time.
pub(crate) struct NameCursor {
    run: Arc<Run>,
    block: usize,
    names: std::vec::IntoIter<String>,
    head: Option<String>,
}

impl NameCursor {
    /// A cursor at the first name that is not below `from`.
    pub fn new(run: Arc<Run>, from: &str) -> Result<NameCursor, ReadError> {
        let block = run.table.name_block_of(from);
        let mut cursor = NameCursor { run, block, names: Vec::new().into_iter(), head: None };
        cursor.advance()?;
        while cursor.head.as_deref().is_some_and(|name| name < from) {
            cursor.advance()?;
        }
        Ok(cursor)
    }

    fn advance(&mut self) -> Result<(), ReadError> {
        loop {
            self.head = self.names.next();
            if self.head.is_some() || self.block >= self.run.table.name_block_count() {
                return Ok(());
            }
            self.names = self.run.table.name_block(self.block)?.into_iter();
            self.block += 1;
        }
    }
}

/// The smallest of the cursors' names; all that stand at it move on.
pub(crate) fn next_name(cursors: &mut [NameCursor]) -> Result<Option<String>, ReadError> {
    let Some(name) = cursors.iter().filter_map(|cursor| cursor.head.clone()).min() else {
        return Ok(None);
    };
    for cursor in cursors {
        if cursor.head.as_deref() == Some(&name) {
            cursor.advance()?;
        }
    }
    Ok(Some(name))
}

/// Which runs are to be merged next, as a range of `runs`: the newest [`FAN_OUT`] neighbours of one
/// tier. A run's tier is how often its segments' number can be divided by the fan-out.
pub(crate) fn next_merge(runs: &[Arc<Run>]) -> Option<std::ops::Range<usize>> {
    let tier = |run: &Run| run.segments.len().ilog(FAN_OUT);
    let end = runs.len();
    let last = tier(runs.last()?);
    let start = runs.iter().rposition(|run| tier(run) != last).map_or(0, |i| i + 1);
    (end - start >= FAN_OUT).then(|| end - FAN_OUT..end)
}
