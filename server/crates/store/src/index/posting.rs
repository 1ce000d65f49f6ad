//! Ascending lists of numbers as bytes: the first, then the distances, each a varint.

use crate::record::{put_varint, take_varint};

/// Entries of one chunk of a list: a reader decodes at most so many that it does not want.
pub(crate) const CHUNK_LEN: usize = 256;

/// Appends `list`, ascending, to `out`.
pub(crate) fn encode(out: &mut Vec<u8>, list: &[u32]) {
    let mut before = 0;
    for &entry in list {
        put_varint(out, u64::from(entry - before));
        before = entry;
    }
}

/// The list in `bytes`; none if they are not one.
pub(crate) fn decode(mut bytes: &[u8], out: &mut Vec<u32>) -> Option<()> {
    let mut before = 0u32;
    while !bytes.is_empty() {
        before = before.checked_add(u32::try_from(take_varint(&mut bytes)?).ok()?)?;
        out.push(before);
    }
    Some(())
}
