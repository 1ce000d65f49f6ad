//! Who looks at a page, and what stands in the head of every answer.
//!
//! ```text
//!   the entrance found a caller ─ yes ─> it is the visitor (credentials, a certificate, or the
//!                               │        server asks nobody)
//!                               └ no ──> the cookie's session ─> its caller ─> the gate
//!   afterwards: 401 ─> to the login; problems ─> a page; headers
//! ```
//!
//! INVARIANT: what the cookie proves reaches no further than the routes of the console.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use daybook_model::stream::AUDIT_STREAM;
use daybook_model::{Act, StreamName};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use tokio::sync::Semaphore;

use super::api::{Asking, Trouble};
use super::layout::Page;
use super::session::{Session, Use};
use super::{ROOT, Ui};
use crate::node::Admitted;
use crate::node::listener::Peer;
use crate::security::gate::Subject;
use crate::security::rights::Right;
use crate::security::{Caller, Proof};

/// What pages may use: this server's scripts, styles and answers, and nothing else.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; \
     base-uri 'none'";
/// The cookie's name over plain HTTP: of a server on loopback.
const COOKIE: &str = "daybook-console";
/// Over TLS: browsers take a name that begins so only with `Secure`, and only over TLS.
const COOKIE_SECURE: &str = "__Secure-daybook-console";
/// What a script says when it asks without anybody having done something.
const BY_ITSELF: HeaderName = HeaderName::from_static("daybook-by-itself");
/// Bytes of a problem that becomes a page.
const PROBLEM_SIZE_MAX: usize = 64 * 1024;

/// Who looks. A clone is another handle.
#[derive(Clone)]
pub struct Visitor {
    caller: Caller,
    session: Option<Arc<Session>>,
    token: blake3::Hash,
    feeds: Arc<Semaphore>,
    path: String,
    /// Whether its page asks, and nobody did anything.
    by_itself: bool,
    /// Whether the list of the audit log names it.
    reads_audit: bool,
}

impl Visitor {
    /// Who it is.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Its session, if it logged in here.
    #[must_use]
    pub fn session(&self) -> Option<&Arc<Session>> {
        self.session.as_ref()
    }

    /// What its forms carry.
    #[must_use]
    pub fn token(&self) -> String {
        self.token.to_hex().to_string()
    }

    /// Whether a form that carries `token` is its own. Takes as long whatever it is.
    #[must_use]
    pub fn has_token(&self, token: &str) -> bool {
        // Hashes are compared in constant time.
        blake3::Hash::from_hex(token).is_ok_and(|token| token == self.token)
    }

    /// Room for its feeds.
    #[must_use]
    pub fn feeds(&self) -> &Arc<Semaphore> {
        &self.feeds
    }

    /// Whether it has `right`: for what is offered, not for what is done.
    #[must_use]
    pub fn may(&self, right: Right) -> bool {
        right.check(&self.caller).is_ok() && (right != Right::ReadAudit || self.reads_audit)
    }

    /// Whether anybody is asked who they are.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.caller.proof() != Proof::Unasked
    }

    /// The path and query that it asked for.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether a page asks that keeps itself up to date.
    #[must_use]
    pub fn is_by_itself(&self) -> bool {
        self.by_itself
    }
}

/// A visitor on a page: what its handler needs.
pub struct Visit {
    visitor: Visitor,
    ui: Ui,
    asking: Asking,
    admitted: Admitted,
}

impl Visit {
    /// Who looks.
    #[must_use]
    pub fn visitor(&self) -> &Visitor {
        &self.visitor
    }

    /// Asks the API, as the visitor.
    #[must_use]
    pub fn api(&self) -> &Asking {
        &self.asking
    }

    /// The node, as the visitor may use it.
    #[must_use]
    pub fn node(&self) -> &Admitted {
        &self.admitted
    }

    /// What pages share.
    #[must_use]
    pub fn ui(&self) -> &Ui {
        &self.ui
    }

    /// Whether the visitor has `right`.
    #[must_use]
    pub fn may(&self, right: Right) -> bool {
        self.visitor.may(right)
    }

    /// The path and query that were asked for.
    #[must_use]
    pub fn path(&self) -> &str {
        self.visitor.path()
    }

    /// A page of this title, to be filled.
    #[must_use]
    pub fn page(&self, title: impl Into<String>) -> Page {
        Page::new(&self.visitor, title)
    }
}

impl FromRequestParts<Ui> for Visit {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, ui: &Ui) -> Result<Visit, StatusCode> {
        let visitor = parts.extensions.get::<Visitor>().cloned();
        let visitor = visitor.ok_or(StatusCode::UNAUTHORIZED)?;
        let peer = parts.extensions.get::<Peer>().copied();
        let subject = parts.extensions.get::<Subject>().cloned();
        let admitted = Admitted::from_request_parts(parts, ui).await?;
        let asking = Asking::new(ui.api.clone(), visitor.caller.clone(), peer, subject);
        Ok(Visit { visitor, ui: ui.clone(), asking, admitted })
    }
}

/// In front of every route of the console.
pub async fn enter(State(ui): State<Ui>, mut request: Request, next: Next) -> Response {
    let wants = Wants::of(request.method(), request.headers());
    let visitor = visitor(&ui, &mut request).await;
    let mut response = match &visitor {
        // Whoever opens a page before they have logged in tried nothing that is worth recording.
        Some(visitor) if wants == Wants::Page && !is_let_in(visitor, &request) => to_login(visitor),
        Some(visitor) if wants == Wants::Page => as_page(next.run(request).await, visitor).await,
        _ => without_window(next.run(request).await, wants),
    };
    let head = response.headers_mut();
    let say = |head: &mut HeaderMap, name: HeaderName, value: &'static str| {
        head.insert(name, HeaderValue::from_static(value));
    };
    say(head, header::CONTENT_SECURITY_POLICY, POLICY);
    say(head, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    say(head, header::X_FRAME_OPTIONS, "DENY");
    // Not `no-referrer`: with it browsers send the origin `null`, which is nobody's.
    say(head, header::REFERRER_POLICY, "same-origin");
    say(head, HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    if !head.contains_key(header::CACHE_CONTROL) {
        say(head, header::CACHE_CONTROL, "no-store");
    }
    response
}

/// What an answer is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    Page,
    Feed,
    Anything,
}

impl Wants {
    fn of(method: &Method, head: &HeaderMap) -> Wants {
        let accepts = head.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
        let reads_or_sends = matches!(*method, Method::GET | Method::HEAD | Method::POST);
        if accepts.contains("text/event-stream") {
            Wants::Feed
        } else if accepts.contains("text/html") && reads_or_sends {
            Wants::Page
        } else {
            Wants::Anything
        }
    }
}

/// Finds out who looks, and tells the gate.
async fn visitor(ui: &Ui, request: &mut Request) -> Option<Visitor> {
    let console = ui.context.console();
    let mut caller = request.extensions().get::<Caller>()?.clone();
    let mut session = None;
    if caller.proof() == Proof::None
        && let Some(id) = cookie(request.headers(), cookie_name(ui))
        && let Some(found) = console.sessions().find(id, used_by(request.headers())).await
    {
        caller = found.caller().clone();
        request.extensions_mut().insert(caller.clone());
        session = Some(found);
    }
    let token = console.sessions().token(session.as_deref(), caller.login().unwrap_or_default());
    let feeds = session.as_ref().map_or(console.feeds(), |session| session.feeds()).clone();
    // Whoever sent a form goes on at the beginning.
    let path = request.uri().path_and_query().filter(|_| request.method().is_safe());
    let path = path.map_or(ROOT, |path| path.as_str()).to_owned();
    let wants = Wants::of(request.method(), request.headers());
    let reads_audit = wants == Wants::Page && reads_audit(ui, &caller).await;
    let by_itself = is_by_itself(request.headers());
    let visitor = Visitor { caller, session, token, feeds, path, by_itself, reads_audit };
    request.extensions_mut().insert(visitor.clone());
    Some(visitor)
}

/// Whether a page offers the audit log.
async fn reads_audit(ui: &Ui, caller: &Caller) -> bool {
    let stream = StreamName::new(AUDIT_STREAM).expect("the name is valid");
    let admitted = Admitted::new(ui.context.clone(), caller.clone(), None);
    // If its list cannot be read, nobody who needs one is offered anything.
    admitted.door().may(Act::Read, &stream).await.unwrap_or_default()
}

/// Who asks: pages that keep themselves up to date say so.
fn used_by(head: &HeaderMap) -> Use {
    let follows = Wants::of(&Method::GET, head) == Wants::Feed;
    if is_by_itself(head) || follows { Use::Page } else { Use::Person }
}

fn is_by_itself(head: &HeaderMap) -> bool {
    head.contains_key(BY_ITSELF)
}

/// Whether a request comes to its route's check: it is of somebody, or for what is anybody's.
fn is_let_in(visitor: &Visitor, request: &Request) -> bool {
    let path = request.uri().path();
    let is_open = path == "/ui" || path == "/ui/login" || path.starts_with("/ui/assets/");
    is_open || visitor.caller.proof() != Proof::None
}

/// The answer to somebody who is to log in first.
fn to_login(visitor: &Visitor) -> Response {
    let next = form_urlencoded::byte_serialize(visitor.path.as_bytes()).collect::<String>();
    Redirect::to(&format!("/ui/login?next={next}")).into_response()
}

/// A refusal without what has a browser ask for a password in a window of its own.
fn without_window(mut response: Response, wants: Wants) -> Response {
    if wants == Wants::Feed {
        response.headers_mut().remove(header::WWW_AUTHENTICATE);
    }
    response
}

/// A problem, as a page.
async fn as_page(response: Response, visitor: &Visitor) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE);
    if kind.is_none_or(|kind| kind != "application/problem+json") {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, PROBLEM_SIZE_MAX).await else {
        return (head.status, Body::empty()).into_response();
    };
    let trouble = Trouble::read(head.status, &bytes);
    head.headers.remove(header::CONTENT_LENGTH);
    head.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let page = super::layout::trouble(visitor, &trouble);
    Response::from_parts(head, Body::from(page.into_string()))
}

fn cookie_name(ui: &Ui) -> &'static str {
    if ui.context.security().tls().is_some() { COOKIE_SECURE } else { COOKIE }
}

/// The value of the cookie of this name.
fn cookie<'a>(head: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = head.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|p| p.split_once('='));
    pairs.find(|(found, _)| found.trim() == name).map(|(_, value)| value.trim())
}

/// The header that gives a browser the session's `id`; that takes it away, if there is none.
#[must_use]
pub fn set_cookie(ui: &Ui, id: Option<&str>) -> HeaderValue {
    let name = cookie_name(ui);
    let secure = if name == COOKIE_SECURE { "; Secure" } else { "" };
    let (value, age) = match id {
        Some(id) => (id, String::new()),
        None => ("", "; Max-Age=0".to_owned()),
    };
    let text = format!("{name}={value}; Path=/ui; HttpOnly; SameSite=Strict{secure}{age}");
    HeaderValue::try_from(text).expect("plain letters")
}

/// Where to go on to, of what a link says: a page of the console, or else its first one.
#[must_use]
pub fn safe_next(next: &str) -> &str {
    let is_own = next.starts_with(ROOT)
        && !next.contains(['\\', '\r', '\n'])
        && !next.starts_with("/ui//")
        && !next.contains("/../")
        && next.bytes().all(|byte| byte.is_ascii_graphic());
    if is_own { next } else { ROOT }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_the_console_are_gone_on_to() {
        for (next, kept) in [
            ("/ui/streams?prefix=a%20b", true),
            ("/ui/", true),
            ("/ui", false),
            ("//evil.example", false),
            ("/ui//evil.example", false),
            ("/ui/../v1/streams", false),
            ("https://evil.example/ui/", false),
            ("/ui/\r\nset-cookie: a=b", false),
            ("/\\evil.example", false),
            ("/ui/\\evil.example", false),
            ("", false),
        ] {
            assert_eq!(safe_next(next) == next && !next.is_empty(), kept, "{next:?}");
        }
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let mut head = HeaderMap::new();
        head.append("cookie", HeaderValue::from_static("a=b; daybook-console=one; c=d"));
        head.append("cookie", HeaderValue::from_static("x-daybook-console=two"));
        assert_eq!(cookie(&head, COOKIE), Some("one"));
        assert_eq!(cookie(&head, COOKIE_SECURE), None);
    }
}
