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
use serde::Deserialize;
use serde_json::{Value, json};

use super::problem::{Kind, Problem};
use super::query::{Params, parsed};
use crate::node::Context;
use crate::persistent::definition::milliseconds;
use crate::persistent::error::GroupError;
use crate::persistent::info::{ConsumerInfo, GroupInfo};
use crate::persistent::key::{GroupKey, Source};
use crate::persistent::place::start_text;

/// Answers `GET /subscriptions`.
pub async fn all(State(context): State<Context>) -> Json<Value> {
    Json(context.persistent().list(None).await.iter().map(shown).collect())
}

/// Answers `GET /subscriptions/{stream}`.
pub async fn of_stream(
    State(context): State<Context>,
    Path(stream): Path<String>,
) -> Result<Json<Value>, Problem> {
    let source = source(&stream)?;
    let found = context.persistent().list(Some(&source)).await;
    if found.is_empty() {
        return Err(not_found(&format!("stream '{stream}' has no groups")));
    }
    Ok(Json(found.iter().map(shown).collect()))
}

/// Answers `GET /subscriptions/{stream}/{group}/info`.
pub async fn info(
    State(context): State<Context>,
    Path((stream, group)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let key = GroupKey { source: source(&stream)?, group };
    let info = context.persistent().info(&key).await?;
    Ok(Json(shown(&info)))
}

/// The parameters of a replay.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ReplayParams {
    #[serde(default, deserialize_with = "parsed")]
    stop_at: Option<u64>,
}

/// Answers `POST /subscriptions/{stream}/{group}/replayParked`.
pub async fn replay_parked(
    State(context): State<Context>,
    Path((stream, group)): Path<(String, String)>,
    Params(params): Params<ReplayParams>,
) -> Result<StatusCode, Problem> {
    let key = GroupKey { source: source(&stream)?, group };
    context.persistent().replay(&key, params.stop_at).await?;
    Ok(StatusCode::OK)
}

/// Answers `POST /subscriptions/restart`.
pub async fn restart(State(context): State<Context>) -> Result<StatusCode, Problem> {
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
fn shown(info: &GroupInfo) -> Value {
    let definition = &info.definition;
    let (key, settings) = (&definition.key, &definition.settings);
    let number = |number: Option<u64>| number.map_or(-1, u64::cast_signed);
    let live = info.status.live;
    let connections: Vec<Value> = info.consumers.iter().map(connection).collect();
    json!({
        "eventSource": key.source.name(),
        "eventStreamId": key.source.name(),
        "groupName": key.group,
        "status": info.status.words(),
        "trouble": info.status.trouble,
        "averageItemsPerSecond": info.rated.average_per_second,
        "totalItemsProcessed": info.counters.settled,
        "countSinceLastMeasurement": info.rated.since_asked,
        "lastProcessedEventNumber": number(info.checkpoint_number),
        "lastKnownEventNumber": number(info.end.checked_sub(1)),
        "lastCheckpointedEventPosition": info.checkpoint,
        "lastKnownEventPosition": info.last_known,
        "lagEvents": info.lag(),
        "oldestUnacknowledgedSeconds": info.oldest_seconds,
        "readBufferCount": if live { 0 } else { info.waiting_new },
        "liveBufferCount": if live { info.waiting_new } else { 0 },
        "retryBufferCount": info.waiting_again,
        "totalInFlightMessages": info.in_flight,
        "outstandingMessagesCount": info.in_flight + info.waiting_again + info.parking,
        "parkedMessageCount": info.parked,
        "connectionCount": info.consumers.len(),
        "connections": connections,
        "config": {
            "resolveLinktos": definition.resolve_links,
            "startFrom": definition_start(info),
            "startPosition": start_text(&key.source, definition.start),
            "messageTimeoutMilliseconds": milliseconds(settings.message_timeout),
            "extraStatistics": definition.extra_statistics,
            "maxRetryCount": settings.max_retry_count,
            "liveBufferSize": settings.live_buffer_size,
            "bufferSize": settings.history_buffer_size,
            "readBatchSize": settings.read_batch_size,
            "preferRoundRobin": settings.strategy.name() == "RoundRobin",
            "checkPointAfterMilliseconds": milliseconds(settings.checkpoint_after),
            "minCheckPointCount": settings.min_checkpoint_count,
            "maxCheckPointCount": settings.max_checkpoint_count,
            "maxSubscriberCount": settings.max_subscriber_count.unwrap_or(0),
            "namedConsumerStrategy": settings.strategy.name(),
        },
    })
}

/// Where a group of a stream begins, as a number; -1 for the end.
fn definition_start(info: &GroupInfo) -> i64 {
    use crate::persistent::definition::Start;
    match info.definition.start {
        Start::First => 0,
        Start::End => -1,
        Start::At(number) => number.cast_signed(),
    }
}

fn connection(info: &ConsumerInfo) -> Value {
    let observed = info.observed.iter();
    let observed: Vec<Value> =
        observed.map(|(key, value)| json!({ "key": key, "value": value })).collect();
    json!({
        "from": info.visitor.from,
        "username": info.visitor.username,
        "connectionName": info.visitor.connection,
        "averageItemsPerSecond": info.rated.average_per_second,
        "totalItemsProcessed": info.total,
        "countSinceLastMeasurement": info.rated.since_asked,
        "availableSlots": info.free,
        "inFlightMessages": info.in_flight,
        "extraStatistics": observed,
    })
}
