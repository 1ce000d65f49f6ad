//! One HTTP/1.1 connection: a request, then its answer; made anew after it broke.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Bytes of one answer at most.
const ANSWER_SIZE_MAX: usize = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody takes connections there.
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    /// It broke; whether the request was carried out is unknown.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body as JSON; null if it is none.
    pub body: Value,
}

impl Answer {
    /// The last word of a problem's `type`.
    #[must_use]
    pub fn word(&self) -> String {
        let kind = self.body["type"].as_str().and_then(|kind| kind.rsplit(':').next());
        kind.map_or_else(|| format!("status-{}", self.status), str::to_owned)
    }
}

/// A connection, made with its first request.
#[derive(Debug)]
pub struct Connection {
    address: SocketAddr,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// A connection to `address`, not yet made.
    #[must_use]
    pub fn new(address: SocketAddr) -> Connection {
        Connection { address, sender: None }
    }

    /// `GET path`.
    ///
    /// # Errors
    /// [`HttpError`]
    pub async fn get(&mut self, path: &str) -> Result<Answer, HttpError> {
        self.send("GET", path, &[], String::new()).await
    }

    /// Sends a request. Dropped before its end it takes the connection with it.
    ///
    /// # Errors
    /// [`HttpError`]
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Result<Answer, HttpError> {
        let broken = |error: &dyn std::fmt::Display| HttpError::Broken(error.to_string());
        let kept = self.sender.take().filter(|sender| !sender.is_closed());
        let mut sender = match kept {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(|e| broken(&e))?;
        // A connection that was kept may still be busy with the end of its last answer.
        sender.ready().await.map_err(|e| broken(&e))?;
        let answer = sender.send_request(request).await.map_err(|e| broken(&e))?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_SIZE_MAX).collect().await;
        let body = body.map_err(|e| broken(&e))?.to_bytes();
        self.sender = Some(sender);
        Ok(Answer { status, body: serde_json::from_slice(&body).unwrap_or_default() })
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, HttpError> {
        let stream = TcpStream::connect(self.address).await.map_err(HttpError::Connect)?;
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| HttpError::Broken(error.to_string()))?;
        // It ends with its sender.
        tokio::spawn(connection);
        Ok(sender)
    }
}
