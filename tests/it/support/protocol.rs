//! The protocol without the client library's manners: requests that no good client sends.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;
use daybook_wire::proto::shared::{self, uuid::Value};
use daybook_wire::proto::streams::append_req::{self, Content, options::ExpectedStreamRevision};
use daybook_wire::proto::streams::batch_append_req::{self, options::ExpectedStreamPosition};
use daybook_wire::proto::streams::streams_client::StreamsClient;
use daybook_wire::proto::streams::{AppendReq, BatchAppendReq, BatchAppendResp};
use prost::Message as _;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

/// The generated client, on a connection of its own.
pub async fn raw_client(address: SocketAddr) -> StreamsClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    StreamsClient::new(endpoint.connect().await.expect("a connection"))
}

/// An event as a client may send it, good or bad.
#[derive(Clone, Debug)]
pub struct RawEvent {
    /// Its id.
    pub id: Option<Value>,
    /// `type` and `content-type`.
    pub metadata: BTreeMap<String, String>,
    /// Its data.
    pub data: Bytes,
}

impl RawEvent {
    /// A good one.
    pub fn good(id: u128, data: impl Into<Bytes>) -> RawEvent {
        let keys = [("type", "Happened"), ("content-type", "application/octet-stream")];
        RawEvent {
            id: Some(Value::String(uuid::Uuid::from_u128(id).to_string())),
            metadata: keys.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            data: data.into(),
        }
    }

    /// Without one of its keys.
    pub fn without(mut self, key: &str) -> RawEvent {
        self.metadata.remove(key);
        self
    }

    /// With another id.
    pub fn with_id(mut self, id: Option<&str>) -> RawEvent {
        self.id = id.map(|id| Value::String(id.to_owned()));
        self
    }

    fn id(&self) -> Option<shared::Uuid> {
        self.id.clone().map(|value| shared::Uuid { value: Some(value) })
    }
}

/// A stream as requests name it.
pub fn stream_identifier(stream: &[u8]) -> shared::StreamIdentifier {
    shared::StreamIdentifier { stream_name: Bytes::copy_from_slice(stream) }
}

/// The messages of an Append call.
pub fn append_messages(stream: &[u8], events: &[RawEvent]) -> Vec<AppendReq> {
    let options = Content::Options(append_req::Options {
        stream_identifier: Some(stream_identifier(stream)),
        expected_stream_revision: Some(ExpectedStreamRevision::Any(shared::Empty {})),
    });
    let proposed = events.iter().map(|event| {
        Content::ProposedMessage(append_req::ProposedMessage {
            id: event.id(),
            metadata: event.metadata.clone(),
            custom_metadata: Bytes::new(),
            data: event.data.clone(),
        })
    });
    std::iter::once(options)
        .chain(proposed)
        .map(|content| AppendReq { content: Some(content) })
        .collect()
}

/// The messages of one append of a BatchAppend call, an event a message.
pub fn batch_messages(number: u128, stream: &[u8], events: &[RawEvent]) -> Vec<BatchAppendReq> {
    let correlation = uuid::Uuid::from_u128(number).to_string();
    let correlation = shared::Uuid { value: Some(Value::String(correlation)) };
    let mut messages: Vec<BatchAppendReq> = events
        .iter()
        .map(|event| BatchAppendReq {
            correlation_id: Some(correlation.clone()),
            proposed_messages: vec![batch_append_req::ProposedMessage {
                id: event.id(),
                metadata: event.metadata.clone(),
                custom_metadata: Bytes::new(),
                data: event.data.clone(),
            }],
            ..BatchAppendReq::default()
        })
        .collect();
    messages[0].options = Some(batch_append_req::Options {
        stream_identifier: Some(stream_identifier(stream)),
        expected_stream_position: Some(ExpectedStreamPosition::Any(())),
        deadline_option: None,
    });
    messages.last_mut().expect("an event").is_final = true;
    messages
}

/// Sends an Append call.
pub async fn append(address: SocketAddr, messages: Vec<AppendReq>) -> Result<(), Status> {
    let messages = futures_util::stream::iter(messages);
    raw_client(address).await.append(messages).await.map(|_| ())
}

/// Sends a BatchAppend call of these messages, and collects what comes back, with how it ends.
pub async fn batch(
    address: SocketAddr,
    messages: Vec<BatchAppendReq>,
) -> (Vec<BatchAppendResp>, Result<(), Status>) {
    let messages = futures_util::stream::iter(messages);
    let mut answers = match raw_client(address).await.batch_append(messages).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return (Vec::new(), Err(status)),
    };
    let mut all = Vec::new();
    loop {
        match answers.message().await {
            Ok(Some(answer)) => all.push(answer),
            Ok(None) => return (all, Ok(())),
            Err(status) => return (all, Err(status)),
        }
    }
}

/// The error of an answer of a BatchAppend call: its code, its name, and for a bad request what is
/// bad about it.
pub fn batch_error(answer: &BatchAppendResp) -> Option<(i32, String)> {
    use daybook_wire::proto::streams::batch_append_resp::Result as Outcome;
    match &answer.result {
        Some(Outcome::Error(error)) => {
            let detail = error.details.as_ref().filter(|d| d.type_url.ends_with("BadRequest"));
            let bad = detail.and_then(|d| shared::BadRequest::decode(&*d.value).ok());
            let text = bad.map_or_else(|| error.message.clone(), |bad| bad.message);
            Some((error.code, text))
        }
        _ => None,
    }
}
