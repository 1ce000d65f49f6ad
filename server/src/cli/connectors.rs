//! `daybook connectors`: what is relayed to elsewhere, by a server or by a process of its own.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::{Args, Subcommand};
use daybook_client::resilience::Wiring;
use daybook_projections::connect;
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};

use super::entrance::ExposureArgs;
use super::reception::ReceptionArgs;
use super::remote::{Remote, accepted, percent_encode};
use super::report::{Json, escaped, facts, table};
use super::signals::Signals;
use crate::connectors::front;
use crate::connectors::start_over;

/// Where connectors that run alone listen unless told otherwise.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:2115";
/// Bytes of an answer: a page of parked messages, several times over.
const ANSWER_SIZE_MAX: usize = 16 * 1024 * 1024;
/// Time a stop waits for requests that were begun.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Connectors relay events to RabbitMQ, webhooks and files.
#[derive(Debug, Args)]
#[command(
    mut_arg("url", |arg| arg.global(true)),
    mut_arg("json", |arg| arg.global(true)),
)]
pub struct ConnectorsArgs {
    #[command(subcommand)]
    command: Option<ConnectorsCommand>,

    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    json: Json,
}

#[derive(Debug, Subcommand)]
enum ConnectorsCommand {
    /// List them (what is done if nothing else is said)
    List,
    /// Show one
    Status(Named),
    /// Have one wait, also after a restart
    Pause(Named),
    /// Have one go on, also after a stop whose cause is mended
    Resume(Named),
    /// List the messages that one could not deliver
    Parked(ParkedArgs),
    /// Send parked messages again: one, or all
    Retry(RetryArgs),
    /// Give a parked message up
    Discard(DiscardArgs),
    /// Check a configuration, with the secrets it refers to
    Check(CheckArgs),
    /// Run the connectors of a configuration in this process, over the network
    Run(RunArgs),
}

#[derive(Debug, Args)]
struct Named {
    /// The connector
    name: String,
}

#[derive(Debug, Args)]
struct ParkedArgs {
    /// The connector
    name: String,

    /// Only what comes after this position
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,

    /// At most so many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    count: u64,
}

#[derive(Debug, Args)]
struct RetryArgs {
    /// The connector
    name: String,

    /// The message of this position; all if none is given
    position: Option<u64>,
}

#[derive(Debug, Args)]
struct DiscardArgs {
    /// The connector
    name: String,

    /// The message of this position
    position: u64,

    /// Why; kept in the log
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// The configuration
    #[arg(value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The configuration
    #[arg(long, env = "DAYBOOK_CONNECTORS", value_name = "FILE")]
    config: PathBuf,

    /// Where to answer `daybook connectors --url`, health checks and Prometheus; port 0 takes any
    /// free one
    #[arg(
        long,
        env = "DAYBOOK_CONNECTORS_LISTEN",
        value_name = "HOST:PORT",
        default_value = LISTEN_DEFAULT
    )]
    listen: String,

    #[command(flatten)]
    exposure: ExposureArgs,

    #[command(flatten)]
    reception: ReceptionArgs,
}

impl ConnectorsArgs {
    /// Whether it runs until it is told to stop.
    #[must_use]
    pub fn serves(&self) -> bool {
        matches!(self.command, Some(ConnectorsCommand::Run(_)))
    }
}

/// Does it.
///
/// # Errors
/// If the server cannot be asked or refuses, or the configuration cannot be used.
pub fn run(args: ConnectorsArgs) -> anyhow::Result<ExitCode> {
    let ConnectorsArgs { command, remote, json } = args;
    let asked = Asked { remote, json };
    let threads = match &command {
        Some(ConnectorsCommand::Run(_)) => None,
        _ => Some(1),
    };
    let runtime = super::runtime(threads)?;
    let ended = runtime.block_on(async {
        match command.unwrap_or(ConnectorsCommand::List) {
            ConnectorsCommand::List => asked.list().await,
            ConnectorsCommand::Status(Named { name }) => asked.one("GET", &path(&name)).await,
            ConnectorsCommand::Pause(Named { name }) => {
                asked.one("POST", &format!("{}/pause", path(&name))).await
            }
            ConnectorsCommand::Resume(Named { name }) => {
                asked.one("POST", &format!("{}/resume", path(&name))).await
            }
            ConnectorsCommand::Parked(args) => asked.parked(&args).await,
            ConnectorsCommand::Retry(args) => asked.retry(&args).await,
            ConnectorsCommand::Discard(args) => asked.discard(&args).await,
            ConnectorsCommand::Check(args) => check(&args, &asked.json),
            ConnectorsCommand::Run(args) => serve(&args, &asked.remote).await,
        }
    });
    runtime.shutdown_background();
    ended
}

fn path(name: &str) -> String {
    format!("/v1/connectors/{}", percent_encode(name))
}

/// Whom to ask, and how to answer.
struct Asked {
    remote: Remote,
    json: Json,
}

impl Asked {
    async fn ask(&self, method: &str, path: &str, body: Value) -> anyhow::Result<Value> {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let answer = self.remote.begin(method, path, body).await?;
        let status = answer.status();
        match Limited::new(answer.into_body(), ANSWER_SIZE_MAX).collect().await {
            Ok(body) => accepted(status, &body.to_bytes()),
            Err(error) => bail!("the server's answer cannot be read: {error}"),
        }
    }

    async fn one(&self, method: &str, path: &str) -> anyhow::Result<ExitCode> {
        let value = self.ask(method, path, Value::Null).await?;
        self.json.answer(&value, &shown(&value))?;
        Ok(ExitCode::SUCCESS)
    }

    async fn list(&self) -> anyhow::Result<ExitCode> {
        let value = self.ask("GET", "/v1/connectors", Value::Null).await?;
        let connectors =
            value["connectors"].as_array().context("the server lists no connectors")?;
        let header = ["name", "kind", "state", "position", "lag", "delivered", "parked", "breaker"];
        let mut rows = table(&header);
        for one in connectors {
            let cells = ["name", "kind", "state", "position", "lag_events", "delivered", "parked"];
            let mut cells: Vec<String> = cells.iter().map(|name| text(&one[*name])).collect();
            cells.push(text(&one["breaker"]));
            rows.add_row(cells);
        }
        let shown = match connectors.is_empty() {
            true => "no connector runs there\n".to_owned(),
            false => format!("{rows}\n"),
        };
        self.json.answer(&value, &shown)?;
        Ok(ExitCode::SUCCESS)
    }

    async fn parked(&self, args: &ParkedArgs) -> anyhow::Result<ExitCode> {
        let mut page = format!("{}/parked?limit={}", path(&args.name), args.count);
        if let Some(after) = args.after {
            page.push_str(&format!("&cursor={after}"));
        }
        let value = self.ask("GET", &page, Value::Null).await?;
        let parked = value["parked"].as_array().context("the server lists no messages")?;
        let header = ["position", "stream", "type", "attempts", "parked at", "error"];
        let mut rows = table(&header);
        for one in parked {
            let cells = ["position", "stream", "type", "attempts", "at", "error"];
            rows.add_row(cells.iter().map(|name| text(&one[*name])));
        }
        let shown = match parked.is_empty() {
            true => "nothing is parked\n".to_owned(),
            false => format!("{rows}\n"),
        };
        self.json.answer(&value, &shown)?;
        Ok(ExitCode::SUCCESS)
    }

    async fn retry(&self, args: &RetryArgs) -> anyhow::Result<ExitCode> {
        let parked = format!("{}/parked", path(&args.name));
        let Some(position) = args.position else {
            let value = self.ask("POST", &format!("{parked}/retry"), Value::Null).await?;
            let (delivered, left) = (text(&value["delivered"]), text(&value["parked"]));
            self.json.answer(&value, &format!("{delivered} delivered, {left} still parked\n"))?;
            return Ok(match value["parked"].as_u64() {
                Some(0) => ExitCode::SUCCESS,
                _ => ExitCode::FAILURE,
            });
        };
        self.one("POST", &format!("{parked}/{position}/retry")).await
    }

    async fn discard(&self, args: &DiscardArgs) -> anyhow::Result<ExitCode> {
        let path = format!("{}/parked/{}/discard", path(&args.name), args.position);
        let value = self.ask("POST", &path, json!({ "reason": args.reason })).await?;
        self.json.answer(&value, &shown(&value))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A connector, a line a fact.
fn shown(connector: &Value) -> String {
    let names = [
        "name",
        "kind",
        "state",
        "reason",
        "position",
        "lag_events",
        "lag_seconds",
        "delivered",
        "retries",
        "parked",
        "breaker",
        "last_error",
    ];
    let known = names.iter().filter(|name| !connector[**name].is_null());
    let rows: Vec<_> = known.map(|name| (*name, text(&connector[*name]))).collect();
    facts(&rows)
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => escaped(text),
        other => other.to_string(),
    }
}

fn check(args: &CheckArgs, json: &Json) -> anyhow::Result<ExitCode> {
    let settings = connect::load(&args.config)?;
    let names: Vec<&str> = settings.iter().map(|one| one.name.as_str()).collect();
    let text = format!("{}: right, with {}\n", args.config.display(), names.join(", "));
    json.answer(&json!({ "connectors": names }), &text)?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: &RunArgs, remote: &Remote) -> anyhow::Result<ExitCode> {
    let settings = connect::load(&args.config)?;
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let client = remote.client()?;
    let said = args.exposure.of();
    let received = args.reception.receive(&args.listen, front::CONNECTIONS_MAX, said).await?;
    let (reception, guarded) = received.into_parts();
    let wiring = Wiring::system();
    let count = settings.len();
    let running = start_over(settings, &client, &wiring)?;
    let front = front::start(running.clone(), &wiring.metrics, reception)?;
    guarded.stand_guard(&front)?;
    let (address, url) = (front.address(), guarded.url(&front));
    tracing::info!(version = crate::VERSION, %address, url, connectors = count, "ready");
    signals.next().await;
    tracing::info!("stopping: finishing what is under way");
    let stopping = async {
        running.stop().await;
        front.stop(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        () = stopping => Ok(ExitCode::SUCCESS),
        () = signals.next() => {
            tracing::warn!("told twice: exiting at once; some messages will be sent again");
            Ok(ExitCode::FAILURE)
        }
    }
}
