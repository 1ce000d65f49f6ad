//! `daybook query serve`: runs a query front until it is told to stop.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use daybook_projections::postgres::{Postgres, SCHEMA_DEFAULT, Server};

use super::entrance::EntranceArgs;
use super::reception::ReceptionArgs;
use super::signals::Signals;
use crate::memory::Memory;
use crate::query;

/// Where a front listens unless told otherwise: beside a node, this machine only.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:2114";

/// What to do with the read models in PostgreSQL.
#[derive(Debug, Args)]
pub struct QueryArgs {
    #[command(subcommand)]
    command: QueryCommand,
}

#[derive(Debug, Subcommand)]
enum QueryCommand {
    /// Serve them over HTTP, without a store; any number of such servers may run
    Serve(QueryServeArgs),
}

/// The settings of a query front.
#[derive(Debug, Args)]
struct QueryServeArgs {
    /// The database that holds the read models: postgres://USER:PASSWORD@HOST:PORT/DATABASE
    #[arg(long, env = "DAYBOOK_POSTGRES", hide_env_values = true, value_name = "URL")]
    // A text until it is used: a refused argument is shown, and it may hold a password.
    postgres: String,

    /// The schema in that database
    #[arg(
        long,
        env = "DAYBOOK_POSTGRES_SCHEMA",
        value_name = "NAME",
        default_value = SCHEMA_DEFAULT
    )]
    schema: String,

    /// Where to listen; port 0 takes any free one
    #[arg(
        long,
        env = "DAYBOOK_QUERY_LISTEN",
        value_name = "HOST:PORT",
        default_value = LISTEN_DEFAULT
    )]
    listen: String,

    #[command(flatten)]
    entrance: EntranceArgs,

    #[command(flatten)]
    reception: ReceptionArgs,
}

/// Runs a front.
///
/// # Errors
/// If it cannot start: the address is refused or taken, the URL cannot be used.
pub fn run(args: QueryArgs) -> anyhow::Result<ExitCode> {
    let QueryCommand::Serve(args) = args.command;
    let connections_max = args.entrance.room();
    let runtime = super::runtime(args.entrance.threads)?;
    let ended = runtime.block_on(serve(args, connections_max));
    runtime.shutdown_background();
    ended
}

async fn serve(args: QueryServeArgs, connections_max: usize) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let server = Server::parse(&args.postgres)?;
    let database = server.name().to_owned();
    let postgres = Postgres::new(server, &args.schema, None)?;
    let said = args.entrance.exposure.of();
    let received = args.reception.receive(&args.listen, connections_max, said).await?;
    let (reception, guarded) = received.into_parts();
    let memory = Memory::of_this_process();
    memory.say();
    let front = query::start(postgres.clone(), &memory, reception)?;
    guarded.stand_guard(&front)?;
    let address = front.address();
    tracing::info!(
        version = crate::VERSION,
        %address,
        url = guarded.url(&front),
        database,
        schema = args.schema,
        "ready"
    );
    if let Err(error) = postgres.places().await {
        tracing::warn!("{error}; requests are answered when it can be reached");
    }
    signals.next().await;
    tracing::info!(timeout = ?args.entrance.drain_timeout, "stopping: finishing what was begun");
    tokio::select! {
        stopped = front.stop(args.entrance.drain_timeout) => {
            tracing::info!(connections_cut = stopped.connections_cut, "stopped");
            Ok(ExitCode::SUCCESS)
        }
        () = signals.next() => {
            tracing::warn!("told twice: exiting at once");
            Ok(ExitCode::FAILURE)
        }
    }
}
