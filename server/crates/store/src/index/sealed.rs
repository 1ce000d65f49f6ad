//! The index files of one sealed segment: `.idx` with its postings, offsets and names, `.ids` with
//! its id keys while they are in the duplicate window.

use std::sync::Arc;

use daybook_log::checksum::{crc, mask};
use daybook_log::disk::{Disk, DiskError};
use daybook_log::planted::{self, Bug};
use daybook_log::scan::{Found, Scanner};
use daybook_log::{Segment, frame};
use daybook_model::Position;

use crate::index::Access;
use crate::index::key::{Key, KeyHasher};
use crate::index::memtable::{Inner, Memtable};
use crate::index::posting;
use crate::index::table::{BlockCache, Table, TableHeader, TableKind, TableWriter};
use crate::read::ReadError;
use crate::record;
use crate::scavenge::trace;

/// How a segment's index file ends.
pub(crate) const INDEX_SUFFIX: &str = ".idx";
/// How the file of a segment's id keys ends.
pub(crate) const IDS_SUFFIX: &str = ".ids";

/// One sealed segment with its index file.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub segment: Arc<Segment>,
    pub table: Table,
    /// The position after its last event.
    pub end: Position,
}

/// The name of a segment's file with another suffix.
pub(crate) fn beside(segment: &Segment, suffix: &str) -> String {
    let stem = segment.name.trim_end_matches(daybook_log::segment::SEGMENT_SUFFIX);
    format!("{stem}{suffix}")
}

fn table_header(segment: &Segment, end: Position) -> TableHeader {
    TableHeader {
        kind: TableKind::Segment,
        store_id: segment.header.store_id,
        first: segment.header.first,
        end,
        generation: segment.header.generation,
    }
}

impl Sealed {
    /// Opens the index of `segment`, which ends at `end`; none if it must be built.
    pub fn open(
        disk: &dyn Disk,
        segment: Arc<Segment>,
        end: Position,
        cache: Arc<BlockCache>,
    ) -> Result<Option<Sealed>, DiskError> {
        let name = beside(&segment, INDEX_SUFFIX);
        let table = Table::open(disk, &name, cache, &table_header(&segment, end))?;
        Ok(table.map(|table| Sealed { segment, table, end }))
    }

    /// The positions of `key` from its `from`-th entry in this segment on.
    pub fn positions(
        &self,
        key: Key,
        from: u64,
        limit: usize,
        access: Access,
        out: &mut Vec<Position>,
    ) -> Result<(), ReadError> {
        let from = u32::try_from(from).unwrap_or(u32::MAX);
        let first = self.segment.header.first.0;
        let until = out.len() + limit;
        let mut sound = true;
        let mut list = Vec::new();
        self.table.values(key, from, access, &mut |at, value| {
            list.clear();
            sound &= posting::decode(value, &mut list).is_some();
            let skip = from.saturating_sub(at) as usize;
            let wanted = list.iter().skip(skip).take(until - out.len());
            out.extend(wanted.map(|&relative| Position(first + u64::from(relative))));
            sound && out.len() < until
        })?;
        self.sound(sound)
    }

    /// The offsets of the records from `from` on, `count` of them and the end of the last.
    pub fn offsets(
        &self,
        from: Position,
        count: usize,
        access: Access,
        out: &mut Vec<u32>,
    ) -> Result<(), ReadError> {
        let from = (from.0 - self.segment.header.first.0) as u32;
        let mut sound = true;
        let mut list = Vec::new();
        self.table.values(Key::OFFSETS, from, access, &mut |at, value| {
            list.clear();
            sound &= posting::decode(value, &mut list).is_some();
            let skip = from.saturating_sub(at) as usize;
            out.extend(list.iter().skip(skip).take(count + 1 - out.len()));
            sound && out.len() <= count
        })?;
        self.sound(sound && out.len() == count + 1)
    }

    fn sound(&self, sound: bool) -> Result<(), ReadError> {
        if sound {
            return Ok(());
        }
        Err(ReadError::Damaged {
            file: self.table.name.clone(),
            offset: 0,
            position: self.segment.header.first,
            reason: "an index entry is not what this version writes; remove the file, and the \
                     next start rebuilds it",
        })
    }
}

/// Writes the index files of a sealed segment. The caller syncs the names.
pub(crate) fn write(disk: &Arc<dyn Disk>, memtable: &Memtable) -> Result<(), DiskError> {
    let segment = &memtable.segment;
    let inner = memtable.inner.read();
    let end = Position(segment.header.first.0 + inner.offsets.len() as u64);
    let name = beside(segment, INDEX_SUFFIX);
    let mut writer = TableWriter::new(disk.clone(), name, &table_header(segment, end), false)?;
    let mut offsets = inner.offsets.clone();
    offsets.push(inner.end);
    write_list(&mut writer, Key::OFFSETS, &offsets)?;
    let mut keys: Vec<(&Key, &[u32])> =
        inner.keys.iter().map(|(key, list)| (key, list.as_slice())).collect();
    keys.sort_unstable_by_key(|(key, _)| **key);
    for (i, (key, list)) in keys.into_iter().enumerate() {
        if i == 1 && planted::is(Bug::PostingSkippedAtSeal) {
            continue;
        }
        write_list(&mut writer, *key, list)?;
    }
    let mut names: Vec<&str> = inner.names.iter().map(|name| &**name).collect();
    names.sort_unstable();
    for name in names {
        writer.name(name)?;
    }
    writer.finish()?;
    write_ids(disk, segment, &inner.id_keys)
}

fn write_list(writer: &mut TableWriter, key: Key, list: &[u32]) -> Result<(), DiskError> {
    let mut value = Vec::new();
    for (i, chunk) in list.chunks(posting::CHUNK_LEN).enumerate() {
        value.clear();
        posting::encode(&mut value, chunk);
        writer.entry(key, (i * posting::CHUNK_LEN) as u32, &value)?;
    }
    Ok(())
}

/// The id keys in order of position, and a checksum.
fn write_ids(disk: &Arc<dyn Disk>, segment: &Segment, ids: &[u64]) -> Result<(), DiskError> {
    let name = beside(segment, IDS_SUFFIX);
    let temporary = format!("{name}.tmp");
    let file = disk.create(&temporary)?;
    let mut bytes = Vec::with_capacity(ids.len() * 8 + 4);
    for id in ids {
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes.extend_from_slice(&ids_sum(segment, &bytes).to_le_bytes());
    file.write_at(&bytes, 0)?;
    file.sync()?;
    disk.rename(&temporary, &name)
}

/// The checksum of a segment's id keys: no other segment's, and no other store's, has it.
fn ids_sum(segment: &Segment, bytes: &[u8]) -> u32 {
    crc(bytes) ^ mask(segment.header.frame_salt(), bytes.len() as u64)
}

/// The id keys of a segment of `count` events; none if the file must be built anew.
pub(crate) fn read_ids(
    disk: &dyn Disk,
    segment: &Segment,
    count: u64,
) -> Result<Option<Vec<u64>>, DiskError> {
    let file = match disk.open(&beside(segment, IDS_SUFFIX)) {
        Ok(file) => file,
        Err(e) if e.is_not_found() => return Ok(None),
        Err(e) => return Err(e),
    };
    if file.len()? != count * 8 + 4 {
        return Ok(None);
    }
    let mut bytes = vec![0; count as usize * 8 + 4];
    file.read_at(&mut bytes, 0)?;
    let sum = bytes.split_off(count as usize * 8);
    if sum != ids_sum(segment, &bytes).to_le_bytes() {
        return Ok(None);
    }
    let id = |chunk: &[u8]| u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
    Ok(Some(bytes.chunks_exact(8).map(id).collect()))
}

/// The index of a sealed segment, built from its frames.
pub(crate) fn rebuild(segment: &Arc<Segment>, hasher: &KeyHasher) -> Result<Memtable, ReadError> {
    let built = rebuild_while(segment, hasher, &mut |_| true)?;
    Ok(built.expect("nobody stopped it"))
}

/// As [`rebuild`]; `go_on` is told of the bytes of each frame, and may wait. None if it says no.
pub(crate) fn rebuild_while(
    segment: &Arc<Segment>,
    hasher: &KeyHasher,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Option<Memtable>, ReadError> {
    let memtable = Memtable::new(segment.clone());
    let mut inner = memtable.inner.write();
    let mut scanner = Scanner::new(segment);
    let damaged = |offset, position, reason| ReadError::Damaged {
        file: segment.name.clone(),
        offset,
        position,
        reason,
    };
    loop {
        let next = Position(segment.header.first.0 + inner.offsets.len() as u64);
        let (offset, header) = match scanner.step()? {
            Found::Frame { offset, header } => (offset, header),
            Found::End { .. } => break,
            Found::Bad { offset, reason } => return Err(damaged(offset, next, reason)),
        };
        if !go_on(header.frame_size() as u64) {
            return Ok(None);
        }
        if !header.kind.has_records() {
            continue;
        }
        let mut unknown = None;
        scanner
            .records(offset, &header, &mut |position, offset, found| {
                if !add(&mut inner, hasher, (position, offset), found) {
                    unknown = unknown.or(Some((offset, position)));
                }
            })
            .map_err(|(offset, bad)| damaged(offset, next, bad.reason()))?;
        if let Some((offset, position)) = unknown {
            return Err(damaged(
                offset,
                position,
                "the event is of a form this version does not know",
            ));
        }
    }
    drop(inner);
    Ok(Some(memtable))
}

/// Adds the event that `found` holds, or what is left of it, at a position and offset. Answers
/// whether it is of a form that is known.
fn add(
    inner: &mut Inner,
    hasher: &KeyHasher,
    (position, offset): (Position, u64),
    found: &frame::Record<'_>,
) -> bool {
    let (offset, size) = (offset as u32, found.size as u32);
    if found.is_removed() {
        let trace = trace::decode(position, found.payload);
        return trace.map(|trace| inner.add_trace(&trace, offset, size)).is_some();
    }
    let event = record::view(position, found.payload);
    event.map(|event| inner.add_view(hasher, &event, offset, size)).is_some()
}

#[cfg(test)]
mod tests {
    use daybook_log::disk::sim::SimDisk;
    use daybook_log::{Recovery, Sizes, recovery};
    use daybook_model::append::Append;
    use daybook_model::{ExpectedRevision, NewEvent, StreamName, SystemEntropy};
    use uuid::Uuid;

    use super::*;
    use crate::{Engine, Environment};

    #[test]
    fn a_rebuild_is_told_of_frame_by_frame_and_stops_anywhere() {
        let disk = SimDisk::new(1);
        let environment = Environment {
            disk: Arc::new(disk.clone()),
            clock: Arc::new(daybook_model::SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
        };
        let sizes = Sizes { first: 8192, max: 8192 };
        let mut engine = Engine::open(environment, sizes).expect("it opens");
        for id in 1..30 {
            let event = NewEvent::json(Uuid::from_u128(id), "Paid", vec![b'1'; 400]);
            let stream = StreamName::new("a-1").expect("a name");
            engine.submit(&Append::to_stream(stream, ExpectedRevision::Any, [event]));
            engine.run();
        }
        drop(engine);
        let disk = disk.restart();
        let segments = recovery::load(&disk, &mut Recovery::default()).expect("a log");
        let hasher = KeyHasher::new(segments[0].header.store_id);
        let mut told = Vec::new();
        let built = rebuild_while(&segments[0], &hasher, &mut |bytes| {
            told.push(bytes);
            true
        });
        let events = built.expect("sound").expect("all of it").inner.into_inner().offsets.len();
        assert!(events > 10 && told.len() >= events, "{events} events, {told:?}");
        assert!(told.iter().all(|bytes| *bytes < 1024), "{told:?}");
        for stop in 0..told.len() {
            let mut left = stop;
            let built = rebuild_while(&segments[0], &hasher, &mut |_| {
                left = left.wrapping_sub(1);
                left != usize::MAX
            });
            assert!(built.expect("sound").is_none(), "{stop}");
        }
    }
}
