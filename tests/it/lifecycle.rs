//! Starts and stops of the real binary, and what may be missing in between.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use daybook_client::{Client, Delivery, SubscribeAll};
use daybook_model::ExpectedRevision;
use daybook_store::Append;
use tempfile::TempDir;

use crate::support::daemon::{Daemon, verify};
use crate::support::directory::{MARK_SIZE, names, read_log};
use crate::support::events::{event, name, sized};
use crate::support::http::get;
use crate::support::node::{SMALL, Server, client};
use crate::support::{assert_says, soon, until};

/// Appends to a stream of its own until the server goes. Answers with the ids it was promised, by
/// position.
async fn write(client: Client, writer: u64, acknowledged: Arc<AtomicU64>) -> BTreeMap<u64, u128> {
    let stream = name(&format!("writer-{writer}"));
    let mut promised = BTreeMap::new();
    for n in 0.. {
        let id = u128::from(writer) << 64 | n;
        match client.append(&stream, ExpectedRevision::Any, vec![event(id)]).await {
            Ok(appended) => {
                let position = appended.checkpoint.expect("a position").position();
                promised.insert(position.0, id);
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => break,
        }
    }
    promised
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_drains_and_exits_with_0_and_keeps_every_promise() {
    let data = TempDir::new().expect("a directory");
    let daemon = Daemon::start(data.path());
    let acknowledged = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..8)
        .map(|n| tokio::spawn(write(client(daemon.address), n, acknowledged.clone())))
        .collect();
    let follower = client(daemon.address);
    let mut subscription =
        follower.subscribe_all(SubscribeAll::default()).await.expect("a subscription");
    until("some appends", || async { acknowledged.load(Ordering::Relaxed) > 500 }).await;
    let (status, said) =
        tokio::task::spawn_blocking(|| daemon.terminate()).await.expect("no panic");
    assert_eq!(status.code(), Some(0), "{said}");
    assert_says(&said, &["stopping", "\"connections_cut\":0", "stopped"]);
    let mut promised = BTreeMap::new();
    for writer in writers {
        promised.extend(soon("a writer's end", writer).await.expect("no panic"));
    }
    // What the subscriber had been sent before the end is what is there.
    let seen = match subscription.next().await.expect("what was sent") {
        Delivery::Event(resolved) => resolved.event.expect("no link").position.0,
        other => panic!("{other:?}"),
    };
    assert_eq!(seen, 0, "the first event first");
    drop(subscription);

    let report = verify(data.path());
    assert_eq!(report["tornTail"], false);
    let server = Server::start(data.path()).await;
    let recovery = server.store().recovery().clone();
    assert_eq!(recovery.torn, None);
    assert!(recovery.rewritten_bytes <= MARK_SIZE, "a clean stop proves all");
    let log = read_log(server.store()).await;
    for (position, id) in &promised {
        assert_eq!(log[*position as usize - 1].id.as_u128(), *id);
    }
    let mut ids: Vec<_> = log.iter().map(|event| event.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), log.len(), "each once");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_server_stops_at_once_also_with_subscribers() {
    let data = TempDir::new().expect("a directory");
    let daemon = Daemon::start(data.path());
    let client = client(daemon.address);
    let mut subscription =
        client.subscribe_all(SubscribeAll::default()).await.expect("a subscription");
    while subscription.next().await.expect("a delivery") != Delivery::CaughtUp {}
    assert_eq!(get(daemon.address, "/health/ready").await.status, 200);
    let (status, said) =
        tokio::task::spawn_blocking(|| daemon.terminate()).await.expect("no panic");
    assert_eq!(status.code(), Some(0), "{said}");
    assert_says(&said, &["\"connections_cut\":0"]);
}

fn remove(data: &Path, suffixes: &[&str]) -> usize {
    let ours = |name: &String| suffixes.iter().any(|suffix| name.ends_with(suffix));
    let doomed: Vec<String> = names(data).into_iter().filter(ours).collect();
    for name in &doomed {
        std::fs::remove_file(data.join(name)).expect("a file");
    }
    doomed.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn index_files_can_be_deleted_and_are_built_again_just_the_same() {
    let data = TempDir::new().expect("a directory");
    let server = Server::try_start(data.path(), SMALL).await.expect("a server");
    for id in 0..300 {
        let stream = name(&format!("a-{}", id % 7));
        let append = Append::to_stream(stream, ExpectedRevision::Any, [sized(id, 1000)]);
        server.store().append(append).await.expect("room");
    }
    let log = read_log(server.store()).await;
    until("the index files", || async { server.store().stats().active_keys > 0 }).await;
    server.stop().await;
    for suffixes in [&[".idx"][..], &[".ids"], &[".dir"], &[".idx", ".ids", ".dir", ".tmp"]] {
        // The first start completes what the last stop left to do.
        Server::try_start(data.path(), SMALL).await.expect("a server").stop().await;
        verify(data.path());
        let before = crate::support::directory::bytes(data.path());
        assert!(remove(data.path(), suffixes) > 0, "{suffixes:?}");
        let server = Server::try_start(data.path(), SMALL).await.expect("a server");
        assert!(server.store().stats().index_rebuilt > 0, "{suffixes:?}");
        assert_eq!(read_log(server.store()).await, log);
        for n in 0..7 {
            let info =
                server.store().stream_info(&name(&format!("a-{n}"))).await.expect("a stream");
            let count = log.iter().filter(|event| event.stream == format!("a-{n}")).count();
            assert_eq!(info.head.map(|head| head.0 + 1), Some(count as u64));
        }
        let names = server.store().streams("a-", None, 100).await.expect("names");
        assert_eq!(names.len(), 7);
        // A retry of what only the index knows is recognised.
        let again = Append::to_stream(name("a-0"), ExpectedRevision::Any, [sized(0, 1000)]);
        let again = server.store().append(again).await.expect("a duplicate");
        assert_eq!(again.position.map(|position| position.0), Some(1));
        assert_eq!(server.store().committed().0, 301, "and not written twice");
        server.stop().await;
        verify(data.path());
        for (name, bytes) in crate::support::directory::bytes(data.path()) {
            if name.ends_with(".idx") || name.ends_with(".ids") {
                assert!(before.get(&name) == Some(&bytes), "{name} differs");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_can_be_deleted_and_the_store_is_none_the_worse() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    server.client.append(&name("a-1"), ExpectedRevision::Any, vec![event(1)]).await.expect("room");
    server.stop().await;
    std::fs::remove_dir_all(data.path().join("snapshots")).expect("a directory");
    let server = Server::start(data.path()).await;
    assert_eq!(get(server.address(), "/health/ready").await.status, 200);
    assert_eq!(read_log(server.store()).await.len(), 1);
    server.stop().await;
}
