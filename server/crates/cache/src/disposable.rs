//! One live sled at a time, and what is done when it fails.
//!
//! INVARIANT: opening never fails and no fault of sled reaches a caller; the worst answer is "it is
//! off".

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use parking_lot::{Mutex, RwLock};

use crate::limits::{BEGINNINGS_MAX, NOTES_MAX, SET_ASIDE_MAX};
use crate::live::Fault;

const LIVE: &str = "live-";
const BAD: &str = "bad-";

/// What is kept in one sled.
pub trait Kept: Send + Sync + Sized {
    /// What these are, plural, for people: "the {WHAT} are set aside".
    const WHAT: &'static str;
    /// What everything is opened for: the store it must be of, limits.
    type Place: Send + Sync;

    /// Opens or creates it in `path`.
    ///
    /// # Errors
    /// [`Fault`] if it cannot be read, or is not of this place; it is closed then.
    fn open(path: &Path, place: &Self::Place) -> Result<Self, Fault>;

    /// Writes what waits and stops sled's threads ([`crate::close`]).
    fn close(self);

    /// Leaks a sled that failed ([`std::mem::forget`]). Its destructor may wait for a thread that
    /// died.
    fn abandon(self);
}

/// It is off in this process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unavailable {
    /// Why.
    pub reason: String,
}

/// What can be deleted at any time. Shared by threads; all methods block.
#[derive(Debug)]
pub struct Disposable<K: Kept> {
    directory: PathBuf,
    place: K::Place,
    state: RwLock<State<K>>,
    past: Mutex<Past>,
}

#[derive(Debug)]
enum State<K> {
    On { live: K, number: u64 },
    Off { reason: String },
}

/// What happened so far in this process.
#[derive(Debug, Default)]
struct Past {
    notes: VecDeque<String>,
    rebuilt_reason: Option<String>,
    rebuilt: u64,
}

impl<K: Kept> Disposable<K> {
    /// Opens what is in `directory`, which is created if missing and is nobody else's. Never fails:
    /// what cannot be used is set aside and begun anew, and [`Disposable::notes`] says so; if even
    /// that fails, it is off.
    #[must_use]
    pub fn open(directory: &Path, place: K::Place) -> Disposable<K> {
        let mut past = Past::default();
        let state = start(directory, &place, &mut past);
        Disposable {
            directory: directory.to_owned(),
            place,
            state: RwLock::new(state),
            past: Mutex::new(past),
        }
    }

    /// Asks the live sled. A fault replaces it, and the answer is none.
    ///
    /// # Errors
    /// [`Unavailable`] if it is off.
    pub fn with<T>(
        &self,
        ask: impl FnOnce(&K) -> Result<T, Fault>,
    ) -> Result<Option<T>, Unavailable> {
        let (fault, number) = match &*self.state.read() {
            State::Off { reason } => return Err(Unavailable { reason: reason.clone() }),
            State::On { live, number } => match ask(live) {
                Ok(value) => return Ok(Some(value)),
                Err(fault) => (fault, *number),
            },
        };
        self.replace(number, &fault);
        Ok(None)
    }

    /// What the live sled says that cannot fail; none if it is off.
    pub fn peek<T>(&self, ask: impl FnOnce(&K) -> T) -> Option<T> {
        match &*self.state.read() {
            State::On { live, .. } => Some(ask(live)),
            State::Off { .. } => None,
        }
    }

    /// Adds to the notes, and to the log as a warning.
    pub fn note(&self, note: String) {
        self.past.lock().note(note);
    }

    /// What happened since the process started, oldest first; only the newest [`NOTES_MAX`] notes
    /// are kept.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.past.lock().notes.iter().cloned().collect()
    }

    /// How often a directory was set aside and begun anew, since the process started.
    #[must_use]
    pub fn rebuilt(&self) -> u64 {
        self.past.lock().rebuilt
    }

    /// Why it was begun anew the last time, if it was since the process started.
    #[must_use]
    pub fn rebuilt_reason(&self) -> Option<String> {
        self.past.lock().rebuilt_reason.clone()
    }

    /// Writes what waits and closes. Later calls find it off.
    pub fn close(&self) {
        let off = State::Off { reason: "the store is closed".to_owned() };
        if let State::On { live, .. } = std::mem::replace(&mut *self.state.write(), off) {
            live.close();
        }
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
        past.rebuild::<K>(&live_path(&self.directory, number), fault);
        if past.rebuilt <= BEGINNINGS_MAX {
            *state = begin(&self.directory, number + 1, &self.place, &mut past);
        }
    }
}

impl<K: Kept> Drop for Disposable<K> {
    fn drop(&mut self) {
        self.close();
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

    fn rebuild<K: Kept>(&mut self, path: &Path, fault: &Fault) {
        self.rebuilt += 1;
        self.rebuilt_reason = Some(fault.to_string());
        self.note(format!(
            "the {} in {} are set aside and begun anew: {fault}; events are not affected",
            K::WHAT,
            path.display()
        ));
    }
}

fn live_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{LIVE}{number}"))
}

/// Opens what a former process left, or begins anew.
fn start<K: Kept>(directory: &Path, place: &K::Place, past: &mut Past) -> State<K> {
    let found = match numbered(directory, LIVE) {
        Ok(found) => found,
        Err(error) => {
            let reason = format!("cannot use {}: {error}", directory.display());
            past.note(format!("{} are off: {reason}", K::WHAT));
            return State::Off { reason };
        }
    };
    let Some((&number, left_behind)) = found.split_last() else {
        let aside = numbered(directory, BAD).unwrap_or_default();
        let next = aside.last().map_or(1, |last| last + 1);
        return begin(directory, next, place, past);
    };
    for &number in left_behind {
        set_aside(directory, number, past);
    }
    let path = live_path(directory, number);
    match K::open(&path, place) {
        Ok(live) => State::On { live, number },
        Err(fault) => {
            past.rebuild::<K>(&path, &fault);
            set_aside(directory, number, past);
            begin(directory, number + 1, place, past)
        }
    }
}

/// Opens a directory that does not exist yet.
fn begin<K: Kept>(directory: &Path, number: u64, place: &K::Place, past: &mut Past) -> State<K> {
    match K::open(&live_path(directory, number), place) {
        Ok(live) => State::On { live, number },
        Err(fault) => {
            past.note(format!("{} are off: {fault}; events are not affected", K::WHAT));
            State::Off { reason: fault.to_string() }
        }
    }
}

/// Renames a sled that is not to be used, and removes the oldest of those beyond the limit.
#[expect(clippy::disallowed_methods, reason = "sled does its own IO; this is the seam around it")]
fn set_aside(directory: &Path, number: u64, past: &mut Past) {
    let from = live_path(directory, number);
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

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// What is kept is a directory with a word in its name; the place names the word that is read.
    #[derive(Debug)]
    struct Word(String);

    impl Kept for Word {
        const WHAT: &'static str = "words";
        type Place = String;

        #[expect(clippy::disallowed_methods, reason = "it stands for sled, which does its own IO")]
        fn open(path: &Path, wanted: &String) -> Result<Word, Fault> {
            let file = path.join("word");
            if !path.exists() {
                std::fs::create_dir_all(path).map_err(|e| Fault(e.to_string()))?;
                std::fs::write(&file, wanted).map_err(|e| Fault(e.to_string()))?;
            }
            match std::fs::read_to_string(&file) {
                Ok(word) if word == *wanted => Ok(Word(word)),
                Ok(word) => Err(Fault(format!("it says {word}"))),
                Err(error) => Err(Fault(error.to_string())),
            }
        }

        fn close(self) {}

        fn abandon(self) {}
    }

    fn open(directory: &TempDir, word: &str) -> Disposable<Word> {
        Disposable::open(directory.path(), word.to_owned())
    }

    fn said(kept: &Disposable<Word>) -> Option<String> {
        kept.with(|word| Ok(word.0.clone())).expect("it is on")
    }

    #[test]
    fn what_does_not_fit_is_set_aside_and_only_the_newest_of_those_stay() {
        let directory = TempDir::new().expect("a directory");
        for turn in 0..6 {
            let word = format!("word {turn}");
            let kept = open(&directory, &word);
            assert_eq!(said(&kept), Some(word.clone()));
            assert_eq!(kept.rebuilt(), u64::from(turn > 0));
            drop(kept);
            assert!(open(&directory, &word).notes().is_empty(), "what fits is used again");
        }
        assert_eq!(numbered(directory.path(), LIVE).expect("read"), [6]);
        assert_eq!(numbered(directory.path(), BAD).expect("read"), [3, 4, 5]);
    }

    #[test]
    fn a_fault_in_use_begins_anew_a_few_times_and_then_it_is_off() {
        let directory = TempDir::new().expect("a directory");
        let kept = open(&directory, "word");
        for beginning in 1..=BEGINNINGS_MAX {
            let failed = kept.with(|_| Err::<(), _>(Fault("planted".to_owned())));
            assert_eq!(failed, Ok(None));
            assert_eq!(kept.rebuilt(), beginning);
            assert_eq!(said(&kept), Some("word".to_owned()));
        }
        let last = kept.with(|_| Err::<(), _>(Fault("the last".to_owned())));
        assert_eq!(last, Ok(None));
        let off = kept.with(|_| Ok(())).expect_err("it is off");
        assert_eq!(off.reason, "the last");
        assert_eq!(kept.peek(|_| ()), None);
        for number in 0..2 * NOTES_MAX {
            kept.note(format!("note {number}"));
        }
        assert_eq!(kept.notes().len(), NOTES_MAX);
    }

    #[test]
    fn what_is_closed_is_off() {
        let directory = TempDir::new().expect("a directory");
        let kept = open(&directory, "word");
        kept.close();
        assert!(kept.with(|_| Ok(())).is_err());
    }
}
