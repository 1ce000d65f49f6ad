//! What backups cost appends: the same load on a server that is left alone, on one that archives
//! every second, and on one of which full backups are taken, one after the other, at the rate that
//! `daybook backup` keeps unless told otherwise.
//!
//! All three have a log of some hundred megabytes, which is archived before. Repositories are on the disk that it is on, and
//! backups are taken by a process on the same machine: both are more than what a bucket elsewhere
//! costs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use daybook_model::{Clock as _, SystemClock};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::load::Measured;
use super::place;
use super::process::Server;
use super::report::Row;
use super::{Bench, Part, against, name};

/// Writers.
const CLIENTS: u64 = 128;
/// Events that the log has before.
const EVENTS: u64 = 1_000_000;
/// What is wanted of the rate without.
const GOAL: f64 = 0.95;
const MIB: f64 = 1024.0 * 1024.0;

impl Bench {
    pub(super) async fn backup(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        let shape = self.shape(CLIENTS, 1);
        let (mut alone, mut archived, mut backed_up) = (None, None, None);
        let mut speed: f64 = 0.0;
        for round in 0..self.args.rounds {
            let place = |what: &str| self.scratch.join(&format!("backup-{what}-{round}"));
            self.say("appends to a server that is left alone");
            let server = Server::store(&self.filled(place("alone")).await?).await?;
            alone = Some(self.load(Part::Unary, &server, shape).await?.better(alone));
            drop(server);
            self.say("appends to a server that archives");
            let (data, to) = (self.filled(place("archived")).await?, place("archive"));
            let server = Server::archiving(&data, &to).await?;
            let url = server.url();
            tokio::task::spawn_blocking(move || archive(&url)).await??;
            archived = Some(self.load(Part::Unary, &server, shape).await?.better(archived));
            drop(server);
            self.say("appends to a server that is backed up");
            let server = Server::store(&self.filled(place("backed-up")).await?).await?;
            let backups = Backups::start(&server, place("repository"))?;
            let measured: Measured = self.load(Part::Unary, &server, shape).await?;
            speed = speed.max(backups.stop().await?);
            backed_up = Some(measured.better(backed_up));
        }
        let (Some(alone), Some(archived), Some(backed_up)) = (alone, archived, backed_up) else {
            bail!("--rounds is 0")
        };
        for (what, measured) in [("archived", archived), ("backed up", backed_up)] {
            let name = format!("{}, {what}", name("unary", &shape));
            rows.push(Row::of_appends(name, &measured, Some(against("alone", &alone, Some(GOAL)))));
        }
        rows.push(Row::with_goal("the backups meanwhile".to_owned(), speed, "MiB/s", None));
        Ok(())
    }

    /// Makes a store in `directory` that has a log to be backed up.
    async fn filled(&self, directory: PathBuf) -> anyhow::Result<PathBuf> {
        let store = place::open(directory.clone()).await?;
        place::fill(&store, EVENTS, 0, &Bytes::from(vec![0x5a; self.args.size])).await?;
        store.close().await;
        Ok(directory)
    }
}

/// Full backups that follow one another.
struct Backups {
    over: Arc<AtomicBool>,
    running: JoinHandle<anyhow::Result<f64>>,
}

impl Backups {
    fn start(server: &Server, to: PathBuf) -> anyhow::Result<Backups> {
        let (program, url) = (own_program()?, server.url());
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let running = tokio::task::spawn_blocking(move || {
            let clock = SystemClock::new();
            let mut copied = 0;
            while !told.load(Ordering::Relaxed) {
                // Its pieces must not be there before: it would be a short one.
                let _ = std::fs::remove_dir_all(&to);
                copied += take(&program, &url, &to)?;
            }
            Ok(copied as f64 / MIB / clock.monotonic().as_secs_f64())
        });
        Ok(Backups { over, running })
    }

    /// Ends them; how fast they went, in MiB a second.
    async fn stop(self) -> anyhow::Result<f64> {
        self.over.store(true, Ordering::Relaxed);
        self.running.await.context("the backups panicked")?
    }
}

/// Takes a backup; the bytes that it wrote.
fn take(program: &Path, url: &str, to: &Path) -> anyhow::Result<u64> {
    let mut command = Command::new(program);
    command.args(["backup", "--json", "--url", url, "--to"]).arg(to);
    answer(command)?["bytesWritten"].as_u64().context("the backup does not say what it wrote")
}

/// Waits until all that a server has is archived.
fn archive(url: &str) -> anyhow::Result<()> {
    let mut command = Command::new(own_program()?);
    command.args(["backup", "now", "--json", "--url", url]);
    answer(command).map(|_| ())
}

fn own_program() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot find this program's own file")
}

fn answer(mut command: Command) -> anyhow::Result<Value> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.context("cannot start a backup")?;
    if !output.status.success() {
        bail!("a backup failed");
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
