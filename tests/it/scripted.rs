//! Projections that users write, over gRPC: what they fold, write and save, and what stops them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use daybook_client::{Client, Links, ReadError, ReadStream};
use daybook_model::{ExpectedRevision, NewEvent, RecordedEvent};
use daybook_wire::proto::projections as proto;
use daybook_wire::proto::projections::projections_client::ProjectionsClient;
use daybook_wire::proto::projections::statistics_resp::Details;
use daybook_wire::proto::shared::Empty;
use futures_util::TryStreamExt as _;
use prost_types::value::Kind;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::support::daemon::Daemon;
use crate::support::events::name;
use crate::support::node::{Server, client};
use crate::support::{assert_says, http, until};

/// The projections of a server, as an operator calls them.
struct Projections {
    calls: ProjectionsClient<Channel>,
}

impl Projections {
    async fn of(address: SocketAddr) -> Projections {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URL");
        let channel = endpoint.connect().await.expect("a connection");
        Projections { calls: ProjectionsClient::new(channel) }
    }

    async fn create(&mut self, name: &str, query: &str) {
        self.try_create(name, query).await.expect("created");
    }

    async fn try_create(&mut self, name: &str, query: &str) -> Result<(), Status> {
        use proto::create_req::options::{Continuous, Mode};
        let mode = Mode::Continuous(Continuous {
            name: name.to_owned(),
            emit_enabled: true,
            track_emitted_streams: true,
        });
        self.create_as(mode, query).await
    }

    async fn create_as(
        &mut self,
        mode: proto::create_req::options::Mode,
        query: &str,
    ) -> Result<(), Status> {
        let options = proto::create_req::Options {
            mode: Some(mode),
            query: query.to_owned(),
            ..proto::create_req::Options::default()
        };
        self.calls.create(proto::CreateReq { options: Some(options) }).await.map(drop)
    }

    async fn update(&mut self, name: &str, query: &str) {
        let options = proto::update_req::Options {
            name: name.to_owned(),
            query: query.to_owned(),
            ..proto::update_req::Options::default()
        };
        self.calls.update(proto::UpdateReq { options: Some(options) }).await.expect("updated");
    }

    async fn enable(&mut self, name: &str) {
        let options = proto::enable_req::Options { name: name.to_owned() };
        self.calls.enable(proto::EnableReq { options: Some(options) }).await.expect("enabled");
    }

    async fn disable(&mut self, name: &str, write_checkpoint: bool) {
        let options = proto::disable_req::Options { name: name.to_owned(), write_checkpoint };
        self.calls.disable(proto::DisableReq { options: Some(options) }).await.expect("disabled");
    }

    async fn reset(&mut self, name: &str) {
        let options = proto::reset_req::Options { name: name.to_owned(), write_checkpoint: true };
        self.calls.reset(proto::ResetReq { options: Some(options) }).await.expect("reset");
    }

    async fn delete(&mut self, name: &str) -> Result<(), Status> {
        let options = proto::delete_req::Options {
            name: name.to_owned(),
            delete_emitted_streams: true,
            delete_state_stream: true,
            delete_checkpoint_stream: true,
        };
        self.calls.delete(proto::DeleteReq { options: Some(options) }).await.map(drop)
    }

    async fn details(&mut self, name: &str) -> Details {
        use proto::statistics_req::options::Mode;
        let mode = Some(Mode::Name(name.to_owned()));
        self.listed(mode).await.expect("answers").remove(0)
    }

    async fn listed(
        &mut self,
        mode: Option<proto::statistics_req::options::Mode>,
    ) -> Result<Vec<Details>, Status> {
        let options = Some(proto::statistics_req::Options { mode });
        let mut answers =
            self.calls.statistics(proto::StatisticsReq { options }).await?.into_inner();
        let mut found = Vec::new();
        while let Some(answer) = answers.message().await? {
            found.push(answer.details.expect("details"));
        }
        Ok(found)
    }

    async fn state(&mut self, name: &str, partition: &str) -> Value {
        let options =
            proto::state_req::Options { name: name.to_owned(), partition: partition.to_owned() };
        let answer = self.calls.state(proto::StateReq { options: Some(options) }).await;
        json_of(answer.expect("a state").into_inner().state.expect("a value"))
    }

    async fn result(&mut self, name: &str, partition: &str) -> Value {
        let options =
            proto::result_req::Options { name: name.to_owned(), partition: partition.to_owned() };
        let answer = self.calls.result(proto::ResultReq { options: Some(options) }).await;
        json_of(answer.expect("a result").into_inner().result.expect("a value"))
    }

    /// Waits until the projection has the status `wanted`, and answers how it stands.
    async fn comes_to(&mut self, name: &str, wanted: &str) -> Details {
        self.stands(name, |details| {
            assert!(details.status != "Faulted" || wanted == "Faulted", "{}", details.state_reason);
            details.status == wanted
        })
        .await
    }

    /// Waits until the projection has handled all that there is.
    async fn catches_up(&mut self, name: &str, events: i64) {
        self.stands(name, |details| {
            assert_eq!(details.status, "Running", "{}", details.state_reason);
            details.progress >= 100.0 && details.events_processed_after_restart >= events
        })
        .await;
    }

    /// Waits until the projection stands as `reached` says, and answers how.
    async fn stands(&mut self, name: &str, reached: impl Fn(&Details) -> bool) -> Details {
        let calls = &self.calls;
        let found = Mutex::new(None);
        until(&format!("projection '{name}'"), || async {
            let mut projections = Projections { calls: calls.clone() };
            let details = projections.details(name).await;
            let stands = reached(&details);
            *found.lock().expect("no panic") = Some(details);
            stands
        })
        .await;
        found.into_inner().expect("no panic").expect("it was asked")
    }
}

fn json_of(value: prost_types::Value) -> Value {
    match value.kind.expect("a kind") {
        Kind::NullValue(_) => Value::Null,
        Kind::BoolValue(flag) => flag.into(),
        Kind::NumberValue(number) => number.into(),
        Kind::StringValue(text) => text.into(),
        Kind::ListValue(list) => list.values.into_iter().map(json_of).collect(),
        Kind::StructValue(fields) => {
            fields.fields.into_iter().map(|(name, value)| (name, json_of(value))).collect()
        }
    }
}

async fn append(client: &Client, stream: &str, event_type: &str, data: Value) {
    let event = NewEvent::json(Uuid::new_v4(), event_type, data.to_string());
    client.append(&name(stream), ExpectedRevision::Any, vec![event]).await.expect("appended");
}

/// The events of `stream`; none if it is not there.
async fn read(client: &Client, stream: &str) -> Vec<RecordedEvent> {
    let read: Result<Vec<_>, ReadError> =
        async { client.read_stream(ReadStream::new(name(stream))).await?.try_collect().await }
            .await;
    match read {
        Ok(read) => read.into_iter().filter_map(|resolved| resolved.event).collect(),
        Err(ReadError::StreamNotFound { .. }) => Vec::new(),
        Err(failed) => panic!("{failed}"),
    }
}

fn shown(events: &[RecordedEvent]) -> Vec<String> {
    let text = |event: &RecordedEvent| String::from_utf8(event.data.to_vec()).expect("text");
    events.iter().map(|event| format!("{} {}", event.event_type, text(event))).collect()
}

const COUNT: &str = "fromStream('s').when({
    $init: () => ({ n: 0 }),
    Counted(s, e) { s.n += e.data.by; },
}).transformBy(s => ({ total: s.n })).outputState()";

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_folded_and_its_results_are_written() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let client = &server.client;
    let mut projections = Projections::of(server.address()).await;
    append(client, "s", "Counted", json!({"by": 2})).await;
    append(client, "s", "Other", json!({"by": 100})).await;
    append(client, "t", "Counted", json!({"by": 100})).await;
    projections.create("count", COUNT).await;
    append(client, "s", "Counted", json!({"by": 3})).await;
    projections.catches_up("count", 2).await;
    assert_eq!(projections.state("count", "").await, json!({"n": 5.0}));
    assert_eq!(projections.result("count", "").await, json!({"total": 5.0}));
    let results = || async { shown(&read(client, "$projections-count-result").await) };
    until("both results", || async { results().await.len() == 2 }).await;
    assert_eq!(results().await, [r#"Result {"total":2}"#, r#"Result {"total":5}"#]);
    let details = projections.details("count").await;
    assert_eq!((details.mode.as_str(), details.version, details.epoch), ("Continuous", 0, 0));
    assert!(details.position.starts_with("C:"), "{details:?}");

    projections.disable("count", true).await;
    assert_eq!(projections.details("count").await.status, "Stopped");
    append(client, "s", "Counted", json!({"by": 5})).await;
    assert_eq!(projections.state("count", "").await, json!({"n": 5.0}), "as it was saved");
    assert_eq!(projections.result("count", "").await, json!({"total": 5.0}), "as it was saved");
    server.stop().await;

    let server = Server::start(data.path()).await;
    let mut projections = Projections::of(server.address()).await;
    assert_eq!(projections.details("count").await.status, "Stopped", "a restart starts nothing");
    projections.enable("count").await;
    projections.catches_up("count", 1).await;
    assert_eq!(projections.state("count", "").await, json!({"n": 10.0}));
    projections.reset("count").await;
    projections.catches_up("count", 3).await;
    assert_eq!(projections.state("count", "").await, json!({"n": 10.0}));
    assert_eq!(projections.details("count").await.epoch, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_have_states_and_results_of_their_own() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let client = &server.client;
    let mut projections = Projections::of(server.address()).await;
    projections
        .create(
            "by-account",
            "fromCategory('account').foreachStream().when({
                $init: () => ({ n: 0 }),
                Paid(s, e) { s.n += 1; s.in = e.partition; },
                $deleted(s, e) { s.gone = true; },
            }).outputState()",
        )
        .await;
    for stream in ["account-1", "account-2", "account-1", "other-1"] {
        append(client, stream, "Paid", json!({})).await;
    }
    projections.catches_up("by-account", 3).await;
    let of = |n: u64| json!({"n": n as f64, "in": if n == 2 { "account-1" } else { "account-2" }});
    assert_eq!(projections.state("by-account", "account-1").await, of(2));
    assert_eq!(projections.state("by-account", "account-2").await, of(1));
    assert_eq!(projections.state("by-account", "other-1").await, json!({}));
    let links = "$projections-by-account-result";
    until("three results", || async { read(client, links).await.len() == 3 }).await;
    assert_eq!(
        shown(&read(client, links).await),
        [
            "$> 0@$projections-by-account-account-1-result",
            "$> 0@$projections-by-account-account-2-result",
            "$> 1@$projections-by-account-account-1-result",
        ]
    );
    let query = ReadStream { links: Links::Resolve, ..ReadStream::new(name(links)) };
    let resolved: Vec<_> =
        client.read_stream(query).await.expect("a read").try_collect().await.expect("events");
    let first = resolved[0].event.clone().expect("resolved");
    assert_eq!(shown(&[first]), [r#"Result {"n":1,"in":"account-1"}"#]);

    client.tombstone(&name("account-1"), ExpectedRevision::Any).await.expect("deleted");
    projections.catches_up("by-account", 4).await;
    assert_eq!(projections.state("by-account", "account-1").await["gone"], json!(true));
    // What is saved is what a restart begins with.
    server.stop().await;
    let server = Server::start(data.path()).await;
    append(&server.client, "account-2", "Paid", json!({})).await;
    let mut projections = Projections::of(server.address()).await;
    projections.catches_up("by-account", 1).await;
    assert_eq!(projections.state("by-account", "account-2").await["n"], json!(2.0));
    assert_eq!(projections.state("by-account", "account-1").await["gone"], json!(true));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_merged_in_the_order_of_the_log() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let client = &server.client;
    let mut projections = Projections::of(server.address()).await;
    let query = "fromStreams(['a', 'b', 'linked']).when({
        $init: () => ({ seen: [] }),
        $any(s, e) { s.seen.push(e.data.n); },
    })";
    for n in 0..10 {
        append(client, if n % 3 == 0 { "a" } else { "b" }, "N", json!({"n": n})).await;
    }
    let link = NewEvent {
        id: Uuid::new_v4(),
        event_type: "$>".to_owned(),
        content_type: daybook_model::ContentType::Binary,
        metadata: bytes::Bytes::new(),
        data: "0@a".into(),
    };
    client.append(&name("linked"), ExpectedRevision::Any, vec![link]).await.expect("a link");
    projections.create("merged", query).await;
    projections.catches_up("merged", 11).await;
    for n in 11..30 {
        append(client, if n % 2 == 0 { "a" } else { "b" }, "N", json!({"n": n})).await;
    }
    projections.catches_up("merged", 30).await;
    let expected: Vec<f64> = (0..10).chain([0]).chain(11..30).map(f64::from).collect();
    assert_eq!(projections.state("merged", "").await["seen"], json!(expected));
    // Another stream of which only what comes later counts.
    append(client, "c", "N", json!({"n": 100})).await;
    projections.update("merged", &query.replace("'a', 'b', 'linked'", "'a', 'c'")).await;
    append(client, "c", "N", json!({"n": 101})).await;
    append(client, "b", "N", json!({"n": 102})).await;
    append(client, "a", "N", json!({"n": 103})).await;
    until("the last event", || async {
        let mut projections = Projections::of(server.address()).await;
        let state = projections.state("merged", "").await;
        state["seen"].as_array().and_then(|seen| seen.last()) == Some(&json!(103.0))
    })
    .await;
    let seen = projections.state("merged", "").await["seen"].clone();
    let tail: Vec<f64> =
        seen.as_array().expect("a list")[30..].iter().filter_map(Value::as_f64).collect();
    assert!(tail.ends_with(&[101.0, 103.0]) && !tail.contains(&102.0), "{tail:?}");
    assert_eq!(projections.details("merged").await.version, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_writes_has_its_cause_and_can_be_deleted_with_it() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let client = &server.client;
    let mut projections = Projections::of(server.address()).await;
    projections
        .create(
            "writes",
            "fromAll().when({ Paid(s, e) {
                emit('copies-' + e.streamId, 'Copied', e.data, { by: 'writes' });
                linkTo('links', e);
            } })",
        )
        .await;
    let cause = NewEvent {
        metadata: r#"{"$correlationId":"c-1"}"#.into(),
        ..NewEvent::json(Uuid::new_v4(), "Paid", r#"{"amount":1}"#)
    };
    let id = cause.id;
    client.append(&name("s"), ExpectedRevision::Any, vec![cause]).await.expect("appended");
    append(client, "s", "Paid", json!({"amount": 2})).await;
    until("both links", || async { read(client, "links").await.len() == 2 }).await;
    assert_eq!(shown(&read(client, "links").await), ["$> 0@s", "$> 1@s"]);
    let copies = read(client, "copies-s").await;
    assert_eq!(shown(&copies), [r#"Copied {"amount":1}"#, r#"Copied {"amount":2}"#]);
    let metadata: Value = serde_json::from_slice(&copies[0].metadata).expect("JSON");
    assert_eq!(
        metadata,
        json!({"by": "writes", "$causedBy": id.to_string(), "$correlationId": "c-1"})
    );
    let refused = projections.delete("writes").await.expect_err("it runs");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    projections.disable("writes", true).await;
    projections.delete("writes").await.expect("deleted");
    for stream in ["links", "copies-s", "$projections-writes-checkpoint"] {
        assert_eq!(read(client, stream).await.len(), 0, "{stream}");
    }
    let missing = projections.delete("writes").await.expect_err("it is gone");
    assert_eq!(
        (missing.code(), missing.message()),
        (Code::NotFound, "Projection 'writes' not found")
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_fails_stops_at_that_event_and_goes_on_when_it_is_mended() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let client = &server.client;
    let mut projections = Projections::of(server.address()).await;
    let rows = [
        ("throws", "if (e.data.n === 3) throw new Error('no threes')", "no threes"),
        ("loops", "while (e.data.n === 3) {}", "took too long"),
        ("owned", "if (e.data.n === 3) emit('ledger.x', 'T', {})", "another part of the server"),
        ("dead", "if (e.data.n === 3) emit('dead', 'T', {})", "deleted for ever"),
        ("linked", "if (e.data.n === 3) emit('$ce-x', 'T', {})", "another part of the server"),
        (
            "untyped",
            "if (e.data.n === 3) emit('x', 'T'.repeat(2000), {})",
            "has a type of 2000 bytes",
        ),
        ("named", "if (e.data.n === 3) emit('a\\nb', 'T', {})", "control character"),
    ];
    for n in 0..5 {
        append(client, "s", "N", json!({"n": n})).await;
    }
    append(client, "dead", "N", json!({})).await;
    client.tombstone(&name("dead"), ExpectedRevision::Any).await.expect("deleted");
    for (name, body, reason) in rows {
        let query = |body: &str| {
            format!(
                "fromStream('s').when({{ $init: () => ({{ n: 0 }}), N(s, e) {{
                    {body}; s.n += 1; emit('out-{name}', 'Seen', e.data);
                }} }})"
            )
        };
        projections.create(name, &query(body)).await;
        let details = projections.comes_to(name, "Faulted").await;
        assert_says(&details.state_reason, &[reason, "event 3@s"]);
        // What came before it counts.
        assert_eq!(read(client, &format!("out-{name}")).await.len(), 3, "{name}");
        assert_eq!(projections.state(name, "").await, json!({"n": 3.0}), "{name}");
        projections.update(name, &query("")).await;
        projections.catches_up(name, 2).await;
        assert_eq!(projections.state(name, "").await, json!({"n": 5.0}), "{name}");
        let written = read(client, &format!("out-{name}")).await;
        let expected: Vec<_> = (0..5).map(|n| format!(r#"Seen {{"n":{n}}}"#)).collect();
        assert_eq!(shown(&written), expected, "{name}");
    }
    let page = http::get(server.address(), "/metrics").await;
    assert_says(&page.body, &["daybook_script_running{projection=\"throws\"} 1"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_is_refused() {
    use proto::create_req::options::{Continuous, Mode, Transient};
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let mut projections = Projections::of(server.address()).await;
    projections.create("there", "fromAll()").await;
    let rows = [
        ("there", "fromAll()", Code::AlreadyExists, "exists already"),
        ("$by_category", "fromAll()", Code::AlreadyExists, "exists already"),
        ("bad", "fromAll(", Code::InvalidArgument, "could not compile"),
        ("bad", "1", Code::InvalidArgument, "follows nothing"),
        ("", "fromAll()", Code::InvalidArgument, "name"),
        ("a-result", "fromAll()", Code::InvalidArgument, "-result"),
        ("bad", "fromStream('$all')", Code::InvalidArgument, "cannot follow '$all'"),
        ("bad", "fromStream('a\\nb')", Code::InvalidArgument, "control character"),
        ("bad", "fromAll().when({}).outputTo('ledger.a')", Code::InvalidArgument, "'ledger.a'"),
        (
            "bad",
            "fromAll().when({}).outputTo('r', '$projections-there-checkpoint')",
            Code::InvalidArgument,
            "$projections-there-checkpoint",
        ),
    ];
    for (name, query, code, words) in rows {
        let refused = projections.try_create(name, query).await.expect_err(name);
        assert_eq!(refused.code(), code, "{name}: {}", refused.message());
        assert_says(refused.message(), &[words]);
    }
    // Of a projection that may not write.
    let silent = Continuous { name: "silent".to_owned(), ..Continuous::default() };
    let query = "fromStream('s').when({ N(s, e) { emit('out', 'T', {}) } })";
    projections.create_as(Mode::Continuous(silent), query).await.expect("created");
    append(&server.client, "s", "N", json!({})).await;
    let details = projections.comes_to("silent", "Faulted").await;
    assert_says(&details.state_reason, &["'emit' is not allowed"]);
    // A projection that is kept in memory alone.
    let transient = Transient { name: "for-now".to_owned() };
    let counts = "fromAll().when({ $init: () => ({n: 0}), $any(s) { s.n += 1 } }).outputState()";
    projections.create_as(Mode::Transient(transient), counts).await.expect("created");
    projections.catches_up("for-now", 1).await;
    assert_eq!(projections.state("for-now", "").await, json!({"n": 1.0}));
    projections.create_as(Mode::OneTime(Empty {}), counts).await.expect("created");
    let mode = Some(proto::statistics_req::options::Mode::OneTime(Empty {}));
    let once = projections.listed(mode).await.expect("answers").remove(0).name;
    projections.comes_to(&once, "Completed/Stopped").await;
    assert_eq!(projections.result(&once, "").await, json!({"n": 1.0}));
    projections.delete(&once).await.expect("deleted");
    let written = read(&server.client, &format!("$projections-{once}-result")).await;
    assert_eq!(written.len(), 0, "nothing is written");
    server.stop().await;
}

/// Whatever a program follows in between, it handles no event twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_follows_something_else_for_a_while_handles_nothing_twice() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let client = &server.client;
    let mut projections = Projections::of(server.address()).await;
    let typed = "fromAll().when({ A(s, e) { emit('out', 'Copy', e.data) } })";
    let all =
        "fromAll().when({ $any(s, e) { if (e.eventType === 'A') emit('out', 'Copy', e.data) } })";
    let other = "fromStream('elsewhere').when({ $any(s, e) {} })";
    projections.create("changing", typed).await;
    let mut expected = Vec::new();
    for (round, query) in [typed, all, typed, other, all, typed].into_iter().enumerate() {
        projections.update("changing", query).await;
        append(client, "s", "A", json!({"n": round})).await;
        append(client, "elsewhere", "B", json!({"n": round})).await;
        // The place is beyond both when an event of the stream that is followed was handled.
        projections.stands("changing", |details| details.progress >= 100.0).await;
        if query != other {
            expected.push(format!(r#"Copy {{"n":{round}}}"#));
            until("it is written", || async { read(client, "out").await.len() == expected.len() })
                .await;
        } else {
            projections.catches_up("changing", 1).await;
        }
    }
    assert_eq!(shown(&read(client, "out").await), expected);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_special_about_streams_does_not_confuse_a_program() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let client = &server.client;
    let mut projections = Projections::of(server.address()).await;
    append(client, "c-1", "A", json!({"n": 1})).await;
    append(client, "c-2", "A", json!({"n": 2})).await;
    client.delete(&name("c-2"), ExpectedRevision::Any).await.expect("deleted");
    let rows = [
        // What a deleted stream hides is not handled, nor is the news of it.
        ("category", "fromCategory('c').when({ $any(s, e) { (s.seen ??= []).push(e.streamId) } })"),
        (
            "lists",
            "fromStream('$category-c').when({ $any(s, e) { (s.seen ??= []).push(e.bodyRaw) } })",
        ),
    ];
    for (name, query) in rows {
        projections.create(name, query).await;
        projections.catches_up(name, 1).await;
    }
    assert_eq!(projections.state("category", "").await, json!({"seen": ["c-1"]}));
    assert_eq!(projections.state("lists", "").await, json!({"seen": ["c-1", "c-2"]}));

    // A state that was set to null is not the first one, also after a restart.
    projections
        .create(
            "nulls",
            "fromStream('n').when({ $init: () => ({ first: true }),
                Clear: () => null, Look(s) { return { saw: s } } })",
        )
        .await;
    append(client, "n", "Clear", json!({})).await;
    projections.catches_up("nulls", 1).await;
    // Links name their results, whatever else is written beside them.
    projections
        .create(
            "beside",
            "fromStream('b').partitionBy(e => e.data.p).when({ $init: () => ({ n: 0 }),
                B(s, e) { s.n += 1; emit('results', 'Note', {}); } }).outputState().outputTo('links', 'results')",
        )
        .await;
    for p in ["x", "y", "x"] {
        append(client, "b", "B", json!({"p": p})).await;
    }
    projections.catches_up("beside", 3).await;
    until("three links", || async { read(client, "links").await.len() == 3 }).await;
    let query = ReadStream { links: Links::Resolve, ..ReadStream::new(name("links")) };
    let resolved: Vec<_> =
        client.read_stream(query).await.expect("a read").try_collect().await.expect("events");
    let resolved: Vec<_> = resolved.into_iter().filter_map(|each| each.event).collect();
    assert_eq!(shown(&resolved), [r#"Result {"n":1}"#, r#"Result {"n":1}"#, r#"Result {"n":2}"#]);
    server.stop().await;
    let server = Server::start(data.path()).await;
    let mut projections = Projections::of(server.address()).await;
    append(&server.client, "n", "Look", json!({})).await;
    projections.catches_up("nulls", 1).await;
    assert_eq!(projections.state("nulls", "").await, json!({"saw": null}));

    // One that is made again keeps one checkpoint, as the first did.
    for _ in 0..2 {
        projections.create("again", "fromStream('n').when({ Clear() {} })").await;
        projections.catches_up("again", 1).await;
        projections.disable("again", true).await;
        let stream = name("$projections-again-checkpoint");
        let metadata = server.store().stream_info(&stream).await.expect("known").metadata;
        assert_eq!(metadata.max_count, Some(1));
        projections.delete("again").await.expect("deleted");
    }
    server.stop().await;
}

/// A client that gives up in the middle of a change leaves it undone or done, never half.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_whole_although_its_client_goes_away() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let mut projections = Projections::of(server.address()).await;
    projections.create("count", COUNT).await;
    for round in 0..40 {
        append(&server.client, "s", "Counted", json!({"by": 1})).await;
        let options = proto::disable_req::Options { name: "count".into(), write_checkpoint: true };
        let mut request = tonic::Request::new(proto::DisableReq { options: Some(options) });
        request.set_timeout(std::time::Duration::from_micros(50 * round));
        // Its outcome is anything.
        drop(projections.calls.disable(request).await);
        let options = proto::reset_req::Options { name: "count".into(), write_checkpoint: true };
        let mut request = tonic::Request::new(proto::ResetReq { options: Some(options) });
        request.set_timeout(std::time::Duration::from_micros(50 * round));
        drop(projections.calls.reset(request).await);
    }
    projections.enable("count").await;
    projections.stands("count", |details| details.progress >= 100.0).await;
    assert_eq!(projections.state("count", "").await, json!({"n": 40.0}));
    projections.disable("count", true).await;
    projections.delete("count").await.expect("deleted");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_clients_make_one_over_http() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let mut projections = Projections::of(server.address()).await;
    let path = "/projections/continuous?name=count&type=js&enabled=true&emit=true&\
                trackemittedstreams=true&checkpoints=true";
    let made = http::post(server.address(), path, COUNT).await;
    assert_eq!(made.status, 201, "{made:?}");
    append(&server.client, "s", "Counted", json!({"by": 2})).await;
    projections.catches_up("count", 1).await;
    assert_eq!(projections.state("count", "").await, json!({"n": 2.0}));
    let again = http::post(server.address(), path, COUNT).await;
    assert_eq!(again.status, 409, "{again:?}");
    let bad = http::post(server.address(), "/projections/continuous?name=x&type=xml", COUNT).await;
    assert_eq!(bad.status, 400, "{bad:?}");
    server.stop().await;
}

/// Killed again and again while it writes, a projection writes each event once, in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_s_projection_writes_nothing_twice() {
    const KILLS: usize = 6;
    const ROUND: usize = 300;
    let data = TempDir::new().expect("a directory");
    let mut daemon = Daemon::start(data.path());
    let mut projections = Projections::of(daemon.address).await;
    projections
        .create(
            "exact",
            "fromCategory('in').partitionBy(e => e.data.n % 7).when({
                $init: () => ({ n: 0 }),
                N(s, e) { s.n += 1; emit('out', 'N', { n: e.data.n, of: s.n }); },
            }).outputState()",
        )
        .await;
    let mut sent = 0;
    for kill in 0..KILLS {
        let client = client(daemon.address);
        for _ in 0..ROUND {
            append(&client, &format!("in-{}", sent % 5), "N", json!({"n": sent})).await;
            sent += 1;
        }
        if kill + 1 < KILLS {
            daemon.kill();
            daemon = Daemon::start(data.path());
        }
    }
    let client = client(daemon.address);
    until("all are written", || async { read(&client, "out").await.len() >= sent }).await;
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    let expected: Vec<String> = (0..sent)
        .map(|n| {
            let of = counts.entry(n % 7).or_default();
            *of += 1;
            format!(r#"N {{"n":{n},"of":{of}}}"#)
        })
        .collect();
    let written = shown(&read(&client, "out").await);
    assert_eq!(written.len(), expected.len());
    assert_eq!(written, expected);
    let links = read(&client, "$projections-exact-result").await;
    assert_eq!(links.len(), sent, "one result for each change");
    daemon.terminate();
}
