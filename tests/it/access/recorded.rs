//! The audit log, and answers that end with the proof of their caller.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use daybook::security::Caller;
use daybook::users::NewUser;
use daybook_log::disk::sim::{Fault, Operation, Repeat, SimDisk};
use daybook_model::{Clock as _, ExpectedRevision, NewEvent, SystemClock, Timestamp};
use daybook_store::Append;
use daybook_wire::proto::monitoring::StatsReq;
use daybook_wire::proto::users;
use futures_util::stream;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;
use uuid::Uuid;

use super::desk::{self, Desk, admin, framed, known};
use crate::authentication::{PASSWORD, basic, server};
use crate::support::events::name;
use crate::support::http::call;
use crate::support::node::Server;
use crate::support::{PATIENCE, until};

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
    // An end waits in a queue: the next action may begin before it is written.
    assert_eq!(desk.http(&ops(), "POST /admin/scavenge", "").await.status, 200);
    desk.audit().await;
    assert_eq!(desk.http(&ops(), "DELETE /admin/scavenge/none", "").await.status, 404);
    desk.audit().await;
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
    let options = users::details_req::Options { login_name: "eve".to_owned() };
    let details = framed(&users::DetailsReq { options: Some(options) });
    let path = "/event_store.client.users.Users/Details";
    assert_eq!(desk.grpc(&ada, path, details).await.grpc_status().await, 7);
    let events = desk.audit().await;
    let denied = "$Denied".to_owned();
    assert_eq!(
        told(&events, "what"),
        [
            (denied.clone(), "POST /admin/scavenge".into()),
            (denied.clone(), "read a-1".into()),
            (denied.clone(), "GET /v1/streams/a-1".into()),
            (denied, "act for user 'eve'".into()),
        ]
    );
    let who: Vec<_> = told(&events, "who").into_iter().map(|(_, who)| who).collect();
    assert_eq!(who, ["ada".into(), "ada".into(), Value::Null, "ada".into()]);
    for _ in 0..200 {
        assert_eq!(desk.http(&ada, "GET /v1/streams/a-1", "").await.status, 403);
    }
    let most = daybook::security::audit::DENIALS_MAX as usize;
    assert!(desk.audit().await.len() <= 4 + most);
    let metrics = desk.http(&admin(), "GET /metrics", "").await.text().await;
    assert!(metrics.contains("daybook_access_denied_total 204"), "all are counted");
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
    let caller = desk::until("ada", &["$monitor"], in_a_moment());
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

/// The ledger's events of one stream: their types, and who had them happen.
async fn doers(desk: &Desk, stream: &str) -> Vec<(String, Option<String>)> {
    let page = desk.http(&admin(), &format!("GET /v1/streams/{stream}"), "").await.json().await;
    let events = page["events"].as_array().expect("events").iter();
    let told = events.map(|event| {
        let by = event["metadata"]["$by"].as_str().map(str::to_owned);
        (event["type"].as_str().expect("a type").to_owned(), by)
    });
    told.collect()
}

async fn open(desk: &Desk, by: &Caller, id: &str) {
    let body = json!({
        "account_type": "checking", "currency": "USD", "initial_deposit": "100.00",
        "owner_id": "00000000-0000-4000-8000-00000000000f",
    });
    let mut request = http::Request::post("/v1/accounts").body(Full::from(body.to_string()));
    let request = request.as_mut().expect("a request");
    request.headers_mut().insert("idempotency-key", id.parse().expect("a header"));
    request.extensions_mut().insert(by.clone());
    let answer = desk.http_as_it_is(request.clone()).await;
    let status = answer.status;
    assert_eq!(status, 201, "{}", answer.text().await);
}

const PAYS: &str = "00000000-0000-4000-8000-0000000000a1";
const GETS: &str = "00000000-0000-4000-8000-0000000000a2";

#[tokio::test(flavor = "multi_thread")]
async fn the_ledgers_events_say_by_whom_they_are() {
    let desk = Desk::new().await;
    let (branch, teller) = (known("branch", &["ledger-open"]), known("teller", &["ledger-move"]));
    open(&desk, &branch, PAYS).await;
    open(&desk, &Caller::unasked(), GETS).await;
    let body = json!({
        "sender_account_id": PAYS, "receiver_account_id": GETS, "amount": "1.00",
        "currency": "USD", "description": "rent",
    });
    let mut request = http::Request::post("/v1/transfers").body(Full::from(body.to_string()));
    let request = request.as_mut().expect("a request");
    let id = "00000000-0000-4000-8000-0000000000b1";
    request.headers_mut().insert("idempotency-key", id.parse().expect("a header"));
    request.headers_mut().insert("prefer", "wait=60".parse().expect("a header"));
    request.extensions_mut().insert(teller.clone());
    let answer = desk.http_as_it_is(request.clone()).await;
    let status = answer.status;
    assert_eq!(status, 200, "{}", answer.text().await);
    let paid = doers(&desk, &format!("ledger.account-{PAYS}")).await;
    let by = |who: &str| Some(who.to_owned());
    assert_eq!((&paid[0].1, &paid[paid.len() - 1].1), (&by("branch"), &by("teller")), "{paid:?}");
    let got = doers(&desk, &format!("ledger.account-{GETS}")).await;
    assert!(got.iter().all(|(_, by)| by.is_none()), "nobody is asked, or the server did: {got:?}");
    let transfer = doers(&desk, &format!("ledger.transfer-{id}")).await;
    assert_eq!(transfer[0], ("PaymentInitiated".to_owned(), by("teller")));
    assert_eq!(transfer.last(), Some(&("PaymentCompleted".to_owned(), None)), "{transfer:?}");
    desk.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stops_money_or_sets_its_limits_is_recorded_and_a_deposit_is_not() {
    let desk = Desk::new().await;
    let freezer = known("compliance", &["ledger-freeze"]);
    let branch = known("branch", &["ledger-open", "ledger-move"]);
    open(&desk, &branch, PAYS).await;
    let account = format!("/v1/accounts/{PAYS}");
    let limits = r#"{"daily_withdrawal_limit":"10.00","changed_by":"x","reason":"asked for"}"#;
    for (caller, route, body, status) in [
        (&freezer, format!("POST {account}/freeze"), r#"{"reason":"odd","frozen_by":"x"}"#, 201),
        (&freezer, format!("POST {account}/unfreeze"), r#"{"unfrozen_by":"x"}"#, 201),
        (&branch, format!("PUT {account}/limits"), limits, 201),
        (&branch, format!("POST {account}/deposits"), r#"{"amount":"1.00","currency":"USD"}"#, 201),
        (&branch, format!("POST /v1/sagas/{GETS}/resume"), r#"{"resumed_by":"x"}"#, 404),
    ] {
        let answer = desk.http(caller, &route, body).await;
        let found = answer.status;
        assert_eq!(found, status, "{route}: {}", answer.text().await);
    }
    let events = desk.audit().await;
    let ended: Vec<_> = events.iter().filter(|event| event["type"] == "$ActionEnded").collect();
    let told = |member: &str| {
        ended.iter().map(|event| event["data"][member].clone()).collect::<Vec<Value>>()
    };
    assert_eq!(told("who"), ["compliance", "compliance", "branch", "branch"]);
    assert_eq!(told("about"), [PAYS, PAYS, PAYS, GETS]);
    assert_eq!(told("outcome"), ["201", "201", "201", "404"]);
    desk.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_log_is_listed_page_by_page_to_whom_it_may_be_read() {
    let desk = Desk::new().await;
    for _ in 0..3 {
        assert_eq!(desk.http(&ops(), "DELETE /admin/scavenge/none", "").await.status, 404);
    }
    let ada = known("ada", &[]);
    assert_eq!(desk.http(&ada, "POST /admin/scavenge", "").await.status, 403);
    let list = async |query: &str| {
        desk.server.context().audit().flush().await;
        let answer = desk.http(&admin(), &format!("GET /admin/audit{query}"), "").await;
        assert_eq!(answer.status, 200, "{query}");
        answer.json().await
    };
    let outcomes = |page: &Value| {
        let records = page["records"].as_array().expect("records").iter();
        records
            .map(|record| record["outcome"].as_str().expect("one").to_owned())
            .collect::<Vec<_>>()
    };
    let all = list("").await;
    assert_eq!(outcomes(&all), ["denied", "404", "begun", "404", "begun", "404", "begun"]);
    assert_eq!(all["next"], Value::Null);
    assert_eq!(
        (&all["records"][0]["who"], &all["records"][1]["who"]),
        (&"ada".into(), &"ops".into())
    );
    for (query, found) in [
        ("?who=ada", &["denied"][..]),
        ("?outcome=40", &["404", "404", "404"]),
        ("?what=scavenge&outcome=den", &["denied"]),
        ("?what=nothing", &[]),
        ("?since=2100-01-01T00:00:00Z", &[]),
        ("?until=2000-01-01T00:00:00Z", &[]),
        ("?since=2000-01-01T00:00:00Z&until=2100-01-01T00:00:00Z&limit=2", &["denied", "404"]),
    ] {
        assert_eq!(outcomes(&list(query).await), found, "{query}");
    }
    let (mut found, mut cursor) = (0, String::new());
    loop {
        let page = list(&format!("?limit=2{cursor}")).await;
        found += outcomes(&page).len();
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(found, 7, "each once");
    for query in ["?limit=0", "?limit=1001", "?since=yesterday", "?by=ada"] {
        let refused = desk.http(&admin(), &format!("GET /admin/audit{query}"), "").await;
        assert_eq!(refused.status, 400, "{query}");
    }
    let auditor = known("audrey", &["auditors"]);
    assert_eq!(desk.http(&auditor, "GET /admin/audit", "").await.status, 403);
    desk.set_metadata("$audit", r#"{"$acl":{"$r":"auditors"}}"#).await;
    assert_eq!(desk.http(&auditor, "GET /admin/audit", "").await.status, 200);
    desk.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_whose_caller_leaves_has_an_end_in_the_log() {
    let desk = Desk::new().await;
    // Its body does not come.
    let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
    let mut request =
        http::Request::put("/admin/log").body(body.boxed_unsync()).expect("a request");
    request.extensions_mut().insert(ops());
    let routes = daybook::http::routes(desk.server.context().clone());
    let asking = tokio::spawn(routes.oneshot(request));
    until("it is begun", || async { desk.audit().await.len() == 1 }).await;
    asking.abort();
    until("it has an end", || async { desk.audit().await.len() == 2 }).await;
    let events = desk.audit().await;
    assert_eq!(
        told(&events, "who"),
        [("$ActionBegun".to_owned(), "ops".into()), ("$ActionEnded".to_owned(), "ops".into()),]
    );
    assert_eq!(events[1]["data"]["outcome"], "the caller left before it was told");
    desk.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_defaults_hold_whoever_wrote_them_and_left() {
    let directory = TempDir::new().expect("a directory");
    let node = server(directory.path()).await;
    let bob = NewUser {
        login: "bob".to_owned(),
        full_name: "Bob".to_owned(),
        groups: Vec::new(),
        password: PASSWORD.to_owned(),
    };
    node.context().users().create(bob).await.expect("created");
    let bob = basic("bob", PASSWORD);
    let status = async || {
        let proof = [("authorization", bob.as_str())];
        call(node.address(), "GET", "/v1/streams/a-1", &proof, "").await.status
    };
    assert_eq!(status().await, 404, "it may be read, and is not there");
    // As a writer whose call was cut leaves it: nobody looks at it for them.
    let settings = r#"{"$userStreamAcl":{"$r":[]}}"#;
    let event = NewEvent::json(Uuid::from_u128(1), "settings", settings);
    let append = Append::to_stream(name("$settings"), ExpectedRevision::Any, [event]);
    node.store().append(append).await.expect("appended");
    until("the new defaults hold", || async { status().await == 403 }).await;
    node.stop(PATIENCE).await;
}
