//! A disk that lies no more than the kernel may: one system call of the real server fails.

use std::process::Command;

use daybook_log::disk::sim::Rng;
use tempfile::TempDir;

use crate::history::History;
use crate::kill::{Totals, blocking, finish, free_address, wrapped};
use crate::load::{Load, Shape};
use crate::support::daemon::Daemon;
use crate::support::http::get;
use crate::support::node::client;
use crate::support::{PATIENCE, assert_says, skipped};
use crate::{cycles, seed};

/// Calls of each thread that succeed before one of its fails, at least and at most. More than a new
/// store takes to be made: it shall fail later, under load.
const SPARED: (u64, u64) = (12, 60);

fn can_trace() -> Result<(), String> {
    let traced =
        Command::new("strace").args(["-D", "-f", "-qq", "-o", "/dev/null", "true"]).output();
    match traced {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("strace does not run: {error}")),
    }
}

/// `strace` that lets the `nth` of each thread's calls fail. It traces from a process of its own
/// (`-D`), so that the one which is started, and killed, is the server.
fn injecting(call: &str, error: &str, nth: u64) -> Vec<String> {
    let trace = format!("trace={call}");
    let inject = format!("inject={call}:error={error}:when={nth}");
    ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject]
        .map(str::to_owned)
        .to_vec()
}

async fn one_call_fails(call: &str, error: &str, says: &str) {
    let what = format!("{error} from {call} under load");
    if let Err(reason) = can_trace() {
        return skipped(&what, &reason);
    }
    let seed = seed();
    let mut rng = Rng::new(seed);
    let mut totals = Totals::default();
    let address = free_address();
    for cycle in 0..(cycles() / 4).clamp(1, 20) {
        let (directory, mut history) = (TempDir::new().expect("a directory"), History::default());
        let data = directory.path();
        let nth = SPARED.0 + rng.below(SPARED.1 - SPARED.0);
        let command = wrapped(&injecting(call, error, nth), data, address);
        let daemon = blocking(|| Daemon::spawn(command, PATIENCE));
        let daemon = daemon.unwrap_or_else(|said| panic!("no server: {said}"));
        let load = Load::begin(Shape { cycle, writers: 8, seed }, || client(address));
        load.writers_gave_up().await;
        let ready = get(address, "/health/ready").await;
        assert_eq!(ready.status, 503, "{}", ready.body);
        assert_says(&ready.body, &["appends are refused until a restart", says]);
        assert_eq!(get(address, "/health/live").await.status, 204);
        let before = history.attempts.len();
        let page = get(address, "/v1/all?limit=10").await;
        assert_eq!(page.status, 200, "reads go on: {}", page.body);
        blocking(|| daemon.kill());
        load.end(&mut history).await;
        assert!(history.attempts.len() > before);
        finish(data, address, &mut history, &mut totals).await;
        totals.cycles += 1;
    }
    totals.print(&what, seed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_failed_fdatasync_it_takes_nothing_and_loses_nothing() {
    one_call_fails("fdatasync", "EIO", "Input/output error").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_write_without_room_it_takes_nothing_and_loses_nothing() {
    one_call_fails("pwrite64", "ENOSPC", "No space left").await;
}
