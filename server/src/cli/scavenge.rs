//! `daybook scavenge`: gives back the space of what nobody may read any more.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use clap::{Args, Subcommand};
use daybook_log::disk::os::{Access, OsDisk};
use daybook_model::{SystemClock, SystemEntropy};
use daybook_store::scavenge::{RATE_MIN, Schedule};
use daybook_store::{Environment, Options, Store};
use http_body_util::{BodyExt as _, Limited};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use super::remote::{Remote, accepted};
use super::report::{Json, facts};
use crate::http::admin::status_json;

/// How often progress is asked for.
const LOOK: Duration = Duration::from_millis(200);
/// Bytes of a server's answer.
const ANSWER_SIZE_MAX: usize = 1024 * 1024;

/// Gives back the space of events that nobody may read any more: past the limits of their streams,
/// or of deleted ones. A server does so by itself; this is for now, and for all of it.
#[derive(Debug, Args)]
pub struct ScavengeArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Begin a scavenge, and wait for its end.
    Start(StartArgs),
    /// Show the scavenge that is at work, and the last ones.
    Status(AskArgs),
    /// Stop the scavenge that is at work; what it has done stays.
    Stop(AskArgs),
}

#[derive(Debug, Args)]
struct StartArgs {
    /// Scavenge a stopped store instead of a server's
    #[arg(long, value_name = "DIR", conflicts_with = "no_wait")]
    data: Option<PathBuf>,

    /// Do not wait for the end
    #[arg(long)]
    no_wait: bool,

    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Debug, Args)]
struct AskArgs {
    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    json: Json,
}

/// A rate in MiB a second, as bytes a second.
///
/// # Errors
/// If it is no number, or too small.
pub fn rate(text: &str) -> Result<u64, String> {
    let least = RATE_MIN.div_ceil(1024 * 1024).max(1);
    match text.parse::<u64>() {
        Ok(mib) if mib >= least => Ok(mib.saturating_mul(1024 * 1024)),
        Ok(_) => Err(format!("give at least {least}")),
        Err(error) => Err(error.to_string()),
    }
}

/// The rate of a scavenge unless told otherwise, as [`rate`] reads it.
pub const RATE_DEFAULT: &str = "32";

/// Does it.
///
/// # Errors
/// If the server cannot be asked, or the store not be opened; if the scavenge failed.
pub fn run(args: ScavengeArgs) -> anyhow::Result<ExitCode> {
    super::runtime(Some(1))?.block_on(async {
        match args.what {
            What::Start(args) => match &args.data {
                Some(data) => here(data, &args.ask.json).await,
                None => start(&args).await,
            },
            What::Status(args) => {
                let status = args.remote.get("/admin/scavenge").await?;
                args.json.answer(&status, &to_text(&status))?;
                Ok(ExitCode::SUCCESS)
            }
            What::Stop(args) => {
                let answer = send(&args.remote, "DELETE", "/admin/scavenge/current").await?;
                args.json.answer(&answer, "it stops; what it has done stays\n")?;
                Ok(ExitCode::SUCCESS)
            }
        }
    })
}

async fn send(remote: &Remote, method: &str, path: &str) -> anyhow::Result<Value> {
    let answer = remote.begin(method, path, Bytes::new()).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_SIZE_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the answer cannot be read: {error}"))?;
    accepted(status, &body.to_bytes())
}

async fn start(args: &StartArgs) -> anyhow::Result<ExitCode> {
    let AskArgs { remote, json } = &args.ask;
    let begun = send(remote, "POST", "/admin/scavenge").await?;
    let id = begun["scavengeId"].as_str().context("the server names no scavenge")?.to_owned();
    if args.no_wait {
        json.answer(&begun, &format!("scavenge {id} is at work\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let bar = Bar::new();
    loop {
        let status = remote.get("/admin/scavenge").await?;
        if status["running"]["scavengeId"].as_str() != Some(&id) {
            bar.finish();
            return ended(&status, &id, json);
        }
        bar.show(&status["running"]);
        tokio::time::sleep(LOOK).await;
    }
}

/// Scavenges a stopped store.
async fn here(data: &Path, json: &Json) -> anyhow::Result<ExitCode> {
    // First for reading: a directory that does not exist must not be made by asking.
    drop(OsDisk::open(data, Access::Read)?);
    let environment = Environment {
        disk: Arc::new(OsDisk::open(data, Access::Write)?),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
    };
    let store = Store::open(environment, Options::default())?;
    // Nobody else uses the disk's time.
    store.scavenge().schedule(Schedule { automatic: false, rate: u64::MAX });
    store.scavenge().start();
    let bar = Bar::new();
    let status = loop {
        let status = status_json(&store.scavenge().status());
        if status["running"].is_null() {
            break status;
        }
        bar.show(&status["running"]);
        tokio::time::sleep(LOOK).await;
    };
    bar.finish();
    store.close().await;
    let id = status["history"][0]["scavengeId"].as_str().unwrap_or_default().to_owned();
    ended(&status, &id, json)
}

/// Tells how the scavenge `id` ended.
fn ended(status: &Value, id: &str, json: &Json) -> anyhow::Result<ExitCode> {
    let history = status["history"].as_array();
    let all = history.into_iter().flatten();
    let Some(finished) = all.into_iter().find(|one| one["scavengeId"].as_str() == Some(id)) else {
        bail!("the server knows nothing of scavenge {id} any more; ask for its status");
    };
    json.answer(finished, &finished_text(finished))?;
    if let Some(reason) = finished["reason"].as_str() {
        bail!("the scavenge could not go on: {reason}; what it has done stays");
    }
    Ok(ExitCode::SUCCESS)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn finished_text(finished: &Value) -> String {
    let before = number(&finished["bytesBefore"]);
    let gone = before.saturating_sub(number(&finished["bytesAfter"]));
    let mut rows = vec![
        ("scavenge", finished["outcome"].as_str().unwrap_or("unknown").to_owned()),
        ("segments read", number(&finished["segmentsRead"]).to_string()),
        ("segments rewritten", number(&finished["segmentsRewritten"]).to_string()),
        ("events removed", number(&finished["eventsRemoved"]).to_string()),
        ("bytes given back", format!("{gone} of {before}")),
    ];
    let without = number(&finished["segmentsWithoutRoom"]);
    if without > 0 {
        let text = format!("{without} segments need more free space than there is");
        rows.push(("no room", text));
    }
    facts(&rows)
}

fn to_text(status: &Value) -> String {
    let automatic = status["automatic"].as_bool().unwrap_or(false);
    let mut rows = vec![
        ("by itself", if automatic { "yes" } else { "no" }.to_owned()),
        ("scavenges", number(&status["scavenges"]).to_string()),
        ("events removed", number(&status["eventsRemoved"]).to_string()),
        ("bytes given back", number(&status["bytesGivenBack"]).to_string()),
    ];
    if let Some(running) = status["running"].as_object() {
        let (read, all) = (number(&running["segmentsRead"]), number(&running["segments"]));
        rows.push(("at work", format!("{read} of {all} segments read")));
        if let Some(left) = running["remainingSeconds"].as_f64() {
            rows.push(("remaining", format!("{left:.0} s")));
        }
    }
    let mut text = facts(&rows);
    if let Some(last) = status["history"].get(0) {
        text.push_str("\nthe last one\n");
        text.push_str(&finished_text(last));
    }
    text
}

/// A bar with what is left, in bytes read.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Bar {
        let bar = ProgressBar::new(0);
        let style = "{bar:30} {binary_bytes}/{binary_total_bytes} {wide_msg}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Bar(bar)
    }

    fn show(&self, running: &Value) {
        let (done, left) = (number(&running["bytesRead"]), number(&running["bytesLeft"]));
        self.0.set_length(done + left);
        self.0.set_position(done);
        let current = running["current"].as_str().unwrap_or_default();
        let message = match running["remainingSeconds"].as_f64() {
            Some(seconds) => format!("{seconds:.0} s left  {current}"),
            None => current.to_owned(),
        };
        self.0.set_message(message);
    }

    fn finish(&self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_in_mib_and_its_default_is_the_stores() {
        assert_eq!(rate(RATE_DEFAULT), Ok(daybook_store::scavenge::RATE));
        assert_eq!(rate("1"), Ok(1024 * 1024));
        assert!(rate("0").is_err() && rate("fast").is_err());
    }
}
