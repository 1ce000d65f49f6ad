//! The answers of `Streams.Read`, decoded by hand.
//!
//! Reading is where a client spends its time, and three quarters of that would be a map of strings
//! per event, a second copy of its bytes and a name that was the same a moment ago. So this decoder
//! goes over the bytes once and makes a [`RecordedEvent`] of them: metadata keys are matched where
//! they stand, data and metadata stay slices of the receive buffer, and the stream's name is shared
//! with the event before when it is the same.
//!
//! It reads protobuf as protobuf asks: fields in any order, unknown ones skipped, the last of a
//! repeated single field wins. The tests hold it against the generated code.

use bytes::{Buf, Bytes};
use daybook_model::metadata::TOMBSTONE_EVENT_TYPE;
use daybook_model::{ContentType, RecordedEvent, Revision, StreamName, Timestamp};
use daybook_wire::event::TOMBSTONE_REVISION;
use daybook_wire::proto::streams::ReadReq;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstEncoder};
use uuid::Uuid;

use crate::event::{Checkpoint, ResolvedEvent};

/// Bytes of the receive buffer before it first grows: large enough that a scan reads whole frames
/// of many events into it, small enough for a thousand idle subscriptions.
const BUFFER_SIZE: usize = 32 * 1024;
/// Bytes an encoder may gather before it hands them on; requests here are single and small.
const YIELD_THRESHOLD: usize = 32 * 1024;
/// Bytes below which an event's data is copied out of the receive buffer instead of sharing it: a
/// few kept small events must not keep the whole buffer.
const COPY_MAX: usize = 64;
/// Nanoseconds of one tick of `created`.
const TICK_NS: i64 = 100;

/// One message of a read or a subscription.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message {
    Event(ResolvedEvent),
    Confirmation,
    Checkpoint(Checkpoint),
    StreamNotFound,
    FirstRevision(Revision),
    LastRevision(Revision),
    CaughtUp {
        revision: Option<Revision>,
        checkpoint: Option<Checkpoint>,
    },
    FellBehind,
    /// Something newer than this client; to be ignored.
    Other,
}

/// The codec of `Streams.Read`.
#[derive(Debug, Default)]
pub(crate) struct ReadCodec;

impl Codec for ReadCodec {
    type Encode = ReadReq;
    type Decode = Message;
    type Encoder = ProstEncoder<ReadReq>;
    type Decoder = ReadDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<ReadReq, ReadReq>::default().encoder()
    }

    fn decoder(&mut self) -> ReadDecoder {
        ReadDecoder::default()
    }
}

/// Decodes message after message of one call.
#[derive(Debug, Default)]
pub(crate) struct ReadDecoder {
    last_stream: Option<StreamName>,
}

impl Decoder for ReadDecoder {
    type Item = Message;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Message>, Status> {
        let bytes = src.copy_to_bytes(src.remaining());
        match self.message(&bytes) {
            Ok(message) => Ok(Some(message)),
            Err(Malformed(what)) => {
                Err(Status::internal(format!("the server's answer is malformed: {what}")))
            }
        }
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_SIZE, YIELD_THRESHOLD)
    }
}

/// What is wrong with the bytes of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed(&'static str);

type Found<T> = Result<T, Malformed>;

/// One field of a message.
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// A fixed-width number: no field we know is one.
    Fixed,
}

impl<'a> Value<'a> {
    fn number(self) -> Found<u64> {
        match self {
            Value::Number(number) => Ok(number),
            _ => Err(Malformed("a number is expected")),
        }
    }

    fn bytes(self) -> Found<&'a [u8]> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed("bytes are expected")),
        }
    }
}

/// The fields of a message, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    #[inline]
    fn next(&mut self) -> Found<Option<(u64, Value<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            1 => self.take(8).map(|_| Value::Fixed)?,
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Malformed("a field has an unknown form")),
        };
        Ok(Some((key >> 3, value)))
    }

    #[inline]
    fn varint(&mut self) -> Found<u64> {
        if let [first, rest @ ..] = self.0
            && *first < 0x80
        {
            self.0 = rest;
            return Ok(u64::from(*first));
        }
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let [byte, rest @ ..] = self.0 else { return Err(Malformed("a number is cut off")) };
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed("a number is too long"))
    }

    #[inline]
    fn take(&mut self, len: u64) -> Found<&'a [u8]> {
        let split = usize::try_from(len).ok().and_then(|len| self.0.split_at_checked(len));
        let (taken, rest) = split.ok_or(Malformed("a field is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }
}

impl ReadDecoder {
    /// Decodes one message, whose bytes are `whole`.
    pub(crate) fn message(&mut self, whole: &Bytes) -> Found<Message> {
        let mut fields = Fields(whole);
        let mut message = Message::Other;
        while let Some((number, value)) = fields.next()? {
            message = match number {
                1 => Message::Event(self.event(whole, value.bytes()?)?),
                2 => Message::Confirmation,
                3 => Message::Checkpoint(commit_position(value.bytes()?)?),
                4 => Message::StreamNotFound,
                5 => Message::FirstRevision(Revision(value.number()?)),
                6 => Message::LastRevision(Revision(value.number()?)),
                8 => caught_up(value.bytes()?)?,
                9 => Message::FellBehind,
                _ => message,
            };
        }
        Ok(message)
    }

    fn event(&mut self, whole: &Bytes, bytes: &[u8]) -> Found<ResolvedEvent> {
        let mut resolved = ResolvedEvent { event: None, link: None, checkpoint: None };
        let mut fields = Fields(bytes);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => resolved.event = Some(self.recorded(whole, value.bytes()?)?),
                2 => resolved.link = Some(Box::new(self.recorded(whole, value.bytes()?)?)),
                3 => resolved.checkpoint = Some(Checkpoint(value.number()?)),
                4 => resolved.checkpoint = None,
                _ => {}
            }
        }
        Ok(resolved)
    }

    fn recorded(&mut self, whole: &Bytes, bytes: &[u8]) -> Found<RecordedEvent> {
        let mut parts = Parts::default();
        let (mut id, mut stream) = (Uuid::nil(), None);
        let (mut metadata, mut data): (&[u8], &[u8]) = (&[], &[]);
        let (mut revision, mut commit) = (0, 0);
        let mut fields = Fields(bytes);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => id = uuid(value.bytes()?)?,
                2 => stream = Some(self.stream(value.bytes()?)?),
                3 => revision = value.number()?,
                5 => commit = value.number()?,
                6 => parts.entry(value.bytes()?)?,
                7 => metadata = value.bytes()?,
                8 => data = value.bytes()?,
                _ => {}
            }
        }
        let event_type = std::str::from_utf8(parts.event_type)
            .map_err(|_| Malformed("an event type is not text"))?;
        Ok(RecordedEvent {
            position: Checkpoint(commit).position(),
            revision: Revision(revision),
            time: Timestamp(parts.ticks.saturating_mul(TICK_NS)),
            id,
            stream: stream.ok_or(Malformed("an event has no stream"))?,
            tombstone: event_type == TOMBSTONE_EVENT_TYPE && revision == TOMBSTONE_REVISION,
            event_type: event_type.to_owned(),
            content_type: parts.content_type,
            metadata: keep(whole, metadata),
            data: keep(whole, data),
        })
    }

    /// The name in a stream identifier; the one before if it is the same.
    fn stream(&mut self, bytes: &[u8]) -> Found<StreamName> {
        let mut name: &[u8] = &[];
        let mut fields = Fields(bytes);
        while let Some((number, value)) = fields.next()? {
            if number == 3 {
                name = value.bytes()?;
            }
        }
        if let Some(last) = &self.last_stream
            && last.as_str().as_bytes() == name
        {
            return Ok(last.clone());
        }
        let stream = stream_name(name).ok_or(Malformed("a stream name is not one"))?;
        self.last_stream = Some(stream.clone());
        Ok(stream)
    }
}

/// A stream's name as the server knows it: a metastream may be two bytes longer than other names.
fn stream_name(name: &[u8]) -> Option<StreamName> {
    match name.strip_prefix(b"$$") {
        Some(described) if !described.is_empty() => {
            StreamName::from_bytes(described).ok().map(|described| described.metastream())
        }
        _ => StreamName::from_bytes(name).ok(),
    }
}

/// What the protocol keeps in an event's map of strings.
struct Parts<'a> {
    event_type: &'a [u8],
    content_type: ContentType,
    ticks: i64,
}

impl Default for Parts<'_> {
    fn default() -> Self {
        Parts { event_type: &[], content_type: ContentType::Binary, ticks: 0 }
    }
}

impl<'a> Parts<'a> {
    fn entry(&mut self, bytes: &'a [u8]) -> Found<()> {
        let (mut key, mut text): (&[u8], &[u8]) = (&[], &[]);
        let mut fields = Fields(bytes);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => key = value.bytes()?,
                2 => text = value.bytes()?,
                _ => {}
            }
        }
        match key {
            b"type" => self.event_type = text,
            b"content-type" => {
                let json = text == ContentType::Json.as_str().as_bytes();
                self.content_type = if json { ContentType::Json } else { ContentType::Binary };
            }
            b"created" => self.ticks = decimal(text).unwrap_or(0),
            _ => {}
        }
        Ok(())
    }
}

fn decimal(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let mut number = 0i64;
    for digit in digits {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number = number.checked_mul(10)?.checked_add(i64::from(digit))?;
    }
    Some(if negative { -number } else { number })
}

fn uuid(bytes: &[u8]) -> Found<Uuid> {
    let mut id = Uuid::nil();
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => {
                let (mut high, mut low) = (0, 0);
                let mut halves = Fields(value.bytes()?);
                while let Some((number, value)) = halves.next()? {
                    match number {
                        1 => high = value.number()?,
                        2 => low = value.number()?,
                        _ => {}
                    }
                }
                id = Uuid::from_u64_pair(high, low);
            }
            2 => {
                id = Uuid::try_parse_ascii(value.bytes()?)
                    .map_err(|_| Malformed("an event id is not a UUID"))?;
            }
            _ => {}
        }
    }
    Ok(id)
}

fn commit_position(bytes: &[u8]) -> Found<Checkpoint> {
    let mut commit = 0;
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            commit = value.number()?;
        }
    }
    Ok(Checkpoint(commit))
}

fn caught_up(bytes: &[u8]) -> Found<Message> {
    let (mut revision, mut checkpoint) = (None, None);
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            // Signed on the wire; below zero the stream is empty.
            2 => revision = i64::try_from(value.number()?).ok().map(i64::unsigned_abs),
            3 => checkpoint = Some(commit_position(value.bytes()?)?),
            _ => {}
        }
    }
    Ok(Message::CaughtUp { revision: revision.map(Revision), checkpoint })
}

/// `part` of `whole`, sharing its memory if it is worth it.
fn keep(whole: &Bytes, part: &[u8]) -> Bytes {
    if part.len() <= COPY_MAX { Bytes::copy_from_slice(part) } else { whole.slice_ref(part) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daybook_model::Position;
    use daybook_wire::proto::{shared, streams as proto};
    use prost::Message as _;
    use proto::read_resp::read_event::{Position as At, RecordedEvent as Wire};
    use proto::read_resp::{Content, ReadEvent};

    fn wire(seed: u64) -> Wire {
        let id = Uuid::from_u64_pair(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), !seed);
        let value = if seed.is_multiple_of(2) {
            shared::uuid::Value::String(id.to_string())
        } else {
            let (high, low) = id.as_u64_pair();
            shared::uuid::Value::Structured(shared::uuid::Structured {
                most_significant_bits: high.cast_signed(),
                least_significant_bits: low.cast_signed(),
            })
        };
        let long = "x".repeat(usize::try_from(seed % 7).unwrap() * 171);
        let name = match seed % 5 {
            0 => format!("$${}", "y".repeat(1024)),
            1 => "$ce-account".to_owned(),
            _ => format!("account-{}", seed % 3),
        };
        let content_type = ["application/json", "application/octet-stream"][(seed % 2) as usize];
        let metadata = [
            ("type", ["AccountOpened", "$streamDeleted", "$>"][(seed % 3) as usize].to_owned()),
            ("content-type", content_type.to_owned()),
            ("created", (17_000_000_000_000_000 + seed).to_string()),
            ("something-newer", "1".to_owned()),
        ];
        Wire {
            id: Some(shared::Uuid { value: Some(value) }),
            stream_identifier: Some(shared::StreamIdentifier { stream_name: name.into() }),
            stream_revision: if seed % 6 == 1 { TOMBSTONE_REVISION } else { seed << (seed % 50) },
            prepare_position: seed * 256,
            commit_position: seed * 256 + 3,
            metadata: metadata.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            custom_metadata: long.clone().into(),
            data: format!("{{\"n\":{seed}{long}}}").into(),
        }
    }

    /// What the generated code says, made an event the slow way.
    fn slow(wire: &Wire) -> RecordedEvent {
        let id = match wire.id.clone().unwrap().value.unwrap() {
            shared::uuid::Value::String(text) => text.parse().unwrap(),
            shared::uuid::Value::Structured(halves) => Uuid::from_u64_pair(
                halves.most_significant_bits.cast_unsigned(),
                halves.least_significant_bits.cast_unsigned(),
            ),
        };
        let name = &wire.stream_identifier.as_ref().unwrap().stream_name;
        RecordedEvent {
            position: Position(wire.commit_position / 256),
            revision: Revision(wire.stream_revision),
            time: Timestamp(wire.metadata["created"].parse::<i64>().unwrap() * 100),
            id,
            stream: stream_name(name).unwrap(),
            event_type: wire.metadata["type"].clone(),
            content_type: match wire.metadata["content-type"].as_str() {
                "application/json" => ContentType::Json,
                _ => ContentType::Binary,
            },
            tombstone: wire.metadata["type"] == "$streamDeleted"
                && wire.stream_revision == TOMBSTONE_REVISION,
            metadata: wire.custom_metadata.clone(),
            data: wire.data.clone(),
        }
    }

    fn encoded(content: Content) -> Bytes {
        proto::ReadResp { content: Some(content) }.encode_to_vec().into()
    }

    #[test]
    fn events_are_what_the_generated_code_makes_of_them() {
        let mut decoder = ReadDecoder::default();
        for seed in 0..500 {
            let (event, link) = (wire(seed), wire(seed + 1));
            let link = (seed % 4 == 0).then_some(link);
            let expected = ResolvedEvent {
                event: Some(slow(&event)),
                link: link.as_ref().map(|link| Box::new(slow(link))),
                checkpoint: Some(Checkpoint(seed * 256 + 3)),
            };
            let content = Content::Event(ReadEvent {
                event: Some(event),
                link,
                position: Some(At::CommitPosition(seed * 256 + 3)),
            });
            assert_eq!(decoder.message(&encoded(content)), Ok(Message::Event(expected)), "{seed}");
        }
    }

    #[test]
    fn everything_else_is_told_apart() {
        use proto::read_resp as r;
        let at = |commit_position| r::Position { commit_position, prepare_position: 1 };
        let cases = [
            (
                Content::Confirmation(r::SubscriptionConfirmation { subscription_id: "x".into() }),
                Message::Confirmation,
            ),
            (
                Content::Checkpoint(r::Checkpoint {
                    commit_position: 515,
                    prepare_position: 515,
                    timestamp: Some(prost_timestamp()),
                }),
                Message::Checkpoint(Checkpoint(515)),
            ),
            (Content::StreamNotFound(r::StreamNotFound::default()), Message::StreamNotFound),
            (Content::FirstStreamPosition(0), Message::FirstRevision(Revision(0))),
            (Content::LastStreamPosition(u64::MAX), Message::LastRevision(Revision(u64::MAX))),
            (Content::LastAllStreamPosition(shared::AllStreamPosition::default()), Message::Other),
            (
                Content::CaughtUp(r::CaughtUp {
                    timestamp: Some(prost_timestamp()),
                    stream_revision: Some(7),
                    position: None,
                }),
                Message::CaughtUp { revision: Some(Revision(7)), checkpoint: None },
            ),
            (
                Content::CaughtUp(r::CaughtUp {
                    timestamp: None,
                    stream_revision: Some(-1),
                    position: Some(at(9)),
                }),
                Message::CaughtUp { revision: None, checkpoint: Some(Checkpoint(9)) },
            ),
            (Content::FellBehind(r::FellBehind::default()), Message::FellBehind),
        ];
        for (content, expected) in cases {
            let bytes = encoded(content);
            assert_eq!(ReadDecoder::default().message(&bytes), Ok(expected), "{bytes:?}");
        }
        assert_eq!(ReadDecoder::default().message(&Bytes::new()), Ok(Message::Other));
    }

    fn prost_timestamp() -> prost_types::Timestamp {
        prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5 }
    }

    #[test]
    fn damaged_answers_are_errors_and_never_panics() {
        let content = Content::Event(ReadEvent {
            event: Some(wire(3)),
            link: Some(wire(4)),
            position: Some(At::CommitPosition(9)),
        });
        let whole = encoded(content);
        for len in 0..whole.len() {
            let cut = whole.slice(..len);
            let ours = ReadDecoder::default().message(&cut);
            assert_eq!(ours.is_err(), proto::ReadResp::decode(cut).is_err(), "cut at {len}");
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.to_vec();
                flipped[at] ^= 1 << bit;
                let _ = ReadDecoder::default().message(&flipped.into());
            }
        }
    }
}
