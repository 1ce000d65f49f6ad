//! Events: proposed ones as a client sends them, recorded ones as the server shows them.
//! Protocol sections 5.2 and 5.5.

use std::collections::BTreeMap;

use bytes::Bytes;
use daybook_model::metadata::TOMBSTONE_EVENT_TYPE;
use daybook_model::{ContentType, EventView, NewEvent, RecordedEvent, Revision};

use crate::error::InvalidAnswer;
use crate::proto::streams::read_resp::read_event;
use crate::proto::streams::{append_req, batch_append_req};
use crate::uuid::UuidForm;
use crate::{position, stream, time, uuid};

/// The metadata key of an event's type.
pub const TYPE: &str = "type";
/// The metadata key of how its data is to be read.
pub const CONTENT_TYPE: &str = "content-type";
/// The metadata key of when it was committed, in 100 ns ticks since 1970.
pub const CREATED: &str = "created";
/// The revision clients see for a tombstone.
pub const TOMBSTONE_REVISION: u64 = i64::MAX.cast_unsigned();

/// The content type a client means. What is not JSON is bytes: the protocol knows no third.
#[must_use]
pub fn content_type(text: &str) -> ContentType {
    if text == ContentType::Json.as_str() { ContentType::Json } else { ContentType::Binary }
}

/// The revision clients see.
#[must_use]
pub fn shown_revision(event: &EventView<'_>) -> u64 {
    if event.tombstone { TOMBSTONE_REVISION } else { event.revision.0 }
}

/// `event` for an Append.
#[must_use]
pub fn to_append(event: NewEvent) -> append_req::ProposedMessage {
    append_req::ProposedMessage {
        id: Some(uuid::to_proto(event.id, UuidForm::Structured)),
        metadata: proposed_metadata(event.event_type, event.content_type),
        custom_metadata: event.metadata,
        data: event.data,
    }
}

/// `event` for a BatchAppend.
#[must_use]
pub fn to_batch_append(event: NewEvent) -> batch_append_req::ProposedMessage {
    batch_append_req::ProposedMessage {
        id: Some(uuid::to_proto(event.id, UuidForm::Structured)),
        metadata: proposed_metadata(event.event_type, event.content_type),
        custom_metadata: event.metadata,
        data: event.data,
    }
}

fn proposed_metadata(event_type: String, content: ContentType) -> BTreeMap<String, String> {
    BTreeMap::from([
        (TYPE.to_owned(), event_type),
        (CONTENT_TYPE.to_owned(), content.as_str().to_owned()),
    ])
}

/// `event` as Read shows it, at `position` (see [`position::encode_position`]). Reads themselves
/// use [`crate::encode_read_event`], which writes the same bytes without this.
#[must_use]
pub fn to_proto(event: &EventView<'_>, position: u64, form: UuidForm) -> read_event::RecordedEvent {
    let metadata = BTreeMap::from([
        (TYPE.to_owned(), event.event_type.to_owned()),
        (CONTENT_TYPE.to_owned(), event.content_type.as_str().to_owned()),
        (CREATED.to_owned(), time::ticks(event.time).to_string()),
    ]);
    read_event::RecordedEvent {
        id: Some(uuid::to_proto(event.id, form)),
        stream_identifier: Some(crate::proto::shared::StreamIdentifier {
            stream_name: Bytes::copy_from_slice(event.stream.as_bytes()),
        }),
        stream_revision: shown_revision(event),
        prepare_position: position,
        commit_position: position,
        metadata,
        custom_metadata: Bytes::copy_from_slice(event.metadata),
        data: Bytes::copy_from_slice(event.data),
    }
}

/// The event a Daybook server shows.
///
/// # Errors
/// [`InvalidAnswer`] if something that every recorded event has is missing or impossible.
pub fn from_proto(mut event: read_event::RecordedEvent) -> Result<RecordedEvent, InvalidAnswer> {
    let event_type = take(&mut event.metadata, TYPE)?;
    let content = content_type(&take(&mut event.metadata, CONTENT_TYPE)?);
    let created = take(&mut event.metadata, CREATED)?;
    let ticks = created
        .parse::<i64>()
        .map_err(|e| InvalidAnswer::Impossible { field: CREATED, reason: e.to_string() })?;
    let name = stream::from_proto(event.stream_identifier.as_ref()).map_err(|e| {
        InvalidAnswer::Impossible { field: "stream_identifier", reason: e.to_string() }
    })?;
    let tombstone =
        event_type == TOMBSTONE_EVENT_TYPE && event.stream_revision == TOMBSTONE_REVISION;
    Ok(RecordedEvent {
        position: position::decode(event.commit_position).0,
        revision: Revision(event.stream_revision),
        time: time::from_ticks(ticks),
        id: uuid::from_answer(event.id.as_ref(), "id")?,
        stream: name,
        event_type,
        content_type: content,
        tombstone,
        metadata: event.custom_metadata,
        data: event.data,
    })
}

fn take(
    metadata: &mut BTreeMap<String, String>,
    key: &'static str,
) -> Result<String, InvalidAnswer> {
    metadata.remove(key).ok_or(InvalidAnswer::Missing { field: key })
}

#[cfg(test)]
pub(crate) mod tests {
    use ::uuid::Uuid;
    use daybook_model::{Position, StreamName, Timestamp};

    use super::*;

    /// An event with something in every field.
    pub(crate) fn recorded() -> RecordedEvent {
        RecordedEvent {
            position: Position(70_000),
            revision: Revision(300),
            time: Timestamp(1_700_000_000_123_456_700),
            id: Uuid::from_u128(0xfedc_ba98_7654_3210_0123_4567_89ab_cdef),
            stream: StreamName::new("account-1").expect("a name"),
            event_type: "Opened".to_owned(),
            content_type: ContentType::Json,
            tombstone: false,
            metadata: Bytes::from_static(b"{\"by\":1}"),
            data: Bytes::from_static(b"{\"owner\":\"x\"}"),
        }
    }

    #[test]
    fn a_recorded_event_survives_the_round_trip() {
        for form in [UuidForm::Structured, UuidForm::Text] {
            let event = recorded();
            let number = position::encode_position(event.position, daybook_model::Epoch(3));
            let shown = to_proto(&event.view(), number, form);
            assert_eq!(from_proto(shown), Ok(event));
        }
    }

    #[test]
    fn a_tombstone_is_shown_at_the_highest_revision() {
        let event = RecordedEvent {
            tombstone: true,
            event_type: TOMBSTONE_EVENT_TYPE.to_owned(),
            ..recorded()
        };
        let shown = to_proto(&event.view(), 1, UuidForm::Text);
        assert_eq!(shown.stream_revision, 9_223_372_036_854_775_807);
        assert!(from_proto(shown).expect("an event").tombstone);
    }

    #[test]
    fn an_answer_without_its_metadata_is_refused() {
        for key in [TYPE, CONTENT_TYPE, CREATED] {
            let mut shown = to_proto(&recorded().view(), 1, UuidForm::Text);
            shown.metadata.remove(key);
            assert_eq!(from_proto(shown), Err(InvalidAnswer::Missing { field: key }));
        }
    }
}
