//! Errors of the protocol's second version: a status with typed details. Protocol section 3.5.
//!
//! ```text
//!   grpc-status, grpc-message        the code and the text
//!   grpc-status-details-bin          code · text · ErrorInfo {reason, domain} · … · typed detail
//! ```
//!
//! Some clients look at all details, some at the last alone: so the typed one comes last. Some
//! refuse an answer whose inner code or text differs from the outer: so both are taken from here.

use bytes::Bytes;
use prost::Message;

use crate::proto::rich::{DetailedStatus, ErrorInfo};

/// What stands before a detail's name in its type URL.
const TYPE_URL: &str = "type.googleapis.com/";
/// Where the details of errors about streams are declared.
pub const STREAMS_ERRORS: &str = "kurrentdb.protocol.v2.streams.errors";
/// Where the details of errors of any service are declared.
pub const SERVER_ERRORS: &str = "kurrent.rpc";
/// Where the details that gRPC itself knows are declared.
pub const STANDARD: &str = "google.rpc";

/// Who knows the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// Appends.
    Streams,
    /// Any service.
    Server,
}

impl Domain {
    fn as_str(self) -> &'static str {
        match self {
            Domain::Streams => "streams",
            Domain::Server => "server",
        }
    }
}

/// An error and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Detailed {
    status: DetailedStatus,
}

impl Detailed {
    /// An error of gRPC's `code`, for the `reason` that `domain` knows.
    #[must_use]
    pub fn new(code: i32, text: String, domain: Domain, reason: &str) -> Detailed {
        let info = ErrorInfo {
            reason: reason.to_owned(),
            domain: domain.as_str().to_owned(),
            ..ErrorInfo::default()
        };
        let status = DetailedStatus { code, message: text, details: Vec::new() };
        Detailed { status }.with(STANDARD, "ErrorInfo", &info)
    }

    /// With one detail more: the message `name` that is declared in `package`.
    #[must_use]
    pub fn with(mut self, package: &str, name: &str, detail: &impl Message) -> Detailed {
        let type_url = format!("{TYPE_URL}{package}.{name}");
        self.status.details.push(prost_types::Any { type_url, value: detail.encode_to_vec() });
        self
    }

    /// The call's own code.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status.code
    }

    /// The call's own text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.status.message
    }

    /// What the trailer holds.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.status.encode_to_vec().into()
    }

    /// The detail `name` of `package` in a trailer's bytes, if it is there and can be read.
    #[must_use]
    pub fn find<M: Message + Default>(trailer: &[u8], package: &str, name: &str) -> Option<M> {
        let status = DetailedStatus::decode(trailer).ok()?;
        let wanted = format!("{package}.{name}");
        let named = |any: &&prost_types::Any| {
            any.type_url.rsplit('/').next().is_some_and(|found| found == wanted)
        };
        let detail = status.details.iter().find(named)?;
        M::decode(&*detail.value).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::BatchStatus;
    use crate::proto::streams_v2::errors::StreamTombstonedErrorDetails;

    #[test]
    fn the_typed_detail_is_last_for_clients_that_see_only_one() {
        let detail = StreamTombstonedErrorDetails { stream: "a-1".to_owned() };
        let name = "StreamTombstonedErrorDetails";
        let error = Detailed::new(9, "gone".to_owned(), Domain::Streams, "STREAM_TOMBSTONED").with(
            STREAMS_ERRORS,
            name,
            &detail,
        );
        let bytes = error.to_bytes();
        let one = BatchStatus::decode(&*bytes).expect("the shape with one detail");
        assert_eq!((one.code, one.message.as_str()), (9, "gone"));
        assert_eq!(
            one.details.expect("a detail").type_url,
            "type.googleapis.com/kurrentdb.protocol.v2.streams.errors.StreamTombstonedErrorDetails"
        );
        let info: ErrorInfo = Detailed::find(&bytes, STANDARD, "ErrorInfo").expect("its reason");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("STREAM_TOMBSTONED", "streams"));
        assert_eq!(Detailed::find(&bytes, STREAMS_ERRORS, name), Some(detail));
    }
}
