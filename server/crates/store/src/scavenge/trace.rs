//! What stays of a removed event beside its place in the log and its digest.
//!
//! ```text
//!   id hash 16 | count u8 | count index keys of 12 bytes | the stream's name, if it began here
//! ```
//!
//! Enough to build the same index from the rewritten segment, and to know the event's id when it
//! is seen again. All are keyed hashes: they say nothing to who does not know what to look for.
//! The name is what lists of streams show; it stands in the stream's other events as well.

use daybook_model::{ContentType, EventView, Position, Revision, Timestamp};
use smallvec::SmallVec;
use uuid::Uuid;

use crate::index::key::{ID_HASH_SIZE, KEY_SIZE};
use crate::index::{EventKeys, Key, KeyHasher};
use crate::record::take_varint;

/// The place of an event that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub position: Position,
    pub revision: Revision,
    pub time: Timestamp,
    /// The hash of its stream and id.
    pub id: [u8; ID_HASH_SIZE],
}

/// All that is known of a removed event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace<'a> {
    pub hole: Hole,
    pub keys: EventKeys,
    /// The name of its stream, if that began with it.
    pub born: Option<&'a str>,
}

impl<'a> Trace<'a> {
    /// It, as far as it can be shown: an event without a type, an id and contents.
    pub fn view(&self) -> EventView<'a> {
        EventView {
            position: self.hole.position,
            revision: self.hole.revision,
            time: self.hole.time,
            id: Uuid::nil(),
            stream: self.born.unwrap_or_default(),
            event_type: "",
            content_type: ContentType::Binary,
            tombstone: false,
            metadata: &[],
            data: &[],
        }
    }
}

/// Appends what stays of `event`.
pub(crate) fn encode(out: &mut Vec<u8>, hasher: &KeyHasher, event: &EventView<'_>) {
    let keys = hasher.event_keys(event);
    out.extend_from_slice(&hasher.id_hash(keys[0], event.id));
    out.push(keys.len() as u8);
    for key in &keys {
        out.extend_from_slice(&key.0);
    }
    if event.revision.0 == 0 {
        out.extend_from_slice(event.stream.as_bytes());
    }
}

/// Reads what stays of the event at `position`: its place, then its trace.
pub(crate) fn decode(position: Position, payload: &[u8]) -> Option<Trace<'_>> {
    let (time, mut rest) = payload.split_first_chunk::<8>()?;
    let revision = Revision(take_varint(&mut rest)?);
    let time = Timestamp(i64::from_le_bytes(*time));
    let (id, rest) = rest.split_first_chunk::<ID_HASH_SIZE>()?;
    let (count, rest) = rest.split_first()?;
    let (keys, name) = rest.split_at_checked(usize::from(*count) * KEY_SIZE)?;
    let keys: SmallVec<_> =
        keys.chunks_exact(KEY_SIZE).map(|key| Key(key.try_into().expect("a key's size"))).collect();
    let born = if name.is_empty() { None } else { Some(std::str::from_utf8(name).ok()?) };
    let hole = Hole { position, revision, time, id: *id };
    (!keys.is_empty()).then_some(Trace { hole, keys, born })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::encode_place;

    fn event(revision: u64, metadata: &[u8]) -> EventView<'_> {
        EventView {
            position: Position(40),
            revision: Revision(revision),
            time: Timestamp(-7),
            id: Uuid::from_u128(0xa1),
            stream: "acct-1",
            event_type: "Paid",
            content_type: ContentType::Json,
            tombstone: false,
            metadata,
            data: b"secret",
        }
    }

    #[test]
    fn a_trace_gives_the_index_all_that_the_event_gave_it() {
        let hasher = KeyHasher::new(Uuid::from_u128(5));
        for (revision, metadata) in [(0, &b""[..]), (300, b"{\"$correlationId\":\"c\"}")] {
            let event = event(revision, metadata);
            let mut payload = Vec::new();
            encode_place(&mut payload, event.time, event.revision);
            encode(&mut payload, &hasher, &event);
            let trace = decode(event.position, &payload).expect("a trace");
            assert_eq!(trace.keys, hasher.event_keys(&event));
            assert_eq!(trace.born, (revision == 0).then_some("acct-1"));
            let hole = trace.hole;
            assert_eq!((hole.revision, hole.time), (event.revision, event.time));
            let key = hasher.id_key(trace.keys[0], event.id);
            assert_eq!(hole.id[..8], key.to_le_bytes());
            assert_eq!(hole.id, hasher.id_hash(trace.keys[0], event.id));
            assert_ne!(hole.id, hasher.id_hash(trace.keys[0], Uuid::from_u128(0xa2)));
            let text = String::from_utf8_lossy(&payload);
            assert!(!text.contains("secret") && !text.contains("Paid"), "{text}");
            for len in 0..payload.len() - if revision == 0 { 6 } else { 0 } {
                assert_eq!(decode(event.position, &payload[..len]), None, "{len} bytes");
            }
        }
    }
}
