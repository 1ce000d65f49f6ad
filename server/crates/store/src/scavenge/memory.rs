//! What one pass leaves the next to know, as long as the process lives.

use std::collections::{BTreeMap, BTreeSet};

use daybook_log::planted::{self, Bug};
use daybook_log::rewrite::Draft;
use daybook_model::Position;

use super::survey::Share;
use crate::core::Core;

/// Nothing here must survive: a pass that knows nothing reads more, and a start settles the rest.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// What was found in vain, so that it is not read again: for each round and segment its share.
    looked: BTreeMap<(u64, Position), Share>,
    /// Segments whose next generation has its name, perhaps, though readers find the old one. Which
    /// of both counts is for the next start to say. Until then there is no other of that number:
    /// the index of one would meet the log of the other.
    unsettled: BTreeSet<Position>,
}

impl Memory {
    /// Whether a segment was looked at, and has had the same share ever since.
    pub fn knows(&self, round: u64, first: Position, share: &Share) -> bool {
        self.looked.get(&(round, first)) == Some(share)
    }

    /// Notes that nothing more of its share is worth the work.
    pub fn note(&mut self, round: u64, first: Position, share: Share) {
        self.looked.insert((round, first), share);
    }

    /// Whether it must be left to the next start which generation of a segment counts.
    pub fn is_unsettled(&self, first: Position) -> bool {
        self.unsettled.contains(&first)
    }

    /// Notes that the next generation of a segment is about to have its name.
    pub fn unsettle(&mut self, first: Position) {
        self.unsettled.insert(first);
    }

    /// Notes that readers find it.
    pub fn settle(&mut self, first: Position) {
        self.unsettled.remove(&first);
    }

    /// Makes the old generation of a segment the only one again, if the disk lets it.
    pub fn take_back(&mut self, core: &Core, draft: &Draft) {
        let forgotten = planted::is(Bug::DraftNotTakenBack);
        if forgotten || draft.take_back(&*core.environment.disk).is_ok() {
            self.settle(draft.segment.header.first);
        }
    }
}
