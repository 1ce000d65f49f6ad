//! The rules of accounts: what may happen, and why not.
//!
//! A command is checked from the outside in: the account's status, the command's own fields, what
//! it would do to the account. So the same mistake gets the same answer in most states.

mod holds;
mod money;
mod open;
mod settings;

use daybook_model::Timestamp;
use rust_decimal::Decimal;

use super::event::HoldExpired;
use super::limits::{DESCRIPTION_SIZE_MAX, REASON_SIZE_MAX};
use super::{AccountCommand, AccountEvent, AccountRejection, AccountState, AccountStatus};
use crate::currency::Currency;
use crate::money::exact;

/// What happens if `command` is given to `account` at `now`.
pub(super) fn decide(
    account: Option<&AccountState>,
    command: &AccountCommand,
    now: Timestamp,
) -> Result<Vec<AccountEvent>, AccountRejection> {
    let Some(account) = account else {
        return match command {
            AccountCommand::Open(command) => open::open(command, now).map(|event| vec![event]),
            _ => Err(AccountRejection::AccountNotFound),
        };
    };
    let now = now.max(account.updated_at);
    let event = Rules { account, now }.decide(command)?;
    let mut events = expiries(account, now);
    events.push(event);
    Ok(events)
}

/// The ends of the holds whose time had come at `now`.
fn expiries(account: &AccountState, now: Timestamp) -> Vec<AccountEvent> {
    let expired = account.expired(now).map(|hold| {
        AccountEvent::HoldExpired(HoldExpired {
            account_id: account.account_id,
            hold_id: hold.hold_id,
            amount: hold.remaining,
            currency: account.currency,
            occurred_at: now,
        })
    });
    expired.collect()
}

/// The rules for an account that exists. They ask it for its figures at `now`, in which a hold that
/// has expired does not count, whether its end was recorded or not.
struct Rules<'a> {
    account: &'a AccountState,
    now: Timestamp,
}

/// Which way money goes, as the account sees it.
#[derive(Clone, Copy)]
enum Way {
    In,
    Out,
}

impl Rules<'_> {
    fn decide(&self, command: &AccountCommand) -> Result<AccountEvent, AccountRejection> {
        if let AccountCommand::Open(_) = command {
            return Err(AccountRejection::AccountExists);
        }
        if self.account.status == AccountStatus::Closed {
            return Err(AccountRejection::AccountClosed);
        }
        match command {
            AccountCommand::Open(_) => Err(AccountRejection::AccountExists),
            AccountCommand::Deposit(command) => self.deposit(command),
            AccountCommand::Withdraw(command) => self.withdraw(command),
            AccountCommand::ChargeFee(command) => self.charge_fee(command),
            AccountCommand::PlaceHold(command) => self.place_hold(command),
            AccountCommand::CaptureHold(command) => self.capture_hold(command),
            AccountCommand::ReleaseHold(command) => self.release_hold(command),
            AccountCommand::Freeze(command) => self.freeze(command),
            AccountCommand::Unfreeze(command) => self.unfreeze(command),
            AccountCommand::Close(command) => self.close(command),
            AccountCommand::ChangeLimits(command) => self.change_limits(command),
            AccountCommand::Flag(command) => self.flag(command),
            AccountCommand::Unflag(command) => self.unflag(command),
            AccountCommand::DebitTransfer(command) => self.debit_transfer(command),
            AccountCommand::CreditTransfer(command) => self.credit_transfer(command),
            AccountCommand::RefundTransfer(command) => self.refund_transfer(command),
        }
    }

    /// That money may leave the account.
    fn require_active(&self) -> Result<(), AccountRejection> {
        if self.account.status == AccountStatus::Frozen {
            return Err(AccountRejection::AccountFrozen);
        }
        Ok(())
    }

    /// `amount` at the account's scale, if it is one of the account's currency, above zero.
    fn amount(&self, amount: Decimal, currency: Currency) -> Result<Decimal, AccountRejection> {
        let expected = self.account.currency;
        if currency != expected {
            return Err(AccountRejection::CurrencyMismatch { expected, given: currency });
        }
        positive("amount", amount, currency)
    }

    /// The balance once `amount` has moved. What comes along with a command, the ends of holds,
    /// leaves it as it is.
    fn balance_after(&self, way: Way, amount: Decimal) -> Decimal {
        match way {
            Way::In => self.account.balance + amount,
            Way::Out => self.account.balance - amount,
        }
    }

    /// That `amount` is there to leave the account.
    fn require_funds(&self, amount: Decimal) -> Result<(), AccountRejection> {
        let account = self.account;
        let available = account.available(self.now);
        if amount > available {
            return Err(AccountRejection::InsufficientFunds {
                requested: amount,
                available,
                balance: account.balance,
                overdraft_limit: account.overdraft_limit,
                held: account.held(self.now),
                currency: account.currency,
            });
        }
        Ok(())
    }

    /// That `amount` more may leave the account today.
    fn require_daily_limit(&self, amount: Decimal) -> Result<(), AccountRejection> {
        let account = self.account;
        let withdrawn = account.withdrawn_today(self.now);
        let limit = account.daily_withdrawal_limit;
        if withdrawn + amount > limit {
            return Err(AccountRejection::DailyLimitExceeded {
                requested: amount,
                withdrawn,
                limit,
                currency: account.currency,
            });
        }
        Ok(())
    }
}

/// `value` at the scale of `currency`, if it is an amount above zero.
fn positive(
    field: &'static str,
    value: Decimal,
    currency: Currency,
) -> Result<Decimal, AccountRejection> {
    let amount = at_least_zero(field, value, currency)?;
    if amount.is_zero() {
        return Err(AccountRejection::AmountNotPositive { field });
    }
    Ok(amount)
}

/// `value` at the scale of `currency`, if it is an amount.
fn at_least_zero(
    field: &'static str,
    value: Decimal,
    currency: Currency,
) -> Result<Decimal, AccountRejection> {
    exact(value, currency).map_err(|reason| AccountRejection::InvalidAmount { field, reason })
}

/// A description, if it is short and printable. It may be empty.
fn description(text: &str) -> Result<String, AccountRejection> {
    printable("description", text, DESCRIPTION_SIZE_MAX)
}

/// A reason, if it is short and printable. It may be empty.
fn reason(text: &str) -> Result<String, AccountRejection> {
    printable("reason", text, REASON_SIZE_MAX)
}

/// A text that must say something, if it does, and is short and printable.
fn required(field: &'static str, text: &str) -> Result<String, AccountRejection> {
    if text.trim().is_empty() {
        return Err(AccountRejection::TextMissing { field });
    }
    printable(field, text, REASON_SIZE_MAX)
}

fn printable(field: &'static str, text: &str, size_max: usize) -> Result<String, AccountRejection> {
    let size = text.len();
    if size > size_max {
        return Err(AccountRejection::TextTooLong { field, size, size_max });
    }
    if let Some(c) = text.chars().find(|c| c.is_control()) {
        return Err(AccountRejection::TextNotPrintable { field, code: u32::from(c) });
    }
    Ok(text.to_owned())
}
