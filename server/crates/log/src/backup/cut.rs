//! How far a backup goes into a segment: always to the end of a frame.

use daybook_model::Position;

use super::OpenError;
use crate::chain::ChainValue;
use crate::frame::{self, Header, Kind};
use crate::recovery::chain_of;
use crate::scan::{Found, Scanner};
use crate::segment::{SEGMENT_HEADER_SIZE, Segment};

/// A place in a segment between two frames; everything before it was read and is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Bytes of the segment before it.
    pub size: u64,
    /// The position of the next event.
    pub end: Position,
    /// The chain there.
    pub chain: ChainValue,
    /// Whether the segment's seal is before it: nothing follows.
    pub sealed: bool,
}

/// A commit that stands next.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    /// The position of its first event.
    pub first: Position,
    /// The position after its last.
    pub end: Position,
    /// Bytes of the segment up to its end.
    pub size: u64,
    /// Place and body of its first record.
    pub record: &'a [u8],
}

impl Cut {
    /// The place before the first frame of `segment`.
    #[must_use]
    pub fn before(segment: &Segment) -> Cut {
        let header = &segment.header;
        let (end, chain) = (header.first, header.chain);
        Cut { size: SEGMENT_HEADER_SIZE as u64, end, chain, sealed: false }
    }

    /// Goes on to the end of the last commit that begins below `below` and is `wanted`; never
    /// looks at a frame after that.
    ///
    /// # Errors
    /// [`OpenError`] if what stands there is not sound, or the segment ends before `below`.
    pub fn advance(
        &mut self,
        segment: &Segment,
        below: Position,
        wanted: &mut dyn FnMut(&Commit<'_>) -> bool,
    ) -> Result<(), OpenError> {
        let mut scanner = Scanner::at(segment, self.size);
        while self.end < below {
            let (offset, header) = self.frame(&mut scanner, segment)?;
            let mut next = self.after(offset, &header, &scanner);
            if header.kind.has_records() {
                let salt = segment.header.store_salt();
                let first = frame::records(scanner.body(), &header, salt).next();
                let Some((_, Ok(record))) = first else {
                    return Err(damaged(segment, offset, self.end, "a record is not sound"));
                };
                let (first, record) = (header.first, record.payload);
                if !wanted(&Commit { first, end: next.end, size: next.size, record }) {
                    return Ok(());
                }
                next.chain = chain_of(header.kind, scanner.body()).unwrap_or(self.chain);
            }
            *self = next;
        }
        Ok(())
    }

    /// Goes on over what follows the last commit of a segment that is not the log's last: to its
    /// seal, and past it.
    ///
    /// # Errors
    /// [`OpenError`] if anything else stands there.
    pub fn finish(&mut self, segment: &Segment) -> Result<(), OpenError> {
        let mut scanner = Scanner::at(segment, self.size);
        while !self.sealed {
            let (offset, header) = self.frame(&mut scanner, segment)?;
            if header.kind.has_records() {
                let reason = "it holds more than the next segment says";
                return Err(damaged(segment, offset, self.end, reason));
            }
            *self = self.after(offset, &header, &scanner);
        }
        Ok(())
    }

    fn frame(
        &self,
        scanner: &mut Scanner<'_>,
        segment: &Segment,
    ) -> Result<(u64, Header), OpenError> {
        match scanner.step()? {
            Found::Frame { offset, header } if header.first == self.end => Ok((offset, header)),
            Found::Frame { offset, .. } => {
                let reason = "the frame does not follow the one before";
                Err(damaged(segment, offset, self.end, reason))
            }
            Found::End { offset } => {
                let reason = "the log ends before its durable position";
                Err(damaged(segment, offset, self.end, reason))
            }
            Found::Bad { offset, reason } => Err(damaged(segment, offset, self.end, reason)),
        }
    }

    fn after(&self, offset: u64, header: &Header, scanner: &Scanner<'_>) -> Cut {
        Cut {
            size: offset + header.frame_size() as u64,
            end: Position(header.first.0 + u64::from(header.count)),
            chain: self.chain,
            sealed: header.kind == Kind::Seal && scanner.body() == self.chain,
        }
    }
}

fn damaged(segment: &Segment, offset: u64, position: Position, reason: &'static str) -> OpenError {
    OpenError::Damaged { file: segment.name.clone(), offset, position, reason }
}
