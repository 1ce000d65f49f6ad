//! Checks a repository: that every object that a backup names is there, and is what was written.
//! Without the key as well: encrypted objects are compared as they are stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::RepositoryError;
use crate::list;
use crate::manifest::{Manifest, Piece, SegmentCopy};
use crate::repository::{IDENTITY_KEY, Name, Repository};

/// Names of objects without a use that are told: enough to see where they come from.
pub const UNNAMED_SHOWN_MAX: usize = 20;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Backups that were looked at.
    pub backups: usize,
    /// Objects that they are made of.
    pub objects: usize,
    /// Bytes of those.
    pub bytes: u64,
    /// What is wrong, in words that name the object.
    pub problems: Vec<String>,
    /// Objects that none of all backups names: left by a backup that broke off, or of use to one
    /// that was pruned. No harm; `prune` removes them.
    pub unnamed: usize,
    /// The first [`UNNAMED_SHOWN_MAX`] of them.
    pub unnamed_keys: Vec<String>,
    /// Whether encrypted objects could be read, and not only compared.
    pub read: bool,
}

/// Checks the backups whose names begin with `named`, or all. `progress` is told the bytes read,
/// and of all.
///
/// # Errors
/// [`RepositoryError`] if the place cannot be asked. What is wrong with objects is in the answer.
pub fn check(
    repository: &Arc<Repository>,
    named: Option<&str>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Findings, RepositoryError> {
    let mut there: BTreeMap<String, u64> = BTreeMap::new();
    for prefix in ["segments", "tails", "lists", "backups", "archive"] {
        let listed = repository.objects().list(prefix)?;
        there.extend(listed.into_iter().map(|each| (each.key, each.size)));
    }
    let mut findings = Findings { read: true, ..Findings::default() };
    let mut objects: BTreeSet<String> = BTreeSet::from([IDENTITY_KEY.to_owned()]);
    let mut pieces = BTreeMap::new();
    for (name, found) in list::all(repository)? {
        let wanted = named.is_none_or(|named| name.key.starts_with(named));
        objects.insert(name.key.clone());
        let found = found.and_then(|manifest| Ok((repository.segments(&manifest)?, manifest)));
        if let Ok((segments, manifest)) = &found {
            objects.extend(manifest.list.iter().map(|list| list.key.clone()));
            let all = segments.iter().flat_map(|copy| &copy.pieces);
            objects.extend(all.map(|piece| piece.key.clone()));
        }
        if wanted {
            findings.take(repository, found, &mut pieces)?;
        }
    }
    let unnamed = there.keys().filter(|key| !objects.contains(*key));
    findings.unnamed = unnamed.clone().count();
    findings.unnamed_keys = unnamed.take(UNNAMED_SHOWN_MAX).cloned().collect();
    findings.look_at(repository, &pieces, progress)?;
    Ok(findings)
}

/// Checks the newest backup of those whose names begin with `named`, or of all, and nothing else;
/// objects without a name are not looked for. `progress` as in [`check`].
///
/// # Errors
/// [`RepositoryError::NoSuchBackup`] if there is none; [`RepositoryError`] if the place cannot be
/// asked.
pub fn check_one(
    repository: &Repository,
    named: Option<&str>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Name, Findings), RepositoryError> {
    let (name, found) = list::chosen(repository, || list::find(repository, named))?;
    let found = found.and_then(|manifest| Ok((repository.segments(&manifest)?, manifest)));
    let mut findings = Findings { read: true, ..Findings::default() };
    let mut pieces = BTreeMap::new();
    findings.take(repository, found, &mut pieces)?;
    findings.look_at(repository, &pieces, progress)?;
    Ok((name, findings))
}

/// What a backup says, and its segments.
type Found = Result<(Vec<SegmentCopy>, Manifest), RepositoryError>;

impl Findings {
    /// What was compared, in words.
    #[must_use]
    pub fn checked(&self) -> &'static str {
        if self.read {
            "that every object is there, and that its bytes are those that were written (size, \
             BLAKE3)"
        } else {
            "that every object is there, and that its bytes, encrypted as they are stored, are \
             those that were written (size, BLAKE3)"
        }
    }

    /// What was not, and what does it.
    #[must_use]
    pub fn not_checked(&self) -> &'static str {
        if self.read {
            "the log in them, event by event: a restore to an empty directory does that"
        } else {
            "that a key opens them: daybook backup verify --identity FILE does that; the log in \
             them, event by event: a restore to an empty directory does that"
        }
    }

    /// Takes in a backup; its pieces, which several may share, are still to be looked at.
    fn take(
        &mut self,
        repository: &Repository,
        found: Found,
        pieces: &mut BTreeMap<String, Piece>,
    ) -> Result<(), RepositoryError> {
        self.backups += 1;
        match found {
            Ok((segments, manifest)) => {
                self.read &= repository.can_read(&manifest);
                let all = segments.into_iter().flat_map(|copy| copy.pieces);
                pieces.extend(all.map(|piece| (piece.key.clone(), piece)));
            }
            Err(error) => self.problems.push(problem(error)?),
        }
        Ok(())
    }

    /// Reads every piece and compares it with what was written.
    fn look_at(
        &mut self,
        repository: &Repository,
        pieces: &BTreeMap<String, Piece>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), RepositoryError> {
        let total = pieces.values().map(Piece::stored_size).sum();
        progress(0, total);
        // From the last one: tails come first, which archiving removes a day after they were named.
        for piece in pieces.values().rev() {
            let looked = if self.read { repository.plain(piece) } else { repository.stored(piece) };
            if let Err(error) = looked {
                self.problems.push(problem(error)?);
            }
            self.objects += 1;
            self.bytes += piece.stored_size();
            progress(self.bytes, total);
        }
        Ok(())
    }
}

/// What is wrong with an object; an error that is not an object's is passed on.
fn problem(error: RepositoryError) -> Result<String, RepositoryError> {
    match error {
        RepositoryError::Damaged { .. }
        | RepositoryError::Missing { .. }
        | RepositoryError::Locked { .. }
        | RepositoryError::Version { .. } => Ok(error.to_string()),
        other => Err(other),
    }
}
