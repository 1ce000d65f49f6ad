//! What happened to an account, page by page. A query front answers the same, in the same words,
//! from its tables (`http/readside/history`).

use std::borrow::Cow;

use axum::extract::State;
use axum::response::Response;
use daybook_ledger::account::account_stream;
use daybook_ledger::currency::Currency;
use daybook_ledger::money::major;
use daybook_ledger::time::rfc3339;
use daybook_model::{Revision, Timestamp};
use http::StatusCode;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;
use uuid::Uuid;

use super::request::InAccount;
use super::schema::{self, Refusals};
use super::view::json;
use crate::http::page::{LIMIT_MAX, limit};
use crate::http::problem::Problem;
use crate::http::query::{Params, parsed};
use crate::http::readside::answer::{AtLeast, Late};
use crate::http::readside::log::log_at;
use crate::ledger::history::{Entry, PAGE_LEN_MAX, Walk};
use crate::node::Context;
use crate::security::gate::Described;
use crate::security::rights::Right;

const _: () = assert!(LIMIT_MAX as usize <= PAGE_LEN_MAX);

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new().routes(Right::ReadLedger, routes!(transactions))
}

/// One thing that happened to an account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transaction)]
pub struct TransactionView {
    /// Its number in the account's history.
    pub(in crate::http) revision: u64,
    /// What happened: MoneyDeposited, TransferDebited …
    pub(in crate::http) r#type: Cow<'static, str>,
    /// What it did to the balance; zero if no money moved.
    #[schema(value_type = schema::SignedAmount)]
    pub(in crate::http) amount: Decimal,
    #[schema(value_type = schema::CurrencyCode)]
    pub(in crate::http) currency: Currency,
    /// The other leg: cash, clearing, fees or fx_position; null if no money moved.
    pub(in crate::http) contra: Option<Cow<'static, str>>,
    /// The balance after it; null for what never moves money, and leaves it as it was.
    #[schema(value_type = Option<schema::SignedAmount>)]
    pub(in crate::http) balance: Option<Decimal>,
    /// What for, or why; may be empty.
    pub(in crate::http) description: String,
    /// The id of the command that did it; null for what happened by itself.
    pub(in crate::http) transaction_id: Option<Uuid>,
    /// The transfer it is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::http) transfer_id: Option<Uuid>,
    /// The account at the transfer's other end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::http) counterparty_id: Option<Uuid>,
    /// The hold it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::http) hold_id: Option<Uuid>,
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    pub(in crate::http) occurred_at: Timestamp,
}

impl TransactionView {
    /// What `entry` did to an account of `currency`.
    #[must_use]
    pub fn new(entry: &Entry, currency: Currency) -> TransactionView {
        let about = entry.event.about();
        let moves = entry.event.legs().is_some();
        TransactionView {
            revision: entry.revision.0,
            r#type: entry.event.event_type().into(),
            amount: if moves { entry.change() } else { major(0, currency) },
            currency,
            contra: about.contra.map(Cow::from),
            balance: entry.event.balance(),
            transaction_id: entry.event.transaction_id(),
            transfer_id: about.transfer_id,
            counterparty_id: about.counterparty_id,
            hold_id: about.hold_id,
            occurred_at: entry.event.occurred_at(),
            description: about.text.to_owned(),
        }
    }
}

/// Which part of an account's history.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageParams {
    /// The `next` of the page before.
    pub(in crate::http) cursor: Option<String>,
    /// How many, up to 1000; 100 if nothing is said.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    pub(in crate::http) limit: Option<u64>,
    /// What the answer must reflect at least: the Daybook-Position of a write's answer.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    pub(in crate::http) min_position: Option<u64>,
}

impl PageParams {
    /// Where the page begins, in numbers of the account's history; none if the cursor is no such.
    pub(in crate::http) fn first(&self) -> Option<Revision> {
        match &self.cursor {
            None => Some(Revision::FIRST),
            Some(cursor) => cursor.parse().ok().map(Revision),
        }
    }
}

/// A cursor that no page of the account has given.
pub(in crate::http) fn bad_cursor() -> Problem {
    Problem::field("cursor", "give the next of the page before")
}

/// A part of an account's history.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transactions)]
pub struct TransactionsView {
    pub(in crate::http) transactions: Vec<TransactionView>,
    /// Give it as `cursor` to go on; null at the end.
    pub(in crate::http) next: Option<String>,
    /// The position in the log that this reflects; null before the first event.
    pub(in crate::http) as_of: Option<u64>,
}

/// What happened to an account, from its opening on.
#[utoipa::path(
    get, path = "/v1/accounts/{account_id}/transactions", tag = "accounts",
    operation_id = "list_transactions",
    params(("account_id" = Uuid, Path), PageParams, ("Daybook-Min-Position" = Option<u64>, Header,
        description = "As min_position")),
    responses((status = 200, description = "A page", body = TransactionsView), Refusals, Late)
)]
async fn transactions(
    State(context): State<Context>,
    InAccount(id): InAccount,
    at_least: AtLeast,
    Params(params): Params<PageParams>,
) -> Result<Response, Problem> {
    let limit = limit(params.limit)?;
    let as_of = log_at(&context.own_door(), at_least.or(params.min_position)).await?;
    let ledger = context.ledger();
    let (account, last) = ledger.account(id).await?.ok_or_else(Problem::account_not_found)?;
    let currency = account.state().ok_or_else(Problem::account_not_found)?.currency;
    let from = params.first().filter(|from| *from <= last).ok_or_else(bad_cursor)?;
    let mut walk = Walk::new(account_stream(id), from, last.next());
    let entries = walk.page(ledger, limit).await?;
    let view = TransactionsView {
        transactions: entries.iter().map(|e| TransactionView::new(e, currency)).collect(),
        next: walk.next_revision().map(|revision| revision.to_string()),
        as_of,
    };
    Ok(json(StatusCode::OK, &view))
}
