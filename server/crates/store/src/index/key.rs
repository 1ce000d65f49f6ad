//! Keys of the index: 96-bit keyed hashes of what they name.
//!
//! SipHash-1-3 with 128 bits of output under the store's own key, cut to 96: nobody can aim at a
//! collision, and among a billion keys the chance of one is one in 10^11. Names are kept only
//! where streams are listed.

use std::hash::Hasher;

use daybook_model::metadata::METADATA_EVENT_TYPE;
use daybook_model::stream;
use daybook_model::{EventView, StreamMetadata};
use siphasher::sip128::{Hasher128, SipHasher13};
use smallvec::SmallVec;
use uuid::Uuid;

/// Bytes of a key.
pub(crate) const KEY_SIZE: usize = 12;

/// Bytes of the hash by which the id of a removed event is known.
pub(crate) const ID_HASH_SIZE: usize = 16;

/// A key of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(pub [u8; KEY_SIZE]);

impl Key {
    /// The key under which a segment's index keeps the offsets of its records. No hash is zero.
    pub const OFFSETS: Key = Key([0; KEY_SIZE]);

    /// Eight bytes of it, as a hash for tables in memory and filters.
    #[inline]
    pub fn hash(&self) -> u64 {
        let (first, _) = self.0.split_at(8);
        u64::from_le_bytes(first.try_into().expect("eight bytes"))
    }
}

impl std::hash::Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(Key::hash(self));
    }
}

/// What a key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyKind {
    Stream = 0,
    Category = 1,
    EventType = 2,
    Correlation = 3,
    /// What was decided about a stream: its metadata events, and its tombstone.
    Settings = 4,
    /// One transaction of one stream; see [`KeyHasher::transaction`].
    Transaction = 5,
    /// The end of a stream for ever; see [`KeyHasher::tombstone`].
    Tombstone = 6,
    /// The first events of all streams; of no name.
    Streams = 7,
    /// The first events of the streams of a category.
    CategoryStreams = 8,
}

/// The type under which events that delete a stream are found, beside their own.
pub(crate) const DELETED: &str = "$deleted";

/// Makes keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyHasher {
    key: (u64, u64),
}

/// The keys of one event; the stream's is the first. Room for those of an event that is neither
/// metadata nor a tombstone, nor the first of its stream with a correlation or a transaction.
pub(crate) type EventKeys = SmallVec<[Key; 5]>;

impl KeyHasher {
    pub fn new(store_id: Uuid) -> KeyHasher {
        KeyHasher { key: store_id.as_u64_pair() }
    }

    #[inline]
    pub fn key(&self, kind: KeyKind, name: &str) -> Key {
        self.key_of(kind, &[name.as_bytes()])
    }

    /// The key of a transaction of `stream`. No stream's name has a NUL, so no two pairs of stream
    /// and transaction are the same bytes.
    pub fn transaction(&self, stream: &str, transaction: Uuid) -> Key {
        let mut text = Uuid::encode_buffer();
        let text = transaction.hyphenated().encode_lower(&mut text);
        self.key_of(KeyKind::Transaction, &[stream.as_bytes(), &[0], text.as_bytes()])
    }

    /// The key of the tombstone of the stream whose settings are `settings`: a tombstone is one of
    /// them, so this is asked only where there are any, by whoever holds that key.
    pub fn tombstone(&self, settings: Key) -> Key {
        self.key_of(KeyKind::Tombstone, &[&settings.0])
    }

    #[inline]
    fn key_of(&self, kind: KeyKind, parts: &[&[u8]]) -> Key {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write_u8(kind as u8);
        for part in parts {
            hasher.write(part);
        }
        let hash = hasher.finish128().as_bytes();
        let mut key = [0; KEY_SIZE];
        key.copy_from_slice(&hash[..KEY_SIZE]);
        if key == Key::OFFSETS.0 {
            key[0] = 1;
        }
        Key(key)
    }

    /// The key of an id within a stream, for the duplicate window.
    #[inline]
    pub fn id_key(&self, stream: Key, id: Uuid) -> u64 {
        id_key_of(&self.id_hash(stream, id))
    }

    /// The hash of an id within a stream: as long as an id, so that equal hashes mean the same.
    #[inline]
    pub fn id_hash(&self, stream: Key, id: Uuid) -> [u8; ID_HASH_SIZE] {
        let mut hasher = SipHasher13::new_with_keys(self.key.1, self.key.0);
        hasher.write(&stream.0);
        hasher.write(id.as_bytes());
        hasher.finish128().as_bytes()
    }

    /// All keys of a stored event.
    pub fn event_keys(&self, event: &EventView<'_>) -> EventKeys {
        let mut keys = self.unplaced_keys(event);
        if event.revision.0 == 0 {
            self.birth_keys(event.stream, &mut keys);
        }
        keys
    }

    /// Adds to `keys` those that an event has because it is the first of `stream`.
    pub fn birth_keys(&self, stream: &str, keys: &mut EventKeys) {
        keys.push(self.key(KeyKind::Streams, ""));
        if let Some(category) = stream::category(stream) {
            keys.push(self.key(KeyKind::CategoryStreams, category));
        }
    }

    /// The keys of an event that do not depend on its place.
    pub fn unplaced_keys(&self, event: &EventView<'_>) -> EventKeys {
        let mut keys = EventKeys::new();
        keys.push(self.key(KeyKind::Stream, event.stream));
        if let Some(category) = stream::category(event.stream) {
            keys.push(self.key(KeyKind::Category, category));
        }
        // The place of an event that is gone has no type, and settles nothing.
        if event.event_type.is_empty() {
            return keys;
        }
        keys.push(self.key(KeyKind::EventType, event.event_type));
        let metadata = EventMetadata::of(event.metadata);
        if let Some(correlation) = &metadata.correlation_id {
            keys.push(self.key(KeyKind::Correlation, correlation));
        }
        if let Some(transaction) = metadata.transaction_id {
            keys.push(self.transaction(event.stream, transaction));
        }
        if event.tombstone {
            let settings = self.key(KeyKind::Settings, event.stream);
            let deleted = self.key(KeyKind::EventType, DELETED);
            keys.extend([settings, self.tombstone(settings), deleted]);
        } else if let Some(described) = event.stream.strip_prefix("$$") {
            keys.push(self.key(KeyKind::Settings, described));
            if soft_deletes(event) {
                keys.push(self.key(KeyKind::EventType, DELETED));
                let category = stream::category(described);
                keys.extend(category.map(|name| self.key(KeyKind::Category, name)));
            }
        }
        keys
    }
}

/// The part of an id's hash that the duplicate window has.
#[inline]
pub(crate) fn id_key_of(hash: &[u8; ID_HASH_SIZE]) -> u64 {
    let (first, _) = hash.split_at(8);
    u64::from_le_bytes(first.try_into().expect("eight bytes"))
}

/// Whether `event`, of a metadata stream, soft-deletes the stream that it describes.
pub(crate) fn soft_deletes(event: &EventView<'_>) -> bool {
    event.event_type == METADATA_EVENT_TYPE && StreamMetadata::parse(event.data).is_soft_deleted()
}

/// What the index looks for in an event's metadata, if that is a JSON object.
#[derive(Default, serde::Deserialize)]
struct EventMetadata {
    #[serde(rename = "$correlationId", default, deserialize_with = "text")]
    correlation_id: Option<String>,
    #[serde(rename = "$transactionId", default, deserialize_with = "uuid")]
    transaction_id: Option<Uuid>,
}

impl EventMetadata {
    /// Most metadata has neither field, and is not parsed.
    fn of(metadata: &[u8]) -> EventMetadata {
        const FIELDS: [&[u8]; 2] = [b"$correlationId", b"$transactionId"];
        let mut rest = metadata;
        while let Some(at) = rest.iter().position(|byte| *byte == b'$') {
            rest = &rest[at..];
            if FIELDS.iter().any(|field| rest.starts_with(field)) {
                return serde_json::from_slice(metadata).unwrap_or_default();
            }
            rest = &rest[1..];
        }
        EventMetadata::default()
    }
}

/// A text; none if it is something else: one field that is not as it should be hides no other.
fn text<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    match serde::Deserialize::deserialize(value)? {
        serde_json::Value::String(text) => Ok(Some(text)),
        _ => Ok(None),
    }
}

/// A UUID, however it is spelled; none if it is something else.
fn uuid<'de, D: serde::Deserializer<'de>>(value: D) -> Result<Option<Uuid>, D::Error> {
    Ok(text(value)?.and_then(|text| Uuid::try_parse(&text).ok()))
}

/// Passes a hash that is one already.
#[derive(Clone, Copy, Default)]
pub(crate) struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// Builds [`Identity`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdentityState;

impl std::hash::BuildHasher for IdentityState {
    type Hasher = Identity;
    fn build_hasher(&self) -> Identity {
        Identity(0)
    }
}

/// A map by keys, or by hashes. Its order is never looked at.
pub(crate) type KeyMap<K, V> = hashbrown::HashMap<K, V, IdentityState>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_gives_the_keys_that_are_well_formed() {
        let id = Uuid::from_u128(0xa1);
        let text = id.to_string();
        let both = format!("{{\"$correlationId\":\"c\",\"$transactionId\":\"{text}\"}}");
        let upper = format!("{{\"$transactionId\":\"{}\"}}", text.to_uppercase());
        let mixed = format!("{{\"$correlationId\":7,\"$transactionId\":\"{text}\"}}");
        let cases: [(&str, Option<&str>, Option<Uuid>); 9] = [
            ("", None, None),
            ("{\"price\":\"$5\"}", None, None),
            (&both, Some("c"), Some(id)),
            (&upper, None, Some(id)),
            (&mixed, None, Some(id)),
            ("{\"$correlationId\":\"c\",\"$transactionId\":\"t-1\"}", Some("c"), None),
            ("{\"$correlationId\":\"c\",\"$transactionId\":null}", Some("c"), None),
            ("{\"$$transactionId\":\"\",\"$correlationId\":\"c\"}", Some("c"), None),
            ("$transactionId", None, None),
        ];
        for (metadata, correlation, transaction) in cases {
            let found = EventMetadata::of(metadata.as_bytes());
            assert_eq!(found.correlation_id.as_deref(), correlation, "{metadata}");
            assert_eq!(found.transaction_id, transaction, "{metadata}");
        }
    }
}
