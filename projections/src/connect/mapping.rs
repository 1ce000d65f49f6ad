//! What a message says: an event as it is, or some of its fields.
//!
//! ```text
//!   envelope  {"id", "stream", "revision", "position", "type", "time", "data", "metadata"}
//!             data that is not JSON as "data_base64", such metadata as "metadata_base64"
//!   data      the data alone
//! ```
//!
//! Fields are passed as they are written: no number is read and written anew, so none is rounded.
//!
//! INVARIANT: pure. A body of JSON has no line break in it, so that it can be a line of a file.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use daybook_ledger::time::Rfc3339;
use daybook_model::{ContentType, Context, RecordedEvent};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::section::{ConfigError, Section};
use super::sink::Message;

/// What messages say.
#[derive(Clone, Debug)]
pub struct Mapping {
    body: Body,
    /// The fields of the data that are passed; all if none are named.
    fields: BTreeSet<String>,
    rename: BTreeMap<String, String>,
    /// Fields that are added, as JSON.
    constants: BTreeMap<String, Box<RawValue>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Envelope,
    Data,
}

#[derive(Serialize)]
struct Envelope<'a> {
    id: Uuid,
    stream: &'a str,
    revision: u64,
    position: u64,
    #[serde(rename = "type")]
    event_type: &'a str,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata_base64: Option<String>,
}

impl Mapping {
    /// Reads `[connector.mapping]`; the whole event in its envelope if it is empty.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(mut section: Section<'_>) -> Result<Mapping, ConfigError> {
        let body = section.word("body", &[("envelope", Body::Envelope), ("data", Body::Data)])?;
        let fields = section.texts("fields")?.into_iter().collect();
        let mut rename = BTreeMap::new();
        for (field, to) in section.pairs("rename")? {
            let toml::Value::String(to) = to else {
                return Err(section.wrong("rename", "takes names: { field = \"new_name\" }"));
            };
            rename.insert(field, to);
        }
        let mut constants = BTreeMap::new();
        for (field, value) in section.pairs("constants")? {
            let json = match value {
                toml::Value::String(text) => serde_json::to_string(&text),
                toml::Value::Integer(number) => serde_json::to_string(&number),
                toml::Value::Boolean(flag) => serde_json::to_string(&flag),
                _ => return Err(section.wrong("constants", "takes texts, integers, true or false")),
            };
            let raw = json.and_then(RawValue::from_string);
            constants.insert(field, raw.map_err(|error| section.wrong("constants", error))?);
        }
        section.finish()?;
        Ok(Mapping { body, fields, rename, constants })
    }

    /// The message about `event`.
    ///
    /// # Errors
    /// Why there can be none: its data has no fields to choose from.
    pub fn message(&self, event: &RecordedEvent) -> Result<Message, String> {
        let data = self.data(event)?;
        let (body, content_type) = match self.body {
            Body::Envelope => (envelope(event, data.as_deref())?, ContentType::Json),
            Body::Data => match data {
                Some(data) => {
                    (Bytes::from(String::from(Box::<str>::from(data))), ContentType::Json)
                }
                None => (event.data.clone(), ContentType::Binary),
            },
        };
        Ok(Message {
            id: event.id,
            stream: event.stream.clone(),
            revision: event.revision,
            position: event.position,
            event_type: event.event_type.clone(),
            time: event.time,
            context: Context::of(&event.metadata),
            body: match content_type {
                ContentType::Json => on_one_line(body),
                ContentType::Binary => body,
            },
            content_type,
        })
    }

    /// The data as JSON, mapped; none if it is not JSON and need not be.
    fn data(&self, event: &RecordedEvent) -> Result<Option<Box<RawValue>>, String> {
        let plain = self.fields.is_empty() && self.rename.is_empty() && self.constants.is_empty();
        if plain {
            return Ok(serde_json::from_slice(&event.data).ok());
        }
        let fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&event.data)
            .map_err(|e| format!("its data is no JSON object, so no field can be mapped: {e}"))?;
        let mut mapped = BTreeMap::new();
        for (name, value) in &fields {
            if self.fields.is_empty() || self.fields.contains(name) {
                mapped.insert(self.rename.get(name).unwrap_or(name), value);
            }
        }
        mapped.extend(&self.constants);
        serde_json::value::to_raw_value(&mapped).map(Some).map_err(|error| error.to_string())
    }
}

fn envelope(event: &RecordedEvent, data: Option<&RawValue>) -> Result<Bytes, String> {
    let base64 = |bytes: &Bytes| (!bytes.is_empty()).then(|| STANDARD.encode(bytes));
    let metadata: Option<&RawValue> = serde_json::from_slice(&event.metadata).ok();
    let envelope = Envelope {
        id: event.id,
        stream: event.stream.as_str(),
        revision: event.revision.0,
        position: event.position.0,
        event_type: &event.event_type,
        time: Rfc3339(event.time).to_string(),
        data,
        data_base64: if data.is_none() { base64(&event.data) } else { None },
        metadata,
        metadata_base64: if metadata.is_none() { base64(&event.metadata) } else { None },
    };
    serde_json::to_vec(&envelope).map(Bytes::from).map_err(|error| error.to_string())
}

/// A line break in JSON is space between its parts: within a text it is written `\n`.
fn on_one_line(json: Bytes) -> Bytes {
    if !json.iter().any(|byte| b"\r\n".contains(byte)) {
        return json;
    }
    json.iter().map(|byte| if b"\r\n".contains(byte) { b' ' } else { *byte }).collect()
}

#[cfg(test)]
mod tests {
    use daybook_model::{Position, Revision, StreamName, Timestamp};

    use super::*;

    fn event(data: &str, metadata: &str) -> RecordedEvent {
        RecordedEvent {
            position: Position(7),
            revision: Revision(2),
            time: Timestamp(1_700_000_000_000_000_001),
            id: Uuid::from_u128(1),
            stream: StreamName::new("account-1").expect("a name"),
            event_type: "Opened".to_owned(),
            content_type: ContentType::Json,
            tombstone: false,
            metadata: Bytes::from(metadata.to_owned()),
            data: Bytes::from(data.to_owned()),
        }
    }

    fn mapped(config: &str, data: &str) -> Result<String, String> {
        let section = Section::of_file("test", config, &|_| None).expect("TOML");
        let mapping = Mapping::read(section).expect("a mapping");
        let message = mapping.message(&event(data, ""))?;
        Ok(String::from_utf8(message.body.to_vec()).expect("text"))
    }

    #[test]
    fn the_envelope_says_all_of_an_event() {
        let section = Section::of_file("test", "", &|_| None).expect("TOML");
        let mapping = Mapping::read(section).expect("a mapping");
        let data = "{\"amount\":\r\n 10.10}";
        let message = mapping.message(&event(data, r#"{"$correlationId":"c"}"#)).expect("one");
        let expected = r#"{"id":"00000000-0000-0000-0000-000000000001","stream":"account-1","revision":2,"position":7,"type":"Opened","time":"2023-11-14T22:13:20.000000001Z","data":{"amount":   10.10},"metadata":{"$correlationId":"c"}}"#;
        assert_eq!(message.body, expected.as_bytes());
        assert_eq!(message.context.correlation.as_deref(), Some("c"));
        let message = mapping.message(&event("\u{1}", "\u{2}")).expect("one");
        let text = String::from_utf8(message.body.to_vec()).expect("text");
        assert!(text.ends_with(r#""data_base64":"AQ==","metadata_base64":"Ag=="}"#), "{text}");
    }

    #[test]
    fn fields_are_chosen_renamed_and_added_and_no_number_is_rounded() {
        let data = r#"{"b":0.10000000000000000000001,"a":{"x":[1, 2]},"c":"ü"}"#;
        for (config, expected) in [
            ("body = 'data'", Ok(data)),
            ("body = 'data'\nfields = ['b']", Ok(r#"{"b":0.10000000000000000000001}"#)),
            ("body = 'data'\nfields = ['none']", Ok("{}")),
            (
                "body = 'data'\nfields = ['c', 'a']\nrename = { a = 'z' }",
                Ok(r#"{"c":"ü","z":{"x":[1, 2]}}"#),
            ),
            (
                "body = 'data'\nfields = ['c']\nconstants = { s = 'it', n = 1, c = true }",
                Ok(r#"{"c":true,"n":1,"s":"it"}"#),
            ),
        ] {
            assert_eq!(mapped(config, data).as_deref(), expected, "{config}");
        }
        assert_eq!(mapped("body = 'data'", "no json").as_deref(), Ok("no json"));
        let refused = mapped("fields = ['a']", "[1]").expect_err("no object");
        assert!(refused.contains("no JSON object"), "{refused}");
    }
}
