//! Scavenges on their own thread: what fails there is said, and stands in nobody's way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use daybook_log::disk::sim::{Operation, SimDisk};
use daybook_log::disk::{Disk, DiskError, DiskFile};
use daybook_model::{ExpectedRevision, NewEvent, StreamName, SystemClock, SystemEntropy};
use daybook_store::scavenge::{Finished, Outcome, Start};
use daybook_store::{
    Append, Direction, Environment, From, Options, ReadStream, Sizes, Store, StreamState,
};
use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

const SIZES: Sizes = Sizes { first: 8192, max: 8192 };
/// Longer than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a state that is waited for.
const LOOK: Duration = Duration::from_millis(2);

/// A disk that panics, or holds up what is done to files, for the thread that scavenges.
#[derive(Debug)]
struct OddDisk {
    disk: SimDisk,
    panics: AtomicBool,
    /// What has to wait, and whether it does.
    gate: Mutex<(Option<Operation>, bool)>,
    opened: Condvar,
}

impl OddDisk {
    fn new() -> Arc<OddDisk> {
        let (panics, gate) = (AtomicBool::new(false), Mutex::new((None, false)));
        Arc::new(OddDisk { disk: SimDisk::new(1), panics, gate, opened: Condvar::new() })
    }

    fn close_gate(&self, operation: Operation) {
        self.gate.lock().0 = Some(operation);
    }

    fn open_gate(&self) {
        self.gate.lock().0 = None;
        self.opened.notify_all();
    }

    fn pass_gate(&self, operation: Operation) {
        let mut gate = self.gate.lock();
        while is_scavenge() && gate.0 == Some(operation) {
            gate.1 = true;
            self.opened.wait(&mut gate);
        }
    }

    /// Waits until something waits at the gate.
    async fn someone_waits(&self) {
        until("somebody at the gate", || self.gate.lock().1).await;
    }
}

fn is_scavenge() -> bool {
    std::thread::current().name() == Some("daybook-scavenge")
}

impl Disk for OddDisk {
    fn open(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        self.pass_gate(Operation::Open);
        self.disk.open(name)
    }

    fn create(&self, name: &str) -> Result<Arc<dyn DiskFile>, DiskError> {
        if is_scavenge() && self.panics.load(Ordering::SeqCst) {
            panic!("{name} is odd");
        }
        self.disk.create(name)
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.pass_gate(Operation::Remove);
        self.disk.remove(name)
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        self.disk.list()
    }

    fn sync_names(&self) -> Result<(), DiskError> {
        self.disk.sync_names()
    }

    fn free_space(&self) -> Result<u64, DiskError> {
        self.disk.free_space()
    }

    fn location(&self) -> String {
        self.disk.location()
    }
}

fn open(disk: &Arc<OddDisk>) -> Store {
    let environment = Environment {
        disk: disk.clone(),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
    };
    Store::open(environment, Options { sizes: SIZES, ..Options::default() }).expect("an open store")
}

fn name(text: &str) -> StreamName {
    StreamName::new(text).expect("a valid name")
}

async fn append(store: &Store, stream: &str, data: Vec<u8>) {
    let id = Uuid::from_u128(u128::from(store.committed().0));
    let kind = if stream.starts_with("$$") { "$metadata" } else { "Paid" };
    let event = NewEvent::json(id, kind, data);
    let append = Append::to_stream(name(stream), ExpectedRevision::Any, [event]);
    let appended = tokio::time::timeout(PATIENCE, store.append(append)).await;
    appended.expect("an append waits too long").expect("appended");
}

/// A stream of 60 events of which 57 go, in several sealed segments whose indexes are written.
async fn filled(disk: &Arc<OddDisk>) -> Store {
    let store = open(disk);
    append(&store, "$$acct-1", b"{\"$maxCount\":3}".to_vec()).await;
    for _ in 0..60 {
        append(&store, "acct-1", vec![b'1'; 400]).await;
    }
    // A start leaves no index to be written.
    store.close().await;
    drop(store);
    open(disk)
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waits = async {
        while !holds() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, waits).await.unwrap_or_else(|_| panic!("{what}: too long"));
}

async fn scavenge(store: &Store) -> Finished {
    let scavenge = store.scavenge();
    assert!(matches!(scavenge.start(), Start::Started(_)));
    until("a scavenge", || scavenge.status().running.is_none()).await;
    scavenge.status().history[0].clone()
}

async fn revisions(store: &Store) -> Vec<u64> {
    let (from, direction) = (From::Start, Direction::Forwards);
    let query = ReadStream { stream: name("acct-1"), from, direction, count: u64::MAX };
    let mut reader = store.read_stream(query).await.expect("a stream");
    let mut out = Vec::new();
    while let Some(page) = reader.next().await.expect("a page") {
        out.extend(page.events().map(|event| event.revision.0));
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scavenge_that_panics_has_failed_and_another_can_begin() {
    let disk = OddDisk::new();
    let store = filled(&disk).await;
    disk.panics.store(true, Ordering::SeqCst);
    let finished = scavenge(&store).await;
    let Outcome::Failed { reason } = finished.outcome else { panic!("{finished:?}") };
    assert!(reason.contains("panicked") && reason.contains("-1.log.tmp is odd"), "{reason}");
    assert_eq!((store.scavenge().status().passes, store.scavenge().status().failures), (1, 1));
    append(&store, "acct-1", b"1".to_vec()).await;
    disk.panics.store(false, Ordering::SeqCst);
    let finished = scavenge(&store).await;
    assert_eq!(finished.outcome, Outcome::Completed);
    assert!(finished.progress.events > 40, "{finished:?}");
    assert_eq!(revisions(&store).await, [58, 59, 60]);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_damaged_is_told_and_does_not_keep_the_rest() {
    let disk = OddDisk::new();
    let store = filled(&disk).await;
    let names = disk.disk.names();
    let logs: Vec<&String> = names.iter().filter(|name| name.ends_with(".log")).collect();
    disk.disk.flip_bit(logs[1], 1000, 3).expect("flipped");
    let finished = scavenge(&store).await;
    let Outcome::Failed { reason } = &finished.outcome else { panic!("{finished:?}") };
    assert!(reason.contains(logs[1].as_str()) && reason.contains("damaged"), "{reason}");
    assert_eq!((finished.progress.damaged, finished.progress.damage.is_some()), (1, true));
    assert!(finished.progress.rewritten > 2, "{finished:?}");
    assert_eq!(store.scavenge().status().failures, 1);
    assert_eq!(revisions(&store).await, [57, 58, 59]);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_do_not_wait_for_the_removal_of_files() {
    let disk = OddDisk::new();
    let store = filled(&disk).await;
    disk.close_gate(Operation::Remove);
    assert!(matches!(store.scavenge().start(), Start::Started(_)));
    disk.someone_waits().await;
    // Far more segments than may wait for their indexes.
    for _ in 0..200 {
        append(&store, "acct-2", vec![b'1'; 400]).await;
    }
    assert!(store.scavenge().status().running.is_some(), "it still waits");
    disk.open_gate();
    until("the scavenge", || store.scavenge().status().running.is_none()).await;
    assert_eq!(store.scavenge().status().history[0].outcome, Outcome::Completed);
    let info = store.stream_info(&name("acct-2")).await.expect("known");
    assert_eq!((info.state, info.head.map(|head| head.0)), (StreamState::Live, Some(199)));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_stopped_leaves_no_generation_that_nobody_finds() {
    let disk = OddDisk::new();
    let store = filled(&disk).await;
    disk.close_gate(Operation::Open);
    let Start::Started(id) = store.scavenge().start() else { panic!("another is at work") };
    // It opens the index of the new generation, to give it to readers.
    disk.someone_waits().await;
    store.scavenge().stop(id).expect("it is at work");
    disk.open_gate();
    until("the scavenge", || store.scavenge().status().running.is_none()).await;
    let finished = store.scavenge().status().history[0].clone();
    assert_eq!((finished.outcome, finished.progress.rewritten), (Outcome::Stopped, 1));
    assert_eq!(store.scavenge().status().segments, 1);
    let names = disk.disk.names();
    let new = names.iter().filter(|name| name.ends_with("-1.log")).count();
    let old = names.iter().filter(|name| {
        let newer = name.replace("-0.log", "-1.log");
        name.ends_with("-0.log") && names.contains(&newer)
    });
    assert_eq!((new, old.count()), (1, 0), "{names:?}");
    assert_eq!(revisions(&store).await, [57, 58, 59]);
    store.close().await;
}
