//! The spare segment: zeroed and synced ahead of its use, so that a sync of the active segment
//! never has metadata to write.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::disk::{Disk, DiskError, DiskFile};
use crate::planted::{self, Bug};

/// The spare's file name until it is used.
pub const SPARE_NAME: &str = "next.tmp";
/// Bytes of zeros written at once.
const ZEROS_SIZE: usize = 1024 * 1024;
/// Bytes after which the spare is synced while it is being zeroed: a single large flush would
/// stand in the way of the active segment's.
const SYNC_INTERVAL: u64 = 8 * 1024 * 1024;

/// A prepared file of zeros.
#[derive(Debug)]
pub(crate) struct Spare {
    pub file: Arc<dyn DiskFile>,
    pub size: u64,
}

/// Keeps one spare ready. Shared by the journal, which takes it, and whoever prepares it in the
/// background.
#[derive(Debug)]
pub struct Spares {
    disk: Arc<dyn Disk>,
    state: Mutex<State>,
    /// Held while the spare is being prepared: there is one file for it.
    preparing: Mutex<()>,
}

#[derive(Debug)]
struct State {
    ready: Option<Spare>,
    wanted_size: u64,
    /// Bytes that must be free beside the spare when it is used: the size of the one after it.
    reserve: u64,
}

impl Spares {
    pub(crate) fn new(disk: Arc<dyn Disk>, wanted_size: u64, reserve: u64) -> Spares {
        let state = Mutex::new(State { ready: None, wanted_size, reserve });
        Spares { disk, state, preparing: Mutex::new(()) }
    }

    /// Prepares the spare if it is missing. Takes as long as writing a segment.
    ///
    /// # Errors
    /// The disk's error; no spare is left then. May be tried again: nobody relies on this file.
    pub fn prepare(&self) -> Result<(), DiskError> {
        let _one_at_a_time = self.preparing.lock();
        let wanted_size = {
            let state = self.state.lock();
            if state.ready.is_some() {
                return Ok(());
            }
            state.wanted_size
        };
        let spare = prepare(&self.disk, wanted_size)?;
        self.state.lock().ready = Some(spare);
        Ok(())
    }

    /// Whether a spare is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state.lock().ready.is_some()
    }

    /// Claims the spare's file name: while the claim is held nobody else prepares a spare. Waits
    /// for the one that is being prepared.
    pub(crate) fn claim(&self) -> Claim<'_> {
        Claim { spares: self, _one_at_a_time: self.preparing.lock() }
    }

    pub(crate) fn want(&self, size: u64, reserve: u64) {
        let mut state = self.state.lock();
        state.wanted_size = size;
        state.reserve = reserve;
    }

    /// Bytes that must be free when the next segment is begun.
    #[must_use]
    pub fn reserve(&self) -> u64 {
        self.state.lock().reserve
    }

    /// Bytes of the next spare.
    #[must_use]
    pub fn wanted(&self) -> u64 {
        self.state.lock().wanted_size
    }
}

/// The right to use the spare's file name.
pub(crate) struct Claim<'a> {
    spares: &'a Spares,
    _one_at_a_time: MutexGuard<'a, ()>,
}

impl Claim<'_> {
    /// Takes a spare of at least `size` bytes, prepared now if none is ready.
    pub fn take(&self, size: u64) -> Result<Spare, DiskError> {
        let ready = self.spares.state.lock().ready.take();
        match ready {
            Some(spare) if spare.size >= size => Ok(spare),
            _ => prepare(&self.spares.disk, self.spares.wanted().max(size)),
        }
    }

    /// Puts back a spare that was not used.
    pub fn put_back(&self, spare: Spare) {
        self.spares.state.lock().ready = Some(spare);
    }
}

fn prepare(disk: &Arc<dyn Disk>, size: u64) -> Result<Spare, DiskError> {
    let result = zeroed(disk, size);
    if result.is_err() {
        // Half a spare would keep the space that appends wait for. If it cannot be removed, it is
        // at the next start, or replaced by the next attempt.
        let _ = disk.remove(SPARE_NAME);
    }
    result
}

fn zeroed(disk: &Arc<dyn Disk>, size: u64) -> Result<Spare, DiskError> {
    let file = disk.create(SPARE_NAME)?;
    let zeros = vec![0; ZEROS_SIZE.min(size as usize)];
    let mut at = 0;
    while at < size {
        let step = (zeros.len() as u64).min(size - at);
        file.write_at(&zeros[..step as usize], at)?;
        at += step;
        if at % SYNC_INTERVAL == 0 && !planted::is(Bug::SpareNotSynced) {
            file.sync()?;
        }
    }
    if !planted::is(Bug::SpareNotSynced) {
        file.sync()?;
    }
    Ok(Spare { file, size })
}
