//! Reserving money, and what becomes of it.

use uuid::Uuid;

use super::{Rules, Way, description, positive, reason};
use crate::account::command::{CaptureHold, PlaceHold, ReleaseHold};
use crate::account::event::{HoldCaptured, HoldPlaced, HoldReleased};
use crate::account::limits::HOLDS_OPEN_MAX;
use crate::account::{AccountEvent, AccountRejection, Hold};
use crate::books::ContraAccount;

impl Rules<'_> {
    pub(super) fn place_hold(&self, command: &PlaceHold) -> Result<AccountEvent, AccountRejection> {
        self.require_active()?;
        let amount = self.amount(command.amount, command.currency)?;
        let description = description(&command.description)?;
        if let Some(expires_at) = command.expires_at.filter(|expires_at| *expires_at <= self.now) {
            return Err(AccountRejection::HoldExpiryInPast { expires_at, now: self.now });
        }
        let hold_id = command.hold_id;
        if self.find_hold(hold_id).is_ok() {
            return Err(AccountRejection::HoldExists { hold_id });
        }
        if self.account.holds(self.now).count() >= HOLDS_OPEN_MAX {
            return Err(AccountRejection::TooManyHolds);
        }
        self.require_daily_limit(amount)?;
        self.require_funds(amount)?;
        Ok(AccountEvent::HoldPlaced(HoldPlaced {
            account_id: self.account.account_id,
            hold_id,
            amount,
            currency: self.account.currency,
            description,
            expires_at: command.expires_at,
            transaction_id: command.transaction_id,
            occurred_at: self.now,
        }))
    }

    pub(super) fn capture_hold(
        &self,
        command: &CaptureHold,
    ) -> Result<AccountEvent, AccountRejection> {
        self.require_active()?;
        let description = description(&command.description)?;
        let currency = self.account.currency;
        let given =
            command.amount.map(|amount| positive("amount", amount, currency)).transpose()?;
        let hold = self.find_hold(command.hold_id)?;
        let amount = given.unwrap_or(hold.remaining);
        if amount > hold.remaining {
            return Err(AccountRejection::CaptureExceedsHold {
                hold_id: hold.hold_id,
                requested: amount,
                remaining: hold.remaining,
                currency,
            });
        }
        Ok(AccountEvent::HoldCaptured(HoldCaptured {
            account_id: self.account.account_id,
            hold_id: hold.hold_id,
            amount,
            currency,
            contra: ContraAccount::Cash,
            balance: self.balance_after(Way::Out, amount),
            remaining: hold.remaining - amount,
            transaction_id: command.transaction_id,
            description,
            occurred_at: self.now,
        }))
    }

    pub(super) fn release_hold(
        &self,
        command: &ReleaseHold,
    ) -> Result<AccountEvent, AccountRejection> {
        let reason = reason(&command.reason)?;
        let hold = self.find_hold(command.hold_id)?;
        Ok(AccountEvent::HoldReleased(HoldReleased {
            account_id: self.account.account_id,
            hold_id: hold.hold_id,
            amount: hold.remaining,
            currency: self.account.currency,
            reason,
            transaction_id: command.transaction_id,
            occurred_at: self.now,
        }))
    }

    fn find_hold(&self, hold_id: Uuid) -> Result<&Hold, AccountRejection> {
        self.account
            .holds(self.now)
            .find(|hold| hold.hold_id == hold_id)
            .ok_or(AccountRejection::HoldNotFound { hold_id })
    }
}
