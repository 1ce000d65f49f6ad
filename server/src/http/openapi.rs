//! The description of the HTTP API, made of the routes themselves.
//!
//! ```text
//!   routes() of each file ─ function and description ─> gate ─┬─> router
//!                                                             └─> one document: /openapi.json
//! ```
//!
//! What is the same for all is said here, once: the right that a route asks for (`x-right`, with
//! the groups that have it), how callers prove who they are, what those are answered who do not.
//!
//! INVARIANT: a route and its description cannot be had without each other; `/ui/`, which is for
//! people, is not described.

use std::sync::{Arc, OnceLock};

use axum::Extension;
use axum::response::{IntoResponse, Response};
use axum::routing::MethodFilter;
use bytes::Bytes;
use http::header;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::path::{Operation, PathItem, Paths};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

use super::ledger::schema::ProblemShape;
use crate::security::gate::{Described, Gate, Routes};
use crate::security::rights::Right;

/// How callers may prove who they are, as the document calls it.
const PROOFS: [&str; 3] = ["password", "token", "certificate"];
/// Parameters that mean the same wherever they are, for routes that do not say it themselves.
const MEANINGS: [(&str, &str); 6] = [
    ("Idempotency-Key", "A UUID of your own: the same request under it is done once"),
    ("account_id", "The account"),
    ("transfer_id", "The transfer, whose saga has the same id"),
    ("hold_id", "The hold"),
    ("name", "Its name"),
    ("position", "The event's position in the log"),
];
/// The media type of problems.
const PROBLEM: &str = "application/problem+json";

/// What the description of a node says of itself. Its tags are in the order in which to read them.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Daybook",
        description = "An event store, and a double-entry ledger on it. Amounts are strings; what \
                       changes the ledger carries an Idempotency-Key, a UUID of your own, and can \
                       be repeated with it at will. Lists go page by page: give the `next` of one \
                       page to have the one after it. Errors are problems of RFC 9457 with a \
                       `type` that never changes. Each operation says in `x-right` which right it \
                       asks for, if callers are asked who they are.",
    ),
    // Refusals name it without bringing it along.
    components(schemas(ProblemShape)),
    modifiers(&Proofs),
    tags(
        (name = "about", description = "Whether the server is well, what it is, and its figures"),
        (name = "streams", description = "Events of streams: append, read, follow"),
        (name = "log", description = "Events of all streams, in the order they were written"),
        (name = "snapshots", description = "States that a stream need not be replayed for"),
        (name = "accounts", description = "Accounts, and the money in them"),
        (name = "holds", description = "Money reserved now and paid out later"),
        (name = "transfers", description = "Money from one account to another"),
        (name = "sagas", description = "Transfers that are not finished, or need a person"),
        (name = "risk", description = "Which transfers are let through"),
        (name = "books", description = "That it all adds up"),
        (name = "events", description = "Events of one type, of all streams"),
        (name = "projections", description = "The views that lists are answered from"),
        (name = "connectors", description = "What is relayed to elsewhere"),
        (name = "subscriptions", description =
            "Persistent subscriptions, as KurrentDB's older clients ask for them"),
        (name = "admin", description = "What an operator sees of a running server, and does to it"),
        (name = "backup", description = "Backups of a running server, and how far archiving is"),
    )
)]
pub struct About;

/// Adds how callers prove who they are.
pub struct Proofs;

impl Modify for Proofs {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        let [password, token, certificate] = PROOFS;
        let basic = Http::builder().scheme(HttpAuthScheme::Basic);
        let basic = basic.description(Some("A user's login and password")).build();
        let bearer = Http::builder().scheme(HttpAuthScheme::Bearer);
        let bearer = bearer.description(Some("A token of an issuer that is believed")).build();
        let shown = SecurityScheme::MutualTls {
            description: Some("A certificate whose common name is a user's login".to_owned()),
            deprecated: None,
            extensions: None,
        };
        components.add_security_scheme(password, SecurityScheme::Http(basic));
        components.add_security_scheme(token, SecurityScheme::Http(bearer));
        components.add_security_scheme(certificate, shown);
    }
}

/// The methods that `item` has.
#[must_use]
pub fn methods(item: &PathItem) -> Vec<MethodFilter> {
    let there = [
        (item.get.is_some(), MethodFilter::GET),
        (item.put.is_some(), MethodFilter::PUT),
        (item.post.is_some(), MethodFilter::POST),
        (item.delete.is_some(), MethodFilter::DELETE),
    ];
    there.into_iter().filter(|(there, _)| *there).map(|(_, method)| method).collect()
}

/// Says in `paths` what their files need not: that they ask for `right`, what those are answered
/// who do not have it, and what parameters mean that mean the same everywhere.
pub fn say_right(paths: &mut Paths, right: Right) {
    for item in paths.paths.values_mut() {
        let all = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete];
        for operation in all.into_iter().flatten() {
            say_right_of(operation, right);
        }
    }
}

fn say_right_of(operation: &mut Operation, right: Right) {
    for parameter in operation.parameters.iter_mut().flatten() {
        let RefOr::T(parameter) = parameter else { continue };
        let meaning = MEANINGS.iter().find(|(name, _)| *name == parameter.name);
        let meaning = meaning.map(|(_, meaning)| (*meaning).to_owned());
        parameter.description = parameter.description.take().or(meaning);
    }
    let asked = serde_json::json!({ "name": format!("{right:?}"), "groups": right.groups() });
    operation.extensions = Some(Extensions::from_iter([("x-right", asked)]));
    let nothing: [&str; 0] = [];
    let proofs = PROOFS.map(|proof| SecurityRequirement::new(proof, nothing));
    operation.security = Some(match right {
        Right::Anyone => vec![SecurityRequirement::default()],
        _ => proofs.into(),
    });
    let refused = [
        ("401", "The caller did not prove who it is, or it is not who it says", true),
        ("403", "The caller does not have the right, or a stream's list refuses it", false),
        ("429", "Too many wrong passwords came; Retry-After says when to try again", true),
    ];
    for (status, meaning, always) in refused {
        if always || right != Right::Anyone {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem")));
            let response = ResponseBuilder::new().description(meaning);
            let response = response.content(PROBLEM, content.build()).build();
            let there = operation.responses.responses.entry(status.to_owned());
            there.or_insert_with(|| response.into());
        }
    }
}

/// The document, once it is whole.
type Whole = Arc<OnceLock<Bytes>>;

/// `described` behind `gate`, and the route that says what they are, itself included; `about` says
/// what they are all together.
#[must_use]
pub fn published<S>(gate: &Gate, described: Described<S>, about: Document) -> Routes<S>
where
    S: Clone + Send + Sync + 'static,
{
    let whole = Whole::default();
    let described = described.routes(Right::Known, itself(whole.clone()));
    let (routes, api) = Routes::new(gate).describe(described, about);
    let json = Bytes::from(api.to_json().expect("a description is JSON"));
    whole.set(json).expect("it is set here alone");
    routes
}

fn itself<S>(whole: Whole) -> UtoipaMethodRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    let (schemas, paths, methods) = routes!(description);
    (schemas, paths, methods.layer(Extension(whole)))
}

/// What this server answers over HTTP: this document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "about",
    operation_id = "get_openapi",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json",
               body = serde_json::Value))
)]
async fn description(Extension(whole): Extension<Whole>) -> Response {
    let json = whole.get().cloned().unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], json).into_response()
}
