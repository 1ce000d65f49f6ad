//! What an account is like, and how events change it.

use daybook_model::Timestamp;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::event::AccountOpened;
use super::{AccountEvent, AccountId, AccountStatus, AccountType};
use crate::currency::Currency;
use crate::money::major;
use crate::time::{rfc3339, utc_day, utc_hour};

/// What an account is like. All amounts are in its currency, at its scale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountState {
    /// The account.
    pub account_id: AccountId,
    /// What kind of account it is.
    pub account_type: AccountType,
    /// Whether money may move.
    pub status: AccountStatus,
    /// What all its amounts are counted in.
    pub currency: Currency,
    /// Whose it is.
    pub owner_id: Uuid,
    /// What is in it; below zero if it is overdrawn.
    pub balance: Decimal,
    /// How far the balance may go below zero; of a credit account, its credit limit.
    pub overdraft_limit: Decimal,
    /// How much may leave it on one UTC day.
    pub daily_withdrawal_limit: Decimal,
    /// Whether it is suspected of something.
    pub flag: Option<Flag>,
    /// When it was opened.
    #[serde(with = "rfc3339")]
    pub opened_at: Timestamp,
    /// When something last happened to it: its own time, which never goes backwards.
    #[serde(with = "rfc3339")]
    pub updated_at: Timestamp,
    /// Reservations that were neither captured, released, nor recorded as expired, oldest first.
    holds: Vec<Hold>,
    /// The sum of what they reserve.
    held: Decimal,
    withdrawn: Withdrawn,
    transfers: Transfers,
}

/// Reserved money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The hold.
    pub hold_id: Uuid,
    /// What it reserved at first.
    pub amount: Decimal,
    /// What it reserves still.
    pub remaining: Decimal,
    /// When it was placed.
    #[serde(with = "rfc3339")]
    pub placed_at: Timestamp,
    /// When it ends by itself, if it does.
    #[serde(with = "rfc3339::option")]
    pub expires_at: Option<Timestamp>,
}

/// Why an account is suspect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flag {
    /// Why.
    pub reason: String,
    /// Who said so.
    pub flagged_by: String,
    /// When.
    #[serde(with = "rfc3339")]
    pub flagged_at: Timestamp,
}

/// What left the account, or was reserved, on the last UTC day on which anything did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Withdrawn {
    day: i64,
    amount: Decimal,
}

/// The transfers that left the account in the last UTC hour and on the last UTC day in which any
/// did. Those that were refunded count: they are what a rule on velocity looks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Transfers {
    hour: i64,
    in_hour: u32,
    day: i64,
    in_day: u32,
}

impl Hold {
    /// Whether its time has come at `now`.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= now)
    }
}

impl AccountState {
    pub(super) fn new(opened: &AccountOpened) -> AccountState {
        let (hour, day) = (utc_hour(opened.occurred_at), utc_day(opened.occurred_at));
        let zero = major(0, opened.currency);
        AccountState {
            account_id: opened.account_id,
            account_type: opened.account_type,
            status: AccountStatus::Active,
            currency: opened.currency,
            owner_id: opened.owner_id,
            balance: opened.initial_balance,
            overdraft_limit: opened.overdraft_limit,
            daily_withdrawal_limit: opened.daily_withdrawal_limit,
            flag: None,
            opened_at: opened.occurred_at,
            updated_at: opened.occurred_at,
            holds: Vec::new(),
            held: zero,
            withdrawn: Withdrawn { day, amount: zero },
            transfers: Transfers { hour, in_hour: 0, day, in_day: 0 },
        }
    }

    /// What may leave it at `now`, as far as money goes.
    #[must_use]
    pub fn available(&self, now: Timestamp) -> Decimal {
        self.balance + self.overdraft_limit - self.held(now)
    }

    /// What is reserved at `now`.
    #[must_use]
    pub fn held(&self, now: Timestamp) -> Decimal {
        let expired = self.holds.iter().filter(|hold| hold.is_expired(now));
        expired.fold(self.held, |held, hold| held - hold.remaining)
    }

    /// The reservations that count at `now`, oldest first.
    pub fn holds(&self, now: Timestamp) -> impl Iterator<Item = &Hold> {
        self.holds.iter().filter(move |hold| !hold.is_expired(now))
    }

    /// What of the daily limit is used up at `now`.
    #[must_use]
    pub fn withdrawn_today(&self, now: Timestamp) -> Decimal {
        let (today, zero) = (utc_day(now), major(0, self.currency));
        if self.withdrawn.day != today {
            return zero;
        }
        let returned = self
            .holds
            .iter()
            .filter(|hold| hold.is_expired(now) && utc_day(hold.placed_at) == today);
        returned.fold(self.withdrawn.amount, |sum, hold| sum - hold.remaining).max(zero)
    }

    /// How many transfers left it in the UTC hour of `now`, refunded ones included.
    #[must_use]
    pub fn transfers_this_hour(&self, now: Timestamp) -> u32 {
        if self.transfers.hour == utc_hour(now) { self.transfers.in_hour } else { 0 }
    }

    /// How many transfers left it on the UTC day of `now`, refunded ones included.
    #[must_use]
    pub fn transfers_today(&self, now: Timestamp) -> u32 {
        if self.transfers.day == utc_day(now) { self.transfers.in_day } else { 0 }
    }

    /// The reservations whose time had come at `now` and whose end nothing recorded.
    pub(super) fn expired(&self, now: Timestamp) -> impl Iterator<Item = &Hold> {
        self.holds.iter().filter(move |hold| hold.is_expired(now))
    }

    /// Takes in what happened.
    pub(super) fn apply(&mut self, event: &AccountEvent) {
        let at = event.occurred_at();
        match event {
            // A stream has one opening, its first event.
            AccountEvent::AccountOpened(_) => return,
            AccountEvent::MoneyDeposited(e) => self.balance += e.amount,
            AccountEvent::MoneyWithdrawn(e) => {
                self.balance -= e.amount;
                self.count_withdrawn(e.amount, at);
            }
            AccountEvent::FeeCharged(e) => self.balance -= e.amount,
            AccountEvent::TransferDebited(e) => {
                self.balance -= e.amount;
                self.count_withdrawn(e.amount, at);
                self.count_transfer(at);
            }
            AccountEvent::TransferCredited(e) => self.balance += e.amount,
            AccountEvent::TransferRefunded(e) => {
                self.balance += e.amount;
                self.give_back(e.amount, e.debited_at, at);
            }
            AccountEvent::HoldPlaced(e) => {
                self.holds.push(Hold {
                    hold_id: e.hold_id,
                    amount: e.amount,
                    remaining: e.amount,
                    placed_at: at,
                    expires_at: e.expires_at,
                });
                self.held += e.amount;
                self.count_withdrawn(e.amount, at);
            }
            AccountEvent::HoldCaptured(e) => {
                self.balance -= e.amount;
                self.capture(e.hold_id, e.amount);
            }
            AccountEvent::HoldReleased(e) => self.end_hold(e.hold_id, at),
            AccountEvent::HoldExpired(e) => self.end_hold(e.hold_id, at),
            AccountEvent::AccountFrozen(_) => self.status = AccountStatus::Frozen,
            AccountEvent::AccountUnfrozen(_) => self.status = AccountStatus::Active,
            AccountEvent::AccountClosed(_) => self.status = AccountStatus::Closed,
            AccountEvent::LimitsChanged(e) => {
                self.overdraft_limit = e.overdraft_limit;
                self.daily_withdrawal_limit = e.daily_withdrawal_limit;
            }
            AccountEvent::AccountFlagged(e) => {
                self.flag = Some(Flag {
                    reason: e.reason.clone(),
                    flagged_by: e.flagged_by.clone(),
                    flagged_at: at,
                });
            }
            AccountEvent::AccountUnflagged(_) => self.flag = None,
        }
        self.updated_at = at;
    }

    fn capture(&mut self, hold_id: Uuid, amount: Decimal) {
        let Some(at) = self.holds.iter().position(|hold| hold.hold_id == hold_id) else { return };
        self.held -= amount;
        let hold = &mut self.holds[at];
        hold.remaining -= amount;
        if hold.remaining.is_zero() {
            self.holds.remove(at);
        }
    }

    fn end_hold(&mut self, hold_id: Uuid, now: Timestamp) {
        let Some(at) = self.holds.iter().position(|hold| hold.hold_id == hold_id) else { return };
        let hold = self.holds.remove(at);
        self.held -= hold.remaining;
        self.give_back(hold.remaining, hold.placed_at, now);
    }

    fn count_withdrawn(&mut self, amount: Decimal, at: Timestamp) {
        let day = utc_day(at);
        if self.withdrawn.day != day {
            self.withdrawn = Withdrawn { day, amount: major(0, self.currency) };
        }
        self.withdrawn.amount += amount;
    }

    /// What was counted at `counted_at` and comes back at `now` does not count any more, if both
    /// are on one day.
    fn give_back(&mut self, amount: Decimal, counted_at: Timestamp, now: Timestamp) {
        let day = utc_day(now);
        if utc_day(counted_at) == day && self.withdrawn.day == day {
            let left = self.withdrawn.amount - amount;
            self.withdrawn.amount = left.max(major(0, self.currency));
        }
    }

    fn count_transfer(&mut self, at: Timestamp) {
        let (hour, day) = (utc_hour(at), utc_day(at));
        let transfers = &mut self.transfers;
        let in_hour = if transfers.hour == hour { transfers.in_hour } else { 0 };
        let in_day = if transfers.day == day { transfers.in_day } else { 0 };
        *transfers = Transfers {
            hour,
            in_hour: in_hour.saturating_add(1),
            day,
            in_day: in_day.saturating_add(1),
        };
    }
}
