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
//! them, some thousands at a time; a page may then be short, or empty, and have a `next`.

use axum::extract::{FromRef, State};
use axum::response::Response;
use daybook_ledger::time::rfc3339;
use daybook_ledger::transfer::{transfer_of_stream, transfer_stream};
use daybook_model::{Position, Timestamp};
use daybook_projections::models::ReadModels;
use daybook_projections::query::{Comparison, Filter, Order};
use daybook_projections::views::payments::saga;
use daybook_projections::views::read;
use daybook_projections::views::transfers::{
    BY_RECEIVER, BY_SENDER, BY_STATE, BY_TIME, TRANSFERS, take_in, transfer,
};
use daybook_projections::{Index, Query, Row, Value};
use daybook_store::{Direction, From, IndexKey, ReadStream};
use http::StatusCode;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::answer::{self, AtLeast, Models, Tables, as_of, bad_row, limit, models_are_off, page};
use super::cursor;
use super::payments::open_sagas;
use crate::http::ledger::request::{time, uuid};
use crate::http::ledger::schema::{self, Refusals};
use crate::http::ledger::view::json;
use crate::http::problem::{Kind, Problem};
use crate::http::query::{Params, parsed};
use crate::node::Context;
use crate::node::door::Door;
use crate::readside::postings::first_at;

/// Events of the index that are looked at for one page.
const EXAMINED_MAX: u64 = 2000;
/// What a cursor into the store's index calls its order.
const POSTINGS: &str = "postings";

/// The routes of this file, in a node.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(list))
}

/// The routes of this file, where only the tables are.
pub fn table_routes<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Tables: FromRef<S>,
{
    OpenApiRouter::new().routes(routes!(list_table))
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

/// Transfers, oldest first: with a state, by when they came to it; without, by when they began.
#[utoipa::path(
    get, path = "/v1/transfers", tag = "transfers",
    operation_id = "list_transfers",
    params(ListParams, ("Daybook-Min-Position" = Option<u64>, Header,
        description = "As min_position")),
    responses((status = 200, description = "A page", body = TransfersView), Refusals)
)]
async fn list(
    State(context): State<Context>,
    at_least: AtLeast,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    let asked = params.asked(at_least)?;
    let Tables(models) = Tables::from_ref(&context);
    let found = match models {
        Some(models @ ReadModels::Postgres(_)) => asked.from_table(&models).await?,
        models => asked.from_store(context.store(), models.as_ref()).await?,
    };
    found.answer()
}

/// Transfers, oldest first: with a state, by when they came to it; without, by when they began.
#[utoipa::path(
    get, path = "/v1/transfers", tag = "transfers",
    operation_id = "list_transfers",
    params(ListParams, ("Daybook-Min-Position" = Option<u64>, Header,
        description = "As min_position")),
    responses((status = 200, description = "A page", body = TransfersView), Refusals)
)]
async fn list_table(
    Models(models): Models,
    at_least: AtLeast,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    params.asked(at_least)?.from_table(&models).await?.answer()
}

/// What is asked for, checked.
struct Asked {
    state: Option<&'static str>,
    account: Option<Uuid>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    cursor: Option<String>,
    limit: usize,
    at_least: Option<Position>,
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
        })
    }
}

fn state(text: &str) -> Result<&'static str, Problem> {
    let states = ["running", "completed", "compensating", "compensated", "failed", "abandoned"];
    let found = states.into_iter().find(|state| *state == text);
    found.ok_or_else(|| Problem::field("state", format!("give one of {}", states.join(", "))))
}

/// The event that brings a transfer to a state for good, or to its beginning; none of a state that
/// it leaves again.
fn event_of(state: Option<&str>) -> Option<&'static str> {
    match state {
        None => Some("PaymentInitiated"),
        Some("completed") => Some("PaymentCompleted"),
        Some("compensated") => Some("PaymentRejected"),
        Some("abandoned") => Some("PaymentAbandoned"),
        Some(_) => None,
    }
}

impl Asked {
    /// From the table of all transfers.
    async fn from_table(&self, models: &ReadModels) -> Result<Found, Problem> {
        let Some(account) = self.account else {
            let (index, prefix) = match self.state {
                Some(state) => (&BY_STATE, vec![Value::from(state)]),
                None => (&BY_TIME, Vec::new()),
            };
            let query = self.query(index, prefix)?;
            let page = page(models, &query, self.at_least).await?;
            let next = page.next.as_ref().map(|place| cursor::encode(index.name, place));
            let as_of = as_of(&page);
            return Ok(Found { rows: page.rows, next, as_of });
        };
        // Two orders of one shape, merged: who pays, and who is paid.
        let mut pages = Vec::with_capacity(2);
        for index in [&BY_SENDER, &BY_RECEIVER] {
            let query = self.query(index, vec![account.into()])?;
            pages.push(page(models, &query, self.at_least).await?);
        }
        let as_of = pages.iter().map(as_of).min().flatten();
        let place = |row: &Row| {
            vec![
                account.into(),
                row[transfer::INITIATED_AT].clone(),
                row[transfer::TRANSFER_ID].clone(),
            ]
        };
        // What lies beyond the end of either page is not known to be next.
        let end = pages.iter().filter_map(|page| page.next.clone()).min();
        let rows = pages.into_iter().flat_map(|page| page.rows);
        let mut rows: Vec<(Vec<Value>, Row)> = rows.map(|row| (place(&row), row)).collect();
        rows.sort();
        rows.dedup_by(|a, b| a.0 == b.0);
        let known = |(place, _): &(Vec<Value>, Row)| end.as_ref().is_none_or(|end| place <= end);
        rows.retain(known);
        let cut = rows.len() > self.limit;
        rows.truncate(self.limit);
        let last = rows.last().map(|(place, _)| place.clone());
        let next = if cut { last } else { end };
        let next = next.map(|place| cursor::encode("account", &place));
        Ok(Found { rows: rows.into_iter().map(|(_, row)| row).collect(), next, as_of })
    }

    fn query(&self, index: &'static Index, prefix: Vec<Value>) -> Result<Query, Problem> {
        let by_account = self.account.is_some();
        let time_column = index.columns[prefix.len()];
        let compare = |column, is, value| Filter { column, is, value };
        let mut filters = Vec::new();
        if by_account && let Some(state) = self.state {
            filters.push(compare(transfer::STATE, Comparison::Equal, state.into()));
        }
        if let Some(to) = self.to {
            filters.push(compare(time_column, Comparison::Below, to.into()));
        }
        let order = if by_account { "account" } else { index.name };
        let after = self.cursor.as_deref();
        let after = after.map(|text| cursor::decode(text, order, TRANSFERS, Some(index)));
        let after = match (after.transpose()?, self.from) {
            (Some(place), _) => Some(place),
            (None, None) => None,
            (None, Some(from)) => {
                // Before all of that time: no transfer has this id.
                let mut place = prefix.clone();
                place.extend([from.into(), Uuid::nil().into()]);
                Some(place)
            }
        };
        Ok(Query {
            projection: "transfers",
            table: TRANSFERS,
            index: Some(index),
            prefix,
            filters,
            order: Order::Ascending,
            after,
            limit: self.limit,
        })
    }

    /// From the store's index, or, those that are not over, from the table of sagas.
    async fn from_store(
        &self,
        store: &Door,
        models: Option<&ReadModels>,
    ) -> Result<Found, Problem> {
        match event_of(self.state) {
            Some(event_type) => self.from_postings(store, event_type).await,
            None => self.from_sagas(store, models.ok_or_else(models_are_off)?).await,
        }
    }

    async fn from_postings(&self, store: &Door, event_type: &str) -> Result<Found, Problem> {
        let as_of = store.committed().0.checked_sub(1);
        let key = IndexKey::EventType(event_type.to_owned());
        let first = match (&self.cursor, self.from) {
            (Some(cursor), _) => number(cursor)?,
            (None, Some(from)) => first_at(store, &key, from).await?,
            (None, None) => 0,
        };
        let end = match self.to {
            Some(to) => first_at(store, &key, to).await?,
            None => u64::MAX,
        };
        let count = EXAMINED_MAX.min(end.saturating_sub(first));
        let mut reader = store.read_index(&key, first, Direction::Forwards, count);
        let (mut rows, mut examined) = (Vec::new(), 0);
        while rows.len() < self.limit
            && let Some((_, events)) = reader.next().await?
        {
            for event in events.events() {
                if rows.len() == self.limit {
                    break;
                }
                examined += 1;
                let id = transfer_of_stream(event.stream);
                if let Some(id) = id.filter(|_| self.may_want(event.data))
                    && let Some(row) = row_of(store, id).await?
                    && self.wants(&row)
                {
                    rows.push(row);
                }
            }
        }
        // Short of both limits, the reader came to the end of what there is.
        let more = rows.len() == self.limit || examined == EXAMINED_MAX;
        let next = first.saturating_add(examined);
        let next = (more && next < end)
            .then(|| cursor::encode(POSTINGS, &[Value::Integer(next.cast_signed())]));
        Ok(Found { rows, next, as_of })
    }

    async fn from_sagas(&self, store: &Door, models: &ReadModels) -> Result<Found, Problem> {
        let limit = Some(self.limit as u64);
        let mut query = open_sagas(self.state, self.cursor.as_deref(), limit)?;
        if let Some(from) = self.from {
            let (column, is) = (saga::SINCE, Comparison::AtLeast);
            query.filters.push(Filter { column, is, value: from.into() });
        }
        if let Some(to) = self.to {
            let (column, is) = (saga::SINCE, Comparison::Below);
            query.filters.push(Filter { column, is, value: to.into() });
        }
        let page = answer::page(models, &query, self.at_least).await?;
        let mut rows = Vec::with_capacity(page.rows.len());
        for open in &page.rows {
            let id = read::uuid(open, saga::TRANSFER_ID).ok_or_else(bad_row)?;
            // It may have come further since: then it is not in this state any more.
            if let Some(row) = row_of(store, id).await?
                && self.wants(&row)
            {
                rows.push(row);
            }
        }
        let order = daybook_projections::views::payments::BY_STATE.name;
        let next = page.next.as_ref().map(|place| cursor::encode(order, place));
        Ok(Found { rows, next, as_of: as_of(&page) })
    }

    /// Whether an event that brought a transfer to its state may be of one that is wanted: some say
    /// whose transfer it is.
    fn may_want(&self, data: &[u8]) -> bool {
        #[derive(Deserialize)]
        struct Ends {
            sender_account_id: Option<Uuid>,
            receiver_account_id: Option<Uuid>,
        }
        let Some(account) = self.account else { return true };
        match serde_json::from_slice(data) {
            Ok(Ends { sender_account_id: None, receiver_account_id: None }) | Err(_) => true,
            Ok(Ends { sender_account_id, receiver_account_id }) => {
                [sender_account_id, receiver_account_id].contains(&Some(account))
            }
        }
    }

    fn wants(&self, row: &Row) -> bool {
        let is_in = |state| read::text(row, transfer::STATE) == Some(state);
        let is_of = |account| {
            let ends = [transfer::SENDER, transfer::RECEIVER];
            ends.iter().any(|end| read::uuid(row, *end) == Some(account))
        };
        self.state.is_none_or(is_in) && self.account.is_none_or(is_of)
    }
}

/// The number that a cursor into the store's index stands for.
fn number(cursor: &str) -> Result<u64, Problem> {
    let place = cursor::decode_number(cursor, POSTINGS)?;
    u64::try_from(place).map_err(|_| Problem::field("cursor", "give the next of the page before"))
}

/// The row of a transfer, folded from its stream.
async fn row_of(store: &Door, id: Uuid) -> Result<Option<Row>, Problem> {
    let (from, direction) = (From::Start, Direction::Forwards);
    let query = ReadStream { stream: transfer_stream(id), from, direction, count: u64::MAX };
    let mut reader = store.read_stream(query).await?;
    let mut row = None;
    while let Some(page) = reader.next().await? {
        for event in page.events() {
            row = take_in(row, event)
                .map_err(|error| Problem::new(Kind::Damaged, format!("transfer {id}: {error}")))?;
        }
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_found_by_the_event_that_ends_in_it_or_among_the_open_ones() {
        for (text, event) in [
            ("completed", Some("PaymentCompleted")),
            ("compensated", Some("PaymentRejected")),
            ("abandoned", Some("PaymentAbandoned")),
            ("running", None),
            ("compensating", None),
            ("failed", None),
        ] {
            let state = state(text).expect("a state");
            assert_eq!(event_of(Some(state)), event, "{text}");
            assert_eq!(event.is_none(), open_sagas(Some(state), None, None).is_ok(), "{text}");
        }
        assert_eq!(event_of(None), Some("PaymentInitiated"));
        assert!(state("done").is_err());
    }
}
