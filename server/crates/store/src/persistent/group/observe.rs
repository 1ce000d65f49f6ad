//! What can be seen of a group.

use std::time::Duration;

use super::super::consumer::Consumer;
use super::super::settings::Settings;
#[cfg(test)]
use super::Entry;
use super::{Counters, Group, Origin, State};

impl<P: Clone> Group<P> {
    /// The consumers, in the order in which they joined.
    #[must_use]
    pub fn consumers(&self) -> &[Consumer] {
        &self.consumers
    }

    /// What it was set up with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What it has done.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Messages in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Messages that were not sent yet.
    #[must_use]
    pub fn waiting_new(&self) -> usize {
        self.waiting.len() - self.waiting.again()
    }

    /// Messages that wait to be sent again.
    #[must_use]
    pub fn waiting_again(&self) -> usize {
        self.waiting.again()
    }

    /// Messages that are being parked.
    #[must_use]
    pub fn parking(&self) -> usize {
        self.entries.values().filter(|e| matches!(e.state, State::Parking { .. })).count()
    }

    /// Messages of `origin` that are not settled.
    #[must_use]
    pub fn unsettled(&self, origin: Origin) -> usize {
        self.of(origin).len()
    }

    /// When the oldest message that is not settled was taken in.
    #[must_use]
    pub fn oldest(&self) -> Option<Duration> {
        let first = [self.source.first(), self.replay.first()].into_iter().flatten();
        first.filter_map(|ticket| self.entries.get(&ticket)).map(|entry| entry.pushed).min()
    }

    /// The last number of `origin` that was looked at.
    #[must_use]
    pub fn considered(&self, origin: Origin) -> Option<u64> {
        self.of(origin).considered()
    }

    /// Bytes of the messages it holds.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// The last number of the source that a durable checkpoint covers.
    #[must_use]
    pub fn checkpoint_number(&self) -> Option<u64> {
        self.source.durable()
    }

    /// How often a message was looked at for somebody to be sent.
    #[cfg(test)]
    pub(in crate::persistent) fn looks(&self) -> u64 {
        self.looks
    }

    /// The numbers of the messages that are in flight.
    #[cfg(test)]
    pub(in crate::persistent) fn numbers_in_flight(&self) -> impl Iterator<Item = u64> + '_ {
        let flying = self.entries.values().filter(|e| matches!(e.state, State::InFlight { .. }));
        flying.map(|entry| entry.message.number)
    }

    /// The numbers of the messages that nobody was sent yet.
    #[cfg(test)]
    pub(in crate::persistent) fn numbers_never_sent(&self) -> impl Iterator<Item = u64> + '_ {
        let never = |e: &&Entry<P>| matches!(e.state, State::Waiting { again: false });
        self.entries.values().filter(never).map(|entry| entry.message.number)
    }
}
