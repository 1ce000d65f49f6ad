//! Sending what waits to whoever has room.

use std::collections::BTreeSet;
use std::time::Duration;

use super::super::strategy::{Strategy, owners};
use super::{Action, Group, State, Ticket, Turn};
use crate::persistent::ConsumerId;

impl<P: Clone> Group<P> {
    /// Computes anew who each bucket belongs to.
    pub(super) fn owned_anew(&mut self) {
        if self.settings.strategy.pins() {
            self.owners = owners(&self.consumers);
        }
    }

    /// Sends messages in their order, as long as any consumer has room. Of a bucket that has to
    /// wait, nothing is sent, so that its order holds.
    pub(super) fn dispatch(&mut self, now: Duration) {
        let mut free: usize = self.consumers.iter().map(|consumer| consumer.free()).sum();
        let mut blocked = BTreeSet::new();
        let mut after: Option<Turn> = None;
        while free > 0 {
            let next = match after {
                Some(turn) => self.waiting.range(next_turn(turn)..).next().copied(),
                None => self.waiting.first().copied(),
            };
            let Some(turn) = next else { return };
            after = Some(turn);
            if self.try_send(turn, now, &mut blocked) {
                free -= 1;
            }
        }
    }

    fn try_send(&mut self, turn: Turn, now: Duration, blocked: &mut BTreeSet<usize>) -> bool {
        let (_, ticket) = turn;
        let Some(entry) = self.entries.get(&ticket) else { return false };
        let (id, bucket) = (entry.message.id, entry.message.bucket.index());
        let pins = self.settings.strategy.pins();
        if pins && blocked.contains(&bucket) {
            return false;
        }
        let is_taken = self.by_id.get(&id).is_some_and(|holder| *holder != ticket);
        let chosen = if is_taken { None } else { self.choose(bucket) };
        let Some(to) = chosen else {
            if pins {
                blocked.insert(bucket);
            }
            return false;
        };
        self.send(turn, to, now);
        true
    }

    fn send(&mut self, turn: Turn, to: ConsumerId, now: Duration) {
        let (_, ticket) = turn;
        let Some(entry) = self.entries.get_mut(&ticket) else { return };
        entry.state = State::InFlight { consumer: to, since: now };
        let (id, retries) = (entry.message.id, entry.retries);
        let (payload, bucket) = (entry.message.payload.clone(), entry.message.bucket.index());
        self.waiting.remove(&turn);
        self.by_id.insert(id, ticket);
        self.in_flight += 1;
        if let Some(timeout) = self.settings.message_timeout {
            self.deadlines.insert((now + timeout, ticket));
        }
        if self.settings.strategy.pins() {
            self.held.entry(bucket).or_insert((to, 0)).1 += 1;
        }
        if let Some(consumer) = self.consumer(to) {
            consumer.in_flight += 1;
        }
        self.counters.sent += 1;
        let ticket = Ticket(ticket);
        self.actions.push_back(Action::Send { to, ticket, retries, payload });
    }

    /// Who is sent a message of `bucket`, if anybody can be now.
    fn choose(&mut self, bucket: usize) -> Option<ConsumerId> {
        match self.settings.strategy {
            Strategy::DispatchToSingle => {
                self.consumers.iter().find(|consumer| consumer.free() > 0).map(|found| found.id)
            }
            Strategy::RoundRobin => {
                let count = self.consumers.len();
                let indices = (0..count).map(|step| (self.turn + step) % count);
                let index = indices.into_iter().find(|i| self.consumers[*i].free() > 0)?;
                self.turn = (index + 1) % count;
                Some(self.consumers[index].id)
            }
            Strategy::Pinned | Strategy::PinnedByCorrelation => {
                let owner = *self.owners.get(bucket)?;
                if self.held.get(&bucket).is_some_and(|(holder, _)| *holder != owner) {
                    return None;
                }
                self.consumer(owner).filter(|consumer| consumer.free() > 0).map(|found| found.id)
            }
        }
    }
}

fn next_turn((class, ticket): Turn) -> Turn {
    (class, ticket + 1)
}
