//! What backups cost appends: the same load on a server that is left alone, on one that archives
//! every second, and on one of which a backup is taken again and again.
//!
//! Repositories are on the disk that the log is on, and backups are taken by a process on the same
//! machine: both are more than what a bucket elsewhere costs.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};
use tokio::task::JoinHandle;

use super::load::Measured;
use super::process::Server;
use super::report::Row;
use super::{Bench, Part, against, name};

/// Writers.
const CLIENTS: u64 = 128;
/// What is wanted of the rate without.
const GOAL: f64 = 0.95;

impl Bench {
    pub(super) async fn backup(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        let shape = self.shape(CLIENTS, 1);
        let (mut alone, mut archived, mut backed_up) = (None, None, None);
        for round in 0..self.args.rounds {
            let place = |what: &str| self.scratch.join(&format!("backup-{what}-{round}"));
            self.say("appends to a server that is left alone");
            let server = Server::store(&place("alone")).await?;
            alone = Some(self.load(Part::Unary, &server, shape).await?.better(alone));
            drop(server);
            self.say("appends to a server that archives");
            let server = Server::archiving(&place("archived"), &place("archive")).await?;
            archived = Some(self.load(Part::Unary, &server, shape).await?.better(archived));
            drop(server);
            self.say("appends to a server that is backed up");
            let server = Server::store(&place("backed-up")).await?;
            let backups = Backups::start(&server, &place("repository"))?;
            let measured: Measured = self.load(Part::Unary, &server, shape).await?;
            backups.stop().await?;
            backed_up = Some(measured.better(backed_up));
        }
        let (Some(alone), Some(archived), Some(backed_up)) = (alone, archived, backed_up) else {
            bail!("--rounds is 0")
        };
        for (what, measured) in [("archived", archived), ("backed up", backed_up)] {
            let name = format!("{}, {what}", name("unary", &shape));
            rows.push(Row::of_appends(name, &measured, Some(against("alone", &alone, Some(GOAL)))));
        }
        Ok(())
    }
}

/// Backups that follow one another.
struct Backups {
    over: Arc<AtomicBool>,
    running: JoinHandle<anyhow::Result<()>>,
}

impl Backups {
    fn start(server: &Server, to: &Path) -> anyhow::Result<Backups> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let (url, to) = (server.url(), to.to_owned());
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let running = tokio::task::spawn_blocking(move || {
            while !told.load(Ordering::Relaxed) {
                let mut command = Command::new(&program);
                command.arg("backup").arg("--to").arg(&to).args(["--url", &url]);
                let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
                if !status.context("cannot take a backup")?.success() {
                    bail!("a backup failed");
                }
            }
            Ok(())
        });
        Ok(Backups { over, running })
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.over.store(true, Ordering::Relaxed);
        self.running.await.context("the backups panicked")?
    }
}
