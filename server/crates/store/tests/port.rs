//! The store as the aggregates' event store: what they look up, replay and keep.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daybook_log::disk::os::{Access, OsDisk};
use daybook_model::{
    CategoryStore, EventStore, ExpectedRevision, NewEvent, Revision, Snapshot, StreamName,
    SystemClock, SystemEntropy,
};
use daybook_store::snapshot::{Identity, SnapshotStore};
use daybook_store::{Append, Deletion, Environment, Options, Sizes, Store, WithSnapshots};
use uuid::Uuid;

/// Small segments, so that most of what is looked up is in sealed ones.
const SMALL: Sizes = Sizes { first: 8192, max: 16384 };
const STREAMS: u64 = 5;
/// Events beyond the first, which names the store.
const EVENTS: u64 = 300;

fn open(directory: &Path) -> Store {
    let environment = Environment {
        disk: Arc::new(OsDisk::open(directory, Access::Write).expect("a data directory")),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
    };
    Store::open(environment, Options { sizes: SMALL, ..Options::default() }).expect("an open store")
}

fn name(text: &str) -> StreamName {
    StreamName::new(text).expect("a valid name")
}

fn stream(n: u64) -> StreamName {
    name(&format!("purse-{}", n % STREAMS))
}

/// Every third event opens a transaction, which the two streams after it share.
fn transaction(n: u64) -> Uuid {
    Uuid::from_u128(u128::from(n / 3))
}

fn event(n: u64) -> NewEvent {
    let mut event = NewEvent::json(Uuid::from_u128(u128::from(n) + 1), "Filled", "{}");
    let id = transaction(n).to_string();
    // However it is spelled, it is the same transaction.
    let id = if n.is_multiple_of(2) { id.to_uppercase() } else { id };
    event.metadata = Bytes::from(format!("{{\"$transactionId\":\"{id}\",\"n\":{n}}}"));
    event
}

async fn fill(store: &Store) {
    for n in 0..EVENTS {
        let append = Append::to_stream(stream(n), ExpectedRevision::Any, [event(n)]);
        EventStore::append(store, append).await.expect("appended");
    }
}

/// What `replay` shows of `stream`: the numbers that were given to [`event`], less one.
async fn replayed(store: &impl EventStore, stream: &StreamName, from: u64) -> Vec<u64> {
    let mut found = Vec::new();
    let each = |event: daybook_model::EventView<'_>| {
        assert_eq!(event.stream, stream.as_str());
        found.push(event.id.as_u128() as u64 - 1);
        ControlFlow::Continue(())
    };
    store.replay(stream, Revision(from), each).await.expect("a stream");
    found
}

async fn check(store: &impl CategoryStore) {
    for s in 0..STREAMS {
        let stream = stream(s);
        let all: Vec<u64> = (0..EVENTS).filter(|n| n % STREAMS == s).collect();
        let last = all.len() as u64 - 1;
        assert_eq!(store.head(&stream).await, Ok(Some(Revision(last))));
        for from in [0, 1, 30, last, last + 1, u64::MAX] {
            let skip = usize::try_from(from).unwrap_or(usize::MAX);
            let expected: Vec<u64> = all.iter().skip(skip).copied().collect();
            assert_eq!(replayed(store, &stream, from).await, expected, "{stream} from {from}");
        }
    }
    for n in 0..EVENTS {
        let found = store.transaction(&stream(n), transaction(n)).await;
        assert_eq!(found, Ok(Some(Revision(n / STREAMS))), "event {n}");
    }
    // Scoped to the stream: the third one after an opening is not part of it.
    for n in (0..EVENTS).step_by(3) {
        let found = store.transaction(&stream(n + 3), transaction(n)).await;
        assert_eq!(found, Ok(None), "event {n}");
    }
    assert_eq!(store.transaction(&stream(0), Uuid::max()).await, Ok(None));
    assert_eq!(store.transaction(&name("nobody"), transaction(0)).await, Ok(None));
    for from in [0, 1, EVENTS - 1, EVENTS, u64::MAX] {
        let mut found = Vec::new();
        let each = |number: u64, event: daybook_model::EventView<'_>| {
            assert_eq!(event.id.as_u128() as u64 - 1, number, "numbers follow the log");
            found.push(number);
            ControlFlow::Continue(())
        };
        store.replay_category("purse", from, each).await.expect("a category");
        assert_eq!(found, (from..EVENTS).collect::<Vec<u64>>());
    }
    assert_eq!(store.head(&name("nobody")).await, Ok(None));
    assert_eq!(replayed(store, &name("nobody"), 0).await, Vec::<u64>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_categories_and_transactions_are_found_also_after_a_restart_and_a_rebuild() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    fill(&store).await;
    check(&store).await;
    store.close().await;
    drop(store);
    let store = open(directory.path());
    assert!(store.stats().segments > 3, "most of it is sealed");
    assert_eq!(store.stats().index_rebuilt, 0);
    check(&store).await;
    store.close().await;
    drop(store);
    remove_index(directory.path());
    let store = open(directory.path());
    assert!(store.stats().index_rebuilt > 0);
    check(&WithSnapshots::new(store.clone(), None).expect("a store")).await;
    store.close().await;
}

#[expect(clippy::disallowed_methods, reason = "it arranges files")]
fn remove_index(directory: &Path) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "idx" || e == "dir" || e == "ids") {
            std::fs::remove_file(path).expect("a file");
        }
    }
}

#[tokio::test]
async fn the_first_event_of_a_transaction_is_its_answer() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let purse = name("purse-1");
    let mut again = event(1);
    again.id = Uuid::max();
    let append = Append::to_stream(purse.clone(), ExpectedRevision::NoStream, [event(0), again]);
    EventStore::append(&store, append).await.expect("appended");
    assert_eq!(store.transaction(&purse, transaction(0)).await, Ok(Some(Revision(0))));
    store.close().await;
}

#[tokio::test]
async fn a_replay_ends_where_it_is_broken_off() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    // More than one page takes.
    for half in 0..2u64 {
        let events = (half * 750..(half + 1) * 750).map(|n| {
            let id = Uuid::from_u128(u128::from(n) + 1);
            NewEvent::json(id, "Filled", "{}")
        });
        let append = Append::to_stream(stream(0), ExpectedRevision::Any, events);
        EventStore::append(&store, append).await.expect("appended");
    }
    let mut seen = 0;
    let each = |_: daybook_model::EventView<'_>| {
        seen += 1;
        if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    store.replay(&stream(0), Revision(0), each).await.expect("a stream");
    assert_eq!(seen, 3);
    let mut seen = 0;
    let each = |number: u64, _: daybook_model::EventView<'_>| {
        seen += 1;
        if number == 7 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    store.replay_category("purse", 5, each).await.expect("a category");
    assert_eq!(seen, 3);
    store.close().await;
}

#[tokio::test]
async fn deleted_streams_have_a_head_and_no_events() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    fill(&store).await;
    let last = Ok(Some(Revision(EVENTS / STREAMS - 1)));
    let any = ExpectedRevision::Any;
    store.delete(&stream(0), any, Deletion::Soft).await.expect("deleted");
    assert_eq!(store.head(&stream(0)).await, last);
    assert_eq!(replayed(&store, &stream(0), 0).await, Vec::<u64>::new());
    store.delete(&stream(1), any, Deletion::Tombstone).await.expect("deleted");
    let unread = store.replay(&stream(1), Revision(0), |_| ControlFlow::Continue(())).await;
    let unread = unread.expect_err("it is deleted for ever");
    assert_eq!(unread.what, "purse-1");
    assert!(unread.reason.contains("deleted"), "{unread}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_kept_soon_and_found_by_revision() {
    let (data, beside) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
    let store = open(data.path());
    fill(&store).await;
    let about = store.about();
    let committed = store.committed();
    let identity = Identity { store_id: about.store_id, epoch: about.epoch, committed };
    let snapshots = Arc::new(SnapshotStore::open(beside.path(), identity));
    let port = WithSnapshots::new(store.clone(), Some(snapshots.clone())).expect("a thread");
    let snapshot = |revision: u64| Snapshot {
        revision: Revision(revision),
        schema: 1,
        kind: "purse".to_owned(),
        data: Bytes::from(revision.to_string()),
    };
    let purse = stream(0);
    assert_eq!(port.snapshot(&purse, Revision(9)).await, None);
    port.put_snapshot(&purse, snapshot(3));
    port.put_snapshot(&purse, snapshot(7));
    let kept = async {
        while port.snapshot(&purse, Revision(9)).await != Some(snapshot(7)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), kept).await.expect("it is kept soon");
    assert_eq!(port.snapshot(&purse, Revision(6)).await, Some(snapshot(3)));
    assert_eq!(port.snapshot(&purse, Revision(2)).await, None);
    assert_eq!(port.snapshot(&stream(1), Revision(9)).await, None);
    check(&port).await;
    // Snapshots that are off are no reason to stop.
    snapshots.close();
    port.put_snapshot(&purse, snapshot(8));
    assert_eq!(port.snapshot(&purse, Revision(9)).await, None);
    store.close().await;
}
