//! What cannot be understood, and the errors that travel inside a batch append's answer.

use daybook_model::{ExpectedRevision, InvalidFilter, InvalidStreamName, Revision, StreamName};
use prost::Message;

use crate::proto::{BatchStatus, shared};
use crate::stream;

/// Why a request cannot be carried out as it stands. All of these are the client's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// A proposed event lacks `type` or `content-type`. The text is the protocol's.
    #[error("Required Metadata Property '{property}' is missing")]
    MissingMetadata {
        /// Which.
        property: &'static str,
    },
    /// A field that every request must have is not set.
    #[error("'{field}' is not set; set it")]
    Missing {
        /// Which.
        field: &'static str,
    },
    /// A UUID is neither 36 characters of text nor two halves.
    #[error("'{field}' is not a UUID: {reason}")]
    Uuid {
        /// Where it stands.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A text is not valid UTF-8.
    #[error("'{field}' is not valid UTF-8")]
    NotUtf8 {
        /// Where it stands.
        field: &'static str,
    },
    /// The stream's name breaks a rule.
    #[error(transparent)]
    StreamName(#[from] InvalidStreamName),
    /// The filter cannot be used.
    #[error(transparent)]
    Filter(#[from] InvalidFilter),
    /// The message is not of its type.
    #[error("the message cannot be decoded: {reason}")]
    Malformed {
        /// What the decoder says.
        reason: String,
    },
    /// The parts of the request do not go together.
    #[error("The combination of ({parts}) is invalid.")]
    Combination {
        /// Which parts.
        parts: &'static str,
    },
}

impl From<prost::DecodeError> for InvalidRequest {
    fn from(error: prost::DecodeError) -> InvalidRequest {
        InvalidRequest::Malformed { reason: error.to_string() }
    }
}

/// Why an answer of a server cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAnswer {
    /// A field that every answer has is not set.
    #[error("the server's answer lacks '{field}'")]
    Missing {
        /// Which.
        field: &'static str,
    },
    /// A field has a value that cannot be.
    #[error("the server's answer has an impossible '{field}': {reason}")]
    Impossible {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// What stands before a detail's name in its type URL, by which clients decide.
const TYPE_URL: &str = "type.googleapis.com/event_store.client.";

// The codes of gRPC that occur inside a batch answer.
const UNKNOWN: i32 = 2;
const INVALID_ARGUMENT: i32 = 3;
const DEADLINE_EXCEEDED: i32 = 4;
const NOT_FOUND: i32 = 5;
const ALREADY_EXISTS: i32 = 6;
const PERMISSION_DENIED: i32 = 7;

fn status(code: i32, name: &str, detail: &impl Message) -> BatchStatus {
    BatchStatus {
        code,
        message: name.to_owned(),
        details: Some(prost_types::Any {
            type_url: format!("{TYPE_URL}{name}"),
            value: detail.encode_to_vec(),
        }),
    }
}

/// The stream was not where it was expected.
#[must_use]
pub fn wrong_expected_version(expected: ExpectedRevision, actual: Option<Revision>) -> BatchStatus {
    use shared::wrong_expected_version::{
        CurrentStreamRevisionOption as Current, ExpectedStreamPositionOption as Expected,
    };
    let current = actual.map_or(Current::CurrentNoStream(()), |revision| {
        Current::CurrentStreamRevision(revision.0)
    });
    let expected = match expected {
        ExpectedRevision::Any => Expected::ExpectedAny(()),
        ExpectedRevision::NoStream => Expected::ExpectedNoStream(()),
        ExpectedRevision::StreamExists => Expected::ExpectedStreamExists(()),
        ExpectedRevision::Exact(revision) => Expected::ExpectedStreamPosition(revision.0),
    };
    status(
        ALREADY_EXISTS,
        "WrongExpectedVersion",
        &shared::WrongExpectedVersion {
            current_stream_revision_option: Some(current),
            expected_stream_position_option: Some(expected),
        },
    )
}

/// The stream is deleted.
#[must_use]
pub fn stream_deleted(name: &StreamName) -> BatchStatus {
    status(
        NOT_FOUND,
        "StreamDeleted",
        &shared::StreamDeleted { stream_identifier: Some(stream::to_proto(name)) },
    )
}

/// Nobody may do this.
#[must_use]
pub fn access_denied() -> BatchStatus {
    status(PERMISSION_DENIED, "AccessDenied", &shared::AccessDenied {})
}

/// The deadline passed, or the outcome is not known in time.
#[must_use]
pub fn timeout() -> BatchStatus {
    status(DEADLINE_EXCEEDED, "Timeout", &shared::Timeout {})
}

/// Something else went wrong; `reason` is for people.
#[must_use]
pub fn unknown(reason: String) -> BatchStatus {
    BatchStatus { message: reason, ..status(UNKNOWN, "Unknown", &shared::Unknown {}) }
}

/// All events together are larger than `limit` bytes.
#[must_use]
pub fn append_too_large(limit: usize) -> BatchStatus {
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    status(
        INVALID_ARGUMENT,
        "MaximumAppendSizeExceeded",
        &shared::MaximumAppendSizeExceeded { max_append_size: limit },
    )
}

/// The event `id` is larger than `limit` bytes.
#[must_use]
pub fn event_too_large(id: uuid::Uuid, size: usize, limit: usize) -> BatchStatus {
    status(
        INVALID_ARGUMENT,
        "MaximumAppendEventSizeExceeded",
        &shared::MaximumAppendEventSizeExceeded {
            event_id: id.to_string(),
            proposed_event_size: u32::try_from(size).unwrap_or(u32::MAX),
            max_append_event_size: u32::try_from(limit).unwrap_or(u32::MAX),
        },
    )
}

/// The request is malformed; `message` says how to mend it.
#[must_use]
pub fn bad_request(message: String) -> BatchStatus {
    status(INVALID_ARGUMENT, "BadRequest", &shared::BadRequest { message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_error_names_its_detail_in_one_any() {
        let error = wrong_expected_version(ExpectedRevision::NoStream, Some(Revision(3)));
        assert_eq!((error.code, error.message.as_str()), (6, "WrongExpectedVersion"));
        let any = error.details.expect("a detail");
        assert_eq!(any.type_url, "type.googleapis.com/event_store.client.WrongExpectedVersion");
        // current_stream_revision 1 = 3; expected_no_stream 6 = empty.
        assert_eq!(any.value, [0x08, 3, 0x32, 0]);
        assert_eq!(timeout().message, "Timeout");
        assert_eq!((access_denied().code, access_denied().message.as_str()), (7, "AccessDenied"));
        assert_eq!(append_too_large(64).details.expect("a detail").value, [0x08, 64]);
        let deleted = stream_deleted(&StreamName::new("s").expect("a name"));
        let any = deleted.details.expect("a detail");
        assert_eq!(any.type_url, "type.googleapis.com/event_store.client.StreamDeleted");
        assert_eq!(any.value, [0x0a, 3, 0x1a, 1, b's']);
    }
}
