//! Moving in and out: what another server or a file holds, in a store of ours, to the byte.

use std::path::Path;

use daybook_client::{AllFrom, Direction, Metadata, ReadAll, StreamMetadata};
use daybook_model::{ContentType, ExpectedRevision, NewEvent, RecordedEvent, Revision};
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};
use tempfile::tempdir;
use uuid::Uuid;

use crate::support::daemon::{self, run, said};
use crate::support::events::{event, name};
use crate::support::node::{Server, client};
use crate::support::{assert_says, http};

/// Everything of users' that a server's `$all` has: what must be the same after a move.
async fn users_events(server: &Server) -> Vec<RecordedEvent> {
    let query =
        ReadAll { from: AllFrom::Start, direction: Direction::Forwards, ..Default::default() };
    let events = client(server.address()).read_all(query).await.expect("a read");
    let events: Vec<_> = events.try_collect().await.expect("all events");
    let own = |event: &RecordedEvent| {
        let stream = event.stream.as_str();
        !stream.trim_start_matches("$$").starts_with('$')
    };
    let events = events.into_iter().filter_map(|resolved| resolved.event).filter(own);
    // Positions are each store's own.
    events.map(|event| RecordedEvent { position: daybook_model::Position(0), ..event }).collect()
}

/// A server with all that a history can hold.
async fn lived_in(data: &Path) -> Server {
    let server = Server::start(data).await;
    let client = client(server.address());
    let any = ExpectedRevision::Any;
    for n in 0..2_500_u128 {
        let stream = name(&format!("account-{}", n % 7));
        client.append(&stream, any, vec![event(n)]).await.expect("an append");
    }
    let binary = NewEvent {
        id: Uuid::from_u128(9_001),
        event_type: "Scanned".to_owned(),
        content_type: ContentType::Binary,
        metadata: b"\xff not JSON".to_vec().into(),
        data: vec![0, 255, 10, 13].into(),
    };
    client.append(&name("scan-1"), any, vec![binary]).await.expect("an append");
    let pretty = NewEvent::json(Uuid::from_u128(9_002), "Pretty", " {\n \"a\": 1\n}\n");
    client.append(&name("scan-1"), any, vec![pretty]).await.expect("an append");
    // Truncated, deleted and opened again, ended.
    let settings = StreamMetadata { max_count: Some(3), ..StreamMetadata::default() };
    let metadata = Metadata { settings, ..Metadata::default() };
    client.set_stream_metadata(&name("account-1"), any, &metadata).await.expect("metadata");
    client.delete(&name("account-2"), any).await.expect("a deletion");
    client.append(&name("account-2"), any, vec![event(9_003)]).await.expect("an append");
    client.tombstone(&name("account-3"), any).await.expect("a tombstone");
    client.delete(&name("account-4"), any).await.expect("a deletion");
    server
}

fn import(from: &str, data: &Path) -> (bool, Value, String) {
    let data = data.to_str().expect("a path");
    let output = run(&["import", "--from", from, "--data", data, "--json"]);
    let value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.success(), value, said(&output))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_moves_with_ids_times_and_revisions() {
    let (old, new) = (tempdir().expect("a directory"), tempdir().expect("a directory"));
    let source = lived_in(old.path()).await;
    let expected = users_events(&source).await;
    let from = format!("kurrentdb://ada:secret@{}?tls=false", source.address());
    let to = new.path().to_owned();
    let at = from.clone();
    let first = tokio::task::spawn_blocking(move || import(&at, &to)).await.expect("an import");
    assert!(first.0, "{}", first.2);
    assert_eq!(first.1["verified"], true);
    assert_eq!(first.1["tally"]["events"], expected.len());
    assert!(!first.1.to_string().contains("secret") && !first.2.contains("secret"));

    // The source goes on, and what is new comes along.
    let late = client(source.address());
    late.append(&name("account-5"), ExpectedRevision::Any, vec![event(9_100)]).await.expect("late");
    let expected = users_events(&source).await;
    let to = new.path().to_owned();
    let at = from.clone();
    let second = tokio::task::spawn_blocking(move || import(&at, &to)).await.expect("an import");
    assert!(second.0, "{}", second.2);
    assert_eq!(second.1["tally"]["events"], expected.len());
    source.stop().await;

    let target = Server::start(new.path()).await;
    assert_eq!(users_events(&target).await, expected);
    // It behaves as the source did.
    let there = client(target.address());
    let read = |stream: &str| http::get(target.address(), stream_path(stream));
    assert_eq!(read("account-1").await.json()["events"].as_array().map(Vec::len), Some(3));
    assert_eq!(read("account-2").await.json()["events"].as_array().map(Vec::len), Some(1));
    assert_eq!(read("account-3").await.status, 410);
    assert_eq!(read("account-4").await.status, 404);
    let last = expected.iter().rfind(|e| e.stream.as_str() == "account-5").expect("events");
    let next = ExpectedRevision::Exact(last.revision);
    there.append(&name("account-5"), next, vec![event(9_200)]).await.expect("the next revision");
    target.stop().await;
    assert_eq!(daemon::verify(new.path())["sound"], true);

    // Now the history is its own.
    let to = new.path().to_owned();
    let third = tokio::task::spawn_blocking(move || import(&from, &to)).await.expect("an import");
    assert!(!third.0);
    assert_says(&third.2, &["was served since", "empty directory"]);
}

fn stream_path(stream: &str) -> &'static str {
    match stream {
        "account-1" => "/v1/streams/account-1",
        "account-2" => "/v1/streams/account-2",
        "account-3" => "/v1/streams/account-3",
        _ => "/v1/streams/account-4",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_gives_back_what_was_written_to_it() {
    let (old, new) = (tempdir().expect("a directory"), tempdir().expect("a directory"));
    let files = tempdir().expect("a directory");
    let source = lived_in(old.path()).await;
    let expected = users_events(&source).await;
    let file = files.path().join("events.jsonl").to_str().expect("a path").to_owned();
    let url = format!("http://{}", source.address());
    let (to, of) = (file.clone(), url.clone());
    let exported = tokio::task::spawn_blocking(move || run(&["export", "--to", &to, "--url", &of]));
    let exported = exported.await.expect("an export");
    assert!(exported.status.success(), "{}", said(&exported));
    source.stop().await;
    // A stopped store says the same.
    let again = format!("{file}.again");
    let data = old.path().to_str().expect("a path");
    let offline = run(&["export", "--to", &again, "--data", data]);
    assert!(offline.status.success(), "{}", said(&offline));
    // But for the time, which the protocol knows to 100 ns only.
    let read = |path: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(path).expect("the file");
        let line = |line| {
            let mut event: Value = serde_json::from_str(line).expect("JSON");
            event["time"].take();
            event
        };
        text.lines().map(line).collect()
    };
    assert_eq!(read(&again), read(&file));

    let (taken, answer, said) = import(&file, new.path());
    assert!(taken, "{said}");
    assert_eq!(answer["tally"]["events"], expected.len());
    let target = Server::start(new.path()).await;
    assert_eq!(users_events(&target).await, expected);
    target.stop().await;
}

fn line(stream: &str, revision: u64, time: &str) -> String {
    let id = Uuid::from_u128(u128::from(revision) + 1);
    json!({ "stream": stream, "revision": revision, "time": time, "id": id, "type": "T", "data": {} })
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_source_has_lost_keeps_its_place() {
    let (files, data) = (tempdir().expect("a directory"), tempdir().expect("a directory"));
    let file = files.path().join("gaps.jsonl");
    let (early, late) = ("2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z");
    // Begins late, has a gap, and one event is older than the one before it.
    let lines = [
        line("a", 2_500, late),
        line("a", 2_501, early),
        line("a", 2_510, late),
        line("b", 0, late),
    ];
    std::fs::write(&file, lines.join("\n")).expect("a file");
    let (taken, answer, said) = import(file.to_str().expect("a path"), data.path());
    assert!(taken, "{said}");
    let tally = &answer["tally"];
    assert_eq!(
        (&tally["events"], &tally["holes"], &tally["moved"]),
        (&json!(4), &json!(2_508), &json!(1))
    );
    for _ in 0..2 {
        // The second time the index is built anew from the log.
        let server = Server::start(data.path()).await;
        let revisions = |answer: &Value| -> Vec<u64> {
            let events = answer["events"].as_array().cloned().unwrap_or_default();
            events.iter().filter_map(|event| event["revision"].as_u64()).collect()
        };
        let forwards = http::get(server.address(), "/v1/streams/a").await.json();
        assert_eq!(revisions(&forwards), [2_500, 2_501, 2_510], "{forwards}");
        let backwards =
            http::get(server.address(), "/v1/streams/a?direction=backwards").await.json();
        assert_eq!(revisions(&backwards), [2_510, 2_501, 2_500]);
        let types = http::get(server.address(), "/v1/index/type/T").await.json();
        assert_eq!(types["events"].as_array().map(Vec::len), Some(4));
        assert_eq!(users_events(&server).await.len(), 4);
        server.stop().await;
        for name in crate::support::directory::names(data.path()) {
            if name.ends_with(".idx") || name.ends_with(".dir") || name.ends_with(".ids") {
                std::fs::remove_file(data.path().join(name)).expect("an index file");
            }
        }
    }
    let server = Server::start(data.path()).await;
    let wrong = client(server.address());
    let (a, at_two) = (name("a"), ExpectedRevision::Exact(Revision(2)));
    assert_says(
        &wrong.append(&a, at_two, vec![event(1)]).await.expect_err("a conflict").to_string(),
        &["2510"],
    );
    let next = ExpectedRevision::Exact(Revision(2_510));
    wrong.append(&a, next, vec![event(2)]).await.expect("the next revision");
    server.stop().await;
    assert_eq!(daemon::verify(data.path())["sound"], true);
}

#[test]
fn what_cannot_be_brought_in_is_refused_with_its_reason() {
    let files = tempdir().expect("a directory");
    let time = "2020-01-01T00:00:00Z";
    let huge = line("a", 20_000_000, time);
    let twice = [line("a", 0, time), line("a", 0, time)].join("\n");
    let cases: [(&str, &str, &[&str]); 4] = [
        ("broken", "{\"stream\":\"a\"", &["line 1", "EOF"]),
        ("empty", "", &["no events"]),
        ("gap", &huge, &["'a'", "20000000"]),
        ("twice", &twice, &["revision 0", "'a'", "order"]),
    ];
    for (what, text, words) in cases {
        let file = files.path().join(what);
        std::fs::write(&file, text).expect("a file");
        let data = files.path().join(format!("{what}-data"));
        let (taken, _, said) = import(file.to_str().expect("a path"), &data);
        assert!(!taken, "{what}");
        assert_says(&said, words);
    }
    let (taken, _, said) = import("/nowhere/at/all", &files.path().join("none"));
    assert!(!taken);
    assert_says(&said, &["/nowhere/at/all"]);
    assert!(!files.path().join("none").exists(), "nothing was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_is_gone_on_with_only_from_where_it_was_begun() {
    let files = tempdir().expect("a directory");
    let time = "2020-01-01T00:00:00Z";
    let (begun, other) = (files.path().join("begun"), files.path().join("other"));
    let path = |path: &Path| path.to_str().expect("a path").to_owned();
    std::fs::write(&begun, format!("{}\n", line("a", 0, time))).expect("a file");
    std::fs::write(&other, format!("{}\n", line("b", 0, time))).expect("a file");
    let data = files.path().join("data");
    assert!(import(&path(&begun), &data).0);
    let (taken, _, said) = import(&path(&other), &data);
    assert!(!taken);
    assert_says(&said, &["was begun from", "begun", "other"]);
    // Another file under the name of the first.
    std::fs::write(&begun, format!("{}\n", line("b", 7, time))).expect("a file");
    let (taken, _, said) = import(&path(&begun), &data);
    assert!(!taken);
    assert_says(&said, &["is not what was taken up to now", "empty directory"]);
    // The same file, grown.
    let grown = [line("a", 0, time), line("a", 1, time)].join("\n");
    std::fs::write(&begun, grown).expect("a file");
    let (taken, answer, said) = import(&path(&begun), &data);
    assert!(taken, "{said}");
    assert_eq!(answer["tally"]["events"], 2);
    // A store that a server made.
    let served = files.path().join("served");
    let server = Server::start(&served).await;
    server.client.append(&name("a"), ExpectedRevision::Any, vec![event(1)]).await.expect("one");
    server.stop().await;
    let (taken, _, said) = import(&path(&begun), &served);
    assert!(!taken);
    assert_says(&said, &["no import began", "empty directory"]);
}
