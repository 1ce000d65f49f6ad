//! The KurrentDB client protocol over gRPC, so that its existing clients work unmodified.
//!
//! ```text
//!   event_store.client.streams.Streams                   streams/   read append batch delete
//!   kurrentdb.protocol.v2.streams.StreamsService         v2/        several streams at once
//!   event_store.client.{users,operations,monitoring,projections}.…   what operators call
//!   event_store.client.server_features.ServerFeatures    features   what is listed here, honestly
//!   event_store.client.gossip.Gossip                     gossip     one node, its own leader
//!   event_store.client.persistent_subscriptions.…        persistent/  groups of consumers
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
//! What clients send but one node without authentication has no need of is ignored:
//! `requires-leader`, and but for showing them `authorization` and `connection-name`. What is not
//! served answers UNIMPLEMENTED, which clients understand as "not supported".
//!
//! Errors become statuses and trailers in [`status`] and nowhere else. The texts are the
//! protocol's: clients take them apart with regular expressions.
//!
//! INVARIANT: proto types do not leave this room; nothing in it decides what a store does.

pub mod call;
pub mod features;
pub mod gossip;
pub mod health;
pub mod monitoring;
pub mod operations;
pub mod persistent;
pub mod projections;
pub mod snapshots;
pub mod status;
pub mod streams;
pub mod transactions;
pub mod users;
pub mod v2;

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
        .route(V2_APPEND_SESSION, post(v2::session::append))
        .route(V2_APPEND_RECORDS, post(v2::records::append))
        .with_state(Room::new(context.clone()));
    let groups = |method: &str| {
        format!("/event_store.client.persistent_subscriptions.PersistentSubscriptions/{method}")
    };
    let persistent = Router::new()
        .route(&groups("Create"), post(persistent::manage::create))
        .route(&groups("Update"), post(persistent::manage::update))
        .route(&groups("Delete"), post(persistent::manage::delete))
        .route(&groups("Read"), post(persistent::read::read))
        .route(&groups("GetInfo"), post(persistent::manage::get_info))
        .route(&groups("List"), post(persistent::manage::list))
        .route(&groups("ReplayParked"), post(persistent::manage::replay_parked))
        .route(&groups("TruncateParked"), post(persistent::manage::truncate_parked))
        .route(&groups("RestartSubsystem"), post(persistent::manage::restart))
        .with_state(context.clone());
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
        .with_state(context.clone());
    let monitor = monitoring::Monitor::new(context.clone());
    let numbers = Router::new()
        .route("/event_store.client.monitoring.Monitoring/Stats", post(monitoring::stats))
        .with_state(monitor);
    let others = others.merge(management(context)).merge(numbers);
    standard.merge(streams).merge(persistent).merge(others)
}

/// What operators call: users, operations, numbers, projections.
fn management(context: Context) -> Router {
    let users = |method: &str| format!("/event_store.client.users.Users/{method}");
    let operations = |method: &str| format!("/event_store.client.operations.Operations/{method}");
    let of_projections =
        |method: &str| format!("/event_store.client.projections.Projections/{method}");
    Router::new()
        .route(&users("Create"), post(users::create))
        .route(&users("Update"), post(users::update))
        .route(&users("Delete"), post(users::delete))
        .route(&users("Enable"), post(users::enable))
        .route(&users("Disable"), post(users::disable))
        .route(&users("ChangePassword"), post(users::change_password))
        .route(&users("ResetPassword"), post(users::reset_password))
        .route(&users("Details"), post(users::details))
        .route(&operations("StartScavenge"), post(operations::start_scavenge))
        .route(&operations("StopScavenge"), post(operations::stop_scavenge))
        .route(&operations("Shutdown"), post(operations::shutdown))
        .route(&operations("MergeIndexes"), post(operations::nothing))
        .route(&operations("ResignNode"), post(operations::nothing))
        .route(&operations("SetNodePriority"), post(operations::nothing))
        .route(&operations("RestartPersistentSubscriptions"), post(persistent::manage::restart))
        .route(&of_projections("Create"), post(projections::create))
        .route(&of_projections("Update"), post(projections::update))
        .route(&of_projections("Delete"), post(projections::delete))
        .route(&of_projections("Enable"), post(projections::enable))
        .route(&of_projections("Disable"), post(projections::disable))
        .route(&of_projections("Reset"), post(projections::reset))
        .route(&of_projections("State"), post(projections::state))
        .route(&of_projections("Result"), post(projections::result))
        .route(&of_projections("Statistics"), post(projections::statistics))
        .route(&of_projections("RestartSubsystem"), post(projections::restart))
        .with_state(context)
}

const V2_APPEND_SESSION: &str = "/kurrentdb.protocol.v2.streams.StreamsService/AppendSession";
const V2_APPEND_RECORDS: &str = "/kurrentdb.protocol.v2.streams.StreamsService/AppendRecords";

/// The paths of all methods of a service that tonic generated.
fn all_of<S: NamedService>(_service: &S) -> String {
    format!("/{}/{{*method}}", S::NAME)
}

/// Answers what is not served.
async fn unimplemented() -> Response<Body> {
    call::refused(&Status::unimplemented("this server does not offer the method"))
}

/// The full names of the services that are served, for health checks.
pub const SERVICES: [&str; 11] = [
    "event_store.client.streams.Streams",
    "event_store.client.persistent_subscriptions.PersistentSubscriptions",
    "kurrentdb.protocol.v2.streams.StreamsService",
    "event_store.client.server_features.ServerFeatures",
    "event_store.client.gossip.Gossip",
    "event_store.client.users.Users",
    "event_store.client.operations.Operations",
    "event_store.client.monitoring.Monitoring",
    "event_store.client.projections.Projections",
    "daybook.v1.Snapshots",
    "daybook.v1.Transactions",
];
