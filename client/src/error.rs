//! What can go wrong with a call, in terms a caller can act on.
//!
//! The question after a failed append is always the same: was it written? So [`AppendError`] keeps
//! three things apart: it was refused (nothing was written, and the reason is named), it never
//! reached a server or was turned away at the door ([`CallError`], nothing was written either), or
//! nobody knows ([`AppendError::Unknown`]; the same call again with the same event ids finds out).
//!
//! A status is read as the protocol says: the trailer `exception` first, then the code. Texts are
//! passed on and never taken apart, except where the protocol itself has no code.
//!
//! What never left this side is known by its type (`NotConnected`, `NoNode`), wherever in the
//! chain of causes it stands.

use std::error::Error as _;

use daybook_model::append::FailedCheck;
use daybook_model::{ExpectedRevision, InvalidEvent, Revision, StreamName};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::connection::{NoNode, NotConnected};
use crate::settings::NodeAddress;

/// What a server says that has no room for the call. A text, for the protocol has no code.
pub(crate) const TOO_BUSY: &str = "Server Is Too Busy";
/// What a node says that does not know its leader.
const LEADERLESS: &str = "No leader info available in response";
/// How this side's TLS words what the other side says before it breaks off.
const ALERT: &str = "received fatal alert: ";
/// What it says of a client whose certificate it does not like. In TLS 1.3 it does so only when the
/// client has begun to speak already, but nothing of that was listened to.
const ALERTS_TO_STRANGERS: [&str; 9] = [
    "AccessDenied",
    "BadCertificate",
    "CertificateExpired",
    "CertificateRequired",
    "CertificateRevoked",
    "CertificateUnknown",
    "DecryptError",
    "UnknownCA",
    "UnsupportedCertificate",
];

/// Why a call was not carried out, whatever it asked for. Nothing was changed by it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection, or it broke.
    #[error(
        "the server at {server} cannot be reached: {reason}; check that it runs and listens there"
    )]
    Unreachable {
        /// Its address.
        server: String,
        /// What happened.
        reason: String,
    },
    /// There was a server, and no secure connection to it.
    #[error("{reason}")]
    Insecure {
        /// Which server, what is wrong, and what to do.
        reason: String,
    },
    /// The server takes no calls of this kind just now.
    #[error("the server is busy or not ready: {reason}; try again later")]
    Overloaded {
        /// What it says.
        reason: String,
    },
    /// It took longer than the deadline.
    #[error("the call took longer than its deadline; try again, or give it more time")]
    DeadlineExceeded,
    /// Nobody is known by this login and password.
    #[error("the server does not accept the login or password; check the connection string")]
    Unauthenticated,
    /// The caller is known, and may not do this.
    #[error("the server denies access: {reason}")]
    AccessDenied {
        /// What it says.
        reason: String,
    },
    /// Another node of the cluster must be asked. The next call of this client goes there.
    #[error(
        "the server is not the leader of its cluster, {host}:{port} is; the next call goes there"
    )]
    NotLeader {
        /// The leader's name or address.
        host: String,
        /// Its port.
        port: u16,
    },
    /// The server does not know this call.
    #[error("the server does not offer this call: {reason}")]
    Unsupported {
        /// What it says.
        reason: String,
    },
    /// The request breaks a rule.
    #[error("the server refuses the request: {reason}")]
    Invalid {
        /// What it says.
        reason: String,
    },
    /// An answer that the protocol does not have.
    #[error("the server's answer makes no sense: {reason}; is it an event store of this protocol?")]
    BadAnswer {
        /// What is wrong with it.
        reason: String,
    },
    /// Any other failure.
    #[error("the call failed ({code}): {reason}")]
    Failed {
        /// The name of its gRPC code.
        code: String,
        /// What the server says.
        reason: String,
    },
}

/// Why an append or a deletion was not done. Except for [`AppendError::Unknown`] nothing was
/// written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The stream was not at the expected revision.
    #[error(
        "stream '{stream}' was expected at revision {expected} but is at {}; read it and decide \
         again", .actual.map_or("no_stream".to_owned(), |r| r.to_string())
    )]
    WrongExpectedRevision {
        /// The stream.
        stream: StreamName,
        /// What the call expected.
        expected: ExpectedRevision,
        /// The revision of its last event, if it has any and the server says so.
        actual: Option<Revision>,
    },
    /// Streams of an append to several are not where they were expected.
    #[error(
        "{} streams are not where they were expected, the first of them '{}'; read them and \
         decide again", failed.len(), failed.first().map_or("", |check| check.stream.as_str())
    )]
    ChecksFailed {
        /// All of them, each with the index of its stream in the append.
        failed: Vec<FailedCheck>,
    },
    /// The stream has a tombstone, or is soft-deleted and was expected to exist.
    #[error("stream '{stream}' is deleted; choose another name")]
    StreamDeleted {
        /// The stream.
        stream: StreamName,
    },
    /// An event breaks a limit that this client knows.
    #[error(transparent)]
    InvalidEvent(#[from] InvalidEvent),
    /// An event or the whole append is larger than the server or the protocol takes.
    #[error("the append is too large: {reason}")]
    TooLarge {
        /// Which limit it breaks.
        reason: String,
    },
    /// It may have been written or not.
    #[error("the outcome of the append is unknown: {reason}; retry it with the same event ids")]
    Unknown {
        /// What happened.
        reason: String,
    },
    /// It was not carried out.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Why a read or a subscription ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The stream was never written, or is soft-deleted.
    #[error("stream '{stream}' is not found; check its name, or append to it first")]
    StreamNotFound {
        /// The stream.
        stream: StreamName,
    },
    /// The stream has a tombstone.
    #[error("stream '{stream}' is deleted for ever")]
    StreamDeleted {
        /// The stream.
        stream: StreamName,
    },
    /// The place to read from is not of the server's history.
    #[error(
        "the position is not of this server's history: {reason}; if the server was restored from \
         a backup, what was read after it must be read again"
    )]
    InvalidPosition {
        /// What the server says.
        reason: String,
    },
    /// It was not carried out.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl CallError {
    /// Whether the same call may succeed later, or over a new connection.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            CallError::Unreachable { .. }
            | CallError::Overloaded { .. }
            | CallError::NotLeader { .. }
            | CallError::DeadlineExceeded => true,
            CallError::Failed { code, .. } => {
                ["Aborted", "Cancelled", "Unknown", "Internal"].contains(&code.as_str())
            }
            _ => false,
        }
    }

    pub(crate) fn from_status(status: &Status, server: &str) -> CallError {
        let reason = || reason(status);
        if let Some((host, port)) = leader_of(status.metadata()) {
            return CallError::NotLeader { host, port };
        }
        if is_leaderless(status) {
            return CallError::Overloaded { reason: reason() };
        }
        if let Some(reason) = insecure(status) {
            return CallError::Insecure { reason };
        }
        if trailer(status.metadata(), "exception") == Some("access-denied") {
            return CallError::AccessDenied { reason: reason() };
        }
        match status.code() {
            Code::DeadlineExceeded => CallError::DeadlineExceeded,
            Code::Cancelled if is_local_timeout(status) => CallError::DeadlineExceeded,
            Code::Unauthenticated => CallError::Unauthenticated,
            Code::PermissionDenied => CallError::AccessDenied { reason: reason() },
            Code::Unimplemented => CallError::Unsupported { reason: reason() },
            Code::InvalidArgument | Code::OutOfRange => CallError::Invalid { reason: reason() },
            Code::ResourceExhausted => CallError::Overloaded { reason: reason() },
            Code::Unavailable if status.source().is_none() => {
                CallError::Overloaded { reason: reason() }
            }
            _ if is_transport(status) => {
                CallError::Unreachable { server: server.to_owned(), reason: reason() }
            }
            code => CallError::Failed { code: format!("{code:?}"), reason: reason() },
        }
    }
}

impl ReadError {
    /// Whether the same read may succeed later, or over a new connection.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, ReadError::Call(call) if call.is_transient())
    }

    pub(crate) fn from_status(
        status: &Status,
        server: &str,
        stream: Option<&StreamName>,
    ) -> ReadError {
        // The protocol has no code or trailer of its own for this one.
        if status.message().contains("InvalidPosition")
            || status.message().contains("invalid position")
        {
            return ReadError::InvalidPosition { reason: reason(status) };
        }
        match (trailer(status.metadata(), "exception"), stream) {
            (Some("stream-deleted"), Some(stream)) => {
                ReadError::StreamDeleted { stream: stream.clone() }
            }
            (Some("stream-not-found"), Some(stream)) => {
                ReadError::StreamNotFound { stream: stream.clone() }
            }
            _ => ReadError::Call(CallError::from_status(status, server)),
        }
    }
}

impl AppendError {
    pub(crate) fn from_status(
        status: &Status,
        server: &str,
        stream: &StreamName,
        expected: ExpectedRevision,
    ) -> AppendError {
        let stream = stream.clone();
        match trailer(status.metadata(), "exception") {
            Some("wrong-expected-version") => {
                let actual = trailer(status.metadata(), "actual-version")
                    .and_then(|version| version.parse().ok())
                    .map(Revision);
                return AppendError::WrongExpectedRevision { stream, expected, actual };
            }
            Some("stream-deleted") => return AppendError::StreamDeleted { stream },
            Some("maximum-append-size-exceeded" | "maximum-append-event-size-exceeded") => {
                return AppendError::TooLarge { reason: reason(status) };
            }
            _ => {}
        }
        AppendError::of_status(status, server)
    }

    /// What a status means whose trailers say no more than its code.
    pub(crate) fn of_status(status: &Status, server: &str) -> AppendError {
        let unknown = || AppendError::Unknown { reason: reason(status) };
        match status.code() {
            // Turned away by the server, before anything was done.
            Code::Unavailable if status.source().is_none() => {}
            // Refused by a node that does not know its leader.
            _ if is_leaderless(status) => {}
            // Nothing was ever sent.
            _ if is_connect_failure(status) || insecure(status).is_some() => {}
            Code::Aborted
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Unknown
            | Code::Internal
            | Code::DataLoss
            | Code::Unavailable => return unknown(),
            _ => {}
        }
        AppendError::Call(CallError::from_status(status, server))
    }
}

/// What a status says, with what caused it.
pub(crate) fn reason(status: &Status) -> String {
    let mut text = status.message().to_owned();
    for error in causes(status) {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
    }
    if text.is_empty() { format!("{:?}", status.code()) } else { text }
}

/// What caused a status, from the nearest to the first.
fn causes(status: &Status) -> Causes<'_> {
    Causes(status.source())
}

/// An error and what caused it, one after the other.
struct Causes<'a>(Option<&'a (dyn std::error::Error + 'static)>);

impl<'a> Iterator for Causes<'a> {
    type Item = &'a (dyn std::error::Error + 'static);

    fn next(&mut self) -> Option<Self::Item> {
        let error = self.0?;
        self.0 = error.source();
        Some(error)
    }
}

fn trailer<'a>(metadata: &'a MetadataMap, key: &str) -> Option<&'a str> {
    metadata.get(key).and_then(|value| value.to_str().ok())
}

/// The leader that an answer names, because it came from another node.
pub(crate) fn leader_of(metadata: &MetadataMap) -> Option<(String, u16)> {
    let host = trailer(metadata, "leader-endpoint-host")?;
    let port = trailer(metadata, "leader-endpoint-port")?.parse::<u16>().ok()?;
    let NodeAddress { host, port } = NodeAddress::told(host, port.into())?;
    Some((host, port))
}

/// Whether a node refused because it is not the leader and knows none.
pub(crate) fn is_leaderless(status: &Status) -> bool {
    status.code() == Code::Unknown && status.message() == LEADERLESS
}

/// Whether this client itself ended the call at its deadline.
fn is_local_timeout(status: &Status) -> bool {
    status.message() == "Timeout expired"
}

/// Whether `error` is the end of a call at its deadline, which says nothing of the connection.
pub(crate) fn is_late(error: &(dyn std::error::Error + 'static)) -> bool {
    Causes(Some(error)).any(|error| error.is::<tonic::TimeoutExpired>())
}

/// Whether the status was made on this side of the wire, of a failure of the connection.
fn is_transport(status: &Status) -> bool {
    status.source().is_some()
}

/// Whether no connection came about, so that the call was never sent.
fn is_connect_failure(status: &Status) -> bool {
    causes(status).any(|error| error.is::<tonic::ConnectError>() || error.is::<NoNode>())
}

/// What is wrong with the other side's certificate, or in its eyes with ours.
fn insecure(status: &Status) -> Option<String> {
    for error in causes(status) {
        if let Some(NotConnected::Insecure { .. }) = error.downcast_ref::<NotConnected>() {
            return Some(error.to_string());
        }
        let text = error.to_string();
        let alert = text.split_once(ALERT).map(|(_, alert)| alert);
        if alert.is_some_and(|alert| ALERTS_TO_STRANGERS.iter().any(|a| alert.starts_with(a))) {
            return Some(format!(
                "the server refuses this connection: {text}; if it asks clients for certificates, \
                 set userCertFile and userKeyFile to one that it knows"
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "http://127.0.0.1:2113";

    fn stream() -> StreamName {
        StreamName::new("account-1").unwrap()
    }

    fn status(code: Code, text: &str, trailers: &[(&'static str, &str)]) -> Status {
        let mut metadata = MetadataMap::new();
        for (key, value) in trailers {
            metadata.insert(*key, value.parse().unwrap());
        }
        Status::with_metadata(code, text, metadata)
    }

    #[test]
    fn append_failures_are_told_apart() {
        let expected = ExpectedRevision::Exact(Revision(3));
        let unknown = |reason: &str| AppendError::Unknown { reason: reason.to_owned() };
        let wrong =
            |actual| AppendError::WrongExpectedRevision { stream: stream(), expected, actual };
        let wrong_version = |actual| {
            let exception = ("exception", "wrong-expected-version");
            status(Code::FailedPrecondition, "…", &[exception, ("actual-version", actual)])
        };
        let cases = [
            (wrong_version("5"), wrong(Some(Revision(5)))),
            (wrong_version("-1"), wrong(None)),
            (wrong_version(""), wrong(None)),
            (
                status(Code::FailedPrecondition, "gone", &[("exception", "stream-deleted")]),
                AppendError::StreamDeleted { stream: stream() },
            ),
            (
                status(
                    Code::InvalidArgument,
                    "Maximum Append Size of 9 Exceeded.",
                    &[("exception", "maximum-append-size-exceeded")],
                ),
                AppendError::TooLarge { reason: "Maximum Append Size of 9 Exceeded.".to_owned() },
            ),
            (
                status(Code::Aborted, "Operation timed out: sync", &[]),
                unknown("Operation timed out: sync"),
            ),
            (status(Code::DeadlineExceeded, "late", &[]), unknown("late")),
            (status(Code::Cancelled, "Timeout expired", &[]), unknown("Timeout expired")),
            (
                status(Code::Unavailable, "Server Is Too Busy", &[]),
                CallError::Overloaded { reason: "Server Is Too Busy".to_owned() }.into(),
            ),
            (
                status(Code::PermissionDenied, "Access Denied", &[("exception", "access-denied")]),
                CallError::AccessDenied { reason: "Access Denied".to_owned() }.into(),
            ),
            (
                status(
                    Code::NotFound,
                    "Leader info available",
                    &[("leader-endpoint-host", "b"), ("leader-endpoint-port", "2114")],
                ),
                CallError::NotLeader { host: "b".to_owned(), port: 2114 }.into(),
            ),
        ];
        for (status, error) in cases {
            let mapped = AppendError::from_status(&status, SERVER, &stream(), expected);
            assert_eq!(mapped, error, "{status:?}");
        }
    }

    #[test]
    fn read_failures_are_told_apart() {
        let text = str::to_owned;
        let cases = [
            (
                status(Code::FailedPrecondition, "gone", &[("exception", "stream-deleted")]),
                ReadError::StreamDeleted { stream: stream() },
            ),
            (
                status(Code::NotFound, "no", &[("exception", "stream-not-found")]),
                ReadError::StreamNotFound { stream: stream() },
            ),
            (
                status(Code::Unknown, "Unexpected ReadAllResult: InvalidPosition", &[]),
                ReadError::InvalidPosition {
                    reason: text("Unexpected ReadAllResult: InvalidPosition"),
                },
            ),
            (
                status(Code::InvalidArgument, "Trying to read from an invalid position.", &[]),
                ReadError::InvalidPosition {
                    reason: text("Trying to read from an invalid position."),
                },
            ),
            (status(Code::Unauthenticated, "", &[]), CallError::Unauthenticated.into()),
            (status(Code::Cancelled, "Timeout expired", &[]), CallError::DeadlineExceeded.into()),
            (
                status(Code::Unimplemented, "no such call", &[]),
                CallError::Unsupported { reason: text("no such call") }.into(),
            ),
        ];
        for (status, error) in cases {
            let mapped = ReadError::from_status(&status, SERVER, Some(&stream()));
            assert_eq!(mapped, error, "{status:?}");
        }
    }

    #[test]
    fn what_may_succeed_later_is_known() {
        for (code, transient) in [
            (Code::Unavailable, true),
            (Code::Aborted, true),
            (Code::DeadlineExceeded, true),
            (Code::Cancelled, true),
            (Code::InvalidArgument, false),
            (Code::PermissionDenied, false),
            (Code::Unimplemented, false),
        ] {
            let error = ReadError::from_status(&status(code, "x", &[]), SERVER, None);
            assert_eq!(error.is_transient(), transient, "{code:?}");
        }
    }
}
