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
//!   grpc.health.v1.Health                                health     the standard one
//!   grpc.reflection                                                by tonic's generated code
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
//! What clients send but one node has no need of is ignored: `requires-leader`, and but for showing
//! it `connection-name`. What is not served answers UNIMPLEMENTED, which clients understand as "not
//! supported". Each method names the right that it asks for, and cannot be made without.
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
use daybook_wire::FILE_DESCRIPTOR_SET;
use tonic::Status;
use tonic::server::NamedService;
use tonic_health::pb::FILE_DESCRIPTOR_SET as HEALTH_DESCRIPTOR_SET;
use tonic_reflection::server::Builder as Reflection;

use crate::node::Context;
use crate::security::gate::{Gate, Routes, Row, Side, Tongue};
use crate::security::rights::Right;
use streams::Hall;

/// All services of a node.
///
/// # Panics
/// If the descriptors compiled into this program are not valid: then no node starts at all.
pub fn routes(context: Context) -> Router {
    routes_on(context, Side::All)
}

/// Those of their methods that `side` answers.
///
/// # Panics
/// As [`routes`].
pub fn routes_on(context: Context, side: Side) -> Router {
    let (routes, _) = guarded(&context, side).into_parts();
    routes.fallback(unimplemented)
}

/// What each method asks of its caller. Those of a service that is made elsewhere are one.
#[must_use]
pub fn rights(context: &Context) -> Vec<Row> {
    guarded(context, Side::All).into_parts().1
}

fn guarded(context: &Context, side: Side) -> Routes<()> {
    let gate = context.gate(Tongue::Grpc).on(side);
    standard(&gate, context)
        .merge(of_streams(&gate, context))
        .merge(of_groups(&gate, context))
        .merge(of_others(&gate, context))
        .merge(management(&gate, context))
        .merge(of_projections(&gate, context))
}

/// The services that every server of gRPC may have.
fn standard(gate: &Gate, context: &Context) -> Routes<()> {
    let describe = || {
        Reflection::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(HEALTH_DESCRIPTOR_SET)
    };
    let v1 = describe().build_v1().expect("our own descriptors are valid");
    let v1alpha = describe().build_v1alpha().expect("our own descriptors are valid");
    let (v1, v1alpha) = (
        v1.max_decoding_message_size(call::ASKED_SIZE_MAX),
        v1alpha.max_decoding_message_size(call::ASKED_SIZE_MAX),
    );
    let health = Routes::new(gate)
        .post("/grpc.health.v1.Health/Check", Right::Anyone, health::check)
        .post("/grpc.health.v1.Health/Watch", Right::Anyone, health::watch)
        .with_state(context.clone());
    Routes::new(gate).merge(health).service(&all_of(&v1), Right::Known, v1).service(
        &all_of(&v1alpha),
        Right::Known,
        v1alpha,
    )
}

/// What may be done with a stream, its lists say: see [`crate::node::door`].
fn of_streams(gate: &Gate, context: &Context) -> Routes<()> {
    use Right::Known;
    let streams = |method: &str| format!("/event_store.client.streams.Streams/{method}");
    Routes::new(gate)
        .post(&streams("Read"), Known, streams::read::read)
        .post(&streams("Append"), Known, streams::append::append)
        .post(&streams("BatchAppend"), Known, streams::batch::append)
        .post(&streams("Delete"), Known, streams::delete::delete)
        .post(&streams("Tombstone"), Known, streams::delete::tombstone)
        .post(V2_APPEND_SESSION, Known, v2::session::append)
        .post(V2_APPEND_RECORDS, Known, v2::records::append)
        .with_state(Hall::new(context.clone()))
}

/// Consuming asks for the right to read the stream; all else is for operators, as in KurrentDB.
fn of_groups(gate: &Gate, context: &Context) -> Routes<()> {
    use Right::{Inspect, Known, Operate};
    let groups = |method: &str| {
        format!("/event_store.client.persistent_subscriptions.PersistentSubscriptions/{method}")
    };
    Routes::new(gate)
        .post(&groups("Create"), Operate, persistent::manage::create)
        .post(&groups("Update"), Operate, persistent::manage::update)
        .post(&groups("Delete"), Operate, persistent::manage::delete)
        .post(&groups("Read"), Known, persistent::read::read)
        .post(&groups("GetInfo"), Inspect, persistent::manage::get_info)
        .post(&groups("List"), Inspect, persistent::manage::list)
        .post(&groups("ReplayParked"), Operate, persistent::manage::replay_parked)
        .post(&groups("TruncateParked"), Operate, persistent::manage::truncate_parked)
        .post(&groups("RestartSubsystem"), Operate, persistent::manage::restart)
        .with_state(context.clone())
}

fn of_others(gate: &Gate, context: &Context) -> Routes<()> {
    use Right::{Anyone, Known, Monitor};
    let numbers = Routes::new(gate)
        .post("/event_store.client.monitoring.Monitoring/Stats", Monitor, monitoring::stats)
        .with_state(monitoring::Monitor::new(context.clone()));
    Routes::new(gate)
        .post("/event_store.client.gossip.Gossip/Read", Anyone, gossip::read)
        .post(
            "/event_store.client.server_features.ServerFeatures/GetSupportedMethods",
            Anyone,
            features::get_supported_methods,
        )
        .post("/daybook.v1.Snapshots/Put", Known, snapshots::put)
        .post("/daybook.v1.Snapshots/GetLatest", Known, snapshots::get_latest)
        .post("/daybook.v1.Snapshots/Delete", Known, snapshots::delete)
        .post("/daybook.v1.Transactions/Find", Known, transactions::find)
        .with_state(context.clone())
        .merge(numbers)
}

/// What operators call: users and operations.
fn management(gate: &Gate, context: &Context) -> Routes<()> {
    use Right::{Administer, Delegate, Known, Operate, Rescue};
    let users = |method: &str| format!("/event_store.client.users.Users/{method}");
    let operations = |method: &str| format!("/event_store.client.operations.Operations/{method}");
    Routes::new(gate)
        .post(&users("Create"), Administer, users::create)
        .post(&users("Update"), Administer, users::update)
        .post(&users("Delete"), Administer, users::delete)
        .post(&users("Enable"), Administer, users::enable)
        .post(&users("Disable"), Administer, users::disable)
        // A user changes its own, and looks at itself; these ask that themselves.
        .post(&users("ChangePassword"), Delegate, users::change_password)
        .post(&users("ResetPassword"), Administer, users::reset_password)
        .post(&users("Details"), Known, users::details)
        .post(&operations("StartScavenge"), Operate, operations::start_scavenge)
        .post(&operations("StopScavenge"), Rescue, operations::stop_scavenge)
        .post(&operations("Shutdown"), Rescue, operations::shutdown)
        .post(&operations("MergeIndexes"), Operate, operations::nothing)
        .post(&operations("ResignNode"), Operate, operations::nothing)
        .post(&operations("SetNodePriority"), Operate, operations::nothing)
        .post(&operations("RestartPersistentSubscriptions"), Operate, persistent::manage::restart)
        .with_state(context.clone())
}

/// A program sees the whole log, whoever wrote it: only who may read everything may write one.
fn of_projections(gate: &Gate, context: &Context) -> Routes<()> {
    use Right::{Administer, Inspect, Monitor, Operate};
    let projections =
        |method: &str| format!("/event_store.client.projections.Projections/{method}");
    Routes::new(gate)
        .post(&projections("Create"), Administer, projections::create)
        .post(&projections("Update"), Administer, projections::update)
        .post(&projections("Delete"), Operate, projections::delete)
        .post(&projections("Enable"), Operate, projections::enable)
        .post(&projections("Disable"), Operate, projections::disable)
        .post(&projections("Reset"), Operate, projections::reset)
        .post(&projections("State"), Inspect, projections::state)
        .post(&projections("Result"), Inspect, projections::result)
        .post(&projections("Statistics"), Monitor, projections::statistics)
        .post(&projections("RestartSubsystem"), Operate, projections::restart)
        .with_state(context.clone())
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
