//! Why an append to several streams was refused, as this version of the protocol says it: a status
//! with typed details. Protocol section 3.5.
//!
//! Refusals that have no type of their own are said as the first version says them.
//!
//! INVARIANT: tells nothing in the trailers of the first version that a client would take for
//! something else than the typed detail says.

use std::collections::BTreeMap;

use daybook_model::limits::EVENT_SIZE_MAX;
use daybook_model::{InvalidEvent, StreamName};
use daybook_store::AppendError;
use daybook_wire::detailed::{Detailed, Domain, SERVER_ERRORS, STANDARD, STREAMS_ERRORS};
use daybook_wire::proto::rich::bad_request::FieldViolation;
use daybook_wire::proto::rich::{BadRequest, RetryInfo};
use daybook_wire::proto::server_errors::AccessDeniedErrorDetails;
use daybook_wire::proto::streams_v2::errors::{
    AppendConsistencyViolationErrorDetails, AppendRecordSizeExceededErrorDetails,
    AppendSessionNoRequestsErrorDetails, AppendTransactionSizeExceededErrorDetails,
    ConsistencyViolation, StreamAlreadyInAppendSessionErrorDetails, StreamDeletedErrorDetails,
    StreamRevisionConflictErrorDetails, StreamTombstonedErrorDetails,
    consistency_violation::{StreamStateViolation, Type},
};
use daybook_wire::record::Violation;
use daybook_wire::trailer;
use prost::Message;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use super::records::Check;
use crate::grpc::status;
use crate::grpc::streams::budget::Refused;

/// When a client should try again that was refused for want of room. The writer empties its queue
/// many times a second.
const RETRY_AFTER_NS: i32 = 100_000_000;

/// A part of the request breaks a rule.
#[must_use]
pub fn bad_request(violation: &Violation) -> Status {
    let detail = BadRequest {
        field_violations: vec![FieldViolation {
            field: violation.field.clone(),
            description: violation.reason.clone(),
        }],
    };
    let code = Code::InvalidArgument;
    said(server(code, violation.to_string(), "BAD_REQUEST").with(STANDARD, "BadRequest", &detail))
}

/// A message is not of its type.
#[must_use]
pub fn invalid_message(error: &prost::DecodeError) -> Status {
    bad_request(&Violation::new("message", format!("it cannot be decoded: {error}")))
}

/// A session ended before it began.
#[must_use]
pub fn no_requests() -> Status {
    let text = "the session has no request; send at least one before its end".to_owned();
    let error = streams(Code::FailedPrecondition, text, "APPEND_SESSION_NO_REQUESTS");
    typed(error, "AppendSessionNoRequestsErrorDetails", &AppendSessionNoRequestsErrorDetails {})
}

/// A session writes to `stream` in two messages.
#[must_use]
pub fn stream_named_twice(stream: &StreamName) -> Status {
    let text = format!(
        "Stream '{stream}' is in the session already; put all of its records into one request"
    );
    let error = streams(Code::Aborted, text, "STREAM_ALREADY_IN_APPEND_SESSION");
    let detail = StreamAlreadyInAppendSessionErrorDetails { stream: stream.as_str().to_owned() };
    typed(error, "StreamAlreadyInAppendSessionErrorDetails", &detail)
}

/// A record for `stream` breaks a limit.
#[must_use]
pub fn invalid_event(stream: &str, invalid: &InvalidEvent) -> Status {
    let InvalidEvent::TooLarge { id, size } = invalid else {
        return bad_request(&Violation::new("records", invalid.to_string()));
    };
    let text = format!(
        "Record '{id}' for stream '{stream}' has {size} bytes; the limit is {EVENT_SIZE_MAX}"
    );
    let error = streams(Code::InvalidArgument, text, "APPEND_RECORD_SIZE_EXCEEDED");
    let detail = AppendRecordSizeExceededErrorDetails {
        stream: stream.to_owned(),
        record_id: id.to_string(),
        size: shown_size(*size),
        max_size: shown_size(EVENT_SIZE_MAX),
    };
    typed(error, "AppendRecordSizeExceededErrorDetails", &detail)
}

/// A record cannot be held while the others arrive.
#[must_use]
pub fn not_held(refused: Refused) -> Status {
    match refused {
        Refused::Append(failed) => append(failed, &[]),
        Refused::Busy => append(AppendError::Overloaded { waiting: 0 }, &[]),
    }
}

/// An append of records was not done. `checks` are those of the request, by the index of the
/// stream.
#[must_use]
pub fn records(
    failed: AppendError,
    names: &[StreamName],
    checks: &BTreeMap<usize, Check>,
) -> Status {
    let AppendError::ChecksFailed { failed } = failed else { return append(failed, names) };
    let mut violations: Vec<ConsistencyViolation> = failed
        .into_iter()
        .filter_map(|found| {
            let check = checks.get(&found.index)?;
            let violation = StreamStateViolation {
                stream: found.stream.as_str().to_owned(),
                expected_state: check.expected,
                actual_state: found.found.code(),
            };
            Some(ConsistencyViolation {
                check_index: i32::try_from(check.index).unwrap_or(i32::MAX),
                r#type: Some(Type::StreamState(violation)),
            })
        })
        .collect();
    violations.sort_unstable_by_key(|violation| violation.check_index);
    let text = format!(
        "Append failed: {} of {} consistency checks do not hold.",
        violations.len(),
        checks.len()
    );
    let error = streams(Code::FailedPrecondition, text, "APPEND_CONSISTENCY_VIOLATION");
    let detail = AppendConsistencyViolationErrorDetails { violations };
    typed(error, "AppendConsistencyViolationErrorDetails", &detail)
}

/// An append was not done. `names` are its streams.
#[must_use]
pub fn append(failed: AppendError, names: &[StreamName]) -> Status {
    match failed {
        AppendError::WrongExpectedRevision { stream, expected, actual, .. } => {
            let actual = actual.map_or(-1, |revision| revision.0.cast_signed());
            revision_conflict(&stream, expected.code(), actual)
        }
        AppendError::StreamDeleted { stream, tombstoned, .. } => deleted(&stream, tombstoned),
        AppendError::InvalidEvent(invalid) => {
            invalid_event(names.first().map_or("", StreamName::as_str), &invalid)
        }
        AppendError::TooLarge { size, limit } => {
            let text = failed.to_string();
            let error = streams(Code::Aborted, text, "APPEND_TRANSACTION_SIZE_EXCEEDED");
            let (size, max_size) = (shown_size(size), shown_size(limit));
            let detail = AppendTransactionSizeExceededErrorDetails { size, max_size };
            typed(error, "AppendTransactionSizeExceededErrorDetails", &detail)
        }
        AppendError::Malformed { .. } | AppendError::InvalidStreamName(_) => {
            bad_request(&Violation::new("records", failed.to_string()))
        }
        AppendError::Reserved { .. } | AppendError::Denied(_) => access_denied(&failed),
        AppendError::Overloaded { .. } => {
            later(Code::Unavailable, "Server Is Too Busy".to_owned(), "SERVER_OVERLOADED")
        }
        AppendError::Closed { .. } => {
            later(Code::Unavailable, "Server Is Not Ready".to_owned(), "SERVER_NOT_READY")
        }
        AppendError::Unknown { reason } => {
            let text = format!("Operation timed out: {reason}");
            later(Code::DeadlineExceeded, text, "OPERATION_TIMEOUT")
        }
        other => status::append(other),
    }
}

/// One client takes the text apart, and shows it to its user.
fn revision_conflict(stream: &StreamName, expected: i64, actual: i64) -> Status {
    let text = format!(
        "Append failed due to a revision conflict on stream '{stream}'. Expected revision: \
         {expected}. Actual revision: {actual}."
    );
    let error = streams(Code::FailedPrecondition, text, "STREAM_REVISION_CONFLICT");
    let detail = StreamRevisionConflictErrorDetails {
        stream: stream.as_str().to_owned(),
        expected_revision: expected,
        actual_revision: actual,
    };
    typed(error, "StreamRevisionConflictErrorDetails", &detail)
}

fn deleted(stream: &StreamName, tombstoned: bool) -> Status {
    let code = Code::FailedPrecondition;
    let named = stream.as_str().to_owned();
    if tombstoned {
        let text = format!("Stream '{stream}' is tombstoned; choose another name");
        let detail = StreamTombstonedErrorDetails { stream: named };
        let error = streams(code, text, "STREAM_TOMBSTONED");
        return typed(error, "StreamTombstonedErrorDetails", &detail);
    }
    let text = format!("Stream '{stream}' is deleted, and was expected to exist");
    let detail = StreamDeletedErrorDetails { stream: named };
    typed(streams(code, text, "STREAM_DELETED"), "StreamDeletedErrorDetails", &detail)
}

/// Clients of the first version's errors look at the trailer.
fn access_denied(failed: &AppendError) -> Status {
    let text = format!("Access Denied: {failed}");
    let detail = AccessDeniedErrorDetails { operation: "append".to_owned(), ..Default::default() };
    let error = server(Code::PermissionDenied, text, "ACCESS_DENIED");
    let mut status = said(error.with(SERVER_ERRORS, "AccessDeniedErrorDetails", &detail));
    let value = MetadataValue::from_static(trailer::ACCESS_DENIED);
    status.metadata_mut().insert(trailer::EXCEPTION, value);
    status
}

/// The same append may be tried again, with the same ids.
fn later(code: Code, text: String, reason: &str) -> Status {
    let delay = prost_types::Duration { seconds: 0, nanos: RETRY_AFTER_NS };
    let detail = RetryInfo { retry_delay: Some(delay) };
    said(server(code, text, reason).with(STANDARD, "RetryInfo", &detail))
}

fn shown_size(size: usize) -> i32 {
    i32::try_from(size).unwrap_or(i32::MAX)
}

fn streams(code: Code, text: String, reason: &str) -> Detailed {
    Detailed::new(code.into(), text, Domain::Streams, reason)
}

fn server(code: Code, text: String, reason: &str) -> Detailed {
    Detailed::new(code.into(), text, Domain::Server, reason)
}

fn typed(error: Detailed, name: &str, detail: &impl Message) -> Status {
    said(error.with(STREAMS_ERRORS, name, detail))
}

/// As a status: the inner code and text are the outer ones, because clients compare them.
fn said(error: Detailed) -> Status {
    let code = Code::from_i32(error.code());
    let metadata = MetadataMap::new();
    Status::with_details_and_metadata(code, error.text(), error.to_bytes(), metadata)
}
