//! Opening an account.

use daybook_model::Timestamp;
use rust_decimal::Decimal;

use super::at_least_zero;
use crate::account::command::OpenAccount;
use crate::account::event::AccountOpened;
use crate::account::limits::{CHECKING_OVERDRAFT, DAILY_WITHDRAWAL, SAVINGS_DEPOSIT_MIN};
use crate::account::{AccountEvent, AccountRejection, AccountType};
use crate::books::ContraAccount;
use crate::money::major;

pub(super) fn open(
    command: &OpenAccount,
    now: Timestamp,
) -> Result<AccountEvent, AccountRejection> {
    let currency = command.currency;
    let amount = |field, value: Option<Decimal>| {
        value.map(|value| at_least_zero(field, value, currency)).transpose()
    };
    let deposit = amount("initial_deposit", command.initial_deposit)?.unwrap_or(major(0, currency));
    let overdraft = amount("overdraft_limit", command.overdraft_limit)?;
    let credit = amount("credit_limit", command.credit_limit)?;
    let daily = amount("daily_withdrawal_limit", command.daily_withdrawal_limit)?;

    let overdraft_limit = match command.account_type {
        AccountType::Checking | AccountType::Savings if credit.is_some() => {
            return Err(AccountRejection::CreditLimitNotAllowed);
        }
        AccountType::Checking => overdraft.unwrap_or(major(CHECKING_OVERDRAFT, currency)),
        account_type if overdraft.is_some_and(|limit| !limit.is_zero()) => {
            return Err(AccountRejection::OverdraftNotAllowed { account_type });
        }
        AccountType::Savings => major(0, currency),
        AccountType::Credit => credit.ok_or(AccountRejection::CreditLimitRequired)?,
    };
    let is_savings = command.account_type == AccountType::Savings;
    if is_savings && deposit < major(SAVINGS_DEPOSIT_MIN, currency) {
        return Err(AccountRejection::InitialDepositTooSmall { deposit, currency });
    }
    Ok(AccountEvent::AccountOpened(AccountOpened {
        account_id: command.account_id,
        account_type: command.account_type,
        currency,
        owner_id: command.owner_id,
        initial_balance: deposit,
        contra: ContraAccount::Cash,
        overdraft_limit,
        daily_withdrawal_limit: daily.unwrap_or(major(DAILY_WITHDRAWAL, currency)),
        transaction_id: command.transaction_id,
        occurred_at: now,
    }))
}
