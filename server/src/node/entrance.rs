//! The door every request comes through: it chooses the room, and counts the visit.
//!
//! A request whose content type is `application/grpc…` goes to `grpc`, all others to `http`. So
//! each room answers what it does not know in its own language: UNIMPLEMENTED here, problem+json
//! there. Before either it is found out who asks; who is not believed is answered here, as is, where
//! nobody is asked, who calls the server by a strange name.
//!
//! Who proves nothing has few calls at a time ([`STRANGERS_CALLS_MAX`]), to the ends of their answers:
//! a stranger must not hold memory by calls that never end. Large answers have
//! [bounds](super::answers) of their own.
//!
//! INVARIANT: what comes into a room has a [`Caller`] among its extensions.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::MatchedPath;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tonic::Status;
use tower::Service;

use super::answers;
use super::hosts::Hosts;
use super::listener::{Call, Peer};
use super::shares::{Holder, Share, Shares};
use super::{Context, Life};
use crate::grpc::{call, status};
use crate::http::problem::Problem;
use crate::security::authenticate::{Asked, Refusal};
use crate::security::gate::{Side, Tongue};
use crate::security::tls::ClientCertificate;
use crate::security::{Asker, Caller, Proof};
use crate::telemetry::trace::visit::Ending;
use crate::telemetry::trace::{self, Tracer};

/// Calls at a time of all who prove nothing: health checks, gossip, pages to log in at. Some 10 KiB
/// each.
pub const STRANGERS_CALLS_MAX: usize = 16 * 1024;
/// Those of one address: what stands behind one proxy, and the browsers of an office.
pub const STRANGERS_CALLS_PER_ADDRESS_MAX: usize = STRANGERS_CALLS_MAX / 64;

/// Time until a request is answered, or an answer that goes on begins: a minute for what it brings,
/// and another for a disk that is slow. A client may say that it waits shorter.
pub const REQUEST_TIME_MAX: Duration = Duration::from_secs(120);

static STRANGERS: Shares = Shares::new(STRANGERS_CALLS_MAX, STRANGERS_CALLS_PER_ADDRESS_MAX);

/// The routes of a node. A clone shares them.
#[derive(Clone)]
pub struct Entrance {
    http: Router,
    grpc: Router,
    /// Finds out who asks; without it everyone may do everything.
    asks: Option<Asker>,
    /// By which names it is to be called; by any, if nothing is said.
    hosts: Option<Hosts>,
    /// Whoever asks, if nobody is asked: one for all, because each request needs one.
    anyone: Caller,
    life: Life,
    tracer: Option<Tracer>,
}

impl Entrance {
    /// The routes of the node that `context` belongs to, as far as `side` answers them.
    #[must_use]
    pub fn new(context: Context, side: Side) -> Entrance {
        let http = crate::http::routes_on(context.clone(), side);
        let grpc = crate::grpc::routes_on(context.clone(), side);
        let asks = context.security().asker().cloned();
        let (anyone, life) = (Caller::unasked(), context.life().clone());
        Entrance { http, grpc, asks, hosts: None, anyone, life, tracer: None }
    }

    /// The routes of something that speaks HTTP alone.
    #[must_use]
    pub fn http_only(http: Router, life: Life, asks: Option<Asker>) -> Entrance {
        let anyone = Caller::unasked();
        let (hosts, tracer) = (None, None);
        Entrance { grpc: http.clone(), http, asks, hosts, anyone, life, tracer }
    }

    /// The same, with requests traced.
    #[must_use]
    pub fn traced(self, tracer: Option<Tracer>) -> Entrance {
        Entrance { tracer, ..self }
    }

    /// The same, closed to requests for other names than `hosts`.
    #[must_use]
    pub fn called(self, hosts: Option<Hosts>) -> Entrance {
        Entrance { hosts, ..self }
    }

    /// Answers one request, which is a call of its `connection`, made over `scheme`.
    pub fn enter(
        &self,
        mut request: Request<Incoming>,
        connection: Call,
        scheme: &'static str,
    ) -> impl Future<Output = Result<Response<CountedBody>, Infallible>> + Send + use<> {
        let is_grpc = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        let mut visit = Visit::begin(&self.life, is_grpc, &request, scheme);
        visit.trace = self.tracer.as_ref().map(|tracer| tracer.visit(request.headers()));
        let current = visit.trace.as_ref().map(trace::visit::Visit::current);
        // A router is always ready; the clone is a reference count.
        let mut room = if is_grpc { self.grpc.clone() } else { self.http.clone() };
        let (asks, anyone) = (self.asks.clone(), self.anyone.clone());
        let named = match &self.hosts {
            Some(hosts) => hosts.check(request.headers(), request.uri()),
            None => Ok(()),
        };
        let tongue = if is_grpc { Tongue::Grpc } else { Tongue::Http };
        // What was changed is answered in any case.
        let may_refuse = is_grpc || request.method().is_safe();
        let metrics = self.life.metrics().clone();
        let answer = async move {
            if let Err(problem) = named {
                return (misdirected(problem, is_grpc), (None, connection));
            }
            let found = match asks {
                // In a box: most of what may happen there is rare, and each request has room for it.
                Some(asks) => Box::pin(identify(&asks, &request)).await,
                None => Ok(anyone),
            };
            if found.as_ref().is_ok_and(|caller| caller.proof() != Proof::None) {
                connection.proved();
            } else {
                // What strangers want to have recorded does not count.
                trace::current::doubt();
            }
            let Ok(place) = place(found.as_ref().ok(), &request) else {
                metrics.security.stranger_refused();
                return (crowded(tongue), (None, connection));
            };
            let caller = match found {
                Ok(caller) => caller,
                Err(refused) if is_grpc => return (refused.to_grpc(), (place, connection)),
                Err(refused) => return (refused.to_http(), (place, connection)),
            };
            request.extensions_mut().insert(caller.clone());
            let response = match room.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            let response = if may_refuse {
                answers::held(response, &metrics, || reader(&caller, &place, tongue))
            } else {
                response
            };
            (response, (place, connection))
        };
        // Not a block that awaits it: that would have room for it twice.
        trace::current::scoped(current, answer).map(move |(response, held)| {
            visit.answered(&response);
            Ok(response.map(|body| CountedBody { body, visit, _held: held }))
        })
    }
}

/// A place among the calls of those who prove nothing, to the end of the answer; none for those who
/// do.
///
/// # Errors
/// If there is none left.
fn place<B>(caller: Option<&Caller>, request: &Request<B>) -> Result<Place, Crowded> {
    if caller.is_some_and(|caller| caller.proof() != Proof::None) {
        return Ok(None);
    }
    let holder = Holder::of(caller, request.extensions().get::<Peer>().copied());
    STRANGERS.hold(holder, 1).map(|share| Some(Box::new(share))).ok_or(Crowded)
}

/// In a box: most requests have none, and each has room for it.
type Place = Option<Box<Share>>;

/// Whom a large answer is for.
fn reader(caller: &Caller, place: &Place, tongue: Tongue) -> answers::Reader {
    let holder = match place {
        Some(place) => place.holder().clone(),
        None => Holder::of(Some(caller), None),
    };
    answers::Reader { holder, standing: caller.standing().cloned(), tongue }
}

/// Too many calls of those who prove nothing are open.
struct Crowded;

/// The answer to one more of them. It has no body: that would wait for its reader, too.
fn crowded(tongue: Tongue) -> Response<Body> {
    match tongue {
        Tongue::Grpc => call::refused(&status::too_busy()),
        Tongue::Http => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// The answer to what is for another name.
fn misdirected(problem: Problem, is_grpc: bool) -> Response<Body> {
    if is_grpc {
        return call::refused(&Status::permission_denied(problem.detail()));
    }
    problem.into_response()
}

/// Who asks.
async fn identify<B>(asks: &Asker, request: &Request<B>) -> Result<Caller, Refusal> {
    let mut given = request.headers().get_all(header::AUTHORIZATION).iter();
    let authorization = given.next().cloned();
    if given.next().is_some() {
        return Err(Refusal::Malformed { reason: "it is there twice" });
    }
    let Some(Peer(peer)) = request.extensions().get::<Peer>() else {
        return Err(Refusal::Unavailable { reason: "the caller has no address".to_owned() });
    };
    let certificate = request.extensions().get::<Arc<ClientCertificate>>().cloned();
    asks.identify(Asked { authorization, peer: peer.ip(), certificate }).await
}

/// Marks an answer that has no end of its own, so that its duration is not counted among those of
/// requests. Put into a response's extensions.
#[derive(Clone, Copy, Debug)]
pub struct WithoutEnd;

/// One request being answered. Counted when dropped: at the end of its answer, or when its client
/// has gone.
struct Visit {
    life: Life,
    kind: Kind,
    began: Duration,
    trace: Option<trace::visit::Visit>,
}

enum Kind {
    Http {
        scheme: &'static str,
        method: &'static str,
        route: Option<MatchedPath>,
        status: Option<StatusCode>,
        endless: bool,
    },
    Grpc {
        path: Option<PathAndQuery>,
        known: bool,
        status: Option<&'static str>,
    },
}

impl Visit {
    fn begin(
        life: &Life,
        is_grpc: bool,
        request: &Request<Incoming>,
        scheme: &'static str,
    ) -> Visit {
        life.metrics().calls_open.inc();
        let kind = if is_grpc {
            let path = request.uri().path_and_query().cloned();
            Kind::Grpc { path, known: false, status: None }
        } else {
            let method = method_label(request.method());
            Kind::Http { scheme, method, route: None, status: None, endless: false }
        };
        Visit { life: life.clone(), kind, began: life.clock().monotonic(), trace: None }
    }

    fn answered(&mut self, response: &Response<Body>) {
        if let Some(trace) = &mut self.trace {
            trace.answered();
        }
        match &mut self.kind {
            Kind::Http { route, status, endless, .. } => {
                *route = response.extensions().get::<MatchedPath>().cloned();
                *status = Some(response.status());
                *endless = response.extensions().get::<WithoutEnd>().is_some();
            }
            Kind::Grpc { known, status, .. } => {
                *status = grpc_status(response.headers());
                // What no service knows must not become a label.
                *known = *status != Some("UNIMPLEMENTED");
            }
        }
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        if let Kind::Grpc { status, .. } = &mut self.kind {
            *status = grpc_status(trailers).or(*status);
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let metrics = self.life.metrics();
        metrics.calls_open.dec();
        let took = self.life.clock().monotonic().saturating_sub(self.began);
        match &self.kind {
            Kind::Http { method, route, status, endless, .. } => {
                let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
                let status = status.as_ref().map_or("abandoned", StatusCode::as_str);
                metrics.http_request(route, method, status, (!endless).then_some(took));
            }
            Kind::Grpc { path, known, status } => {
                let method = known_method(path.as_ref(), *known).unwrap_or("unknown");
                metrics.grpc_call(method, status.unwrap_or("CANCELLED"), took);
            }
        }
        let ending = self.kind.ending();
        let say = || tracing::debug!(target: "daybook::requests", "{ending}, {took:?}");
        match &self.trace {
            Some(trace) => {
                trace.within(say);
                trace.end(ending);
            }
            None => say(),
        }
    }
}

impl Kind {
    /// How it ended, for a trace.
    fn ending(&self) -> Ending<'_> {
        match self {
            Kind::Http { scheme, method, route, status, .. } => {
                let route = route.as_ref().map(MatchedPath::as_str);
                Ending::Http { scheme, method, route, status: *status }
            }
            Kind::Grpc { path, known, status } => {
                Ending::Grpc { method: known_method(path.as_ref(), *known), status: *status }
            }
        }
    }
}

/// `package.Service/Method`, of a method that exists.
fn known_method(path: Option<&PathAndQuery>, known: bool) -> Option<&str> {
    path.filter(|_| known).map(|path| path.path().trim_start_matches('/'))
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// The names of gRPC's status codes, by code.
pub(crate) const GRPC_STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

fn grpc_status(headers: &HeaderMap) -> Option<&'static str> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse::<usize>().ok()?;
    GRPC_STATUS.get(code).copied()
}

/// An answer's body that knows when it has been sent.
pub struct CountedBody {
    body: Body,
    visit: Visit,
    /// Its place among strangers', if its caller is one, and among those of its connection.
    _held: (Place, Call),
}

impl HttpBody for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let CountedBody { body, visit, .. } = &mut *self;
        let mut poll = || Pin::new(&mut *body).poll_frame(task);
        let frame = std::task::ready!(match &visit.trace {
            Some(trace) => trace.within(poll),
            None => poll(),
        });
        if let Some(Ok(frame)) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.visit.trailers(trailers);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_status_is_named() {
        let mut headers = HeaderMap::new();
        assert_eq!(grpc_status(&headers), None);
        for (code, name) in [("0", Some("OK")), ("9", Some("FAILED_PRECONDITION")), ("99", None)] {
            headers.insert("grpc-status", code.parse().expect("a header"));
            assert_eq!(grpc_status(&headers), name, "{code}");
        }
    }
}
