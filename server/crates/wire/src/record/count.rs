//! How many things a request would become, counted before it is decoded.
//!
//! Two bytes of a message can be a record, or a value in a list, and either takes a hundred in
//! memory. So the fields are walked first, without keeping any, and a request that would become
//! more than it may is never decoded.
//!
//! INVARIANT: allocates nothing; how deep it goes is bounded as the decoder's own depth is.

use daybook_model::limits::{APPEND_EVENTS_MAX, APPEND_STREAMS_MAX};

use super::Violation;
use crate::decode::{Field, Fields};
use crate::error::InvalidRequest;

/// Values among the properties of all records of one message, those within lists and structures
/// too. Four for each record of the largest append.
pub const VALUES_MAX: usize = 4 * APPEND_EVENTS_MAX;
/// Values within values. The decoder gives up at a hundred messages within messages, and a value in
/// a structure is three.
const DEPTH_MAX: u32 = 40;

/// Which request it is: they have their records in different fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// AppendRequest, one of a session.
    Session,
    /// AppendRecordsRequest.
    Records,
}

/// Checks how many records, checks and values `message` has.
///
/// # Errors
/// [`Violation`] if there are more than may be, or it is no message of that shape.
pub fn check(message: &[u8], shape: Shape) -> Result<(), Violation> {
    let (mut records, mut checks, mut values) = (0, 0, 0);
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next().map_err(malformed)? {
        match (shape, number, field) {
            (Shape::Records, 1, Field::Bytes(record))
            | (Shape::Session, 2, Field::Bytes(record)) => {
                records += 1;
                count_properties(record, &mut values)?;
            }
            (Shape::Records, 2, Field::Bytes(_)) => checks += 1,
            _ => {}
        }
    }
    for (what, found, limit) in [
        ("records", records, APPEND_EVENTS_MAX),
        ("checks", checks, APPEND_STREAMS_MAX),
        ("properties", values, VALUES_MAX),
    ] {
        if found > limit {
            return Err(Violation::new(
                what,
                format!("has {found}; the limit is {limit}; split it"),
            ));
        }
    }
    Ok(())
}

fn malformed(error: InvalidRequest) -> Violation {
    Violation::new("message", error.to_string())
}

fn count_properties(record: &[u8], values: &mut usize) -> Result<(), Violation> {
    let mut fields = Fields(record);
    while let Some((number, field)) = fields.next().map_err(malformed)? {
        if let (2, Field::Bytes(entry)) = (number, field) {
            count_entry(entry, values, 0)?;
        }
    }
    Ok(())
}

/// An entry of a map to values: the key is 1, the value 2.
fn count_entry(entry: &[u8], values: &mut usize, depth: u32) -> Result<(), Violation> {
    *values += 1;
    let mut fields = Fields(entry);
    while let Some((number, field)) = fields.next().map_err(malformed)? {
        if let (2, Field::Bytes(value)) = (number, field) {
            count_value(value, values, depth)?;
        }
    }
    Ok(())
}

/// What a value holds: a structure is 5, its entries 1; a list 6, its values 1.
fn count_value(value: &[u8], values: &mut usize, depth: u32) -> Result<(), Violation> {
    if depth == DEPTH_MAX {
        let reason = format!("has values {DEPTH_MAX} deep in others; flatten them");
        return Err(Violation::new("properties", reason));
    }
    let mut fields = Fields(value);
    while let Some((number, field)) = fields.next().map_err(malformed)? {
        let (5 | 6, Field::Bytes(inner)) = (number, field) else { continue };
        let mut parts = Fields(inner);
        while let Some((part, field)) = parts.next().map_err(malformed)? {
            match (number, part, field) {
                (5, 1, Field::Bytes(entry)) => count_entry(entry, values, depth + 1)?,
                (6, 1, Field::Bytes(value)) => {
                    *values += 1;
                    count_value(value, values, depth + 1)?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message as _;
    use prost_types::value::Kind;
    use prost_types::{ListValue, Struct, Value};

    use super::*;
    use crate::proto::streams_v2::{
        AppendRecord, AppendRecordsRequest, AppendRequest, ConsistencyCheck,
    };

    fn list(values: Vec<Value>) -> Value {
        Value { kind: Some(Kind::ListValue(ListValue { values })) }
    }

    fn structure(key: &str, value: Value) -> Value {
        let fields = BTreeMap::from([(key.to_owned(), value)]);
        Value { kind: Some(Kind::StructValue(Struct { fields })) }
    }

    fn with(value: Value) -> AppendRecord {
        let properties = BTreeMap::from([("p".to_owned(), value)]);
        AppendRecord { properties, ..AppendRecord::default() }
    }

    fn asked(records: Vec<AppendRecord>, checks: usize) -> Vec<u8> {
        let checks = vec![ConsistencyCheck::default(); checks];
        AppendRecordsRequest { records, checks }.encode_to_vec()
    }

    #[test]
    fn what_would_become_too_much_is_refused_undecoded() {
        let records = |count| vec![AppendRecord::default(); count];
        let innermost = Value { kind: Some(Kind::BoolValue(true)) };
        let nested = |depth| (0..depth).fold(innermost.clone(), |value, _| structure("k", value));
        let session = |count| {
            let records = records(count);
            AppendRequest { records, ..AppendRequest::default() }.encode_to_vec()
        };
        let (of_records, of_session) = (Shape::Records, Shape::Session);
        for (message, shape, refused) in [
            (asked(records(APPEND_EVENTS_MAX), 3), of_records, None),
            (asked(records(APPEND_EVENTS_MAX + 1), 0), of_records, Some("records")),
            (session(APPEND_EVENTS_MAX + 1), of_session, Some("records")),
            (session(2), of_session, None),
            (asked(records(1), APPEND_STREAMS_MAX + 1), of_records, Some("checks")),
            (
                asked(vec![with(list(vec![Value::default(); VALUES_MAX]))], 0),
                of_records,
                Some("properties"),
            ),
            (asked(vec![with(list(vec![Value::default(); VALUES_MAX - 1]))], 0), of_records, None),
            (asked(vec![with(nested(DEPTH_MAX as usize - 1))], 0), of_records, None),
            (asked(vec![with(nested(DEPTH_MAX as usize))], 0), of_records, Some("properties")),
            (vec![0x0a, 5, 1], of_records, Some("message")),
            (vec![0x0b], of_records, Some("message")),
        ] {
            let found = check(&message, shape).err().map(|violation| violation.field);
            assert_eq!(found.as_deref(), refused, "{shape:?}, {} bytes", message.len());
        }
    }

    #[test]
    fn what_may_be_as_deep_can_be_decoded() {
        let deepest = (1..DEPTH_MAX).fold(Value::default(), |value, _| list(vec![value]));
        let message = asked(vec![with(deepest)], 0);
        assert_eq!(check(&message, Shape::Records), Ok(()));
        AppendRecordsRequest::decode(&*message).expect("a message");
    }
}
