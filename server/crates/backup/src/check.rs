//! Checks a repository: that every object that a backup names is there, and is what was written.
//! Without the key as well: encrypted objects are compared as they are stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::RepositoryError;
use crate::manifest::{Manifest, SegmentCopy};
use crate::repository::{IDENTITY_KEY, Name, Repository};

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
    for name in repository.names()? {
        let wanted = named.is_none_or(|named| name.key.starts_with(named));
        objects.insert(name.key.clone());
        let (manifest, segments) = match read(repository, &name) {
            Ok(found) => found,
            Err(error) => {
                if wanted {
                    findings.backups += 1;
                    findings.problems.push(problem(error)?);
                }
                continue;
            }
        };
        objects.extend(manifest.list.iter().map(|list| list.key.clone()));
        let all = segments.into_iter().flat_map(|copy| copy.pieces);
        objects.extend(all.map(|piece| {
            let key = piece.key.clone();
            if wanted {
                pieces.insert(key.clone(), piece);
            }
            key
        }));
        if wanted {
            findings.backups += 1;
            findings.read &= repository.can_read(&manifest);
        }
    }
    findings.unnamed = there.keys().filter(|key| !objects.contains(*key)).count();
    let total = pieces.values().map(|piece| piece.stored_size()).sum();
    for piece in pieces.values() {
        let looked = if findings.read { repository.plain(piece) } else { repository.stored(piece) };
        if let Err(error) = looked {
            findings.problems.push(problem(error)?);
        }
        findings.objects += 1;
        findings.bytes += piece.stored_size();
        progress(findings.bytes, total);
    }
    Ok(findings)
}

fn read(
    repository: &Repository,
    name: &Name,
) -> Result<(Manifest, Vec<SegmentCopy>), RepositoryError> {
    let manifest = repository.manifest(name)?;
    let segments = repository.segments(&manifest)?;
    Ok((manifest, segments))
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
