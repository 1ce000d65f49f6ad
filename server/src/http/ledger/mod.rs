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
//! ```
//!
//! What changes something carries an `Idempotency-Key`, a UUID: the same request under the same
//! key has the same answer for ever, another one under it is refused. Amounts are strings, unknown
//! fields are refused, and every mistake names its field. A rule that forbids something answers
//! 422, and the last part of the problem's `type` is the rule's word.
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

use crate::node::Context;
use crate::security::gate::Described;

/// All routes of the ledger's API.
pub fn routes() -> Described<Context> {
    Described::new()
        .merge(accounts::routes())
        .merge(holds::routes())
        .merge(history::routes())
        .merge(statement::routes())
        .merge(transfers::routes())
        .merge(sagas::routes())
        .merge(risk::routes())
        .merge(books::routes())
}
