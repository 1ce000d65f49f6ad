//! Retention: removes backups that are not to be kept, then objects that no backup names.
//!
//! Never removed: the newest backup, the archive of the newest history, the newest backup of each
//! other history for [`LEFT_STAYS`], and objects younger than a day, which a backup that is being
//! taken may be about to name.

use std::collections::BTreeSet;
use std::time::Duration;

use daybook_model::Timestamp;

use crate::error::RepositoryError;
use crate::list;
use crate::manifest::{Kind, Manifest};
use crate::repository::{LISTS, Name, Repository, SEGMENTS, TAILS};

/// How long an object stays that nobody names: longer than a backup takes.
pub const GRACE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the newest backup of a history stays that was left by a restore, whatever the rules say:
/// who finds that the wrong moment was restored must be able to go back to what came after it.
pub const LEFT_STAYS: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const DAY_NS: i64 = 24 * 60 * 60 * 1_000_000_000;

/// Which backups stay. One that any rule keeps stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// So many of the newest.
    pub last: usize,
    /// The newest of each of so many days that have one, UTC.
    pub daily: usize,
    /// The newest of each of so many weeks that have one, from Monday.
    pub weekly: usize,
    /// The newest of each of so many spans of thirty days that have one, counted from 1970.
    pub monthly: usize,
}

/// Whether anything is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: it is only said what would be.
    Show,
    /// It is.
    Remove,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Manifests that stay, oldest first.
    pub kept: Vec<String>,
    /// Manifests that go.
    pub removed: Vec<String>,
    /// Other objects that go.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Prunes `repository` at the time `now`; objects that nobody names stay for `grace`.
///
/// # Errors
/// [`RepositoryError`]; if a manifest that stays cannot be read, nothing was removed.
pub fn prune(
    repository: &Repository,
    keep: &Keep,
    (now, grace): (Timestamp, Duration),
    mode: Mode,
) -> Result<Pruned, RepositoryError> {
    let all = read_all(repository)?;
    let stays = kept(&all, keep, now);
    let mut pruned = Pruned::default();
    let mut named = BTreeSet::new();
    for (i, (name, manifest)) in all.iter().enumerate() {
        if !stays.contains(&i) {
            pruned.removed.push(name.key.clone());
            continue;
        }
        pruned.kept.push(name.key.clone());
        named.extend(manifest.list.iter().map(|list| list.key.clone()));
        let segments = repository.segments(manifest)?;
        named.extend(segments.into_iter().flat_map(|copy| copy.pieces).map(|piece| piece.key));
    }
    let old_enough = before(now, grace);
    let mut garbage = Vec::new();
    for prefix in [SEGMENTS, TAILS, LISTS] {
        for found in repository.objects().list(prefix)? {
            if !named.contains(&found.key) && found.modified.0 <= old_enough {
                pruned.objects += 1;
                pruned.bytes += found.size;
                garbage.push(found.key);
            }
        }
    }
    if mode == Mode::Remove {
        // Manifests first: what is left, if this breaks off, is objects that nobody names.
        for key in pruned.removed.iter().chain(&garbage) {
            repository.objects().remove(key)?;
        }
    }
    Ok(pruned)
}

/// Nanoseconds since 1970 at the time that is `span` before `now`.
fn before(now: Timestamp, span: Duration) -> i64 {
    now.0.saturating_sub(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX))
}

/// All manifests, by time: what each names must be known before anything is removed.
fn read_all(repository: &Repository) -> Result<Vec<(Name, Manifest)>, RepositoryError> {
    list::all(repository)?.into_iter().map(|(name, found)| Ok((name, found?))).collect()
}

/// The indices of those in `all` (by time, oldest first) that stay.
fn kept(all: &[(Name, Manifest)], keep: &Keep, now: Timestamp) -> BTreeSet<usize> {
    let mut stays = BTreeSet::new();
    let names: Vec<Name> = all.iter().map(|(name, _)| name.clone()).collect();
    let Some(newest) = Name::newest(&names) else { return stays };
    stays.extend(names.iter().position(|name| name == newest));
    // Of an archive the last manifest counts; of the present one all that are there.
    let mut counted = Vec::new();
    for (i, (name, manifest)) in all.iter().enumerate() {
        match name.kind() {
            Kind::Backup => counted.push((i, manifest.taken)),
            Kind::Archive if manifest.epoch == newest.epoch => {
                stays.insert(i);
            }
            Kind::Archive => {
                let later = |(name, other): &(Name, Manifest)| {
                    name.kind() == Kind::Archive && other.epoch == manifest.epoch
                };
                if !all[i + 1..].iter().any(later) {
                    counted.push((i, manifest.taken));
                }
            }
        }
    }
    counted.reverse();
    let left_lately = before(now, LEFT_STAYS);
    let mut histories = BTreeSet::new();
    for (i, taken) in &counted {
        if histories.insert(all[*i].1.epoch) && *taken > left_lately {
            stays.insert(*i);
        }
    }
    stays.extend(counted.iter().take(keep.last.max(1)).map(|(i, _)| *i));
    // 1970-01-01 was a Thursday.
    let week = |taken: i64| (taken.div_euclid(DAY_NS) + 3).div_euclid(7);
    let spans: [(usize, &dyn Fn(i64) -> i64); 3] = [
        (keep.daily, &|taken| taken.div_euclid(DAY_NS)),
        (keep.weekly, &week),
        (keep.monthly, &|taken| taken.div_euclid(30 * DAY_NS)),
    ];
    for (count, span) in spans {
        let mut seen = BTreeSet::new();
        for (i, taken) in &counted {
            if seen.len() < count && seen.insert(span(*taken)) {
                stays.insert(*i);
            }
        }
    }
    stays
}
