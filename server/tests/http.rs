//! The HTTP API against a node of its own, in this process, over real sockets.

use std::time::Duration;

use bytes::Bytes;
use daybook::node::{Config, Node, Phase};
use daybook_log::Sizes;
use daybook_log::disk::os::{Access, OsDisk};
use daybook_model::SystemEntropy;
use daybook_model::limits::EVENT_SIZE_MAX;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longer than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    node: Node,
    directory: TempDir,
}

impl Server {
    async fn start() -> Server {
        Server::start_in(TempDir::new().expect("a directory")).await
    }

    async fn start_in(directory: TempDir) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let config = Config::in_directory(directory.path());
        let node = Node::start(config, listener).await.expect("an empty directory opens");
        Server { node, directory }
    }

    async fn stop(self) -> TempDir {
        let stopped = self.node.stop(PATIENCE).await;
        assert_eq!(stopped.connections_cut, 0);
        self.directory
    }

    /// Sends a request on a connection of its own and returns the answer's head.
    async fn open(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let stream = TcpStream::connect(self.node.address()).await.expect("it listens");
        let io = TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.expect("a connection");
        tokio::spawn(connection);
        sender.send_request(request).await.expect("an answer")
    }

    fn request(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.node.address().to_string())
            .body(Full::new(body.into()))
            .expect("a request")
    }

    async fn call(&self, method: Method, path: &str, body: &str) -> (StatusCode, String) {
        let response = self.open(self.request(method, path, body.to_owned())).await;
        let status = response.status();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    async fn json(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, text) = self.call(method, path, &body).await;
        let json = if text.is_empty() { Value::Null } else { parse(&text) };
        (status.as_u16(), json)
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.json(Method::GET, path, Value::Null).await
    }

    async fn append(&self, path: &str, body: Value) -> (u16, Value) {
        self.json(Method::POST, path, body).await
    }

    async fn feed(&self, path: &str, last_seen: Option<u64>) -> Feed {
        let mut request = self.request(Method::GET, path, "");
        let headers = request.headers_mut();
        headers.insert("accept", "text/event-stream".parse().expect("a header"));
        if let Some(seen) = last_seen {
            headers.insert("last-event-id", seen.into());
        }
        let response = self.open(request).await;
        assert_eq!(response.status(), 200);
        Feed { body: response.into_body(), text: String::new() }
    }
}

/// A subscription being read, message by message.
struct Feed {
    body: Incoming,
    text: String,
}

impl Feed {
    /// The fields of the next message; none at the end. Comments alone are no message.
    async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some((message, rest)) = self.text.split_once("\n\n") {
                let message = Message::read(message);
                self.text = rest.to_owned();
                match message {
                    Some(message) => return Some(message),
                    None => continue,
                }
            }
            let frame =
                tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("no silence");
            let data = frame?.expect("no break").into_data().expect("data");
            self.text.push_str(std::str::from_utf8(&data).expect("text"));
        }
    }

    async fn expect(&mut self) -> Message {
        self.next().await.expect("the feed goes on")
    }
}

#[derive(Debug)]
struct Message {
    id: Option<u64>,
    event: Option<String>,
    data: Value,
}

impl Message {
    fn read(text: &str) -> Option<Message> {
        let field = |name: &str| {
            let lines = text.lines().filter_map(|line| line.split_once(": "));
            let values: Vec<&str> = lines.filter(|(n, _)| *n == name).map(|(_, v)| v).collect();
            (!values.is_empty()).then(|| values.join("\n"))
        };
        let data = parse(&field("data")?);
        let id = field("id").map(|id| id.parse().expect("a number"));
        Some(Message { id, event: field("event"), data })
    }
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn event(name: &str, number: u64) -> Value {
    json!({ "type": name, "data": { "number": number } })
}

fn numbers(page: &Value, member: &str) -> Vec<u64> {
    let events = page["events"].as_array().unwrap_or_else(|| panic!("no events in {page}"));
    events.iter().map(|event| event[member].as_u64().expect("a number")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_appended_is_read() {
    let server = Server::start().await;
    let (status, done) =
        server.append("/v1/streams/account-1?expected=no_stream", event("Opened", 0)).await;
    assert_eq!((status, &done["revision"]), (200, &json!(0)), "{done}");
    let two = json!([
        event("Paid", 1),
        { "type": "Scanned", "data": "AAH/", "contentType": "application/octet-stream",
          "metadata": {"$correlationId": "c-1"} },
    ]);
    let (status, done) = server.append("/v1/streams/account-1?expected=0", two).await;
    assert_eq!((status, &done["revision"]), (200, &json!(2)), "{done}");

    let (status, page) = server.get("/v1/streams/account-1").await;
    assert_eq!(status, 200);
    assert_eq!(numbers(&page, "revision"), [0, 1, 2]);
    assert_eq!(
        (&page["head"], &page["next"], &page["atEnd"]),
        (&json!(2), &json!(3), &json!(true))
    );
    assert_eq!(page["events"][1]["data"], json!({"number": 1}));
    assert_eq!(page["events"][2]["data"], "AAH/");
    assert_eq!(page["events"][2]["dataEncoding"], "base64");
    assert_eq!(page["events"][2]["metadata"]["$correlationId"], "c-1");

    let (_, page) = server.get("/v1/streams/account-1?direction=backwards&limit=2").await;
    assert_eq!((numbers(&page, "revision"), &page["next"]), (vec![2, 1], &json!(0)));
    let (_, page) = server.get("/v1/streams/account-1?from=1&limit=1").await;
    assert_eq!((numbers(&page, "revision"), &page["atEnd"]), (vec![1], &json!(false)));
    let (_, page) = server.get("/v1/streams/account-1?from=3").await;
    assert_eq!((numbers(&page, "revision"), &page["next"]), (vec![], &json!(3)));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_may_have_any_character() {
    let server = Server::start().await;
    let path = "/v1/streams/a%2Fb%20%C3%BC-1";
    assert_eq!(server.append(path, event("A", 0)).await.0, 200);
    let (_, page) = server.get(path).await;
    assert_eq!(page["stream"], "a/b ü-1");
    let (_, listed) = server.get("/v1/streams?prefix=a%2F").await;
    assert_eq!(listed["streams"], json!(["a/b ü-1"]));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_problems() {
    let server = Server::start().await;
    let path = "/v1/streams/a-1";
    assert_eq!(server.get(path).await.1["type"], "urn:daybook:problem:stream-not-found");
    assert_eq!(server.append(path, event("A", 0)).await.0, 200);
    let (status, lost) = server.append("/v1/streams/a-1?expected=no_stream", event("A", 1)).await;
    assert_eq!((status, &lost["expected"], &lost["actual"]), (409, &json!("no_stream"), &json!(0)));
    assert_eq!(lost["type"], "urn:daybook:problem:wrong-expected-revision");

    let (status, _) = server.json(Method::DELETE, path, Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(server.get(path).await.0, 404);
    assert_eq!(server.append(path, event("A", 2)).await.1["revision"], 1);
    let (status, _) = server.json(Method::DELETE, "/v1/streams/a-1?hard=true", Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(server.get(path).await.0, 410);
    assert_eq!(server.append(path, event("A", 3)).await.0, 410);

    for (method, path, body, status, field) in [
        (Method::GET, "/v1/streams/a?limit=0", "", 400, "limit"),
        (Method::GET, "/v1/streams/a?from=last", "", 400, "from"),
        (Method::GET, "/v1/streams/a?direction=up", "", 400, "direction"),
        (Method::GET, "/v1/streams/a?colour=red", "", 400, "colour"),
        (Method::GET, "/v1/all?stream_regex=(", "", 400, "stream_regex"),
        (Method::POST, "/v1/streams/a?expected=-1", "{}", 400, "expected"),
        (Method::POST, "/v1/streams/a", "{", 400, "body"),
        (Method::POST, "/v1/streams/$all", "{}", 400, "stream"),
        (Method::GET, "/v1/streams/%ff", "", 400, "stream"),
        (Method::GET, "/v1/index/type/%ff", "", 400, "key"),
        (Method::PUT, "/v1/streams/a/metadata", "[]", 400, "body"),
    ] {
        let (found, text) = server.call(method, path, body).await;
        let problem = parse(&text);
        assert_eq!((found.as_u16(), &problem["field"]), (status, &json!(field)), "{path} {text}");
    }
    assert_eq!(server.get("/v2").await.0, 404);
    assert_eq!(server.json(Method::PUT, "/ping", Value::Null).await.0, 405);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_are_limited() {
    let server = Server::start().await;
    let path = "/v1/streams/big-1";
    let of_size = |size: usize| json!({ "type": "Big", "data": "x".repeat(size) });
    assert_eq!(server.append(path, of_size(EVENT_SIZE_MAX - 2)).await.0, 200);
    let (status, problem) = server.append(path, of_size(EVENT_SIZE_MAX)).await;
    assert_eq!((status, &problem["type"]), (413, &json!("urn:daybook:problem:too-large")));
    let (status, _) = server.append(path, Value::Array(vec![of_size(15 << 20); 5])).await;
    assert_eq!(status, 413);
    for _ in 0..2 {
        server.append(path, of_size(3 << 20)).await;
    }
    let (_, page) = server.get("/v1/streams/big-1?from=1").await;
    assert_eq!(numbers(&page, "revision"), [1, 2]);
    let (_, page) = server.get(path).await;
    let read = (numbers(&page, "revision"), &page["next"], &page["atEnd"]);
    assert_eq!(read, (vec![0], &json!(1), &json!(false)), "one large event fills a page");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_with_the_same_ids_writes_once() {
    let server = Server::start().await;
    let event = json!({ "id": "00000000-0000-4000-8000-000000000001", "type": "A", "data": 1 });
    let path = "/v1/streams/a-1?expected=no_stream";
    let first = server.append(path, event.clone()).await;
    let again = server.append(path, event).await;
    assert_eq!(first, again);
    assert_eq!(numbers(&server.get("/v1/streams/a-1").await.1, "revision"), [0]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_streams_are_written_together_or_not() {
    let server = Server::start().await;
    let body = json!({ "streams": [
        { "stream": "a-1", "expected": "no_stream", "events": [event("A", 0), event("B", 1)] },
        { "stream": "b-1", "expected": "any", "events": [event("C", 2)] },
    ]});
    let (status, done) = server.append("/v1/append", body.clone()).await;
    assert_eq!(status, 200, "{done}");
    assert_eq!(done["streams"][0], json!({ "stream": "a-1", "revision": 1 }));
    assert_eq!(done["streams"][1], json!({ "stream": "b-1", "revision": 0 }));
    let other = json!({ "streams": [
        { "stream": "c-1", "events": [event("D", 3)] },
        { "stream": "b-1", "expected": 7, "events": [event("E", 4)] },
    ]});
    let (status, lost) = server.append("/v1/append", other).await;
    assert_eq!((status, &lost["stream"], &lost["index"]), (409, &json!("b-1"), &json!(1)));
    assert_eq!(server.get("/v1/streams/c-1").await.0, 404);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_read_both_ways_with_filters() {
    let server = Server::start().await;
    for number in 0..5 {
        let path = format!("/v1/streams/account-{}", number % 2);
        assert_eq!(server.append(&path, event("Paid", number)).await.0, 200);
    }
    let (_, page) = server.get("/v1/all?stream_prefix=account-0").await;
    let found = numbers(&page, "position");
    assert_eq!((found.len(), &page["atEnd"]), (3, &json!(true)));
    let next = page["next"].as_u64().expect("a cursor");
    let (_, page) = server.get(&format!("/v1/all?stream_prefix=account-0&from={next}")).await;
    assert_eq!(numbers(&page, "position"), [0; 0]);
    assert_eq!(page["next"], next);

    let (_, page) = server.get("/v1/all?type_regex=%5EPa&limit=2").await;
    assert_eq!((numbers(&page, "revision"), &page["atEnd"]), (vec![0, 0], &json!(false)));
    let mut all = numbers(&server.get("/v1/all").await.1, "position");
    let (mut path, mut back) = ("/v1/all?direction=backwards&limit=2".to_owned(), Vec::new());
    loop {
        let (_, page) = server.get(&path).await;
        back.extend(numbers(&page, "position"));
        let Some(next) = page["next"].as_u64() else { break };
        path = format!("/v1/all?direction=backwards&limit=2&from={next}");
    }
    all.reverse();
    assert_eq!(back, all);

    let (_, page) = server.get("/v1/index/category/account?limit=3").await;
    assert_eq!((numbers(&page, "revision"), &page["next"]), (vec![0, 0, 1], &json!(3)));
    let (_, page) = server.get("/v1/index/type/Paid?from=3").await;
    assert_eq!(numbers(&page, "revision"), [1, 2]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feed_delivers_history_then_what_follows_and_goes_on_where_it_broke() {
    let server = Server::start().await;
    for number in 0..3 {
        server.append("/v1/streams/a-1", event("A", number)).await;
    }
    let mut feed = server.feed("/v1/streams/a-1", None).await;
    for number in 0..3 {
        let message = feed.expect().await;
        assert_eq!((message.id, &message.data["revision"]), (Some(number), &json!(number)));
    }
    let message = feed.expect().await;
    assert_eq!(message.event.as_deref(), Some("caught-up"));
    assert_eq!(message.data["at"], 2);
    server.append("/v1/streams/a-1", event("A", 3)).await;
    assert_eq!(feed.expect().await.id, Some(3));
    drop(feed);

    let mut feed = server.feed("/v1/streams/a-1/subscribe?from=start", Some(2)).await;
    assert_eq!(feed.expect().await.id, Some(3));

    let mut all = server.feed("/v1/all?stream_prefix=b-&from=start", None).await;
    while all.expect().await.event.as_deref() != Some("caught-up") {}
    server.append("/v1/streams/b-1", event("B", 0)).await;
    let message = loop {
        let message = all.expect().await;
        if message.event.is_none() {
            break message;
        }
    };
    assert_eq!(message.data["stream"], "b-1");
    assert_eq!(message.id, message.data["position"].as_u64());
    server.stop().await;
    assert!(all.next().await.is_none(), "a stop ends subscriptions");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_hide_events() {
    let server = Server::start().await;
    let path = "/v1/streams/a-1/metadata";
    assert_eq!(server.get(path).await.1["metadata"], json!({}));
    for number in 0..3 {
        server.append("/v1/streams/a-1", event("A", number)).await;
    }
    let (status, _) = server.json(Method::PUT, path, json!({ "$maxCount": 1 })).await;
    assert_eq!(status, 200);
    let (_, found) = server.get(path).await;
    assert_eq!((&found["metadata"], &found["revision"]), (&json!({"$maxCount": 1}), &json!(0)));
    assert_eq!(numbers(&server.get("/v1/streams/a-1").await.1, "revision"), [2]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_kept_beside_the_log() {
    let server = Server::start().await;
    let path = "/v1/snapshots/a-1";
    assert_eq!(server.get(path).await.0, 404);
    let put = "/v1/snapshots/a-1?revision=0&schema=2&kind=account";
    assert_eq!(server.call(Method::PUT, put, "state").await.0, 400, "no such event yet");
    server.append("/v1/streams/a-1", event("A", 0)).await;
    assert_eq!(server.call(Method::PUT, put, "state").await.0, 204);
    let response = server.open(server.request(Method::GET, path, "")).await;
    assert_eq!(response.headers()["daybook-revision"], "0");
    assert_eq!(response.headers()["daybook-schema"], "2");
    assert_eq!(response.headers()["daybook-kind"], "account");
    assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "state");
    assert_eq!(server.call(Method::DELETE, path, "").await.0, 204);
    assert_eq!(server.get(path).await.0, 404);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_what_it_is() {
    let server = Server::start().await;
    assert_eq!(server.call(Method::GET, "/health/live", "").await.0, 204);
    let (status, ready) = server.get("/health/ready").await;
    assert_eq!((status, &ready["status"]), (200, &json!("ready")));
    let (_, info) = server.get("/info").await;
    assert_eq!((&info["name"], &info["esVersion"]), (&json!("daybook"), &json!("26.1.0")));
    let (_, gossip) = server.get("/gossip").await;
    let member = &gossip["members"][0];
    assert_eq!(member["httpEndPointPort"], server.node.address().port());
    assert_eq!((&member["isAlive"], &member["state"]), (&json!(true), &json!("Leader")));
    server.append("/v1/streams/a-1", event("A", 0)).await;
    assert_eq!(server.get("/stats").await.1["appends"].as_u64().map(|n| n >= 1), Some(true));
    let (_, text) = server.call(Method::GET, "/metrics", "").await;
    let route = "route=\"/v1/streams/{name}\"";
    assert!(text.contains(&format!("{{method=\"POST\",{route},status=\"200\"}} 1")), "{text}");
    assert!(text.contains("daybook_ready 1"), "{text}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_with_prior_knowledge_is_served_on_the_same_port() {
    let server = Server::start().await;
    let stream = TcpStream::connect(server.node.address()).await.expect("it listens");
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("HTTP/2");
    tokio::spawn(connection);
    let uri = format!("http://{}/ping", server.node.address());
    let request = Request::get(uri).body(Full::new(Bytes::new())).expect("a request");
    assert_eq!(sender.send_request(request).await.expect("an answer").status(), 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let server = Server::start().await;
    server.append("/v1/streams/a-1", event("A", 0)).await;
    let id = server.get("/info").await.1["store"].clone();
    let directory = server.stop().await;
    let server = Server::start_in(directory).await;
    assert_eq!(server.get("/info").await.1["store"], id);
    assert_eq!(numbers(&server.get("/v1/streams/a-1").await.1, "revision"), [0]);
    server.stop().await;
}

/// A connection that has sent the head of an append, and not its body.
async fn half_an_append(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.node.address()).await.expect("it listens");
    let head = "POST /v1/streams/a-1 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 21\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("a connection");
    // Only a request that reached its handler counts as begun.
    let calls = &server.node.context().metrics().calls_open;
    while calls.get() == 0 {
        tokio::task::yield_now().await;
    }
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_what_was_begun() {
    let server = Server::start().await;
    let mut stream = half_an_append(&server).await;
    let context = server.node.context().clone();
    let stopping = tokio::spawn(server.stop());
    context.reached(Phase::Draining).await;
    drop(context);
    stream.write_all(br#"{"type":"A","data":1}"#).await.expect("a connection");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let directory = stopping.await.expect("a stop");
    let server = Server::start_in(directory).await;
    assert_eq!(numbers(&server.get("/v1/streams/a-1").await.1, "revision"), [0]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_ever() {
    let server = Server::start().await;
    let _stubborn = half_an_append(&server).await;
    let stopped = server.node.stop(Duration::from_millis(50)).await;
    assert_eq!(stopped.connections_cut, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_is_kept_out() {
    let server = Server::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let config = Config::in_directory(server.directory.path());
    let refused = Node::start(config, listener).await.map(|_| ()).expect_err("it is locked");
    assert!(refused.to_string().contains("in use"), "{refused}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_taken_while_the_server_runs_and_restores() {
    let server = Server::start().await;
    for number in 0..10 {
        server.append("/v1/streams/a-1", event("A", number)).await;
    }
    let response = server.open(server.request(Method::GET, "/admin/backup", "")).await;
    assert_eq!(response.status(), 200);
    let archive = response.into_body().collect().await.expect("an archive").to_bytes();
    server.append("/v1/streams/a-1", event("A", 10)).await;
    server.stop().await;

    let unpacked = TempDir::new().expect("a directory");
    tar::Archive::new(&archive[..]).unpack(unpacked.path()).expect("a tar file");
    let target = TempDir::new().expect("a directory");
    let from = OsDisk::open(unpacked.path(), Access::Read).expect("a backup");
    let to = OsDisk::open(target.path(), Access::Write).expect("a target");
    let sizes = Sizes::default();
    let restored = daybook_log::backup::restore(&from, &to, &SystemEntropy, sizes, &mut |_, _| {})
        .expect("restores");
    drop(to);
    let server = Server::start_in(target).await;
    assert_eq!(server.get("/info").await.1["epoch"], restored.epoch.0);
    let (_, page) = server.get("/v1/streams/a-1").await;
    assert_eq!(numbers(&page, "revision"), (0..10).collect::<Vec<u64>>());
    server.stop().await;
}
