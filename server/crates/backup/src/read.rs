//! A segment in a repository, as a file that can be read at any offset.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use daybook_log::disk::{DiskError, DiskFile};
use daybook_log::segment::Segment;
use parking_lot::Mutex;

use crate::error::RepositoryError;
use crate::manifest::{Piece, SegmentCopy};
use crate::repository::Repository;

/// The piece that was read last, of all copies that are read one after the other: a piece is
/// large, and a log has many segments.
pub(crate) type Held = Arc<Mutex<Option<(String, Bytes)>>>;

/// See the module. Beyond the copy's end it has zeros, as the segment had. The piece that was read
/// last is kept: segments are read from their beginning to their end.
pub(crate) struct CopyFile {
    repository: Arc<Repository>,
    copy: SegmentCopy,
    held: Held,
}

impl CopyFile {
    pub fn new(repository: Arc<Repository>, copy: SegmentCopy, held: Held) -> CopyFile {
        CopyFile { repository, copy, held }
    }

    fn piece(&self, piece: &Piece) -> Result<Bytes, RepositoryError> {
        let mut held = self.held.lock();
        if let Some((key, bytes)) = &*held
            && *key == piece.key
        {
            return Ok(bytes.clone());
        }
        // Not two at a time: they are large.
        *held = None;
        let bytes = self.repository.plain(piece)?;
        *held = Some((piece.key.clone(), bytes.clone()));
        Ok(bytes)
    }

    fn refuse(&self, action: &'static str, source: io::Error) -> DiskError {
        let path = format!("{} of {}", self.copy.name, self.repository.location());
        DiskError { action, path, source }
    }
}

impl fmt::Debug for CopyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyFile").field("name", &self.copy.name).finish_non_exhaustive()
    }
}

impl DiskFile for CopyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), DiskError> {
        buffer.fill(0);
        let end = offset + buffer.len() as u64;
        let first = self.copy.pieces.partition_point(|piece| piece.from + piece.size <= offset);
        for piece in &self.copy.pieces[first..] {
            if piece.from >= end {
                break;
            }
            let bytes = self.piece(piece).map_err(|e| self.refuse("read", io::Error::other(e)))?;
            let from = offset.max(piece.from);
            let to = end.min(piece.from + piece.size);
            let within = |at: u64, base: u64| (at - base) as usize;
            buffer[within(from, offset)..within(to, offset)]
                .copy_from_slice(&bytes[within(from, piece.from)..within(to, piece.from)]);
        }
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> Result<(), DiskError> {
        Err(self.refuse("write to", io::ErrorKind::ReadOnlyFilesystem.into()))
    }

    fn sync(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn len(&self) -> Result<u64, DiskError> {
        Ok(self.copy.size)
    }
}

/// The segment whose copy this is.
pub(crate) fn segment(
    repository: &Arc<Repository>,
    copy: &SegmentCopy,
) -> Result<Segment, RepositoryError> {
    let file = Arc::new(CopyFile::new(repository.clone(), copy.clone(), Held::default()));
    let refused = |reason: &str| repository.damaged(&copy.name, reason);
    let header = Segment::read_header(&*file).map_err(daybook_log::OpenError::from)?;
    let header = header.map_err(|_| refused("it has no segment's header"))?;
    if !copy.is_of(&header) || header.store_id != repository.store() {
        return Err(refused("its header is another segment's"));
    }
    Ok(Segment { header, name: copy.name.clone(), file })
}
