//! Holds: money reserved now and paid out later, as cards and marketplaces need.

use axum::response::Response;
use daybook_ledger::account::{AccountCommand, CaptureHold, PlaceHold, ReleaseHold};
use daybook_ledger::currency::Currency;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::command::{DoneView, OnAccount};
use super::request::{InHold, amount, amount_if_given, time};
use super::schema::{self, Rejections};
use crate::http::problem::Problem;
use crate::node::Context;
use crate::security::gate::Described;
use crate::security::rights::Right;

/// The routes of this file.
pub fn routes() -> Described<Context> {
    Described::new()
        .routes(Right::MoveMoney, routes!(place))
        .routes(Right::MoveMoney, routes!(capture))
        .routes(Right::MoveMoney, routes!(release))
}

/// Money to be reserved.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    #[schema(value_type = schema::Amount)]
    amount: String,
    /// The account's.
    #[schema(value_type = schema::CurrencyCode)]
    currency: Currency,
    /// What for; up to 1000 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// When it ends by itself.
    #[schema(value_type = Option<schema::Time>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

/// Reserves money of an account. The hold's id is the Idempotency-Key.
#[utoipa::path(
    post, path = "/v1/accounts/{account_id}/holds", tag = "holds",
    operation_id = "place_hold", request_body = HoldRequest,
    params(
        ("account_id" = Uuid, Path),
        ("Idempotency-Key" = Uuid, Header, description = "The hold's id"),
    ),
    responses((status = 201, description = "It is reserved", body = DoneView), Rejections)
)]
async fn place(command: OnAccount<HoldRequest>) -> Result<Response, Problem> {
    let read = |body: HoldRequest, key| {
        let expires_at = body.expires_at.map(|text| time("expires_at", &text)).transpose()?;
        Ok(AccountCommand::PlaceHold(PlaceHold {
            hold_id: key,
            amount: amount("amount", &body.amount, body.currency)?,
            currency: body.currency,
            description: body.description.unwrap_or_default(),
            expires_at,
            transaction_id: key,
        }))
    };
    command.execute("place_hold", &[], read).await
}

/// How much of a hold is paid out.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CaptureRequest {
    /// All that remains if absent; the rest stays reserved.
    #[schema(value_type = Option<schema::Amount>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<String>,
    /// What for; up to 1000 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

/// Pays out reserved money.
#[utoipa::path(
    post, path = "/v1/accounts/{account_id}/holds/{hold_id}/capture", tag = "holds",
    operation_id = "capture_hold",
    request_body = CaptureRequest,
    params(
        ("account_id" = Uuid, Path), ("hold_id" = Uuid, Path),
        ("Idempotency-Key" = Uuid, Header),
    ),
    responses((status = 201, description = "It is paid out", body = DoneView), Rejections)
)]
async fn capture(
    InHold(hold_id): InHold,
    command: OnAccount<CaptureRequest>,
) -> Result<Response, Problem> {
    let currency = command.currency().await?;
    let read = |body: CaptureRequest, transaction_id| {
        Ok(AccountCommand::CaptureHold(CaptureHold {
            hold_id,
            amount: amount_if_given("amount", body.amount.as_deref(), currency)?,
            description: body.description.unwrap_or_default(),
            transaction_id,
        }))
    };
    command.execute("capture_hold", &[hold_id], read).await
}

/// Why a hold ends.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Gives back what is still reserved.
#[utoipa::path(
    post, path = "/v1/accounts/{account_id}/holds/{hold_id}/release", tag = "holds",
    operation_id = "release_hold",
    request_body = ReleaseRequest,
    params(
        ("account_id" = Uuid, Path), ("hold_id" = Uuid, Path),
        ("Idempotency-Key" = Uuid, Header),
    ),
    responses((status = 201, description = "It is given back", body = DoneView), Rejections)
)]
async fn release(
    InHold(hold_id): InHold,
    command: OnAccount<ReleaseRequest>,
) -> Result<Response, Problem> {
    let read = |ReleaseRequest { reason }, transaction_id| {
        let reason = reason.unwrap_or_default();
        Ok(AccountCommand::ReleaseHold(ReleaseHold { hold_id, reason, transaction_id }))
    };
    command.execute("release_hold", &[hold_id], read).await
}
