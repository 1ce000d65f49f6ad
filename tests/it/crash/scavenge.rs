//! SIGKILL while segments are rewritten: what was to stay is there, byte for byte, whenever it is.

use std::collections::BTreeMap;
use std::path::Path;

use daybook_client::{Client, ReadAll};
use daybook_log::disk::sim::Rng;
use daybook_model::ExpectedRevision;
use futures_util::TryStreamExt as _;
use tempfile::TempDir;

use crate::kill::blocking;
use crate::support::daemon::{Daemon, daybook, run, said, verify};
use crate::support::events::{name, sized};
use crate::support::http::{get, post};
use crate::support::node::client;
use crate::{cycles, seed};

/// Events of each of two streams, in turn: more than the first segment holds.
const EVENTS: u128 = 2_400;
/// Events of the limited stream that stay.
const KEPT: u128 = 7;
/// Milliseconds after which a server that scavenges is killed, at most.
const WORK_MS_MAX: u64 = 400;

fn start(data: &Path, rate: &str) -> Daemon {
    let mut command = daybook(&["serve", "--scavenge", "on-demand", "--scavenge-rate", rate]);
    command.arg("--data").arg(data).args(["--listen", "127.0.0.1:0"]);
    Daemon::spawn(command, crate::support::PATIENCE).expect("a server")
}

/// All events by id: stream, revision and data.
async fn read(client: &Client) -> BTreeMap<u128, (String, u64, Vec<u8>)> {
    let mut events = client.read_all(ReadAll::default()).await.expect("a read");
    let mut all = BTreeMap::new();
    while let Some(resolved) = events.try_next().await.expect("an event") {
        let event = resolved.event.expect("no link");
        let stream = event.stream.as_str().to_owned();
        let found = (stream, event.revision.0, event.data.to_vec());
        all.insert(event.id.as_u128(), found);
    }
    all
}

fn check(all: &BTreeMap<u128, (String, u64, Vec<u8>)>) {
    for n in 0..EVENTS {
        let id = 2 * n + 3;
        let kept = ("kept-1".to_owned(), n as u64, sized(id, 1200).data.to_vec());
        assert_eq!(all.get(&id), Some(&kept), "event {n} of the stream that has no limit");
        let id = 2 * n + 2;
        let limited = ("limited-1".to_owned(), n as u64, sized(id, 1200).data.to_vec());
        match all.get(&id) {
            Some(found) => assert_eq!(*found, limited),
            None => assert!(n + KEPT < EVENTS, "event {n} of the last {KEPT} is not there"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_while_it_scavenges_it_loses_nothing_that_stays() {
    let mut rng = Rng::new(seed());
    let data = TempDir::new().expect("a directory");
    let daemon = blocking(|| start(data.path(), "1"));
    let writer = client(daemon.address);
    let metadata = format!("{{\"$maxCount\":{KEPT}}}");
    let metadata = daybook_model::NewEvent::json(uuid::Uuid::from_u128(1), "$metadata", metadata);
    let any = ExpectedRevision::Any;
    writer.append(&name("$$limited-1"), any, vec![metadata]).await.expect("appended");
    for n in 0..EVENTS {
        for (stream, id) in [("limited-1", 2 * n + 2), ("kept-1", 2 * n + 3)] {
            writer.append(&name(stream), any, vec![sized(id, 1200)]).await.expect("appended");
        }
    }
    check(&read(&writer).await);
    let mut daemon = daemon;
    for _ in 0..cycles() {
        let begun = post(daemon.address, "/admin/scavenge", "").await;
        assert_eq!(begun.status, 200, "{}", begun.body);
        let patience = std::time::Duration::from_millis(rng.below(WORK_MS_MAX));
        tokio::time::sleep(patience).await;
        blocking(|| daemon.kill());
        daemon = blocking(|| start(data.path(), "1"));
        check(&read(&client(daemon.address)).await);
    }
    let url = format!("http://{}", daemon.address);
    let done = blocking(|| run(&["scavenge", "start", "--url", &url]));
    assert!(done.status.success(), "{}", said(&done));
    let all = read(&client(daemon.address)).await;
    check(&all);
    let gone = (0..EVENTS).filter(|n| !all.contains_key(&(2 * n + 2))).count();
    assert!(gone > 1_000, "{gone} events were removed");
    let status = get(daemon.address, "/admin/scavenge").await.json();
    assert_eq!(status["history"][0]["outcome"], "completed", "{status}");
    let (ended, said) = blocking(|| daemon.terminate());
    assert_eq!(ended.code(), Some(0), "{said}");
    let report = blocking(|| verify(data.path()));
    assert_eq!(report["removedEvents"], gone as u64, "{report}");
}
