//! Continuous archiving: what was appended since the last round goes to the repository, so that
//! no more than an interval is ever lost with the machine.
//!
//! ```text
//!   a round    sealed segments that have no copy ─> what the last segment has grown by ─> manifest
//!              ─> one segment that a scavenge rewrote, to be named by the next round
//! ```
//!
//! The last segment is kept in pieces that grow: the eighth of a size takes in the seven before it,
//! so that there are few (seven of each size, and sixty-odd of the largest) and no byte is written
//! again more often than pieces grow eightfold: once where a megabyte is appended in a round, four
//! times where it is a few kilobytes. When the segment is sealed it is copied as backups copy it,
//! and its small pieces go.
//!
//! A manifest of an archive replaces the one before: two are kept. Pieces that no manifest names
//! any more stay for a day, for whoever is restoring just now.
//!
//! INVARIANTS
//! - State in memory never claims more than is in the repository: what others wrote, or wrote long
//!   ago, is looked for before it is named. A round that fails is made up for by the next.
//! - No piece is removed that a manifest names which is still there.

mod resume;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::BytesMut;
use daybook_log::backup::{Cut, Extent, hex};
use daybook_log::segment::Segment;
use daybook_model::{Position, Timestamp};

use crate::copy::{Copier, Known, Moved, PIECE_SIZE, advance, read};
use crate::error::RepositoryError;
use crate::manifest::{Kind, ListRef, Manifest, Piece, SegmentCopy, VERSION};
use crate::repository::{Name, Repository, TAILS};
use crate::take::no_log;

/// Manifests of an archive that are kept.
const MANIFESTS_KEPT: usize = 2;
/// How long pieces stay that no manifest names any more, in nanoseconds: a day.
const REPLACED_KEPT_NS: i64 = 24 * 60 * 60 * 1_000_000_000;
/// Pieces of about one size that become one.
const FAN: u64 = 8;
/// Objects removed in one round, so that none takes long.
const REMOVED_MAX: usize = 64;

/// What a round did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Everything below this position is in the archive.
    pub end: Position,
    /// What was copied.
    pub moved: Moved,
    /// Whether another round has work that waits for it: a segment that was rewritten.
    pub more: bool,
}

/// The archive of one store, in one epoch.
pub struct Archive {
    repository: Repository,
    epoch: u32,
    /// What the repository had before the first round: what backups brought there need not be
    /// brought again.
    known: Known,
    /// By first position.
    sealed: BTreeMap<u64, SegmentCopy>,
    /// Where `sealed` is listed; none if it has changed since.
    list: Option<ListRef>,
    tail: Option<Tail>,
    /// Whether the last manifest does not say all that is here.
    unsaid: bool,
    /// Whether the last round went well, so that what it brought is there and named.
    named: bool,
    /// No manifest is said to be older than what was there before it, whatever the clock does.
    after: i64,
    /// Whether there may be a manifest whose answer was lost.
    doubted: bool,
    /// Manifests that are there, oldest first.
    said: VecDeque<Said>,
    /// Pieces that the next manifest will not name.
    replaced: Vec<String>,
    /// Pieces that no manifest names, and since when.
    unnamed: VecDeque<(Timestamp, String)>,
}

/// A manifest, and the pieces of its last segment.
struct Said {
    name: Name,
    keys: Vec<String>,
}

/// The last segment.
struct Tail {
    copy: SegmentCopy,
    cut: Cut,
}

impl Archive {
    /// Takes up the archive in `repository` of the store that holds `extent`, or begins one.
    ///
    /// # Errors
    /// [`RepositoryError::Diverged`] if what is archived is not what the store has.
    pub fn open(repository: Repository, extent: &Extent) -> Result<Archive, RepositoryError> {
        let epoch = extent.epoch().0;
        let known = Known::of(&repository)?;
        let mut archive = Archive {
            repository,
            epoch,
            known,
            sealed: BTreeMap::new(),
            list: None,
            tail: None,
            unsaid: true,
            named: false,
            after: i64::MIN,
            doubted: false,
            said: VecDeque::new(),
            replaced: Vec::new(),
            unnamed: VecDeque::new(),
        };
        archive.take_up(extent)?;
        Ok(archive)
    }

    /// Its repository.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Brings everything in `extent` to the repository. It was not before `now` that the extent
    /// was asked for.
    ///
    /// # Errors
    /// [`RepositoryError`]; what was brought counts for the next round.
    pub fn round(&mut self, extent: &Extent, now: Timestamp) -> Result<Round, RepositoryError> {
        let filled = extent.filled();
        let (last, sealed) = filled.split_last().ok_or_else(no_log)?;
        let named = std::mem::replace(&mut self.named, false);
        let mut moved = Moved::default();
        // What is no segment of this log's is nothing that a manifest may list.
        let before = self.sealed.len();
        let place = |first: &u64| sealed.binary_search_by_key(first, |each| each.header.first.0);
        self.sealed.retain(|first, _| place(first).is_ok());
        if self.sealed.len() < before {
            (self.list, self.unsaid) = (None, true);
        }
        for (segment, next) in sealed.iter().zip(&filled[1..]) {
            let copy = self.sealed.get(&segment.header.first.0);
            if !copy.is_some_and(|copy| holds(copy, next)) {
                self.bring(segment, next, &mut moved)?;
            }
        }
        self.grow(last, extent.committed, &mut moved)?;
        if self.unsaid {
            if !named {
                self.look()?;
                // It ages from here on: others may remove what only it names.
                self.known = Known::default();
            }
            self.say(now)?;
        }
        self.remove_old(now);
        // A rewritten one has the same events but those that nobody may read any more.
        let mut rewritten = sealed.iter().zip(&filled[1..]).filter(|(segment, _)| {
            !self
                .sealed
                .get(&segment.header.first.0)
                .is_some_and(|copy| copy.is_of(&segment.header))
        });
        let (next, more) = (rewritten.next(), rewritten.next().is_some());
        let more = if let Some((segment, next)) = next {
            self.bring(segment, next, &mut moved)?;
            true
        } else {
            more
        };
        self.named = true;
        Ok(Round { end: extent.committed, moved, more })
    }

    /// Copies a sealed segment.
    fn bring(
        &mut self,
        segment: &Segment,
        next: &Segment,
        moved: &mut Moved,
    ) -> Result<(), RepositoryError> {
        let known = std::mem::take(&mut self.known);
        let mut copier = Copier {
            repository: &self.repository,
            known,
            moved: *moved,
            spare: BytesMut::new(),
            progress: &mut |_| {},
        };
        let copied = copier.sealed(segment, next.header.first, &next.header.chain);
        (self.known, *moved) = (copier.known, copier.moved);
        let copy = copied?;
        self.sealed.insert(copy.first, copy);
        (self.list, self.unsaid) = (None, true);
        Ok(())
    }

    /// Copies what the last segment has more than its copy.
    fn grow(
        &mut self,
        segment: &Segment,
        committed: Position,
        moved: &mut Moved,
    ) -> Result<(), RepositoryError> {
        let prefix = self.prefix();
        let kept = self.tail.take();
        let mut tail = match kept {
            Some(tail) if tail.copy.is_of(&segment.header) => tail,
            other => {
                self.replaced.extend(other.iter().flat_map(|tail| keys(&tail.copy)));
                self.unsaid = true;
                Tail { copy: SegmentCopy::empty(&segment.header), cut: Cut::before(segment) }
            }
        };
        let mut grown = Ok(());
        while tail.cut.end < committed && grown.is_ok() {
            grown = self.grow_by_one(&mut tail, segment, (committed, &prefix), moved);
        }
        self.tail = Some(tail);
        grown
    }

    /// Adds one piece to `tail`, which takes in those before it that are small.
    fn grow_by_one(
        &mut self,
        tail: &mut Tail,
        segment: &Segment,
        (below, prefix): (Position, &str),
        moved: &mut Moved,
    ) -> Result<(), RepositoryError> {
        let mut cut = tail.cut;
        let until = advance(&mut cut, segment, below, tail.copy.size)?;
        let (from, kept) = fold(&tail.copy, cut.size);
        let plain = read(segment, (from, cut.size), BytesMut::new())?;
        // What is taken in was sound when it was first read; it must be so still.
        for piece in &tail.copy.pieces[kept..] {
            let at = (piece.from - from) as usize;
            let again = &plain[at..at + piece.size as usize];
            if crc32fast::hash(again) != piece.crc32 {
                return Err(
                    self.diverged(format!("{} has changed where it was read", segment.name))
                );
            }
        }
        let piece = self.repository.put_piece(prefix, &segment.name, from, plain.freeze())?;
        moved.objects += 1;
        moved.bytes += piece.size;
        // The same bytes have the same name: it may be one that was given up before.
        self.replaced.retain(|key| *key != piece.key);
        self.unnamed.retain(|(_, key)| *key != piece.key);
        self.replaced.extend(tail.copy.pieces.drain(kept..).map(|piece| piece.key));
        tail.copy.pieces.push(piece);
        tail.copy.reaches(&cut, until);
        tail.cut = cut;
        self.unsaid = true;
        Ok(())
    }

    /// Writes a manifest of all that is here.
    fn say(&mut self, now: Timestamp) -> Result<(), RepositoryError> {
        if self.doubted {
            self.find_said()?;
        }
        let tail = self.tail.as_ref().ok_or_else(no_log)?.copy.clone();
        if self.list.is_none() {
            let sealed: Vec<SegmentCopy> = self.sealed.values().cloned().collect();
            self.list = self.repository.put_list(&sealed, self.epoch)?;
        }
        let all = || self.sealed.values().chain([&tail]);
        let manifest = Manifest {
            version: VERSION,
            format: Manifest::format_of(all()),
            kind: Kind::Archive,
            store: self.repository.store(),
            epoch: self.epoch,
            end: tail.end,
            chain: tail.chain.clone(),
            taken: now.0.max(self.after),
            size: all().map(|copy| copy.size).sum(),
            recipients: self.repository.recipients(),
            list: self.list.clone(),
            tail,
        };
        self.doubted = true;
        let name = self.repository.put_manifest(&manifest)?;
        self.doubted = false;
        self.after = name.taken.saturating_add(1);
        self.said.retain(|said| said.name != name);
        self.said.push_back(Said { name, keys: keys(&manifest.tail).collect() });
        self.unnamed.extend(self.replaced.drain(..).map(|key| (now, key)));
        self.unsaid = false;
        Ok(())
    }

    /// Removes manifests that were replaced, then pieces that nobody has named for a day. A piece
    /// that cannot be removed stays: it harms nobody, and `prune` takes it.
    fn remove_old(&mut self, now: Timestamp) {
        for _ in 0..REMOVED_MAX {
            if self.said.len() <= MANIFESTS_KEPT {
                break;
            }
            let Some(old) = self.said.pop_front() else { break };
            if let Err(error) = self.repository.objects().remove(&old.name.key) {
                tracing::warn!(%error, "a manifest of the archive that was replaced stays");
                self.said.push_front(old);
                break;
            }
        }
        if self.said.len() > MANIFESTS_KEPT {
            // What is left of them names pieces.
            return;
        }
        let is_due =
            |(since, _): &&(Timestamp, String)| now.0.saturating_sub(since.0) >= REPLACED_KEPT_NS;
        let due = self.unnamed.iter().take(REMOVED_MAX).take_while(is_due).count();
        if due == 0 {
            return;
        }
        let copies = self.sealed.values().chain(self.tail.iter().map(|tail| &tail.copy));
        let used: BTreeSet<String> = copies.flat_map(keys).collect();
        let due: Vec<(Timestamp, String)> = self.unnamed.drain(..due).collect();
        for (_, key) in due {
            if self.said.iter().any(|said| said.keys.contains(&key)) {
                self.unnamed.push_back((now, key));
            } else if !used.contains(&key)
                && let Err(error) = self.repository.objects().remove(&key)
            {
                tracing::debug!(%error, "an object of the archive stays, of no use");
            }
        }
    }

    fn prefix(&self) -> String {
        format!("{TAILS}/{:010}", self.epoch)
    }

    fn diverged(&self, reason: String) -> RepositoryError {
        RepositoryError::Diverged { location: self.repository.location().to_owned(), reason }
    }
}

/// Where the piece begins that ends at `end`, and how many of the pieces before it stay.
fn fold(copy: &SegmentCopy, end: u64) -> (u64, usize) {
    let (mut from, mut kept) = (copy.size, copy.pieces.len());
    loop {
        let depth = depth(end - from);
        let before = &copy.pieces[..kept];
        let small = before.iter().rev().take_while(|piece| depth_of(piece) >= depth);
        let fitting = small.take_while(|piece| end - piece.from <= PIECE_SIZE).count();
        if depth == 0 || fitting + 1 < FAN as usize {
            return (from, kept);
        }
        kept -= fitting;
        from = before[kept].from;
    }
}

/// How often a piece of so many bytes can grow by [`FAN`] and is no larger than pieces are.
fn depth(size: u64) -> u32 {
    let grown = std::iter::successors(size.max(1).checked_mul(FAN), |size| size.checked_mul(FAN));
    grown.take_while(|size| *size <= PIECE_SIZE).map(|_| 1).sum()
}

fn depth_of(piece: &Piece) -> u32 {
    depth(piece.size)
}

/// Whether `copy` has all events up to where `next` begins.
fn holds(copy: &SegmentCopy, next: &Segment) -> bool {
    copy.end == next.header.first.0 && copy.chain == hex(&next.header.chain)
}

fn keys(copy: &SegmentCopy) -> impl Iterator<Item = String> + '_ {
    copy.pieces.iter().map(|piece: &Piece| piece.key.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_of_a_size_become_one_and_the_largest_stay_as_they_are() {
        let piece = |from, size| Piece {
            key: String::new(),
            from,
            size,
            crc32: 0,
            blake3: String::new(),
            encrypted: None,
        };
        for (sizes, new, kept) in [
            (vec![], 8, 0),
            (vec![8; 6], 8, 6),
            (vec![8; 7], 8, 0),
            ([vec![64], vec![8; 7]].concat(), 8, 1),
            ([vec![64; 7], vec![8; 7]].concat(), 8, 0),
            // A large one takes in what is smaller, when there is enough of it.
            (vec![8; 7], 100, 0),
            (vec![8; 3], 100, 3),
            // These are large already.
            (vec![PIECE_SIZE / 8 + 1; 20], PIECE_SIZE / 8 + 1, 20),
            (vec![PIECE_SIZE; 7], 8, 7),
        ] {
            let mut copy = SegmentCopy {
                name: String::new(),
                salt: String::new(),
                first: 0,
                end: 0,
                chain: String::new(),
                until: 0,
                sealed: false,
                size: 0,
                pieces: Vec::new(),
            };
            for size in &sizes {
                copy.pieces.push(piece(copy.size, *size));
                copy.size += size;
            }
            let (from, found) = fold(&copy, copy.size + new);
            assert_eq!(found, kept, "{sizes:?} and {new}");
            let begins = copy.pieces.get(found).map_or(copy.size, |piece| piece.from);
            assert_eq!(from, begins, "{sizes:?} and {new}");
        }
    }
}
