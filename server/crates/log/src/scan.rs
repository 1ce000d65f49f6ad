//! Walks the frames of one segment from its beginning, and says where and how they end.

use crate::checksum::{crc, mask};
use crate::disk::DiskError;
use crate::frame::{self, BadRecord, HEADER_SIZE, Header, TRAILER_SIZE};
use crate::planted::{self, Bug};
use crate::segment::{SEGMENT_HEADER_SIZE, Segment};
use daybook_model::Position;

/// Bytes read at once. Large enough to run at the disk's speed.
const READ_SIZE: usize = 1024 * 1024;

/// What stands at a place of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A sound frame; its body is [`Scanner::body`] until the next step.
    Frame {
        /// Its first byte in the segment.
        offset: u64,
        /// Its header.
        header: Header,
    },
    /// Nothing but zeros from here on: the log ends.
    End {
        /// The first of them.
        offset: u64,
    },
    /// Neither: torn, or damaged.
    Bad {
        /// Its first byte.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Walks the frames of one segment.
pub struct Scanner<'a> {
    segment: &'a Segment,
    salt: u64,
    offset: u64,
    window: Vec<u8>,
    window_start: u64,
    body: std::ops::Range<usize>,
}

impl<'a> Scanner<'a> {
    /// A scanner before the segment's first frame.
    #[must_use]
    pub fn new(segment: &'a Segment) -> Scanner<'a> {
        Scanner::at(segment, SEGMENT_HEADER_SIZE as u64)
    }

    /// A scanner before the frame that begins at `start`.
    #[must_use]
    pub fn at(segment: &'a Segment, start: u64) -> Scanner<'a> {
        let salt = segment.header.frame_salt();
        Scanner {
            segment,
            salt,
            offset: start,
            window: Vec::new(),
            window_start: start,
            body: 0..0,
        }
    }

    /// What stands next.
    ///
    /// # Errors
    /// The disk's error.
    pub fn step(&mut self) -> Result<Found, DiskError> {
        let offset = self.offset;
        let left = self.segment.header.size.saturating_sub(offset);
        if left < HEADER_SIZE as u64 {
            return self.end_or_bad(offset, "the segment ends inside a frame's header");
        }
        let salt = self.salt;
        let bytes = self.bytes(offset, HEADER_SIZE)?;
        let header: &[u8; HEADER_SIZE] = bytes.first_chunk().expect("as many as asked for");
        let Some(header) = Header::decode(header, salt, offset) else {
            return self.end_or_bad(offset, "the bytes are not a frame's header");
        };
        if header.frame_size() as u64 > left {
            return Ok(Found::Bad { offset, reason: "the frame is longer than its segment" });
        }
        if self.sound_body(offset, &header)? {
            self.offset = offset + header.frame_size() as u64;
            return Ok(Found::Frame { offset, header });
        }
        Ok(Found::Bad { offset, reason: "the frame's body does not match its checksum" })
    }

    /// The body of the frame that was found last.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.window[self.body.clone()]
    }

    /// Calls `visit` for each record of the commit that was found last.
    ///
    /// # Errors
    /// The record that is not sound, although its frame is.
    pub fn records(
        &self,
        offset: u64,
        header: &Header,
        visit: &mut dyn FnMut(Position, u64, &frame::Record<'_>),
    ) -> Result<(), (u64, BadRecord)> {
        let store_salt = self.segment.header.store_salt();
        let records = frame::records(self.body(), header, store_salt);
        for (position, (at, found)) in (header.first.0..).map(Position).zip(records) {
            let place = offset + (HEADER_SIZE + at) as u64;
            visit(position, place, &found.map_err(|bad| (place, bad))?);
        }
        Ok(())
    }

    /// Whether a sound frame that lies beyond `offset` says that `position` was durable.
    ///
    /// # Errors
    /// The disk's error.
    pub fn proves_durable(&mut self, offset: u64, position: Position) -> Result<bool, DiskError> {
        let salt = self.salt;
        let mut at = offset + frame::ALIGNMENT as u64;
        while at + HEADER_SIZE as u64 <= self.segment.header.size {
            let bytes = self.bytes(at, HEADER_SIZE)?;
            let header: &[u8; HEADER_SIZE] = bytes.first_chunk().expect("as many as asked for");
            if let Some(header) = Header::decode(header, salt, at)
                && header.durable > position
                && at + header.frame_size() as u64 <= self.segment.header.size
                && self.sound_body(at, &header)?
            {
                return Ok(true);
            }
            at += frame::ALIGNMENT as u64;
        }
        Ok(false)
    }

    /// The offset after the last byte from `offset` on that is not zero; `offset` if all are.
    ///
    /// # Errors
    /// The disk's error.
    pub fn last_nonzero(&mut self, offset: u64) -> Result<u64, DiskError> {
        let mut end = offset;
        let mut at = offset;
        while at < self.segment.header.size {
            let size = READ_SIZE.min((self.segment.header.size - at) as usize);
            let bytes = self.bytes(at, size)?;
            if let Some(last) = last_nonzero(&bytes[..size]) {
                end = at + last as u64 + 1;
            }
            at += size as u64;
        }
        Ok(end)
    }

    fn end_or_bad(&mut self, offset: u64, reason: &'static str) -> Result<Found, DiskError> {
        let end = self.last_nonzero(offset)?;
        Ok(if end == offset { Found::End { offset } } else { Found::Bad { offset, reason } })
    }

    fn sound_body(&mut self, offset: u64, header: &Header) -> Result<bool, DiskError> {
        let len = header.len as usize;
        let salt = self.salt;
        let bytes = self.bytes(offset + HEADER_SIZE as u64, len + TRAILER_SIZE)?;
        let (body, rest) = bytes.split_at(len);
        let sum = u32::from_le_bytes(rest[..TRAILER_SIZE].try_into().expect("four bytes"));
        let sound = sum == crc(body) ^ mask(salt, offset + HEADER_SIZE as u64)
            || planted::is(Bug::BodyChecksumIgnored);
        let start = (offset + HEADER_SIZE as u64 - self.window_start) as usize;
        self.body = start..start + len;
        Ok(sound)
    }

    /// At least `size` bytes from `offset` on, which lie within the segment.
    fn bytes(&mut self, offset: u64, size: usize) -> Result<&[u8], DiskError> {
        let have = self.window_start + self.window.len() as u64;
        if offset < self.window_start || offset + size as u64 > have {
            let left = (self.segment.header.size - offset) as usize;
            self.window.resize(size.max(READ_SIZE).min(left), 0);
            self.window_start = offset;
            self.segment.file.read_at(&mut self.window, offset)?;
        }
        let start = (offset - self.window_start) as usize;
        Ok(&self.window[start..])
    }
}

/// The index of the last byte that is not zero.
fn last_nonzero(bytes: &[u8]) -> Option<usize> {
    // Whole words first: zeros are what most of a young segment consists of.
    let zero_words = bytes.rchunks_exact(64).take_while(|c| c.iter().all(|b| *b == 0)).count();
    bytes[..bytes.len() - zero_words * 64].iter().rposition(|b| *b != 0)
}
