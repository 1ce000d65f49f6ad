//! Read: one consumer of a group. Protocol section 7.2.
//!
//! ```text
//!   client ── options, then acks and nacks ──> Call ──> the group's mailbox
//!   client <── confirmation, then messages ─── Call <── the consumer's channel
//! ```
//!
//! The channel is as long as the buffer that the client asked for, so it holds what was not
//! acknowledged and nothing else. Acknowledgements wait for the mailbox: a group that is behind with
//! them reads no more of the call. When the call ends, however it does, what it had goes to others.

use std::pin::Pin;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use daybook_store::persistent::NackAction;
use daybook_store::persistent::settings::CONSUMER_BUFFER_MAX;
use daybook_wire::proto::persistent::ReadReq;
use daybook_wire::proto::persistent::read_req::nack::Action;
use daybook_wire::proto::persistent::read_req::options::StreamOption;
use daybook_wire::proto::persistent::read_req::options::uuid_option::Content as Form;
use daybook_wire::proto::persistent::read_req::{Content, Nack, Options};
use daybook_wire::proto::shared;
use daybook_wire::{InvalidRequest, UuidForm, uuid as ids};
use futures_util::stream::try_unfold;
use http::HeaderMap;
use prost::Message as _;
use tonic::Status;
use uuid::Uuid;

use super::decode::source_of;
use super::show::{put_confirmation, put_delivered};
use crate::grpc::call::{self, Messages};
use crate::grpc::status;
use crate::node::{Context, Endless, Phase};
use crate::persistent::consumer::Consumer;
use crate::persistent::error::GroupError;
use crate::persistent::info::Visitor;
use crate::persistent::key::{GroupKey, Source};

/// Bytes of messages after which they are sent on.
const BATCH_SIZE: usize = 256 * 1024;
/// Bytes of the reason for which a client parks messages: a sentence or two, once a message.
const REASON_SIZE_MAX: usize = 1024;
/// Ids that one message may acknowledge. As many as a consumer may have, twice over.
pub const IDS_MAX: usize = 2 * CONSUMER_BUFFER_MAX;
/// Bytes of what a client says of itself that are kept for people to see.
const NAME_SIZE_MAX: usize = 256;

/// Answers Read.
pub async fn read(State(context): State<Context>, request: Request<Body>) -> Response<Body> {
    let deadline = call::deadline(request.headers());
    let visitor = visitor(request.headers());
    let messages = Messages::new(request.into_body());
    match call::within(deadline, begin(context, visitor, messages)).await {
        Ok(call) => call::streamed(
            deadline,
            try_unfold(Box::new(call), |mut call| async move {
                Ok(call.next().await?.map(|bytes| (bytes, call)))
            }),
        ),
        Err(status) => call::refused(&status),
    }
}

/// One call.
struct Call {
    messages: Messages,
    consumer: Consumer,
    key: GroupKey,
    form: UuidForm,
    confirmed: bool,
    stopping: Pin<Box<dyn Future<Output = ()> + Send>>,
    _endless: Endless,
}

async fn begin(context: Context, visitor: Visitor, mut messages: Messages) -> Result<Call, Status> {
    let first = messages.next().await?.ok_or_else(status::handler_failed)?;
    let request = ReadReq::decode(first).map_err(|error| status::invalid(&error.into()))?;
    let Some(Content::Options(options)) = request.content else {
        return Err(status::handler_failed());
    };
    let form = match options.uuid_option.as_ref().and_then(|option| option.content.as_ref()) {
        Some(Form::Structured(_)) => UuidForm::Structured,
        Some(Form::String(_)) => UuidForm::Text,
        None => return Err(status::invalid(&InvalidRequest::Missing { field: "uuid_option" })),
    };
    let key = key_of(&options)?;
    let buffer_size = buffer_size(&options, &key)?;
    let consumer = context.persistent().connect(&key, visitor, buffer_size).await;
    let consumer = consumer.map_err(|error| status::group(&error))?;
    let endless = context.endless();
    let stopping = Box::pin(async move { context.reached(Phase::Draining).await });
    Ok(Call { messages, consumer, key, form, confirmed: false, stopping, _endless: endless })
}

fn key_of(options: &Options) -> Result<GroupKey, Status> {
    let source = match &options.stream_option {
        Some(StreamOption::StreamIdentifier(name)) => source_of(Some(name))?,
        Some(StreamOption::All(_)) => Source::All,
        None => return Err(status::handler_failed()),
    };
    Ok(GroupKey { source, group: options.group_name.clone() })
}

fn buffer_size(options: &Options, key: &GroupKey) -> Result<usize, Status> {
    let size = usize::try_from(options.buffer_size).unwrap_or(0);
    if (1..=CONSUMER_BUFFER_MAX).contains(&size) {
        return Ok(size);
    }
    let size = options.buffer_size;
    let reason = format!("buffer_size is {size}; it must be between 1 and {CONSUMER_BUFFER_MAX}");
    Err(status::group(&GroupError::failed(key, reason)))
}

/// Who the headers say a client is. Nobody checks it: it is for people to see.
fn visitor(headers: &HeaderMap) -> Visitor {
    let said = |name: &str| {
        let text = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        text.chars().take(NAME_SIZE_MAX).collect::<String>()
    };
    let connection = said("connection-name");
    Visitor { from: said("user-agent"), username: "anonymous".to_owned(), connection }
}

impl Call {
    /// What is ready to be sent, once there is something; none when the client has half-closed.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let mut buf = BytesMut::new();
        if !self.confirmed {
            self.confirmed = true;
            put_confirmation(&self.key, &mut buf);
            return Ok(Some(buf.freeze()));
        }
        loop {
            tokio::select! {
                biased;
                () = &mut self.stopping => return Err(status::stopping()),
                message = self.messages.next() => match message? {
                    Some(message) => self.take(message).await?,
                    None => return Ok(None),
                },
                delivered = self.consumer.next() => {
                    let delivered = delivered.map_err(|error| status::group(&error))?;
                    put_delivered(&delivered, self.form, &mut buf);
                    while buf.len() < BATCH_SIZE
                        && let Some(delivered) = self.consumer.ready()
                    {
                        put_delivered(&delivered, self.form, &mut buf);
                    }
                    return Ok(Some(buf.freeze()));
                }
            }
        }
    }

    /// Hands on what the client says of its messages.
    async fn take(&mut self, message: Bytes) -> Result<(), Status> {
        let request = ReadReq::decode(message).map_err(|error| status::invalid(&error.into()))?;
        let told = match request.content {
            Some(Content::Ack(ack)) => self.consumer.ack(uuids(&ack.ids)?).await,
            Some(Content::Nack(nack)) => {
                let ids = uuids(&nack.ids)?;
                self.consumer.nack(ids, action(nack)?).await
            }
            Some(Content::Options(_)) | None => return Err(status::handler_failed()),
        };
        told.map_err(|error| status::group(&error))
    }
}

fn uuids(sent: &[shared::Uuid]) -> Result<Vec<Uuid>, Status> {
    if sent.len() > IDS_MAX {
        let text = format!("the message has {} ids; the limit is {IDS_MAX}", sent.len());
        return Err(Status::invalid_argument(text));
    }
    let each = sent.iter().map(|id| ids::from_proto(Some(id), "ids"));
    each.collect::<Result<_, _>>().map_err(|error| status::invalid(&error))
}

/// The beginning of a reason: it is kept with each message that it parks.
fn bounded(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(REASON_SIZE_MAX));
    reason
}

fn action(nack: Nack) -> Result<NackAction, Status> {
    match Action::try_from(nack.action) {
        Ok(Action::Unknown | Action::Retry) => Ok(NackAction::Retry),
        Ok(Action::Park) => Ok(NackAction::Park(bounded(nack.reason))),
        Ok(Action::Skip | Action::Stop) => Ok(NackAction::Skip),
        Err(_) => Err(status::invalid(&InvalidRequest::Combination { parts: "nack action" })),
    }
}
