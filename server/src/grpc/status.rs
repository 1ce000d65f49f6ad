//! Errors as gRPC statuses, with the texts and trailers that clients look at. Protocol section 3.
//!
//! INVARIANT: the only place where an error of the store or of the wire becomes a status.

use std::fmt::Write as _;

use daybook_model::limits::{APPEND_SIZE_MAX, EVENT_SIZE_MAX};
use daybook_model::{InvalidEvent, ReadFailed, Revision, StreamName};
use daybook_store::snapshot::SnapshotError;
use daybook_store::{AppendError, ReadError};
use daybook_wire::proto::BatchStatus;
use daybook_wire::{InvalidRequest, error, trailer};
use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::builtin::BuiltinError;
use crate::node::door::SnapshotRefused;
use crate::persistent::error::GroupError;
use crate::scripted::error::ProjectionError;
use crate::users::UsersError;

/// What a busy server says.
const TOO_BUSY: &str = "Server Is Too Busy";
/// What a server says that does not take appends any more, or is going.
const NOT_READY: &str = "Server Is Not Ready";

/// The client's deadline has passed.
#[must_use]
pub fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("Deadline Exceeded")
}

/// The server is stopping.
#[must_use]
pub fn stopping() -> Status {
    Status::unavailable(NOT_READY)
}

/// More bytes of appends are being received, by all calls together, than may.
#[must_use]
pub fn too_busy() -> Status {
    Status::unavailable(TOO_BUSY)
}

/// No scavenge of that id is running.
#[must_use]
pub fn scavenge_not_found(id: &str) -> Status {
    with_trailers(
        Code::NotFound,
        "Scavenge id was invalid.".to_owned(),
        &[(trailer::EXCEPTION, trailer::SCAVENGE_NOT_FOUND), (trailer::SCAVENGE_ID, id)],
    )
}

/// Why one of the server's own projections was not shown or changed.
#[must_use]
pub fn builtin(failed: &BuiltinError) -> Status {
    match failed {
        BuiltinError::NotFound { .. } => Status::not_found(failed.to_string()),
        BuiltinError::Append(failed) => append(failed.clone()),
        BuiltinError::Read(failed) => Status::unavailable(failed.to_string()),
    }
}

/// Why a projection of users was not shown or changed.
#[must_use]
pub fn projection(failed: &ProjectionError) -> Status {
    match failed {
        ProjectionError::NotFound { .. } => Status::not_found(failed.to_string()),
        ProjectionError::Exists { .. } => Status::already_exists(failed.to_string()),
        ProjectionError::Runs { .. } => Status::failed_precondition(failed.to_string()),
        ProjectionError::TooMany => Status::resource_exhausted(failed.to_string()),
        ProjectionError::Invalid { .. } | ProjectionError::Script(_) => {
            Status::invalid_argument(failed.to_string())
        }
        ProjectionError::Append(failed) => append(failed.clone()),
        ProjectionError::Read(failed) => Status::unavailable(failed.to_string()),
        ProjectionError::Stopping => stopping(),
        ProjectionError::Panicked(_) => Status::internal(failed.to_string()),
    }
}

/// Why a user was not shown or changed.
#[must_use]
pub fn users(failed: &UsersError) -> Status {
    let about = |code, text: &str, exception: &'static str, login: &str| {
        let values = [(trailer::EXCEPTION, exception), (trailer::LOGIN_NAME, login)];
        with_trailers(code, text.to_owned(), &values)
    };
    match failed {
        UsersError::NotFound { login } => {
            let text = format!("User '{login}' is not found.");
            about(Code::NotFound, &text, trailer::USER_NOT_FOUND, login)
        }
        UsersError::Conflict { login } => {
            about(Code::FailedPrecondition, "Conflict.", trailer::USER_CONFLICT, login)
        }
        UsersError::TryAgain { login } => {
            about(Code::DeadlineExceeded, "Try again.", trailer::USER_CONFLICT, login)
        }
        UsersError::WrongPassword { .. } => with_trailers(
            Code::PermissionDenied,
            "Access Denied".to_owned(),
            &[(trailer::EXCEPTION, trailer::ACCESS_DENIED)],
        ),
        UsersError::Invalid { .. } => Status::invalid_argument(failed.to_string()),
        UsersError::TokenNotFound { .. } => Status::not_found(failed.to_string()),
        UsersError::TooMany | UsersError::TooManyTokens { .. } => {
            Status::resource_exhausted(failed.to_string())
        }
        UsersError::Busy => too_busy(),
        UsersError::Damaged { .. } => Status::data_loss(failed.to_string()),
        UsersError::Append(failed) => append(failed.clone()),
        UsersError::Read(failed) => Status::unavailable(failed.to_string()),
    }
}

/// A request that cannot be carried out as it stands.
#[must_use]
pub fn invalid(error: &InvalidRequest) -> Status {
    let text = error.to_string();
    match error {
        InvalidRequest::MissingMetadata { .. } => with_trailers(
            Code::InvalidArgument,
            text,
            &[
                (trailer::EXCEPTION, trailer::MISSING_REQUIRED_METADATA_PROPERTY),
                (trailer::REQUIRED_METADATA_PROPERTIES, "type,content-type"),
            ],
        ),
        _ => Status::invalid_argument(text),
    }
}

/// A count read of the log from a position that it does not have.
#[must_use]
pub fn invalid_read_position(filtered: bool) -> Status {
    Status::unknown(if filtered {
        "Unexpected FilteredReadAllResult: InvalidPosition"
    } else {
        "Unexpected ReadAllResult: InvalidPosition"
    })
}

/// A subscription to the log after a position that it does not have.
#[must_use]
pub fn invalid_subscription_position() -> Status {
    Status::invalid_argument("Trying to read from an invalid position.")
}

/// A checkpoint interval of nothing. KurrentDB's handler fails on it, and clients know the text.
#[must_use]
pub fn invalid_checkpoint_interval() -> Status {
    Status::unknown("Exception was thrown by handler.")
}

/// A filter that asks for a secondary index.
#[must_use]
pub fn index_not_found(name: &str) -> Status {
    with_trailers(
        Code::NotFound,
        format!("Index '{name}' not found."),
        &[(trailer::EXCEPTION, trailer::INDEX_NOT_FOUND), (trailer::INDEX_NAME, name)],
    )
}

/// Why an append or a delete was refused. A wrong expected revision of an Append is a message and
/// does not come here.
#[must_use]
pub fn append(failed: AppendError) -> Status {
    match failed {
        AppendError::WrongExpectedRevision { stream, expected, actual, .. } => {
            wrong_expected_version(&stream, expected.code(), actual)
        }
        AppendError::ChecksFailed { .. } => Status::failed_precondition(failed.to_string()),
        AppendError::StreamDeleted { stream, .. } => stream_deleted(&stream),
        AppendError::InvalidEvent(InvalidEvent::TooLarge { id, size }) => event_too_large(id, size),
        AppendError::InvalidEvent(invalid) => Status::invalid_argument(invalid.to_string()),
        AppendError::InvalidStreamName(invalid) => Status::invalid_argument(invalid.to_string()),
        AppendError::TooLarge { limit, .. } => append_too_large(limit),
        AppendError::Malformed { .. } | AppendError::Refused { .. } => {
            Status::invalid_argument(failed.to_string())
        }
        AppendError::Reserved { .. } | AppendError::Denied(_) => access_denied(&failed),
        AppendError::Overloaded { .. } => too_busy(),
        AppendError::DiskFull { .. } => Status::resource_exhausted(failed.to_string()),
        AppendError::ClockLeapt { .. } => Status::unavailable(failed.to_string()),
        AppendError::Unknown { reason } => {
            Status::aborted(format!("Operation timed out: {reason}"))
        }
        AppendError::Closed { .. } => stopping(),
        AppendError::Read { .. } => Status::unavailable(failed.to_string()),
    }
}

/// Why a stream or the log could not be read.
#[must_use]
pub fn read(failed: ReadError) -> Status {
    match failed {
        ReadError::StreamNotFound { stream } => with_trailers(
            Code::NotFound,
            format!("Event stream '{stream}' is not found."),
            &[(trailer::EXCEPTION, "stream-not-found"), (trailer::STREAM_NAME, stream.as_str())],
        ),
        ReadError::StreamDeleted { stream } => stream_deleted(&stream),
        ReadError::Damaged { .. } => Status::data_loss(failed.to_string()),
        ReadError::IndexDamaged { .. } => Status::unavailable(failed.to_string()),
        ReadError::Denied(denied) => access_denied(&denied),
        ReadError::Closed => stopping(),
        other => Status::unavailable(other.to_string()),
    }
}

/// What could not be looked up in the index.
#[must_use]
pub fn lookup(failed: &ReadFailed) -> Status {
    Status::unavailable(failed.to_string())
}

/// Why a snapshot was not put or fetched.
#[must_use]
pub fn snapshot(failed: &SnapshotRefused) -> Status {
    use SnapshotError::{KindTooLong, TooLarge, Unavailable};
    match failed {
        SnapshotRefused::Reserved(reserved) => access_denied(reserved),
        SnapshotRefused::Failed(TooLarge { .. } | KindTooLong { .. }) => {
            Status::invalid_argument(failed.to_string())
        }
        SnapshotRefused::Failed(Unavailable { .. }) => Status::unavailable(failed.to_string()),
    }
}

/// Why something was not done for a group of a persistent subscription.
#[must_use]
pub fn group(failed: &GroupError) -> Status {
    let (code, exception, key) = match failed {
        GroupError::Missing(key) => {
            (Code::NotFound, trailer::PERSISTENT_SUBSCRIPTION_DOES_NOT_EXIST, key)
        }
        GroupError::Exists(key) => {
            (Code::AlreadyExists, trailer::PERSISTENT_SUBSCRIPTION_EXISTS, key)
        }
        GroupError::Failed { key, .. } => {
            (Code::Internal, trailer::PERSISTENT_SUBSCRIPTION_FAILED, key)
        }
        GroupError::Full(key) => {
            (Code::FailedPrecondition, trailer::MAXIMUM_SUBSCRIBERS_REACHED, key)
        }
        GroupError::Dropped(key) => {
            (Code::Cancelled, trailer::PERSISTENT_SUBSCRIPTION_DROPPED, key)
        }
        GroupError::Stopping => return stopping(),
    };
    let mut values = vec![
        (trailer::EXCEPTION, exception),
        (trailer::STREAM_NAME, key.source.name()),
        (trailer::GROUP_NAME, key.group.as_str()),
    ];
    if let GroupError::Failed { reason, .. } = failed {
        values.push((trailer::REASON, reason));
    }
    with_trailers(code, failed.to_string(), &values)
}

/// A request that KurrentDB's handler cannot take, and clients know the text.
#[must_use]
pub fn handler_failed() -> Status {
    Status::unknown("Exception was thrown by handler.")
}

/// Why one append of a BatchAppend call was refused. What nobody can know yet is a timeout: clients
/// treat it as a doubt and retry.
#[must_use]
pub fn batch(failed: AppendError) -> BatchStatus {
    match failed {
        AppendError::WrongExpectedRevision { expected, actual, .. } => {
            error::wrong_expected_version(expected, actual)
        }
        AppendError::StreamDeleted { stream, .. } => error::stream_deleted(&stream),
        AppendError::InvalidEvent(InvalidEvent::TooLarge { id, size }) => {
            error::event_too_large(id, size, EVENT_SIZE_MAX)
        }
        AppendError::TooLarge { limit, .. } => error::append_too_large(limit),
        AppendError::InvalidEvent(_)
        | AppendError::InvalidStreamName(_)
        | AppendError::Malformed { .. }
        | AppendError::ChecksFailed { .. }
        | AppendError::Refused { .. } => error::bad_request(failed.to_string()),
        AppendError::Reserved { .. } | AppendError::Denied(_) => error::access_denied(),
        AppendError::Unknown { .. } => error::timeout(),
        AppendError::Overloaded { .. } => batch_too_busy(),
        AppendError::Closed { .. } => error::unknown(NOT_READY.to_owned()),
        AppendError::DiskFull { .. }
        | AppendError::ClockLeapt { .. }
        | AppendError::Read { .. } => error::unknown(failed.to_string()),
    }
}

/// As [`too_busy`], for one append of a BatchAppend call.
#[must_use]
pub fn batch_too_busy() -> BatchStatus {
    error::unknown(TOO_BUSY.to_owned())
}

fn wrong_expected_version(stream: &StreamName, expected: i64, actual: Option<Revision>) -> Status {
    // KurrentDB's number for a stream without events.
    let actual = actual.map_or(-1, |revision| revision.0.cast_signed());
    let text = format!(
        "Delete failed due to WrongExpectedVersion. Stream: {stream}, Expected version: \
         {expected}, Actual version: {actual}"
    );
    with_trailers(
        Code::FailedPrecondition,
        text,
        &[
            (trailer::EXCEPTION, trailer::WRONG_EXPECTED_VERSION),
            (trailer::STREAM_NAME, stream.as_str()),
            (trailer::EXPECTED_VERSION, &expected.to_string()),
            (trailer::ACTUAL_VERSION, &actual.to_string()),
        ],
    )
}

fn stream_deleted(stream: &StreamName) -> Status {
    with_trailers(
        Code::FailedPrecondition,
        format!("Event stream '{stream}' is deleted."),
        &[(trailer::EXCEPTION, trailer::STREAM_DELETED), (trailer::STREAM_NAME, stream.as_str())],
    )
}

/// The caller proved nothing, or its proof has ended.
#[must_use]
pub fn unauthenticated() -> Status {
    Status::unauthenticated("Unauthenticated")
}

/// Clients look at the code and the trailer; the reason is for people.
#[must_use]
pub fn access_denied(failed: &impl std::fmt::Display) -> Status {
    with_trailers(
        Code::PermissionDenied,
        format!("Access Denied: {failed}"),
        &[(trailer::EXCEPTION, trailer::ACCESS_DENIED)],
    )
}

fn event_too_large(id: Uuid, size: usize) -> Status {
    let text = format!(
        "Event with Id: {id}, Size: {size}, exceeds Maximum Append Event Size of {EVENT_SIZE_MAX}."
    );
    with_trailers(
        Code::InvalidArgument,
        text,
        &[
            (trailer::EXCEPTION, trailer::MAXIMUM_APPEND_EVENT_SIZE_EXCEEDED),
            (trailer::MAXIMUM_APPEND_EVENT_SIZE, &EVENT_SIZE_MAX.to_string()),
            (trailer::EVENT_ID, &id.to_string()),
            (trailer::PROPOSED_APPEND_EVENT_SIZE, &size.to_string()),
        ],
    )
}

fn append_too_large(limit: usize) -> Status {
    with_trailers(
        Code::InvalidArgument,
        format!("Maximum Append Size of {limit} Exceeded."),
        &[
            (trailer::EXCEPTION, trailer::MAXIMUM_APPEND_SIZE_EXCEEDED),
            (trailer::MAXIMUM_APPEND_SIZE, &limit.to_string()),
        ],
    )
}

/// All events of one append are larger than they may be.
#[must_use]
pub fn over_append_size(size: usize) -> AppendError {
    AppendError::TooLarge { size, limit: APPEND_SIZE_MAX }
}

fn with_trailers(code: Code, text: String, values: &[(&'static str, &str)]) -> Status {
    let mut headers = HeaderMap::with_capacity(values.len());
    for (key, value) in values {
        headers.insert(HeaderName::from_static(key), header_value(value));
    }
    Status::with_metadata(code, text, MetadataMap::from_headers(headers))
}

/// `text` as a trailer. gRPC allows printable ASCII; anything else is percent-encoded, as in the
/// status text.
fn header_value(text: &str) -> HeaderValue {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, 0x20..=0x7e) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    HeaderValue::try_from(encoded).expect("printable ASCII is a header value")
}

#[cfg(test)]
mod tests {
    use daybook_model::ExpectedRevision;

    use super::*;

    fn trailer_of<'a>(status: &'a Status, key: &str) -> Option<&'a str> {
        status.metadata().get(key).and_then(|value| value.to_str().ok())
    }

    fn name(text: &str) -> StreamName {
        StreamName::new(text).expect("a name")
    }

    /// Clients take these apart: the texts are theirs, byte for byte.
    #[test]
    fn a_deleted_stream_and_a_wrong_version_say_the_protocols_words() {
        let deleted = read(ReadError::StreamDeleted { stream: name("account-1") });
        assert_eq!(deleted.code(), Code::FailedPrecondition);
        assert_eq!(deleted.message(), "Event stream 'account-1' is deleted.");
        assert_eq!(trailer_of(&deleted, "exception"), Some("stream-deleted"));
        assert_eq!(trailer_of(&deleted, "stream-name"), Some("account-1"));

        for (expected, code) in [
            (ExpectedRevision::Any, "-2"),
            (ExpectedRevision::NoStream, "-1"),
            (ExpectedRevision::StreamExists, "-4"),
            (ExpectedRevision::Exact(Revision(5)), "5"),
        ] {
            let wrong = append(AppendError::WrongExpectedRevision {
                index: 0,
                stream: name("s"),
                expected,
                actual: None,
            });
            assert_eq!(wrong.code(), Code::FailedPrecondition);
            assert_eq!(
                wrong.message(),
                format!(
                    "Delete failed due to WrongExpectedVersion. Stream: s, Expected version: \
                     {code}, Actual version: -1"
                )
            );
            assert_eq!(trailer_of(&wrong, "expected-version"), Some(code));
            assert_eq!(trailer_of(&wrong, "actual-version"), Some("-1"));
        }
    }

    #[test]
    fn each_refusal_has_its_code_and_text() {
        let text = |s: &str| s.to_owned();
        let cases = [
            (
                AppendError::TooLarge { size: 9, limit: 8 },
                Code::InvalidArgument,
                text("Maximum Append Size of 8 Exceeded."),
            ),
            (AppendError::Overloaded { waiting: 1 }, Code::Unavailable, text("Server Is Too Busy")),
            (
                AppendError::Closed { reason: text("x") },
                Code::Unavailable,
                text("Server Is Not Ready"),
            ),
            (
                AppendError::Reserved { stream: name("ledger.account-1") },
                Code::PermissionDenied,
                text(
                    "Access Denied: stream 'ledger.account-1' is written by the ledger alone; \
                     use its API, /v1/accounts and /v1/transfers",
                ),
            ),
            (
                AppendError::Unknown { reason: text("x") },
                Code::Aborted,
                text("Operation timed out: x"),
            ),
            (
                AppendError::InvalidEvent(InvalidEvent::TooLarge { id: Uuid::nil(), size: 7 }),
                Code::InvalidArgument,
                format!(
                    "Event with Id: {}, Size: 7, exceeds Maximum \
                Append Event Size of {EVENT_SIZE_MAX}.",
                    Uuid::nil()
                ),
            ),
        ];
        for (error, code, text) in cases {
            let status = append(error);
            assert_eq!((status.code(), status.message()), (code, text.as_str()));
        }
        let missing = invalid(&InvalidRequest::MissingMetadata { property: "type" });
        assert_eq!(missing.message(), "Required Metadata Property 'type' is missing");
        let keys = trailer_of(&missing, "required-metadata-properties");
        assert_eq!(keys, Some("type,content-type"));
    }

    #[test]
    fn a_groups_refusals_say_the_protocols_words() {
        use crate::persistent::key::{GroupKey, Source};
        let key = GroupKey { source: Source::All, group: "g".to_owned() };
        for (error, code, text, exception) in [
            (
                GroupError::Missing(key.clone()),
                Code::NotFound,
                "Subscription group g on stream $all does not exist.",
                "persistent-subscription-does-not-exist",
            ),
            (
                GroupError::Exists(key.clone()),
                Code::AlreadyExists,
                "Subscription group g on stream $all exists.",
                "persistent-subscription-exists",
            ),
            (
                GroupError::failed(&key, "why"),
                Code::Internal,
                "Subscription group g on stream $all failed: 'why'",
                "persistent-subscription-failed",
            ),
            (
                GroupError::Full(key.clone()),
                Code::FailedPrecondition,
                "Maximum subscriptions reached for subscription group g on stream $all.",
                "maximum-subscribers-reached",
            ),
            (
                GroupError::Dropped(key.clone()),
                Code::Cancelled,
                "Subscription group g on stream $all was dropped.",
                "persistent-subscription-dropped",
            ),
        ] {
            let status = group(&error);
            assert_eq!((status.code(), status.message()), (code, text));
            assert_eq!(trailer_of(&status, "exception"), Some(exception));
            assert_eq!(trailer_of(&status, "stream-name"), Some("$all"));
            assert_eq!(trailer_of(&status, "group-name"), Some("g"));
        }
        let failed = group(&GroupError::failed(&key, "why"));
        assert_eq!(trailer_of(&failed, "reason"), Some("why"));
    }

    #[test]
    fn a_name_that_is_not_ascii_is_still_a_trailer() {
        let deleted = read(ReadError::StreamDeleted { stream: name("ключ 1%") });
        let value = trailer_of(&deleted, "stream-name").expect("a trailer");
        assert_eq!(value, "%D0%BA%D0%BB%D1%8E%D1%87 1%");
    }
}
