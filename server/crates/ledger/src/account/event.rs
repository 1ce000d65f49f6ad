//! What happens to an account. The names and fields are those of the stored JSON
//! (`docs/ledger-events.md`); a stored event means the same for ever.

use daybook_model::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{AccountId, AccountType, TransferId};
use crate::books::{AccountClass, ContraAccount, Leg};
use crate::currency::Currency;
use crate::time::rfc3339;

/// What happened to an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountEvent {
    /// It was opened, perhaps with money paid in.
    AccountOpened(AccountOpened),
    /// Cash was paid in.
    MoneyDeposited(MoneyMoved),
    /// Cash was paid out.
    MoneyWithdrawn(MoneyMoved),
    /// A fee was taken.
    FeeCharged(MoneyMoved),
    /// Money left for another account.
    TransferDebited(TransferLeg),
    /// Money came from another account.
    TransferCredited(TransferLeg),
    /// Money that had left for another account came back.
    TransferRefunded(TransferRefunded),
    /// Money was reserved.
    HoldPlaced(HoldPlaced),
    /// Reserved money, or a part of it, was paid out.
    HoldCaptured(HoldCaptured),
    /// What was still reserved was given back.
    HoldReleased(HoldReleased),
    /// What was still reserved when its time had come was given back.
    HoldExpired(HoldExpired),
    /// From now on money goes in but not out.
    AccountFrozen(AccountFrozen),
    /// It is active again.
    AccountUnfrozen(AccountUnfrozen),
    /// It ended.
    AccountClosed(AccountClosed),
    /// Its limits were set.
    LimitsChanged(LimitsChanged),
    /// Its owner is suspected of something; what follows of it is for the risk rules to say.
    AccountFlagged(AccountFlagged),
    /// It is suspected no more.
    AccountUnflagged(AccountUnflagged),
}

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

/// Does the same to whichever event it is.
macro_rules! each {
    ($event:expr, $inner:ident => $result:expr) => {
        match $event {
            AccountEvent::AccountOpened($inner) => $result,
            AccountEvent::MoneyDeposited($inner) => $result,
            AccountEvent::MoneyWithdrawn($inner) => $result,
            AccountEvent::FeeCharged($inner) => $result,
            AccountEvent::TransferDebited($inner) => $result,
            AccountEvent::TransferCredited($inner) => $result,
            AccountEvent::TransferRefunded($inner) => $result,
            AccountEvent::HoldPlaced($inner) => $result,
            AccountEvent::HoldCaptured($inner) => $result,
            AccountEvent::HoldReleased($inner) => $result,
            AccountEvent::HoldExpired($inner) => $result,
            AccountEvent::AccountFrozen($inner) => $result,
            AccountEvent::AccountUnfrozen($inner) => $result,
            AccountEvent::AccountClosed($inner) => $result,
            AccountEvent::LimitsChanged($inner) => $result,
            AccountEvent::AccountFlagged($inner) => $result,
            AccountEvent::AccountUnflagged($inner) => $result,
        }
    };
}
pub(super) use each;

impl AccountEvent {
    /// Its name in the store.
    #[must_use]
    pub fn event_type(&self) -> &'static str {
        match self {
            AccountEvent::AccountOpened(_) => "AccountOpened",
            AccountEvent::MoneyDeposited(_) => "MoneyDeposited",
            AccountEvent::MoneyWithdrawn(_) => "MoneyWithdrawn",
            AccountEvent::FeeCharged(_) => "FeeCharged",
            AccountEvent::TransferDebited(_) => "TransferDebited",
            AccountEvent::TransferCredited(_) => "TransferCredited",
            AccountEvent::TransferRefunded(_) => "TransferRefunded",
            AccountEvent::HoldPlaced(_) => "HoldPlaced",
            AccountEvent::HoldCaptured(_) => "HoldCaptured",
            AccountEvent::HoldReleased(_) => "HoldReleased",
            AccountEvent::HoldExpired(_) => "HoldExpired",
            AccountEvent::AccountFrozen(_) => "AccountFrozen",
            AccountEvent::AccountUnfrozen(_) => "AccountUnfrozen",
            AccountEvent::AccountClosed(_) => "AccountClosed",
            AccountEvent::LimitsChanged(_) => "LimitsChanged",
            AccountEvent::AccountFlagged(_) => "AccountFlagged",
            AccountEvent::AccountUnflagged(_) => "AccountUnflagged",
        }
    }

    /// The account it happened to.
    #[must_use]
    pub fn account_id(&self) -> AccountId {
        each!(self, event => event.account_id)
    }

    /// When it happened, by the clock that decided it.
    #[must_use]
    pub fn occurred_at(&self) -> Timestamp {
        each!(self, event => event.occurred_at)
    }

    /// The command it was decided for; none if it came along with another.
    #[must_use]
    pub fn transaction_id(&self) -> Option<Uuid> {
        match self {
            AccountEvent::HoldExpired(_) => None,
            AccountEvent::AccountOpened(e) => Some(e.transaction_id),
            AccountEvent::MoneyDeposited(e)
            | AccountEvent::MoneyWithdrawn(e)
            | AccountEvent::FeeCharged(e) => Some(e.transaction_id),
            AccountEvent::TransferDebited(e) | AccountEvent::TransferCredited(e) => {
                Some(e.transaction_id)
            }
            AccountEvent::TransferRefunded(e) => Some(e.transaction_id),
            AccountEvent::HoldPlaced(e) => Some(e.transaction_id),
            AccountEvent::HoldCaptured(e) => Some(e.transaction_id),
            AccountEvent::HoldReleased(e) => Some(e.transaction_id),
            AccountEvent::AccountFrozen(e) => Some(e.transaction_id),
            AccountEvent::AccountUnfrozen(e) => Some(e.transaction_id),
            AccountEvent::AccountClosed(e) => Some(e.transaction_id),
            AccountEvent::LimitsChanged(e) => Some(e.transaction_id),
            AccountEvent::AccountFlagged(e) => Some(e.transaction_id),
            AccountEvent::AccountUnflagged(e) => Some(e.transaction_id),
        }
    }

    /// Its two legs, the customer's first; none if no money moved. They sum to zero.
    #[must_use]
    pub fn legs(&self) -> Option<[Leg; 2]> {
        let (amount, currency, contra) = match self {
            AccountEvent::AccountOpened(e) if e.initial_balance.is_zero() => return None,
            AccountEvent::AccountOpened(e) => (e.initial_balance, e.currency, e.contra),
            AccountEvent::MoneyDeposited(e) => (e.amount, e.currency, e.contra),
            AccountEvent::MoneyWithdrawn(e) | AccountEvent::FeeCharged(e) => {
                (-e.amount, e.currency, e.contra)
            }
            AccountEvent::TransferDebited(e) => (-e.amount, e.currency, e.contra),
            AccountEvent::TransferCredited(e) => (e.amount, e.currency, e.contra),
            AccountEvent::TransferRefunded(e) => (e.amount, e.currency, e.contra),
            AccountEvent::HoldCaptured(e) => (-e.amount, e.currency, e.contra),
            AccountEvent::HoldPlaced(_)
            | AccountEvent::HoldReleased(_)
            | AccountEvent::HoldExpired(_)
            | AccountEvent::AccountFrozen(_)
            | AccountEvent::AccountUnfrozen(_)
            | AccountEvent::AccountClosed(_)
            | AccountEvent::LimitsChanged(_)
            | AccountEvent::AccountFlagged(_)
            | AccountEvent::AccountUnflagged(_) => return None,
        };
        Some([
            Leg { class: AccountClass::Customers, currency, amount },
            Leg { class: contra.class(), currency, amount: -amount },
        ])
    }
}
