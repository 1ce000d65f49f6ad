//! Lists of transfers: by state, period and account.
//!
//! ```text
//!   PostgreSQL   a table of all transfers; every question has its index
//!   else         the store's index: the events that brought transfers to a state, in the order of
//!                the log; a transfer's row is folded from its own stream when it is shown.
//!                Those that are not over: the table of sagas
//! ```
//!
//! Both answer alike. With a state, order and period are those of when the transfer came to it;
//! without, of when it began; in either case the time of the commit. An account is the sender's or the
//! receiver's: the store's index knows no accounts of transfers, so it looks through a period for
//! them, some thousands at a time; a page may then be short, or empty, and have a `next`. A cursor
//! is of one direction.

mod index;
mod table;

use axum::extract::{FromRef, State};
use axum::response::Response;
use daybook_ledger::time::rfc3339;
use daybook_model::{Position, Timestamp};
use daybook_projections::models::ReadModels;
use daybook_projections::views::read;
use daybook_projections::views::transfers::transfer;
use daybook_projections::{Page, Row, Value};
use daybook_store::Direction;
use http::StatusCode;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;
use uuid::Uuid;

use super::answer::{AtLeast, Late, Models, Tables, bad_row, ending_at};
use crate::http::ledger::request::{time, uuid};
use crate::http::ledger::schema::{self, Refusals};
use crate::http::ledger::view::json;
use crate::http::page::limit;
use crate::http::problem::Problem;
use crate::http::query::{Params, Way, parsed};
use crate::node::Context;
use crate::security::gate::Described;
use crate::security::rights::Right;

/// The routes of this file, in a node.
pub fn routes() -> Described<Context> {
    Described::new().routes(Right::ReadLedger, routes!(list))
}

/// The routes of this file, where only the tables are.
pub fn table_routes<S>() -> Described<S>
where
    S: Clone + Send + Sync + 'static,
    Tables: FromRef<S>,
{
    Described::new().routes(Right::ReadLedger, routes!(list_table))
}

/// Which transfers. All that is given must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// running, completed, compensating, compensated, failed or abandoned.
    state: Option<String>,
    /// Who pays or is paid.
    account: Option<String>,
    /// At this time or later.
    from: Option<String>,
    /// Before this time.
    to: Option<String>,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// forwards, the oldest first; or backwards.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>)]
    direction: Option<Way>,
    /// How many, up to 1000; 100 if nothing is said.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    limit: Option<u64>,
    /// What the answer must reflect at least: the Daybook-Position of a write's answer.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<u64>)]
    min_position: Option<u64>,
}

/// A transfer, as far as `as_of`.
#[derive(Debug, Serialize, ToSchema)]
pub struct TransferEntry<'a> {
    transfer_id: Uuid,
    #[schema(value_type = schema::SagaStateName)]
    state: &'a str,
    /// When it came to that state.
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    since: Timestamp,
    /// Why it is, or was, undone, or failed.
    reason: Option<&'a str>,
    sender_account_id: Uuid,
    receiver_account_id: Uuid,
    /// What the sender pays.
    #[schema(value_type = schema::Amount)]
    amount: Decimal,
    #[schema(value_type = schema::CurrencyCode)]
    currency: &'a str,
    /// What the receiver gets.
    #[schema(value_type = schema::Amount)]
    credited_amount: Decimal,
    #[schema(value_type = schema::CurrencyCode)]
    credited_currency: &'a str,
    description: &'a str,
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    initiated_at: Timestamp,
}

impl<'a> TransferEntry<'a> {
    fn of(row: &'a [Value]) -> Option<TransferEntry<'a>> {
        Some(TransferEntry {
            transfer_id: read::uuid(row, transfer::TRANSFER_ID)?,
            state: read::text(row, transfer::STATE)?,
            since: read::time(row, transfer::SINCE)?,
            reason: read::text(row, transfer::REASON),
            sender_account_id: read::uuid(row, transfer::SENDER)?,
            receiver_account_id: read::uuid(row, transfer::RECEIVER)?,
            amount: read::decimal(row, transfer::AMOUNT)?,
            currency: read::text(row, transfer::CURRENCY)?,
            credited_amount: read::decimal(row, transfer::CREDITED_AMOUNT)?,
            credited_currency: read::text(row, transfer::CREDITED_CURRENCY)?,
            description: read::text(row, transfer::DESCRIPTION)?,
            initiated_at: read::time(row, transfer::INITIATED_AT)?,
        })
    }
}

/// Some transfers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transfers)]
pub struct TransfersView<'a> {
    transfers: Vec<TransferEntry<'a>>,
    /// Give it as `cursor` to go on; null at the end. A page with few or no transfers is not the
    /// last one if it has it.
    next: Option<String>,
    /// The position in the log that this reflects; null before the first event.
    as_of: Option<u64>,
}

/// What a page is made of, wherever it is from.
struct Found {
    rows: Vec<Row>,
    next: Option<String>,
    as_of: Option<u64>,
}

impl Found {
    fn answer(&self) -> Result<Response, Problem> {
        let transfers = self.rows.iter().map(|row| TransferEntry::of(row).ok_or_else(bad_row));
        let transfers = transfers.collect::<Result<_, _>>()?;
        let view = TransfersView { transfers, next: self.next.clone(), as_of: self.as_of };
        Ok(json(StatusCode::OK, &view))
    }
}

/// Transfers, oldest first unless `direction` says otherwise: with a state, by when they came to it;
/// without, by when they began.
#[utoipa::path(
    get, path = "/v1/transfers", tag = "transfers",
    operation_id = "list_transfers",
    params(ListParams, ("Daybook-Min-Position" = Option<u64>, Header,
        description = "As min_position")),
    responses((status = 200, description = "A page", body = TransfersView), Refusals, Late)
)]
async fn list(
    State(context): State<Context>,
    at_least: AtLeast,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    let asked = params.asked(at_least)?;
    let Tables(models) = Tables::from_ref(&context);
    let found = match models {
        Some(models @ ReadModels::Postgres(_)) => asked.in_table(&models).await?,
        models => asked.in_store(&context.own_door(), models.as_ref()).await?,
    };
    found.answer()
}

/// Transfers, oldest first unless `direction` says otherwise: with a state, by when they came to it;
/// without, by when they began.
#[utoipa::path(
    get, path = "/v1/transfers", tag = "transfers",
    operation_id = "list_transfers",
    params(ListParams, ("Daybook-Min-Position" = Option<u64>, Header,
        description = "As min_position")),
    responses((status = 200, description = "A page", body = TransfersView), Refusals, Late)
)]
async fn list_table(
    Models(models): Models,
    at_least: AtLeast,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    params.asked(at_least)?.in_table(&models).await?.answer()
}

/// What is asked for, checked.
struct Asked {
    state: Option<&'static str>,
    account: Option<Uuid>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    cursor: Option<String>,
    direction: Direction,
    limit: usize,
    at_least: Option<Position>,
}

impl Asked {
    /// What cursors call this order, read this way.
    fn order(&self, name: &str) -> String {
        match self.direction {
            Direction::Forwards => name.to_owned(),
            Direction::Backwards => format!("{name}, backwards"),
        }
    }

    /// `page` as the last one if all that follows is out of the period: column `at` of its order is
    /// a time, and those before it are the same in all rows.
    fn ended(&self, mut page: Page, at: usize) -> Page {
        let Some(from) = self.from.filter(|_| self.direction == Direction::Backwards) else {
            let to = self.to.filter(|_| self.direction == Direction::Forwards);
            return ending_at(page, at, to);
        };
        page.next = page.next.filter(|place| place[at] >= Value::Time(from));
        page
    }
}

impl ListParams {
    fn asked(self, at_least: AtLeast) -> Result<Asked, Problem> {
        let at = |field, text: Option<&str>| text.map(|text| time(field, text)).transpose();
        Ok(Asked {
            state: self.state.as_deref().map(state).transpose()?,
            account: self.account.as_deref().map(|text| uuid("account", text)).transpose()?,
            from: at("from", self.from.as_deref())?,
            to: at("to", self.to.as_deref())?,
            limit: limit(self.limit)?,
            at_least: at_least.or(self.min_position),
            cursor: self.cursor,
            direction: self.direction.map_or(Direction::Forwards, |way| way.0),
        })
    }
}

fn state(text: &str) -> Result<&'static str, Problem> {
    let states = ["running", "completed", "compensating", "compensated", "failed", "abandoned"];
    let found = states.into_iter().find(|state| *state == text);
    found.ok_or_else(|| Problem::field("state", format!("give one of {}", states.join(", "))))
}
