//! A consumer of a group.

use std::fmt;
use std::time::Duration;

use daybook_model::{Entropy as _, SystemEntropy};
use daybook_wire::proto::persistent::read_req::nack::Action;
use daybook_wire::proto::persistent::read_req::options::uuid_option::Content as Form;
use daybook_wire::proto::persistent::read_req::options::{StreamOption, UuidOption};
use daybook_wire::proto::persistent::read_req::{Ack, Content, Nack, Options};
use daybook_wire::proto::persistent::read_resp::read_event::{Count, Position};
use daybook_wire::proto::persistent::read_resp::{Content as Answer, ReadEvent};
use daybook_wire::proto::persistent::{ReadReq, ReadResp};
use daybook_wire::proto::shared::Empty;
use daybook_wire::{UuidForm, event, stream, uuid as ids};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use uuid::Uuid;

use super::{Group, GroupError, GroupSource, calls};
use crate::connection::Client;
use crate::error::CallError;
use crate::event::{Checkpoint, ResolvedEvent};
use crate::subscribe::backoff;

/// Answers that wait to be sent; who answers faster waits.
const ANSWERS_MAX: usize = 256;

/// A consumer; see [`crate::persistent`]. When it is dropped, what it has goes to others.
pub struct Consumer {
    client: Client,
    group: Group,
    buffer_size: u32,
    phase: Phase,
    /// Calls that were lost since the last message.
    failures: u32,
}

enum Phase {
    Live(Box<Live>),
    /// Until it has been waited and tried again.
    Opening(BoxFuture<'static, Result<Live, GroupError>>),
}

struct Live {
    messages: Streaming<ReadResp>,
    answers: mpsc::Sender<ReadReq>,
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Consumer");
        shown.field("group", &self.group).field("failures", &self.failures);
        shown.finish_non_exhaustive()
    }
}

/// A message, to be answered once.
#[derive(Clone, Debug)]
pub struct GroupMessage {
    /// The event, and the link through which it was read if there is one.
    pub resolved: ResolvedEvent,
    /// How often it was delivered before because it failed.
    pub retries: u32,
    id: Uuid,
    answers: mpsc::Sender<ReadReq>,
}

impl GroupMessage {
    /// It is done.
    ///
    /// # Errors
    /// [`GroupError::Lost`]: it is delivered again.
    pub async fn ack(&self) -> Result<(), GroupError> {
        let ids = vec![ids::to_proto(self.id, UuidForm::Structured)];
        self.answer(Content::Ack(Ack { id: bytes::Bytes::new(), ids })).await
    }

    /// It failed: deliver it again, before new ones.
    ///
    /// # Errors
    /// [`GroupError::Lost`]: it is delivered again.
    pub async fn retry(&self, reason: &str) -> Result<(), GroupError> {
        self.nack(Action::Retry, reason).await
    }

    /// It cannot be done: park it.
    ///
    /// # Errors
    /// [`GroupError::Lost`]: it is delivered again.
    pub async fn park(&self, reason: &str) -> Result<(), GroupError> {
        self.nack(Action::Park, reason).await
    }

    /// It is not wanted.
    ///
    /// # Errors
    /// [`GroupError::Lost`]: it is delivered again.
    pub async fn skip(&self, reason: &str) -> Result<(), GroupError> {
        self.nack(Action::Skip, reason).await
    }

    async fn nack(&self, action: Action, reason: &str) -> Result<(), GroupError> {
        let ids = vec![ids::to_proto(self.id, UuidForm::Structured)];
        let (action, reason) = (action.into(), reason.to_owned());
        self.answer(Content::Nack(Nack { id: bytes::Bytes::new(), ids, action, reason })).await
    }

    async fn answer(&self, content: Content) -> Result<(), GroupError> {
        let sent = self.answers.send(ReadReq { content: Some(content) }).await;
        sent.map_err(|_ended| GroupError::Lost)
    }
}

impl Consumer {
    pub(super) async fn open(
        client: Client,
        group: Group,
        buffer_size: u32,
    ) -> Result<Consumer, GroupError> {
        let live = open(client.clone(), group.clone(), buffer_size).await?;
        let phase = Phase::Live(Box::new(live));
        Ok(Consumer { client, group, buffer_size, phase, failures: 0 })
    }

    /// What comes next; waits for it, through lost connections too. May be dropped while it waits,
    /// and called again, without loss.
    ///
    /// # Errors
    /// [`GroupError`] if the consumer cannot go on: the group was deleted, or has no room; or the
    /// server could not be reached for minutes, and then it may be called again.
    pub async fn next(&mut self) -> Result<GroupMessage, GroupError> {
        loop {
            let lost = match &mut self.phase {
                Phase::Opening(opening) => match opening.as_mut().await {
                    Ok(live) => {
                        self.phase = Phase::Live(Box::new(live));
                        continue;
                    }
                    Err(error) => error,
                },
                Phase::Live(live) => match live.messages.message().await {
                    Ok(Some(ReadResp { content: Some(Answer::Event(event)) })) => {
                        self.failures = 0;
                        return message(event, &live.answers);
                    }
                    Ok(Some(_)) => continue,
                    Ok(None) => {
                        let reason = "the server ended the call".to_owned();
                        CallError::Overloaded { reason }.into()
                    }
                    Err(status) => GroupError::from_status(&status, &self.client),
                },
            };
            self.lost(lost)?;
        }
    }

    /// Begins another call in a while; the error if that is of no use, or was tried often enough.
    fn lost(&mut self, error: GroupError) -> Result<(), GroupError> {
        let resume = self.client.settings().resume;
        let wait = backoff(&resume, self.failures, SystemEntropy.bytes());
        let (client, group, size) = (self.client.clone(), self.group.clone(), self.buffer_size);
        self.phase = Phase::Opening(
            async move {
                tokio::time::sleep(wait).await;
                open(client, group, size).await
            }
            .boxed(),
        );
        self.failures += 1;
        if !error.is_transient() {
            return Err(error);
        }
        if self.failures >= resume.attempts_max {
            self.failures = 0;
            return Err(error);
        }
        tracing::info!(%error, ?wait, "a consumer lost its call and goes on with another");
        Ok(())
    }
}

async fn open(client: Client, group: Group, buffer_size: u32) -> Result<Live, GroupError> {
    let (answers, requests) = mpsc::channel(ANSWERS_MAX);
    let options = Options {
        stream_option: Some(match &group.source {
            GroupSource::Stream(name) => StreamOption::StreamIdentifier(stream::to_proto(name)),
            GroupSource::All => StreamOption::All(Empty {}),
        }),
        group_name: group.name.clone(),
        buffer_size: i32::try_from(buffer_size).unwrap_or(i32::MAX),
        uuid_option: Some(UuidOption { content: Some(Form::Structured(Empty {})) }),
    };
    let first = ReadReq { content: Some(Content::Options(options)) };
    // There is room: it is the first.
    answers.try_send(first).map_err(|_full| GroupError::Lost)?;
    let opening = async {
        let request = client.endless_call(ReceiverStream::new(requests));
        let answer = calls(&client).read(request).await;
        let mut messages =
            answer.map_err(|status| GroupError::from_status(&status, &client))?.into_inner();
        match messages.message().await {
            Ok(Some(ReadResp { content: Some(Answer::SubscriptionConfirmation(_)) })) => {
                Ok(Live { messages, answers })
            }
            Ok(other) => {
                let reason = format!("a consumer was not confirmed but answered {other:?}");
                Err(CallError::BadAnswer { reason }.into())
            }
            Err(status) => Err(GroupError::from_status(&status, &client)),
        }
    };
    let limit = client.settings().default_deadline.unwrap_or(Duration::MAX);
    let opened = tokio::time::timeout(limit, opening).await;
    opened.unwrap_or(Err(CallError::DeadlineExceeded.into()))
}

fn message(event: ReadEvent, answers: &mpsc::Sender<ReadReq>) -> Result<GroupMessage, GroupError> {
    let bad = |error: daybook_wire::InvalidAnswer| {
        GroupError::Call(CallError::BadAnswer { reason: error.to_string() })
    };
    let retries = match event.count {
        Some(Count::RetryCount(count)) => u32::try_from(count).unwrap_or(0),
        Some(Count::NoRetryCount(_)) | None => 0,
    };
    let checkpoint = match event.position {
        Some(Position::CommitPosition(number)) => Some(Checkpoint(number)),
        Some(Position::NoPosition(_)) | None => None,
    };
    let recorded = |part| event::from_proto(part).map_err(bad);
    let link = event.link.map(recorded).transpose()?.map(Box::new);
    let event = event.event.map(recorded).transpose()?;
    let resolved = ResolvedEvent { event, link, checkpoint };
    let Some(id) = resolved.original().map(|original| original.id) else {
        let reason = "a message had neither an event nor a link".to_owned();
        return Err(CallError::BadAnswer { reason }.into());
    };
    Ok(GroupMessage { resolved, retries, id, answers: answers.clone() })
}
