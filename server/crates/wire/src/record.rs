//! Records of appends to several streams, and what such appends expect. Protocol section 6.
//!
//! ```text
//!   record    schema {name, format, id} · properties · data
//!   event     type = name · JSON or bytes · metadata = properties, and the schema · data
//! ```
//!
//! Other reads know nothing of schemas: to them the name is the event's type, and what else the
//! schema says is in the metadata, under keys that no property can take.

pub mod count;

use std::collections::BTreeMap;

use bytes::Bytes;
use daybook_model::append::EndedState;
use daybook_model::{ContentType, ExpectedRevision, NewEvent, Revision, StreamName};
use prost_types::value::Kind;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::proto::streams_v2::{AppendRecord, SchemaFormat, SchemaInfo};

/// The metadata key of a schema's name.
pub const SCHEMA_NAME: &str = "$schema.name";
/// The metadata key of a schema's format.
pub const SCHEMA_FORMAT: &str = "$schema.format";
/// The metadata key of a schema's id.
pub const SCHEMA_ID: &str = "$schema.id";
/// What the keys that tell of the schema begin with.
const SCHEMA_PREFIX: &str = "$schema.";
/// The number up to which a double counts by ones: one beyond it is none to count with.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

/// A part of a request that breaks a rule, in the client's words for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Violation {
    /// Where it stands: `records[2].schema.name`.
    pub field: String,
    /// What is wrong with it, and what to do.
    pub reason: String,
}

impl Violation {
    /// A violation of `field`.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Violation {
        Violation { field: field.into(), reason: reason.into() }
    }
}

/// What an append or a check expects of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// A revision, or what stands for one.
    Revision(ExpectedRevision),
    /// That it ended.
    Ended(EndedState),
}

/// What the number `code` means; none if it means nothing.
#[must_use]
pub fn expected(code: i64) -> Option<Expected> {
    Some(match code {
        -1 => Expected::Revision(ExpectedRevision::NoStream),
        -2 => Expected::Revision(ExpectedRevision::Any),
        -4 => Expected::Revision(ExpectedRevision::StreamExists),
        -5 => Expected::Ended(EndedState::SoftDeleted),
        -6 => Expected::Ended(EndedState::Tombstoned),
        revision => {
            let revision = Revision(u64::try_from(revision).ok()?);
            Expected::Revision(ExpectedRevision::Exact(revision))
        }
    })
}

/// The stream that a request calls `name` in `field`.
///
/// # Errors
/// [`Violation`] if no stream can have that name.
pub fn stream(name: &str, field: &str) -> Result<StreamName, Violation> {
    if name == "$$" {
        return Err(Violation::new(field, "'$$' is the metadata of no stream; name one after it"));
    }
    StreamName::new(name).map_err(|invalid| Violation::new(field, invalid.to_string()))
}

/// `record` as an event; `new_id` is asked if it has no id of its own, and `field` says where in
/// the request it stands.
///
/// # Errors
/// [`Violation`] says which part of it breaks a rule.
pub fn to_event(
    record: AppendRecord,
    field: &str,
    new_id: impl FnOnce() -> Uuid,
) -> Result<NewEvent, Violation> {
    let at = |part: &str| format!("{field}.{part}");
    let id = match record.record_id {
        None => new_id(),
        Some(text) => match Uuid::try_parse(&text) {
            Ok(id) if !id.is_nil() => id,
            Ok(_) => return Err(Violation::new(at("record_id"), "it is the nil UUID; make one")),
            Err(e) => return Err(Violation::new(at("record_id"), format!("it is no UUID: {e}"))),
        },
    };
    let schema = record.schema.ok_or_else(|| Violation::new(at("schema"), "set it"))?;
    let format = named_format(schema.format)
        .ok_or_else(|| Violation::new(at("schema.format"), "set it to one of the four formats"))?;
    if schema.name.is_empty() || !schema.name.chars().all(may_name_a_schema) {
        let reason = "give it letters, digits and any of _ . $ : -";
        return Err(Violation::new(at("schema.name"), reason));
    }
    let json = schema.format == i32::from(SchemaFormat::Json);
    let metadata = metadata(record.properties, &schema, format)
        .map_err(|key| Violation::new(at("properties"), format!("'{key}' is no JSON value")))?;
    Ok(NewEvent {
        id,
        event_type: schema.name,
        content_type: if json { ContentType::Json } else { ContentType::Binary },
        metadata: metadata.into(),
        data: record.data,
    })
}

fn may_name_a_schema(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_.$:-".contains(c)
}

/// How metadata names a format.
fn named_format(format: i32) -> Option<&'static str> {
    match SchemaFormat::try_from(format).ok()? {
        SchemaFormat::Unspecified => None,
        SchemaFormat::Json => Some("Json"),
        SchemaFormat::Protobuf => Some("Protobuf"),
        SchemaFormat::Avro => Some("Avro"),
        SchemaFormat::Bytes => Some("Bytes"),
    }
}

/// The metadata of a record's event, or the property that cannot be in it.
fn metadata(
    properties: BTreeMap<String, prost_types::Value>,
    schema: &SchemaInfo,
    format: &str,
) -> Result<String, String> {
    let mut map = Map::new();
    for (key, value) in properties {
        let Some(value) = to_json(value) else { return Err(key) };
        map.insert(key, value);
    }
    map.insert(SCHEMA_NAME.to_owned(), schema.name.as_str().into());
    map.insert(SCHEMA_FORMAT.to_owned(), format.into());
    if let Some(id) = &schema.id {
        map.insert(SCHEMA_ID.to_owned(), id.as_str().into());
    }
    Ok(Value::Object(map).to_string())
}

/// None for a number that JSON does not have. How deep it goes is bounded by the decoder.
fn to_json(value: prost_types::Value) -> Option<Value> {
    Some(match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::StringValue(value)) => value.into(),
        Some(Kind::NumberValue(value)) if value.fract() == 0.0 && value.abs() < INTEGER_MAX => {
            (value as i64).into()
        }
        Some(Kind::NumberValue(value)) => serde_json::Number::from_f64(value)?.into(),
        Some(Kind::ListValue(list)) => {
            Value::Array(list.values.into_iter().map(to_json).collect::<Option<_>>()?)
        }
        Some(Kind::StructValue(fields)) => Value::Object(
            fields
                .fields
                .into_iter()
                .map(|(key, value)| Some((key, to_json(value)?)))
                .collect::<Option<_>>()?,
        ),
    })
}

/// `event` as a record of `stream`: its metadata as properties, without what tells of a schema.
///
/// # Errors
/// [`Violation`] if its metadata is no JSON object, or has a number that no double is.
pub fn from_event(event: NewEvent, stream: &StreamName) -> Result<AppendRecord, Violation> {
    let format = match event.content_type {
        ContentType::Json => SchemaFormat::Json,
        ContentType::Binary => SchemaFormat::Bytes,
    };
    Ok(AppendRecord {
        record_id: Some(event.id.to_string()),
        properties: properties(&event.metadata)?,
        schema: Some(SchemaInfo { format: format.into(), name: event.event_type, id: None }),
        data: event.data,
        stream: stream.as_str().to_owned(),
    })
}

fn properties(metadata: &Bytes) -> Result<BTreeMap<String, prost_types::Value>, Violation> {
    if metadata.is_empty() {
        return Ok(BTreeMap::new());
    }
    let Ok(Value::Object(map)) = serde_json::from_slice(metadata) else {
        return Err(Violation::new("metadata", "make it a JSON object, or leave it empty"));
    };
    map.into_iter()
        .filter(|(key, _)| !key.starts_with(SCHEMA_PREFIX))
        .map(|(key, value)| {
            let value = from_json(value).ok_or_else(|| {
                Violation::new("metadata", format!("'{key}' has a number that no double is"))
            })?;
            Ok((key, value))
        })
        .collect()
}

fn from_json(value: Value) -> Option<prost_types::Value> {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::String(value) => Kind::StringValue(value),
        Value::Number(value) => {
            let double = value.as_f64()?;
            let exact = value.is_f64() || double.abs() < INTEGER_MAX;
            Kind::NumberValue(exact.then_some(double)?)
        }
        Value::Array(values) => Kind::ListValue(prost_types::ListValue {
            values: values.into_iter().map(from_json).collect::<Option<_>>()?,
        }),
        Value::Object(map) => Kind::StructValue(prost_types::Struct {
            fields: map
                .into_iter()
                .map(|(key, value)| Some((key, from_json(value)?)))
                .collect::<Option<_>>()?,
        }),
    };
    Some(prost_types::Value { kind: Some(kind) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, format: SchemaFormat) -> AppendRecord {
        AppendRecord {
            record_id: Some(Uuid::from_u128(7).to_string()),
            properties: BTreeMap::new(),
            schema: Some(SchemaInfo { format: format.into(), name: name.to_owned(), id: None }),
            data: Bytes::from_static(b"{}"),
            stream: String::new(),
        }
    }

    fn taken(record: AppendRecord) -> Result<NewEvent, Violation> {
        to_event(record, "records[3]", || Uuid::from_u128(9))
    }

    #[test]
    fn a_record_becomes_an_event_that_tells_of_its_schema() {
        let number = |value| prost_types::Value { kind: Some(Kind::NumberValue(value)) };
        let mut full = record("Paid", SchemaFormat::Avro);
        full.properties = BTreeMap::from([
            ("$schema.name".to_owned(), number(1.0)),
            ("count".to_owned(), number(5.0)),
            ("rate".to_owned(), number(0.5)),
        ]);
        full.schema.as_mut().expect("a schema").id = Some("s-1".to_owned());
        full.record_id = None;
        let event = taken(full).expect("an event");
        assert_eq!((event.event_type.as_str(), event.id), ("Paid", Uuid::from_u128(9)));
        assert_eq!(event.content_type, ContentType::Binary);
        let metadata: Value = serde_json::from_slice(&event.metadata).expect("JSON");
        assert_eq!(
            metadata,
            serde_json::json!({
                "count": 5, "rate": 0.5,
                "$schema.name": "Paid", "$schema.format": "Avro", "$schema.id": "s-1",
            })
        );
        let json = taken(record("a.B_c:d-$1", SchemaFormat::Json)).expect("an event");
        assert_eq!(json.content_type, ContentType::Json);
    }

    #[test]
    fn what_breaks_a_rule_is_named() {
        let good = || record("Paid", SchemaFormat::Json);
        let with = |change: fn(&mut AppendRecord)| {
            let mut record = good();
            change(&mut record);
            record
        };
        let nan = |record: &mut AppendRecord| {
            let value = prost_types::Value { kind: Some(Kind::NumberValue(f64::NAN)) };
            record.properties.insert("x".to_owned(), value);
        };
        for (record, field) in [
            (with(|r| r.record_id = Some(String::new())), "record_id"),
            (with(|r| r.record_id = Some(Uuid::nil().to_string())), "record_id"),
            (with(|r| r.schema = None), "schema"),
            (record("Paid", SchemaFormat::Unspecified), "schema.format"),
            (with(|r| r.schema.as_mut().expect("a schema").format = 9), "schema.format"),
            (record("", SchemaFormat::Json), "schema.name"),
            (record("order placed", SchemaFormat::Json), "schema.name"),
            (with(nan), "properties"),
        ] {
            let refused = taken(record).expect_err(field);
            assert_eq!(refused.field, format!("records[3].{field}"));
        }
        assert!(stream("", "s").is_err() && stream("$$", "s").is_err());
        assert!(stream("$$account-1", "s").is_ok());
    }

    #[test]
    fn an_event_survives_the_round_trip_and_gains_its_schema() {
        let name = StreamName::new("a-1").expect("a name");
        let mut event = NewEvent::json(Uuid::from_u128(7), "Paid", "{}");
        event.metadata = Bytes::from_static(
            b"{\"$schema.name\":\"Old\",\"a\":[1,{\"b\":null}],\"c\":true,\"d\":\"e\"}",
        );
        let record = from_event(event.clone(), &name).expect("a record");
        assert_eq!(record.stream, "a-1");
        let again = taken(record).expect("an event");
        assert_eq!((again.id, again.event_type), (event.id, event.event_type));
        let metadata: Value = serde_json::from_slice(&again.metadata).expect("JSON");
        assert_eq!(
            metadata,
            serde_json::json!({
                "a": [1, {"b": null}], "c": true, "d": "e",
                "$schema.name": "Paid", "$schema.format": "Json",
            })
        );
        for bad in [&b"[1]"[..], b"no", b"{\"n\":9007199254740993}"] {
            let bad = NewEvent { metadata: Bytes::from_static(bad), ..event_like() };
            assert!(from_event(bad, &name).is_err());
        }
    }

    fn event_like() -> NewEvent {
        NewEvent::json(Uuid::from_u128(7), "Paid", "{}")
    }

    #[test]
    fn a_number_says_what_is_expected() {
        let revision = Expected::Revision;
        for (code, wanted) in [
            (0, Some(revision(ExpectedRevision::Exact(Revision(0))))),
            (i64::MAX, Some(revision(ExpectedRevision::Exact(Revision(i64::MAX as u64))))),
            (-1, Some(revision(ExpectedRevision::NoStream))),
            (-2, Some(revision(ExpectedRevision::Any))),
            (-3, None),
            (-4, Some(revision(ExpectedRevision::StreamExists))),
            (-5, Some(Expected::Ended(EndedState::SoftDeleted))),
            (-6, Some(Expected::Ended(EndedState::Tombstoned))),
            (-7, None),
            (i64::MIN, None),
        ] {
            assert_eq!(expected(code), wanted, "{code}");
        }
    }
}
