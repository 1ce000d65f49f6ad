//! What this client's errors say about the server, ready made.
//!
//! A server that refuses with a reason of its own — the wrong revision, a deleted stream, no
//! permission — works; one that is silent, overloaded or makes no sense does not. That another node
//! is the leader says nothing about this one's health.

use super::state::Verdict;
use crate::{AppendError, CallError, ReadError};

/// What an append's error says about the server.
#[must_use]
pub fn append(error: &AppendError) -> Verdict {
    match error {
        AppendError::Call(error) => call(error),
        AppendError::Unknown { .. } => Verdict::Failure,
        // The client's own limits: the server was not asked.
        AppendError::InvalidEvent(_) => Verdict::Ignored,
        AppendError::WrongExpectedRevision { .. }
        | AppendError::ChecksFailed { .. }
        | AppendError::StreamDeleted { .. }
        | AppendError::TooLarge { .. } => Verdict::Success,
    }
}

/// What a read's error says about the server.
#[must_use]
pub fn read(error: &ReadError) -> Verdict {
    match error {
        ReadError::Call(error) => call(error),
        ReadError::StreamNotFound { .. }
        | ReadError::StreamDeleted { .. }
        | ReadError::InvalidPosition { .. } => Verdict::Success,
    }
}

/// What any call's error says about the server.
#[must_use]
pub fn call(error: &CallError) -> Verdict {
    match error {
        CallError::Unreachable { .. }
        | CallError::Insecure { .. }
        | CallError::Overloaded { .. }
        | CallError::DeadlineExceeded
        | CallError::BadAnswer { .. }
        | CallError::Failed { .. } => Verdict::Failure,
        CallError::Unauthenticated
        | CallError::AccessDenied { .. }
        | CallError::Unsupported { .. }
        | CallError::Invalid { .. } => Verdict::Success,
        CallError::NotLeader { .. } => Verdict::Ignored,
    }
}

/// Whether the same append, with the same event ids and the same expected revision, may be tried
/// again: always safe, because a repetition is recognised, but not always of use.
#[must_use]
pub fn may_append_again(error: &AppendError) -> bool {
    match error {
        AppendError::Call(error) => error.is_transient(),
        AppendError::Unknown { .. } => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use daybook_model::{ExpectedRevision, InvalidEvent, StreamName};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_refusal_with_a_reason_is_a_success_of_the_server() {
        let reason = || "…".to_owned();
        let stream = || StreamName::new("account-1").expect("a name");
        let code = reason;
        let unreachable = CallError::Unreachable { server: reason(), reason: reason() };
        let cases = [
            (unreachable.clone(), Verdict::Failure),
            (CallError::Overloaded { reason: reason() }, Verdict::Failure),
            (CallError::DeadlineExceeded, Verdict::Failure),
            (CallError::BadAnswer { reason: reason() }, Verdict::Failure),
            (CallError::Failed { code: code(), reason: reason() }, Verdict::Failure),
            (CallError::Unauthenticated, Verdict::Success),
            (CallError::AccessDenied { reason: reason() }, Verdict::Success),
            (CallError::Unsupported { reason: reason() }, Verdict::Success),
            (CallError::Invalid { reason: reason() }, Verdict::Success),
            (CallError::NotLeader { host: reason(), port: 1 }, Verdict::Ignored),
        ];
        for (error, expected) in cases {
            assert_eq!(call(&error), expected, "{error:?}");
            assert_eq!(read(&ReadError::Call(error.clone())), expected, "{error:?}");
            assert_eq!(append(&AppendError::Call(error.clone())), expected, "{error:?}");
        }
        let expected = ExpectedRevision::NoStream;
        let cases = [
            (
                AppendError::WrongExpectedRevision { stream: stream(), expected, actual: None },
                Verdict::Success,
                false,
            ),
            (AppendError::StreamDeleted { stream: stream() }, Verdict::Success, false),
            (AppendError::TooLarge { reason: reason() }, Verdict::Success, false),
            (
                AppendError::InvalidEvent(InvalidEvent::EmptyType { id: Uuid::nil() }),
                Verdict::Ignored,
                false,
            ),
            (AppendError::Unknown { reason: reason() }, Verdict::Failure, true),
            (AppendError::Call(unreachable), Verdict::Failure, true),
            (AppendError::Call(CallError::Unauthenticated), Verdict::Success, false),
        ];
        for (error, verdict, again) in cases {
            assert_eq!((append(&error), may_append_again(&error)), (verdict, again), "{error:?}");
        }
        for error in [
            ReadError::StreamNotFound { stream: stream() },
            ReadError::StreamDeleted { stream: stream() },
            ReadError::InvalidPosition { reason: reason() },
        ] {
            assert_eq!(read(&error), Verdict::Success, "{error:?}");
        }
    }
}
