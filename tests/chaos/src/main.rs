//! Faults for real: the server under load while its network, its disk or its process fails.
//!
//! ```text
//!   users ──> proxy ──> daybook serve ──> disk
//!     │         │            │              │
//!     │      latency, jitter, SIGSTOP,    slow or failing fdatasync,
//!     │      bandwidth, RST,  SIGKILL,    a file system that is full
//!     │      FIN, silence     SIGTERM
//!     └── journal, measurements ──> checks, report
//! ```
//!
//! | Room | What is in it |
//! |---|---|
//! | [`catalogue`] | the experiments: fault, hypothesis, what the breaker must do |
//! | [`experiment`] | one of them from its first user to its verdict |
//! | [`faults`], [`needs`] | how each fault is made; what it needs of the machine |
//! | [`proxy`] | a bad network between clients and server |
//! | [`server`], [`stage`] | the process, its disk and network |
//! | [`users`], [`http`] | who appends, pays, subscribes |
//! | [`journal`], [`check`] | what users were told, and whether the log agrees |
//! | [`measure`] | rate, latency, errors by second; when it is as before |
//! | [`report`] | for a terminal, for programs, and as a page |
//!
//! INVARIANT: all traffic is on the loopback or in a namespace of its own; whatever is started,
//! mounted or made is gone when the program is.
#![allow(clippy::disallowed_methods, reason = "it arranges files and starts processes")]

mod catalogue;
mod check;
mod experiment;
mod faults;
mod http;
mod journal;
mod measure;
mod needs;
mod proxy;
mod report;
mod server;
mod stage;
mod users;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use catalogue::{Experiment, Set};
use clap::{Args, Parser, Subcommand};
use daybook_model::{Entropy as _, SystemEntropy};
use experiment::Course;
use needs::Need;
use report::Report;
use tokio::signal::unix::{SignalKind, signal};

/// Runs a Daybook server under load while something fails, and checks that nothing is lost.
#[derive(Debug, Parser)]
#[command(
    name = "daybook-chaos",
    version,
    after_help = "Examples:
  cargo chaos -- list
  cargo chaos -- run                          the short set
  cargo chaos -- run kill full-disk --report chaos.html
  cargo chaos -- run --set long --seconds-per-phase 20 --report chaos.html --json chaos.json

The exit code is 1 if any experiment fails. What the machine cannot do is skipped, and said so."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the experiments, and which of them this machine can do
    List {
        /// Decides the faults' figures
        #[arg(long, value_name = "N", default_value_t = 0)]
        seed: u64,
    },
    /// Run experiments
    Run(RunArgs),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Which; all of a set if none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Which set
    #[arg(long, value_enum, default_value = "short", conflicts_with = "names")]
    set: Set,

    /// Decides the faults' figures and what users do [default: by chance, and told]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// The server [default: `daybook` beside this program, or in the PATH]
    #[arg(long, value_name = "PATH", env = "DAYBOOK_BIN")]
    binary: Option<PathBuf>,

    /// Write the report as a page with charts
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// Write the report for programs
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// How long the steady phase and the fault last
    #[arg(
        long,
        value_name = "S",
        default_value_t = 4,
        value_parser = clap::value_parser!(u64).range(2..=120)
    )]
    seconds_per_phase: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::List { seed } => {
            report::print_list(&catalogue::all(seed), &what_is_missing(&catalogue::all(seed)));
            Ok(true)
        }
        Command::Run(args) => tokio::select! {
            done = run(args) => done,
            () = told_to_stop() => Err(anyhow::anyhow!("broken off")),
        },
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("daybook-chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// SIGINT or SIGTERM: then what was mounted and made is removed, too.
async fn told_to_stop() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminated) => terminated.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
}

/// Why something that these experiments need is not here.
fn what_is_missing(experiments: &[Experiment]) -> BTreeMap<Need, String> {
    let mut needs: Vec<Need> =
        experiments.iter().flat_map(|experiment| experiment.fault.needs()).copied().collect();
    needs.sort_unstable();
    needs.dedup();
    needs.into_iter().filter_map(|need| Some((need, need.check().err()?))).collect()
}

async fn run(args: RunArgs) -> anyhow::Result<bool> {
    let seed = args.seed.unwrap_or_else(|| {
        let [a, b, c, d, ..] = SystemEntropy.bytes();
        u64::from(u32::from_le_bytes([a, b, c, d]))
    });
    let binary = find_binary(args.binary)?;
    let chosen = choose(&args.names, args.set, catalogue::all(seed))?;
    let missing = what_is_missing(&chosen);
    let phase = Duration::from_secs(args.seconds_per_phase);
    let mut report = Report::new(&binary, seed, phase);
    println!("seed {seed}, server {}", binary.display());
    for experiment in &chosen {
        let need = experiment.fault.needs().iter().find_map(|need| missing.get_key_value(need));
        if let Some((need, reason)) = need {
            println!("skipped: {}: it needs {}: {reason}", experiment.name, need.as_str());
            report.skipped(experiment, format!("it needs {}: {reason}", need.as_str()));
            continue;
        }
        report::print_begin(experiment);
        // A fault of the machine is no reason to leave the others out, nor to pass.
        let course = Course { binary: &binary, seed, phase };
        report.add(experiment, experiment::run(experiment, course).await);
        report.print_last();
    }
    report.print_summary();
    if let Some(path) = &args.report {
        std::fs::write(path, report::html::page(&report))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&report.to_json())?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    println!("{}", report.last_line());
    Ok(report.passed())
}

fn choose(names: &[String], set: Set, all: Vec<Experiment>) -> anyhow::Result<Vec<Experiment>> {
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|e| e.name == name.as_str())) {
        let known: Vec<_> = all.iter().map(|experiment| experiment.name).collect();
        bail!("there is no experiment '{unknown}'; there are: {}", known.join(", "));
    }
    let is_chosen = |experiment: &Experiment| match names.is_empty() {
        true => set == Set::Long || experiment.set == Set::Short,
        false => names.iter().any(|name| name == experiment.name),
    };
    Ok(all.into_iter().filter(is_chosen).collect())
}

fn find_binary(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join("daybook")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|directory| directory.join("daybook"));
    let found = match named {
        Some(path) => Some(path).filter(|path| path.is_file()),
        None => beside.into_iter().chain(in_path).find(|path| path.is_file()),
    };
    found
        .and_then(|path| path.canonicalize().ok())
        .context("there is no server; build it (cargo build --release) or name it with --binary")
}
