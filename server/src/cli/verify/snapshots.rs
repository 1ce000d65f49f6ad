//! The snapshots of accounts in a stopped store, against what their events come to.
//!
//! Snapshots are disposable, and a wrong one is worse than none: a command is decided on it. They
//! lie in a sled, and opening one writes; so a copy is opened, and the copy goes.
//!
//! INVARIANT: nothing in the data directory changes. What cannot be checked is said, and makes no
//! store unsound.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use daybook_ledger::account::{ACCOUNT_CATEGORY, Account};
use daybook_model::{Aggregate, Entropy as _, EventView, Revision, SystemEntropy};
use daybook_store::snapshot::{Identity, Snapshot, SnapshotStore};
use indicatif::HumanBytes;
use serde_json::{Value, json};
use uuid::Uuid;

/// What sled's directories that were set aside are called. Nobody reads them.
const SET_ASIDE: &str = "bad-";

/// Bytes left to others where the copy lies; sled writes into it, too.
const ROOM_LEFT: u64 = 64 * 1024 * 1024;

/// Snapshots that wait for the event they are of.
#[derive(Debug)]
pub struct Snapshots {
    kept: SnapshotStore,
    _copy: Copy,
    /// Of each account, the revisions of its snapshots that were not met yet.
    due: BTreeMap<String, VecDeque<Revision>>,
    /// The accounts of `due` as far as they were replayed.
    accounts: BTreeMap<String, Account>,
    outcome: Outcome,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Snapshots that are what their events come to.
    right: u64,
    /// Snapshots that nobody here can replay: of other kinds, or an older layout.
    unknown: u64,
    /// Those that are not what they should be, in words.
    wrong: Vec<String>,
    /// Why none was checked.
    unchecked: Option<String>,
}

impl Snapshots {
    /// Those in `directory`, of the store `identity`; none if there is no such directory.
    ///
    /// # Errors
    /// An [`Outcome`] that says why they cannot be checked.
    pub fn open(directory: &Path, identity: Identity) -> Result<Option<Snapshots>, Outcome> {
        let unchecked = |reason: String| Outcome { unchecked: Some(reason), ..Outcome::default() };
        if !directory.is_dir() {
            return Ok(None);
        }
        let copy = Copy::of(directory, &std::env::temp_dir()).map_err(|e| {
            unchecked(format!("they cannot be copied: {e}; set TMPDIR to where there is room"))
        })?;
        let kept = SnapshotStore::open(&copy.0, identity);
        if let Some(reason) = kept.rebuilt_reason() {
            return Err(unchecked(format!("the next start sets them aside: {reason}")));
        }
        let mut due: BTreeMap<String, VecDeque<Revision>> = BTreeMap::new();
        let mut outcome = Outcome::default();
        for (stream, revision) in kept.list().map_err(|e| unchecked(e.to_string()))? {
            if account(&stream).is_some() {
                due.entry(stream).or_default().push_back(revision);
            } else {
                outcome.unknown += 1;
            }
        }
        Ok(Some(Snapshots { kept, _copy: copy, due, accounts: BTreeMap::new(), outcome }))
    }

    /// Takes in an event, and compares the snapshot that was put after it.
    pub fn enter(&mut self, event: EventView<'_>) {
        let Some(due) = self.due.get_mut(event.stream) else { return };
        let known = match self.accounts.get_mut(event.stream) {
            Some(known) => known,
            None => self.accounts.entry(event.stream.to_owned()).or_default(),
        };
        let Ok(happened) = Account::read(event) else {
            return; // the trial balance names it, and the snapshot stays unmet
        };
        known.evolve(&happened);
        if due.front() != Some(&event.revision) {
            return;
        }
        due.pop_front();
        let last = due.is_empty();
        match compared(&self.kept, &event, known) {
            Compared::Right => self.outcome.right += 1,
            Compared::Unknown => self.outcome.unknown += 1,
            Compared::Wrong(why) => {
                self.outcome.wrong.push(named(event.stream, event.revision, why))
            }
        }
        if last {
            self.due.remove(event.stream);
            self.accounts.remove(event.stream);
        }
    }

    /// What was found, at the end of the log.
    #[must_use]
    pub fn finish(mut self) -> Outcome {
        for (stream, revisions) in &self.due {
            for revision in revisions {
                let why = "its stream has no such event";
                self.outcome.wrong.push(named(stream, *revision, why));
            }
        }
        self.kept.close();
        self.outcome
    }
}

impl Outcome {
    /// Whether each snapshot that could be compared is right.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.wrong.is_empty()
    }

    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "replayed": self.right,
            "notReplayed": self.unknown,
            "wrong": self.wrong,
            "unchecked": self.unchecked,
        })
    }

    /// For people; nothing if there are none.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = Vec::new();
        if let Some(reason) = &self.unchecked {
            rows.push(("snapshots", format!("not checked: {reason}")));
        } else if self.right + self.unknown > 0 {
            let (right, others) = (self.right, self.unknown);
            rows.push(("snapshots", format!("{right} as replayed, {others} of other kinds")));
        }
        for wrong in &self.wrong {
            let way_out = "delete the directory 'snapshots': what it holds is replayed";
            rows.push(("WRONG SNAPSHOT", format!("{wrong}; {way_out}")));
        }
        rows
    }
}

enum Compared {
    Right,
    /// Readers replay instead, as they should.
    Unknown,
    Wrong(&'static str),
}

fn compared(kept: &SnapshotStore, event: &EventView<'_>, replayed: &Account) -> Compared {
    let Ok(stream) = daybook_model::StreamName::new(event.stream) else { return Compared::Unknown };
    let Ok(Some(found)) = kept.latest(&stream, Some(event.revision)) else {
        return Compared::Unknown;
    };
    let Snapshot { revision, schema, kind, data } = found;
    if revision != event.revision || schema != Account::SCHEMA || kind != Account::KIND {
        return Compared::Unknown; // damaged, or of another layout: no reader believes it
    }
    match Account::from_snapshot(&data) {
        Some(kept) if kept == *replayed => Compared::Right,
        Some(_) => Compared::Wrong("it is not what the events up to it come to"),
        None => Compared::Unknown,
    }
}

fn named(stream: &str, revision: Revision, why: &str) -> String {
    format!("the snapshot of '{stream}' at revision {revision}: {why}")
}

fn account(stream: &str) -> Option<&str> {
    stream.strip_prefix(ACCOUNT_CATEGORY)?.strip_prefix('-')
}

/// A copy for nobody else's eyes, until it is dropped.
#[derive(Debug)]
struct Copy(PathBuf);

impl Copy {
    /// One of `directory`, below `temporary`: only if it fits, for that may be the volume of others.
    fn of(directory: &Path, temporary: &Path) -> io::Result<Copy> {
        let needed = size(directory)?.saturating_add(ROOM_LEFT);
        let volume = rustix::fs::statvfs(temporary)?;
        let free = volume.f_bavail.saturating_mul(volume.f_frsize);
        if free < needed {
            let (needed, free) = (HumanBytes(needed), HumanBytes(free));
            let reason =
                format!("{} has {free} free, and {needed} are needed", temporary.display());
            return Err(io::Error::new(io::ErrorKind::StorageFull, reason));
        }
        let name = format!("daybook-verify-{}", Uuid::from_bytes(SystemEntropy.bytes()));
        let copy = Copy(temporary.join(name));
        copied(directory, &copy.0)?;
        Ok(copy)
    }
}

/// Bytes of what [`copied`] copies.
#[expect(clippy::disallowed_methods, reason = "beside the log, of no `Disk`")]
fn size(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0u64;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if entry.file_name().to_string_lossy().starts_with(SET_ASIDE) {
            continue;
        }
        bytes = bytes.saturating_add(match kind.is_dir() {
            true => size(&entry.path())?,
            false => entry.metadata()?.len(),
        });
    }
    Ok(bytes)
}

#[expect(clippy::disallowed_methods, reason = "beside the log, of no `Disk`")]
fn copied(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        if name.to_string_lossy().starts_with(SET_ASIDE) {
            continue;
        }
        if kind.is_dir() {
            copied(&entry.path(), &to.join(name))?;
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(name))?;
        }
    }
    Ok(())
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What stays behind is the system's to clear.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use daybook_model::{ContentType, Epoch, Position, StreamName, Timestamp};
    use tempfile::TempDir;

    use super::*;

    const STREAM: &str = "ledger.account-00000000-0000-0000-0000-000000000001";

    /// The events of an account: opened with 10, and two deposits of 10.
    fn history() -> Vec<(&'static str, String, u64)> {
        let transaction = |n: u64| format!("00000000-0000-0000-0000-00000000000{n}");
        let same = r#""account_id":"00000000-0000-0000-0000-000000000001","currency":"EUR",
            "contra":"cash","occurred_at":"2026-07-01T12:00:00Z","#;
        let opened = format!(
            r#"{{{same}"account_type":"checking","owner_id":"00000000-0000-0000-0000-000000000002",
                "initial_balance":"10.00","overdraft_limit":"500.00",
                "daily_withdrawal_limit":"5000.00","transaction_id":"{}"}}"#,
            transaction(0)
        );
        let deposited = |n: u64| {
            let (balance, id) = (10 * (n + 1), transaction(n));
            let told = format!(
                r#"{{{same}"amount":"10.00","balance":"{balance}.00","description":"",
                    "transaction_id":"{id}"}}"#
            );
            ("MoneyDeposited", told, n)
        };
        vec![("AccountOpened", opened, 0), deposited(1), deposited(2)]
    }

    fn view<'a>((event_type, data, revision): &'a (&str, String, u64)) -> EventView<'a> {
        EventView {
            position: Position(*revision),
            revision: Revision(*revision),
            time: Timestamp(0),
            id: Uuid::from_u128(u128::from(*revision)),
            stream: STREAM,
            event_type,
            content_type: ContentType::Json,
            tombstone: false,
            metadata: b"{}",
            data: data.as_bytes(),
        }
    }

    fn identity(committed: u64) -> Identity {
        Identity { store_id: Uuid::from_u128(7), epoch: Epoch(1), committed: Position(committed) }
    }

    /// What a check says of three events, with snapshots at these revisions; each says what
    /// `falsify` makes of the state.
    fn checked(revisions: &[u64], falsify: impl Fn(&Account) -> Account) -> Outcome {
        let directory = TempDir::new().expect("a directory");
        let events = history();
        let kept = SnapshotStore::open(directory.path(), identity(3));
        let name = StreamName::new(STREAM).expect("a name");
        for revision in revisions {
            let mut account = Account::default();
            for event in events.iter().filter(|event| event.2 <= *revision) {
                account.evolve(&Account::read(view(event)).expect("an event"));
            }
            let snapshot = Snapshot {
                revision: Revision(*revision),
                schema: Account::SCHEMA,
                kind: Account::KIND.to_owned(),
                data: falsify(&account).to_snapshot(),
            };
            kept.put(&name, &snapshot, Position(3)).expect("room");
        }
        kept.close();
        let opened = Snapshots::open(directory.path(), identity(3)).expect("a copy");
        let mut snapshots = opened.expect("there are some");
        for event in &events {
            snapshots.enter(view(event));
        }
        snapshots.finish()
    }

    #[test]
    fn snapshots_are_right_wrong_or_beyond_their_stream() {
        let right = checked(&[0, 2], Account::clone);
        assert_eq!((right.right, right.is_sound()), (2, true), "{right:?}");
        let wrong = checked(&[1], |_| Account::default());
        assert_eq!((wrong.right, wrong.wrong.len()), (0, 1), "{wrong:?}");
        assert!(wrong.wrong[0].contains("revision 1"), "{wrong:?}");
        assert!(wrong.rows()[0].1.contains("delete"), "{wrong:?}");
        let beyond = checked(&[1, 9], Account::clone);
        assert_eq!((beyond.right, beyond.wrong.len()), (1, 1), "{beyond:?}");
        assert!(beyond.wrong[0].contains("no such event"), "{beyond:?}");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "files of the test")]
    fn what_does_not_fit_is_not_copied_and_that_is_said() {
        let directory = TempDir::new().expect("a directory");
        SnapshotStore::open(directory.path(), identity(3)).close();
        // Of no bytes on the disk, and more than any has free.
        let large = fs::File::create(directory.path().join("large")).expect("a file");
        large.set_len(1 << 42).expect("a sparse file");
        let outcome = Snapshots::open(directory.path(), identity(3)).expect_err("no room");
        let said = outcome.unchecked.clone().expect("why");
        assert!(said.contains("4.00 TiB are needed") && said.contains("TMPDIR"), "{said}");
        assert!(outcome.is_sound(), "{outcome:?}");
    }

    #[test]
    fn what_is_of_another_store_is_not_checked_and_nothing_is_no_fault() {
        let directory = TempDir::new().expect("a directory");
        let none = Snapshots::open(&directory.path().join("none"), identity(0));
        assert!(none.expect("no fault").is_none());
        SnapshotStore::open(directory.path(), identity(3)).close();
        let names = || Command::new("ls").arg(directory.path()).output().expect("ls").stdout;
        let before = names();
        let other = Identity { store_id: Uuid::from_u128(8), ..identity(3) };
        let outcome = Snapshots::open(directory.path(), other).expect_err("another store's");
        assert!(outcome.is_sound() && outcome.unchecked.is_some(), "{outcome:?}");
        assert_eq!(names(), before);
    }
}
