//! Work in the background: index files of sealed segments, merges of the directory; the spare.
//!
//! Each function is one step, a synchronous call, so that a simulation decides when it happens.

use std::sync::Arc;
use std::time::Duration;

use daybook_log::disk::DiskError;

use crate::core::Core;
use crate::index::directory::{self, Run};
use crate::index::ids::WINDOW_MIN;
use crate::index::sealed::{self, Sealed};
use crate::index::{Memtable, View};
use crate::read::ReadError;
use crate::status::Health;

/// How long after a failure the maintenance thread tries again, and a full disk is looked at.
const RETRY: Duration = Duration::from_secs(1);
/// The longest wait before another spare is tried. It doubles from [`RETRY`] with each failure; after
/// one for want of room it does not: room comes at once.
const SPARE_RETRY_MAX: Duration = Duration::from_secs(32);
/// A disk that was full is so until there is this part more free than the next segment takes: index
/// files and scavenges move what is free up and down.
const ROOM_MARGIN_PART: u64 = 8;

/// Steps of the spare in each quiet second.
const IDLE_STEPS: usize = 16;

/// Does one piece of work, if there is any. Answers whether there may be more.
pub(crate) fn step(core: &Core) -> Result<bool, ReadError> {
    if is_full(core) && core.spares.is_ready() {
        let reserve = core.spares.reserve();
        if core.environment.disk.free_space()? >= reserve + reserve / ROOM_MARGIN_PART {
            core.end_disk_full();
        }
    }
    if repair_one(core)? {
        return Ok(true);
    }
    if core.view.load().memtables.len() > 1 {
        seal_oldest(core)?;
        return Ok(true);
    }
    merge_once(core)
}

/// Whether appends are refused for want of a segment.
fn is_full(core: &Core) -> bool {
    matches!(*core.health.lock(), Health::DiskFull { .. })
}

/// Zeroes some more of the spare while the log is quiet. Answers whether it is ready.
pub(crate) fn idle(core: &Core) -> Result<bool, DiskError> {
    for _ in 0..IDLE_STEPS {
        if core.spares.advance()? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The spare's thread: of its own, because it is the one thing that appends may wait for.
pub(crate) fn prepare_spares(core: &Core) {
    let mut closed = core.closed.subscribe();
    let mut wait = RETRY;
    while !*closed.borrow_and_update() {
        let waits_for_it = is_full(core) && !core.spares.is_ready();
        let result = if waits_for_it || core.spares.wait_behind(RETRY) {
            core.spares.advance()
        } else {
            idle(core)
        };
        match result {
            Ok(false) => {}
            Ok(true) => wait = RETRY,
            Err(e) => {
                wait = if e.is_full() { RETRY } else { wait };
                tracing::warn!(error = %e, ?wait, "cannot prepare the next segment; trying again");
                core.spares.rest(wait);
                wait = (wait * 2).min(SPARE_RETRY_MAX);
            }
        }
    }
}

/// Builds an index file anew that was found damaged, if there is one.
pub(crate) fn repair_one(core: &Core) -> Result<bool, ReadError> {
    let disk = &core.environment.disk;
    let one_at_a_time = core.maintenance.lock();
    // As of now: a generation that was replaced meanwhile must not come back.
    let view = core.view.load_full();
    if let Some(bad) = view.sealed.iter().find(|each| each.table.is_damaged()) {
        tracing::warn!(file = bad.table.name, "building a damaged index file anew");
        let memtable = sealed::rebuild(&bad.segment, &core.hasher)?;
        sealed::write(disk, &memtable)?;
        disk.sync_names()?;
        let first = bad.segment.header.first;
        let Some(sealed) =
            Sealed::open(&**disk, bad.segment.clone(), bad.end, core.blocks.clone())?
        else {
            return Ok(false);
        };
        let sealed = Arc::new(sealed);
        core.view.rcu(|view| {
            let mut view = View::clone(view);
            for each in view.sealed.iter_mut().filter(|s| s.segment.header.first == first) {
                *each = sealed.clone();
            }
            view
        });
        return Ok(true);
    }
    drop(one_at_a_time);
    if let Some(at) = view.runs.iter().position(|run| run.table.is_damaged()) {
        tracing::warn!(file = view.runs[at].table.name, "building a damaged index file anew");
        let mut runs = Vec::new();
        for each in covered(&view, &view.runs[at..=at]) {
            directory::write_first(disk, &each)?;
            let one = std::slice::from_ref(&each);
            let Some(run) = Run::open(&**disk, one, core.blocks.clone())? else {
                return Ok(false);
            };
            runs.push(Arc::new(run));
        }
        disk.sync_names()?;
        core.view.rcu(|view| {
            let mut view = View::clone(view);
            view.runs.splice(at..=at, runs.iter().cloned());
            view
        });
        return Ok(true);
    }
    Ok(false)
}

/// The maintenance thread: works when there is work, until the store is closed.
pub(crate) fn run(core: &Core) {
    while !*core.closed.borrow() {
        match step(core) {
            Ok(true) => continue,
            Ok(false) => {}
            Err(e) => tracing::warn!(error = %e, "maintenance failed; trying again"),
        }
        let mut work = core.work.0.lock();
        if !*work {
            core.work.1.wait_for(&mut work, RETRY);
        }
        *work = false;
    }
}

/// Writes the index files of the oldest sealed segment that has none, and lets go of its memtable.
pub(crate) fn seal_oldest(core: &Core) -> Result<(), ReadError> {
    let _one_at_a_time = core.maintenance.lock();
    let view = core.view.load_full();
    let [oldest, _, ..] = view.memtables.as_slice() else { return Ok(()) };
    let disk = &core.environment.disk;
    let (sealed, run) = write_index(core, oldest)?;
    disk.sync_names()?;
    let position = oldest.first();
    core.view.rcu(|view| {
        let mut view = View::clone(view);
        view.memtables.retain(|table| table.first() != position);
        view.sealed.push(sealed.clone());
        view.runs.push(run.clone());
        view
    });
    forget_ids(core)
}

/// Writes and opens the index files of one segment.
pub(crate) fn write_index(
    core: &Core,
    memtable: &Memtable,
) -> Result<(Arc<Sealed>, Arc<Run>), ReadError> {
    let disk = &core.environment.disk;
    sealed::write(disk, memtable)?;
    let end = memtable.next();
    let unreadable = || ReadError::Disk {
        reason: format!("cannot read back the index of {} just written", memtable.segment.name),
    };
    let sealed = Sealed::open(&**disk, memtable.segment.clone(), end, core.blocks.clone())?
        .ok_or_else(unreadable)?;
    let sealed = Arc::new(sealed);
    directory::write_first(disk, &sealed)?;
    let one = std::slice::from_ref(&sealed);
    let run = Run::open(&**disk, one, core.blocks.clone())?.ok_or_else(unreadable)?;
    Ok((sealed, Arc::new(run)))
}

/// Merges neighbouring runs of the directory, if there are enough of one tier.
pub(crate) fn merge_once(core: &Core) -> Result<bool, ReadError> {
    // No lock: only maintenance merges, and others only add runs behind those it sees.
    let view = core.view.load_full();
    let Some(range) = directory::next_merge(&view.runs) else { return Ok(false) };
    let disk = &core.environment.disk;
    let runs = &view.runs[range.clone()];
    let covered = covered(&view, runs);
    directory::merge(disk, runs, &covered)?;
    disk.sync_names()?;
    let merged = Run::open(&**disk, &covered, core.blocks.clone())?;
    let Some(merged) = merged.map(Arc::new) else { return Ok(false) };
    core.view.rcu(|view| {
        let mut view = View::clone(view);
        view.runs.splice(range.clone(), [merged.clone()]);
        view
    });
    for run in runs {
        disk.remove(&run.table.name)?;
    }
    Ok(true)
}

/// The sealed segments that `runs`, which are neighbours, cover.
fn covered(view: &View, runs: &[Arc<Run>]) -> Vec<Arc<Sealed>> {
    let first = runs[0].table.header.first;
    let end = runs[runs.len() - 1].table.header.end;
    let within = |s: &&Arc<Sealed>| s.segment.header.first >= first && s.end <= end;
    view.sealed.iter().filter(within).cloned().collect()
}

/// Removes files of id keys that are older than the duplicate window.
fn forget_ids(core: &Core) -> Result<(), ReadError> {
    let view = core.view.load();
    let end = view.active().first().0;
    let disk = &core.environment.disk;
    let names = disk.list()?;
    let old = |each: &&Arc<Sealed>| end.saturating_sub(each.end.0) >= WINDOW_MIN;
    for each in view.sealed.iter().take_while(old) {
        let name = sealed::beside(&each.segment, sealed::IDS_SUFFIX);
        if names.binary_search(&name).is_ok() {
            disk.remove(&name)?;
        }
    }
    Ok(())
}
