//! The spare segment: zeroed and synced ahead of its use, so that a sync of the active segment
//! never has metadata to write.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::disk::{Disk, DiskError, DiskFile};
use crate::planted::{self, Bug};

/// The spare's file name until it is used.
pub const SPARE_NAME: &str = "next.tmp";
/// Bytes zeroed and synced in one step: a larger flush would stand in the way of the active
/// segment's syncs for longer than a few of them take.
const STEP: u64 = 1024 * 1024;
/// What a spare consists of.
static ZEROS: [u8; STEP as usize] = [0; STEP as usize];
/// How much faster than the active segment is filled its successor is zeroed, in percent: it is
/// ready some time before it is needed, and no burst of zeros holds up appends.
const LEAD_PERCENT: u64 = 125;

/// A file of zeros; ready when all of it is.
#[derive(Debug)]
pub(crate) struct Spare {
    pub file: Arc<dyn DiskFile>,
    pub size: u64,
    zeroed: u64,
}

impl Spare {
    fn is_ready(&self) -> bool {
        self.zeroed == self.size
    }

    fn advance(&mut self) -> Result<(), DiskError> {
        let step = STEP.min(self.size - self.zeroed);
        self.file.write_at(&ZEROS[..step as usize], self.zeroed)?;
        if !planted::is(Bug::SpareNotSynced) {
            self.file.sync()?;
        }
        self.zeroed += step;
        Ok(())
    }
}

/// Keeps one spare ready. Shared by the journal, which takes it, and whoever prepares it in the
/// background.
#[derive(Debug)]
pub struct Spares {
    disk: Arc<dyn Disk>,
    /// The spare. Locked for as long as its file's name is in use: there is one file for it.
    spare: Mutex<Option<Spare>>,
    wanted_size: AtomicU64,
    /// Bytes that must be free beside the spare when it is used: the size of the one after it.
    reserve: AtomicU64,
    /// How much of the spare should be zeroed by now, in thousandths.
    due: AtomicU64,
    /// How much of it is.
    done: AtomicU64,
    /// How often it could not be prepared.
    failures: AtomicU64,
    stopped: AtomicBool,
    /// Whoever prepares the spare waits here until it is behind.
    behind: (Mutex<()>, Condvar),
}

impl Spares {
    pub(crate) fn new(disk: Arc<dyn Disk>, wanted_size: u64, reserve: u64) -> Spares {
        Spares {
            disk,
            spare: Mutex::new(None),
            wanted_size: AtomicU64::new(wanted_size),
            reserve: AtomicU64::new(reserve),
            due: AtomicU64::new(0),
            done: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            behind: (Mutex::new(()), Condvar::new()),
        }
    }

    /// Waits until the spare is behind, or `timeout` has passed. Answers whether it is.
    pub fn wait_behind(&self, timeout: Duration) -> bool {
        let mut guard = self.behind.0.lock();
        if !self.is_behind() {
            self.behind.1.wait_for(&mut guard, timeout);
        }
        self.is_behind()
    }

    /// Waits for `time`, however far behind the spare is.
    pub fn rest(&self, time: Duration) {
        let mut guard = self.behind.0.lock();
        let goes_on = |(): &mut ()| !self.stopped.load(Ordering::Relaxed);
        self.behind.1.wait_while_for(&mut guard, goes_on, time);
    }

    /// Ends every [`Spares::wait_behind`] and [`Spares::rest`] from now on.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.due.store(u64::MAX, Ordering::Relaxed);
        self.wake();
    }

    fn wake(&self) {
        let _guard = self.behind.0.lock();
        self.behind.1.notify_all();
    }

    /// Zeroes the next piece of the spare. Answers whether it is ready.
    ///
    /// # Errors
    /// The disk's error; no spare is left then. May be tried again, with another file: nobody
    /// relies on this one, of which a failed sync may have left anything.
    pub fn advance(&self) -> Result<bool, DiskError> {
        let mut spare = self.spare.lock();
        self.advance_locked(&mut spare, self.wanted())
    }

    fn advance_locked(&self, spare: &mut Option<Spare>, size: u64) -> Result<bool, DiskError> {
        let result = match spare {
            Some(spare) if spare.is_ready() => return Ok(true),
            Some(spare) => spare.advance(),
            None => self.disk.create(SPARE_NAME).map(|file| {
                *spare = Some(Spare { file, size, zeroed: 0 });
            }),
        };
        if let Err(e) = result {
            *spare = None;
            self.fail();
            return Err(e);
        }
        let (zeroed, size) = spare.as_ref().map_or((0, 1), |spare| (spare.zeroed, spare.size));
        self.done.store(zeroed * 1000 / size, Ordering::Relaxed);
        Ok(zeroed == size)
    }

    /// Notes that the spare in hand cannot be used, and removes it.
    fn fail(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        // Half a spare would keep the space that appends wait for. If it cannot be removed, it is
        // at the next start, or replaced by the next attempt.
        let _ = self.disk.remove(SPARE_NAME);
    }

    /// How often the spare could not be prepared.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Whether less of the spare is zeroed than should be, as far as the active segment is full.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.done.load(Ordering::Relaxed) < self.due.load(Ordering::Relaxed)
    }

    /// Whether a spare is ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.done.load(Ordering::Relaxed) == 1000
    }

    /// Notes that `used` bytes of the active segment's `size` are.
    pub(crate) fn note_fill(&self, used: u64, size: u64) {
        let due = (used * 10 * LEAD_PERCENT / size).min(1000);
        self.due.store(due, Ordering::Relaxed);
        if self.is_behind() {
            self.wake();
        }
    }

    /// Claims the spare's file name: while the claim is held nobody else prepares a spare. Waits
    /// for a step that is being done.
    pub(crate) fn claim(&self) -> Claim<'_> {
        Claim { spares: self, spare: self.spare.lock() }
    }

    pub(crate) fn want(&self, size: u64, reserve: u64) {
        self.wanted_size.store(size, Ordering::Relaxed);
        self.reserve.store(reserve, Ordering::Relaxed);
    }

    /// Bytes that must be free when the next segment is begun.
    #[must_use]
    pub fn reserve(&self) -> u64 {
        self.reserve.load(Ordering::Relaxed)
    }

    /// Bytes of the next spare.
    #[must_use]
    pub fn wanted(&self) -> u64 {
        self.wanted_size.load(Ordering::Relaxed)
    }
}

/// The right to use the spare's file name.
pub(crate) struct Claim<'a> {
    spares: &'a Spares,
    spare: MutexGuard<'a, Option<Spare>>,
}

impl Claim<'_> {
    /// Takes a spare of at least `size` bytes, completed now if it is not ready.
    pub fn take(&mut self, size: u64) -> Result<Spare, DiskError> {
        if self.spare.as_ref().is_some_and(|spare| spare.size < size) {
            *self.spare = None;
        }
        let size = self.spares.wanted().max(size);
        while !self.spares.advance_locked(&mut self.spare, size)? {}
        self.spares.done.store(0, Ordering::Relaxed);
        Ok(self.spare.take().expect("it is ready"))
    }

    /// Removes a spare that was taken and could not be begun.
    pub fn discard(&mut self, spare: Spare) {
        drop(spare);
        self.spares.fail();
    }

    /// Puts back a spare that was not used.
    pub fn put_back(&mut self, spare: Spare) {
        *self.spare = Some(spare);
        self.spares.done.store(1000, Ordering::Relaxed);
    }
}
