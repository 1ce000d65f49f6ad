//! What the node says of itself: health, identity, numbers.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use daybook_store::Stats;
use http::{StatusCode, header};
use serde_json::{Map, Value, json};

use super::event::rfc3339;
use crate::node::Context;
use crate::node::context::describe;

/// `GET /health/live`: 204 while the process answers at all.
pub async fn live() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// `GET /health/ready`: 200 when appends and reads are served, else 503 naming what is not.
pub async fn ready(State(context): State<Context>) -> Response {
    let failing = context.not_ready();
    let status = if failing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut parts = Map::new();
    parts.insert("node".to_owned(), "running".into());
    parts.insert("store".to_owned(), describe(&context.works().health()).into());
    for (part, reason) in &failing {
        parts.insert((*part).to_owned(), reason.as_str().into());
    }
    let not_ready: Vec<&str> = failing.iter().map(|(part, _)| *part).collect();
    let body = json!({
        "status": if failing.is_empty() { "ready" } else { "not ready" },
        "notReady": not_ready,
        "parts": parts,
    });
    (status, Json(body)).into_response()
}

/// `GET /info`: what runs here, on which store.
pub async fn info(State(context): State<Context>) -> Json<Value> {
    let about = context.about();
    Json(json!({
        "name": "daybook",
        "version": crate::VERSION,
        "esVersion": crate::COMPATIBLE_VERSION,
        "dbVersion": crate::COMPATIBLE_VERSION,
        "state": "leader",
        "instance": context.instance(),
        "store": about.store_id,
        "epoch": about.epoch.0,
        "format": about.format,
        "committed": context.works().committed().0,
        "started": rfc3339(context.started()),
        "authentication": context.security().said(),
    }))
}

/// `GET /ping`
pub async fn ping() -> Json<Value> {
    Json(json!({ "text": "pong" }))
}

/// `GET /gossip`: the one member of this cluster, in KurrentDB's shape.
pub async fn gossip(State(context): State<Context>, headers: HeaderMap, uri: Uri) -> Json<Value> {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let (address, port) = context.reached_as(host.or(uri.authority().map(|a| a.as_str())));
    let last = context.works().committed().0.saturating_sub(1);
    let about = context.about();
    let member = json!({
        "instanceId": context.instance(),
        "timeStamp": rfc3339(context.clock().now()),
        "state": "Leader",
        "isAlive": true,
        "internalTcpIp": address,
        "internalTcpPort": 0,
        "internalSecureTcpPort": 0,
        "externalTcpIp": address,
        "externalTcpPort": 0,
        "externalSecureTcpPort": 0,
        "httpEndPointIp": address,
        "httpEndPointPort": port,
        "lastCommitPosition": last,
        "writerCheckpoint": last,
        "chaserCheckpoint": last,
        "epochPosition": 0,
        "epochNumber": about.epoch.0,
        "epochId": about.store_id,
        "nodePriority": 0,
    });
    Json(json!({ "members": [member], "serverIp": address, "serverPort": port }))
}

/// `GET /stats`: the store's numbers.
pub async fn stats(State(context): State<Context>) -> Json<Value> {
    let mut body = stats_json(&context.works().stats());
    if let (Some(body), Some(kept)) = (body.as_object_mut(), context.snapshot_stats()) {
        body.insert(
            "snapshots".to_owned(),
            json!({
                "entries": kept.entries,
                "bytes": kept.bytes,
                "damaged": kept.damaged,
                "rebuilt": kept.rebuilt,
            }),
        );
    }
    Json(body)
}

/// The store's numbers as JSON, the same over HTTP and from the command line.
#[must_use]
pub fn stats_json(stats: &Stats) -> Value {
    json!({
        "committed": stats.committed,
        "appends": stats.appends,
        "duplicates": stats.duplicates,
        "rejections": stats.rejections,
        "overloads": stats.overloads,
        "events": stats.events,
        "bytes": stats.bytes,
        "batches": stats.batches,
        "queueDepth": stats.queue_depth,
        "segments": stats.segments,
        "logBytes": stats.log_bytes,
        "indexBytes": stats.index_bytes,
        "activeKeys": stats.active_keys,
        "subscriptions": stats.subscriptions,
        "indexRebuilt": stats.index_rebuilt,
        "openUs": stats.open_us,
        "diskFree": stats.disk_free,
    })
}

/// `GET /metrics`, in Prometheus' text format.
pub async fn metrics(State(context): State<Context>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    let groups = context.persistent().numbers().await;
    let scripted = context.scripted().list();
    (kind, context.metrics().render(&context, &groups, &scripted)).into_response()
}
