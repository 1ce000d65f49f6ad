//! How the next generation of a segment takes the place of the old one.
//!
//! ```text
//!   index     <first>-<n+1>.idx, .ids, from what was written; says what the old index says
//!   (install  <first>-<n+1>.log: now two generations have names)
//!   swap      readers find the new one
//!   remove    <first>-<n>.idx, .ids, .log
//! ```
//!
//! INVARIANT: the maintenance lock is held for a swap of pointers, never over an access to the disk:
//! the committer takes it, too, when indexes of sealed segments wait to be written.

use std::sync::Arc;

use daybook_log::planted::{self, Bug};
use daybook_log::rewrite::{Draft, Pace, RewriteError};

use super::status::ScavengeError;
use crate::core::Core;
use crate::index::sealed::{self, Sealed};
use crate::index::{Inner, Key, View, posting};
use crate::read::ReadError;

/// Bytes of id keys for each event.
const ID_SIZE: u64 = 8;

/// Writes the index of `draft`, which must say what that of `old` says.
pub(super) fn index(
    core: &Core,
    old: &Sealed,
    draft: &Draft,
    pace: &mut Pace<'_>,
) -> Result<(), ScavengeError> {
    let stopped = || ScavengeError::from(RewriteError::Stopped);
    let built = sealed::rebuild_while(&draft.segment, &core.hasher, pace)?;
    let memtable = built.ok_or_else(stopped)?;
    let same = memtable.next() == old.end && is_same(old, &memtable.inner.read(), pace)?;
    if !same && !planted::is(Bug::RemovedKeysForgotten) {
        return Err(ScavengeError::AnotherIndex { file: draft.segment.name.clone() });
    }
    // Asked before as much is written at once: the files are as large as the old ones.
    let events = old.end.0 - old.segment.header.first.0;
    if !pace(old.table.size + events * ID_SIZE) {
        return Err(stopped());
    }
    sealed::write(&core.environment.disk, &memtable)?;
    // Before the log has its name: it must never meet the index of an earlier attempt.
    Ok(core.environment.disk.sync_names()?)
}

/// Whether the postings and names in `inner` are those of the index of `old`.
fn is_same(old: &Sealed, inner: &Inner, pace: &mut Pace<'_>) -> Result<bool, ScavengeError> {
    let (mut same, mut entries, mut list) = (true, 0, Vec::new());
    let mut stopped = false;
    let read = old.table.entries(&mut |key, number, chunk| {
        if !pace(chunk.len() as u64) {
            stopped = true;
            return Err(ReadError::Closed);
        }
        if key == Key::OFFSETS {
            return Ok(());
        }
        list.clear();
        posting::decode(chunk, &mut list);
        let here =
            inner.keys.get(&key).and_then(|all| all.get(number as usize..)?.get(..list.len()));
        same &= here == Some(list.as_slice());
        entries += list.len();
        Ok(())
    });
    if stopped {
        return Err(RewriteError::Stopped.into());
    }
    read?;
    let all: usize = inner.keys.values().map(|list| list.len()).sum();
    let mut names: Vec<&str> = inner.names.iter().map(|name| &**name).collect();
    names.sort_unstable();
    let mut names = names.into_iter();
    for block in 0..old.table.name_block_count() {
        for name in old.table.name_block(block)? {
            same &= names.next() == Some(name.as_str());
        }
    }
    Ok(same && entries == all && names.next().is_none())
}

/// Lets readers find the new generation.
pub(super) fn swap(core: &Core, old: &Sealed, draft: &Draft) -> Result<(), ScavengeError> {
    let disk = &core.environment.disk;
    let (segment, end) = (draft.segment.clone(), old.end);
    let opened = if planted::is(Bug::IndexOfOldGeneration) {
        Sealed::open(&**disk, old.segment.clone(), end, core.blocks.clone())?
            .map(|sealed| Sealed { segment, ..sealed })
    } else {
        Sealed::open(&**disk, segment, end, core.blocks.clone())?
    };
    let new = Arc::new(opened.ok_or_else(|| RewriteError::Unsound {
        file: draft.segment.name.clone(),
        reason: "its index cannot be read back".to_owned(),
    })?);
    let first = new.segment.header.first;
    // Who builds the old one's index anew at this moment must not put it back.
    let one_at_a_time = core.maintenance.lock();
    core.view.rcu(|view| {
        let mut view = View::clone(view);
        for each in view.sealed.iter_mut().filter(|each| each.segment.header.first == first) {
            *each = new.clone();
        }
        view
    });
    drop(one_at_a_time);
    core.tail.forget_below(old.end);
    Ok(())
}

/// Removes the files of the old generation. Who holds it open reads on; nobody finds it any more,
/// and whoever repairs an index asks which generation is found.
pub(super) fn remove(core: &Core, old: &Sealed) -> Result<(), ScavengeError> {
    let disk = &*core.environment.disk;
    let beside = |suffix| sealed::beside(&old.segment, suffix);
    // The log last: a start that finds its index files alone would have to guess.
    for name in [beside(sealed::INDEX_SUFFIX), beside(sealed::IDS_SUFFIX), old.segment.name.clone()]
    {
        match disk.remove(&name) {
            Err(e) if !e.is_not_found() => return Err(e.into()),
            _ => {}
        }
    }
    Ok(disk.sync_names()?)
}
