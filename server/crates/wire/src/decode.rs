//! Appends straight from the bytes of a gRPC message.
//!
//! The generated code would make a map and four strings of each event's metadata, of which the
//! server wants one string and one bit. This walks the fields and keeps data and metadata where
//! they arrived: they are slices of the message until the writer copies them into its batch.
//!
//! As protobuf asks: fields may come in any order, the last of two wins, unknown ones are skipped.

use std::time::Duration;

use bytes::Bytes;
use daybook_model::{ContentType, ExpectedRevision, NewEvent, Revision, StreamName, Timestamp};
use prost::Message as _;
use prost::encoding::{WireType, decode_key, decode_varint};
use uuid::Uuid;

use crate::error::InvalidRequest;
use crate::event::{CONTENT_TYPE, TYPE, content_type};
use crate::time;

/// One message of an Append call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendPart {
    /// The first: which stream, and what is expected of it.
    Options {
        /// The stream.
        stream: StreamName,
        /// What is expected of it.
        expected: ExpectedRevision,
    },
    /// Each other: an event.
    Event(NewEvent),
}

/// One message of a BatchAppend call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchPart {
    /// To which append it belongs.
    pub correlation: Uuid,
    /// Which stream, and what is expected of it: in an append's first message.
    pub options: Option<BatchOptions>,
    /// Events.
    pub events: Vec<NewEvent>,
    /// Whether the append is complete.
    pub is_final: bool,
    /// What could not be understood in an otherwise readable message; refuses this append, not the
    /// call.
    pub problem: Option<InvalidRequest>,
}

/// What the first message of an append within a BatchAppend call says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// The stream.
    pub stream: StreamName,
    /// What is expected of it.
    pub expected: ExpectedRevision,
    /// When the client stops waiting.
    pub deadline: Deadline,
}

/// When the client of a batch append stops waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// Never, as far as it says.
    None,
    /// After so long from now.
    In(Duration),
    /// It has already.
    Passed,
    /// At this time: how clients of version 21.10 say it.
    At(Timestamp),
}

/// Reads one message of an Append call.
///
/// # Errors
/// [`InvalidRequest`] if it is malformed, or lacks what it must have.
pub fn append_part(message: &Bytes) -> Result<AppendPart, InvalidRequest> {
    let mut part = Err(InvalidRequest::Missing { field: "content" });
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(options)) => {
                let (stream, expected) = append_options(options)?;
                part = Ok(AppendPart::Options { stream, expected });
            }
            (2, Field::Bytes(event)) => part = Ok(AppendPart::Event(proposed(event, message)?)),
            _ => {}
        }
    }
    part
}

/// Reads one message of a BatchAppend call.
///
/// # Errors
/// [`InvalidRequest`] if it is malformed, or without a correlation id: then it cannot be answered
/// for itself. What is wrong in one append is a [`BatchPart::problem`].
pub fn batch_part(message: &Bytes) -> Result<BatchPart, InvalidRequest> {
    let mut correlation = None;
    let mut part = BatchPart {
        correlation: Uuid::nil(),
        options: None,
        events: Vec::new(),
        is_final: false,
        problem: None,
    };
    let mut fields = Fields(message);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(id)) => correlation = Some(read_uuid(id, "correlation_id")?),
            (2, Field::Bytes(options)) => match batch_options(options) {
                Ok(options) => part.options = Some(options),
                Err(problem) => part.problem = part.problem.or(Some(problem)),
            },
            (3, Field::Bytes(event)) => match proposed(event, message) {
                Ok(event) => part.events.push(event),
                Err(problem) => part.problem = part.problem.or(Some(problem)),
            },
            (4, Field::Number(value)) => part.is_final = value != 0,
            _ => {}
        }
    }
    part.correlation = correlation.ok_or(InvalidRequest::Missing { field: "correlation_id" })?;
    Ok(part)
}

/// One proposed event: id 1, metadata 2, custom_metadata 3, data 4; alike in both calls.
fn proposed(bytes: &[u8], message: &Bytes) -> Result<NewEvent, InvalidRequest> {
    let mut id = None;
    let mut event_type = None;
    let mut content = None;
    let (mut metadata, mut data): (&[u8], &[u8]) = (&[], &[]);
    let mut fields = Fields(bytes);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => id = Some(read_uuid(bytes, "id")?),
            (2, Field::Bytes(entry)) => {
                let (key, value) = read_entry(entry)?;
                if key == TYPE.as_bytes() {
                    event_type = Some(value);
                } else if key == CONTENT_TYPE.as_bytes() {
                    content = Some(value);
                }
            }
            (3, Field::Bytes(bytes)) => metadata = bytes,
            (4, Field::Bytes(bytes)) => data = bytes,
            _ => {}
        }
    }
    let event_type = event_type.ok_or(InvalidRequest::MissingMetadata { property: TYPE })?;
    let content = content.ok_or(InvalidRequest::MissingMetadata { property: CONTENT_TYPE })?;
    let event_type =
        std::str::from_utf8(event_type).map_err(|_| InvalidRequest::NotUtf8 { field: TYPE })?;
    Ok(NewEvent {
        id: id.ok_or(InvalidRequest::Missing { field: "id" })?,
        event_type: event_type.to_owned(),
        content_type: std::str::from_utf8(content).map_or(ContentType::Binary, content_type),
        metadata: kept(metadata, message),
        data: kept(data, message),
    })
}

/// A part of `message` as bytes of its own, without a copy.
fn kept(part: &[u8], message: &Bytes) -> Bytes {
    if part.is_empty() { Bytes::new() } else { message.slice_ref(part) }
}

fn append_options(bytes: &[u8]) -> Result<(StreamName, ExpectedRevision), InvalidRequest> {
    let mut stream = None;
    let mut expected = None;
    let mut fields = Fields(bytes);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(identifier)) => stream = Some(read_stream(identifier)?),
            (2..=5, field) => expected = expectation(number, &field).or(expected),
            _ => {}
        }
    }
    Ok((
        stream.ok_or(InvalidRequest::Missing { field: "stream_identifier" })?,
        expected.ok_or(InvalidRequest::Missing { field: "expected_stream_revision" })?,
    ))
}

fn batch_options(bytes: &[u8]) -> Result<BatchOptions, InvalidRequest> {
    let mut stream = None;
    let mut expected = None;
    let mut deadline = Deadline::None;
    let mut fields = Fields(bytes);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(identifier)) => stream = Some(read_stream(identifier)?),
            (2..=5, field) => expected = expectation(number, &field).or(expected),
            (6, Field::Bytes(bytes)) => {
                let at = prost_types::Timestamp::decode(bytes)?;
                deadline = Deadline::At(time::from_proto(&at));
            }
            (7, Field::Bytes(bytes)) => {
                let duration = prost_types::Duration::decode(bytes)?;
                deadline = time::remaining(&duration).map_or(Deadline::Passed, Deadline::In);
            }
            _ => {}
        }
    }
    Ok(BatchOptions {
        stream: stream.ok_or(InvalidRequest::Missing { field: "stream_identifier" })?,
        expected: expected.ok_or(InvalidRequest::Missing { field: "expected_stream_position" })?,
        deadline,
    })
}

/// Fields 2 to 5 of both calls' options: revision, no stream, any, stream exists.
fn expectation(number: u32, field: &Field<'_>) -> Option<ExpectedRevision> {
    match (number, field) {
        (2, Field::Number(revision)) => Some(ExpectedRevision::Exact(Revision(*revision))),
        (3, Field::Bytes(_)) => Some(ExpectedRevision::NoStream),
        (4, Field::Bytes(_)) => Some(ExpectedRevision::Any),
        (5, Field::Bytes(_)) => Some(ExpectedRevision::StreamExists),
        _ => None,
    }
}

fn read_stream(identifier: &[u8]) -> Result<StreamName, InvalidRequest> {
    let mut name: &[u8] = &[];
    let mut fields = Fields(identifier);
    while let Some((number, field)) = fields.next()? {
        if let (3, Field::Bytes(bytes)) = (number, field) {
            name = bytes;
        }
    }
    Ok(StreamName::from_bytes(name)?)
}

fn read_uuid(bytes: &[u8], field: &'static str) -> Result<Uuid, InvalidRequest> {
    let mut id = Err(InvalidRequest::Missing { field });
    let mut fields = Fields(bytes);
    while let Some((number, part)) = fields.next()? {
        match (number, part) {
            (1, Field::Bytes(halves)) => id = Ok(read_halves(halves)?),
            (2, Field::Bytes(text)) => {
                id = Uuid::try_parse_ascii(text)
                    .map_err(|e| InvalidRequest::Uuid { field, reason: e.to_string() });
            }
            _ => {}
        }
    }
    id
}

fn read_halves(bytes: &[u8]) -> Result<Uuid, InvalidRequest> {
    let (mut high, mut low) = (0, 0);
    let mut fields = Fields(bytes);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Number(half)) => high = half,
            (2, Field::Number(half)) => low = half,
            _ => {}
        }
    }
    Ok(Uuid::from_u64_pair(high, low))
}

fn read_entry(entry: &[u8]) -> Result<(&[u8], &[u8]), InvalidRequest> {
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    let mut fields = Fields(entry);
    while let Some((number, field)) = fields.next()? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => key = bytes,
            (2, Field::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    Ok((key, value))
}

/// What is left to read of one message.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

/// The content of one field.
pub(crate) enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a wire type that none of our fields has.
    Other,
}

impl<'a> Fields<'a> {
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Field<'a>)>, InvalidRequest> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (number, wire_type) = decode_key(&mut self.0)?;
        let field = match wire_type {
            WireType::Varint => Field::Number(decode_varint(&mut self.0)?),
            WireType::LengthDelimited => {
                let len = decode_varint(&mut self.0)?;
                Field::Bytes(self.take(usize::try_from(len).unwrap_or(usize::MAX))?)
            }
            WireType::ThirtyTwoBit => self.take(4).map(|_| Field::Other)?,
            WireType::SixtyFourBit => self.take(8).map(|_| Field::Other)?,
            WireType::StartGroup | WireType::EndGroup => {
                return Err(InvalidRequest::Malformed { reason: "it has groups".to_owned() });
            }
        };
        Ok(Some((number, field)))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], InvalidRequest> {
        let Some((taken, rest)) = self.0.split_at_checked(len) else {
            let reason = "a field is longer than its message".to_owned();
            return Err(InvalidRequest::Malformed { reason });
        };
        self.0 = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::UuidForm;
    use crate::event::{to_append, to_batch_append};
    use crate::proto::streams::{AppendReq, BatchAppendReq, append_req, batch_append_req};

    fn event() -> NewEvent {
        NewEvent {
            id: Uuid::from_u128(0xfedc_ba98_7654_3210_0123_4567_89ab_cdef),
            event_type: "Opened".to_owned(),
            content_type: ContentType::Json,
            metadata: Bytes::from_static(b"{}"),
            data: Bytes::from_static(b"{\"owner\":\"x\"}"),
        }
    }

    fn name() -> StreamName {
        StreamName::new("account-1").expect("a name")
    }

    fn encoded(message: &impl prost::Message) -> Bytes {
        message.encode_to_vec().into()
    }

    fn append_event(change: impl FnOnce(&mut append_req::ProposedMessage)) -> Bytes {
        let mut proposed = to_append(event());
        change(&mut proposed);
        encoded(&AppendReq { content: Some(append_req::Content::ProposedMessage(proposed)) })
    }

    const EXPECTATIONS: [ExpectedRevision; 5] = [
        ExpectedRevision::Any,
        ExpectedRevision::NoStream,
        ExpectedRevision::StreamExists,
        ExpectedRevision::Exact(Revision(0)),
        ExpectedRevision::Exact(Revision(u64::MAX)),
    ];

    #[test]
    fn options_of_an_append_are_read_as_written() {
        for expected in EXPECTATIONS {
            let options = append_req::Options {
                stream_identifier: Some(crate::stream::to_proto(&name())),
                expected_stream_revision: Some(expected.into()),
            };
            let bytes =
                encoded(&AppendReq { content: Some(append_req::Content::Options(options)) });
            let part = AppendPart::Options { stream: name(), expected };
            assert_eq!(append_part(&bytes), Ok(part));
        }
    }

    #[test]
    fn an_event_is_read_as_written_with_either_id() {
        for form in [UuidForm::Structured, UuidForm::Text] {
            let id = Some(crate::uuid::to_proto(event().id, form));
            let bytes = append_event(|proposed| proposed.id = id);
            assert_eq!(append_part(&bytes), Ok(AppendPart::Event(event())), "{form:?}");
        }
    }

    #[test]
    fn data_is_not_copied() {
        let bytes = append_event(|_| {});
        let Ok(AppendPart::Event(read)) = append_part(&bytes) else { panic!("no event") };
        assert!(bytes.as_ptr_range().contains(&read.data.as_ptr()));
    }

    #[test]
    fn an_event_without_its_metadata_or_id_is_refused() {
        for property in [TYPE, CONTENT_TYPE] {
            let bytes = append_event(|proposed| {
                proposed.metadata.remove(property);
            });
            let error = append_part(&bytes).expect_err("refused");
            assert_eq!(error, InvalidRequest::MissingMetadata { property });
        }
        let bytes = append_event(|proposed| proposed.id = None);
        assert_eq!(append_part(&bytes), Err(InvalidRequest::Missing { field: "id" }));
        let bytes = append_event(|proposed| {
            let value = crate::proto::shared::uuid::Value::String("nonsense".to_owned());
            proposed.id = Some(crate::proto::shared::Uuid { value: Some(value) });
        });
        assert!(matches!(append_part(&bytes), Err(InvalidRequest::Uuid { field: "id", .. })));
    }

    #[test]
    fn an_unknown_content_type_is_bytes() {
        let bytes = append_event(|proposed| {
            proposed.metadata = BTreeMap::from([
                (TYPE.to_owned(), "T".to_owned()),
                (CONTENT_TYPE.to_owned(), "text/plain".to_owned()),
            ]);
        });
        let Ok(AppendPart::Event(read)) = append_part(&bytes) else { panic!("no event") };
        assert_eq!(read.content_type, ContentType::Binary);
    }

    #[test]
    fn a_batch_message_is_read_as_written() {
        for expected in EXPECTATIONS {
            let request = BatchAppendReq {
                correlation_id: Some(crate::uuid::to_proto(event().id, UuidForm::Text)),
                options: Some(batch_append_req::Options {
                    stream_identifier: Some(crate::stream::to_proto(&name())),
                    expected_stream_position: Some(expected.into()),
                    deadline_option: Some(batch_append_req::options::DeadlineOption::Deadline(
                        prost_types::Duration { seconds: 10, nanos: 0 },
                    )),
                }),
                proposed_messages: vec![to_batch_append(event()), to_batch_append(event())],
                is_final: true,
            };
            let part = batch_part(&encoded(&request)).expect("a part");
            let deadline = Deadline::In(Duration::from_secs(10));
            let options = BatchOptions { stream: name(), expected, deadline };
            assert_eq!(
                part,
                BatchPart {
                    correlation: event().id,
                    options: Some(options),
                    events: vec![event(), event()],
                    is_final: true,
                    problem: None,
                }
            );
        }
    }

    #[test]
    fn what_is_wrong_with_one_batch_append_does_not_end_the_call() {
        let mut proposed = to_batch_append(event());
        proposed.metadata.clear();
        let mut request = BatchAppendReq {
            correlation_id: Some(crate::uuid::to_proto(event().id, UuidForm::Structured)),
            options: None,
            proposed_messages: vec![proposed],
            is_final: true,
        };
        let part = batch_part(&encoded(&request)).expect("a part");
        assert_eq!(part.problem, Some(InvalidRequest::MissingMetadata { property: TYPE }));
        request.correlation_id = None;
        let error = batch_part(&encoded(&request)).expect_err("refused");
        assert_eq!(error, InvalidRequest::Missing { field: "correlation_id" });
    }

    #[test]
    fn bytes_from_the_network_never_panic() {
        let whole = append_event(|_| {});
        for len in 0..whole.len() {
            let _ = append_part(&whole.slice(..len));
            let _ = batch_part(&whole.slice(..len));
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.to_vec();
                flipped[at] ^= 1 << bit;
                let flipped = Bytes::from(flipped);
                let _ = append_part(&flipped);
                let _ = batch_part(&flipped);
            }
        }
    }

    #[test]
    fn the_field_numbers_are_the_protocols() {
        // AppendReq.options 1 { stream_identifier 1 { stream_name 3 "s" }, any 4 {} }
        let bytes = Bytes::from_static(&[0x0a, 7, 0x0a, 3, 0x1a, 1, b's', 0x22, 0]);
        let part = AppendPart::Options {
            stream: StreamName::new("s").expect("a name"),
            expected: ExpectedRevision::Any,
        };
        assert_eq!(append_part(&bytes), Ok(part));
        // BatchAppendReq { correlation_id 1 { structured 1 { 1: 1, 2: 2 } }, is_final 4 }
        let bytes = Bytes::from_static(&[0x0a, 6, 0x0a, 4, 0x08, 1, 0x10, 2, 0x20, 1]);
        let part = batch_part(&bytes).expect("a part");
        assert_eq!(part.correlation, Uuid::from_u64_pair(1, 2));
        assert!(part.is_final && part.events.is_empty() && part.options.is_none());
    }
}
