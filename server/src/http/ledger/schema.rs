//! Parts of the API's description that several shapes share.

use serde::Serialize;
use utoipa::openapi::schema::{KnownFormat, Object, ObjectBuilder, SchemaFormat, Type};
use utoipa::{IntoResponses, ToSchema};

/// An amount: digits, a point, as many digits as the currency has.
#[must_use]
pub fn amount() -> Object {
    text().pattern(Some(r"^(0|[1-9]\d*)(\.\d+)?$")).examples([serde_json::json!("10.00")]).build()
}

/// An amount that may be negative.
#[must_use]
pub fn signed_amount() -> Object {
    text().pattern(Some(r"^-?(0|[1-9]\d*)(\.\d+)?$")).examples([serde_json::json!("-3.50")]).build()
}

/// A currency's code.
#[must_use]
pub fn currency() -> Object {
    let text = text().description(Some("ISO 4217")).pattern(Some("^[A-Z]{3}$"));
    text.examples([serde_json::json!("USD")]).build()
}

/// A time.
#[must_use]
pub fn time() -> Object {
    let format = SchemaFormat::KnownFormat(KnownFormat::DateTime);
    let text = text().description(Some("RFC 3339")).format(Some(format));
    text.examples([serde_json::json!("2026-01-31T12:00:00.000000000Z")]).build()
}

/// The kinds of account.
#[must_use]
pub fn account_type() -> Object {
    text().enum_values(Some(["checking", "savings", "credit"])).build()
}

/// What an account may be.
#[must_use]
pub fn account_status() -> Object {
    text().enum_values(Some(["active", "frozen", "closed"])).build()
}

/// What a transfer may be.
#[must_use]
pub fn transfer_state() -> Object {
    let states = ["running", "completed", "compensating", "compensated", "failed", "abandoned"];
    text().enum_values(Some(states)).build()
}

/// How amounts are rounded.
#[must_use]
pub fn rounding() -> Object {
    text().enum_values(Some(["half_even", "half_up", "down", "up"])).build()
}

/// Whether a step is taken or taken back.
#[must_use]
pub fn direction() -> Object {
    text().enum_values(Some(["action", "compensation"])).build()
}

/// What came of an attempt.
#[must_use]
pub fn outcome() -> Object {
    text().enum_values(Some(["completed", "failed"])).build()
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// An error, as RFC 9457 has it. Some have more members that say what it is about.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemShape {
    /// What went wrong, for programs: `urn:daybook:problem:` and a word that never changes.
    #[schema(example = "urn:daybook:problem:insufficient-funds")]
    r#type: String,
    /// The same in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened and what to do, for people.
    detail: String,
    /// The field, header or parameter that is wrong, if one is.
    field: Option<String>,
}

/// What any question may be answered with instead.
#[derive(IntoResponses)]
pub enum Refusals {
    /// A part of the request is not valid; `field` names it.
    #[response(status = 400, content_type = "application/problem+json")]
    Invalid(ProblemShape),
    /// There is no such thing.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(ProblemShape),
    /// The server does not do this now; try again later.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemShape),
}

/// What any command may be answered with instead. Nothing was done, except perhaps after 504.
#[derive(IntoResponses)]
pub enum Rejections {
    /// A part of the request is not valid; `field` names it.
    #[response(status = 400, content_type = "application/problem+json")]
    Invalid(ProblemShape),
    /// There is no such thing.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(ProblemShape),
    /// The Idempotency-Key was used for another request, or others changed the same thing
    /// meanwhile.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(ProblemShape),
    /// A rule forbids it; `type` ends with the rule's word.
    #[response(status = 422, content_type = "application/problem+json")]
    Rejected(ProblemShape),
    /// The server does not do this now; try again later.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(ProblemShape),
    /// Nobody knows whether it was done; the same request with the same key tells.
    #[response(status = 504, content_type = "application/problem+json")]
    Unknown(ProblemShape),
}
