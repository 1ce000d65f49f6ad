//! Errors as RFC 9457 problems: the only place where an error becomes an HTTP status.
//!
//! A problem's `type` is a URN that never changes its meaning; `detail` is for people and may.

use axum::response::{IntoResponse, Response};
use daybook_model::limits::APPEND_SIZE_MAX;
use daybook_model::{Denied, InvalidEvent, InvalidFilter, InvalidStreamName};
use daybook_store::{AppendError, ReadError};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value};

/// Seconds after which a client that was refused for want of room may try again. The writer
/// empties its queue many times a second.
const RETRY_AFTER_S: u64 = 1;

/// How callers may prove who they are, in the words of RFC 7235.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"daybook\", Bearer");

/// What can go wrong, as clients may rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A part of the request is not valid; the member `field` names it.
    InvalidRequest,
    /// Too many wrong passwords came.
    LockedOut,
    /// A page of another origin asked.
    OtherOrigin,
    /// The request is for a name that is not this server's.
    OtherHost,
    /// The caller gave no proof of who it is, or its proof has ended.
    Unauthenticated,
    /// The caller may not do this.
    Forbidden,
    /// The stream is written by one part of the server alone.
    ReservedStream,
    /// There is no such route.
    NoSuchRoute,
    /// The route does not take the method.
    NoSuchMethod,
    /// The stream was never written, or is soft-deleted.
    StreamNotFound,
    /// Nobody opened the account, or not yet.
    AccountNotFound,
    /// No such hold is open.
    HoldNotFound,
    /// Nobody began the transfer.
    TransferNotFound,
    /// A rule of the ledger forbids it; the word says which.
    Rejected(&'static str),
    /// The Idempotency-Key named another request before.
    IdempotencyKeyReused,
    /// Others changed the same thing meanwhile, again and again.
    Conflict,
    /// There is no such user.
    UserNotFound,
    /// There is no such API token, or no more.
    TokenNotFound,
    /// There is no such snapshot.
    SnapshotNotFound,
    /// There is no such projection.
    ProjectionNotFound,
    /// A projection cannot do what it is told in the state that it is in.
    ProjectionState,
    /// The node keeps no read models.
    ReadModelsOff,
    /// The node archives nowhere.
    ArchiveOff,
    /// What the node archives to did not answer.
    ArchiveUnread,
    /// There is no such backup where the node archives to.
    BackupNotFound,
    /// A backup is being verified already.
    VerificationRunning,
    /// No such connector runs here.
    ConnectorNotFound,
    /// A connector cannot do what it is told in the state that it is in.
    ConnectorState,
    /// No such scavenge is at work.
    ScavengeNotFound,
    /// The log has no such segment, or no more.
    SegmentNotFound,
    /// There is no such group of a persistent subscription.
    GroupNotFound,
    /// No such message is parked.
    NotParked,
    /// A parked message was not taken by its receiver.
    NotDelivered,
    /// A read model did not come by the position that was asked for in time.
    NotThereYet,
    /// The stream has a tombstone.
    StreamDeleted,
    /// A stream was not at the expected revision.
    WrongExpectedRevision,
    /// An event, an append or a body is over a limit.
    TooLarge,
    /// The body did not arrive in time.
    BodyTimeout,
    /// As much as may is being done already.
    Overloaded,
    /// It takes longer than one request may.
    TimedOut,
    /// The append may have happened or not.
    OutcomeUnknown,
    /// The server takes no appends, or is stopping.
    Unavailable,
    /// The clock leapt forward; an operator must accept it.
    ClockLeapt,
    /// The disk is full.
    DiskFull,
    /// What is stored cannot be read.
    Damaged,
    /// A part of the server failed.
    Internal,
}

impl Kind {
    /// The status, the last part of the `type`, and the title.
    fn parts(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Kind::InvalidRequest => (S::BAD_REQUEST, "invalid-request", "The request is not valid"),
            Kind::LockedOut => {
                (S::TOO_MANY_REQUESTS, "locked-out", "Too many wrong passwords came")
            }
            Kind::OtherOrigin => (S::FORBIDDEN, "other-origin", "Pages of other sites may not ask"),
            Kind::OtherHost => {
                (S::MISDIRECTED_REQUEST, "other-host", "The server does not go by this name")
            }
            Kind::Unauthenticated => {
                (S::UNAUTHORIZED, "unauthenticated", "The caller did not prove who it is")
            }
            Kind::Forbidden => (S::FORBIDDEN, "forbidden", "The caller may not do this"),
            Kind::ReservedStream => {
                (S::FORBIDDEN, "reserved-stream", "Clients do not write this stream")
            }
            Kind::NoSuchRoute => (S::NOT_FOUND, "no-such-route", "There is nothing at this path"),
            Kind::NoSuchMethod => {
                (S::METHOD_NOT_ALLOWED, "no-such-method", "The path does not take this method")
            }
            Kind::StreamNotFound => (S::NOT_FOUND, "stream-not-found", "The stream does not exist"),
            Kind::AccountNotFound => {
                (S::NOT_FOUND, "account-not-found", "The account does not exist")
            }
            Kind::HoldNotFound => (S::NOT_FOUND, "hold-not-found", "No such hold is open"),
            Kind::TransferNotFound => {
                (S::NOT_FOUND, "transfer-not-found", "The transfer does not exist")
            }
            Kind::Rejected(word) => {
                (S::UNPROCESSABLE_ENTITY, word, "A rule of the ledger forbids it")
            }
            Kind::IdempotencyKeyReused => {
                (S::CONFLICT, "idempotency-key-reused", "The key named another request")
            }
            Kind::Conflict => (S::CONFLICT, "conflict", "Others were faster"),
            Kind::UserNotFound => (S::NOT_FOUND, "user-not-found", "There is no such user"),
            Kind::TokenNotFound => (S::NOT_FOUND, "token-not-found", "There is no such API token"),
            Kind::SnapshotNotFound => {
                (S::NOT_FOUND, "snapshot-not-found", "There is no such snapshot")
            }
            Kind::ProjectionNotFound => {
                (S::NOT_FOUND, "projection-not-found", "There is no such projection")
            }
            Kind::ProjectionState => {
                (S::CONFLICT, "projection-state", "The projection cannot do that now")
            }
            Kind::ConnectorNotFound => {
                (S::NOT_FOUND, "connector-not-found", "There is no such connector")
            }
            Kind::ConnectorState => {
                (S::CONFLICT, "connector-state", "The connector cannot do that now")
            }
            Kind::GroupNotFound => (S::NOT_FOUND, "group-not-found", "There is no such group"),
            Kind::SegmentNotFound => (S::NOT_FOUND, "segment-not-found", "No such segment"),
            Kind::ScavengeNotFound => {
                (S::NOT_FOUND, "scavenge-not-found", "No such scavenge is at work")
            }
            Kind::NotParked => (S::NOT_FOUND, "not-parked", "No such message is parked"),
            Kind::NotDelivered => (S::BAD_GATEWAY, "not-delivered", "The message was not taken"),
            Kind::ReadModelsOff => {
                (S::NOT_FOUND, "read-models-off", "The node keeps no read models")
            }
            Kind::ArchiveOff => (S::NOT_FOUND, "archive-off", "The node archives nowhere"),
            Kind::ArchiveUnread => {
                (S::BAD_GATEWAY, "archive-unread", "The archive does not answer")
            }
            Kind::BackupNotFound => (S::NOT_FOUND, "backup-not-found", "There is no such backup"),
            Kind::VerificationRunning => {
                (S::CONFLICT, "verification-running", "A backup is being verified already")
            }
            Kind::NotThereYet => {
                (S::GATEWAY_TIMEOUT, "not-there-yet", "The read model is not that far yet")
            }
            Kind::StreamDeleted => (S::GONE, "stream-deleted", "The stream is deleted"),
            Kind::WrongExpectedRevision => (
                S::CONFLICT,
                "wrong-expected-revision",
                "The stream is not at the expected revision",
            ),
            Kind::TooLarge => (S::PAYLOAD_TOO_LARGE, "too-large", "A limit on size is exceeded"),
            Kind::BodyTimeout => {
                (S::REQUEST_TIMEOUT, "body-timeout", "The body did not arrive in time")
            }
            Kind::Overloaded => (S::SERVICE_UNAVAILABLE, "overloaded", "The server is busy"),
            Kind::TimedOut => (S::GATEWAY_TIMEOUT, "timed-out", "The request takes too long"),
            Kind::OutcomeUnknown => {
                (S::GATEWAY_TIMEOUT, "outcome-unknown", "The append may have happened or not")
            }
            Kind::Unavailable => {
                (S::SERVICE_UNAVAILABLE, "unavailable", "The server does not do this now")
            }
            Kind::ClockLeapt => (S::SERVICE_UNAVAILABLE, "clock-leapt", "The clock leapt forward"),
            Kind::DiskFull => (S::INSUFFICIENT_STORAGE, "disk-full", "The disk is full"),
            Kind::Damaged => (S::INTERNAL_SERVER_ERROR, "damaged", "What is stored cannot be read"),
            Kind::Internal => (S::INTERNAL_SERVER_ERROR, "internal", "The server failed"),
        }
    }
}

/// One problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    kind: Kind,
    detail: String,
    members: Map<String, Value>,
}

impl Problem {
    /// A problem with `detail` for people.
    #[must_use]
    pub fn new(kind: Kind, detail: impl Into<String>) -> Problem {
        Problem { kind, detail: detail.into(), members: Map::new() }
    }

    /// A field of the request that is not valid.
    #[must_use]
    pub fn field(name: &str, detail: impl std::fmt::Display) -> Problem {
        Problem::new(Kind::InvalidRequest, format!("{name}: {detail}")).with("field", name)
    }

    /// Adds a member of its own.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Problem {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// What is wrong, in words.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The problem as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let (status, name, title) = self.kind.parts();
        let mut map = Map::new();
        // The ledger's words have underscores, as in its events.
        let name = name.replace('_', "-");
        map.insert("type".to_owned(), format!("urn:daybook:problem:{name}").into());
        map.insert("title".to_owned(), title.into());
        map.insert("status".to_owned(), status.as_u16().into());
        map.insert("detail".to_owned(), self.detail.as_str().into());
        map.extend(self.members.clone());
        Value::Object(map).to_string()
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, ..) = self.kind.parts();
        if status.is_server_error() {
            tracing::debug!(kind = ?self.kind, detail = %self.detail, "a request failed");
        }
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, kind, self.to_json()).into_response();
        if matches!(self.kind, Kind::Overloaded | Kind::Unavailable) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
        }
        if self.kind == Kind::Unauthenticated {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, CHALLENGE);
        }
        response
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Problem {
        Problem::new(Kind::Forbidden, denied.to_string()).with("stream", denied.stream)
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Problem {
        let detail = error.to_string();
        match error {
            AppendError::WrongExpectedRevision { index, stream, expected, actual } => {
                Problem::new(Kind::WrongExpectedRevision, detail)
                    .with("stream", stream.as_str())
                    .with("index", index)
                    .with("expected", expected.to_string())
                    .with("actual", actual.map(|revision| revision.0))
            }
            AppendError::ChecksFailed { failed } => {
                let streams = failed.iter().map(|check| check.stream.as_str());
                Problem::new(Kind::WrongExpectedRevision, detail)
                    .with("streams", streams.collect::<Vec<_>>())
            }
            AppendError::StreamDeleted { index, stream, tombstoned } => {
                Problem::new(Kind::StreamDeleted, detail)
                    .with("stream", stream.as_str())
                    .with("index", index)
                    .with("tombstoned", tombstoned)
            }
            AppendError::InvalidEvent(invalid) => invalid.into(),
            AppendError::InvalidStreamName(invalid) => invalid.into(),
            AppendError::TooLarge { size, limit } => {
                Problem::new(Kind::TooLarge, detail).with("size", size).with("limit", limit)
            }
            AppendError::Malformed { .. } | AppendError::Refused { .. } => {
                Problem::new(Kind::InvalidRequest, detail)
            }
            AppendError::Reserved { stream } => {
                Problem::new(Kind::ReservedStream, detail).with("stream", stream.as_str())
            }
            AppendError::Denied(denied) => denied.into(),
            AppendError::Overloaded { waiting } => {
                Problem::new(Kind::Overloaded, detail).with("waiting", waiting)
            }
            AppendError::DiskFull { .. } => Problem::new(Kind::DiskFull, detail),
            AppendError::ClockLeapt { seconds } => {
                Problem::new(Kind::ClockLeapt, detail).with("seconds", seconds)
            }
            AppendError::Unknown { .. } => Problem::new(Kind::OutcomeUnknown, detail),
            AppendError::Closed { .. } => Problem::new(Kind::Unavailable, detail),
            AppendError::Read { .. } => Problem::new(Kind::Damaged, detail),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Problem {
        let detail = error.to_string();
        match error {
            ReadError::StreamNotFound { stream } => {
                Problem::new(Kind::StreamNotFound, detail).with("stream", stream.as_str())
            }
            ReadError::StreamDeleted { stream } => {
                Problem::new(Kind::StreamDeleted, detail).with("stream", stream.as_str())
            }
            ReadError::Denied(denied) => denied.into(),
            ReadError::Damaged { file, offset, position, .. } => {
                tracing::error!(%detail, "a read met damaged bytes");
                Problem::new(Kind::Damaged, detail)
                    .with("file", file)
                    .with("offset", offset)
                    .with("position", position.0)
            }
            ReadError::IndexDamaged { .. } => {
                tracing::warn!(%detail, "a read met a damaged index file");
                Problem::new(Kind::Unavailable, detail)
            }
            ReadError::Disk { .. } => {
                tracing::error!(%detail, "a read failed");
                Problem::new(Kind::Damaged, detail)
            }
            ReadError::Closed => Problem::new(Kind::Unavailable, detail),
            ReadError::NotInMemory => Problem::new(Kind::Internal, detail),
        }
    }
}

impl From<InvalidEvent> for Problem {
    fn from(error: InvalidEvent) -> Problem {
        let (field, id) = match &error {
            InvalidEvent::EmptyType { id } | InvalidEvent::BadType { id, .. } => ("type", *id),
            InvalidEvent::TooLarge { id, .. } => ("data", *id),
            InvalidEvent::MetadataNotObject { id } => ("metadata", *id),
        };
        let problem = match &error {
            InvalidEvent::TooLarge { size, .. } => {
                Problem::new(Kind::TooLarge, error.to_string()).with("size", *size)
            }
            _ => Problem::field(field, &error),
        };
        problem.with("event", id.to_string())
    }
}

impl From<InvalidStreamName> for Problem {
    fn from(error: InvalidStreamName) -> Problem {
        Problem::field("stream", error)
    }
}

impl From<InvalidFilter> for Problem {
    fn from(error: InvalidFilter) -> Problem {
        Problem::field("filter", error)
    }
}

/// A body over `limit` bytes.
#[must_use]
pub fn body_too_large(limit: usize) -> Problem {
    let hint = if limit >= APPEND_SIZE_MAX { "; split the append" } else { "" };
    let detail = format!("the body is larger than {limit} bytes{hint}");
    Problem::new(Kind::TooLarge, detail).with("limit", limit)
}

#[cfg(test)]
mod tests {
    use daybook_model::{ExpectedRevision, Revision, StreamName};

    use super::*;

    fn stream() -> StreamName {
        StreamName::new("account-1").expect("a name")
    }

    #[test]
    fn a_lost_race_says_what_was_expected_and_what_is() {
        let error = AppendError::WrongExpectedRevision {
            index: 0,
            stream: stream(),
            expected: ExpectedRevision::Exact(Revision(4)),
            actual: Some(Revision(5)),
        };
        let json: Value = serde_json::from_str(&Problem::from(error).to_json()).expect("JSON");
        assert_eq!(json["type"], "urn:daybook:problem:wrong-expected-revision");
        assert_eq!(json["status"], 409);
        assert_eq!((&json["expected"], &json["actual"]), (&"4".into(), &5.into()));
    }

    #[test]
    fn every_error_has_its_status() {
        let reason = || "why".to_owned();
        let id = uuid::Uuid::nil();
        let cases: [(Problem, u16, bool); 12] = [
            (ReadError::StreamNotFound { stream: stream() }.into(), 404, false),
            (ReadError::StreamDeleted { stream: stream() }.into(), 410, false),
            (ReadError::Closed.into(), 503, true),
            (ReadError::Disk { reason: reason() }.into(), 500, false),
            (AppendError::Overloaded { waiting: 1 }.into(), 503, true),
            (AppendError::DiskFull { location: reason(), reason: reason() }.into(), 507, false),
            (AppendError::Unknown { reason: reason() }.into(), 504, false),
            (AppendError::Closed { reason: reason() }.into(), 503, true),
            (AppendError::TooLarge { size: 2, limit: 1 }.into(), 413, false),
            (AppendError::Malformed { reason: "why" }.into(), 400, false),
            (InvalidEvent::TooLarge { id, size: 1 }.into(), 413, false),
            (InvalidEvent::EmptyType { id }.into(), 400, false),
        ];
        for (problem, status, again) in cases {
            let shown = format!("{problem:?}");
            let response = problem.into_response();
            assert_eq!(response.status().as_u16(), status, "{shown}");
            let kind = response.headers().get(header::CONTENT_TYPE).expect("a content type");
            assert_eq!(kind, "application/problem+json");
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), again, "{shown}");
        }
    }
}
