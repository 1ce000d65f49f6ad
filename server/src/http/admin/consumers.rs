//! `/admin/subscriptions` and `/admin/projections`: who follows the log, and how far behind.

use axum::Json;
use axum::extract::State;
use daybook_projections::Value;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use crate::http::ledger::schema::Refusals;
use crate::http::page::limit;
use crate::http::problem::Problem;
use crate::http::query::{Params, parsed};
use crate::http::readside::cursor;
use crate::node::Context;
use crate::persistent::info::GroupInfo;
use crate::persistent::key::{GroupKey, Source};
use crate::scripted::figures::Figures;
use crate::scripted::spec::Spec;
use crate::security::gate::Described;
use crate::security::rights::Right;

/// What cursors of groups are good for.
const GROUPS: &str = "groups";
/// What cursors of projections are good for.
const PROJECTIONS: &str = "projections";

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new()
        .routes(Right::Inspect, routes!(subscriptions))
        .routes(Right::Monitor, routes!(projections))
}

/// Which page of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageParams {
    /// The `next` of the page before.
    cursor: Option<String>,
    /// How many, up to 1000; 100 if nothing is said.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    limit: Option<u64>,
}

/// A group of consumers of a persistent subscription.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupEntry {
    /// A stream, or $all.
    stream: String,
    group: String,
    /// Live or Behind, with what else it does.
    status: String,
    /// What keeps it from working; null if nothing does.
    trouble: Option<String>,
    /// Consumers that are connected.
    consumers: usize,
    /// Events of the source that it is not done with.
    lag_events: u64,
    /// How long the oldest message that is not settled has waited.
    oldest_unacknowledged_seconds: f64,
    /// Messages that consumers have.
    in_flight: usize,
    /// Messages that nobody could deal with.
    parked: u64,
    /// The number of the last checkpoint.
    checkpoint: Option<u64>,
}

/// Some groups, in ascending order of their streams and names.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupEntries {
    subscriptions: Vec<GroupEntry>,
    /// Give it as `cursor` to go on; null at the end.
    next: Option<String>,
}

impl GroupEntry {
    fn new(info: &GroupInfo) -> GroupEntry {
        let key = &info.definition.key;
        GroupEntry {
            stream: key.source.name().to_owned(),
            group: key.group.clone(),
            status: info.status.words(),
            trouble: info.status.trouble.clone(),
            consumers: info.consumers.len(),
            lag_events: info.lag(),
            oldest_unacknowledged_seconds: info.oldest_seconds,
            in_flight: info.in_flight,
            parked: info.parked,
            checkpoint: info.checkpoint_number,
        }
    }
}

/// Groups of consumers, with how far behind each is.
#[utoipa::path(
    get, path = "/admin/subscriptions", tag = "admin",
    operation_id = "list_subscription_entries", params(PageParams),
    responses((status = 200, description = "A page", body = GroupEntries), Refusals)
)]
async fn subscriptions(
    State(context): State<Context>,
    Params(params): Params<PageParams>,
) -> Result<Json<GroupEntries>, Problem> {
    let rows = limit(params.limit)?;
    let after = match &params.cursor {
        Some(cursor) => Some(group_after(cursor)?),
        None => None,
    };
    let groups = context.persistent().list(None).await;
    let rest = groups.iter().filter(|info| {
        let key = &info.definition.key;
        after.as_ref().is_none_or(|after| key > after)
    });
    let mut rest = rest.peekable();
    let page: Vec<&GroupInfo> = rest.by_ref().take(rows).collect();
    let last = page.last().filter(|_| rest.peek().is_some());
    let next = last.map(|info| {
        let key = &info.definition.key;
        let source = key.source.name().to_owned();
        cursor::encode(GROUPS, &[Value::from(source.as_str()), Value::from(key.group.as_str())])
    });
    let subscriptions = page.into_iter().map(GroupEntry::new).collect();
    Ok(Json(GroupEntries { subscriptions, next }))
}

fn group_after(cursor: &str) -> Result<GroupKey, Problem> {
    let (source, group) = cursor::decode_texts(cursor, GROUPS)?;
    match Source::named(&source) {
        Some(source) => Ok(GroupKey { source, group }),
        None => Err(cursor::not_ours()),
    }
}

/// A projection that a user wrote in JavaScript. The built-in views are at /v1/projections.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProjectionEntry {
    name: String,
    /// Continuous, Transient or OneTime.
    mode: &'static str,
    /// Running, Stopped, Aborted/Stopped, Completed/Stopped or Faulted.
    status: &'static str,
    /// Why it does not go on, or what it waits for; empty if neither.
    reason: String,
    /// Positions of the log that it has not come by; 0 at the end of what it follows.
    lag_events: u64,
    /// Every position below is handled.
    position: u64,
    /// Every position below is handled, also after a restart.
    saved: u64,
    /// Events handled since it was started.
    handled: u64,
    /// Events written since it was started.
    written: u64,
}

/// Some projections, in ascending order of their names.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProjectionEntries {
    projections: Vec<ProjectionEntry>,
    /// Give it as `cursor` to go on; null at the end.
    next: Option<String>,
}

impl ProjectionEntry {
    fn new(spec: &Spec, figures: &Figures, committed: u64) -> ProjectionEntry {
        let behind = committed.saturating_sub(figures.place);
        ProjectionEntry {
            name: spec.name.clone(),
            mode: spec.mode.as_str(),
            status: figures.status.as_str(),
            reason: figures.reason.clone(),
            lag_events: if figures.caught_up { 0 } else { behind },
            position: figures.place,
            saved: figures.saved,
            handled: figures.handled,
            written: figures.written,
        }
    }
}

/// Projections that users wrote, with how far behind each is.
#[utoipa::path(
    get, path = "/admin/projections", tag = "admin",
    operation_id = "list_projection_entries", params(PageParams),
    responses((status = 200, description = "A page", body = ProjectionEntries), Refusals)
)]
async fn projections(
    State(context): State<Context>,
    Params(params): Params<PageParams>,
) -> Result<Json<ProjectionEntries>, Problem> {
    let rows = limit(params.limit)?;
    let after =
        params.cursor.map(|cursor| cursor::decode_text(&cursor, PROJECTIONS)).transpose()?;
    let all = context.scripted().list();
    let committed = context.works().committed().0;
    let rest = all.iter().filter(|(spec, _)| after.as_ref().is_none_or(|after| spec.name > *after));
    let mut rest = rest.peekable();
    let page: Vec<ProjectionEntry> = rest
        .by_ref()
        .take(rows)
        .map(|(spec, figures)| ProjectionEntry::new(spec, figures, committed))
        .collect();
    let last = page.last().filter(|_| rest.peek().is_some());
    let next = last.map(|last| cursor::encode(PROJECTIONS, &[Value::from(last.name.as_str())]));
    Ok(Json(ProjectionEntries { projections: page, next }))
}
