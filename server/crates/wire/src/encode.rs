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

use bytes::BytesMut;
use daybook_model::{ContentType, EventView};
use uuid::Uuid;

use crate::event::shown_revision;
use crate::frame::put_prefix;
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

/// Appends to `buf` the message that shows `event`, its gRPC prefix included.
pub fn encode_read_event(event: &WireEvent<'_>, form: UuidForm, buf: &mut BytesMut) {
    encode(Some(event), None, event.position, form, buf);
}

/// Appends to `buf` the message that shows `link` and, if it is still there, the event it names.
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
    put_prefix(message, buf);
    let start = buf.len();
    buf.resize(start + message, 0);
    let mut out = Out { rest: &mut buf[start..] };
    out.put_length(RESPONSE_EVENT, read_event);
    if let Some((event, sizes)) = &event {
        out.put_length(READ_EVENT, sizes.total);
        put_recorded(event, sizes, form, &mut out);
    }
    if let Some((link, sizes)) = &link {
        out.put_length(READ_LINK, sizes.total);
        put_recorded(link, sizes, form, &mut out);
    }
    out.put_number(READ_COMMIT_POSITION, position);
    debug_assert!(out.rest.is_empty(), "sizes and bytes are computed from the same fields");
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

fn put_recorded(event: &WireEvent<'_>, sizes: &Sizes, form: UuidForm, out: &mut Out<'_>) {
    let view = &event.event;
    out.put_length(EVENT_ID, sizes.id);
    put_id(view.id, form, out);
    out.put_length(EVENT_STREAM, field_size(view.stream.len()));
    out.put_length(STREAM_NAME, view.stream.len());
    out.put(view.stream.as_bytes());
    out.put_number_unless_zero(EVENT_REVISION, shown_revision(view));
    out.put_number_unless_zero(EVENT_PREPARE, event.position);
    out.put_number_unless_zero(EVENT_COMMIT, event.position);
    put_entry(ENTRY_TYPE, view.event_type.as_bytes(), out);
    out.put(content_entry(view.content_type));
    put_entry(ENTRY_CREATED, sizes.created.as_bytes(), out);
    out.put_bytes_unless_empty(EVENT_CUSTOM, view.metadata);
    out.put_bytes_unless_empty(EVENT_DATA, view.data);
}

fn put_id(id: Uuid, form: UuidForm, out: &mut Out<'_>) {
    match form {
        UuidForm::Text => {
            out.put_length(UUID_TEXT, 36);
            let mut text = [0; 36];
            out.put(id.as_hyphenated().encode_lower(&mut text).as_bytes());
        }
        UuidForm::Structured => {
            out.put_length(UUID_STRUCTURED, halves_size(id));
            let (high, low) = id.as_u64_pair();
            out.put_number_unless_zero(HALF_HIGH, high);
            out.put_number_unless_zero(HALF_LOW, low);
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

fn put_entry(fixed: &[u8], value: &[u8], out: &mut Out<'_>) {
    out.put_length(EVENT_METADATA, entry_size(fixed, value.len()));
    out.put(fixed);
    out.put_varint(value.len() as u64);
    out.put(value);
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

/// What is left to fill of a message whose size is known.
struct Out<'a> {
    rest: &'a mut [u8],
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let (filled, rest) = std::mem::take(&mut self.rest).split_at_mut(bytes.len());
        filled.copy_from_slice(bytes);
        self.rest = rest;
    }

    fn put_byte(&mut self, byte: u8) {
        let (filled, rest) = std::mem::take(&mut self.rest)
            .split_first_mut()
            .expect("sizes and bytes are computed from the same fields");
        *filled = byte;
        self.rest = rest;
    }

    fn put_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.put_byte((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.put_byte(value as u8);
    }

    fn put_length(&mut self, key: u8, len: usize) {
        self.put_number(key, len as u64);
    }

    fn put_number(&mut self, key: u8, value: u64) {
        self.put_byte(key);
        self.put_varint(value);
    }

    fn put_number_unless_zero(&mut self, key: u8, value: u64) {
        if value != 0 {
            self.put_number(key, value);
        }
    }

    fn put_bytes_unless_empty(&mut self, key: u8, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.put_length(key, bytes.len());
            self.put(bytes);
        }
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
    use crate::frame::{PREFIX_SIZE, Prefix};
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
            let mut bytes = [0; 10];
            let mut out = Out { rest: &mut bytes };
            out.put_varint(value);
            let len = 10 - out.rest.len();
            assert_eq!(len, varint_size(value), "{value}");
            assert_eq!(len, prost::encoding::encoded_len_varint(value), "{value}");
        }
    }
}
