//! The task of one group: brings it messages, carries out what it decides, keeps what must survive.
//!
//! ```text
//!   consumers ── ack, nack, join ──> mailbox ─┐                     ┌─ send ──> a consumer's channel
//!   the log ──── feed ──────────────────────> ├─> Group ─ actions ──┼─ park ──> journal ─┐
//!   parked stream ── replay ────────────────> │     ^               └─ checkpoint ───────┤
//!   the clock ── its next deadline ─────────> ┘     └────────── it is durable, or not ───┘
//! ```
//!
//! It reads on only while the group has room, writes without waiting for it, and does nothing at all
//! while nothing happens: an idle group costs no time.
//!
//! INVARIANT: one task has the group; nobody waits for it but through its mailbox.

mod replay;
mod report;
mod write;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use daybook_store::ReadError;
use daybook_store::persistent::settings::{CONSUMER_BUFFER_MAX, TRY_AGAIN};
use daybook_store::persistent::{Action, ConsumerId, Group, NackAction, Origin, Ticket};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{Notify, mpsc, oneshot};
use uuid::Uuid;

use super::budget::Held;
use super::consumer::{Consumer, Delivered, Ending};
use super::definition::Definition;
use super::error::GroupError;
use super::feed::{Fed, Feed, Item};
use super::info::{GroupInfo, Visitor};
use super::journal::{Journal, JournalError, Parked, Parking};
use super::measure::{Rate, Times};

/// Commands that wait for a group. Consumers beyond wait with their clients.
pub const MAILBOX_SIZE: usize = 64;
/// Messages that are being parked at a time; others wait in memory, unsettled.
const PARKS_MAX: usize = 32;
/// Parked messages that are read at a time.
const REPLAY_BATCH: usize = 50;
/// How soon a consumer that did not take what it was sent is looked at again.
const PAUSE_LOOK: Duration = Duration::from_millis(20);
/// The shortest sleep, so that a clock that stands still does not make a task spin.
const SLEEP_MIN: Duration = Duration::from_millis(1);
/// How long a group that stops waits for its last writes. What they miss is delivered again.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(5);

/// What a group is told.
pub enum Command {
    /// A consumer comes.
    Join {
        /// Who it says it is.
        visitor: Visitor,
        /// Messages it may have at a time.
        buffer_size: usize,
        /// Its end, or why there is none.
        answer: oneshot::Sender<Result<Consumer, GroupError>>,
    },
    /// A consumer is done with these.
    Ack {
        /// Who.
        consumer: ConsumerId,
        /// What.
        ids: Vec<Uuid>,
    },
    /// A consumer is not done with these.
    Nack {
        /// Who.
        consumer: ConsumerId,
        /// What.
        ids: Vec<Uuid>,
        /// What becomes of them.
        what: NackAction,
    },
    /// How does it stand?
    Info {
        /// Who asks.
        by: Asker,
        /// How.
        answer: oneshot::Sender<GroupInfo>,
    },
    /// Deliver parked messages again, at most so many.
    Replay(Option<u64>),
    /// Forget parked messages, at most so many.
    Truncate {
        /// How many.
        limit: Option<u64>,
        /// When it is durable, or why it is not.
        answer: oneshot::Sender<Result<(), GroupError>>,
    },
    /// End.
    Stop {
        /// What consumers are told.
        ending: Ending,
        /// When all of it is written that will be.
        done: oneshot::Sender<()>,
    },
}

/// Who asks how a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A client: what was done "since the last measurement" is since one asked.
    Client,
    /// Whoever collects numbers, which measures nothing.
    Collector,
}

/// A consumer, as its group sees it.
struct Client {
    visitor: Visitor,
    deliveries: mpsc::Sender<Delivered>,
    ended: oneshot::Sender<Ending>,
    rate: Rate,
    times: Option<Times>,
}

/// How the source is read.
enum Reading {
    Feed(Box<Feed>),
    /// It could not be read, and will be again at this time.
    Again(Duration),
    /// The stream ended for ever.
    Ended,
}

/// What was going on beside.
enum Done {
    Parked { ticket: Ticket, parking: Parking, result: Result<(), JournalError> },
    Checkpoint { origin: Origin, number: u64, result: Result<(), JournalError> },
    Replayed { next: u64, result: Result<Vec<Fed>, JournalError> },
    Truncated { first: u64, result: Result<(), GroupError>, answer: Answer },
}

type Answer = oneshot::Sender<Result<(), GroupError>>;

/// What has happened.
enum Step {
    Command(Option<Command>),
    Done(Done),
    Gone,
    Fed(Result<Vec<Fed>, ReadError>),
    ReadAgain,
    Time,
}

/// See the module.
pub struct Host {
    journal: Journal,
    definition: Definition,
    mailbox: mpsc::Receiver<Command>,
    /// For consumers, which outlive a wait and not the group.
    address: mpsc::WeakSender<Command>,
    gone: Arc<Notify>,
    group: Group<Arc<Item>>,
    reading: Reading,
    live: bool,
    parked: Parked,
    /// Which parked messages are to be read.
    replay: Option<(u64, u64)>,
    replay_is_read: bool,
    clients: BTreeMap<ConsumerId, Client>,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    parks: VecDeque<(Ticket, Parking)>,
    parks_under_way: usize,
    /// The ids under which messages were tried to be parked.
    parking_ids: BTreeMap<Ticket, Uuid>,
    joined: u64,
    rate: Rate,
    read_trouble: Option<String>,
    write_trouble: Option<String>,
    held: Held,
    may_take: bool,
}

impl Host {
    /// Loads what the group has kept. The task is [`Host::run`].
    ///
    /// # Errors
    /// [`JournalError`] if that cannot be read, or cannot be used.
    pub async fn load(
        journal: Journal,
        definition: Definition,
        (mailbox, address): (mpsc::Receiver<Command>, mpsc::WeakSender<Command>),
        held: Held,
    ) -> Result<Host, JournalError> {
        let key = &definition.key;
        let checkpoint = journal.checkpoint(key).await?;
        let parked = journal.parked(key).await?;
        let now = journal.clock().monotonic();
        let settings = definition.settings.clone();
        let group = Group::new(settings, checkpoint, definition.begins_at, now);
        let from = checkpoint.map_or(definition.begins_at, |number| number + 1);
        let feed = Feed::new(journal.store(), &definition, from);
        Ok(Host {
            journal,
            definition,
            mailbox,
            address,
            gone: Arc::new(Notify::new()),
            group,
            reading: Reading::Feed(Box::new(feed)),
            live: false,
            parked,
            replay: None,
            replay_is_read: false,
            clients: BTreeMap::new(),
            work: FuturesUnordered::new(),
            parks: VecDeque::new(),
            parks_under_way: 0,
            parking_ids: BTreeMap::new(),
            joined: 0,
            rate: Rate::begin(now),
            read_trouble: None,
            write_trouble: None,
            held,
            may_take: true,
        })
    }

    /// Runs until it is told to stop, or everybody who could has gone.
    pub async fn run(mut self) {
        loop {
            self.act();
            match self.wait().await {
                Step::Command(None) => return self.finish(Ending::Stopping).await,
                Step::Command(Some(Command::Stop { ending, done })) => {
                    self.finish(ending).await;
                    // Nobody may be waiting any more.
                    let _ = done.send(());
                    return;
                }
                Step::Command(Some(command)) => self.obey(command),
                Step::Done(done) => self.done(done),
                Step::Gone => self.let_go(),
                Step::Fed(fed) => self.take(fed),
                Step::ReadAgain => self.read_again(),
                Step::Time => {}
            }
        }
    }

    fn now(&self) -> Duration {
        self.journal.clock().monotonic()
    }

    async fn wait(&mut self) -> Step {
        let room = self.room();
        let now = self.now();
        let paused = self.group.consumers().iter().any(|consumer| consumer.paused);
        let look = paused.then(|| now + PAUSE_LOOK);
        let wake = [self.group.wake_at(), look].into_iter().flatten().min();
        let sleep = wake.map(|at| at.saturating_sub(now).max(SLEEP_MIN));
        tokio::select! {
            biased;
            command = self.mailbox.recv() => Step::Command(command),
            Some(done) = self.work.next(), if !self.work.is_empty() => Step::Done(done),
            () = self.gone.notified() => Step::Gone,
            step = read(&mut self.reading, room, now), if room > 0 => step,
            () = tokio::time::sleep(sleep.unwrap_or_default()), if sleep.is_some() => Step::Time,
        }
    }

    /// How many messages the group takes in.
    fn room(&self) -> usize {
        let settings = self.group.settings();
        let buffer =
            if self.live { settings.live_buffer_size } else { settings.history_buffer_size };
        if self.may_take { self.group.room(buffer) } else { 0 }
    }

    /// Carries out what the group has decided.
    fn act(&mut self) {
        let now = self.now();
        self.group.tick(now);
        let paused = self.group.consumers().iter().filter(|consumer| consumer.paused);
        let takes_again = paused.map(|consumer| consumer.id).filter(|id| {
            self.clients.get(id).is_some_and(|client| client.deliveries.capacity() > 0)
        });
        for id in takes_again.collect::<Vec<_>>() {
            self.group.resume(id);
        }
        loop {
            let actions: Vec<_> = self.group.actions(now).collect();
            if actions.is_empty() {
                break;
            }
            self.carry_out(actions);
        }
        self.park();
        self.read_parked();
        self.may_take = self.held.set(self.group.size());
    }

    fn carry_out(&mut self, actions: Vec<Action<Arc<Item>>>) {
        let mut full = BTreeSet::new();
        for action in actions {
            match action {
                Action::Send { to, ticket, retries, payload } => {
                    let delivered = Delivered { item: payload, retries };
                    let sent = !full.contains(&to)
                        && self
                            .clients
                            .get(&to)
                            .is_some_and(|client| client.deliveries.try_send(delivered).is_ok());
                    if !sent {
                        full.insert(to);
                        self.group.bounce(to, ticket);
                    }
                }
                Action::Park { ticket, payload, reason, .. } => {
                    let journal = &self.journal;
                    let id = self.parking_ids.entry(ticket).or_insert_with(|| journal.new_id());
                    let link = payload.parked_as.clone();
                    let parking = Parking { id: *id, link, number: payload.number, reason };
                    self.parks.push_back((ticket, parking));
                }
                Action::Checkpoint { origin, number } => self.checkpoint(origin, number),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            // The caller has gone if it does not take its answer; a consumer then leaves by itself.
            Command::Join { visitor, buffer_size, answer } => {
                let _ = answer.send(self.join(visitor, buffer_size));
            }
            Command::Ack { consumer, ids } => {
                let now = self.now();
                for id in ids {
                    let took = self.group.ack(consumer, id, now);
                    let times = self.clients.get_mut(&consumer).and_then(|c| c.times.as_mut());
                    if let (Some(took), Some(times)) = (took, times) {
                        times.record(took);
                    }
                }
            }
            Command::Nack { consumer, ids, what } => {
                for id in ids {
                    self.group.nack(consumer, id, what.clone());
                }
            }
            Command::Info { by, answer } => {
                let _ = answer.send(self.info(by));
            }
            Command::Replay(limit) => self.replay(limit),
            Command::Truncate { limit, answer } => self.truncate(limit, answer),
            Command::Stop { .. } => {}
        }
    }

    fn join(&mut self, visitor: Visitor, buffer_size: usize) -> Result<Consumer, GroupError> {
        let key = self.definition.key.clone();
        if self.clients.len() >= self.definition.settings.consumers_max() {
            return Err(GroupError::Full(key));
        }
        let Some(mailbox) = self.address.upgrade() else {
            return Err(GroupError::Stopping);
        };
        let id = ConsumerId(self.joined);
        self.joined += 1;
        let buffer_size = buffer_size.clamp(1, CONSUMER_BUFFER_MAX);
        let (sender, deliveries) = mpsc::channel(buffer_size);
        let (ended, hears) = oneshot::channel();
        let times = self.definition.extra_statistics.then(Times::default);
        let rate = Rate::begin(self.now());
        self.clients.insert(id, Client { visitor, deliveries: sender, ended, rate, times });
        self.group.join(id, buffer_size);
        let gone = self.gone.clone();
        Ok(Consumer { id, key, mailbox, deliveries, ended: hears, gone })
    }

    /// Lets go of consumers that have gone.
    fn let_go(&mut self) {
        let gone = self.clients.iter().filter(|(_, client)| client.deliveries.is_closed());
        let gone: Vec<ConsumerId> = gone.map(|(id, _)| *id).collect();
        for id in gone {
            self.clients.remove(&id);
            self.group.leave(id);
        }
    }

    fn done(&mut self, done: Done) {
        let now = self.now();
        match done {
            Done::Parked { ticket, parking, result } => {
                self.parks_under_way -= 1;
                if self.noted(&result, &format!("cannot park {}", parking.link)) {
                    self.parked.next += 1;
                    self.parking_ids.remove(&ticket);
                }
                self.group.parked(ticket, result.is_ok(), now);
            }
            Done::Checkpoint { origin, number, result } => {
                if self.noted(&result, "cannot write a checkpoint") && origin == Origin::Parked {
                    self.parked.first = self.parked.first.max(number + 1);
                }
                self.group.checkpointed(origin, result.is_ok(), now);
            }
            Done::Replayed { next, result } => {
                self.replay_is_read = false;
                self.replay = self.replay.map(|(_, end)| (next, end));
                match result {
                    Ok(fed) => fed.into_iter().for_each(|fed| self.push(Origin::Parked, fed)),
                    Err(failed) => {
                        self.read_trouble = Some(format!("cannot replay: {failed}"));
                        self.replay = None;
                    }
                }
            }
            Done::Truncated { first, result, answer } => {
                if result.is_ok() {
                    self.parked.first = self.parked.first.max(first);
                }
                let _ = answer.send(result);
            }
        }
    }

    fn take(&mut self, fed: Result<Vec<Fed>, ReadError>) {
        match fed {
            Ok(fed) => {
                self.read_trouble = None;
                fed.into_iter().for_each(|fed| self.push(Origin::Source, fed));
            }
            // The stop that closed the store also stops this.
            Err(ReadError::Closed) => self.reading = Reading::Ended,
            Err(error @ ReadError::StreamDeleted { .. }) => {
                self.live = true;
                self.read_trouble = Some(error.to_string());
                self.reading = Reading::Ended;
            }
            Err(error) => {
                let group = &self.definition.key;
                tracing::warn!(%group, %error, "the group cannot read on; it tries again");
                self.read_trouble = Some(error.to_string());
                self.reading = Reading::Again(self.now() + TRY_AGAIN);
            }
        }
    }

    fn push(&mut self, origin: Origin, fed: Fed) {
        match fed {
            Fed::Message(message) => self.group.push(origin, message, self.now()),
            Fed::Passed(number) => self.group.pass(origin, number),
            Fed::CaughtUp => self.live = true,
        }
    }

    fn read_again(&mut self) {
        let next = self.group.considered(Origin::Source).map_or(0, |number| number + 1);
        let feed = Feed::new(self.journal.store(), &self.definition, next);
        self.reading = Reading::Feed(Box::new(feed));
        self.live = false;
    }

    /// Lets go of the consumers, and writes what is settled.
    async fn finish(mut self, ending: Ending) {
        self.mailbox.close();
        for (_, client) in std::mem::take(&mut self.clients) {
            // It may have gone by itself.
            let _ = client.ended.send(ending);
        }
        let written = async {
            self.park();
            while let Some(done) = self.work.next().await {
                self.done(done);
            }
            if ending == Ending::Deleted {
                return;
            }
            self.group.flush();
            let now = self.now();
            let actions: Vec<_> = self.group.actions(now).collect();
            for action in actions {
                if let Action::Checkpoint { origin, number } = action {
                    self.checkpoint(origin, number);
                }
            }
            while let Some(done) = self.work.next().await {
                self.done(done);
            }
        };
        if tokio::time::timeout(FLUSH_WAIT_MAX, written).await.is_err() {
            tracing::warn!(group = %self.definition.key, "a group's last writes were not waited for");
        }
    }
}

/// What the source brings.
async fn read(reading: &mut Reading, room: usize, now: Duration) -> Step {
    match reading {
        Reading::Feed(feed) => Step::Fed(feed.next(room).await),
        Reading::Again(at) => {
            tokio::time::sleep(at.saturating_sub(now)).await;
            Step::ReadAgain
        }
        Reading::Ended => std::future::pending().await,
    }
}
