//! What happened to an account, page by page.

use axum::extract::State;
use axum::response::Response;
use daybook_ledger::account::{AccountEvent, account_stream};
use daybook_ledger::currency::Currency;
use daybook_ledger::money::major;
use daybook_ledger::time::rfc3339;
use daybook_model::{Revision, Timestamp};
use http::StatusCode;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::request::InAccount;
use super::schema::{self, Refusals};
use super::view::json;
use crate::http::page::{LIMIT_DEFAULT, LIMIT_MAX};
use crate::http::problem::Problem;
use crate::http::query::{Params, parsed};
use crate::ledger::history::{Entry, PAGE_LEN_MAX, Walk};
use crate::node::Context;

const _: () = assert!(LIMIT_MAX as usize <= PAGE_LEN_MAX);

/// The routes of this file.
pub fn routes() -> OpenApiRouter<Context> {
    OpenApiRouter::new().routes(routes!(transactions))
}

/// One thing that happened to an account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transaction)]
pub struct TransactionView {
    /// Its number in the account's history.
    pub(super) revision: u64,
    /// What happened: MoneyDeposited, TransferDebited …
    pub(super) r#type: &'static str,
    /// What it did to the balance; zero if no money moved.
    #[schema(value_type = schema::SignedAmount)]
    pub(super) amount: Decimal,
    #[schema(value_type = schema::CurrencyCode)]
    pub(super) currency: Currency,
    /// The other leg: cash, clearing, fees or fx_position; null if no money moved.
    contra: Option<&'static str>,
    /// The balance after it; null for what never moves money, and leaves it as it was.
    #[schema(value_type = Option<schema::SignedAmount>)]
    balance: Option<Decimal>,
    /// What for, or why; may be empty.
    pub(super) description: String,
    /// The id of the command that did it; null for what happened by itself.
    pub(super) transaction_id: Option<Uuid>,
    /// The transfer it is a part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    transfer_id: Option<Uuid>,
    /// The account at the transfer's other end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) counterparty_id: Option<Uuid>,
    /// The hold it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    hold_id: Option<Uuid>,
    #[serde(with = "rfc3339")]
    #[schema(value_type = schema::Time)]
    pub(super) occurred_at: Timestamp,
}

impl TransactionView {
    /// What `entry` did to an account of `currency`.
    #[must_use]
    pub fn new(entry: &Entry, currency: Currency) -> TransactionView {
        let about = About::of(&entry.event);
        let moves = entry.event.legs().is_some();
        TransactionView {
            revision: entry.revision.0,
            r#type: entry.event.event_type(),
            amount: if moves { entry.change() } else { major(0, currency) },
            currency,
            contra: about.contra.filter(|_| moves),
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

/// What only some events have.
#[derive(Default)]
struct About<'a> {
    text: &'a str,
    contra: Option<&'static str>,
    transfer_id: Option<Uuid>,
    counterparty_id: Option<Uuid>,
    hold_id: Option<Uuid>,
}

impl<'a> About<'a> {
    fn of(event: &'a AccountEvent) -> About<'a> {
        let says = |text| About { text, ..About::default() };
        match event {
            AccountEvent::AccountOpened(e) => {
                About { contra: Some(e.contra.as_str()), ..About::default() }
            }
            AccountEvent::MoneyDeposited(e)
            | AccountEvent::MoneyWithdrawn(e)
            | AccountEvent::FeeCharged(e) => {
                About { contra: Some(e.contra.as_str()), ..says(&e.description) }
            }
            AccountEvent::TransferDebited(e) | AccountEvent::TransferCredited(e) => About {
                contra: Some(e.contra.as_str()),
                transfer_id: Some(e.transfer_id),
                counterparty_id: Some(e.counterparty_id),
                ..says(&e.description)
            },
            AccountEvent::TransferRefunded(e) => About {
                contra: Some(e.contra.as_str()),
                transfer_id: Some(e.transfer_id),
                counterparty_id: Some(e.counterparty_id),
                ..says(&e.reason)
            },
            AccountEvent::HoldPlaced(e) => {
                About { hold_id: Some(e.hold_id), ..says(&e.description) }
            }
            AccountEvent::HoldCaptured(e) => About {
                contra: Some(e.contra.as_str()),
                hold_id: Some(e.hold_id),
                ..says(&e.description)
            },
            AccountEvent::HoldReleased(e) => About { hold_id: Some(e.hold_id), ..says(&e.reason) },
            AccountEvent::HoldExpired(e) => About { hold_id: Some(e.hold_id), ..says("expired") },
            AccountEvent::AccountFrozen(e) => says(&e.reason),
            AccountEvent::AccountUnfrozen(e) => says(&e.unfrozen_by),
            AccountEvent::AccountClosed(e) => says(&e.reason),
            AccountEvent::LimitsChanged(e) => says(&e.reason),
            AccountEvent::AccountFlagged(e) => says(&e.reason),
            AccountEvent::AccountUnflagged(e) => says(&e.unflagged_by),
        }
    }
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
}

/// A part of an account's history.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Transactions)]
pub struct TransactionsView {
    transactions: Vec<TransactionView>,
    /// Give it as `cursor` to go on; null at the end.
    next: Option<String>,
}

/// What happened to an account, from its opening on.
#[utoipa::path(
    get, path = "/v1/accounts/{account_id}/transactions", tag = "accounts",
    operation_id = "list_transactions",
    params(("account_id" = Uuid, Path), PageParams),
    responses((status = 200, description = "A page", body = TransactionsView), Refusals)
)]
async fn transactions(
    State(context): State<Context>,
    InAccount(id): InAccount,
    Params(params): Params<PageParams>,
) -> Result<Response, Problem> {
    let limit = params.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Problem::field("limit", format!("give 1 to {LIMIT_MAX}")));
    }
    let ledger = context.ledger();
    let (account, last) = ledger.account(id).await?.ok_or_else(Problem::account_not_found)?;
    let currency = account.state().ok_or_else(Problem::account_not_found)?.currency;
    let bad = || Problem::field("cursor", "give the next of the page before");
    let from = match &params.cursor {
        None => Revision::FIRST,
        Some(cursor) => Revision(cursor.parse().map_err(|_| bad())?),
    };
    if from > last {
        return Err(bad());
    }
    let mut walk = Walk::new(account_stream(id), from, last.next());
    let limit = usize::try_from(limit).expect("at most LIMIT_MAX");
    let entries = walk.page(ledger, limit).await?;
    let view = TransactionsView {
        transactions: entries.iter().map(|e| TransactionView::new(e, currency)).collect(),
        next: walk.next_revision().map(|revision| revision.to_string()),
    };
    Ok(json(StatusCode::OK, &view))
}
