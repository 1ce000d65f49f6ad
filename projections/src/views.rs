//! The built-in views: what the ledger's events come to, as tables.
//!
//! ```text
//!   events                     projection   tables                     rows
//!   ledger.account-*   ──────> accounts     accounts                   one per account
//!                                           trial_balance              one per currency
//!   ledger.transfer-*  ──────> payments     sagas                      one per unfinished transfer
//!                                           daily                      day x currency x outcome
//!                                           states                     one per state
//!   ledger.transfer-*  ──────> transfers    transfers                  one per transfer     (*)
//!   ledger.account-*   ──────> history      transactions               one per event        (*)
//!                                           statements                 account x month      (*)
//! ```
//!
//! (*) These grow with the log, so they are kept in PostgreSQL only. Beside the store itself nobody
//! needs them: its index answers the same questions, without a copy.
//!
//! Tables that share a projection are at the same place: the balances of `accounts` add up to the
//! customers' column of `trial_balance` in every answer.
//!
//! What a view cannot read stops it ([`OnPoison::Stop`]): a balance that leaves an event out is
//! worse than one that is late.
//!
//! INVARIANTS: pure; sees nothing but events and its own rows. Amounts keep the scale of their
//! currency. Times are those the ledger decided by (`occurred_at`), except where a column says that
//! it is the time of the commit.
//!
//! [`OnPoison::Stop`]: crate::projection::OnPoison::Stop

/// A table's columns, in order, and a constant with the number of each.
macro_rules! columns {
    ($($(#[$doc:meta])+ $number:ident $name:literal $kind:ident;)+) => {
        pub(super) const COLUMNS: &[crate::table::Column] = &[
            $(crate::table::Column { name: $name, kind: crate::table::Kind::$kind },)+
        ];
        columns!(@from 0; $($(#[$doc])+ $number;)+);
    };
    (@from $at:expr;) => {};
    (@from $at:expr; $(#[$doc:meta])+ $number:ident; $($rest:tt)*) => {
        $(#[$doc])+
        pub const $number: usize = $at;
        columns!(@from $at + 1; $($rest)*);
    };
}

pub mod accounts;
pub mod history;
pub mod payments;
pub mod read;
pub mod transfers;

use std::sync::Arc;

use daybook_ledger::time::Rfc3339;
use daybook_model::Timestamp;
use rust_decimal::Decimal;

use crate::change::Changes;
use crate::projection::{ApplyError, Projection};
use crate::table::{Row, Table, Value};

/// The views that are kept beside a store: bounded by its accounts and unfinished transfers.
#[must_use]
pub fn embedded() -> Vec<Arc<dyn Projection>> {
    vec![Arc::new(accounts::Accounts), Arc::new(payments::Payments)]
}

/// All views, for a store of tables that takes as many rows as there are events.
#[must_use]
pub fn complete() -> Vec<Arc<dyn Projection>> {
    let mut all = embedded();
    all.push(Arc::new(transfers::Transfers));
    all.push(Arc::new(history::History));
    all
}

/// The calendar month of a time, in UTC: `2026-03`. Sorts as text.
#[must_use]
pub fn utc_month(time: Timestamp) -> String {
    const LEN: usize = "2026-03".len();
    let mut text = Rfc3339(time).to_string();
    text.truncate(LEN);
    text
}

/// An event that cannot be taken in, now or ever.
fn poison(reason: impl std::fmt::Display) -> ApplyError {
    ApplyError::Poison { reason: reason.to_string() }
}

/// A copy of the row under `key`, which an earlier event must have made.
fn known(changes: &mut Changes<'_>, table: &Table, key: Value) -> Result<Row, ApplyError> {
    let key = [key];
    match changes.get(table, &key)? {
        Some(row) => Ok(row.clone()),
        None => {
            let [key] = key;
            Err(poison(format!("{} has no row {key:?}: its first event is missing", table.name)))
        }
    }
}

/// Adds to an amount of a row.
fn add(row: &mut Row, column: usize, amount: Decimal) -> Result<(), ApplyError> {
    let sum = read::decimal(row, column).unwrap_or_default();
    let added = sum.checked_add(amount);
    let added =
        added.ok_or_else(|| poison(format!("{sum} {amount:+} is more than can be counted")));
    row[column] = Value::Decimal(added?);
    Ok(())
}

/// Adds to a number of a row.
fn count(row: &mut Row, column: usize, by: i64) {
    row[column] = Value::Integer(read::integer(row, column).unwrap_or_default().saturating_add(by));
}

/// A revision or position as a column holds it.
fn number(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn views_are_told_apart_and_fit_where_they_are_kept() {
        let all = complete();
        let names: BTreeSet<&str> = all.iter().map(|view| view.name()).collect();
        assert_eq!(names.len(), all.len());
        assert_eq!(embedded().len(), 2, "what is kept in sled must stay bounded");
        for view in &all {
            let tables: BTreeSet<&str> = view.tables().iter().map(|table| table.name).collect();
            assert_eq!(tables.len(), view.tables().len(), "{}", view.name());
            for table in view.tables() {
                let columns: BTreeSet<&str> = table.columns.iter().map(|c| c.name).collect();
                assert_eq!(columns.len(), table.columns.len(), "{}", table.name);
                assert!((1..=table.columns.len()).contains(&table.key_len), "{}", table.name);
                for index in table.indexes {
                    assert!(index.columns.iter().all(|c| *c < table.columns.len()), "{index:?}");
                }
            }
        }
    }

    #[test]
    fn a_month_is_that_of_utc() {
        for (nanos, month) in [
            (0, "1970-01"),
            (-1, "1969-12"),
            (1_772_323_199_999_999_999, "2026-02"),
            (1_772_323_200_000_000_000, "2026-03"),
        ] {
            assert_eq!(utc_month(Timestamp(nanos)), month);
        }
    }
}
