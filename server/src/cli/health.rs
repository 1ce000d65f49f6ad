//! `daybook health`: whether a server is ready. Its exit code serves as a container's health check.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::remote::Remote;
use super::report::{Json, facts};

/// Asks a server whether it is ready; exits 0 if so, 1 if not.
#[derive(Debug, Args)]
pub struct HealthArgs {
    #[command(flatten)]
    remote: Remote,

    #[command(flatten)]
    json: Json,
}

/// Asks.
///
/// # Errors
/// If the server cannot be reached.
pub fn run(args: HealthArgs) -> anyhow::Result<ExitCode> {
    super::runtime(Some(1))?.block_on(async {
        let (status, body) = args.remote.http("/health/ready").await?;
        let health: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let mut rows = vec![("status", health["status"].as_str().unwrap_or("unknown").to_owned())];
        if let Some(refused) = health["detail"].as_str() {
            rows.push(("refused", refused.to_owned()));
        }
        let parts = health["parts"].as_object();
        for (part, state) in parts.into_iter().flatten() {
            rows.push((part, state.as_str().map_or_else(|| state.to_string(), str::to_owned)));
        }
        args.json.answer(&health, &facts(&rows))?;
        Ok(if status.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}
