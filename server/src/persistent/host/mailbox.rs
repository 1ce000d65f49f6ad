//! What a group is told, and what it does then.

use daybook_store::persistent::settings::CONSUMER_BUFFER_MAX;
use daybook_store::persistent::{ConsumerId, NackAction};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::super::consumer::{Consumer, Delivered, Ending};
use super::super::error::GroupError;
use super::super::info::{GroupInfo, Visitor};
use super::super::measure::{Rate, Times};
use super::{ABANDONED_SIZE_MAX, Host};

/// Commands that wait for a group. Consumers beyond wait with their clients.
pub const MAILBOX_SIZE: usize = 64;

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
pub(super) struct Client {
    pub visitor: Visitor,
    pub deliveries: mpsc::Sender<Delivered>,
    pub ended: oneshot::Sender<Ending>,
    pub rate: Rate,
    pub times: Option<Times>,
}

impl Host {
    pub(super) fn obey(&mut self, command: Command) {
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
    pub(super) fn let_go(&mut self) {
        let gone = self.clients.iter().filter(|(_, client)| client.deliveries.is_closed());
        let gone: Vec<ConsumerId> = gone.map(|(id, _)| *id).collect();
        for id in gone {
            self.clients.remove(&id);
            self.group.leave(id);
        }
        if self.clients.is_empty() && self.reading.goes_on() {
            // Nobody is there for what it read ahead, and others may be short of room.
            if self.group.give_back(ABANDONED_SIZE_MAX).is_some() {
                self.read_again();
            }
        }
    }

    /// What becomes of a command that the group did not come to before it ended: answers of
    /// consumers count, nothing else is begun.
    pub(super) fn obey_last(&mut self, command: Command, ending: Ending) {
        let key = &self.definition.key;
        match command {
            Command::Ack { .. } | Command::Nack { .. } => self.obey(command),
            // Whoever asked may have gone.
            Command::Join { answer, .. } => {
                let _ = answer.send(Err(ending.error(key)));
            }
            Command::Truncate { answer, .. } => {
                let _ = answer.send(Err(ending.error(key)));
            }
            // Who asked is told by the closed answer that the group let go of it.
            Command::Info { .. } | Command::Replay(_) | Command::Stop { .. } => {}
        }
    }
}
