//! The trial balance: what all accounts together have, and that nothing was made or lost.

use axum::extract::State;
use axum::response::Response;
use daybook_ledger::books::Sums;
use daybook_ledger::currency::Currency;
use http::StatusCode;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

use super::schema::{self, Refusals};
use super::view::json;
use crate::http::problem::Problem;
use crate::http::query::{Params, parsed};
use crate::ledger::books::Verified;
use crate::node::Context;
use crate::security::gate::Described;
use crate::security::rights::Right;

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new().routes(Right::AuditLedger, routes!(trial_balance))
}

/// How much is asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct TrialParams {
    /// Whether every account's stream is counted by itself and compared. Reads all of them.
    #[serde(default, deserialize_with = "parsed")]
    #[param(value_type = Option<bool>)]
    verify: Option<bool>,
}

/// The sums of all legs up to a position.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrialBalance)]
pub struct TrialView {
    /// The last account event that is in the sums; null if there is none.
    position: Option<u64>,
    /// Whether every total is zero.
    balanced: bool,
    currencies: Vec<SumsView>,
    /// What counting every account by itself came to, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<VerifiedView>,
}

/// The sums of one currency.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Sums)]
pub struct SumsView {
    #[schema(value_type = schema::CurrencyCode)]
    currency: Currency,
    /// What is in all accounts.
    #[schema(value_type = schema::SignedAmount)]
    customers: Decimal,
    /// What was paid in and out; below zero by what was paid in.
    #[schema(value_type = schema::SignedAmount)]
    cash: Decimal,
    /// What is on its way from one account to another.
    #[schema(value_type = schema::SignedAmount)]
    clearing: Decimal,
    /// What was charged.
    #[schema(value_type = schema::SignedAmount)]
    fees: Decimal,
    /// What was bought and sold for other currencies.
    #[schema(value_type = schema::SignedAmount)]
    fx_position: Decimal,
    /// All of them together: zero.
    #[schema(value_type = schema::SignedAmount)]
    total: Decimal,
}

/// What a check found.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Verified)]
pub struct VerifiedView {
    /// Accounts it read.
    accounts: u64,
    /// Events it read.
    events: u64,
    /// Whether it came to the same sums.
    equal: bool,
}

impl SumsView {
    fn new((currency, sums): (Currency, &Sums)) -> SumsView {
        SumsView {
            currency,
            customers: sums.customers,
            cash: sums.cash,
            clearing: sums.clearing,
            fees: sums.fees,
            fx_position: sums.fx_position,
            total: sums.total(),
        }
    }
}

/// The trial balance: per currency and class of account the sum of all legs.
#[utoipa::path(
    get, path = "/v1/trial-balance", tag = "books",
    operation_id = "get_trial_balance", params(TrialParams),
    responses((status = 200, description = "The sums", body = TrialView), Refusals)
)]
async fn trial_balance(
    State(context): State<Context>,
    Params(params): Params<TrialParams>,
) -> Result<Response, Problem> {
    let books = context.ledger().books();
    let summed = books.sum().await?;
    let verified = match params.verify {
        Some(true) => Some(books.verify(&summed).await?),
        _ => None,
    };
    let balanced = summed.books.is_balanced();
    let equal = verified.map(|verified| verified.equal);
    context.metrics().safeguards.trial_balance(balanced, equal, context.clock().now());
    let view = TrialView {
        position: summed.position,
        balanced,
        currencies: summed.books.currencies().map(SumsView::new).collect(),
        verified: verified.map(|Verified { accounts, events, equal }| VerifiedView {
            accounts,
            events,
            equal,
        }),
    };
    Ok(json(StatusCode::OK, &view))
}
