//! `daybook backup now`: a server that archives its log (`serve --archive`) does so at once.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use daybook_model::{Entropy as _, SystemEntropy};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::super::remote::{Remote, accepted};
use super::super::report::{Json, facts};

/// How often the server is asked how far it is.
const LOOK: Duration = Duration::from_millis(200);
/// How long it is waited for unless told otherwise: a first round may have a whole log to bring.
const TIMEOUT_DEFAULT: &str = "1h";

/// What is asked of the server.
#[derive(Debug, Args)]
#[command(after_help = "Exits 0 when all that the server had is archived, 1 if it is not: the \
    server goes on trying by itself.")]
pub struct NowArgs {
    /// Do not wait for its end
    #[arg(long)]
    no_wait: bool,

    /// How long to wait for it
    #[arg(
        long,
        value_name = "DURATION",
        default_value = TIMEOUT_DEFAULT,
        value_parser = humantime::parse_duration,
        conflicts_with = "no_wait"
    )]
    timeout: Duration,

    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    json: Json,
}

/// Asks for it, and waits.
///
/// # Errors
/// If the server archives nowhere, cannot be asked, or the round failed.
pub fn run(args: &NowArgs, runtime: &Runtime) -> anyhow::Result<ExitCode> {
    runtime.block_on(async {
        let failures = archive(&args.remote).await?["failures"].as_u64();
        let key = Uuid::from_bytes(SystemEntropy.bytes());
        let (status, body) = args.remote.act("POST", "/admin/backup", key, &json!({})).await?;
        let ordered = accepted(status, &body)?;
        let until = ordered["until"].as_u64().context("the server does not say how far")?;
        if args.no_wait {
            let to = ordered["to"].as_str().unwrap_or_default().to_owned();
            let rows = [("archive", to), ("begins", format!("all below {until}"))];
            args.json.answer(&ordered, &facts(&rows))?;
            return Ok(ExitCode::SUCCESS);
        }
        let done = tokio::time::timeout(args.timeout, reached(&args.remote, until, failures));
        let archive = done.await.with_context(|| {
            format!("it is not done within {:?}; the server goes on", args.timeout)
        })??;
        let to = archive["to"].as_str().unwrap_or_default().to_owned();
        let position = archive["position"].as_u64().unwrap_or_default();
        let rows = [("archive", to), ("archived", format!("all below {position}"))];
        args.json.answer(&archive, &facts(&rows))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// What the server says of its archive; null if it has none.
async fn archive(remote: &Remote) -> anyhow::Result<Value> {
    Ok(remote.get("/admin/backup/status").await?["archive"].take())
}

/// Waits until everything below `until` is archived; `failures` rounds had failed before.
async fn reached(remote: &Remote, until: u64, failures: Option<u64>) -> anyhow::Result<Value> {
    let bar = ProgressBar::new_spinner();
    loop {
        let archive = archive(remote).await?;
        if archive["position"].as_u64().is_some_and(|position| position >= until) {
            bar.finish_and_clear();
            return Ok(archive);
        }
        if archive["failures"].as_u64() > failures {
            let why = archive["error"].as_str().unwrap_or("it does not say why");
            bail!("the round failed: {why}; the server tries again by itself");
        }
        bar.set_message(format!("archived: all below {} of {until}", archive["position"]));
        tokio::time::sleep(LOOK).await;
    }
}
