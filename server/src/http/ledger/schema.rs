//! Parts of the API's description that several shapes share.

use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

/// An amount: digits, and if there is a point at most as many digits after it as the currency has.
/// Answers have exactly as many.
#[derive(ToSchema)]
#[schema(pattern = r"^(0|[1-9]\d*)(\.\d+)?$", example = "10.00")]
pub struct Amount(pub String);

/// An amount that may be below zero.
#[derive(ToSchema)]
#[schema(pattern = r"^-?(0|[1-9]\d*)(\.\d+)?$", example = "-3.50")]
pub struct SignedAmount(pub String);

/// What one unit of a currency is worth in another: up to 12 digits after the point.
#[derive(ToSchema)]
#[schema(pattern = r"^\d+(\.\d{1,12})?$", example = "0.9213")]
pub struct Rate(pub String);

/// The code of a currency in ISO 4217.
#[derive(ToSchema)]
#[schema(as = Currency, pattern = "^[A-Z]{3}$", example = "USD")]
pub struct CurrencyCode(pub String);

/// A time in RFC 3339. Answers are in UTC, with nine digits of a second.
#[derive(ToSchema)]
#[schema(format = DateTime, example = "2026-01-31T12:00:00.000000000Z")]
pub struct Time(pub String);

/// The kind of an account.
#[derive(ToSchema)]
#[schema(as = AccountType, rename_all = "snake_case")]
pub enum AccountTypeName {
    /// For every day; may be overdrawn.
    Checking,
    /// Opened with at least 100; never overdrawn.
    Savings,
    /// Money lent, up to a credit limit.
    Credit,
}

/// Whether money may move.
#[derive(ToSchema)]
#[schema(as = AccountStatus, rename_all = "snake_case")]
pub enum AccountStatusName {
    /// In and out.
    Active,
    /// In, not out.
    Frozen,
    /// Neither, for ever.
    Closed,
}

/// Where a saga stands. The last four are ends, but a failed one can be resumed.
#[derive(ToSchema)]
#[schema(as = SagaState, rename_all = "snake_case")]
pub enum SagaStateName {
    /// Its steps are being taken.
    Running,
    /// Its steps are being taken back.
    Compensating,
    /// All steps were taken.
    Completed,
    /// All that was taken was taken back: it is as if it had not been.
    Compensated,
    /// Something could not be taken back; somebody must look.
    Failed,
    /// Somebody looked, and ended it.
    Abandoned,
}

/// How an amount is rounded to its currency's minor unit.
#[derive(ToSchema)]
#[schema(as = Rounding, rename_all = "snake_case")]
pub enum RoundingName {
    /// To the nearest; from the middle to the even digit.
    HalfEven,
    /// To the nearest; from the middle up.
    HalfUp,
    /// Towards zero.
    Down,
    /// Away from zero.
    Up,
}

/// Whether a step is taken or taken back.
#[derive(ToSchema)]
#[schema(as = Direction, rename_all = "snake_case")]
pub enum DirectionName {
    /// Taken.
    Action,
    /// Taken back.
    Compensation,
}

/// What came of an attempt.
#[derive(ToSchema)]
#[schema(as = Outcome, rename_all = "snake_case")]
pub enum OutcomeName {
    /// It was done.
    Completed,
    /// It was not.
    Failed,
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
