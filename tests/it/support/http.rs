//! One HTTP/1.1 request on a connection of its own: no more of HTTP than the tests need.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::PATIENCE;

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The head as it came: the status line and the headers, names in lower case.
    pub head: String,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// The body as JSON; null if it is empty.
    pub fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {}", self.body))
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| *found == name).map(|(_, value)| value)
    }
}

/// `GET path`.
pub async fn get(address: SocketAddr, path: &str) -> Answer {
    call(address, "GET", path, &[], Vec::new()).await
}

/// `POST path` with `body`.
pub async fn post(address: SocketAddr, path: &str, body: impl Into<Vec<u8>>) -> Answer {
    call(address, "POST", path, &[], body.into()).await
}

/// Any request, with headers of its own.
pub async fn call(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Answer {
    let body = body.into();
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n{more}\r\n",
        body.len()
    );
    tokio::task::spawn_blocking(move || exchange(address, head.as_bytes(), &body))
        .await
        .expect("no panic")
}

fn exchange(address: SocketAddr, head: &[u8], body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(head).expect("an open connection");
    // A server that refuses a body does not read all of it.
    let _ = stream.write_all(body);
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    assert!(read.is_ok() || !bytes.is_empty(), "no answer: {read:?}");
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    let body = match head.contains("transfer-encoding: chunked") {
        true => unchunked(body),
        false => body.to_owned(),
    };
    Answer { status, head: head.to_owned(), body }
}

/// What the chunks of a body hold. Texts of ASCII, as those of these tests are.
fn unchunked(mut chunks: &str) -> String {
    let mut body = String::new();
    while let Some((size, rest)) = chunks.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        if size == 0 {
            break;
        }
        body.push_str(&rest[..size]);
        chunks = rest[size..].trim_start_matches("\r\n");
    }
    body
}
