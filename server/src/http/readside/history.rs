//! Accounts' histories where only the tables are. A node answers the same from the accounts' own
//! streams (`http/ledger`).

use axum::extract::FromRef;
use axum::response::Response;
use daybook_ledger::time::rfc3339;
use daybook_model::Timestamp;
use daybook_projections::query::Order;
use daybook_projections::views::history::{STATEMENTS, TRANSACTIONS, statement, transaction};
use daybook_projections::views::read;
use daybook_projections::{Query, Table, Value};
use http::StatusCode;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::answer::{AtLeast, Late, Models, Tables, as_of, bad_row, limit, page};
use super::cursor;
use crate::http::ledger::request::InAccount;
use crate::http::ledger::schema::{self, Refusals};
use crate::http::ledger::view::json;
use crate::http::problem::Problem;
use crate::http::query::{Params, parsed};

/// The routes of this file.
pub fn routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Tables: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(transactions)).routes(routes!(statements))
}

/// Which part of an account's history.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageParams {
    /// The `next` of the page before.
    cursor: Option<String>,
    /// How many, up to 1000; 100 if nothing is said.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    limit: Option<u64>,
    /// What the answer must reflect at least: the Daybook-Position of a write's answer.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    min_position: Option<u64>,
}

impl PageParams {
    fn query(&self, table: &'static Table, account: Uuid) -> Result<Query, Problem> {
        let cursor = self.cursor.as_deref();
        let after = cursor.map(|text| cursor::decode(text, table.name, table, None)).transpose()?;
        // A cursor of one account does not lead into another.
        let own = |place: &Vec<Value>| place.first() == Some(&Value::Uuid(account));
        if after.as_ref().is_some_and(|place| !own(place)) {
            return Err(Problem::field("cursor", "it is of another account"));
        }
        Ok(Query {
            projection: "history",
            table,
            index: None,
            prefix: vec![account.into()],
            filters: Vec::new(),
            order: Order::Ascending,
            after,
            limit: limit(self.limit)?,
        })
    }
}

/// One thing that happened to an account.
#[derive(Debug, Serialize, ToSchema)]
pub struct TransactionEntry<'a> {
    /// Its number in the account's history.
    revision: i64,
    /// What happened: MoneyDeposited, TransferDebited …
    r#type: &'a str,
    /// What it did to the balance; null if no money moved.
    #[schema(value_type = Option<schema::SignedAmount>)]
    amount: Option<Decimal>,
    #[schema(value_type = Option<schema::CurrencyCode>)]
    currency: Option<&'a str>,
    /// The other leg: cash, clearing, fees or fx_position; null if no money moved.
    contra: Option<&'a str>,
    /// The balance after it; null for what never moves money.
    #[schema(value_type = Option<schema::SignedAmount>)]
    balance: Option<Decimal>,
    /// What for, or why; may be empty.
    description: &'a str,
    transaction_id: Option<Uuid>,
    transfer_id: Option<Uuid>,
    counterparty_id: Option<Uuid>,
    hold_id: Option<Uuid>,
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    occurred_at: Timestamp,
    /// Its position in the log.
    position: i64,
}

impl<'a> TransactionEntry<'a> {
    fn of(row: &'a [Value]) -> Option<TransactionEntry<'a>> {
        Some(TransactionEntry {
            revision: read::integer(row, transaction::REVISION)?,
            r#type: read::text(row, transaction::EVENT_TYPE)?,
            amount: read::decimal(row, transaction::AMOUNT),
            currency: read::text(row, transaction::CURRENCY),
            contra: read::text(row, transaction::CONTRA),
            balance: read::decimal(row, transaction::BALANCE),
            description: read::text(row, transaction::DESCRIPTION)?,
            transaction_id: read::uuid(row, transaction::TRANSACTION_ID),
            transfer_id: read::uuid(row, transaction::TRANSFER_ID),
            counterparty_id: read::uuid(row, transaction::COUNTERPARTY_ID),
            hold_id: read::uuid(row, transaction::HOLD_ID),
            occurred_at: read::time(row, transaction::OCCURRED_AT)?,
            position: read::integer(row, transaction::POSITION)?,
        })
    }
}

/// A part of an account's history.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TransactionEntries)]
pub struct TransactionsView<'a> {
    transactions: Vec<TransactionEntry<'a>>,
    /// Give it as `cursor` to go on; null at the end.
    next: Option<String>,
    /// The position in the log that this reflects; null before the first event.
    as_of: Option<u64>,
}

/// What happened to an account, from its opening on; nothing of one that nobody opened.
#[utoipa::path(
    get, path = "/v1/accounts/{account_id}/transactions", tag = "accounts",
    operation_id = "list_transaction_entries",
    params(("account_id" = Uuid, Path), PageParams),
    responses((status = 200, description = "A page", body = TransactionsView), Refusals, Late)
)]
async fn transactions(
    Models(models): Models,
    InAccount(account): InAccount,
    at_least: AtLeast,
    Params(params): Params<PageParams>,
) -> Result<Response, Problem> {
    let query = params.query(TRANSACTIONS, account)?;
    let page = page(&models, &query, at_least.or(params.min_position)).await?;
    let entries = page.rows.iter().map(|row| TransactionEntry::of(row).ok_or_else(bad_row));
    let view = TransactionsView {
        transactions: entries.collect::<Result<_, _>>()?,
        next: page.next.as_ref().map(|place| cursor::encode(TRANSACTIONS.name, place)),
        as_of: as_of(&page),
    };
    Ok(json(StatusCode::OK, &view))
}

/// What a month did to an account.
#[derive(Debug, Serialize, ToSchema)]
pub struct StatementEntry<'a> {
    /// The UTC month, as 2026-03.
    month: &'a str,
    #[schema(value_type = Option<schema::CurrencyCode>)]
    currency: Option<&'a str>,
    /// Null if no money moved: then it is that of the month before.
    #[schema(value_type = Option<schema::SignedAmount>)]
    opening_balance: Option<Decimal>,
    #[schema(value_type = Option<schema::SignedAmount>)]
    closing_balance: Option<Decimal>,
    /// How much came in.
    #[schema(value_type = Option<schema::Amount>)]
    credits: Option<Decimal>,
    /// How much went out.
    #[schema(value_type = Option<schema::Amount>)]
    debits: Option<Decimal>,
    /// Events that moved money.
    movements: i64,
    /// Events.
    events: i64,
    /// The numbers of the first and the last of them in the account's history.
    first_revision: i64,
    last_revision: i64,
}

impl<'a> StatementEntry<'a> {
    fn of(row: &'a [Value]) -> Option<StatementEntry<'a>> {
        Some(StatementEntry {
            month: read::text(row, statement::MONTH)?,
            currency: read::text(row, statement::CURRENCY),
            opening_balance: read::decimal(row, statement::OPENING_BALANCE),
            closing_balance: read::decimal(row, statement::CLOSING_BALANCE),
            credits: read::decimal(row, statement::CREDITS),
            debits: read::decimal(row, statement::DEBITS),
            movements: read::integer(row, statement::MOVEMENTS)?,
            events: read::integer(row, statement::EVENTS)?,
            first_revision: read::integer(row, statement::FIRST_REVISION)?,
            last_revision: read::integer(row, statement::LAST_REVISION)?,
        })
    }
}

/// An account's statements.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StatementEntries)]
pub struct StatementsView<'a> {
    statements: Vec<StatementEntry<'a>>,
    /// Give it as `cursor` to go on; null at the end.
    next: Option<String>,
    /// The position in the log that this reflects; null before the first event.
    as_of: Option<u64>,
}

/// The months in which something happened to an account, with their balances.
#[utoipa::path(
    get, path = "/v1/accounts/{account_id}/statements", tag = "accounts",
    operation_id = "list_statements",
    params(("account_id" = Uuid, Path), PageParams),
    responses((status = 200, description = "A page", body = StatementsView), Refusals, Late)
)]
async fn statements(
    Models(models): Models,
    InAccount(account): InAccount,
    at_least: AtLeast,
    Params(params): Params<PageParams>,
) -> Result<Response, Problem> {
    let query = params.query(STATEMENTS, account)?;
    let page = page(&models, &query, at_least.or(params.min_position)).await?;
    let entries = page.rows.iter().map(|row| StatementEntry::of(row).ok_or_else(bad_row));
    let view = StatementsView {
        statements: entries.collect::<Result<_, _>>()?,
        next: page.next.as_ref().map(|place| cursor::encode(STATEMENTS.name, place)),
        as_of: as_of(&page),
    };
    Ok(json(StatusCode::OK, &view))
}
