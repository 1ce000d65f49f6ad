//! Leaves appends the room that they may need next.

use daybook_log::rewrite::{Plan, RewriteError};

use super::status::ScavengeError;
use crate::core::Core;
use crate::index::sealed::Sealed;
use crate::status::Health;

/// Bytes an index file of a rewritten segment may take beside its log, for each of its events: what
/// it takes if every event is of a stream of its own.
const INDEX_EVENT_SIZE: u64 = 64;
/// Bytes of its file of id keys for each event.
const ID_SIZE: u64 = 8;
/// Bytes read or written after which the free space is asked for again: as much as is written at
/// once. That costs nothing beside the write.
const ASKED_EVERY: u64 = 1024 * 1024;

/// Whether both generations have room beside what appends may need next.
pub(super) fn is_there(core: &Core, old: &Sealed, plan: &Plan) -> Result<bool, ScavengeError> {
    let events = old.end.0 - old.segment.header.first.0;
    let index = old.table.size.min(events * INDEX_EVENT_SIZE);
    let needed = plan.size_after + index + events * ID_SIZE;
    Ok(core.environment.disk.free_space()? >= needed + reserve(core))
}

/// Bytes that are not a scavenge's. A disk that refuses appends already can only gain.
fn reserve(core: &Core) -> u64 {
    match *core.health.lock() {
        Health::DiskFull { .. } => 0,
        _ => core.spares.wanted() + core.spares.reserve(),
    }
}

/// Asks again while a generation is written: minutes pass, and others write, too.
pub(super) struct Watch<'a> {
    core: &'a Core,
    since: u64,
    is_gone: bool,
}

impl<'a> Watch<'a> {
    pub fn new(core: &'a Core) -> Watch<'a> {
        Watch { core, since: ASKED_EVERY, is_gone: false }
    }

    /// Whether there still is room, now that `bytes` more were written.
    pub fn goes_on(&mut self, bytes: u64) -> bool {
        self.since += bytes;
        if self.since >= ASKED_EVERY {
            self.since = 0;
            // A disk that cannot say is not written to.
            let free = self.core.environment.disk.free_space();
            self.is_gone = !free.is_ok_and(|free| free >= reserve(self.core));
        }
        !self.is_gone
    }

    /// Why it ended with `error`: who stops for want of room was stopped by nobody.
    pub fn explain(&self, error: ScavengeError) -> ScavengeError {
        match error {
            ScavengeError::Rewrite(RewriteError::Stopped) if self.is_gone => ScavengeError::NoRoom,
            other => other,
        }
    }
}
