//! The accounts as they are, and the sums of all legs: one place in the feed for both.
//!
//! `held` is what is reserved as far as events say. A hold that has expired since then reserves
//! nothing any more, though its expiry is recorded with the account's next command only: a view has
//! no clock. Whoever needs the moment's figure asks the account itself.

use daybook_ledger::account::{
    ACCOUNT_CATEGORY, Account, AccountEvent, AccountOpened, AccountStatus,
};
use daybook_ledger::books::{AccountClass, Leg};
use daybook_ledger::money::major;
use daybook_model::{Aggregate, EventView};

use super::{add, known, number, poison};
use crate::change::Changes;
use crate::feed::Interest;
use crate::projection::{ApplyError, Projection};
use crate::table::{Index, Row, Table, Value};

/// The view.
#[derive(Clone, Copy, Debug)]
pub struct Accounts;

/// The columns of [`ACCOUNTS`].
pub mod account {
    columns! {
        /// The account; the key.
        ACCOUNT_ID "account_id" Uuid;
        /// Whose it is.
        OWNER_ID "owner_id" Uuid;
        /// checking, savings or credit.
        ACCOUNT_TYPE "account_type" Text;
        /// active, frozen or closed.
        STATUS "status" Text;
        /// What its amounts are counted in.
        CURRENCY "currency" Text;
        /// What is in it; below zero if it is overdrawn.
        BALANCE "balance" Decimal;
        /// What is reserved, as far as events say.
        HELD "held" Decimal;
        /// How far the balance may go below zero.
        OVERDRAFT_LIMIT "overdraft_limit" Decimal;
        /// How much may leave it on one UTC day.
        DAILY_WITHDRAWAL_LIMIT "daily_withdrawal_limit" Decimal;
        /// Whether it is suspected of something.
        FLAGGED "flagged" Flag;
        /// When it was opened.
        OPENED_AT "opened_at" Time;
        /// When something last happened to it.
        UPDATED_AT "updated_at" Time;
        /// The number of its last event in its stream.
        REVISION "revision" Integer;
    }
}

/// The columns of [`TRIAL_BALANCE`].
pub mod trial_balance {
    columns! {
        /// The currency; the key.
        CURRENCY "currency" Text;
        /// What is in all accounts.
        CUSTOMERS "customers" Decimal;
        /// What was paid in and out; below zero by what was paid in.
        CASH "cash" Decimal;
        /// What is on its way from one account to another.
        CLEARING "clearing" Decimal;
        /// What was charged.
        FEES "fees" Decimal;
        /// What was bought and sold for other currencies.
        FX_POSITION "fx_position" Decimal;
    }
}

/// Accounts by owner. An account's owner never changes, nor does its currency: keeping these costs
/// nothing but when it is opened.
pub static BY_OWNER: Index = Index { name: "by_owner", columns: &[account::OWNER_ID] };
/// Accounts by status.
pub static BY_STATUS: Index = Index { name: "by_status", columns: &[account::STATUS] };
/// Accounts by currency.
pub static BY_CURRENCY: Index = Index { name: "by_currency", columns: &[account::CURRENCY] };

static TABLES: [Table; 2] = [
    Table {
        name: "accounts",
        columns: account::COLUMNS,
        key_len: 1,
        indexes: &[BY_OWNER, BY_STATUS, BY_CURRENCY],
    },
    Table { name: "trial_balance", columns: trial_balance::COLUMNS, key_len: 1, indexes: &[] },
];

/// One row per account.
pub static ACCOUNTS: &Table = &TABLES[0];
/// One row per currency: the sum of all legs by class.
pub static TRIAL_BALANCE: &Table = &TABLES[1];

impl Projection for Accounts {
    fn name(&self) -> &'static str {
        "accounts"
    }

    fn version(&self) -> u32 {
        1
    }

    fn tables(&self) -> &'static [Table] {
        &TABLES
    }

    fn interest(&self) -> Interest {
        Interest { streams: vec![format!("{ACCOUNT_CATEGORY}-")], types: Vec::new() }
    }

    fn apply(&self, event: EventView<'_>, changes: &mut Changes<'_>) -> Result<(), ApplyError> {
        let happened = Account::read(event).map_err(poison)?;
        let mut row = match &happened {
            AccountEvent::AccountOpened(opened) => opened_row(opened),
            other => known(changes, ACCOUNTS, Value::Uuid(other.account_id()))?,
        };
        change(&mut row, &happened)?;
        row[account::REVISION] = number(event.revision.0);
        changes.put(ACCOUNTS, row)?;
        match happened.legs() {
            Some(legs) => enter(changes, legs),
            None => Ok(()),
        }
    }
}

fn opened_row(opened: &AccountOpened) -> Row {
    vec![
        opened.account_id.into(),
        opened.owner_id.into(),
        opened.account_type.as_str().into(),
        AccountStatus::Active.as_str().into(),
        opened.currency.code().into(),
        opened.initial_balance.into(),
        major(0, opened.currency).into(),
        opened.overdraft_limit.into(),
        opened.daily_withdrawal_limit.into(),
        false.into(),
        opened.occurred_at.into(),
        opened.occurred_at.into(),
        Value::Integer(0),
    ]
}

/// Changes an account's row by what happened to it.
fn change(row: &mut Row, happened: &AccountEvent) -> Result<(), ApplyError> {
    if let Some(balance) = happened.balance() {
        row[account::BALANCE] = balance.into();
    }
    match happened {
        AccountEvent::HoldPlaced(e) => add(row, account::HELD, e.amount)?,
        AccountEvent::HoldCaptured(e) => add(row, account::HELD, -e.amount)?,
        AccountEvent::HoldReleased(e) => add(row, account::HELD, -e.amount)?,
        AccountEvent::HoldExpired(e) => add(row, account::HELD, -e.amount)?,
        AccountEvent::AccountFrozen(_) => set_status(row, AccountStatus::Frozen),
        AccountEvent::AccountUnfrozen(_) => set_status(row, AccountStatus::Active),
        AccountEvent::AccountClosed(_) => set_status(row, AccountStatus::Closed),
        AccountEvent::LimitsChanged(e) => {
            row[account::OVERDRAFT_LIMIT] = e.overdraft_limit.into();
            row[account::DAILY_WITHDRAWAL_LIMIT] = e.daily_withdrawal_limit.into();
        }
        AccountEvent::AccountFlagged(_) => row[account::FLAGGED] = true.into(),
        AccountEvent::AccountUnflagged(_) => row[account::FLAGGED] = false.into(),
        // The balance is all that these change.
        AccountEvent::AccountOpened(_)
        | AccountEvent::MoneyDeposited(_)
        | AccountEvent::MoneyWithdrawn(_)
        | AccountEvent::FeeCharged(_)
        | AccountEvent::TransferDebited(_)
        | AccountEvent::TransferCredited(_)
        | AccountEvent::TransferRefunded(_) => {}
    }
    row[account::UPDATED_AT] = happened.occurred_at().into();
    Ok(())
}

fn set_status(row: &mut Row, status: AccountStatus) {
    row[account::STATUS] = status.as_str().into();
}

/// Adds two legs of one currency to the sums.
fn enter(changes: &mut Changes<'_>, legs: [Leg; 2]) -> Result<(), ApplyError> {
    let currency = legs[0].currency;
    let key = [Value::from(currency.code())];
    let mut row = match changes.get(TRIAL_BALANCE, &key)? {
        Some(row) => row.clone(),
        None => {
            let mut row = vec![Value::Decimal(major(0, currency)); trial_balance::COLUMNS.len()];
            let [key] = key;
            row[trial_balance::CURRENCY] = key;
            row
        }
    };
    for leg in legs {
        add(&mut row, class_column(leg.class), leg.amount)?;
    }
    changes.put(TRIAL_BALANCE, row)
}

fn class_column(class: AccountClass) -> usize {
    match class {
        AccountClass::Customers => trial_balance::CUSTOMERS,
        AccountClass::Cash => trial_balance::CASH,
        AccountClass::Clearing => trial_balance::CLEARING,
        AccountClass::Fees => trial_balance::FEES,
        AccountClass::FxPosition => trial_balance::FX_POSITION,
    }
}
