//! Accounts: open, look, pay in and out, freeze, limit, close.

use axum::extract::State;
use axum::response::Response;
use daybook_ledger::account::{
    AccountCommand, AccountType, ChangeLimits, CloseAccount, FreezeAccount, MoveMoney, OpenAccount,
    UnfreezeAccount, account_stream,
};
use daybook_ledger::currency::Currency;
use daybook_model::Revision;
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;
use uuid::Uuid;

use super::command::{DoneView, OnAccount};
use super::request::{Command, InAccount, amount, amount_if_given, time};
use super::schema::{self, Refusals, Rejections};
use super::view::{AccountView, account_after, json, marked};
use crate::http::problem::{Kind, Problem};
use crate::http::query::{Params, parsed};
use crate::node::{Admitted, Context};
use crate::security::gate::Described;
use crate::security::rights::Right;

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new()
        .routes(Right::OpenAccounts, routes!(open))
        .routes(Right::ReadLedger, routes!(get))
        .routes(Right::MoveMoney, routes!(deposit))
        .routes(Right::MoveMoney, routes!(withdraw))
        .routes(Right::MoveMoney, routes!(charge_fee))
        .routes(Right::FreezeAccounts, routes!(freeze))
        .routes(Right::FreezeAccounts, routes!(unfreeze))
        .routes(Right::OpenAccounts, routes!(close))
        .routes(Right::SetLimits, routes!(change_limits))
}

/// A new account.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OpenRequest {
    /// Checking accounts may be overdrawn, savings need an initial deposit of at least 100,
    /// credit accounts a credit limit.
    #[schema(value_type = schema::AccountTypeName)]
    account_type: AccountType,
    #[schema(value_type = schema::CurrencyCode)]
    currency: Currency,
    /// Whose it is.
    owner_id: Uuid,
    /// Paid in at once.
    #[schema(value_type = Option<schema::Amount>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    initial_deposit: Option<String>,
    /// How far the balance may go below zero; for checking accounts, 500 if nothing is said.
    #[schema(value_type = Option<schema::Amount>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    overdraft_limit: Option<String>,
    /// The same for credit accounts, which need it.
    #[schema(value_type = Option<schema::Amount>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    credit_limit: Option<String>,
    /// How much may leave it on one UTC day; 5000 if nothing is said.
    #[schema(value_type = Option<schema::Amount>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    daily_withdrawal_limit: Option<String>,
}

/// Opens an account. Its id is the Idempotency-Key.
#[utoipa::path(
    post, path = "/v1/accounts", tag = "accounts",
    operation_id = "open_account", request_body = OpenRequest,
    params(("Idempotency-Key" = Uuid, Header, description = "The account's id")),
    responses(
        (status = 201, description = "It is open", body = AccountView,
            headers(("location" = String, description = "Where it is"))),
        Rejections,
    )
)]
async fn open(context: Admitted, command: Command<OpenRequest>) -> Result<Response, Problem> {
    let transaction = command.transaction("open", &[]);
    let Command { key: account_id, body } = command;
    let currency = body.currency;
    let given = |field, text: &Option<String>| amount_if_given(field, text.as_deref(), currency);
    let command = AccountCommand::Open(OpenAccount {
        account_id,
        account_type: body.account_type,
        currency,
        owner_id: body.owner_id,
        initial_deposit: given("initial_deposit", &body.initial_deposit)?,
        overdraft_limit: given("overdraft_limit", &body.overdraft_limit)?,
        credit_limit: given("credit_limit", &body.credit_limit)?,
        daily_withdrawal_limit: given("daily_withdrawal_limit", &body.daily_withdrawal_limit)?,
        transaction_id: account_id,
    });
    let by = context.caller().context();
    let done = context.ledger().execute(account_id, command, transaction, by).await?;
    let mut response = json(StatusCode::CREATED, &account_after(&done)?);
    let location = HeaderValue::try_from(format!("/v1/accounts/{account_id}"));
    response.headers_mut().insert(header::LOCATION, location.expect("a path of plain letters"));
    Ok(marked(response, done.repeated))
}

/// Which state of an account.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct GetParams {
    /// As it was at this time.
    #[param(value_type = Option<schema::Time>)]
    at: Option<String>,
    /// As it was after its event of this number.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    revision: Option<u64>,
}

/// An account now, or as it was.
#[utoipa::path(
    get, path = "/v1/accounts/{account_id}", tag = "accounts",
    operation_id = "get_account",
    params(("account_id" = Uuid, Path), GetParams),
    responses((status = 200, description = "The account", body = AccountView), Refusals)
)]
async fn get(
    State(context): State<Context>,
    InAccount(id): InAccount,
    Params(params): Params<GetParams>,
) -> Result<Response, Problem> {
    let ledger = context.ledger();
    let (account, last) = ledger.account(id).await?.ok_or_else(Problem::account_not_found)?;
    let found = |account: &daybook_ledger::Account, revision, at| {
        let state = account.state().ok_or_else(Problem::account_not_found)?;
        Ok(json(StatusCode::OK, &AccountView::new(state, revision, at)))
    };
    let stream = account_stream(id);
    let (revision, at) = match (params.at, params.revision) {
        (None, None) => return found(&account, last, ledger.now()),
        (Some(_), Some(_)) => {
            return Err(Problem::field("revision", "cannot be given together with at"));
        }
        (Some(at), None) => {
            let at = time("at", &at)?;
            let known = account.state().map_or(at, |state| state.updated_at);
            if at > ledger.now().max(known) {
                return Err(Problem::field("at", "is in the future; nobody knows that yet"));
            }
            let revision = ledger.revision_at(&stream, at, last).await?;
            let early = "the account was not open yet at that time";
            (revision.ok_or_else(|| Problem::account_not_found_as(early))?, Some(at))
        }
        (None, Some(revision)) if revision > last.0 => {
            return Err(Problem::field("revision", format!("the account's last one is {last}")));
        }
        (None, Some(revision)) => (Revision(revision), None),
    };
    let account = ledger.accounts().load_at(&stream, revision).await?;
    // As of its own time, unless a later one was asked for.
    let at = at.or(account.state().map(|state| state.updated_at));
    found(&account, revision, at.unwrap_or_else(|| ledger.now()))
}

/// Money that moves.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MoneyRequest {
    #[schema(value_type = schema::Amount)]
    amount: String,
    /// The account's.
    #[schema(value_type = schema::CurrencyCode)]
    currency: Currency,
    /// What for; up to 1000 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

impl MoneyRequest {
    fn read(self, transaction_id: Uuid) -> Result<MoveMoney, Problem> {
        Ok(MoveMoney {
            amount: amount("amount", &self.amount, self.currency)?,
            currency: self.currency,
            description: self.description.unwrap_or_default(),
            transaction_id,
        })
    }
}

/// Pays cash into an account.
#[utoipa::path(
    post, path = "/v1/accounts/{account_id}/deposits", tag = "accounts",
    operation_id = "deposit",
    request_body = MoneyRequest,
    params(("account_id" = Uuid, Path), ("Idempotency-Key" = Uuid, Header)),
    responses((status = 201, description = "It is paid in", body = DoneView), Rejections)
)]
async fn deposit(command: OnAccount<MoneyRequest>) -> Result<Response, Problem> {
    let read = |body: MoneyRequest, key| body.read(key).map(AccountCommand::Deposit);
    command.execute("deposit", &[], read).await
}

/// Pays cash out of an account.
#[utoipa::path(
    post, path = "/v1/accounts/{account_id}/withdrawals", tag = "accounts",
    operation_id = "withdraw",
    request_body = MoneyRequest,
    params(("account_id" = Uuid, Path), ("Idempotency-Key" = Uuid, Header)),
    responses((status = 201, description = "It is paid out", body = DoneView), Rejections)
)]
async fn withdraw(command: OnAccount<MoneyRequest>) -> Result<Response, Problem> {
    let read = |body: MoneyRequest, key| body.read(key).map(AccountCommand::Withdraw);
    command.execute("withdraw", &[], read).await
}

/// Charges a fee to an account.
#[utoipa::path(
    post, path = "/v1/accounts/{account_id}/fees", tag = "accounts",
    operation_id = "charge_fee",
    request_body = MoneyRequest,
    params(("account_id" = Uuid, Path), ("Idempotency-Key" = Uuid, Header)),
    responses((status = 201, description = "It is charged", body = DoneView), Rejections)
)]
async fn charge_fee(command: OnAccount<MoneyRequest>) -> Result<Response, Problem> {
    let read = |body: MoneyRequest, key| body.read(key).map(AccountCommand::ChargeFee);
    command.execute("charge_fee", &[], read).await
}

/// Why an account is frozen.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FreezeRequest {
    reason: String,
    frozen_by: String,
}

/// Freezes an account: money goes in, but not out.
#[utoipa::path(
    post, path = "/v1/accounts/{account_id}/freeze", tag = "accounts",
    operation_id = "freeze_account",
    request_body = FreezeRequest,
    params(("account_id" = Uuid, Path), ("Idempotency-Key" = Uuid, Header)),
    responses((status = 201, description = "It is frozen", body = DoneView), Rejections)
)]
async fn freeze(command: OnAccount<FreezeRequest>) -> Result<Response, Problem> {
    let read = |FreezeRequest { reason, frozen_by }, transaction_id| {
        Ok(AccountCommand::Freeze(FreezeAccount { reason, frozen_by, transaction_id }))
    };
    command.execute("freeze", &[], read).await
}

/// Who unfreezes an account.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UnfreezeRequest {
    unfrozen_by: String,
}

/// Unfreezes an account.
#[utoipa::path(
    post, path = "/v1/accounts/{account_id}/unfreeze", tag = "accounts",
    operation_id = "unfreeze_account",
    request_body = UnfreezeRequest,
    params(("account_id" = Uuid, Path), ("Idempotency-Key" = Uuid, Header)),
    responses((status = 201, description = "It is active again", body = DoneView), Rejections)
)]
async fn unfreeze(command: OnAccount<UnfreezeRequest>) -> Result<Response, Problem> {
    let read = |UnfreezeRequest { unfrozen_by }, transaction_id| {
        Ok(AccountCommand::Unfreeze(UnfreezeAccount { unfrozen_by, transaction_id }))
    };
    command.execute("unfreeze", &[], read).await
}

/// Why an account is closed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    closed_by: String,
}

/// Closes an account for ever. It must be empty and without holds.
#[utoipa::path(
    post, path = "/v1/accounts/{account_id}/close", tag = "accounts",
    operation_id = "close_account",
    request_body = CloseRequest,
    params(("account_id" = Uuid, Path), ("Idempotency-Key" = Uuid, Header)),
    responses((status = 201, description = "It is closed", body = DoneView), Rejections)
)]
async fn close(command: OnAccount<CloseRequest>) -> Result<Response, Problem> {
    // What comes back of a transfer could not be taken by a closed account. One that begins just now
    // may still slip by: then its saga fails, and a person settles it.
    if command.context.ledger().would_strand(command.account_id).await? {
        let detail = "a transfer from this account is under way; close it when that is over";
        return Err(Problem::new(Kind::Rejected("transfers_under_way"), detail));
    }
    let read = |CloseRequest { reason, closed_by }, transaction_id| {
        let reason = reason.unwrap_or_default();
        Ok(AccountCommand::Close(CloseAccount { reason, closed_by, transaction_id }))
    };
    command.execute("close", &[], read).await
}

/// New limits; what is absent stays.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsRequest {
    /// How far the balance may go below zero; of a credit account, its credit limit.
    #[schema(value_type = Option<schema::Amount>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    overdraft_limit: Option<String>,
    /// How much may leave it on one UTC day.
    #[schema(value_type = Option<schema::Amount>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    daily_withdrawal_limit: Option<String>,
    changed_by: String,
    reason: String,
}

/// Changes an account's limits.
#[utoipa::path(
    put, path = "/v1/accounts/{account_id}/limits", tag = "accounts",
    operation_id = "change_limits",
    request_body = LimitsRequest,
    params(("account_id" = Uuid, Path), ("Idempotency-Key" = Uuid, Header)),
    responses((status = 201, description = "They hold", body = DoneView), Rejections)
)]
async fn change_limits(command: OnAccount<LimitsRequest>) -> Result<Response, Problem> {
    let currency = command.currency().await?;
    let given = |field, text: &Option<String>| amount_if_given(field, text.as_deref(), currency);
    let read = |body: LimitsRequest, transaction_id| {
        Ok(AccountCommand::ChangeLimits(ChangeLimits {
            overdraft_limit: given("overdraft_limit", &body.overdraft_limit)?,
            daily_withdrawal_limit: given("daily_withdrawal_limit", &body.daily_withdrawal_limit)?,
            changed_by: body.changed_by,
            reason: body.reason,
            transaction_id,
        }))
    };
    command.execute("change_limits", &[], read).await
}
