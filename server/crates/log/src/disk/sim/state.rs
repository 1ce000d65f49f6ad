//! All that a simulated disk is, behind its lock.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use super::faults::Faults;
use super::file::{Data, Inode};
use super::names::{Directory, InodeId};
use super::trace::{Step, Trace};
use super::{CrashMode, Fault, Rng};

/// The free space of a disk without a capacity, in bytes: more than any simulation writes.
const FREE_SPACE_UNLIMITED: u64 = 1 << 40;

#[derive(Clone)]
pub(super) struct State {
    pub(super) rng: Rng,
    pub(super) directory: Directory,
    pub(super) inodes: BTreeMap<InodeId, Inode>,
    inode_next: InodeId,
    /// The process that is alive, unless `down`.
    pub(super) process: u64,
    pub(super) down: bool,
    pub(super) operations: u64,
    pub(super) changes: u64,
    pub(super) crash_at: Option<u64>,
    pub(super) crash_at_change: Option<u64>,
    pub(super) faults: Faults,
    pub(super) capacity: Option<u64>,
    pub(super) trace: Trace,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            directory: Directory::default(),
            inodes: BTreeMap::new(),
            inode_next: 0,
            process: 0,
            down: false,
            operations: 0,
            changes: 0,
            crash_at: None,
            crash_at_change: None,
            faults: Faults::default(),
            capacity: None,
            trace: Trace::default(),
        }
    }

    /// Counts and records an operation. An error: the process does not live to do it.
    pub(super) fn begin(&mut self, process: u64, step: Step) -> io::Result<Option<Fault>> {
        let changes = step.operation.is_change();
        self.down |= self.crash_at.is_some_and(|at| self.operations >= at);
        self.down |= changes && self.crash_at_change.is_some_and(|at| self.changes >= at);
        if self.down || process != self.process {
            return Err(dead());
        }
        self.operations += 1;
        self.changes += u64::from(changes);
        let fault = self.faults.strike(&step);
        self.trace.record(step, fault);
        Ok(fault)
    }

    pub(super) fn named(&self, name: &str) -> io::Result<InodeId> {
        self.directory.get(name).ok_or_else(|| Errno::NOENT.into())
    }

    pub(super) fn inode(&mut self, id: InodeId) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&id).ok_or_else(dead)
    }

    pub(super) fn named_inode(&mut self, name: &str) -> io::Result<&mut Inode> {
        let id = self.named(name)?;
        self.inode(id)
    }

    pub(super) fn add_inode(&mut self, name: &str) -> InodeId {
        let id = self.inode_next;
        self.inode_next += 1;
        self.inodes.insert(id, Inode::new(name.into()));
        id
    }

    /// Bytes that still fit. Zeros count like others: they are allocated.
    pub(super) fn room(&self) -> u64 {
        let Some(capacity) = self.capacity else { return FREE_SPACE_UNLIMITED };
        let lengths = self.directory.names().filter_map(|(_, id)| self.inodes.get(&id));
        capacity.saturating_sub(lengths.map(Inode::len).sum())
    }

    /// Forgets files that have no name, will have none, and are not open.
    pub(super) fn forget_unnamed(&mut self) {
        let named = self.directory.inodes();
        self.inodes.retain(|id, inode| named.contains(id) || Arc::strong_count(&inode.handles) > 1);
    }

    /// Ends the process: its handles are dead.
    pub(super) fn end_process(&mut self) {
        self.process += 1;
        self.down = true;
        self.drop_handles();
    }

    pub(super) fn drop_handles(&mut self) {
        for inode in self.inodes.values_mut() {
            inode.handles = Arc::new(());
        }
        self.forget_unnamed();
    }

    pub(super) fn crash(&mut self, mode: CrashMode) {
        self.directory.crash(mode, &mut self.rng);
        for inode in self.inodes.values_mut() {
            inode.crash(mode, &mut self.rng);
        }
        let named: Vec<_> =
            self.directory.names().map(|(name, id)| (Arc::clone(name), id)).collect();
        for (name, id) in named {
            if let Some(inode) = self.inodes.get_mut(&id) {
                inode.name = name;
            }
        }
        self.end_process();
    }

    pub(super) fn create(&mut self, name: &str) -> io::Result<InodeId> {
        if self.room() == 0 {
            return Err(Errno::NOSPC.into());
        }
        if self.directory.get(name).is_some() {
            self.directory.unlink(name);
        }
        let id = self.add_inode(name);
        self.directory.link(name.into(), id);
        Ok(id)
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let id = self.named(from)?;
        self.directory.rename(from, to.into(), id);
        self.inode(id)?.name = to.into();
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        id: InodeId,
        data: Data<'_>,
        offset: u64,
        fault: Option<Fault>,
    ) -> io::Result<()> {
        let end = end_of(data.len(), offset)?;
        let mut kept = data.len();
        let mut result = Ok(());
        let limit = self.inode(id)?.len().saturating_add(self.room());
        if end > limit {
            kept = limit.saturating_sub(offset);
            result = Err(Errno::NOSPC.into());
        }
        if let Some(fault) = fault {
            kept = if fault == Fault::Torn { self.rng.below(kept) } else { 0 };
            result = Err(fault.error());
        }
        self.inode(id)?.write(data.first(kept), offset);
        result
    }
}

pub(super) fn dead() -> io::Error {
    io::Error::other("the simulated process is dead")
}

pub(super) fn end_of(length: u64, offset: u64) -> io::Result<u64> {
    offset.checked_add(length).ok_or_else(|| Errno::FBIG.into())
}
