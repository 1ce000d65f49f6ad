//! What stands in sled, as bytes: keys, rows, and the records around them.
//!
//! ```text
//!   row   for each column:  0                    null
//!                           1 | len (4) | text   little-endian
//!                           2 | integer (8)      5 | time (8)
//!                           3 | decimal (16)     4 | uuid (16)     6 | 00 or 01
//! ```
//!
//! INVARIANT: no IO here.

use bincode::{Decode, Encode};
use daybook_cache::{Damage, Envelope};
use daybook_model::{Position, Timestamp};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::order;
use crate::store::Parked;
use crate::table::{Row, Value};

/// Bytes of one value at most. A row is a few hundred bytes; a larger length is damage.
const VALUE_SIZE_MAX: usize = 1024 * 1024;

/// Around everything in this sled. The schema changes with any layout of this file, of
/// [`crate::order`] and of the keys: a sled with another number is set aside.
pub(super) const ENVELOPE: Envelope<VALUE_SIZE_MAX> = Envelope { magic: *b"DBrm", schema: 1 };

/// The key of a generation's [`Reach`], and of the [`Stamp`].
pub(super) const PLACE_KEY: [u8; 1] = [0];
const ROW_PREFIX: u8 = 1;
const INDEX_PREFIX: u8 = 2;
const PARKED_PREFIX: u8 = 3;

const ENTRY_PREFIX: u8 = 0;
const PAUSED_PREFIX: u8 = 1;
const NEXT_PREFIX: u8 = 2;

/// What the sled as a whole is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Stamp {
    pub(super) store: [u8; 16],
}

/// A generation, in the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) struct Entry {
    pub(super) version: u32,
    pub(super) serving: bool,
    /// Names and layouts of its tables, in the projection's order.
    pub(super) layouts: Vec<(String, String)>,
}

/// How far a generation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub(super) struct Reach {
    pub(super) checkpoint: Option<u64>,
    pub(super) rows: u64,
}

#[derive(Debug, Encode, Decode)]
struct ParkedRecord {
    stream: String,
    event_type: String,
    reason: String,
    at: i64,
}

/// The bytes of a parked event.
pub(super) fn seal_parked(parked: &Parked) -> Result<Vec<u8>, Damage> {
    ENVELOPE.seal(&ParkedRecord {
        stream: parked.stream.clone(),
        event_type: parked.event_type.clone(),
        reason: parked.reason.clone(),
        at: parked.at.0,
    })
}

/// The parked event under `key`.
pub(super) fn open_parked(key: &[u8], value: &[u8]) -> Result<Parked, Damage> {
    let [PARKED_PREFIX, position @ ..] = key else { return Err(Damage::Payload) };
    let position = position.try_into().map_err(|_| Damage::Payload)?;
    let record: ParkedRecord = ENVELOPE.open(value)?;
    Ok(Parked {
        position: Position(u64::from_be_bytes(position)),
        stream: record.stream,
        event_type: record.event_type,
        reason: record.reason,
        at: Timestamp(record.at),
    })
}

pub(super) fn parked_key(position: Position) -> Vec<u8> {
    [[PARKED_PREFIX].as_slice(), &position.0.to_be_bytes()].concat()
}

/// What all parked events begin with.
pub(super) fn parked_prefix() -> [u8; 1] {
    [PARKED_PREFIX]
}

/// What the keys of rows of a table begin with.
pub(super) fn rows_of(table: u8) -> Vec<u8> {
    vec![ROW_PREFIX, table]
}

/// What the keys of an index begin with.
pub(super) fn entries_of(table: u8, index: u8) -> Vec<u8> {
    vec![INDEX_PREFIX, table, index]
}

/// The key of a row.
pub(super) fn row_key(table: u8, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 + key.len());
    bytes.extend_from_slice(&[ROW_PREFIX, table]);
    bytes.extend_from_slice(key);
    bytes
}

/// The key of an index entry of `row`, whose own key is `key`.
pub(super) fn entry_key(
    table: u8,
    index: u8,
    columns: &'static [usize],
    row: &Row,
    key: &[u8],
) -> Vec<u8> {
    let mut bytes = entries_of(table, index);
    order::encode(columns.iter().map(|column| &row[*column]), &mut bytes);
    bytes.extend_from_slice(key);
    bytes
}

/// The catalog's key of a generation.
pub(super) fn catalog_key(projection: &str, number: u32) -> Vec<u8> {
    [catalog_prefix(projection).as_slice(), &number.to_be_bytes()].concat()
}

/// What the catalog's keys of a projection's generations begin with.
pub(super) fn catalog_prefix(projection: &str) -> Vec<u8> {
    [[ENTRY_PREFIX].as_slice(), projection.as_bytes(), &[0]].concat()
}

/// What the catalog's keys of all generations begin with.
pub(super) fn catalog_all() -> [u8; 1] {
    [ENTRY_PREFIX]
}

/// The projection and number of a catalog's key.
pub(super) fn parse_catalog_key(key: &[u8]) -> Option<(String, u32)> {
    let ([ENTRY_PREFIX], rest) = key.split_first_chunk::<1>()? else { return None };
    let (name, number) = rest.split_last_chunk::<4>()?;
    let name = std::str::from_utf8(name.strip_suffix(&[0])?).ok()?;
    Some((name.to_owned(), u32::from_be_bytes(*number)))
}

pub(super) fn paused_key(projection: &str) -> Vec<u8> {
    [[PAUSED_PREFIX].as_slice(), projection.as_bytes()].concat()
}

pub(super) fn next_key(projection: &str) -> Vec<u8> {
    [[NEXT_PREFIX].as_slice(), projection.as_bytes()].concat()
}

/// The name of a generation's tree.
pub(super) fn tree_name(projection: &str, number: u32) -> String {
    format!("{TREE_PREFIX}{projection}-{number}")
}

/// What the names of generations' trees begin with.
pub(super) const TREE_PREFIX: &str = "generation-";

/// The bytes of a row.
pub(super) fn seal_row(row: &Row, scratch: &mut Vec<u8>) -> Result<Vec<u8>, Damage> {
    scratch.clear();
    for value in row {
        match value {
            Value::Null => scratch.push(0),
            Value::Text(text) => {
                scratch.push(1);
                let len = u32::try_from(text.len()).map_err(|_| Damage::Length)?;
                scratch.extend_from_slice(&len.to_le_bytes());
                scratch.extend_from_slice(text.as_bytes());
            }
            Value::Integer(number) => fixed(scratch, 2, &number.to_le_bytes()),
            Value::Decimal(number) => fixed(scratch, 3, &number.serialize()),
            Value::Uuid(id) => fixed(scratch, 4, id.as_bytes()),
            Value::Time(time) => fixed(scratch, 5, &time.0.to_le_bytes()),
            Value::Flag(flag) => fixed(scratch, 6, &[u8::from(*flag)]),
        }
    }
    ENVELOPE.wrap(scratch)
}

fn fixed(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

/// The row in `bytes`. Trusts nothing: they come from a disk.
pub(super) fn open_row(bytes: &[u8], columns: usize) -> Result<Row, Damage> {
    let mut rest = ENVELOPE.unwrap(bytes)?;
    let mut row = Row::with_capacity(columns);
    while !rest.is_empty() {
        row.push(open_value(&mut rest).ok_or(Damage::Payload)?);
    }
    if row.len() == columns { Ok(row) } else { Err(Damage::Payload) }
}

fn open_value(rest: &mut &[u8]) -> Option<Value> {
    let [tag] = *split(rest)?;
    Some(match tag {
        0 => Value::Null,
        1 => {
            let len = u32::from_le_bytes(*split(rest)?) as usize;
            let (text, after) = rest.split_at_checked(len)?;
            *rest = after;
            Value::Text(std::str::from_utf8(text).ok()?.to_owned())
        }
        2 => Value::Integer(i64::from_le_bytes(*split(rest)?)),
        3 => {
            let bytes = *split::<16>(rest)?;
            let number = Decimal::deserialize(bytes);
            // A scale above the largest would panic later.
            if number.serialize() != bytes || number.scale() > Decimal::MAX_SCALE {
                return None;
            }
            Value::Decimal(number)
        }
        4 => Value::Uuid(Uuid::from_bytes(*split(rest)?)),
        5 => Value::Time(Timestamp(i64::from_le_bytes(*split(rest)?))),
        6 => match *split(rest)? {
            [0] => Value::Flag(false),
            [1] => Value::Flag(true),
            _ => return None,
        },
        _ => return None,
    })
}

fn split<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (first, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        vec![
            Value::Text("a\u{0}b".to_owned()),
            Value::Null,
            Value::Integer(-7),
            Value::Decimal("-12.340".parse().unwrap()),
            Value::Uuid(Uuid::from_u128(0xABCD)),
            Value::Time(Timestamp(1_700_000_000_000_000_000)),
            Value::Flag(true),
        ]
    }

    #[test]
    fn a_row_comes_back_with_its_scales() {
        let bytes = seal_row(&row(), &mut Vec::new()).unwrap();
        let back = open_row(&bytes, 7).unwrap();
        assert_eq!(back, row());
        assert_eq!(format!("{back:?}"), format!("{:?}", row()), "1.0 is not 1.00");
        assert_eq!(open_row(&bytes, 6), Err(Damage::Payload));
    }

    #[test]
    fn bytes_that_are_no_row_are_refused_whatever_they_are() {
        let bytes = seal_row(&row(), &mut Vec::new()).unwrap();
        let payload = ENVELOPE.unwrap(&bytes).unwrap();
        for at in 0..payload.len() {
            for byte in [0u8, 1, 2, 7, 128, 255] {
                let mut damaged = payload.to_vec();
                damaged[at] = byte;
                // A right checksum around wrong bytes: nothing may panic.
                if let Ok(row) = open_row(&ENVELOPE.wrap(&damaged).unwrap(), 7) {
                    let _ = format!("{row:?}{:?}", order::encoded(&row));
                }
            }
            let _ = open_row(&ENVELOPE.wrap(&payload[..at]).unwrap(), 7);
        }
    }

    #[test]
    fn catalog_keys_come_back() {
        let key = catalog_key("trial_balance", 258);
        assert_eq!(parse_catalog_key(&key), Some(("trial_balance".to_owned(), 258)));
        assert!(key.starts_with(&catalog_prefix("trial_balance")));
        assert!(!key.starts_with(&catalog_prefix("trial")));
        assert_eq!(parse_catalog_key(&paused_key("a")), None);
    }
}
