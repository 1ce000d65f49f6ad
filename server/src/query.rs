//! The query front: the read side's HTTP alone, over read models in PostgreSQL.
//!
//! ```text
//!   node, or `daybook projections run` ──writes──> PostgreSQL <──reads── front, front, front …
//!                                                            /v1/accounts, /v1/transfers …
//!                                                            /health/*, /metrics, /openapi.json
//! ```
//!
//! A front keeps nothing: any number of them answer alike, and each may be killed at any time. It
//! needs no right in the database but to read the schema. What a node serves from a store or by its
//! ledger is not here.
//!
//! INVARIANTS: knows no store and no ledger; changes nothing in the database.

pub mod about;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use daybook_model::SystemClock;
use daybook_projections::models::ReadModels;
use daybook_projections::postgres::Postgres;
use utoipa::OpenApi;

use crate::front::{Front, FrontError, Reception};
use crate::http::ledger::schema;
use crate::http::openapi::{Proofs, published};
use crate::http::readside;
use crate::http::readside::answer::Tables;
use crate::memory::Memory;
use crate::node::Life;
use crate::security::gate::Gate;
use crate::telemetry::metrics::Metrics;

/// What its requests share. A clone is another handle.
#[derive(Clone)]
pub struct State {
    postgres: Postgres,
    life: Life,
}

impl FromRef<State> for Tables {
    fn from_ref(state: &State) -> Tables {
        Tables(Some(ReadModels::Postgres(state.postgres.clone())))
    }
}

/// What the description says of itself.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Daybook's read models",
        description = "Lists of accounts, transfers and payments. Every answer says as_of: the \
                       position in the log that it reflects.",
    ),
    components(schemas(schema::ProblemShape)),
    modifiers(&Proofs)
)]
struct Description;

/// Serves the read models in `postgres`, within `memory`. PostgreSQL need not be there yet.
///
/// # Errors
/// [`FrontError`] names the file that cannot be used.
pub fn start(
    postgres: Postgres,
    memory: &Memory,
    reception: Reception,
) -> Result<Front, FrontError> {
    memory.budgets.bound_requests();
    let metrics = Arc::new(Metrics::new());
    metrics.memory_limit.set(memory.limit_metric());
    let life = Life::new(Arc::new(SystemClock::new()), metrics);
    let routes = routes(State { postgres, life: life.clone() });
    Front::start(routes, life, reception)
}

fn routes(state: State) -> Router {
    let gate = Gate::without_store(state.life.clock().clone());
    let described = readside::front().merge(about::routes());
    let (routes, _) = published(&gate, described, Description::openapi()).into_parts();
    crate::http::admitted(routes).with_state(state)
}
