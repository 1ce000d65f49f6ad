//! SIGKILL: the process is gone between any two instructions; what it had written to files stays.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use daybook_log::disk::sim::Rng;
use tempfile::TempDir;

use crate::history::{Checked, History};
use crate::load::{Follower, Load, Shape};
use crate::support::daemon::{Daemon, binary, plain, verify};
use crate::support::node::client;
use crate::{cycles, seed};

/// Cycles after which a new store begins: its first segments are small, and soon full.
const CYCLES_A_STORE: u64 = 10;
/// Writers of a cycle at least and at most.
const WRITERS: (u64, u64) = (8, 64);
/// Acknowledged appends after which a cycle's server is killed, at most.
const APPENDS_MAX: u64 = 1_500;
/// Time after which a server that is to die while it starts is killed, at most.
const START_MS_MAX: u64 = 60;

/// What the cycles came to.
#[derive(Debug, Default)]
pub struct Totals {
    /// Servers that were ended.
    pub cycles: u64,
    acknowledged: usize,
    doubts_done: u64,
    doubts_lost: u64,
    events: u64,
}

impl Totals {
    /// Adds what a check found.
    pub fn add(&mut self, checked: &Checked) {
        self.doubts_done += checked.doubts_done;
        self.doubts_lost += checked.doubts_lost;
    }

    /// Adds a store at its end.
    pub fn add_store(&mut self, history: &History, events: u64) {
        self.acknowledged += history.acknowledged();
        self.events += events;
    }

    /// Says it, as `what`.
    pub fn print(&self, what: &str, seed: u64) {
        println!(
            "\n{what}: {} cycles, seed {seed}: {} appends acknowledged and all there, {} doubts \
             (done {}, lost {}), {} events",
            self.cycles,
            self.acknowledged,
            self.doubts_done + self.doubts_lost,
            self.doubts_done,
            self.doubts_lost,
            self.events
        );
    }
}

/// Runs what blocks without holding up the clients.
pub fn blocking<T>(work: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(work)
}

/// An address of this machine that is free now.
pub fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}

/// The command `wrapper … daybook serve …`.
pub fn wrapped(wrapper: &[String], data: &Path, listen: SocketAddr) -> Command {
    let mut command = plain(Path::new(&wrapper[0]));
    command.args(&wrapper[1..]).arg(binary()).arg("serve").arg("--data").arg(data);
    command.args(["--listen", &listen.to_string()]);
    command
}

/// Starts the server on `data` and checks it against all that is remembered.
pub async fn start(data: &Path, address: SocketAddr, history: &mut History) -> (Daemon, Checked) {
    let daemon = blocking(|| Daemon::start_at(data, address));
    let checked = history.check(&client(address)).await;
    (daemon, checked)
}

/// The last start of a store: checked, stopped as it should be, verified.
pub async fn finish(data: &Path, address: SocketAddr, history: &mut History, totals: &mut Totals) {
    let (daemon, checked) = start(data, address, history).await;
    totals.add(&checked);
    if let Some(follower) = history.follower.take() {
        // Once more, with what the settled doubts have added.
        let events = crate::history::read_log(&client(address)).await.len() as u64;
        history.seen.push(follower.end(events).await);
        history.check(&client(address)).await;
    }
    let (status, said) = blocking(|| daemon.terminate());
    assert_eq!(status.code(), Some(0), "{said}");
    let report = blocking(|| verify(data));
    assert_eq!(report["tornTail"], false, "{report}");
    totals.add_store(history, report["events"].as_u64().expect("a number"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_at_any_time_it_keeps_every_promise() {
    let seed = seed();
    let mut rng = Rng::new(seed);
    let mut totals = Totals::default();
    let (cycles, address) = (cycles(), free_address());
    let mut store = (TempDir::new().expect("a directory"), History::default());
    for cycle in 0..cycles {
        if cycle > 0 && cycle.is_multiple_of(CYCLES_A_STORE) {
            finish(store.0.path(), address, &mut store.1, &mut totals).await;
            store = (TempDir::new().expect("a directory"), History::default());
        }
        let (data, history) = (store.0.path(), &mut store.1);
        if cycle % 3 == 1 {
            // Recovery is interrupted, too.
            let patience = std::time::Duration::from_millis(rng.below(START_MS_MAX));
            let command = wrapped(&["env".to_owned()], data, address);
            drop(blocking(|| Daemon::spawn(command, patience)));
        }
        let (daemon, checked) = start(data, address, history).await;
        totals.add(&checked);
        if history.follower.is_none() {
            history.follower = Some(Follower::begin(client(address)).await);
        }
        let writers = WRITERS.0 + rng.below(WRITERS.1 - WRITERS.0 + 1);
        let load = Load::begin(Shape { cycle, writers, seed }, || client(address));
        load.acknowledged(rng.below(APPENDS_MAX)).await;
        blocking(|| daemon.kill());
        load.end(history).await;
        totals.cycles += 1;
    }
    finish(store.0.path(), address, &mut store.1, &mut totals).await;
    totals.print("kill -9 under load", seed);
}
