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
//! Questions go through a guard: a circuit breaker, so that a service that is down costs a transfer
//! no time; a bulkhead, so that one that is slow holds up so many transfers and no more; a timeout;
//! and one retry, only where a connection broke, because a kept one may have been closed meanwhile.
//!
//! Money is decided by what it says: beyond this machine it is spoken to within TLS, and this
//! machine's authorities vouch for it.

use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use daybook_client::Tls;
use daybook_client::resilience::{
    BreakerSettings, Bulkhead, BulkheadSettings, CircuitBreaker, Guard, GuardError,
    InvalidSettings, Retry, RetrySettings, Verdict, Window, Wiring,
};
use daybook_ledger::risk::{Assessing, Assessment, RiskRequest, RiskService, Unreachable};
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::security::wire::{Dialler, HTTP_1, Secure, SecureError, is_this_machine};
use crate::telemetry::trace::current::carry_on;

/// Time the service has for one answer unless the settings say otherwise: long for a person who
/// waits for a transfer, short beside a transfer's deadline.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);
/// The least time it may have.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// Questions that may be open at a time, each with a connection; others wait for as long as an
/// answer may take.
const QUESTIONS_MAX: u32 = 128;
/// Questions that wait: more would not get their turn in time.
const QUESTIONS_WAITING_MAX: u32 = 1024;
/// An unused connection is kept for so long; longer, and the service has often closed it.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// How long the breaker stays open the first time, and at most: a transfer that waits for the
/// service is held up by this much at most once it is back.
const OPEN_FIRST: Duration = Duration::from_secs(1);
const OPEN_MAX: Duration = Duration::from_secs(10);
/// The name of the service in metrics.
pub const ENDPOINT: &str = "risk";
/// Bytes of an answer.
const ANSWER_SIZE_MAX: usize = 64 * 1024;
/// The word of what the service rejects.
const RULE: &str = "risk_service";

/// Where the service is.
#[derive(Clone)]
pub struct RiskUrl {
    uri: Uri,
    dialler: Dialler,
}

impl std::fmt::Debug for RiskUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.uri)
    }
}

/// Why a text is not where a risk service can be.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRiskUrl {
    /// It is none, or has more in it than where to ask. It is not repeated: it may hold a password.
    #[error(
        "this is no risk service's URL; give https://HOST/PATH, or http://localhost:PORT/PATH, \
         without a login and a query: settings are shown to operators"
    )]
    Form,
    /// Anybody in between could approve transfers.
    #[error(
        "'{host}' is another machine, and http:// is not secure: whoever is between could approve \
         transfers; give https://, or a proxy on this machine"
    )]
    Exposed {
        /// The host.
        host: String,
    },
    /// Nobody can vouch for it.
    #[error(transparent)]
    Secure(#[from] SecureError),
}

impl FromStr for RiskUrl {
    type Err = InvalidRiskUrl;

    fn from_str(text: &str) -> Result<RiskUrl, InvalidRiskUrl> {
        let uri: Uri = text.parse().map_err(|_| InvalidRiskUrl::Form)?;
        let host = uri.host().unwrap_or_default();
        let login = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        if host.is_empty() || login || uri.query().is_some() {
            return Err(InvalidRiskUrl::Form);
        }
        let (secure, port) = match uri.scheme_str() {
            Some("https") => (Some(Secure::new(&Tls::default(), host, HTTP_1)?), 443),
            Some("http") if is_this_machine(host) => (None, 80),
            Some("http") => return Err(InvalidRiskUrl::Exposed { host: host.to_owned() }),
            _ => return Err(InvalidRiskUrl::Form),
        };
        let dialler = Dialler::new(host, uri.port_u16().unwrap_or(port), secure);
        Ok(RiskUrl { uri, dialler })
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    /// There was no connection, or it broke: asking again may help at once.
    #[error("{0}")]
    Connection(String),
    /// There was an answer, of no use.
    #[error("{0}")]
    Useless(String),
}

/// The service.
#[derive(Debug)]
pub struct HttpRisk {
    url: RiskUrl,
    timeout: Duration,
    client: Client<Dialler, Full<Bytes>>,
    guard: Guard<NoAnswer>,
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
    /// The service at `url`, which has `timeout` for each answer, and a millisecond at least.
    #[must_use]
    pub fn new(url: RiskUrl, timeout: Duration, wiring: Wiring) -> HttpRisk {
        let timeout = timeout.max(TIMEOUT_MIN);
        let guard = guard(timeout, wiring).expect("its numbers are ours, and the timeout is some");
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(QUESTIONS_MAX as usize)
            .build(url.dialler.clone());
        HttpRisk { url, timeout, client, guard }
    }

    async fn ask(&self, request: &RiskRequest) -> Result<Assessment, NoAnswer> {
        let useless = |reason: String| NoAnswer::Useless(reason);
        let question = self.question(request).map_err(useless)?;
        let answer = self.client.request(question).await.map_err(|error| {
            let what = if error.is_connect() { "cannot connect" } else { "the connection broke" };
            NoAnswer::Connection(format!("{what}: {}", innermost(&error)))
        })?;
        let status = answer.status();
        if status != StatusCode::OK {
            return Err(useless(format!("it answered {status}")));
        }
        let body = Limited::new(answer.into_body(), ANSWER_SIZE_MAX).collect().await;
        let body = body.map_err(|error| useless(format!("its answer broke off: {error}")))?;
        let answer: Answer = serde_json::from_slice(&body.to_bytes())
            .map_err(|error| useless(format!("its answer is not understood: {error}")))?;
        Ok(match answer.decision {
            Decision::Approve => Assessment::Approved,
            Decision::Reject => {
                Assessment::Rejected { rule: RULE.to_owned(), detail: answer.reason }
            }
        })
    }

    fn reason(&self, error: &GuardError<NoAnswer>) -> String {
        match error {
            GuardError::TimedOut { .. } => format!("it did not answer within {:?}", self.timeout),
            GuardError::Inner(error) => error.to_string(),
            not_asked => format!("it was not asked: {not_asked}"),
        }
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
        let mut asked = Request::post(&self.url.uri)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        carry_on(asked.headers_mut());
        Ok(asked)
    }
}

impl RiskService for HttpRisk {
    fn assess<'a>(&'a self, request: &'a RiskRequest) -> Assessing<'a> {
        Box::pin(async move {
            let answer = self.guard.call(|| self.ask(request)).await;
            answer.map_err(|error| Unreachable { reason: self.reason(&error) })
        })
    }
}

/// What stands between the ledger and the service.
fn guard(timeout: Duration, wiring: Wiring) -> Result<Guard<NoAnswer>, InvalidSettings> {
    let bulkhead = BulkheadSettings {
        inside_max: QUESTIONS_MAX,
        waiting_max: QUESTIONS_WAITING_MAX,
        wait_max: timeout,
    };
    let breaker = BreakerSettings {
        window: Window::Time { length: Duration::from_secs(30), parts: 10 },
        slow_after: timeout / 2,
        open_first: OPEN_FIRST,
        open_max: OPEN_MAX,
        probe_silence_max: timeout * 2,
        ..BreakerSettings::default()
    };
    let retry = RetrySettings {
        attempts_max: 2,
        pause_first: Duration::from_millis(20),
        ..RetrySettings::default()
    };
    let bulkhead = Bulkhead::new(bulkhead, wiring.timer.clone())?;
    Ok(Guard::new(CircuitBreaker::new(ENDPOINT, breaker, wiring)?)
        .classify(|_| Verdict::Failure)
        .bulkhead(bulkhead)
        .timeout(timeout)
        .retry(Retry::new(retry)?, |error| {
            matches!(error, GuardError::Inner(NoAnswer::Connection(_)))
        }))
}

/// What is at the bottom of an error: the system's own words.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

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

    fn risk(url: RiskUrl, timeout: Duration) -> HttpRisk {
        HttpRisk::new(url, timeout, Wiring::system())
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
        let risk = risk(url, Duration::from_secs(20));
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
        let answer = risk(url, Duration::from_secs(20)).assess(&request()).await;
        assert!(answer.expect_err("nobody").reason.contains("cannot connect"));
    }

    #[tokio::test]
    async fn silence_is_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let url = format!("http://{address}").parse().expect("a URL");
        // It accepts nothing and says nothing, however long one waits.
        let risk = risk(url, Duration::from_millis(20));
        for question in 0..10 {
            let reason = risk.assess(&request()).await.expect_err("silence").reason;
            // After 5 failures in a row nobody waits any more.
            let expected = if question < 5 { "within 20ms" } else { "circuit breaker is open" };
            assert!(reason.contains(expected), "question {question}: {reason}");
        }
    }

    #[tokio::test]
    async fn a_connection_is_kept_and_replaced_when_the_service_closes_it() {
        const ANSWERS_A_CONNECTION: usize = 3;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                for _ in 0..ANSWERS_A_CONNECTION {
                    let mut asked = String::new();
                    while !asked.ends_with('}') {
                        let mut bytes = [0; 4096];
                        let read = stream.read(&mut bytes).await.expect("a request");
                        asked.push_str(&String::from_utf8_lossy(&bytes[..read]));
                    }
                    let answer = ok(r#"{"decision":"approve"}"#);
                    stream.write_all(answer.as_bytes()).await.expect("an open connection");
                }
            }
        });
        let url = format!("http://{address}/check").parse().expect("a URL");
        let risk = risk(url, Duration::from_secs(20));
        for _ in 0..10 {
            assert_eq!(risk.assess(&request()).await.ok(), Some(Assessment::Approved));
        }
        assert_eq!(connections.load(Ordering::Relaxed), 10_usize.div_ceil(ANSWERS_A_CONNECTION));
    }

    #[test]
    fn money_is_decided_by_who_cannot_be_feigned() {
        for (text, good) in [
            ("http://127.0.0.1:9000/check", true),
            ("http://localhost:9000", true),
            ("http://[::1]:9000/check", true),
            ("http://127.0.0.1:9000/check?key=secret", false),
            ("http://risk.internal", false),
            ("http://127.0.0.1.elsewhere.example/", false),
            ("https://risk.internal/", true),
            ("https://risk.internal/check?key=secret", false),
            ("http://user:secret@risk.internal/", false),
            ("risk.internal:9000", false),
            ("/check", false),
            ("", false),
        ] {
            let parsed = text.parse::<RiskUrl>();
            assert_eq!(parsed.is_ok(), good, "{text}");
            assert!(parsed.err().is_none_or(|error| !error.to_string().contains("secret")));
        }
    }
}
