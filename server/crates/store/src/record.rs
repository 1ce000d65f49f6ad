//! One event as the log's opaque payload.
//!
//! ```text
//!   time i64 | revision varint | flags u8 | id 16 | stream varint | type varint | metadata varint
//!   | stream bytes | type bytes | metadata bytes | data: the rest
//! ```
//! Everything from `flags` on is known before the event has a place in the log: it is encoded and
//! digested by the caller of an append ([`encode_body`]); the writer puts time and revision before.

use daybook_model::{ContentType, EventView, NewEvent, Position, Revision, Timestamp};
use uuid::Uuid;

/// Data is JSON.
const FLAG_JSON: u8 = 1;
/// The event is the tombstone of its stream.
const FLAG_TOMBSTONE: u8 = 2;

/// The event is gone, and only its place is there: its stream has a name, and the rest is empty.
const FLAG_GONE: u8 = 4;

/// What stands in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An event.
    Event,
    /// The event that ends its stream.
    Tombstone,
    /// The place of an event that is gone.
    Gone,
}

/// Longest encoding of a u64 as a varint, in bytes.
pub(crate) const VARINT_SIZE_MAX: usize = 10;

/// Appends `value` to `out`, seven bits a byte, lowest first, the high bit says that more follow.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes a varint from the front of `bytes`; none if they end inside it or it exceeds 64 bits.
#[inline]
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Appends the part of `event` that does not depend on its place in the log.
pub(crate) fn encode_body(out: &mut Vec<u8>, stream: &str, event: &NewEvent, kind: Kind) {
    let mut flags = match kind {
        Kind::Event => 0,
        Kind::Tombstone => FLAG_TOMBSTONE,
        Kind::Gone => FLAG_GONE,
    };
    if event.content_type == ContentType::Json {
        flags |= FLAG_JSON;
    }
    out.push(flags);
    out.extend_from_slice(event.id.as_bytes());
    put_varint(out, stream.len() as u64);
    put_varint(out, event.event_type.len() as u64);
    put_varint(out, event.metadata.len() as u64);
    out.extend_from_slice(stream.as_bytes());
    out.extend_from_slice(event.event_type.as_bytes());
    out.extend_from_slice(&event.metadata);
    out.extend_from_slice(&event.data);
}

/// Appends what the writer knows, which stands before the body.
pub(crate) fn encode_place(out: &mut Vec<u8>, time: Timestamp, revision: Revision) {
    out.extend_from_slice(&time.0.to_le_bytes());
    put_varint(out, revision.0);
}

/// Reads a payload; none if it is not one (its checksum was right, so it is of a later format).
#[inline]
pub(crate) fn view(position: Position, payload: &[u8]) -> Option<EventView<'_>> {
    let (time, mut rest) = payload.split_first_chunk::<8>()?;
    let revision = take_varint(&mut rest)?;
    let (&flags, rest) = rest.split_first()?;
    let (id, mut rest) = rest.split_first_chunk::<16>()?;
    let stream = usize::try_from(take_varint(&mut rest)?).ok()?;
    let event_type = usize::try_from(take_varint(&mut rest)?).ok()?;
    let metadata = usize::try_from(take_varint(&mut rest)?).ok()?;
    let (stream, rest) = rest.split_at_checked(stream)?;
    let (event_type, rest) = rest.split_at_checked(event_type)?;
    let (metadata, data) = rest.split_at_checked(metadata)?;
    if flags & !(FLAG_JSON | FLAG_TOMBSTONE | FLAG_GONE) != 0 {
        return None;
    }
    Some(EventView {
        position,
        revision: Revision(revision),
        time: Timestamp(i64::from_le_bytes(*time)),
        id: Uuid::from_bytes(*id),
        stream: std::str::from_utf8(stream).ok()?,
        event_type: std::str::from_utf8(event_type).ok()?,
        content_type: if flags & FLAG_JSON != 0 { ContentType::Json } else { ContentType::Binary },
        tombstone: flags & FLAG_TOMBSTONE != 0,
        metadata,
        data,
    })
}

/// Whether a payload that is one is only the place of an event that is gone.
#[inline]
pub(crate) fn is_gone(payload: &[u8]) -> bool {
    let mut rest = payload.get(8..).unwrap_or_default();
    take_varint(&mut rest).is_some() && rest.first().is_some_and(|flags| flags & FLAG_GONE != 0)
}
