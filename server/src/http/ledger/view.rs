//! What the ledger's API shows of accounts, and how it answers.

use axum::response::{IntoResponse, Response};
use daybook_ledger::account::{AccountState, Flag, Hold};
use daybook_ledger::currency::Currency;
use daybook_ledger::time::rfc3339;
use daybook_model::{Revision, Timestamp};
use http::{HeaderName, HeaderValue, StatusCode, header};
use rust_decimal::Decimal;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::schema;
use crate::http::problem::Problem;
use crate::ledger::Done;

/// Says that an answer is the first one's, because the command had been done before.
pub const REPEATED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Bytes of an answer; longer ones make the buffer grow.
const ANSWER_SIZE_USUAL: usize = 1024;

/// `body` as a JSON answer, written into one buffer.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let mut bytes = Vec::with_capacity(ANSWER_SIZE_USUAL);
    serde_json::to_writer(&mut bytes, body).expect("structs of texts and numbers, into memory");
    (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}

/// An account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Account)]
pub struct AccountView {
    account_id: Uuid,
    #[schema(value_type = schema::AccountTypeName)]
    account_type: &'static str,
    #[schema(value_type = schema::AccountStatusName)]
    status: &'static str,
    #[schema(value_type = schema::CurrencyCode)]
    currency: Currency,
    owner_id: Uuid,
    /// What is in it; below zero if it is overdrawn.
    #[schema(value_type = schema::SignedAmount)]
    balance: Decimal,
    /// What may leave it, as far as money goes: balance, plus overdraft limit, minus held.
    #[schema(value_type = schema::SignedAmount)]
    available: Decimal,
    /// What is reserved.
    #[schema(value_type = schema::Amount)]
    held: Decimal,
    /// How far the balance may go below zero; of a credit account, its credit limit.
    #[schema(value_type = schema::Amount)]
    overdraft_limit: Decimal,
    /// How much may leave it on one UTC day.
    #[schema(value_type = schema::Amount)]
    daily_withdrawal_limit: Decimal,
    /// How much of that is used up on this UTC day.
    #[schema(value_type = schema::Amount)]
    withdrawn_today: Decimal,
    /// Why it is suspect; null if it is not.
    flagged: Option<FlagView>,
    /// Money that is reserved, oldest first.
    holds: Vec<HoldView>,
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    opened_at: Timestamp,
    /// When something last happened to it.
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    updated_at: Timestamp,
    /// The number of its last event.
    revision: u64,
}

/// Why an account is suspect.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Flag)]
pub struct FlagView {
    reason: String,
    flagged_by: String,
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    flagged_at: Timestamp,
}

/// Reserved money.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Hold)]
pub struct HoldView {
    hold_id: Uuid,
    /// What it reserved at first.
    #[schema(value_type = schema::Amount)]
    amount: Decimal,
    /// What it reserves still.
    #[schema(value_type = schema::Amount)]
    remaining: Decimal,
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    placed_at: Timestamp,
    /// When it ends by itself; null if it does not.
    #[serde(with = "rfc3339::option")]
    #[schema(value_type = Option<schema::Time>)]
    expires_at: Option<Timestamp>,
}

impl AccountView {
    /// The account after its event of `revision`, as of `at`: what has expired by then is over.
    #[must_use]
    pub fn new(state: &AccountState, revision: Revision, at: Timestamp) -> AccountView {
        // An account's time never goes backwards, also if the clock did.
        let at = at.max(state.updated_at);
        AccountView {
            account_id: state.account_id,
            account_type: state.account_type.as_str(),
            status: state.status.as_str(),
            currency: state.currency,
            owner_id: state.owner_id,
            balance: state.balance,
            available: state.available(at),
            held: state.held(at),
            overdraft_limit: state.overdraft_limit,
            daily_withdrawal_limit: state.daily_withdrawal_limit,
            withdrawn_today: state.withdrawn_today(at),
            flagged: state.flag.as_ref().map(FlagView::new),
            holds: state.holds(at).map(HoldView::new).collect(),
            opened_at: state.opened_at,
            updated_at: state.updated_at,
            revision: revision.0,
        }
    }
}

impl FlagView {
    fn new(flag: &Flag) -> FlagView {
        FlagView {
            reason: flag.reason.clone(),
            flagged_by: flag.flagged_by.clone(),
            flagged_at: flag.flagged_at,
        }
    }
}

impl HoldView {
    fn new(hold: &Hold) -> HoldView {
        HoldView {
            hold_id: hold.hold_id,
            amount: hold.amount,
            remaining: hold.remaining,
            placed_at: hold.placed_at,
            expires_at: hold.expires_at,
        }
    }
}

/// The account after a command, as of the command's own time: a repetition shows the same.
///
/// # Errors
/// [`Problem`] if nobody opened it, which a command that was done rules out.
pub fn account_after(done: &Done) -> Result<AccountView, Problem> {
    let state = done.account.state().ok_or_else(Problem::account_not_found)?;
    Ok(AccountView::new(state, done.revision, state.updated_at))
}

/// `response`, marked if its command had been done before.
#[must_use]
pub fn marked(mut response: Response, repeated: bool) -> Response {
    if repeated {
        response.headers_mut().insert(REPEATED, HeaderValue::from_static("true"));
    }
    response
}
