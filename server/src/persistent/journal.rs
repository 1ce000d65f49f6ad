//! What groups write and read of their own: settings, checkpoints, parked messages. All of it is
//! events in system streams, so it is backed up and restored with the log.
//!
//! ```text
//!   $persistentSubscriptionConfig                       $PersistentConfig        all groups
//!   $persistentsubscription-<stream>::<group>-checkpoint  $SubscriptionCheckpoint  a place
//!   $persistentsubscription-<stream>::<group>-parked      $>                       a link, and why
//! ```
//!
//! INVARIANT: the only place where this room writes to the store, and to these streams alone.

use std::sync::Arc;

use daybook_model::metadata::METADATA_EVENT_TYPE;
use daybook_model::{
    Clock, ContentType, Entropy, ExpectedRevision, NewEvent, RecordedEvent, Revision, StreamName,
};
use daybook_store::{
    Append, AppendError, Deletion, Direction, From, ReadError, ReadStream, Store, StreamState,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::feed::owned;
use super::key::{GroupKey, Source};
use super::place;
use crate::http::event::rfc3339;

/// Where the settings of all groups are.
const CONFIG_STREAM: &str = "$persistentSubscriptionConfig";
const CONFIG_EVENT_TYPE: &str = "$PersistentConfig";
/// Settings that are kept beside the newest, for people who want to see what was changed.
const CONFIG_COUNT: u64 = 10;
const CHECKPOINT_EVENT_TYPE: &str = "$SubscriptionCheckpoint";
/// Checkpoints that are kept; as in KurrentDB.
const CHECKPOINT_COUNT: u64 = 2;
const LINK_EVENT_TYPE: &str = "$>";

/// Why a group's own streams could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Not written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Not read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What is there is not what a group writes.
    #[error("'{stream}' cannot be used: {reason}; delete the group and create it again")]
    Unusable {
        /// The stream.
        stream: StreamName,
        /// Why.
        reason: String,
    },
}

/// Writes and reads the groups' own streams. A clone is another handle.
#[derive(Clone)]
pub struct Journal {
    store: Store,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

/// The metadata of a parked message.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ParkedMetadata {
    added: String,
    reason: String,
    subscription_event_number: u64,
}

/// A message to be parked.
#[derive(Clone, Debug)]
pub struct Parking {
    /// The same each time it is tried: a write whose outcome is unknown is not made twice.
    pub id: Uuid,
    /// The event: `<revision>@<stream>`.
    pub link: String,
    /// Its number where the group took it from.
    pub number: u64,
    /// Why.
    pub reason: String,
}

/// The revisions of the parked stream that hold parked messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parked {
    /// The first.
    pub first: u64,
    /// What follows the last.
    pub next: u64,
}

impl Parked {
    /// How many messages are parked.
    #[must_use]
    pub fn count(self) -> u64 {
        self.next.saturating_sub(self.first)
    }
}

impl Journal {
    /// The journal in `store`.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Journal {
        Journal { store, clock, entropy }
    }

    /// The store, to read from.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The time.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// An id for an event.
    #[must_use]
    pub fn new_id(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.entropy.bytes()).into_uuid()
    }

    /// The document with all settings, and its revision.
    ///
    /// # Errors
    /// [`JournalError::Read`]
    pub async fn config(&self) -> Result<Option<(Revision, Vec<u8>)>, JournalError> {
        let last = self.last(&config_stream()).await?;
        Ok(last.map(|event| (event.revision, event.data.to_vec())))
    }

    /// Replaces the document that is at `revision`.
    ///
    /// # Errors
    /// [`JournalError::Append`]
    pub async fn put_config(
        &self,
        revision: Option<Revision>,
        document: Vec<u8>,
    ) -> Result<Revision, JournalError> {
        let stream = config_stream();
        let Some(revision) = revision else {
            self.keep(&stream, CONFIG_COUNT).await?;
            let event = self.event(CONFIG_EVENT_TYPE, document);
            return self.append(&stream, ExpectedRevision::Any, event).await;
        };
        let event = self.event(CONFIG_EVENT_TYPE, document);
        self.append(&stream, ExpectedRevision::Exact(revision), event).await
    }

    /// The number up to which a group is done, if it ever said so.
    ///
    /// # Errors
    /// [`JournalError::Unusable`] if that is no place in this log.
    pub async fn checkpoint(&self, key: &GroupKey) -> Result<Option<u64>, JournalError> {
        let stream = key.checkpoint_stream();
        let Some(event) = self.last(&stream).await? else { return Ok(None) };
        let unusable = |reason| JournalError::Unusable { stream: stream.clone(), reason };
        let text = match serde_json::from_slice(&event.data) {
            Ok(serde_json::Value::String(text)) => text,
            Ok(serde_json::Value::Number(number)) => number.to_string(),
            _ => return Err(unusable("its last event is not a checkpoint".to_owned())),
        };
        place::parse(&self.store, &key.source, &text).map(Some).map_err(unusable)
    }

    /// Says that a group is done up to `number`.
    ///
    /// # Errors
    /// [`JournalError::Append`]
    pub async fn put_checkpoint(&self, key: &GroupKey, number: u64) -> Result<(), JournalError> {
        let text = place::text(&self.store, &key.source, number);
        let data = match &key.source {
            Source::Stream(_) => text.into_bytes(),
            Source::All => serde_json::Value::String(text).to_string().into_bytes(),
        };
        let event = self.event(CHECKPOINT_EVENT_TYPE, data);
        self.append(&key.checkpoint_stream(), ExpectedRevision::Any, event).await?;
        Ok(())
    }

    /// Sees to it that few checkpoints are kept, and that those of a deleted group of the same name
    /// stay hidden.
    ///
    /// # Errors
    /// [`JournalError`]
    pub async fn prepare_checkpoints(&self, key: &GroupKey) -> Result<(), JournalError> {
        self.keep(&key.checkpoint_stream(), CHECKPOINT_COUNT).await
    }

    /// Parks a message; its revision among the parked ones.
    ///
    /// # Errors
    /// [`JournalError::Append`]
    pub async fn park(&self, key: &GroupKey, parking: Parking) -> Result<Revision, JournalError> {
        let metadata = ParkedMetadata {
            added: rfc3339(self.clock.now()),
            reason: parking.reason,
            subscription_event_number: parking.number,
        };
        let event = NewEvent {
            id: parking.id,
            event_type: LINK_EVENT_TYPE.to_owned(),
            content_type: ContentType::Json,
            metadata: serde_json::to_vec(&metadata).expect("plain fields are JSON").into(),
            data: parking.link.into(),
        };
        self.append(&key.parked_stream(), ExpectedRevision::Any, event).await
    }

    /// Which messages are parked.
    ///
    /// # Errors
    /// [`JournalError::Read`]
    pub async fn parked(&self, key: &GroupKey) -> Result<Parked, JournalError> {
        let info = self.store.stream_info(&key.parked_stream()).await?;
        let next = info.head.map_or(0, |head| head.0 + 1);
        Ok(Parked { first: info.first.0.min(next), next })
    }

    /// Up to `count` parked messages from revision `from` on, and before `end`.
    ///
    /// # Errors
    /// [`JournalError::Read`]
    pub async fn read_parked(
        &self,
        key: &GroupKey,
        (from, end): (u64, u64),
        count: u64,
    ) -> Result<Vec<RecordedEvent>, JournalError> {
        let query = ReadStream {
            stream: key.parked_stream(),
            from: From::Revision(Revision(from)),
            direction: Direction::Forwards,
            count,
        };
        let events = self.read(query).await?;
        Ok(events.into_iter().filter(|event| event.revision.0 < end).collect())
    }

    /// Forgets the parked messages before revision `first`.
    ///
    /// # Errors
    /// [`JournalError::Append`]
    pub async fn truncate_parked(&self, key: &GroupKey, first: u64) -> Result<(), JournalError> {
        let data = serde_json::json!({ "$tb": first }).to_string().into_bytes();
        let event = self.event(METADATA_EVENT_TYPE, data);
        let stream = key.parked_stream().metastream();
        self.append(&stream, ExpectedRevision::Any, event).await?;
        Ok(())
    }

    /// Deletes what a group has kept.
    ///
    /// # Errors
    /// [`JournalError::Append`]
    pub async fn forget(&self, key: &GroupKey) -> Result<(), JournalError> {
        for stream in [key.checkpoint_stream(), key.parked_stream()] {
            let info = self.store.stream_info(&stream).await?;
            if info.state == StreamState::Live {
                self.store.delete(&stream, ExpectedRevision::Any, Deletion::Soft).await?;
            }
        }
        Ok(())
    }

    /// The number that the next event of `source` will have.
    ///
    /// # Errors
    /// [`JournalError::Read`]
    pub async fn end_of(&self, source: &Source) -> Result<u64, JournalError> {
        let Source::Stream(stream) = source else { return Ok(self.store.committed().0) };
        let query = ReadStream {
            stream: stream.clone(),
            from: From::End,
            direction: Direction::Backwards,
            count: 1,
        };
        let last = match self.store.read_stream(query).await {
            Ok(reader) => reader.last_revision(),
            Err(ReadError::StreamNotFound { .. } | ReadError::StreamDeleted { .. }) => {
                self.store.stream_info(stream).await?.head
            }
            Err(failed) => return Err(failed.into()),
        };
        Ok(last.map_or(0, |revision| revision.0 + 1))
    }

    fn event(&self, event_type: &str, data: Vec<u8>) -> NewEvent {
        NewEvent::json(self.new_id(), event_type, data)
    }

    async fn append(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        event: NewEvent,
    ) -> Result<Revision, JournalError> {
        let append = Append::to_stream(stream.clone(), expected, [event]);
        let appended = self.store.append(append).await?;
        Ok(appended.revisions.first().copied().flatten().unwrap_or(Revision(0)))
    }

    /// Keeps the last `count` events of `stream`, unless that was said before.
    async fn keep(&self, stream: &StreamName, count: u64) -> Result<(), JournalError> {
        let info = self.store.stream_info(stream).await?;
        if info.metadata.max_count == Some(count) {
            return Ok(());
        }
        // What a deletion has hidden stays hidden.
        let hidden = match info.state {
            StreamState::SoftDeleted => info.head.map(|head| head.0 + 1),
            _ => info.metadata.truncate_before,
        };
        let data = match hidden {
            Some(first) => serde_json::json!({ "$maxCount": count, "$tb": first }),
            None => serde_json::json!({ "$maxCount": count }),
        };
        let event = self.event(METADATA_EVENT_TYPE, data.to_string().into_bytes());
        self.append(&stream.metastream(), ExpectedRevision::Any, event).await?;
        Ok(())
    }

    async fn last(&self, stream: &StreamName) -> Result<Option<RecordedEvent>, JournalError> {
        let query = ReadStream {
            stream: stream.clone(),
            from: From::End,
            direction: Direction::Backwards,
            count: 1,
        };
        Ok(self.read(query).await?.pop())
    }

    async fn read(&self, query: ReadStream) -> Result<Vec<RecordedEvent>, JournalError> {
        let mut reader = match self.store.read_stream(query).await {
            Ok(reader) => reader,
            Err(ReadError::StreamNotFound { .. } | ReadError::StreamDeleted { .. }) => {
                return Ok(Vec::new());
            }
            Err(failed) => return Err(failed.into()),
        };
        let mut events = Vec::new();
        while let Some(page) = reader.next().await? {
            events.extend(page.events().map(|event| owned(&event)));
        }
        Ok(events)
    }
}

fn config_stream() -> StreamName {
    StreamName::new(CONFIG_STREAM).expect("a constant name")
}
