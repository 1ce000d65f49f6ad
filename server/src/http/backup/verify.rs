//! `/admin/backup/verify`: has a backup read again in the repository that the server archives to,
//! object by object.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::status::archive;
use crate::backup::kept::{Finished, NotBegun, Outcome, Progress};
use crate::http::body::Held;
use crate::http::event::rfc3339;
use crate::http::ledger::schema::{ProblemShape, Refusals, Time};
use crate::http::problem::{Kind, Problem};
use crate::http::shapes::NotAsked;
use crate::node::{Admitted, Context};
use crate::security::gate::Described;
use crate::security::rights::Right;

/// Bytes of a request: a name, of a hundred or so, many times over.
const REQUEST_SIZE_MAX: usize = 4 * 1024;

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new().routes(Right::Monitor, routes!(status)).routes(Right::Operate, routes!(start))
}

/// Which backup.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(as = WantedBackup)]
pub struct Wanted {
    /// Its name; the beginning is enough: of several it is the newest. The newest of all if
    /// nothing is said.
    #[schema(example = "archive/")]
    backup: Option<String>,
}

/// What became of an order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BackupVerificationOrdered)]
pub struct Ordered {
    /// started
    result: &'static str,
    /// Of which backup.
    backup: String,
}

/// Begins to read every object of a backup, and to compare it with what was written. One backup is
/// verified at a time, at the pace of archiving (`--archive-rate`), up to 100 MiB a second.
#[utoipa::path(
    post, path = "/admin/backup/verify", tag = "backup",
    operation_id = "verify_backup", request_body = Option<Wanted>,
    responses(
        (status = 202, description = "It begins", body = Ordered),
        (status = 409, description = "A backup is being verified already: `backup` names it",
         body = ProblemShape, content_type = "application/problem+json"),
        NotAsked,
    )
)]
async fn start(
    context: Admitted,
    body: Held<REQUEST_SIZE_MAX>,
) -> Result<(StatusCode, Json<Ordered>), Problem> {
    let Wanted { backup } = if body.bytes.is_empty() {
        Wanted::default()
    } else {
        serde_json::from_slice(&body.bytes).map_err(|error| Problem::field("backup", error))?
    };
    if let Some(backup) = &backup {
        context.is_about(backup);
    }
    let name = archive(&context)?.kept().verify(backup).await?;
    context.is_about(&name.key);
    Ok((StatusCode::ACCEPTED, Json(Ordered { result: "started", backup: name.key })))
}

/// What is known of verifications of backups since the server was started.
#[derive(Debug, Serialize, ToSchema)]
pub struct BackupVerifications {
    /// The one that is under way; null if none is.
    running: Option<BackupVerificationProgress>,
    /// The last one that ended; null if none did.
    last: Option<VerifiedBackup>,
}

/// How far a verification of a backup is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupVerificationProgress {
    /// The backup.
    backup: String,
    #[schema(value_type = Time)]
    started: String,
    /// Bytes of objects read.
    bytes_read: u64,
    /// Bytes in all; 0 until the manifest was read.
    bytes: u64,
}

/// What a verification of a backup found.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerifiedBackup {
    /// The backup.
    backup: String,
    #[schema(value_type = Time)]
    started: String,
    #[schema(value_type = Time)]
    ended: String,
    /// sound, damaged, stopped, or failed: the repository did not answer.
    result: &'static str,
    /// Why it failed.
    reason: Option<String>,
    /// What was compared; null if it was stopped or failed.
    found: Option<Compared>,
}

/// What was compared, and what is wrong.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ComparedBackup)]
pub struct Compared {
    /// Objects it is made of.
    objects: usize,
    /// Bytes of those.
    bytes_read: u64,
    /// What was checked, in words.
    checked: &'static str,
    /// What was not, and what does it.
    not_checked: &'static str,
    /// What is wrong, each naming its object; the first 20.
    problems: Vec<String>,
    /// How much more is wrong.
    more_problems: usize,
}

/// How far a verification of a backup is, and what the last one found.
#[utoipa::path(
    get, path = "/admin/backup/verify", tag = "backup",
    operation_id = "get_backup_verification",
    responses((status = 200, description = "It", body = BackupVerifications), Refusals)
)]
async fn status(State(context): State<Context>) -> Result<Json<BackupVerifications>, Problem> {
    let status = archive(&context)?.kept().verification();
    let running = status.running.map(BackupVerificationProgress::new);
    Ok(Json(BackupVerifications { running, last: status.last.map(VerifiedBackup::new) }))
}

impl BackupVerificationProgress {
    fn new(running: Progress) -> BackupVerificationProgress {
        BackupVerificationProgress {
            backup: running.backup,
            started: rfc3339(running.started),
            bytes_read: running.done,
            bytes: running.total,
        }
    }
}

impl VerifiedBackup {
    fn new(last: Finished) -> VerifiedBackup {
        let (result, reason, found) = match last.outcome {
            Outcome::Checked { findings, more } => {
                let result = if findings.problems.is_empty() { "sound" } else { "damaged" };
                let found = Compared {
                    objects: findings.objects,
                    bytes_read: findings.bytes,
                    checked: findings.checked(),
                    not_checked: findings.not_checked(),
                    problems: findings.problems,
                    more_problems: more,
                };
                (result, None, Some(found))
            }
            Outcome::Stopped => ("stopped", None, None),
            Outcome::Failed(reason) => ("failed", Some(reason), None),
        };
        VerifiedBackup {
            backup: last.backup,
            started: rfc3339(last.started),
            ended: rfc3339(last.ended),
            result,
            reason,
            found,
        }
    }
}

impl From<NotBegun> for Problem {
    fn from(refused: NotBegun) -> Problem {
        let detail = refused.to_string();
        match refused {
            NotBegun::InProgress { backup } => {
                Problem::new(Kind::VerificationRunning, detail).with("backup", backup)
            }
            NotBegun::Stopping => Problem::new(Kind::Unavailable, detail),
            NotBegun::NoSuchBackup(_) => Problem::new(Kind::BackupNotFound, detail),
            NotBegun::Unanswered(unanswered) => unanswered.into(),
        }
    }
}
