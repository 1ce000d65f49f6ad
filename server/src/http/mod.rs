//! The HTTP API: events as JSON, subscriptions as server-sent events, health and metrics.
//!
//! ```text
//!   /health/live  /health/ready  /info  /ping  /gossip  /stats  /metrics      about
//!   /v1/streams                          GET  names by prefix                 streams
//!   /v1/streams/{name}                   POST append, GET read, DELETE       append, read
//!   /v1/streams/{name}/subscribe         GET  as server-sent events           subscribe
//!   /v1/streams/{name}/metadata          GET  PUT                             streams
//!   /v1/append                           POST several streams, atomically     append
//!   /v1/all  /v1/all/subscribe           GET  the whole log                   read, subscribe
//!   /v1/index/{category|type|correlation}/{key}   GET                         read
//!   /v1/snapshots/{stream}               GET  PUT  DELETE                     snapshots
//!   /openapi.json                        GET  what all of this is              openapi
//!   /v1/tokens                           GET  POST; DELETE /{id}             tokens
//!   /v1/accounts …  /v1/transfers …                                           ledger, readside
//!   /v1/connectors …                                                          connectors
//!   /v1/projections …                                                         readside
//!   /subscriptions …                     as KurrentDB's older clients ask     subscriptions
//!   /projections/continuous              likewise                             projections
//!   /admin/clock/accept                  POST                                admin
//!   /admin/scavenge                      GET  POST; DELETE /{id}             admin
//!   /admin/verify                        GET  POST                            admin
//!   /admin/log                           GET  PUT                             admin
//!   /admin/shutdown  /admin/reload       POST                                 admin
//!   /admin/audit                         GET  who did what                   audit
//!   /admin/backup                        GET  a tar file                     backup
//!   /admin/backup/segments/<name>        GET  segments, and bytes of one     backup/segments
//!   /admin/backup/status                 GET, POST   backups and archiving   backup/status
//!   /ui/ …                               pages for people                    crate::ui
//! ```
//!
//! A `GET` that accepts `text/event-stream` subscribes, so that a browser's `EventSource` can be
//! pointed at what it would read. A stream name is one path segment: percent-encode its `/`.
//! Every error is a problem of RFC 9457 with a stable `type`; see [`problem`].
//!
//! Each route names the right that it asks for, and describes itself; it cannot be made without:
//! see [`crate::security::gate`] and [`openapi`].
//!
//! INVARIANT: JSON shapes and query strings are known in here and nowhere else.

pub mod about;
pub mod admin;
pub mod append;
pub mod audit;
pub mod backup;
pub mod body;
pub mod connectors;
pub mod event;
pub mod ledger;
pub mod openapi;
pub mod page;
pub mod problem;
pub mod projections;
pub mod query;
pub mod read;
pub mod readside;
pub mod shapes;
pub mod snapshots;
pub mod streams;
pub mod subscribe;
pub mod subscriptions;
pub mod tokens;
pub mod types;

use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Uri};
use utoipa::OpenApi as _;

use crate::node::Context;
use crate::node::entrance::REQUEST_TIME_MAX;
use crate::security::gate::{Described, Routes, Row, Side, Tongue};
use problem::Problem;

/// Time until a request that only reads is answered: what adds up the books of hundreds of millions
/// of events again. Most reads have a shorter one of their own.
const READ_TIME_MAX: Duration = Duration::from_secs(15 * 60);

/// All routes of the HTTP API.
pub fn routes(context: Context) -> Router {
    routes_on(context, Side::All)
}

/// Those of them that `side` answers.
pub fn routes_on(context: Context, side: Side) -> Router {
    let (routes, _) = guarded(&context, side).into_parts();
    let say_position = middleware::from_fn_with_state(context.clone(), readside::say_position);
    let api = routes.layer(say_position).with_state(context.clone());
    if side == Side::Clients {
        return admitted(api);
    }
    // The console asks the API as any client does, without the network between.
    let console = crate::ui::routes(&context, api.clone());
    admitted(api.merge(console))
}

/// What each route asks of its caller.
#[must_use]
pub fn rights(context: &Context) -> Vec<Row> {
    let mut rows = guarded(context, Side::All).into_parts().1;
    rows.extend(crate::ui::rights(context));
    rows
}

fn guarded(context: &Context, side: Side) -> Routes<Context> {
    let gate = context.gate(Tongue::Http).on(side);
    openapi::published(&gate, described(), openapi::About::openapi())
}

/// What the rooms answer, each route with its right and its description.
fn described() -> Described<Context> {
    Described::new()
        .merge(about::routes())
        .merge(streams::routes())
        .merge(types::routes())
        .merge(append::routes())
        .merge(read::routes())
        .merge(subscribe::routes())
        .merge(snapshots::routes())
        .merge(ledger::routes())
        .merge(readside::node())
        .merge(connectors::routes())
        .merge(projections::routes())
        .merge(subscriptions::routes())
        .merge(tokens::routes())
        .merge(audit::routes())
        .merge(admin::routes())
        .merge(backup::routes())
}

/// `routes`, with an answer to what they do not have, and closed to pages of other origins.
pub fn admitted<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    routes
        .method_not_allowed_fallback(no_such_method)
        .fallback(no_such_route)
        .layer(middleware::from_fn(admit))
}

async fn no_such_route(request: Request) -> Problem {
    Problem::new(problem::Kind::NoSuchRoute, format!("there is no {}", request.uri().path()))
}

async fn no_such_method(request: Request) -> Problem {
    let detail = format!("{} does not take {}", request.uri().path(), request.method());
    Problem::new(problem::Kind::NoSuchMethod, detail)
}

/// Refuses what a page of another origin makes a browser send: a server without authentication on
/// a developer's machine must not be written to by any page that is open there. Tells the entrance
/// which route answered, for the metrics. One layer for both: each costs every request.
async fn admit(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = match check_origin(request.headers(), request.uri()) {
        Ok(()) => in_time(request, next).await,
        Err(problem) => problem.into_response(),
    };
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    guard(response.headers_mut());
    response
}

/// Answers a request within the time it may take, whatever it waits for: a disk that does not answer
/// must not keep callers for ever. Answers that go on once they have begun are not cut.
async fn in_time(request: Request, next: Next) -> Response {
    let reads = request.method().is_safe();
    let limit = if reads { READ_TIME_MAX } else { REQUEST_TIME_MAX };
    within(limit, reads, next.run(request)).await
}

async fn within(limit: Duration, reads: bool, answer: impl Future<Output = Response>) -> Response {
    let problem = match tokio::time::timeout(limit, answer).await {
        Ok(response) => return response,
        Err(_) if reads => {
            let detail = format!("there is no answer after {} s", limit.as_secs());
            Problem::new(problem::Kind::TimedOut, detail)
        }
        Err(_) => {
            let detail = format!(
                "there is no answer after {} s; what was asked for may still be done: ask again \
                 with the same ids",
                limit.as_secs()
            );
            Problem::new(problem::Kind::OutcomeUnknown, detail)
        }
    };
    problem.into_response()
}

/// Has browsers and proxies take an answer for what it says it is, and keep none that does not say
/// that they may.
fn guard(head: &mut HeaderMap) {
    head.entry(X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    head.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

fn check_origin(headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let reached = headers.get(HOST).and_then(|value| value.to_str().ok());
    let reached = reached.or_else(|| uri.authority().map(Authority::as_str));
    let origin = origin.to_str().unwrap_or("an unreadable origin");
    let asked_from = origin.split_once("://").map(|(_, authority)| authority);
    if asked_from.is_some() && asked_from == reached {
        return Ok(());
    }
    let detail = format!("a page of '{origin}' may not use this server");
    Err(Problem::new(problem::Kind::OtherOrigin, detail))
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn an_answer_is_kept_nowhere_unless_it_says_so() {
        let mut head = HeaderMap::new();
        head.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=9"));
        guard(&mut head);
        assert_eq!(head[CACHE_CONTROL], "public, max-age=9");
        assert_eq!(head[X_CONTENT_TYPE_OPTIONS], "nosniff");
        head.clear();
        guard(&mut head);
        assert_eq!(head[CACHE_CONTROL], "no-store");
    }

    #[tokio::test]
    async fn what_waits_for_ever_is_answered_in_time() {
        for (reads, word) in [(true, "timed-out"), (false, "outcome-unknown")] {
            let answer = within(Duration::ZERO, reads, std::future::pending()).await;
            assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT, "{word}");
            let body = answer.into_body().collect().await.expect("a body").to_bytes();
            let problem: serde_json::Value = serde_json::from_slice(&body).expect("a problem");
            assert!(problem["type"].as_str().is_some_and(|kind| kind.ends_with(word)), "{problem}");
        }
    }

    #[test]
    fn only_pages_of_this_server_may_use_it() {
        for (origin, allowed) in [
            (None, true),
            (Some("http://127.0.0.1:2113"), true),
            (Some("http://127.0.0.1:2114"), false),
            (Some("https://elsewhere.example"), false),
            (Some("null"), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("127.0.0.1:2113"));
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_static(origin));
            }
            let found = check_origin(&headers, &Uri::from_static("/v1/streams/a"));
            assert_eq!(found.is_ok(), allowed, "{origin:?}");
        }
    }
}
