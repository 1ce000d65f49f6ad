//! What a backup says of itself.

use daybook_log::ChainValue;
use daybook_log::backup::{Cut, hex, unhex};
use daybook_log::segment::{FORMAT, FORMAT_REWRITTEN, SegmentHeader, parse_name};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The version of repositories and manifests that this code writes and reads.
pub const VERSION: u32 = 1;

/// Whose repository it is: the first object that is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// [`VERSION`].
    pub version: u32,
    /// The store.
    pub store: Uuid,
}

/// Who took a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Somebody who asked for it; it stays until it is pruned.
    Backup,
    /// The server's archiving; the next one takes its place.
    Archive,
}

/// One backup: the log from its beginning to `end`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// The newest format among its segments.
    pub format: u32,
    /// Who took it.
    pub kind: Kind,
    /// The store.
    pub store: Uuid,
    /// The epoch it was in.
    pub epoch: u32,
    /// How many events it holds: the position of the next one.
    pub end: u64,
    /// The chain at the end, in hexadecimal.
    pub chain: String,
    /// When it was taken, in nanoseconds since 1970.
    pub taken: i64,
    /// Bytes of all of its segments.
    pub size: u64,
    /// Whom its pieces are encrypted to; empty: they are not.
    pub recipients: Vec<String>,
    /// Where its segments but the last are listed; none if there is only one.
    pub list: Option<ListRef>,
    /// Its last segment.
    pub tail: SegmentCopy,
}

/// A list of segments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListRef {
    /// The object.
    pub key: String,
    /// Its bytes.
    pub size: u64,
    /// Their BLAKE3, in hexadecimal.
    pub blake3: String,
}

/// A segment, or its beginning, in a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentCopy {
    /// Its name, which says how often it was rewritten.
    pub name: String,
    /// Its random salt, in hexadecimal: two rewrites of one number are told apart by it.
    pub salt: String,
    /// The position of its first event.
    pub first: u64,
    /// The position after its last.
    pub end: u64,
    /// The chain after its last.
    pub chain: String,
    /// The time of its last event, in nanoseconds since 1970.
    pub until: i64,
    /// Whether it is all of a segment that another follows, seal included.
    pub sealed: bool,
    /// Bytes, to the end of a frame.
    pub size: u64,
    /// What they are made of, in order.
    pub pieces: Vec<Piece>,
}

/// Some bytes of a segment: one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// The object.
    pub key: String,
    /// Its first byte in the segment.
    pub from: u64,
    /// Its bytes.
    pub size: u64,
    /// Their CRC-32.
    pub crc32: u32,
    /// Their BLAKE3, in hexadecimal.
    pub blake3: String,
    /// The object's own, if it is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<Encrypted>,
}

/// An encrypted object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encrypted {
    /// Its bytes.
    pub size: u64,
    /// Their BLAKE3, in hexadecimal.
    pub blake3: String,
}

impl Piece {
    /// Bytes of the object.
    #[must_use]
    pub fn stored_size(&self) -> u64 {
        self.encrypted.as_ref().map_or(self.size, |encrypted| encrypted.size)
    }

    /// BLAKE3 of the object.
    #[must_use]
    pub fn stored_blake3(&self) -> &str {
        self.encrypted.as_ref().map_or(&self.blake3, |encrypted| &encrypted.blake3)
    }
}

impl SegmentCopy {
    /// Of nothing yet of the segment with this header.
    pub(crate) fn empty(header: &SegmentHeader) -> SegmentCopy {
        SegmentCopy {
            name: header.name(),
            salt: hex(&header.salt),
            first: header.first.0,
            end: header.first.0,
            chain: hex(&header.chain),
            until: i64::MIN,
            sealed: false,
            size: 0,
            pieces: Vec::new(),
        }
    }

    /// Now goes as far as `cut`.
    pub(crate) fn reaches(&mut self, cut: &Cut, until: Option<i64>) {
        self.end = cut.end.0;
        self.chain = hex(&cut.chain);
        self.sealed = cut.sealed;
        self.size = cut.size;
        self.until = until.unwrap_or(self.until);
    }

    /// Whether it is of the file that has this header.
    pub(crate) fn is_of(&self, header: &SegmentHeader) -> bool {
        self.name == header.name() && self.salt == hex(&header.salt)
    }

    /// The chain after its last event.
    pub(crate) fn chain_value(&self) -> Option<ChainValue> {
        unhex(&self.chain)
    }

    /// What is wrong with what it says, if anything is.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        let mut at = 0;
        for piece in &self.pieces {
            if piece.from != at {
                return Some("its pieces do not follow one another");
            }
            at = at.saturating_add(piece.size);
        }
        if at != self.size || self.size == 0 {
            return Some("its pieces are not all of it");
        }
        match parse_name(&self.name, daybook_log::segment::SEGMENT_SUFFIX) {
            Some((first, _)) if first.0 == self.first && self.first < self.end => None,
            _ => Some("its name is not that of a segment"),
        }
    }
}

impl Manifest {
    /// The format of segments of which one has this name.
    pub(crate) fn format_of<'a>(mut segments: impl Iterator<Item = &'a SegmentCopy>) -> u32 {
        let rewritten = |copy: &SegmentCopy| !copy.name.ends_with("-0.log");
        if segments.any(rewritten) { FORMAT_REWRITTEN } else { FORMAT }
    }
}
