//! Appending many times over one call: pipelined, each append with its own result.
//!
//! ```text
//!   send ──> a place in the window ──> request, correlation n ──────> server
//!     └─> Pending n <── answer n <──── in any order <────────────────────┘
//! ```
//!
//! An append here costs a third of one over [`Client::append`], because the call, its headers and
//! its end are paid once. At most so many appends as the window has places wait for their answers;
//! the next one waits for a place. Appends are decided by the server in the order in which
//! [`Appender::send`] returned, so that a writer may send revision 8 before it knows of 7.
//!
//! When the call breaks, every append without an answer ends as [`AppendError::Unknown`], and the
//! next append opens another call. Nothing is sent twice from here.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use daybook_model::limits::MESSAGE_SIZE_MAX;
use daybook_model::{
    Entropy as _, ExpectedRevision, NewEvent, Revision, StreamName, SystemEntropy,
};
use daybook_wire::proto::BatchStatus;
use daybook_wire::proto::shared;
use daybook_wire::proto::streams::batch_append_req::{self, ProposedMessage, options};
use daybook_wire::proto::streams::batch_append_resp::{self, success};
use daybook_wire::proto::streams::{BatchAppendReq, BatchAppendResp};
use daybook_wire::{UuidForm, event, stream, uuid as wire_uuid};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::append::{Appended, check, message_size};
use crate::connection::Client;
use crate::error::{AppendError, CallError};
use crate::event::Checkpoint;

/// Places of a window unless told otherwise. Enough to hide a disk's sync behind the next appends.
pub const WINDOW_DEFAULT: NonZeroU32 = NonZeroU32::new(32).unwrap();
/// Bytes of events after which an append is cut into another message: one message of a large append
/// must not hold up the small ones behind it for long, and none may pass the protocol's limit.
const CHUNK_SIZE_TARGET: usize = 1024 * 1024;
/// What a server says of an append that it did not even begin.
const TURNED_AWAY: [&str; 2] = ["Server Is Too Busy", "Server Is Not Ready"];
const _: () = assert!(CHUNK_SIZE_TARGET < MESSAGE_SIZE_MAX);

/// Appends over one call. A clone is another handle of the same call and window.
#[derive(Clone, Debug)]
pub struct Appender {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    client: Client,
    window: Arc<Semaphore>,
    call: Mutex<Option<Call>>,
}

/// An open call.
#[derive(Debug)]
struct Call {
    /// Not limited itself: what is in it has a place in the window.
    requests: mpsc::UnboundedSender<BatchAppendReq>,
    waiting: Arc<Mutex<Waiting>>,
    /// The upper half of its correlation ids.
    id: u64,
    next: u64,
}

/// The appends of one call that have no answer yet.
#[derive(Debug, Default)]
struct Waiting {
    by_number: BTreeMap<u64, Asked>,
    /// Set when the call has ended: nothing may be added any more.
    ended: bool,
}

#[derive(Debug)]
struct Asked {
    stream: StreamName,
    expected: ExpectedRevision,
    answer: oneshot::Sender<Result<Appended, AppendError>>,
    /// Given back when the answer is there, whether or not somebody still waits for it.
    _place: OwnedSemaphorePermit,
}

/// An append that was sent: a future of its result. Dropping it does not undo the append.
#[derive(Debug)]
#[must_use = "only its result says whether the append was done"]
pub struct Pending {
    answer: oneshot::Receiver<Result<Appended, AppendError>>,
}

impl Future for Pending {
    type Output = Result<Appended, AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer).poll(cx).map(|answer| {
            let gone = || "the client was stopped before the answer came".to_owned();
            answer.unwrap_or_else(|_| Err(AppendError::Unknown { reason: gone() }))
        })
    }
}

impl Client {
    /// A pipelined writer with so many places for appends without an answer. Its call is opened
    /// with the first append.
    #[must_use]
    pub fn appender(&self, window: NonZeroU32) -> Appender {
        let places = usize::try_from(window.get()).unwrap_or(Semaphore::MAX_PERMITS);
        let window = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        let inner = Inner { client: self.clone(), window, call: Mutex::new(None) };
        Appender { inner: Arc::new(inner) }
    }
}

impl Appender {
    /// Appends `events` to `stream` if it is at the `expected` revision, and waits for the result.
    ///
    /// # Errors
    /// As [`Client::append`].
    pub async fn append(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        self.send(stream, expected, events).await?.await
    }

    /// Sends an append as soon as the window has a place; the answer to be awaited apart.
    ///
    /// # Errors
    /// [`AppendError`] if an event breaks a limit that this client knows; nothing was sent then.
    pub async fn send(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        events: Vec<NewEvent>,
    ) -> Result<Pending, AppendError> {
        check(&events)?;
        let Ok(place) = Arc::clone(&self.inner.window).acquire_owned().await else {
            unreachable!("the window is never closed");
        };
        let (answer, result) = oneshot::channel();
        let asked = Asked { stream: stream.clone(), expected, answer, _place: place };
        self.post(asked, events);
        Ok(Pending { answer: result })
    }

    /// Sends over the open call, or over a new one. Never blocks: numbers and messages must leave
    /// in the same order, so both happen under the lock.
    fn post(&self, asked: Asked, events: Vec<NewEvent>) {
        let deadline = self.inner.client.settings().default_deadline;
        let mut slot = self.inner.call.lock();
        let call = match slot.take() {
            Some(call) if !call.waiting.lock().ended => slot.insert(call),
            _ => slot.insert(Call::open(&self.inner.client)),
        };
        let number = call.next;
        call.next += 1;
        let correlation =
            wire_uuid::to_proto(Uuid::from_u64_pair(call.id, number), UuidForm::Structured);
        let options = options(&asked, deadline);
        {
            let mut waiting = call.waiting.lock();
            if waiting.ended {
                let reason = "the call ended before the append was sent".to_owned();
                let server = self.inner.client.server().to_owned();
                let error = CallError::Unreachable { server, reason };
                let _ = asked.answer.send(Err(error.into()));
                return;
            }
            waiting.by_number.insert(number, asked);
        }
        for message in messages(correlation, options, events) {
            // If the call has just ended, its end answers what waits.
            let _ = call.requests.send(message);
        }
    }
}

fn options(asked: &Asked, deadline: Option<Duration>) -> batch_append_req::Options {
    batch_append_req::Options {
        stream_identifier: Some(stream::to_proto(&asked.stream)),
        expected_stream_position: Some(asked.expected.into()),
        deadline_option: deadline.map(|deadline| {
            options::DeadlineOption::Deadline(prost_types::Duration {
                seconds: i64::try_from(deadline.as_secs()).unwrap_or(i64::MAX),
                nanos: deadline.subsec_nanos().cast_signed(),
            })
        }),
    }
}

/// One append as messages: small ones as one.
fn messages(
    correlation: shared::Uuid,
    options: batch_append_req::Options,
    events: Vec<NewEvent>,
) -> Vec<BatchAppendReq> {
    let mut messages = vec![BatchAppendReq {
        correlation_id: Some(correlation.clone()),
        options: Some(options),
        proposed_messages: Vec::with_capacity(events.len()),
        is_final: false,
    }];
    let mut size = 0;
    for event in events {
        let event_size = message_size(&event);
        if size > 0 && size + event_size > CHUNK_SIZE_TARGET {
            size = 0;
            messages.push(BatchAppendReq {
                correlation_id: Some(correlation.clone()),
                ..BatchAppendReq::default()
            });
        }
        size += event_size;
        let proposed: ProposedMessage = event::to_batch_append(event);
        if let Some(last) = messages.last_mut() {
            last.proposed_messages.push(proposed);
        }
    }
    if let Some(last) = messages.last_mut() {
        last.is_final = true;
    }
    messages
}

impl Call {
    fn open(client: &Client) -> Call {
        let (requests, receiver) = mpsc::unbounded_channel();
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let (id, _) = Uuid::from_bytes(SystemEntropy.bytes()).as_u64_pair();
        tokio::spawn(run(client.clone(), receiver, Arc::clone(&waiting)));
        Call { requests, waiting, id, next: 0 }
    }
}

/// Runs one call to its end, handing each answer to whom it concerns.
async fn run(
    client: Client,
    requests: mpsc::UnboundedReceiver<BatchAppendReq>,
    waiting: Arc<Mutex<Waiting>>,
) {
    let request = client.endless_call(UnboundedReceiverStream::new(requests));
    let mut answers = match client.streams().batch_append(request).await {
        Ok(answers) => answers.into_inner(),
        // The server never began.
        Err(status) => {
            return end(&waiting, |asked| {
                AppendError::from_status(&status, client.server(), &asked.stream, asked.expected)
            });
        }
    };
    loop {
        match answers.message().await {
            Ok(Some(answer)) => hand_over(answer, &waiting),
            Ok(None) => {
                let reason = "the server ended the call without an answer".to_owned();
                return end(&waiting, |_| AppendError::Unknown { reason: reason.clone() });
            }
            Err(status) => return end(&waiting, |_| broken(&client, &status)),
        }
    }
}

/// What the end of a call that had begun means for an append of it.
fn broken(client: &Client, status: &Status) -> AppendError {
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => {
            client.call_error(status).into()
        }
        _ => AppendError::Unknown { reason: client.call_error(status).to_string() },
    }
}

fn end(waiting: &Mutex<Waiting>, error: impl Fn(&Asked) -> AppendError) {
    let asked = {
        let mut waiting = waiting.lock();
        waiting.ended = true;
        std::mem::take(&mut waiting.by_number)
    };
    for asked in asked.into_values() {
        let error = error(&asked);
        let _ = asked.answer.send(Err(error));
    }
}

fn hand_over(answer: BatchAppendResp, waiting: &Mutex<Waiting>) {
    let Ok(correlation) = wire_uuid::from_answer(answer.correlation_id.as_ref(), "correlation_id")
    else {
        tracing::warn!("the server answered a batch append without a correlation id");
        return;
    };
    let (_, number) = correlation.as_u64_pair();
    let Some(asked) = waiting.lock().by_number.remove(&number) else {
        tracing::warn!(%correlation, "the server answered a batch append that nobody asked for");
        return;
    };
    let result = match answer.result {
        Some(batch_append_resp::Result::Success(success)) => Ok(appended(&success)),
        Some(batch_append_resp::Result::Error(status)) => Err(refused(status, &asked)),
        None => {
            let reason = "a batch append was answered with neither success nor failure".to_owned();
            Err(CallError::BadAnswer { reason }.into())
        }
    };
    let _ = asked.answer.send(result);
}

fn appended(success: &batch_append_resp::Success) -> Appended {
    Appended {
        revision: match success.current_revision_option {
            Some(success::CurrentRevisionOption::CurrentRevision(n)) => Some(Revision(n)),
            _ => None,
        },
        checkpoint: match &success.position_option {
            Some(success::PositionOption::Position(at)) => Some(Checkpoint(at.commit_position)),
            _ => None,
        },
    }
}

/// The error inside an answer. What it is stands in the type of its detail.
fn refused(status: BatchStatus, asked: &Asked) -> AppendError {
    use shared::wrong_expected_version::CurrentStreamRevisionOption as Current;
    let detail = status.details.unwrap_or_default();
    let reason = status.message;
    match detail.type_url.rsplit('.').next().unwrap_or_default() {
        "WrongExpectedVersion" => {
            let wrong = shared::WrongExpectedVersion::decode(detail.value.as_slice());
            let actual = match wrong.ok().and_then(|wrong| wrong.current_stream_revision_option) {
                Some(Current::CurrentStreamRevision(revision)) => Some(Revision(revision)),
                _ => None,
            };
            let (stream, expected) = (asked.stream.clone(), asked.expected);
            AppendError::WrongExpectedRevision { stream, expected, actual }
        }
        "StreamDeleted" => AppendError::StreamDeleted { stream: asked.stream.clone() },
        "AccessDenied" => CallError::AccessDenied { reason }.into(),
        "MaximumAppendSizeExceeded" => {
            let limit = shared::MaximumAppendSizeExceeded::decode(detail.value.as_slice());
            let limit = limit.unwrap_or_default().max_append_size;
            AppendError::TooLarge { reason: format!("the server takes {limit} bytes") }
        }
        "MaximumAppendEventSizeExceeded" => {
            let limit = shared::MaximumAppendEventSizeExceeded::decode(detail.value.as_slice());
            let shared::MaximumAppendEventSizeExceeded {
                event_id,
                proposed_event_size,
                max_append_event_size,
            } = limit.unwrap_or_default();
            let reason = format!(
                "event {event_id} has {proposed_event_size} bytes, and the server takes \
                 {max_append_event_size}"
            );
            AppendError::TooLarge { reason }
        }
        "BadRequest" => {
            let bad = shared::BadRequest::decode(detail.value.as_slice()).unwrap_or_default();
            CallError::Invalid { reason: bad.message }.into()
        }
        "InvalidTransaction" => CallError::Invalid { reason }.into(),
        // There is no detail for these; the texts are the protocol's.
        _ if TURNED_AWAY.contains(&reason.as_str()) => CallError::Overloaded { reason }.into(),
        _ => AppendError::Unknown { reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daybook_wire::error as wire;

    fn asked() -> Asked {
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Asked {
            stream: StreamName::new("account-1").unwrap(),
            expected: ExpectedRevision::NoStream,
            answer: oneshot::channel().0,
            _place: permit,
        }
    }

    #[test]
    fn errors_inside_answers_are_told_apart() {
        let stream = asked().stream;
        let expected = ExpectedRevision::NoStream;
        let id = Uuid::nil();
        let wrong = |actual| AppendError::WrongExpectedRevision {
            stream: stream.clone(),
            expected,
            actual,
        };
        let seven = Some(Revision(7));
        let cases = [
            (wire::wrong_expected_version(expected, seven), wrong(seven)),
            (wire::wrong_expected_version(expected, None), wrong(None)),
            (wire::stream_deleted(&stream), AppendError::StreamDeleted { stream: stream.clone() }),
            (wire::timeout(), AppendError::Unknown { reason: "Timeout".to_owned() }),
            (
                wire::unknown("the disk failed".to_owned()),
                AppendError::Unknown { reason: "the disk failed".to_owned() },
            ),
            (
                wire::unknown("Server Is Too Busy".to_owned()),
                CallError::Overloaded { reason: "Server Is Too Busy".to_owned() }.into(),
            ),
            (
                wire::append_too_large(9),
                AppendError::TooLarge { reason: "the server takes 9 bytes".to_owned() },
            ),
            (
                wire::event_too_large(id, 10, 9),
                AppendError::TooLarge {
                    reason: format!("event {id} has 10 bytes, and the server takes 9"),
                },
            ),
            (
                wire::bad_request("no options".to_owned()),
                CallError::Invalid { reason: "no options".to_owned() }.into(),
            ),
        ];
        for (status, error) in cases {
            assert_eq!(refused(status.clone(), &asked()), error, "{status:?}");
        }
    }

    #[test]
    fn large_appends_are_cut_and_only_the_last_part_commits() {
        let event = |size: usize| NewEvent {
            id: Uuid::nil(),
            event_type: "T".to_owned(),
            content_type: daybook_model::ContentType::Binary,
            metadata: bytes::Bytes::new(),
            data: vec![0; size].into(),
        };
        for (sizes, parts) in [
            (vec![], vec![0]),
            (vec![1, 2, 3], vec![3]),
            (vec![600 * 1024, 600 * 1024, 1], vec![1, 2]),
            (vec![3 * 1024 * 1024, 1], vec![1, 1]),
        ] {
            let asked = asked();
            let correlation = wire_uuid::to_proto(Uuid::nil(), UuidForm::Structured);
            let events = sizes.iter().map(|size| event(*size)).collect();
            let messages = messages(correlation, options(&asked, None), events);
            let found: Vec<_> = messages.iter().map(|m| m.proposed_messages.len()).collect();
            assert_eq!(found, parts, "{sizes:?}");
            let finals: Vec<_> = messages.iter().map(|m| m.is_final).collect();
            assert_eq!(finals.iter().filter(|last| **last).count(), 1);
            assert_eq!(finals.last(), Some(&true));
            assert!(messages[0].options.is_some());
            assert!(messages[1..].iter().all(|m| m.options.is_none()));
        }
    }
}
