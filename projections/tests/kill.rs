//! A projection that is killed at any point comes to the same tables as one that is not.

#![allow(clippy::unwrap_used, reason = "a test that fails shows where")]

mod support;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use daybook_projections::build::Build;
use daybook_projections::sled::SledBackend;
use daybook_projections::{Backend, Host, Row, Runner, Seams};
use support::source::MemoryLog;
use support::tally::{ACCOUNTS, NAME, OWNERS, Tally, moved};
use support::{TOO_LONG, dump};
use tempfile::TempDir;
use uuid::Uuid;

const STORE: Uuid = Uuid::from_u128(7);
/// Names the directory to a child that is to be killed.
const CHILD: &str = "DAYBOOK_TEST_KILLED";
/// Events that a child is given: more than it can take in before it is killed.
const CHILD_EVENTS: u64 = 150_000;

fn log(events: u64, batch_max: usize) -> MemoryLog {
    let log = MemoryLog::new(batch_max);
    let datas: Vec<String> = (0..events).map(|n| moved(n, 500)).collect();
    log.append(datas.into_iter().map(|data| ("account-x", "Moved", data)));
    log
}

async fn rows(backend: &SledBackend) -> (Vec<Row>, Vec<Row>) {
    let accounts = dump(backend, NAME, ACCOUNTS).await.0;
    (accounts, dump(backend, NAME, OWNERS).await.0)
}

/// What `log` comes to when nothing disturbs.
async fn clean(log: &MemoryLog) -> (Vec<Row>, Vec<Row>) {
    let directory = TempDir::new().unwrap();
    let backend = SledBackend::open(directory.path(), STORE);
    let host = Host::start(log, &backend, vec![Arc::new(Tally::new())], &Seams::system());
    tokio::time::timeout(TOO_LONG, backend.wait(NAME, log.last())).await.unwrap().unwrap();
    host.stop().await;
    rows(&backend).await
}

/// Its tasks are dropped between any two steps, and a task that is dropped leaves its blocking work
/// behind, which goes on beside the next one's.
#[tokio::test]
async fn dropped_at_random_points_two_hundred_times() {
    let log = log(40_000, 25);
    let directory = TempDir::new().unwrap();
    let backend = SledBackend::open(directory.path(), STORE);
    backend.create(&Tally::new()).await.unwrap();
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..200 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let projection = Arc::new(Tally::new());
        let build = Build::new(backend.clone(), projection, 1, Seams::system().clock);
        let (runner, handle) = Runner::new("killed", log.clone(), build, Seams::system());
        let mut running = Box::pin(runner.run());
        let steps = seed % 12;
        let mut polls = 0;
        std::future::poll_fn(|context| {
            polls += 1;
            let over = running.as_mut().poll(context).is_ready() || polls > steps;
            if over { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        drop(running);
        drop(handle);
    }
    let before = backend.reached(NAME).await.unwrap().map(|at| at.position());
    assert!(before.is_some(), "it came forward");
    assert!(before < Some(log.last()), "it was killed while it worked: {before:?}");
    let host = Host::start(&log, &backend, vec![Arc::new(Tally::new())], &Seams::system());
    tokio::time::timeout(TOO_LONG, backend.wait(NAME, log.last())).await.unwrap().unwrap();
    host.stop().await;
    assert_eq!(rows(&backend).await, clean(&log).await);
}

/// The child of the next test; nothing when it is run with the others.
#[tokio::test]
async fn child_that_is_killed() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let backend = SledBackend::open(directory.as_ref(), STORE);
    let log = log(CHILD_EVENTS, 3000);
    let _host = Host::start(&log, &backend, vec![Arc::new(Tally::new())], &Seams::system());
    println!("started");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn killed_by_the_system_two_dozen_times() {
    let directory = TempDir::new().unwrap();
    let mut places = Vec::new();
    for turn in 0..24u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_is_killed", "--nocapture"])
            .env(CHILD, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("started") {
            line.clear();
            assert!(std::io::BufRead::read_line(&mut out, &mut line).unwrap() > 0);
        }
        // At another point each time; what it does then is left to chance.
        tokio::time::sleep(Duration::from_millis(20 + turn * 61 % 700)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let backend = SledBackend::open(directory.path(), STORE);
        assert_eq!(backend.notes(), Vec::<String>::new(), "a kill is no damage");
        if let Ok(Some(at)) = backend.reached(NAME).await {
            places.push(at.position());
        }
        backend.close();
    }
    assert!(places.is_sorted(), "what was once committed and seen stays: {places:?}");
    let log = log(CHILD_EVENTS, 500);
    let backend = SledBackend::open(directory.path(), STORE);
    let host = Host::start(&log, &backend, vec![Arc::new(Tally::new())], &Seams::system());
    tokio::time::timeout(TOO_LONG, backend.wait(NAME, log.last())).await.unwrap().unwrap();
    host.stop().await;
    assert_eq!(rows(&backend).await, clean(&log).await);
}
