//! A disk that fails or is full, and a clock that leaps: what is promised then, seen by the store,
//! by gRPC and by HTTP at once.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use daybook_log::disk::sim::{CrashMode, Fault, Operation, Repeat, SimDisk};
use daybook_log::recovery;
use daybook_model::{ExpectedRevision, Revision, SystemClock, SystemEntropy};
use daybook_store::{Append, AppendError, Appended, Environment, Health, Options, Store};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;

use crate::support::clock::JumpingClock;
use crate::support::daemon::{run, said};
use crate::support::directory::MARK_SIZE;
use crate::support::directory::{Stored, read_log};
use crate::support::events::{event, name, sized};
use crate::support::http::{get, post};
use crate::support::node::{SMALL, Server};
use crate::support::protocol::{
    RawEvent, append, append_messages, batch, batch_error, batch_messages,
};
use crate::support::{assert_says, is_root, skipped, until};

const ANY: ExpectedRevision = ExpectedRevision::Any;
/// gRPC's DEADLINE_EXCEEDED inside a batch answer: clients take it as a doubt.
const DEADLINE_EXCEEDED: i32 = 4;

fn environment(disk: &SimDisk) -> Environment {
    let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
    Environment { disk: Arc::new(disk.clone()), clock, entropy }
}

async fn put(store: &Store, id: u128) -> Result<Appended, AppendError> {
    store.append(Append::to_stream(name("a-1"), ANY, [event(id)])).await
}

/// Waits until everything on `disk` is proven durable by the log itself: from then on the store
/// writes nothing by itself, and the next sync is the next append's.
async fn quiet(disk: &SimDisk) {
    until("the log to fall quiet", || async {
        let copy = disk.fork(1);
        copy.crash(CrashMode::DropAll);
        let copy = Arc::new(copy.restart());
        let opened = recovery::open(copy, Arc::new(SystemEntropy), SMALL, &mut |_| {});
        opened.expect("a sound log").recovery.rewritten_bytes <= MARK_SIZE
    })
    .await;
}

/// A server that can do nothing but read: what it says at each door, and what it still shows.
async fn assert_poisoned(server: &Server, acknowledged: &[Stored]) {
    let Health::Poisoned { reason } = server.store().health() else {
        panic!("{:?}", server.store().health());
    };
    assert_says(&reason, &[".log", "Input/output error"]);
    let ready = get(server.address(), "/health/ready").await;
    assert_eq!(ready.status, 503);
    assert_says(&ready.body, &["\"store\"", "until a restart", "Input/output error"]);
    assert_eq!(get(server.address(), "/health/live").await.status, 204);

    assert_eq!(read_log(server.store()).await, acknowledged);
    let page = get(server.address(), "/v1/streams/a-1").await;
    assert_eq!(page.status, 200, "{}", page.body);

    let refused = put(server.store(), 900).await.expect_err("poisoned");
    assert!(matches!(refused, AppendError::Closed { .. }), "{refused:?}");
    assert_says(&refused.to_string(), &["takes no appends", "earlier write failed"]);
    let messages = append_messages(b"a-1", &[RawEvent::good(901, "x")]);
    let refused = append(server.address(), messages).await.expect_err("poisoned");
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "Server Is Not Ready"));
    let refused = post(server.address(), "/v1/streams/a-1", r#"{"type":"T","data":1}"#).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_says(&refused.body, &["urn:daybook:problem:unavailable"]);
    assert_eq!(read_log(server.store()).await, acknowledged);
}

/// After a power cut each acknowledged event is there once, and the doubtful one at most once; a
/// retry with the same id finds out which.
async fn assert_recovers(disk: SimDisk, acknowledged: &[Stored], doubtful: u128) {
    for (seed, mode) in CrashMode::CERTAIN.into_iter().enumerate() {
        let disk = disk.fork(seed as u64);
        disk.clear_faults();
        disk.crash(mode);
        let server = Server::on_disk(Arc::new(disk.restart())).await;
        let log = read_log(server.store()).await;
        assert_eq!(log[..acknowledged.len()], *acknowledged, "{mode:?}");
        for one in &log[acknowledged.len()..] {
            assert_eq!(one.id.as_u128(), doubtful, "{mode:?}");
        }
        assert!(log.len() <= acknowledged.len() + 1, "{mode:?}");
        let retried = put(server.store(), doubtful).await.expect("writable again");
        let head = acknowledged.len() as u64;
        assert_eq!(retried.revisions.as_slice(), [Some(Revision(head))], "{mode:?}");
        assert_eq!(read_log(server.store()).await.len(), acknowledged.len() + 1, "{mode:?}");
        server.stop().await;
    }
}

async fn the_disk_fails(operation: Operation) {
    let disk = SimDisk::new(7);
    let server = Server::on_disk(Arc::new(disk.clone())).await;
    for id in 0..10 {
        put(server.store(), id).await.expect("a sound disk");
    }
    let acknowledged = read_log(server.store()).await;
    quiet(&disk).await;
    disk.fail_after(operation, Some(".log"), 1, Fault::Eio, Repeat::Once);
    let doubtful = put(server.store(), 100).await.expect_err("a failing disk");
    assert!(matches!(doubtful, AppendError::Unknown { .. }), "{doubtful:?}");
    assert_says(
        &doubtful.to_string(),
        &["outcome of the append is unknown", ".log", "Input/output error", "same event ids"],
    );
    assert_poisoned(&server, &acknowledged).await;
    server.stop().await;
    assert_recovers(disk, &acknowledged, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_leaves_a_doubt_and_a_server_that_only_reads() {
    the_disk_fails(Operation::Sync).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_leaves_a_doubt_and_a_server_that_only_reads() {
    the_disk_fails(Operation::Write).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doubt_is_told_in_each_protocols_words() {
    for door in ["append", "batch", "http"] {
        let disk = SimDisk::new(7);
        let server = Server::on_disk(Arc::new(disk.clone())).await;
        put(server.store(), 1).await.expect("a sound disk");
        quiet(&disk).await;
        disk.fail_after(Operation::Sync, Some(".log"), 1, Fault::Eio, Repeat::Once);
        let address = server.address();
        let raw = [RawEvent::good(100, "x")];
        match door {
            "append" => {
                let doubt = append(address, append_messages(b"a-1", &raw)).await;
                let doubt = doubt.expect_err("a failing disk");
                assert_eq!(doubt.code(), Code::Aborted, "{doubt:?}");
                assert!(doubt.message().starts_with("Operation timed out: "), "{doubt:?}");
                assert_says(doubt.message(), &["Input/output error"]);
            }
            "batch" => {
                let (answers, end) = batch(address, batch_messages(1, b"a-1", &raw)).await;
                assert!(end.is_ok(), "{end:?}");
                let (code, text) = batch_error(&answers[0]).expect("a doubt");
                assert_eq!((code, text.as_str()), (DEADLINE_EXCEEDED, "Timeout"));
            }
            _ => {
                let doubt = post(address, "/v1/streams/a-1", r#"{"type":"T","data":1}"#).await;
                assert_eq!(doubt.status, 504, "{}", doubt.body);
                let words = ["urn:daybook:problem:outcome-unknown", "same event ids"];
                assert_says(&doubt.body, &words);
            }
        }
        assert!(matches!(server.store().health(), Health::Poisoned { .. }));
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_wait_for_one_sync_share_its_doubt_and_none_is_acknowledged() {
    let disk = SimDisk::new(7);
    let server = Server::on_disk(Arc::new(disk.clone())).await;
    quiet(&disk).await;
    disk.fail_after(Operation::Sync, Some(".log"), 1, Fault::Eio, Repeat::Always);
    let store = server.store().clone();
    let appends = (0..200).map(|id| {
        let store = store.clone();
        async move { store.append(Append::to_stream(name("a-1"), ANY, [event(id)])).await }
    });
    let ends = futures_util::future::join_all(appends).await;
    for end in &ends {
        let refused = end.as_ref().expect_err("a failing disk");
        let honest = matches!(refused, AppendError::Unknown { .. } | AppendError::Closed { .. });
        assert!(honest, "{refused:?}");
    }
    assert_poisoned_without_events(&server).await;
    server.stop().await;
}

async fn assert_poisoned_without_events(server: &Server) {
    assert!(matches!(server.store().health(), Health::Poisoned { .. }));
    assert!(read_log(server.store()).await.is_empty());
}

/// Appends until the disk is full. Answers with how many were acknowledged.
async fn fill(store: &Store) -> u128 {
    for id in 0..10_000 {
        match store.append(Append::to_stream(name("a-1"), ANY, [sized(id, 1000)])).await {
            Ok(_) => {}
            Err(AppendError::DiskFull { .. }) => return id,
            Err(other) => panic!("{other:?}"),
        }
    }
    panic!("the disk never fills");
}

/// What a full disk means at each door: refused, not doubtful; reads go on; nothing is written.
async fn assert_full(server: &Server, location: &str, acknowledged: u128) {
    assert!(matches!(server.store().health(), Health::DiskFull { .. }));
    let large = || Append::to_stream(name("a-1"), ANY, [sized(9000, 1000)]);
    let refused = server.store().append(large()).await.expect_err("a full disk");
    assert_says(&refused.to_string(), &[location, "no room", "free space", "resume by themselves"]);
    let messages = append_messages(b"a-1", &[RawEvent::good(9000, vec![b'x'; 1000])]);
    let refused = append(server.address(), messages).await.expect_err("a full disk");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert_says(refused.message(), &[location, "free space"]);
    let body = format!(r#"{{"type":"T","data":"{}"}}"#, "x".repeat(1000));
    let refused = post(server.address(), "/v1/streams/a-1", body).await;
    assert_eq!(refused.status, 507, "{}", refused.body);
    assert_says(&refused.body, &["urn:daybook:problem:disk-full", location]);
    let ready = get(server.address(), "/health/ready").await;
    assert_eq!(ready.status, 503);
    assert_says(&ready.body, &["the disk is full", "free space"]);
    let log = read_log(server.store()).await;
    assert_eq!(log.len() as u128, acknowledged);
    assert!(log.iter().enumerate().all(|(i, event)| event.revision == i as u64));
}

/// Appends resume without anyone's help; what was refused was never written.
async fn assert_resumes(server: &Server, acknowledged: u128) {
    until("the server to be ready again", || async {
        get(server.address(), "/health/ready").await.status == 200
    })
    .await;
    put(server.store(), 9001).await.expect("room again");
    let log = read_log(server.store()).await;
    assert_eq!(log.len() as u128, acknowledged + 1);
    assert_eq!(log.last().map(|event| event.id.as_u128()), Some(9001));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_appends_and_they_resume_by_themselves() {
    let disk = SimDisk::new(7);
    let server = Server::on_disk(Arc::new(disk.clone())).await;
    disk.set_capacity(Some(256 * 1024));
    let acknowledged = fill(server.store()).await;
    assert!(acknowledged > 10, "{acknowledged}");
    assert_full(&server, "simulated disk", acknowledged).await;
    disk.set_capacity(None);
    assert_resumes(&server, acknowledged).await;
    server.stop().await;
    let store =
        Store::open(environment(&disk.restart()), Options { sizes: SMALL, ..Options::default() });
    let store = store.expect("a sound store");
    assert_eq!(read_log(&store).await.len() as u128, acknowledged + 1);
    store.close().await;
}

/// A segment that cannot be prepared holds nothing yet: appends go on until it is needed, are then
/// refused and not in doubt, and resume when the disk takes another.
#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_cannot_be_prepared_stops_appends_only_while_there_is_none() {
    for operation in [Operation::Create, Operation::Write, Operation::Sync] {
        let disk = SimDisk::new(7);
        let server = Server::on_disk(Arc::new(disk.clone())).await;
        disk.fail_after(operation, Some("next.tmp"), 1, Fault::Eio, Repeat::Always);
        let acknowledged = fill(server.store()).await;
        assert!(acknowledged > 10, "{operation:?} {acknowledged}");
        let Health::DiskFull { reason } = server.store().health() else {
            panic!("{operation:?}: {:?}", server.store().health());
        };
        assert_says(&reason, &["next.tmp", "Input/output error"]);
        let ready = get(server.address(), "/health/ready").await;
        assert_eq!(ready.status, 503);
        assert_says(&ready.body, &["next.tmp", "Input/output error", "resume by themselves"]);
        assert!(server.store().stats().spare_failures > 0);
        // What still fits is taken, and says nothing about the next segment.
        for id in 9100..9103 {
            let _ = put(server.store(), id).await;
            assert!(matches!(server.store().health(), Health::DiskFull { .. }));
        }
        let written = server.store().committed().0;
        disk.clear_faults();
        until("the server to be ready again", || async {
            get(server.address(), "/health/ready").await.status == 200
        })
        .await;
        for id in 10_000..10_100 {
            let append = Append::to_stream(name("a-1"), ANY, [sized(id, 1000)]);
            server.store().append(append).await.expect("room again");
        }
        server.stop().await;
        let disk = disk.restart();
        let store = Store::open(environment(&disk), Options { sizes: SMALL, ..Options::default() });
        let store = store.expect("a sound store");
        assert_eq!(store.committed().0, written + 100, "{operation:?}");
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_comes_back_with_room_for_a_segment_and_not_before() {
    let disk = SimDisk::new(7);
    let server = Server::on_disk(Arc::new(disk.clone())).await;
    let ready = || async { get(server.address(), "/health/ready").await.status == 200 };
    disk.set_capacity(Some(256 * 1024));
    fill(server.store()).await;
    assert!(!ready().await);
    // Small ones fit what is left of the segment; large ones do not.
    let mut taken = 0;
    for id in 9000..9040 {
        taken += usize::from(put(server.store(), id).await.is_ok());
        assert!(!ready().await, "after {taken} small ones");
    }
    assert!(taken > 0, "none fits");
    disk.set_capacity(None);
    until("the server to be ready again", ready).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_not_made_on_a_full_disk_and_is_made_when_there_is_room() {
    let disk = SimDisk::new(7);
    disk.set_capacity(Some(4096));
    let refused =
        Store::open(environment(&disk), Options { sizes: SMALL, ..Options::default() }).map(|_| ());
    let refused = refused.expect_err("no room for the first segment");
    assert_says(&refused.to_string(), &["simulated disk", "No space left"]);
    disk.set_capacity(None);
    let store =
        Store::open(environment(&disk.restart()), Options { sizes: SMALL, ..Options::default() });
    store.expect("room").close().await;
}

/// A small volume of its own, for as long as this lives.
struct Volume(TempDir);

impl Volume {
    fn new(size: &str) -> Option<Volume> {
        if !is_root() {
            return None;
        }
        let volume = Volume(TempDir::new().expect("a directory"));
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(volume.path());
        mount.output().is_ok_and(|output| output.status.success()).then_some(volume)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).output();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_volume_of_the_machine_is_met_the_same_way() {
    let Some(volume) = Volume::new("1m") else {
        return skipped("a full volume", "only root can mount one, and not everywhere");
    };
    let ballast = volume.path().join("ballast");
    std::fs::write(&ballast, vec![0; 512 * 1024]).expect("room");
    let data = volume.path().join("data");
    let server = Server::try_start(&data, SMALL).await.expect("a server");
    let acknowledged = fill(server.store()).await;
    assert!(acknowledged > 10, "{acknowledged}");
    assert_full(&server, &data.display().to_string(), acknowledged).await;
    std::fs::remove_file(&ballast).expect("a file");
    assert_resumes(&server, acknowledged).await;
    server.stop().await;
    crate::support::daemon::verify(&data);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_to_a_full_volume_names_the_object_and_goes_on_when_there_is_room() {
    let Some(volume) = Volume::new("1m") else {
        return skipped("a full volume", "only root can mount one, and not everywhere");
    };
    let data = TempDir::new().expect("a directory");
    let server = Server::try_start(data.path(), SMALL).await.expect("a server");
    for id in 1..=100 {
        let append = Append::to_stream(name("s-1"), ExpectedRevision::Any, [sized(id, 20_000)]);
        server.store().append(append).await.expect("appended");
    }
    let (url, to) = (format!("http://{}", server.address()), volume.path().join("repository"));
    let to = to.display().to_string();
    let backup = ["backup", "--url", &url, "--to", &to];
    let refused = in_background(&backup).await;
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert_says(&said(&refused), &["segments/", &to, "No space left"]);
    let listed = in_background(&["backup", "list", "--json", "--from", &to]).await;
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("a list");
    assert_eq!(listed["backups"], json!([]), "what is not whole is no backup");

    let mut more = Command::new("mount");
    more.args(["-o", "remount,size=64m"]).arg(volume.path());
    assert!(more.output().is_ok_and(|output| output.status.success()), "room");
    for command in [&backup[..], &["backup", "verify", "--from", &to]] {
        let done = in_background(command).await;
        assert!(done.status.success(), "{}", said(&done));
    }
    server.stop().await;
}

/// Runs a command while this process' server answers it.
async fn in_background(arguments: &[&str]) -> Output {
    let arguments: Vec<String> = arguments.iter().map(|each| (*each).to_owned()).collect();
    let run = move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(&arguments)
    };
    tokio::task::spawn_blocking(run).await.expect("no panic")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_goes_back_never_turns_the_logs_time_back() {
    let clock = Arc::new(JumpingClock::default());
    let disk = SimDisk::new(7);
    let server = Server::on(Arc::new(disk.clone()), clock.clone(), SMALL).await;
    put(server.store(), 1).await.expect("appended");
    clock.jump(-24 * 3600);
    for id in 2..5 {
        put(server.store(), id).await.expect("a clock that is behind stops nothing");
    }
    server.stop().await;
    // Nor does a restart forget it.
    let server = Server::on(Arc::new(disk.restart()), clock.clone(), SMALL).await;
    put(server.store(), 5).await.expect("appended");
    clock.jump(25 * 3600);
    server.store().accept_clock();
    put(server.store(), 6).await.expect("appended");
    let times: Vec<i64> = read_log(server.store()).await.iter().map(|event| event.time).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(times[1..5], [times[0]; 4], "reused while the clock was behind");
    assert!(times[5] > times[4], "{times:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_leaps_ahead_stops_appends_until_an_operator_accepts_it() {
    let clock = Arc::new(JumpingClock::default());
    let server = Server::on(Arc::new(SimDisk::new(7)), clock.clone(), SMALL).await;
    put(server.store(), 1).await.expect("appended");
    clock.jump(3000);
    put(server.store(), 2).await.expect("less than an hour is no leap");
    clock.jump(3 * 3600);
    let refused = put(server.store(), 3).await.expect_err("a leap");
    assert!(matches!(refused, AppendError::ClockLeapt { .. }), "{refused:?}");
    assert_says(&refused.to_string(), &["leapt forward", "check the machine's clock", "accept"]);
    let messages = append_messages(b"a-1", &[RawEvent::good(3, "x")]);
    let refused = append(server.address(), messages).await.expect_err("a leap");
    assert_eq!(refused.code(), Code::Unavailable);
    assert_says(refused.message(), &["leapt forward"]);
    let refused = post(server.address(), "/v1/streams/a-1", r#"{"type":"T","data":1}"#).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_says(&refused.body, &["urn:daybook:problem:clock-leapt"]);
    let ready = get(server.address(), "/health/ready").await;
    assert_eq!(ready.status, 503);
    assert_says(&ready.body, &["clock leapt", "/admin/clock/accept"]);
    assert_eq!(read_log(server.store()).await.len(), 2, "reads go on, nothing was written");

    let accepted = post(server.address(), "/admin/clock/accept", "").await;
    assert!((200..300).contains(&accepted.status), "{accepted:?}");
    put(server.store(), 3).await.expect("accepted");
    assert_eq!(get(server.address(), "/health/ready").await.status, 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_leaps_and_comes_back_needs_nobody() {
    let clock = Arc::new(JumpingClock::default());
    let server = Server::on(Arc::new(SimDisk::new(7)), clock.clone(), SMALL).await;
    put(server.store(), 1).await.expect("appended");
    clock.jump(3 * 3600);
    put(server.store(), 2).await.expect_err("a leap");
    clock.jump(-3 * 3600);
    put(server.store(), 2).await.expect("the clock is right again");
    assert_eq!(get(server.address(), "/health/ready").await.status, 200);
    server.stop().await;
}
