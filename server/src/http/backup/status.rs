//! `/admin/backup/status`: how far archiving is, and how the last backup went. Whoever takes one
//! over the network tells the server at its end, because only they know that it is whole.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::body::Held;
use super::super::event::rfc3339;
use super::super::problem::Problem;
use crate::backup::Status;
use crate::node::Context;

/// Bytes of a report.
const REPORT_SIZE_MAX: usize = 1024;

/// How a backup went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is whole, and was read back.
    Complete,
    /// It is not.
    BrokenOff,
}

/// What is told of it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// How it went.
    pub outcome: Outcome,
}

/// Shows it.
pub async fn show(State(context): State<Context>) -> Json<Value> {
    let last = context.metrics().safeguards.last_backup();
    let archive = context.archive().map(|archive| archive_json(&archive.status()));
    Json(json!({
        "lastBackup": last.map(rfc3339),
        "committed": context.works().committed().0,
        "archive": archive,
    }))
}

/// Takes a report.
///
/// # Errors
/// If it is none.
pub async fn report(
    State(context): State<Context>,
    body: Held<REPORT_SIZE_MAX>,
) -> Result<StatusCode, Problem> {
    let report: Report =
        serde_json::from_slice(&body.bytes).map_err(|error| Problem::field("outcome", error))?;
    let safeguards = &context.metrics().safeguards;
    match report.outcome {
        Outcome::Complete => safeguards.backup_complete(context.clock().now()),
        Outcome::BrokenOff => safeguards.backup_broke_off(),
    }
    Ok(StatusCode::NO_CONTENT)
}

fn archive_json(status: &Status) -> Value {
    json!({
        "to": status.location,
        "everySeconds": status.every.as_secs_f64(),
        "position": status.position.map(|position| position.0),
        "lastSuccess": status.last_success.map(rfc3339),
        "rounds": status.rounds,
        "failures": status.failures,
        "error": status.error,
        "objects": status.objects,
        "bytes": status.bytes,
    })
}
