//! What an operator does to a running node.

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use daybook_store::scavenge::{Finished, Outcome, Progress, ScavengeStatus, Start};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::body::Held;
use super::event::rfc3339;
use super::problem::{Kind, Problem};
use crate::node::{Admitted, Context};
use crate::telemetry::logging::{self, LoggingError};
use crate::verification::{Begun, Found};

/// Bytes of the body that names what is logged: a pair for each crate of ours, many times over.
const LOG_FILTER_SIZE_MAX: usize = 16 * 1024;

/// `POST /admin/clock/accept`: accepts the clock after it leapt, so that appends resume.
pub async fn accept_clock(State(context): State<Context>) -> StatusCode {
    context.works().accept_clock();
    tracing::warn!("the clock was accepted by an operator");
    StatusCode::NO_CONTENT
}

/// `POST /admin/scavenge`: begins a scavenge of all that goes, or names the one that is at work.
pub async fn start_scavenge(State(context): State<Context>) -> Json<Value> {
    let (id, result) = match context.works().scavenge().start() {
        Start::Started(id) => (id, "started"),
        Start::InProgress(id) => (id, "inProgress"),
    };
    Json(json!({ "scavengeId": id, "result": result }))
}

/// `GET /admin/scavenge`: the scavenge that is at work, and the last ones.
pub async fn scavenge_status(State(context): State<Context>) -> Json<Value> {
    Json(status_json(&context.works().scavenge().status()))
}

/// `DELETE /admin/scavenge/{id}`: stops it; `current` is the one that is at work.
///
/// # Errors
/// If it is not at work.
pub async fn stop_scavenge(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let scavenge = context.works().scavenge();
    let running = scavenge.status().running.map(|running| running.id);
    let id = if id == "current" { running } else { Uuid::try_parse(&id).ok() };
    match id {
        Some(id) if scavenge.stop(id).is_ok() => {
            Ok(Json(json!({ "scavengeId": id, "result": "stopped" })))
        }
        _ => Err(Problem::new(Kind::ScavengeNotFound, "no such scavenge is running".to_owned())),
    }
}

/// `POST /admin/verify`: begins to read the log again from its beginning, if nobody does so already.
pub async fn start_verification(State(context): State<Context>) -> Response {
    let (status, result) = match context.verification().start() {
        Begun::Started => (StatusCode::ACCEPTED, "started"),
        Begun::InProgress => (StatusCode::OK, "inProgress"),
    };
    (status, Json(json!({ "result": result }))).into_response()
}

/// `GET /admin/verify`: how far that is, and what the last one found.
pub async fn verification(State(context): State<Context>) -> Json<Value> {
    let status = context.verification().status();
    let running = status.running.map(|running| {
        json!({
            "started": rfc3339(running.started),
            "file": running.file,
            "bytesRead": running.done,
            "bytes": running.total,
        })
    });
    let last = status.last.map(|last| {
        let (result, damage) = match last.found {
            Found::Sound => ("sound", None),
            Found::Damaged(what) => ("damaged", Some(what)),
            Found::Stopped => ("stopped", None),
        };
        json!({
            "started": rfc3339(last.started),
            "ended": rfc3339(last.ended),
            "committed": last.committed.0,
            "bytesRead": last.bytes,
            "result": result,
            "damage": damage,
        })
    });
    Json(json!({ "running": running, "last": last }))
}

/// What is logged.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LogFilter {
    /// A level, or pairs such as `info,daybook_store=debug`.
    filter: String,
}

/// `GET /admin/log`: what is logged.
///
/// # Errors
/// If nothing is.
pub async fn log_filter() -> Result<Json<LogFilter>, Problem> {
    Ok(Json(LogFilter { filter: logging::filter()? }))
}

/// `PUT /admin/log`: logs more, or less, until the next start.
///
/// # Errors
/// If the filter is none.
pub async fn set_log_filter(
    context: Admitted,
    body: Held<LOG_FILTER_SIZE_MAX>,
) -> Result<Json<LogFilter>, Problem> {
    let LogFilter { filter } = serde_json::from_slice(&body.bytes)
        .map_err(|error| Problem::new(Kind::InvalidRequest, error.to_string()))?;
    context.is_about(&filter);
    logging::change(&filter)?;
    tracing::warn!(filter, "what is logged was changed");
    Ok(Json(LogFilter { filter }))
}

impl From<LoggingError> for Problem {
    fn from(error: LoggingError) -> Problem {
        let kind = match error {
            LoggingError::BadFilter { .. } => Kind::InvalidRequest,
            LoggingError::Twice | LoggingError::Silent => Kind::Unavailable,
        };
        Problem::new(kind, error.to_string())
    }
}

/// `POST /admin/reload`: takes up changed files of certificates and keys at once, as SIGHUP does.
///
/// # Errors
/// What is wrong with the new ones; those before stay in use.
pub async fn reload(State(context): State<Context>) -> Result<StatusCode, Problem> {
    let reloaded = context.security().reload().await;
    reloaded.map_err(|wrong| Problem::new(Kind::InvalidRequest, wrong))?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /admin/shutdown`: stops the server as SIGTERM does.
pub async fn shutdown(State(context): State<Context>) -> StatusCode {
    tracing::warn!("a client asked for a shutdown");
    context.life().ask_to_stop();
    StatusCode::ACCEPTED
}

/// What is known of scavenges, as JSON.
#[must_use]
pub fn status_json(status: &ScavengeStatus) -> Value {
    json!({
        "automatic": status.automatic,
        "running": status.running.as_ref().map(progress_json),
        "history": status.history.iter().map(finished_json).collect::<Vec<_>>(),
        "scavenges": status.passes,
        "failures": status.failures,
        "segmentsRewritten": status.segments,
        "eventsRemoved": status.events,
        "bytesGivenBack": status.bytes,
    })
}

fn progress_json(progress: &Progress) -> Value {
    json!({
        "scavengeId": progress.id,
        "started": progress.started.map(rfc3339),
        "segments": progress.segments,
        "segmentsRead": progress.read,
        "segmentsRewritten": progress.rewritten,
        "segmentsWithoutRoom": progress.without_room,
        "eventsRemoved": progress.events,
        "bytesBefore": progress.bytes_before,
        "bytesAfter": progress.bytes_after,
        "bytesRead": progress.bytes_done,
        "bytesLeft": progress.bytes_left,
        "damagedSegments": progress.damaged,
        "damage": progress.damage,
        "elapsedSeconds": progress.elapsed.as_secs_f64(),
        "remainingSeconds": progress.remaining().map(|left| left.as_secs_f64()),
        "current": progress.current,
    })
}

fn finished_json(finished: &Finished) -> Value {
    let mut value = progress_json(&finished.progress);
    let (outcome, reason) = match &finished.outcome {
        Outcome::Completed => ("completed", None),
        Outcome::Stopped => ("stopped", None),
        Outcome::Failed { reason } => ("failed", Some(reason)),
    };
    if let Some(value) = value.as_object_mut() {
        value.insert("ended".to_owned(), json!(rfc3339(finished.ended)));
        value.insert("outcome".to_owned(), json!(outcome));
        value.insert("reason".to_owned(), json!(reason));
    }
    value
}
