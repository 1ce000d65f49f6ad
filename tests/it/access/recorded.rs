//! The audit log, and answers that end with the proof of their caller.

use std::sync::Arc;

use daybook::security::Caller;
use daybook_log::disk::sim::{Fault, Operation, Repeat, SimDisk};
use daybook_model::{Clock as _, SystemClock, Timestamp};
use daybook_wire::proto::monitoring::StatsReq;
use daybook_wire::proto::users;
use serde_json::Value;

use super::desk::{Desk, admin, framed, known, until};
use crate::support::node::Server;

const EVENT: &str = r#"{"type":"Ordered","data":1}"#;

fn ops() -> Caller {
    known("ops", &["$ops"])
}

/// The types of events, and one member of each.
fn told(events: &[Value], member: &str) -> Vec<(String, Value)> {
    let told = events.iter().map(|event| {
        (event["type"].as_str().expect("a type").to_owned(), event["data"][member].clone())
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_do_is_recorded_with_who_what_and_how_it_came_out() {
    let desk = Desk::new().await;
    assert_eq!(desk.http(&ops(), "POST /admin/scavenge", "").await.status, 200);
    assert_eq!(desk.http(&ops(), "DELETE /admin/scavenge/none", "").await.status, 404);
    let create = framed(&users::CreateReq {
        options: Some(users::create_req::Options {
            login_name: "eve".to_owned(),
            password: "a password nobody may find".to_owned(),
            full_name: String::new(),
            groups: Vec::new(),
        }),
    });
    let path = "/event_store.client.users.Users/Create";
    assert_eq!(desk.grpc(&admin(), path, create).await.grpc_status().await, 0);
    // What only looks, and what nobody is asked for, is not recorded.
    assert_eq!(desk.http(&ops(), "GET /admin/scavenge", "").await.status, 200);
    assert_eq!(desk.http(&Caller::unasked(), "POST /admin/scavenge", "").await.status, 200);

    let events = desk.audit().await;
    let (begun, ended) = ("$ActionBegun".to_owned(), "$ActionEnded".to_owned());
    assert_eq!(
        told(&events, "what"),
        [
            (begun.clone(), "POST /admin/scavenge".into()),
            (ended.clone(), "POST /admin/scavenge".into()),
            (begun.clone(), "DELETE /admin/scavenge/none".into()),
            (ended.clone(), "DELETE /admin/scavenge/none".into()),
            (begun, format!("POST {path}").into()),
            (ended, format!("POST {path}").into()),
        ]
    );
    let data = |at: usize, member: &str| events[at]["data"][member].clone();
    assert_eq!((data(0, "who"), data(0, "proof")), ("ops".into(), "password".into()));
    assert_eq!((data(1, "outcome"), data(3, "outcome")), ("200".into(), "404".into()));
    assert_eq!((data(5, "outcome"), data(5, "about")), ("grpc-status 0".into(), "eve".into()));
    assert_eq!((data(4, "id"), data(4, "who")), (data(5, "id"), "root".into()));
    let text = Value::from(events).to_string();
    assert!(!text.contains("nobody may find"), "no password: {text}");
    desk.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn denials_are_recorded_and_a_guesser_does_not_fill_the_log() {
    let desk = Desk::new().await;
    desk.append("a-1", EVENT).await;
    desk.set_metadata("a-1", r#"{"$acl":{"$r":[]}}"#).await;
    let ada = known("ada", &[]);
    assert_eq!(desk.http(&ada, "POST /admin/scavenge", "").await.status, 403);
    assert_eq!(desk.http(&ada, "GET /v1/streams/a-1", "").await.status, 403);
    assert_eq!(desk.http(&Caller::nobody(), "GET /v1/streams/a-1", "").await.status, 401);
    let events = desk.audit().await;
    let denied = "$Denied".to_owned();
    assert_eq!(
        told(&events, "what"),
        [
            (denied.clone(), "POST /admin/scavenge".into()),
            (denied.clone(), "read a-1".into()),
            (denied, "GET /v1/streams/a-1".into()),
        ]
    );
    assert_eq!(told(&events, "who").pop(), Some(("$Denied".to_owned(), Value::Null)));
    for _ in 0..200 {
        assert_eq!(desk.http(&ada, "GET /v1/streams/a-1", "").await.status, 403);
    }
    let most = daybook::security::audit::DENIALS_MAX as usize;
    assert!(desk.audit().await.len() <= 3 + most);
    let metrics = desk.http(&admin(), "GET /metrics", "").await.text().await;
    assert!(metrics.contains("daybook_access_denied_total 203"), "all are counted");
    desk.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_the_audit_log_and_administrators_say_who_reads_it() {
    let desk = Desk::new().await;
    assert_eq!(desk.http(&ops(), "POST /admin/scavenge", "").await.status, 200);
    for route in ["POST /v1/streams/$audit", "DELETE /v1/streams/$audit"] {
        for caller in [admin(), Caller::unasked()] {
            let refused = desk.http(&caller, route, EVENT).await;
            assert_eq!(refused.status, 403, "{route}");
            assert_eq!(refused.json().await["type"], "urn:daybook:problem:reserved-stream");
        }
    }
    let auditor = known("audrey", &["auditors"]);
    desk.server.context().audit().flush().await;
    let read = "GET /v1/streams/$audit";
    assert_eq!(desk.http(&auditor, read, "").await.status, 403);
    assert_eq!(desk.http(&ops(), "PUT /v1/streams/$audit/metadata", "{}").await.status, 403);
    desk.set_metadata("$audit", r#"{"$maxCount":1,"$acl":{"$r":"auditors"}}"#).await;
    desk.server.context().audit().flush().await;
    let page = desk.http(&auditor, read, "").await.json().await;
    let events = page["events"].as_array().expect("events");
    assert_eq!(events.len(), 1, "kept as long as it says");
    let last = told(events, "what");
    let expected = ("$ActionEnded".to_owned(), "write the metadata of $audit".into());
    assert_eq!(last, [expected], "nobody shortens it unseen");
    desk.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recorded_is_not_done_unless_it_rescues_the_server() {
    let disk = SimDisk::new(7);
    let desk = Desk::of(Server::on_disk(Arc::new(disk.clone())).await);
    disk.fail_after(Operation::Sync, Some(".log"), 1, Fault::Eio, Repeat::Always);
    let refused = desk.http(&ops(), "POST /admin/scavenge", "").await;
    assert_eq!(refused.status, 503);
    assert!(refused.text().await.contains("cannot be recorded"));
    assert_eq!(desk.http(&ops(), "POST /admin/clock/accept", "").await.status, 204);
    let scavenges = desk.http(&ops(), "GET /admin/scavenge", "").await.json().await;
    assert_eq!((&scavenges["running"], &scavenges["scavenges"]), (&Value::Null, &0.into()));
    desk.server.stop().await;
}

/// So far ahead that what is asked at once is let through.
fn in_a_moment() -> Option<Timestamp> {
    Some(Timestamp(SystemClock::new().now().0 + 1_000_000_000))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_follows_ends_with_its_proof() {
    let desk = Desk::new().await;
    desk.append("a-1", EVENT).await;
    let caller = until("ada", &["$monitor"], in_a_moment());
    let feed = desk.http(&caller, "GET /v1/streams/a-1/subscribe", "").await;
    assert_eq!(feed.status, 200);
    let path = "/event_store.client.monitoring.Monitoring/Stats";
    let often = framed(&StatsReq { use_metadata: false, refresh_time_period_in_ms: 100 });
    let mut numbers = desk.grpc(&caller, path, often).await;
    let told = feed.text().await;
    assert!(told.contains("\"type\":\"Ordered\""), "{told}");
    let end = told.rsplit("event: problem").next().expect("an end");
    assert!(end.contains("urn:daybook:problem:unauthenticated"), "{told}");
    assert_eq!(numbers.grpc_status().await, 16);
    desk.server.stop().await;
}
