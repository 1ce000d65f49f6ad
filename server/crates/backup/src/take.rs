//! Takes a backup: copies what the repository does not have, then writes the manifest.

use bytes::BytesMut;
use daybook_log::OpenError;
use daybook_log::backup::Extent;
use daybook_model::{Position, Timestamp};

use crate::copy::{Copier, Known, Moved};
use crate::error::RepositoryError;
use crate::manifest::{Kind, Manifest, SegmentCopy, VERSION};
use crate::repository::{Name, Repository};

/// A backup that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its name.
    pub name: Name,
    /// What it holds.
    pub manifest: Manifest,
    /// Its segments.
    pub segments: usize,
    /// What that took.
    pub moved: Moved,
}

/// Takes a backup of `extent`, which was not asked for before `now`. `progress` is told the bytes
/// that are in the repository, and of all.
///
/// # Errors
/// [`RepositoryError`]; there is no new backup then, and none of the old ones is harmed.
pub fn take(
    repository: &Repository,
    extent: &Extent,
    now: Timestamp,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Taken, RepositoryError> {
    let epoch = extent.epoch().0;
    let filled = extent.filled();
    let (last, sealed) = filled.split_last().ok_or_else(no_log)?;
    // Segments have zeros at their end, which are not copied: all is done when they are.
    let total: u64 = filled.iter().map(|segment| segment.header.size).sum();
    let mut done = 0;
    let mut copier = Copier {
        repository,
        known: Known::of(repository)?,
        moved: Moved::default(),
        spare: BytesMut::new(),
        progress: &mut |bytes| {
            done += bytes;
            progress(done, total);
        },
    };
    let mut segments = Vec::with_capacity(filled.len());
    for (segment, next) in sealed.iter().zip(&filled[1..]) {
        segments.push(copier.sealed(segment, next.header.first, &next.header.chain)?);
    }
    let list = repository.put_list(&segments, epoch)?;
    let tail = copier.tail(last, extent.committed)?;
    let moved = copier.moved;
    segments.push(tail.clone());
    let before = repository.names()?.iter().map(|name| name.taken).max();
    let manifest = Manifest {
        version: VERSION,
        format: Manifest::format_of(segments.iter()),
        kind: Kind::Backup,
        store: repository.store(),
        epoch,
        end: tail.end,
        chain: tail.chain.clone(),
        // Whatever the clocks do, a backup is not said to be older than what was there before it.
        taken: before.map_or(now.0, |taken| now.0.max(taken.saturating_add(1))),
        size: segments.iter().map(|copy| copy.size).sum(),
        recipients: repository.recipients(),
        list,
        tail,
    };
    // Somebody may have pruned what this backup builds upon while it was taken.
    repository.all_there(&segments)?;
    let name = repository.put_manifest(&manifest)?;
    if let Err(error) = repository.manifest(&name).and_then(|_| repository.all_there(&segments)) {
        // It names what is not there: it must not be found.
        let _ = repository.objects().remove(&name.key);
        return Err(error);
    }
    Ok(Taken { name, manifest, segments: segments.len(), moved })
}

pub(crate) fn no_log() -> RepositoryError {
    RepositoryError::Log(OpenError::Damaged {
        file: "the log".to_owned(),
        offset: 0,
        position: Position::FIRST,
        reason: "it has no segment",
    })
}

/// Bytes of `segments` in a repository.
#[must_use]
pub fn size(segments: &[SegmentCopy]) -> u64 {
    segments.iter().flat_map(|copy| &copy.pieces).map(super::Piece::stored_size).sum()
}
