//! The event types of a log: all of them, with counts, over many segments, restarts and scavenges.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daybook_log::disk::sim::SimDisk;
use daybook_model::{ExpectedRevision, NewEvent, StreamName, SystemClock, SystemEntropy};
use daybook_store::read::{EventTypes, TYPES_MAX};
use daybook_store::scavenge::Start;
use daybook_store::{Append, Environment, Options, Sizes, Store};
use uuid::Uuid;

const SMALL: Sizes = Sizes { first: 8192, max: 8192 };
/// Longer than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a state that is waited for.
const LOOK: Duration = Duration::from_millis(2);

fn open(disk: &SimDisk) -> Store {
    let environment = Environment {
        disk: Arc::new(disk.clone()),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
    };
    Store::open(environment, Options { sizes: SMALL, ..Options::default() }).expect("it opens")
}

async fn append(store: &Store, stream: &str, kind: &str, data: &str) {
    let id = Uuid::from_u128(u128::from(store.committed().0));
    let event = NewEvent::json(id, kind, data.to_owned());
    let stream = StreamName::new(stream).expect("a valid name");
    let append = Append::to_stream(stream, ExpectedRevision::Any, [event]);
    store.append(append).await.expect("appended");
}

/// The types that are not the system's.
async fn types(store: &Store) -> EventTypes {
    let mut found = store.event_types().await.expect("they are read");
    found.counts.retain(|name, _| !name.starts_with('$'));
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_are_found_wherever_they_are_also_after_a_restart() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    // Frequent, seldom, and once in the middle and at the end: over many segments.
    for n in 0..600 {
        let kind = match n {
            311 => "Once",
            599 => "Last",
            n if n % 97 == 0 => "Seldom",
            n if n % 3 == 0 => "Paid",
            _ => "Opened",
        };
        append(&store, &format!("a-{}", n % 7), kind, "{}").await;
        *expected.entry(kind.to_owned()).or_default() += 1;
    }
    assert!(store.stats().segments > 5, "{} segments", store.stats().segments);
    let all = EventTypes { counts: expected, is_cut: false };
    assert_eq!(types(&store).await, all);
    let total: u64 = store.event_types().await.expect("read").counts.values().sum();
    assert_eq!(total, store.stats().committed, "each event is of one type");
    store.close().await;
    drop(store);
    let store = open(&disk.restart());
    assert_eq!(types(&store).await, all);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_removed_is_counted_while_its_type_has_a_name() {
    let disk = SimDisk::new(1);
    let store = open(&disk);
    for n in 0..200 {
        append(&store, "gone-1", if n < 100 { "Forgotten" } else { "Paid" }, "{}").await;
    }
    for _ in 0..200 {
        append(&store, "kept-1", "Paid", "{}").await;
    }
    append(&store, "$$gone-1", "$metadata", "{\"$maxCount\":1}").await;
    // Seals the segments before.
    for _ in 0..200 {
        append(&store, "kept-1", "Opened", "{}").await;
    }
    // A start leaves no index to be written.
    store.close().await;
    drop(store);
    let store = open(&disk.restart());
    assert!(matches!(store.scavenge().start(), Start::Started(_)));
    let ended = async {
        while store.scavenge().status().running.is_some() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("the scavenge takes too long");
    let finished = store.scavenge().status().history[0].clone();
    assert!(finished.progress.events >= 100, "{finished:?}");
    let found = types(&store).await;
    let expected = [("Opened", 200), ("Paid", 300)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!(found, EventTypes { counts: BTreeMap::from(expected), is_cut: false });
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_types_than_anybody_reads_are_cut_and_that_is_said() {
    let store = open(&SimDisk::new(1));
    for n in 0..TYPES_MAX {
        append(&store, "many-1", &format!("Type{n}"), "{}").await;
    }
    let found = store.event_types().await.expect("they are read");
    assert_eq!((found.counts.len(), found.is_cut), (TYPES_MAX, true));
    store.close().await;
}
