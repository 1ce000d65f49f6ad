//! Accounts' histories where only the tables are. A node answers the same, in the same words, from
//! the accounts' own streams (`http/ledger/history`).

use axum::extract::FromRef;
use axum::response::Response;
use daybook_ledger::currency::Currency;
use daybook_ledger::money::major;
use daybook_projections::models::ReadModels;
use daybook_projections::query::Order;
use daybook_projections::views::accounts::{ACCOUNTS, account};
use daybook_projections::views::history::{STATEMENTS, TRANSACTIONS, statement, transaction};
use daybook_projections::views::read;
use daybook_projections::{Backend as _, Page, Query, QueryError, Table, Value};
use http::StatusCode;
use rust_decimal::Decimal;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;
use uuid::Uuid;

use super::answer::{AtLeast, Late, Models, Tables, as_of, entries, next, page};
use super::cursor;
use crate::http::ledger::history::{PageParams, TransactionView, TransactionsView, bad_cursor};
use crate::http::ledger::request::InAccount;
use crate::http::ledger::schema::{self, Refusals};
use crate::http::ledger::view::json;
use crate::http::page::limit;
use crate::http::problem::Problem;
use crate::http::query::Params;
use crate::security::gate::Described;
use crate::security::rights::Right;

/// The projection of these tables.
const HISTORY: &str = "history";
/// The projection that knows every account.
const ACCOUNTS_VIEW: &str = "accounts";

/// The routes of this file.
pub fn routes<S>() -> Described<S>
where
    S: Clone + Send + Sync + 'static,
    Tables: FromRef<S>,
{
    Described::new()
        .routes(Right::ReadLedger, routes!(transactions))
        .routes(Right::ReadLedger, routes!(statements))
}

/// A query of what a table says of an account, after a place in the order of its key.
fn of_account(
    (projection, table): (&'static str, &'static Table),
    account: Uuid,
    after: Option<Vec<Value>>,
    rows: usize,
) -> Query {
    Query {
        projection,
        table,
        index: None,
        prefix: vec![account.into()],
        filters: Vec::new(),
        order: Order::Ascending,
        after,
        limit: rows,
    }
}

/// A row of an account of `currency`, in the words of a node.
fn transaction_of(row: &[Value], currency: Currency) -> Option<TransactionView> {
    let number = read::integer(row, transaction::REVISION)?;
    Some(TransactionView {
        revision: u64::try_from(number).ok()?,
        r#type: read::text(row, transaction::EVENT_TYPE)?.to_owned().into(),
        amount: read::decimal(row, transaction::AMOUNT).unwrap_or_else(|| major(0, currency)),
        currency,
        contra: read::text(row, transaction::CONTRA).map(|text| text.to_owned().into()),
        balance: read::decimal(row, transaction::BALANCE),
        description: read::text(row, transaction::DESCRIPTION)?.to_owned(),
        transaction_id: read::uuid(row, transaction::TRANSACTION_ID),
        transfer_id: read::uuid(row, transaction::TRANSFER_ID),
        counterparty_id: read::uuid(row, transaction::COUNTERPARTY_ID),
        hold_id: read::uuid(row, transaction::HOLD_ID),
        occurred_at: read::time(row, transaction::OCCURRED_AT)?,
    })
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
    Models(models): Models,
    InAccount(account): InAccount,
    at_least: AtLeast,
    Params(params): Params<PageParams>,
) -> Result<Response, Problem> {
    let rows = limit(params.limit)?;
    // A cursor that is no number is one beyond all.
    let first = params.first().and_then(|first| i64::try_from(first.0).ok()).unwrap_or(i64::MAX);
    let after = first.checked_sub(1).filter(|before| *before >= 0);
    let after = after.map(|before| vec![account.into(), before.into()]);
    let query = of_account((HISTORY, TRANSACTIONS), account, after, rows);
    let found = page(&models, &query, at_least.or(params.min_position)).await?;
    if found.rows.is_empty() {
        let any = of_account((HISTORY, TRANSACTIONS), account, None, 1);
        let opened = first > 0 && !page(&models, &any, None).await?.rows.is_empty();
        return Err(if opened { bad_cursor() } else { Problem::account_not_found() });
    }
    let currency = currency_of(&models, account, &found).await?;
    let view = TransactionsView {
        transactions: entries(&found, |row| transaction_of(row, currency))?,
        next: found.next.as_ref().and_then(|place| match place.as_slice() {
            [_, Value::Integer(last)] => Some((last + 1).to_string()),
            _ => None,
        }),
        as_of: as_of(&found),
    };
    Ok(json(StatusCode::OK, &view))
}

/// What all amounts of an account are counted in. Its transactions say so only if money moved; the
/// view of accounts always does, and it never changes.
async fn currency_of(models: &ReadModels, account: Uuid, page: &Page) -> Result<Currency, Problem> {
    let code = |row: &[Value], column| read::text(row, column).and_then(|code| code.parse().ok());
    if let Some(known) = page.rows.iter().find_map(|row| code(row, transaction::CURRENCY)) {
        return Ok(known);
    }
    let query = of_account((ACCOUNTS_VIEW, ACCOUNTS), account, None, 1);
    let found = models.query(&query).await?;
    let known = found.rows.iter().find_map(|row| code(row, account::CURRENCY));
    known.ok_or_else(|| {
        let reason = format!("it does not know account {account} yet");
        QueryError::NotReady { projection: ACCOUNTS_VIEW.to_owned(), reason }.into()
    })
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
    let cursor = params.cursor.as_deref();
    let after = cursor.map(|text| cursor::decode(text, STATEMENTS.name, STATEMENTS, None));
    let after = after.transpose()?;
    // A cursor of one account does not lead into another.
    let own = |place: &Vec<Value>| place.first() == Some(&Value::Uuid(account));
    if after.as_ref().is_some_and(|place| !own(place)) {
        return Err(Problem::field("cursor", "it is of another account"));
    }
    let query = of_account((HISTORY, STATEMENTS), account, after, limit(params.limit)?);
    let page = page(&models, &query, at_least.or(params.min_position)).await?;
    let view = StatementsView {
        statements: entries(&page, StatementEntry::of)?,
        next: next(STATEMENTS.name, &page),
        as_of: as_of(&page),
    };
    Ok(json(StatusCode::OK, &view))
}
