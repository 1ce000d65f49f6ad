//! `/admin/scavenge`: begin one, stop it, and see what became of the last ones.

use axum::Json;
use axum::extract::{Path, State};
use daybook_store::scavenge::{Finished, Outcome, Progress, ScavengeStatus, Start};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::http::event::rfc3339;
use crate::http::ledger::schema::{Refusals, Time};
use crate::http::problem::{Kind, Problem};
use crate::node::Context;
use crate::security::gate::Described;
use crate::security::rights::Right;

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new()
        .routes(Right::Monitor, routes!(status))
        .routes(Right::Operate, routes!(start))
        .routes(Right::Rescue, routes!(stop))
}

/// What became of an order.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ScavengeOrdered)]
pub struct Ordered {
    scavenge_id: Uuid,
    /// started, inProgress or stopped.
    result: &'static str,
}

/// Begins a scavenge of all that goes, or names the one that is at work.
#[utoipa::path(
    post, path = "/admin/scavenge", tag = "admin",
    operation_id = "start_scavenge",
    responses((status = 200, description = "One is at work", body = Ordered))
)]
async fn start(State(context): State<Context>) -> Json<Ordered> {
    let (scavenge_id, result) = match context.works().scavenge().start() {
        Start::Started(id) => (id, "started"),
        Start::InProgress(id) => (id, "inProgress"),
    };
    Json(Ordered { scavenge_id, result })
}

/// The scavenge that is at work, and the last ones.
#[utoipa::path(
    get, path = "/admin/scavenge", tag = "admin",
    operation_id = "list_scavenges",
    responses((status = 200, description = "They", body = Scavenges))
)]
async fn status(State(context): State<Context>) -> Json<Scavenges> {
    Json(Scavenges::new(&context.works().scavenge().status()))
}

/// Stops a scavenge; what it has done stays.
#[utoipa::path(
    delete, path = "/admin/scavenge/{id}", tag = "admin",
    operation_id = "stop_scavenge",
    params(("id" = String, Path, description = "Its id; `current` is the one that is at work")),
    responses((status = 200, description = "It stops", body = Ordered), Refusals)
)]
async fn stop(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<Ordered>, Problem> {
    let scavenge = context.works().scavenge();
    let running = scavenge.status().running.map(|running| running.id);
    let id = if id == "current" { running } else { Uuid::try_parse(&id).ok() };
    match id {
        Some(id) if scavenge.stop(id).is_ok() => {
            Ok(Json(Ordered { scavenge_id: id, result: "stopped" }))
        }
        _ => Err(Problem::new(Kind::ScavengeNotFound, "no such scavenge is running".to_owned())),
    }
}

/// What is known of scavenges since the server was started.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scavenges {
    /// Whether they begin by themselves.
    automatic: bool,
    /// The one that is at work; null if none is.
    running: Option<ScavengeProgress>,
    /// The last ones that ended, the newest first.
    history: Vec<FinishedScavenge>,
    /// How many ended.
    scavenges: u64,
    /// How many of them failed.
    failures: u64,
    segments_rewritten: u64,
    events_removed: u64,
    bytes_given_back: u64,
}

/// How far a scavenge is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScavengeProgress {
    scavenge_id: Uuid,
    #[schema(value_type = Option<Time>)]
    started: Option<String>,
    /// Segments that may hold something that goes.
    segments: u64,
    segments_read: u64,
    segments_rewritten: u64,
    /// Segments that were not, because the disk has no room for both generations.
    segments_without_room: u64,
    events_removed: u64,
    /// Bytes of the rewritten segments before.
    bytes_before: u64,
    /// Bytes of the rewritten segments after.
    bytes_after: u64,
    bytes_read: u64,
    bytes_left: u64,
    /// What was left as it is because its bytes are not what they should be.
    damaged_segments: u64,
    /// What is wrong with the first of that.
    damage: Option<String>,
    elapsed_seconds: f64,
    /// null if nobody can say.
    remaining_seconds: Option<f64>,
    /// The segment at hand.
    current: Option<String>,
}

/// A scavenge that ended.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FinishedScavenge {
    #[serde(flatten)]
    progress: ScavengeProgress,
    #[schema(value_type = Time)]
    ended: String,
    /// completed, stopped or failed.
    outcome: &'static str,
    /// Why it failed.
    reason: Option<String>,
}

impl Scavenges {
    fn new(status: &ScavengeStatus) -> Scavenges {
        Scavenges {
            automatic: status.automatic,
            running: status.running.as_ref().map(ScavengeProgress::new),
            history: status.history.iter().map(FinishedScavenge::new).collect(),
            scavenges: status.passes,
            failures: status.failures,
            segments_rewritten: status.segments,
            events_removed: status.events,
            bytes_given_back: status.bytes,
        }
    }
}

impl ScavengeProgress {
    fn new(progress: &Progress) -> ScavengeProgress {
        ScavengeProgress {
            scavenge_id: progress.id,
            started: progress.started.map(rfc3339),
            segments: progress.segments,
            segments_read: progress.read,
            segments_rewritten: progress.rewritten,
            segments_without_room: progress.without_room,
            events_removed: progress.events,
            bytes_before: progress.bytes_before,
            bytes_after: progress.bytes_after,
            bytes_read: progress.bytes_done,
            bytes_left: progress.bytes_left,
            damaged_segments: progress.damaged,
            damage: progress.damage.clone(),
            elapsed_seconds: progress.elapsed.as_secs_f64(),
            remaining_seconds: progress.remaining().map(|left| left.as_secs_f64()),
            current: progress.current.clone(),
        }
    }
}

impl FinishedScavenge {
    fn new(finished: &Finished) -> FinishedScavenge {
        let (outcome, reason) = match &finished.outcome {
            Outcome::Completed => ("completed", None),
            Outcome::Stopped => ("stopped", None),
            Outcome::Failed { reason } => ("failed", Some(reason.clone())),
        };
        let progress = ScavengeProgress::new(&finished.progress);
        FinishedScavenge { progress, ended: rfc3339(finished.ended), outcome, reason }
    }
}

/// What is known of scavenges, as JSON: the same over HTTP and from the command line.
#[must_use]
pub fn status_json(status: &ScavengeStatus) -> Value {
    serde_json::to_value(Scavenges::new(status)).expect("numbers and texts")
}
