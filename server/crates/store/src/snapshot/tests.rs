//! What must hold of snapshots, whatever happens to their files.

#![expect(clippy::disallowed_methods, reason = "these tests damage sled's files")]

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use daybook_model::{Epoch, Position, Revision, StreamName};
use tempfile::TempDir;
use uuid::Uuid;

use daybook_cache::Fault;
use daybook_cache::limits::SET_ASIDE_MAX;

use super::limits::{Limits, SNAPSHOT_SIZE_MAX};
use super::{Identity, Snapshot, SnapshotError, SnapshotStore};

const IDENTITY: Identity =
    Identity { store_id: Uuid::from_u128(7), epoch: Epoch(1), committed: Position(1000) };

fn stream(name: &str) -> StreamName {
    StreamName::new(name).unwrap()
}

fn snapshot(revision: u64) -> Snapshot {
    Snapshot {
        revision: Revision(revision),
        schema: 2,
        kind: "account".to_owned(),
        data: Bytes::from(format!("state at {revision}")),
    }
}

fn open(directory: &TempDir) -> SnapshotStore {
    SnapshotStore::open(directory.path(), IDENTITY)
}

fn put(store: &SnapshotStore, name: &str, revision: u64) {
    store.put(&stream(name), &snapshot(revision), Position(900)).unwrap();
}

fn revision_of(store: &SnapshotStore, name: &str, bound: Option<u64>) -> Option<u64> {
    store.latest(&stream(name), bound.map(Revision)).unwrap().map(|found| {
        assert_eq!(found, snapshot(found.revision.0));
        found.revision.0
    })
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A closed store with snapshots of many streams, and where its sled lies.
fn filled(directory: &TempDir) -> PathBuf {
    let store = open(directory);
    for i in 0..200 {
        put(&store, &format!("account-{i}"), i);
    }
    store.close();
    directory.path().join("live-1")
}

/// Whatever a store of damaged files answers is either nothing or what was put, and it works on.
fn assert_disposable(directory: &TempDir) -> SnapshotStore {
    let store = open(directory);
    for i in 0..200 {
        let found = revision_of(&store, &format!("account-{i}"), None);
        assert!(found.is_none() || found == Some(i), "account-{i}: {found:?}");
    }
    put(&store, "after", 3);
    assert_eq!(revision_of(&store, "after", None), Some(3));
    store
}

#[test]
fn the_newest_at_or_before_a_revision_is_found() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    assert_eq!(revision_of(&store, "a", None), None);
    for revision in [10, 20, 30] {
        put(&store, "a", revision);
    }
    put(&store, "ab", 99);
    let cases = [
        (None, Some(30)),
        (Some(31), Some(30)),
        (Some(30), Some(30)),
        (Some(29), Some(20)),
        (Some(10), Some(10)),
        (Some(9), None),
        (Some(u64::MAX), Some(30)),
    ];
    for (bound, expected) in cases {
        assert_eq!(revision_of(&store, "a", bound), expected, "{bound:?}");
    }
    assert_eq!(store.rebuilt_reason(), None, "{:?}", store.notes());
}

#[test]
fn a_deleted_stream_has_no_snapshots_and_others_keep_theirs() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    for name in ["a", "ab", "a-1"] {
        put(&store, name, 1);
        put(&store, name, 2);
    }
    assert_eq!(store.delete(&stream("a")).unwrap(), 2);
    assert_eq!(store.delete(&stream("a")).unwrap(), 0);
    assert_eq!(revision_of(&store, "a", None), None);
    assert_eq!(revision_of(&store, "ab", None), Some(2));
    assert_eq!(revision_of(&store, "a-1", None), Some(2));
    assert_eq!(store.stats().entries, 4);
}

#[test]
fn only_the_highest_revisions_of_a_stream_are_kept() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    for revision in [5, 1, 4, 2, 3] {
        put(&store, "a", revision);
    }
    assert_eq!(revision_of(&store, "a", Some(3)), Some(3));
    assert_eq!(revision_of(&store, "a", Some(2)), None);
    assert_eq!(store.stats().entries, 3);
}

#[test]
fn a_second_put_at_a_revision_replaces_the_first() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    put(&store, "a", 1);
    let newer = Snapshot { schema: 9, ..snapshot(1) };
    store.put(&stream("a"), &newer, Position(900)).unwrap();
    assert_eq!(store.latest(&stream("a"), None).unwrap(), Some(newer));
    assert_eq!(store.stats().entries, 1);
}

#[test]
fn snapshots_and_totals_survive_a_reopen() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    put(&store, "a", 1);
    put(&store, "b", 2);
    let before = store.stats();
    store.close();
    assert!(matches!(store.latest(&stream("a"), None), Err(SnapshotError::Unavailable { .. })));
    let store = open(&directory);
    assert_eq!(store.stats(), before);
    assert_eq!(revision_of(&store, "a", None), Some(1));
    assert_eq!(revision_of(&store, "b", None), Some(2));
    assert_eq!(store.notes(), Vec::<String>::new());
}

#[test]
fn what_breaks_a_limit_is_refused_and_the_limit_itself_fits() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let name = stream(&"n".repeat(daybook_model::limits::STREAM_NAME_SIZE_MAX));
    let sized = |data: usize, kind: usize| Snapshot {
        data: Bytes::from(vec![7; data]),
        kind: "k".repeat(kind),
        ..snapshot(1)
    };
    let largest = sized(SNAPSHOT_SIZE_MAX, 255);
    store.put(&name, &largest, Position(1)).unwrap();
    assert_eq!(store.latest(&name, None).unwrap(), Some(largest));
    assert_eq!(
        store.put(&name, &sized(SNAPSHOT_SIZE_MAX + 1, 1), Position(1)),
        Err(SnapshotError::TooLarge { size: SNAPSHOT_SIZE_MAX + 1 })
    );
    assert_eq!(
        store.put(&name, &sized(1, 256), Position(1)),
        Err(SnapshotError::KindTooLong { size: 256 })
    );
}

#[test]
fn the_longest_untouched_go_when_a_total_is_exceeded() {
    let directory = TempDir::new().unwrap();
    let limits = Limits { entries: 5, ..Limits::default() };
    let store = SnapshotStore::open_with(directory.path(), IDENTITY, limits);
    for i in 0..8 {
        put(&store, &format!("s-{i}"), i);
    }
    put(&store, "s-3", 33);
    assert_eq!(store.stats().entries, 5);
    // The older snapshot of s-3 made room for its newer one.
    for (i, expected) in [(0, None), (2, None), (3, Some(33)), (4, Some(4)), (7, Some(7))] {
        assert_eq!(revision_of(&store, &format!("s-{i}"), None), expected, "s-{i}");
    }
    assert_eq!(revision_of(&store, "s-3", Some(32)), None);
    store.close();

    let limits = Limits { bytes: 1, ..Limits::default() };
    let store = SnapshotStore::open_with(directory.path(), IDENTITY, limits);
    put(&store, "t", 1);
    assert_eq!((store.stats().entries, store.stats().bytes), (0, 0));
    assert_eq!(store.rebuilt_reason(), None, "{:?}", store.notes());
}

#[test]
fn a_sled_of_another_history_is_set_aside() {
    let cases = [
        ("store", Identity { store_id: Uuid::from_u128(8), ..IDENTITY }),
        ("epoch", Identity { epoch: Epoch(0), ..IDENTITY }),
        ("epoch", Identity { epoch: Epoch(2), ..IDENTITY }),
        ("log ends at 899", Identity { committed: Position(899), ..IDENTITY }),
    ];
    for (reason, identity) in cases {
        let directory = TempDir::new().unwrap();
        filled(&directory);
        let store = SnapshotStore::open(directory.path(), identity);
        assert!(store.rebuilt_reason().unwrap().contains(reason), "{:?}", store.rebuilt_reason());
        assert_eq!(store.notes().len(), 1);
        assert_eq!(revision_of(&store, "account-1", None), None);
        put(&store, "account-1", 5);
        assert_eq!(revision_of(&store, "account-1", None), Some(5));
        assert_eq!(names(directory.path()), ["bad-1", "live-2"]);
    }
}

#[test]
fn a_log_that_ends_where_the_stamp_does_keeps_its_snapshots() {
    let directory = TempDir::new().unwrap();
    filled(&directory);
    let identity = Identity { committed: Position(900), ..IDENTITY };
    let store = SnapshotStore::open(directory.path(), identity);
    assert_eq!(revision_of(&store, "account-7", None), Some(7));
    assert_eq!(store.rebuilt_reason(), None, "{:?}", store.notes());
}

#[test]
fn a_junk_snapshot_file_of_sled_is_set_aside() {
    let directory = TempDir::new().unwrap();
    let live = filled(&directory);
    fs::write(live.join("snap.0000000000000FFF.generating"), b"junk").unwrap();
    fs::write(live.join("snap.0000000000000FFF"), b"junk").unwrap();
    let store = assert_disposable(&directory);
    assert!(store.rebuilt_reason().is_some());
}

#[test]
fn a_truncated_snapshot_file_of_sled_is_set_aside() {
    let directory = TempDir::new().unwrap();
    let live = filled(&directory);
    // sled writes the file when it opens what it wrote before.
    open(&directory).close();
    let snaps: Vec<String> =
        names(&live).into_iter().filter(|name| name.starts_with("snap.")).collect();
    assert!(!snaps.is_empty(), "sled left no snapshot file: {:?}", names(&live));
    for name in snaps {
        let file = fs::OpenOptions::new().write(true).open(live.join(name)).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    }
    let store = assert_disposable(&directory);
    assert!(store.rebuilt_reason().is_some());
}

#[test]
fn random_bytes_in_the_database_file_are_never_served() {
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    for writes in [1, 2, 4, 8, 16, 64, 256] {
        let directory = TempDir::new().unwrap();
        let live = filled(&directory);
        let path = live.join("db");
        let size = fs::metadata(&path).unwrap().len();
        let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        for _ in 0..writes {
            file.seek(SeekFrom::Start(random() % size)).unwrap();
            file.write_all(&random().to_le_bytes()).unwrap();
        }
        assert_disposable(&directory);
    }
}

#[test]
fn a_database_file_cut_short_or_missing_is_no_obstacle() {
    for keep in [0, 1000, 100_000] {
        let directory = TempDir::new().unwrap();
        let live = filled(&directory);
        fs::OpenOptions::new().write(true).open(live.join("db")).unwrap().set_len(keep).unwrap();
        assert_disposable(&directory);
    }
    let directory = TempDir::new().unwrap();
    let live = filled(&directory);
    fs::remove_file(live.join("db")).unwrap();
    assert_disposable(&directory);
    fs::remove_dir_all(directory.path()).unwrap();
    assert_disposable(&directory);
}

#[test]
fn a_flipped_bit_in_a_record_is_skipped_and_counted() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    put(&store, "a", 1);
    put(&store, "a", 2);
    let bits = 8 * 60;
    for bit in (0..bits).step_by(7) {
        put(&store, "a", 3);
        store.with_live(|live| {
            live.overwrite(&stream("a"), Revision(3), |value| value[bit / 8] ^= 1 << (bit % 8));
            Ok(())
        });
        assert_eq!(revision_of(&store, "a", None), Some(2), "bit {bit}");
    }
    assert!(store.stats().damaged > 0);
    assert_eq!(store.rebuilt_reason(), None, "{:?}", store.notes());
}

#[test]
fn a_record_under_the_key_of_another_is_not_served() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    put(&store, "a", 1);
    put(&store, "b", 1);
    let mut other = Vec::new();
    store.with_live(|live| {
        live.overwrite(&stream("b"), Revision(1), |value| other.clone_from(value));
        live.overwrite(&stream("a"), Revision(1), |value| value.clone_from(&other));
        Ok(())
    });
    assert_eq!(revision_of(&store, "a", None), None);
    assert_eq!(revision_of(&store, "b", None), Some(1));
}

#[test]
fn a_fault_while_running_begins_anew_three_times_and_then_snapshots_are_off() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    for beginning in 1..=4_u64 {
        put(&store, "a", beginning);
        assert_eq!(revision_of(&store, "a", None), Some(beginning));
        let none: Option<()> = store.with_live(|_| Err(Fault("planted".to_owned())));
        assert_eq!(none, None);
        assert_eq!(store.rebuilt_reason(), Some("planted".to_owned()));
        assert_eq!(store.stats().rebuilt, beginning);
    }
    let error = store.put(&stream("a"), &snapshot(9), Position(900)).unwrap_err();
    assert_eq!(error, SnapshotError::Unavailable { reason: "planted".to_owned() });
    drop(store);

    // The next process uses the newest and keeps no more than a few of the others.
    let store = open(&directory);
    put(&store, "a", 10);
    let aside = names(directory.path()).iter().filter(|name| name.starts_with("bad-")).count();
    assert!(aside <= SET_ASIDE_MAX, "{:?}", names(directory.path()));
}

#[test]
fn a_panic_of_sled_begins_anew() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    put(&store, "a", 1);
    let none = store.with_live(|_| super::live::guarded_panic());
    assert_eq!(none, None);
    assert!(store.rebuilt_reason().unwrap().contains("panicked"));
    put(&store, "a", 2);
    assert_eq!(revision_of(&store, "a", None), Some(2));
}

#[test]
fn a_directory_that_cannot_be_used_turns_snapshots_off() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("snapshots");
    fs::write(&file, b"not a directory").unwrap();
    let store = SnapshotStore::open(&file, IDENTITY);
    assert!(matches!(store.latest(&stream("a"), None), Err(SnapshotError::Unavailable { .. })));
    assert_eq!(store.notes().len(), 1);
    assert_eq!(fs::read(&file).unwrap(), b"not a directory");
}

#[test]
fn threads_share_the_store() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for i in 0..50 {
                    put(store, &format!("s-{thread}"), i);
                    assert_eq!(revision_of(store, &format!("s-{thread}"), None), Some(i));
                }
            });
        }
    });
    assert_eq!(store.stats().entries, 12);
}
