//! One HTTP/1.1 connection, as much of it as one user needs: a request, then its answer.
//!
//! ```text
//!   send(request) ── bytes built into one buffer, one write ──> server
//!                 <── read into one buffer until the head's Content-Length is there
//! ```
//!
//! The load shares its processors with the server it measures, so this costs little: no task, no
//! channel, no map of headers, two buffers for the whole life of a connection.
//!
//! INVARIANT: an answer whose length cannot be told for certain is an error, never a guess.
//!
//! Not here: pipelining, answers in chunks, redirects.

use std::fmt::{self, Write as _};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use daybook_client::Settings;
use serde::Deserialize;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use uuid::Uuid;

use crate::security::wire::{HTTP_1, Secure, Wire};

/// Bytes of one answer. The largest are pages of events, which the server ends at 4 MiB and one
/// event.
const ANSWER_SIZE_MAX: usize = 64 * 1024 * 1024;
/// Bytes read at first; an answer to a transfer fits.
const BUFFER_SIZE: usize = 4 * 1024;
/// Characters of an answer that is not JSON that are shown in an error.
const EXCERPT_LENGTH_MAX: usize = 200;

/// Where the server is, and as whom it is called.
#[derive(Clone)]
pub struct Address {
    host: String,
    port: u16,
    secure: Option<Secure>,
    /// What each request says of its caller. A secret.
    authorization: Option<String>,
}

// By hand: what it would show of the caller is a secret.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Address {
    /// The server that `settings` are for.
    ///
    /// # Errors
    /// If their certificates cannot be used.
    pub fn of(settings: &Settings) -> anyhow::Result<Address> {
        let host = settings.host.to_string();
        let secure =
            settings.tls.as_ref().map(|tls| Secure::new(tls, &host, HTTP_1)).transpose()?;
        let authorization = settings.authorization();
        Ok(Address { host, port: settings.port, secure, authorization })
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The server cannot be reached, or the connection broke.
    #[error("cannot {action}: {error}; check that the server runs")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// Nothing came in time.
    #[error("there was no answer within {0:?}")]
    TimedOut(Duration),
    /// What came is not an answer this client understands.
    #[error("the server's answer cannot be read: {0}")]
    Answer(&'static str),
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// GET, POST, PUT or DELETE.
    pub method: &'static str,
    /// The path, with its query.
    pub path: &'a str,
    /// The Idempotency-Key.
    pub key: Option<Uuid>,
    /// Seconds of `Prefer: wait`.
    pub wait_s: Option<u32>,
    /// JSON, or nothing.
    pub body: &'a str,
}

impl<'a> Request<'a> {
    /// Reads `path`.
    #[must_use]
    pub fn get(path: &'a str) -> Request<'a> {
        Request { method: "GET", path, key: None, wait_s: None, body: "" }
    }

    /// Does something, under `key` once and no more.
    #[must_use]
    pub fn act(method: &'static str, path: &'a str, key: Uuid, body: &'a str) -> Request<'a> {
        Request { method, path, key: Some(key), wait_s: None, body }
    }
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: &'a [u8],
}

/// A problem of RFC 9457, or what else an answer says went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// The last word of the problem's `type`.
    pub word: String,
    /// Its detail.
    pub detail: String,
}

impl<'a> Answer<'a> {
    /// The JSON of an answer, if the server did what was asked; else why it did not.
    ///
    /// # Errors
    /// The server's own words.
    pub fn accepted<T: Deserialize<'a>>(&self) -> Result<T, Refusal> {
        if !(200..300).contains(&self.status) {
            return Err(self.refusal());
        }
        serde_json::from_slice(self.body).map_err(|error| Refusal {
            status: self.status,
            word: "unexpected-answer".to_owned(),
            detail: format!("{error} in {}", self.excerpt()),
        })
    }

    /// Why the server did not do what was asked.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        #[derive(Deserialize)]
        struct Problem {
            #[serde(rename = "type")]
            kind: String,
            #[serde(default)]
            detail: String,
        }
        let (word, detail) = match serde_json::from_slice::<Problem>(self.body) {
            Ok(problem) => {
                let word = problem.kind.rsplit(':').next().unwrap_or_default().to_owned();
                (word, problem.detail)
            }
            Err(_) => (format!("status-{}", self.status), self.excerpt()),
        };
        Refusal { status: self.status, word, detail }
    }

    fn excerpt(&self) -> String {
        String::from_utf8_lossy(self.body).chars().take(EXCERPT_LENGTH_MAX).collect()
    }
}

/// A connection, made when it is first used and again after it broke.
#[derive(Debug)]
pub struct Connection {
    address: Address,
    stream: Option<Wire>,
    out: String,
    input: Vec<u8>,
    filled: usize,
}

impl Connection {
    /// A connection to `address`, not yet made.
    #[must_use]
    pub fn new(address: Address) -> Connection {
        Connection { address, stream: None, out: String::new(), input: Vec::new(), filled: 0 }
    }

    /// Sends `request` and waits for its answer. A server may end a connection that was idle, so a
    /// request that finds it ended is sent once more over a new one: every request of ours is one
    /// that may be repeated. After an error the next request makes a new connection; whether the
    /// server acted on this one is then unknown.
    ///
    /// # Errors
    /// [`HttpError`]
    pub async fn send(&mut self, request: Request<'_>) -> Result<Answer<'_>, HttpError> {
        self.write_request(&request);
        let kept = self.stream.take();
        let was_kept = kept.is_some();
        let head = match self.exchange(kept).await {
            Err(HttpError::Io { .. }) if was_kept && self.filled == 0 => self.exchange(None).await,
            done => done,
        }?;
        let body = &self.input[head.size..head.size + head.body_size];
        Ok(Answer { status: head.status, body })
    }

    /// Sends what is to be sent, over a connection that was kept or a new one, and keeps it if it
    /// stays open.
    async fn exchange(&mut self, kept: Option<Wire>) -> Result<Head, HttpError> {
        self.filled = 0;
        let mut stream = match kept {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        write_all(&mut stream, self.out.as_bytes()).await?;
        let head = self.read_answer(&mut stream).await?;
        if !head.closes {
            self.stream = Some(stream);
        }
        Ok(head)
    }

    async fn connect(&self) -> Result<Wire, HttpError> {
        let Address { host, port, secure, .. } = &self.address;
        let wire = Wire::connect(host, *port, secure.as_ref()).await;
        wire.map_err(|error| HttpError::Io { action: "connect", error })
    }

    fn write_request(&mut self, request: &Request<'_>) {
        let out = &mut self.out;
        out.clear();
        let parts = [request.method, " ", request.path, " HTTP/1.1\r\nhost: ", &self.address.host];
        out.extend(parts);
        // Writing to a string cannot fail.
        let _ = write!(out, ":{}\r\n", self.address.port);
        if let Some(authorization) = &self.address.authorization {
            out.extend(["authorization: ", authorization, "\r\n"]);
        }
        if let Some(key) = request.key {
            let _ = write!(out, "idempotency-key: {key}\r\n");
        }
        if let Some(seconds) = request.wait_s {
            let _ = write!(out, "prefer: wait={seconds}\r\n");
        }
        if !request.body.is_empty() {
            out.push_str("content-type: application/json\r\n");
        }
        if request.method != "GET" {
            let _ = write!(out, "content-length: {}\r\n", request.body.len());
        }
        out.push_str("\r\n");
        out.push_str(request.body);
    }

    async fn read_answer(&mut self, stream: &mut Wire) -> Result<Head, HttpError> {
        let mut searched = 0;
        let head = loop {
            self.fill(stream).await?;
            let bytes = &self.input[..self.filled];
            if let Some(size) = head_size(bytes, searched) {
                break Head::parse(&bytes[..size]).map_err(HttpError::Answer)?;
            }
            // The end of a head may come in two pieces.
            searched = self.filled.saturating_sub(3);
        };
        while self.filled < head.size + head.body_size {
            self.fill(stream).await?;
        }
        if self.filled > head.size + head.body_size {
            return Err(HttpError::Answer("it is longer than it says"));
        }
        Ok(head)
    }

    /// Reads some bytes more, at least one.
    async fn fill(&mut self, stream: &mut Wire) -> Result<(), HttpError> {
        if self.filled == self.input.len() {
            if self.filled >= ANSWER_SIZE_MAX {
                return Err(HttpError::Answer("it is too large"));
            }
            self.input.resize((self.filled * 2).max(BUFFER_SIZE), 0);
        }
        let mut room = ReadBuf::new(&mut self.input[self.filled..]);
        let read = poll_fn(|context| Pin::new(&mut *stream).poll_read(context, &mut room)).await;
        read.map_err(|error| HttpError::Io { action: "read an answer", error })?;
        if room.filled().is_empty() {
            let error = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(HttpError::Io { action: "read an answer", error });
        }
        self.filled += room.filled().len();
        Ok(())
    }
}

async fn write_all<S>(stream: &mut S, mut bytes: &[u8]) -> Result<(), HttpError>
where
    S: AsyncWrite + Unpin,
{
    while !bytes.is_empty() {
        let wrote = poll_fn(|context| Pin::new(&mut *stream).poll_write(context, bytes)).await;
        match wrote {
            Ok(0) => {
                let error = io::Error::from(io::ErrorKind::WriteZero);
                return Err(HttpError::Io { action: "send a request", error });
            }
            Ok(count) => bytes = &bytes[count..],
            Err(error) => return Err(HttpError::Io { action: "send a request", error }),
        }
    }
    let flushed = poll_fn(|context| Pin::new(&mut *stream).poll_flush(context)).await;
    flushed.map_err(|error| HttpError::Io { action: "send a request", error })
}

/// What an answer's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    /// Bytes of it, with the empty line.
    size: usize,
    status: u16,
    body_size: usize,
    /// Whether the server ends the connection after it.
    closes: bool,
}

/// Bytes up to the end of the empty line, looked for from `searched` on.
fn head_size(bytes: &[u8], searched: usize) -> Option<usize> {
    let found = bytes[searched..].windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(searched + found + 4)
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Head, &'static str> {
        let text = std::str::from_utf8(bytes).map_err(|_| "its head is not text")?;
        let mut lines = text.split("\r\n");
        let first = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
        let first = first.ok_or("it is not HTTP/1.1")?;
        let status = first.get(..3).and_then(|status| status.parse().ok());
        let status = status.ok_or("it has no status")?;
        let mut length = None;
        let mut closes = false;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.parse().map_err(|_| "its length is not a number")?);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err("it comes in chunks, which this client does not read");
            } else if name.eq_ignore_ascii_case("connection") {
                closes = value.eq_ignore_ascii_case("close");
            }
        }
        let body_size = match (status, length) {
            (204 | 304, _) => 0,
            (_, Some(length)) if length <= ANSWER_SIZE_MAX => length,
            (_, Some(_)) => return Err("it is too large"),
            (_, None) => return Err("it does not say how long it is"),
        };
        Ok(Head { size: bytes.len(), status, body_size, closes })
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_head_says_how_long_the_answer_is_or_is_refused() {
        let head = |text: &str| {
            let text = text.replace('\n', "\r\n") + "\r\n\r\n";
            Head::parse(text.as_bytes()).map(|head| (head.status, head.body_size, head.closes))
        };
        for (text, expected) in [
            ("HTTP/1.1 200 OK\nContent-Length: 12", Ok((200, 12, false))),
            ("HTTP/1.1 422 X\ncontent-length:0\nConnection: Close", Ok((422, 0, true))),
            ("HTTP/1.1 204 No Content", Ok((204, 0, false))),
            ("HTTP/1.0 200 OK\ncontent-length: 1", Err("it is not HTTP/1.1")),
            ("HTTP/1.1 20", Err("it has no status")),
            ("HTTP/1.1 200 OK", Err("it does not say how long it is")),
            ("HTTP/1.1 200 OK\ncontent-length: 1x", Err("its length is not a number")),
            ("HTTP/1.1 200 OK\ncontent-length: 99999999999", Err("it is too large")),
            (
                "HTTP/1.1 200 OK\nTransfer-Encoding: chunked",
                Err("it comes in chunks, which this client does not read"),
            ),
        ] {
            assert_eq!(head(text), expected, "{text}");
        }
    }

    fn nobody(host: &str) -> Address {
        Address { host: host.to_owned(), port: 1, secure: None, authorization: None }
    }

    /// Answers each connection with the next of `scripts`: what it sends, piece by piece, each
    /// after it has read what is there.
    async fn server(scripts: Vec<Vec<&'static str>>) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            for script in scripts {
                let (mut stream, _) = listener.accept().await.expect("a client");
                stream.readable().await.expect("a request");
                for piece in script {
                    stream.set_nodelay(true).expect("a socket");
                    write_all(&mut stream, piece.as_bytes()).await.expect("a client");
                    tokio::task::yield_now().await;
                }
            }
        });
        Address { port: address.port(), ..nobody("127.0.0.1") }
    }

    #[tokio::test]
    async fn answers_come_whole_however_they_are_cut() {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r";
        let address = server(vec![vec![head, "\nhel", "lo"]]).await;
        let mut connection = Connection::new(address);
        let answer = connection.send(Request::get("/")).await.expect("an answer");
        assert_eq!(answer, Answer { status: 200, body: b"hello" });
    }

    #[tokio::test]
    async fn a_broken_connection_is_an_error_and_the_next_request_makes_a_new_one() {
        let cut = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel";
        let whole = "HTTP/1.1 201 OK\r\ncontent-length: 2\r\n\r\n{}";
        let more = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}{}";
        let address = server(vec![vec![cut], vec![more], vec![whole]]).await;
        let mut connection = Connection::new(address);
        let error = connection.send(Request::get("/")).await.expect_err("cut off");
        assert!(matches!(error, HttpError::Io { .. }), "{error}");
        let error = connection.send(Request::get("/")).await.expect_err("too much");
        assert!(matches!(error, HttpError::Answer(_)), "{error}");
        let answer = connection.send(Request::get("/")).await.expect("an answer");
        assert_eq!(answer.status, 201);
    }

    #[tokio::test]
    async fn a_connection_that_ended_while_it_was_idle_is_made_again_once() {
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        // Each ends after one answer, the third without one.
        let address = server(vec![vec![whole], vec![whole], vec![]]).await;
        let mut connection = Connection::new(address);
        for _ in 0..2 {
            let answer = connection.send(Request::get("/")).await.expect("an answer");
            assert_eq!(answer.status, 200);
        }
        let error = connection.send(Request::get("/")).await.expect_err("no answer twice");
        assert!(matches!(error, HttpError::Io { .. }), "{error}");
    }

    #[test]
    fn a_request_says_how_long_it_is() {
        let authorization = Some("Bearer abc".to_owned());
        let address = Address { authorization, ..nobody("h") };
        assert_eq!(format!("{address:?}"), "h:1", "no secret");
        let mut connection = Connection::new(address);
        let request =
            Request { wait_s: Some(9), ..Request::act("POST", "/v1/x", Uuid::nil(), "{}") };
        connection.write_request(&request);
        assert_eq!(
            connection.out,
            "POST /v1/x HTTP/1.1\r\nhost: h:1\r\nauthorization: Bearer abc\r\n\
             idempotency-key: 00000000-0000-0000-0000-000000000000\r\nprefer: wait=9\r\n\
             content-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
        );
    }

    #[test]
    fn a_refusal_has_the_servers_own_words() {
        let body = br#"{"type":"urn:daybook:problem:conflict","detail":"lost"}"#;
        let refusal = Answer { status: 409, body }.accepted::<()>().expect_err("refused");
        assert_eq!((refusal.word.as_str(), refusal.detail.as_str()), ("conflict", "lost"));
        let refusal = Answer { status: 502, body: b"<html>" }.refusal();
        assert_eq!((refusal.word.as_str(), refusal.detail.as_str()), ("status-502", "<html>"));
    }
}
