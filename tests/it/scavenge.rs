//! Scavenges as an operator meets them: files shrink, and nothing else changes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use daybook::node::Config;
use daybook_log::disk::os::{Access, OsDisk};
use daybook_model::{Clock, ExpectedRevision, SystemClock, Timestamp};
use daybook_store::scavenge::{RATE_MIN, Schedule};
use daybook_store::{AllFrom, Append, Direction, From, Options, ReadAll, ReadStream, Sizes, Store};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::daemon::{Daemon, run, said, verify};
use crate::support::events::{event, name, sized};
use crate::support::http::{call, get, post};
use crate::support::node::Server;
use crate::support::until;

/// Small segments, so that nearly all of them are sealed.
const SIZES: Sizes = Sizes { first: 256 * 1024, max: 256 * 1024 };
const EVENTS: u128 = 10_000;
const KEPT: u64 = 10;

async fn append(store: &Store, stream: &str, events: impl Iterator<Item = u128>) {
    let events: Vec<_> = events.map(|id| sized(id, 1024)).collect();
    let append = Append::to_stream(name(stream), ExpectedRevision::Any, events);
    store.append(append).await.expect("appended");
}

async fn limit(store: &Store, stream: &str, data: &str) {
    let id = uuid::Uuid::new_v4();
    let event = daybook_model::NewEvent::json(id, "$metadata", data.to_owned());
    let metastream = name(stream).metastream();
    let append = Append::to_stream(metastream, ExpectedRevision::Any, [event]);
    store.append(append).await.expect("appended");
}

/// All of a stream: revisions, ids, data.
async fn stream(store: &Store, stream: &str) -> Vec<(u64, u128, Vec<u8>)> {
    let (from, direction) = (From::Start, Direction::Forwards);
    let query = ReadStream { stream: name(stream), from, direction, count: u64::MAX };
    let mut reader = store.read_stream(query).await.expect("a stream");
    let mut out = Vec::new();
    while let Some(page) = reader.next().await.expect("a page") {
        let event = |event: daybook_model::EventView<'_>| {
            (event.revision.0, event.id.as_u128(), event.data.to_vec())
        };
        out.extend(page.events().map(event));
    }
    out
}

/// How many events the log shows.
async fn shown(store: &Store) -> u64 {
    let (from, direction, count) = (AllFrom::Start, Direction::Forwards, u64::MAX);
    let mut reader = store.read_all(ReadAll { from, direction, count, filter: None });
    let mut shown = 0;
    while let Some(page) = reader.next().await.expect("a page") {
        shown += page.len() as u64;
    }
    shown
}

fn log_bytes(data: &Path) -> u64 {
    let entries = std::fs::read_dir(data).expect("a directory").flatten();
    let logs = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(".log"));
    logs.map(|entry| entry.metadata().expect("a file").len()).sum()
}

/// Fills a store with a stream that is limited, and one that is not.
async fn fill(store: &Store) {
    limit(store, "log-1", &format!("{{\"$maxCount\":{KEPT}}}")).await;
    for first in (0..EVENTS).step_by(50) {
        append(store, "log-1", first..first + 50).await;
    }
    append(store, "other-1", 1_000_000..1_000_100).await;
}

async fn sealed(store: &Store) {
    // The index of each sealed segment is written in the background.
    until("the segments' index files", || async {
        store.stats().index_bytes > 0 && store.stats().segments > 30
    })
    .await;
}

/// Begins a scavenge and waits for its end; what it came to.
async fn scavenge(server: &Server) -> Value {
    let begun = post(server.address(), "/admin/scavenge", "").await;
    assert_eq!(begun.status, 200, "{}", begun.body);
    let id = begun.json()["scavengeId"].as_str().expect("an id").to_owned();
    let status = || async { get(server.address(), "/admin/scavenge").await.json() };
    until("the scavenge to end", || async { status().await["running"].is_null() }).await;
    let history = status().await["history"].clone();
    let finished = history.as_array().expect("a list").iter();
    finished.into_iter().find(|one| one["scavengeId"] == id.as_str()).expect("it ended").clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_streams_bytes_are_given_back() {
    let data = TempDir::new().expect("a directory");
    let server = Server::try_start(data.path(), SIZES).await.expect("a server");
    fill(server.store()).await;
    sealed(server.store()).await;
    let before = (
        stream(server.store(), "log-1").await,
        stream(server.store(), "other-1").await,
        log_bytes(data.path()),
    );
    assert_eq!(before.0.len() as u64, KEPT);
    let committed = server.store().committed();
    let mut finished = scavenge(&server).await;
    // Segments that were sealed last may not have had their index yet.
    for _ in 0..20 {
        if log_bytes(data.path()) * 5 < before.2 {
            break;
        }
        finished = scavenge(&server).await;
    }
    assert_eq!(finished["outcome"], "completed", "{finished}");
    let after = log_bytes(data.path());
    assert!(after * 5 < before.2, "{after} of {} bytes are left", before.2);
    let shown_after = shown(server.store()).await;
    assert!(shown_after < 600, "{shown_after} events are shown");
    let metrics = get(server.address(), "/metrics").await.body;
    assert!(metrics.contains("daybook_scavenge_running 0"), "{metrics}");
    assert!(!metrics.contains("daybook_scavenge_bytes_total 0\n"), "{metrics}");
    assert_eq!(stream(server.store(), "log-1").await, before.0);
    server.stop().await;

    let report = verify(data.path());
    assert_eq!(report["events"], committed.0);
    assert_eq!(report["removedEvents"], committed.0 - shown_after);
    // From the log alone.
    for entry in std::fs::read_dir(data.path()).expect("a directory").flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        if [".idx", ".ids", ".dir"].iter().any(|suffix| file.ends_with(suffix)) {
            std::fs::remove_file(entry.path()).expect("a file");
        }
    }
    let backup = TempDir::new().expect("a directory");
    let restored = TempDir::new().expect("a directory");
    let text = |path: &Path| path.display().to_string();
    let (from, to) = (text(data.path()), text(&backup.path().join("saved")));
    let saved = run(&["backup", "--data", &from, "--to", &to]);
    assert!(saved.status.success(), "{}", said(&saved));
    let target = text(&restored.path().join("data"));
    let done = run(&["restore", "--from", &to, "--data", &target]);
    assert!(done.status.success(), "{}", said(&done));
    for place in [data.path().to_owned(), restored.path().join("data")] {
        let server = Server::try_start(&place, SIZES).await.expect("a server");
        assert_eq!(stream(server.store(), "log-1").await, before.0);
        assert_eq!(stream(server.store(), "other-1").await, before.1);
        assert_eq!(shown(server.store()).await, shown_after);
        let head = server.store().stream_info(&name("log-1")).await.expect("known").head;
        assert_eq!(head.map(|revision| revision.0), Some(EVENTS as u64 - 1));
        // A retry of what was removed is answered, not written.
        let retried =
            Append::to_stream(name("log-1"), ExpectedRevision::NoStream, [sized(0, 1024)]);
        let answer = server.store().append(retried).await.expect("the first answer");
        assert_eq!(answer.revisions.as_slice(), [Some(daybook_model::Revision(0))]);
        assert_eq!(server.store().committed(), committed);
        server.stop().await;
        verify(&place);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_runs_at_a_time_and_can_be_stopped() {
    let data = TempDir::new().expect("a directory");
    // So slow that it is at work until it is stopped.
    let scavenge = Schedule { automatic: false, rate: RATE_MIN };
    let options = Options { sizes: SIZES, ..Options::default() };
    let config = Config { options, scavenge, ..Config::in_directory(data.path()) };
    let server = Server::start_with(config).await;
    fill(server.store()).await;
    sealed(server.store()).await;
    let address = server.address();
    let first = post(address, "/admin/scavenge", "").await.json();
    assert_eq!(first["result"], "started");
    let second = post(address, "/admin/scavenge", "").await.json();
    assert_eq!(second["result"], "inProgress");
    assert_eq!(second["scavengeId"], first["scavengeId"]);
    let none =
        call(address, "DELETE", "/admin/scavenge/00000000-0000-0000-0000-000000000000", &[], "");
    let none = none.await;
    assert_eq!(none.status, 404, "{}", none.body);
    assert!(none.body.contains("scavenge-not-found"), "{}", none.body);
    // Appends do not wait for it.
    append(server.store(), "other-1", 2_000_000..2_000_010).await;
    let id = first["scavengeId"].as_str().expect("an id");
    let stopped = call(address, "DELETE", &format!("/admin/scavenge/{id}"), &[], "").await;
    assert_eq!(stopped.status, 200, "{}", stopped.body);
    let status = || async { get(address, "/admin/scavenge").await.json() };
    until("it to stop", || async { status().await["running"].is_null() }).await;
    assert_eq!(status().await["history"][0]["outcome"], "stopped");
    // Another can begin, and a stop of the server ends that.
    assert_eq!(post(address, "/admin/scavenge", "").await.json()["result"], "started");
    server.stop().await;
    let report = verify(data.path());
    assert_eq!(report["sound"], true);
}

/// The machine's clocks, both ahead by as many seconds as it was told.
#[derive(Debug, Default)]
struct LaterClock {
    machine: SystemClock,
    ahead_s: AtomicU64,
}

impl Clock for LaterClock {
    fn now(&self) -> Timestamp {
        let ahead = self.ahead_s.load(Ordering::SeqCst).cast_signed();
        Timestamp(self.machine.now().0 + ahead * 1_000_000_000)
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic() + Duration::from_secs(self.ahead_s.load(Ordering::SeqCst))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_begins_by_itself() {
    let data = TempDir::new().expect("a directory");
    let clock = Arc::new(LaterClock::default());
    let disk = Arc::new(OsDisk::open(data.path(), Access::Write).expect("a disk"));
    let server = Server::on(disk, clock.clone(), SIZES).await;
    fill(server.store()).await;
    sealed(server.store()).await;
    let before = log_bytes(data.path());
    let scavenge = server.store().scavenge();
    scavenge.schedule(Schedule { automatic: true, ..Schedule::default() });
    assert_eq!(scavenge.status().passes, 0, "not at once after a start");
    clock.ahead_s.store(2 * 3600, Ordering::SeqCst);
    until("a scavenge to end", || async { server.store().scavenge().status().passes > 0 }).await;
    assert!(log_bytes(data.path()) < before);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_scavenges_a_server_and_a_stopped_store() {
    let data = TempDir::new().expect("a directory");
    let server = Server::try_start(data.path(), SIZES).await.expect("a server");
    fill(server.store()).await;
    sealed(server.store()).await;
    server.stop().await;
    let before = log_bytes(data.path());
    let directory = data.path().display().to_string();
    let here = run(&["scavenge", "start", "--json", "--data", &directory]);
    assert!(here.status.success(), "{}", said(&here));
    let answer: Value = serde_json::from_slice(&here.stdout).expect("JSON");
    assert_eq!(answer["outcome"], "completed", "{answer}");
    assert!(log_bytes(data.path()) * 2 < before);
    let daemon = Daemon::start(data.path());
    let url = format!("http://{}", daemon.address);
    let there = run(&["scavenge", "start", "--url", &url]);
    assert!(there.status.success(), "{}", said(&there));
    let status = run(&["scavenge", "status", "--url", &url]);
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(text.contains("bytes given back") && text.contains("completed"), "{text}");
    let stop = run(&["scavenge", "stop", "--url", &url]);
    assert!(!stop.status.success() && said(&stop).contains("no such scavenge"), "{}", said(&stop));
    assert!(daemon.terminate().0.success());
    verify(data.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_appended_while_nothing_is_left_to_scavenge() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let finished = scavenge(&server).await;
    assert_eq!(
        (finished["outcome"].as_str(), finished["segments"].as_u64()),
        (Some("completed"), Some(0))
    );
    let append = Append::to_stream(name("a-1"), ExpectedRevision::NoStream, [event(1)]);
    server.store().append(append).await.expect("appended");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_in_the_status_and_the_rest_is_given_back() {
    let data = TempDir::new().expect("a directory");
    let server = Server::try_start(data.path(), SIZES).await.expect("a server");
    fill(server.store()).await;
    sealed(server.store()).await;
    let entries = std::fs::read_dir(data.path()).expect("a directory").flatten();
    let mut logs: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    logs.sort();
    let mut bytes = std::fs::read(&logs[5]).expect("a segment");
    bytes[100_000] ^= 4;
    std::fs::write(&logs[5], bytes).expect("written");
    let before = log_bytes(data.path());
    let finished = scavenge(&server).await;
    let name = logs[5].file_name().expect("a name").to_string_lossy().into_owned();
    assert_eq!(finished["outcome"], "failed", "{finished}");
    let reason = finished["reason"].as_str().expect("a reason");
    assert!(reason.contains(&name) && reason.contains("damaged"), "{reason}");
    assert!(finished["segmentsRewritten"].as_u64() > Some(20), "{finished}");
    assert!(log_bytes(data.path()) * 2 < before);
    assert!(logs[5].exists(), "what is damaged stays");
    let metrics = get(server.address(), "/metrics").await.body;
    assert!(metrics.contains("daybook_scavenge_failures_total 1"), "{metrics}");
    assert_eq!(stream(server.store(), "log-1").await.len() as u64, KEPT);
    server.stop().await;
}
