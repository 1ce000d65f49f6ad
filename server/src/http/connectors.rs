//! Connectors: how far each is, and what it can be told.
//!
//! ```text
//!   /v1/connectors                                      GET
//!   /v1/connectors/{name}                               GET
//!   /v1/connectors/{name}/{pause|resume}                POST
//!   /v1/connectors/{name}/parked                        GET   page by page
//!   /v1/connectors/{name}/parked/retry                  POST  all of them
//!   /v1/connectors/{name}/parked/{position}/{retry|discard}   POST
//! ```
//!
//! INVARIANT: knows no store: the routes are those of a node and of connectors that run alone.

use axum::extract::{FromRef, FromRequestParts, Path};
use axum::response::Response;
use daybook_model::Position;
use daybook_projections::connect::ParkedMessage;
use daybook_projections::connect::control::{
    ConnectorStatus, Control, ControlError, DISCARD_REASON_SIZE_MAX, PARKED_PAGE_MAX,
};
use daybook_projections::{ConsumeError, State as Doing};
use http::StatusCode;
use http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;
use uuid::Uuid;

use super::body::Held;
use super::ledger::schema::{Refusals, Rejections};
use super::ledger::view::json;
use super::page::{LIMIT_MAX, limit};
use super::problem::{Kind, Problem};
use super::query::{Params, parsed};
use super::readside::projections::doing;
use crate::connectors::{OwnStreams, Running};
use crate::node::Context;
use crate::security::gate::Described;
use crate::security::rights::Right;

const _: () = assert!(LIMIT_MAX as usize <= PARKED_PAGE_MAX);

/// Bytes of a body here: a reason, and its JSON.
const BODY_SIZE_MAX: usize = 4 * DISCARD_REASON_SIZE_MAX;

/// The connectors that run here, if any. What a state must have for these routes.
#[derive(Clone)]
pub struct Known(pub Option<Running>);

/// The routes of this file.
pub fn routes<S>() -> Described<S>
where
    S: Clone + Send + Sync + 'static,
    Known: FromRef<S>,
{
    Described::new()
        .routes(Right::Monitor, routes!(list))
        .routes(Right::Monitor, routes!(get))
        .routes(Right::Operate, routes!(order))
        .routes(Right::Inspect, routes!(parked))
        .routes(Right::Operate, routes!(retry_all))
        .routes(Right::Operate, routes!(retry))
        .routes(Right::Operate, routes!(discard))
}

impl<S: Send + Sync> FromRequestParts<S> for Known
where
    Known: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, state: &S) -> Result<Known, Problem> {
        Ok(Known::from_ref(state))
    }
}

impl FromRef<Context> for Known {
    fn from_ref(context: &Context) -> Known {
        Known(context.connectors().cloned())
    }
}

impl Known {
    fn get(&self, name: &str) -> Result<&Control<OwnStreams>, Problem> {
        let found = self.0.as_ref().and_then(|running| running.get(name));
        found.ok_or_else(|| {
            let detail = format!("no connector '{name}' runs here; GET /v1/connectors lists them");
            Problem::new(Kind::ConnectorNotFound, detail)
        })
    }
}

/// A connector.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Connector)]
pub struct ConnectorView {
    name: String,
    /// rabbitmq, webhook or file.
    kind: &'static str,
    /// starting, catching_up, live, paused, retrying or stopped.
    state: &'static str,
    /// Why, if it retries or has stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The last position in the log that it is done with; null before the first.
    position: Option<u64>,
    /// Positions that it is not done with.
    lag_events: u64,
    /// How long ago the last event it is done with was committed; zero if it is done with all, null
    /// if that is not known.
    lag_seconds: Option<f64>,
    /// Messages confirmed since the process was started.
    delivered: u64,
    /// Messages sent again since the process was started.
    retries: u64,
    /// Messages that are parked now.
    parked: u64,
    /// closed, open, half_open, forced_open or forced_closed; null if it needs no breaker.
    breaker: Option<&'static str>,
    /// Why a message was not taken, the last time.
    last_error: Option<String>,
}

impl From<ConnectorStatus> for ConnectorView {
    fn from(status: ConnectorStatus) -> ConnectorView {
        ConnectorView {
            name: status.name,
            kind: status.kind,
            state: doing(&status.state),
            reason: match status.state {
                Doing::Retrying { reason } | Doing::Stopped { reason } => Some(reason),
                _ => None,
            },
            position: status.position,
            lag_events: status.lag_events,
            lag_seconds: status.lag_seconds,
            delivered: status.delivered,
            retries: status.retries,
            parked: status.parked,
            breaker: status.breaker,
            last_error: status.last_error,
        }
    }
}

/// All connectors.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Connectors)]
pub struct ConnectorsView {
    connectors: Vec<ConnectorView>,
}

/// The connectors that run here, and how far each is.
#[utoipa::path(
    get, path = "/v1/connectors", tag = "connectors",
    operation_id = "list_connectors",
    responses((status = 200, description = "All of them", body = ConnectorsView), Refusals)
)]
async fn list(known: Known) -> Response {
    let status = known.0.map(|running| running.status()).unwrap_or_default();
    let connectors = status.into_iter().map(ConnectorView::from).collect();
    json(StatusCode::OK, &ConnectorsView { connectors })
}

/// How far a connector is.
#[utoipa::path(
    get, path = "/v1/connectors/{name}", tag = "connectors",
    operation_id = "get_connector", params(("name" = String, Path)),
    responses((status = 200, description = "The connector", body = ConnectorView), Refusals)
)]
async fn get(known: Known, Path(name): Path<String>) -> Result<Response, Problem> {
    Ok(show(known.get(&name)?))
}

/// Tells a connector to pause or to resume.
#[utoipa::path(
    post, path = "/v1/connectors/{name}/{order}", tag = "connectors",
    operation_id = "order_connector",
    params(
        ("name" = String, Path),
        ("order" = String, Path, description =
            "pause: wait, also after a restart. resume: go on, also after a stop whose cause is \
             mended"),
    ),
    responses((status = 200, description = "It does", body = ConnectorView), Rejections)
)]
async fn order(
    known: Known,
    Path((name, order)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let connector = known.get(&name)?;
    match order.as_str() {
        "pause" => connector.pause().await?,
        "resume" => connector.resume().await?,
        _ => {
            let detail = "a connector can be told to pause or to resume";
            return Err(Problem::new(Kind::NoSuchRoute, detail));
        }
    }
    Ok(show(connector))
}

/// Which parked messages.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ParkedParams {
    /// The `next` of the page before.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>)]
    cursor: Option<u64>,
    /// How many, up to 1000; 100 if nothing is said.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    limit: Option<u64>,
}

/// A message that was not delivered.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ParkedMessage)]
pub struct ParkedView {
    /// The event's position in the log; names the message.
    position: u64,
    stream: String,
    revision: u64,
    /// The event's id, which is the message's.
    id: Uuid,
    r#type: String,
    /// Why it was not delivered, the last time.
    error: String,
    /// How often it was tried.
    attempts: u32,
    /// When it was parked.
    at: String,
}

impl From<ParkedMessage> for ParkedView {
    fn from(message: ParkedMessage) -> ParkedView {
        let ParkedMessage { position, stream, revision, id, event_type, error, attempts, at } =
            message;
        ParkedView { position, stream, revision, id, r#type: event_type, error, attempts, at }
    }
}

/// Some parked messages.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ParkedMessages)]
pub struct ParkedMessagesView {
    parked: Vec<ParkedView>,
    /// Give it as `cursor` to go on; null at the end.
    next: Option<String>,
}

/// The messages that a connector could not deliver and went on without.
#[utoipa::path(
    get, path = "/v1/connectors/{name}/parked", tag = "connectors",
    operation_id = "list_parked_messages",
    params(("name" = String, Path), ParkedParams),
    responses((status = 200, description = "A page", body = ParkedMessagesView), Refusals)
)]
async fn parked(
    known: Known,
    Path(name): Path<String>,
    Params(params): Params<ParkedParams>,
) -> Result<Response, Problem> {
    let rows = limit(params.limit)?;
    let found = known.get(&name)?.parked(params.cursor.map(Position), rows).await;
    let next = found.last().filter(|_| found.len() == rows).map(|last| last.position.to_string());
    let parked = found.into_iter().map(ParkedView::from).collect();
    Ok(json(StatusCode::OK, &ParkedMessagesView { parked, next }))
}

/// What became of all parked messages.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RetriedMessages)]
pub struct RetriedView {
    /// Messages that were delivered.
    delivered: u64,
    /// Messages that are still parked.
    parked: u64,
}

/// Sends all parked messages again, in order; those that are not taken stay parked.
#[utoipa::path(
    post, path = "/v1/connectors/{name}/parked/retry", tag = "connectors",
    operation_id = "retry_parked_messages", params(("name" = String, Path)),
    responses((status = 200, description = "They were tried", body = RetriedView), Rejections)
)]
async fn retry_all(known: Known, Path(name): Path<String>) -> Result<Response, Problem> {
    let retried = known.get(&name)?.retry_all().await?;
    let view = RetriedView { delivered: retried.delivered, parked: retried.parked };
    Ok(json(StatusCode::OK, &view))
}

/// Sends a parked message again.
#[utoipa::path(
    post, path = "/v1/connectors/{name}/parked/{position}/retry", tag = "connectors",
    operation_id = "retry_parked_message",
    params(("name" = String, Path), ("position" = u64, Path)),
    responses((status = 200, description = "It was delivered", body = ConnectorView), Rejections)
)]
async fn retry(
    known: Known,
    Path((name, position)): Path<(String, u64)>,
) -> Result<Response, Problem> {
    let connector = known.get(&name)?;
    connector.retry(Position(position)).await?;
    Ok(show(connector))
}

/// Why a message is given up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = DiscardRequest)]
pub struct DiscardRequest {
    /// Kept in the log, beside who is asked about it later.
    reason: String,
}

/// Gives a parked message up, for a reason that is kept.
#[utoipa::path(
    post, path = "/v1/connectors/{name}/parked/{position}/discard", tag = "connectors",
    operation_id = "discard_parked_message",
    params(("name" = String, Path), ("position" = u64, Path)),
    request_body = DiscardRequest,
    responses((status = 200, description = "It is given up", body = ConnectorView), Rejections)
)]
async fn discard(
    known: Known,
    Path((name, position)): Path<(String, u64)>,
    body: Held<BODY_SIZE_MAX>,
) -> Result<Response, Problem> {
    let connector = known.get(&name)?;
    let request: DiscardRequest = serde_json::from_slice(&body.bytes)
        .map_err(|error| Problem::field("reason", format!("give {{\"reason\": …}}: {error}")))?;
    connector.discard(Position(position), &request.reason).await?;
    Ok(show(connector))
}

fn show(connector: &Control<OwnStreams>) -> Response {
    json(StatusCode::OK, &ConnectorView::from(connector.status()))
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Problem {
        let detail = error.to_string();
        match error {
            ControlError::NotParked { position, .. } => {
                Problem::new(Kind::NotParked, detail).with("position", position.0)
            }
            ControlError::Gone { position, .. } | ControlError::NotTaken { position, .. } => {
                Problem::new(Kind::NotDelivered, detail).with("position", position.0)
            }
            ControlError::BadReason => Problem::field("reason", detail),
            ControlError::State(ConsumeError::Interrupted { .. }) => {
                Problem::new(Kind::Unavailable, detail)
            }
            ControlError::State(_) => Problem::new(Kind::ConnectorState, detail),
        }
    }
}
