//! `daybook projections`: how far the read models are, and what they can be told; and
//! `daybook projections run`, which keeps read models in a process of its own.
//!
//! ```text
//!   list, status, pause, resume, rebuild, reset, skip, parked ── HTTP ──> node
//!   run   ClientSource ── gRPC, from the checkpoint on ──> Host ──> sled, or PostgreSQL
//! ```

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::{Args, Subcommand};
use comfy_table::{Cell, Color};
use daybook_projections::host::Host;
use daybook_projections::models::ReadModels;
use daybook_projections::postgres::{Postgres, SCHEMA_DEFAULT, Server};
use daybook_projections::sled::SledBackend;
use daybook_projections::source::client::ClientSource;
use daybook_projections::{Seams, State};
use http_body_util::{BodyExt as _, Limited};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use uuid::Uuid;

use super::remote::{Remote, accepted, percent_encode};
use super::report::{Json, facts, table};
use super::signals::Signals;

/// Bytes of an answer: a page of 1,000 parked events, many times over.
const ANSWER_SIZE_MAX: usize = 16 * 1024 * 1024;
/// Parked events that are asked for at a time.
const PARKED_PAGE: usize = 1000;
/// How often a watch looks: often enough to see a bar move.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// How often `run` says how far it is.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Shows and steers the read models of a server.
#[derive(Debug, Args)]
#[command(
    mut_arg("url", |arg| arg.global(true)),
    mut_arg("json", |arg| arg.global(true)),
)]
pub struct ProjectionsArgs {
    #[command(subcommand)]
    command: Option<ProjectionsCommand>,

    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    json: Json,
}

/// What can be asked of projections, and told to them.
#[derive(Debug, Subcommand)]
enum ProjectionsCommand {
    /// Show all of them, and how far they are
    List,
    /// Show one of them
    Status(StatusArgs),
    /// Have one wait, also after a restart, until it is resumed
    Pause(Named),
    /// Have one go on: also one that has stopped for a reason that is mended
    Resume(Named),
    /// Build one again beside what serves, and swap when it has caught up
    Rebuild(Named),
    /// Drop what was built of one, and build it again
    Reset(Named),
    /// Park the event that one has stopped at, and have it go on without
    Skip(Named),
    /// Show the events that one could not take in
    Parked(Named),
    /// Keep read models up to date in this process, from a server elsewhere, until Ctrl-C
    Run(RunArgs),
}

/// A projection.
#[derive(Debug, Args)]
struct Named {
    /// The projection's name
    name: String,
}

/// What is shown of a projection.
#[derive(Debug, Args)]
struct StatusArgs {
    /// The projection's name
    name: String,

    /// Follow it until it has caught up
    #[arg(long)]
    watch: bool,
}

/// Where read models are kept.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct RunArgs {
    /// In a database: postgres://USER:PASSWORD@HOST:PORT/DATABASE
    #[arg(long, env = "DAYBOOK_POSTGRES", hide_env_values = true, value_name = "URL")]
    // A text until it is used: a refused argument is shown, and it may hold a password.
    postgres: Option<String>,

    /// In files of a directory, which is nobody else's
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl ProjectionsArgs {
    /// Whether it runs until it is told to stop.
    #[must_use]
    pub fn serves(&self) -> bool {
        matches!(self.command, Some(ProjectionsCommand::Run(_)))
    }
}

/// Does it.
///
/// # Errors
/// If the server cannot be asked, or refuses.
pub fn run(args: ProjectionsArgs) -> anyhow::Result<ExitCode> {
    let ProjectionsArgs { command, remote, json } = args;
    let asked = Asked { remote, json };
    let threads = match &command {
        Some(ProjectionsCommand::Run(_)) => None,
        _ => Some(1),
    };
    let runtime = super::runtime(threads)?;
    let ended = runtime.block_on(async {
        match command.unwrap_or(ProjectionsCommand::List) {
            ProjectionsCommand::List => asked.list().await,
            ProjectionsCommand::Status(args) => asked.status(&args).await,
            ProjectionsCommand::Pause(one) => asked.order(&one, "pause").await,
            ProjectionsCommand::Resume(one) => asked.order(&one, "resume").await,
            ProjectionsCommand::Rebuild(one) => asked.order(&one, "rebuild").await,
            ProjectionsCommand::Reset(one) => asked.order(&one, "reset").await,
            ProjectionsCommand::Skip(one) => asked.order(&one, "skip").await,
            ProjectionsCommand::Parked(one) => asked.parked(&one).await,
            ProjectionsCommand::Run(args) => keep(&args, &asked.remote).await,
        }
    });
    runtime.shutdown_background();
    ended
}

fn path(name: &str) -> String {
    format!("/v1/projections/{}", percent_encode(name))
}

/// Whom to ask, and how to answer.
struct Asked {
    remote: Remote,
    json: Json,
}

impl Asked {
    async fn list(&self) -> anyhow::Result<ExitCode> {
        let value = self.remote.get("/v1/projections").await?;
        let all = value["projections"].as_array().context("the server lists no projections")?;
        let mut rows =
            table(&["name", "state", "as of", "lag", "behind", "rate", "parked", "being built"]);
        for one in all {
            let build = &one["serving"];
            let state = text(&build["state"]);
            rows.add_row(vec![
                Cell::new(text(&one["name"])),
                Cell::new(&state).fg(colour(&state)),
                Cell::new(text(&build["as_of"])),
                Cell::new(text(&build["lag_events"])),
                Cell::new(seconds(&build["lag_seconds"])),
                Cell::new(rate(&build["rate"])),
                Cell::new(text(&build["parked"])),
                Cell::new(progress(&one["building"])),
            ]);
        }
        self.json.answer(&value, &format!("{rows}\n"))?;
        Ok(ExitCode::SUCCESS)
    }

    async fn status(&self, args: &StatusArgs) -> anyhow::Result<ExitCode> {
        let path = path(&args.name);
        if args.watch {
            self.watch(&path).await?;
        }
        let value = self.remote.get(&path).await?;
        self.json.answer(&value, &shown(&value))?;
        Ok(ExitCode::SUCCESS)
    }

    /// Shows how far it is, until nothing of it is being built and what serves is live.
    async fn watch(&self, path: &str) -> anyhow::Result<()> {
        let bar = ProgressBar::new(0);
        let style = "{msg} {bar:30} {pos}/{len}  {per_sec}  {eta}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        let mut interval = tokio::time::interval(WATCH_INTERVAL);
        loop {
            interval.tick().await;
            let value = self.remote.get(path).await?;
            let building = !value["building"].is_null();
            let build = if building { &value["building"] } else { &value["serving"] };
            let state = text(&build["state"]);
            let end = |place: &Value| place.as_u64().map_or(0, |position| position + 1);
            bar.set_length(end(&build["head"]));
            bar.set_position(end(&build["as_of"]));
            let generation = text(&build["generation"]);
            bar.set_message(format!("{} {generation} {state}", text(&value["name"])));
            match state.as_str() {
                "live" if !building => break,
                "stopped" => {
                    bar.abandon();
                    bail!("it has stopped: {}", text(&build["reason"]));
                }
                _ => {}
            }
        }
        bar.finish();
        Ok(())
    }

    async fn order(&self, one: &Named, order: &str) -> anyhow::Result<ExitCode> {
        let path = format!("{}/{order}", path(&one.name));
        let answer = self.remote.begin("POST", &path, Bytes::new()).await?;
        let status = answer.status();
        let value = match Limited::new(answer.into_body(), ANSWER_SIZE_MAX).collect().await {
            Ok(body) => accepted(status, &body.to_bytes())?,
            Err(error) => bail!("the server's answer cannot be read: {error}"),
        };
        self.json.answer(&value, &shown(&value))?;
        Ok(ExitCode::SUCCESS)
    }

    async fn parked(&self, one: &Named) -> anyhow::Result<ExitCode> {
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("{}/parked?limit={PARKED_PAGE}{cursor}", path(&one.name));
            let mut page = self.remote.get(&path).await?;
            match page["parked"].take() {
                Value::Array(events) => all.extend(events),
                _ => bail!("the server lists no parked events"),
            }
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let mut rows = table(&["position", "stream", "type", "at", "reason"]);
        for event in &all {
            rows.add_row(
                ["position", "stream", "type", "at", "reason"].map(|name| text(&event[name])),
            );
        }
        let shown = if all.is_empty() { "none\n".to_owned() } else { format!("{rows}\n") };
        self.json.answer(&Value::from(all), &shown)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A value for people.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => super::report::escaped(text),
        other => other.to_string(),
    }
}

fn seconds(value: &Value) -> String {
    value.as_f64().map_or("-".to_owned(), |seconds| format!("{seconds:.1} s"))
}

fn rate(value: &Value) -> String {
    value.as_f64().map_or("-".to_owned(), |rate| format!("{rate:.0}/s"))
}

/// How far a build is, in words; nothing if there is none.
fn progress(build: &Value) -> String {
    if build.is_null() {
        return String::new();
    }
    let part = match (build["as_of"].as_f64(), build["head"].as_f64()) {
        (Some(at), Some(head)) if head > 0.0 => format!("{:.0} %", 100.0 * at / head),
        _ => "-".to_owned(),
    };
    let left = match build["remaining_seconds"].as_f64() {
        Some(left) => format!(", {left:.0} s left"),
        None => String::new(),
    };
    format!("{} {part}{left}", text(&build["state"]))
}

fn colour(state: &str) -> Color {
    match state {
        "live" => Color::Green,
        "stopped" | "retrying" => Color::Red,
        _ => Color::Yellow,
    }
}

/// A projection for people.
fn shown(value: &Value) -> String {
    let build = &value["serving"];
    let mut rows = vec![
        ("name", text(&value["name"])),
        ("version", text(&value["version"])),
        ("paused", text(&value["paused"])),
        ("state", text(&build["state"])),
    ];
    for (name, key) in [("reason", "reason"), ("stopped at", "poisoned")] {
        if !build[key].is_null() {
            rows.push((name, text(&build[key])));
        }
    }
    rows.extend([
        ("generation", text(&build["generation"])),
        ("as of", text(&build["as_of"])),
        ("log ends at", text(&build["head"])),
        ("lag", text(&build["lag_events"])),
        ("behind", seconds(&build["lag_seconds"])),
        ("events", text(&build["events"])),
        ("parked", text(&build["parked"])),
        ("rate", rate(&build["rate"])),
    ]);
    if !value["building"].is_null() {
        rows.push(("being built", progress(&value["building"])));
    }
    if !value["note"].is_null() {
        rows.push(("note", text(&value["note"])));
    }
    facts(&rows)
}

/// Keeps read models up to date until told to stop.
async fn keep(args: &RunArgs, remote: &Remote) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let store = remote.get("/info").await?;
    let store: Uuid = store["store"]
        .as_str()
        .and_then(|id| id.parse().ok())
        .context("the server does not tell its store's id")?;
    let models = match (&args.postgres, &args.data) {
        (Some(url), _) => {
            ReadModels::Postgres(Postgres::new(Server::parse(url)?, SCHEMA_DEFAULT, Some(store))?)
        }
        (None, Some(directory)) => {
            let directory = directory.clone();
            let opened = move || SledBackend::open(&directory, store);
            ReadModels::Sled(tokio::task::spawn_blocking(opened).await?)
        }
        (None, None) => bail!("give --postgres or --data"),
    };
    let source = ClientSource::new(remote.client()?);
    let host = Host::start(&source, &models, models.views(), &Seams::system());
    let names: Vec<&str> = host.names().collect();
    tracing::info!(%store, views = names.join(", "), "keeping read models");
    let mut interval = tokio::time::interval(REPORT_INTERVAL);
    loop {
        tokio::select! {
            () = signals.next() => break,
            _ = interval.tick() => report(&host),
        }
    }
    tracing::info!("stopping: committing what is in hand");
    tokio::select! {
        () = host.stop() => {}
        () = signals.next() => {
            tracing::warn!("told twice: exiting at once; the next start goes on from the checkpoint");
            return Ok(ExitCode::FAILURE);
        }
    }
    if let ReadModels::Sled(sled) = models {
        tokio::task::spawn_blocking(move || sled.close()).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Says how far each view is.
fn report(host: &Host) {
    for status in host.statuses() {
        let Some(build) = status.building.as_ref().or(status.serving.as_ref()) else { continue };
        let (lag, rate) = (build.status.lag_events(), build.status.rate.round());
        let left = build.status.remaining().map(|left| left.as_secs());
        if let State::Stopped { reason } = &build.status.state {
            tracing::error!(view = status.name, "has stopped: {reason}");
        } else {
            tracing::info!(view = status.name, lag, rate, left_s = left, "at work");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_projection_is_shown_with_what_matters() {
        let value = json!({
            "name": "accounts", "version": 2, "paused": false, "note": null,
            "serving": { "state": "stopped", "reason": "event 7", "poisoned": 7, "as_of": 6,
                "head": 100, "lag_events": 94, "lag_seconds": 1.25, "events": 7, "parked": 0,
                "rate": 12.3, "generation": 1 },
            "building": { "state": "catching_up", "as_of": 50, "head": 100,
                "remaining_seconds": 4.2 },
        });
        let text = shown(&value);
        for words in ["stopped", "event 7", "94", "1.2 s", "12/s", "catching_up 50 %, 4 s left"] {
            assert!(text.contains(words), "'{words}' is missing in\n{text}");
        }
        assert_eq!(progress(&Value::Null), "");
        assert_eq!((colour("live"), colour("stopped")), (Color::Green, Color::Red));
    }
}
