//! The views themselves: how far each is, and what it can be told.

use axum::extract::{Path, State};
use axum::response::Response;
use daybook_ledger::time::rfc3339;
use daybook_model::{Position, Timestamp};
use daybook_projections::Backend as _;
use daybook_projections::backend::PARKED_PAGE_MAX;
use daybook_projections::host::{Order, OrderError};
use daybook_projections::status::{BuildStatus, ProjectionStatus, State as Doing};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::answer::models_are_off;
use crate::http::ledger::schema::{self, Refusals, Rejections};
use crate::http::ledger::view::json;
use crate::http::page::{LIMIT_MAX, limit};
use crate::http::problem::{Kind, Problem};
use crate::http::query::{Params, parsed};
use crate::node::Context;
use crate::readside::ReadSide;
use crate::security::gate::Described;
use crate::security::rights::Right;

const _: () = assert!(LIMIT_MAX as usize <= PARKED_PAGE_MAX);

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new()
        .routes(Right::Monitor, routes!(list))
        .routes(Right::Monitor, routes!(get))
        .routes(Right::Operate, routes!(order))
        .routes(Right::Inspect, routes!(parked))
}

/// How far a build of a projection is.
#[derive(Debug, Serialize, ToSchema)]
pub struct BuildView {
    /// Counts up with each build of the projection.
    generation: u32,
    /// The projection's version it is built by.
    version: u32,
    /// starting, catching_up, live, outdated, paused, retrying or stopped.
    state: &'static str,
    /// Why, if it retries or has stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The event it has stopped at, because it cannot be taken in: mend the cause and resume, or
    /// skip it.
    #[serde(skip_serializing_if = "Option::is_none")]
    poisoned: Option<u64>,
    /// The position in the log that it reflects; null before the first event.
    as_of: Option<u64>,
    /// The last position of the log, as far as it knows.
    head: Option<u64>,
    /// Positions of the log that it has not come by.
    lag_events: u64,
    /// How long ago the last event it took in was committed; zero if it has come by all, null if
    /// that is not known.
    lag_seconds: Option<f64>,
    /// Events it took in since the node started.
    events: u64,
    /// Events it parked since the node started.
    parked: u64,
    /// Positions of the log that it comes by in a second, lately.
    rate: f64,
    /// How long the rest takes at that rate; null if nobody can say.
    remaining_seconds: Option<f64>,
}

impl BuildView {
    fn new(build: &BuildStatus, now: Timestamp) -> BuildView {
        let status = &build.status;
        let position = |at: Option<daybook_client::Checkpoint>| at.map(|at| at.position().0);
        BuildView {
            generation: build.generation,
            version: build.version,
            state: doing(&status.state),
            reason: match &status.state {
                Doing::Retrying { reason } | Doing::Stopped { reason } => Some(reason.clone()),
                _ => None,
            },
            poisoned: status.poisoned.map(|position| position.0),
            as_of: position(status.checkpoint),
            head: position(status.head),
            lag_events: status.lag_events(),
            lag_seconds: status.lag_time(now).map(|lag| lag.as_secs_f64()),
            events: status.events,
            parked: status.parked,
            rate: status.rate,
            remaining_seconds: status.remaining().map(|left| left.as_secs_f64()),
        }
    }
}

/// The word for what a runner does.
#[must_use]
pub fn doing(state: &Doing) -> &'static str {
    match state {
        Doing::Starting => "starting",
        Doing::CatchingUp => "catching_up",
        Doing::Live => "live",
        Doing::Outdated => "outdated",
        Doing::Paused => "paused",
        Doing::Retrying { .. } => "retrying",
        Doing::Stopped { .. } => "stopped",
    }
}

/// A projection.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Projection)]
pub struct ProjectionView {
    name: &'static str,
    /// Its version in this program.
    version: u32,
    /// Whether it was told to pause.
    paused: bool,
    /// What questions are answered from; null before anything was built.
    serving: Option<BuildView>,
    /// What is being built beside it, and takes over when it has caught up.
    building: Option<BuildView>,
    /// What happened to it last that somebody should know.
    note: Option<String>,
}

impl ProjectionView {
    fn new(status: &ProjectionStatus, now: Timestamp) -> ProjectionView {
        ProjectionView {
            name: status.name,
            version: status.version,
            paused: status.paused,
            serving: status.serving.as_ref().map(|build| BuildView::new(build, now)),
            building: status.building.as_ref().map(|build| BuildView::new(build, now)),
            note: status.note.clone(),
        }
    }
}

/// All projections.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Projections)]
pub struct ProjectionsView {
    projections: Vec<ProjectionView>,
}

/// The projections that this node keeps, and how far each is.
#[utoipa::path(
    get, path = "/v1/projections", tag = "projections",
    operation_id = "list_projections",
    responses((status = 200, description = "All of them", body = ProjectionsView), Refusals)
)]
async fn list(State(context): State<Context>) -> Result<Response, Problem> {
    let now = context.clock().now();
    let statuses = read_side(&context)?.host().statuses();
    let projections = statuses.iter().map(|status| ProjectionView::new(status, now)).collect();
    Ok(json(StatusCode::OK, &ProjectionsView { projections }))
}

/// How far a projection is.
#[utoipa::path(
    get, path = "/v1/projections/{name}", tag = "projections",
    operation_id = "get_projection", params(("name" = String, Path)),
    responses((status = 200, description = "The projection", body = ProjectionView), Refusals)
)]
async fn get(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    show(&context, &name)
}

/// Tells a projection to pause, resume, rebuild, reset or skip; answers when it does (a rebuild:
/// when it has begun).
#[utoipa::path(
    post, path = "/v1/projections/{name}/{order}", tag = "projections",
    operation_id = "order_projection",
    params(
        ("name" = String, Path),
        ("order" = String, Path, description =
            "pause: wait, also after a restart. resume: go on, also after a stop whose cause is \
             mended. rebuild: build it again beside what serves, and swap. reset: drop it and \
             build it again. skip: park the event it has stopped at, and go on"),
    ),
    responses((status = 200, description = "It does", body = ProjectionView), Rejections)
)]
async fn order(
    State(context): State<Context>,
    Path((name, order)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let order = match order.as_str() {
        "pause" => Order::Pause,
        "resume" => Order::Resume,
        "rebuild" => Order::Rebuild,
        "reset" => Order::Reset,
        "skip" => Order::Skip,
        _ => {
            let detail = "a projection can be told to pause, resume, rebuild, reset or skip";
            return Err(Problem::new(Kind::NoSuchRoute, detail));
        }
    };
    read_side(&context)?.host().order(&name, order).await?;
    show(&context, &name)
}

/// Which parked events.
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

/// An event that a projection could not take in.
#[derive(Debug, Serialize, ToSchema)]
pub struct ParkedView {
    /// Its position in the log.
    position: u64,
    stream: String,
    r#type: String,
    /// Why it could not be taken in.
    reason: String,
    /// When it was parked.
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    at: Timestamp,
}

/// Some parked events.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ParkedEvents)]
pub struct ParkedEventsView {
    parked: Vec<ParkedView>,
    /// Give it as `cursor` to go on; null at the end.
    next: Option<String>,
}

/// The events that a projection could not take in and went on without: what serves leaves them out.
#[utoipa::path(
    get, path = "/v1/projections/{name}/parked", tag = "projections",
    operation_id = "list_parked_events",
    params(("name" = String, Path), ParkedParams),
    responses((status = 200, description = "A page", body = ParkedEventsView), Refusals)
)]
async fn parked(
    State(context): State<Context>,
    Path(name): Path<String>,
    Params(params): Params<ParkedParams>,
) -> Result<Response, Problem> {
    let read_side = read_side(&context)?;
    known(read_side, &name)?;
    let rows = limit(params.limit)?;
    let found = read_side.models().parked(&name, params.cursor.map(Position), rows).await?;
    let next = found.last().filter(|_| found.len() == rows).map(|last| last.position.to_string());
    let parked = found.into_iter().map(|event| ParkedView {
        position: event.position.0,
        stream: event.stream,
        r#type: event.event_type,
        reason: event.reason,
        at: event.at,
    });
    Ok(json(StatusCode::OK, &ParkedEventsView { parked: parked.collect(), next }))
}

fn read_side(context: &Context) -> Result<&ReadSide, Problem> {
    context.read_side().ok_or_else(models_are_off)
}

fn known(read_side: &ReadSide, name: &str) -> Result<ProjectionStatus, Problem> {
    let unknown = || OrderError::Unknown { name: name.to_owned() };
    Ok(read_side.host().status(name).ok_or_else(unknown)?)
}

fn show(context: &Context, name: &str) -> Result<Response, Problem> {
    let status = known(read_side(context)?, name)?;
    Ok(json(StatusCode::OK, &ProjectionView::new(&status, context.clock().now())))
}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Problem {
        let detail = error.to_string();
        match error {
            OrderError::Unknown { .. } => Problem::new(Kind::ProjectionNotFound, detail),
            OrderError::Refused { .. } => Problem::new(Kind::ProjectionState, detail),
            OrderError::Store(error) => error.into(),
            OrderError::Stopping => Problem::new(Kind::Unavailable, detail),
        }
    }
}
