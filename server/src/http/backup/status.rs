//! `/admin/backup/status`: how far archiving is, and how the last backup went. Whoever takes one
//! over the network tells the server at its end, because only they know that it is whole.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::super::body::Held;
use super::super::event::rfc3339;
use super::super::ledger::schema::{Refusals, Time};
use super::super::problem::{Kind, Problem};
use crate::backup::{Archiver, Status};
use crate::node::Context;
use crate::security::gate::Described;
use crate::security::rights::Right;

/// Bytes of a report.
const REPORT_SIZE_MAX: usize = 1024;

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new()
        .routes(Right::Monitor, routes!(show))
        .routes(Right::Operate, routes!(report))
        .routes(Right::Operate, routes!(start))
}

/// How a backup went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = BackupOutcome)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is whole, and was read back.
    Complete,
    /// It is not.
    BrokenOff,
}

/// What is told of it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BackupReport)]
pub struct Report {
    /// How it went.
    pub outcome: Outcome,
}

/// What is known of backups since the server was started.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupStatus {
    /// When the last whole one was taken; null if none was.
    #[schema(value_type = Option<Time>)]
    last_backup: Option<String>,
    /// Every position below is durable.
    committed: u64,
    /// How far archiving is; null if nothing is archived.
    archive: Option<ArchiveView>,
}

/// How far archiving is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Archive)]
pub struct ArchiveView {
    /// A directory, or an object store's URL.
    to: String,
    /// Time between two rounds: what a lost machine costs, at most.
    every_seconds: f64,
    /// Everything below is archived; null if nothing was since the start.
    position: Option<u64>,
    /// When the last round began that brought all there was.
    #[schema(value_type = Option<Time>)]
    last_success: Option<String>,
    /// Rounds that did.
    rounds: u64,
    /// Rounds that failed.
    failures: u64,
    /// Why the last one failed; null if it did not.
    error: Option<String>,
    /// Objects written.
    objects: u64,
    /// Bytes of segments in them.
    bytes: u64,
}

/// How far archiving is, and when the last whole backup was taken.
#[utoipa::path(
    get, path = "/admin/backup/status", tag = "backup",
    operation_id = "get_backup_status",
    responses((status = 200, description = "It", body = BackupStatus))
)]
async fn show(State(context): State<Context>) -> Json<BackupStatus> {
    let last = context.metrics().safeguards.last_backup();
    let archive = context.archive().map(|archive| ArchiveView::new(&archive.status()));
    let committed = context.works().committed().0;
    Json(BackupStatus { last_backup: last.map(rfc3339), committed, archive })
}

/// What became of an order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BackupOrdered)]
pub struct Ordered {
    /// started
    result: &'static str,
    /// Where to.
    to: String,
    /// Every position below is in it when it is done: when `position` of the archive's status has
    /// come as far.
    until: u64,
}

/// Backs up now what the archive does not have yet, without waiting for the next round.
#[utoipa::path(
    post, path = "/admin/backup", tag = "backup",
    operation_id = "start_backup",
    responses((status = 202, description = "It begins", body = Ordered), Refusals)
)]
async fn start(State(context): State<Context>) -> Result<(StatusCode, Json<Ordered>), Problem> {
    let archive = archive(&context)?;
    let until = context.works().committed().0;
    archive.begin();
    let to = archive.status().location;
    Ok((StatusCode::ACCEPTED, Json(Ordered { result: "started", to, until })))
}

/// What archives the log, if anything does.
pub(super) fn archive(context: &Context) -> Result<&Archiver, Problem> {
    context.archive().ok_or_else(|| {
        let detail = "this server archives nowhere; start it with --archive URL, or take a backup \
                      with `daybook backup --to`";
        Problem::new(Kind::ArchiveOff, detail)
    })
}

/// Takes down how a backup went that was taken over the network: only who takes it knows.
#[utoipa::path(
    post, path = "/admin/backup/status", tag = "backup",
    operation_id = "report_backup", request_body = Report,
    responses((status = 204, description = "It is taken down"), Refusals)
)]
async fn report(
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

impl ArchiveView {
    fn new(status: &Status) -> ArchiveView {
        ArchiveView {
            to: status.location.clone(),
            every_seconds: status.every.as_secs_f64(),
            position: status.position.map(|position| position.0),
            last_success: status.last_success.map(rfc3339),
            rounds: status.rounds,
            failures: status.failures,
            error: status.error.clone(),
            objects: status.objects,
            bytes: status.bytes,
        }
    }
}
