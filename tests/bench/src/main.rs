//! Daybook and UmaDB side by side, in one run on one machine.
//!
//! ```text
//!   N writers ── closed loop ──> daybook serve         then, a moment later,
//!   N writers ── closed loop ──> UmaDB's own server    the same again, so many rounds
//! ```
//!
//! The same process makes the load for both, through each store's own Rust client. Every append
//! carries events of the same size with ids of their own, is durable when it is answered, and has
//! the condition its store has for "nobody else wrote to what is mine": the exact revision of the
//! writer's stream in Daybook, "no event of my tag after the last one I know" in UmaDB. Each
//! measurement begins with an empty store and a new server process with its defaults; the better
//! round of each counts.
//!
//! Not here: what Daybook could do at most (`daybook bench`), reads, networks.

mod daybook;
mod load;
mod process;
mod report;
#[cfg(feature = "umadb")]
mod umadb;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};

use crate::load::{Measured, Scenario, Shape};
use crate::report::Row;

#[derive(Debug, Parser)]
#[command(about = "Daybook and UmaDB under the same load, side by side")]
struct Args {
    /// Daybook's program, a release build
    #[arg(long, default_value = "../../target/release/daybook")]
    daybook: PathBuf,

    /// Seconds of each measurement
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,

    /// How often each pair is measured in turn; the better of each counts
    #[arg(long, default_value_t = 3)]
    rounds: u32,

    /// Only scenarios whose name contains this
    #[arg(long)]
    only: Option<String>,

    /// Bytes of one event's data
    #[arg(long, default_value_t = 256)]
    size: usize,

    /// Where a directory for the data is made, and removed again; choose the disk that matters
    #[arg(long, default_value = ".")]
    data: PathBuf,

    /// Write the figures to this file, as JSON
    #[arg(long)]
    json: Option<PathBuf>,

    #[command(subcommand)]
    peer: Option<Peer>,
}

/// Servers of others, as processes of this program.
#[derive(Debug, Subcommand)]
enum Peer {
    /// UmaDB's server with its defaults
    #[command(hide = true)]
    UmadbServer {
        #[arg(long)]
        listen: String,
        #[arg(long)]
        data: PathBuf,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Some(Peer::UmadbServer { listen, data }) = args.peer {
        return umadb_server(&listen, &data);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(compare(&args))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(feature = "umadb")]
fn umadb_server(listen: &str, data: &std::path::Path) -> anyhow::Result<ExitCode> {
    umadb::serve(listen, data)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(not(feature = "umadb"))]
fn umadb_server(_: &str, _: &std::path::Path) -> anyhow::Result<ExitCode> {
    bail!("this program was built without UmaDB; build it with --features umadb")
}

async fn compare(args: &Args) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("note: this is a debug build; its figures say nothing. Use cargo run --release");
    }
    if cfg!(not(feature = "umadb")) {
        eprintln!(
            "note: built without UmaDB, so Daybook is measured alone. Install protoc (Debian: \
             protobuf-compiler) and build with --features umadb"
        );
    }
    if args.rounds == 0 {
        bail!("--rounds takes a number from 1 on");
    }
    let scratch = tempfile::Builder::new()
        .prefix("daybook-bench-peers-")
        .tempdir_in(&args.data)
        .with_context(|| format!("cannot make a directory in {}", args.data.display()))?;
    let mut rows = Vec::new();
    for scenario in load::SCENARIOS {
        let wanted = args.only.as_deref().is_none_or(|only| scenario.name.contains(only));
        if wanted {
            eprintln!("{} ...", scenario.name);
            rows.push(row(args, scratch.path(), scenario).await?);
        }
    }
    print!("{}", report::table(&rows));
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report::json(args.size, args.seconds, &rows))?;
        std::fs::write(path, json + "\n")
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

async fn row(
    args: &Args,
    scratch: &std::path::Path,
    scenario: &'static Scenario,
) -> anyhow::Result<Row> {
    let duration = Duration::from_secs_f64(args.seconds.clamp(0.1, 3600.0));
    let shape = Shape { scenario, size: args.size, duration };
    let (mut ours, mut theirs) = (None, None);
    for round in 0..args.rounds {
        let data = |peer| scratch.join(format!("{peer}-{round}"));
        ours = better(daybook::measure(&args.daybook, &data("daybook"), shape).await?, ours);
        let _ = std::fs::remove_dir_all(data("daybook"));
        #[cfg(feature = "umadb")]
        {
            theirs = better(umadb::measure(&data("umadb"), shape).await?, theirs);
            let _ = std::fs::remove_dir_all(data("umadb"));
        }
        #[cfg(not(feature = "umadb"))]
        {
            theirs = None::<Measured>;
        }
    }
    let ours = ours.context("nothing was measured")?;
    Ok(Row { scenario, ours, theirs })
}

/// The faster of two: what other programs disturbed less.
fn better(measured: Measured, other: Option<Measured>) -> Option<Measured> {
    match other {
        Some(other) if other.rate() > measured.rate() => Some(other),
        _ => Some(measured),
    }
}
