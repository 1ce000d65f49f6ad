//! Rewrites a sealed segment without some of its events: its next generation.
//!
//! ```text
//!   plan      read it, ask which events go; how many, and how many bytes that gives back
//!   write     <name of the next generation>.tmp, synced step by step
//!   read back the chain holds, what was to stay is there byte for byte, nothing else went
//!   install   rename, sync names: from here on the new generation counts
//!   (or       take it back, if nobody could be made to read it)
//!   (remove   the old one, by whoever knows that nobody opens it any more)
//!
//!   a commit before     random 16 | chain | A           | B           | C
//!   and without B       chain     | key of A, A         | digest of B | key of C, C
//! ```
//!
//! Of a removed event its place (time and revision) and its digest stay, and what the caller wants
//! to keep of it, its *trace*: so positions never change, the chain still verifies, and an index
//! built from the new generation says the same. The commit's random bytes go, so that the digest
//! of what was removed is of no use to anyone who guesses; the events beside it keep the keys that
//! were made of them. A commit that loses nothing is copied as it is.
//!
//! INVARIANTS
//! - The old generation is not touched here, and the new one has its name only when it is durable
//!   and was read back from the disk.
//! - A trace is opaque here.

mod check;
mod pass;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use daybook_model::Position;

use crate::disk::{Disk, DiskError};
use crate::frame::{self, BadRecord, Record};
use crate::planted::{self, Bug};
use crate::recovery::OpenError;
use crate::segment::{SEGMENT_HEADER_SIZE, Segment, SegmentHeader};

/// How an unfinished generation is named: as everything that the next start removes.
const TEMPORARY: &str = ".tmp";

/// Decides which events go.
pub trait Judge {
    /// Whether the event that `record` holds goes. Always the same of the same event. Not asked of
    /// what was removed before.
    fn goes(&mut self, position: Position, record: &Record<'_>) -> bool;

    /// Appends to `trace` what shall stay of it beside its place and digest.
    fn trace(&mut self, position: Position, record: &Record<'_>, trace: &mut Vec<u8>);
}

/// Told of bytes that were read or written; may wait. Answers whether to go on.
pub type Pace<'a> = dyn FnMut(u64) -> bool + 'a;

/// Why a segment was not rewritten. The old generation is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// The segment is damaged, or the disk failed.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// What was written is not what should have been.
    #[error("{file} was rewritten, but what can be read back of it is wrong: {reason}")]
    Unsound {
        /// The new generation's name.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// Somebody wanted it to stop.
    #[error("stopped")]
    Stopped,
}

impl From<DiskError> for RewriteError {
    fn from(e: DiskError) -> RewriteError {
        RewriteError::Log(e.into())
    }
}

/// Which events of a segment go, and what that gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// A bit for each of the segment's positions.
    goes: Vec<u64>,
    /// How many events go.
    pub removed: u64,
    /// Bytes of the file now.
    pub size: u64,
    /// Bytes of its next generation.
    pub size_after: u64,
    /// The position after its last event.
    pub end: Position,
}

impl Plan {
    fn goes(&self, index: u64) -> bool {
        self.goes.get((index / 64) as usize).is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    fn add(&mut self, index: u64) {
        let word = (index / 64) as usize;
        self.goes.resize(self.goes.len().max(word + 1), 0);
        self.goes[word] |= 1 << (index % 64);
        self.removed += 1;
    }

    /// Bytes that it gives back.
    #[must_use]
    pub fn gain(&self) -> u64 {
        self.size.saturating_sub(self.size_after)
    }
}

/// The next generation of a segment, written and synced under a temporary name.
#[derive(Clone, Debug)]
pub struct Draft {
    /// It, with the name that it will have.
    pub segment: Arc<Segment>,
}

impl Draft {
    /// The name it has until it is installed.
    #[must_use]
    pub fn temporary(&self) -> String {
        format!("{}{TEMPORARY}", self.segment.name)
    }

    /// Gives it its name, durably.
    ///
    /// # Errors
    /// The disk's. What is known then is that one of both generations counts at the next start.
    pub fn install(&self, disk: &dyn Disk) -> Result<(), DiskError> {
        disk.rename(&self.temporary(), &self.segment.name)?;
        if planted::is(Bug::OldGenerationRemovedEarly) {
            return Ok(());
        }
        disk.sync_names()
    }

    /// Takes its name back, durably: the old generation counts again at the next start, which its
    /// name alone would have changed. Only while the old one is there and nobody reads this one.
    ///
    /// # Errors
    /// The disk's. Which of both counts is for the next start to say then.
    pub fn take_back(&self, disk: &dyn Disk) -> Result<(), DiskError> {
        self.discard(disk);
        match disk.remove(&self.segment.name) {
            Err(e) if !e.is_not_found() => return Err(e),
            _ => {}
        }
        disk.sync_names()
    }

    /// Removes it, if it has not been installed.
    pub fn discard(&self, disk: &dyn Disk) {
        // Of an error: what is left is removed by the next start.
        let _ = disk.remove(&self.temporary());
    }
}

/// Asks `judge` of each event of the sealed `segment`.
///
/// # Errors
/// [`RewriteError`]
pub fn plan(
    segment: &Segment,
    judge: &mut dyn Judge,
    pace: &mut Pace<'_>,
) -> Result<Plan, RewriteError> {
    let mut plan = Plan {
        goes: Vec::new(),
        removed: 0,
        size: segment.header.size,
        size_after: (SEGMENT_HEADER_SIZE + frame::frame_size_of_seal()) as u64,
        end: segment.header.first,
    };
    let first = segment.header.first.0;
    let mut trace = Vec::new();
    let read = pass::each_commit(segment, &mut |commit| {
        let mut thinned = commit.header.kind.is_thinned();
        let mut kept = 0;
        let mut left = 0;
        for (position, record) in commit.records() {
            let record = record?;
            if !record.is_removed() && judge.goes(position, &record) {
                plan.add(position.0 - first);
                thinned = true;
                trace.clear();
                judge.trace(position, &record, &mut trace);
                left += pass::thinned_size(record.place.len() + trace.len());
            } else {
                left += pass::thinned_size(record.payload.len());
            }
            kept += 1;
        }
        plan.end = Position(commit.header.first.0 + kept);
        plan.size_after += match thinned {
            true => pass::thinned_frame_size(left),
            false => commit.header.frame_size() as u64,
        };
        Ok(if pace(commit.header.frame_size() as u64) { pass::Go::On } else { pass::Go::Stop })
    })?;
    if read == pass::Go::Stop { Err(RewriteError::Stopped) } else { Ok(plan) }
}

/// Writes the next generation of `segment` as `plan` says. `salt` is 16 unguessable bytes.
///
/// # Errors
/// [`RewriteError`]; nothing is left of it then.
pub fn write(
    disk: &dyn Disk,
    segment: &Segment,
    plan: &Plan,
    salt: [u8; 16],
    judge: &mut dyn Judge,
    pace: &mut Pace<'_>,
) -> Result<Draft, RewriteError> {
    let header = SegmentHeader {
        generation: segment.header.generation + 1,
        size: plan.size_after,
        salt,
        ..segment.header.clone()
    };
    let name = header.name();
    let file = disk.create(&format!("{name}{TEMPORARY}"))?;
    let draft = Draft { segment: Arc::new(Segment { header, name, file }) };
    match pass::copy(segment, &draft.segment, plan, judge, pace) {
        Ok(()) => Ok(draft),
        Err(e) => {
            draft.discard(disk);
            Err(e)
        }
    }
}

/// Reads `draft` back, and holds it against `segment` and `plan`.
///
/// # Errors
/// [`RewriteError::Unsound`] says what is wrong with it.
pub fn read_back(
    segment: &Segment,
    draft: &Draft,
    plan: &Plan,
    pace: &mut Pace<'_>,
) -> Result<(), RewriteError> {
    if planted::is(Bug::RewriteNotReadBack) {
        return Ok(());
    }
    check::compare(segment, &draft.segment, plan, pace)
}

fn damaged(segment: &Segment, offset: u64, position: Position, reason: &'static str) -> OpenError {
    OpenError::Damaged { file: segment.name.clone(), offset, position, reason }
}

fn bad_record(segment: &Segment, offset: u64, position: Position, bad: BadRecord) -> OpenError {
    damaged(segment, offset, position, bad.reason())
}
