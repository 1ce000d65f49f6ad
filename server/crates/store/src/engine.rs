//! The store without threads: every step is a call, in the order its caller chooses.
//!
//! [`crate::Store`] runs the same parts on threads of its own. A simulation drives this one, and
//! can crash, read or write between any two steps.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use daybook_log::planted::{self, Bug};
use daybook_log::{Placed, Recovery, Sizes, WriteError};
use daybook_model::append::{Append, AppendError, Appended, Deletion, StreamCondition};
use daybook_model::{Epoch, ExpectedRevision, NewEvent, Position, Revision, StreamName};
use smallvec::SmallVec;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::commit::Committer;
use crate::core::Core;
use crate::feed::{SubscribeFrom, Subscription, SubscriptionFilter};
use crate::index::Access;
use crate::maintenance;
use crate::open::{first_append, open};
use crate::port::first_revision;
use crate::prepare::Prepared;
use crate::read::{
    AllReader, Direction, IndexKey, IndexReader, ReadAll, ReadError, ReadStream, StreamReader,
};
use crate::resolve::{Resolution, resolve};
use crate::scavenge::memory::Memory;
use crate::scavenge::pass::Pass;
use crate::scavenge::{self, ScavengeError, Thoroughness};
use crate::status::{Health, StreamInfo};
use crate::store::{self, Environment, OpenError, stream_info};
use crate::writer::{Decider, Group, Reply, Request};

/// The store without threads.
pub struct Engine {
    core: Arc<Core>,
    decider: Decider,
    committer: Committer,
    queue: VecDeque<Request>,
    /// The group that is being built.
    building: Option<Group>,
    /// The group that is on its way.
    committing: Option<(Group, Stage)>,
    reset: bool,
    recovery: Recovery,
    rebuilt: u64,
    pass: Option<Pass>,
    memory: Memory,
}

/// How far a group has come.
#[derive(Debug)]
enum Stage {
    Built,
    Written(Placed),
    Synced(Placed),
    Indexed,
    Published,
}

/// A step of the committer that was just done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The bytes are written, nothing is durable.
    Written,
    /// They are durable.
    Synced,
    /// The index knows them.
    Indexed,
    /// Readers see them.
    Published,
    /// Their callers are told.
    Answered,
    /// The group was refused, its callers are told.
    Refused,
}

/// An append that was submitted.
pub struct Ticket {
    state: TicketState,
}

enum TicketState {
    Done(Result<Appended, AppendError>),
    Queued(oneshot::Receiver<Reply>),
    Again(Box<Prepared>, Position),
}

impl Engine {
    /// Opens the store in `environment`, or makes one there.
    ///
    /// # Errors
    /// [`OpenError`] names the file, the reason and what to do.
    pub fn open(environment: Environment, sizes: Sizes) -> Result<Engine, OpenError> {
        let memory = store::Memory { build_threads: 1, ..store::Memory::default() };
        let opened = open(environment, sizes, memory)?;
        let core = opened.core;
        let decider = Decider::new(core.clone(), opened.journal.chain(), opened.last_time);
        let committer = Committer::new(core.clone(), opened.journal);
        let mut engine = Engine {
            core,
            decider,
            committer,
            queue: VecDeque::new(),
            building: None,
            committing: None,
            reset: false,
            recovery: opened.recovery,
            rebuilt: opened.rebuilt,
            pass: None,
            memory: Memory::default(),
        };
        if engine.committed() == Position::FIRST {
            let append = first_append(&engine.core);
            let ticket = engine.submit(&append);
            engine.run();
            if let Some(Err(e)) = engine.poll(ticket).0 {
                return Err(OpenError::Start { reason: e.to_string() });
            }
        }
        Ok(engine)
    }

    /// What opening the log found and did.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// Index files that had to be built.
    #[must_use]
    pub fn rebuilt(&self) -> u64 {
        self.rebuilt
    }

    /// The end of what is durable.
    #[must_use]
    pub fn committed(&self) -> Position {
        self.core.committed()
    }

    /// Whether appends are taken.
    #[must_use]
    pub fn health(&self) -> Health {
        self.core.health.lock().clone()
    }

    /// Accepts the clock after a leap.
    pub fn accept_clock(&self) {
        self.core.accept_clock();
    }

    /// The epoch that wrote `position`.
    #[must_use]
    pub fn epoch_at(&self, position: Position) -> Option<Epoch> {
        self.core.epoch_at(position)
    }

    /// Resolves and queues an append.
    pub fn submit(&mut self, append: &Append) -> Ticket {
        self.prepare(append, None)
    }

    /// Queues the tombstone of a stream.
    pub fn tombstone(&mut self, stream: &StreamName, expected: ExpectedRevision) -> Ticket {
        let kind = daybook_model::metadata::TOMBSTONE_EVENT_TYPE;
        let event = NewEvent::json(self.event_id(), kind, Vec::new());
        let append = Append::to_stream(stream.clone(), expected, [event]);
        self.prepare(&append, Some(Deletion::Tombstone))
    }

    /// Queues the soft deletion of a stream that exists.
    pub fn soft_delete(&mut self, stream: &StreamName, expected: ExpectedRevision) -> Ticket {
        let kind = daybook_model::metadata::METADATA_EVENT_TYPE;
        let data = daybook_model::StreamMetadata::soft_delete_data();
        let event = NewEvent::json(self.event_id(), kind, data);
        let checked = StreamCondition { stream: stream.clone(), expected };
        let written =
            StreamCondition { stream: stream.metastream(), expected: ExpectedRevision::Any };
        let streams = SmallVec::from_vec(vec![checked, written]);
        let append = Append { streams, events: vec![(1, event)] };
        self.prepare(&append, Some(Deletion::Soft))
    }

    fn event_id(&self) -> Uuid {
        Uuid::from_bytes(self.core.environment.entropy.bytes())
    }

    fn prepare(&mut self, append: &Append, deletion: Option<Deletion>) -> Ticket {
        let salt = self.core.environment.entropy.bytes();
        match Prepared::new(&self.core.hasher, salt, append, deletion) {
            Ok(prepared) => self.queue(Box::new(prepared)),
            Err(e) => Ticket { state: TicketState::Done(Err(e)) },
        }
    }

    fn queue(&mut self, mut prepared: Box<Prepared>) -> Ticket {
        let done = |answer| Ticket { state: TicketState::Done(answer) };
        if let Some(reason) = self.core.stop_reason() {
            return done(Err(AppendError::Closed { reason }));
        }
        let resolved = match resolve(&self.core, &mut prepared, Access::Disk) {
            Ok(Resolution::Write(resolved)) => resolved,
            Ok(Resolution::Answer(answer)) => return done(answer),
            Err(e) => return done(Err(AppendError::Read { reason: e.to_string() })),
        };
        let (answer, reply) = oneshot::channel();
        self.queue.push_back(Request { prepared, resolved, answer, queued: Duration::ZERO });
        Ticket { state: TicketState::Queued(reply) }
    }

    /// The answer to an append, or its ticket back.
    pub fn poll(
        &mut self,
        ticket: Ticket,
    ) -> (Option<Result<Appended, AppendError>>, Option<Ticket>) {
        let state = match ticket.state {
            TicketState::Done(answer) => return (Some(answer), None),
            TicketState::Queued(mut reply) => match reply.try_recv() {
                Ok(Reply::Written(appended, _)) => return (Some(Ok(appended)), None),
                Ok(Reply::Done(answer)) => return (Some(answer), None),
                Ok(Reply::Again { prepared, until }) => TicketState::Again(prepared, until),
                Err(oneshot::error::TryRecvError::Empty) => TicketState::Queued(reply),
                Err(oneshot::error::TryRecvError::Closed) => {
                    let reason = "the store stopped".to_owned();
                    return (Some(Err(AppendError::Unknown { reason })), None);
                }
            },
            again => again,
        };
        let state = match state {
            TicketState::Again(prepared, until) if self.committed() >= until => {
                return (None, Some(self.queue(prepared)));
            }
            // What it waits for was refused: it can be resolved again at once.
            TicketState::Again(prepared, _) if self.is_idle() => {
                return (None, Some(self.queue(prepared)));
            }
            other => other,
        };
        (None, Some(Ticket { state }))
    }

    fn is_idle(&self) -> bool {
        self.committing.is_none() && self.building.is_none()
    }

    /// Decides all that waits, into the group that is next.
    pub fn decide(&mut self) {
        if self.building.is_none() {
            if std::mem::take(&mut self.reset) {
                let (end, chain) = self.committer.end();
                self.decider.reset(end, chain);
            }
            self.building = Some(self.decider.group());
        }
        let Some(group) = &mut self.building else { return };
        while !group.is_full() {
            let Some(request) = self.queue.pop_front() else { break };
            self.decider.add(request, group);
        }
        if group.batch.is_empty() {
            self.building = None;
        }
    }

    /// Hands the group that was built to the committer, if that is free.
    pub fn hand_over(&mut self) -> bool {
        if self.committing.is_some() {
            return false;
        }
        self.committing = self.building.take().map(|group| (group, Stage::Built));
        self.committing.is_some()
    }

    /// Does the committer's next step; none if there is nothing to do.
    pub fn step(&mut self) -> Option<Step> {
        let (mut group, stage) = self.committing.take()?;
        let (next, step) = match stage {
            Stage::Built => match self.committer.write(&mut group) {
                Ok(placed) => {
                    if planted::is(Bug::PublishBeforeSync) {
                        self.committer.index(&group, &placed);
                        self.committer.publish(&mut group);
                    }
                    (Stage::Written(placed), Step::Written)
                }
                Err(e) => return Some(self.refuse(group, &e)),
            },
            Stage::Written(placed) => {
                if planted::is(Bug::AnswerBeforeSync) {
                    self.committer.index(&group, &placed);
                    self.committer.publish(&mut group);
                    self.committer.finish(group);
                    let _ = self.committer.sync();
                    return Some(Step::Answered);
                }
                match self.committer.sync() {
                    Ok(()) if planted::is(Bug::PublishBeforeSync) => (Stage::Indexed, Step::Synced),
                    Ok(()) => {
                        if planted::is(Bug::PublishBeforeIndex) {
                            self.committer.publish(&mut group);
                        }
                        (Stage::Synced(placed), Step::Synced)
                    }
                    Err(e) => return Some(self.refuse(group, &e)),
                }
            }
            Stage::Synced(placed) => {
                self.committer.index(&group, &placed);
                (Stage::Indexed, Step::Indexed)
            }
            Stage::Indexed => {
                self.committer.publish(&mut group);
                (Stage::Published, Step::Published)
            }
            Stage::Published => {
                self.committer.finish(group);
                return Some(Step::Answered);
            }
        };
        self.committing = Some((group, next));
        Some(step)
    }

    fn refuse(&mut self, group: Group, error: &WriteError) -> Step {
        self.committer.refuse(group, error);
        self.reset |= !matches!(error, WriteError::Conflict { .. });
        Step::Refused
    }

    /// Does everything that waits.
    pub fn run(&mut self) {
        loop {
            self.decide();
            if !self.hand_over() && self.committing.is_none() {
                return;
            }
            while self.step().is_some() {}
        }
    }

    /// Does one piece of background work. Answers whether there may be more.
    ///
    /// # Errors
    /// [`ReadError`]; may be tried again.
    pub fn maintain(&mut self) -> Result<bool, ReadError> {
        Ok(maintenance::step(&self.core)? || !maintenance::idle(&self.core)?)
    }

    /// Does the next step of a scavenge, of a new one if none is at work. One that fails is over.
    ///
    /// # Errors
    /// [`ScavengeError`]; the next one tries again.
    pub fn scavenge(
        &mut self,
        thoroughness: Thoroughness,
    ) -> Result<scavenge::Step, ScavengeError> {
        let now = self.core.environment.clock.now();
        let id = self.event_id();
        let mut pass = self.pass.take().unwrap_or_else(|| Pass::new(id, thoroughness, now));
        match pass.step(&self.core, &mut self.memory, &mut |_| true) {
            Ok(scavenge::Step::Done) => Ok(scavenge::Step::Done),
            Ok(step) => {
                self.pass = Some(pass);
                Ok(step)
            }
            Err(e) => {
                pass.abandon(&self.core, &mut self.memory);
                Err(e)
            }
        }
    }

    /// What happens when the log falls quiet.
    pub fn watermark(&mut self) {
        if self.committing.is_none() {
            self.committer.watermark();
        }
    }

    /// Ends the epoch, as a restore does.
    ///
    /// # Errors
    /// [`WriteError`] says whether anything was written.
    pub fn raise_epoch(&mut self) -> Result<Epoch, WriteError> {
        self.committer.journal().raise_epoch()
    }

    /// What is known of a stream.
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or its bytes are damaged.
    pub fn stream_info(&self, stream: &StreamName) -> Result<StreamInfo, ReadError> {
        stream_info(&self.core, stream)
    }

    /// Names of streams, as [`crate::Store::streams`].
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or its bytes are damaged.
    pub fn streams(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, ReadError> {
        self.core.view.load().names(prefix, after, limit)
    }

    /// Reads a stream.
    ///
    /// # Errors
    /// As [`crate::Store::read_stream`].
    pub fn read_stream(&self, query: &ReadStream) -> Result<StreamReader, ReadError> {
        StreamReader::open(&self.core, query, Access::Disk)
    }

    /// Reads the log.
    #[must_use]
    pub fn read_all(&self, query: ReadAll) -> AllReader {
        AllReader::open(&self.core, query)
    }

    /// Reads the events of an index key.
    #[must_use]
    pub fn read_index(
        &self,
        key: &IndexKey,
        from: u64,
        direction: Direction,
        count: u64,
    ) -> IndexReader {
        IndexReader::open(&self.core, key, from, direction, count)
    }

    /// The revision of the first event of `stream` with this `$transactionId`, as
    /// [`daybook_model::EventStore::transaction`].
    ///
    /// # Errors
    /// [`ReadError`] if the disk fails or its bytes are damaged.
    pub fn transaction(
        &self,
        stream: &StreamName,
        transaction: Uuid,
    ) -> Result<Option<Revision>, ReadError> {
        let key = self.core.hasher.transaction(stream.as_str(), transaction);
        first_revision(&self.core, key, Access::Disk)
    }

    /// Subscribes to a stream; see [`Subscription::try_next`].
    #[must_use]
    pub fn subscribe_stream(&self, stream: &StreamName, from: SubscribeFrom) -> Subscription {
        Subscription::stream(self.core.clone(), stream.clone(), from)
    }

    /// Subscribes to the log; see [`Subscription::try_next`].
    #[must_use]
    pub fn subscribe_all(
        &self,
        from: SubscribeFrom,
        filter: Option<SubscriptionFilter>,
    ) -> Subscription {
        Subscription::all(self.core.clone(), from, filter)
    }
}
