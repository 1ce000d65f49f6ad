//! Stream names.

use bytes::Bytes;
use daybook_model::StreamName;

use crate::error::InvalidRequest;
use crate::proto::shared::StreamIdentifier;

/// `name` as the protocol carries it.
#[must_use]
pub fn to_proto(name: &StreamName) -> StreamIdentifier {
    StreamIdentifier { stream_name: Bytes::copy_from_slice(name.as_str().as_bytes()) }
}

/// The name a request gives.
///
/// # Errors
/// [`InvalidRequest`] if it is not set, or breaks a rule.
pub fn from_proto(identifier: Option<&StreamIdentifier>) -> Result<StreamName, InvalidRequest> {
    let identifier = identifier.ok_or(InvalidRequest::Missing { field: "stream_identifier" })?;
    Ok(StreamName::from_bytes(&identifier.stream_name)?)
}
