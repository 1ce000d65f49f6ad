//! `/admin/sagas`: transfers that are not over, for those who run the server and see no money: no
//! account, no amount, no reason.

use axum::Json;
use axum::extract::State;
use daybook_ledger::orchestrator::Known;
use daybook_ledger::saga;
use daybook_model::Timestamp;
use daybook_projections::Value;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;
use uuid::Uuid;

use crate::http::event::rfc3339;
use crate::http::ledger::request::uuid;
use crate::http::ledger::sagas::{state_named, step};
use crate::http::ledger::schema::{self, Refusals, Time};
use crate::http::page::limit;
use crate::http::problem::Problem;
use crate::http::query::{Params, parsed};
use crate::http::readside::cursor;
use crate::node::Context;
use crate::security::gate::Described;
use crate::security::rights::Right;

/// What its cursors are good for.
const ORDER: &str = "sagas";

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new().routes(Right::Inspect, routes!(list))
}

/// Which sagas.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// running, compensating or failed; all of these if absent.
    state: Option<String>,
    /// Only those that are stuck: failed, or not over though their deadline has passed.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<bool>)]
    stuck: Option<bool>,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// How many, up to 1000; 100 if nothing is said.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    limit: Option<u64>,
}

/// A saga that is not over.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SagaEntry {
    /// The transfer's id. Who may see the ledger finds the rest at /v1/sagas/{id}.
    id: Uuid,
    #[schema(value_type = schema::SagaStateName)]
    state: &'static str,
    /// The step that is to be taken, or taken back; null if none is.
    step: Option<&'static str>,
    /// Which attempt at it is next.
    attempt: u32,
    #[schema(value_type = Time)]
    initiated: String,
    /// When it is undone unless it is done.
    #[schema(value_type = Time)]
    deadline: String,
    /// Whether it failed, or its deadline has passed: somebody must look.
    stuck: bool,
}

/// Some sagas, in ascending order of their ids.
#[derive(Debug, Serialize, ToSchema)]
pub struct SagaEntries {
    sagas: Vec<SagaEntry>,
    /// Give it as `cursor` to go on; null at the end.
    next: Option<String>,
}

impl SagaEntry {
    fn new(known: &Known, now: Timestamp) -> SagaEntry {
        let initiated = known.transfer.initiated();
        SagaEntry {
            id: initiated.transfer_id,
            state: known.state().as_str(),
            step: step(known),
            attempt: known.transfer.progress.failures + 1,
            initiated: rfc3339(initiated.occurred_at),
            deadline: rfc3339(initiated.deadline),
            stuck: known.state() == saga::State::Failed || initiated.deadline < now,
        }
    }
}

/// Transfers that are not over, without what is in them.
#[utoipa::path(
    get, path = "/admin/sagas", tag = "admin",
    operation_id = "list_saga_entries", params(ListParams),
    responses((status = 200, description = "A page", body = SagaEntries), Refusals)
)]
async fn list(
    State(context): State<Context>,
    Params(params): Params<ListParams>,
) -> Result<Json<SagaEntries>, Problem> {
    let rows = limit(params.limit)?;
    let state = params.state.as_deref().map(state_named).transpose()?;
    let after = match &params.cursor {
        Some(cursor) => Some(uuid("cursor", &cursor::decode_text(cursor, ORDER)?)?),
        None => None,
    };
    let now = context.clock().now();
    let unfinished = context.ledger().unfinished();
    let wanted = unfinished.iter().filter(|known| {
        state.is_none_or(|state| known.state() == state)
            && after.is_none_or(|after| known.transfer.id() > after)
    });
    let entries = wanted.map(|known| SagaEntry::new(known, now));
    let mut entries = entries.filter(|entry| entry.stuck || params.stuck != Some(true)).peekable();
    let sagas: Vec<SagaEntry> = entries.by_ref().take(rows).collect();
    let last = sagas.last().filter(|_| entries.peek().is_some());
    let next = last.map(|last| cursor::encode(ORDER, &[Value::from(last.id.to_string().as_str())]));
    Ok(Json(SagaEntries { sagas, next }))
}
