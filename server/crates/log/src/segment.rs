//! Segment files: names, header, sizes.
//!
//! ```text
//!   0 magic 8 | 8 format u32 | 12 key id u32 | 16 store id 16 | 32 epoch u32 | 36 generation u32
//!   | 40 first position u64 | 48 previous segment's first position u64 | 56 size u64
//!   | 64 salt 16 | 80 chain value before the first commit 32 | 112 zeros 12 | 124 crc32
//! ```
//!
//! 128 bytes, then frames, then zeros up to `size`. A file has its name only after its header and
//! its zeros are durable. A segment that retention has rewritten has a higher generation, format 2,
//! and no zeros.

use std::sync::Arc;

use daybook_model::{Epoch, Position};
use uuid::Uuid;

use crate::chain::ChainValue;
use crate::checksum;
use crate::disk::{DiskError, DiskFile};

/// The version of the format of segments as they are first written.
pub const FORMAT: u32 = 1;
/// The version of the format of rewritten segments, which have thinned commits, and the newest that
/// this code reads.
pub const FORMAT_REWRITTEN: u32 = 2;
/// Bytes of a segment's header.
pub const SEGMENT_HEADER_SIZE: usize = 128;
/// How the name of a segment ends.
pub const SEGMENT_SUFFIX: &str = ".log";

const MAGIC: &[u8; 8] = b"DAYBOOK\n";

/// What a segment's first bytes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The store it belongs to.
    pub store_id: Uuid,
    /// The epoch that wrote all of its events.
    pub epoch: Epoch,
    /// How often retention has rewritten it.
    pub generation: u32,
    /// The position of its first event.
    pub first: Position,
    /// The first position of the segment before it.
    pub previous: Option<Position>,
    /// Bytes of the whole file.
    pub size: u64,
    /// 16 unguessable bytes, for [`crate::checksum`].
    pub salt: [u8; 16],
    /// The chain before its first commit.
    pub chain: ChainValue,
}

/// Why bytes are not the header of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadHeader {
    /// They are not of a Daybook segment.
    Foreign,
    /// They are of a format this code does not know.
    UnknownFormat(u32),
    /// They are encrypted with a key; this code knows none.
    Encrypted(u32),
    /// They are damaged.
    Damaged,
}

impl SegmentHeader {
    /// The segment's file name.
    #[must_use]
    pub fn name(&self) -> String {
        segment_name(self.first, self.generation)
    }

    /// The version of its format.
    #[must_use]
    pub fn format(&self) -> u32 {
        if self.generation == 0 { FORMAT } else { FORMAT_REWRITTEN }
    }

    /// The salt of its frames' checksums.
    #[must_use]
    pub fn frame_salt(&self) -> u64 {
        checksum::salt(&self.salt)
    }

    /// The salt of its records' checksums: the same in all of the store's segments.
    #[must_use]
    pub fn store_salt(&self) -> u64 {
        checksum::salt(self.store_id.as_bytes())
    }

    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_SIZE] {
        let mut bytes = [0; SEGMENT_HEADER_SIZE];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&self.format().to_le_bytes());
        bytes[16..32].copy_from_slice(self.store_id.as_bytes());
        bytes[32..36].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.generation.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first.0.to_le_bytes());
        let previous = self.previous.map_or(u64::MAX, |position| position.0);
        bytes[48..56].copy_from_slice(&previous.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.size.to_le_bytes());
        bytes[64..80].copy_from_slice(&self.salt);
        bytes[80..112].copy_from_slice(&self.chain);
        let sum = checksum::crc(&bytes[..124]);
        bytes[124..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`BadHeader`] says why it is none.
    pub fn decode(bytes: &[u8; SEGMENT_HEADER_SIZE]) -> Result<SegmentHeader, BadHeader> {
        if &bytes[..8] != MAGIC {
            return Err(BadHeader::Foreign);
        }
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
        if !(FORMAT..=FORMAT_REWRITTEN).contains(&u32_at(8)) {
            return Err(BadHeader::UnknownFormat(u32_at(8)));
        }
        if u32_at(124) != checksum::crc(&bytes[..124]) {
            return Err(BadHeader::Damaged);
        }
        if u32_at(12) != 0 {
            return Err(BadHeader::Encrypted(u32_at(12)));
        }
        let previous = u64_at(48);
        let header = SegmentHeader {
            store_id: Uuid::from_slice(&bytes[16..32]).expect("sixteen bytes"),
            epoch: Epoch(u32_at(32)),
            generation: u32_at(36),
            first: Position(u64_at(40)),
            previous: (previous != u64::MAX).then_some(Position(previous)),
            size: u64_at(56),
            salt: bytes[64..80].try_into().expect("sixteen bytes"),
            chain: bytes[80..112].try_into().expect("a chain value's size"),
        };
        if header.format() == u32_at(8) { Ok(header) } else { Err(BadHeader::Damaged) }
    }
}

/// One segment of the log, open for reading (and, if it is the active one, written by the journal).
#[derive(Debug)]
pub struct Segment {
    /// Its header.
    pub header: SegmentHeader,
    /// Its file's name.
    pub name: String,
    /// Its file.
    pub file: Arc<dyn DiskFile>,
}

impl Segment {
    /// Opens the header of `file`.
    ///
    /// # Errors
    /// The disk's error, or why the header is none.
    pub fn read_header(file: &dyn DiskFile) -> Result<Result<SegmentHeader, BadHeader>, DiskError> {
        let mut bytes = [0; SEGMENT_HEADER_SIZE];
        let size = file.len()?;
        if size >= SEGMENT_HEADER_SIZE as u64 {
            file.read_at(&mut bytes, 0)?;
            return Ok(SegmentHeader::decode(&bytes));
        }
        // Too short for a header; its beginning says whether it was one.
        let beginning = &mut bytes[..MAGIC.len().min(size as usize)];
        file.read_at(beginning, 0)?;
        Ok(Err(if beginning == MAGIC { BadHeader::Damaged } else { BadHeader::Foreign }))
    }
}

/// The name of the segment that begins at `first`, after so many rewrites.
#[must_use]
pub fn segment_name(first: Position, generation: u32) -> String {
    format!("{:020}-{generation}{SEGMENT_SUFFIX}", first.0)
}

/// What a file name says about a file `<first position>-<generation><suffix>`.
#[must_use]
pub fn parse_name(name: &str, suffix: &str) -> Option<(Position, u32)> {
    let (first, generation) = name.strip_suffix(suffix)?.split_once('-')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if first.len() != 20 || !digits(first) || !digits(generation) {
        return None;
    }
    Some((Position(first.parse().ok()?), generation.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            store_id: Uuid::from_u128(1),
            epoch: Epoch(2),
            generation: 0,
            first: Position(77),
            previous: Some(Position(0)),
            size: 4096,
            salt: [3; 16],
            chain: [4; 32],
        }
    }

    #[test]
    fn a_header_survives_its_encoding() {
        for generation in [0, 1, 7] {
            let header = SegmentHeader { generation, ..header() };
            assert_eq!(SegmentHeader::decode(&header.encode()), Ok(header));
        }
    }

    #[test]
    fn a_header_of_another_kind_is_named() {
        let sound = header().encode();
        let with = |at: usize, byte: u8| {
            let mut bytes = sound;
            bytes[at] = byte;
            SegmentHeader::decode(&bytes)
        };
        assert_eq!(with(0, b'X'), Err(BadHeader::Foreign));
        assert_eq!(with(8, 9), Err(BadHeader::UnknownFormat(9)));
        assert_eq!(with(50, 9), Err(BadHeader::Damaged));
    }

    #[test]
    fn names_are_parsed_strictly() {
        assert_eq!(parse_name(&header().name(), ".log"), Some((Position(77), 0)));
        for name in ["77-0.log", "00000000000000000077.log", "00000000000000000077-x.log", "a.log"]
        {
            assert_eq!(parse_name(name, ".log"), None, "{name}");
        }
    }
}
