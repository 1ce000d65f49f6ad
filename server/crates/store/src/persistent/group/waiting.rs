//! The messages that wait, in the order in which they are to be sent.
//!
//! ```text
//!   lane 0 ── turn, turn, turn …      fronts of consumer a: the first turns of the lanes
//!   lane 7 ── turn …                  that are a's, in order; and so for each consumer
//! ```
//!
//! A **lane** is what keeps an order of its own: a bucket where the strategy pins, otherwise all
//! there is, in lane 0. Who looks for what a consumer can be sent walks the fronts of that consumer:
//! what waits behind a front, or for others, costs nothing.
//!
//! INVARIANT: a lane that belongs to a consumer has its first turn, and no other, among the fronts.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::persistent::ConsumerId;

/// The class of messages that are sent again. They go first.
pub(super) const AGAIN: u8 = 0;
/// The class of messages that were parked.
pub(super) const REPLAYED: u8 = 1;
/// The class of messages that nobody was sent yet.
pub(super) const NEW: u8 = 2;

/// The order in which messages are sent: by class, then by ticket.
pub(super) type Turn = (u8, u64);
/// The first turn of a lane, and the lane.
pub(super) type Front = (Turn, usize);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    lanes: BTreeMap<usize, BTreeSet<Turn>>,
    /// Whose each lane is; empty without consumers, and of strategies that do not pin.
    owners: Vec<ConsumerId>,
    fronts: BTreeMap<ConsumerId, BTreeSet<Front>>,
    len: usize,
    again: usize,
}

impl Waiting {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// How many wait to be sent again.
    pub fn again(&self) -> usize {
        self.again
    }

    pub fn insert(&mut self, lane: usize, turn: Turn) {
        let turns = self.lanes.entry(lane).or_default();
        let before = turns.first().copied();
        if !turns.insert(turn) {
            return;
        }
        self.len += 1;
        self.again += usize::from(turn.0 == AGAIN);
        if before.is_none_or(|before| turn < before) {
            self.move_front(lane, before, Some(turn));
        }
    }

    pub fn remove(&mut self, lane: usize, turn: Turn) {
        let Some(turns) = self.lanes.get_mut(&lane) else { return };
        let was_first = turns.first() == Some(&turn);
        if !turns.remove(&turn) {
            return;
        }
        let first = turns.first().copied();
        if first.is_none() {
            self.lanes.remove(&lane);
        }
        self.len -= 1;
        self.again -= usize::from(turn.0 == AGAIN);
        if was_first {
            self.move_front(lane, Some(turn), first);
        }
    }

    /// Gives the lanes to `owners`, by index.
    pub fn belong_to(&mut self, owners: Vec<ConsumerId>) {
        self.owners = owners;
        self.fronts.clear();
        for (lane, turns) in &self.lanes {
            if let (Some(owner), Some(first)) = (self.owners.get(*lane), turns.first()) {
                self.fronts.entry(*owner).or_default().insert((*first, *lane));
            }
        }
    }

    /// The turn of a lane that follows `after`, or its first.
    pub fn next_in(&self, lane: usize, after: Option<Turn>) -> Option<Turn> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.lanes.get(&lane)?.range((from, Bound::Unbounded)).next().copied()
    }

    /// The front among those of `owner` that follows `after`, or its first.
    pub fn front_of(&self, owner: ConsumerId, after: Option<Front>) -> Option<Front> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.fronts.get(&owner)?.range((from, Bound::Unbounded)).next().copied()
    }

    fn move_front(&mut self, lane: usize, from: Option<Turn>, to: Option<Turn>) {
        let Some(owner) = self.owners.get(lane) else { return };
        let fronts = self.fronts.entry(*owner).or_default();
        if let Some(turn) = from {
            fronts.remove(&(turn, lane));
        }
        if let Some(turn) = to {
            fronts.insert((turn, lane));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fronts_are_the_first_turns_of_the_lanes_of_a_consumer() {
        let (one, other) = (ConsumerId(1), ConsumerId(2));
        let mut waiting = Waiting::default();
        for (lane, ticket) in [(0, 3), (0, 4), (1, 1), (2, 2)] {
            waiting.insert(lane, (NEW, ticket));
        }
        assert_eq!(waiting.front_of(one, None), None, "nobody's yet");
        waiting.belong_to(vec![one, other, one]);
        assert_eq!(waiting.front_of(one, None), Some(((NEW, 2), 2)));
        assert_eq!(waiting.front_of(one, Some(((NEW, 2), 2))), Some(((NEW, 3), 0)));
        assert_eq!(waiting.front_of(one, Some(((NEW, 3), 0))), None, "4 is behind it");
        waiting.insert(0, (AGAIN, 9));
        assert_eq!(waiting.front_of(one, None), Some(((AGAIN, 9), 0)));
        assert_eq!((waiting.len(), waiting.again()), (5, 1));
        for turn in [(AGAIN, 9), (NEW, 3), (NEW, 3)] {
            waiting.remove(0, turn);
        }
        assert_eq!(waiting.front_of(one, Some(((NEW, 2), 2))), Some(((NEW, 4), 0)));
        waiting.remove(1, (NEW, 1));
        assert_eq!(waiting.front_of(other, None), None);
        assert_eq!((waiting.len(), waiting.again()), (2, 0));
        assert_eq!(waiting.next_in(0, Some((NEW, 3))), Some((NEW, 4)));
    }
}
