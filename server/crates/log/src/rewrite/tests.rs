use std::collections::BTreeSet;
use std::sync::Arc;

use daybook_model::{Entropy, Position};

use super::*;
use crate::backup::{self, Backup};
use crate::chain::digest;
use crate::disk::sim::{CrashMode, SimDisk};
use crate::frame::Batch;
use crate::journal::Sizes;
use crate::recovery::{self, Recovery};
use crate::verify::verify;

const SIZES: Sizes = Sizes { first: 4096, max: 4096 };

#[derive(Debug)]
struct Fixed;

impl Entropy for Fixed {
    fn bytes(&self) -> [u8; 16] {
        [7; 16]
    }
}

/// Events of 100 bytes, three to a commit, until there are three segments.
fn log() -> SimDisk {
    let disk = SimDisk::new(1);
    let opened = recovery::open(Arc::new(disk.clone()), Arc::new(Fixed), SIZES, &mut |_| {});
    let mut journal = opened.expect("a new log").journal;
    for i in 0..30u8 {
        let mut batch = Batch::new(journal.store_salt(), journal.end(), journal.chain());
        let salt = [i; 16];
        let mut commit = batch.begin(&salt);
        for event in 0..3u8 {
            let body = [i * 3 + event; 100];
            commit.record(&[i, event], &body, &digest(&salt, u32::from(event), &body));
        }
        commit.finish();
        journal.write(&mut batch).expect("written");
        journal.sync().expect("synced");
    }
    disk
}

fn segments(disk: &SimDisk) -> Vec<Arc<Segment>> {
    recovery::load(disk, &mut Recovery::default()).expect("a log")
}

struct Those(BTreeSet<u64>);

impl Judge for Those {
    fn goes(&mut self, position: Position, _: &Record<'_>) -> bool {
        self.0.contains(&position.0)
    }

    fn trace(&mut self, position: Position, record: &Record<'_>, trace: &mut Vec<u8>) {
        trace.extend_from_slice(&position.0.to_le_bytes());
        trace.extend_from_slice(&record.body[..2]);
    }
}

fn draft(disk: &SimDisk, which: usize, removed: &[u64]) -> (Arc<Segment>, Plan, Draft) {
    let segment = segments(disk)[which].clone();
    let mut judge = Those(removed.iter().copied().collect());
    let plan = plan(&segment, &mut judge, &mut |_| true).expect("a plan");
    let draft = write(disk, &segment, &plan, [9; 16], &mut judge, &mut |_| true).expect("a draft");
    (segment, plan, draft)
}

fn rewritten(disk: &SimDisk, which: usize, removed: &[u64]) -> Plan {
    let (segment, plan, draft) = draft(disk, which, removed);
    read_back(&segment, &draft, &plan, &mut |_| true).expect("it is sound");
    draft.install(disk).expect("installed");
    disk_remove(disk, &segment.name);
    plan
}

fn disk_remove(disk: &SimDisk, name: &str) {
    crate::disk::Disk::remove(disk, name).expect("removed");
}

/// What the whole log holds: of each position its place and body, or its trace.
fn contents(disk: &SimDisk) -> Vec<(bool, Vec<u8>)> {
    let mut out = Vec::new();
    verify(disk, &mut |_| {}, &mut |found| {
        assert_eq!(found.position.0, out.len() as u64);
        out.push((found.removed, found.payload.to_vec()));
    })
    .expect("it verifies");
    out
}

#[test]
fn what_stays_is_the_same_and_what_goes_leaves_its_place_and_trace() {
    let disk = log();
    let before = contents(&disk);
    let chain = verify(&disk, &mut |_| {}, &mut |_| {}).expect("sound").chain;
    // One of a commit, all of a commit; then once more from what is left.
    rewritten(&disk, 0, &[1, 3, 4, 5]);
    let plan = rewritten(&disk, 0, &[1, 2, 3, 9]);
    assert_eq!(plan.removed, 2, "what was removed before is not asked about");
    let after = contents(&disk);
    let removed = [1, 2, 3, 4, 5, 9];
    for (position, (before, after)) in (0u64..).zip(before.iter().zip(&after)) {
        if removed.contains(&position) {
            let mut left = before.1[..2].to_vec();
            left.extend_from_slice(&position.to_le_bytes());
            left.extend_from_slice(&before.1[2..4]);
            assert_eq!(*after, (true, left), "{position}");
        } else {
            assert_eq!(after, before, "{position}");
        }
    }
    let verified = verify(&disk, &mut |_| {}, &mut |_| {}).expect("sound");
    assert_eq!(verified.chain, chain, "the chain is the same");
    let segment = segments(&disk)[0].clone();
    assert_eq!((segment.header.generation, segment.header.format()), (2, 2));
    assert!(!disk.names().iter().any(|name| name.ends_with(".tmp")), "{:?}", disk.names());
}

#[test]
fn bytes_of_removed_events_are_nowhere_in_the_new_file() {
    let disk = log();
    let all: Vec<u64> = (1..200).collect();
    let plan = rewritten(&disk, 0, &all);
    assert!(plan.gain() * 10 > plan.size, "{plan:?}");
    let bytes = disk.read_all(&segments(&disk)[0].name).expect("it is there");
    assert_eq!(bytes.len() as u64, plan.size_after);
    let gone = [4u8; 100];
    assert!(!bytes.windows(10).any(|window| window == &gone[..10]));
    // Nor the random bytes, with which a digest could be guessed back.
    assert!(!bytes.windows(16).any(|window| window == [2; 16]));
}

#[test]
fn every_flipped_bit_of_a_draft_is_noticed_before_it_counts() {
    let disk = log();
    let (segment, plan, draft) = draft(&disk, 0, &[1, 4, 7, 8]);
    let size = plan.size_after;
    for byte in (0..size).step_by(3) {
        let disk = disk.fork(byte);
        disk.flip_bit(&draft.temporary(), byte, (byte % 8) as u32).expect("flipped");
        let file = crate::disk::Disk::open(&disk, &draft.temporary()).expect("it is there");
        let (header, name) = (draft.segment.header.clone(), draft.segment.name.clone());
        let copy = Draft { segment: Arc::new(Segment { header, name, file }) };
        let read = read_back(&segment, &copy, &plan, &mut |_| true);
        // The zeros that fill a frame up hold nothing.
        let padding = read.is_ok() && {
            let bytes = disk.read_all(&draft.temporary()).expect("readable");
            bytes[byte as usize].count_ones() == 1
        };
        assert!(read.is_err() || padding, "byte {byte}: {read:?}");
    }
}

#[test]
fn an_unsound_newer_generation_is_set_aside_and_a_sound_one_counts() {
    for damaged in [false, true] {
        let disk = log();
        let (old, _, draft) = draft(&disk, 0, &[1, 4]);
        draft.install(&disk).expect("installed");
        if damaged {
            disk.flip_bit(&draft.segment.name, 700, 1).expect("flipped");
        }
        let names = |disk: &SimDisk, suffix: &str| -> Vec<String> {
            disk.names().into_iter().filter(|name| name.ends_with(suffix)).collect()
        };
        let disk = disk.restart();
        let wanted = if damaged { &old.name } else { &draft.segment.name };
        assert_eq!(segments(&disk)[0].name, *wanted, "also for who only reads");
        let opened = recovery::open(Arc::new(disk.clone()), Arc::new(Fixed), SIZES, &mut |_| {});
        let recovery = opened.expect("it opens").recovery;
        assert_eq!(recovery.set_aside.len(), usize::from(damaged));
        assert_eq!(names(&disk, ".bad").len(), usize::from(damaged));
        assert!(names(&disk, ".log").contains(wanted));
        let first = |name: &&String| name.starts_with("00000000000000000000-");
        assert_eq!(names(&disk, ".log").iter().filter(first).count(), 1);
        assert_eq!(contents(&disk)[4].0, !damaged);
    }
}

#[test]
fn a_crash_anywhere_leaves_one_generation_that_counts() {
    let whole = log();
    let before = contents(&whole);
    let changes = {
        let disk = whole.fork(1);
        let start = disk.changes();
        rewritten(&disk, 0, &[1, 3, 4, 5]);
        disk.changes() - start
    };
    for change in 0..=changes {
        for mode in CrashMode::CERTAIN {
            let disk = whole.fork(2);
            disk.crash_at_change(disk.changes() + change);
            let segment = segments(&disk)[0].clone();
            let mut judge = Those([1, 3, 4, 5].into());
            let plan = plan(&segment, &mut judge, &mut |_| true).expect("a plan");
            let done = write(&disk, &segment, &plan, [9; 16], &mut judge, &mut |_| true).and_then(
                |draft| {
                    read_back(&segment, &draft, &plan, &mut |_| true)?;
                    Ok(draft.install(&disk)?)
                },
            );
            if done.is_ok() {
                let _ = crate::disk::Disk::remove(&disk, &segment.name);
            }
            disk.crash(mode);
            let disk = disk.restart();
            recovery::open(Arc::new(disk.clone()), Arc::new(Fixed), SIZES, &mut |_| {})
                .unwrap_or_else(|e| panic!("change {change}, {mode:?}: {e}"));
            let after = contents(&disk);
            assert_eq!(after.len(), before.len());
            let gone = after.iter().filter(|(removed, _)| *removed).count();
            assert!([0, 4].contains(&gone), "change {change}, {mode:?}: {gone}");
            assert!(done.is_err() || gone == 4, "what was installed counts");
        }
    }
}

#[test]
fn a_backup_of_a_rewritten_log_is_restored_with_its_holes() {
    let disk = log();
    rewritten(&disk, 0, &[1, 3, 4, 5]);
    rewritten(&disk, 1, &[40, 41]);
    let before = contents(&disk);
    let (saved, restored) = (SimDisk::new(2), SimDisk::new(3));
    let taken = Backup::of_disk(&disk).expect("a backup");
    let manifest = backup::save(&taken, &saved, &mut |_, _| {}).expect("saved");
    assert_eq!(manifest.format, 2, "an older version refuses it by its manifest");
    backup::restore(&saved, &restored, &Fixed, SIZES, &mut |_, _| {}).expect("restored");
    assert_eq!(contents(&restored), before);
}

#[test]
fn a_rewrite_stops_when_it_is_told_to_and_leaves_nothing() {
    let disk = log();
    let names = disk.names();
    let segment = segments(&disk)[0].clone();
    let mut judge = Those([1].into());
    let planned = plan(&segment, &mut judge, &mut |_| false);
    assert!(matches!(planned, Err(RewriteError::Stopped)));
    let planned = plan(&segment, &mut judge, &mut |_| true).expect("a plan");
    let written = write(&disk, &segment, &planned, [9; 16], &mut judge, &mut |_| false);
    assert!(matches!(written, Err(RewriteError::Stopped)));
    assert_eq!(disk.names(), names);
}

#[test]
fn reading_back_is_paced_frame_by_frame_and_stops_anywhere() {
    let disk = log();
    let (segment, plan, draft) = draft(&disk, 0, &[1, 4]);
    let mut told = Vec::new();
    let mut pace = |bytes| {
        told.push(bytes);
        true
    };
    read_back(&segment, &draft, &plan, &mut pace).expect("it is sound");
    // The new generation twice, the old one once.
    assert!(told.iter().sum::<u64>() > 3 * 3000, "{told:?}");
    assert!(told.iter().all(|bytes| *bytes < 1500), "{told:?}");
    for stop in 0..told.len() {
        let mut left = stop;
        let mut pace = |_| {
            left = left.wrapping_sub(1);
            left != usize::MAX
        };
        let read = read_back(&segment, &draft, &plan, &mut pace);
        assert!(matches!(read, Err(RewriteError::Stopped)), "{stop}: {read:?}");
    }
}

#[test]
fn what_was_installed_can_be_taken_back() {
    let disk = log();
    let before = contents(&disk);
    let (_, _, draft) = draft(&disk, 0, &[1, 4]);
    draft.install(&disk).expect("installed");
    draft.take_back(&disk).expect("taken back");
    // Also one that has no name yet, or none any more.
    draft.take_back(&disk).expect("nothing to take back");
    disk.crash(CrashMode::DropAll);
    let disk = disk.restart();
    assert_eq!(disk.names().iter().filter(|name| name.contains("-1.log")).count(), 0);
    assert_eq!(contents(&disk), before);
}
