//! Checksums that know where they belong.
//!
//! Every stored CRC-32 is the plain CRC of its bytes, xored with a *mask* made from a salt and a
//! place. Bytes that were written elsewhere (a misdirected write, a stale sector, a payload that
//! imitates a frame) carry another mask and do not verify. A mask instead of a seeded CRC lets a
//! commit be summed before its place in the file is known, and placed in a few nanoseconds.

use crate::planted::{self, Bug};

/// The plain CRC-32 (IEEE) of `bytes`.
#[must_use]
pub fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// The mask of `place` under `salt`: the splitmix64 finalizer, which spreads each input bit over
/// the whole word.
#[must_use]
#[inline]
pub fn mask(salt: u64, place: u64) -> u32 {
    if planted::is(Bug::ChecksumWithoutPlace) {
        return 0;
    }
    let mut z = salt ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 32) as u32
}

/// The first eight of 16 unguessable bytes, as a salt for [`mask`].
#[must_use]
pub fn salt(bytes: &[u8; 16]) -> u64 {
    let (first, _) = bytes.split_at(8);
    u64::from_le_bytes(first.try_into().expect("eight bytes"))
}
