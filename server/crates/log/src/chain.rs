//! The hash chain over all commits, and the digests it is made of.
//!
//! ```text
//!   key of event i  = BLAKE3 keyed with (commit's 16 random bytes, a constant) of i
//!   digest          = BLAKE3 keyed with that key of the event's body
//!   chain after     = BLAKE3 of (chain before, first position, for each event: place, digest)
//! ```
//!
//! The random bytes keep a digest from being guessed back to its event: when retention removes an
//! event they go, its digest stays, the events beside it keep their keys, and the chain still
//! verifies.

use daybook_model::Position;

/// Bytes of a digest and of a chain value.
pub const DIGEST_SIZE: usize = 32;
/// The chain value at a point of the log.
pub type ChainValue = [u8; DIGEST_SIZE];
/// The chain before the first commit.
pub const CHAIN_START: ChainValue = [0; DIGEST_SIZE];

/// Completes the 16 random bytes of a commit to a BLAKE3 key.
const KEY_CONTEXT: &[u8; 16] = b"daybook/digest/1";

/// The digest of the event that is the `index`-th of its commit.
#[must_use]
pub fn digest(commit_salt: &[u8; 16], index: u32, body: &[u8]) -> [u8; DIGEST_SIZE] {
    keyed_digest(&key(commit_salt, index), body)
}

/// The key of that digest. It tells nothing of the other events' keys.
#[must_use]
pub fn key(commit_salt: &[u8; 16], index: u32) -> [u8; DIGEST_SIZE] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(commit_salt);
    key[16..].copy_from_slice(KEY_CONTEXT);
    *blake3::keyed_hash(&key, &index.to_le_bytes()).as_bytes()
}

/// The digest of `body` under the key of its event.
#[must_use]
pub fn keyed_digest(key: &[u8; DIGEST_SIZE], body: &[u8]) -> [u8; DIGEST_SIZE] {
    *blake3::keyed_hash(key, body).as_bytes()
}

/// Builds the chain value of one commit.
pub struct Link(blake3::Hasher);

impl Link {
    /// Begins the link of the commit at `first` after `previous`.
    #[must_use]
    pub fn new(previous: &ChainValue, first: Position) -> Link {
        let mut hasher = blake3::Hasher::new();
        hasher.update(previous);
        hasher.update(&first.0.to_le_bytes());
        Link(hasher)
    }

    /// Adds the next event.
    pub fn event(&mut self, place: &[u8], digest: &[u8; DIGEST_SIZE]) {
        self.0.update(place);
        self.0.update(digest);
    }

    /// The chain value after the commit.
    #[must_use]
    pub fn finish(&self) -> ChainValue {
        *self.0.finalize().as_bytes()
    }
}
