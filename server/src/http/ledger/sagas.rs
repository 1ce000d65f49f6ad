//! Sagas that are not over: look at them, try again those that failed, or end them.

use axum::extract::State;
use axum::response::Response;
use daybook_ledger::orchestrator::Known;
use daybook_ledger::saga;
use daybook_ledger::time::rfc3339;
use daybook_ledger::transfer::PAYMENT_TRANSFER;
use daybook_model::Timestamp;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;
use uuid::Uuid;

use super::request::{InTransfer, Said, uuid};
use super::schema::{self, Refusals, Rejections};
use super::transfers::{StepView, transfer_not_found};
use super::view::json;
use crate::http::page::limit;
use crate::http::problem::Problem;
use crate::http::query::{Params, parsed};
use crate::node::{Admitted, Context};
use crate::security::gate::Described;
use crate::security::rights::Right;

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new()
        .routes(Right::ReadLedger, routes!(list))
        .routes(Right::ReadLedger, routes!(get))
        .routes(Right::SettleSagas, routes!(resume))
        .routes(Right::SettleSagas, routes!(abandon))
}

/// A saga.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Saga)]
pub struct SagaView<'a> {
    /// What it does: payment_transfer.
    saga: &'a str,
    /// Its id: the transfer's.
    id: Uuid,
    #[schema(value_type = schema::SagaStateName)]
    state: &'static str,
    /// The step that is to be taken, or taken back; null if none is.
    step: Option<&'static str>,
    /// Which attempt at it is next.
    attempt: u32,
    /// Why it is being undone, or failed.
    reason: Option<&'a str>,
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    initiated_at: Timestamp,
    /// When it is undone unless it is done.
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    deadline: Timestamp,
    /// What was tried, oldest first; only of a single one.
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<StepView<'a>>>,
}

impl<'a> SagaView<'a> {
    fn new(known: &'a Known) -> SagaView<'a> {
        let transfer = &known.transfer;
        let (initiated, progress) = (transfer.initiated(), &transfer.progress);
        SagaView {
            saga: &initiated.saga,
            id: initiated.transfer_id,
            state: known.state().as_str(),
            step: step(known),
            attempt: progress.failures + 1,
            reason: transfer.reason.as_deref(),
            initiated_at: initiated.occurred_at,
            deadline: initiated.deadline,
            steps: None,
        }
    }

    fn with_steps(known: &'a Known) -> SagaView<'a> {
        let steps = known.transfer.steps.iter().map(StepView::new).collect();
        SagaView { steps: Some(steps), ..SagaView::new(known) }
    }
}

/// The step that is to be taken or taken back.
#[must_use]
pub fn step(known: &Known) -> Option<&'static str> {
    let done = known.transfer.progress.done;
    let steps = PAYMENT_TRANSFER.steps;
    match known.state() {
        saga::State::Running => steps.get(done).map(|step| step.name),
        saga::State::Compensating | saga::State::Failed => {
            let mut writes = steps.iter().take(done).rev();
            writes.find(|step| step.effect == saga::Effect::Write).map(|step| step.name)
        }
        _ => None,
    }
}

/// The state that a list is asked for, of those that are no end.
///
/// # Errors
/// [`Problem`] if it is none of them.
pub fn state_named(name: &str) -> Result<saga::State, Problem> {
    match name {
        "running" => Ok(saga::State::Running),
        "compensating" => Ok(saga::State::Compensating),
        "failed" => Ok(saga::State::Failed),
        _ => Err(Problem::field("state", "give running, compensating or failed")),
    }
}

/// Which sagas.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// running, compensating or failed; all of these if absent.
    state: Option<String>,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// How many, up to 1000; 100 if nothing is said.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    limit: Option<u64>,
}

/// A part of the sagas that are not over, in the order of their ids.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Sagas)]
pub struct SagasView<'a> {
    sagas: Vec<SagaView<'a>>,
    /// Give it as `cursor` to go on; null at the end.
    next: Option<Uuid>,
}

/// The sagas that are not over: under way, or failed and waiting for somebody.
#[utoipa::path(
    get, path = "/v1/sagas", tag = "sagas",
    operation_id = "list_sagas", params(ListParams),
    responses((status = 200, description = "A page", body = SagasView), Refusals)
)]
async fn list(
    State(context): State<Context>,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    let state = params.state.as_deref().map(state_named).transpose()?;
    let limit = limit(params.limit)?;
    let after = params.cursor.map(|cursor| uuid("cursor", &cursor)).transpose()?;
    let unfinished = context.ledger().unfinished();
    let wanted = |known: &&std::sync::Arc<Known>| {
        state.is_none_or(|state| known.state() == state)
            && after.is_none_or(|after| known.transfer.id() > after)
    };
    let mut matching = unfinished.iter().filter(wanted);
    let sagas: Vec<SagaView<'_>> =
        matching.by_ref().take(limit).map(|known| SagaView::new(known)).collect();
    let next = sagas.last().map(|last| last.id).filter(|_| matching.next().is_some());
    Ok(json(StatusCode::OK, &SagasView { sagas, next }))
}

/// A saga, with what was tried so far.
#[utoipa::path(
    get, path = "/v1/sagas/{transfer_id}", tag = "sagas",
    operation_id = "get_saga",
    params(("transfer_id" = Uuid, Path)),
    responses((status = 200, description = "The saga", body = SagaView), Refusals)
)]
async fn get(
    State(context): State<Context>,
    InTransfer(id): InTransfer,
) -> Result<Response, Problem> {
    let known = context.ledger().transfer_now(id).await?;
    let known = known.ok_or_else(|| transfer_not_found(id))?;
    Ok(json(StatusCode::OK, &SagaView::with_steps(&known)))
}

/// Who wants a saga tried again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    resumed_by: String,
}

/// Has a failed saga tried again.
#[utoipa::path(
    post, path = "/v1/sagas/{transfer_id}/resume", tag = "sagas",
    operation_id = "resume_saga", request_body = ResumeRequest,
    params(("transfer_id" = Uuid, Path)),
    responses((status = 200, description = "It is under way again", body = SagaView), Rejections)
)]
async fn resume(
    context: Admitted,
    InTransfer(id): InTransfer,
    Said(body): Said<ResumeRequest>,
) -> Result<Response, Problem> {
    context.is_about(&id.to_string());
    let known = context.ledger().resume(id, body.resumed_by, context.caller()).await?;
    Ok(json(StatusCode::OK, &SagaView::with_steps(&known)))
}

/// Why a saga is ended.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AbandonRequest {
    /// Why, and what was done about the money.
    reason: String,
    abandoned_by: String,
}

/// Ends a failed saga, whose money somebody has seen to.
#[utoipa::path(
    post, path = "/v1/sagas/{transfer_id}/abandon", tag = "sagas",
    operation_id = "abandon_saga", request_body = AbandonRequest,
    params(("transfer_id" = Uuid, Path)),
    responses((status = 200, description = "It is over", body = SagaView), Rejections)
)]
async fn abandon(
    context: Admitted,
    InTransfer(id): InTransfer,
    Said(body): Said<AbandonRequest>,
) -> Result<Response, Problem> {
    context.is_about(&id.to_string());
    let said = (body.reason, body.abandoned_by);
    let known = context.ledger().abandon(id, said, context.caller()).await?;
    Ok(json(StatusCode::OK, &SagaView::with_steps(&known)))
}
