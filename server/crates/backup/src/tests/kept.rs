//! What is there: listed page by page, and one of it checked.

use std::sync::Arc;

use daybook_model::Timestamp;
use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;
use object_store::path::Path;

use super::faults::{Fault, Faulty};
use super::log::{Log, Place};
use crate::archive::Archive;
use crate::check::{Findings, check, check_one};
use crate::list::page;
use crate::manifest::Kind;
use crate::pace::Pace;
use crate::repository::{Halt, Name, Repository};
use crate::{RepositoryError, Until};

/// A repository of three backups and an archive, which goes furthest.
fn filled() -> (InMemory, Place) {
    let mut log = Log::new(1);
    let inner = InMemory::new();
    let place = Place::of(Arc::new(inner.clone()));
    for now in 1..=3 {
        log.grow(20);
        log.take(&place.repository(log.store()).expect("opens"), now).expect("taken");
    }
    log.grow(2);
    let repository = place.repository(log.store()).expect("opens");
    let mut archive = Archive::open(repository, &log.extent()).expect("an archive");
    archive.round(&log.extent(), Timestamp(4)).expect("archived");
    (inner, place)
}

fn flip(place: &Place, key: &str) {
    let mut bytes = place.objects().get(key).expect("there").to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    place.objects().put(key, bytes.into()).expect("written");
}

#[test]
fn pages_hold_each_backup_once_newest_first_and_say_which_cannot_be_read() {
    let (_, place) = filled();
    let repository = place.open();
    let all = repository.names().expect("listed");
    let damaged = all[1].key.clone();
    flip(&place, &damaged);
    for limit in [1, 2, 3, 4, usize::MAX] {
        let (mut after, mut found, mut problems) = (None::<Name>, Vec::new(), Vec::new());
        loop {
            let page = page(&repository, after.as_ref(), limit).expect("listed");
            assert!(page.backups.len() + page.problems.len() <= limit);
            found.extend(page.backups.into_iter().map(|(name, manifest)| {
                assert_eq!((name.taken, name.end), (manifest.taken, manifest.end));
                name
            }));
            problems.extend(page.problems);
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        let expected: Vec<Name> = all.iter().rev().filter(|n| n.key != damaged).cloned().collect();
        assert_eq!(found, expected, "{limit} at a time");
        assert!(problems.len() == 1 && problems[0].contains(&damaged), "{problems:?}");
    }
    for (key, is_name) in [
        (all[0].key.as_str(), true),
        ("archive/1-2-3-a.json", true),
        ("segments/1-2-3-a.json", false),
        ("archive/1-2-a.json", false),
        ("archive/one-2-3-a.json", false),
        ("", false),
    ] {
        assert_eq!(Name::parse(key).is_some(), is_name, "{key}");
    }
}

#[test]
fn one_backup_is_checked_for_its_own_objects_and_no_other() {
    let (_, place) = filled();
    let repository = place.open();
    let checked = |named: Option<&str>| check_one(&repository, named, &mut |_, _| {});
    let (newest, findings) = checked(None).expect("checked");
    assert_eq!((newest.kind(), findings.backups), (Kind::Archive, 1));
    let mut told = Vec::new();
    check_one(&repository, None, &mut |done, all| told.push((done, all))).expect("checked");
    assert_eq!(told.first(), Some(&(0, findings.bytes)), "it says at once how much there is");
    assert_eq!(told.last(), Some(&(findings.bytes, findings.bytes)));
    assert_eq!(told.len(), findings.objects + 1);
    assert_eq!(checked(Some("backups/")).expect("checked").0.taken, 3, "the newest of several");
    let none = checked(Some("backups/9")).expect_err("none");
    assert!(matches!(none, RepositoryError::NoSuchBackup { .. }), "{none}");
    // What only the archive has.
    let tail = place.keys("tails").remove(0);
    flip(&place, &tail);
    let problems = |named| checked(named).expect("checked").1.problems;
    assert!(problems(None)[0].contains(&tail), "{:?}", problems(None));
    assert_eq!(problems(Some("backups/")), Vec::<String>::new());
    // A manifest of its own.
    flip(&place, &newest.key);
    assert!(problems(None)[0].contains(&newest.key), "{:?}", problems(None));
    place.restore(Until::End).expect_err("the newest is damaged");
}

#[test]
fn a_manifest_that_archiving_replaces_while_it_is_read_is_no_damage() {
    let (inner, _) = filled();
    let sound_though_missing = |work: fn(&Arc<Repository>) -> Result<Findings, RepositoryError>| {
        let mut survived = 0;
        // The first call reads whose repository it is.
        for at in 1..500 {
            let faulty = Faulty::new(&inner, at, Fault::Missing);
            let found = work(&Place::of(faulty.clone()).open());
            if !faulty.was_struck() {
                return survived;
            }
            survived += u32::from(found.is_ok_and(|found| found.problems.is_empty()));
        }
        panic!("the work has no end");
    };
    let one = sound_though_missing(|it| check_one(it, None, &mut |_, _| {}).map(|(_, it)| it));
    let all = sound_though_missing(|it| check(it, None, &mut |_, _| {}));
    assert_eq!((one, all), (1, 1), "only the archive's manifest may be gone");
}

#[test]
fn who_is_halted_waits_for_no_pace_and_reads_no_more() {
    let (inner, place) = filled();
    let halt = Halt::default();
    let repository = place.open_with(Default::default());
    halt.now();
    Pace::new(Some(1)).spend(u64::MAX >> 12, &place.objects(), &halt);
    let repository = Arc::into_inner(repository).expect("no other handle").halted_by(halt);
    let halted = check_one(&repository, None, &mut |_, _| {}).expect_err("halted");
    assert!(matches!(halted, RepositoryError::Halted), "{halted}");
    let gone = place.keys("segments").remove(0);
    place.runtime.block_on(inner.delete(&Path::from(gone.as_str()))).expect("removed");
    let found = check_one(&place.open(), None, &mut |_, _| {}).expect("checked").1.problems;
    assert!(found.iter().any(|line| line.contains(&gone) && line.contains("missing")), "{found:?}");
}
