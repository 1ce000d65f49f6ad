//! Where a page ended, as an opaque text: the order it was read in, and the last row's place in it.
//!
//! INVARIANT: a cursor of one order is refused by every other, and so is whatever was not given out
//! here; a text that is far too long is not looked at.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use daybook_model::Timestamp;
use daybook_projections::{Index, Kind, Table, Value};
use serde_json::Value as Json;

use crate::http::problem::Problem;

/// Bytes of a cursor. Its values are ids, numbers and words; the longest are the names of a stream
/// and of a group, of 1 KiB each.
const SIZE_MAX: usize = 8 * 1024;

/// The cursor of a row at `place` in `order`.
#[must_use]
pub fn encode(order: &str, place: &[Value]) -> String {
    let mut parts = vec![Json::from(order)];
    parts.extend(place.iter().map(to_json));
    URL_SAFE_NO_PAD.encode(Json::from(parts).to_string())
}

/// The place that `cursor` stands for in `order`: values of the index's columns, then of the key.
///
/// # Errors
/// [`Problem`] if it was not given out for this order.
pub fn decode(
    cursor: &str,
    order: &str,
    table: &Table,
    index: Option<&Index>,
) -> Result<Vec<Value>, Problem> {
    let columns = index.map_or(&[][..], |index| index.columns).iter().copied();
    let kinds = columns.chain(0..table.key_len).map(|column| table.columns[column].kind);
    read(cursor, order, &kinds.collect::<Vec<_>>()).ok_or_else(not_ours)
}

/// The number that `cursor` stands for in `order`, which is one of numbers.
///
/// # Errors
/// [`Problem`] if it was not given out for this order.
pub fn decode_number(cursor: &str, order: &str) -> Result<u64, Problem> {
    match read(cursor, order, &[Kind::Integer]).as_deref() {
        Some([Value::Integer(number)]) => u64::try_from(*number).map_err(|_| not_ours()),
        _ => Err(not_ours()),
    }
}

/// The text that `cursor` stands for in `order`, which is one of texts.
///
/// # Errors
/// [`Problem`] if it was not given out for this order.
pub fn decode_text(cursor: &str, order: &str) -> Result<String, Problem> {
    match read(cursor, order, &[Kind::Text]).as_deref() {
        Some([Value::Text(text)]) => Ok(text.clone()),
        _ => Err(not_ours()),
    }
}

/// The two texts that `cursor` stands for in `order`, which is one of pairs of texts.
///
/// # Errors
/// [`Problem`] if it was not given out for this order.
pub fn decode_texts(cursor: &str, order: &str) -> Result<(String, String), Problem> {
    match read(cursor, order, &[Kind::Text, Kind::Text]).as_deref() {
        Some([Value::Text(first), Value::Text(second)]) => Ok((first.clone(), second.clone())),
        _ => Err(not_ours()),
    }
}

/// What is said of a cursor that was not given out here.
#[must_use]
pub fn not_ours() -> Problem {
    Problem::field("cursor", "give the next of the page before, and all else as it was")
}

fn read(cursor: &str, order: &str, kinds: &[Kind]) -> Option<Vec<Value>> {
    if cursor.len() > SIZE_MAX {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let parts: Vec<Json> = serde_json::from_slice(&bytes).ok()?;
    let (first, place) = parts.split_first()?;
    if first != order || place.len() != kinds.len() {
        return None;
    }
    place.iter().zip(kinds).map(|(json, kind)| from_json(json, *kind)).collect()
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Text(text) => text.as_str().into(),
        Value::Integer(number) => (*number).into(),
        Value::Decimal(number) => number.to_string().into(),
        Value::Uuid(id) => id.to_string().into(),
        Value::Time(time) => time.0.into(),
        Value::Flag(flag) => (*flag).into(),
    }
}

fn from_json(json: &Json, kind: Kind) -> Option<Value> {
    if json.is_null() {
        return Some(Value::Null);
    }
    Some(match kind {
        Kind::Text => Value::Text(json.as_str()?.to_owned()),
        Kind::Integer => Value::Integer(json.as_i64()?),
        Kind::Decimal => Value::Decimal(json.as_str()?.parse().ok()?),
        Kind::Uuid => Value::Uuid(json.as_str()?.parse().ok()?),
        Kind::Time => Value::Time(Timestamp(json.as_i64()?)),
        Kind::Flag => Value::Flag(json.as_bool()?),
    })
}

#[cfg(test)]
mod tests {
    use daybook_projections::views::payments::{BY_STATE, DAILY, SAGAS};
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_cursor_leads_back_to_its_place_and_to_no_other() {
        let place = vec![
            Value::from("failed"),
            Value::Time(Timestamp(-5)),
            Value::from(Uuid::from_u128(7)),
        ];
        let cursor = encode("by_state", &place);
        let found = decode(&cursor, "by_state", SAGAS, Some(&BY_STATE));
        assert_eq!(found.as_ref(), Ok(&place));
        assert!(decode(&cursor, "key", SAGAS, None).is_err(), "another order");
        assert!(decode(&cursor, "by_state", DAILY, None).is_err(), "another table");
        for bad in ["", "!", "bm9wZQ", &cursor[1..], &"a".repeat(SIZE_MAX + 1)] {
            assert!(decode(bad, "by_state", SAGAS, Some(&BY_STATE)).is_err(), "{bad}");
        }
    }
}
