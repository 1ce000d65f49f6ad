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
use axum::extract::Request;
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use daybook_model::Act;
use daybook_model::stream::USERS_STREAM;
use daybook_store::ReadError;
use daybook_store::persistent::NackAction;
use daybook_store::persistent::settings::CONSUMER_BUFFER_MAX;
use daybook_wire::proto::persistent::ReadReq;
use daybook_wire::proto::persistent::read_req::nack::Action;
use daybook_wire::proto::persistent::read_req::options::StreamOption;
use daybook_wire::proto::persistent::read_req::options::uuid_option::Content as Form;
use daybook_wire::proto::persistent::read_req::{Content, Nack, Options};
use daybook_wire::proto::shared;
use daybook_wire::{InvalidRequest, UuidForm, uuid as ids};
use futures_util::FutureExt as _;
use futures_util::stream::try_unfold;
use http::{HeaderValue, header};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message as _};
use tonic::Status;
use uuid::Uuid;

use super::decode::source_of;
use super::show::{Target, put_confirmation, put_delivered};
use crate::grpc::call::{self, Messages};
use crate::grpc::status;
use crate::node::door::Door;
use crate::node::listener::Peer;
use crate::node::{Admitted, Endless, Phase};
use crate::persistent::consumer::{Consumer, Delivered};
use crate::persistent::error::GroupError;
use crate::persistent::info::Visitor;
use crate::persistent::key::{GroupKey, Source};
use crate::security::{Caller, Proof};

/// Bytes of messages after which they are sent on.
const BATCH_SIZE: usize = 256 * 1024;
/// Bytes of the reason for which a client parks messages: a sentence or two, once a message.
const REASON_SIZE_MAX: usize = 1024;
/// Ids that one message may acknowledge. As many as a consumer may have, twice over.
pub const IDS_MAX: usize = 2 * CONSUMER_BUFFER_MAX;
/// The fields of a request that are an acknowledgement, or the opposite.
const ANSWER_FIELDS: &[u32] = &[2, 3];
/// The field of either that is an id.
const ID_FIELDS: &[u32] = &[2];
/// Characters of what a client says of itself that are kept for people to see.
const NAME_LENGTH_MAX: usize = 256;
/// Who brings no credentials.
const ANONYMOUS: &str = "anonymous";

/// Answers Read.
pub async fn read(context: Admitted, request: Request<Body>) -> Response<Body> {
    let deadline = call::deadline(request.headers());
    let visitor = visitor(&request, context.caller());
    let messages = Messages::new(request);
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
    door: Door,
    confirmed: bool,
    stopping: Pin<Box<dyn Future<Output = ()> + Send>>,
    _endless: Endless,
}

async fn begin(
    context: Admitted,
    visitor: Visitor,
    mut messages: Messages,
) -> Result<Call, Status> {
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
    context.door().ask(Act::Read, key.source.name()).await.map_err(status::read)?;
    if key.source == Source::All {
        // Its group delivers what holds users, too: it is for those who may read that.
        context.door().ask(Act::Read, USERS_STREAM).await.map_err(status::read)?;
    }
    let buffer_size = buffer_size(&options, &key)?;
    let consumer = context.persistent().connect(&key, visitor, buffer_size).await;
    let consumer = consumer.map_err(|error| status::group(&error))?;
    let endless = context.endless();
    let door = context.door().clone();
    let stopping = Box::pin(async move { context.reached(Phase::Draining).await });
    let confirmed = false;
    Ok(Call { messages, consumer, key, form, door, confirmed, stopping, _endless: endless })
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

/// Who a client is, and where it comes from, for people to see. Where nobody is asked for proof, it
/// is who the client says it is.
fn visitor<B>(request: &Request<B>, caller: &Caller) -> Visitor {
    let said = |name: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.filter(|text| !text.is_empty()).map(shortened)
    };
    let from = request.extensions().get::<Peer>().map(|Peer(address)| address.to_string());
    let said_login = || request.headers().get(header::AUTHORIZATION).and_then(login);
    let login = match caller.proof() {
        Proof::Unasked => said_login(),
        _ => caller.login().map(shortened),
    };
    Visitor {
        from: from.unwrap_or_default(),
        username: login.unwrap_or_else(|| ANONYMOUS.to_owned()),
        connection: said("connection-name").or_else(|| said("user-agent")).unwrap_or_default(),
    }
}

/// Whether a consumer is shown what a link leads to: only what it may read. Whoever may write a
/// stream could otherwise have any other delivered, also by what an index makes of such a link.
async fn target_of(delivered: &Delivered, door: &Door) -> Result<Target, Status> {
    let (Some(_), Some(event)) = (&delivered.item.link, &delivered.item.event) else {
        return Ok(Target::Shown);
    };
    match door.ask(Act::Read, event.event.stream.as_str()).await {
        Ok(()) => Ok(Target::Shown),
        Err(ReadError::Denied(_)) => Ok(Target::Withheld),
        Err(failed) => Err(status::read(failed)),
    }
}

/// The login of Basic credentials: what stands before the first colon.
fn login(value: &HeaderValue) -> Option<String> {
    let (scheme, credentials) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(credentials.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (login, _password) = text.split_once(':')?;
    (!login.is_empty()).then(|| shortened(login))
}

fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(NAME_LENGTH_MAX).collect()
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
                    let target = target_of(&delivered, &self.door).await?;
                    put_delivered(&delivered, target, self.form, &mut buf);
                    while buf.len() < BATCH_SIZE
                        && let Some(delivered) = self.consumer.ready()
                    {
                        let target = target_of(&delivered, &self.door).await?;
                        put_delivered(&delivered, target, self.form, &mut buf);
                    }
                    return Ok(Some(buf.freeze()));
                }
            }
        }
    }

    /// Hands on what the client says of its messages. Acknowledgements that are here already are
    /// one to the group: most clients send them one by one.
    async fn take(&mut self, first: Bytes) -> Result<(), Status> {
        let (mut acked, mut message) = (Vec::new(), first);
        let said = loop {
            match answer(message) {
                Ok(Answer::Ack(ids)) => acked.extend(ids),
                other => break other.map(Some),
            }
            if acked.len() >= IDS_MAX {
                break Ok(None);
            }
            match self.messages.next().now_or_never() {
                Some(Ok(Some(next))) => message = next,
                Some(Err(failed)) => break Err(failed),
                // The end of the call is met again.
                Some(Ok(None)) | None => break Ok(None),
            }
        };
        // What was acknowledged counts, whatever follows it.
        if !acked.is_empty() {
            self.consumer.ack(acked).await.map_err(|error| status::group(&error))?;
        }
        match said? {
            Some(Answer::Nack(ids, what)) => {
                self.consumer.nack(ids, what).await.map_err(|error| status::group(&error))
            }
            Some(Answer::Ack(_)) | None => Ok(()),
        }
    }
}

/// What a client says of messages.
enum Answer {
    Ack(Vec<Uuid>),
    Nack(Vec<Uuid>, NackAction),
}

fn answer(message: Bytes) -> Result<Answer, Status> {
    check_ids(&message)?;
    let request = ReadReq::decode(message).map_err(|error| status::invalid(&error.into()))?;
    match request.content {
        Some(Content::Ack(ack)) => Ok(Answer::Ack(uuids(&ack.ids)?)),
        Some(Content::Nack(nack)) => Ok(Answer::Nack(uuids(&nack.ids)?, action(nack)?)),
        Some(Content::Options(_)) | None => Err(status::handler_failed()),
    }
}

/// Refuses a message with more ids than one may have, undecoded: two bytes are an id, and take
/// twenty times as much in memory.
fn check_ids(message: &[u8]) -> Result<(), Status> {
    if message.len() / 2 <= IDS_MAX {
        return Ok(());
    }
    let mut count = 0;
    for_each(ANSWER_FIELDS, message, |answer| {
        for_each(ID_FIELDS, answer, |_id| {
            count += 1;
            Ok(())
        })
    })?;
    if count > IDS_MAX {
        let text = format!("the message has {count} ids; the limit is {IDS_MAX}");
        return Err(Status::invalid_argument(text));
    }
    Ok(())
}

/// Shows `each` those parts of a message that are these fields.
fn for_each(
    fields: &[u32],
    mut message: &[u8],
    mut each: impl FnMut(&[u8]) -> Result<(), Status>,
) -> Result<(), Status> {
    let malformed = |error: DecodeError| status::invalid(&error.into());
    while !message.is_empty() {
        let (tag, wire_type) = decode_key(&mut message).map_err(malformed)?;
        if wire_type != WireType::LengthDelimited {
            let context = DecodeContext::default();
            skip_field(wire_type, tag, &mut message, context).map_err(malformed)?;
            continue;
        }
        let size = decode_varint(&mut message).map_err(malformed)?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let part = message
            .split_off(..size)
            .ok_or_else(|| Status::invalid_argument("the message ends within one of its parts"))?;
        if fields.contains(&tag) {
            each(part)?;
        }
    }
    Ok(())
}

fn uuids(sent: &[shared::Uuid]) -> Result<Vec<Uuid>, Status> {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use daybook_wire::proto::persistent::read_req::Ack;
    use tonic::Code;

    use super::*;

    fn acks(count: usize) -> Vec<u8> {
        let ids = vec![shared::Uuid::default(); count];
        ReadReq { content: Some(Content::Ack(Ack { id: Bytes::new(), ids })) }.encode_to_vec()
    }

    fn nacks(count: usize) -> Vec<u8> {
        let (ids, reason) = (vec![shared::Uuid::default(); count], "why".to_owned());
        let nack = Nack { id: Bytes::from_static(b"g"), ids, action: 1, reason };
        ReadReq { content: Some(Content::Nack(nack)) }.encode_to_vec()
    }

    #[test]
    fn ids_are_counted_before_they_are_decoded() {
        for (message, refused) in [
            (acks(0), None),
            (acks(IDS_MAX), None),
            (nacks(IDS_MAX), None),
            (acks(IDS_MAX + 1), Some("the limit is 20000")),
            (nacks(IDS_MAX + 1), Some("the limit is 20000")),
            // A decoder takes the two for one.
            ([acks(IDS_MAX), acks(1)].concat(), Some("the limit is 20000")),
            // What is not counted because it is short is refused by the decoder.
            (vec![0x12, 5, 1], None),
            ([acks(IDS_MAX), vec![0x12, 5, 1]].concat(), Some("ends within")),
            ([acks(IDS_MAX), vec![0x12, 2, 0x12, 9]].concat(), Some("ends within")),
            ([acks(IDS_MAX), vec![0x0b]].concat(), Some("")),
        ] {
            let found = check_ids(&message);
            match (found, refused) {
                (Ok(()), None) => {}
                (Err(status), Some(part)) => {
                    assert_eq!(status.code(), Code::InvalidArgument);
                    assert!(status.message().contains(part), "{status:?}");
                }
                (found, _) => panic!("{found:?} for {} bytes", message.len()),
            }
        }
    }

    #[test]
    fn a_visitor_is_shown_by_its_credentials_and_its_address() {
        let address = "192.0.2.7:4711".parse().expect("an address");
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        for (headers, username, connection) in [
            (vec![], "anonymous", ""),
            (vec![("authorization", basic("ada:secret:colon"))], "ada", ""),
            (vec![("authorization", basic("ada"))], "anonymous", ""),
            (vec![("authorization", basic(":secret"))], "anonymous", ""),
            (vec![("authorization", "Bearer abc".to_owned())], "anonymous", ""),
            (vec![("authorization", "Basic ?".to_owned())], "anonymous", ""),
            (vec![("authorization", basic(&"x".repeat(999)))], "anonymous", ""),
            (vec![("user-agent", "grpc".to_owned())], "anonymous", "grpc"),
            (
                vec![("user-agent", "grpc".to_owned()), ("connection-name", "mine".to_owned())],
                "anonymous",
                "mine",
            ),
        ] {
            let mut request = Request::new(());
            request.extensions_mut().insert(Peer(address));
            for (name, value) in &headers {
                request.headers_mut().insert(*name, value.parse().expect("a value"));
            }
            let found = visitor(&request, &Caller::unasked());
            assert_eq!(
                (found.username.as_str(), found.connection.as_str()),
                (username, connection)
            );
            assert_eq!(found.from, "192.0.2.7:4711");
        }
        let long = login(&basic(&format!("{}:", "x".repeat(999))).parse().expect("a value"));
        assert_eq!(long, Some("x".repeat(NAME_LENGTH_MAX)));
    }
}
