//! The risk service of somebody else, asked over HTTP.
//!
//! ```text
//!   POST <url>   {"transfer_id":…, "sender_account_id":…, "receiver_account_id":…, "amount":"…",
//!                 "currency":"…", "sender_flag":…, "receiver_flag":…,
//!                 "sender_transfers_hour":n, "sender_transfers_day":n}
//!   200          {"decision":"approve"}  or  {"decision":"reject", "reason":"…"}
//! ```
//!
//! Anything else, and silence, is no answer: what happens to the transfer then is for the node's
//! settings to say. The service may be asked more than once about one transfer.
//!
//! Left out: TLS (put a proxy beside the server), and connections that are kept: each question has
//! its own.

use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use daybook_ledger::risk::{Assessing, Assessment, RiskRequest, RiskService, Unreachable};
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Time the service has for one answer unless the settings say otherwise: long for a person who
/// waits for a transfer, short beside a transfer's deadline.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);
/// Questions that may be open at a time, each with a connection; others wait within their time.
const QUESTIONS_MAX: usize = 128;
/// Bytes of an answer.
const ANSWER_SIZE_MAX: usize = 64 * 1024;
/// The word of what the service rejects.
const RULE: &str = "risk_service";

/// Where the service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RiskUrl {
    authority: String,
    address: String,
    path: String,
}

/// Why a text is not where a risk service can be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a risk service's URL; give http://HOST:PORT/PATH (without TLS)")]
pub struct InvalidRiskUrl {
    text: String,
}

impl FromStr for RiskUrl {
    type Err = InvalidRiskUrl;

    fn from_str(text: &str) -> Result<RiskUrl, InvalidRiskUrl> {
        let invalid = || InvalidRiskUrl { text: text.to_owned() };
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(invalid)?;
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        if uri.scheme_str() != Some("http") || authority.contains('@') {
            return Err(invalid());
        }
        let address = format!("{host}:{}", uri.port_u16().unwrap_or(80));
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(RiskUrl { authority, address, path })
    }
}

/// The service.
#[derive(Debug)]
pub struct HttpRisk {
    url: RiskUrl,
    timeout: Duration,
    room: Semaphore,
}

#[derive(Serialize)]
struct Question<'a> {
    transfer_id: Uuid,
    sender_account_id: Uuid,
    receiver_account_id: Uuid,
    amount: String,
    currency: &'a str,
    sender_flag: Option<&'a str>,
    receiver_flag: Option<&'a str>,
    sender_transfers_hour: u32,
    sender_transfers_day: u32,
}

#[derive(Deserialize)]
struct Answer {
    decision: Decision,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Decision {
    Approve,
    Reject,
}

impl HttpRisk {
    /// The service at `url`, which has `timeout` for each answer.
    #[must_use]
    pub fn new(url: RiskUrl, timeout: Duration) -> HttpRisk {
        HttpRisk { url, timeout, room: Semaphore::new(QUESTIONS_MAX) }
    }

    async fn ask(&self, request: &RiskRequest) -> Result<Assessment, String> {
        let _room = self.room.acquire().await.map_err(|error| error.to_string())?;
        let stream = TcpStream::connect(&self.url.address).await;
        let stream = stream.map_err(|error| format!("cannot connect: {error}"))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
        // Ends when `sender` and the answer are dropped, so at the timeout at the latest.
        tokio::spawn(connection);
        let answer = sender.send_request(self.question(request)?).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let status = answer.status();
        if status != StatusCode::OK {
            return Err(format!("it answered {status}"));
        }
        let body = Limited::new(answer.into_body(), ANSWER_SIZE_MAX).collect().await;
        let body = body.map_err(|error| format!("its answer broke off: {error}"))?.to_bytes();
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|error| format!("its answer is not understood: {error}"))?;
        Ok(match answer.decision {
            Decision::Approve => Assessment::Approved,
            Decision::Reject => {
                Assessment::Rejected { rule: RULE.to_owned(), detail: answer.reason }
            }
        })
    }

    fn question(&self, request: &RiskRequest) -> Result<Request<Full<Bytes>>, String> {
        let question = Question {
            transfer_id: request.transfer_id,
            sender_account_id: request.sender_account_id,
            receiver_account_id: request.receiver_account_id,
            amount: request.amount.to_string(),
            currency: request.currency.code(),
            sender_flag: request.sender_flag.as_deref(),
            receiver_flag: request.receiver_flag.as_deref(),
            sender_transfers_hour: request.sender_transfers_hour,
            sender_transfers_day: request.sender_transfers_day,
        };
        let body = serde_json::to_vec(&question).map_err(|error| error.to_string())?;
        Request::post(&self.url.path)
            .header(header::HOST, &self.url.authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())
    }
}

impl RiskService for HttpRisk {
    fn assess<'a>(&'a self, request: &'a RiskRequest) -> Assessing<'a> {
        Box::pin(async move {
            match tokio::time::timeout(self.timeout, self.ask(request)).await {
                Ok(answer) => answer.map_err(|reason| Unreachable { reason }),
                Err(_) => {
                    let reason = format!("it did not answer within {:?}", self.timeout);
                    Err(Unreachable { reason })
                }
            }
        })
    }
}

/// The built-in rules, and then the service: what the rules reject is not asked about.
pub struct RulesThenService<R> {
    rules: R,
    service: Option<HttpRisk>,
}

impl<R: RiskService> RulesThenService<R> {
    /// `rules`, and then `service` if there is one.
    #[must_use]
    pub fn new(rules: R, service: Option<HttpRisk>) -> RulesThenService<R> {
        RulesThenService { rules, service }
    }
}

impl<R: RiskService> RiskService for RulesThenService<R> {
    fn assess<'a>(&'a self, request: &'a RiskRequest) -> Assessing<'a> {
        let Some(service) = &self.service else { return self.rules.assess(request) };
        Box::pin(async move {
            match self.rules.assess(request).await? {
                Assessment::Approved => service.assess(request).await,
                rejected @ Assessment::Rejected { .. } => Ok(rejected),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use daybook_ledger::currency::Currency;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn request() -> RiskRequest {
        RiskRequest {
            transfer_id: Uuid::from_u128(1),
            sender_account_id: Uuid::from_u128(2),
            receiver_account_id: Uuid::from_u128(3),
            amount: "10.00".parse().expect("a number"),
            currency: Currency::from_code("USD").expect("a currency"),
            sender_flag: None,
            receiver_flag: Some("seen before".to_owned()),
            sender_transfers_hour: 1,
            sender_transfers_day: 2,
        }
    }

    /// Asks a service that gives `answer`, word for word; with what it was asked.
    async fn asked(answer: String) -> (Result<Assessment, Unreachable>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a question");
            let mut asked = String::new();
            while !asked.contains("\r\n\r\n") || !asked.ends_with('}') {
                let mut bytes = [0; 4096];
                let read = stream.read(&mut bytes).await.expect("a request");
                asked.push_str(&String::from_utf8_lossy(&bytes[..read]));
            }
            stream.write_all(answer.as_bytes()).await.expect("an open connection");
            asked
        });
        let url = format!("http://{address}/check").parse().expect("a URL");
        let risk = HttpRisk::new(url, Duration::from_secs(20));
        let answer = risk.assess(&request()).await;
        (answer, serving.await.expect("no panic"))
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[tokio::test]
    async fn a_service_approves_or_rejects_and_anything_else_is_no_answer() {
        let rejected = Assessment::Rejected { rule: RULE.to_owned(), detail: "odd".to_owned() };
        let cases = [
            (ok(r#"{"decision":"approve"}"#), Some(Assessment::Approved)),
            (ok(r#"{"decision":"approve","score":0.1}"#), Some(Assessment::Approved)),
            (ok(r#"{"decision":"reject","reason":"odd"}"#), Some(rejected)),
            (ok(r#"{"decision":"maybe"}"#), None),
            (ok("{}"), None),
            (ok("yes"), None),
            (ok(&" ".repeat(ANSWER_SIZE_MAX + 1)), None),
            ("HTTP/1.1 500 Oh\r\ncontent-length: 0\r\n\r\n".to_owned(), None),
            ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned(), None),
            (String::new(), None),
        ];
        for (answer, expected) in cases {
            let shown = answer.clone();
            let (found, asked) = asked(answer).await;
            assert_eq!(found.ok(), expected, "{shown:?}");
            assert!(asked.starts_with("POST /check HTTP/1.1\r\n"), "{asked}");
            assert!(asked.contains(r#""amount":"10.00","currency":"USD""#), "{asked}");
            assert!(asked.contains(r#""receiver_flag":"seen before""#), "{asked}");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let url = format!("http://{address}").parse().expect("a URL");
        let answer = HttpRisk::new(url, Duration::from_secs(20)).assess(&request()).await;
        assert!(answer.expect_err("nobody").reason.contains("cannot connect"));
    }

    #[tokio::test]
    async fn silence_is_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let url = format!("http://{address}").parse().expect("a URL");
        // It accepts nothing and says nothing, however long one waits.
        let risk = HttpRisk::new(url, Duration::from_millis(20));
        let answer = risk.assess(&request()).await;
        assert!(answer.expect_err("silence").reason.contains("within 20ms"));
    }

    #[test]
    fn a_url_has_a_host_and_no_tls() {
        for (text, good) in [
            ("http://127.0.0.1:9000/check?x=1", true),
            ("http://risk.internal", true),
            ("https://risk.internal/", false),
            ("http://user:secret@risk.internal/", false),
            ("risk.internal:9000", false),
            ("/check", false),
            ("", false),
        ] {
            assert_eq!(text.parse::<RiskUrl>().is_ok(), good, "{text}");
        }
    }
}
