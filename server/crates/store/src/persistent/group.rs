//! The machine itself. See the room's own page.
//!
//! ```text
//!   group       messages and consumers come and go; what is due at a time
//!   answer      what consumers make of messages: settled, sent again, parked
//!   checkpoint  when a place is to be made durable
//!   waiting     what waits, in its order          dispatch  sending it
//!   observe     what can be seen from outside
//! ```

mod answer;
mod checkpoint;
mod dispatch;
mod observe;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use uuid::Uuid;

use super::consumer::{Consumer, ConsumerId};
use super::message::{Action, Counters, Message, Origin, ParkCause, Ticket};
use super::progress::Progress;
use super::settings::{BUFFERED_SIZE_MAX, Settings};
use waiting::{AGAIN, NEW, REPLAYED, Turn, Waiting};

/// A message that is not settled.
struct Entry<P> {
    message: Message<P>,
    origin: Origin,
    retries: u32,
    pushed: Duration,
    state: State,
}

enum State {
    Waiting { again: bool },
    InFlight { consumer: ConsumerId, since: Duration },
    Parking { reason: String, cause: ParkCause, again_at: Option<Duration> },
}

/// See [`crate::persistent`].
pub struct Group<P> {
    settings: Settings,
    entries: BTreeMap<u64, Entry<P>>,
    waiting: Waiting,
    /// By id: the message that is or was in flight, or parking.
    by_id: BTreeMap<Uuid, u64>,
    deadlines: BTreeSet<(Duration, u64)>,
    /// When to park again what could not be parked.
    park_again: BTreeSet<(Duration, u64)>,
    source: Progress,
    replay: Progress,
    consumers: Vec<Consumer>,
    /// Round robin: the index of the consumer that is next.
    turn: usize,
    /// Messages in flight of each bucket, and who has them; only of strategies that pin.
    held: BTreeMap<usize, (ConsumerId, usize)>,
    actions: VecDeque<Action<P>>,
    /// When the last checkpoint became durable, or could not.
    checkpointed: Duration,
    /// Before then no checkpoint is tried, because one could not be written.
    save_again: Duration,
    next_ticket: u64,
    size: usize,
    in_flight: usize,
    counters: Counters,
    /// Messages that were looked at for somebody to be sent.
    #[cfg(test)]
    looks: u64,
}

impl<P: Clone> Group<P> {
    /// A group at time `now` that goes on after `checkpoint`; without one it begins with `start`.
    #[must_use]
    pub fn new(settings: Settings, checkpoint: Option<u64>, start: u64, now: Duration) -> Group<P> {
        Group {
            settings,
            entries: BTreeMap::new(),
            waiting: Waiting::default(),
            by_id: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            park_again: BTreeSet::new(),
            source: Progress::begin(checkpoint, start),
            replay: Progress::default(),
            consumers: Vec::new(),
            turn: 0,
            held: BTreeMap::new(),
            actions: VecDeque::new(),
            checkpointed: now,
            save_again: now,
            next_ticket: 0,
            size: 0,
            in_flight: 0,
            counters: Counters::default(),
            #[cfg(test)]
            looks: 0,
        }
    }

    /// How many messages may be pushed; `buffer` is how many may wait.
    #[must_use]
    pub fn room(&self, buffer: u32) -> usize {
        if self.size >= BUFFERED_SIZE_MAX {
            return 0;
        }
        (buffer as usize).saturating_sub(self.waiting.len())
    }

    /// Takes in a message of `origin`. Messages of one origin come in the order of their numbers.
    pub fn push(&mut self, origin: Origin, message: Message<P>, now: Duration) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.progress(origin).push(ticket, message.number);
        self.size += message.size;
        let state = State::Waiting { again: false };
        let entry = Entry { message, origin, retries: 0, pushed: now, state };
        self.waiting.insert(self.lane_of(&entry), turn(&entry, ticket));
        self.entries.insert(ticket, entry);
    }

    /// Notes that nothing of `origin` up to `number` is wanted, but what was pushed. Parked messages
    /// that are not wanted are done with, and may be forgotten.
    pub fn pass(&mut self, origin: Origin, number: u64) {
        match origin {
            Origin::Source => self.source.pass(number),
            Origin::Parked => self.replay.skip(number),
        }
    }

    /// Lets go of the newest messages of the source, as if they had never been pushed, until those
    /// that are left have no more than `size` bytes. Answers the number to go on with if any went.
    /// A message that failed once stays, and so do those before one that is settled: neither must
    /// be delivered as if it were new.
    pub fn give_back(&mut self, size: usize) -> Option<u64> {
        let (mut next_ticket, mut first) = (self.next_ticket, None);
        while self.size > size
            && let Some((ticket, number)) = self.source.last()
            && ticket + 1 == next_ticket
            && let Some(entry) = self.entries.get(&ticket)
            && matches!(entry.state, State::Waiting { .. })
            && entry.retries == 0
        {
            self.remove(ticket);
            self.source.give_back(ticket, number);
            (next_ticket, first) = (ticket, Some(number));
        }
        first
    }

    /// Begins to read parked messages with number `first`, unless some are unsettled.
    pub fn begin_replay(&mut self, first: u64) {
        if self.replay.len() == 0 {
            self.replay = Progress::begin(None, first);
        }
    }

    /// Adds a consumer. The host sees to limits.
    pub fn join(&mut self, id: ConsumerId, buffer_size: usize) {
        self.consumers.push(Consumer::new(id, buffer_size));
        self.owned_anew();
    }

    /// Removes a consumer. What it has in flight waits again, and is not counted as a retry.
    pub fn leave(&mut self, id: ConsumerId) {
        let Some(index) = self.consumers.iter().position(|consumer| consumer.id == id) else {
            return;
        };
        self.consumers.remove(index);
        if self.turn > index {
            self.turn -= 1;
        }
        let tickets = self.entries.keys().copied();
        let back: Vec<u64> = tickets.filter(|ticket| self.holder(*ticket) == Some(id)).collect();
        for ticket in back {
            self.take_back(ticket);
        }
        self.owned_anew();
    }

    /// A message could not be sent: it waits again, uncounted, and its consumer is sent nothing
    /// until [`Group::resume`].
    pub fn bounce(&mut self, consumer: ConsumerId, ticket: Ticket) {
        if self.holder(ticket.0) == Some(consumer) {
            self.take_back(ticket.0);
        }
        if let Some(consumer) = self.consumer(consumer) {
            consumer.paused = true;
        }
    }

    /// The consumer takes messages again.
    pub fn resume(&mut self, consumer: ConsumerId) {
        if let Some(consumer) = self.consumer(consumer) {
            consumer.paused = false;
        }
    }

    /// The time has come so far.
    pub fn tick(&mut self, now: Duration) {
        while let Some((deadline, ticket)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.again(ticket);
        }
        while let Some((at, ticket)) = self.park_again.first().copied()
            && at <= now
        {
            self.park_again.remove(&(at, ticket));
            self.request_parking(ticket);
        }
        self.checkpoint(now);
    }

    /// What there is to do; the host takes all of it.
    pub fn actions(&mut self, now: Duration) -> impl Iterator<Item = Action<P>> + '_ {
        self.checkpoint(now);
        self.dispatch(now);
        self.actions.drain(..)
    }

    fn of(&self, origin: Origin) -> &Progress {
        match origin {
            Origin::Source => &self.source,
            Origin::Parked => &self.replay,
        }
    }

    fn progress(&mut self, origin: Origin) -> &mut Progress {
        match origin {
            Origin::Source => &mut self.source,
            Origin::Parked => &mut self.replay,
        }
    }

    fn consumer(&mut self, id: ConsumerId) -> Option<&mut Consumer> {
        self.consumers.iter_mut().find(|consumer| consumer.id == id)
    }

    fn holder(&self, ticket: u64) -> Option<ConsumerId> {
        match self.entries.get(&ticket)?.state {
            State::InFlight { consumer, .. } => Some(consumer),
            _ => None,
        }
    }

    /// Which lane messages of `bucket` wait in.
    fn lane(&self, bucket: usize) -> usize {
        if self.settings.strategy.pins() { bucket } else { 0 }
    }

    fn lane_of(&self, entry: &Entry<P>) -> usize {
        self.lane(entry.message.bucket.index())
    }

    fn take_back(&mut self, ticket: u64) {
        self.leave_flight(ticket);
        if let Some(entry) = self.entries.get_mut(&ticket) {
            entry.state = State::Waiting { again: true };
            let (bucket, turn) = (entry.message.bucket.index(), turn(entry, ticket));
            self.waiting.insert(self.lane(bucket), turn);
        }
    }

    /// Removes what `State::InFlight` has left elsewhere.
    fn leave_flight(&mut self, ticket: u64) {
        let Some(entry) = self.entries.get(&ticket) else { return };
        let State::InFlight { consumer, since } = entry.state else { return };
        let bucket = entry.message.bucket.index();
        if let Some(timeout) = self.settings.message_timeout {
            self.deadlines.remove(&(since + timeout, ticket));
        }
        self.in_flight -= 1;
        if let Some(consumer) = self.consumer(consumer) {
            consumer.in_flight -= 1;
        }
        if let Some(held) = self.held.get_mut(&bucket) {
            held.1 -= 1;
            if held.1 == 0 {
                self.held.remove(&bucket);
            }
        }
    }

    fn settle(&mut self, ticket: u64) {
        self.leave_flight(ticket);
        let Some(entry) = self.remove(ticket) else { return };
        if let State::Parking { again_at: Some(at), .. } = entry.state {
            self.park_again.remove(&(at, ticket));
        }
        self.progress(entry.origin).settle(ticket);
        self.counters.settled += 1;
    }

    /// Forgets a message that is not in flight.
    fn remove(&mut self, ticket: u64) -> Option<Entry<P>> {
        let entry = self.entries.remove(&ticket)?;
        self.waiting.remove(self.lane_of(&entry), turn(&entry, ticket));
        if self.by_id.get(&entry.message.id) == Some(&ticket) {
            self.by_id.remove(&entry.message.id);
        }
        self.size -= entry.message.size;
        Some(entry)
    }
}

fn turn<P>(entry: &Entry<P>, ticket: u64) -> Turn {
    let class = match (&entry.state, entry.origin) {
        (State::Waiting { again: true }, _) => AGAIN,
        (_, Origin::Parked) => REPLAYED,
        (_, Origin::Source) => NEW,
    };
    (class, ticket)
}
