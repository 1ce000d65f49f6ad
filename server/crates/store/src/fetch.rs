//! From positions to events: out of the tail in memory, or with as few reads of the segments as
//! the distance between the records allows.

use std::sync::Arc;

use bytes::Bytes;
use daybook_log::planted::{self, Bug};
use daybook_log::{Segment, frame};
use daybook_model::Position;

use crate::core::{self, Core};
use crate::index::posting::CHUNK_LEN;
use crate::index::{Access, View};
use crate::page::{Located, PAGE_EVENTS_MAX, PAGE_SIZE_TARGET, Page};
use crate::read::ReadError;
use crate::record;
use crate::scavenge::trace::{self, Hole};

/// Bytes between two records that are read along rather than skipped: a second read costs more.
const GAP_MAX: u64 = 16 * 1024;

/// Bytes of one read beyond its first record: bounds what the gaps make a page pin in memory.
const SPAN_MAX: u64 = 4 * PAGE_SIZE_TARGET as u64;

/// One record to be read.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    position: Position,
    start: u64,
    /// The record and what may follow it, up to the next record.
    end: u64,
}

/// Reads the events at `positions`, which are committed and run in one direction, from the first
/// on, until the page is full: at least one. [`Page::considered`] says how many were looked at.
pub(crate) fn fetch(
    core: &Core,
    view: &View,
    positions: &[Position],
    access: Access,
) -> Result<Page, ReadError> {
    let mut page = Page::default();
    let tail_first = core.tail.first();
    let mut at = 0;
    while at < positions.len() && !page.is_full() {
        if tail_first.is_some_and(|first| positions[at] >= first) {
            let added = core.tail.add(&positions[at..], &mut page);
            if added > 0 {
                core::count(&core.counters.read_from_memory, added as u64);
                at += added;
                continue;
            }
        }
        if access == Access::Memory {
            if at == 0 {
                return Err(ReadError::NotInMemory);
            }
            break;
        }
        let read = fetch_run(core, view, &positions[at..], tail_first, &mut page)?;
        core::count(&core.counters.read_from_disk, read as u64);
        at += read;
    }
    page.considered = at;
    if planted::is(Bug::HoleEndsRead) && page.is_empty() && !page.holes.is_empty() {
        page.considered = 0;
    }
    Ok(page)
}

/// Reads a run of events that lie near one another in one segment. Returns how many.
fn fetch_run(
    core: &Core,
    view: &View,
    positions: &[Position],
    tail_first: Option<Position>,
    page: &mut Page,
) -> Result<usize, ReadError> {
    let (segment, wanted) = locate(view, positions, tail_first)?;
    let backwards = wanted.len() > 1 && wanted[1].position < wanted[0].position;
    let mut size = page.size;
    let mut count = 1;
    let (mut start, mut end) = (wanted[0].start, wanted[0].end);
    size += (end - start) as usize;
    while count < wanted.len() && page.len() + count < PAGE_EVENTS_MAX && size < PAGE_SIZE_TARGET {
        let next = wanted[count];
        let gap = if backwards { start.saturating_sub(next.end) } else { next.start - end };
        let span = end.max(next.end) - start.min(next.start);
        if gap > GAP_MAX || span > SPAN_MAX {
            break;
        }
        (start, end) = (start.min(next.start), end.max(next.end));
        size += (next.end - next.start) as usize;
        count += 1;
    }
    let mut bytes = vec![0; (end - start) as usize];
    segment.file.read_at(&mut bytes, start)?;
    let bytes = Bytes::from(bytes);
    let chunk = page.add_chunk(bytes.clone());
    for each in &wanted[..count] {
        let from = (each.start - start) as usize;
        let found = checked(core, &segment, each, &bytes[from..(each.end - start) as usize])?;
        match found {
            Checked::Event { start, len } => {
                let start = from as u32 + start;
                page.push(Located::new(each.position, chunk, start, len));
            }
            Checked::Removed { hole, born } => {
                page.push_hole(hole);
                if let Some((start, len)) = born {
                    page.push_birth(Located::new(each.position, chunk, from as u32 + start, len));
                }
            }
        }
    }
    Ok(count)
}

/// What a record holds.
enum Checked {
    /// An event: where in the record its payload lies.
    Event { start: u32, len: u32 },
    /// The place of one that was removed. If its stream began with it, where what is left of it
    /// lies: its start and length.
    Removed { hole: Hole, born: Option<(u32, u32)> },
}

/// What the record at the start of `bytes` holds, if it is sound.
fn checked(
    core: &Core,
    segment: &Segment,
    wanted: &Wanted,
    bytes: &[u8],
) -> Result<Checked, ReadError> {
    let damaged = |reason| ReadError::Damaged {
        file: segment.name.clone(),
        offset: wanted.start,
        position: wanted.position,
        reason,
    };
    let found = frame::record(bytes, core.store_salt, wanted.position)
        .map_err(|bad| damaged(bad.reason()))?;
    let unknown = || damaged("the event is of a form this version does not know");
    if found.is_removed() {
        let trace = trace::decode(wanted.position, found.payload).ok_or_else(unknown)?;
        let lies = (found.payload_at() as u32, found.payload.len() as u32);
        return Ok(Checked::Removed { hole: trace.hole, born: trace.born.map(|_| lies) });
    }
    if record::view(wanted.position, found.payload).is_none() {
        return Err(unknown());
    }
    Ok(Checked::Event { start: found.payload_at() as u32, len: found.payload.len() as u32 })
}

/// The segment of the first position, and where the records of all leading positions in it lie.
fn locate(
    view: &View,
    positions: &[Position],
    tail_first: Option<Position>,
) -> Result<(Arc<Segment>, Vec<Wanted>), ReadError> {
    let first = positions[0];
    let table = view.memtables.iter().rfind(|table| table.first() <= first);
    let (low, high, segment) = match table {
        Some(table) => (table.first(), table.next(), table.segment.clone()),
        None => {
            let at = view.sealed.partition_point(|each| each.segment.header.first <= first);
            let sealed = &view.sealed[at.checked_sub(1).ok_or(ReadError::Closed)?];
            (sealed.segment.header.first, sealed.end, sealed.segment.clone())
        }
    };
    let here = |p: &&Position| **p >= low && **p < high && tail_first.is_none_or(|t| **p < t);
    let run: Vec<Position> =
        positions.iter().take_while(here).take(PAGE_EVENTS_MAX).copied().collect();
    let run = if run.is_empty() { vec![first] } else { run };
    let mut wanted = Vec::with_capacity(run.len());
    match table {
        Some(table) => {
            let inner = table.inner.read();
            for &position in &run {
                let index = (position.0 - low.0) as usize;
                let start = *inner.offsets.get(index).ok_or(ReadError::Closed)?;
                let end = inner.offsets.get(index + 1).copied().unwrap_or(inner.end);
                let (start, end) = (u64::from(start), u64::from(end));
                wanted.push(Wanted { position, start, end });
            }
        }
        None => locate_sealed(view, first, &run, &mut wanted)?,
    }
    Ok((segment, wanted))
}

fn locate_sealed(
    view: &View,
    first: Position,
    run: &[Position],
    wanted: &mut Vec<Wanted>,
) -> Result<(), ReadError> {
    let at = view.sealed.partition_point(|each| each.segment.header.first <= first);
    let sealed = &view.sealed[at - 1];
    let mut offsets = Vec::new();
    let mut i = 0;
    while i < run.len() {
        // Near positions share one look-up: decoding what lies between costs less than another.
        let near = |a: Position, b: Position| a.0.abs_diff(b.0) <= CHUNK_LEN as u64;
        let len = 1 + run[i..].windows(2).take_while(|pair| near(pair[0], pair[1])).count();
        let (low, high) = (run[i].min(run[i + len - 1]), run[i].max(run[i + len - 1]));
        let span = (high.0 - low.0) as usize + 1;
        offsets.clear();
        sealed.offsets(low, span, Access::Disk, &mut offsets)?;
        for &position in &run[i..i + len] {
            let index = (position.0 - low.0) as usize;
            let (start, end) = (u64::from(offsets[index]), u64::from(offsets[index + 1]));
            wanted.push(Wanted { position, start, end });
        }
        i += len;
    }
    Ok(())
}
