//! Appends to several streams at once: the protocol's second version of Streams. Section 6.
//!
//! ```text
//!   session   messages, one a stream ─> half-close ─┐
//!   records   one message: records and checks ──────┼─> one atomic append ─> revisions, position
//!   refusal   errors with typed details   <─────────┘
//! ```
//!
//! A session names the first stream that is not where it was expected; an append of records names
//! all checks that fail, also of streams that it does not write.
//!
//! INVARIANT: what is received counts in the same budget as the appends of the first version.

pub mod records;
pub mod refusal;
pub mod session;

use daybook_model::NewEvent;
use daybook_store::Appended;
use daybook_wire::proto::streams_v2::AppendRecord;
use daybook_wire::record;
use daybook_wire::record::count::{self, Shape};
use prost::Message;
use tonic::Status;

use super::streams::budget::Held;
use super::streams::{Room, shown_position};

/// A message of this service, if it does not become more than it may.
fn decoded<M: Message + Default>(message: bytes::Bytes, shape: Shape) -> Result<M, Status> {
    count::check(&message, shape).map_err(|violation| refusal::bad_request(&violation))?;
    M::decode(message).map_err(|error| refusal::invalid_message(&error))
}

/// `record`, which stands at `field` in its request and is for `stream`, as an event that is held.
fn event(
    room: &Room,
    held: &mut Held,
    record: AppendRecord,
    stream: &str,
    field: &str,
) -> Result<NewEvent, Status> {
    let new_id = || room.node.new_id();
    let event = record::to_event(record, field, new_id).map_err(|v| refusal::bad_request(&v))?;
    event.check().map_err(|invalid| refusal::invalid_event(stream, &invalid))?;
    held.hold(&event).map_err(refusal::not_held)?;
    Ok(event)
}

/// The number of the position of the last record.
fn position(room: &Room, appended: &Appended) -> i64 {
    let shown = |position| shown_position(room.node.works(), position).cast_signed();
    appended.position.map_or(-1, shown)
}
