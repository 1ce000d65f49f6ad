//! Recorded events straight from where they are stored to the bytes of a gRPC message.
//!
//! A scan sends a million events a second; building generated structs for each would cost a dozen
//! allocations apiece. This writes the same bytes from the view: sizes first, because every length
//! stands before what it measures, then one pass.
//!
//! ```text
//!   | prefix | ReadResp.event 1 { ReadEvent.event 1 {..}, link 2 {..}, commit_position 3 } |
//!
//!   RecordedEvent   id 1 · stream_identifier 2 { stream_name 3 } · stream_revision 3 ·
//!                   prepare_position 4 · commit_position 5 · metadata 6 { key 1, value 2 } x 3 ·
//!                   custom_metadata 7 · data 8
//! ```
//!
//! As in all of proto3, fields that are zero or empty are left out. A test decodes these bytes with
//! the generated code and compares.

use bytes::{BufMut, BytesMut};
use daybook_model::{ContentType, EventView};
use uuid::Uuid;

use crate::event::shown_revision;
use crate::frame::{PREFIX_SIZE, put_prefix};
use crate::time::ticks;
use crate::uuid::UuidForm;

/// An event and the number its position has on the wire.
#[derive(Clone, Copy, Debug)]
pub struct WireEvent<'a> {
    /// The event.
    pub event: EventView<'a>,
    /// See [`crate::encode_position`].
    pub position: u64,
}

// Keys of fields: number * 8 + wire type (0 varint, 2 length and bytes).
const RESPONSE_EVENT: u8 = 0x0a;
const READ_EVENT: u8 = 0x0a;
const READ_LINK: u8 = 0x12;
const READ_COMMIT_POSITION: u8 = 0x18;
const EVENT_ID: u8 = 0x0a;
const EVENT_STREAM: u8 = 0x12;
const EVENT_REVISION: u8 = 0x18;
const EVENT_PREPARE: u8 = 0x20;
const EVENT_COMMIT: u8 = 0x28;
const EVENT_METADATA: u8 = 0x32;
const EVENT_CUSTOM: u8 = 0x3a;
const EVENT_DATA: u8 = 0x42;
const STREAM_NAME: u8 = 0x1a;
const UUID_STRUCTURED: u8 = 0x0a;
const UUID_TEXT: u8 = 0x12;
const HALF_HIGH: u8 = 0x08;
const HALF_LOW: u8 = 0x10;
const ENTRY_VALUE: u8 = 0x12;

/// The key of a metadata entry, key and length included, up to its value.
const ENTRY_TYPE: &[u8] = b"\x0a\x04type\x12";
const ENTRY_CREATED: &[u8] = b"\x0a\x07created\x12";
/// The two content types there are, whole.
const ENTRY_JSON: &[u8] = b"\x32\x20\x0a\x0ccontent-type\x12\x10application/json";
const ENTRY_BINARY: &[u8] = b"\x32\x28\x0a\x0ccontent-type\x12\x18application/octet-stream";

/// Bytes of a UUID's text, with key and length.
const TEXT_SIZE: usize = 2 + 36;
/// Digits of the largest number of ticks.
const DIGITS_MAX: usize = 20;

/// Writes the message that shows `event`, its gRPC prefix included.
pub fn encode_read_event(event: &WireEvent<'_>, form: UuidForm, buf: &mut BytesMut) {
    encode(Some(event), None, event.position, form, buf);
}

/// Writes the message that shows `link` and, if it is still there, the event it names.
pub fn encode_resolved_link(
    link: &WireEvent<'_>,
    target: Option<&WireEvent<'_>>,
    form: UuidForm,
    buf: &mut BytesMut,
) {
    encode(target, Some(link), link.position, form, buf);
}

fn encode(
    event: Option<&WireEvent<'_>>,
    link: Option<&WireEvent<'_>>,
    position: u64,
    form: UuidForm,
    buf: &mut BytesMut,
) {
    let event = event.map(|event| (event, Sizes::of(event, form)));
    let link = link.map(|link| (link, Sizes::of(link, form)));
    let nested = |part: &Option<(&WireEvent<'_>, Sizes)>| {
        part.as_ref().map_or(0, |(_, sizes)| field_size(sizes.total))
    };
    // The position is one of a choice: it is written also if it is 0.
    let read_event = nested(&event) + nested(&link) + 1 + varint_size(position);
    let message = field_size(read_event);
    buf.reserve(PREFIX_SIZE + message);
    put_prefix(message, buf);
    put_length(RESPONSE_EVENT, read_event, buf);
    if let Some((event, sizes)) = &event {
        put_length(READ_EVENT, sizes.total, buf);
        put_recorded(event, sizes, form, buf);
    }
    if let Some((link, sizes)) = &link {
        put_length(READ_LINK, sizes.total, buf);
        put_recorded(link, sizes, form, buf);
    }
    put_number(READ_COMMIT_POSITION, position, buf);
}

/// The sizes of what has a length before it in one recorded event, and its digits of `created`.
struct Sizes {
    total: usize,
    id: usize,
    created: Digits,
}

impl Sizes {
    fn of(event: &WireEvent<'_>, form: UuidForm) -> Sizes {
        let view = &event.event;
        let id = match form {
            UuidForm::Text => TEXT_SIZE,
            UuidForm::Structured => field_size(halves_size(view.id)),
        };
        let created = Digits::of(ticks(view.time));
        let total = field_size(id)
            + field_size(field_size(view.stream.len()))
            + number_size(shown_revision(view))
            + 2 * number_size(event.position)
            + field_size(entry_size(ENTRY_TYPE, view.event_type.len()))
            + content_entry(view.content_type).len()
            + field_size(entry_size(ENTRY_CREATED, created.as_bytes().len()))
            + bytes_size(view.metadata.len())
            + bytes_size(view.data.len());
        Sizes { total, id, created }
    }
}

fn put_recorded(event: &WireEvent<'_>, sizes: &Sizes, form: UuidForm, buf: &mut BytesMut) {
    let view = &event.event;
    put_length(EVENT_ID, sizes.id, buf);
    put_id(view.id, form, buf);
    put_length(EVENT_STREAM, field_size(view.stream.len()), buf);
    put_length(STREAM_NAME, view.stream.len(), buf);
    buf.put_slice(view.stream.as_bytes());
    put_number_unless_zero(EVENT_REVISION, shown_revision(view), buf);
    put_number_unless_zero(EVENT_PREPARE, event.position, buf);
    put_number_unless_zero(EVENT_COMMIT, event.position, buf);
    put_entry(ENTRY_TYPE, view.event_type.as_bytes(), buf);
    buf.put_slice(content_entry(view.content_type));
    put_entry(ENTRY_CREATED, sizes.created.as_bytes(), buf);
    put_bytes_unless_empty(EVENT_CUSTOM, view.metadata, buf);
    put_bytes_unless_empty(EVENT_DATA, view.data, buf);
}

fn put_id(id: Uuid, form: UuidForm, buf: &mut BytesMut) {
    match form {
        UuidForm::Text => {
            put_length(UUID_TEXT, 36, buf);
            let mut text = [0; 36];
            buf.put_slice(id.as_hyphenated().encode_lower(&mut text).as_bytes());
        }
        UuidForm::Structured => {
            put_length(UUID_STRUCTURED, halves_size(id), buf);
            let (high, low) = id.as_u64_pair();
            put_number_unless_zero(HALF_HIGH, high, buf);
            put_number_unless_zero(HALF_LOW, low, buf);
        }
    }
}

fn halves_size(id: Uuid) -> usize {
    let (high, low) = id.as_u64_pair();
    number_size(high) + number_size(low)
}

fn content_entry(content: ContentType) -> &'static [u8] {
    match content {
        ContentType::Json => ENTRY_JSON,
        ContentType::Binary => ENTRY_BINARY,
    }
}

/// Bytes of a metadata entry whose fixed part is `fixed`, up to and including the value's key.
fn entry_size(fixed: &[u8], value: usize) -> usize {
    debug_assert_eq!(fixed.last(), Some(&ENTRY_VALUE));
    fixed.len() + varint_size(value as u64) + value
}

fn put_entry(fixed: &[u8], value: &[u8], buf: &mut BytesMut) {
    put_length(EVENT_METADATA, entry_size(fixed, value.len()), buf);
    buf.put_slice(fixed);
    put_varint(value.len() as u64, buf);
    buf.put_slice(value);
}

/// Bytes of a varint: seven bits each.
fn varint_size(value: u64) -> usize {
    ((70 - (value | 1).leading_zeros()) / 7) as usize
}

/// Bytes of key, length and content of a field. All our keys are one byte.
fn field_size(content: usize) -> usize {
    1 + varint_size(content as u64) + content
}

/// Bytes of a number that is left out if zero.
fn number_size(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_size(value) }
}

/// Bytes of a field that is left out if empty.
fn bytes_size(content: usize) -> usize {
    if content == 0 { 0 } else { field_size(content) }
}

fn put_varint(mut value: u64, buf: &mut BytesMut) {
    let mut bytes = [0; 10];
    let mut len = 0;
    while value >= 0x80 {
        bytes[len] = (value & 0x7f) as u8 | 0x80;
        value >>= 7;
        len += 1;
    }
    bytes[len] = value as u8;
    buf.put_slice(&bytes[..=len]);
}

fn put_length(key: u8, len: usize, buf: &mut BytesMut) {
    put_number(key, len as u64, buf);
}

fn put_number(key: u8, value: u64, buf: &mut BytesMut) {
    if value < 0x80 {
        buf.put_slice(&[key, value as u8]);
    } else {
        buf.put_u8(key);
        put_varint(value, buf);
    }
}

fn put_number_unless_zero(key: u8, value: u64, buf: &mut BytesMut) {
    if value != 0 {
        put_number(key, value, buf);
    }
}

fn put_bytes_unless_empty(key: u8, bytes: &[u8], buf: &mut BytesMut) {
    if !bytes.is_empty() {
        put_length(key, bytes.len(), buf);
        buf.put_slice(bytes);
    }
}

/// A number in decimal, without an allocation.
struct Digits {
    bytes: [u8; DIGITS_MAX],
    start: usize,
}

impl Digits {
    fn of(value: i64) -> Digits {
        let mut bytes = [0; DIGITS_MAX];
        let mut start = DIGITS_MAX;
        let mut rest = value.unsigned_abs();
        loop {
            start -= 1;
            bytes[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            start -= 1;
            bytes[start] = b'-';
        }
        Digits { bytes, start }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use daybook_model::{Position, RecordedEvent, Revision, StreamName, Timestamp};
    use prost::Message as _;

    use super::*;
    use crate::event::{tests::recorded, to_proto};
    use crate::frame::Prefix;
    use crate::proto::streams::ReadResp;
    use crate::proto::streams::read_resp::{Content, ReadEvent, read_event};

    fn decoded(buf: &[u8]) -> ReadEvent {
        let (prefix, message) = buf.split_first_chunk::<PREFIX_SIZE>().expect("a prefix");
        assert_eq!(Prefix::read(*prefix), Prefix { compressed: false, len: message.len() });
        match ReadResp::decode(message).expect("a message").content {
            Some(Content::Event(event)) => event,
            other => panic!("not an event: {other:?}"),
        }
    }

    fn cases() -> Vec<(RecordedEvent, u64)> {
        let plain = recorded();
        let empty = RecordedEvent {
            position: Position(0),
            revision: Revision(0),
            time: Timestamp(0),
            id: Uuid::nil(),
            stream: StreamName::new("s").expect("a name"),
            event_type: "T".to_owned(),
            content_type: ContentType::Binary,
            tombstone: false,
            metadata: Bytes::new(),
            data: Bytes::new(),
        };
        let large = RecordedEvent {
            stream: StreamName::new(&"n".repeat(1000)).expect("a name"),
            event_type: "t".repeat(900),
            data: vec![7; 70_000].into(),
            metadata: vec![8; 300].into(),
            revision: Revision(u64::MAX >> 1),
            time: Timestamp(i64::MAX),
            ..plain.clone()
        };
        let before_1970 = RecordedEvent { time: Timestamp(i64::MIN), ..empty.clone() };
        let tombstone = RecordedEvent { tombstone: true, ..plain.clone() };
        vec![
            (plain, 17_920_003),
            (empty, 0),
            (large, u64::MAX - 1),
            (before_1970, 127),
            (tombstone, 128),
        ]
    }

    #[test]
    fn the_bytes_are_those_of_the_generated_code() {
        for form in [UuidForm::Structured, UuidForm::Text] {
            for (event, position) in cases() {
                let event = WireEvent { event: event.view(), position };
                let mut buf = BytesMut::new();
                encode_read_event(&event, form, &mut buf);
                let expected = ReadEvent {
                    event: Some(to_proto(&event.event, position, form)),
                    link: None,
                    position: Some(read_event::Position::CommitPosition(position)),
                };
                assert_eq!(decoded(&buf), expected);
                // The same size as well: nothing twice, nothing that a decoder skips.
                let whole = ReadResp { content: Some(Content::Event(expected)) };
                assert_eq!(buf.len(), PREFIX_SIZE + whole.encoded_len());
            }
        }
    }

    #[test]
    fn a_link_stands_beside_its_target_or_alone() {
        let (target, link) = (recorded(), RecordedEvent { event_type: "$>".into(), ..recorded() });
        let target = WireEvent { event: target.view(), position: 512 };
        let link = WireEvent { event: link.view(), position: 1024 };
        for target in [Some(&target), None] {
            let mut buf = BytesMut::new();
            encode_resolved_link(&link, target, UuidForm::Text, &mut buf);
            let show =
                |event: &WireEvent<'_>| to_proto(&event.event, event.position, UuidForm::Text);
            let expected = ReadEvent {
                event: target.map(show),
                link: Some(show(&link)),
                position: Some(read_event::Position::CommitPosition(1024)),
            };
            assert_eq!(decoded(&buf), expected);
        }
    }

    #[test]
    fn messages_follow_each_other_in_one_buffer() {
        let event = recorded();
        let event = WireEvent { event: event.view(), position: 256 };
        let mut buf = BytesMut::new();
        encode_read_event(&event, UuidForm::Text, &mut buf);
        let one = buf.len();
        encode_read_event(&event, UuidForm::Text, &mut buf);
        assert_eq!(buf.len(), 2 * one);
        assert_eq!(buf[..one], buf[one..]);
    }

    #[test]
    fn numbers_have_the_size_of_a_varint() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::MAX >> 1, u64::MAX] {
            let mut buf = BytesMut::new();
            put_varint(value, &mut buf);
            assert_eq!(buf.len(), varint_size(value), "{value}");
            assert_eq!(buf.len(), prost::encoding::encoded_len_varint(value), "{value}");
        }
    }
}
