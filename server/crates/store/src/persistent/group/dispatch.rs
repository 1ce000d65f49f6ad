//! Sending what waits to whoever has room.

use std::time::Duration;

use super::super::strategy::{Strategy, owners};
use super::waiting::{Front, Turn};
use super::{Action, Group, State, Ticket};

impl<P: Clone> Group<P> {
    /// Computes anew who each bucket belongs to.
    pub(super) fn owned_anew(&mut self) {
        if self.settings.strategy.pins() {
            self.waiting.belong_to(owners(&self.consumers));
        }
    }

    /// Sends messages in their order, as long as any consumer has room.
    pub(super) fn dispatch(&mut self, now: Duration) {
        if !self.settings.strategy.pins() {
            return self.dispatch_to_any(now);
        }
        for index in 0..self.consumers.len() {
            self.dispatch_to(index, now);
        }
    }

    /// Of all that waits, whoever it is for.
    fn dispatch_to_any(&mut self, now: Duration) {
        let mut after: Option<Turn> = None;
        while let Some(index) = self.choose() {
            // A message whose id is in flight is passed over.
            let sent = loop {
                let Some(turn) = self.waiting.next_in(0, after) else { return };
                after = Some(turn);
                if self.is_sendable(turn) {
                    break turn;
                }
            };
            self.send(sent, index, now);
            self.turn = (index + 1) % self.consumers.len();
        }
    }

    /// What is pinned to the consumer at `index`. Of a bucket that has to wait nothing is sent, so
    /// that its order holds.
    fn dispatch_to(&mut self, index: usize, now: Duration) {
        let id = self.consumers[index].id;
        let mut after: Option<Front> = None;
        while self.consumers[index].free() > 0 {
            let Some(front) = self.waiting.front_of(id, after) else { return };
            after = Some(front);
            let (turn, bucket) = front;
            let is_anothers = self.held.get(&bucket).is_some_and(|(holder, _)| *holder != id);
            if !is_anothers && self.is_sendable(turn) {
                self.send(turn, index, now);
            }
        }
    }

    /// Whether no message of the same id is in flight, or was and is not settled.
    fn is_sendable(&mut self, (_, ticket): Turn) -> bool {
        #[cfg(test)]
        {
            self.looks += 1;
        }
        let Some(entry) = self.entries.get(&ticket) else { return false };
        self.by_id.get(&entry.message.id).is_none_or(|holder| *holder == ticket)
    }

    fn send(&mut self, turn: Turn, index: usize, now: Duration) {
        let (_, ticket) = turn;
        let to = self.consumers[index].id;
        let Some(entry) = self.entries.get_mut(&ticket) else { return };
        entry.state = State::InFlight { consumer: to, since: now };
        let (id, retries) = (entry.message.id, entry.retries);
        let (payload, bucket) = (entry.message.payload.clone(), entry.message.bucket.index());
        self.waiting.remove(self.lane(bucket), turn);
        self.by_id.insert(id, ticket);
        self.in_flight += 1;
        if let Some(timeout) = self.settings.message_timeout {
            self.deadlines.insert((now + timeout, ticket));
        }
        if self.settings.strategy.pins() {
            self.held.entry(bucket).or_insert((to, 0)).1 += 1;
        }
        self.consumers[index].in_flight += 1;
        self.counters.sent += 1;
        let ticket = Ticket(ticket);
        self.actions.push_back(Action::Send { to, ticket, retries, payload });
    }

    /// The index of the consumer that is sent the next message, if any can be now.
    fn choose(&self) -> Option<usize> {
        let free = |index: &usize| self.consumers[*index].free() > 0;
        let count = self.consumers.len();
        match self.settings.strategy {
            Strategy::RoundRobin => (0..count).map(|step| (self.turn + step) % count).find(free),
            _ => (0..count).find(free),
        }
    }
}
