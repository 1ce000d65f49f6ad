//! ServerFeatures: what this server offers, so that clients choose how to call it.
//! Protocol section 9.
//!
//! The list is honest: a client that finds `batchappend` here will use it.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use daybook_wire::proto::server_features::{SupportedMethod, SupportedMethods};
use daybook_wire::proto::shared::Empty;

use super::call::{self, SMALL_SIZE};
use crate::COMPATIBLE_VERSION;
use crate::node::Context;

/// Service, method, features; the names in lower case.
const METHODS: [(&str, &str, &[&str]); 44] = [
    (STREAMS, "read", &["position", "events"]),
    (STREAMS, "append", &[]),
    (STREAMS, "delete", &[]),
    (STREAMS, "tombstone", &[]),
    (STREAMS, "batchappend", &["deadline_duration"]),
    (STREAMS_V2, "appendsession", &[]),
    (STREAMS_V2, "appendrecords", &[]),
    (PERSISTENT, "create", &["stream", "all"]),
    (PERSISTENT, "update", &["stream", "all"]),
    (PERSISTENT, "delete", &["stream", "all"]),
    (PERSISTENT, "read", &["stream", "all"]),
    (PERSISTENT, "getinfo", &["stream", "all"]),
    (PERSISTENT, "list", &["stream", "all"]),
    (PERSISTENT, "replayparked", &["stream", "all"]),
    (PERSISTENT, "truncateparked", &["stream", "all"]),
    (PERSISTENT, "restartsubsystem", &["stream", "all"]),
    (USERS, "create", &[]),
    (USERS, "update", &[]),
    (USERS, "delete", &[]),
    (USERS, "enable", &[]),
    (USERS, "disable", &[]),
    (USERS, "changepassword", &[]),
    (USERS, "resetpassword", &[]),
    (USERS, "details", &[]),
    (OPERATIONS, "startscavenge", &[]),
    (OPERATIONS, "stopscavenge", &[]),
    (OPERATIONS, "shutdown", &[]),
    (OPERATIONS, "mergeindexes", &[]),
    (OPERATIONS, "resignnode", &[]),
    (OPERATIONS, "setnodepriority", &[]),
    (OPERATIONS, "restartpersistentsubscriptions", &[]),
    ("event_store.client.monitoring.monitoring", "stats", &[]),
    (PROJECTIONS, "create", &["track_emitted_streams"]),
    (PROJECTIONS, "update", &[]),
    (PROJECTIONS, "delete", &[]),
    (PROJECTIONS, "enable", &[]),
    (PROJECTIONS, "disable", &[]),
    (PROJECTIONS, "reset", &[]),
    (PROJECTIONS, "state", &[]),
    (PROJECTIONS, "result", &[]),
    (PROJECTIONS, "statistics", &[]),
    (PROJECTIONS, "restartsubsystem", &[]),
    ("event_store.client.gossip.gossip", "read", &[]),
    ("event_store.client.server_features.serverfeatures", "getsupportedmethods", &[]),
];
const PERSISTENT: &str = "event_store.client.persistent_subscriptions.persistentsubscriptions";
const STREAMS: &str = "event_store.client.streams.streams";
const USERS: &str = "event_store.client.users.users";
const OPERATIONS: &str = "event_store.client.operations.operations";
const PROJECTIONS: &str = "event_store.client.projections.projections";
const STREAMS_V2: &str = "kurrentdb.protocol.v2.streams.streamsservice";

/// Answers GetSupportedMethods.
pub async fn get_supported_methods(
    State(_context): State<Context>,
    request: Request<Body>,
) -> Response<Body> {
    call::unary_up_to(SMALL_SIZE, request, |Empty {}| async { Ok(supported()) }).await
}

fn supported() -> SupportedMethods {
    let methods = METHODS.iter().map(|(service, method, features)| SupportedMethod {
        method_name: (*method).to_owned(),
        service_name: (*service).to_owned(),
        features: features.iter().map(|&feature| feature.to_owned()).collect(),
    });
    SupportedMethods {
        methods: methods.collect(),
        event_store_server_version: COMPATIBLE_VERSION.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_three_numbers() {
        let numbers: Vec<_> = COMPATIBLE_VERSION.split('.').map(str::parse::<u32>).collect();
        assert_eq!(numbers.len(), 3);
        assert!(numbers.iter().all(Result::is_ok));
    }

    #[test]
    fn names_are_in_lower_case() {
        for method in supported().methods {
            assert_eq!(method.method_name, method.method_name.to_lowercase());
            assert_eq!(method.service_name, method.service_name.to_lowercase());
        }
    }
}
