//! Money that comes in and money that leaves.

use rust_decimal::Decimal;

use super::{Rules, Way, description};
use crate::account::command::{MoveMoney, MoveTransfer, RefundTransfer};
use crate::account::event::{MoneyMoved, TransferLeg, TransferRefunded};
use crate::account::{AccountEvent, AccountRejection};
use crate::books::ContraAccount;
use crate::money::BALANCE_MAX;

impl Rules<'_> {
    pub(super) fn deposit(&self, command: &MoveMoney) -> Result<AccountEvent, AccountRejection> {
        let moved = self.moved(command, Way::In, ContraAccount::Cash)?;
        self.require_room(moved.amount)?;
        Ok(AccountEvent::MoneyDeposited(moved))
    }

    pub(super) fn withdraw(&self, command: &MoveMoney) -> Result<AccountEvent, AccountRejection> {
        self.require_active()?;
        let moved = self.moved(command, Way::Out, ContraAccount::Cash)?;
        self.require_daily_limit(moved.amount)?;
        self.require_funds(moved.amount)?;
        Ok(AccountEvent::MoneyWithdrawn(moved))
    }

    pub(super) fn charge_fee(&self, command: &MoveMoney) -> Result<AccountEvent, AccountRejection> {
        self.require_active()?;
        let moved = self.moved(command, Way::Out, ContraAccount::Fees)?;
        self.require_funds(moved.amount)?;
        Ok(AccountEvent::FeeCharged(moved))
    }

    pub(super) fn debit_transfer(
        &self,
        command: &MoveTransfer,
    ) -> Result<AccountEvent, AccountRejection> {
        self.require_active()?;
        let leg = self.leg(command, Way::Out)?;
        description(&leg.description)?;
        self.require_daily_limit(leg.amount)?;
        self.require_funds(leg.amount)?;
        Ok(AccountEvent::TransferDebited(leg))
    }

    /// Its texts were checked with the debit: no formality keeps money from arriving, or from
    /// coming back.
    pub(super) fn credit_transfer(
        &self,
        command: &MoveTransfer,
    ) -> Result<AccountEvent, AccountRejection> {
        let leg = self.leg(command, Way::In)?;
        self.require_room(leg.amount)?;
        Ok(AccountEvent::TransferCredited(leg))
    }

    /// See [`Rules::credit_transfer`].
    pub(super) fn refund_transfer(
        &self,
        command: &RefundTransfer,
    ) -> Result<AccountEvent, AccountRejection> {
        let amount = self.amount(command.amount, command.currency)?;
        self.require_room(amount)?;
        Ok(AccountEvent::TransferRefunded(TransferRefunded {
            account_id: self.account.account_id,
            transfer_id: command.transfer_id,
            counterparty_id: command.counterparty_id,
            amount,
            currency: self.account.currency,
            contra: command.contra,
            balance: self.balance_after(Way::In, amount),
            description: command.description.clone(),
            reason: command.reason.clone(),
            debited_at: command.debited_at,
            transaction_id: command.transaction_id,
            occurred_at: self.now,
        }))
    }

    fn moved(
        &self,
        command: &MoveMoney,
        way: Way,
        contra: ContraAccount,
    ) -> Result<MoneyMoved, AccountRejection> {
        let amount = self.amount(command.amount, command.currency)?;
        Ok(MoneyMoved {
            account_id: self.account.account_id,
            amount,
            currency: self.account.currency,
            contra,
            balance: self.balance_after(way, amount),
            transaction_id: command.transaction_id,
            description: description(&command.description)?,
            occurred_at: self.now,
        })
    }

    fn leg(&self, command: &MoveTransfer, way: Way) -> Result<TransferLeg, AccountRejection> {
        let amount = self.amount(command.amount, command.currency)?;
        Ok(TransferLeg {
            account_id: self.account.account_id,
            transfer_id: command.transfer_id,
            counterparty_id: command.counterparty_id,
            amount,
            currency: self.account.currency,
            contra: command.contra,
            balance: self.balance_after(way, amount),
            description: command.description.clone(),
            transaction_id: command.transaction_id,
            occurred_at: self.now,
        })
    }

    /// That the balance can take `amount` more.
    fn require_room(&self, amount: Decimal) -> Result<(), AccountRejection> {
        if self.balance_after(Way::In, amount) > Decimal::from(BALANCE_MAX) {
            return Err(AccountRejection::BalanceLimitExceeded {
                amount,
                currency: self.account.currency,
            });
        }
        Ok(())
    }
}
