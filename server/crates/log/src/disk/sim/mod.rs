//! The simulation's disk: in memory, decided by a seed, and as treacherous as the contract allows.
//!
//! ```text
//!            write              sync                 power cut
//!   store ----------> current --------> durable ----------------> what the next process finds
//!                     (page cache)                 + any part of what was pending
//! ```
//!
//! - [`SimDisk::crash`] cuts the power. Of each unsynced write any sectors survive, of one perhaps
//!   a part or garbage, but never beside what was written; the length may run ahead of the data or
//!   lag behind; of each name's unsynced changes the first so many; a rename wholly or not at all.
//! - [`SimDisk::kill`] ends the process only: the page cache stays, unsynced as it was.
//! - [`SimDisk::crash_at`] makes the process die before an operation, so that a test can try each.
//! - [`SimDisk::fail_after`] makes operations fail. After a failed sync the cache shows what was
//!   written and calls it clean, as Linux does: no later sync will save it.
//!
//! A handle ([`SimDisk`] or open file) belongs to one process. When that dies all its handles do,
//! and [`SimDisk::restart`] gives the next process its own; so threads that outlive their store in
//! a test cannot reach into the next one's files. What is here for tests (everything that is not
//! [`Disk`] or [`DiskFile`]) works on any handle.
//!
//! Same seed and same calls: same bytes, same [`SimDisk::trace_hash`]. Left out: latency,
//! misdirected writes, damage to synced sectors other than by [`SimDisk::flip_bit`].

mod faults;
mod file;
mod image;
mod names;
pub mod rng;
mod state;
mod trace;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

pub use self::faults::{Fault, Operation, Repeat};
pub use self::file::SECTOR_SIZE;
pub use self::rng::Rng;

use self::file::{Data, Inode};
use self::image::is_zero;
use self::names::InodeId;
use self::state::{State, end_of};
use self::trace::Step;
use super::{Disk, DiskError, DiskFile, check_name};

/// What stands before file names in messages.
const LOCATION: &str = "simulated disk";

/// What a power cut keeps of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// Some of it, as the seed decides.
    Random,
    /// Nothing.
    DropAll,
    /// Everything.
    KeepAll,
    /// All written bytes; no names.
    DataOnly,
    /// All names; no written bytes.
    NamesOnly,
}

impl CrashMode {
    /// Those that leave nothing to chance, to try one after the other.
    pub const CERTAIN: [Self; 4] = [Self::DropAll, Self::KeepAll, Self::DataOnly, Self::NamesOnly];

    const fn keeps_data(self) -> bool {
        matches!(self, Self::KeepAll | Self::DataOnly)
    }

    const fn keeps_names(self) -> bool {
        matches!(self, Self::KeepAll | Self::NamesOnly)
    }
}

fn no_fault(fault: Option<Fault>) -> io::Result<()> {
    fault.map_or(Ok(()), |fault| Err(fault.error()))
}

fn disk_error(action: &'static str, name: &str, source: io::Error) -> DiskError {
    let path = if name.is_empty() { LOCATION.to_owned() } else { format!("{LOCATION}/{name}") };
    DiskError { action, path, source }
}

/// A disk in memory, as one process sees it. Cheap to clone: the same disk, the same process.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    process: u64,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("process", &self.process).finish_non_exhaustive()
    }
}

impl SimDisk {
    /// An empty disk, and the handle of the first process. `seed` decides what power cuts keep.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(seed))), process: 0 }
    }

    /// A copy of this disk as it is now, with its page cache, faults and limits, for which `seed`
    /// decides; with the handle of a new process. So that one history can end in many ways.
    #[must_use]
    pub fn fork(&self, seed: u64) -> Self {
        let mut state = self.state.lock().clone();
        state.rng = Rng::new(seed);
        state.drop_handles();
        Self { state: Arc::new(Mutex::new(state)), process: 0 }.restart()
    }

    /// Cuts the power: all processes die, and what was not synced is kept as `mode` says.
    pub fn crash(&self, mode: CrashMode) {
        let mut state = self.state.lock();
        state.trace.mix(&[u64::MAX, mode as u64]);
        state.crash(mode);
    }

    /// Kills the process. The page cache stays: nothing is lost, nothing made durable.
    pub fn kill(&self) {
        let mut state = self.state.lock();
        state.trace.mix(&[u64::MAX - 1]);
        state.end_process();
    }

    /// The handle of a new process; the old one, if alive, is killed. Crash points are cleared;
    /// faults and the capacity stay.
    #[must_use]
    pub fn restart(&self) -> Self {
        let mut state = self.state.lock();
        state.end_process();
        state.down = false;
        state.crash_at = None;
        state.crash_at_change = None;
        Self { state: Arc::clone(&self.state), process: state.process }
    }

    /// Whether there is no process alive: it was killed, the power was cut, or it reached the
    /// operation that it was to die at.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.state.lock().down
    }

    /// Operations done so far by all processes, also those that failed by a fault.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Operations done so far that can change what a power cut leaves ([`Operation::is_change`]).
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.state.lock().changes
    }

    /// Lets the process die when `operation` operations are done, by the count of
    /// [`SimDisk::operations`]: all further ones fail without effect.
    pub fn crash_at(&self, operation: u64) {
        self.state.lock().crash_at = Some(operation);
    }

    /// Lets the process die when `change` changes are done, by the count of [`SimDisk::changes`];
    /// reads are done until then. To try every crash that can make a difference, and no other.
    pub fn crash_at_change(&self, change: u64) {
        self.state.lock().crash_at_change = Some(change);
    }

    /// Lets an operation fail: the `nth` from now, counted from 1, of this kind on a file whose
    /// name contains `name_contains` (None: on any).
    pub fn fail_after(
        &self,
        operation: Operation,
        name_contains: Option<&str>,
        nth: u64,
        fault: Fault,
        repeat: Repeat,
    ) {
        self.state.lock().faults.plan(operation, name_contains, nth, fault, repeat);
    }

    /// Takes back all faults.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// Limits the sum of the lengths of all files, in bytes; None: no limit.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        self.state.lock().capacity = capacity;
    }

    /// A hash of all operations so far: kinds, names, offsets, lengths, bytes written, faults,
    /// crashes. Equal for equal runs.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.state.lock().trace.hash()
    }

    /// The last operations as text, the latest last.
    #[must_use]
    pub fn recent(&self) -> Vec<String> {
        self.state.lock().trace.recent()
    }

    /// The names of all files, sorted. Counts as no operation, as all that follow.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.state.lock().directory.names().map(|(name, _)| name.to_string()).collect()
    }

    /// All bytes of the file `name`, as a process sees them.
    ///
    /// # Errors
    /// [`DiskError`] if there is no such file.
    pub fn read_all(&self, name: &str) -> Result<Vec<u8>, DiskError> {
        self.tamper("read", name, |inode| {
            let mut bytes = vec![0; inode.len() as usize];
            inode.read(&mut bytes, 0);
            Ok(bytes)
        })
    }

    /// Makes `bytes` the whole content of the file `name`, which need not exist, durably.
    ///
    /// # Errors
    /// [`DiskError`] if a file cannot have this name.
    pub fn write_all(&self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        check_name(name).map_err(|error| disk_error("create", name, error))?;
        {
            let mut state = self.state.lock();
            let known = state.directory.get(name);
            let id = known.unwrap_or_else(|| state.add_inode(name));
            state.directory.set(name.into(), id);
        }
        self.tamper("write to", name, |inode| {
            inode.set_content(bytes);
            Ok(())
        })
    }

    /// Inverts bit `bit` (0 to 7) of byte `byte` of the file `name`, as rot does. A write that was
    /// not yet synced is still what it was, should a power cut keep it.
    ///
    /// # Errors
    /// [`DiskError`] if there is no such file or it is shorter.
    pub fn flip_bit(&self, name: &str, byte: u64, bit: u32) -> Result<(), DiskError> {
        self.tamper("damage", name, |inode| {
            if byte >= inode.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            inode.damage(byte, bit);
            Ok(())
        })
    }

    /// Cuts the file `name` to `length` bytes, or extends it with zeros; durably, and all that was
    /// written to it before becomes durable, too.
    ///
    /// # Errors
    /// [`DiskError`] if there is no such file.
    pub fn truncate_file(&self, name: &str, length: u64) -> Result<(), DiskError> {
        self.tamper("truncate", name, |inode| {
            inode.set_len(length);
            Ok(())
        })
    }

    fn tamper<T>(
        &self,
        action: &'static str,
        name: &str,
        act: impl FnOnce(&mut Inode) -> io::Result<T>,
    ) -> Result<T, DiskError> {
        let mut state = self.state.lock();
        let result = state.named_inode(name).and_then(act);
        result.map_err(|error| disk_error(action, name, error))
    }

    /// Does one operation on the directory.
    fn run<T>(
        &self,
        step: Step,
        act: impl FnOnce(&mut State, Option<Fault>) -> io::Result<T>,
    ) -> Result<T, DiskError> {
        let (operation, name) = (step.operation, Arc::clone(&step.name));
        let mut state = self.state.lock();
        check_names(&step)
            .and_then(|()| state.begin(self.process, step))
            .and_then(|fault| act(&mut state, fault))
            .map_err(|error| disk_error(operation.action(), &name, error))
    }

    fn handle(&self, state: &mut State, id: InodeId) -> io::Result<Arc<dyn DiskFile>> {
        let inode = state.inode(id)?;
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            id,
            name: Arc::clone(&inode.name),
            _handle: Arc::clone(&inode.handles),
        }))
    }
}

/// As the machine's disk does; an operation on the whole directory names none.
fn check_names(step: &Step) -> io::Result<()> {
    use Operation::{Create, Open, Remove, Rename};
    if !matches!(step.operation, Create | Open | Remove | Rename) {
        return Ok(());
    }
    check_name(&step.name)?;
    step.to.as_deref().map_or(Ok(()), check_name)
}

impl Disk for SimDisk {
    fn open(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        self.run(Step::new(Operation::Open, name.into()), |state, fault| {
            no_fault(fault)?;
            let id = state.named(name)?;
            self.handle(state, id)
        })
    }

    fn create(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        self.run(Step::new(Operation::Create, name.into()), |state, fault| {
            no_fault(fault)?;
            let id = state.create(name)?;
            self.handle(state, id)
        })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut step = Step::new(Operation::Rename, from.into());
        step.to = Some(to.into());
        self.run(step, |state, fault| {
            no_fault(fault)?;
            state.rename(from, to)
        })
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.run(Step::new(Operation::Remove, name.into()), |state, fault| {
            no_fault(fault)?;
            state.named(name)?;
            state.directory.unlink(name);
            Ok(())
        })
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        self.run(Step::new(Operation::List, "".into()), |state, fault| {
            no_fault(fault)?;
            Ok(state.directory.names().map(|(name, _)| name.to_string()).collect())
        })
    }

    fn sync_names(&self) -> Result<(), DiskError> {
        self.run(Step::new(Operation::SyncNames, "".into()), |state, fault| {
            if let Some(fault) = fault {
                state.directory.fail_sync();
                return Err(fault.error());
            }
            state.directory.sync();
            state.forget_unnamed();
            Ok(())
        })
    }

    fn free_space(&self) -> Result<u64, DiskError> {
        self.run(Step::new(Operation::FreeSpace, "".into()), |state, fault| {
            no_fault(fault)?;
            Ok(state.room())
        })
    }

    fn location(&self) -> String {
        LOCATION.to_owned()
    }
}

/// An open file of a [`SimDisk`].
struct SimFile {
    disk: SimDisk,
    id: InodeId,
    /// Its name when it was opened, for messages when its process is dead.
    name: Arc<str>,
    /// Its being there says that the file is open.
    _handle: Arc<()>,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimFile").field("name", &self.name).finish_non_exhaustive()
    }
}

impl SimFile {
    /// Does one operation on the file, recorded under the name that it has now.
    fn run<T>(
        &self,
        operation: Operation,
        detail: impl FnOnce(Step) -> Step,
        act: impl FnOnce(&mut State, Option<Fault>) -> io::Result<T>,
    ) -> Result<T, DiskError> {
        let mut state = self.disk.state.lock();
        let name = state.inodes.get(&self.id).map_or(&self.name, |inode| &inode.name);
        let name = Arc::clone(name);
        let step = detail(Step::new(operation, Arc::clone(&name)));
        state
            .begin(self.disk.process, step)
            .and_then(|fault| act(&mut state, fault))
            .map_err(|error| disk_error(operation.action(), &name, error))
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), DiskError> {
        let length = buffer.len() as u64;
        self.run(
            Operation::Read,
            |step| step.at(offset, length),
            |state, fault| {
                no_fault(fault)?;
                let inode = state.inode(self.id)?;
                if end_of(length, offset)? > inode.len() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                inode.read(buffer, offset);
                Ok(())
            },
        )
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        // Found out once, and here: segments are zeroed ahead, which must cost next to nothing.
        let data =
            if is_zero(bytes) { Data::Zeros(bytes.len() as u64) } else { Data::Bytes(bytes) };
        let detail = |step: Step| {
            let mut step = step.at(offset, data.len());
            step.digest = data.digest();
            step
        };
        self.run(Operation::Write, detail, |state, fault| state.write(self.id, data, offset, fault))
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.run(
            Operation::Sync,
            |step| step,
            |state, fault| {
                let inode = state.inode(self.id)?;
                if let Some(fault) = fault {
                    inode.fail_sync();
                    return Err(fault.error());
                }
                inode.sync();
                Ok(())
            },
        )
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.run(
            Operation::Len,
            |step| step,
            |state, fault| {
                no_fault(fault)?;
                Ok(state.inode(self.id)?.len())
            },
        )
    }
}
