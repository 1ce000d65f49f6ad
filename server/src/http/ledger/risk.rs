//! Risk: which accounts are suspect, and which transfers are let through.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use daybook_ledger::account::{AccountCommand, FlagAccount, UnflagAccount};
use daybook_ledger::currency::Currency;
use daybook_ledger::risk::{Rules, RulesCommand, RulesState, rules_stream};
use daybook_ledger::time::rfc3339;
use daybook_model::Timestamp;
use daybook_model::repository::Task;
use http::StatusCode;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::command::{DoneView, OnAccount};
use super::request::{Command, amount};
use super::schema::{self, Refusals, Rejections};
use super::view::{json, marked};
use crate::http::problem::Problem;
use crate::ledger::finish;
use crate::node::{Admitted, Context};
use crate::security::gate::Described;
use crate::security::rights::Right;

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new()
        .routes(Right::FreezeAccounts, routes!(flag))
        .routes(Right::FreezeAccounts, routes!(unflag))
        .routes(Right::ReadLedger, routes!(rules))
        .routes(Right::FreezeAccounts, routes!(set_rules))
}

/// Why an account is suspect.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FlagRequest {
    reason: String,
    flagged_by: String,
}

/// Flags an account as suspect.
#[utoipa::path(
    put, path = "/v1/risk/accounts/{account_id}/flag", tag = "risk",
    operation_id = "flag_account", request_body = FlagRequest,
    params(("account_id" = Uuid, Path), ("Idempotency-Key" = Uuid, Header)),
    responses((status = 201, description = "It is flagged", body = DoneView), Rejections)
)]
async fn flag(command: OnAccount<FlagRequest>) -> Result<Response, Problem> {
    let read = |FlagRequest { reason, flagged_by }, transaction_id| {
        Ok(AccountCommand::Flag(FlagAccount { reason, flagged_by, transaction_id }))
    };
    command.execute("flag", &[], read).await
}

/// Who takes a flag away.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnflagRequest {
    unflagged_by: String,
}

/// Takes an account's flag away.
#[utoipa::path(
    delete, path = "/v1/risk/accounts/{account_id}/flag", tag = "risk",
    operation_id = "unflag_account",
    request_body = UnflagRequest,
    params(("account_id" = Uuid, Path), ("Idempotency-Key" = Uuid, Header)),
    responses((status = 201, description = "It is not flagged", body = DoneView), Rejections)
)]
async fn unflag(command: OnAccount<UnflagRequest>) -> Result<Response, Problem> {
    let read = |UnflagRequest { unflagged_by }, transaction_id| {
        Ok(AccountCommand::Unflag(UnflagAccount { unflagged_by, transaction_id }))
    };
    command.execute("unflag", &[], read).await
}

/// The rules by which transfers are let through; what is absent is no rule.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RulesRequest {
    /// The largest transfer in each currency.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>, example = json!({ "USD": "10000.00" }))]
    maximum_amount: BTreeMap<Currency, String>,
    /// Transfers that an account may make in a UTC hour; null for any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    transfers_per_hour: Option<u32>,
    /// Transfers that an account may make on a UTC day; null for any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    transfers_per_day: Option<u32>,
    /// Whether transfers from and to flagged accounts are rejected.
    reject_flagged: bool,
    /// Who says so.
    changed_by: String,
}

/// The rules that hold.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Rules)]
pub struct RulesView {
    #[schema(value_type = BTreeMap<String, String>, example = json!({ "USD": "10000.00" }))]
    maximum_amount: BTreeMap<Currency, Decimal>,
    transfers_per_hour: Option<u32>,
    transfers_per_day: Option<u32>,
    reject_flagged: bool,
    /// Who said so last; null if nobody ever did.
    changed_by: Option<String>,
    #[serde(with = "rfc3339::option")]
    #[schema(value_type = Option<schema::Time>)]
    changed_at: Option<Timestamp>,
}

impl RulesView {
    fn new(state: &RulesState) -> RulesView {
        let rules: &Rules = &state.rules;
        RulesView {
            maximum_amount: rules.maximum_amount.clone(),
            transfers_per_hour: rules.transfers_per_hour,
            transfers_per_day: rules.transfers_per_day,
            reject_flagged: rules.reject_flagged,
            changed_by: state.changed_at.map(|_| state.changed_by.clone()),
            changed_at: state.changed_at,
        }
    }
}

/// The rules by which transfers are let through.
#[utoipa::path(
    get, path = "/v1/risk/rules", tag = "risk",
    operation_id = "get_risk_rules",
    responses((status = 200, description = "The rules", body = RulesView), Refusals)
)]
async fn rules(State(context): State<Context>) -> Result<Response, Problem> {
    let loaded = context.ledger().rules().load(&rules_stream()).await?;
    let state = loaded.map(|(state, _)| state).unwrap_or_default();
    Ok(json(StatusCode::OK, &RulesView::new(&state)))
}

/// Sets all the rules by which transfers are let through, from the next one on.
#[utoipa::path(
    put, path = "/v1/risk/rules", tag = "risk",
    operation_id = "set_risk_rules", request_body = RulesRequest,
    params(("Idempotency-Key" = Uuid, Header)),
    responses((status = 200, description = "They hold", body = RulesView), Rejections)
)]
async fn set_rules(context: Admitted, command: Command<RulesRequest>) -> Result<Response, Problem> {
    let transaction = command.transaction("set_rules", &[]);
    let RulesRequest { maximum_amount, reject_flagged, changed_by, .. } = &command.body;
    let read = |(currency, text): (&Currency, &String)| {
        let field = format!("maximum_amount.{currency}");
        amount(&field, text, *currency).map(|amount| (*currency, amount))
    };
    let rules = Rules {
        maximum_amount: maximum_amount.iter().map(read).collect::<Result<_, Problem>>()?,
        transfers_per_hour: command.body.transfers_per_hour,
        transfers_per_day: command.body.transfers_per_day,
        reject_flagged: *reject_flagged,
    };
    let command = RulesCommand { rules, changed_by: changed_by.clone() };
    let by = context.caller().context();
    let task = Task { command, transaction, context: by, record: None };
    let rules = context.ledger().rules().clone();
    let changed = finish(async move { rules.execute(&rules_stream(), task).await }).await?;
    let response = json(StatusCode::OK, &RulesView::new(&changed.state));
    Ok(marked(response, changed.repeated))
}
