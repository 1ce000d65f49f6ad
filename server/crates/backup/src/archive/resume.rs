//! Where an archive goes on: what is in the repository, held against the store that is archived.
//!
//! INVARIANT: a store whose history is not the one that was archived is refused before anything is
//! written or removed, however far it goes.

use daybook_log::backup::{Cut, Extent, hex};
use daybook_model::{Position, Timestamp};

use super::{Archive, MANIFESTS_KEPT, Said, Tail, holds, keys};
use crate::error::RepositoryError;
use crate::manifest::{Kind, Manifest, Piece, SegmentCopy};
use crate::repository::Name;
use crate::take::no_log;

impl Archive {
    /// Finds what is archived already.
    pub(super) fn take_up(&mut self, extent: &Extent) -> Result<(), RepositoryError> {
        let mut names = self.repository.names()?;
        let last = names.iter().map(|name| name.taken).max();
        self.after = last.map_or(i64::MIN, |taken| taken.saturating_add(1));
        names.retain(|name| name.kind() == Kind::Archive && name.epoch == self.epoch);
        let since = names.last().map_or(i64::MIN, |newest| newest.taken);
        for (i, name) in names.iter().enumerate() {
            // Older ones go before anything does that they name.
            let kept = i + MANIFESTS_KEPT >= names.len();
            let newest = (i + 1 == names.len()).then_some(extent);
            let keys = if kept { self.recall(name, newest)? } else { Vec::new() };
            self.said.push_back(Said { name: name.clone(), keys });
        }
        let named = self.said.back().map_or(&[][..], |said| &said.keys);
        let mut unnamed = Vec::new();
        for found in self.repository.objects().list(&self.prefix())? {
            if !named.contains(&found.key) {
                // It may be that it was named until then.
                unnamed.push((found.modified.max(Timestamp(since)), found.key));
            }
        }
        unnamed.sort_unstable();
        self.unnamed = unnamed.into();
        match self.look() {
            Err(error @ (RepositoryError::Damaged { .. } | RepositoryError::Missing { .. })) => {
                tracing::warn!(%error, "what the archive lacks is brought again");
                Ok(())
            }
            looked => looked,
        }
    }

    /// The pieces of the last segment that a manifest names. Goes on from it if it is the newest,
    /// of a store that now holds `extent`.
    fn recall(
        &mut self,
        name: &Name,
        extent: Option<&Extent>,
    ) -> Result<Vec<String>, RepositoryError> {
        let found = self.repository.manifest(name).and_then(|manifest| {
            let segments = extent.map(|_| self.repository.segments(&manifest)).transpose()?;
            Ok((manifest, segments))
        });
        match found {
            Ok((manifest, segments)) => {
                if let Some((segments, extent)) = segments.zip(extent) {
                    self.go_on_from(&manifest, segments, extent)?;
                }
                Ok(keys(&manifest.tail).collect())
            }
            Err(error @ (RepositoryError::Damaged { .. } | RepositoryError::Missing { .. })) => {
                tracing::warn!(%error, "a manifest of the archive is of no use");
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes over what `manifest` says, after holding it against the store.
    fn go_on_from(
        &mut self,
        manifest: &Manifest,
        mut segments: Vec<SegmentCopy>,
        extent: &Extent,
    ) -> Result<(), RepositoryError> {
        if manifest.end > extent.committed.0 {
            let (archived, committed) = (manifest.end, extent.committed);
            let reason = format!("it goes to position {archived}, the store to {committed}");
            return Err(self.diverged(reason));
        }
        let tail = segments.pop().ok_or_else(no_log)?;
        let filled = extent.filled();
        let find = |copy: &SegmentCopy| {
            let at = filled.partition_point(|segment| segment.header.first.0 < copy.first);
            let segment = filled.get(at).filter(|found| found.header.first.0 == copy.first)?;
            Some((segment, filled.get(at + 1)))
        };
        let other = |copy: &SegmentCopy| {
            let SegmentCopy { name, end, .. } = copy;
            self.diverged(format!("{name} has other events before position {end}"))
        };
        for copy in &segments {
            if !matches!(find(copy), Some((_, Some(next))) if holds(copy, next)) {
                return Err(other(copy));
            }
        }
        // A scavenge that rewrote the segment has kept where it begins, its positions and chain.
        let (segment, next) = find(&tail).ok_or_else(|| other(&tail))?;
        if next.is_some_and(|next| next.header.first.0 < tail.end) {
            return Err(other(&tail));
        }
        let mut cut = Cut::before(segment);
        cut.advance(segment, Position(tail.end), &mut |_| true)?;
        let goes_on = tail.is_of(&segment.header);
        let same = cut.end.0 == tail.end && hex(&cut.chain) == tail.chain;
        if !same || goes_on && cut.size != tail.size {
            return Err(other(&tail));
        }
        if manifest.recipients != self.repository.recipients() {
            self.replaced.extend(keys(&tail));
            return Ok(());
        }
        self.sealed = segments.into_iter().map(|copy| (copy.first, copy)).collect();
        self.list = manifest.list.clone();
        if goes_on {
            self.tail = Some(Tail { copy: tail, cut });
        } else {
            self.replaced.extend(keys(&tail));
        }
        Ok(())
    }

    /// Forgets copies that are not all there: somebody may have pruned what they are made of.
    pub(super) fn look(&mut self) -> Result<(), RepositoryError> {
        let there = self.repository.pieces_there()?;
        let mut lacking = None;
        let whole = |pieces: &[Piece], lacking: &mut Option<RepositoryError>| {
            let lacks = self.repository.lacks(pieces, &there);
            let whole = lacks.is_none();
            *lacking = lacking.take().or(lacks);
            whole
        };
        let before = self.sealed.len();
        self.sealed.retain(|_, copy| whole(&copy.pieces, &mut lacking));
        if self.sealed.len() < before {
            self.list = None;
        }
        if let Some(tail) = self.tail.take_if(|tail| !whole(&tail.copy.pieces, &mut lacking)) {
            self.replaced.extend(keys(&tail.copy));
        }
        self.known.retain(&mut |pieces| whole(pieces, &mut lacking));
        lacking.map_or(Ok(()), Err)
    }

    /// Finds manifests that were written although nobody answered so.
    pub(super) fn find_said(&mut self) -> Result<(), RepositoryError> {
        let mut names = self.repository.names()?;
        names.retain(|name| name.kind() == Kind::Archive && name.epoch == self.epoch);
        for name in names {
            if self.said.iter().all(|said| said.name != name) {
                let keys = self.recall(&name, None)?;
                self.after = self.after.max(name.taken.saturating_add(1));
                self.said.push_back(Said { name, keys });
            }
        }
        Ok(())
    }
}
