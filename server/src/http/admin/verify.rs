//! `/admin/verify`: has the running log read again, byte for byte.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::http::event::rfc3339;
use crate::http::ledger::schema::Time;
use crate::node::Context;
use crate::security::gate::Described;
use crate::security::rights::Right;
use crate::verification::{Begun, Found};

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new().routes(Right::Monitor, routes!(status)).routes(Right::Operate, routes!(start))
}

/// What became of an order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VerificationOrdered)]
pub struct Ordered {
    /// started, or inProgress.
    result: &'static str,
}

/// Begins to read the log again from its beginning, if nobody does so already.
#[utoipa::path(
    post, path = "/admin/verify", tag = "admin",
    operation_id = "start_verification",
    responses(
        (status = 202, description = "It begins", body = Ordered),
        (status = 200, description = "It is being read already", body = Ordered),
    )
)]
async fn start(State(context): State<Context>) -> (StatusCode, Json<Ordered>) {
    let (status, result) = match context.verification().start() {
        Begun::Started => (StatusCode::ACCEPTED, "started"),
        Begun::InProgress | Begun::Stopping => (StatusCode::OK, "inProgress"),
    };
    (status, Json(Ordered { result }))
}

/// What is known of verifications since the server was started.
#[derive(Debug, Serialize, ToSchema)]
pub struct Verifications {
    /// The one that is under way; null if none is.
    running: Option<VerificationProgress>,
    /// The last one that ended; null if none did.
    last: Option<Verified>,
}

/// How far a verification is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationProgress {
    #[schema(value_type = Time)]
    started: String,
    /// The segment at hand.
    file: String,
    bytes_read: u64,
    /// Bytes in all.
    bytes: u64,
}

/// What a verification found.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    #[schema(value_type = Time)]
    started: String,
    #[schema(value_type = Time)]
    ended: String,
    /// How far the log was.
    committed: u64,
    bytes_read: u64,
    /// sound, damaged or stopped.
    result: &'static str,
    /// What is damaged: file, offset and position.
    damage: Option<String>,
}

/// How far a verification is, and what the last one found.
#[utoipa::path(
    get, path = "/admin/verify", tag = "admin",
    operation_id = "get_verification",
    responses((status = 200, description = "It", body = Verifications))
)]
async fn status(State(context): State<Context>) -> Json<Verifications> {
    let status = context.verification().status();
    let running = status.running.map(|running| VerificationProgress {
        started: rfc3339(running.started),
        file: running.file,
        bytes_read: running.done,
        bytes: running.total,
    });
    let last = status.last.map(|last| {
        let (result, damage) = match last.found {
            Found::Sound => ("sound", None),
            Found::Damaged(what) => ("damaged", Some(what)),
            Found::Stopped => ("stopped", None),
        };
        Verified {
            started: rfc3339(last.started),
            ended: rfc3339(last.ended),
            committed: last.committed.0,
            bytes_read: last.bytes,
            result,
            damage,
        }
    });
    Json(Verifications { running, last })
}
