//! What backups there are, page by page, the newest first; and one of them, by its name.

use std::collections::BTreeMap;

use crate::error::RepositoryError;
use crate::manifest::{Kind, Manifest};
use crate::repository::{Name, Repository};

/// Times that a manifest is looked for which is replaced while it is.
const ATTEMPTS: u32 = 3;

/// A backup, and what its manifest says.
type Found = (Name, Result<Manifest, RepositoryError>);

/// Some of the backups in a repository.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Those whose manifest can be read, the newest first.
    pub backups: Vec<(Name, Manifest)>,
    /// What is wrong with the other manifests, in words that name the object.
    pub problems: Vec<String>,
    /// The last one that was looked at, if there are older ones: the next page begins after it.
    pub next: Option<Name>,
}

/// The backups in `repository` that are older than `after`, at most `limit` of them. What is
/// replaced or removed while they are read is left out.
///
/// # Errors
/// [`RepositoryError`] if the place cannot be asked. What is wrong with a manifest is in the
/// answer.
pub fn page(
    repository: &Repository,
    after: Option<&Name>,
    limit: usize,
) -> Result<Page, RepositoryError> {
    let names = repository.names()?;
    let mut older = names.iter().rev().filter(|name| after.is_none_or(|after| *name < after));
    let mut page = Page::default();
    let mut last = None;
    for name in older.by_ref().take(limit) {
        match repository.manifest(name) {
            Ok(manifest) => page.backups.push((name.clone(), manifest)),
            Err(RepositoryError::Missing { .. }) => {}
            Err(error @ (RepositoryError::Damaged { .. } | RepositoryError::Version { .. })) => {
                page.problems.push(error.to_string());
            }
            Err(error) => return Err(error),
        }
        last = Some(name);
    }
    page.next = last.filter(|_| older.next().is_some()).cloned();
    Ok(page)
}

/// The newest backup of those whose name begins with `named`, or of all.
///
/// # Errors
/// [`RepositoryError::NoSuchBackup`] if there is none.
pub fn find(repository: &Repository, named: Option<&str>) -> Result<Name, RepositoryError> {
    named_so(repository, named).map(|(_, newest)| newest)
}

/// Those whose name begins with `named`, or all, by time; and the newest of them.
///
/// # Errors
/// [`RepositoryError::NoSuchBackup`] if there is none.
pub(crate) fn named_so(
    repository: &Repository,
    named: Option<&str>,
) -> Result<(Vec<Name>, Name), RepositoryError> {
    let mut names = repository.names()?;
    names.retain(|name| named.is_none_or(|named| name.key.starts_with(named)));
    let Some(newest) = Name::newest(&names).cloned() else {
        let missing = || "there is none".to_owned();
        let reason = named.map_or_else(missing, |named| format!("none is named {named}"));
        let location = repository.location().to_owned();
        return Err(RepositoryError::NoSuchBackup { location, reason });
    };
    Ok((names, newest))
}

/// All backups, by time, and what each says. The server that archives may replace its own while
/// they are read: what it has instead is among them then.
///
/// # Errors
/// If they cannot be listed.
pub(crate) fn all(repository: &Repository) -> Result<Vec<Found>, RepositoryError> {
    let mut read: BTreeMap<Name, Result<Manifest, RepositoryError>> = BTreeMap::new();
    let mut attempt = 1;
    'listed: loop {
        let names = repository.names()?;
        read.retain(|name, _| names.contains(name));
        for name in names {
            if read.contains_key(&name) {
                continue;
            }
            let found = repository.manifest(&name);
            if was_replaced(&name, &found) && attempt < ATTEMPTS {
                attempt += 1;
                continue 'listed;
            }
            read.insert(name, found);
        }
        return Ok(read.into_iter().collect());
    }
}

/// The backup that `choose` names, and what it says; chosen again if archiving has put another in
/// its place meanwhile.
///
/// # Errors
/// Those of `choose`.
pub(crate) fn chosen(
    repository: &Repository,
    mut choose: impl FnMut() -> Result<Name, RepositoryError>,
) -> Result<Found, RepositoryError> {
    let mut attempt = 1;
    loop {
        let name = choose()?;
        let found = repository.manifest(&name);
        if !was_replaced(&name, &found) || attempt == ATTEMPTS {
            return Ok((name, found));
        }
        attempt += 1;
    }
}

/// Whether archiving has put another manifest in this one's place.
fn was_replaced(name: &Name, found: &Result<Manifest, RepositoryError>) -> bool {
    name.kind() == Kind::Archive && matches!(found, Err(RepositoryError::Missing { .. }))
}
