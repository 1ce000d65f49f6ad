//! What the node says of itself: health, identity, numbers.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use daybook_store::Stats;
use daybook_store::snapshot::SnapshotStats;
use http::{StatusCode, header};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::routes;
use uuid::Uuid;

use super::event::rfc3339;
use super::ledger::schema::Time;
use crate::node::Context;
use crate::node::context::describe;
use crate::security::gate::Described;
use crate::security::rights::Right;

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new()
        .routes(Right::Anyone, routes!(live))
        .routes(Right::Anyone, routes!(ready))
        .routes(Right::Anyone, routes!(info))
        .routes(Right::Anyone, routes!(ping))
        .routes(Right::Anyone, routes!(gossip))
        .routes(Right::Monitor, routes!(stats))
        .routes(Right::Monitor, routes!(metrics))
}

/// Whether the process answers at all.
#[utoipa::path(
    get, path = "/health/live", tag = "about",
    operation_id = "get_liveness",
    responses((status = 204, description = "It does"))
)]
async fn live() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Whether appends and reads are served.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Readiness {
    /// ready, or not ready.
    pub status: &'static str,
    /// The parts that are not.
    pub not_ready: Vec<&'static str>,
    /// How each part is, in words.
    pub parts: BTreeMap<&'static str, String>,
}

/// Whether appends and reads are served, and if not, which part is why.
#[utoipa::path(
    get, path = "/health/ready", tag = "about",
    operation_id = "get_readiness",
    responses(
        (status = 200, description = "They are", body = Readiness),
        (status = 503, description = "They are not; the body says why", body = Readiness),
    )
)]
async fn ready(State(context): State<Context>) -> Response {
    let failing = context.not_ready();
    let status = if failing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut parts = BTreeMap::new();
    parts.insert("node", "running".to_owned());
    parts.insert("store", describe(&context.works().health()));
    let word = if failing.is_empty() { "ready" } else { "not ready" };
    let not_ready = failing.iter().map(|(part, _)| *part).collect();
    parts.extend(failing);
    (status, Json(Readiness { status: word, not_ready, parts })).into_response()
}

/// What runs here, on which store.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    name: &'static str,
    /// Of this program.
    version: &'static str,
    /// The version of KurrentDB that it is compatible with.
    es_version: &'static str,
    /// The same.
    db_version: &'static str,
    /// leader: there is one node.
    state: &'static str,
    /// Another one after each start.
    instance: Uuid,
    /// The store's id.
    store: Uuid,
    /// Counts up with each restore.
    epoch: u32,
    /// The log's format.
    format: u32,
    /// Every position below is durable.
    committed: u64,
    #[schema(value_type = Time)]
    started: String,
    /// Whether callers are asked who they are: required, or none.
    authentication: &'static str,
}

/// What runs here, on which store.
#[utoipa::path(
    get, path = "/info", tag = "about",
    operation_id = "get_info",
    responses((status = 200, description = "It", body = Info))
)]
async fn info(State(context): State<Context>) -> Json<Info> {
    let about = context.about();
    Json(Info {
        name: "daybook",
        version: crate::VERSION,
        es_version: crate::COMPATIBLE_VERSION,
        db_version: crate::COMPATIBLE_VERSION,
        state: "leader",
        instance: context.instance(),
        store: about.store_id,
        epoch: about.epoch.0,
        format: about.format,
        committed: context.works().committed().0,
        started: rfc3339(context.started()),
        authentication: context.security().said(),
    })
}

/// An answer to whoever only wants one.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pong {
    /// pong
    text: &'static str,
}

/// An answer to whoever only wants one.
#[utoipa::path(
    get, path = "/ping", tag = "about",
    operation_id = "ping",
    responses((status = 200, description = "It", body = Pong))
)]
async fn ping() -> Json<Pong> {
    Json(Pong { text: "pong" })
}

/// The members of this cluster, in KurrentDB's shape.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gossip {
    members: [Member; 1],
    server_ip: String,
    server_port: u16,
}

/// A node, in KurrentDB's shape.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    instance_id: Uuid,
    #[schema(value_type = Time)]
    time_stamp: String,
    state: &'static str,
    is_alive: bool,
    internal_tcp_ip: String,
    internal_tcp_port: u16,
    internal_secure_tcp_port: u16,
    external_tcp_ip: String,
    external_tcp_port: u16,
    external_secure_tcp_port: u16,
    /// The name under which the caller reached it.
    http_end_point_ip: String,
    http_end_point_port: u16,
    last_commit_position: u64,
    writer_checkpoint: u64,
    chaser_checkpoint: u64,
    epoch_position: u64,
    epoch_number: u32,
    epoch_id: Uuid,
    node_priority: u32,
}

/// The one member of this cluster, in KurrentDB's shape.
#[utoipa::path(
    get, path = "/gossip", tag = "about",
    operation_id = "get_gossip",
    responses((status = 200, description = "It", body = Gossip))
)]
async fn gossip(State(context): State<Context>, headers: HeaderMap, uri: Uri) -> Json<Gossip> {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let (address, port) = context.reached_as(host.or(uri.authority().map(|a| a.as_str())));
    let last = context.works().committed().0.saturating_sub(1);
    let about = context.about();
    let member = Member {
        instance_id: context.instance(),
        time_stamp: rfc3339(context.clock().now()),
        state: "Leader",
        is_alive: true,
        internal_tcp_ip: address.clone(),
        internal_tcp_port: 0,
        internal_secure_tcp_port: 0,
        external_tcp_ip: address.clone(),
        external_tcp_port: 0,
        external_secure_tcp_port: 0,
        http_end_point_ip: address.clone(),
        http_end_point_port: port,
        last_commit_position: last,
        writer_checkpoint: last,
        chaser_checkpoint: last,
        epoch_position: 0,
        epoch_number: about.epoch.0,
        epoch_id: about.store_id,
        node_priority: 0,
    };
    Json(Gossip { members: [member], server_ip: address, server_port: port })
}

/// The store's numbers. Counters begin at zero at each start.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatsView {
    /// Every position below is durable.
    committed: u64,
    /// Appends that wrote something.
    appends: u64,
    /// Appends that had been done before.
    duplicates: u64,
    /// Appends that expected another revision.
    rejections: u64,
    /// Appends that were refused because too many waited.
    overloads: u64,
    events: u64,
    bytes: u64,
    /// Groups of appends that one sync made durable.
    batches: u64,
    /// Appends that wait for the writer.
    queue_depth: u64,
    segments: u64,
    log_bytes: u64,
    index_bytes: u64,
    /// Keys of the index of the segment that is being written.
    active_keys: u64,
    /// Subscriptions that are open.
    subscriptions: u64,
    /// Index files that the last start had to build.
    index_rebuilt: u64,
    /// Microseconds of the last start, recovery included.
    open_us: u64,
    /// Bytes that are free on the data's volume.
    disk_free: u64,
    /// What is kept beside the log, if anything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshots: Option<SnapshotsView>,
}

/// The numbers of what is kept beside the log.
#[derive(Debug, Serialize, ToSchema)]
pub struct SnapshotsView {
    entries: u64,
    bytes: u64,
    /// Those that were passed over because they were damaged.
    damaged: u64,
    /// How often all were set aside and begun anew.
    rebuilt: u64,
}

impl StatsView {
    fn new(stats: &Stats, snapshots: Option<SnapshotStats>) -> StatsView {
        StatsView {
            committed: stats.committed,
            appends: stats.appends,
            duplicates: stats.duplicates,
            rejections: stats.rejections,
            overloads: stats.overloads,
            events: stats.events,
            bytes: stats.bytes,
            batches: stats.batches,
            queue_depth: stats.queue_depth,
            segments: stats.segments,
            log_bytes: stats.log_bytes,
            index_bytes: stats.index_bytes,
            active_keys: stats.active_keys,
            subscriptions: stats.subscriptions,
            index_rebuilt: stats.index_rebuilt,
            open_us: stats.open_us,
            disk_free: stats.disk_free,
            snapshots: snapshots.map(|kept| SnapshotsView {
                entries: kept.entries,
                bytes: kept.bytes,
                damaged: kept.damaged,
                rebuilt: kept.rebuilt,
            }),
        }
    }
}

/// The store's numbers.
#[utoipa::path(
    get, path = "/stats", tag = "about",
    operation_id = "get_stats",
    responses((status = 200, description = "They", body = StatsView))
)]
async fn stats(State(context): State<Context>) -> Json<StatsView> {
    Json(StatsView::new(&context.works().stats(), context.snapshot_stats()))
}

/// The store's numbers as JSON, the same over HTTP and from the command line.
#[must_use]
pub fn stats_json(stats: &Stats) -> Value {
    serde_json::to_value(StatsView::new(stats, None)).expect("numbers and texts")
}

/// The node's figures, in Prometheus' text format.
#[utoipa::path(
    get, path = "/metrics", tag = "about",
    operation_id = "get_metrics",
    responses((status = 200, description = "They", body = String, content_type = "text/plain"))
)]
async fn metrics(State(context): State<Context>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    let groups = context.persistent().numbers().await;
    let scripted = context.scripted().list();
    (kind, context.metrics().render(&context, &groups, &scripted)).into_response()
}
