//! The commands of one append, decided in order. Pure.
//!
//! Metadata of a command's first event: `{context…,"$schemaVersion":…,"$transactionId":…,
//! "request":…,"events":n}`; those after it have no transaction, so that the first is the one that
//! the index finds. The context is that of the command (see [`crate::context`]); version 1 is not
//! written.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use smallvec::SmallVec;
use uuid::Uuid;

use super::slot::{Answer, Loaded, Settled};
use super::{Companion, ExecuteError, Executed, Task, Transaction};
use crate::aggregate::{Aggregate, Decision};
use crate::append::{Append, StreamCondition};
use crate::upcast::SCHEMA_VERSION_KEY;
use crate::{ContentType, ExpectedRevision, NewEvent, Position, Revision, StreamName, Timestamp};

/// What stands in the metadata of a command's first event.
#[derive(Debug)]
pub(super) struct Mark {
    pub digest: [u8; 16],
    /// How many events the command had.
    pub events: u32,
}

impl Mark {
    /// The mark in `metadata`, if it has one.
    pub fn read(metadata: &[u8]) -> Option<Mark> {
        #[derive(Deserialize)]
        struct Stored<'a> {
            request: &'a str,
            events: u32,
        }
        let stored: Stored<'_> = serde_json::from_slice(metadata).ok()?;
        let digest = u128::from_str_radix(stored.request, 16).ok()?.to_be_bytes();
        (stored.events > 0).then_some(Mark { digest, events: stored.events })
    }
}

/// The metadata of an event of type `event_type`: of a command's first, if it is told how many
/// events the command has, or of one after it.
fn metadata<A: Aggregate>(task: &Task<A>, event_type: &str, events: Option<usize>) -> Bytes {
    // Writing to a string cannot fail.
    let mut text = String::with_capacity(200);
    text.push('{');
    if let Some(context) = &task.context {
        context.write_members(&mut text);
    }
    let version = A::UPCASTERS.version(event_type);
    if version > 1 {
        let _ = write!(text, r#""{SCHEMA_VERSION_KEY}":{version},"#);
    }
    if let Some(events) = events {
        let Transaction { id, digest } = task.transaction;
        let digest = u128::from_be_bytes(digest);
        let _ = write!(text, r#""$transactionId":"{id}","request":"{digest:032x}","#);
        let _ = write!(text, r#""events":{events},"#);
    }
    match text.pop() {
        Some(',') => Bytes::from(text + "}"),
        // There is nothing to say.
        _ => Bytes::new(),
    }
}

/// The id of the `n`-th event of a command. Made of all that decides what the event says, so that
/// of two decisions under one transaction id the store refuses the second, and does not take it for
/// a retry of the first; a retry is recognised by its transaction.
fn event_id(stream: &StreamName, transaction: Transaction, n: usize, now: Timestamp) -> Uuid {
    let digest = u128::from_be_bytes(transaction.digest);
    let name = format!("{stream}/{n}/{digest:x}/{}", now.0);
    Uuid::new_v5(&transaction.id, name.as_bytes())
}

/// What became of a task.
enum Outcome<A: Aggregate> {
    /// Its last event is the append's event at this index; none if it has none.
    Accepted(Executed<A>, Option<usize>),
    Rejected(A::Rejection),
    /// It needs no append.
    Known(Answer<A>),
}

pub(super) struct Batch<A: Aggregate> {
    /// What it is decided on.
    pub base: Arc<Loaded<A>>,
    /// The state and its revision after all that was decided so far.
    pub state: A,
    pub revision: Option<Revision>,
    outcomes: Vec<Outcome<A>>,
    /// Index of its stream in the append, and the event.
    events: Vec<(u32, NewEvent)>,
    events_len: usize,
    /// The companions' streams, each with the index of its task.
    companions: Vec<(usize, StreamCondition)>,
}

impl<A: Aggregate> Batch<A> {
    pub fn new(base: Arc<Loaded<A>>) -> Batch<A> {
        Batch {
            state: base.state.clone(),
            revision: base.revision,
            base,
            outcomes: Vec::new(),
            events: Vec::new(),
            events_len: 0,
            companions: Vec::new(),
        }
    }

    /// Answers the next task with what is known without deciding it.
    pub fn answer(&mut self, answer: Answer<A>) {
        self.outcomes.push(Outcome::Known(answer));
    }

    /// Decides the next task on the state that the ones before it leave.
    pub fn decide(&mut self, stream: &StreamName, task: &Task<A>, now: Timestamp) {
        let outcome = match self.state.decide(&task.command, now) {
            Ok(events) => {
                let last = self.accept(stream, task, &events, now);
                let (state, revision) = (self.state.clone(), self.revision);
                self.record(task, Decision::Accepted { events: &events, state: &state });
                let executed = Executed { state, revision, position: None, repeated: false };
                Outcome::Accepted(executed, last)
            }
            Err(rejection) => {
                self.record(task, Decision::Rejected(&rejection));
                Outcome::Rejected(rejection)
            }
        };
        self.outcomes.push(outcome);
    }

    /// Takes in what `task` makes happen; the index of its last event.
    fn accept(
        &mut self,
        stream: &StreamName,
        task: &Task<A>,
        events: &[A::Event],
        now: Timestamp,
    ) -> Option<usize> {
        for (n, event) in events.iter().enumerate() {
            let (event_type, data) = A::encode(event);
            let metadata = metadata(task, event_type, (n == 0).then_some(events.len()));
            let new = NewEvent {
                id: event_id(stream, task.transaction, n, now),
                event_type: event_type.to_owned(),
                content_type: ContentType::Json,
                metadata,
                data,
            };
            self.events.push((0, new));
            self.state.evolve(event);
            self.revision = Some(Revision(self.revision.map_or(0, |revision| revision.0 + 1)));
        }
        (!events.is_empty()).then(|| self.events.len() - 1)
    }

    /// Adds what goes with the task, if anything does.
    fn record(&mut self, task: &Task<A>, decision: Decision<'_, A>) {
        let Some(companion) = task.record.as_ref().and_then(|record| record(decision)) else {
            return;
        };
        let Companion { stream, expected, events } = companion;
        self.companions.push((self.outcomes.len(), StreamCondition { stream, expected }));
        let index = self.companions.len() as u32;
        self.events.extend(events.into_iter().map(|event| (index, event)));
    }

    /// Whether there is nothing to append.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The append; once.
    pub fn append(&mut self, stream: &StreamName) -> Append {
        let expected = match self.base.revision {
            Some(revision) => ExpectedRevision::Exact(revision),
            None => ExpectedRevision::NoStream,
        };
        let own = StreamCondition { stream: stream.clone(), expected };
        let companions = self.companions.iter().map(|(_, condition)| condition.clone());
        let streams: SmallVec<_> = std::iter::once(own).chain(companions).collect();
        let events = std::mem::take(&mut self.events);
        self.events_len = events.len();
        Append { streams, events }
    }

    /// The task that the append's stream of this index belongs to, which is not the first.
    pub fn task_of_stream(&self, index: usize) -> usize {
        self.companions[index - 1].0
    }

    /// Each task's answer, after the append whose last event got position `last`.
    pub fn answers(self, last: Option<Position>) -> Vec<Answer<A>> {
        let len = self.events_len;
        let position = |at: usize| last?.0.checked_sub((len - 1 - at) as u64).map(Position);
        let answer = |outcome| match outcome {
            Outcome::Accepted(executed, at) => {
                Ok(Settled::Executed(Executed { position: at.and_then(position), ..executed }))
            }
            Outcome::Rejected(rejection) => Err(ExecuteError::Rejected(rejection)),
            Outcome::Known(answer) => answer,
        };
        self.outcomes.into_iter().map(answer).collect()
    }
}
