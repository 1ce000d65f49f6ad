//! The store through its public face, on a simulated disk and on a real one.

use std::sync::Arc;

use bytes::Bytes;
use daybook_log::disk::os::{Access, OsDisk};
use daybook_model::{
    ContentType, ExpectedRevision, Filter, FilterTarget, NewEvent, Position, Revision, StreamName,
    SystemClock, SystemEntropy,
};
use daybook_store::{
    AllFrom, Append, AppendError, Appended, Deletion, Delivery, Direction, Environment, From,
    IndexKey, Options, ReadAll, ReadError, ReadStream, Sizes, Store, SubscribeFrom,
    SubscriptionFilter,
};
use uuid::Uuid;

fn event(id: u128, kind: &str, data: &str) -> NewEvent {
    NewEvent {
        id: Uuid::from_u128(id),
        event_type: kind.to_owned(),
        content_type: ContentType::Json,
        metadata: Bytes::from(format!("{{\"$correlationId\":\"c{}\"}}", id % 3)),
        data: Bytes::copy_from_slice(data.as_bytes()),
    }
}

fn name(text: &str) -> StreamName {
    StreamName::new(text).expect("a valid name")
}

fn open(directory: &std::path::Path, sizes: Sizes) -> Store {
    let environment = Environment {
        disk: Arc::new(OsDisk::open(directory, Access::Write).expect("a data directory")),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
    };
    Store::open(environment, Options { sizes, ..Options::default() }).expect("an open store")
}

const SMALL: Sizes = Sizes { first: 8192, max: 16384 };

async fn read_all(store: &Store) -> Vec<(u64, String, u64)> {
    let mut reader = store.read_all(ReadAll {
        from: AllFrom::Start,
        direction: Direction::Forwards,
        count: u64::MAX,
        filter: None,
    });
    let mut out = Vec::new();
    while let Some(page) = reader.next().await.expect("a page") {
        out.extend(page.events().map(|e| (e.position.0, e.stream.to_owned(), e.revision.0)));
    }
    out
}

async fn read_stream(store: &Store, stream: &str, direction: Direction) -> Vec<u64> {
    let from = if direction == Direction::Forwards { From::Start } else { From::End };
    let query = ReadStream { stream: name(stream), from, direction, count: u64::MAX };
    let mut reader = store.read_stream(query).await.expect("a stream");
    let mut out = Vec::new();
    while let Some(page) = reader.next().await.expect("a page") {
        out.extend(page.events().map(|e| e.revision.0));
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_appended_is_read_back_in_every_way_also_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), SMALL);
    let streams = 7;
    for i in 0..500u64 {
        let stream = name(&format!("account-{}", i % streams));
        let expected = match i / streams {
            0 => ExpectedRevision::NoStream,
            n => ExpectedRevision::Exact(Revision(n - 1)),
        };
        let appended = store
            .append(Append::to_stream(
                stream,
                expected,
                [event(u128::from(i), "Paid", "{\"n\":1}")],
            ))
            .await
            .expect("appended");
        assert_eq!(appended.position, Some(Position(i + 1)));
    }
    check(&store, streams).await;
    store.close().await;
    drop(store);
    let store = open(directory.path(), SMALL);
    assert_eq!(store.stats().index_rebuilt, 0);
    check(&store, streams).await;
    store.close().await;
    drop(store);
    remove_index(directory.path());
    let store = open(directory.path(), SMALL);
    assert!(store.stats().index_rebuilt > 0);
    check(&store, streams).await;
    store.close().await;
}

async fn check(store: &Store, streams: u64) {
    let all = read_all(store).await;
    assert_eq!(all.len(), 501);
    assert!(all.iter().enumerate().all(|(i, (position, _, _))| *position == i as u64));
    for s in 0..streams {
        let stream = format!("account-{s}");
        let count = 500 / streams + u64::from(s < 500 % streams);
        let up: Vec<u64> = (0..count).collect();
        let down: Vec<u64> = (0..count).rev().collect();
        assert_eq!(read_stream(store, &stream, Direction::Forwards).await, up);
        assert_eq!(read_stream(store, &stream, Direction::Backwards).await, down);
    }
    for (key, count) in [
        (IndexKey::Category("account".to_owned()), 500),
        (IndexKey::EventType("Paid".to_owned()), 500),
        (IndexKey::Correlation("c1".to_owned()), 167),
    ] {
        for direction in [Direction::Forwards, Direction::Backwards] {
            let from = if direction == Direction::Forwards { 0 } else { u64::MAX };
            let mut reader = store.read_index(&key, from, direction, u64::MAX);
            let mut total = 0;
            while let Some(page) = reader.next().await.expect("a page") {
                total += page.len();
            }
            assert_eq!(total, count, "{key:?} {direction:?}");
        }
    }
    let names = store.streams("account-", None, 100).await.expect("names");
    assert_eq!(names.len(), streams as usize);
    let after = store.streams("account-", Some("account-3"), 2).await.expect("names");
    assert_eq!(after, ["account-4", "account-5"]);
}

#[expect(clippy::disallowed_methods, reason = "a test that damages what it made")]
fn remove_index(directory: &std::path::Path) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let suffix = path.extension().and_then(|s| s.to_str()).unwrap_or_default();
        if ["idx", "ids", "dir"].contains(&suffix) {
            std::fs::remove_file(path).expect("removed");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_stream_with_many_writers_is_gapless_and_retries_are_recognised() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), SMALL);
    let append = |i: u128| {
        let hot = name("merchant-1");
        Append::to_stream(hot, ExpectedRevision::Any, [event(i, "Paid", "{}")])
    };
    let mut tasks = Vec::new();
    for i in 0..200u128 {
        let (store, append) = (store.clone(), append(i));
        tasks.push(tokio::spawn(async move { store.append(append).await.expect("appended") }));
    }
    let mut first: Vec<Appended> = Vec::new();
    for task in tasks {
        first.push(task.await.expect("no panic"));
    }
    let mut revisions: Vec<u64> =
        first.iter().map(|a| a.revisions[0].expect("a revision").0).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (0..200).collect::<Vec<u64>>());
    for (i, answer) in first.iter().enumerate() {
        assert_eq!(&store.append(append(i as u128)).await.expect("recognised"), answer);
    }
    assert_eq!(store.committed(), Position(201));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_race_for_one_revision_has_one_winner() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), SMALL);
    let mut tasks = Vec::new();
    for i in 0..50u128 {
        let store = store.clone();
        let append = Append::to_stream(
            name("account-1"),
            ExpectedRevision::NoStream,
            [event(i, "Opened", "{}")],
        );
        tasks.push(tokio::spawn(async move { store.append(append).await }));
    }
    let mut won = 0;
    for task in tasks {
        match task.await.expect("no panic") {
            Ok(_) => won += 1,
            Err(AppendError::WrongExpectedRevision { actual, .. }) => {
                assert_eq!(actual, Some(Revision(0)));
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(won, 1);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_stream_is_gone_and_comes_back_with_the_next_revision() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), SMALL);
    let stream = name("account-1");
    let append =
        |i| Append::to_stream(stream.clone(), ExpectedRevision::Any, [event(i, "E", "{}")]);
    let missing = store.delete(&stream, ExpectedRevision::Any, Deletion::Soft).await;
    assert!(matches!(missing, Err(AppendError::WrongExpectedRevision { actual: None, .. })));
    for i in 0..3 {
        store.append(append(i)).await.expect("appended");
    }
    store.delete(&stream, ExpectedRevision::Any, Deletion::Soft).await.expect("deleted");
    let query = ReadStream {
        stream: stream.clone(),
        from: From::Start,
        direction: Direction::Forwards,
        count: 10,
    };
    let gone = store.read_stream(query.clone()).await.err();
    assert_eq!(gone, Some(ReadError::StreamNotFound { stream: stream.clone() }));
    let appended = store.append(append(3)).await.expect("opened again");
    assert_eq!(appended.revisions[0], Some(Revision(3)));
    assert_eq!(read_stream(&store, "account-1", Direction::Forwards).await, [3]);
    store.delete(&stream, ExpectedRevision::Any, Deletion::Tombstone).await.expect("ended");
    let ended = store.append(append(4)).await.err();
    assert_eq!(
        ended,
        Some(AppendError::StreamDeleted { index: 0, stream: stream.clone(), tombstoned: true })
    );
    let ended = store.read_stream(query).await.err();
    assert_eq!(ended, Some(ReadError::StreamDeleted { stream }));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_sees_history_and_live_events_once_in_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), SMALL);
    let total = 300u64;
    let writer = store.clone();
    let task = tokio::spawn(async move {
        for i in 0..total {
            let stream = name(&format!("s-{}", i % 3));
            let append =
                Append::to_stream(stream, ExpectedRevision::Any, [event(u128::from(i), "E", "{}")]);
            writer.append(append).await.expect("appended");
        }
    });
    let mut all = store.subscribe_all(SubscribeFrom::Start, None);
    let mut one = store.subscribe_stream(&name("s-1"), SubscribeFrom::Start);
    let (mut positions, mut revisions) = (Vec::new(), Vec::new());
    while positions.len() < total as usize + 1 {
        if let Delivery::Events(page) = all.next().await.expect("a delivery") {
            positions.extend(page.events().map(|e| e.position.0));
        }
    }
    while revisions.len() < total as usize / 3 {
        if let Delivery::Events(page) = one.next().await.expect("a delivery") {
            revisions.extend(page.events().map(|e| e.revision.0));
        }
    }
    assert_eq!(positions, (0..=total).collect::<Vec<u64>>());
    assert_eq!(revisions, (0..total / 3).collect::<Vec<u64>>());
    task.await.expect("no panic");
    store.close().await;
    assert_eq!(all.next().await.err(), Some(ReadError::Closed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_filtered_subscription_says_how_far_it_is_at_each_interval_and_at_the_end() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), SMALL);
    // Position 0 is the store's own; "a" and "b" take turns from 1 on.
    for i in 0..20u128 {
        let append = Append::to_stream(
            name(if i % 2 == 0 { "a" } else { "b" }),
            ExpectedRevision::Any,
            [event(i, "E", "{}")],
        );
        store.append(append).await.expect("appended");
    }
    let told = |wanted: &str, interval: u64| {
        let prefixes = vec![wanted.to_owned()];
        let filter = Filter::prefixes(FilterTarget::StreamName, prefixes).expect("a filter");
        let filter = SubscriptionFilter { filter: Arc::new(filter), checkpoint_interval: interval };
        let mut feed = store.subscribe_all(SubscribeFrom::Start, Some(filter));
        let (mut events, mut checkpoints) = (Vec::new(), Vec::new());
        while let Some(delivery) = feed.try_next().expect("a delivery") {
            match delivery {
                Delivery::Events(page) => {
                    let positions = page.events().map(|event| event.position.0);
                    events.extend(positions.filter(|p| checkpoints.iter().all(|c| c < p)));
                }
                Delivery::Checkpoint { position, .. } => checkpoints.push(position.0),
                Delivery::CaughtUp { at, .. } => assert_eq!(at, Some(20)),
            }
        }
        (events, checkpoints)
    };
    let of_a: Vec<u64> = (1..=20).step_by(2).collect();
    assert_eq!(told("a", 1), (of_a.clone(), (0..=20).collect()));
    assert_eq!(told("a", 8), (of_a.clone(), vec![7, 15, 20]));
    assert_eq!(told("a", 7), (of_a.clone(), vec![6, 13, 20]));
    assert_eq!(told("a", u64::MAX), (of_a, vec![20]));
    assert_eq!(told("c", 8), (vec![], vec![7, 15, 20]));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_taken_under_load_is_restored_whole_under_the_next_epoch() {
    use daybook_log::backup;
    let (source, copy, target) = (
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    );
    let store = open(source.path(), SMALL);
    let append = |i: u128| {
        let stream = name(&format!("s-{}", i % 5));
        Append::to_stream(stream, ExpectedRevision::Any, [event(i, "E", "{}")])
    };
    for i in 0..150 {
        store.append(append(i)).await.expect("appended");
    }
    let writer = store.clone();
    let load = tokio::spawn(async move {
        for i in 150..300 {
            writer.append(append(i)).await.expect("appended");
        }
    });
    let to = OsDisk::open(copy.path(), Access::Write).expect("a directory");
    let taken = store.backup().expect("a backup");
    let manifest = backup::save(&taken, &to, &mut |_, _| {}).expect("saved");
    load.await.expect("no panic");
    assert!(manifest.end >= 151);
    let before: Vec<_> = read_all(&store).await.into_iter().take(manifest.end as usize).collect();
    let into = OsDisk::open(target.path(), Access::Write).expect("a directory");
    let restored = backup::restore(&to, &into, &SystemEntropy, SMALL, &mut |_, _| {});
    let epoch = restored.expect("restored").epoch;
    assert!(epoch.0 > 0);
    let again = backup::restore(&to, &into, &SystemEntropy, SMALL, &mut |_, _| {});
    assert!(matches!(again, Err(backup::BackupError::NotEmpty { .. })));
    drop(into);
    let copy = open(target.path(), SMALL);
    assert_eq!(read_all(&copy).await, before);
    copy.append(append(1000)).await.expect("appended");
    let position = Position(manifest.end);
    assert_eq!(copy.epoch_at(position), Some(epoch));
    assert_eq!(copy.epoch_at(Position(0)).map(|e| e.0), Some(0));
    copy.close().await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_index_file_is_built_anew_wherever_it_is_damaged() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), SMALL);
    for i in 0..400u128 {
        let stream = name(&format!("s-{}", i % 40));
        let append = Append::to_stream(stream, ExpectedRevision::Any, [event(i, "E", "{}")]);
        store.append(append).await.expect("appended");
    }
    store.close().await;
    drop(store);
    for place in [70, 300, 2000] {
        damage_index(directory.path(), place);
        let store = open(directory.path(), SMALL);
        for s in 0..40 {
            let query = ReadStream {
                stream: name(&format!("s-{s}")),
                from: From::Start,
                direction: Direction::Forwards,
                count: u64::MAX,
            };
            assert_eq!(read_patiently(&store, &query).await, (0..10).collect::<Vec<u64>>());
        }
        store.close().await;
    }
}

/// Reads a stream, again for as long as an index file it needs is being built anew.
async fn read_patiently(store: &Store, query: &ReadStream) -> Vec<u64> {
    'again: loop {
        let mut out = Vec::new();
        let mut reader = match store.read_stream(query.clone()).await {
            Err(ReadError::IndexDamaged { .. }) => continue 'again,
            other => other.expect("a stream"),
        };
        loop {
            match reader.next().await {
                Ok(Some(page)) => out.extend(page.events().map(|e| e.revision.0)),
                Ok(None) => return out,
                Err(ReadError::IndexDamaged { .. }) => continue 'again,
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test that damages what it made")]
fn damage_index(directory: &std::path::Path, place: usize) {
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let suffix = path.extension().and_then(|s| s.to_str()).unwrap_or_default();
        if ["idx", "dir"].contains(&suffix) {
            let mut bytes = std::fs::read(&path).expect("read");
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= 0x10;
            }
            std::fs::write(path, bytes).expect("written");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_append_is_answered_when_the_disk_fills_under_racing_writers() {
    let disk = daybook_log::disk::sim::SimDisk::new(7);
    disk.set_capacity(Some(26 * 1024));
    let environment = Environment {
        disk: Arc::new(disk),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
    };
    let store = Store::open(environment, Options { sizes: SMALL, ..Options::default() })
        .expect("an open store");
    let mut tasks = Vec::new();
    for task in 0..64u128 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let mut full = 0;
            for i in 0..200u128 {
                // All race for the first revision of one stream after another.
                let stream = name(&format!("s-{i}"));
                let event = event(task * 1000 + i, "E", "{}");
                let append = Append::to_stream(stream, ExpectedRevision::NoStream, [event]);
                match store.append(append).await {
                    Ok(_) | Err(AppendError::WrongExpectedRevision { .. }) => {}
                    Err(AppendError::DiskFull { .. } | AppendError::Overloaded { .. }) => full += 1,
                    Err(other) => panic!("{other}"),
                }
            }
            full
        }));
    }
    let mut full = 0;
    for task in tasks {
        let limit = std::time::Duration::from_secs(60);
        full += tokio::time::timeout(limit, task).await.expect("answered").expect("no panic");
    }
    assert!(full > 0, "the disk was meant to fill");
    store.close().await;
}
