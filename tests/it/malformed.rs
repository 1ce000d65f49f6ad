//! What is no HTTP, or too much of it: refused or cut, and the next client is served.

use std::net::SocketAddr;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::http::get;
use crate::support::node::Server;
use crate::support::soon;

/// What begins HTTP/2, and an empty frame of settings.
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// `GET http://127.0.0.1/`, as HPACK has it.
const GET: &[u8] = b"\x82\x86\x84\x41\x09127.0.0.1";
/// Bytes of a flood. It is cut long before.
const FLOOD_SIZE_MAX: usize = 256 * 1024 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The status of the answer to these bytes; none if the connection ends without one.
async fn status(at: SocketAddr, bytes: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(at).await.expect("a connection");
    // Who is refused early does not take all of it.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let reading = async {
        while !answer.windows(4).any(|end| end == b"\r\n\r\n")
            && let Ok(1..) = stream.read_buf(&mut answer).await
        {}
    };
    soon("an answer or an end", reading).await;
    let text = String::from_utf8_lossy(&answer);
    text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_refused_and_writes_nothing() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let at = server.address();
    let head =
        "POST /v1/streams/a HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n";
    let event = r#"{"type":"T","data":1}"#;
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let chunked = "transfer-encoding: chunked\r\n\r\n";
    let of = |text: &str| text.as_bytes().to_vec();
    let with = |rest: &str| of(&format!("{head}{rest}"));
    let cases: [(&str, Vec<u8>, &[u16]); 14] = [
        ("no HTTP", of("HELLO DAYBOOK, HOW ARE YOU TODAY?\r\n\r\n"), &[400]),
        ("another version", of("GET /ping HTTP/9.9\r\nhost: 127.0.0.1\r\n\r\n"), &[400, 505]),
        ("a header of 100 kB", with(&format!("x: {}\r\n\r\n", "a".repeat(100_000))), &[431]),
        ("too many headers", with(&format!("{many}\r\n")), &[431]),
        (
            "a path of 100 kB",
            of(&format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000))),
            &[414, 431],
        ),
        ("a name with a space", with("x y: 1\r\n\r\n"), &[400]),
        ("a zero byte", with("x: a\0b\r\n\r\n"), &[400]),
        ("a length that is none", with("content-length: many\r\n\r\n"), &[400]),
        (
            "two lengths",
            with(&format!("content-length: 3\r\ncontent-length: 21\r\n\r\n{event}")),
            &[400],
        ),
        ("a length below zero", with("content-length: -1\r\n\r\n"), &[400]),
        ("a chunk without a size", with(&format!("{chunked}what\r\n{event}\r\n0\r\n\r\n")), &[400]),
        (
            "a chunk beyond all sizes",
            with(&format!("{chunked}fffffffffffffffff\r\n{event}")),
            &[400],
        ),
        (
            "a compressed body",
            with("content-encoding: gzip\r\ncontent-length: 9\r\n\r\n\x1f\u{8b}bombs!"),
            &[400],
        ),
        ("a body larger than any", with("content-length: 999999999999\r\n\r\n"), &[413]),
    ];
    for (what, bytes, expected) in cases {
        let found = status(at, &bytes).await;
        assert!(found.is_none_or(|found| expected.contains(&found)), "{what}: {found:?}");
        assert_eq!(get(at, "/ping").await.status, 200, "after {what}");
    }
    assert_eq!(server.store().committed().0, 1, "nothing is written");
    server.stop().await;
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let size = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![size[1], size[2], size[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Sends what `next` says, again and again, until the server has cut the connection.
async fn cut(at: SocketAddr, mut next: impl FnMut(u32) -> Vec<u8>) -> usize {
    let stream = TcpStream::connect(at).await.expect("a connection");
    let (mut reading, mut writing) = stream.into_split();
    let heard = tokio::spawn(async move {
        let mut bytes = [0; 4096];
        while let Ok(1..) = reading.read(&mut bytes).await {}
    });
    let mut sent = 0;
    let flood = async {
        let mut bytes = HTTP2.to_vec();
        for number in 0.. {
            if sent > FLOOD_SIZE_MAX || writing.write_all(&bytes).await.is_err() {
                break;
            }
            sent += bytes.len();
            bytes = next(number);
        }
    };
    soon("an end", flood).await;
    soon("the end", heard).await.expect("no panic");
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_frames_is_cut() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let at = server.address();
    type Next = Box<dyn FnMut(u32) -> Vec<u8>>;
    let floods: [(&str, Next); 5] = [
        (
            "calls that are reset at once",
            Box::new(|number| {
                let id = 2 * number + 1;
                let begun = frame(HEADERS, END_HEADERS | END_STREAM, id, GET);
                [begun, frame(RST_STREAM, 0, id, &[0, 0, 0, 8])].concat()
            }),
        ),
        (
            "headers without an end",
            Box::new(|number| match number {
                0 => frame(HEADERS, 0, 1, GET),
                _ => frame(
                    CONTINUATION,
                    0,
                    1,
                    &[&b"\x00\x01x\x7f\x81\x7e"[..], &[b'a'; 253]].concat(),
                ),
            }),
        ),
        (
            "empty headers without an end",
            Box::new(|number| match number {
                0 => frame(HEADERS, 0, 1, GET),
                _ => frame(CONTINUATION, 0, 1, b"").repeat(100),
            }),
        ),
        ("a frame beyond what may be", Box::new(|_| frame(DATA, 0, 1, &vec![0; 1024 * 1024]))),
        ("data of a call that was never begun", Box::new(|_| frame(DATA, 0, 1, b"x"))),
    ];
    for (what, next) in floods {
        let sent = cut(at, next).await;
        assert!(sent < FLOOD_SIZE_MAX, "{what}: {sent} bytes were taken");
        assert_eq!(get(at, "/ping").await.status, 200, "after {what}");
    }
    assert_eq!(server.store().committed().0, 1, "nothing is written");
    server.stop().await;
}
