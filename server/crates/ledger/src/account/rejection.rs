//! Why an account refuses a command. Each reason has a word that never changes, for programs, and
//! a sentence with the figures, for people.

use daybook_model::Timestamp;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::AccountType;
use super::limits::{HOLDS_OPEN_MAX, SAVINGS_DEPOSIT_MIN};
use crate::currency::Currency;
use crate::money::{BALANCE_MAX, InvalidAmount};
use crate::time::Rfc3339;

/// Why an account refuses a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccountRejection {
    /// Nobody opened it.
    #[error("the account does not exist; open it first")]
    AccountNotFound,
    /// It was opened before.
    #[error("the account exists already; choose another id")]
    AccountExists,
    /// It has ended.
    #[error("the account is closed; open another one")]
    AccountClosed,
    /// It takes money in but gives none out.
    #[error("the account is frozen: money can be paid in but not out; unfreeze it first")]
    AccountFrozen,
    /// It is frozen already.
    #[error("the account is frozen already")]
    AlreadyFrozen,
    /// It is active.
    #[error("the account is not frozen")]
    NotFrozen,
    /// It has no flag to take away.
    #[error("the account is not flagged")]
    NotFlagged,
    /// An amount or limit is not one of the account's currency.
    #[error("{field}: {reason}")]
    InvalidAmount {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        reason: InvalidAmount,
    },
    /// An amount is zero.
    #[error("{field}: the amount is zero; give one above it")]
    AmountNotPositive {
        /// Which.
        field: &'static str,
    },
    /// An amount is of another currency than the account.
    #[error("the account is in {expected}, the amount in {given}; convert it first")]
    CurrencyMismatch {
        /// The account's.
        expected: Currency,
        /// The amount's.
        given: Currency,
    },
    /// A text is too long.
    #[error("{field} has {size} bytes; the limit is {size_max}")]
    TextTooLong {
        /// Which.
        field: &'static str,
        /// Its bytes.
        size: usize,
        /// The limit.
        size_max: usize,
    },
    /// A text has a control character, which would forge lines in logs and statements.
    #[error("{field} has the control character U+{code:04X}; leave it out")]
    TextNotPrintable {
        /// Which.
        field: &'static str,
        /// The character.
        code: u32,
    },
    /// A text that must say something is empty.
    #[error("{field} is empty; say who or why, for those who will read the account's history")]
    TextMissing {
        /// Which.
        field: &'static str,
    },
    /// More than there is.
    #[error(
        "{requested} {currency} are more than the {available} available: balance {balance}, \
         overdraft limit {overdraft_limit}, held {held}"
    )]
    InsufficientFunds {
        /// What was asked for.
        requested: Decimal,
        /// What could be had.
        available: Decimal,
        /// The balance.
        balance: Decimal,
        /// How far it may go below zero.
        overdraft_limit: Decimal,
        /// What is reserved.
        held: Decimal,
        /// The account's currency.
        currency: Currency,
    },
    /// More than may leave the account on one UTC day.
    #[error(
        "with {requested} {currency} more than the daily limit of {limit} would leave the account \
         on this UTC day: {withdrawn} did already; wait until tomorrow or raise the limit"
    )]
    DailyLimitExceeded {
        /// What was asked for.
        requested: Decimal,
        /// What left, or was reserved, today.
        withdrawn: Decimal,
        /// The limit.
        limit: Decimal,
        /// The account's currency.
        currency: Currency,
    },
    /// The balance would be larger than [`BALANCE_MAX`].
    #[error(
        "with {amount} {currency} the balance would be above {BALANCE_MAX}, the largest allowed"
    )]
    BalanceLimitExceeded {
        /// What was to be paid in.
        amount: Decimal,
        /// The account's currency.
        currency: Currency,
    },
    /// A savings account was opened with too little.
    #[error(
        "a savings account needs an initial deposit of at least {SAVINGS_DEPOSIT_MIN} {currency}, \
         {deposit} were given"
    )]
    InitialDepositTooSmall {
        /// What was to be paid in.
        deposit: Decimal,
        /// The account's currency.
        currency: Currency,
    },
    /// A credit account was opened without a limit.
    #[error("a credit account needs a credit_limit")]
    CreditLimitRequired,
    /// Another account was opened with a credit limit.
    #[error("only a credit account has a credit_limit; leave it out")]
    CreditLimitNotAllowed,
    /// A savings account cannot be overdrawn, and a credit account's overdraft is its credit limit.
    #[error(
        "only a checking account has an overdraft_limit; leave it out{}",
        if *.account_type == AccountType::Credit {
            ", the credit_limit says how far it may go"
        } else { "" }
    )]
    OverdraftNotAllowed {
        /// The account's.
        account_type: AccountType,
    },
    /// The account owes, or has reserved, more than the new limit allows.
    #[error(
        "an overdraft limit of {limit} {currency} is below the account's debt: balance {balance}, \
         held {held}; set at least {}", *.held - *.balance
    )]
    LimitBelowDebt {
        /// The new limit.
        limit: Decimal,
        /// The balance.
        balance: Decimal,
        /// What is reserved.
        held: Decimal,
        /// The account's currency.
        currency: Currency,
    },
    /// No limit was named.
    #[error("no limit is named; give overdraft_limit, daily_withdrawal_limit, or both")]
    NothingToChange,
    /// Money is left in the account, or owed.
    #[error("the balance is {balance} {currency}; bring it to zero, then close the account")]
    BalanceNotZero {
        /// The balance.
        balance: Decimal,
        /// The account's currency.
        currency: Currency,
    },
    /// Money is reserved.
    #[error("{count} holds of {held} {currency} are open; capture or release them first")]
    HoldsOpen {
        /// How many.
        count: usize,
        /// Their sum.
        held: Decimal,
        /// The account's currency.
        currency: Currency,
    },
    /// As many holds are open as may be.
    #[error("{HOLDS_OPEN_MAX} holds are open, as many as may be; capture or release some first")]
    TooManyHolds,
    /// A hold of this id is open.
    #[error("hold {hold_id} is open already; choose another id")]
    HoldExists {
        /// The hold.
        hold_id: Uuid,
    },
    /// No hold of this id is open.
    #[error(
        "no hold {hold_id} is open: it was never placed, or was captured, released, or has expired"
    )]
    HoldNotFound {
        /// The hold.
        hold_id: Uuid,
    },
    /// More than is reserved was to be captured.
    #[error("{requested} {currency} are more than the {remaining} that hold {hold_id} reserves")]
    CaptureExceedsHold {
        /// The hold.
        hold_id: Uuid,
        /// What was asked for.
        requested: Decimal,
        /// What is reserved.
        remaining: Decimal,
        /// The account's currency.
        currency: Currency,
    },
    /// The hold would have ended before it began.
    #[error(
        "expires_at {} is not after the account's time {}; give a later one",
        Rfc3339(*.expires_at), Rfc3339(*.now)
    )]
    HoldExpiryInPast {
        /// When it was to end.
        expires_at: Timestamp,
        /// What time it is for the account.
        now: Timestamp,
    },
}

impl AccountRejection {
    /// The word that programs know it by.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            AccountRejection::AccountNotFound => "account_not_found",
            AccountRejection::AccountExists => "account_exists",
            AccountRejection::AccountClosed => "account_closed",
            AccountRejection::AccountFrozen => "account_frozen",
            AccountRejection::AlreadyFrozen => "already_frozen",
            AccountRejection::NotFrozen => "not_frozen",
            AccountRejection::NotFlagged => "not_flagged",
            AccountRejection::InvalidAmount { .. } => "invalid_amount",
            AccountRejection::AmountNotPositive { .. } => "amount_not_positive",
            AccountRejection::CurrencyMismatch { .. } => "currency_mismatch",
            AccountRejection::TextTooLong { .. } => "text_too_long",
            AccountRejection::TextNotPrintable { .. } => "text_not_printable",
            AccountRejection::TextMissing { .. } => "text_missing",
            AccountRejection::InsufficientFunds { .. } => "insufficient_funds",
            AccountRejection::DailyLimitExceeded { .. } => "daily_limit_exceeded",
            AccountRejection::BalanceLimitExceeded { .. } => "balance_limit_exceeded",
            AccountRejection::InitialDepositTooSmall { .. } => "initial_deposit_too_small",
            AccountRejection::CreditLimitRequired => "credit_limit_required",
            AccountRejection::CreditLimitNotAllowed => "credit_limit_not_allowed",
            AccountRejection::OverdraftNotAllowed { .. } => "overdraft_not_allowed",
            AccountRejection::LimitBelowDebt { .. } => "limit_below_debt",
            AccountRejection::NothingToChange => "nothing_to_change",
            AccountRejection::BalanceNotZero { .. } => "balance_not_zero",
            AccountRejection::HoldsOpen { .. } => "holds_open",
            AccountRejection::TooManyHolds => "too_many_holds",
            AccountRejection::HoldExists { .. } => "hold_exists",
            AccountRejection::HoldNotFound { .. } => "hold_not_found",
            AccountRejection::CaptureExceedsHold { .. } => "capture_exceeds_hold",
            AccountRejection::HoldExpiryInPast { .. } => "hold_expiry_in_past",
        }
    }

    /// The field of the command that is malformed whatever state the account is in; none if the
    /// command was well-formed and a rule forbids it.
    #[must_use]
    pub fn field(&self) -> Option<&'static str> {
        match self {
            AccountRejection::InvalidAmount { field, .. }
            | AccountRejection::AmountNotPositive { field }
            | AccountRejection::TextTooLong { field, .. }
            | AccountRejection::TextNotPrintable { field, .. }
            | AccountRejection::TextMissing { field } => Some(field),
            _ => None,
        }
    }
}
