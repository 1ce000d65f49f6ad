//! Backups, archives and restores as they should go.

use std::time::Duration;

use age::secrecy::ExposeSecret as _;
use daybook_log::disk::sim::SimDisk;
use daybook_model::{Position, Timestamp};

use super::log::{Log, Place, STEP, contents, restore};
use crate::archive::Archive;
use crate::check::check;
use crate::keys::Keys;
use crate::manifest::Kind;
use crate::prune::{Keep, LEFT_STAYS, Mode, prune};
use crate::repository::Name;
use crate::restore::{Plan, Until};
use crate::{RepositoryError, Round};

#[test]
fn a_second_backup_copies_only_what_is_new() {
    let (mut log, place) = (Log::new(1), Place::new());
    let repository = place.repository(log.store()).expect("a repository");
    log.grow(60);
    let first = log.take(&repository, 1).expect("taken");
    assert!(first.segments > 3 && first.moved.reused == 0, "{first:?}");
    assert!(first.moved.objects > first.segments as u64, "segments have several pieces");
    log.grow(3);
    let second = log.take(&repository, 2).expect("taken");
    assert!(second.moved.bytes < first.moved.bytes / 4, "{second:?}");
    assert!(second.moved.reused > first.moved.bytes / 2, "{second:?}");
    let again = log.take(&repository, 3).expect("taken");
    assert_eq!(again.moved.objects, 0, "nothing is new");
    let (restored, epoch) = place.restore(Until::End).expect("restored");
    assert_eq!(contents(&restored), contents(&log.disk));
    assert!(epoch > 0);
}

#[test]
fn a_log_is_restored_to_any_position_and_never_cut_within_a_commit() {
    let (mut log, place) = (Log::new(1), Place::new());
    log.grow(50);
    log.rest();
    log.rewrite(0, &[1, 4]);
    log.take(&place.repository(log.store()).expect("a repository"), 1).expect("taken");
    let whole = contents(&log.disk);
    for position in 0..150 {
        let (restored, _) = place.restore(Until::Position(Position(position))).expect("restored");
        let end = (position as usize / 3 + 1) * 3;
        assert_eq!(contents(&restored), whole[..end], "position {position}");
        // It is a log that goes on.
        let mut log = Log::on(restored, 9);
        log.grow(1);
        assert_eq!(contents(&log.disk).len(), end + 3);
    }
    let refused = place.restore(Until::Position(Position(150))).expect_err("not there");
    assert!(matches!(refused, RepositoryError::NoSuchBackup { .. }), "{refused}");
}

#[test]
fn a_log_is_restored_to_any_time_that_is_covered() {
    let (mut log, place) = (Log::new(1), Place::new());
    log.grow(50);
    let taken = 60 * STEP;
    log.take(&place.repository(log.store()).expect("a repository"), taken).expect("taken");
    let whole = contents(&log.disk);
    // An append that was under way when the backup was taken may be a little older.
    const SETTLED: i64 = 10_000_000_000;
    for (time, commits) in [
        (0, 1),
        (STEP - 1, 1),
        (STEP, 2),
        (20 * STEP + 1, 21),
        (49 * STEP - 1, 49),
        (49 * STEP, 50),
        (taken - SETTLED, 50),
    ] {
        let (restored, _) = place.restore(Until::Time(Timestamp(time))).expect("restored");
        assert_eq!(contents(&restored), whole[..commits * 3], "{time}");
    }
    for time in [-1, taken - SETTLED + 1, taken + 1] {
        let refused = place.restore(Until::Time(Timestamp(time))).expect_err("not covered");
        assert!(matches!(refused, RepositoryError::NoSuchBackup { .. }), "{time}: {refused}");
    }
}

#[test]
fn an_archive_follows_the_log_in_few_pieces_and_through_restarts() {
    let (mut log, place) = (Log::new(1), Place::new());
    let open = |log: &Log| {
        let repository = place.repository(log.store()).expect("a repository");
        Archive::open(repository, &log.extent()).expect("an archive")
    };
    log.grow(1);
    let mut archive = open(&log);
    let mut written = 0;
    for round in 1..60 {
        log.grow(1);
        if round % 7 == 0 {
            log.rest();
        }
        if round % 10 == 0 {
            archive = open(&log);
        }
        let Round { end, moved, more } =
            archive.round(&log.extent(), Timestamp(round * STEP)).expect("archived");
        assert_eq!((end, more), (log.extent().committed, false));
        written += moved.bytes;
        let (restored, _) = place.restore(Until::End).expect("restored");
        assert_eq!(contents(&restored), contents(&log.disk), "round {round}");
        let (_, newest) = newest(&place);
        assert!(newest.tail.pieces.len() <= 9, "{} pieces", newest.tail.pieces.len());
        assert_eq!(place.keys("archive").len(), 2.min(round as usize));
        let still = archive.round(&log.extent(), Timestamp(round * STEP)).expect("archived");
        assert_eq!(still.moved.objects, 0, "nothing is new");
    }
    let size = newest(&place).1.size;
    assert!(written < size * 4, "{written} bytes were written for {size}");
    let findings = check(&place.open(), None, &mut |_, _| {}).expect("checked");
    assert_eq!(findings.problems, Vec::<String>::new());
    // A day later what nobody names is gone.
    assert!(findings.unnamed > 0);
    let mut archive = open(&log);
    for _ in 0..20 {
        archive.round(&log.extent(), Timestamp(i64::MAX)).expect("archived");
    }
    let tails = |name: &String| name.starts_with("tails");
    let there = place.keys("tails").into_iter().filter(tails).count();
    assert_eq!(there, newest(&place).1.tail.pieces.len());
}

fn newest(place: &Place) -> (String, crate::Manifest) {
    let plan = Plan::new(&place.open(), Until::End, None).expect("a plan");
    (plan.name.key.clone(), plan.manifest)
}

#[test]
fn a_rewritten_segment_is_copied_again_and_each_backup_keeps_its_own() {
    let (mut log, place) = (Log::new(1), Place::new());
    log.grow(60);
    let repository = place.repository(log.store()).expect("a repository");
    let before = contents(&log.disk);
    let first = log.take(&repository, 1).expect("taken");
    let archived = place.repository(log.store()).expect("a repository");
    let mut archive = Archive::open(archived, &log.extent()).expect("an archive");
    archive.round(&log.extent(), Timestamp(1)).expect("archived");
    log.rewrite(0, &[1, 3, 4]);
    log.rewrite(1, &[40]);
    let after = contents(&log.disk);
    assert_ne!(before, after);
    // One a round, to be named by the next.
    for (round, more) in [(2, true), (3, true), (4, false)] {
        let done = archive.round(&log.extent(), Timestamp(round)).expect("archived");
        assert_eq!(done.more, more, "round {round}");
    }
    assert_eq!(contents(&place.restore(Until::End).expect("restored").0), after);
    let second = log.take(&repository, 5).expect("taken");
    assert!(second.moved.objects == 0 && second.manifest.format == 2, "{second:?}");
    assert_eq!(contents(&place.restore(Until::End).expect("restored").0), after);
    let old = Plan::new(&place.open(), Until::End, Some(&first.name.key)).expect("a plan");
    let to = SimDisk::new(3);
    old.restore(&to, &super::log::entropy(1), super::log::SIZES, &mut |_, _| {}).expect("restored");
    assert_eq!(contents(&to), before);
}

#[test]
fn a_repository_takes_one_store_only() {
    let (mut ours, mut other, place) = (Log::new(1), Log::new(100), Place::new());
    ours.grow(5);
    other.grow(5);
    assert_ne!(ours.store(), other.store());
    let repository = place.repository(ours.store()).expect("a repository");
    ours.take(&repository, 1).expect("taken");
    let before = place.keys("");
    let refused = place.repository(other.store()).err().expect("refused").to_string();
    let named = [ours.store(), other.store()].iter().all(|id| refused.contains(&id.to_string()));
    assert!(named, "{refused}");
    assert_eq!(place.keys(""), before);
}

#[test]
fn an_archive_refuses_a_log_that_went_back() {
    let (mut log, place) = (Log::new(1), Place::new());
    log.grow(5);
    let old = log.disk.fork(1);
    log.grow(5);
    let archive = |log: &Log| {
        Archive::open(place.repository(log.store()).expect("a repository"), &log.extent())
    };
    archive(&log).expect("one").round(&log.extent(), Timestamp(1)).expect("archived");
    let mut back = Log::on(old, 30);
    let archived = place.keys("");
    for _ in 0..4 {
        let refused = archive(&back).err().expect("refused");
        assert!(matches!(refused, RepositoryError::Diverged { .. }), "{refused}");
        // Then it has gone as far, but elsewhere, and at last beyond that segment.
        back.grow(20);
    }
    assert!(back.extent().filled().len() > log.extent().filled().len() + 1);
    assert_eq!(place.keys(""), archived, "what was archived of the lost events stays");
    assert_eq!(contents(&place.restore(Until::End).expect("restored").0), contents(&log.disk));
}

#[test]
fn an_archive_goes_on_when_the_segment_that_was_its_last_is_rewritten() {
    let (mut log, place) = (Log::new(1), Place::new());
    log.grow(5);
    let open = |log: &Log| {
        Archive::open(place.repository(log.store()).expect("a repository"), &log.extent())
    };
    open(&log).expect("one").round(&log.extent(), Timestamp(1)).expect("archived");
    log.grow(40);
    log.rewrite(0, &[1, 4]);
    open(&log).expect("the same history").round(&log.extent(), Timestamp(2)).expect("archived");
    assert_eq!(contents(&place.restore(Until::End).expect("restored").0), contents(&log.disk));
}

#[test]
fn pieces_that_are_made_again_after_a_restart_stay_while_a_manifest_names_them() {
    let (mut log, place) = (Log::new(1), Place::new());
    let open = |log: &Log| {
        let repository = place.repository(log.store()).expect("a repository");
        Archive::open(repository, &log.extent()).expect("an archive")
    };
    log.grow(2);
    open(&log).round(&log.extent(), Timestamp(1)).expect("archived");
    // As if it had broken off before the manifest.
    for key in place.keys("archive") {
        place.objects().remove(&key).expect("removed");
    }
    let pieces = place.keys("tails");
    let mut archive = open(&log);
    // Long after they were written, two days apart; in every other one nothing is new.
    const DAYS: i64 = 2 * 24 * 60 * 60 * 1_000_000_000;
    for round in 0..30 {
        let now = Timestamp(i64::MAX / 2 + round * DAYS);
        archive.round(&log.extent(), now).expect("archived");
        if round == 0 {
            assert_eq!(place.keys("tails"), pieces, "the same bytes have the same name");
        }
        let found = check(&place.open(), None, &mut |_, _| {}).expect("checked");
        assert_eq!(found.problems, Vec::<String>::new(), "round {round}");
        log.grow(u32::from(round > 2 && round % 2 == 0));
    }
    assert_eq!(place.keys("archive").len(), 2);
}

#[test]
fn what_an_archive_lacks_is_brought_again_after_a_restart() {
    let (mut log, place) = (Log::new(1), Place::new());
    log.grow(40);
    let mut now = 0;
    let mut round = || {
        now += 1;
        let repository = place.repository(log.store()).expect("a repository");
        let mut archive = Archive::open(repository, &log.extent()).expect("an archive");
        archive.round(&log.extent(), Timestamp(now)).expect("archived").moved
    };
    round();
    assert_eq!(round().objects, 0, "nothing is new");
    for prefix in ["segments", "tails"] {
        let key = place.keys(prefix).swap_remove(0);
        place.objects().remove(&key).expect("removed");
        assert!(round().objects > 0, "{prefix}");
        let restored = place.restore(Until::End).expect("restored").0;
        assert_eq!(contents(&restored), contents(&log.disk), "{prefix}");
    }
}

#[test]
fn the_newest_backup_is_the_one_that_goes_furthest_even_if_the_clock_went_back() {
    let (mut log, place) = (Log::new(1), Place::new());
    let repository = place.repository(log.store()).expect("a repository");
    log.grow(5);
    let first = log.take(&repository, 1000 * STEP).expect("taken").manifest;
    log.grow(5);
    let second = log.take(&repository, 1).expect("taken").manifest;
    assert!(second.taken > first.taken, "the second is not said to be older");
    assert_eq!(newest(&place).1.end, 30);
    let name = |taken, epoch, end| Name { taken, epoch, end, key: String::new() };
    for (names, expected) in [
        (vec![(1, 0, 10), (2, 0, 20)], 1),
        (vec![(1, 0, 20), (2, 0, 10)], 0),
        (vec![(1, 0, 20), (2, 0, 20)], 1),
        // A restored store has less.
        (vec![(1, 0, 20), (2, 7, 10)], 1),
        (vec![(1, 0, 20), (2, 7, 10), (3, 0, 20)], 2),
    ] {
        let names: Vec<Name> = names.into_iter().map(|(t, e, end)| name(t, e, end)).collect();
        assert_eq!(Name::newest(&names), Some(&names[expected]), "{names:?}");
    }
    assert_eq!(Name::newest(&[]), None);
}

#[test]
fn a_restored_store_archives_beside_the_history_that_it_left() {
    let (mut log, place) = (Log::new(1), Place::new());
    log.grow(40);
    let archive = |log: &Log, now| {
        let repository = place.repository(log.store()).expect("a repository");
        let mut archive = Archive::open(repository, &log.extent()).expect("an archive");
        archive.round(&log.extent(), Timestamp(now)).expect("archived")
    };
    archive(&log, 1);
    let (restored, epoch) = place.restore(Until::Position(Position(61))).expect("restored");
    let mut second = Log::on(restored, 77);
    second.grow(30);
    let moved = archive(&second, 2).moved;
    assert!(moved.reused > 0, "what both have is there once: {moved:?}");
    let (_, manifest) = newest(&place);
    assert_eq!((manifest.epoch, manifest.kind), (epoch, Kind::Archive));
    let (again, _) = place.restore(Until::Position(Position(100))).expect("restored");
    assert_eq!(contents(&again), contents(&second.disk)[..102]);
    // The old one goes on: it was not touched.
    log.grow(1);
    archive(&log, 3);
    assert_eq!(contents(&place.restore(Until::End).expect("restored").0), contents(&log.disk));
}

#[test]
fn a_history_that_was_left_by_mistake_can_be_gone_back_to_for_days() {
    let (mut log, place) = (Log::new(1), Place::new());
    log.grow(40);
    let repository = place.repository(log.store()).expect("a repository");
    log.take(&repository, 1).expect("taken");
    log.grow(1);
    let left = log.take(&repository, 2).expect("taken").manifest.end;
    let (restored, epoch) = place.restore(Until::Position(Position(61))).expect("restored");
    let mut second = Log::on(restored, 77);
    second.grow(30);
    second.take(&place.repository(second.store()).expect("a repository"), 3).expect("taken");
    let prune_at = |now| {
        let keep = Keep { daily: 30, ..Keep::default() };
        prune(&repository, &keep, (Timestamp(now), Duration::ZERO), Mode::Remove).expect("pruned")
    };
    let stays = i64::try_from(LEFT_STAYS.as_nanos()).expect("some days");
    let pruned = prune_at(1 + stays);
    assert_eq!((pruned.kept.len(), pruned.removed.len()), (2, 1), "{pruned:?}");
    let kept = place.restore(Until::Position(Position(left - 1)));
    assert!(kept.is_ok(), "{:?}", kept.err());
    let pruned = prune_at(2 + stays);
    assert_eq!(pruned.kept.len(), 1, "{pruned:?}");
    assert!(pruned.kept[0].contains(&format!("{epoch:010}")), "{pruned:?}");
}

#[test]
fn what_is_encrypted_is_checked_without_the_key_and_restored_with_it() {
    let (mut log, place) = (Log::new(1), Place::new());
    log.grow(40);
    let identity = age::x25519::Identity::generate();
    let mut to = Keys::default();
    to.recipients.add(&identity.to_public().to_string()).expect("a recipient");
    let with = |keys: &Keys| place.repository_with(log.store(), keys.clone()).expect("opens");
    let first = log.take(&with(&to), 1).expect("taken");
    let again = log.take(&with(&to), 2).expect("taken");
    assert_eq!(again.moved.objects, 0, "what is there is known, although it cannot be read");
    assert_eq!(first.moved.reused, 0);
    assert!(place.keys("segments").iter().all(|key| key.ends_with(".age")));
    let plain: &[u8] = &[5 ^ 1; 100];
    for key in place.keys("segments") {
        let stored = place.objects().get(&key).expect("there");
        assert!(!stored.windows(plain.len()).any(|window| window == plain), "{key}");
    }
    let findings = check(&place.open(), None, &mut |_, _| {}).expect("checked");
    assert!(findings.problems.is_empty() && !findings.read, "{findings:?}");
    let refused = place.restore(Until::End).expect_err("no key");
    assert!(matches!(refused, RepositoryError::Locked { .. }), "{refused}");

    let mut from = Keys::default();
    from.identities.add(identity.to_string().expose_secret()).expect("an identity");
    let target = SimDisk::new(2);
    restore(&place.open_with(from.clone()), Until::End, &target).expect("restored");
    assert_eq!(contents(&target), contents(&log.disk));
    assert!(check(&place.open_with(from), None, &mut |_, _| {}).expect("checked").read);
    // Whoever stops encrypting, or changes the key, starts with objects of their own.
    let open = log.take(&place.repository(log.store()).expect("opens"), 3).expect("taken");
    assert_eq!(open.moved.reused, 0);
}

#[test]
fn pruning_keeps_what_the_rules_name_and_what_that_needs() {
    const DAY: i64 = 24 * 60 * 60 * 1_000_000_000;
    let (mut log, place) = (Log::new(1), Place::new());
    let repository = place.repository(log.store()).expect("a repository");
    let mut ends = Vec::new();
    // Day 0 was a Thursday; two backups a day.
    for half in 0..20 {
        log.grow(4);
        ends.push(log.take(&repository, half * DAY / 2).expect("taken").manifest.end);
    }
    log.rewrite(0, &[1, 2]);
    ends.push(log.take(&repository, 10 * DAY).expect("taken").manifest.end);
    let now = (Timestamp(i64::MAX), Duration::ZERO);
    let kept = |keep: &Keep, mode| {
        let pruned = prune(&repository, keep, now, mode).expect("pruned");
        let end = |key: &String| -> u64 {
            let digits = key.split('-').nth(2).expect("an end");
            digits.parse().expect("a number")
        };
        (pruned.kept.iter().map(end).collect::<Vec<_>>(), pruned)
    };
    for (keep, expected) in [
        (Keep::default(), vec![20]),
        (Keep { last: 3, ..Keep::default() }, vec![18, 19, 20]),
        (Keep { daily: 3, ..Keep::default() }, vec![17, 19, 20]),
        (Keep { weekly: 2, ..Keep::default() }, vec![7, 20]),
        (Keep { monthly: 2, ..Keep::default() }, vec![20]),
        (Keep { last: 1, daily: 2, weekly: 5, ..Keep::default() }, vec![7, 19, 20]),
    ] {
        let expected: Vec<u64> = expected.into_iter().map(|i: usize| ends[i]).collect();
        assert_eq!(kept(&keep, Mode::Show).0, expected, "{keep:?}");
    }
    let before = place.keys("");
    kept(&Keep::default(), Mode::Show);
    assert_eq!(place.keys(""), before, "nothing is removed unless it is asked for");
    let (_, pruned) = kept(&Keep { last: 2, ..Keep::default() }, Mode::Remove);
    assert!(pruned.objects > 0 && pruned.removed.len() == 19, "{pruned:?}");
    let findings = check(&place.open(), None, &mut |_, _| {}).expect("checked");
    assert_eq!((findings.problems.len(), findings.unnamed, findings.backups), (0, 0, 2));
    assert_eq!(contents(&place.restore(Until::End).expect("restored").0), contents(&log.disk));
    let grace = (Timestamp(0), Duration::ZERO);
    log.grow(10);
    log.take(&repository, 11 * DAY).expect("taken");
    let young = prune(&repository, &Keep::default(), grace, Mode::Remove).expect("pruned");
    assert_eq!((young.objects, young.removed.len()), (0, 2), "objects younger than the grace stay");
}
