//! Every call of the server with what no client sends: messages without sense, mutated, truncated,
//! too large, out of order, in broken frames.
//!
//! Whatever comes, the call ends with a status within a bound, and the server goes on: no panic (it
//! would break the connection), no hang, no memory that grows with what is claimed. Chance comes
//! from a seed that a failure names: `DAYBOOK_FUZZ_SEED=n cargo test -p daybook-tests --test it
//! fuzz_grpc` repeats it, `DAYBOOK_FUZZ_CALLS=n` makes so many calls of each kind.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use daybook_model::limits::MESSAGE_SIZE_MAX;
use futures_util::StreamExt as _;
use futures_util::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::node::Server;
use crate::support::protocol::{RawEvent, append, append_messages};
use shapes::{Chance, Method, Shapes};

mod shapes;

/// The chance of the usual run.
const SEED: u64 = 0x00da_7b00;
/// Calls of each method in the usual run.
const CALLS: u64 = 40;
/// Calls of one connection: HTTP/2 ends one on which a thousand calls went wrong.
const CALLS_OF_CONNECTION: usize = 256;
/// Calls that are under way together.
const TOGETHER: usize = 8;
/// What clients say they wait for, so that subscriptions end.
const PATIENCE_ASKED: &str = "150m";
/// A call that has not ended by then hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of one answer that are read; no call here asks for more.
const ANSWER_SIZE_MAX: usize = 256 * 1024 * 1024;
/// Bytes by which the process, with its other tests, may have grown: a few messages, not what their
/// lengths claim.
const GROWTH_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Calls that do what they say: they would end the server.
const NOT_CALLED: [&str; 1] = ["/event_store.client.operations.Operations/Shutdown"];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What is sent.
type Body = BoxBody<Bytes, Infallible>;

/// One call: its path and the bytes of its body, in the pieces in which they are sent.
struct Call {
    path: String,
    pieces: Vec<Bytes>,
    says: &'static str,
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = vec![0];
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(message);
    out
}

fn mutate(bytes: &mut Vec<u8>, chance: &mut Chance) {
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len() as u64 + 1) as usize;
        match chance.below(4) {
            0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
            1 => bytes.truncate(at),
            2 => bytes.insert(at, chance.number() as u8),
            _ if at < bytes.len() => bytes[at] = 0xff,
            _ => bytes.push(0x80),
        }
    }
}

fn call(shapes: &Shapes, method: &Method, chance: &mut Chance) -> Call {
    let messages = if method.many { 1 + chance.below(5) } else { 1 };
    let mut pieces: Vec<Vec<u8>> =
        (0..messages).map(|_| framed(&shapes.message(&method.request, chance))).collect();
    let last = pieces.len() - 1;
    let says = match chance.below(12) {
        0 => {
            let mut bytes = shapes.message(&method.request, chance);
            mutate(&mut bytes, chance);
            pieces[last] = framed(&bytes);
            "a mutated message"
        }
        1 => {
            let random = (0..chance.below(200)).map(|_| chance.number() as u8).collect::<Vec<_>>();
            pieces[last] = framed(&random);
            "random bytes"
        }
        2 => {
            mutate(&mut pieces[last], chance);
            "a mutated frame"
        }
        3 => {
            pieces[last] = vec![0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3];
            "a frame that claims 4 GiB"
        }
        4 => {
            pieces[last][0] = 1;
            "a compressed message"
        }
        5 => {
            let len = pieces[last].len();
            pieces[last].truncate(chance.below(len as u64) as usize);
            "an end within a message"
        }
        6 => {
            pieces.clear();
            "nothing"
        }
        7 => {
            let whole = pieces.concat();
            pieces = whole.chunks(1 + chance.below(3) as usize).map(<[u8]>::to_vec).collect();
            "messages in small pieces"
        }
        8 if !method.many => {
            pieces.push(pieces[last].clone());
            "a message too many"
        }
        _ => "messages without sense",
    };
    let pieces = pieces.into_iter().map(Bytes::from).collect();
    Call { path: method.path.clone(), pieces, says }
}

/// A message larger than one may be, all of it sent.
fn oversized(method: &Method) -> Call {
    // All of them are the same bytes in memory.
    let (part, parts) = (Bytes::from(vec![0x0a; 64 * 1024]), MESSAGE_SIZE_MAX / (64 * 1024) + 1);
    let size = (part.len() * parts) as u32;
    let mut pieces = vec![Bytes::from_static(&[0]), Bytes::copy_from_slice(&size.to_be_bytes())];
    pieces.extend(std::iter::repeat_n(part, parts));
    Call { path: method.path.clone(), pieces, says: "a message that is too large" }
}

/// How the call ends.
async fn end(mut connection: SendRequest<Body>, call: Call) -> Result<u32, String> {
    let data = |piece| Ok::<_, Infallible>(Frame::data(piece));
    let body = Body::new(StreamBody::new(stream::iter(call.pieces.into_iter().map(data))));
    let request = http::Request::post(format!("http://localhost{}", call.path))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", PATIENCE_ASKED)
        .body(body)
        .map_err(|e| e.to_string())?;
    connection.ready().await.map_err(|e| format!("{e:?}"))?;
    let answer = connection.send_request(request).await.map_err(|e| format!("{e:?}"))?;
    let (head, mut body) = answer.into_parts();
    let mut status = head.headers.get("grpc-status").cloned();
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| format!("{e:?}"))?;
        match frame.into_trailers() {
            Ok(trailers) => status = trailers.get("grpc-status").cloned().or(status),
            Err(frame) => size += frame.into_data().map_or(0, |data| data.len()),
        }
        if size > ANSWER_SIZE_MAX {
            return Err(format!("an answer of more than {size} bytes"));
        }
    }
    let status = status.ok_or_else(|| format!("no status, but {}", head.status))?;
    let number = status.to_str().ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| format!("a status that is no number: {status:?}"))
}

/// A connection that does nothing but what it is told.
async fn connect(address: SocketAddr) -> SendRequest<Body> {
    let socket = TcpStream::connect(address).await.expect("a connection");
    let (sender, connection) =
        handshake(TokioExecutor::new(), TokioIo::new(socket)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// Bytes of memory that this process holds.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kib.map_or(0, |kib: u64| kib * 1024)
}

/// How `calls` end, which have a connection of their own. The first is the `first`-th of all.
async fn end_all(address: SocketAddr, seed: u64, first: usize, calls: Vec<Call>) -> Vec<u32> {
    let connection = connect(address).await;
    let ends = stream::iter(calls.into_iter().enumerate().map(|(at, call)| {
        let connection = connection.clone();
        async move {
            let at = first + at;
            let what = format!("call {at} of seed {seed}: {} with {}", call.path, call.says);
            match tokio::time::timeout(PATIENCE, end(connection, call)).await {
                Ok(Ok(status @ 0..=16)) => status,
                Ok(ended) => panic!("{what}: {ended:?}"),
                Err(_) => panic!("{what}: it hangs"),
            }
        }
    }));
    ends.buffer_unordered(TOGETHER).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_ends_with_a_status_whatever_comes() {
    let seed = number("DAYBOOK_FUZZ_SEED", SEED);
    let calls = number("DAYBOOK_FUZZ_CALLS", CALLS);
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let shapes = Shapes::new();
    let methods: Vec<&Method> =
        shapes.methods.iter().filter(|m| !NOT_CALLED.contains(&m.path.as_str())).collect();
    assert!(methods.len() > 40, "all services are described");
    let before = resident();
    let mut chance = Chance(seed);
    let mut all = Vec::new();
    for method in &methods {
        for _ in 0..calls {
            let mut own = Chance(chance.number());
            all.push(call(&shapes, method, &mut own));
        }
        all.push(oversized(method));
    }
    let mut ends = Vec::new();
    while !all.is_empty() {
        let some = all.drain(..all.len().min(CALLS_OF_CONNECTION)).collect();
        ends.extend(end_all(server.address(), seed, ends.len(), some).await);
    }
    // Some are right by chance: the rules were met, not the decoder alone.
    let right = ends.iter().filter(|status| **status == 0).count();
    assert!(right > methods.len(), "only {right} of {} calls came through", ends.len());
    let grown = resident().saturating_sub(before);
    assert!(grown < GROWTH_MAX, "the process grew by {grown} bytes (seed {seed})");
    let messages = append_messages(b"after-1", &[RawEvent::good(1, "x")]);
    append(server.address(), messages).await.expect("the server goes on");
    server.stop().await;
}
