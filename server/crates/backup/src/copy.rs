//! Copies segments of a store into a repository, in pieces.

use std::collections::BTreeMap;

use bytes::BytesMut;
use daybook_log::backup::{Commit, Cut};
use daybook_log::segment::Segment;
use daybook_log::{ChainValue, OpenError};
use daybook_model::{Position, Timestamp};

use crate::error::RepositoryError;
use crate::manifest::{Kind, Manifest, Piece, SegmentCopy};
use crate::repository::{Name, Repository, SEGMENTS};

/// Bytes of a piece, unless one frame is larger. Small enough to be held in memory twice and sent
/// again if a line breaks; large enough that a store of a terabyte has tens of thousands of them.
#[cfg(not(test))]
pub(crate) const PIECE_SIZE: u64 = 32 * 1024 * 1024;
/// So that segments of tests have several.
#[cfg(test)]
pub(crate) const PIECE_SIZE: u64 = 4096;

/// What the repository has already.
#[derive(Default)]
pub(crate) struct Known {
    segments: BTreeMap<String, SegmentCopy>,
    pieces: BTreeMap<(String, u64, String), Piece>,
}

impl Known {
    /// What the last backup and the last archive name, if whom they are encrypted to is the same
    /// as now.
    pub fn of(repository: &Repository) -> Result<Known, RepositoryError> {
        let names = repository.names()?;
        let mut known = Known::default();
        for kind in [Kind::Archive, Kind::Backup] {
            let wanted = |name: &&Name| name.kind() == kind;
            let Some(name) = names.iter().rev().find(wanted) else { continue };
            // One that is damaged saves no work, and is no reason not to take another.
            let read = repository
                .manifest(name)
                .and_then(|found| repository.segments(&found).map(|segments| (found, segments)));
            match read {
                Ok((manifest, segments)) => known.add(repository, &manifest, segments),
                Err(
                    error @ (RepositoryError::Damaged { .. } | RepositoryError::Missing { .. }),
                ) => {
                    tracing::warn!(%error, "an earlier backup cannot be built upon");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(known)
    }

    fn add(&mut self, repository: &Repository, manifest: &Manifest, segments: Vec<SegmentCopy>) {
        if manifest.recipients != repository.recipients() {
            return;
        }
        for copy in segments {
            // What archiving has of a last segment it may remove by itself.
            for piece in copy.pieces.iter().filter(|piece| piece.key.starts_with(SEGMENTS)) {
                let key = (copy.name.clone(), piece.from, piece.blake3.clone());
                self.pieces.insert(key, piece.clone());
            }
            if copy.sealed {
                self.segments.insert(copy.name.clone(), copy);
            }
        }
    }

    /// Forgets what is made of pieces that are not `there`.
    pub fn retain(&mut self, there: &mut dyn FnMut(&[Piece]) -> bool) {
        self.segments.retain(|_, copy| there(&copy.pieces));
        self.pieces.retain(|_, piece| there(std::slice::from_ref(piece)));
    }

    fn piece(&self, segment: &str, from: u64, plain: &[u8]) -> Option<&Piece> {
        if self.pieces.is_empty() {
            return None;
        }
        let hash = blake3::hash(plain).to_hex().to_string();
        self.pieces.get(&(segment.to_owned(), from, hash))
    }
}

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Objects that were written.
    pub objects: u64,
    /// Bytes of segments in them.
    pub bytes: u64,
    /// Bytes of segments that were there already.
    pub reused: u64,
}

/// Copies, and counts.
pub(crate) struct Copier<'a> {
    pub repository: &'a Repository,
    pub known: Known,
    pub moved: Moved,
    /// The memory of the last piece, for the next one: that the system clears pages for each anew is
    /// a third of the work.
    pub spare: BytesMut,
    /// Told of the bytes that are in the repository now, as they come to be.
    pub progress: &'a mut dyn FnMut(u64),
}

impl Copier<'_> {
    /// A segment that another follows, which begins at `end` with `chain`.
    pub fn sealed(
        &mut self,
        segment: &Segment,
        end: Position,
        chain: &ChainValue,
    ) -> Result<SegmentCopy, RepositoryError> {
        if let Some(copy) = self.known.segments.get(&segment.name)
            && copy.is_of(&segment.header)
            && copy.end == end.0
            && copy.chain_value().as_ref() == Some(chain)
        {
            self.moved.reused += copy.size;
            (self.progress)(copy.size);
            return Ok(copy.clone());
        }
        let (copy, cut) = self.pieces(segment, end, End::Seal)?;
        if cut.end != end || cut.chain != *chain {
            return Err(RepositoryError::Log(OpenError::Damaged {
                file: segment.name.clone(),
                offset: cut.size,
                position: cut.end,
                reason: "it does not end where the next segment begins",
            }));
        }
        Ok(copy)
    }

    /// The last segment, up to `committed`.
    pub fn tail(
        &mut self,
        segment: &Segment,
        committed: Position,
    ) -> Result<SegmentCopy, RepositoryError> {
        Ok(self.pieces(segment, committed, End::Commit)?.0)
    }

    fn pieces(
        &mut self,
        segment: &Segment,
        below: Position,
        end: End,
    ) -> Result<(SegmentCopy, Cut), RepositoryError> {
        let mut copy = SegmentCopy::empty(&segment.header);
        let mut cut = Cut::before(segment);
        while cut.end < below {
            let from = copy.size;
            let until = advance(&mut cut, segment, below, from)?;
            if cut.end >= below && end == End::Seal {
                cut.finish(segment)?;
            }
            let plain = read(segment, (from, cut.size), std::mem::take(&mut self.spare))?;
            let piece = match self.known.piece(&segment.name, from, &plain) {
                Some(piece) => {
                    // It was read all the same.
                    self.repository.spend(piece.size);
                    self.spare = plain;
                    self.moved.reused += piece.size;
                    piece.clone()
                }
                None => self.put(SEGMENTS, &segment.name, from, plain)?,
            };
            (self.progress)(piece.size);
            copy.pieces.push(piece);
            copy.reaches(&cut, until);
        }
        Ok((copy, cut))
    }

    /// Writes an object.
    pub fn put(
        &mut self,
        prefix: &str,
        segment: &str,
        from: u64,
        plain: BytesMut,
    ) -> Result<Piece, RepositoryError> {
        let plain = plain.freeze();
        let piece = self.repository.put_piece(prefix, segment, from, plain.clone())?;
        self.spare = plain.try_into_mut().unwrap_or_default();
        self.moved.objects += 1;
        self.moved.bytes += piece.size;
        Ok(piece)
    }
}

/// Where a copy ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// After the segment's seal.
    Seal,
    /// After the last commit.
    Commit,
}

/// Goes on to the end of the piece that begins at `from`. Answers with the time of its last event.
pub(crate) fn advance(
    cut: &mut Cut,
    segment: &Segment,
    below: Position,
    from: u64,
) -> Result<Option<i64>, RepositoryError> {
    let mut until = None;
    cut.advance(segment, below, &mut |commit| {
        let fits = commit.size - from <= PIECE_SIZE || until.is_none();
        if fits {
            until = time(commit).map(|time| time.0).or(until).or(Some(i64::MIN));
        }
        fits
    })?;
    Ok(until)
}

/// When a commit was made: its records' places begin with that.
pub(crate) fn time(commit: &Commit<'_>) -> Option<Timestamp> {
    commit.record.first_chunk().map(|bytes| Timestamp(i64::from_le_bytes(*bytes)))
}

/// The bytes `from..to` of a segment, in `memory`.
pub(crate) fn read(
    segment: &Segment,
    (from, to): (u64, u64),
    mut memory: BytesMut,
) -> Result<BytesMut, RepositoryError> {
    memory.resize(usize::try_from(to - from).expect("a piece fits into memory"), 0);
    segment.file.read_at(&mut memory, from).map_err(OpenError::from)?;
    Ok(memory)
}
