//! Traces as their collectors get them, and the log lines that go with them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use daybook::node::Config;
use daybook::telemetry::trace::settings::Headers;
use daybook::telemetry::trace::{QUEUE_SPANS_MAX, Ratio, Settings, Target};
use daybook_client::{
    Context, ExpectedRevision, ReadStream, RecordedEvent, ResolvedEvent, TraceContext,
};
use daybook_model::NewEvent;
use futures_util::TryStreamExt as _;
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::support::daemon::{Daemon, daybook};
use crate::support::events::{event, name};
use crate::support::http::{call, get, post};
use crate::support::ledger::{Ledger, id};
use crate::support::node::{Server, client};
use crate::support::pki::{Authority, write};
use crate::support::protocol::{RawEvent, batch, batch_messages};
use crate::support::secure::veiled;
use crate::support::traces::{Collector, Span, names};
use crate::support::{PATIENCE, assert_says, soon, until};

/// A place in a trace that somebody records, and one in a trace that nobody does.
const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
/// Longer than any answer takes.
const NEVER_SLOW: Duration = Duration::from_secs(3600);

fn settings(targets: Vec<Target>, ratio: f64) -> Settings {
    Settings { targets, ratio: Ratio::new(ratio).expect("a ratio"), slow: NEVER_SLOW }
}

async fn server(data: &TempDir, settings: Settings) -> Server {
    Server::start_with(Config { traces: Some(settings), ..Config::in_directory(data.path()) }).await
}

fn otlp(url: &str) -> Target {
    Target::otlp(url).expect("a URL")
}

fn recorded(read: &ResolvedEvent) -> &RecordedEvent {
    read.event.as_ref().expect("no link")
}

/// The spans of the trace that `first` begins.
fn trace_of(spans: &[Span], first: &str) -> Vec<Span> {
    let root = spans.iter().find(|span| span.name == first);
    let Some(root) = root else { return Vec::new() };
    spans.iter().filter(|span| span.trace == root.trace).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_is_one_trace_from_the_request_to_the_views_for_every_collector() {
    let (data, collector) = (TempDir::new().expect("a directory"), Collector::start().await);
    let zipkin = Target::zipkin(&collector.zipkin()).expect("a URL");
    let targets = vec![otlp(&collector.otlp_grpc()), otlp(&collector.otlp_http()), zipkin];
    let server = server(&data, settings(targets, 1.0)).await;
    let ledger = Ledger { address: server.address() };
    for account in [id(1), id(2)] {
        ledger.open(account, "100.00").await;
    }
    ledger.pay(id(3), id(1), id(2), "5.00").await;
    let expected = [
        "POST /v1/transfers",
        "payment_transfer debit_sender",
        "payment_transfer check_risk",
        "payment_transfer credit_receiver",
        "append",
        "fdatasync",
        "take in accounts/1",
        "take in payments/1",
    ];
    let whole = |way: &str| {
        let spans = trace_of(&collector.by(way), "POST /v1/transfers");
        expected.iter().all(|name| names(&spans).contains(name))
    };
    until("whole traces", || async { ["grpc", "http", "zipkin"].into_iter().all(whole) }).await;
    server.stop().await;
    let of = |way: &str| trace_of(&collector.by(way), "POST /v1/transfers");
    let spans = of("grpc");
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    assert_eq!(ids.len(), spans.len(), "no span comes twice");
    for way in ["http", "zipkin"] {
        let same = of(way);
        let same: BTreeSet<&str> = same.iter().map(|span| span.id.as_str()).collect();
        assert_eq!(same, ids, "each collector is told of the same spans");
    }
    for span in &spans {
        let is_first = span.name == "POST /v1/transfers";
        assert_eq!(span.parent.is_empty(), is_first, "{span:?}");
        assert!(is_first || ids.contains(span.parent.as_str()), "an orphan: {span:?}");
        assert_eq!(span.attributes["service.name"], "daybook");
        assert!(span.attributes.contains_key("service.instance.id"));
        assert!(span.times.0 <= span.times.1, "{span:?}");
    }
    let find = |name: &str| spans.iter().find(|span| span.name == name).expect("it is there");
    let (first, credit) = (find("POST /v1/transfers"), find("payment_transfer credit_receiver"));
    assert_eq!((first.kind.as_str(), credit.parent.as_str()), ("SERVER", first.id.as_str()));
    assert_eq!(first.attributes["http.route"], "/v1/transfers");
    let append = spans.iter().find(|span| span.name == "append" && span.parent == credit.id);
    let append = append.expect("a step's append is a part of it");
    let synced = spans.iter().find(|span| span.name == "fdatasync" && span.parent == append.id);
    let synced = synced.expect("an append's sync is a part of it");
    assert!(append.times.0 <= synced.times.0 && synced.times.1 <= append.times.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_trace_decides_and_is_carried_on_in_the_events() {
    let (data, collector) = (TempDir::new().expect("a directory"), Collector::start().await);
    let server = server(&data, settings(vec![otlp(&collector.otlp_grpc())], 0.0)).await;
    let mut metadata = Vec::new();
    for (number, parent) in [(1, Some(SAMPLED)), (2, Some(UNSAMPLED)), (3, None)] {
        let stream = format!("order-{number}");
        let path = format!("/v1/streams/{stream}");
        let body = format!(
            r#"[{{"id":"{}","type":"Placed","data":{{}},"metadata":{{"b":1,"a":2}}}}]"#,
            id(number)
        );
        let headers: Vec<_> = parent.iter().map(|parent| ("traceparent", *parent)).collect();
        let answer = call(server.address(), "POST", &path, &headers, body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let events = server.client.read_stream(ReadStream::new(name(&stream))).await;
        let events: Vec<_> = events.expect("a read").try_collect().await.expect("events");
        metadata.push(recorded(&events[0]).metadata.clone());
    }
    server.stop().await;
    let spans = collector.all();
    let of = TraceContext::parse(SAMPLED, None).expect("a place");
    let trace = format!("{:032x}", u128::from_be_bytes(of.trace_id()));
    assert!(spans.iter().all(|span| span.trace == trace), "nothing else is recorded: {spans:?}");
    let first = spans.iter().find(|span| span.name == "POST /v1/streams/{name}");
    let first = first.expect("the request");
    assert_eq!(first.parent, format!("{:016x}", u64::from_be_bytes(of.span_id())));
    let append = spans.iter().find(|span| span.name == "append").expect("its append");
    assert_eq!(append.parent, first.id);
    let said = Context::of(&metadata[0]).trace.expect("a place");
    assert_eq!(format!("{:016x}", u64::from_be_bytes(said.span_id())), append.id);
    for untouched in &metadata[1..] {
        assert_eq!(untouched, r#"{"b":1,"a":2}"#, "what nobody traces is stored as it came");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_append_keeps_its_bytes_if_only_chance_records_it() {
    let (data, collector) = (TempDir::new().expect("a directory"), Collector::start().await);
    let server = server(&data, settings(vec![otlp(&collector.otlp_http())], 1.0)).await;
    let given = NewEvent { metadata: r#"{"b":1,"a":2}"#.into(), ..event(1) };
    let stream = name("order-1");
    let appended = server.client.append(&stream, ExpectedRevision::Any, vec![given.clone()]).await;
    appended.expect("appended");
    let events = server.client.read_stream(ReadStream::new(stream)).await.expect("a read");
    let events: Vec<_> = events.try_collect().await.expect("events");
    assert_eq!(recorded(&events[0]).metadata, given.metadata);
    server.stop().await;
    let spans = collector.all();
    let spans = trace_of(&spans, "event_store.client.streams.Streams/Append");
    assert!(names(&spans).contains("fdatasync"), "{spans:?}");
    let read = collector.all().into_iter().find(|span| span.name.ends_with("Streams/Read"));
    let read = read.expect("the read");
    assert_eq!(read.events, ["page"]);
    assert_eq!(read.attributes["rpc.grpc.status_code"], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_share_only_failures_of_ours_and_slow_answers_are_told() {
    let (data, collector) = (TempDir::new().expect("a directory"), Collector::start().await);
    let server = server(&data, settings(vec![otlp(&collector.otlp_grpc())], 0.0)).await;
    let address = server.address();
    let body = r#"[{"type":"Placed","data":{}}]"#;
    assert_eq!(post(address, "/v1/streams/order-1", body).await.status, 200);
    assert_eq!(get(address, "/v1/streams/nothing").await.status, 404);
    assert_eq!(post(address, "/v1/streams/order-1", "no JSON").await.status, 400);
    server.store().close().await;
    let refused = post(address, "/v1/streams/order-1", body).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    let stream = name("order-1");
    let append = server.client.append(&stream, ExpectedRevision::Any, vec![event(9)]);
    append.await.expect_err("the store is closed");
    server.stop().await;
    let spans = collector.all();
    let told: BTreeSet<_> =
        spans.iter().map(|span| (span.name.as_str(), span.error.as_deref())).collect();
    let expected = BTreeSet::from([
        ("POST /v1/streams/{name}", Some("503 Service Unavailable")),
        ("event_store.client.streams.Streams/Append", Some("UNAVAILABLE")),
    ]);
    assert_eq!(told, expected);
    assert!(spans.iter().all(|span| span.attributes["daybook.sampled"] == "error"));

    let slow = Settings {
        slow: Duration::ZERO,
        ..settings(vec![Target::zipkin(&collector.zipkin()).expect("a URL")], 0.0)
    };
    let server = self::server(&TempDir::new().expect("a directory"), slow).await;
    assert_eq!(get(server.address(), "/info").await.status, 200);
    server.stop().await;
    let spans = collector.by("zipkin");
    assert_eq!(names(&spans), BTreeSet::from(["GET /info"]));
    assert_eq!(spans[0].attributes["daybook.sampled"], "slow");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pipelined_append_is_told_for_itself_whether_chance_took_it_or_it_was_slow() {
    for (ratio, sampled, parts) in [(1.0, None, 2), (0.0, Some("slow"), 0)] {
        let (data, collector) = (TempDir::new().expect("a directory"), Collector::start().await);
        let settings = settings(vec![otlp(&collector.otlp_grpc())], ratio);
        let server = server(&data, Settings { slow: Duration::ZERO, ..settings }).await;
        let messages = [1, 2]
            .map(|number| batch_messages(number, b"order-1", &[RawEvent::good(number, "{}")]));
        let (answers, end) = batch(server.address(), messages.concat()).await;
        end.expect("the call");
        assert_eq!(answers.len(), 2);
        server.stop().await;
        let spans = collector.all();
        let of = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
        let appends = of("BatchAppend append");
        let traces: BTreeSet<_> = appends.iter().map(|span| &span.trace).collect();
        assert_eq!((appends.len(), traces.len()), (2, 2), "a trace each: {spans:?}");
        for append in appends {
            assert_eq!((append.kind.as_str(), append.parent.as_str()), ("SERVER", ""));
            let said = append.attributes.get("daybook.sampled").map(String::as_str);
            assert_eq!(said, sampled, "with a share of {ratio}");
        }
        let synced: BTreeSet<_> = of("fdatasync").into_iter().map(|span| &span.trace).collect();
        assert_eq!(synced.intersection(&traces).count(), parts, "with a share of {ratio}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_for_a_collector_go_along() {
    let (data, collector) = (TempDir::new().expect("a directory"), Collector::start().await);
    let file = data.path().join("headers");
    std::fs::write(&file, "authorization: Bearer of-bad-news\nx-scope-orgid: bank\n")
        .expect("a file");
    let headers = Headers::load(&file.into()).expect("headers");
    let zipkin = Target::zipkin(&collector.zipkin()).expect("a URL");
    let targets = [otlp(&collector.otlp_grpc()), otlp(&collector.otlp_http()), zipkin];
    let targets = targets.map(|target| target.with_headers(headers.clone())).into();
    let data = TempDir::new().expect("a directory");
    let server = server(&data, settings(targets, 1.0)).await;
    assert_eq!(get(server.address(), "/info").await.status, 200);
    server.stop().await;
    let all = collector.headers();
    assert_eq!(all.len(), 3, "one request each");
    for headers in all {
        assert_eq!(headers["authorization"], "Bearer of-bad-news");
        assert_eq!(headers["x-scope-orgid"], "bank");
    }
}

/// A collector that takes connections and never says anything.
async fn silent() -> (SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    (address, task)
}

#[tokio::test(flavor = "multi_thread")]
async fn collectors_that_are_down_or_hang_hold_up_nothing() {
    let data = TempDir::new().expect("a directory");
    let (address, _task) = silent().await;
    let targets = vec![
        otlp("grpc://127.0.0.1:1"),
        otlp(&format!("http://{address}")),
        Target::zipkin(&format!("http://{address}/api/v2/spans")).expect("a URL"),
    ];
    let server = server(&data, settings(targets, 1.0)).await;
    // Each makes a span of its own at least, so that the queues overflow.
    let each = 64;
    for round in 0..(QUEUE_SPANS_MAX / each / 4) {
        let appends = (0..each).map(|number| {
            let event = event((round * each + number) as u128 + 1);
            let client = server.client.clone();
            async move { client.append(&name("order-1"), ExpectedRevision::Any, vec![event]).await }
        });
        for appended in join_all(appends).await {
            appended.expect("appended");
        }
    }
    let page = get(server.address(), "/metrics").await.body;
    for exporter in ["otlp_grpc", "otlp_http", "zipkin"] {
        let series =
            format!("daybook_trace_spans_total{{exporter=\"{exporter}\",outcome=\"dropped\"}} ");
        let dropped = page.lines().find_map(|line| line.strip_prefix(&series));
        let dropped: u64 = dropped.and_then(|text| text.parse().ok()).expect("a number");
        assert!(dropped > 0, "{exporter}");
    }
    soon("the stop", server.stop()).await;
}

/// A server of its own, which logs `filter` and sends traces nowhere.
fn daemon(data: &Path, filter: &str) -> Daemon {
    let mut command = daybook(&["serve", "--listen", "127.0.0.1:0", "--log", filter, "--data"]);
    command.arg(data).args(["--trace-otlp", "grpc://127.0.0.1:1"]);
    Daemon::spawn(command, PATIENCE).unwrap_or_else(|said| panic!("no server: {said}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_name_the_request_that_they_belong_to() {
    let data = TempDir::new().expect("a directory");
    let server = daemon(&data.path().join("data"), "info,daybook::requests=debug");
    let headers = [("traceparent", UNSAMPLED)];
    assert_eq!(call(server.address, "GET", "/info", &headers, "").await.status, 200);
    let line = server.wait_for("GET /info: 200").expect("a line");
    assert_says(&line, &["\"trace_id\":\"5bf92f3577b34da6a3ce929d0e0e4736\"", "\"span_id\":\""]);
    let (status, all) = server.terminate();
    assert!(status.success());
    let ready = all.lines().find(|line| line.contains("\"ready\"")).expect("a line");
    assert!(!ready.contains("trace_id"), "it belongs to no request: {ready}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_ever_logged() {
    const CANARY: &str = "canary-7f3a9c";
    let directory = TempDir::new().expect("a directory");
    let headers = directory.path().join("headers");
    std::fs::write(&headers, format!("authorization: Bearer {CANARY}\n")).expect("a file");
    let mut command = daybook(&["serve", "--listen", "127.0.0.1:0", "--log", "trace", "--data"]);
    command.arg(directory.path().join("data")).arg("--trace-headers").arg(&headers);
    command.args(["--trace-otlp", "grpc://127.0.0.1:1,http://127.0.0.1:1"]);
    command.args(["--trace-zipkin", "http://127.0.0.1:1/", "--trace-ratio", "1"]);
    let place = format!("postgres://daybook:{CANARY}@127.0.0.1:1/books");
    command.env("DAYBOOK_READ_MODELS", &place);
    let server = Daemon::spawn(command, PATIENCE).unwrap_or_else(|said| panic!("{said}"));
    let authorization = format!("Basic {CANARY}");
    let with = [("authorization", authorization.as_str())];
    let body = format!(
        r#"[{{"type":"Paid","data":{{"card":"{CANARY}"}},"metadata":{{"m":"{CANARY}"}}}}]"#
    );
    let appended = call(server.address, "POST", "/v1/streams/order-1", &with, body).await;
    assert_eq!(appended.status, 200, "{appended:?}");
    let user = format!(r#"{{"loginName":"ada","fullName":"Ada","password":"{CANARY}"}}"#);
    let _ = call(server.address, "POST", "/users/", &with, user).await;
    let url = format!("kurrentdb://admin:{CANARY}@{}?tls=false", server.address);
    let caller = daybook_client::Client::new(&url).expect("a client");
    let stream = ReadStream::new(name("order-1"));
    let _: Vec<_> =
        caller.read_stream(stream).await.expect("a read").try_collect().await.expect("events");
    let _ = client(server.address);
    let (_, mut said) = server.terminate();
    let import = directory.path().join("imported");
    for refused in [
        vec!["serve", "--read-models", &format!("mysql://u:{CANARY}@h/d")],
        vec!["serve", "--trace-otlp", &format!("grpc://u:{CANARY}@h:4317")],
        vec!["serve", "--vault-token-file", "t", "--vault-url", &format!("https://u:{CANARY}@v")],
        vec!["serve", "--trace-zipkin", &format!("http://u:{CANARY}@h:9411/")],
        vec!["query", "serve", "--postgres", &format!("postgres://u:{CANARY}@127.0.0.1:1/d?x=y")],
        vec![
            "import",
            "--from",
            &url.replace("kurrentdb://", "kurrentdb+x://"),
            "--data",
            &import.display().to_string(),
        ],
    ] {
        let data = directory.path().join("refused").display().to_string();
        let mut command = daybook(&["--log", "trace"]);
        command.args(&refused);
        if refused[0] == "serve" {
            command.args(["--listen", "127.0.0.1:0", "--data", &data]);
        }
        let output = command.output().expect("the binary runs");
        assert!(!output.status.success(), "{refused:?}");
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        said.push_str(&String::from_utf8_lossy(&output.stdout));
    }
    assert!(said.lines().count() > 100, "it says a lot at this level");
    let leak = said.lines().find(|line| line.contains(CANARY));
    assert_eq!(leak, None);
    // As a header has it.
    let leak = said.lines().find(|line| line.contains("YWRtaW46Y2FuYXJ5LTdmM2E5Y"));
    assert_eq!(leak, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_are_sent_within_tls_to_whom_is_vouched_for() {
    let (data, collector) = (TempDir::new().expect("a directory"), Collector::start().await);
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let (grpc, http) = collector.addresses();
    let grpc_port = veiled(&ours, b"h2", grpc).await.port();
    let http_port = veiled(&ours, b"http/1.1", http).await.port();
    let false_port = veiled(&theirs, b"http/1.1", http).await.port();
    let ca = write(data.path(), "ca.crt", ours.pem());
    let zipkin = |port: u16| {
        Target::zipkin(&format!("https://localhost:{port}/api/v2/spans")).expect("a URL")
    };
    let targets = [
        otlp(&format!("grpcs://localhost:{grpc_port}")),
        otlp(&format!("https://localhost:{http_port}")),
        zipkin(http_port),
    ];
    let targets = targets.map(|target| target.trusting(ca.clone())).to_vec();
    let config = Config {
        traces: Some(settings(targets, 1.0)),
        ..Config::in_directory(data.path().join("one"))
    };
    let server = Server::start_with(config).await;
    assert_eq!(get(server.address(), "/info").await.status, 200);
    let there = |way: &str| names(&collector.by(way)).contains("GET /info");
    until("spans", || async { ["grpc", "http", "zipkin"].into_iter().all(there) }).await;
    server.stop().await;

    let before = collector.all().len();
    let config = Config {
        traces: Some(settings(vec![zipkin(false_port).trusting(ca)], 1.0)),
        ..Config::in_directory(data.path().join("two"))
    };
    let server = Server::start_with(config).await;
    assert_eq!(get(server.address(), "/info").await.status, 200);
    // Its stop has it try once more, and counts on nothing.
    server.stop().await;
    assert_eq!(collector.all().len(), before, "nothing goes to whom nobody vouches for");
}
