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

mod mailbox;
mod reading;
mod replay;
mod report;
mod write;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use daybook_store::ReadError;
use daybook_store::persistent::{Action, ConsumerId, Group, Message, Ticket};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{Notify, mpsc, oneshot};
use uuid::Uuid;

use super::budget::{Held, SHARE_SIZE};
use super::consumer::{Delivered, Ending};
use super::definition::Definition;
use super::error::GroupError;
use super::feed::{Fed, Feed, Item};
use super::journal::{Journal, JournalError, Parked, Parking};
use super::measure::Rate;
use mailbox::Client;
pub use mailbox::{Asker, Command, MAILBOX_SIZE};
use reading::Reading;
use replay::Cut;

/// Bytes of messages that a group without consumers holds, except those that failed before: its
/// share of what all groups may hold.
const ABANDONED_SIZE_MAX: usize = SHARE_SIZE;
/// How soon a consumer that did not take what it was sent is looked at again.
const PAUSE_LOOK: Duration = Duration::from_millis(20);
/// The shortest sleep, so that a clock that stands still does not make a task spin.
const SLEEP_MIN: Duration = Duration::from_millis(1);

/// What was going on beside.
enum Done {
    Parked { ticket: Ticket, parking: Parking, result: Result<(), JournalError> },
    Checkpoint(Result<(), JournalError>),
    Replayed { next: u64, messages: Vec<Message<Arc<Item>>>, failed: Option<JournalError> },
    Cut { first: u64, cuts: Vec<Cut>, result: Result<(), JournalError> },
}

type Answer = oneshot::Sender<Result<(), GroupError>>;

/// What has happened.
enum Step {
    /// So many came; none if nobody can send any more.
    Commands(usize),
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
    /// What was received and not obeyed yet: all that waited is obeyed in one turn, because a turn
    /// costs far more than an acknowledgement.
    commands: Vec<Command>,
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
    /// When they are read again that could not be.
    replay_again: Option<Duration>,
    clients: BTreeMap<ConsumerId, Client>,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    parks: VecDeque<(Ticket, Parking)>,
    parks_under_way: usize,
    /// The ids under which messages were tried to be parked.
    parking_ids: BTreeMap<Ticket, Uuid>,
    /// What is wanted of the parked stream's place, besides what is being written.
    cuts: Vec<Cut>,
    is_cutting: bool,
    joined: u64,
    rate: Rate,
    read_trouble: Option<String>,
    replay_trouble: Option<String>,
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
            commands: Vec::new(),
            address,
            gone: Arc::new(Notify::new()),
            group,
            reading: Reading::of(feed),
            live: false,
            parked,
            replay: None,
            replay_is_read: false,
            replay_again: None,
            clients: BTreeMap::new(),
            work: FuturesUnordered::new(),
            parks: VecDeque::new(),
            parks_under_way: 0,
            parking_ids: BTreeMap::new(),
            cuts: Vec::new(),
            is_cutting: false,
            joined: 0,
            rate: Rate::begin(now),
            read_trouble: None,
            replay_trouble: None,
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
                Step::Commands(0) => return self.finish(Ending::Stopping, Vec::new()).await,
                Step::Commands(_) => {
                    let mut commands = std::mem::take(&mut self.commands);
                    let mut next = commands.drain(..);
                    while let Some(command) = next.next() {
                        if let Command::Stop { ending, done } = command {
                            self.finish(ending, next.collect()).await;
                            // Nobody may be waiting any more.
                            let _ = done.send(());
                            return;
                        }
                        self.obey(command);
                    }
                    drop(next);
                    self.commands = commands;
                }
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
        let wake = [self.group.wake_at(), look, self.replay_again].into_iter().flatten().min();
        let sleep = wake.map(|at| at.saturating_sub(now).max(SLEEP_MIN));
        tokio::select! {
            biased;
            count = self.mailbox.recv_many(&mut self.commands, MAILBOX_SIZE) => Step::Commands(count),
            Some(done) = self.work.next(), if !self.work.is_empty() => Step::Done(done),
            () = self.gone.notified() => Step::Gone,
            step = self.reading.next(room, now), if room > 0 => step,
            () = self.held.freed(), if !self.may_take => Step::Time,
            () = tokio::time::sleep(sleep.unwrap_or_default()), if sleep.is_some() => Step::Time,
        }
    }

    /// How many messages the group takes in of its source.
    fn room(&self) -> usize {
        let settings = self.group.settings();
        let buffer =
            if self.live { settings.live_buffer_size } else { settings.history_buffer_size };
        self.room_within(buffer)
    }

    /// How many messages it takes in if `buffer` may wait: few while nobody is there for them.
    fn room_within(&self, buffer: u32) -> usize {
        if !self.may_take {
            return 0;
        }
        if !self.clients.is_empty() {
            return self.group.room(buffer);
        }
        let few = buffer.min(self.group.settings().read_batch_size);
        if self.group.size() < ABANDONED_SIZE_MAX { self.group.room(few) } else { 0 }
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
        self.cut();
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
                    let link = payload.parked_as();
                    let parking = Parking { id: *id, link, number: payload.number, reason };
                    self.parks.push_back((ticket, parking));
                }
                Action::Checkpoint { origin, number } => self.checkpoint(origin, number),
            }
        }
    }
}
