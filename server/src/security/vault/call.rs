//! One question to Vault, and its answer.
//!
//! INVARIANTS: an answer has a limit in bytes and time, is followed nowhere else, and is in no
//! message. A connection is made for each question: there are a few an hour.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use serde::Deserialize;
use serde_json::Value;

use super::fault::{Fault, VaultError};
use super::held::Secret;
use super::settings::{Settings, VaultUrl};
use crate::security::dial::{DialError, dial};
use crate::telemetry::vault::{Asked, VaultMetrics};

/// Bytes of an answer: Vault's own limit for an entry is 1 MiB.
pub const ANSWER_SIZE_MAX: usize = 2 * 1024 * 1024;
/// Bytes of what Vault says is wrong that are repeated.
const REASON_SIZE_MAX: usize = 200;

/// The way to Vault.
pub struct Line {
    url: VaultUrl,
    namespace: Option<String>,
    timeout: Duration,
    pub(super) metrics: VaultMetrics,
}

/// A question.
pub struct Question<'a> {
    /// What it is about, for metrics.
    pub asked: Asked,
    /// Its path below `/v1/`.
    pub path: &'a str,
    /// What is sent along; with it the question is a POST.
    pub body: Option<Value>,
    /// The token, once there is one.
    pub token: Option<&'a Secret>,
}

/// What Vault's answers have in common.
#[derive(Deserialize)]
pub struct Answer {
    /// What was asked for.
    #[serde(default)]
    pub data: Value,
    /// What a login or renewal gives.
    #[serde(default)]
    pub auth: Option<Granted>,
}

/// A token that was given, or given more time.
#[derive(Deserialize)]
pub struct Granted {
    /// The token.
    pub client_token: String,
    /// Seconds that it holds; 0 for ever.
    pub lease_duration: u64,
    /// Whether it can be given more.
    pub renewable: bool,
}

#[derive(Default, Deserialize)]
struct Wrong {
    #[serde(default)]
    errors: Vec<String>,
    #[serde(default)]
    data: Value,
}

impl Line {
    /// As `settings` say.
    pub fn new(settings: &Settings, metrics: VaultMetrics) -> Line {
        let (url, namespace) = (settings.url.clone(), settings.namespace.clone());
        Line { url, namespace, timeout: settings.timeout, metrics }
    }

    /// Asks, and counts it.
    ///
    /// # Errors
    /// [`VaultError`]
    pub async fn ask(&self, question: Question<'_>) -> Result<Answer, VaultError> {
        let asking = tokio::time::timeout(self.timeout, self.exchange(&question));
        let answer = asking.await.unwrap_or(Err(Fault::TimedOut(self.timeout.as_secs())));
        self.metrics.asked(question.asked, answer.is_ok());
        answer.map_err(|fault| self.failed(question.path, fault))
    }

    /// That what was asked for at `path` did not come.
    pub fn failed(&self, path: &str, fault: impl Into<Fault>) -> VaultError {
        VaultError { url: self.url.text.clone(), path: path.to_owned(), fault: fault.into() }
    }

    async fn exchange(&self, question: &Question<'_>) -> Result<Answer, Fault> {
        let request = self.request(question)?;
        let VaultUrl { host, port, tls, .. } = &self.url;
        let mut sender = dial(host, *port, tls.as_ref()).await.map_err(|error| match error {
            DialError::Settings(error) => Fault::Authorities(error.to_string()),
            error => Fault::Unreachable(error.to_string()),
        })?;
        let sent = sender.send_request(request).await;
        let answer = sent.map_err(|error| Fault::Unreachable(format!("it hangs up: {error}")))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_SIZE_MAX).collect().await;
        let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Fault::TooLarge(ANSWER_SIZE_MAX),
            None => Fault::Unreachable(format!("it hangs up: {error}")),
        })?;
        understand(status, &body.to_bytes())
    }

    fn request(&self, question: &Question<'_>) -> Result<Request<Full<Bytes>>, Fault> {
        let VaultUrl { host, port, .. } = &self.url;
        let method = if question.body.is_some() { Method::POST } else { Method::GET };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/v1/{}", question.path))
            .header(header::HOST, format!("{host}:{port}"))
            .header(header::ACCEPT, "application/json")
            // An agent on this machine asks for it, as proof that no browser was tricked into this.
            .header("x-vault-request", "true");
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        if let Some(token) = question.token {
            let token = HeaderValue::from_str(token.reveal());
            let mut token = token.map_err(|_| Fault::NoToken)?;
            token.set_sensitive(true);
            request = request.header("x-vault-token", token);
        }
        let body = question.body.as_ref().map(Value::to_string).unwrap_or_default();
        let request = request.body(Full::new(Bytes::from(body)));
        request.map_err(|error| Fault::Unreachable(format!("it cannot be asked: {error}")))
    }
}

/// What an answer says.
fn understand(status: StatusCode, body: &[u8]) -> Result<Answer, Fault> {
    if status.is_success() {
        if body.is_empty() {
            return Ok(Answer { data: Value::Null, auth: None });
        }
        return serde_json::from_slice(body).map_err(|error| malformed(&error));
    }
    let wrong: Wrong = serde_json::from_slice(body).unwrap_or_default();
    let reason = reason(&wrong.errors);
    let after = |lead: &str| {
        if reason.is_empty() { String::new() } else { format!("{lead}{reason}") }
    };
    Err(match status {
        StatusCode::FORBIDDEN => Fault::Denied(format!("403{}", after(": "))),
        StatusCode::NOT_FOUND if !wrong.data.is_null() => Fault::Deleted,
        StatusCode::NOT_FOUND => Fault::Missing(after(": ")),
        StatusCode::SERVICE_UNAVAILABLE => Fault::Sealed(format!("503{}", after(": "))),
        status => Fault::Refused { status: status.as_u16(), reason: after(": ") },
    })
}

/// Where an answer is wrong. What is wrong there may be a secret.
pub fn malformed(error: &serde_json::Error) -> Fault {
    Fault::Malformed(format!("line {}, column {}", error.line(), error.column()))
}

/// What Vault says, on one line and not too long.
fn reason(errors: &[String]) -> String {
    let text = errors.join("; ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let text: String = words.join(" ").chars().filter(|c| !c.is_control()).collect();
    match text.char_indices().nth(REASON_SIZE_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
