//! BatchAppend: many atomic appends over one call. Protocol section 5.6.
//!
//! ```text
//!   messages ─> open: correlation id -> events so far ─ is_final ─> in flight (at most WINDOW)
//!                                                                        │ as each is durable
//!   answers  <──────────────── all that are ready, in one body frame <───┘
//! ```
//!
//! Appends are submitted in the order in which they were completed and answered in any order. With
//! [`WINDOW`] in flight nothing more is read, so that HTTP/2's flow control slows the client. An
//! append that fails is answered for itself, and the call goes on; what was submitted is answered
//! also after the client has half-closed.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use daybook_model::{ExpectedRevision, NewEvent, StreamName};
use daybook_store::{Append, Appended};
use daybook_wire::decode::Deadline;
use daybook_wire::frame::put_message;
use daybook_wire::proto::BatchStatus;
use daybook_wire::proto::shared::{AllStreamPosition, StreamIdentifier};
use daybook_wire::proto::streams::BatchAppendResp;
use daybook_wire::proto::streams::batch_append_resp::{
    Result as Outcome, Success,
    success::{CurrentRevisionOption, PositionOption},
};
use daybook_wire::{
    BatchOptions, BatchPart, UuidForm, batch_part, error, stream as names, uuid as ids,
};
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _, try_unfold};
use tonic::Status;
use uuid::Uuid;

use super::budget::{Held, Refused};
use super::{Room, shown_position};
use crate::grpc::call::{self, Messages};
use crate::grpc::status;
use crate::node::door::{Door, Lane};
use crate::node::entrance::GRPC_STATUS;
use crate::node::{Endless, Phase};
use crate::telemetry::trace;

/// Appends of one call that are submitted and not answered. Enough to fill the largest group
/// commits from one connection; what lies beyond waits with the client.
pub const WINDOW: usize = 1024;
/// Appends of one call whose events are still arriving. Clients send one after the other, or a few
/// interleaved.
pub const OPEN_MAX: usize = 256;
/// How long an append may take before its client is told that its outcome is not known. Far longer
/// than any disk that still works.
pub const WAIT_MAX: Duration = Duration::from_secs(30);

/// Answers BatchAppend.
pub async fn append(room: Room, request: Request<Body>) -> Response<Body> {
    let deadline = call::deadline(request.headers());
    let batch = Box::new(Batch::new(room, Messages::new(request)));
    call::streamed(
        deadline,
        try_unfold(batch, |mut batch| async move {
            Ok(batch.next().await?.map(|answers| (answers, batch)))
        }),
    )
}

/// One call.
struct Batch {
    room: Room,
    /// None when nothing more is read.
    messages: Option<Messages>,
    open: BTreeMap<Uuid, Open>,
    in_flight: FuturesUnordered<BoxFuture<'static, BatchAppendResp>>,
    /// Keeps the appends of the call in order on their way to the writer.
    lane: Arc<Lane>,
    /// How the call ends when all that is in flight is answered.
    ending: Result<(), Status>,
    stopping: Pin<Box<dyn Future<Output = ()> + Send>>,
    _endless: Endless,
}

/// An append whose last message has not arrived.
enum Open {
    Collecting(Collecting),
    /// It was answered with an error already; the rest of it is skipped.
    Refused,
}

struct Collecting {
    options: BatchOptions,
    events: Vec<NewEvent>,
    held: Held,
}

/// Why an append is not done. Without an error, because that was said before.
struct Refusal {
    about: Option<(StreamName, ExpectedRevision)>,
    error: Option<BatchStatus>,
}

impl Refusal {
    fn of(options: &BatchOptions, error: BatchStatus) -> Refusal {
        Refusal { about: Some((options.stream.clone(), options.expected)), error: Some(error) }
    }
}

impl Batch {
    fn new(room: Room, messages: Messages) -> Batch {
        let context = room.node.clone();
        let endless = context.endless();
        Batch {
            room,
            messages: Some(messages),
            open: BTreeMap::new(),
            in_flight: FuturesUnordered::new(),
            lane: Arc::default(),
            ending: Ok(()),
            stopping: Box::pin(async move { context.reached(Phase::Draining).await }),
            _endless: endless,
        }
    }

    /// The answers that are ready, once there is one; none when the call is over.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let mut answers = BytesMut::new();
        while answers.is_empty() {
            if self.messages.is_none() && self.in_flight.is_empty() {
                return std::mem::replace(&mut self.ending, Ok(())).map(|()| None);
            }
            let has_room = self.in_flight.len() < WINDOW;
            tokio::select! {
                biased;
                Some(answer) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                    put_message(&answer, &mut answers);
                    while let Some(Some(answer)) = self.in_flight.next().now_or_never() {
                        put_message(&answer, &mut answers);
                    }
                }
                () = &mut self.stopping, if self.messages.is_some() => {
                    self.end(Err(status::stopping()));
                }
                message = received(&mut self.messages), if has_room && self.messages.is_some() => {
                    match message {
                        Ok(Some(message)) => self.take(&message, &mut answers),
                        Ok(None) => self.end(Ok(())),
                        Err(failed) => self.end(Err(failed)),
                    }
                }
            }
        }
        Ok(Some(answers.freeze()))
    }

    /// Reads no more, and ends as said when all that is in flight is answered.
    fn end(&mut self, ending: Result<(), Status>) {
        self.messages = None;
        self.open.clear();
        self.ending = ending;
    }

    /// Takes in one message: more of an append, or all of one, which is then submitted.
    fn take(&mut self, message: &Bytes, answers: &mut BytesMut) {
        let part = match batch_part(message) {
            Ok(part) => part,
            Err(error) => return self.end(Err(status::invalid(&error))),
        };
        let (correlation, is_final) = (part.correlation, part.is_final);
        let open = self.open.remove(&correlation);
        match self.advance(open, part) {
            Ok(collected) if is_final => {
                if let Some(answer) = self.submit(correlation, collected) {
                    put_message(&answer, answers);
                }
            }
            Ok(collecting) => {
                self.open.insert(correlation, Open::Collecting(collecting));
            }
            Err(Refusal { about, error }) => {
                if let Some(error) = error {
                    let (stream, expected) = about.unzip();
                    let answer = answer(correlation, stream, expected, Outcome::Error(error));
                    put_message(&answer, answers);
                }
                if !is_final && self.open.len() < OPEN_MAX {
                    self.open.insert(correlation, Open::Refused);
                }
            }
        }
    }

    /// The append that `part` belongs to, with what `part` adds to it.
    fn advance(&self, open: Option<Open>, part: BatchPart) -> Result<Collecting, Refusal> {
        let BatchPart { options, events, problem, .. } = part;
        let mut collecting = match (open, options) {
            (Some(Open::Refused), _) => return Err(Refusal { about: None, error: None }),
            (Some(Open::Collecting(collecting)), None) => collecting,
            (Some(Open::Collecting(collecting)), Some(_)) => {
                let text = "the append has options already; give each append its own id";
                return Err(Refusal::of(&collecting.options, error::bad_request(text.to_owned())));
            }
            (None, Some(options)) if self.open.len() >= OPEN_MAX => {
                let text = format!("{OPEN_MAX} appends of this call are unfinished; finish one");
                return Err(Refusal::of(&options, error::bad_request(text)));
            }
            (None, Some(options)) => {
                Collecting { options, events: Vec::new(), held: self.room.budget.begin() }
            }
            (None, None) => {
                let text = problem.map_or_else(
                    || "the append has no options; send them in its first message".to_owned(),
                    |problem| problem.to_string(),
                );
                return Err(Refusal { about: None, error: Some(error::bad_request(text)) });
            }
        };
        if let Some(problem) = problem {
            let error = error::bad_request(problem.to_string());
            return Err(Refusal::of(&collecting.options, error));
        }
        if self.wait(collecting.options.deadline).is_none() {
            return Err(Refusal::of(&collecting.options, error::timeout()));
        }
        for event in events {
            if let Err(refused) = collecting.held.hold(&event) {
                let error = match refused {
                    Refused::Append(failed) => status::batch(failed),
                    Refused::Busy => status::batch_too_busy(),
                };
                return Err(Refusal::of(&collecting.options, error));
            }
            collecting.events.push(event);
        }
        Ok(collecting)
    }

    /// How long an append may take; none if its client waits no longer.
    fn wait(&self, deadline: Deadline) -> Option<Duration> {
        match deadline {
            Deadline::None => Some(WAIT_MAX),
            Deadline::In(wait) => Some(wait.min(WAIT_MAX)),
            Deadline::Passed => None,
            Deadline::At(at) => {
                let left = at.0.saturating_sub(self.room.node.clock().now().0);
                let left = u64::try_from(left).ok().filter(|left| *left > 0)?;
                Some(Duration::from_nanos(left).min(WAIT_MAX))
            }
        }
    }

    /// Starts an append. It is polled at once, which gives it its place in the lane.
    fn submit(&mut self, correlation: Uuid, append: Collecting) -> Option<BatchAppendResp> {
        let wait = self.wait(append.options.deadline).unwrap_or_default();
        let (store, lane) = (self.room.node.door().clone(), self.lane.clone());
        let running = run(store, lane, correlation, append, wait);
        let mut running = trace::current::part("BatchAppend append", running, failure).boxed();
        let answer = (&mut running).now_or_never();
        if answer.is_none() {
            self.in_flight.push(running);
        }
        answer
    }
}

/// The next message of a call that is still read.
async fn received(messages: &mut Option<Messages>) -> Result<Option<Bytes>, Status> {
    match messages {
        Some(messages) => messages.next().await,
        None => Ok(None),
    }
}

/// One append from its submission to its answer.
async fn run(
    store: Door,
    lane: Arc<Lane>,
    correlation: Uuid,
    append: Collecting,
    wait: Duration,
) -> BatchAppendResp {
    let Collecting { options: BatchOptions { stream, expected, .. }, events, held } = append;
    let work = store.append_in(&lane, Append::to_stream(stream.clone(), expected, events));
    let outcome = match tokio::time::timeout(wait, work).await {
        Ok(Ok(appended)) => Outcome::Success(success(&store, &appended)),
        Ok(Err(failed)) => Outcome::Error(status::batch(failed)),
        Err(_elapsed) => Outcome::Error(error::timeout()),
    };
    drop(held);
    answer(correlation, Some(stream), Some(expected), outcome)
}

/// What went wrong by our fault.
fn failure(answer: &BatchAppendResp) -> Option<String> {
    let Some(Outcome::Error(status)) = &answer.result else { return None };
    let name = GRPC_STATUS.get(usize::try_from(status.code).ok()?)?;
    trace::visit::is_failure(name).then(|| (*name).to_owned())
}

fn success(store: &Door, appended: &Appended) -> Success {
    let revision = appended.revisions.first().copied().flatten();
    let current = revision.map_or(CurrentRevisionOption::NoStream(()), |revision| {
        CurrentRevisionOption::CurrentRevision(revision.0)
    });
    let position = appended.position.map_or(PositionOption::NoPosition(()), |position| {
        let number = shown_position(store, position);
        PositionOption::Position(AllStreamPosition {
            commit_position: number,
            prepare_position: number,
        })
    });
    Success { current_revision_option: Some(current), position_option: Some(position) }
}

/// The answer to one append. Clients need its id and its stream on success and on failure; an
/// append whose options never came has an empty name.
fn answer(
    correlation: Uuid,
    stream: Option<StreamName>,
    expected: Option<ExpectedRevision>,
    outcome: Outcome,
) -> BatchAppendResp {
    BatchAppendResp {
        correlation_id: Some(ids::to_proto(correlation, UuidForm::Structured)),
        stream_identifier: Some(
            stream.as_ref().map_or_else(StreamIdentifier::default, names::to_proto),
        ),
        expected_stream_position: expected.map(Into::into),
        result: Some(outcome),
    }
}
