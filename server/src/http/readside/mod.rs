//! The read side's API: lists that the views answer, and what is known of the views themselves.
//!
//! ```text
//!   /v1/accounts          GET  by owner, status, currency, balance       accounts      table
//!   /v1/payments/daily    GET  by day, currency and outcome              payments      table
//!   /v1/sagas/overview    GET  the unfinished ones, and how many are how  payments      table
//!   /v1/transfers         GET  by state, period and account              transfers     index, or table
//!   /v1/events            GET  of one type, in a period                  events        index
//!   /v1/accounts/{id}/{transactions|statements}  GET                     history       table (front)
//!   /v1/projections …     GET  POST                                      projections
//! ```
//!
//! What a table answers says `as_of`: the position in the log that all of its rows reflect. Every
//! write is answered with the header `Daybook-Position`. Whoever gives that back as
//! `Daybook-Min-Position` (or `min_position=`) is answered when the view has come by it; after
//! [`answer::MIN_POSITION_WAIT_MAX`] it is told how far the view is instead (504, `not-there-yet`).
//!
//! What the index answers is as fresh as the log: it is no copy.
//!
//! `/v1/trial-balance` stays with the ledger, which counts to the last event before it answers, and
//! can prove it: an auditor wants the books themselves, not a picture of them. The view keeps the
//! same sums beside the accounts for those who read the tables.
//!
//! INVARIANT: [`routes`] and [`front`] know no store: they can be served where only the tables are.

pub mod accounts;
pub mod answer;
pub mod cursor;
pub mod events;
pub mod history;
pub mod log;
pub mod payments;
pub mod projections;
pub mod transfers;

use axum::extract::{FromRef, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderName, HeaderValue};

use crate::node::Context;
use crate::security::gate::Described;
use answer::Tables;

/// The last position of the log when a write was answered: what was written is there or before it.
pub const POSITION: HeaderName = HeaderName::from_static("daybook-position");

/// What the tables answer wherever they are.
pub fn routes<S>() -> Described<S>
where
    S: Clone + Send + Sync + 'static,
    Tables: FromRef<S>,
{
    Described::new().merge(accounts::routes()).merge(payments::routes())
}

/// What can be answered without a store: the tables that only a database keeps included.
pub fn front<S>() -> Described<S>
where
    S: Clone + Send + Sync + 'static,
    Tables: FromRef<S>,
{
    routes().merge(transfers::table_routes()).merge(history::routes())
}

/// What a node answers.
pub fn node() -> Described<Context> {
    routes().merge(transfers::routes()).merge(events::routes()).merge(projections::routes())
}

/// Tells whoever wrote how far the log was then, for what it reads next.
pub async fn say_position(
    State(context): State<Context>,
    request: Request,
    next: Next,
) -> Response {
    let reads = request.method().is_safe();
    let mut response = next.run(request).await;
    if !reads && let Some(last) = context.works().committed().0.checked_sub(1) {
        response.headers_mut().insert(POSITION, HeaderValue::from(last));
    }
    response
}

impl FromRef<Context> for Tables {
    fn from_ref(context: &Context) -> Tables {
        Tables(context.read_side().map(|read_side| read_side.models().clone()))
    }
}
