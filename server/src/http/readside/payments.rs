//! Payments at a glance: day by day, and those that are not over.

use axum::extract::FromRef;
use axum::response::Response;
use daybook_ledger::currency::Currency;
use daybook_ledger::time::rfc3339;
use daybook_model::{Position, Timestamp};
use daybook_projections::models::ReadModels;
use daybook_projections::query::{Comparison, Filter, Order};
use daybook_projections::views::payments::{BY_STATE, DAILY, SAGAS, STATES, daily, saga, state};
use daybook_projections::views::read;
use daybook_projections::{Page, Query, Value};
use http::StatusCode;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;
use uuid::Uuid;

use super::answer::{AtLeast, Late, Models, Tables, as_of, ending_at, entries, next, page};
use super::cursor;
use crate::http::ledger::request::time;
use crate::http::ledger::schema::{self, Refusals};
use crate::http::ledger::view::json;
use crate::http::page::limit;
use crate::http::problem::Problem;
use crate::http::query::{Params, parsed};
use crate::security::gate::Described;
use crate::security::rights::Right;

/// The projection of these tables.
const PAYMENTS: &str = "payments";
/// Rows of the table of states: more than there are states.
const STATES_MAX: usize = 16;

/// The routes of this file.
pub fn routes<S>() -> Described<S>
where
    S: Clone + Send + Sync + 'static,
    Tables: FromRef<S>,
{
    Described::new()
        .routes(Right::ReadLedger, routes!(list_daily))
        .routes(Right::ReadLedger, routes!(overview))
}

/// Which days.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DailyParams {
    /// The first day, as 2026-03-01; from the beginning if nothing is said.
    from: Option<String>,
    /// The day after the last one; to the end if nothing is said.
    to: Option<String>,
    /// Of what the senders pay in.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>)]
    currency: Option<Currency>,
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

/// What became of payments on one day, in one currency.
#[derive(Debug, Serialize, ToSchema)]
pub struct DayEntry<'a> {
    /// The UTC day, as 2026-03-01.
    day: String,
    #[schema(value_type = schema::CurrencyCode)]
    currency: &'a str,
    /// initiated, completed, rejected, failed or abandoned.
    outcome: &'a str,
    /// How many.
    payments: i64,
    /// What the senders of all of them pay.
    #[schema(value_type = schema::Amount)]
    amount: Decimal,
}

impl<'a> DayEntry<'a> {
    fn of(row: &'a [Value]) -> Option<DayEntry<'a>> {
        Some(DayEntry {
            day: day_text(read::time(row, daily::DAY)?),
            currency: read::text(row, daily::CURRENCY)?,
            outcome: read::text(row, daily::OUTCOME)?,
            payments: read::integer(row, daily::PAYMENTS)?,
            amount: read::decimal(row, daily::AMOUNT)?,
        })
    }
}

/// What became of payments, day by day.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DailyPayments)]
pub struct DailyView<'a> {
    days: Vec<DayEntry<'a>>,
    /// Give it as `cursor` to go on; null at the end.
    next: Option<String>,
    /// The position in the log that this reflects; null before the first event.
    as_of: Option<u64>,
}

/// What happened to payments by UTC day, currency and outcome: how many, and how much. One that
/// failed and was rejected later counts as both.
#[utoipa::path(
    get, path = "/v1/payments/daily", tag = "transfers",
    operation_id = "list_daily_payments",
    params(DailyParams, ("Daybook-Min-Position" = Option<u64>, Header,
        description = "As min_position")),
    responses((status = 200, description = "A page", body = DailyView), Refusals, Late)
)]
async fn list_daily(
    Models(models): Models,
    at_least: AtLeast,
    Params(params): Params<DailyParams>,
) -> Result<Response, Problem> {
    let (query, to) = params.query()?;
    let page = page(&models, &query, at_least.or(params.min_position)).await?;
    let page = ending_at(page, daily::DAY, to);
    let view = DailyView {
        days: entries(&page, DayEntry::of)?,
        next: next(DAILY.name, &page),
        as_of: as_of(&page),
    };
    Ok(json(StatusCode::OK, &view))
}

impl DailyParams {
    /// The query, and the day before which its list ends.
    fn query(&self) -> Result<(Query, Option<Timestamp>), Problem> {
        let from = self.from.as_deref().map(|text| day("from", text)).transpose()?;
        let to = self.to.as_deref().map(|text| day("to", text)).transpose()?;
        let mut filters = Vec::new();
        if let Some(to) = to {
            let (column, is) = (daily::DAY, Comparison::Below);
            filters.push(Filter { column, is, value: to.into() });
        }
        if let Some(currency) = self.currency {
            let (column, is) = (daily::CURRENCY, Comparison::Equal);
            filters.push(Filter { column, is, value: currency.code().into() });
        }
        // No currency and no outcome is the empty text: this is before all of the day.
        let start = from.map(|from| vec![from.into(), "".into(), "".into()]);
        let cursor = self.cursor.as_deref();
        let cursor =
            cursor.map(|text| cursor::decode(text, DAILY.name, DAILY, None)).transpose()?;
        let query = Query {
            projection: PAYMENTS,
            table: DAILY,
            index: None,
            prefix: Vec::new(),
            filters,
            order: Order::Ascending,
            after: cursor.or(start),
            limit: limit(self.limit)?,
        };
        Ok((query, to))
    }
}

/// The first moment of a UTC day.
fn day(field: &str, text: &str) -> Result<Timestamp, Problem> {
    let wrong = |_| Problem::field(field, "give a UTC day, as 2026-03-01");
    time(field, &format!("{text}T00:00:00Z")).map_err(wrong)
}

fn day_text(day: Timestamp) -> String {
    const LEN: usize = "2026-03-01".len();
    let mut text = daybook_ledger::time::Rfc3339(day).to_string();
    text.truncate(LEN);
    text
}

/// Which unfinished transfers.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OverviewParams {
    /// running, compensating or failed; all of these if absent.
    state: Option<String>,
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

/// A transfer that is not over.
#[derive(Debug, Serialize, ToSchema)]
pub struct SagaEntry<'a> {
    transfer_id: Uuid,
    #[schema(value_type = schema::SagaStateName)]
    state: &'a str,
    /// When it came to that state.
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    since: Timestamp,
    /// The step that is to be taken, or taken back; null if none is.
    step: Option<&'a str>,
    /// Which attempt at it is next.
    attempt: i64,
    /// When that begins, if it is after a pause.
    #[serde(with = "rfc3339::option")]
    #[schema(value_type = Option<schema::Time>)]
    retry_at: Option<Timestamp>,
    /// Why it is being undone, or failed.
    reason: Option<&'a str>,
    sender_account_id: Uuid,
    receiver_account_id: Uuid,
    #[schema(value_type = schema::Amount)]
    amount: Decimal,
    #[schema(value_type = schema::CurrencyCode)]
    currency: &'a str,
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    initiated_at: Timestamp,
    /// When it is undone unless it is done.
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    deadline: Timestamp,
}

impl<'a> SagaEntry<'a> {
    fn of(row: &'a [Value]) -> Option<SagaEntry<'a>> {
        Some(SagaEntry {
            transfer_id: read::uuid(row, saga::TRANSFER_ID)?,
            state: read::text(row, saga::STATE)?,
            since: read::time(row, saga::SINCE)?,
            step: read::text(row, saga::STEP),
            attempt: read::integer(row, saga::ATTEMPT)?,
            retry_at: read::time(row, saga::RETRY_AT),
            reason: read::text(row, saga::REASON),
            sender_account_id: read::uuid(row, saga::SENDER)?,
            receiver_account_id: read::uuid(row, saga::RECEIVER)?,
            amount: read::decimal(row, saga::AMOUNT)?,
            currency: read::text(row, saga::CURRENCY)?,
            initiated_at: read::time(row, saga::INITIATED_AT)?,
            deadline: read::time(row, saga::DEADLINE)?,
        })
    }
}

/// How many transfers are in one state.
#[derive(Debug, Serialize, ToSchema)]
pub struct StateEntry<'a> {
    #[schema(value_type = schema::SagaStateName)]
    state: &'a str,
    transfers: i64,
}

/// The transfers at a glance.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SagaOverview)]
pub struct OverviewView<'a> {
    /// How many there are in each state that any is in.
    states: Vec<StateEntry<'a>>,
    /// Those that are not over, by state and by how long they have been in it.
    sagas: Vec<SagaEntry<'a>>,
    /// Give it as `cursor` to go on; null at the end.
    next: Option<String>,
    /// The position in the log that this reflects at least; null before the first event.
    as_of: Option<u64>,
}

/// How many transfers are in which state, and those that are not over. `/v1/sagas` tells the same of
/// the latter as the orchestrator sees them at this moment.
#[utoipa::path(
    get, path = "/v1/sagas/overview", tag = "sagas",
    operation_id = "get_saga_overview",
    params(OverviewParams, ("Daybook-Min-Position" = Option<u64>, Header,
        description = "As min_position")),
    responses((status = 200, description = "The transfers", body = OverviewView), Refusals, Late)
)]
async fn overview(
    Models(models): Models,
    at_least: AtLeast,
    Params(params): Params<OverviewParams>,
) -> Result<Response, Problem> {
    let query = open_sagas(params.state.as_deref(), params.cursor.as_deref(), params.limit)?;
    let at_least = at_least.or(params.min_position);
    let sagas = page(&models, &query, at_least).await?;
    let states = states(&models, at_least).await?;
    let view = OverviewView {
        states: entries(&states, StateEntry::of)?,
        sagas: entries(&sagas, SagaEntry::of)?,
        next: next(BY_STATE.name, &sagas),
        as_of: as_of(&sagas).min(as_of(&states)),
    };
    Ok(json(StatusCode::OK, &view))
}

impl<'a> StateEntry<'a> {
    fn of(row: &'a [Value]) -> Option<StateEntry<'a>> {
        let transfers = read::integer(row, state::TRANSFERS)?;
        Some(StateEntry { state: read::text(row, state::STATE)?, transfers })
    }
}

async fn states(models: &ReadModels, at_least: Option<Position>) -> Result<Page, Problem> {
    let query = Query {
        projection: PAYMENTS,
        table: STATES,
        index: None,
        prefix: Vec::new(),
        filters: Vec::new(),
        order: Order::Ascending,
        after: None,
        limit: STATES_MAX,
    };
    page(models, &query, at_least).await
}

/// A query of transfers that are not over, by state and by how long they have been in it.
///
/// # Errors
/// [`Problem`] names the parameter that is wrong.
pub fn open_sagas(
    state: Option<&str>,
    cursor: Option<&str>,
    rows: Option<u64>,
) -> Result<Query, Problem> {
    let prefix = match state {
        None => Vec::new(),
        Some(state @ ("running" | "compensating" | "failed")) => vec![Value::from(state)],
        Some(_) => return Err(Problem::field("state", "give running, compensating or failed")),
    };
    let after = cursor.map(|text| cursor::decode(text, BY_STATE.name, SAGAS, Some(&BY_STATE)));
    Ok(Query {
        projection: PAYMENTS,
        table: SAGAS,
        index: Some(&BY_STATE),
        prefix,
        filters: Vec::new(),
        order: Order::Ascending,
        after: after.transpose()?,
        limit: limit(rows)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_utc_and_nothing_else() {
        let params = |from: &str| DailyParams { from: Some(from.to_owned()), ..Default::default() };
        let start = |from: &str| params(from).query().ok().and_then(|(query, _)| query.after);
        let first = start("2026-03-01").expect("a day");
        assert_eq!(first[0], Value::Time(Timestamp(1_772_323_200_000_000_000)));
        assert_eq!(day_text(Timestamp(1_772_323_200_000_000_000)), "2026-03-01");
        for bad in ["", "2026-3-1", "2026-02-30", "2026-03-01T00:00:00Z", "yesterday"] {
            assert!(params(bad).query().is_err(), "{bad}");
        }
    }
}
