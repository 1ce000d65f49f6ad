//! The event types of the log.

use std::ops::Bound;

use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::page::limit;
use super::problem::Problem;
use super::query::{Params, parsed};
use super::shapes::NotRead;
use crate::node::{Admitted, Context};
use crate::security::gate::Described;
use crate::security::rights::Right;

/// The routes of this file. Who may read the log, its list says: see `node::door`.
pub fn routes() -> Described<Context> {
    Described::new().routes(Right::Known, routes!(list))
}

/// The parameters of a list of event types.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// The `next` of the page before.
    #[serde(default)]
    after: String,
    /// How many, up to 1000; 100 if nothing is said.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    limit: Option<u64>,
}

/// An event type.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventType)]
pub struct Counted {
    /// What events of it say as their type.
    name: String,
    /// How many events have been of it, those that a scavenge removed with them.
    events: u64,
}

/// A part of the list of event types.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EventTypes)]
pub struct Listed {
    /// By name, in ascending order.
    types: Vec<Counted>,
    /// Give it as `after` to go on; null at the end.
    next: Option<String>,
    /// Whether the log may have types that are on no page: more than 1,000 are not looked for.
    cut: bool,
}

/// The types of all events in the log, each with how many events have been of it.
#[utoipa::path(
    get, path = "/v1/event-types", tag = "log",
    operation_id = "list_event_types", params(ListParams),
    responses((status = 200, description = "A page", body = Listed), NotRead)
)]
async fn list(
    context: Admitted,
    Params(params): Params<ListParams>,
) -> Result<Json<Listed>, Problem> {
    let limit = limit(params.limit)?;
    let found = context.door().event_types().await?;
    let after = (Bound::Excluded(params.after), Bound::Unbounded);
    let mut rest = found.counts.range::<String, _>(after);
    let types: Vec<Counted> = rest
        .by_ref()
        .take(limit)
        .map(|(name, events)| Counted { name: name.clone(), events: *events })
        .collect();
    let next = types.last().filter(|_| rest.next().is_some()).map(|last| last.name.clone());
    Ok(Json(Listed { types, next, cut: found.is_cut }))
}
