//! How far a group is in one of the streams it takes messages from.

use std::collections::BTreeMap;

/// Numbers passed over after which that alone is worth a durable place: a filter that wants nothing
/// must not be asked about a long log again and again. Far more than the events that all groups
/// write for one place, or those would make each other write for ever.
pub(super) const PASSED_MAX: u64 = 100_000;

/// The unsettled messages of one stream, and the place up to which all is settled. Places are kept
/// as the number that is next, so that there is one before the first.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Ticket -> number; both rise.
    unsettled: BTreeMap<u64, u64>,
    /// What follows the last message that was pushed or passed over.
    next: u64,
    /// The place that needs not be made durable: it is, or little that follows it was worth it.
    saved: u64,
    /// The same, once what is being made durable is.
    saving: Option<Saving>,
    /// The last durable place, or where it began.
    durable: u64,
    has_durable: bool,
}

#[derive(Clone, Copy, Debug)]
struct Saving {
    durable: u64,
    saved: u64,
}

impl Progress {
    /// Begins after the number that is durable, or with number `start`.
    pub fn begin(durable: Option<u64>, start: u64) -> Progress {
        let next = durable.map_or(start, |number| number + 1);
        let has_durable = durable.is_some();
        Progress { next, saved: next, durable: next, has_durable, ..Progress::default() }
    }

    pub fn push(&mut self, ticket: u64, number: u64) {
        self.unsettled.insert(ticket, number);
        self.next = self.next.max(number.saturating_add(1));
    }

    /// Notes that nothing up to `number` is wanted. Where all before it needs not be made durable,
    /// it needs not either, up to [`PASSED_MAX`].
    pub fn pass(&mut self, number: u64) {
        let saved = self.saving.map_or(self.saved, |saving| saving.saved);
        let settled = self.unsettled.is_empty() && self.next == saved;
        self.next = self.next.max(number.saturating_add(1));
        if !settled || self.next - self.durable >= PASSED_MAX {
            return;
        }
        match &mut self.saving {
            Some(saving) => saving.saved = self.next,
            None => self.saved = self.next,
        }
    }

    /// Notes that nothing up to `number` is left, which is as good as if it were settled.
    pub fn skip(&mut self, number: u64) {
        self.next = self.next.max(number.saturating_add(1));
    }

    pub fn settle(&mut self, ticket: u64) {
        self.unsettled.remove(&ticket);
    }

    /// The last message that is not settled, and its number.
    pub fn last(&self) -> Option<(u64, u64)> {
        self.unsettled.last_key_value().map(|(ticket, number)| (*ticket, *number))
    }

    /// Notes that the last message was never pushed: its number is next again.
    pub fn give_back(&mut self, ticket: u64, number: u64) {
        self.unsettled.remove(&ticket);
        self.next = number;
    }

    /// The first message that is not settled.
    pub fn first(&self) -> Option<u64> {
        self.unsettled.keys().next().copied()
    }

    pub fn len(&self) -> usize {
        self.unsettled.len()
    }

    /// The last number that was looked at.
    pub fn considered(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// The last number that a durable place covers.
    pub fn durable(&self) -> Option<u64> {
        self.durable.checked_sub(1).filter(|_| self.has_durable)
    }

    /// What follows all that is settled without a gap.
    fn place(&self) -> u64 {
        self.unsettled.values().next().copied().unwrap_or(self.next)
    }

    /// Whether there is a place to be made durable. Not while one is being made so.
    pub fn is_ahead(&self) -> bool {
        self.saving.is_none() && self.place() > self.saved
    }

    /// Numbers settled without a gap since the last durable place.
    pub fn uncovered(&self) -> u64 {
        self.place().saturating_sub(self.saved)
    }

    /// The number to make durable now.
    pub fn begin_saving(&mut self) -> Option<u64> {
        let place = self.place();
        self.saving = Some(Saving { durable: place, saved: place });
        place.checked_sub(1)
    }

    /// What was being made durable is, or could not be.
    pub fn end_saving(&mut self, is_durable: bool) {
        if let Some(saving) = self.saving.take().filter(|_| is_durable) {
            self.saved = saving.saved;
            self.durable = saving.durable;
            self.has_durable = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_stops_before_what_is_not_settled() {
        let mut progress = Progress::begin(Some(9), 0);
        assert!(!progress.is_ahead());
        for (ticket, number) in [(1, 10), (4, 15), (6, 16)] {
            progress.push(ticket, number);
        }
        progress.settle(4);
        assert!(!progress.is_ahead());
        assert_eq!(progress.uncovered(), 0);
        progress.settle(1);
        assert_eq!((progress.uncovered(), progress.begin_saving()), (6, Some(15)));
        assert!(!progress.is_ahead(), "one at a time");
        progress.end_saving(false);
        assert_eq!((progress.is_ahead(), progress.durable()), (true, Some(9)));
        progress.begin_saving();
        progress.settle(6);
        progress.end_saving(true);
        assert_eq!((progress.uncovered(), progress.durable()), (1, Some(15)));
    }

    #[test]
    fn where_a_group_begins_is_no_checkpoint() {
        let mut progress = Progress::begin(None, 100);
        assert_eq!((progress.is_ahead(), progress.durable()), (false, None));
        progress.push(0, 100);
        assert!(!progress.is_ahead());
        progress.settle(0);
        assert_eq!((progress.uncovered(), progress.begin_saving()), (1, Some(100)));
    }

    #[test]
    fn what_was_passed_over_is_worth_nothing_until_it_is_much() {
        let mut progress = Progress::begin(None, 0);
        progress.pass(40);
        assert!(!progress.is_ahead());
        progress.push(0, 41);
        progress.pass(45);
        progress.settle(0);
        assert_eq!((progress.uncovered(), progress.begin_saving()), (5, Some(45)));
        // The event that says so comes by while it is being written.
        progress.pass(46);
        progress.end_saving(true);
        assert_eq!((progress.is_ahead(), progress.durable()), (false, Some(45)));
        progress.pass(45 + PASSED_MAX);
        assert!(progress.is_ahead());
    }
}
