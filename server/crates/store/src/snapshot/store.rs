//! The snapshot store: one [`Live`] sled at a time, and what is done when it fails.
//!
//! INVARIANT: opening never fails and no fault of sled reaches a caller; the worst answer is "no
//! snapshot".

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use daybook_model::{Position, Revision, StreamName};
use parking_lot::{Mutex, RwLock};

use super::limits::{
    BEGINNINGS_MAX, KIND_SIZE_MAX, Limits, NOTES_MAX, SET_ASIDE_MAX, SNAPSHOT_SIZE_MAX,
};
use super::live::{Fault, Live};
use super::{Identity, Snapshot, SnapshotError, SnapshotStats};

const LIVE: &str = "live-";
const BAD: &str = "bad-";

/// Snapshots of aggregates, disposable. Shared by threads; all methods block.
#[derive(Debug)]
pub struct SnapshotStore {
    directory: PathBuf,
    identity: Identity,
    limits: Limits,
    state: RwLock<State>,
    past: Mutex<Past>,
}

#[derive(Debug)]
enum State {
    On { live: Live, number: u64 },
    Off { reason: String },
}

/// What happened so far in this process.
#[derive(Debug, Default)]
struct Past {
    notes: VecDeque<String>,
    rebuilt_reason: Option<String>,
    rebuilt: u64,
    damaged: u64,
}

impl SnapshotStore {
    /// Opens the snapshots in `directory`, which is created if missing and is nobody else's.
    /// Never fails: what cannot be used is set aside and begun anew, and [`SnapshotStore::notes`]
    /// says so; if even that fails, snapshots are off.
    #[must_use]
    pub fn open(directory: &Path, identity: Identity) -> SnapshotStore {
        SnapshotStore::open_with(directory, identity, Limits::default())
    }

    pub(super) fn open_with(directory: &Path, identity: Identity, limits: Limits) -> SnapshotStore {
        let mut past = Past::default();
        let state = start(directory, identity, limits, &mut past);
        SnapshotStore {
            directory: directory.to_owned(),
            identity,
            limits,
            state: RwLock::new(state),
            past: Mutex::new(past),
        }
    }

    /// Keeps `snapshot` of `stream`. The caller has read the event of its revision, and the log's
    /// end was `committed` then. One that is older than all that are kept of a full stream is not
    /// kept. Durable within about a second, not at once.
    ///
    /// # Errors
    /// [`SnapshotError`] if it breaks a limit or snapshots are off.
    pub fn put(
        &self,
        stream: &StreamName,
        snapshot: &Snapshot,
        committed: Position,
    ) -> Result<(), SnapshotError> {
        if snapshot.data.len() > SNAPSHOT_SIZE_MAX {
            return Err(SnapshotError::TooLarge { size: snapshot.data.len() });
        }
        if snapshot.kind.len() > KIND_SIZE_MAX {
            return Err(SnapshotError::KindTooLong { size: snapshot.kind.len() });
        }
        self.with(|live| live.put(stream, snapshot, committed)).map(|_| ())
    }

    /// The newest snapshot of `stream`, or the newest whose revision is at most `at_or_before`.
    /// None if there is none or its sled just failed: replay from the beginning.
    ///
    /// # Errors
    /// [`SnapshotError::Unavailable`] if snapshots are off.
    pub fn latest(
        &self,
        stream: &StreamName,
        at_or_before: Option<Revision>,
    ) -> Result<Option<Snapshot>, SnapshotError> {
        let bound = at_or_before.unwrap_or(Revision(u64::MAX));
        let Some(lookup) = self.with(|live| live.latest(stream, bound))? else { return Ok(None) };
        if lookup.damaged > 0 {
            let mut past = self.past.lock();
            past.damaged += lookup.damaged;
            past.note(format!(
                "{} damaged snapshots of '{stream}' were dropped; its readers replay",
                lookup.damaged
            ));
        }
        Ok(lookup.snapshot)
    }

    /// Removes all snapshots of `stream` and says how many there were.
    ///
    /// # Errors
    /// [`SnapshotError::Unavailable`] if snapshots are off.
    pub fn delete(&self, stream: &StreamName) -> Result<u64, SnapshotError> {
        Ok(self.with(|live| live.delete(stream))?.unwrap_or(0))
    }

    /// How much there is.
    #[must_use]
    pub fn stats(&self) -> SnapshotStats {
        let (entries, bytes) = match &*self.state.read() {
            State::On { live, .. } => live.totals(),
            State::Off { .. } => (0, 0),
        };
        let past = self.past.lock();
        SnapshotStats { entries, bytes, damaged: past.damaged, rebuilt: past.rebuilt }
    }

    /// What happened since the process started, oldest first; only the newest
    /// [`NOTES_MAX`] notes are kept.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.past.lock().notes.iter().cloned().collect()
    }

    /// Why snapshots were begun anew the last time, if they were since the process started.
    #[must_use]
    pub fn rebuilt_reason(&self) -> Option<String> {
        self.past.lock().rebuilt_reason.clone()
    }

    /// Writes what waits and closes. Later calls find snapshots off.
    pub fn close(&self) {
        let off = State::Off { reason: "the store is closed".to_owned() };
        if let State::On { live, .. } = std::mem::replace(&mut *self.state.write(), off) {
            live.close();
        }
    }

    /// Asks the live sled. A fault replaces it, and the answer is none.
    fn with<T>(
        &self,
        ask: impl FnOnce(&Live) -> Result<T, Fault>,
    ) -> Result<Option<T>, SnapshotError> {
        let (fault, number) = match &*self.state.read() {
            State::Off { reason } => {
                return Err(SnapshotError::Unavailable { reason: reason.clone() });
            }
            State::On { live, number } => match ask(live) {
                Ok(value) => return Ok(Some(value)),
                Err(fault) => (fault, *number),
            },
        };
        self.replace(number, &fault);
        Ok(None)
    }

    /// Begins anew after the sled `number` failed, unless another thread did so already.
    fn replace(&self, number: u64, fault: &Fault) {
        let mut state = self.state.write();
        match &*state {
            State::On { number: current, .. } if *current == number => {}
            State::On { .. } | State::Off { .. } => return,
        }
        let off = State::Off { reason: fault.to_string() };
        if let State::On { live, .. } = std::mem::replace(&mut *state, off) {
            live.abandon();
        }
        let mut past = self.past.lock();
        past.rebuild(&self.directory.join(format!("{LIVE}{number}")), fault);
        if past.rebuilt <= BEGINNINGS_MAX {
            *state = begin(&self.directory, number + 1, self.identity, self.limits, &mut past);
        }
    }
}

impl Drop for SnapshotStore {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
impl SnapshotStore {
    pub(super) fn with_live<T>(&self, ask: impl FnOnce(&Live) -> Result<T, Fault>) -> Option<T> {
        self.with(ask).unwrap()
    }
}

impl Past {
    fn note(&mut self, note: String) {
        tracing::warn!("{note}");
        if self.notes.len() == NOTES_MAX {
            self.notes.pop_front();
        }
        self.notes.push_back(note);
    }

    fn rebuild(&mut self, path: &Path, fault: &Fault) {
        self.rebuilt += 1;
        self.rebuilt_reason = Some(fault.to_string());
        self.note(format!(
            "the snapshots in {} are set aside and begun anew: {fault}; events are not affected",
            path.display()
        ));
    }
}

/// Opens what a former process left, or begins anew.
fn start(directory: &Path, identity: Identity, limits: Limits, past: &mut Past) -> State {
    let found = match numbered(directory, LIVE) {
        Ok(found) => found,
        Err(error) => {
            let reason = format!("cannot use {}: {error}", directory.display());
            past.note(format!("snapshots are off: {reason}"));
            return State::Off { reason };
        }
    };
    let Some((&number, left_behind)) = found.split_last() else {
        let aside = numbered(directory, BAD).unwrap_or_default();
        let next = aside.last().map_or(1, |last| last + 1);
        return begin(directory, next, identity, limits, past);
    };
    for &number in left_behind {
        set_aside(directory, number, past);
    }
    match Live::open(&directory.join(format!("{LIVE}{number}")), identity, limits) {
        Ok(live) => State::On { live, number },
        Err(fault) => {
            past.rebuild(&directory.join(format!("{LIVE}{number}")), &fault);
            set_aside(directory, number, past);
            begin(directory, number + 1, identity, limits, past)
        }
    }
}

/// Opens a directory that does not exist yet.
fn begin(
    directory: &Path,
    number: u64,
    identity: Identity,
    limits: Limits,
    past: &mut Past,
) -> State {
    match Live::open(&directory.join(format!("{LIVE}{number}")), identity, limits) {
        Ok(live) => State::On { live, number },
        Err(fault) => {
            past.note(format!("snapshots are off: {fault}; events are not affected"));
            State::Off { reason: fault.to_string() }
        }
    }
}

/// Renames a sled that is not to be used, and removes the oldest of those beyond the limit.
#[expect(clippy::disallowed_methods, reason = "sled does its own IO; this is the seam around it")]
fn set_aside(directory: &Path, number: u64, past: &mut Past) {
    let from = directory.join(format!("{LIVE}{number}"));
    let to = directory.join(format!("{BAD}{number}"));
    if let Err(error) = std::fs::rename(&from, &to) {
        past.note(format!("cannot set {} aside: {error}", from.display()));
        return;
    }
    let Ok(aside) = numbered(directory, BAD) else { return };
    let surplus = aside.len().saturating_sub(SET_ASIDE_MAX);
    for number in aside.into_iter().take(surplus) {
        let path = directory.join(format!("{BAD}{number}"));
        if let Err(error) = std::fs::remove_dir_all(&path) {
            past.note(format!("cannot remove {}: {error}", path.display()));
        }
    }
}

/// The numbers of the entries of `directory` called `<prefix><number>`, ascending. Creates the
/// directory if it is missing.
#[expect(clippy::disallowed_methods, reason = "sled does its own IO; this is the seam around it")]
fn numbered(directory: &Path, prefix: &str) -> std::io::Result<Vec<u64>> {
    std::fs::create_dir_all(directory)?;
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|n| n.strip_prefix(prefix)).map(str::parse::<u64>);
        if let Some(Ok(number)) = number {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}
