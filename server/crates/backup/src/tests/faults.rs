//! Whatever fails: the place, on any call, in any way; the target; the objects themselves.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use daybook_log::backup::{Backup, Cut, Extent, save, write_manifest};
use daybook_log::disk::Disk as _;
use daybook_log::disk::sim::{CrashMode, SimDisk};
use daybook_model::Timestamp;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result,
};

use super::log::{Log, Place, SIZES, contents, entropy, restore};
use crate::RepositoryError;
use crate::archive::Archive;
use crate::check::check;
use crate::prune::{Keep, Mode, prune};
use crate::restore::{Plan, Until};

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Without effect.
    Refused,
    /// After it had its effect: the answer was lost.
    Unanswered,
    /// A write leaves half of the object, as a directory without a journal might.
    Torn,
    /// What is read is not there.
    Missing,
    /// It and all that follow: as when the process is killed there.
    Dead,
}

/// A place that fails on one call.
#[derive(Debug)]
pub struct Faulty {
    inner: InMemory,
    calls: AtomicU64,
    at: u64,
    fault: Fault,
}

impl Faulty {
    pub fn new(inner: &InMemory, at: u64, fault: Fault) -> Arc<Faulty> {
        Arc::new(Faulty { inner: inner.clone(), calls: AtomicU64::new(0), at, fault })
    }

    fn strikes(&self) -> Option<Fault> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let dead = self.fault == Fault::Dead && call > self.at;
        (call == self.at || dead).then_some(self.fault)
    }

    pub fn was_struck(&self) -> bool {
        self.calls.load(Ordering::Relaxed) > self.at
    }
}

fn torn(at: &Path) -> bool {
    ["segments", "tails", "lists"].iter().any(|prefix| at.as_ref().starts_with(prefix))
}

fn failed() -> Error {
    Error::Generic { store: "faulty", source: "it was told to".into() }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, payload: PutPayload, how: PutOptions) -> Result<PutResult> {
        match self.strikes() {
            None => self.inner.put_opts(at, payload, how).await,
            Some(Fault::Refused | Fault::Missing | Fault::Dead) => Err(failed()),
            Some(Fault::Unanswered) => {
                self.inner.put_opts(at, payload, how).await?;
                Err(failed())
            }
            // What a backup begins and ends with is written by one atomic call; of all else a half
            // may be left.
            Some(Fault::Torn) if !torn(at) => Err(failed()),
            Some(Fault::Torn) => {
                let bytes: Vec<u8> = payload.iter().flatten().copied().collect();
                let half = bytes[..bytes.len() / 2].to_vec();
                self.inner.put_opts(at, half.into(), how).await?;
                Err(failed())
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        how: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, how).await
    }

    async fn get_opts(&self, at: &Path, how: GetOptions) -> Result<GetResult> {
        match self.strikes() {
            None => self.inner.get_opts(at, how).await,
            Some(Fault::Missing) => {
                Err(Error::NotFound { path: at.to_string(), source: "it was told to".into() })
            }
            Some(_) => Err(failed()),
        }
    }

    fn delete_stream(
        &self,
        all: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        match self.strikes() {
            Some(_) => futures_util::stream::once(async { Err(failed()) }).boxed(),
            None => self.inner.delete_stream(all),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.strikes() {
            Some(_) => futures_util::stream::once(async { Err(failed()) }).boxed(),
            None => self.inner.list(prefix),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, how: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, how).await
    }
}

/// Runs `work` with each of its calls failing in turn, in each way, until none is struck.
fn with_every_fault(mut work: impl FnMut(Arc<Faulty>, &InMemory, &str), seed: &InMemory) {
    for fault in [Fault::Refused, Fault::Unanswered, Fault::Torn, Fault::Dead] {
        for at in 0.. {
            assert!(at < 2000, "the work has no end");
            let inner = seed.fork();
            let faulty = Faulty::new(&inner, at, fault);
            work(faulty.clone(), &inner, &format!("{fault:?} at call {at}"));
            if !faulty.was_struck() {
                break;
            }
        }
    }
}

#[test]
fn a_backup_that_fails_anywhere_harms_no_earlier_one_and_is_made_up_for() {
    let mut log = Log::new(1);
    log.grow(30);
    let inner = InMemory::new();
    let seed = Place::of(Arc::new(inner.clone()));
    log.take(&seed.repository(log.store()).expect("opens"), 1).expect("taken");
    let before = contents(&log.disk);
    log.grow(30);
    let after = contents(&log.disk);
    let work = |faulty: Arc<Faulty>, inner: &InMemory, what: &str| {
        let failing = Place::of(faulty);
        let taken = failing.repository(log.store()).and_then(|found| log.take(&found, 2));
        let place = Place::of(Arc::new(inner.clone()));
        let (restored, _) = place.restore(Until::End).unwrap_or_else(|e| panic!("{what}: {e}"));
        let found = contents(&restored);
        match taken {
            Ok(_) => assert_eq!(found, after, "{what}"),
            // A manifest whose answer was lost is one.
            Err(_) => assert!(found == before || found == after, "{what}"),
        }
        let repository = place.repository(log.store()).expect("opens");
        log.take(&repository, 3).unwrap_or_else(|e| panic!("{what}: {e}"));
        let (restored, _) = place.restore(Until::End).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(contents(&restored), after, "{what}");
    };
    with_every_fault(work, &inner);
}

#[test]
fn an_archive_that_fails_anywhere_goes_on_in_the_next_round_or_after_a_restart() {
    let mut log = Log::new(1);
    log.grow(10);
    let inner = InMemory::new();
    let (at_10, disk_10) = (log.extent(), log.disk.fork(1));
    log.grow(8);
    let (at_18, disk_18) = (log.extent(), log.disk.fork(1));
    log.grow(30);
    let states = [contents(&disk_10), contents(&disk_18), contents(&log.disk)];
    let store = log.store();
    let work = |faulty: Arc<Faulty>, inner: &InMemory, what: &str| {
        let failing = Place::of(faulty);
        let opened = failing.repository(store).and_then(|found| Archive::open(found, &at_10));
        let mut reached = None;
        if let Ok(mut archive) = opened {
            for (i, extent) in [&at_10, &at_18, &log.extent()].into_iter().enumerate() {
                if archive.round(extent, Timestamp(i as i64)).is_ok() {
                    reached = Some(i);
                }
            }
        }
        let place = Place::of(Arc::new(inner.clone()));
        if let Some(reached) = reached {
            let (restored, _) = place.restore(Until::End).unwrap_or_else(|e| panic!("{what}: {e}"));
            let found = states.iter().position(|state| *state == contents(&restored));
            assert!(found.is_some_and(|found| found >= reached), "{what}: {found:?} {reached}");
        }
        let repository = place.repository(store).unwrap_or_else(|e| panic!("{what}: {e}"));
        let mut archive = Archive::open(repository, &log.extent()).expect("opens");
        archive.round(&log.extent(), Timestamp(9)).unwrap_or_else(|e| panic!("{what}: {e}"));
        let (restored, _) = place.restore(Until::End).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(contents(&restored), states[2], "{what}");
    };
    with_every_fault(work, &inner);
}

#[test]
fn manifests_of_an_archive_that_could_not_be_removed_are_removed_later() {
    let mut log = Log::new(1);
    log.grow(3);
    let mut extents = Vec::new();
    for _ in 0..6 {
        log.grow(1);
        extents.push(log.extent());
    }
    // Two in which nothing is new.
    extents.extend([log.extent(), log.extent()]);
    manifests_are_removed(&log, &extents, Fault::Refused);
    manifests_are_removed(&log, &extents, Fault::Unanswered);
}

fn manifests_are_removed(log: &Log, extents: &[Extent], fault: Fault) {
    for at in 0..2000 {
        let faulty = Faulty::new(&InMemory::new(), at, fault);
        let place = Place::of(faulty.clone());
        let Ok(repository) = place.repository(log.store()) else { continue };
        let Ok(mut archive) = Archive::open(repository, &extents[0]) else { continue };
        for (i, extent) in extents.iter().enumerate() {
            let done = archive.round(extent, Timestamp(i as i64));
            assert!(done.is_ok() || faulty.was_struck(), "call {at}");
        }
        if !faulty.was_struck() {
            return;
        }
        assert_eq!(place.keys("archive").len(), 2, "{fault:?} at call {at}");
    }
    panic!("the work has no end");
}

#[test]
fn pruning_beside_a_server_that_archives_removes_nothing_that_it_needs() {
    let mut log = Log::new(1);
    log.grow(30);
    let inner = InMemory::new();
    let seed = Place::of(Arc::new(inner.clone()));
    log.take(&seed.repository(log.store()).expect("opens"), 1).expect("taken");
    log.grow(5);
    let archived = seed.repository(log.store()).expect("opens");
    let mut archive = Archive::open(archived, &log.extent()).expect("an archive");
    archive.round(&log.extent(), Timestamp(2)).expect("archived");
    let mut survived = 0;
    for at in 0..500 {
        let inner = inner.fork();
        let faulty = Faulty::new(&inner, at, Fault::Missing);
        let failing = Place::of(faulty.clone());
        let now = (Timestamp(i64::MAX), Duration::ZERO);
        let pruned = failing
            .repository(log.store())
            .and_then(|repository| prune(&repository, &Keep::default(), now, Mode::Remove));
        survived += u32::from(pruned.is_ok() && faulty.was_struck());
        let place = Place::of(Arc::new(inner));
        let restored = place.restore(Until::End).expect("restored").0;
        assert_eq!(contents(&restored), contents(&log.disk), "call {at}");
        if !faulty.was_struck() {
            assert!(survived > 0, "a manifest that is missing is looked for again");
            return;
        }
    }
    panic!("the work has no end");
}

#[test]
fn a_restore_whose_frames_are_not_the_logs_leaves_the_target_as_it_was() {
    let mut log = Log::new(1);
    log.grow(40);
    let backup = Backup::new(&log.extent()).expect("a backup");
    for which in 0..3 {
        let from = SimDisk::new(2);
        let mut manifest = save(&backup, &from, &mut |_, _| {}).expect("saved");
        // Whoever wrote the manifest hashed what was damaged already.
        let file = &mut manifest.files[which];
        from.flip_bit(&file.name, file.size / 2, 1).expect("flipped");
        let mut bytes = vec![0; file.size as usize];
        from.open(&file.name).expect("there").read_at(&mut bytes, 0).expect("read");
        file.blake3 = blake3::hash(&bytes).to_hex().to_string();
        write_manifest(&from, &manifest).expect("written");
        let to = SimDisk::new(3);
        let refused = daybook_log::backup::restore(&from, &to, &entropy(1), SIZES, &mut |_, _| {});
        refused.expect_err("its frames are not sound");
        assert_eq!(to.names(), Vec::<String>::new(), "segment {which}");
    }
}

#[test]
fn a_stopped_stores_last_segment_is_refused_if_what_was_durable_is_damaged() {
    let mut log = Log::new(1);
    log.grow(45);
    log.rest();
    let last = log.extent().segments.pop().expect("a segment");
    let mut cut = Cut::before(&last);
    let mut ends = Vec::new();
    cut.advance(&last, log.extent().committed, &mut |commit| {
        ends.push((commit.first, commit.size));
        true
    })
    .expect("sound");
    assert!(ends.len() > 3);
    let middle = ends.len() / 2;
    log.disk.flip_bit(&last.name, ends[middle].1 - 10, 1).expect("flipped");
    let refused = Extent::of_disk(&log.disk).expect_err("damaged").to_string();
    assert!(refused.contains(&last.name), "{refused}");
    // What nobody was told of may be torn: what comes before it is all.
    let mut log = Log::new(1);
    log.grow(45);
    log.disk.flip_bit(&last.name, ends.last().expect("one").1 - 10, 1).expect("flipped");
    let extent = Extent::of_disk(&log.disk).expect("torn");
    assert_eq!(extent.committed, ends.last().expect("one").0);
}

#[test]
fn a_restore_whose_source_fails_leaves_the_target_as_it_was() {
    let mut log = Log::new(1);
    log.grow(40);
    let inner = InMemory::new();
    let seed = Place::of(Arc::new(inner.clone()));
    log.take(&seed.repository(log.store()).expect("opens"), 1).expect("taken");
    for at in 0..500 {
        let faulty = Faulty::new(&inner, at, Fault::Refused);
        let place = Place::of(faulty.clone());
        let opened = crate::Repository::open(
            place.objects(),
            crate::Keys::default(),
            crate::Pace::new(None),
        );
        let to = SimDisk::new(1);
        let restored = opened.and_then(|found| restore(&Arc::new(found), Until::End, &to));
        if !faulty.was_struck() {
            restored.expect("restored");
            assert_eq!(contents(&to), contents(&log.disk));
            return;
        }
        restored.expect_err("a call failed");
        assert_eq!(to.names(), Vec::<String>::new(), "call {at}");
    }
    panic!("the work has no end");
}

#[test]
fn a_restore_whose_target_fails_or_dies_is_never_taken_for_a_store() {
    let mut log = Log::new(1);
    log.grow(40);
    let place = Place::new();
    log.take(&place.repository(log.store()).expect("opens"), 1).expect("taken");
    let repository = place.open();
    let plan = Plan::new(&repository, Until::End, None).expect("a plan");
    let whole = contents(&log.disk);
    // The power goes at each change.
    for change in 1..1000 {
        let to = SimDisk::new(change);
        to.crash_at_change(change);
        let done = plan.restore(&to, &entropy(1), SIZES, &mut |_, _| {});
        if !to.is_down() {
            done.expect("restored");
            assert!(change > 20, "it changes much");
            break;
        }
        to.crash(CrashMode::Random);
        let left = to.restart();
        let opened = daybook_log::recovery::load(&left, &mut daybook_log::Recovery::default());
        if opened.is_ok_and(|segments| !segments.is_empty()) {
            assert_eq!(contents(&left), whole, "change {change}");
        }
    }
    // There is no room.
    for capacity in [0, 10_000, 30_000] {
        let to = SimDisk::new(1);
        to.set_capacity(Some(capacity));
        plan.restore(&to, &entropy(1), SIZES, &mut |_, _| {}).expect_err("no room");
        assert_eq!(to.names(), Vec::<String>::new(), "{capacity} bytes");
    }
}

#[test]
fn an_object_that_is_damaged_cut_or_missing_is_named_and_the_target_is_untouched() {
    let mut log = Log::new(1);
    log.grow(40);
    let inner = InMemory::new();
    let seed = Place::of(Arc::new(inner.clone()));
    log.take(&seed.repository(log.store()).expect("opens"), 1).expect("taken");
    let keys: Vec<String> =
        ["segments", "lists", "backups"].iter().flat_map(|prefix| seed.keys(prefix)).collect();
    assert!(keys.len() > 6);
    for key in &keys {
        for how in ["flipped", "cut", "longer", "missing"] {
            let inner = inner.fork();
            let place = Place::of(Arc::new(inner.clone()));
            let path = Path::from(key.as_str());
            let mut bytes = place.objects().get(key).expect("there").to_vec();
            let middle = bytes.len() / 2;
            match how {
                "flipped" => bytes[middle] ^= 1,
                "cut" => bytes.truncate(middle),
                "longer" => bytes.push(b'\n'),
                _ => {}
            }
            if how == "missing" {
                place.runtime.block_on(inner.delete(&path)).expect("removed");
            } else {
                place.objects().put(key, bytes.into()).expect("written");
            }
            let to = SimDisk::new(1);
            let refused = restore(&place.open(), Until::End, &to).expect_err(how);
            assert_eq!(to.names(), Vec::<String>::new(), "{key} {how}");
            let missing_backup = how == "missing" && key.starts_with("backups");
            if missing_backup {
                assert!(matches!(refused, RepositoryError::NoSuchBackup { .. }), "{refused}");
                continue;
            }
            assert!(refused.to_string().contains(key.as_str()), "{key} {how}: {refused}");
            let found = check(&place.open(), None, &mut |_, _| {}).expect("checked").problems;
            assert!(found.iter().any(|line| line.contains(key.as_str())), "{key} {how}: {found:?}");
        }
    }
    // More than there should be is no harm.
    seed.objects().put("segments/strange", "?".into()).expect("written");
    let findings = check(&seed.open(), None, &mut |_, _| {}).expect("checked");
    assert_eq!((findings.problems.len(), findings.unnamed), (0, 1));
    assert_eq!(findings.unnamed_keys, ["segments/strange"]);
    seed.restore(Until::End).expect("restored");
}

#[test]
fn a_backup_of_a_damaged_log_is_refused_and_names_the_file() {
    let mut log = Log::new(1);
    log.grow(40);
    let place = Place::new();
    let repository = place.repository(log.store()).expect("opens");
    let name = log.extent().segments[1].name.clone();
    log.disk.flip_bit(&name, 3000, 1).expect("flipped");
    let refused = log.take(&repository, 1).expect_err("damage").to_string();
    assert!(refused.contains(&name), "{refused}");
    assert_eq!(place.keys("backups"), Vec::<String>::new());
}
