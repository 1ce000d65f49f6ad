//! What an account may do, and whether it may do anything.

use super::{Rules, at_least_zero, reason, required};
use crate::account::command::{
    ChangeLimits, CloseAccount, FlagAccount, FreezeAccount, UnflagAccount, UnfreezeAccount,
};
use crate::account::event::{
    AccountClosed, AccountFlagged, AccountFrozen, AccountUnflagged, AccountUnfrozen, LimitsChanged,
};
use crate::account::{AccountEvent, AccountRejection, AccountStatus, AccountType};
use rust_decimal::Decimal;

impl Rules<'_> {
    pub(super) fn freeze(&self, command: &FreezeAccount) -> Result<AccountEvent, AccountRejection> {
        let frozen_by = required("frozen_by", &command.frozen_by)?;
        let reason = required("reason", &command.reason)?;
        if self.account.status == AccountStatus::Frozen {
            return Err(AccountRejection::AlreadyFrozen);
        }
        Ok(AccountEvent::AccountFrozen(AccountFrozen {
            account_id: self.account.account_id,
            reason,
            frozen_by,
            transaction_id: command.transaction_id,
            occurred_at: self.now,
        }))
    }

    pub(super) fn unfreeze(
        &self,
        command: &UnfreezeAccount,
    ) -> Result<AccountEvent, AccountRejection> {
        let unfrozen_by = required("unfrozen_by", &command.unfrozen_by)?;
        if self.account.status != AccountStatus::Frozen {
            return Err(AccountRejection::NotFrozen);
        }
        Ok(AccountEvent::AccountUnfrozen(AccountUnfrozen {
            account_id: self.account.account_id,
            unfrozen_by,
            transaction_id: command.transaction_id,
            occurred_at: self.now,
        }))
    }

    pub(super) fn close(&self, command: &CloseAccount) -> Result<AccountEvent, AccountRejection> {
        self.require_active()?;
        let closed_by = required("closed_by", &command.closed_by)?;
        let reason = reason(&command.reason)?;
        let (balance, currency) = (self.account.balance, self.account.currency);
        let count = self.account.holds(self.now).count();
        if count > 0 {
            let held = self.account.held(self.now);
            return Err(AccountRejection::HoldsOpen { count, held, currency });
        }
        if !balance.is_zero() {
            return Err(AccountRejection::BalanceNotZero { balance, currency });
        }
        Ok(AccountEvent::AccountClosed(AccountClosed {
            account_id: self.account.account_id,
            reason,
            closed_by,
            transaction_id: command.transaction_id,
            occurred_at: self.now,
        }))
    }

    pub(super) fn change_limits(
        &self,
        command: &ChangeLimits,
    ) -> Result<AccountEvent, AccountRejection> {
        let changed_by = required("changed_by", &command.changed_by)?;
        let reason = required("reason", &command.reason)?;
        if command.overdraft_limit.is_none() && command.daily_withdrawal_limit.is_none() {
            return Err(AccountRejection::NothingToChange);
        }
        let account = self.account;
        let overdraft_limit = match command.overdraft_limit {
            Some(limit) => self.overdraft_limit(limit)?,
            None => account.overdraft_limit,
        };
        let daily_withdrawal_limit = match command.daily_withdrawal_limit {
            Some(limit) => at_least_zero("daily_withdrawal_limit", limit, account.currency)?,
            None => account.daily_withdrawal_limit,
        };
        Ok(AccountEvent::LimitsChanged(LimitsChanged {
            account_id: account.account_id,
            currency: account.currency,
            overdraft_limit,
            daily_withdrawal_limit,
            changed_by,
            reason,
            transaction_id: command.transaction_id,
            occurred_at: self.now,
        }))
    }

    /// `limit`, if the account may have it and what it owes and has reserved stays within it.
    fn overdraft_limit(&self, limit: Decimal) -> Result<Decimal, AccountRejection> {
        let account = self.account;
        let limit = at_least_zero("overdraft_limit", limit, account.currency)?;
        let account_type = account.account_type;
        if account_type == AccountType::Savings && !limit.is_zero() {
            return Err(AccountRejection::OverdraftNotAllowed { account_type });
        }
        let (balance, held) = (account.balance, account.held(self.now));
        if balance + limit < held {
            let currency = account.currency;
            return Err(AccountRejection::LimitBelowDebt { limit, balance, held, currency });
        }
        Ok(limit)
    }

    pub(super) fn flag(&self, command: &FlagAccount) -> Result<AccountEvent, AccountRejection> {
        Ok(AccountEvent::AccountFlagged(AccountFlagged {
            account_id: self.account.account_id,
            reason: required("reason", &command.reason)?,
            flagged_by: required("flagged_by", &command.flagged_by)?,
            transaction_id: command.transaction_id,
            occurred_at: self.now,
        }))
    }

    pub(super) fn unflag(&self, command: &UnflagAccount) -> Result<AccountEvent, AccountRejection> {
        let unflagged_by = required("unflagged_by", &command.unflagged_by)?;
        if self.account.flag.is_none() {
            return Err(AccountRejection::NotFlagged);
        }
        Ok(AccountEvent::AccountUnflagged(AccountUnflagged {
            account_id: self.account.account_id,
            unflagged_by,
            transaction_id: command.transaction_id,
            occurred_at: self.now,
        }))
    }
}
