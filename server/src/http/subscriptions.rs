//! Persistent subscriptions as KurrentDB's older HTTP API shows them. Clients use it where a server
//! does not offer the calls over gRPC.
//!
//! ```text
//!   /subscriptions                                    GET   all groups
//!   /subscriptions/{stream}                           GET   those of one stream, or of $all
//!   /subscriptions/{stream}/{group}/info              GET   one
//!   /subscriptions/{stream}/{group}/replayParked      POST  ?stopAt=N
//!   /subscriptions/restart                            POST  drop all consumers, load all groups anew
//! ```

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::ledger::schema::Refusals;
use super::problem::{Kind, Problem};
use super::query::{Params, parsed};
use crate::node::Context;
use crate::persistent::definition::{Definition, Start, milliseconds};
use crate::persistent::error::GroupError;
use crate::persistent::info::{ConsumerInfo, GroupInfo};
use crate::persistent::key::{GroupKey, Source};
use crate::persistent::place::start_text;
use crate::security::gate::Described;
use crate::security::rights::Right;

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new()
        .routes(Right::Inspect, routes!(all))
        .routes(Right::Operate, routes!(restart))
        .routes(Right::Inspect, routes!(of_stream))
        .routes(Right::Inspect, routes!(info))
        .routes(Right::Operate, routes!(replay_parked))
}

/// All groups of consumers.
#[utoipa::path(
    get, path = "/subscriptions", tag = "subscriptions",
    operation_id = "list_subscriptions",
    responses((status = 200, description = "They", body = Vec<GroupView>))
)]
async fn all(State(context): State<Context>) -> Json<Vec<GroupView>> {
    Json(context.persistent().list(None).await.iter().map(GroupView::new).collect())
}

/// The groups of consumers of a stream.
#[utoipa::path(
    get, path = "/subscriptions/{stream}", tag = "subscriptions",
    operation_id = "list_subscriptions_of_stream",
    params(("stream" = String, Path, description = "The stream, or $all")),
    responses((status = 200, description = "They", body = Vec<GroupView>), Refusals)
)]
async fn of_stream(
    State(context): State<Context>,
    Path(stream): Path<String>,
) -> Result<Json<Vec<GroupView>>, Problem> {
    let source = source(&stream)?;
    let found = context.persistent().list(Some(&source)).await;
    if found.is_empty() {
        return Err(not_found(&format!("stream '{stream}' has no groups")));
    }
    Ok(Json(found.iter().map(GroupView::new).collect()))
}

/// A group of consumers.
#[utoipa::path(
    get, path = "/subscriptions/{stream}/{group}/info", tag = "subscriptions",
    operation_id = "get_subscription",
    params(
        ("stream" = String, Path, description = "The stream, or $all"),
        ("group" = String, Path, description = "The group"),
    ),
    responses((status = 200, description = "It", body = GroupView), Refusals)
)]
async fn info(
    State(context): State<Context>,
    Path((stream, group)): Path<(String, String)>,
) -> Result<Json<GroupView>, Problem> {
    let key = GroupKey { source: source(&stream)?, group };
    let info = context.persistent().info(&key).await?;
    Ok(Json(GroupView::new(&info)))
}

/// The parameters of a replay.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub struct ReplayParams {
    /// How many, at most; all if absent.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    stop_at: Option<u64>,
}

/// Gives parked messages to the group's consumers again.
#[utoipa::path(
    post, path = "/subscriptions/{stream}/{group}/replayParked", tag = "subscriptions",
    operation_id = "replay_parked_of_subscription",
    params(
        ("stream" = String, Path, description = "The stream, or $all"),
        ("group" = String, Path, description = "The group"),
        ReplayParams,
    ),
    responses((status = 200, description = "They are on their way"), Refusals)
)]
async fn replay_parked(
    State(context): State<Context>,
    Path((stream, group)): Path<(String, String)>,
    Params(params): Params<ReplayParams>,
) -> Result<StatusCode, Problem> {
    let key = GroupKey { source: source(&stream)?, group };
    context.persistent().replay(&key, params.stop_at).await?;
    Ok(StatusCode::OK)
}

/// Drops all consumers, and loads all groups anew.
#[utoipa::path(
    post, path = "/subscriptions/restart", tag = "subscriptions",
    operation_id = "restart_subscriptions",
    responses((status = 200, description = "It is done"), Refusals)
)]
async fn restart(State(context): State<Context>) -> Result<StatusCode, Problem> {
    context.persistent().restart().await?;
    Ok(StatusCode::OK)
}

impl From<GroupError> for Problem {
    fn from(error: GroupError) -> Problem {
        let kind = match &error {
            GroupError::Missing(_) => Kind::GroupNotFound,
            GroupError::Exists(_) | GroupError::Full(_) => Kind::Conflict,
            GroupError::Failed { .. } => Kind::InvalidRequest,
            GroupError::Dropped(_) | GroupError::Stopping => Kind::Unavailable,
        };
        Problem::new(kind, error.to_string())
    }
}

fn source(stream: &str) -> Result<Source, Problem> {
    Source::named(stream).ok_or_else(|| not_found(&format!("'{stream}' is not a stream's name")))
}

fn not_found(detail: &str) -> Problem {
    Problem::new(Kind::GroupNotFound, detail.to_owned())
}

/// A group in KurrentDB's words. Numbers of a stream are -1 where there is none.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Subscription)]
pub struct GroupView {
    event_source: String,
    event_stream_id: String,
    group_name: String,
    /// Words with commas: Live or Behind, NotReady, OutstandingPageRequest,
    /// ReplayingParkedMessages.
    status: String,
    /// What keeps it from working; null if nothing does.
    trouble: Option<String>,
    average_items_per_second: i32,
    total_items_processed: u64,
    count_since_last_measurement: i64,
    last_processed_event_number: i64,
    last_known_event_number: i64,
    last_checkpointed_event_position: Option<String>,
    last_known_event_position: Option<String>,
    /// Events of the source that it is not done with.
    lag_events: u64,
    /// How long the oldest message that is not settled has waited.
    oldest_unacknowledged_seconds: f64,
    read_buffer_count: usize,
    live_buffer_count: usize,
    retry_buffer_count: usize,
    total_in_flight_messages: usize,
    outstanding_messages_count: usize,
    parked_message_count: u64,
    connection_count: usize,
    connections: Vec<ConnectionView>,
    config: GroupConfig,
}

/// A consumer of a group.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SubscriptionConnection)]
pub struct ConnectionView {
    from: String,
    username: String,
    connection_name: String,
    average_items_per_second: i32,
    total_items_processed: u64,
    count_since_last_measurement: i64,
    available_slots: usize,
    in_flight_messages: usize,
    /// How long it had messages, in milliseconds; empty unless the group measures that.
    extra_statistics: Vec<Observed>,
}

/// A measurement.
#[derive(Debug, Serialize, ToSchema)]
pub struct Observed {
    key: &'static str,
    value: i64,
}

/// How a group is set up.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SubscriptionConfig)]
pub struct GroupConfig {
    resolve_linktos: bool,
    /// The first event's number in a stream; -1 for the end.
    start_from: i64,
    start_position: String,
    message_timeout_milliseconds: i32,
    extra_statistics: bool,
    max_retry_count: u32,
    live_buffer_size: u32,
    buffer_size: u32,
    read_batch_size: u32,
    prefer_round_robin: bool,
    check_point_after_milliseconds: i32,
    min_check_point_count: u32,
    max_check_point_count: u32,
    /// 0 for no limit.
    max_subscriber_count: u32,
    named_consumer_strategy: String,
}

impl GroupView {
    fn new(info: &GroupInfo) -> GroupView {
        let key = &info.definition.key;
        let number = |number: Option<u64>| number.map_or(-1, u64::cast_signed);
        let live = info.status.live;
        GroupView {
            event_source: key.source.name().to_owned(),
            event_stream_id: key.source.name().to_owned(),
            group_name: key.group.clone(),
            status: info.status.words(),
            trouble: info.status.trouble.clone(),
            average_items_per_second: info.rated.average_per_second,
            total_items_processed: info.counters.settled,
            count_since_last_measurement: info.rated.since_asked,
            last_processed_event_number: number(info.checkpoint_number),
            last_known_event_number: number(info.end.checked_sub(1)),
            last_checkpointed_event_position: info.checkpoint.clone(),
            last_known_event_position: info.last_known.clone(),
            lag_events: info.lag(),
            oldest_unacknowledged_seconds: info.oldest_seconds,
            read_buffer_count: if live { 0 } else { info.waiting_new },
            live_buffer_count: if live { info.waiting_new } else { 0 },
            retry_buffer_count: info.waiting_again,
            total_in_flight_messages: info.in_flight,
            outstanding_messages_count: info.in_flight + info.waiting_again + info.parking,
            parked_message_count: info.parked,
            connection_count: info.consumers.len(),
            connections: info.consumers.iter().map(ConnectionView::new).collect(),
            config: GroupConfig::new(&info.definition),
        }
    }
}

impl GroupConfig {
    fn new(definition: &Definition) -> GroupConfig {
        let (key, settings) = (&definition.key, &definition.settings);
        GroupConfig {
            resolve_linktos: definition.resolve_links,
            start_from: match definition.start {
                Start::First => 0,
                Start::End => -1,
                Start::At(number) => number.cast_signed(),
            },
            start_position: start_text(&key.source, definition.start),
            message_timeout_milliseconds: milliseconds(settings.message_timeout),
            extra_statistics: definition.extra_statistics,
            max_retry_count: settings.max_retry_count,
            live_buffer_size: settings.live_buffer_size,
            buffer_size: settings.history_buffer_size,
            read_batch_size: settings.read_batch_size,
            prefer_round_robin: settings.strategy.name() == "RoundRobin",
            check_point_after_milliseconds: milliseconds(settings.checkpoint_after),
            min_check_point_count: settings.min_checkpoint_count,
            max_check_point_count: settings.max_checkpoint_count,
            max_subscriber_count: settings.max_subscriber_count.unwrap_or(0),
            named_consumer_strategy: settings.strategy.name().to_owned(),
        }
    }
}

impl ConnectionView {
    fn new(info: &ConsumerInfo) -> ConnectionView {
        let observed = info.observed.iter();
        ConnectionView {
            from: info.visitor.from.clone(),
            username: info.visitor.username.clone(),
            connection_name: info.visitor.connection.clone(),
            average_items_per_second: info.rated.average_per_second,
            total_items_processed: info.total,
            count_since_last_measurement: info.rated.since_asked,
            available_slots: info.free,
            in_flight_messages: info.in_flight,
            extra_statistics: observed
                .map(|(key, value)| Observed { key, value: *value })
                .collect(),
        }
    }
}
