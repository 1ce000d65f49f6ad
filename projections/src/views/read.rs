//! Fields of rows as what they are. A field that holds nothing, or something else, is none.

use daybook_model::Timestamp;
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::table::Value;

/// The text in `column`.
#[must_use]
pub fn text(row: &[Value], column: usize) -> Option<&str> {
    match row.get(column) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

/// The whole number in `column`.
#[must_use]
pub fn integer(row: &[Value], column: usize) -> Option<i64> {
    match row.get(column) {
        Some(Value::Integer(number)) => Some(*number),
        _ => None,
    }
}

/// The decimal number in `column`.
#[must_use]
pub fn decimal(row: &[Value], column: usize) -> Option<Decimal> {
    match row.get(column) {
        Some(Value::Decimal(number)) => Some(*number),
        _ => None,
    }
}

/// The id in `column`.
#[must_use]
pub fn uuid(row: &[Value], column: usize) -> Option<Uuid> {
    match row.get(column) {
        Some(Value::Uuid(id)) => Some(*id),
        _ => None,
    }
}

/// The moment in `column`.
#[must_use]
pub fn time(row: &[Value], column: usize) -> Option<Timestamp> {
    match row.get(column) {
        Some(Value::Time(time)) => Some(*time),
        _ => None,
    }
}

/// Yes or no in `column`.
#[must_use]
pub fn flag(row: &[Value], column: usize) -> Option<bool> {
    match row.get(column) {
        Some(Value::Flag(flag)) => Some(*flag),
        _ => None,
    }
}
