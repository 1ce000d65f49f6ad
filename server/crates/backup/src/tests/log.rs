//! A log on a simulated disk, and what a repository makes of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use daybook_log::backup::Extent;
use daybook_log::chain::digest;
use daybook_log::disk::Disk as _;
use daybook_log::disk::sim::SimDisk;
use daybook_log::frame::{Batch, Record};
use daybook_log::rewrite::{self, Judge};
use daybook_log::verify::verify;
use daybook_log::{Journal, Recovery, Sizes, recovery};
use daybook_model::{Entropy, Position, Timestamp};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::keys::Keys;
use crate::objects::Objects;
use crate::pace::Pace;
use crate::repository::Repository;
use crate::restore::{Plan, Until};
use crate::{RepositoryError, Taken};

pub const SIZES: Sizes = Sizes { first: 8192, max: 8192 };
/// Nanoseconds between two commits.
pub const STEP: i64 = 20_000_000_000;

/// Bytes that are guessable, and differ from call to call.
#[derive(Debug)]
pub struct Counted(std::sync::atomic::AtomicU8);

impl Entropy for Counted {
    fn bytes(&self) -> [u8; 16] {
        [self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed); 16]
    }
}

pub fn entropy(first: u8) -> Counted {
    Counted(first.into())
}

/// A log of commits of three events; the n-th is made at n * STEP.
pub struct Log {
    pub disk: SimDisk,
    journal: Journal,
    commits: u32,
    /// What its events say: another log's say other things.
    salt: u8,
}

impl Log {
    pub fn new(salt: u8) -> Log {
        Log::on(SimDisk::new(1), salt)
    }

    pub fn on(disk: SimDisk, salt: u8) -> Log {
        let opened =
            recovery::open(Arc::new(disk.clone()), Arc::new(entropy(salt)), SIZES, &mut |_| {});
        let journal = opened.expect("a log").journal;
        let commits = u32::try_from(journal.end().0 / 3).expect("few");
        Log { disk, journal, commits, salt }
    }

    pub fn grow(&mut self, commits: u32) {
        for _ in 0..commits {
            let mut batch =
                Batch::new(self.journal.store_salt(), self.journal.end(), self.journal.chain());
            let salt = [self.commits as u8 ^ self.salt; 16];
            let mut commit = batch.begin(&salt);
            for event in 0..3u32 {
                let mut place = (i64::from(self.commits) * STEP).to_le_bytes().to_vec();
                place.push(event as u8);
                let body = [(self.commits * 3 + event) as u8 ^ self.salt; 100];
                commit.record(&place, &body, &digest(&salt, event, &body));
            }
            commit.finish();
            self.journal.write(&mut batch).expect("written");
            self.journal.sync().expect("synced");
            self.commits += 1;
        }
    }

    pub fn rest(&mut self) {
        self.journal.watermark().expect("written");
    }

    pub fn extent(&self) -> Extent {
        let segments = recovery::load(&self.disk, &mut Recovery::default()).expect("a log");
        Extent { segments, committed: self.journal.end() }
    }

    pub fn store(&self) -> Uuid {
        self.extent().segments[0].header.store_id
    }

    pub fn take(&self, repository: &Repository, now: i64) -> Result<Taken, RepositoryError> {
        crate::take(repository, &self.extent(), Timestamp(now), &mut |_, _| {})
    }

    /// Removes events from a sealed segment, as retention does.
    pub fn rewrite(&self, which: usize, removed: &[u64]) {
        let segment = self.extent().segments[which].clone();
        let mut judge = Those(removed.iter().copied().collect());
        let plan = rewrite::plan(&segment, &mut judge, &mut |_| true).expect("a plan");
        let draft = rewrite::write(&self.disk, &segment, &plan, [9; 16], &mut judge, &mut |_| true)
            .expect("a draft");
        rewrite::read_back(&segment, &draft, &plan, &mut |_| true).expect("sound");
        draft.install(&self.disk).expect("installed");
        self.disk.remove(&segment.name).expect("removed");
    }
}

struct Those(BTreeSet<u64>);

impl Judge for Those {
    fn goes(&mut self, position: Position, _: &Record<'_>) -> bool {
        self.0.contains(&position.0)
    }

    fn trace(&mut self, _: Position, _: &Record<'_>, trace: &mut Vec<u8>) {
        trace.push(1);
    }
}

/// Place and body, or trace, of each event.
pub fn contents(disk: &SimDisk) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    verify(disk, &mut |_| {}, &mut |found| out.push(found.payload.to_vec())).expect("sound");
    out
}

/// A place for objects, and the threads that its requests run on.
pub struct Place {
    pub runtime: Runtime,
    pub objects: Arc<dyn ObjectStore>,
}

impl Place {
    pub fn new() -> Place {
        Place::of(Arc::new(InMemory::new()))
    }

    pub fn of(objects: Arc<dyn ObjectStore>) -> Place {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        Place { runtime, objects }
    }

    pub fn objects(&self) -> Objects {
        let runtime = self.runtime.handle().clone();
        Objects::new(self.objects.clone(), "the place".to_owned(), runtime)
    }

    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let listed = self.objects().list(prefix).expect("listed");
        listed.into_iter().map(|each| each.key).collect()
    }

    pub fn repository(&self, store: Uuid) -> Result<Repository, RepositoryError> {
        self.repository_with(store, Keys::default())
    }

    pub fn repository_with(&self, store: Uuid, keys: Keys) -> Result<Repository, RepositoryError> {
        Repository::open_for(store, self.objects(), keys, Pace::new(None))
    }

    pub fn open(&self) -> Arc<Repository> {
        self.open_with(Keys::default())
    }

    pub fn open_with(&self, keys: Keys) -> Arc<Repository> {
        let opened = Repository::open(self.objects(), keys, Pace::new(None));
        Arc::new(opened.expect("a repository"))
    }

    /// The restored log, and its new epoch.
    pub fn restore(&self, until: Until) -> Result<(SimDisk, u32), RepositoryError> {
        let to = SimDisk::new(7);
        let epoch = restore(&self.open(), until, &to)?;
        Ok((to, epoch))
    }
}

/// As the command does it: plan, verify, restore.
pub fn restore(
    repository: &Arc<Repository>,
    until: Until,
    to: &SimDisk,
) -> Result<u32, RepositoryError> {
    let plan = Plan::new(repository, until, None)?;
    plan.verify(&mut |_, _| {})?;
    Ok(plan.restore(to, &entropy(50), SIZES, &mut |_, _| {})?.0.0)
}
