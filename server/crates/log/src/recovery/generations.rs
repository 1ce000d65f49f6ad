//! Which generation of a segment counts.
//!
//! A rewrite leaves two files of one segment for a moment. The newer has its name only when it is
//! complete, durable and was read back; it counts from then on, and the older is removed.
//!
//! ```text
//!   <first>-0.log                       the only one
//!   <first>-0.log  <first>-1.log        a process died before it removed the older:
//!                                         the newer is read once more, and if it is sound
//!                                         the older goes; if not, it is set aside (`.bad`)
//! ```
//!
//! INVARIANT: no generation is removed before a newer one was found sound, to its last byte.

use std::collections::BTreeMap;

use daybook_model::Position;

use super::{OpenError, Recovery, SET_ASIDE_SUFFIX, is_ours, open_segment};
use crate::disk::Disk;
use crate::planted::{self, Bug};
use crate::segment::{SEGMENT_SUFFIX, Segment, parse_name};
use crate::verify::verify_sealed;

/// The files of each segment, the newest generation first.
pub(super) type Files = BTreeMap<Position, Vec<(u32, String)>>;

/// The segments' files among `names`.
pub(super) fn files(names: &[String], recovery: &mut Recovery) -> Files {
    let mut files = Files::new();
    for name in names {
        if let Some((first, generation)) = parse_name(name, SEGMENT_SUFFIX) {
            files.entry(first).or_default().push((generation, name.clone()));
        } else if !is_ours(name) {
            recovery.foreign_files.push(name.clone());
        }
    }
    for generations in files.values_mut() {
        generations.sort_unstable_by(|a, b| b.cmp(a));
    }
    files
}

/// Opens the generation that counts of the segment at `first`. Answers its index, too.
pub(super) fn choose(
    disk: &dyn Disk,
    files: &Files,
    first: Position,
) -> Result<(Segment, usize), OpenError> {
    use std::ops::Bound::{Excluded, Unbounded};
    let generations = files.get(&first).map(Vec::as_slice).unwrap_or_default();
    let end = files.range((Excluded(first), Unbounded)).next().map(|(next, _)| *next);
    let (last, newer) = generations.split_last().expect("a segment has a file");
    for (i, (_, name)) in newer.iter().enumerate() {
        match open_segment(disk, name.clone(), first) {
            Ok(segment) if is_sound(&segment, end)? => return Ok((segment, i)),
            Ok(_) | Err(OpenError::Damaged { .. } | OpenError::ForeignFile { .. }) => {}
            Err(e) => return Err(e),
        }
    }
    Ok((open_segment(disk, last.1.clone(), first)?, newer.len()))
}

/// Whether `segment` is what it says, and ends where the next one begins.
fn is_sound(segment: &Segment, end: Option<Position>) -> Result<bool, OpenError> {
    if planted::is(Bug::NewestGenerationBelieved) {
        return Ok(true);
    }
    match verify_sealed(segment) {
        Ok((found, _)) => Ok(end == Some(found)),
        Err(OpenError::Damaged { .. }) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Removes the generations that do not count, or sets them aside if they are newer.
pub(super) fn settle(disk: &dyn Disk, recovery: &mut Recovery) -> Result<(), OpenError> {
    let files = files(&disk.list()?, &mut Recovery::default());
    let mut settled = false;
    for (first, generations) in files.iter().filter(|(_, generations)| generations.len() > 1) {
        let (segment, index) = choose(disk, &files, *first)?;
        // Of an only sound one left the name may not be durable yet.
        disk.sync_names()?;
        for (i, (_, name)) in generations.iter().enumerate() {
            if i < index {
                disk.rename(name, &format!("{name}{SET_ASIDE_SUFFIX}"))?;
                recovery.set_aside.push(name.clone());
            } else if *name != segment.name {
                disk.remove(name)?;
            }
        }
        settled = true;
    }
    if settled { Ok(disk.sync_names()?) } else { Ok(()) }
}
