//! Somebody else's HTTP endpoint: notes what it is sent, and answers as a test says.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub status: u16,
}

/// What it answers.
#[derive(Clone, Debug)]
pub enum Answer {
    Status(u16),
    With(u16, &'static str, String),
    Body(u16, usize),
    /// Nothing, for ever.
    Silence,
}

type Script = Arc<Mutex<Box<dyn FnMut(&Value) -> Answer + Send>>>;

/// The endpoint. Ends with the test's runtime.
#[derive(Clone)]
pub struct Receiver {
    pub url: String,
    pub seen: Arc<watch::Sender<Vec<Seen>>>,
    script: Script,
}

impl Receiver {
    /// One that takes everything.
    pub async fn new() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let seen = Arc::new(watch::Sender::new(Vec::new()));
        let script: Script = Arc::new(Mutex::new(Box::new(|_| Answer::Status(200))));
        let receiver = Receiver { url, seen, script };
        tokio::spawn(receiver.clone().serve(listener));
        receiver
    }

    /// Gives these answers, one a request, and then takes everything.
    pub fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        let mut answers: VecDeque<Answer> = answers.into_iter().collect();
        self.script(move |_| answers.pop_front().unwrap_or(Answer::Status(204)));
    }

    /// Answers as `script` says from now on.
    pub fn script(&self, script: impl FnMut(&Value) -> Answer + Send + 'static) {
        *self.script.lock() = Box::new(script);
    }

    async fn serve(self, listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let this = self.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| this.clone().take(request));
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    }

    async fn take(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let answer = (self.script.lock())(&value);
        let (status, name, text, size) = match &answer {
            Answer::Status(status) => (*status, "x-none", String::new(), 0),
            Answer::With(status, name, value) => (*status, *name, value.clone(), 0),
            Answer::Body(status, size) => (*status, "x-none", String::new(), *size),
            Answer::Silence => (0, "x-none", String::new(), 0),
        };
        let path = parts.uri.path().to_owned();
        let seen = Seen { path, headers: parts.headers, body, status };
        self.seen.send_modify(|all| all.push(seen));
        if matches!(answer, Answer::Silence) {
            std::future::pending::<()>().await;
        }
        let body = Full::new(Bytes::from(vec![b'a'; size]));
        Ok(Response::builder().status(status).header(name, text).body(body).unwrap())
    }

    /// Waits until what was seen is as it should be.
    pub async fn until(&self, wanted: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let mut seen = self.seen.subscribe();
        let waited = tokio::time::timeout(super::TOO_LONG, seen.wait_for(|all| wanted(all))).await;
        match waited {
            Ok(found) => found.unwrap().clone(),
            Err(_) => panic!("not in time: {:#?}", self.seen.borrow()),
        }
    }

    /// Waits until so many requests were taken.
    pub async fn taken(&self, count: usize) -> Vec<Seen> {
        let seen = self.until(|all| all.iter().filter(|one| one.taken()).count() >= count).await;
        seen.into_iter().filter(Seen::taken).collect()
    }
}

impl Seen {
    pub fn taken(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// As the documentation tells a receiver to do it, without the age.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let header = self.headers["daybook-signature"].to_str().unwrap();
        let (time, mac) = header.split_once(",v1=").unwrap();
        let time = time.strip_prefix("t=").unwrap();
        let bytes: Vec<u8> = (0..mac.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&mac[at..at + 2], 16).unwrap())
            .collect();
        let signed = [time.as_bytes(), b".", &self.body].concat();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        hmac::verify(&key, &signed, &bytes).is_ok()
    }
}
