//! A thousand clients that begin and never end: they are let go of in time, and who is honest is
//! served meanwhile.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use daybook::node::listener::Bounds;
use daybook::node::{Config, Node};
use daybook::security::rights::Right;
use daybook::security::tls::{TlsSettings, Version};
use daybook::security::{Asks, Settings};
use daybook_client::{Client, ExpectedRevision};
use futures_util::{StreamExt as _, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use crate::support::events::{event, name};
use crate::support::http::get;
use crate::support::node::client;
use crate::support::pki::{Authority, write};
use crate::support::secure::Visitor;
use crate::support::{PATIENCE, skipped, soon, until};

/// Connections that never come to anything.
const STRANGERS: usize = 1000;
/// Files that this process wants to have open: both ends of each, and its other tests'.
const FILES: u64 = 2 * STRANGERS as u64 + 2048;
/// What is waited for, instead of many seconds each.
const SHORT: Bounds = Bounds {
    per_address: 1024,
    head: Duration::from_secs(4),
    handshake: Duration::from_secs(4),
    ping: Duration::from_secs(1),
    body: Duration::from_secs(2),
    unused: Duration::from_secs(2),
};
/// What begins HTTP/2, and an empty frame of settings: then nothing, not even an answer to a ping.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn node(directory: &Path, security: Settings) -> Node {
    let config = Config { security, bounds: SHORT, ..Config::in_directory(directory.join("data")) };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    Node::start(config, listener).await.expect("a server")
}

/// Whether there are files enough for all.
fn has_room() -> bool {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: Some(FILES), maximum: limit.maximum };
    let has = limit.current.is_none_or(|now| now >= FILES);
    let room = has || setrlimit(Resource::Nofile, wanted).is_ok();
    if !room {
        skipped("a thousand strangers", "too few files may be open (ulimit -Hn)");
    }
    room
}

/// Strangers, each of whom has sent one of `words`.
async fn strangers(to: SocketAddr, words: &[&[u8]]) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for number in 0..STRANGERS {
        // From other addresses than the honest, as they would be.
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 2, 1), 0))).expect("an address");
        let mut stream = socket.connect(to).await.expect("a connection");
        stream.write_all(words[number % words.len()]).await.expect("sent");
        open.push(stream);
    }
    open
}

/// Waits until the server has let go of all `strangers`, one byte after the other from those that
/// drip, while `honest` is done again and again.
async fn outlast<F: Future<Output = ()>>(
    node: &Node,
    strangers: Vec<TcpStream>,
    mut honest: impl FnMut() -> F,
) {
    let is_over = Arc::new(AtomicBool::new(false));
    let over = is_over.clone();
    let dripping = tokio::spawn(async move {
        let mut interval = tokio::time::interval(Duration::from_millis(200));
        while !over.load(Ordering::Relaxed) {
            interval.tick().await;
            for stream in &strangers {
                // Those that send nothing more are not hurried on by it: what they began with is
                // no head, and becomes none.
                let _ = stream.try_write(b" ");
            }
        }
        strangers
    });
    let open = node.context().metrics().connections.clone();
    until("the strangers to be let go of", || {
        let (served, open) = (honest(), open.clone());
        async move {
            served.await;
            open.get() <= 2
        }
    })
    .await;
    is_over.store(true, Ordering::Relaxed);
    drop(dripping.await.expect("no panic"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_ends_a_request_keeps_nobody_from_being_served() {
    if !has_room() {
        return;
    }
    let directory = TempDir::new().expect("a directory");
    let node = node(directory.path(), Settings::default()).await;
    let at = node.address();
    let append = |client: Client, id: u128| async move {
        let events = vec![event(id)];
        client.append(&name("orders-1"), ExpectedRevision::Any, events).await.expect("appended");
    };
    let client = client(at);
    append(client.clone(), 1).await;
    let words: [&[u8]; 5] = [
        b"",
        b"GET /ping HTTP/1.1\r\nhost: 127.0.0.1\r\nx-half: ",
        b"POST /v1/streams/slow HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
          content-length: 100000\r\n\r\n{",
        b"POST /v1/streams/slow HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
          transfer-encoding: chunked\r\n\r\nffff\r\n{",
        HTTP2,
    ];
    let strangers = strangers(at, &words).await;
    let mut served = 1;
    outlast(&node, strangers, || {
        served += 1;
        let appending = append(client.clone(), served);
        async move {
            assert_eq!(get(at, "/health/ready").await.status, 200);
            appending.await;
        }
    })
    .await;
    assert_eq!(u128::from(node.store().committed().0), 1 + served, "nothing of the strangers'");
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_ends_a_handshake_keeps_nobody_from_being_served() {
    if !has_room() {
        return;
    }
    let directory = TempDir::new().expect("a directory");
    let ours = Authority::new("ours");
    let leaf = ours.server(1);
    let tls = TlsSettings {
        certificate: write(directory.path(), "server.crt", &leaf.certificate).into(),
        key: write(directory.path(), "server.key", &leaf.key).into(),
        clients: None,
        oldest: Version::V13,
    };
    let security = Settings { tls: Some(tls), asks: Asks::Nobody, ..Settings::default() };
    let node = node(directory.path(), security).await;
    let at = node.address();
    // Nothing; the first byte of a record; a record that is announced and does not come.
    let strangers = strangers(at, &[b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"]).await;
    let visitor = Visitor::believing(&ours);
    outlast(&node, strangers, || async {
        assert_eq!(visitor.get(at, "/ping").await.expect("an answer").0, 200);
    })
    .await;
    let (_, page) = visitor.get(at, "/metrics").await.expect("an answer");
    assert!(page.contains("daybook_silent_connections_total 0\n"), "{page}");
    node.stop(PATIENCE).await;
}

type Unended =
    StreamBody<futures_util::stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

/// A connection that does all that HTTP/2 asks for, and when it ends.
async fn connected(to: SocketAddr) -> (SendRequest<Unended>, JoinHandle<()>) {
    let socket = TcpStream::connect(to).await.expect("a connection");
    let begun = handshake(TokioExecutor::new(), TokioIo::new(socket)).await;
    let (sender, connection) = begun.expect("HTTP/2");
    let ended = tokio::spawn(async move {
        let _ = connection.await;
    });
    (sender, ended)
}

/// A call that sends `bytes` and neither more nor an end.
fn unended(path: &str, bytes: &[u8]) -> http::Request<Unended> {
    let first = Frame::data(Bytes::copy_from_slice(bytes));
    let frames = stream::iter([Ok(first)]).chain(stream::pending()).boxed();
    http::Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .body(StreamBody::new(frames))
        .expect("a request")
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_anyone_may_begin_are_small_and_end_in_time() {
    const CALLS: usize = 64;
    let directory = TempDir::new().expect("a directory");
    let node = node(directory.path(), Settings::default()).await;
    let open = daybook::grpc::rights(node.context())
        .into_iter()
        .filter(|row| row.right == Right::Anyone)
        .map(|row| row.path)
        .collect::<Vec<_>>();
    assert!(open.iter().any(|path| path.ends_with("Gossip/Read")), "{open:?}");
    // All but the last byte of 4 KiB, and the first ones of a message that is larger.
    let mut cut = vec![0, 0, 0, 0x10, 0];
    cut.extend(vec![0; 4095]);
    for (bytes, status) in [(&cut[..], "4"), (&[0, 0, 0, 0x10, 1][..], "8")] {
        let (sender, connection) = connected(node.address()).await;
        let mut calls = Vec::new();
        for path in open.iter().cycle().take(CALLS) {
            calls.push(sender.clone().send_request(unended(path, bytes)));
        }
        for answer in soon("all answers", futures_util::future::join_all(calls)).await {
            let answer = answer.expect("an answer");
            assert_eq!(answer.headers()["grpc-status"], status);
        }
        drop(sender);
        soon("the connection's end", connection).await.expect("no panic");
    }
    node.stop(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_only_answers_pings_is_closed() {
    let directory = TempDir::new().expect("a directory");
    let node = node(directory.path(), Settings::default()).await;
    let client = client(node.address());
    let events = vec![event(1)];
    client.append(&name("orders-1"), ExpectedRevision::Any, events).await.expect("appended");
    let (_sender, silent) = connected(node.address()).await;
    soon("its end", silent).await.expect("no panic");
    assert!(node.context().metrics().connections.get() >= 1, "who has called stays");
    node.stop(PATIENCE).await;
}
