//! A disk whose reads wait while its gate is shut.

use std::sync::{Arc, Condvar, Mutex};

use daybook_log::disk::sim::SimDisk;
use daybook_log::disk::{Disk, DiskError, DiskFile};

/// A simulated disk with a gate before its reads.
#[derive(Clone, Debug)]
pub struct SlowDisk {
    disk: SimDisk,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    /// Whether it is shut, and how many wait before it.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl SlowDisk {
    pub fn new(disk: SimDisk) -> SlowDisk {
        SlowDisk { disk, gate: Arc::default() }
    }

    pub fn shut(&self) {
        self.gate.state.lock().expect("no panic").0 = true;
    }

    pub fn open_gate(&self) {
        self.gate.state.lock().expect("no panic").0 = false;
        self.gate.changed.notify_all();
    }

    /// How many wait before the gate.
    pub fn waiting(&self) -> usize {
        self.gate.state.lock().expect("no panic").1
    }

    fn gated(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(SlowFile { file, gate: self.gate.clone() })
    }
}

impl Disk for SlowDisk {
    fn open(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        Ok(self.gated(self.disk.open(name)?))
    }

    fn create(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        Ok(self.gated(self.disk.create(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.disk.remove(name)
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        self.disk.list()
    }

    fn sync_names(&self) -> Result<(), DiskError> {
        self.disk.sync_names()
    }

    fn free_space(&self) -> Result<u64, DiskError> {
        self.disk.free_space()
    }

    fn location(&self) -> String {
        self.disk.location()
    }
}

#[derive(Debug)]
struct SlowFile {
    file: Arc<dyn DiskFile>,
    gate: Arc<Gate>,
}

impl DiskFile for SlowFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), DiskError> {
        let mut state = self.gate.state.lock().expect("no panic");
        state.1 += 1;
        while state.0 {
            state = self.gate.changed.wait(state).expect("no panic");
        }
        state.1 -= 1;
        drop(state);
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), DiskError> {
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> Result<(), DiskError> {
        self.file.sync()
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.file.len()
    }
}
