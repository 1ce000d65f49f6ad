//! How much was taken, and a digest of it: what the target gives back must come to the same.

use std::collections::BTreeMap;

use daybook_model::{ContentType, EventView};
use serde::{Deserialize, Serialize};

/// Counts of what was seen, and a digest over all that was taken, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Events taken.
    pub events: u64,
    /// Bytes of their data and metadata.
    pub bytes: u64,
    /// Events whose time was before that of the event ahead of them, and is now the same.
    pub moved: u64,
    /// Places of events that the source has no more.
    pub holes: u64,
    /// Events left behind, by reason.
    pub left: BTreeMap<String, u64>,
    /// BLAKE3 of (the digest before, the event): all zeros before the first.
    pub digest: Digest,
}

/// A digest, as hexadecimal digits where it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        blake3::Hash::from_bytes(digest.0).to_hex().to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = blake3::HexError;
    fn try_from(text: String) -> Result<Digest, blake3::HexError> {
        Ok(Digest(*blake3::Hash::from_hex(text)?.as_bytes()))
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from(*self))
    }
}

impl Tally {
    /// Counts an event that is taken, as it stands in the target. Its position is not part of the
    /// digest: positions are each store's own.
    pub fn take(&mut self, event: &EventView<'_>) {
        self.events += 1;
        self.bytes += (event.data.len() + event.metadata.len()) as u64;
        self.digest = Digest(*digest(&self.digest, event).as_bytes());
    }

    /// Counts an event that is left behind.
    pub fn leave(&mut self, reason: &str) {
        match self.left.get_mut(reason) {
            Some(count) => *count += 1,
            None => _ = self.left.insert(reason.to_owned(), 1),
        }
    }

    /// Whether the two took the same events.
    #[must_use]
    pub fn agrees_with(&self, other: &Tally) -> bool {
        (self.events, self.bytes, self.digest) == (other.events, other.bytes, other.digest)
    }
}

fn digest(before: &Digest, event: &EventView<'_>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&before.0);
    // Each part with its length, so that no two events are the same bytes.
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(event.stream.as_bytes());
    part(&event.revision.0.to_le_bytes());
    part(&event.time.0.to_le_bytes());
    part(event.id.as_bytes());
    part(event.event_type.as_bytes());
    part(&[u8::from(event.content_type == ContentType::Json), u8::from(event.tombstone)]);
    part(event.metadata);
    part(event.data);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use daybook_model::{Position, Revision, Timestamp};
    use uuid::Uuid;

    use super::*;

    fn event(stream: &'static str, data: &'static str) -> EventView<'static> {
        EventView {
            position: Position(7),
            revision: Revision(1),
            time: Timestamp(2),
            id: Uuid::from_u128(3),
            stream,
            event_type: "T",
            content_type: ContentType::Json,
            tombstone: false,
            metadata: b"",
            data: data.as_bytes(),
        }
    }

    #[test]
    fn a_digest_tells_apart_what_differs_and_only_that() {
        let of = |events: &[EventView<'_>]| {
            let mut tally = Tally::default();
            events.iter().for_each(|event| tally.take(event));
            tally
        };
        let (a, b) = (event("a", "1"), event("b", "1"));
        let elsewhere = EventView { position: Position(8), ..a };
        assert!(of(&[a, b]).agrees_with(&of(&[elsewhere, b])));
        assert!(!of(&[a, b]).agrees_with(&of(&[b, a])), "the order counts");
        for other in [
            EventView { revision: Revision(2), ..a },
            EventView { time: Timestamp(3), ..a },
            EventView { id: Uuid::nil(), ..a },
            EventView { event_type: "U", ..a },
            EventView { content_type: ContentType::Binary, ..a },
            EventView { tombstone: true, ..a },
            EventView { metadata: b"1", data: b"", ..a },
            event("a1", ""),
        ] {
            assert!(!of(&[a]).agrees_with(&of(&[other])), "{other:?}");
        }
    }

    #[test]
    fn a_tally_is_read_back_as_it_was_written() {
        let mut tally = Tally::default();
        tally.take(&event("a", "1"));
        tally.leave("why");
        tally.leave("why");
        let text = serde_json::to_string(&tally).expect("JSON");
        assert_eq!(serde_json::from_str::<Tally>(&text).expect("a tally"), tally);
        assert_eq!(tally.left["why"], 2);
    }
}
