//! Keys of the index: 96-bit keyed hashes of what they name.
//!
//! SipHash-1-3 with 128 bits of output under the store's own key, cut to 96: nobody can aim at a
//! collision, and among a billion keys the chance of one is one in 10^11. Names are kept only
//! where streams are listed.

use std::hash::Hasher;

use daybook_model::EventView;
use daybook_model::stream;
use siphasher::sip128::{Hasher128, SipHasher13};
use smallvec::SmallVec;
use uuid::Uuid;

/// Bytes of a key.
pub(crate) const KEY_SIZE: usize = 12;

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
}

/// Makes keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyHasher {
    key: (u64, u64),
}

/// The keys of one event; the stream's is the first.
pub(crate) type EventKeys = SmallVec<[Key; 4]>;

impl KeyHasher {
    pub fn new(store_id: Uuid) -> KeyHasher {
        KeyHasher { key: store_id.as_u64_pair() }
    }

    #[inline]
    pub fn key(&self, kind: KeyKind, name: &str) -> Key {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        hasher.write_u8(kind as u8);
        hasher.write(name.as_bytes());
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
        let mut hasher = SipHasher13::new_with_keys(self.key.1, self.key.0);
        hasher.write(&stream.0);
        hasher.write(id.as_bytes());
        hasher.finish128().h1
    }

    /// All keys of an event.
    pub fn event_keys(&self, event: &EventView<'_>) -> EventKeys {
        let mut keys = EventKeys::new();
        keys.push(self.key(KeyKind::Stream, event.stream));
        keys.push(self.key(KeyKind::EventType, event.event_type));
        if let Some(category) = stream::category(event.stream) {
            keys.push(self.key(KeyKind::Category, category));
        }
        if let Some(correlation) = correlation_id(event.metadata) {
            keys.push(self.key(KeyKind::Correlation, &correlation));
        }
        if event.tombstone {
            keys.push(self.key(KeyKind::Settings, event.stream));
        } else if let Some(described) = event.stream.strip_prefix("$$") {
            keys.push(self.key(KeyKind::Settings, described));
        }
        keys
    }
}

/// The `$correlationId` of an event's metadata, if it is a JSON object that has one.
fn correlation_id(metadata: &[u8]) -> Option<String> {
    const FIELD: &[u8] = b"$correlationId";
    if !metadata.windows(FIELD.len()).any(|window| window == FIELD) {
        return None;
    }
    #[derive(serde::Deserialize)]
    struct Metadata {
        #[serde(rename = "$correlationId")]
        correlation_id: Option<String>,
    }
    serde_json::from_slice::<Metadata>(metadata).ok()?.correlation_id
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
