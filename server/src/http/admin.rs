//! What an operator does to a running node.
//!
//! ```text
//!   /admin/scavenge [/{id}]              GET, POST, DELETE      scavenge
//!   /admin/verify                        GET, POST              verify
//!   /admin/config                        GET                    settings
//!   /admin/streams                       GET    page by page    streams
//!   /admin/subscriptions  /admin/projections  GET               consumers: with their lag
//!   /admin/sagas                         GET    page by page    sagas
//!   /admin/log                           GET, PUT               what is logged
//!   /admin/reload  /admin/shutdown       POST
//!   /admin/clock/accept                  POST
//! ```

pub mod consumers;
pub mod sagas;
pub mod scavenge;
pub mod settings;
pub mod streams;
pub mod verify;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::body::Held;
use super::ledger::schema::Refusals;
use super::problem::{Kind, Problem};
use crate::node::{Admitted, Context};
use crate::security::gate::Described;
use crate::security::rights::Right;
use crate::telemetry::logging::{self, LoggingError};
pub use scavenge::status_json;

/// Bytes of the body that names what is logged: a pair for each crate of ours, many times over.
const LOG_FILTER_SIZE_MAX: usize = 16 * 1024;

/// The routes of this room.
pub fn routes() -> Described<Context> {
    Described::new()
        .merge(scavenge::routes())
        .merge(verify::routes())
        .merge(settings::routes())
        .merge(streams::routes())
        .merge(consumers::routes())
        .merge(sagas::routes())
        .routes(Right::Inspect, routes!(log_filter))
        .routes(Right::Operate, routes!(set_log_filter))
        .routes(Right::Rescue, routes!(accept_clock))
        .routes(Right::Rescue, routes!(reload))
        .routes(Right::Rescue, routes!(shutdown))
}

/// Accepts the clock after it leapt, so that appends resume.
#[utoipa::path(
    post, path = "/admin/clock/accept", tag = "admin",
    operation_id = "accept_clock",
    responses((status = 204, description = "It is accepted"))
)]
async fn accept_clock(State(context): State<Context>) -> StatusCode {
    context.works().accept_clock();
    tracing::warn!("the clock was accepted by an operator");
    StatusCode::NO_CONTENT
}

/// What is logged.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogFilter {
    /// A level, or pairs such as `info,daybook_store=debug`.
    #[schema(example = "info,daybook_store=debug")]
    filter: String,
}

/// What is logged.
#[utoipa::path(
    get, path = "/admin/log", tag = "admin",
    operation_id = "get_log_filter",
    responses((status = 200, description = "It", body = LogFilter), Refusals)
)]
async fn log_filter() -> Result<Json<LogFilter>, Problem> {
    Ok(Json(LogFilter { filter: logging::filter()? }))
}

/// Logs more, or less, until the next start.
#[utoipa::path(
    put, path = "/admin/log", tag = "admin",
    operation_id = "set_log_filter", request_body = LogFilter,
    responses((status = 200, description = "It is so now", body = LogFilter), Refusals)
)]
async fn set_log_filter(
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

/// Takes up changed files of certificates and keys at once, as SIGHUP does. If one of them cannot
/// be used the answer says what is wrong with it, and those before stay in use.
#[utoipa::path(
    post, path = "/admin/reload", tag = "admin",
    operation_id = "reload_certificates",
    responses((status = 204, description = "They are in use"), Refusals)
)]
async fn reload(State(context): State<Context>) -> Result<StatusCode, Problem> {
    let reloaded = context.security().reload().await;
    reloaded.map_err(|wrong| Problem::new(Kind::InvalidRequest, wrong))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Stops the server as SIGTERM does.
#[utoipa::path(
    post, path = "/admin/shutdown", tag = "admin",
    operation_id = "shut_down",
    responses((status = 202, description = "It stops"))
)]
async fn shutdown(State(context): State<Context>) -> StatusCode {
    tracing::warn!("a client asked for a shutdown");
    context.life().ask_to_stop();
    StatusCode::ACCEPTED
}
