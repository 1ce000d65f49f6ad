//! What an operator does to a running server over HTTP.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;

use std::time::Duration;

use daybook::backup::ArchiveSettings;
use daybook::ledger;
use daybook::node::Config;
use daybook_client::persistent::{Group, GroupSettings, GroupStart};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::daemon::{Daemon, daybook};
use crate::support::directory::segments;
use crate::support::events::name;
use crate::support::http::{call, get, post};
use crate::support::ledger::{Ledger, id, payment};
use crate::support::node::Server;
use crate::support::{PATIENCE, until};

/// Verifies the log of the server and waits for what it finds.
async fn verified(server: &Server) -> Value {
    let address = server.address();
    let before = get(address, "/admin/verify").await.json()["last"].clone();
    assert_eq!(post(address, "/admin/verify", "").await.status, 202);
    let ended = async || get(address, "/admin/verify").await.json()["last"] != before;
    until("the verification has ended", ended).await;
    let status = get(address, "/admin/verify").await.json();
    assert_eq!(status["running"], Value::Null, "{status}");
    status["last"].clone()
}

async fn metric(server: &Server, name: &str) -> String {
    let text = get(server.address(), "/metrics").await.body;
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.split(' ').nth(1)).unwrap_or_else(|| panic!("no {name}")).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_finds_damage_in_its_log() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    for number in 0..20 {
        let event = json!({ "type": "Noted", "data": { "number": number } });
        let answer = post(server.address(), "/v1/streams/notes", event.to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let last = verified(&server).await;
    assert_eq!((&last["result"], &last["damage"]), (&"sound".into(), &Value::Null), "{last}");
    assert_eq!(metric(&server, "daybook_log_damaged").await, "0");
    assert_ne!(metric(&server, "daybook_log_verified_timestamp_seconds").await, "0");
    // One bit of an event in the middle.
    let name = segments(data.path()).remove(0);
    let path = data.path().join(&name);
    #[expect(clippy::disallowed_methods, reason = "a fault of the drive")]
    let file = OpenOptions::new().read(true).write(true).open(&path).expect("the segment");
    let mut bytes = vec![0; 16 * 1024];
    let size = file.read_at(&mut bytes, 0).expect("read");
    let at = bytes[..size].windows(12).position(|found| found == b"{\"number\":7}").expect("there");
    file.write_all_at(b"8", at as u64 + 10).expect("written");
    let last = verified(&server).await;
    assert_eq!(last["result"], "damaged", "{last}");
    let damage = last["damage"].as_str().expect("words");
    assert!(damage.contains(&name), "{damage}");
    assert_eq!(metric(&server, "daybook_log_damaged").await, "1");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_stopped_over_http() {
    let data = TempDir::new().expect("a directory");
    let daemon = Daemon::start(data.path());
    assert_eq!(post(daemon.address, "/admin/shutdown", "").await.status, 202);
    let (status, log) = daemon.wait();
    assert!(status.success(), "{log}");
}

/// All entries of a list, two a page.
async fn entries(server: &Server, path: &str, list: &str) -> Vec<Value> {
    let (mut found, mut asked) = (Vec::new(), path.to_owned());
    loop {
        let answer = get(server.address(), &asked).await;
        assert_eq!(answer.status, 200, "{asked}: {answer:?}");
        let page = answer.json();
        let entries = page[list].as_array().expect("a list");
        assert!(entries.len() <= 2, "{page}");
        found.extend(entries.iter().cloned());
        let Some(next) = page["next"].as_str() else { return found };
        asked = format!("{path}&cursor={next}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_listed_with_how_far_each_is() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let address = server.address();
    let events = json!([{ "type": "A", "data": 1 }, { "type": "B", "data": 2 }]).to_string();
    for stream in ["list-a", "list-b", "list-c", "list-d", "other"] {
        assert_eq!(
            post(address, &format!("/v1/streams/{stream}"), events.clone()).await.status,
            200
        );
    }
    let limit = r#"{"$tb":1}"#;
    let set = call(address, "PUT", "/v1/streams/list-b/metadata", &[], limit).await;
    assert_eq!(set.status, 200, "{set:?}");
    for (path, verdict) in [("/v1/streams/list-c", ""), ("/v1/streams/list-d", "?hard=true")] {
        assert_eq!(call(address, "DELETE", &format!("{path}{verdict}"), &[], "").await.status, 200);
    }
    let found = entries(&server, "/admin/streams?prefix=list-&limit=2", "streams").await;
    let entry = |name: &str, state: &str, numbers: [Option<u64>; 3], has_metadata: Option<bool>| {
        let [first, head, events] = numbers;
        json!({ "name": name, "state": state, "first": first, "head": head, "events": events,
            "hasMetadata": has_metadata })
    };
    let ended = found[3]["head"].as_u64();
    let expected = Value::from(vec![
        entry("list-a", "live", [Some(0), Some(1), Some(2)], Some(false)),
        entry("list-b", "live", [Some(1), Some(1), Some(1)], Some(true)),
        entry("list-c", "softDeleted", [None, Some(1), Some(0)], Some(true)),
        entry("list-d", "tombstoned", [None, ended, Some(0)], None),
    ]);
    assert_eq!(Value::from(found), expected);
    let bad = get(address, "/admin/streams?cursor=list-a").await;
    assert_eq!((bad.status, &bad.json()["field"]), (400, &"cursor".into()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_the_log_is_listed_with_how_far_behind() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let groups = server.client.persistent();
    for (stream, group) in [("b", "one"), ("a", "two"), ("a", "one")] {
        let group = Group::of_stream(name(stream), group);
        groups.create(&group, &GroupSettings::default(), GroupStart::Start).await.expect("a group");
    }
    for stream in ["a", "b", "b"] {
        let event = r#"{"type":"A","data":1}"#;
        assert_eq!(
            post(server.address(), &format!("/v1/streams/{stream}"), event).await.status,
            200
        );
    }
    let found = entries(&server, "/admin/subscriptions?limit=2", "subscriptions").await;
    let short = |entry: &Value| {
        let text = |part: &str| entry[part].as_str().expect("a text").to_owned();
        (text("stream"), text("group"), entry["lagEvents"].as_u64().expect("a number"))
    };
    let expected = [("a", "one", 1), ("a", "two", 1), ("b", "one", 2)];
    let expected = expected.map(|(stream, group, lag)| (stream.to_owned(), group.to_owned(), lag));
    assert_eq!(found.iter().map(short).collect::<Vec<_>>(), expected);
    let program = "fromStream('a').when({ A: (s, e) => s })";
    for name in ["p-2", "p-1", "p-3"] {
        let path = format!("/projections/continuous?name={name}&type=js");
        assert_eq!(post(server.address(), &path, program).await.status, 201);
    }
    let caught_up = async || {
        let found = entries(&server, "/admin/projections?limit=2", "projections").await;
        let names: Vec<&str> = found.iter().filter_map(|entry| entry["name"].as_str()).collect();
        assert_eq!(names, ["p-1", "p-2", "p-3"]);
        found.iter().all(|entry| entry["lagEvents"] == 0 && entry["handled"] == 1)
    };
    until("all projections have come to the end", caught_up).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_sagas_are_listed_without_what_is_in_them() {
    let data = TempDir::new().expect("a directory");
    // Nothing listens there: transfers wait for it.
    let ledger = ledger::Options {
        risk: Some("http://127.0.0.1:1/risk".parse().expect("a URL")),
        ..ledger::Options::default()
    };
    let server = Server::start_with(Config { ledger, ..Config::in_directory(data.path()) }).await;
    let books = Ledger { address: server.address() };
    books.open(id(1), "100.00").await;
    books.open(id(2), "0.00").await;
    for number in 10..13 {
        let asked = books.ask_transfer(id(number), &payment(id(1), id(2), "1.00"), 0).await;
        assert_eq!(asked.status, 202, "{asked:?}");
    }
    let found = entries(&server, "/admin/sagas?limit=2", "sagas").await;
    let ids: Vec<&str> = found.iter().filter_map(|entry| entry["id"].as_str()).collect();
    assert_eq!(ids, [10, 11, 12].map(|number| id(number).to_string()));
    for entry in &found {
        let words = entry.to_string();
        assert!(!words.contains(&id(1).to_string()) && !words.contains("1.00"), "{words}");
        assert_eq!(
            (&entry["state"], &entry["stuck"]),
            (&"running".into(), &false.into()),
            "{words}"
        );
    }
    assert!(entries(&server, "/admin/sagas?limit=2&stuck=true", "sagas").await.is_empty());
    assert!(entries(&server, "/admin/sagas?limit=2&state=failed", "sagas").await.is_empty());
    let bad = get(server.address(), "/admin/sagas?state=done").await;
    assert_eq!((bad.status, &bad.json()["field"]), (400, &"state".into()));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_begun_before_its_time() {
    let data = TempDir::new().expect("a directory");
    let to = TempDir::new().expect("a directory");
    let plain = Server::start(&data.path().join("plain")).await;
    let refused = post(plain.address(), "/admin/backup", "").await;
    assert_eq!(refused.status, 404, "{refused:?}");
    assert_eq!(refused.json()["type"], "urn:daybook:problem:archive-off");
    plain.stop().await;
    let archive = ArchiveSettings {
        url: to.path().display().to_string(),
        every: Duration::from_secs(24 * 60 * 60),
        recipients: Default::default(),
        rate: None,
        keys: None,
    };
    let config =
        Config { archive: Some(archive), ..Config::in_directory(data.path().join("data")) };
    let server = Server::start_with(config).await;
    let address = server.address();
    let archive = async || get(address, "/admin/backup/status").await.json()["archive"].clone();
    until("the first round is over", async || archive().await["rounds"].as_u64() >= Some(1)).await;
    let event = r#"{"type":"A","data":1}"#;
    assert_eq!(post(address, "/v1/streams/a", event).await.status, 200);
    let begun = post(address, "/admin/backup", "").await;
    assert_eq!(begun.status, 202, "{begun:?}");
    let wanted = begun.json()["until"].as_u64();
    until("it is archived", async || archive().await["position"].as_u64() >= wanted).await;
    server.stop().await;
}

#[test]
fn what_a_server_was_told_is_shown_and_no_secret() {
    let data = TempDir::new().expect("a directory");
    let mut serve = daybook(&["serve", "--listen", "127.0.0.1:0", "--drain-timeout", "7s"]);
    serve.arg("--data").arg(data.path()).env("DAYBOOK_CONNECTIONS_MAX", "99");
    serve.env("DAYBOOK_TRACE_OTLP", "http://127.0.0.1:9/secret-canary");
    let daemon = Daemon::spawn(serve, PATIENCE).expect("a server");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let answer = runtime.block_on(get(daemon.address, "/admin/config"));
    assert!(!answer.body.contains("secret-canary"), "{answer:?}");
    let told = answer.json();
    let of = |name: &str| {
        let settings = told["settings"].as_array().expect("settings");
        let found = settings.iter().find(|setting| setting["name"] == name);
        let found = found.unwrap_or_else(|| panic!("no {name}: {told}"));
        (found["value"].clone(), found["from"].as_str().expect("a word").to_owned())
    };
    assert_eq!(of("drain-timeout"), ("7s".into(), "flag".to_owned()));
    assert_eq!(of("connections-max"), ("99".into(), "DAYBOOK_CONNECTIONS_MAX".to_owned()));
    assert_eq!(of("trace-otlp"), ("(not shown)".into(), "DAYBOOK_TRACE_OTLP".to_owned()));
    assert_eq!(of("snapshot-every").1, "default");
    assert_eq!(of("admin-listen"), (Value::Null, "default".to_owned()));
}
