//! Virtual streams: what the index has, read as streams of links.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daybook_log::disk::os::{Access, OsDisk};
use daybook_model::{
    ContentType, ExpectedRevision, NewEvent, Position, Revision, StreamName, SystemClock,
    SystemEntropy, Timer,
};
use daybook_store::feed::IDLE_EVENTS;
use daybook_store::{
    AllFrom, Append, AppendError, Deletion, Delivery, Direction, Environment, From, IndexKey,
    LinkText, Options, Page, ReadError, ReadStream, Sizes, Store, StreamState, SubscribeFrom,
    Subscription,
};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Longer than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at a state that is waited for.
const LOOK: Duration = Duration::from_millis(2);
/// So small that most of what a test writes is in sealed segments.
const SMALL: Sizes = Sizes { first: 8192, max: 16384 };

fn open(directory: &Path) -> Store {
    open_with(directory, SMALL)
}

fn open_with(directory: &Path, sizes: Sizes) -> Store {
    let environment = Environment {
        disk: Arc::new(OsDisk::open(directory, Access::Write).expect("a data directory")),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
    };
    Store::open(environment, Options { sizes, ..Options::default() }).expect("an open store")
}

fn name(text: &str) -> StreamName {
    StreamName::new(text).expect("a valid name")
}

async fn append(store: &Store, stream: &str, kind: &str, correlation: &str) {
    let event = NewEvent {
        id: Uuid::new_v5(&Uuid::NAMESPACE_OID, &store.committed().0.to_le_bytes()),
        event_type: kind.to_owned(),
        content_type: ContentType::Json,
        metadata: Bytes::from(format!("{{\"$correlationId\":\"{correlation}\"}}")),
        data: Bytes::from_static(b"{}"),
    };
    let append = Append::to_stream(name(stream), ExpectedRevision::Any, [event]);
    store.append(append).await.expect("appended");
}

async fn set(store: &Store, stream: &str, metadata: &'static str) {
    let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, &store.committed().0.to_le_bytes());
    let event = NewEvent::json(id, "$metadata", metadata);
    let stream = name(stream).metastream();
    let append = Append::to_stream(stream, ExpectedRevision::Any, [event]);
    store.append(append).await.expect("appended");
}

/// The links of a page: `<number> <type> <data>`, and `-` if what is named may not be seen.
fn lines(page: &Page) -> Vec<String> {
    let links = page.links().expect("links");
    let mut text = LinkText::default();
    page.targets()
        .map(|target| {
            let link = links.link(target.number, &target.event, &mut text);
            let data = std::str::from_utf8(link.data).expect("text").to_owned();
            assert_eq!(link.position, target.event.position);
            let hidden = if target.hidden { " -" } else { "" };
            format!("{} {} {data}{hidden}", target.number, link.event_type)
        })
        .collect()
}

async fn read(store: &Store, query: ReadStream) -> Vec<String> {
    let mut reader = store.read_stream(query).await.expect("a stream").following();
    let mut out = Vec::new();
    while let Some(page) = reader.next().await.expect("a page") {
        out.extend(lines(&page));
    }
    out
}

async fn all(store: &Store, stream: &str) -> Vec<String> {
    let (from, direction) = (From::Start, Direction::Forwards);
    read(store, ReadStream { stream: name(stream), from, direction, count: u64::MAX }).await
}

/// A store with something in every virtual stream.
async fn filled(directory: &Path) -> Store {
    let store = open(directory);
    append(&store, "account-1", "Opened", "a").await; // 1
    append(&store, "account-2", "Opened", "b").await; // 2
    append(&store, "order-1", "Placed", "a").await; // 3
    append(&store, "plain", "Opened", "b").await; // 4
    append(&store, "account-1", "Paid", "b").await; // 5
    append(&store, "account-3", "Opened", "a").await; // 6
    append(&store, "account-3", "Paid", "a").await; // 7
    store.delete(&name("account-2"), ExpectedRevision::Any, Deletion::Soft).await.expect("done"); // 8
    store.delete(&name("order-1"), ExpectedRevision::Any, Deletion::Tombstone).await.expect("done"); // 9
    set(&store, "account-3", "{\"$maxCount\":1}").await; // 10
    store
}

async fn check(store: &Store) {
    let last = i64::MAX;
    let expected: [(&str, Vec<String>); 8] = [
        (
            "$ce-account",
            [
                "0 $> 0@account-1",
                "1 $> 0@account-2 -",
                "2 $> 1@account-1",
                "3 $> 0@account-3 -",
                "4 $> 1@account-3",
                "5 $> 0@$$account-2",
            ]
            .map(str::to_owned)
            .to_vec(),
        ),
        ("$ce-order", vec!["0 $> 0@order-1 -".into(), format!("1 $> {last}@order-1 -")]),
        ("$et-Paid", vec!["0 $> 1@account-1".into(), "1 $> 1@account-3".into()]),
        ("$et-$deleted", vec!["0 $> 0@account-2 -".into(), format!("1 $> {last}@order-1 -")]),
        ("$et-$metadata", vec!["0 $> 0@$$account-2".into(), "1 $> 0@$$account-3".into()]),
        (
            "$bc-b",
            ["0 $> 0@account-2 -", "1 $> 0@plain", "2 $> 1@account-1"].map(str::to_owned).to_vec(),
        ),
        (
            "$category-account",
            ["0 $@ account-1 -", "1 $@ account-2 -", "2 $@ account-3 -"]
                .map(str::to_owned)
                .to_vec(),
        ),
        (
            "$streams",
            [
                "0 $> 0@$store",
                "1 $> 0@account-1",
                "2 $> 0@account-2 -",
                "3 $> 0@order-1 -",
                "4 $> 0@plain",
                "5 $> 0@account-3 -",
                "6 $> 0@$$account-2",
                "7 $> 0@$$account-3",
            ]
            .map(str::to_owned)
            .to_vec(),
        ),
    ];
    for (stream, expected) in expected {
        let found = all(store, stream).await;
        assert_eq!(found[..expected.len().min(found.len())], expected, "{stream}");
    }
}

/// Enough events of a stream without a category to seal several segments.
async fn push_into_sealed_segments(store: &Store) {
    for _ in 0..200 {
        append(store, "filler", "Filled", "z").await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a test that damages what it made")]
fn remove_index(directory: &Path) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let suffix = path.extension().and_then(|s| s.to_str()).unwrap_or_default();
        if ["idx", "ids", "dir"].contains(&suffix) {
            std::fs::remove_file(path).expect("removed");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_links_are_read_from_memory_from_files_and_from_rebuilt_ones() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = filled(directory.path()).await;
    check(&store).await;
    push_into_sealed_segments(&store).await;
    check(&store).await;
    store.close().await;
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.stats().index_rebuilt, 0);
    check(&store).await;
    store.close().await;
    drop(store);
    remove_index(directory.path());
    let store = open(directory.path());
    assert!(store.stats().index_rebuilt > 0);
    check(&store).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_virtual_stream_is_read_both_ways_from_anywhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = filled(directory.path()).await;
    push_into_sealed_segments(&store).await;
    let at = |n| From::Revision(Revision(n));
    let (f, b) = (Direction::Forwards, Direction::Backwards);
    let cases: [(From, Direction, u64, &[u64]); 9] = [
        (From::Start, f, 2, &[0, 1]),
        (at(4), f, 9, &[4, 5]),
        (at(6), f, 9, &[]),
        (From::End, f, 9, &[]),
        (From::End, b, 2, &[5, 4]),
        (at(1), b, 9, &[1, 0]),
        (at(99), b, 1, &[5]),
        (From::Start, b, 9, &[0]),
        (at(0), b, 9, &[0]),
    ];
    for (from, direction, count, expected) in cases {
        let stream = name("$ce-account");
        let query = ReadStream { stream, from, direction, count };
        let mut reader = store.read_stream(query).await.expect("a stream");
        assert_eq!(reader.last_revision(), Some(Revision(5)));
        let mut found = Vec::new();
        while let Some(page) = reader.next().await.expect("a page") {
            found.extend(page.numbered().map(|(number, _)| number));
        }
        assert_eq!(found, expected, "{from:?} {direction:?} {count}");
    }
    let page = store.read_event(&name("$ce-account"), Revision(2)).await.expect("an answer");
    assert_eq!(lines(&page.expect("a link")), ["2 $> 1@account-1"]);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_one_is_not_found_and_metadata_hides_links() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = filled(directory.path()).await;
    let (from, direction) = (From::Start, Direction::Forwards);
    for stream in ["$ce-none", "$et-none", "$bc-none", "$category-none", "$ce-", "$ce-$$account"] {
        let query = ReadStream { stream: name(stream), from, direction, count: 1 };
        let answer = store.read_stream(query).await.map(|_| ());
        assert_eq!(answer, Err(ReadError::StreamNotFound { stream: name(stream) }));
        let info = store.stream_info(&name(stream)).await.expect("an answer");
        assert_eq!((info.state, info.head), (StreamState::Missing, None));
    }
    set(&store, "$ce-account", "{\"$tb\":5}").await;
    assert_eq!(all(&store, "$ce-account").await, ["5 $> 0@$$account-2"]);
    let info = store.stream_info(&name("$ce-account")).await.expect("an answer");
    assert_eq!((info.state, info.first.0), (StreamState::Live, 5));
    assert_eq!(info.head, Some(Revision(5)));
    let names = store.streams("$", None, 100).await.expect("names");
    assert_eq!(names, ["$$$ce-account", "$$account-2", "$$account-3", "$store"]);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_opened_stream_hid_stays_hidden() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = filled(directory.path()).await;
    append(&store, "account-2", "Opened", "b").await;
    let found = all(&store, "$ce-account").await;
    // The metadata that deleted the stream was replaced.
    assert_eq!(found[1], "1 $> 0@account-2 -");
    assert_eq!(found[5..], ["5 $> 0@$$account-2 -", "6 $> 1@account-2"]);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_writes_or_deletes_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = filled(directory.path()).await;
    let before = store.committed();
    for stream in ["$ce-account", "$et-x", "$bc-x", "$streams", "$category-account", "$ce-"] {
        let stream = name(stream);
        let refused = AppendError::Reserved { stream: stream.clone() };
        let event = NewEvent::json(Uuid::from_u128(1), "x", "{}");
        for events in [vec![event], Vec::new()] {
            let append = Append::to_stream(stream.clone(), ExpectedRevision::Any, events);
            assert_eq!(store.append(append).await, Err(refused.clone()));
        }
        for how in [Deletion::Soft, Deletion::Tombstone] {
            let answer = store.delete(&stream, ExpectedRevision::Any, how).await;
            assert_eq!(answer, Err(refused.clone()));
        }
        assert!(refused.to_string().contains("written by nobody"), "{refused}");
    }
    assert_eq!(store.committed(), before);
    store.close().await;
}

async fn next(subscription: &mut Subscription) -> Result<Vec<String>, Option<u64>> {
    let delivery = tokio::time::timeout(PATIENCE, subscription.next()).await;
    match delivery.expect("it waits too long").expect("a delivery") {
        Delivery::Events(page) => Ok(lines(&page)),
        Delivery::CaughtUp { at, .. } => Err(at),
        other @ Delivery::Checkpoint { .. } => panic!("no checkpoint was asked for: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_is_told_what_comes_whatever_the_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = filled(directory.path()).await;
    let cases = [
        ("$ce-account", SubscribeFrom::After(4), Some(5), "5 $> 0@$$account-2"),
        ("$streams", SubscribeFrom::After(6), Some(7), "7 $> 0@$$account-3"),
    ];
    for (stream, from, at, line) in cases {
        let mut subscription = store.subscribe_stream(&name(stream), from).following();
        assert_eq!(next(&mut subscription).await, Ok(vec![line.to_owned()]), "{stream}");
        assert_eq!(next(&mut subscription).await, Err(at), "{stream}");
    }
    let mut waiting = Vec::new();
    for (stream, at, line) in [
        ("$ce-account", Some(5), "6 $> 0@account-4"),
        ("$et-Born", None, "0 $> 0@account-4"),
        ("$bc-new", None, "0 $> 0@account-4"),
        ("$streams", Some(7), "8 $> 0@account-4"),
        ("$category-account", Some(2), "3 $@ account-4 -"),
    ] {
        let mut subscription =
            store.subscribe_stream(&name(stream), SubscribeFrom::End).following();
        assert_eq!(next(&mut subscription).await, Err(at), "{stream}");
        waiting.push(tokio::spawn(async move {
            assert_eq!(next(&mut subscription).await, Ok(vec![line.to_owned()]), "{stream}");
        }));
    }
    append(&store, "account-4", "Born", "new").await;
    for each in waiting {
        each.await.expect("a delivery");
    }
    let deleted = store.subscribe_stream(&name("$et-$deleted"), SubscribeFrom::End);
    let mut deleted = deleted.following();
    assert_eq!(next(&mut deleted).await, Err(Some(1)));
    let waits = tokio::spawn(async move { next(&mut deleted).await });
    store.delete(&name("plain"), ExpectedRevision::Any, Deletion::Soft).await.expect("done");
    assert_eq!(waits.await.expect("a delivery"), Ok(vec!["2 $> 0@plain -".to_owned()]));
    store.close().await;
}

async fn positions(mut reader: daybook_store::AllReader) -> Vec<u64> {
    let mut out = Vec::new();
    while let Some(page) = reader.next().await.expect("a page") {
        assert!(page.links().is_none());
        assert!(page.numbered().all(|(number, event)| number == event.position.0));
        out.extend(page.events().map(|event| event.position.0));
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_read_as_a_part_of_the_log_from_every_position() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    for n in 0..150 {
        let stream = if n % 3 == 0 { "account-1" } else { "filler" };
        append(&store, stream, "Paid", "a").await;
    }
    store
        .delete(&name("account-1"), ExpectedRevision::Any, Deletion::Tombstone)
        .await
        .expect("done");
    let key = IndexKey::Category("account".to_owned());
    // The tombstone is in the category, and left out: it is the system's.
    let expected: Vec<u64> = (0..150).filter(|n| n % 3 == 0).map(|n| n + 1).collect();
    let end = store.committed().0;
    let (f, b) = (Direction::Forwards, Direction::Backwards);
    for from in 0..=end + 1 {
        let at = AllFrom::Position(Position(from));
        let up: Vec<u64> = expected.iter().copied().filter(|p| *p >= from).collect();
        assert_eq!(positions(store.read_all_of(&key, at, f, u64::MAX)).await, up, "{from}");
        let down: Vec<u64> = expected.iter().rev().copied().filter(|p| *p < from).collect();
        assert_eq!(positions(store.read_all_of(&key, at, b, u64::MAX)).await, down, "{from}");
        let two = positions(store.read_all_of(&key, at, b, 2)).await;
        assert_eq!(two, down[..down.len().min(2)], "{from}");
    }
    let last = positions(store.read_all_of(&key, AllFrom::End, b, 1)).await;
    assert_eq!(last, expected[expected.len() - 1..]);
    assert!(positions(store.read_all_of(&key, AllFrom::End, f, 1)).await.is_empty());
    assert!(positions(store.read_all_of(&key, AllFrom::Start, b, 1)).await.is_empty());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_a_key_gets_checkpoints_by_what_it_holds_and_waits_for_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    for n in 0..10 {
        let stream = if n % 2 == 0 { "account-1" } else { "filler" };
        append(&store, stream, "Paid", "a").await;
    }
    let key = IndexKey::Category("account".to_owned());
    let mut subscription = store.subscribe_all_of(&key, SubscribeFrom::After(1), 3);
    let mut said = Vec::new();
    loop {
        match subscription.next().await.expect("a delivery") {
            Delivery::Events(page) => {
                said.extend(page.events().map(|event| event.position.0.to_string()));
            }
            Delivery::Checkpoint { position, .. } => said.push(format!("checkpoint {position}")),
            Delivery::CaughtUp { at, .. } => {
                said.push(format!("caught up {at:?}"));
                break;
            }
        }
    }
    let expected = ["3", "5", "7", "checkpoint 7", "9", "checkpoint 10", "caught up Some(10)"];
    assert_eq!(said, expected);
    let waits = tokio::spawn(async move { subscription.next().await });
    append(&store, "filler", "Paid", "a").await;
    append(&store, "account-1", "Paid", "a").await;
    let Ok(Delivery::Events(page)) = waits.await.expect("no panic") else { panic!("no events") };
    assert_eq!(page.events().map(|event| event.position.0).collect::<Vec<_>>(), [12]);
    store.close().await;
}

/// Scavenges until at least `events` are removed.
async fn scavenge(store: &Store, events: u64) {
    let scavenge = store.scavenge();
    let waits = async {
        while scavenge.status().events < events {
            scavenge.start();
            while scavenge.status().running.is_some() {
                tokio::time::sleep(LOOK).await;
            }
        }
    };
    tokio::time::timeout(PATIENCE, waits).await.expect("a scavenge takes too long");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_stays_listed_when_its_first_event_was_scavenged() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    for stream in ["account-1", "account-2", "account-3"] {
        for _ in 0..3 {
            append(&store, stream, "Paid", "a").await;
        }
        set(&store, stream, "{\"$maxCount\":1}").await;
    }
    push_into_sealed_segments(&store).await;
    let streams = [
        "0 $> 0@$store",
        "1 $> 0@account-1 -",
        "2 $> 0@$$account-1",
        "3 $> 0@account-2 -",
        "4 $> 0@$$account-2",
        "5 $> 0@account-3 -",
        "6 $> 0@$$account-3",
        "7 $> 0@filler",
    ];
    let accounts = ["0 $@ account-1 -", "1 $@ account-2 -", "2 $@ account-3 -"];
    let check = async |store: &Store, what: &str| {
        for (stream, expected) in [("$streams", &streams[..]), ("$category-account", &accounts)] {
            assert_eq!(all(store, stream).await, expected, "{what}");
            let (direction, from) = (Direction::Backwards, From::Revision(Revision(3)));
            let query = ReadStream { stream: name(stream), from, direction, count: 2 };
            let mut down = expected[..4.min(expected.len())].to_vec();
            down.reverse();
            assert_eq!(read(store, query).await, down[..2], "{what}");
            let from = SubscribeFrom::Start;
            let mut subscription = store.subscribe_stream(&name(stream), from).following();
            let mut told = Vec::new();
            while let Ok(lines) = next(&mut subscription).await {
                told.extend(lines);
            }
            assert_eq!(told, expected, "{what}");
        }
        // Where events are listed it leaves a gap.
        let paid = all(store, "$et-Paid").await;
        let shown = ["2 $> 2@account-1", "5 $> 2@account-2", "8 $> 2@account-3"];
        assert_eq!(paid.iter().filter(|line| !line.ends_with('-')).collect::<Vec<_>>(), shown);
        paid.len()
    };
    assert_eq!(check(&store, "before").await, 9);
    scavenge(&store, 6).await;
    assert_eq!(check(&store, "after").await, 3);
    let page = store.read_event(&name("$streams"), Revision(1)).await.expect("an answer");
    let page = page.expect("a link");
    let target = page.targets().next().expect("it");
    assert_eq!((target.event.position, target.event.stream), (Position(1), "account-1"));
    assert!(target.hidden, "also for who does not follow links");
    let mut text = LinkText::default();
    let link = page.links().expect("links").link(1, &target.event, &mut text);
    assert_eq!((link.data, link.metadata), (&b"0@account-1"[..], &b"{}"[..]));
    assert!(link.time.0 > 0);
    store.close().await;
    drop(store);
    remove_index(directory.path());
    let store = open(directory.path());
    assert_eq!(check(&store, "with a rebuilt index").await, 3);
    // A stream that was hidden by its settings is not shown by others: nothing is there.
    set(&store, "account-1", "{\"$maxCount\":9}").await;
    assert_eq!(all(&store, "$streams").await[1], "1 $> 0@account-1 -");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_an_idle_key_is_told_now_and_then_how_far_the_log_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let sizes = Sizes { first: 1 << 20, max: 1 << 20 };
    let store = open_with(directory.path(), sizes);
    append(&store, "account-1", "Paid", "a").await;
    let key = IndexKey::Category("account".to_owned());
    let mut subscription = store.subscribe_all_of(&key, SubscribeFrom::End, 3);
    let mut other = store.subscribe_all_of(&key, SubscribeFrom::End, 3 * IDLE_EVENTS);
    for subscription in [&mut subscription, &mut other] {
        loop {
            match subscription.next().await.expect("a delivery") {
                Delivery::CaughtUp { .. } => break,
                Delivery::Checkpoint { position, .. } => assert_eq!(position, Position(1)),
                Delivery::Events(page) => panic!("{page:?}"),
            }
        }
    }
    let waits = tokio::spawn(async move {
        let told = tokio::time::timeout(PATIENCE, subscription.next()).await;
        (told.expect("no checkpoint comes"), subscription)
    });
    for batch in 0..u128::from(2 * IDLE_EVENTS / 512) {
        let id = |n| Uuid::from_u128(batch << 32 | n);
        let events = (0..512).map(|n| NewEvent::json(id(n), "Filled", "{}"));
        let filler = Append::to_stream(name("filler"), ExpectedRevision::Any, events);
        store.append(filler).await.expect("appended");
    }
    let (told, mut subscription) = waits.await.expect("no panic");
    let Ok(Delivery::Checkpoint { position, .. }) = told else { panic!("{told:?}") };
    assert!(position.0 >= IDLE_EVENTS && position < store.committed(), "{position}");
    // What comes for it comes at once, and whose interval is longer is not told.
    append(&store, "account-1", "Paid", "a").await;
    let last = store.committed().0 - 1;
    let mut told = Vec::new();
    for subscription in [&mut other, &mut subscription] {
        let page = loop {
            match subscription.next().await.expect("a delivery") {
                Delivery::Events(page) => break page,
                Delivery::Checkpoint { position, .. } => told.push(position),
                Delivery::CaughtUp { .. } => panic!("it was caught up"),
            }
        };
        assert_eq!(page.events().next().map(|event| event.position.0), Some(last));
    }
    assert!(told.iter().all(|next| *next > position) && told.len() < 2, "{told:?}");
    store.close().await;
}

/// A timer whose waits end when the test says so.
#[derive(Debug)]
struct ByHand {
    asked: Semaphore,
    over: Arc<Semaphore>,
}

impl Timer for ByHand {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.asked.add_permits(1);
        let over = self.over.clone();
        Box::pin(async move { over.acquire().await.expect("it is never closed").forget() })
    }
}

/// A subscription that waits, and whose timer was asked; never a delivery.
async fn waits(subscription: &mut Subscription, timer: &ByHand) {
    tokio::select! {
        biased;
        delivery = subscription.next() => panic!("{delivery:?}"),
        asked = timer.asked.acquire() => asked.expect("it is never closed").forget(),
    }
}

#[tokio::test]
async fn who_follows_a_key_learns_after_a_while_how_far_the_log_went_on_without_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path());
    let timer = Arc::new(ByHand { asked: Semaphore::new(0), over: Arc::new(Semaphore::new(0)) });
    append(&store, "account-1", "Paid", "a").await;
    let key = IndexKey::Category("account".to_owned());
    let every = Duration::from_millis(5);
    let mut follows = store.follow_all_of(&key, SubscribeFrom::Start, every, timer.clone());
    let next = async |follows: &mut Subscription| {
        tokio::time::timeout(PATIENCE, follows.next()).await.expect("in time").expect("a delivery")
    };
    let Delivery::Events(page) = next(&mut follows).await else { panic!("the event first") };
    let first = page.last().expect("it").position;
    assert!(matches!(next(&mut follows).await, Delivery::CaughtUp { .. }), "it knows that much");

    // Many others: one wait, one word about them all; also if whoever waits lets go meanwhile,
    // and nothing is appended after that.
    for turn in 0..3 {
        for _ in 0..10 {
            append(&store, "filler-1", "Filled", "a").await;
        }
        for _ in 0..turn {
            waits(&mut follows, &timer).await;
        }
        timer.over.add_permits(1);
        let Delivery::Checkpoint { position, .. } = next(&mut follows).await else {
            panic!("only its place has changed")
        };
        assert_eq!(position.0, first.0 + 10 * (turn + 1));
        assert_eq!(timer.asked.available_permits(), 1, "one wait");
        timer.asked.forget_permits(1);
    }

    // What is its own comes at once, and says itself how far it is: nothing is waited for then.
    append(&store, "filler-1", "Filled", "a").await;
    waits(&mut follows, &timer).await;
    append(&store, "account-2", "Paid", "a").await;
    let Delivery::Events(page) = next(&mut follows).await else { panic!("its event") };
    assert_eq!(page.last().map(|event| event.position.next()), Some(store.committed()));
    timer.asked.forget_permits(timer.asked.available_permits());
    tokio::select! {
        biased;
        delivery = follows.next() => panic!("{delivery:?}"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(timer.asked.available_permits(), 0);
    store.close().await;
}
