//! What stands in sled, as bytes: the stamp, the snapshots, and whose turn it is to go, each in an
//! [`Envelope`].
//!
//! INVARIANT: no IO here.

use bincode::{BorrowDecode, Encode};
use daybook_cache::{Damage, Envelope};

use super::limits::{KIND_SIZE_MAX, SNAPSHOT_SIZE_MAX};
use daybook_model::limits::STREAM_NAME_SIZE_MAX;

/// Bytes of the largest payload: one record with the longest name and kind, and its numbers. A
/// larger length is damage.
const PAYLOAD_SIZE_MAX: usize = SNAPSHOT_SIZE_MAX + STREAM_NAME_SIZE_MAX + KIND_SIZE_MAX + 256;

/// Around every value. The schema is the layout of [`Stamp`], [`Record`] and [`Turn`]: raise it
/// with any change to them; a sled with another number is set aside.
const ENVELOPE: Envelope<PAYLOAD_SIZE_MAX> = Envelope { magic: *b"DBsn", schema: 1 };

/// What the sled as a whole reflects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Stamp {
    /// The id of the store.
    pub(super) store_id: [u8; 16],
    /// The store's epoch.
    pub(super) epoch: u32,
    /// The end of the log when the newest snapshot was put.
    pub(super) position: u64,
    /// The next snapshot's sequence.
    pub(super) sequence: u64,
    /// Snapshots whose turn to go is noted.
    pub(super) entries: u64,
    /// Bytes of their records.
    pub(super) bytes: u64,
}

/// One snapshot.
#[derive(Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Record<'a> {
    pub(super) stream: &'a str,
    pub(super) revision: u64,
    pub(super) epoch: u32,
    /// The end of the log when it was put: at least one more than the position of its event.
    pub(super) position: u64,
    /// Its turn to go.
    pub(super) sequence: u64,
    pub(super) schema: u32,
    pub(super) kind: &'a str,
    pub(super) data: &'a [u8],
}

/// Whose turn it is to go, and how much that frees.
#[derive(Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub(super) struct Turn<'a> {
    pub(super) key: &'a [u8],
    pub(super) size: u64,
}

/// Puts `value` into an envelope.
///
/// # Errors
/// [`Damage::Payload`] if it does not encode, [`Damage::Length`] if it is too large.
pub(super) fn seal(value: &impl Encode) -> Result<Vec<u8>, Damage> {
    ENVELOPE.seal(value)
}

/// Takes a value out of its envelope. Trusts nothing: the bytes come from a disk.
///
/// # Errors
/// [`Damage`] says what is wrong with them.
pub(super) fn open<'a, T: BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Result<T, Damage> {
    ENVELOPE.open(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record<'static> {
        Record {
            stream: "account-1",
            revision: 7,
            epoch: 2,
            position: 300,
            sequence: 5,
            schema: 3,
            kind: "account",
            data: b"state",
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn bytes_are_golden() {
        let stamp = Stamp {
            store_id: [0xAB; 16],
            epoch: 2,
            position: 300,
            sequence: 6,
            entries: 1,
            bytes: 90,
        };
        let turn = Turn { key: b"\x01a\x00", size: 90 };
        assert_eq!(hex(&seal(&stamp).unwrap()), include_str!("golden/stamp.hex").trim());
        assert_eq!(hex(&seal(&record()).unwrap()), include_str!("golden/record.hex").trim());
        assert_eq!(hex(&seal(&turn).unwrap()), include_str!("golden/turn.hex").trim());
    }

    #[test]
    fn what_was_sealed_opens() {
        let bytes = seal(&record()).unwrap();
        assert_eq!(open::<Record<'_>>(&bytes), Ok(record()));
    }
}
