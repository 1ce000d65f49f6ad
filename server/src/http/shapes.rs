//! Shapes of the description whose answers are not made from a type: events are written as the
//! bytes that were stored, and pages around them.

use serde_json::Value;
use utoipa::{IntoResponses, ToSchema};
use uuid::Uuid;

use super::ledger::schema::{ProblemShape, Time};

/// What bytes are that stand as text.
#[derive(ToSchema)]
#[schema(as = Encoding, rename_all = "lowercase")]
pub enum EncodingName {
    /// JSON, as it was sent.
    Json,
    /// Base64 in a text.
    Base64,
}

/// What data is. Another one than these is stored as application/octet-stream.
#[derive(ToSchema)]
#[schema(as = ContentType)]
pub enum ContentTypeName {
    /// JSON.
    #[schema(rename = "application/json")]
    Json,
    /// Bytes.
    #[schema(rename = "application/octet-stream")]
    Binary,
}

/// An event, as it is stored.
#[derive(ToSchema)]
#[schema(as = Event, rename_all = "camelCase")]
pub struct EventShape {
    /// Its place in the log.
    pub position: u64,
    /// Its number in its stream.
    pub revision: u64,
    /// Its stream.
    pub stream: String,
    /// Its id.
    pub id: Uuid,
    /// Its type.
    #[schema(example = "MoneyPaid")]
    pub r#type: String,
    /// When it was committed.
    #[schema(value_type = Time)]
    pub time: String,
    /// What `data` is.
    #[schema(value_type = ContentTypeName)]
    pub content_type: String,
    /// JSON as it was sent, or bytes as base64.
    pub data: Value,
    /// base64, if `data` is.
    #[schema(required = false, value_type = EncodingName)]
    pub data_encoding: String,
    /// What its writer says of it; left out if that is nothing.
    #[schema(required = false)]
    pub metadata: Value,
    /// base64, if `metadata` is.
    #[schema(required = false, value_type = EncodingName)]
    pub metadata_encoding: String,
    /// The link through which it was read.
    #[schema(required = false)]
    pub link: LinkShape,
    /// What the event names that stands here because that may not be seen: REVISION@STREAM.
    #[schema(required = false)]
    pub names: String,
}

/// The link through which an event was read.
#[derive(ToSchema)]
#[schema(as = Link)]
pub struct LinkShape {
    /// The virtual stream.
    #[schema(example = "$ce-account")]
    pub stream: String,
    /// Its number there.
    pub revision: u64,
    /// The link's id.
    pub id: Uuid,
}

/// An event to be appended.
#[derive(ToSchema)]
#[schema(as = NewEvent, rename_all = "camelCase")]
pub struct ProposedShape {
    /// Its id: the same event under the same id is appended once. One of chance if absent.
    pub id: Option<Uuid>,
    /// Its type.
    #[schema(example = "MoneyPaid")]
    pub r#type: String,
    /// What `data` is; application/json if absent.
    #[schema(value_type = Option<ContentTypeName>)]
    pub content_type: Option<String>,
    /// JSON, or bytes as base64.
    pub data: Value,
    /// How `data` stands here; as its content type does if absent.
    #[schema(value_type = Option<EncodingName>)]
    pub data_encoding: Option<String>,
    /// What you say of it.
    pub metadata: Option<Value>,
    /// How `metadata` stands here.
    #[schema(value_type = Option<EncodingName>)]
    pub metadata_encoding: Option<String>,
}

/// One event, or several.
#[derive(ToSchema)]
#[schema(as = NewEvents)]
#[serde(untagged)]
pub enum ProposedEventsShape {
    /// One.
    One(ProposedShape),
    /// Several, of one stream: all or none are appended.
    Several(Vec<ProposedShape>),
}

/// An append to several streams.
#[derive(ToSchema)]
#[schema(as = AppendRequest)]
pub struct SeveralShape {
    /// What is done to each.
    pub streams: Vec<PartShape>,
}

/// What is expected of one stream, and appended to it.
#[derive(ToSchema)]
#[schema(as = StreamAppend)]
pub struct PartShape {
    /// Its name.
    pub stream: String,
    /// Its revision, or any, no_stream, stream_exists; any if absent.
    #[schema(required = false)]
    pub expected: ExpectedShape,
    /// In order; none only checks the stream.
    #[schema(required = false)]
    pub events: Vec<ProposedShape>,
}

/// A revision, or a word: any, no_stream, stream_exists.
#[derive(ToSchema)]
#[schema(as = ExpectedRevision)]
#[serde(untagged)]
pub enum ExpectedShape {
    /// The stream's last event has this revision.
    Revision(u64),
    /// any, no_stream or stream_exists.
    Word(String),
}

/// Events of a stream.
#[derive(ToSchema)]
#[schema(as = StreamPage, rename_all = "camelCase")]
pub struct StreamPageShape {
    /// In the direction that was asked for.
    pub events: Vec<EventShape>,
    /// The stream.
    pub stream: String,
    /// The revision of its last event.
    pub head: Option<u64>,
    /// The first revision that its settings do not hide.
    pub first: Option<u64>,
    /// Give it as `from` to go on; null when there is nothing more in this direction.
    pub next: Option<u64>,
    /// Whether the page ends where the stream does.
    pub at_end: bool,
}

/// Events of the log.
#[derive(ToSchema)]
#[schema(as = LogPage, rename_all = "camelCase")]
pub struct LogPageShape {
    /// In the direction that was asked for.
    pub events: Vec<EventShape>,
    /// How far the log was.
    pub committed: u64,
    /// Give it as `from` to go on; null when there is nothing more in this direction.
    pub next: Option<u64>,
    /// Whether the page ends where the log does.
    pub at_end: bool,
}

/// Events of an index.
#[derive(ToSchema)]
#[schema(as = IndexPage, rename_all = "camelCase")]
pub struct IndexPageShape {
    /// In the direction that was asked for.
    pub events: Vec<EventShape>,
    /// category, type or correlation.
    pub index: String,
    /// The key in it.
    pub key: String,
    /// Give it as `from` to go on; null when there is nothing more in this direction.
    pub next: Option<u64>,
    /// Whether the page ends where the index does.
    pub at_end: bool,
}

/// What a read may be answered with instead.
#[derive(IntoResponses)]
pub enum NotRead {
    /// A parameter is not valid; `field` names it.
    #[response(status = 400, content_type = "application/problem+json")]
    Invalid(ProblemShape),
    /// There is no such thing.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(ProblemShape),
    /// The stream is deleted for ever.
    #[response(status = 410, content_type = "application/problem+json")]
    Deleted(ProblemShape),
    /// What is stored cannot be read.
    #[response(status = 500, content_type = "application/problem+json")]
    Damaged(ProblemShape),
    /// The server does not do this now; try again later.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemShape),
    /// A filter matched too little in the time of one read; subscribe instead.
    #[response(status = 504, content_type = "application/problem+json")]
    TimedOut(ProblemShape),
}

/// What a question to the archive may be answered with instead.
#[derive(IntoResponses)]
pub enum NotAsked {
    /// A part of the request is not valid; `field` names it.
    #[response(status = 400, content_type = "application/problem+json")]
    Invalid(ProblemShape),
    /// The server archives nowhere, or there is no such backup.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(ProblemShape),
    /// The archive refuses, or is not there.
    #[response(status = 502, content_type = "application/problem+json")]
    Unread(ProblemShape),
    /// As many ask it as may; try again later.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemShape),
    /// The archive did not answer in time.
    #[response(status = 504, content_type = "application/problem+json")]
    TimedOut(ProblemShape),
}

/// What a write may be answered with instead. Nothing was written, except perhaps after 504.
#[derive(IntoResponses)]
pub enum NotWritten {
    /// A part of the request is not valid; `field` names it.
    #[response(status = 400, content_type = "application/problem+json")]
    Invalid(ProblemShape),
    /// There is no such stream.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(ProblemShape),
    /// The stream is not at the expected revision: `expected` and `actual` say which those are.
    #[response(status = 409, content_type = "application/problem+json")]
    WrongRevision(ProblemShape),
    /// The stream is deleted for ever.
    #[response(status = 410, content_type = "application/problem+json")]
    Deleted(ProblemShape),
    /// An event or the body is too large.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(ProblemShape),
    /// The server does not do this now; try again later.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemShape),
    /// Nobody knows whether it was written; the same request with the same ids tells.
    #[response(status = 504, content_type = "application/problem+json")]
    Unknown(ProblemShape),
    /// The disk is full.
    #[response(status = 507, content_type = "application/problem+json")]
    DiskFull(ProblemShape),
}
