//! What stands in sled, as bytes. The only place that knows bincode.
//!
//! ```text
//!   0       4        6        10      14               14 + len
//!   | magic | schema | len    | crc32 | payload        |        little-endian
//! ```
//!
//! The crc32 covers schema, length and payload and is checked before bincode sees a byte. bincode
//! is not evolvable (a new field makes old bytes unreadable) and its decoder trusts lengths: so the
//! schema number changes with any field, a limit bounds what it may allocate, and the
//! payload must be consumed to its end. Its configuration is `legacy`, whose bytes other crates can
//! read too.
//!
//! INVARIANT: no IO here.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::{BorrowDecode, Encode};

/// Bytes before the payload.
pub const HEADER_SIZE: usize = 14;

/// How the values of one user are wrapped: payloads of at most `SIZE_MAX` bytes. A larger length is
/// damage.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<const SIZE_MAX: usize> {
    /// The first bytes of every value.
    pub magic: [u8; 4],
    /// The layout of the payloads. Raise it with any change to them: a value with another number is
    /// not read.
    pub schema: u16,
}

/// Why bytes are not a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// There are fewer bytes than a header has.
    #[error("the value is cut short")]
    Short,
    /// They are something else.
    #[error("the value does not begin with its magic")]
    Magic,
    /// They are of another version.
    #[error("the value has layout {found}, this version knows {known}")]
    Schema {
        /// The number in the value.
        found: u16,
        /// The number that was expected.
        known: u16,
    },
    /// They are cut or too many.
    #[error("the value's length is not the one it names")]
    Length,
    /// A bit is wrong.
    #[error("the value's checksum does not match")]
    Checksum,
    /// The payload is not what its schema says.
    #[error("the value's fields do not parse")]
    Payload,
}

impl<const SIZE_MAX: usize> Envelope<SIZE_MAX> {
    const CONFIG: Configuration<LittleEndian, Fixint, Limit<SIZE_MAX>> =
        bincode::config::legacy().with_limit::<SIZE_MAX>();

    /// Encodes `value` and wraps it.
    ///
    /// # Errors
    /// [`Damage::Payload`] if it does not encode, [`Damage::Length`] if it is too large.
    pub fn seal(self, value: &impl Encode) -> Result<Vec<u8>, Damage> {
        let payload = bincode::encode_to_vec(value, Self::CONFIG).map_err(|_| Damage::Payload)?;
        self.wrap(&payload)
    }

    /// Unwraps and decodes a value. Trusts nothing: the bytes come from a disk.
    ///
    /// # Errors
    /// [`Damage`] says what is wrong with them.
    pub fn open<'a, T: BorrowDecode<'a, ()>>(self, bytes: &'a [u8]) -> Result<T, Damage> {
        let payload = self.unwrap(bytes)?;
        let (value, consumed) = bincode::borrow_decode_from_slice(payload, Self::CONFIG)
            .map_err(|_| Damage::Payload)?;
        if consumed != payload.len() {
            return Err(Damage::Payload);
        }
        Ok(value)
    }

    /// Wraps a payload of the user's own layout.
    ///
    /// # Errors
    /// [`Damage::Length`] if it is too large.
    pub fn wrap(self, payload: &[u8]) -> Result<Vec<u8>, Damage> {
        if payload.len() > SIZE_MAX {
            return Err(Damage::Length);
        }
        let len = u32::try_from(payload.len()).map_err(|_| Damage::Length)?;
        let mut bytes = Vec::with_capacity(HEADER_SIZE + payload.len());
        bytes.extend_from_slice(&self.magic);
        bytes.extend_from_slice(&self.schema.to_le_bytes());
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&checksum(self.schema, len, payload).to_le_bytes());
        bytes.extend_from_slice(payload);
        Ok(bytes)
    }

    /// The payload that was wrapped. Trusts nothing: the bytes come from a disk.
    ///
    /// # Errors
    /// [`Damage`] says what is wrong with them.
    pub fn unwrap(self, bytes: &[u8]) -> Result<&[u8], Damage> {
        let Some((header, payload)) = bytes.split_first_chunk::<HEADER_SIZE>() else {
            return Err(Damage::Short);
        };
        let [m0, m1, m2, m3, s0, s1, l0, l1, l2, l3, c0, c1, c2, c3] = *header;
        if [m0, m1, m2, m3] != self.magic {
            return Err(Damage::Magic);
        }
        let schema = u16::from_le_bytes([s0, s1]);
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        if len as usize != payload.len() || payload.len() > SIZE_MAX {
            return Err(Damage::Length);
        }
        if checksum(schema, len, payload) != u32::from_le_bytes([c0, c1, c2, c3]) {
            return Err(Damage::Checksum);
        }
        if schema != self.schema {
            return Err(Damage::Schema { found: schema, known: self.schema });
        }
        Ok(payload)
    }
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

    #[derive(Debug, PartialEq, Eq, Encode, BorrowDecode)]
    struct Record<'a> {
        name: &'a str,
        number: u64,
        data: &'a [u8],
    }

    const RECORD: Record<'static> = Record { name: "account-1", number: 7, data: b"state" };
    const ENVELOPE: Envelope<1024> = Envelope { magic: *b"test", schema: 3 };

    #[test]
    fn what_was_sealed_opens() {
        let bytes = ENVELOPE.seal(&RECORD).unwrap();
        assert_eq!(ENVELOPE.open::<Record<'_>>(&bytes), Ok(RECORD));
    }

    #[test]
    fn no_flipped_bit_is_believed() {
        let bytes = ENVELOPE.seal(&RECORD).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(ENVELOPE.open::<Record<'_>>(&flipped).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(ENVELOPE.open::<Record<'_>>(&bytes[..len]).is_err(), "cut at {len}");
        }
    }

    /// A checksum made for the bytes does not make them trusted.
    #[test]
    fn a_huge_length_or_a_tail_with_a_right_checksum_is_refused() {
        let huge = ENVELOPE.wrap(&u64::MAX.to_le_bytes()).unwrap();
        assert_eq!(ENVELOPE.open::<Record<'_>>(&huge), Err(Damage::Payload));
        let mut tailed = ENVELOPE.seal(&RECORD).unwrap().split_off(HEADER_SIZE);
        tailed.push(0);
        let tailed = ENVELOPE.wrap(&tailed).unwrap();
        assert_eq!(ENVELOPE.open::<Record<'_>>(&tailed), Err(Damage::Payload));
    }

    #[test]
    fn another_layout_is_named() {
        let bytes = Envelope::<1024> { schema: 9, ..ENVELOPE }.seal(&RECORD).unwrap();
        let damage = Damage::Schema { found: 9, known: 3 };
        assert_eq!(ENVELOPE.open::<Record<'_>>(&bytes), Err(damage));
    }

    #[test]
    fn a_payload_above_the_limit_is_neither_wrapped_nor_unwrapped() {
        assert_eq!(ENVELOPE.wrap(&[0; 1025]), Err(Damage::Length));
        let larger = Envelope::<2048> { magic: ENVELOPE.magic, schema: ENVELOPE.schema };
        let bytes = larger.wrap(&[0; 1025]).unwrap();
        assert_eq!(ENVELOPE.unwrap(&bytes), Err(Damage::Length));
    }
}
