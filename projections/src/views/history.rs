//! What happened to every account, and an index of its statements. Grows with the log: for
//! PostgreSQL.
//!
//! A statement's row is of one account and one UTC month of `occurred_at`. Its balances are null
//! when no money moved in that month: they are then those of the month before.

use daybook_ledger::account::{ACCOUNT_CATEGORY, Account, AccountEvent};
use daybook_model::{Aggregate, EventView};
use rust_decimal::Decimal;

use super::{add, count, number, poison, utc_month};
use crate::change::Changes;
use crate::feed::Interest;
use crate::projection::{ApplyError, Projection};
use crate::table::{Index, Row, Table, Value};

/// The view.
#[derive(Clone, Copy, Debug)]
pub struct History;

/// The columns of [`TRANSACTIONS`].
pub mod transaction {
    columns! {
        /// The account; of the key.
        ACCOUNT_ID "account_id" Uuid;
        /// Its number in the account's stream; of the key.
        REVISION "revision" Integer;
        /// What happened: MoneyDeposited, TransferDebited …
        EVENT_TYPE "event_type" Text;
        /// What it did to the balance; null if no money moved.
        AMOUNT "amount" Decimal;
        /// Of what; null if no money moved.
        CURRENCY "currency" Text;
        /// The other leg: cash, clearing, fees or fx_position; null if no money moved.
        CONTRA "contra" Text;
        /// The balance after it; null for what never moves money.
        BALANCE "balance" Decimal;
        /// What for, or why; may be empty.
        DESCRIPTION "description" Text;
        /// The id of the command that did it; null for what happened by itself.
        TRANSACTION_ID "transaction_id" Uuid;
        /// The transfer it is a part of.
        TRANSFER_ID "transfer_id" Uuid;
        /// The account at the transfer's other end.
        COUNTERPARTY_ID "counterparty_id" Uuid;
        /// The hold it is about.
        HOLD_ID "hold_id" Uuid;
        /// When.
        OCCURRED_AT "occurred_at" Time;
        /// Its position in the log.
        POSITION "position" Integer;
    }
}

/// The columns of [`STATEMENTS`].
pub mod statement {
    columns! {
        /// The account; of the key.
        ACCOUNT_ID "account_id" Uuid;
        /// The UTC month, as 2026-03; of the key.
        MONTH "month" Text;
        /// The currency of its balances; null if no money moved.
        CURRENCY "currency" Text;
        /// The balance before the first event that moved money; null if none did.
        OPENING_BALANCE "opening_balance" Decimal;
        /// The balance after the last one; null if none did.
        CLOSING_BALANCE "closing_balance" Decimal;
        /// How much came in.
        CREDITS "credits" Decimal;
        /// How much went out.
        DEBITS "debits" Decimal;
        /// Events that moved money.
        MOVEMENTS "movements" Integer;
        /// Events.
        EVENTS "events" Integer;
        /// The number of the first one in the account's stream.
        FIRST_REVISION "first_revision" Integer;
        /// The number of the last one.
        LAST_REVISION "last_revision" Integer;
    }
}

/// An account's transactions by time.
pub static BY_TIME: Index =
    Index { name: "by_time", columns: &[transaction::ACCOUNT_ID, transaction::OCCURRED_AT] };

static TABLES: [Table; 2] = [
    Table { name: "transactions", columns: transaction::COLUMNS, key_len: 2, indexes: &[BY_TIME] },
    Table { name: "statements", columns: statement::COLUMNS, key_len: 2, indexes: &[] },
];

/// One row per event of an account.
pub static TRANSACTIONS: &Table = &TABLES[0];
/// One row per account and month in which something happened.
pub static STATEMENTS: &Table = &TABLES[1];

impl Projection for History {
    fn name(&self) -> &'static str {
        "history"
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
        enter_statement(changes, &happened, event)?;
        changes.put(TRANSACTIONS, transaction_row(&happened, event))
    }
}

fn transaction_row(happened: &AccountEvent, event: EventView<'_>) -> Row {
    let about = happened.about();
    let own = happened.legs().map(|[own, _]| own);
    vec![
        happened.account_id().into(),
        number(event.revision.0),
        happened.event_type().into(),
        own.map(|own| own.amount).into(),
        own.map(|own| own.currency.code()).into(),
        about.contra.into(),
        happened.balance().into(),
        about.text.into(),
        happened.transaction_id().into(),
        about.transfer_id.into(),
        about.counterparty_id.into(),
        about.hold_id.into(),
        happened.occurred_at().into(),
        number(event.position.0),
    ]
}

/// Enters an event into the statement of its month.
fn enter_statement(
    changes: &mut Changes<'_>,
    happened: &AccountEvent,
    event: EventView<'_>,
) -> Result<(), ApplyError> {
    let month = utc_month(happened.occurred_at());
    let key = [happened.account_id().into(), Value::Text(month)];
    let mut row = match changes.get(STATEMENTS, &key)? {
        Some(row) => row.clone(),
        None => {
            let mut row = key.to_vec();
            row.extend([Value::Null, Value::Null, Value::Null, Value::Null, Value::Null]);
            row.extend([
                Value::Integer(0),
                Value::Integer(0),
                number(event.revision.0),
                Value::Null,
            ]);
            row
        }
    };
    count(&mut row, statement::EVENTS, 1);
    row[statement::LAST_REVISION] = number(event.revision.0);
    if let (Some([own, _]), Some(balance)) = (happened.legs(), happened.balance()) {
        if row[statement::OPENING_BALANCE] == Value::Null {
            let mut zero = Decimal::ZERO;
            zero.rescale(own.currency.minor_units());
            row[statement::CURRENCY] = own.currency.code().into();
            row[statement::OPENING_BALANCE] = (balance - own.amount).into();
            row[statement::CREDITS] = zero.into();
            row[statement::DEBITS] = zero.into();
        }
        row[statement::CLOSING_BALANCE] = balance.into();
        let out = own.amount.is_sign_negative();
        let side = if out { statement::DEBITS } else { statement::CREDITS };
        add(&mut row, side, own.amount.abs())?;
        count(&mut row, statement::MOVEMENTS, 1);
    }
    changes.put(STATEMENTS, row)
}
