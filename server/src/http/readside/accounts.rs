//! Lists of accounts: by owner, status, currency and balance.

use axum::extract::FromRef;
use axum::response::Response;
use daybook_ledger::currency::Currency;
use daybook_ledger::time::rfc3339;
use daybook_model::Timestamp;
use daybook_projections::query::{Comparison, Filter, Order};
use daybook_projections::views::accounts::{ACCOUNTS, BY_CURRENCY, BY_OWNER, BY_STATUS, account};
use daybook_projections::views::read;
use daybook_projections::{Index, Query, Value};
use http::StatusCode;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;
use uuid::Uuid;

use super::answer::{AtLeast, Late, Models, Tables, as_of, entries, next, page};
use super::cursor;
use crate::http::ledger::request::uuid;
use crate::http::ledger::schema::{self, Refusals};
use crate::http::ledger::view::json;
use crate::http::page::limit;
use crate::http::problem::Problem;
use crate::http::query::{Params, parsed};
use crate::security::gate::Described;
use crate::security::rights::Right;

/// The smallest step between two balances: no currency has more than four digits after the point.
/// A limit that is itself allowed is below the limit and this much more.
const LESS_THAN_ANY: Decimal = Decimal::from_parts(1, 0, 0, false, 5);

/// The routes of this file.
pub fn routes<S>() -> Described<S>
where
    S: Clone + Send + Sync + 'static,
    Tables: FromRef<S>,
{
    Described::new().routes(Right::ReadLedger, routes!(list))
}

/// Which accounts. All that is given must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Whose.
    owner: Option<String>,
    /// active, frozen or closed.
    status: Option<String>,
    /// Counted in what.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<String>)]
    currency: Option<Currency>,
    /// With this balance or more; give the currency, too.
    min_balance: Option<String>,
    /// With this balance or less; give the currency, too.
    max_balance: Option<String>,
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

/// An account, as far as `as_of`.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccountEntry<'a> {
    account_id: Uuid,
    owner_id: Uuid,
    #[schema(value_type = schema::AccountTypeName)]
    account_type: &'a str,
    #[schema(value_type = schema::AccountStatusName)]
    status: &'a str,
    #[schema(value_type = schema::CurrencyCode)]
    currency: &'a str,
    /// What is in it; below zero if it is overdrawn.
    #[schema(value_type = schema::SignedAmount)]
    balance: Decimal,
    /// What may leave it: balance, plus overdraft limit, minus held.
    #[schema(value_type = schema::SignedAmount)]
    available: Decimal,
    /// What is reserved. Holds that expired since the account's last event are still counted; the
    /// account itself does not count them.
    #[schema(value_type = schema::Amount)]
    held: Decimal,
    #[schema(value_type = schema::Amount)]
    overdraft_limit: Decimal,
    #[schema(value_type = schema::Amount)]
    daily_withdrawal_limit: Decimal,
    /// Whether it is suspected of something.
    flagged: bool,
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    opened_at: Timestamp,
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    updated_at: Timestamp,
    /// The number of its last event.
    revision: i64,
}

impl<'a> AccountEntry<'a> {
    fn of(row: &'a [Value]) -> Option<AccountEntry<'a>> {
        let balance = read::decimal(row, account::BALANCE)?;
        let held = read::decimal(row, account::HELD)?;
        let overdraft_limit = read::decimal(row, account::OVERDRAFT_LIMIT)?;
        Some(AccountEntry {
            account_id: read::uuid(row, account::ACCOUNT_ID)?,
            owner_id: read::uuid(row, account::OWNER_ID)?,
            account_type: read::text(row, account::ACCOUNT_TYPE)?,
            status: read::text(row, account::STATUS)?,
            currency: read::text(row, account::CURRENCY)?,
            balance,
            available: balance + overdraft_limit - held,
            held,
            overdraft_limit,
            daily_withdrawal_limit: read::decimal(row, account::DAILY_WITHDRAWAL_LIMIT)?,
            flagged: read::flag(row, account::FLAGGED)?,
            opened_at: read::time(row, account::OPENED_AT)?,
            updated_at: read::time(row, account::UPDATED_AT)?,
            revision: read::integer(row, account::REVISION)?,
        })
    }
}

/// Some accounts.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Accounts)]
pub struct AccountsView<'a> {
    accounts: Vec<AccountEntry<'a>>,
    /// Give it as `cursor` to go on; null at the end. A page with few or no accounts is not the
    /// last one if it has it.
    next: Option<String>,
    /// The position in the log that this reflects; null before the first event.
    as_of: Option<u64>,
}

/// Accounts, in the order of what is asked for.
#[utoipa::path(
    get, path = "/v1/accounts", tag = "accounts",
    operation_id = "list_accounts",
    params(ListParams, ("Daybook-Min-Position" = Option<u64>, Header,
        description = "As min_position")),
    responses((status = 200, description = "A page", body = AccountsView), Refusals, Late)
)]
async fn list(
    Models(models): Models,
    at_least: AtLeast,
    Params(params): Params<ListParams>,
) -> Result<Response, Problem> {
    let query = params.query()?;
    let order = order_name(query.index);
    let page = page(&models, &query, at_least.or(params.min_position)).await?;
    let view = AccountsView {
        accounts: entries(&page, AccountEntry::of)?,
        next: next(order, &page),
        as_of: as_of(&page),
    };
    Ok(json(StatusCode::OK, &view))
}

fn order_name(index: Option<&'static Index>) -> &'static str {
    index.map_or("accounts", |index| index.name)
}

impl ListParams {
    /// The query: by the index that leaves the fewest rows, the other conditions on what it finds.
    fn query(&self) -> Result<Query, Problem> {
        let owner = self.owner.as_deref().map(|text| uuid("owner", text)).transpose()?;
        let status = self.status.as_deref().map(status).transpose()?;
        let currency = self.currency.map(Currency::code);
        let (index, first) = match (owner, status, currency) {
            (Some(owner), ..) => (Some(&BY_OWNER), Some(Value::from(owner))),
            (None, Some(status), _) if status != "active" => {
                (Some(&BY_STATUS), Some(Value::from(status)))
            }
            (None, _, Some(currency)) => (Some(&BY_CURRENCY), Some(Value::from(currency))),
            (None, Some(status), None) => (Some(&BY_STATUS), Some(Value::from(status))),
            (None, None, None) => (None, None),
        };
        let equal = |column, value: Option<&str>| {
            let value = value.map(Value::from);
            value.map(|value| Filter { column, is: Comparison::Equal, value })
        };
        let mut filters: Vec<Filter> =
            [equal(account::STATUS, status), equal(account::CURRENCY, currency)]
                .into_iter()
                .flatten()
                // What the index leaves is not asked again.
                .filter(|filter| index.is_none_or(|index| index.columns != [filter.column]))
                .collect();
        let column = account::BALANCE;
        if let Some(least) = self.bound("min_balance", self.min_balance.as_deref())? {
            filters.push(Filter { column, is: Comparison::AtLeast, value: least.into() });
        }
        if let Some(most) = self.bound("max_balance", self.max_balance.as_deref())? {
            let value = (most + LESS_THAN_ANY).into();
            filters.push(Filter { column, is: Comparison::Below, value });
        }
        let order = order_name(index);
        let after = self.cursor.as_deref();
        let after = after.map(|text| cursor::decode(text, order, ACCOUNTS, index)).transpose()?;
        Ok(Query {
            projection: "accounts",
            table: ACCOUNTS,
            index,
            prefix: first.into_iter().collect(),
            filters,
            order: Order::Ascending,
            after,
            limit: limit(self.limit)?,
        })
    }

    /// A balance to compare with: an amount of the currency, perhaps below zero.
    fn bound(&self, field: &str, text: Option<&str>) -> Result<Option<Decimal>, Problem> {
        let Some(text) = text else { return Ok(None) };
        let Some(currency) = self.currency else {
            return Err(Problem::field("currency", format!("give it together with {field}")));
        };
        let (digits, below_zero) = match text.strip_prefix('-') {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        let amount = crate::http::ledger::request::amount(field, digits, currency)?;
        Ok(Some(if below_zero { -amount } else { amount }))
    }
}

fn status(text: &str) -> Result<&str, Problem> {
    match text {
        "active" | "frozen" | "closed" => Ok(text),
        _ => Err(Problem::field("status", "give active, frozen or closed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Result<Query, Problem> {
        let uri = format!("http://x/v1/accounts?{query}").parse().expect("a URI");
        let params = axum::extract::Query::<ListParams>::try_from_uri(&uri);
        params.map_err(|e| crate::http::query::not_understood(&e.body_text()))?.0.query()
    }

    #[test]
    fn the_narrowest_index_is_read_and_the_rest_is_filtered() {
        let id = Uuid::from_u128(7);
        for (query, index, filtered) in [
            (String::new(), None, vec![]),
            ("status=active".to_owned(), Some("by_status"), vec![]),
            ("currency=USD".to_owned(), Some("by_currency"), vec![]),
            ("currency=USD&status=active".to_owned(), Some("by_currency"), vec!["status"]),
            ("currency=USD&status=frozen".to_owned(), Some("by_status"), vec!["currency"]),
            (format!("owner={id}&status=closed"), Some("by_owner"), vec!["status"]),
            (
                "currency=USD&min_balance=-5.00&max_balance=10".to_owned(),
                Some("by_currency"),
                vec!["balance", "balance"],
            ),
        ] {
            let found = params(&query).unwrap_or_else(|e| panic!("{query}: {e}"));
            assert_eq!(found.index.map(|index| index.name), index, "{query}");
            let columns = found.filters.iter().map(|filter| ACCOUNTS.columns[filter.column].name);
            assert_eq!(columns.collect::<Vec<_>>(), filtered, "{query}");
        }
    }

    #[test]
    fn a_mistake_names_its_field() {
        for (query, field) in [
            ("owner=me", "owner"),
            ("status=open", "status"),
            ("currency=usd", "currency"),
            ("min_balance=1", "currency"),
            ("currency=USD&max_balance=1.001", "max_balance"),
            ("currency=USD&max_balance=--1", "max_balance"),
            ("limit=0", "limit"),
            ("limit=many", "limit"),
            ("cursor=x", "cursor"),
            ("colour=red", "colour"),
        ] {
            let problem = params(query).expect_err(query).to_json();
            assert!(problem.contains(&format!("\"field\":\"{field}\"")), "{query}: {problem}");
        }
    }
}
