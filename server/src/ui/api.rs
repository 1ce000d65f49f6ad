//! Asks the HTTP API on behalf of a visitor, in process: the same routes, the same rights, the same
//! answers as over the network.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use http::{Method, Request, StatusCode, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::node::listener::Peer;
use crate::security::Caller;
use crate::security::gate::Subject;

/// Bytes of an answer that is made into a page: a page of events and one as large as may be.
const ANSWER_SIZE_MAX: usize = 64 * 1024 * 1024;
/// What stands for itself in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A text as one segment of a path, or one value of a query.
#[must_use]
pub fn segment(text: &str) -> String {
    // A segment of dots would be taken for a step up.
    if matches!(text, "." | "..") {
        return text.replace('.', "%2E");
    }
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Asks for a visitor.
pub struct Asking {
    api: Router,
    caller: Caller,
    peer: Option<Peer>,
    /// There if the visit is being recorded: then what it asks for is not recorded again.
    subject: Option<Subject>,
}

/// What is sent with a request.
pub enum Sent {
    /// Nothing.
    Nothing,
    /// JSON, as it is.
    Json(String),
    /// JSON, under this Idempotency-Key.
    Once(Value, uuid::Uuid),
}

impl Asking {
    /// Asks `api` as `caller`.
    #[must_use]
    pub fn new(
        api: Router,
        caller: Caller,
        peer: Option<Peer>,
        subject: Option<Subject>,
    ) -> Asking {
        Asking { api, caller, peer, subject }
    }

    /// The JSON at `path`.
    ///
    /// # Errors
    /// [`Trouble`], as the API says it.
    pub async fn get(&self, path: &str) -> Result<Value, Trouble> {
        let bytes = self.bytes(path).await?;
        serde_json::from_slice(&bytes).map_err(|_| Trouble::internal("the answer is not JSON"))
    }

    /// The bytes at `path`.
    ///
    /// # Errors
    /// As [`Asking::get`].
    pub async fn bytes(&self, path: &str) -> Result<Bytes, Trouble> {
        accepted(self.ask(Method::GET, path, Sent::Nothing, "application/json").await).await
    }

    /// The answer to a subscription at `path`, as it goes on.
    ///
    /// # Errors
    /// As [`Asking::get`].
    pub async fn follow(&self, path: &str) -> Result<Response, Trouble> {
        let answer = self.ask(Method::GET, path, Sent::Nothing, "text/event-stream").await;
        if answer.status().is_success() {
            return Ok(answer);
        }
        accepted(answer).await?;
        Err(Trouble::internal("the subscription did not begin"))
    }

    /// Has something done; null if there is nothing to say of it.
    ///
    /// # Errors
    /// As [`Asking::get`].
    pub async fn send(&self, method: Method, path: &str, sent: Sent) -> Result<Value, Trouble> {
        let bytes = accepted(self.ask(method, path, sent, "application/json").await).await?;
        Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn ask(&self, method: Method, path: &str, sent: Sent, accept: &str) -> Response {
        let request = Request::builder().method(method).uri(path).header(header::ACCEPT, accept);
        let kind = "application/json";
        let (request, body) = match sent {
            Sent::Nothing => (request, Body::empty()),
            Sent::Json(json) => (request.header(header::CONTENT_TYPE, kind), Body::from(json)),
            Sent::Once(json, key) => (
                request
                    .header(header::CONTENT_TYPE, kind)
                    .header("idempotency-key", key.to_string()),
                Body::from(json.to_string()),
            ),
        };
        let mut request = match request.body(body) {
            Ok(request) => request,
            Err(_) => return Trouble::not_found("no such path can be asked for").into_response(),
        };
        let extensions = request.extensions_mut();
        extensions.insert(self.caller.clone());
        if let Some(peer) = self.peer {
            extensions.insert(peer);
        }
        if let Some(subject) = &self.subject {
            extensions.insert(subject.clone());
        }
        match self.api.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

async fn accepted(response: Response) -> Result<Bytes, Trouble> {
    let (head, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, ANSWER_SIZE_MAX).await;
    let bytes = bytes.map_err(|_| Trouble::internal("the answer is too large for a page"))?;
    if head.status.is_success() { Ok(bytes) } else { Err(Trouble::read(head.status, &bytes)) }
}

/// What went wrong, in the API's words.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// The status.
    pub status: StatusCode,
    /// The last part of the problem's type.
    pub word: String,
    /// What kind of thing it is.
    pub title: String,
    /// What exactly, and what to do.
    pub detail: String,
}

impl Trouble {
    /// Reads a problem.
    #[must_use]
    pub fn read(status: StatusCode, bytes: &[u8]) -> Trouble {
        let problem: Value = serde_json::from_slice(bytes).unwrap_or(Value::Null);
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        let word = text("type");
        let word = word.rsplit(':').next().unwrap_or_default().to_owned();
        let title = match text("title") {
            empty if empty.is_empty() => {
                status.canonical_reason().unwrap_or("It did not work").to_owned()
            }
            title => title,
        };
        Trouble { status, word, title, detail: text("detail") }
    }

    /// Nothing is there.
    #[must_use]
    pub fn not_found(detail: &str) -> Trouble {
        Trouble::of(StatusCode::NOT_FOUND, "There is nothing here", detail)
    }

    /// A form says something that cannot be used.
    #[must_use]
    pub fn bad(detail: &str) -> Trouble {
        Trouble::of(StatusCode::BAD_REQUEST, "The form cannot be used", detail)
    }

    /// The server failed.
    #[must_use]
    pub fn internal(detail: &str) -> Trouble {
        Trouble::of(StatusCode::INTERNAL_SERVER_ERROR, "The server failed", detail)
    }

    /// One of the console's own.
    #[must_use]
    pub fn of(status: StatusCode, title: &str, detail: &str) -> Trouble {
        Trouble {
            status,
            word: "console".to_owned(),
            title: title.to_owned(),
            detail: detail.to_owned(),
        }
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let body = serde_json::json!({
            "type": format!("urn:daybook:problem:{}", self.word),
            "title": self.title,
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.status, kind, body.to_string()).into_response()
    }
}

impl From<crate::http::problem::Problem> for Trouble {
    fn from(problem: crate::http::problem::Problem) -> Trouble {
        let json = problem.to_json();
        let status = serde_json::from_str::<Value>(&json).ok();
        let status = status.and_then(|json| u16::try_from(json["status"].as_u64()?).ok());
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        Trouble::read(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), json.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_stays_one() {
        for (text, one) in [
            ("account-1", "account-1"),
            ("a/b?c#d", "a%2Fb%3Fc%23d"),
            ("..", "%2E%2E"),
            (".", "%2E"),
            ("$ce-ä %", "%24ce-%C3%A4%20%25"),
        ] {
            assert_eq!(segment(text), one);
        }
    }
}
