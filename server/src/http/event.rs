//! An event as JSON, both ways.
//!
//! ```json
//! { "position": 17, "revision": 3, "stream": "account-1", "id": "…", "type": "MoneyPaid",
//!   "time": "2026-11-22T10:15:30.123456789Z", "contentType": "application/json",
//!   "data": {"amount": "12.50"}, "metadata": {"$correlationId": "…"} }
//! ```
//!
//! Data stands as JSON if its content type says so and it parses, with its numbers and the order
//! of its keys untouched; otherwise as base64 text, and `"dataEncoding": "base64"` says so. The
//! same holds for metadata, which is left out when it is empty. What was read can be appended
//! again: the same two members are understood there.
//!
//! An event that was read through a virtual stream has its link beside it, whose revision is the
//! number there: `"link": {"stream": "$ce-account", "revision": 41, "id": "…"}`. Where the event may
//! not be seen the link stands alone, an event of that stream: `"names": "0@account-1"`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use daybook_model::metadata::TOMBSTONE_EVENT_TYPE;
use daybook_model::{
    ContentType, EventView, NewEvent, Position, RecordedEvent, Revision, StreamName, Timestamp,
};
use daybook_store::{LinkText, Links, Target};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::problem::Problem;

/// A time as RFC 3339 in UTC, with nanoseconds.
#[must_use]
pub fn rfc3339(time: Timestamp) -> String {
    let stamp = jiff::Timestamp::from_nanosecond(i128::from(time.0));
    // Every i64 of nanoseconds is in jiff's range.
    stamp.map_or_else(|_| String::new(), |stamp| format!("{stamp:.9}"))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    position: u64,
    revision: u64,
    stream: &'a str,
    id: Uuid,
    #[serde(rename = "type")]
    event_type: &'a str,
    time: String,
    content_type: &'static str,
    data: Payload<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Payload<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata_encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<ShownLink<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    names: Option<&'a str>,
}

/// What an event has to do with a virtual stream.
#[derive(Clone, Copy)]
enum Through<'a> {
    /// Nothing.
    Nothing,
    /// It was read through this link.
    Link(ShownLink<'a>),
    /// It is a link of it.
    Itself,
}

/// The link through which an event was read.
#[derive(Clone, Copy, Serialize)]
struct ShownLink<'a> {
    stream: &'a str,
    revision: u64,
    id: Uuid,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Payload<'a> {
    Json(&'a RawValue),
    Base64(String),
}

/// When bytes that should be JSON stand as it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Faith {
    /// If they are: the spaces around them and the ends of their lines are not kept.
    Readable,
    /// If what is read back is what was written, to the byte, on one line.
    Exact,
}

impl<'a> Payload<'a> {
    fn new(bytes: &'a [u8], may_be_json: bool, faith: Faith) -> Payload<'a> {
        if may_be_json && let Ok(json) = serde_json::from_slice::<&RawValue>(bytes) {
            let same = json.get().len() == bytes.len() && !bytes.contains(&b'\n');
            // A member that is null is as good as none.
            if faith == Faith::Readable || (same && bytes != b"null") {
                return Payload::Json(json);
            }
        }
        Payload::Base64(BASE64.encode(bytes))
    }

    fn encoding(&self) -> Option<&'static str> {
        match self {
            Payload::Json(_) => None,
            Payload::Base64(_) => Some("base64"),
        }
    }
}

/// Writes `event` as JSON to the end of `out`.
pub fn write(event: &EventView<'_>, out: &mut Vec<u8>) {
    write_with(event, Faith::Readable, Through::Nothing, out);
}

/// Writes an event of a page as JSON to the end of `out`. One that was read through `links` has the
/// member `link`; if it may not be seen its link stands for it, and says what it `names`.
pub fn write_target(target: &Target<'_>, links: Option<&Links>, out: &mut Vec<u8>) {
    let Some(links) = links else { return write(&target.event, out) };
    if target.hidden {
        let mut text = LinkText::default();
        let link = links.link(target.number, &target.event, &mut text);
        return write_with(&link, Faith::Readable, Through::Itself, out);
    }
    let (stream, revision) = (links.stream.as_str(), target.number);
    let link = ShownLink { stream, revision, id: links.id(revision) };
    write_with(&target.event, Faith::Readable, Through::Link(link), out);
}

/// Writes `event` as JSON on one line to the end of `out`, so that [`read_recorded`] gives back
/// every byte: data and metadata that would not come back so stand as base64.
pub fn write_exactly(event: &EventView<'_>, out: &mut Vec<u8>) {
    write_with(event, Faith::Exact, Through::Nothing, out);
}

fn write_with(event: &EventView<'_>, faith: Faith, through: Through<'_>, out: &mut Vec<u8>) {
    let data = Payload::new(event.data, event.content_type == ContentType::Json, faith);
    let metadata = (!event.metadata.is_empty()).then(|| Payload::new(event.metadata, true, faith));
    let shown = Shown {
        position: event.position.0,
        revision: event.revision.0,
        stream: event.stream,
        id: event.id,
        event_type: event.event_type,
        time: rfc3339(event.time),
        content_type: event.content_type.as_str(),
        data_encoding: data.encoding(),
        data,
        metadata_encoding: metadata.as_ref().and_then(Payload::encoding),
        metadata,
        link: match through {
            Through::Link(link) => Some(link),
            Through::Nothing | Through::Itself => None,
        },
        names: match through {
            Through::Itself => std::str::from_utf8(event.data).ok(),
            Through::Nothing | Through::Link(_) => None,
        },
    };
    serde_json::to_writer(out, &shown).expect("a vector takes all, and every key is a string");
}

/// An event that a client wants to append.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Proposed<'a> {
    id: Option<Uuid>,
    #[serde(rename = "type")]
    event_type: String,
    content_type: Option<String>,
    #[serde(borrow)]
    data: &'a RawValue,
    data_encoding: Option<Encoding>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    metadata_encoding: Option<Encoding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Encoding {
    Json,
    Base64,
}

impl Proposed<'_> {
    /// Makes it an event; one that has no id gets `new_id()`.
    ///
    /// # Errors
    /// [`Problem`] names the member that is not valid.
    pub fn into_event(self, new_id: impl FnOnce() -> Uuid) -> Result<NewEvent, Problem> {
        let content_type = match self.content_type.as_deref() {
            None | Some("application/json") => ContentType::Json,
            Some("application/octet-stream") => ContentType::Binary,
            Some(other) => {
                let detail = format!(
                    "'{other}' is not known; give 'application/json' or 'application/octet-stream'"
                );
                return Err(Problem::field("contentType", detail));
            }
        };
        let natural = match content_type {
            ContentType::Json => Encoding::Json,
            ContentType::Binary => Encoding::Base64,
        };
        let data = decode("data", self.data, self.data_encoding.unwrap_or(natural))?;
        let metadata = match self.metadata.filter(|raw| raw.get() != "null") {
            Some(raw) => decode("metadata", raw, self.metadata_encoding.unwrap_or(Encoding::Json))?,
            None => Bytes::new(),
        };
        let id = self.id.unwrap_or_else(new_id);
        let event = NewEvent { id, event_type: self.event_type, content_type, metadata, data };
        event.check()?;
        Ok(event)
    }
}

fn decode(field: &str, raw: &RawValue, encoding: Encoding) -> Result<Bytes, Problem> {
    if encoding == Encoding::Json {
        return Ok(Bytes::copy_from_slice(raw.get().as_bytes()));
    }
    let text: String = serde_json::from_str(raw.get())
        .map_err(|_| Problem::field(field, "must be a string of base64"))?;
    match BASE64.decode(text) {
        Ok(bytes) => Ok(bytes.into()),
        Err(error) => Err(Problem::field(field, format!("is not base64: {error}"))),
    }
}

/// An event that was stored somewhere.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Recorded<'a> {
    #[serde(default)]
    position: u64,
    revision: u64,
    stream: String,
    time: String,
    id: Uuid,
    #[serde(rename = "type")]
    event_type: String,
    content_type: Option<String>,
    #[serde(borrow)]
    data: &'a RawValue,
    data_encoding: Option<Encoding>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    metadata_encoding: Option<Encoding>,
}

/// Reads an event as [`write()`] and [`write_exactly`] write it.
///
/// # Errors
/// [`Problem`] says where the JSON is wrong, or which member.
pub fn read_recorded(json: &[u8]) -> Result<RecordedEvent, Problem> {
    let recorded: Recorded<'_> = parse(json)?;
    let time: jiff::Timestamp =
        recorded.time.parse().map_err(|error| Problem::field("time", error))?;
    let time = i64::try_from(time.as_nanosecond())
        .map_err(|_| Problem::field("time", "is centuries away"))?;
    let stream = StreamName::new(&recorded.stream)?;
    let proposed = Proposed {
        id: Some(recorded.id),
        event_type: recorded.event_type,
        content_type: recorded.content_type,
        data: recorded.data,
        data_encoding: recorded.data_encoding,
        metadata: recorded.metadata,
        metadata_encoding: recorded.metadata_encoding,
    };
    let NewEvent { id, event_type, content_type, metadata, data } =
        proposed.into_event(|| recorded.id)?;
    Ok(RecordedEvent {
        position: Position(recorded.position),
        revision: Revision(recorded.revision),
        time: Timestamp(time),
        id,
        stream,
        tombstone: event_type == TOMBSTONE_EVENT_TYPE,
        event_type,
        content_type,
        metadata,
        data,
    })
}

/// Reads a body that is one event or an array of them.
///
/// # Errors
/// [`Problem`] says where the JSON is wrong, or which member.
pub fn read_one_or_many(
    body: &[u8],
    mut new_id: impl FnMut() -> Uuid,
) -> Result<Vec<NewEvent>, Problem> {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    let proposed: Vec<Proposed<'_>> = match first {
        Some(b'[') => parse(body)?,
        Some(_) => vec![parse(body)?],
        None => return Err(Problem::field("body", "is empty; send an event as JSON")),
    };
    proposed.into_iter().map(|event| event.into_event(&mut new_id)).collect()
}

/// Reads JSON that a client sent.
///
/// # Errors
/// [`Problem`] says where it is wrong.
pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|e| Problem::field("body", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00000000-0000-4000-8000-000000000007";

    fn view<'a>(content_type: ContentType, data: &'a [u8], metadata: &'a [u8]) -> EventView<'a> {
        EventView {
            position: Position(17),
            revision: Revision(3),
            time: Timestamp(1_764_000_000_000_000_001),
            id: ID.parse().expect("a UUID"),
            stream: "account-1",
            event_type: "MoneyPaid",
            content_type,
            tombstone: false,
            metadata,
            data,
        }
    }

    fn shown(event: &EventView<'_>) -> String {
        let mut out = Vec::new();
        write(event, &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn json_stands_as_it_was_sent() {
        let data = br#"{"b":12345678901234567890.10,"a":null}"#;
        assert_eq!(
            shown(&view(ContentType::Json, data, b"")),
            format!(
                "{{\"position\":17,\"revision\":3,\"stream\":\"account-1\",\"id\":\"{ID}\",\
                 \"type\":\"MoneyPaid\",\"time\":\"2025-11-24T16:00:00.000000001Z\",\
                 \"contentType\":\"application/json\",\
                 \"data\":{{\"b\":12345678901234567890.10,\"a\":null}}}}"
            )
        );
    }

    #[test]
    fn what_is_not_json_stands_as_base64() {
        for (content_type, data) in
            [(ContentType::Binary, &b"{}"[..]), (ContentType::Json, b"{"), (ContentType::Json, b"")]
        {
            let text = shown(&view(content_type, data, b"\xff"));
            let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(json["data"], BASE64.encode(data), "{text}");
            assert_eq!(json["dataEncoding"], "base64");
            assert_eq!(
                (&json["metadata"], &json["metadataEncoding"]),
                (&"/w==".into(), &"base64".into())
            );
        }
    }

    #[test]
    fn proposals_are_checked() {
        let nil = Uuid::nil;
        let read = |body: &str| read_one_or_many(body.as_bytes(), nil);
        let one = read(r#"{"type":"A","data": {"x": 1}, "metadata":null}"#).expect("one");
        assert_eq!(
            (one.len(), &one[0].data[..], one[0].metadata.len()),
            (1, &b"{\"x\": 1}"[..], 0)
        );
        assert_eq!(one[0].id, Uuid::nil());
        let two = read(
            r#" [{"type":"A","data":1},
                {"type":"B","data":"AAE=","contentType":"application/octet-stream"}]"#,
        )
        .expect("two");
        assert_eq!((two.len(), &two[1].data[..]), (2, &[0, 1][..]));
        for (body, word) in [
            ("", "is empty"),
            ("{", "EOF"),
            (r#"{"data":1}"#, "`type`"),
            (r#"{"type":"A"}"#, "`data`"),
            (r#"{"type":"","data":1}"#, "empty type"),
            (r#"{"type":"A","data":1,"extra":2}"#, "`extra`"),
            (r#"{"type":"A","data":1,"id":"7"}"#, "UUID"),
            (r#"{"type":"A","data":1,"contentType":"text/plain"}"#, "contentType: 'text/plain'"),
            (r#"{"type":"A","data":1,"contentType":"application/octet-stream"}"#, "data: must be"),
            (r#"{"type":"A","data":"?","dataEncoding":"base64"}"#, "data: is not base64"),
        ] {
            let problem = read(body).expect_err(body).to_json();
            assert!(problem.contains(word), "{body} gave {problem}");
        }
    }
}
