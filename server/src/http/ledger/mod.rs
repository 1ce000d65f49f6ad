//! The ledger's API: accounts, transfers, and what watches over them.
//!
//! ```text
//!   /v1/accounts                                POST  open                        accounts
//!   /v1/accounts/{id}                           GET   now, ?at=, ?revision=
//!   /v1/accounts/{id}/{deposits|withdrawals|fees|freeze|unfreeze|close}  POST
//!   /v1/accounts/{id}/limits                    PUT
//!   /v1/accounts/{id}/holds[/{hold}/{capture|release}]  POST                      holds
//!   /v1/accounts/{id}/transactions              GET   page by page                history
//!   /v1/accounts/{id}/statement                 GET   ?from=&to=, JSON or CSV     statement
//!   /v1/transfers[/{id}]                        POST  GET                         transfers
//!   /v1/sagas[/{id}[/{resume|abandon}]]         GET   POST                        sagas
//!   /v1/risk/accounts/{id}/flag                 PUT   DELETE                      risk
//!   /v1/risk/rules                              GET   PUT
//!   /v1/trial-balance                           GET   ?verify=                    books
//!   /openapi.json                               GET   the description of all this
//! ```
//!
//! What changes something carries an `Idempotency-Key`, a UUID: the same request under the same
//! key has the same answer for ever, another one under it is refused. Amounts are strings, unknown
//! fields are refused, and every mistake names its field. A rule that forbids something answers
//! 422, and the last part of the problem's `type` is the rule's word.
//!
//! The routes and their description are made from the same functions: see [`routes`].
//!
//! INVARIANT: decides nothing about money.

pub mod accounts;
pub mod books;
pub mod command;
pub mod history;
pub mod holds;
pub mod refusal;
pub mod request;
pub mod risk;
pub mod sagas;
pub mod schema;
pub mod statement;
pub mod transfers;
pub mod view;

use axum::response::IntoResponse;
use bytes::Bytes;
use http::header;
use utoipa::OpenApi;

use crate::node::Context;
use crate::security::gate::{Described, Gate, Routes};
use crate::security::rights::Right;

/// What the description says of itself.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Daybook's ledger",
        description = "Double-entry accounts and transfers over an event store. Amounts are \
                       strings; what changes something carries an Idempotency-Key, a UUID of your \
                       own, and can be repeated with it at will.",
    ),
    // Refusals name it without bringing it along.
    components(schemas(schema::ProblemShape)),
    tags(
        (name = "accounts", description = "Accounts, and the money in them"),
        (name = "holds", description = "Money reserved now and paid out later"),
        (name = "transfers", description = "Money from one account to another"),
        (name = "sagas", description = "Transfers that are not finished, or need a person"),
        (name = "risk", description = "Which transfers are let through"),
        (name = "books", description = "That it all adds up"),
        (name = "events", description = "Events of one type, of all streams"),
        (name = "projections", description = "The views that lists are answered from"),
        (name = "connectors", description = "What is relayed to elsewhere"),
    )
)]
struct About;

/// All routes of the ledger's API behind `gate`, and the one that describes them.
pub fn routes(gate: &Gate) -> Routes<Context> {
    let (routes, api) = Routes::new(gate).describe(described(), About::openapi());
    let json = Bytes::from(api.to_json().expect("a description is JSON"));
    let answer =
        move || async move { ([(header::CONTENT_TYPE, "application/json")], json).into_response() };
    routes.get("/openapi.json", Right::Known, answer)
}

fn described() -> Described<Context> {
    Described::new()
        .merge(accounts::routes())
        .merge(holds::routes())
        .merge(history::routes())
        .merge(statement::routes())
        .merge(transfers::routes())
        .merge(sagas::routes())
        .merge(risk::routes())
        .merge(books::routes())
        .merge(crate::http::readside::node())
        .merge(crate::http::connectors::routes())
}
