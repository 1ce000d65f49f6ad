//! The fields of each event, in the order in which they are stored.

use daybook_model::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::account::{AccountId, AccountType, TransferId};
use crate::books::ContraAccount;
use crate::currency::Currency;
use crate::time::rfc3339;

/// An account was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountOpened {
    /// The account.
    pub account_id: AccountId,
    /// What kind of account it is.
    pub account_type: AccountType,
    /// What all its amounts are counted in.
    pub currency: Currency,
    /// Whose it is.
    pub owner_id: Uuid,
    /// What was paid in at once; may be zero.
    pub initial_balance: Decimal,
    /// Where that came from.
    pub contra: ContraAccount,
    /// How far the balance may go below zero; of a credit account, its credit limit.
    pub overdraft_limit: Decimal,
    /// How much may leave it on one UTC day.
    pub daily_withdrawal_limit: Decimal,
    /// The command's id.
    pub transaction_id: Uuid,
    /// When.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}

/// Money came in from, or went out to, one of the ledger's own accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneyMoved {
    /// The account.
    pub account_id: AccountId,
    /// How much; above zero.
    pub amount: Decimal,
    /// The account's currency.
    pub currency: Currency,
    /// The other leg.
    pub contra: ContraAccount,
    /// The account's balance after it; below zero if it is overdrawn.
    pub balance: Decimal,
    /// The command's id.
    pub transaction_id: Uuid,
    /// What for, in its user's words; may be empty.
    pub description: String,
    /// When.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}

/// This account's half of a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferLeg {
    /// The account.
    pub account_id: AccountId,
    /// The transfer.
    pub transfer_id: TransferId,
    /// The account at its other end.
    pub counterparty_id: AccountId,
    /// How much; above zero.
    pub amount: Decimal,
    /// The account's currency.
    pub currency: Currency,
    /// The other leg: clearing, or the FX position if the transfer converts.
    pub contra: ContraAccount,
    /// The account's balance after it; below zero if it is overdrawn.
    pub balance: Decimal,
    /// What for, in its user's words; may be empty.
    pub description: String,
    /// The step's id.
    pub transaction_id: Uuid,
    /// When.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}

/// A transfer's debit was undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferRefunded {
    /// The account.
    pub account_id: AccountId,
    /// The transfer.
    pub transfer_id: TransferId,
    /// The account that the money did not reach.
    pub counterparty_id: AccountId,
    /// How much; above zero.
    pub amount: Decimal,
    /// The account's currency.
    pub currency: Currency,
    /// The other leg: the one of the debit.
    pub contra: ContraAccount,
    /// The account's balance after it; below zero if it is overdrawn.
    pub balance: Decimal,
    /// What for, in its user's words; may be empty.
    pub description: String,
    /// Why it was undone.
    pub reason: String,
    /// When the money had left; on the same UTC day the daily limit is given back.
    #[serde(with = "rfc3339")]
    pub debited_at: Timestamp,
    /// The step's id.
    pub transaction_id: Uuid,
    /// When.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}

/// Money was reserved: less is available, the balance stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldPlaced {
    /// The account.
    pub account_id: AccountId,
    /// The hold.
    pub hold_id: Uuid,
    /// How much; above zero.
    pub amount: Decimal,
    /// The account's currency.
    pub currency: Currency,
    /// What for, in its user's words; may be empty.
    pub description: String,
    /// When it ends by itself, if it does.
    #[serde(with = "rfc3339::option", default)]
    pub expires_at: Option<Timestamp>,
    /// The command's id.
    pub transaction_id: Uuid,
    /// When.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}

/// Reserved money was paid out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldCaptured {
    /// The account.
    pub account_id: AccountId,
    /// The hold.
    pub hold_id: Uuid,
    /// How much; above zero, at most what was held.
    pub amount: Decimal,
    /// The account's currency.
    pub currency: Currency,
    /// Where it went.
    pub contra: ContraAccount,
    /// The account's balance after it; below zero if it is overdrawn.
    pub balance: Decimal,
    /// What is still held; at zero the hold has ended.
    pub remaining: Decimal,
    /// The command's id.
    pub transaction_id: Uuid,
    /// What for, in its user's words; may be empty.
    pub description: String,
    /// When.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}

/// A hold ended because somebody said so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldReleased {
    /// The account.
    pub account_id: AccountId,
    /// The hold.
    pub hold_id: Uuid,
    /// What was still held.
    pub amount: Decimal,
    /// The account's currency.
    pub currency: Currency,
    /// Why; may be empty.
    pub reason: String,
    /// The command's id.
    pub transaction_id: Uuid,
    /// When.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}

/// A hold ended because its time had come. Recorded with the next command, not at that time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldExpired {
    /// The account.
    pub account_id: AccountId,
    /// The hold.
    pub hold_id: Uuid,
    /// What was still held.
    pub amount: Decimal,
    /// The account's currency.
    pub currency: Currency,
    /// When it was recorded.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}

/// An account was frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountFrozen {
    /// The account.
    pub account_id: AccountId,
    /// Why.
    pub reason: String,
    /// By whom.
    pub frozen_by: String,
    /// The command's id.
    pub transaction_id: Uuid,
    /// When.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}

/// An account was unfrozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountUnfrozen {
    /// The account.
    pub account_id: AccountId,
    /// By whom.
    pub unfrozen_by: String,
    /// The command's id.
    pub transaction_id: Uuid,
    /// When.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}

/// An account was closed, with nothing in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountClosed {
    /// The account.
    pub account_id: AccountId,
    /// Why; may be empty.
    pub reason: String,
    /// By whom.
    pub closed_by: String,
    /// The command's id.
    pub transaction_id: Uuid,
    /// When.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}

/// An account's limits were set; both are those that hold from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsChanged {
    /// The account.
    pub account_id: AccountId,
    /// The account's currency.
    pub currency: Currency,
    /// How far the balance may go below zero.
    pub overdraft_limit: Decimal,
    /// How much may leave it on one UTC day.
    pub daily_withdrawal_limit: Decimal,
    /// By whom.
    pub changed_by: String,
    /// Why.
    pub reason: String,
    /// The command's id.
    pub transaction_id: Uuid,
    /// When.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}

/// An account is suspected of something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountFlagged {
    /// The account.
    pub account_id: AccountId,
    /// Of what.
    pub reason: String,
    /// By whom.
    pub flagged_by: String,
    /// The command's id.
    pub transaction_id: Uuid,
    /// When.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}

/// An account is suspected no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountUnflagged {
    /// The account.
    pub account_id: AccountId,
    /// By whom.
    pub unflagged_by: String,
    /// The command's id.
    pub transaction_id: Uuid,
    /// When.
    #[serde(with = "rfc3339")]
    pub occurred_at: Timestamp,
}
