//! Appending: one call per append.
//!
//! An append is atomic and durable when this returns. Many small ones are cheaper over
//! [`crate::Appender`], which keeps a call open.

use daybook_model::limits::MESSAGE_SIZE_MAX;
use daybook_model::{ExpectedRevision, NewEvent, Revision, StreamName, TraceContext};
use daybook_wire::proto::streams::append_req::{self, Content};
use daybook_wire::proto::streams::append_resp::{self, success};
use daybook_wire::proto::streams::{AppendReq, AppendResp};
use daybook_wire::{event, stream};

use crate::connection::Client;
use crate::error::{AppendError, CallError};
use crate::event::Checkpoint;
use crate::within::traced;

/// Bytes that an event's message has beside its data, metadata and type: id, keys, lengths.
pub(crate) const EVENT_OVERHEAD: usize = 128;

/// A durable append. For a retry that was recognised by its ids: the first one's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The revision of the stream's last event; none if it has no events.
    pub revision: Option<Revision>,
    /// The place in `$all` of the last event written; none if the append had no events.
    pub checkpoint: Option<Checkpoint>,
}

impl Client {
    /// Appends `events` to `stream` if it is at the `expected` revision; all of them or none.
    ///
    /// ```no_run
    /// use daybook_client::{Client, ContentType, ExpectedRevision, NewEvent, StreamName};
    /// use uuid::Uuid;
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::new("daybook://127.0.0.1:2113")?;
    /// let opened = NewEvent {
    ///     id: Uuid::new_v4(),
    ///     event_type: "AccountOpened".to_owned(),
    ///     content_type: ContentType::Json,
    ///     metadata: "".into(),
    ///     data: r#"{"owner":"Ada"}"#.into(),
    /// };
    /// let stream = StreamName::new("account-1")?;
    /// let appended = client.append(&stream, ExpectedRevision::NoStream, vec![opened]).await?;
    /// println!("revision {:?}", appended.revision);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`AppendError`]; only after [`AppendError::Unknown`] something may have been written.
    pub async fn append(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        self.append_traced(stream, expected, events, None).await
    }

    /// As [`Client::append`], as a part of `trace`.
    pub(crate) async fn append_traced(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        events: Vec<NewEvent>,
        trace: Option<&TraceContext>,
    ) -> Result<Appended, AppendError> {
        check(&events)?;
        let mut messages = Vec::with_capacity(1 + events.len());
        messages.push(content(Content::Options(append_req::Options {
            stream_identifier: Some(stream::to_proto(stream)),
            expected_stream_revision: Some(expected.into()),
        })));
        for event in events {
            messages.push(content(Content::ProposedMessage(event::to_append(event))));
        }
        let request = traced(self.call(futures_util::stream::iter(messages)), trace);
        let answer =
            self.streams().append(request).await.map_err(|status| {
                AppendError::from_status(&status, self.server(), stream, expected)
            })?;
        read_answer(answer.into_inner(), stream, expected)
    }
}

fn content(content: Content) -> AppendReq {
    AppendReq { content: Some(content) }
}

/// Refuses what no server would take, before anything is sent.
pub(crate) fn check(events: &[NewEvent]) -> Result<(), AppendError> {
    for event in events {
        event.check()?;
        let size = message_size(event);
        if size > MESSAGE_SIZE_MAX {
            let reason = format!(
                "event {} makes a message of {size} bytes, and one may have {MESSAGE_SIZE_MAX}",
                event.id
            );
            return Err(AppendError::TooLarge { reason });
        }
    }
    Ok(())
}

/// Bytes of the message that carries `event`, at most.
pub(crate) fn message_size(event: &NewEvent) -> usize {
    EVENT_OVERHEAD + event.event_type.len() + event.metadata.len() + event.data.len()
}

fn read_answer(
    answer: AppendResp,
    stream: &StreamName,
    expected: ExpectedRevision,
) -> Result<Appended, AppendError> {
    match answer.result {
        Some(append_resp::Result::Success(success)) => Ok(Appended {
            revision: match success.current_revision_option {
                Some(success::CurrentRevisionOption::CurrentRevision(n)) => Some(Revision(n)),
                _ => None,
            },
            checkpoint: match success.position_option {
                Some(success::PositionOption::Position(at)) => Some(Checkpoint(at.commit_position)),
                _ => None,
            },
        }),
        Some(append_resp::Result::WrongExpectedVersion(wrong)) => {
            use append_resp::wrong_expected_version::CurrentRevisionOption as Current;
            let actual = match wrong.current_revision_option {
                Some(Current::CurrentRevision(revision)) => Some(Revision(revision)),
                _ => None,
            };
            Err(AppendError::WrongExpectedRevision { stream: stream.clone(), expected, actual })
        }
        None => {
            let reason = "an append was answered with neither success nor failure".to_owned();
            Err(CallError::BadAnswer { reason }.into())
        }
    }
}
