//! What stands in sled, as bytes. The only place that knows bincode.
//!
//! ```text
//!   0       4        6        10      14               14 + len
//!   | magic | schema | len    | crc32 | payload        |        little-endian
//! ```
//!
//! The crc32 covers schema, length and payload and is checked before bincode sees a byte. bincode is
//! not evolvable (a new field makes old bytes unreadable) and its decoder trusts lengths: so the
//! schema number changes with any field, a limit bounds what it may allocate, and the
//! payload must be consumed to its end. Its configuration is `legacy`, whose bytes other crates can
//! read too.
//!
//! INVARIANT: no IO here.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::{BorrowDecode, Encode};

use super::limits::{KIND_SIZE_MAX, SNAPSHOT_SIZE_MAX};
use daybook_model::limits::STREAM_NAME_SIZE_MAX;

/// The first bytes of every value.
const MAGIC: [u8; 4] = *b"DBsn";
/// The layout of [`Stamp`], [`Record`] and [`Turn`]. Raise it with any change to them: a sled with
/// another number is set aside.
pub(super) const SCHEMA: u16 = 1;
/// Bytes before the payload.
const HEADER_SIZE: usize = 14;
/// Bytes of the largest payload: one record with the longest name and kind, and its numbers. A
/// larger length is damage.
const PAYLOAD_SIZE_MAX: usize = SNAPSHOT_SIZE_MAX + STREAM_NAME_SIZE_MAX + KIND_SIZE_MAX + 256;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<PAYLOAD_SIZE_MAX>> =
    bincode::config::legacy().with_limit::<PAYLOAD_SIZE_MAX>();

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

/// Why bytes are not a value of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Damage {
    #[error("the value is cut short")]
    Short,
    #[error("the value does not begin with its magic")]
    Magic,
    #[error("the value has layout {0}, this server knows {SCHEMA}")]
    Schema(u16),
    #[error("the value's length is not the one it names")]
    Length,
    #[error("the value's checksum does not match")]
    Checksum,
    #[error("the value's fields do not parse")]
    Payload,
}

/// Puts `value` into an envelope.
///
/// # Errors
/// [`Damage::Payload`] if it does not encode, [`Damage::Length`] if it is too large.
pub(super) fn seal(value: &impl Encode) -> Result<Vec<u8>, Damage> {
    let payload = bincode::encode_to_vec(value, CONFIG).map_err(|_| Damage::Payload)?;
    if payload.len() > PAYLOAD_SIZE_MAX {
        return Err(Damage::Length);
    }
    let len = u32::try_from(payload.len()).map_err(|_| Damage::Length)?;
    let mut bytes = Vec::with_capacity(HEADER_SIZE + payload.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&SCHEMA.to_le_bytes());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&checksum(SCHEMA, len, &payload).to_le_bytes());
    bytes.extend_from_slice(&payload);
    Ok(bytes)
}

/// Takes a value out of its envelope. Trusts nothing: the bytes come from a disk.
///
/// # Errors
/// [`Damage`] says what is wrong with them.
pub(super) fn open<'a, T: BorrowDecode<'a, ()>>(bytes: &'a [u8]) -> Result<T, Damage> {
    let Some((header, payload)) = bytes.split_first_chunk::<HEADER_SIZE>() else {
        return Err(Damage::Short);
    };
    let [m0, m1, m2, m3, s0, s1, l0, l1, l2, l3, c0, c1, c2, c3] = *header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(Damage::Magic);
    }
    let schema = u16::from_le_bytes([s0, s1]);
    let len = u32::from_le_bytes([l0, l1, l2, l3]);
    if len as usize != payload.len() || payload.len() > PAYLOAD_SIZE_MAX {
        return Err(Damage::Length);
    }
    if checksum(schema, len, payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(Damage::Checksum);
    }
    if schema != SCHEMA {
        return Err(Damage::Schema(schema));
    }
    let (value, consumed) =
        bincode::borrow_decode_from_slice(payload, CONFIG).map_err(|_| Damage::Payload)?;
    if consumed != payload.len() {
        return Err(Damage::Payload);
    }
    Ok(value)
}

fn checksum(schema: u16, len: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&schema.to_le_bytes());
    hasher.update(&len.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
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

    #[test]
    fn no_flipped_bit_is_believed() {
        let bytes = seal(&record()).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open::<Record<'_>>(&flipped).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(open::<Record<'_>>(&bytes[..len]).is_err(), "cut at {len}");
        }
    }

    /// A checksum made for the bytes does not make them trusted.
    #[test]
    fn a_huge_length_or_a_tail_with_a_right_checksum_is_refused() {
        let enveloped = |payload: &[u8]| {
            let len = u32::try_from(payload.len()).unwrap();
            let mut bytes = MAGIC.to_vec();
            bytes.extend_from_slice(&SCHEMA.to_le_bytes());
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(&checksum(SCHEMA, len, payload).to_le_bytes());
            bytes.extend_from_slice(payload);
            bytes
        };
        let huge = enveloped(&u64::MAX.to_le_bytes());
        assert_eq!(open::<Record<'_>>(&huge), Err(Damage::Payload));
        let mut tailed = seal(&record()).unwrap().split_off(HEADER_SIZE);
        tailed.push(0);
        assert_eq!(open::<Record<'_>>(&enveloped(&tailed)), Err(Damage::Payload));
    }

    #[test]
    fn another_layout_is_named() {
        let mut bytes = seal(&record()).unwrap();
        bytes[4..6].copy_from_slice(&9u16.to_le_bytes());
        let payload = bytes[HEADER_SIZE..].to_vec();
        let crc = checksum(9, u32::try_from(payload.len()).unwrap(), &payload);
        bytes[10..14].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(open::<Record<'_>>(&bytes), Err(Damage::Schema(9)));
    }
}
