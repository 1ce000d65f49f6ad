//! The settings of all groups as one JSON document, in KurrentDB's shape: the data of the newest
//! event of `$persistentSubscriptionConfig`.
//!
//! `beginsAt` is ours: where `startPosition` was when the group was made.
//!
//! An entry that cannot be understood concerns its group alone, and stays in the document as it was
//! found: somebody meant something by it, and may put it right.

use daybook_model::{FilterTarget, Timestamp};
use daybook_store::persistent::{Settings, Strategy};
use daybook_wire::position;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::definition::{Definition, FilterSpec, Pattern, Start, duration, milliseconds};
use super::key::{GroupKey, Source};
use super::place;
use crate::http::event::rfc3339;

/// The version of the shape.
const VERSION: &str = "2";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    version: String,
    updated: String,
    updated_by: Option<String>,
    entries: Vec<Value>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    stream: String,
    group: String,
    filter: Option<FilterEntry>,
    #[serde(default)]
    resolve_link_tos: bool,
    #[serde(default)]
    extra_statistics: bool,
    message_timeout: i64,
    start_position: Option<String>,
    /// Of the first version of the shape.
    #[serde(default, skip_serializing)]
    start_from: Option<i64>,
    #[serde(default)]
    begins_at: Option<u64>,
    live_buffer_size: u32,
    history_buffer_size: u32,
    max_retry_count: u32,
    read_batch_size: u32,
    #[serde(default)]
    prefer_round_robin: bool,
    check_point_after: i64,
    min_check_point_count: u32,
    max_check_point_count: u32,
    #[serde(default)]
    max_subscriber_count: u32,
    named_consumer_strategy: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FilterEntry {
    /// 0 a stream's name, 1 an event's type.
    context: u8,
    /// 0 a regular expression, 1 prefixes.
    r#type: u8,
    /// The expression, or the prefixes with commas between them.
    data: String,
    /// The prefixes one by one: they may have commas.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    prefixes: Vec<String>,
    #[serde(default)]
    is_all_stream: bool,
}

/// An entry of a document.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    /// It is understood.
    Group(Definition),
    /// It is not.
    Unreadable {
        /// Whose it is, as far as it says so.
        key: Option<GroupKey>,
        /// As it was found.
        json: Value,
        /// What is wrong with it.
        reason: String,
    },
}

/// The document of `entries`.
#[must_use]
pub fn encode(entries: Vec<Value>, now: Timestamp, by: &str) -> Vec<u8> {
    let config = Config {
        version: VERSION.to_owned(),
        updated: rfc3339(now),
        updated_by: Some(by.to_owned()),
        entries,
    };
    serde_json::to_vec(&config).expect("plain fields are JSON")
}

/// The entry that keeps `definition`.
#[must_use]
pub fn encode_entry(definition: &Definition) -> Value {
    serde_json::to_value(entry(definition)).expect("plain fields are JSON")
}

/// What a document keeps.
///
/// # Errors
/// Says why it is no document of groups.
pub fn decode(data: &[u8]) -> Result<Vec<Kept>, String> {
    let config: Config = serde_json::from_slice(data).map_err(|error| error.to_string())?;
    Ok(config.entries.into_iter().map(kept).collect())
}

fn kept(json: Value) -> Kept {
    let understood = Entry::deserialize(&json).map_err(|error| error.to_string());
    match understood.and_then(definition) {
        Ok(definition) => Kept::Group(definition),
        Err(reason) => Kept::Unreadable { key: key_of(&json), reason, json },
    }
}

/// Whose an entry is that is not understood.
fn key_of(json: &Value) -> Option<GroupKey> {
    let text = |field: &str| json.get(field).and_then(Value::as_str);
    let key =
        GroupKey { source: Source::named(text("stream")?)?, group: text("group")?.to_owned() };
    key.problem().is_none().then_some(key)
}

fn entry(definition: &Definition) -> Entry {
    let Definition { key, settings, .. } = definition;
    Entry {
        stream: key.source.name().to_owned(),
        group: key.group.clone(),
        filter: definition.filter.as_ref().map(filter_entry),
        resolve_link_tos: definition.resolve_links,
        extra_statistics: definition.extra_statistics,
        message_timeout: i64::from(milliseconds(settings.message_timeout)),
        start_position: Some(place::start_text(&key.source, definition.start)),
        start_from: None,
        begins_at: Some(definition.begins_at),
        live_buffer_size: settings.live_buffer_size,
        history_buffer_size: settings.history_buffer_size,
        max_retry_count: settings.max_retry_count,
        read_batch_size: settings.read_batch_size,
        prefer_round_robin: settings.strategy == Strategy::RoundRobin,
        check_point_after: i64::from(milliseconds(settings.checkpoint_after)),
        min_check_point_count: settings.min_checkpoint_count,
        max_check_point_count: settings.max_checkpoint_count,
        max_subscriber_count: settings.max_subscriber_count.unwrap_or(0),
        named_consumer_strategy: Some(settings.strategy.name().to_owned()),
    }
}

fn filter_entry(filter: &FilterSpec) -> FilterEntry {
    let context = match filter.target {
        FilterTarget::StreamName => 0,
        FilterTarget::EventType => 1,
    };
    let (kind, data, prefixes) = match &filter.pattern {
        Pattern::Regex(expression) => (0, expression.clone(), Vec::new()),
        Pattern::Prefixes(prefixes) => (1, prefixes.join(","), prefixes.clone()),
    };
    FilterEntry { context, r#type: kind, data, prefixes, is_all_stream: true }
}

fn definition(entry: Entry) -> Result<Definition, String> {
    let unknown = |what: &str| format!("group '{}' of '{}': {what}", entry.group, entry.stream);
    let source = Source::named(&entry.stream).ok_or_else(|| unknown("no such stream name"))?;
    let key = GroupKey { source, group: entry.group.clone() };
    if let Some(problem) = key.problem() {
        return Err(unknown(&problem));
    }
    let strategy = match entry.named_consumer_strategy.as_deref() {
        Some(name) => Strategy::of_name(name).ok_or_else(|| unknown("no such strategy"))?,
        None if entry.prefer_round_robin => Strategy::RoundRobin,
        None => Strategy::DispatchToSingle,
    };
    let start = match (&entry.start_position, entry.start_from) {
        (Some(text), _) => text.clone(),
        (None, from) => from.unwrap_or(0).to_string(),
    };
    let start = place::parse_start(&key.source, &start).ok_or_else(|| unknown("no such start"))?;
    let begins_at = entry.begins_at.unwrap_or(match (start, &key.source) {
        (Start::At(number), Source::All) => position::decode(number).0.0,
        (Start::At(revision), Source::Stream(_)) => revision,
        (Start::First | Start::End, _) => 0,
    });
    let filter = entry.filter.as_ref().map(filter_spec).transpose().map_err(|e| unknown(&e))?;
    let ms = |ms: i64| duration(u64::try_from(ms).unwrap_or(0));
    let settings = Settings {
        strategy,
        message_timeout: ms(entry.message_timeout),
        max_retry_count: entry.max_retry_count,
        checkpoint_after: ms(entry.check_point_after),
        min_checkpoint_count: entry.min_check_point_count,
        max_checkpoint_count: entry.max_check_point_count,
        max_subscriber_count: Some(entry.max_subscriber_count).filter(|count| *count > 0),
        live_buffer_size: entry.live_buffer_size,
        read_batch_size: entry.read_batch_size,
        history_buffer_size: entry.history_buffer_size,
    };
    settings.check().map_err(|error| unknown(&error.to_string()))?;
    if let Some(filter) = &filter {
        filter.compile().map_err(|error| unknown(&error.to_string()))?;
    }
    let (resolve_links, extra_statistics) = (entry.resolve_link_tos, entry.extra_statistics);
    Ok(Definition { key, settings, resolve_links, extra_statistics, start, begins_at, filter })
}

fn filter_spec(entry: &FilterEntry) -> Result<FilterSpec, String> {
    let target = match entry.context {
        0 => FilterTarget::StreamName,
        1 => FilterTarget::EventType,
        other => return Err(format!("a filter cannot look at {other}")),
    };
    let pattern = match (entry.r#type, entry.prefixes.is_empty()) {
        (0, _) => Pattern::Regex(entry.data.clone()),
        (1, false) => Pattern::Prefixes(entry.prefixes.clone()),
        (1, true) => Pattern::Prefixes(entry.data.split(',').map(str::to_owned).collect()),
        (other, _) => return Err(format!("a filter cannot be of type {other}")),
    };
    Ok(FilterSpec { target, pattern })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_definition(source: &str) -> Definition {
        let source = Source::named(source).expect("a source");
        Definition {
            key: GroupKey { source, group: "g".to_owned() },
            settings: Settings { strategy: Strategy::Pinned, ..Settings::default() },
            resolve_links: true,
            extra_statistics: true,
            start: Start::End,
            begins_at: 7,
            filter: Some(FilterSpec {
                target: FilterTarget::EventType,
                pattern: Pattern::Prefixes(vec!["a,b".to_owned(), "c".to_owned()]),
            }),
        }
    }

    #[test]
    fn definitions_survive_their_document() {
        let some = [a_definition("$all"), Definition { filter: None, ..a_definition("s") }];
        let document = encode(some.iter().map(encode_entry).collect(), Timestamp(0), "admin");
        assert_eq!(decode(&document), Ok(some.map(Kept::Group).to_vec()));
        let text = String::from_utf8(document).expect("text");
        assert!(text.starts_with("{\"version\":\"2\",\"updated\":\"1970-01-01T00:00:00"), "{text}");
        assert!(text.contains("\"namedConsumerStrategy\":\"Pinned\""), "{text}");
    }

    fn of_another_server() -> Value {
        serde_json::json!({"stream":"s","group":"g","filter":null,"resolveLinkTos":false,
            "messageTimeout":30000,"startFrom":5,"liveBufferSize":500,"historyBufferSize":500,
            "maxRetryCount":10,"readBatchSize":20,"preferRoundRobin":true,"checkPointAfter":2000,
            "minCheckPointCount":10,"maxCheckPointCount":1000})
    }

    #[test]
    fn a_document_that_another_server_wrote_is_understood() {
        let document = encode(vec![of_another_server()], Timestamp(0), "admin");
        let found = decode(&document).expect("a document");
        let [Kept::Group(found)] = &found[..] else { panic!("{found:?}") };
        assert_eq!((found.start, found.begins_at), (Start::At(5), 5));
        assert_eq!(found.settings, Settings::default());
        assert!(decode(b"{}").is_err());
    }

    #[test]
    fn what_is_not_understood_of_one_entry_is_said_of_that_one() {
        for (field, value, part) in [
            ("namedConsumerStrategy", Value::from("Fair"), "no such strategy"),
            ("startPosition", Value::from("soon"), "no such start"),
            ("liveBufferSize", Value::from("many"), "invalid type"),
            ("readBatchSize", Value::from(500), "read_batch_size"),
            ("filter", serde_json::json!({"context":1,"type":0,"data":"("}), "regular expression"),
            ("group", Value::from(""), "name is empty"),
            ("stream", Value::Null, "invalid type"),
        ] {
            let mut entry = of_another_server();
            entry[field] = value;
            let document = encode(vec![entry.clone(), of_another_server()], Timestamp(0), "x");
            let found = decode(&document).expect("a document");
            let [Kept::Unreadable { key, json, reason }, Kept::Group(_)] = &found[..] else {
                panic!("{found:?}")
            };
            assert!(reason.contains(part), "{field}: {reason}");
            assert_eq!((json, key.is_some()), (&entry, !matches!(field, "group" | "stream")));
        }
    }
}
