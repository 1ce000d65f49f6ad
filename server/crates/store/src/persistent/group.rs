//! The machine itself. See the room's own page.

mod dispatch;
mod observe;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use uuid::Uuid;

use super::consumer::{Consumer, ConsumerId};
use super::progress::Progress;
use super::settings::{BUFFERED_SIZE_MAX, Settings, TRY_AGAIN};
use super::strategy::Bucket;

/// A message's number in the order in which messages were pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Where a message was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// What the group follows.
    Source,
    /// Its parked stream.
    Parked,
}

/// A message to be delivered.
#[derive(Clone, Debug)]
pub struct Message<P> {
    /// What consumers name it by: the id of the link if there is one, else of the event.
    pub id: Uuid,
    /// Its number where it was taken from; rising.
    pub number: u64,
    /// What it is pinned with.
    pub bucket: Bucket,
    /// Bytes it holds.
    pub size: usize,
    /// What is sent. Cloned for each delivery, so a handle.
    pub payload: P,
}

/// What a consumer makes of a message that it does not acknowledge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NackAction {
    /// Park it, for this reason.
    Park(String),
    /// Send it again, before new ones.
    Retry,
    /// It is done. What clients call Stop is no more than this.
    Skip,
}

/// Why a message is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkCause {
    /// A consumer asked for it.
    ClientNak,
    /// It was sent as often as it may.
    MaxRetries,
}

/// What the host is to do.
#[derive(Clone, Debug)]
pub enum Action<P> {
    /// Send a message; if it cannot be, [`Group::bounce`].
    Send {
        /// To whom.
        to: ConsumerId,
        /// Which.
        ticket: Ticket,
        /// How often it was sent before because it failed.
        retries: u32,
        /// What.
        payload: P,
    },
    /// Write it to the parked stream; then [`Group::parked`].
    Park {
        /// Which.
        ticket: Ticket,
        /// What.
        payload: P,
        /// Why, for people.
        reason: String,
        /// Why, for numbers.
        cause: ParkCause,
    },
    /// Make this place durable; then [`Group::checkpointed`].
    Checkpoint {
        /// Of which stream.
        origin: Origin,
        /// Everything up to here is settled.
        number: u64,
    },
}

/// What a group has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages settled.
    pub settled: u64,
    /// Messages sent, each time counted.
    pub sent: u64,
    /// Messages sent again because they failed or took too long.
    pub retried: u64,
    /// Parked because a consumer asked for it.
    pub parked_by_client: u64,
    /// Parked because they were sent as often as they may.
    pub parked_by_retries: u64,
}

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

/// The order in which waiting messages are sent: those sent before, replayed ones, new ones.
type Turn = (u8, u64);

/// See [`crate::persistent`].
pub struct Group<P> {
    settings: Settings,
    entries: BTreeMap<u64, Entry<P>>,
    waiting: BTreeSet<Turn>,
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
    owners: Vec<ConsumerId>,
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
}

impl<P: Clone> Group<P> {
    /// A group at time `now` that goes on after `checkpoint`; without one it begins with `start`.
    #[must_use]
    pub fn new(settings: Settings, checkpoint: Option<u64>, start: u64, now: Duration) -> Group<P> {
        Group {
            settings,
            entries: BTreeMap::new(),
            waiting: BTreeSet::new(),
            by_id: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            park_again: BTreeSet::new(),
            source: Progress::begin(checkpoint, start),
            replay: Progress::default(),
            consumers: Vec::new(),
            turn: 0,
            owners: Vec::new(),
            held: BTreeMap::new(),
            actions: VecDeque::new(),
            checkpointed: now,
            save_again: now,
            next_ticket: 0,
            size: 0,
            in_flight: 0,
            counters: Counters::default(),
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
        self.waiting.insert(turn(&entry, ticket));
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

    /// A consumer is done with a message; how long it had it. Also counts if the message has been
    /// taken from it meanwhile: the work is done. None if there is no such message.
    pub fn ack(&mut self, consumer: ConsumerId, id: Uuid, now: Duration) -> Option<Duration> {
        let ticket = *self.by_id.get(&id)?;
        let entry = self.entries.get(&ticket)?;
        let took = match &entry.state {
            State::InFlight { since, .. } => now.saturating_sub(*since),
            State::Waiting { .. } => Duration::ZERO,
            State::Parking { .. } => return None,
        };
        self.settle(ticket);
        if let Some(consumer) = self.consumer(consumer) {
            consumer.settled += 1;
        }
        Some(took)
    }

    /// A consumer is not done with a message that it has; answers whether it has it.
    pub fn nack(&mut self, consumer: ConsumerId, id: Uuid, what: NackAction) -> bool {
        let Some(ticket) = self.by_id.get(&id).copied() else { return false };
        if self.holder(ticket) != Some(consumer) {
            return false;
        }
        match what {
            NackAction::Retry => self.again(ticket),
            NackAction::Skip => {
                self.settle(ticket);
                if let Some(consumer) = self.consumer(consumer) {
                    consumer.settled += 1;
                }
            }
            NackAction::Park(reason) => {
                let reason = format!("Client explicitly NAK'ed message.\n{reason}");
                self.park(ticket, reason, ParkCause::ClientNak);
            }
        }
        true
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

    /// Makes all that is settled durable, however little it is.
    pub fn flush(&mut self) {
        for origin in [Origin::Source, Origin::Parked] {
            if self.progress(origin).is_ahead() {
                self.save(origin);
            }
        }
    }

    /// When [`Group::tick`] has something to do next, if nothing else happens.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        let timeout = self.deadlines.first().map(|(at, _)| *at);
        let parking = self.park_again.first().map(|(at, _)| *at);
        let enough = u64::from(self.settings.min_checkpoint_count.max(1));
        let due = self.source.is_ahead() && self.source.uncovered() >= enough;
        let aged = self.settings.checkpoint_after.filter(|_| due);
        let full = self.source.uncovered() >= u64::from(self.settings.max_checkpoint_count.max(1));
        let full = (full && self.source.is_ahead()).then_some(self.save_again);
        let aged = aged.map(|after| self.checkpointed + after);
        let checkpoint = full.or(aged).map(|at| at.max(self.save_again));
        let replay = self.replay.is_ahead().then(|| self.checkpointed + TRY_AGAIN);
        [timeout, parking, checkpoint, replay].into_iter().flatten().min()
    }

    /// A message was parked, or could not be and will be tried again.
    pub fn parked(&mut self, ticket: Ticket, is_durable: bool, now: Duration) {
        let Some(entry) = self.entries.get_mut(&ticket.0) else { return };
        let State::Parking { cause, again_at, .. } = &mut entry.state else { return };
        if !is_durable {
            let at = now + TRY_AGAIN;
            *again_at = Some(at);
            self.park_again.insert((at, ticket.0));
            return;
        }
        match cause {
            ParkCause::ClientNak => self.counters.parked_by_client += 1,
            ParkCause::MaxRetries => self.counters.parked_by_retries += 1,
        }
        self.settle(ticket.0);
    }

    /// A place was made durable, or could not be. That one is tried again after a while.
    pub fn checkpointed(&mut self, origin: Origin, is_durable: bool, now: Duration) {
        self.progress(origin).end_saving(is_durable);
        self.checkpointed = now;
        if !is_durable {
            self.save_again = now + TRY_AGAIN;
        }
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

    /// Writes checkpoints that are due: by count at once, by age if there are enough.
    fn checkpoint(&mut self, now: Duration) {
        if now < self.save_again {
            return;
        }
        let age = now.saturating_sub(self.checkpointed);
        if self.source.is_ahead() {
            let count = self.source.uncovered();
            let full = count >= u64::from(self.settings.max_checkpoint_count.max(1));
            let enough = count >= u64::from(self.settings.min_checkpoint_count.max(1));
            let aged = self.settings.checkpoint_after.is_some_and(|after| age >= after);
            if full || (enough && aged) {
                self.save(Origin::Source);
            }
        }
        if self.replay.is_ahead() && (age >= TRY_AGAIN || self.replay.len() == 0) {
            self.save(Origin::Parked);
        }
    }

    fn save(&mut self, origin: Origin) {
        if let Some(number) = self.progress(origin).begin_saving() {
            self.actions.push_back(Action::Checkpoint { origin, number });
        }
    }

    /// Sends a message again, unless that was done as often as it may.
    fn again(&mut self, ticket: u64) {
        let most = self.settings.max_retry_count;
        let Some(entry) = self.entries.get_mut(&ticket) else { return };
        if entry.retries >= most {
            let reason = format!("Reached retry count of {most}");
            return self.park(ticket, reason, ParkCause::MaxRetries);
        }
        entry.retries += 1;
        self.counters.retried += 1;
        self.take_back(ticket);
    }

    fn park(&mut self, ticket: u64, reason: String, cause: ParkCause) {
        self.leave_flight(ticket);
        if let Some(entry) = self.entries.get_mut(&ticket) {
            entry.state = State::Parking { reason, cause, again_at: None };
            self.request_parking(ticket);
        }
    }

    fn request_parking(&mut self, ticket: u64) {
        let Some(entry) = self.entries.get(&ticket) else { return };
        let State::Parking { reason, cause, .. } = &entry.state else { return };
        let (reason, cause) = (reason.clone(), *cause);
        let payload = entry.message.payload.clone();
        self.actions.push_back(Action::Park { ticket: Ticket(ticket), payload, reason, cause });
    }

    fn take_back(&mut self, ticket: u64) {
        self.leave_flight(ticket);
        if let Some(entry) = self.entries.get_mut(&ticket) {
            entry.state = State::Waiting { again: true };
            self.waiting.insert(turn(entry, ticket));
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
        let Some(entry) = self.entries.remove(&ticket) else { return };
        self.waiting.remove(&turn(&entry, ticket));
        if let State::Parking { again_at: Some(at), .. } = entry.state {
            self.park_again.remove(&(at, ticket));
        }
        if self.by_id.get(&entry.message.id) == Some(&ticket) {
            self.by_id.remove(&entry.message.id);
        }
        self.size -= entry.message.size;
        self.progress(entry.origin).settle(ticket);
        self.counters.settled += 1;
    }
}

fn turn<P>(entry: &Entry<P>, ticket: u64) -> Turn {
    let class = match (&entry.state, entry.origin) {
        (State::Waiting { again: true }, _) => 0,
        (_, Origin::Parked) => 1,
        (_, Origin::Source) => 2,
    };
    (class, ticket)
}
