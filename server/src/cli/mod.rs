//! The `daybook` command: one file per subcommand; parse, act, report.
//!
//! A command that works on events takes `--url` (a running server) or `--data` (a stopped one).
//! A command that reports takes `--json[=FILE]`. Answers go to standard output, log lines and
//! errors to standard error. The exit code is 0 for success, 1 for failure, 2 for wrong usage.

pub mod append;
pub mod archive;
pub mod audit;
pub mod backup;
pub mod bench;
pub mod certs;
pub mod config;
pub mod connectors;
pub mod delete;
pub mod demo;
pub mod entrance;
pub mod export;
pub mod health;
pub mod help;
pub mod import;
pub mod ledger;
pub mod load;
pub mod place;
pub mod projections;
pub mod protection;
pub mod query;
pub mod read;
pub mod remote;
pub mod report;
pub mod scavenge;
pub mod serve;
pub mod settings;
pub mod signals;
pub mod stats;
pub mod streams;
pub mod subscriptions;
pub mod tail;
pub mod tokens;
pub mod traces;
pub mod users;
pub mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tokio::runtime::Runtime;

use crate::telemetry::logging;

/// How this program is called.
const PROGRAM: &str = "daybook";
/// The exit code of wrong usage.
const USAGE: u8 = 2;

/// An event-store database: append, read and follow events that are never lost or reordered.
#[derive(Debug, Parser)]
#[command(name = "daybook", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// What is logged to standard error: a level (error, warn, info, debug, trace), or pairs such
    /// as 'info,daybook_store=debug' [default: info for serve, warn for all else]
    #[arg(
        long,
        global = true,
        env = "DAYBOOK_LOG",
        value_name = "FILTER",
        help_heading = "Global"
    )]
    log: Option<String>,

    /// A file of settings, in TOML; see `daybook config example`
    #[arg(
        long,
        global = true,
        env = "DAYBOOK_SETTINGS",
        value_name = "FILE",
        help_heading = "Global"
    )]
    settings: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

/// What `daybook` can do.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve(Box<serve::ServeArgs>),
    /// Serve the read models in PostgreSQL over HTTP, without a store.
    Query(query::QueryArgs),
    /// Relay events to RabbitMQ, webhooks and files, and see how far that is.
    Connectors(connectors::ConnectorsArgs),
    /// See how far the read models are; pause, rebuild, or keep them in a process of their own.
    Projections(projections::ProjectionsArgs),
    /// Append events to a stream.
    Append(append::AppendArgs),
    /// Read events of a stream, or of the whole log.
    Read(read::ReadArgs),
    /// Follow events as they are committed, until Ctrl-C.
    Tail(tail::TailArgs),
    /// List streams by name.
    Streams(streams::StreamsArgs),
    /// Make, see and replay persistent subscriptions.
    Subscriptions(subscriptions::SubscriptionsArgs),
    /// See accounts, and what moved on them; open, pay in, freeze.
    Accounts(ledger::accounts::AccountsArgs),
    /// See transfers and their steps; make one.
    Transfers(ledger::transfers::TransfersArgs),
    /// See transfers that are not over; let a failed one go on, or give it up.
    Sagas(ledger::sagas::SagasArgs),
    /// See and change the rules for transfers; flag an account.
    Risk(ledger::risk::RiskArgs),
    /// Delete a stream, softly or for ever.
    Delete(delete::DeleteArgs),
    /// Ask a server whether it is ready.
    Health(health::HealthArgs),
    /// Show a store's numbers.
    Stats(stats::StatsArgs),
    /// Check every byte of a stopped store.
    Verify(verify::VerifyArgs),
    /// Take a backup of a running server or a stopped store; list, check and prune them.
    Backup(backup::BackupArgs),
    /// Restore a backup into an empty data directory: all of it, or up to a position or a time.
    Restore(backup::restore::RestoreArgs),
    /// Create users and change their passwords, groups and standing.
    Users(users::UsersArgs),
    /// Make API tokens for machines, and revoke them.
    Tokens(tokens::TokensArgs),
    /// See who did what, and what was denied to whom.
    Audit(audit::AuditArgs),
    /// Make certificates to develop and test with.
    Certs(certs::CertsArgs),
    /// Give back the space of events that nobody may read any more.
    Scavenge(scavenge::ScavengeArgs),
    /// Bring in the events of another server or of a file, as they were there.
    Import(import::ImportArgs),
    /// Write events to a file, one a line.
    Export(export::ExportArgs),
    /// Show the ledger at work: accounts, transfers, one that is undone, and the books.
    Demo(demo::DemoArgs),
    /// Let a thousand users move money among themselves, and check that none is lost.
    Load(load::LoadArgs),
    /// Measure appends, reads and the feed, beside what the machine allows.
    Bench(bench::BenchArgs),
    /// See what can be set, what is set, and by whom.
    Config(config::ConfigArgs),
    /// Print a script that completes arguments in a shell.
    Completions(config::CompletionsArgs),
    /// The server that `bench` measures ours by.
    #[command(hide = true)]
    BenchLimit(bench::limit::LimitArgs),
    /// The store that `bench` fills, opens and kills.
    #[command(hide = true)]
    BenchStore(bench::subject::SubjectArgs),
}

impl Command {
    /// What is logged unless the user says otherwise.
    fn log_default(&self) -> &'static str {
        match self {
            Command::Serve(_) | Command::Query(_) => logging::FILTER_DEFAULT,
            Command::Connectors(args) if args.serves() => logging::FILTER_DEFAULT,
            Command::Projections(args) if args.serves() => logging::FILTER_DEFAULT,
            _ => "warn",
        }
    }
}

/// The command line that this program understands.
#[must_use]
pub fn command() -> clap::Command {
    help::grouped(Cli::command())
}

/// Runs the command that the process' arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let told = match settings::parse(&command(), std::env::args_os().collect()) {
        Ok(Ok(told)) => told,
        Ok(Err(usage)) => usage.exit(),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let cli = Cli::from_arg_matches(&told.matches).unwrap_or_else(|usage| usage.exit());
    match run(cli) {
        Ok(code) => code,
        // Whoever read the answer had enough of it (`daybook read | head`).
        Err(error) if report::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", explain(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes on one line. A cause that its effect already quotes is not repeated.
fn explain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    logging::start(cli.log.as_deref().unwrap_or(cli.command.log_default()))?;
    match cli.command {
        Command::Serve(args) => serve::run(*args),
        Command::Projections(args) => projections::run(args),
        Command::Query(args) => query::run(args),
        Command::Connectors(args) => connectors::run(args),
        Command::Append(args) => append::run(args),
        Command::Read(args) => read::run(args),
        Command::Tail(args) => tail::run(args),
        Command::Streams(args) => streams::run(args),
        Command::Subscriptions(args) => subscriptions::run(args),
        Command::Accounts(args) => ledger::accounts::run(args),
        Command::Transfers(args) => ledger::transfers::run(args),
        Command::Sagas(args) => ledger::sagas::run(args),
        Command::Risk(args) => ledger::risk::run(args),
        Command::Delete(args) => delete::run(args),
        Command::Health(args) => health::run(args),
        Command::Stats(args) => stats::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Backup(args) => backup::run(args),
        Command::Restore(args) => backup::restore::run(args),
        Command::Users(args) => users::run(args),
        Command::Tokens(args) => tokens::run(args),
        Command::Audit(args) => audit::run(args),
        Command::Certs(args) => certs::run(args),
        Command::Scavenge(args) => scavenge::run(args),
        Command::Import(args) => import::run(args),
        Command::Export(args) => export::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Load(args) => load::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Config(args) => config::run(args, cli.settings.as_deref()),
        Command::Completions(args) => config::completions(&args),
        Command::BenchLimit(args) => bench::limit::run(args),
        Command::BenchStore(args) => bench::subject::run(args),
    }
}

/// A runtime with `threads` worker threads; as many as there are processors if none are given.
///
/// # Errors
/// If the system gives no threads.
pub fn runtime(threads: Option<usize>) -> anyhow::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        builder.worker_threads(threads.max(1));
    }
    builder.enable_all().thread_name("daybook").build().context("cannot start threads")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("no space").context("disk: no space").context("cannot start");
        assert_eq!(explain(&error), "cannot start: disk: no space");
    }

    #[test]
    fn serve_needs_no_flags() {
        let cli = Cli::try_parse_from(["daybook", "serve"]).expect("no flag is required");
        assert!(matches!(cli.command, Command::Serve(_)));
    }
}
