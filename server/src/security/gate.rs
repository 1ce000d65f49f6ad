//! The check in front of every route: no handler is reached without it.
//!
//! ```text
//!   request ─ Caller? ─> right ─> recorded? ─> handler ─> how it came out ─> end of the proof?
//!                 └ 401     └ 401, 403  └ 503                                   └ the answer ends
//! ```
//!
//! [`Routes`] is the only way to make a route of a node: it takes a path, a handler, and the
//! [`Right`] that it asks for. What was made so is listed, so that a test can go through all of it.
//!
//! INVARIANTS
//! - A request that says nothing of its caller is refused: the entrance forgot to ask.
//! - An answer that has no end of its own ends with the caller's proof.
//! - Beside a listener for operators, the one for clients answers nothing that asks for a right
//!   over the server: see [`Side`].

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::handler::Handler;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on, on_service};
use daybook_model::Clock;
use http::Method;
use tower::Service;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

pub use super::audit::Subject;
use super::audit::{Asked, Audit};
use super::caller::{Caller, Proof};
use super::lapse;
use super::rights::{Refused, Right};
use crate::grpc::{call, status};
use crate::http::openapi;
use crate::http::problem::{Kind, Problem};
use crate::node::listener::Peer;

/// How answers are said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tongue {
    /// As HTTP's: statuses and problems.
    Http,
    /// As gRPC's: trailers.
    Grpc,
}

/// Which routes a listener answers.
///
/// Operators' own listener answers all: their tools read events and subscribe, too, and have one
/// address then. Each request is asked for its right there as anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// All of them.
    All,
    /// Those that ask for no right over the server: operators have a listener of their own.
    Clients,
}

/// What the checks of a node's routes share. A clone is another handle.
#[derive(Clone)]
pub struct Gate {
    /// None where there is no store: what is done is said in the log of the process then.
    audit: Option<Audit>,
    clock: Arc<dyn Clock>,
    tongue: Tongue,
    side: Side,
}

impl Gate {
    /// One that records in `audit` and answers in `tongue`.
    #[must_use]
    pub fn new(audit: Audit, clock: Arc<dyn Clock>, tongue: Tongue) -> Gate {
        Gate { audit: Some(audit), clock, tongue, side: Side::All }
    }

    /// That of a process without a store, which speaks HTTP alone.
    #[must_use]
    pub fn without_store(clock: Arc<dyn Clock>) -> Gate {
        Gate { audit: None, clock, tongue: Tongue::Http, side: Side::All }
    }

    /// The same, for the listener of `side`.
    #[must_use]
    pub fn on(self, side: Side) -> Gate {
        Gate { side, ..self }
    }

    /// Whether a route that asks for `right` is answered here.
    fn serves(&self, right: Right) -> bool {
        self.side == Side::All || !right.is_over_server()
    }
}

/// A route and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Its method.
    pub method: String,
    /// Its path, as a pattern.
    pub path: String,
    /// The right.
    pub right: Right,
}

/// Routes, each behind its check.
pub struct Routes<S> {
    router: Router<S>,
    rows: Vec<Row>,
    gate: Gate,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// None yet.
    #[must_use]
    pub fn new(gate: &Gate) -> Routes<S> {
        Routes { router: Router::new(), rows: Vec::new(), gate: gate.clone() }
    }

    /// A route that reads.
    #[must_use]
    pub fn get<H, T>(self, path: &str, right: Right, handler: H) -> Routes<S>
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.guarded(&Method::GET, path, right, on(MethodFilter::GET, handler))
    }

    /// A route that does something; also each of gRPC's methods.
    #[must_use]
    pub fn post<H, T>(self, path: &str, right: Right, handler: H) -> Routes<S>
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.guarded(&Method::POST, path, right, on(MethodFilter::POST, handler))
    }

    /// A route that sets something.
    #[must_use]
    pub fn put<H, T>(self, path: &str, right: Right, handler: H) -> Routes<S>
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.guarded(&Method::PUT, path, right, on(MethodFilter::PUT, handler))
    }

    /// A route that takes something away.
    #[must_use]
    pub fn delete<H, T>(self, path: &str, right: Right, handler: H) -> Routes<S>
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.guarded(&Method::DELETE, path, right, on(MethodFilter::DELETE, handler))
    }

    /// A service of gRPC that is made elsewhere, with all its methods.
    #[must_use]
    pub fn service<T>(self, path: &str, right: Right, service: T) -> Routes<S>
    where
        T: Service<Request, Error = Infallible> + Clone + Send + Sync + 'static,
        T::Response: IntoResponse,
        T::Future: Send + 'static,
    {
        self.guarded(&Method::POST, path, right, on_service(MethodFilter::POST, service))
    }

    fn guarded(
        mut self,
        method: &Method,
        path: &str,
        right: Right,
        routes: MethodRouter<S>,
    ) -> Routes<S> {
        self.rows.push(Row { method: method.to_string(), path: path.to_owned(), right });
        let routes = if self.gate.serves(right) {
            self.gate.before(right, routes)
        } else {
            let filter = MethodFilter::try_from(method.clone()).expect("one of those above");
            self.gate.elsewhere(&[filter])
        };
        self.router = self.router.route(path, routes);
        self
    }

    /// Those of `other` as well.
    #[must_use]
    pub fn merge(mut self, other: Routes<S>) -> Routes<S> {
        self.router = self.router.merge(other.router);
        self.rows.extend(other.rows);
        self
    }

    /// Those of `described` as well, and their description beside them.
    #[must_use]
    pub fn describe(
        mut self,
        described: Described<S>,
        api: utoipa::openapi::OpenApi,
    ) -> (Routes<S>, utoipa::openapi::OpenApi) {
        let mut routes = OpenApiRouter::with_openapi(api);
        for (right, (schemas, mut paths, methods)) in described.0 {
            openapi::say_right(&mut paths, right);
            for (path, item) in &paths.paths {
                let of = |method: &str, is_there: bool| {
                    let row = Row { method: method.to_owned(), path: path.clone(), right };
                    is_there.then_some(row)
                };
                self.rows.extend(of("GET", item.get.is_some()));
                self.rows.extend(of("PUT", item.put.is_some()));
                self.rows.extend(of("POST", item.post.is_some()));
                self.rows.extend(of("DELETE", item.delete.is_some()));
            }
            if self.gate.serves(right) {
                routes = routes.routes((schemas, paths, self.gate.before(right, methods)));
            } else {
                for (path, item) in &paths.paths {
                    let elsewhere = self.gate.elsewhere(&openapi::methods(item));
                    self.router = self.router.route(path, elsewhere);
                }
            }
        }
        let (router, api) = routes.split_for_parts();
        self.router = self.router.merge(router);
        (self, api)
    }

    /// With the state that the handlers need.
    #[must_use]
    pub fn with_state<S2>(self, state: S) -> Routes<S2> {
        Routes { router: self.router.with_state(state), rows: self.rows, gate: self.gate }
    }

    /// As a router, and what is in it.
    pub fn into_parts(self) -> (Router<S>, Vec<Row>) {
        (self.router, self.rows)
    }
}

/// Routes that describe themselves, each with its right.
pub struct Described<S>(Vec<(Right, UtoipaMethodRouter<S>)>);

impl<S: Clone + Send + Sync + 'static> Described<S> {
    /// None yet.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it is only ever built up")]
    pub fn new() -> Described<S> {
        Described(Vec::new())
    }

    /// One more.
    #[must_use]
    pub fn routes(mut self, right: Right, routes: UtoipaMethodRouter<S>) -> Described<S> {
        self.0.push((right, routes));
        self
    }

    /// Those of `other` as well.
    #[must_use]
    pub fn merge(mut self, other: Described<S>) -> Described<S> {
        self.0.extend(other.0);
        self
    }
}

impl Gate {
    fn before<S>(&self, right: Right, routes: MethodRouter<S>) -> MethodRouter<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        routes.route_layer(middleware::from_fn_with_state((self.clone(), right), check))
    }

    /// Says to who asks by one of these methods that operators have a listener of their own.
    fn elsewhere<S>(&self, methods: &[MethodFilter]) -> MethodRouter<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        let tongue = self.tongue;
        let answer = move || async move {
            let detail = "this is answered at the server's admin address (--admin-listen) alone";
            match tongue {
                Tongue::Http => Problem::new(Kind::NoSuchRoute, detail).into_response(),
                Tongue::Grpc => call::refused(&tonic::Status::unimplemented(detail)),
            }
        };
        methods.iter().fold(MethodRouter::new(), |router, method| router.on(*method, answer))
    }

    fn refuse(&self, refused: Refused) -> Response {
        let detail = refused.to_string();
        match (self.tongue, refused) {
            (Tongue::Http, Refused::Unproved) => {
                Problem::new(Kind::Unauthenticated, detail).into_response()
            }
            (Tongue::Http, _) => Problem::new(Kind::Forbidden, detail).into_response(),
            (Tongue::Grpc, Refused::Unproved) => call::refused(&status::unauthenticated()),
            (Tongue::Grpc, _) => call::refused(&status::access_denied(&detail)),
        }
    }

    /// What is said where an action cannot be recorded.
    fn unrecorded(&self, why: &impl std::fmt::Display) -> Response {
        tracing::error!(%why, "an action is refused, because it cannot be recorded");
        let detail = format!("the action cannot be recorded in the audit log: {why}");
        match self.tongue {
            Tongue::Http => Problem::new(Kind::Unavailable, detail).into_response(),
            Tongue::Grpc => call::refused(&tonic::Status::unavailable(detail)),
        }
    }

    /// Tells that something was denied.
    fn denied(&self, asked: Asked<'_>, reason: &str) {
        match &self.audit {
            Some(audit) => audit.denied(asked, reason),
            None => {
                let (login, what) = (asked.caller.login(), asked.what);
                tracing::warn!(login, what, reason, "denied");
            }
        }
    }

    /// Does what is recorded.
    async fn record(&self, asked: Asked<'_>, right: Right, act: (Request, Next)) -> Response {
        let (mut request, next) = act;
        let Some(audit) = &self.audit else {
            let response = next.run(request).await;
            let (login, what, outcome) =
                (asked.caller.login(), asked.what, self.outcome(&response));
            tracing::info!(login, what, outcome, "done");
            return response;
        };
        let mut action = audit.action(asked);
        match action.begin().await {
            Ok(()) => {}
            Err(error) if right == Right::Rescue => {
                let (login, what) = (asked.caller.login(), asked.what);
                tracing::warn!(%error, login, what, "an action that cannot be recorded is done");
            }
            Err(error) => return self.unrecorded(&error),
        }
        request.extensions_mut().insert(action.subject().clone());
        let response = next.run(request).await;
        action.end(self.outcome(&response));
        response
    }

    fn outcome(&self, response: &Response) -> String {
        let code = response.headers().get("grpc-status").and_then(|code| code.to_str().ok());
        match self.tongue {
            Tongue::Http => response.status().as_str().to_owned(),
            Tongue::Grpc => format!("grpc-status {}", code.unwrap_or("0")),
        }
    }
}

async fn check(
    State((gate, right)): State<(Gate, Right)>,
    request: Request,
    next: Next,
) -> Response {
    let Some(caller) = request.extensions().get::<Caller>() else {
        tracing::error!("a request came in without a word on its caller; it is refused");
        return gate.refuse(Refused::Unproved);
    };
    if caller.proof() == Proof::Unasked {
        return next.run(request).await;
    }
    let caller = caller.clone();
    let peer = peer_of(request.extensions());
    let what = format!("{} {}", request.method(), request.uri().path());
    let asked = Asked { caller: &caller, peer, what: &what };
    if let Err(refused) = right.check(&caller) {
        gate.denied(asked, &refused.to_string());
        return gate.refuse(refused);
    }
    // What the console asks for a page is recorded with the page's own request, under one id.
    let is_being_recorded = request.extensions().get::<Subject>().is_some();
    let response = if right.is_recorded() && !is_being_recorded {
        // In a box: it is rare, and every request has room for it.
        Box::pin(gate.record(asked, right, (request, next))).await
    } else {
        next.run(request).await
    };
    lapse::with(&caller, gate.clock, gate.tongue, response)
}

/// Where a request comes from, if its connection said so.
#[must_use]
pub fn peer_of(extensions: &http::Extensions) -> Option<SocketAddr> {
    extensions.get::<Peer>().map(|Peer(address)| *address)
}
