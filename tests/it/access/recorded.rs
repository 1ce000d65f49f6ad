//! The audit log, and answers that end with the proof of their caller.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use daybook::node::Admitted;
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
    assert_eq!(
        (data(5, "outcome"), data(5, "about")),
        ("grpc-status 0".into(), "eve: no groups".into())
    );
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
    let all = desk.audit().await;
    let events: Vec<Value> = all.into_iter().filter(|event| event["type"] == "$Denied").collect();
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
    let most = daybook::security::audit::quota::KEPT_PER_CALLER_MAX as usize;
    // Of ada, and of nobody; and the metadata that was set at the beginning.
    assert!(desk.audit().await.len() <= 2 * most + 4, "a minute may have begun meanwhile");
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
    desk.set_metadata("$audit", r#"{"$acl":{"$r":"auditors"},"$maxAge":7776000}"#).await;
    desk.server.context().audit().flush().await;
    let page = desk.http(&auditor, read, "").await.json().await;
    let last = told(page["events"].as_array().expect("events"), "what").pop();
    let expected = ("$ActionEnded".to_owned(), "write the metadata of $audit".into());
    assert_eq!(last, Some(expected), "nobody changes how long it is kept unseen");
    desk.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_hides_what_was_recorded() {
    let desk = Desk::new().await;
    assert_eq!(desk.http(&ops(), "POST /admin/scavenge", "").await.status, 200);
    let before = desk.audit().await.len();
    let set = |metadata: &str| {
        format!(r#"{{"stream":"$$$audit","events":[{{"type":"$metadata","data":{metadata}}}]}}"#)
    };
    let decoy = r#"{"stream":"$$$decoy","events":[{"type":"$metadata","data":{"$maxCount":9}}]}"#;
    for metadata in [r#"{"$tb":1000000000}"#, r#"{"$maxCount":1}"#, r#"{"$maxAge":60}"#] {
        let several = format!(r#"{{"streams":[{decoy},{}]}}"#, set(metadata));
        for caller in [admin(), Caller::unasked()] {
            let put = desk.http(&caller, "PUT /v1/streams/$audit/metadata", metadata).await;
            assert_eq!(put.status, 403, "{metadata}");
            let behind = desk.http(&caller, "POST /v1/append", several.clone()).await;
            assert_eq!(behind.status, 403, "{metadata}");
        }
    }
    for route in [
        "DELETE /v1/streams/$$$audit",
        "DELETE /v1/streams/$$$audit?hard=true",
        "POST /v1/streams/$$$audit",
        "PUT /v1/streams/$$$audit/metadata",
    ] {
        assert_eq!(desk.http(&admin(), route, EVENT).await.status, 403, "{route}");
    }
    let events = desk.audit().await;
    let tried = events[before..].iter().filter(|event| event["type"] == "$Denied");
    assert!(tried.count() > 0, "and who tried is there");
    // Each of the streams that one append describes is named.
    let several = format!(r#"{{"streams":[{decoy},{}]}}"#, set(r#"{"$acl":{}}"#));
    assert_eq!(desk.http(&admin(), "POST /v1/append", several).await.status, 200);
    let what = "write the metadata of $decoy, write the metadata of $audit";
    let last = told(&desk.audit().await, "what").pop();
    assert_eq!(last, Some(("$ActionEnded".to_owned(), what.into())));
    desk.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_do_what_with_a_stream_and_what_is_gone_is_recorded_with_who_said_so() {
    let desk = Desk::new().await;
    let bob = known("bob", &[]);
    desk.append("pay-2", EVENT).await;
    let password = |current: &str| {
        framed(&users::ChangePasswordReq {
            options: Some(users::change_password_req::Options {
                login_name: "bob".to_owned(),
                current_password: current.to_owned(),
                new_password: "another long password".to_owned(),
            }),
        })
    };
    let new = NewUser {
        login: "bob".to_owned(),
        full_name: String::new(),
        groups: Vec::new(),
        password: PASSWORD.to_owned(),
    };
    desk.server.context().users().create(new).await.expect("created");
    let groups = framed(&users::UpdateReq {
        options: Some(users::update_req::Options {
            login_name: "bob".to_owned(),
            groups: vec!["$ops".to_owned(), "staff".to_owned()],
            ..Default::default()
        }),
    });
    let path = |method: &str| format!("/event_store.client.users.Users/{method}");
    let lists = r#"{"$acl":{"$r":["eve"]}}"#;
    let put = desk.http(&bob, "PUT /v1/streams/pay-2/metadata", lists).await;
    assert_eq!(put.status, 200);
    assert_eq!(desk.http(&bob, "DELETE /v1/streams/pay-2?hard=true", "").await.status, 200);
    for (current, status) in [("wrong", 7), (PASSWORD, 0)] {
        let mut changed = desk.grpc(&bob, &path("ChangePassword"), password(current)).await;
        assert_eq!(changed.grpc_status().await, status, "{current}");
    }
    assert_eq!(desk.grpc(&admin(), &path("Update"), groups).await.grpc_status().await, 0);
    let events = desk.audit().await;
    let ended: Vec<[&str; 4]> = events
        .iter()
        .filter(|event| event["type"] == "$ActionEnded")
        .map(|event| {
            ["who", "what", "about", "outcome"].map(|m| event["data"][m].as_str().unwrap_or(""))
        })
        .collect();
    let (change, update) = (format!("POST {}", path("ChangePassword")), path("Update"));
    let update = format!("POST {update}");
    assert_eq!(
        ended,
        [
            ["bob", "write the metadata of pay-2", "", "done"],
            ["bob", "delete pay-2 for ever", "", "done"],
            ["bob", &change, "bob", "grpc-status 7"],
            ["bob", &change, "bob", "grpc-status 0"],
            ["root", &update, "bob: groups $ops, staff", "grpc-status 0"],
        ]
    );
    let begun = events.iter().filter(|event| event["type"] == "$ActionBegun");
    assert_eq!(begun.count(), ended.len(), "each before it was done");
    desk.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_logins_are_recorded_and_what_is_no_login_is_not() {
    let directory = TempDir::new().expect("a directory");
    let node = server(directory.path()).await;
    let at = node.address();
    let right = basic("ada", PASSWORD);
    let proof = [("authorization", right.as_str())];
    let records = async |query: &str| {
        let page = call(at, "GET", &format!("/admin/audit?{query}"), &proof, "").await;
        page.json()["records"].as_array().expect("records").clone()
    };
    // Logs in before the attempts: it is known then, and not locked out.
    assert!(records("").await.is_empty());
    let ping =
        async |value: &str| call(at, "GET", "/ping", &[("authorization", value)], "").await.status;
    assert_eq!(ping(&basic("my secret", "x")).await, 401);
    assert_eq!(ping("Bearer a.b.c").await, 401);
    for number in 0..10 {
        assert_eq!(ping(&basic("ada", &format!("wrong {number}"))).await, 401, "{number}");
    }
    for _ in 0..3 {
        assert_eq!(ping(&basic("ada", "wrong again")).await, 429);
    }
    let refused = "outcome=refused";
    // Of one address ten are kept, and the first lock-out.
    until("all is recorded", || async { records(refused).await.len() == 11 }).await;
    let found = records(refused).await;
    let (who, why) = ("who=ada&outcome=refused", |record: &Value| record["why"].to_string());
    let lock_outs = found.iter().filter(|record| why(record).contains("too many")).count();
    assert_eq!((lock_outs, records(who).await.len()), (1, 9));
    assert!(found.iter().all(|record| record["peer"] == "127.0.0.1"), "{found:?}");
    let proofs = |proof: &str| found.iter().filter(|record| record["proof"] == proof).count();
    assert_eq!((proofs("password"), proofs("token")), (10, 1));
    let text = Value::from(found).to_string();
    assert!(!text.contains("secret") && !text.contains("wrong again"), "{text}");
    // Who comes into the console, too; credentials that were right are not locked out.
    let form = format!("login=ada&password={}", PASSWORD.replace(' ', "+"));
    assert_eq!(call(at, "POST", "/ui/login", &[], form).await.status, 303);
    until("the login is recorded", || async { records("what=console").await.len() == 1 }).await;
    let login = &records("what=console").await[0];
    assert_eq!((&login["who"], &login["outcome"]), (&"ada".into(), &"done".into()));
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_on_a_stream_whose_caller_leaves_has_an_end_in_the_log() {
    let desk = Desk::new().await;
    let admitted = Admitted::new(desk.server.context().clone(), admin(), None);
    let event = NewEvent::json(Uuid::from_u128(1), "settings", "{}");
    let append = Append::to_stream(name("$settings"), ExpectedRevision::Any, [event]);
    let mut appending = Box::pin(admitted.door().append(append));
    assert!(futures_util::poll!(appending.as_mut()).is_pending());
    until("it is begun", || async { desk.audit().await.len() == 1 }).await;
    drop(appending);
    until("it has an end", || async { desk.audit().await.len() == 2 }).await;
    let events = desk.audit().await;
    assert_eq!(
        (&events[1]["type"], &events[1]["data"]["who"]),
        (&"$ActionEnded".into(), &"root".into())
    );
    assert_eq!(events[0]["data"]["id"], events[1]["data"]["id"]);
    let outcome = events[1]["data"]["outcome"].as_str().expect("one");
    assert!(outcome.starts_with("the caller left before it was"), "{outcome}");
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
    assert_eq!(desk.http(&ada, "GET /v1/streams/$a%22b", "").await.status, 403);
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
    assert_eq!(
        outcomes(&all),
        ["denied", "denied", "404", "begun", "404", "begun", "404", "begun"]
    );
    assert_eq!(all["next"], Value::Null);
    assert_eq!(
        (&all["records"][0]["who"], &all["records"][2]["who"]),
        (&"ada".into(), &"ops".into())
    );
    for (query, found) in [
        ("?who=ada", &["denied", "denied"][..]),
        ("?who=ad", &[]),
        ("?what=a%22b", &["denied"]),
        ("?outcome=40", &["404", "404", "404"]),
        ("?what=scavenge&outcome=den", &["denied"]),
        ("?what=nothing", &[]),
        ("?since=2100-01-01T00:00:00Z", &[]),
        ("?until=2000-01-01T00:00:00Z", &[]),
        (
            "?since=2000-01-01T00:00:00Z&until=2100-01-01T00:00:00Z&limit=3",
            &["denied", "denied", "404"],
        ),
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
    assert_eq!(found, 8, "each once");
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
