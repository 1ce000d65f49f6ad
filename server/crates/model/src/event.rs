//! Events: proposed by a client, viewed where they are stored, and owned.

use bytes::Bytes;
use uuid::Uuid;

use crate::limits::{EVENT_SIZE_MAX, EVENT_TYPE_SIZE_MAX};
use crate::{Position, Revision, StreamName, Timestamp};

/// How an event's data is to be read. The protocol knows these two and no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentType {
    /// `application/json`
    Json,
    /// `application/octet-stream`
    Binary,
}

impl ContentType {
    /// The media type, as clients see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ContentType::Json => "application/json",
            ContentType::Binary => "application/octet-stream",
        }
    }
}

/// An event that someone wants to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Chosen by the client; a retry with the same id is recognised.
    pub id: Uuid,
    /// What happened, in the past tense: `PaymentCompleted`.
    pub event_type: String,
    /// How `data` is to be read.
    pub content_type: ContentType,
    /// The client's own bytes beside the data; JSON by convention. May be empty.
    pub metadata: Bytes,
    /// The event itself. May be empty.
    pub data: Bytes,
}

/// Why an event cannot be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEvent {
    /// Its type has no characters.
    #[error("event {id} has an empty type; name what happened")]
    EmptyType {
        /// The event.
        id: Uuid,
    },
    /// Its type is longer than [`EVENT_TYPE_SIZE_MAX`], or has control characters.
    #[error(
        "event {id} has a type of {size} bytes, or with control characters; give at most \
         {EVENT_TYPE_SIZE_MAX} bytes of text"
    )]
    BadType {
        /// The event.
        id: Uuid,
        /// The type's bytes.
        size: usize,
    },
    /// Its metadata must say something more, and is no JSON object.
    #[error(
        "event {id} has metadata that is not a JSON object, to which its correlation or trace cannot \
         be added; make it an object or leave it empty"
    )]
    MetadataNotObject {
        /// The event.
        id: Uuid,
    },
    /// Data and metadata together are larger than [`EVENT_SIZE_MAX`].
    #[error("event {id} has {size} bytes; the limit is {EVENT_SIZE_MAX}")]
    TooLarge {
        /// The event.
        id: Uuid,
        /// Its bytes.
        size: usize,
    },
}

impl NewEvent {
    /// A JSON event without metadata.
    #[must_use]
    pub fn json(id: Uuid, event_type: &str, data: impl Into<Bytes>) -> NewEvent {
        NewEvent {
            id,
            event_type: event_type.to_owned(),
            content_type: ContentType::Json,
            metadata: Bytes::new(),
            data: data.into(),
        }
    }

    /// Checks the limits of one event.
    ///
    /// # Errors
    /// [`InvalidEvent`] names the event and the limit.
    pub fn check(&self) -> Result<(), InvalidEvent> {
        let id = self.id;
        if self.event_type.is_empty() {
            return Err(InvalidEvent::EmptyType { id });
        }
        let size = self.event_type.len();
        if size > EVENT_TYPE_SIZE_MAX || self.event_type.chars().any(char::is_control) {
            return Err(InvalidEvent::BadType { id, size });
        }
        let size = self.data.len() + self.metadata.len();
        if size > EVENT_SIZE_MAX {
            return Err(InvalidEvent::TooLarge { id, size });
        }
        Ok(())
    }
}

/// A stored event, viewed in the bytes it was read into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventView<'a> {
    /// Its number in the store.
    pub position: Position,
    /// Its number in its stream.
    pub revision: Revision,
    /// When it was committed.
    pub time: Timestamp,
    /// The id its client gave it.
    pub id: Uuid,
    /// The stream it was written to.
    pub stream: &'a str,
    /// What happened.
    pub event_type: &'a str,
    /// How `data` is to be read.
    pub content_type: ContentType,
    /// Whether it is the tombstone that ended its stream.
    pub tombstone: bool,
    /// The client's bytes beside the data.
    pub metadata: &'a [u8],
    /// The event itself.
    pub data: &'a [u8],
}

/// A stored event that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Its number in the store.
    pub position: Position,
    /// Its number in its stream.
    pub revision: Revision,
    /// When it was committed.
    pub time: Timestamp,
    /// The id its client gave it.
    pub id: Uuid,
    /// The stream it was written to.
    pub stream: StreamName,
    /// What happened.
    pub event_type: String,
    /// How `data` is to be read.
    pub content_type: ContentType,
    /// Whether it is the tombstone that ended its stream.
    pub tombstone: bool,
    /// The client's bytes beside the data.
    pub metadata: Bytes,
    /// The event itself.
    pub data: Bytes,
}

impl RecordedEvent {
    /// A view of this event.
    #[must_use]
    pub fn view(&self) -> EventView<'_> {
        EventView {
            position: self.position,
            revision: self.revision,
            time: self.time,
            id: self.id,
            stream: self.stream.as_str(),
            event_type: &self.event_type,
            content_type: self.content_type,
            tombstone: self.tombstone,
            metadata: &self.metadata,
            data: &self.data,
        }
    }
}
