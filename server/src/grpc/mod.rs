//! The KurrentDB client protocol over gRPC, so that its existing clients work unmodified.
//!
//! ```text
//!   event_store.client.streams.Streams                   streams/   read append batch delete
//!   event_store.client.server_features.ServerFeatures    features   what is listed here, honestly
//!   event_store.client.gossip.Gossip                     gossip     one node, its own leader
//!   daybook.v1.Snapshots                                 snapshots  ours
//!   daybook.v1.Transactions                              transactions  ours
//!   grpc.health.v1.Health, grpc.reflection               health     by tonic's generated code
//!
//!   socket ─> node::entrance ─> routes ─> call: Messages ─> wire: decode ─> store
//!                                         call: replies  <─ wire: encode <─┘
//! ```
//!
//! Our services are served by [`call`], which is gRPC's framing over an HTTP body and nothing more,
//! and not through tonic's codecs, for three reasons. A read sends hundreds of events in one body
//! frame, written straight from where they are stored. An append keeps its data as slices of the
//! bytes that arrived. And a message over the limit is RESOURCE_EXHAUSTED, where tonic says
//! OUT_OF_RANGE. The proto types, the status type and the clients are still the generated ones.
//!
//! What clients send but one node without users has no need of is ignored: `authorization`,
//! `requires-leader`, `connection-name`. What is not served answers UNIMPLEMENTED, which clients
//! understand as "not supported".
//!
//! Errors become statuses and trailers in [`status`] and nowhere else. The texts are the
//! protocol's: clients take them apart with regular expressions.
//!
//! INVARIANT: proto types do not leave this room; nothing in it decides what a store does.

pub mod call;
pub mod features;
pub mod gossip;
pub mod health;
pub mod snapshots;
pub mod status;
pub mod streams;
pub mod transactions;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use axum::routing::post;
use daybook_wire::FILE_DESCRIPTOR_SET;
use tonic::Status;
use tonic::server::NamedService;
use tonic_health::pb::FILE_DESCRIPTOR_SET as HEALTH_DESCRIPTOR_SET;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder as Reflection;

use crate::node::Context;
use health::HealthService;
use streams::Room;

/// All services of a node.
///
/// # Panics
/// If the descriptors compiled into this program are not valid: then no node starts at all.
pub fn routes(context: Context) -> Router {
    let describe = || {
        Reflection::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(HEALTH_DESCRIPTOR_SET)
    };
    let v1 = describe().build_v1().expect("our own descriptors are valid");
    let v1alpha = describe().build_v1alpha().expect("our own descriptors are valid");
    let health = HealthServer::new(HealthService::new(context.clone()));
    let standard = Router::new()
        .route_service(&all_of(&health), health)
        .route_service(&all_of(&v1), v1)
        .route_service(&all_of(&v1alpha), v1alpha)
        .fallback(unimplemented);
    let streams = Router::new()
        .route("/event_store.client.streams.Streams/Read", post(streams::read::read))
        .route("/event_store.client.streams.Streams/Append", post(streams::append::append))
        .route("/event_store.client.streams.Streams/BatchAppend", post(streams::batch::append))
        .route("/event_store.client.streams.Streams/Delete", post(streams::delete::delete))
        .route("/event_store.client.streams.Streams/Tombstone", post(streams::delete::tombstone))
        .with_state(Room::new(context.clone()));
    let others = Router::new()
        .route("/event_store.client.gossip.Gossip/Read", post(gossip::read))
        .route(
            "/event_store.client.server_features.ServerFeatures/GetSupportedMethods",
            post(features::get_supported_methods),
        )
        .route("/daybook.v1.Snapshots/Put", post(snapshots::put))
        .route("/daybook.v1.Snapshots/GetLatest", post(snapshots::get_latest))
        .route("/daybook.v1.Snapshots/Delete", post(snapshots::delete))
        .route("/daybook.v1.Transactions/Find", post(transactions::find))
        .with_state(context);
    standard.merge(streams).merge(others)
}

/// The paths of all methods of a service that tonic generated.
fn all_of<S: NamedService>(_service: &S) -> String {
    format!("/{}/{{*method}}", S::NAME)
}

/// Answers what is not served.
async fn unimplemented() -> Response<Body> {
    call::refused(&Status::unimplemented("this server does not offer the method"))
}

/// The full names of the services that are served, for health checks.
pub const SERVICES: [&str; 5] = [
    "event_store.client.streams.Streams",
    "event_store.client.server_features.ServerFeatures",
    "event_store.client.gossip.Gossip",
    "daybook.v1.Snapshots",
    "daybook.v1.Transactions",
];
