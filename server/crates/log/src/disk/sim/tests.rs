use std::collections::BTreeSet;

use rustix::io::Errno;

use super::*;

fn file(disk: &SimDisk, name: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
    let file = disk.create(name).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync().unwrap();
    disk.sync_names().unwrap();
    file
}

fn after_crash(disk: &SimDisk, mode: CrashMode, seed: u64) -> SimDisk {
    let copy = disk.fork(seed);
    copy.crash(mode);
    copy.restart()
}

#[test]
fn synced_bytes_survive_every_crash_and_unsynced_ones_as_the_mode_says() {
    let disk = SimDisk::new(1);
    let open = file(&disk, "a", &[1; 1_000]);
    open.write_at(&[2; 1_000], 1_000).unwrap();
    let all = [[1; 1_000], [2; 1_000]].concat();
    assert_eq!(disk.read_all("a").unwrap(), all);
    for mode in CrashMode::CERTAIN {
        let expected = if mode.keeps_data() { &all[..] } else { &all[..1_000] };
        assert_eq!(after_crash(&disk, mode, 0).read_all("a").unwrap(), expected, "{mode:?}");
    }
    let mut outcomes = BTreeSet::new();
    for seed in 0..500 {
        let bytes = after_crash(&disk, CrashMode::Random, seed).read_all("a").unwrap();
        assert_eq!(bytes[..1_000], all[..1_000], "seed {seed}");
        outcomes.insert(bytes);
    }
    // Nothing, everything, zeros for data, and many between.
    let zeros = [[1; 1_000], [0; 1_000]].concat();
    for outcome in [&all, &all[..1_000].to_vec(), &zeros] {
        assert!(outcomes.contains(outcome));
    }
    assert!(outcomes.len() > 50, "{}", outcomes.len());
}

#[test]
fn a_crash_damages_no_synced_byte_beside_a_write() {
    let disk = SimDisk::new(1);
    let open = file(&disk, "a", &[1; 4 * 512]);
    open.write_at(&[2; 600], 700).unwrap();
    let mut torn = 0;
    for seed in 0..500 {
        let bytes = after_crash(&disk, CrashMode::Random, seed).read_all("a").unwrap();
        assert_eq!(bytes.len(), 4 * 512);
        assert!(bytes[..700].iter().chain(&bytes[1_300..]).all(|&byte| byte == 1), "seed {seed}");
        let written = &bytes[700..1_300];
        torn += u32::from(written.iter().any(|byte| ![1, 2].contains(byte)));
    }
    assert!(torn > 10, "{torn} with garbage");
}

#[test]
fn names_need_a_sync_of_their_own() {
    let disk = SimDisk::new(1);
    file(&disk, "old", b"old");
    let open = disk.create("next.tmp").unwrap();
    open.write_at(b"new", 0).unwrap();
    open.sync().unwrap();
    disk.rename("next.tmp", "0.log").unwrap();
    disk.remove("old").unwrap();
    assert_eq!(disk.list().unwrap(), ["0.log"]);
    assert_eq!(after_crash(&disk, CrashMode::DropAll, 0).names(), ["old"]);
    assert_eq!(after_crash(&disk, CrashMode::DataOnly, 0).names(), ["old"]);
    assert_eq!(after_crash(&disk, CrashMode::KeepAll, 0).names(), ["0.log"]);

    let mut outcomes = BTreeSet::new();
    for seed in 0..200 {
        let crashed = after_crash(&disk, CrashMode::Random, seed);
        for (name, bytes) in [("0.log", b"new"), ("next.tmp", b"new"), ("old", b"old")] {
            assert!(crashed.read_all(name).is_err() || crashed.read_all(name).unwrap() == bytes);
        }
        outcomes.insert(crashed.names().join(" "));
    }
    let expected = ["", "0.log", "0.log old", "next.tmp", "next.tmp old", "old"];
    assert_eq!(outcomes.iter().collect::<Vec<_>>(), expected);

    disk.sync_names().unwrap();
    assert_eq!(after_crash(&disk, CrashMode::DropAll, 0).names(), ["0.log"]);
    assert_eq!(after_crash(&disk, CrashMode::DropAll, 0).read_all("0.log").unwrap(), b"new");
}

#[test]
fn a_rename_over_a_file_leaves_the_one_or_the_other() {
    let disk = SimDisk::new(1);
    file(&disk, "a", b"old");
    file(&disk, "b", b"new");
    disk.rename("b", "a").unwrap();
    let mut outcomes = BTreeSet::new();
    for seed in 0..50 {
        let crashed = after_crash(&disk, CrashMode::Random, seed);
        outcomes.insert((crashed.names(), crashed.read_all("a").unwrap()));
    }
    let undone = (vec!["a".to_owned(), "b".to_owned()], b"old".to_vec());
    let done = (vec!["a".to_owned()], b"new".to_vec());
    assert_eq!(outcomes, BTreeSet::from([done, undone]));
}

#[test]
fn changes_to_a_name_survive_in_their_order() {
    let disk = SimDisk::new(1);
    file(&disk, "a", b"old");
    disk.rename("a", "b").unwrap();
    disk.create("a").unwrap();
    let mut outcomes = BTreeSet::new();
    for seed in 0..50 {
        let crashed = after_crash(&disk, CrashMode::Random, seed);
        outcomes.insert((crashed.read_all("a").ok(), crashed.read_all("b").ok()));
    }
    let old = Some(b"old".to_vec());
    let expected = [(None, old.clone()), (Some(Vec::new()), old.clone()), (old, None)];
    assert_eq!(outcomes, BTreeSet::from(expected), "the new one never in place of the old");
}

#[test]
fn a_failed_sync_never_makes_its_pages_durable_later() {
    let disk = SimDisk::new(1);
    let open = file(&disk, "a", &[1; 2_048]);
    open.write_at(&[2; 1_024], 0).unwrap();
    disk.fail_after(Operation::Sync, None, 1, Fault::Eio, Repeat::Once);
    open.sync().unwrap_err();
    // Seen, called clean, and a new process that syncs again helps nothing.
    disk.kill();
    let disk = disk.restart();
    let open = disk.open("a").unwrap();
    assert_eq!(disk.read_all("a").unwrap()[..1_024], [2; 1_024]);
    open.write_at(&[3; 512], 512).unwrap();
    open.sync().unwrap();
    let crashed = after_crash(&disk, CrashMode::DropAll, 0).read_all("a").unwrap();
    let expected = [[1; 512], [3; 512], [1; 512], [1; 512]].concat();
    assert_eq!(crashed, expected, "only what was written again is durable");
    for seed in 0..100 {
        let crashed = after_crash(&disk, CrashMode::Random, seed).read_all("a").unwrap();
        assert_eq!(crashed[512..], expected[512..], "seed {seed}");
    }
    // Written again and synced, all is well.
    open.write_at(&[2; 512], 0).unwrap();
    open.sync().unwrap();
    assert_eq!(after_crash(&disk, CrashMode::DropAll, 0).read_all("a").unwrap()[..512], [2; 512]);
}

#[test]
fn a_failed_sync_of_names_never_makes_them_durable_later() {
    let disk = SimDisk::new(1);
    file(&disk, "a", b"a");
    disk.rename("a", "b").unwrap();
    disk.fail_after(Operation::SyncNames, None, 1, Fault::Eio, Repeat::Once);
    disk.sync_names().unwrap_err();
    disk.create("c").unwrap();
    disk.sync_names().unwrap();
    assert_eq!(disk.names(), ["b", "c"]);
    assert_eq!(after_crash(&disk, CrashMode::DropAll, 0).names(), ["a", "c"]);
    disk.rename("b", "d").unwrap();
    disk.sync_names().unwrap();
    let crashed = after_crash(&disk, CrashMode::DropAll, 0);
    assert_eq!(crashed.read_all("d").unwrap(), b"a");
}

#[test]
fn a_killed_process_loses_nothing_until_the_power_goes() {
    let disk = SimDisk::new(1);
    let open = disk.create("a").unwrap();
    open.write_at(b"x", 0).unwrap();
    disk.kill();
    assert!(disk.is_down() && disk.list().is_err());
    let next = disk.restart();
    assert!(!next.is_down());
    assert_eq!(next.read_all("a").unwrap(), b"x");
    assert_eq!(after_crash(&next, CrashMode::DropAll, 0).names(), [""; 0]);
}

#[test]
fn a_dead_process_cannot_touch_the_next_ones_files() {
    let disk = SimDisk::new(1);
    let open = file(&disk, "a", b"x");
    disk.crash(CrashMode::Random);
    let next = disk.restart();
    let operations = next.operations();
    let error = open.write_at(b"y", 0).unwrap_err();
    let message = "cannot write to simulated disk/a: the simulated process is dead";
    assert_eq!(error.to_string(), message);
    assert!(open.sync().is_err() && open.len().is_err() && open.read_at(&mut [0], 0).is_err());
    assert!(disk.create("b").is_err() && disk.remove("a").is_err());
    assert_eq!((next.names(), next.read_all("a").unwrap()), (vec!["a".into()], b"x".into()));
    assert_eq!(next.operations(), operations);
}

/// Three acts that each rely on the one before.
fn act(disk: &SimDisk) -> Result<(), DiskError> {
    let open = disk.create("t")?;
    open.write_at(b"one", 0)?;
    open.sync()?;
    open.len()?;
    disk.rename("t", "f")?;
    disk.sync_names()
}

#[test]
fn every_crash_point_can_be_tried() {
    let disk = SimDisk::new(1);
    act(&disk).unwrap();
    assert_eq!((disk.operations(), disk.changes()), (6, 5));
    for at in 0..=6 {
        let disk = SimDisk::new(1);
        disk.crash_at(at);
        assert_eq!(act(&disk).is_ok(), at == 6);
        assert_eq!((disk.is_down(), disk.operations()), (at < 6, at));
        disk.crash(CrashMode::DropAll);
        let disk = disk.restart();
        assert_eq!(disk.list().unwrap().len(), usize::from(at == 6));
    }
    for at in 0..=5 {
        let disk = SimDisk::new(1);
        disk.crash_at_change(at);
        assert_eq!(act(&disk).is_ok(), at == 5);
        assert_eq!(disk.changes(), at);
        disk.crash(CrashMode::NamesOnly);
        // The file has its name before its bytes, unless it was synced.
        let durable = disk.read_all("t").or_else(|_| disk.read_all("f"));
        assert_eq!(
            durable.ok(),
            [None, Some(""), Some(""), Some("one"), Some("one"), Some("one")][at as usize]
                .map(|text| text.as_bytes().to_vec())
        );
    }
}

#[test]
fn the_nth_matching_operation_fails_once_or_for_ever() {
    let disk = SimDisk::new(1);
    let (a, b) = (disk.create("a.log").unwrap(), disk.create("b.idx").unwrap());
    disk.fail_after(Operation::Write, Some(".log"), 2, Fault::Eio, Repeat::Once);
    let results: Vec<_> =
        (0..4).map(|at| (a.write_at(b"x", at).is_ok(), b.write_at(b"x", at).is_ok())).collect();
    assert_eq!(results, [(true, true), (false, true), (true, true), (true, true)]);

    disk.fail_after(Operation::Read, None, 1, Fault::Eio, Repeat::Always);
    assert!(a.read_at(&mut [0], 0).is_err() && b.read_at(&mut [0], 0).is_err());
    disk.clear_faults();
    a.read_at(&mut [0], 0).unwrap();

    disk.fail_after(Operation::Create, None, 1, Fault::Enospc, Repeat::Once);
    assert!(disk.create("c").unwrap_err().is_full());
    // A file goes by the name it has now; a rename by both.
    disk.rename("b.idx", "b.log").unwrap();
    disk.fail_after(Operation::Sync, Some("b.log"), 1, Fault::Eio, Repeat::Once);
    a.sync().unwrap();
    b.sync().unwrap_err();
    disk.fail_after(Operation::Rename, Some("d"), 1, Fault::Eio, Repeat::Once);
    disk.rename("a.log", "d").unwrap_err();
    assert_eq!(disk.names(), ["a.log", "b.log"]);
}

#[test]
fn a_torn_write_leaves_a_beginning() {
    let mut kept = BTreeSet::new();
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let open = file(&disk, "a", &[1; 100]);
        disk.fail_after(Operation::Write, None, 1, Fault::Torn, Repeat::Once);
        let error = open.write_at(&[2; 100], 0).unwrap_err();
        assert_eq!(error.source.raw_os_error(), Some(Errno::IO.raw_os_error()));
        let bytes = disk.read_all("a").unwrap();
        let beginning = bytes.iter().take_while(|&&byte| byte == 2).count();
        assert_eq!((bytes[beginning..].iter().all(|&byte| byte == 1), bytes.len()), (true, 100));
        kept.insert(beginning);
    }
    assert!(kept.len() > 10, "{kept:?}");
}

#[test]
fn a_full_disk_takes_what_fits_and_lets_bytes_be_replaced() {
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(10));
    let open = file(&disk, "a", b"12345678");
    assert_eq!(disk.free_space().unwrap(), 2);
    assert!(open.write_at(b"abcd", 7).unwrap_err().is_full());
    assert_eq!(disk.read_all("a").unwrap(), b"1234567abc");
    open.write_at(b"0", 0).unwrap();
    assert!(open.write_at(b"0", 20).unwrap_err().is_full());
    assert!(disk.create("b").unwrap_err().is_full());
    disk.set_capacity(Some(11));
    disk.create("b").unwrap();
    disk.remove("a").unwrap();
    assert_eq!(disk.free_space().unwrap(), 11);
    disk.set_capacity(None);
    open.write_at(b"0", 20).unwrap();
}

#[test]
fn the_same_seed_means_the_same_bytes_and_the_same_trace() {
    let run = |seed: u64, byte: u8| {
        let disk = SimDisk::new(seed);
        let open = file(&disk, "a", &[1; 5_000]);
        for at in 0..20 {
            open.write_at(&[byte; 700], at * 300).unwrap();
        }
        disk.create("b").unwrap();
        disk.rename("a", "c").unwrap();
        let trace = disk.trace_hash();
        disk.crash(CrashMode::Random);
        let images: Vec<_> =
            disk.names().iter().map(|name| (name.clone(), disk.read_all(name).unwrap())).collect();
        (images, trace)
    };
    for seed in 0..20 {
        assert_eq!(run(seed, 2), run(seed, 2));
        assert_ne!(run(seed, 2).1, run(seed, 3).1);
        assert_ne!(run(seed, 2).0, run(seed + 1, 2).0);
        assert_eq!(run(seed, 2).1, run(seed + 1, 2).1, "the seed is not an operation");
    }
}

#[test]
fn the_trace_tells_apart_what_differs_in_one_fact() {
    let run = |name: &str, to: &str, byte: u8, offset: u64| {
        let disk = SimDisk::new(1);
        disk.create(name).unwrap().write_at(&[byte; 8], offset).unwrap();
        disk.rename(name, to).unwrap();
        disk.trace_hash()
    };
    let runs = [
        run("a", "b", 1, 0),
        run("c", "b", 1, 0),
        run("a", "c", 1, 0),
        run("a", "b", 2, 0),
        run("a", "b", 0, 0),
        run("a", "b", 1, 1),
    ];
    assert_eq!(runs.iter().collect::<BTreeSet<_>>().len(), runs.len());
    assert_eq!(runs[0], run("a", "b", 1, 0));
}

#[test]
fn a_crash_does_what_can_be_done_to_a_disk_and_no_more() {
    // A naive disk that remembers every version of every byte since the last sync.
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let disk = SimDisk::new(seed);
        let open = file(&disk, "a", &[]);
        let mut current: Vec<u8> = Vec::new();
        let mut durable = current.clone();
        let mut written = vec![false; 20_000];
        for _ in 0..rng.below(30) {
            let (offset, length) = (rng.below(12_000) as usize, rng.below(6_000) as usize);
            let mut bytes = vec![0; length];
            if rng.chance(3, 4) {
                rng.fill(&mut bytes);
            }
            open.write_at(&bytes, offset as u64).unwrap();
            if length > 0 {
                current.resize(current.len().max(offset + length), 0);
                current[offset..offset + length].copy_from_slice(&bytes);
                written[offset..offset + length].fill(true);
            }
            if rng.chance(1, 4) {
                open.sync().unwrap();
                durable.clone_from(&current);
                written.fill(false);
            }
            assert_eq!(disk.read_all("a").unwrap(), current);
        }
        assert_eq!(after_crash(&disk, CrashMode::DropAll, 0).read_all("a").unwrap(), durable);
        assert_eq!(after_crash(&disk, CrashMode::KeepAll, 0).read_all("a").unwrap(), current);
        let crashed = after_crash(&disk, CrashMode::Random, seed).read_all("a").unwrap();
        assert!((durable.len()..=current.len()).contains(&crashed.len()));
        for (at, &byte) in crashed.iter().enumerate() {
            let before = durable.get(at).copied().unwrap_or(0);
            assert!(written[at] || byte == before, "seed {seed}: byte {at} was not written");
        }
    }
}

#[test]
fn zeroing_a_segment_ahead_keeps_no_pages() {
    let disk = SimDisk::new(1);
    let open = disk.create("next.tmp").unwrap();
    let zeros = vec![0; 1 << 16];
    for at in 0..64 {
        open.write_at(&zeros, at << 16).unwrap();
    }
    open.sync().unwrap();
    open.write_at(b"commit", 4_096).unwrap();
    open.sync().unwrap();
    assert_eq!(open.len().unwrap(), 4 << 20);
    let mut bytes = vec![1; 3 * 4_096];
    open.read_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes[4_096..4_102], b"commit");
    assert_eq!(bytes.iter().filter(|&&byte| byte != 0).count(), 6);
    let error = open.read_at(&mut bytes, (4 << 20) - 1).unwrap_err();
    assert_eq!(error.source.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn tests_can_tamper_with_files() {
    let disk = SimDisk::new(1);
    disk.write_all("a", b"abc").unwrap();
    disk.flip_bit("a", 1, 0).unwrap();
    assert!(disk.flip_bit("a", 3, 0).is_err() && disk.flip_bit("b", 0, 0).is_err());
    let crashed = after_crash(&disk, CrashMode::DropAll, 0);
    assert_eq!(crashed.read_all("a").unwrap(), b"acc");
    crashed.truncate_file("a", 1).unwrap();
    crashed.truncate_file("a", 2).unwrap();
    assert_eq!(after_crash(&crashed, CrashMode::DropAll, 0).read_all("a").unwrap(), b"a\0");
    assert_eq!(disk.operations(), 0);
    assert!(disk.write_all("../a", b"").is_err() && disk.create(".a").is_err());
}

#[test]
fn the_last_operations_can_be_read() {
    let disk = SimDisk::new(1);
    let open = disk.create("a").unwrap();
    disk.fail_after(Operation::Write, None, 1, Fault::Eio, Repeat::Once);
    open.write_at(&[0; 8], 16).unwrap_err();
    disk.rename("a", "b").unwrap();
    let expected = ["Create a", "Write a [16, +8]: failed by Eio", "Rename a -> b"];
    assert_eq!(disk.recent(), expected);
}

#[test]
fn removed_files_are_forgotten_once_nobody_can_see_them() {
    let disk = SimDisk::new(1);
    let open = file(&disk, "a", b"x");
    disk.remove("a").unwrap();
    disk.sync_names().unwrap();
    open.read_at(&mut [0], 0).unwrap();
    assert_eq!(disk.state.lock().inodes.len(), 1);
    drop(open);
    disk.sync_names().unwrap();
    assert_eq!(disk.state.lock().inodes.len(), 0);
}
