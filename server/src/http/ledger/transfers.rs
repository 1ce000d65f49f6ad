//! Transfers: begin one, perhaps wait for its end, look how far it has come.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use daybook_ledger::currency::Currency;
use daybook_ledger::orchestrator::Known;
use daybook_ledger::saga::{self, Direction};
use daybook_ledger::time::rfc3339;
use daybook_ledger::transfer::{FxRequest, Rounding, StepOutcome, TransferRequest, parse_rate};
use daybook_model::Timestamp;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;
use uuid::Uuid;

use super::request::{Command, InTransfer, amount};
use super::schema::{self, Refusals, Rejections};
use super::view::{json, marked};
use crate::http::problem::{Kind, Problem};
use crate::node::{Admitted, Context};
use crate::security::gate::Described;
use crate::security::rights::Right;

/// The longest wait for a transfer's end. Longer than any takes whose risk service answers; a
/// client that wants to know later asks again.
pub const WAIT_MAX: Duration = Duration::from_secs(60);
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new()
        .routes(Right::MoveMoney, routes!(start))
        .routes(Right::ReadLedger, routes!(get))
}

/// A transfer to be made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartRequest {
    /// Who pays.
    sender_account_id: Uuid,
    /// Who is paid.
    receiver_account_id: Uuid,
    /// What the sender pays.
    #[schema(value_type = schema::Amount)]
    amount: String,
    /// The sender's.
    #[schema(value_type = schema::CurrencyCode)]
    currency: Currency,
    /// What for; up to 1000 bytes.
    description: Option<String>,
    /// How it converts, if the receiver has another currency.
    fx: Option<FxBody>,
}

/// A conversion, as it was quoted.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = FxQuote)]
pub struct FxBody {
    /// What one unit of the sender's currency is worth in the receiver's.
    #[schema(value_type = schema::Rate)]
    rate: String,
    /// The receiver's.
    #[schema(value_type = schema::CurrencyCode)]
    currency: Currency,
    /// How what the receiver gets is rounded to its currency's minor unit.
    #[schema(value_type = schema::RoundingName)]
    rounding: Rounding,
}

impl StartRequest {
    fn read(self, transfer_id: Uuid) -> Result<TransferRequest, Problem> {
        let fx = self.fx.map(|fx| {
            let FxBody { rate, currency, rounding } = fx;
            parse_rate(&rate).map(|rate| FxRequest { rate, currency, rounding })
        });
        Ok(TransferRequest {
            transfer_id,
            sender_account_id: self.sender_account_id,
            receiver_account_id: self.receiver_account_id,
            amount: amount("amount", &self.amount, self.currency)?,
            currency: self.currency,
            description: self.description.unwrap_or_default(),
            fx: fx.transpose()?,
        })
    }
}

/// A transfer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transfer)]
pub struct TransferView<'a> {
    transfer_id: Uuid,
    #[schema(value_type = schema::SagaStateName)]
    state: &'static str,
    /// Why it is, or will be, undone, or failed; begins with a word that never changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    sender_account_id: Uuid,
    receiver_account_id: Uuid,
    /// What the sender pays.
    #[schema(value_type = schema::Amount)]
    amount: Decimal,
    #[schema(value_type = schema::CurrencyCode)]
    currency: Currency,
    /// What the receiver got, once it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Amount>)]
    credited_amount: Option<Decimal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::CurrencyCode>)]
    credited_currency: Option<Currency>,
    description: &'a str,
    /// How it converts.
    #[serde(skip_serializing_if = "Option::is_none")]
    fx: Option<FxView>,
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    initiated_at: Timestamp,
    /// When it is undone unless it is done.
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    deadline: Timestamp,
    /// When it was over.
    #[serde(with = "rfc3339::option", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Time>)]
    completed_at: Option<Timestamp>,
    /// What was tried, oldest first.
    steps: Vec<StepView<'a>>,
}

/// A conversion, and what came out of it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Fx)]
pub struct FxView {
    #[schema(value_type = schema::Rate)]
    rate: Decimal,
    #[schema(value_type = schema::CurrencyCode)]
    currency: Currency,
    /// What the receiver gets.
    #[schema(value_type = schema::Amount)]
    amount: Decimal,
    #[schema(value_type = schema::RoundingName)]
    rounding: Rounding,
}

/// One attempt at a step.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Step)]
pub struct StepView<'a> {
    /// debit_sender, check_risk or credit_receiver.
    step: &'static str,
    /// action, or compensation if it was taken back.
    #[schema(value_type = schema::DirectionName)]
    direction: &'static str,
    #[schema(value_type = schema::OutcomeName)]
    outcome: &'static str,
    /// 1 for the first.
    attempt: u32,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    at: Timestamp,
}

impl<'a> StepView<'a> {
    /// One entry of a timeline.
    #[must_use]
    pub fn new(step: &'a StepOutcome) -> StepView<'a> {
        StepView {
            step: step.step,
            direction: Direction::as_str(step.direction),
            outcome: if step.failure.is_some() { "failed" } else { "completed" },
            attempt: step.attempt,
            reason: step.failure.as_deref(),
            at: step.at,
        }
    }
}

impl<'a> TransferView<'a> {
    /// The transfer as it is known.
    #[must_use]
    pub fn new(known: &'a Known) -> TransferView<'a> {
        let transfer = &known.transfer;
        let initiated = transfer.initiated();
        let is_credited = known.state() == saga::State::Completed;
        let credited = is_credited.then(|| initiated.credited());
        TransferView {
            transfer_id: initiated.transfer_id,
            state: known.state().as_str(),
            reason: transfer.reason.as_deref(),
            sender_account_id: initiated.sender_account_id,
            receiver_account_id: initiated.receiver_account_id,
            amount: initiated.amount,
            currency: initiated.currency,
            credited_amount: credited.map(|(amount, _)| amount),
            credited_currency: credited.map(|(_, currency)| currency),
            description: &initiated.description,
            fx: initiated.fx.as_ref().map(|fx| FxView {
                rate: fx.rate,
                currency: fx.currency,
                amount: fx.amount,
                rounding: fx.rounding,
            }),
            initiated_at: initiated.occurred_at,
            deadline: initiated.deadline,
            completed_at: transfer.ended_at,
            steps: transfer.steps.iter().map(StepView::new).collect(),
        }
    }
}

/// Begins a transfer. Its id is the Idempotency-Key. A sender that refuses makes a transfer that
/// is compensated at once, and says why.
#[utoipa::path(
    post, path = "/v1/transfers", tag = "transfers",
    operation_id = "start_transfer", request_body = StartRequest,
    params(
        ("Idempotency-Key" = Uuid, Header, description = "The transfer's id"),
        ("Prefer" = Option<String>, Header,
            description = "wait=SECONDS, up to 60: answer when it is over, if it is by then"),
    ),
    responses(
        (status = 200, description = "It is over, or has failed", body = TransferView,
            headers(("preference-applied" = String), ("location" = String))),
        (status = 202, description = "It has begun", body = TransferView,
            headers(("location" = String, description = "Where it is"))),
        Rejections,
    )
)]
async fn start(
    context: Admitted,
    headers: HeaderMap,
    command: Command<StartRequest>,
) -> Result<Response, Problem> {
    let Command { key, body } = command;
    let wait = preferred_wait(&headers);
    let started = context.ledger().transfer(body.read(key)?, context.caller()).await?;
    let mut known = started.known;
    if let Some(wait) = wait
        && known.state().is_active()
        && let Some(over) = context.ledger().finished(key, wait).await?
    {
        known = over;
    }
    let over = wait.is_some() && !known.state().is_active();
    let status = if over { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = json(status, &TransferView::new(&known));
    let location = HeaderValue::try_from(format!("/v1/transfers/{key}"));
    response.headers_mut().insert(header::LOCATION, location.expect("a path of plain letters"));
    if over {
        response.headers_mut().insert(PREFERENCE_APPLIED, HeaderValue::from_static("wait"));
    }
    Ok(marked(response, !started.first))
}

/// A transfer, with what was tried so far.
#[utoipa::path(
    get, path = "/v1/transfers/{transfer_id}", tag = "transfers",
    operation_id = "get_transfer",
    params(("transfer_id" = Uuid, Path)),
    responses((status = 200, description = "The transfer", body = TransferView), Refusals)
)]
async fn get(
    State(context): State<Context>,
    InTransfer(id): InTransfer,
) -> Result<Response, Problem> {
    let known = context.ledger().transfer_now(id).await?;
    let known = known.ok_or_else(|| transfer_not_found(id))?;
    Ok(json(StatusCode::OK, &TransferView::new(&known)))
}

/// Nobody began the transfer.
#[must_use]
pub fn transfer_not_found(id: Uuid) -> Problem {
    Problem::new(Kind::TransferNotFound, format!("there is no transfer {id}"))
}

/// How long the client would wait; none if it would not. What cannot be read is ignored, as RFC
/// 7240 has it.
fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(&PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split(',')).map(str::trim);
    let seconds = preferences.find_map(|preference| preference.strip_prefix("wait="))?;
    let seconds: u64 = seconds.trim_matches('"').parse().ok()?;
    Some(Duration::from_secs(seconds).min(WAIT_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_says_how_long_it_would_wait() {
        for (prefer, seconds) in [
            ("wait=5", Some(5)),
            ("respond-async, wait=10", Some(10)),
            ("wait=\"3\"", Some(3)),
            ("wait=100000", Some(60)),
            ("wait=0", Some(0)),
            ("wait=soon", None),
            ("wait=-1", None),
            ("return=minimal", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(PREFER, prefer.parse().expect("a header"));
            assert_eq!(preferred_wait(&headers).map(|wait| wait.as_secs()), seconds, "{prefer}");
        }
        assert_eq!(preferred_wait(&HeaderMap::new()), None);
    }
}
