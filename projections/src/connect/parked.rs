//! Messages that a connector could not deliver: the events of `$connector-<name>-parked`.
//!
//! ```text
//!   $connector-parked    which event, why, how often it was tried, when
//!   $connector-settled   its position, and how: delivered after all, or discarded, and why
//! ```
//!
//! What is parked is a reference: the event itself stays where it is, and is read there when a
//! person has it sent again. Settled ones are truncated away.
//!
//! INVARIANTS: a message is parked durably before the connector's place passes it. At most
//! [`PARKED_MAX`] are open: a receiver that refuses everything stops its connector.

use std::collections::BTreeMap;

use daybook_ledger::time::Rfc3339;
use daybook_model::metadata::METADATA_EVENT_TYPE;
use daybook_model::{
    Clock, Entropy, ExpectedRevision, NewEvent, Position, RecordedEvent, Revision, StreamName,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::place::place_stream;
use super::streams::{Streams, StreamsError};
use crate::consumer::ConsumeError;

/// Messages that may be parked at a time: more than a person looks through, so one cause, and a
/// reason to stop.
pub const PARKED_MAX: usize = 10_000;
/// Characters of a reason that are kept.
pub const REASON_SIZE_MAX: usize = 1000;
/// The type of the event that parks.
pub const PARKED_EVENT_TYPE: &str = "$connector-parked";
/// The type of the event that settles.
pub const SETTLED_EVENT_TYPE: &str = "$connector-settled";
/// Events that are read at a time.
const PAGE_EVENTS: usize = 500;
/// Settled events at the stream's beginning that are worth a truncation.
const TRUNCATE_EVERY: u64 = 64;
/// Times one append is tried.
const APPEND_ATTEMPTS_MAX: u32 = 5;

/// A message that was not delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedMessage {
    /// The event's position; names the message.
    pub position: u64,
    /// Its stream.
    pub stream: String,
    /// Its number in its stream.
    pub revision: u64,
    /// Its id.
    pub id: Uuid,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Why it was not delivered, the last time.
    pub error: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was parked.
    pub at: String,
}

/// What became of a parked message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "how")]
pub enum Settled {
    /// It was delivered after all.
    Delivered,
    /// A person gave it up.
    Discarded {
        /// Why.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct SettledData {
    position: u64,
    #[serde(flatten)]
    settled: Settled,
}

/// What is parked, and where that is written.
pub struct Parked<T> {
    streams: T,
    stream: StreamName,
    open: BTreeMap<u64, (ParkedMessage, Revision)>,
    /// Where the next event of the stream will be, at least.
    end: u64,
    truncated: u64,
}

impl<T: Streams> Parked<T> {
    /// What the connector `name` has parked; nothing is read yet.
    #[must_use]
    pub fn new(streams: T, name: &str) -> Parked<T> {
        let stream = format!("{}-parked", place_stream(name));
        let stream = StreamName::new(&stream).expect("a connector's name is short text");
        Parked { streams, stream, open: BTreeMap::new(), end: 0, truncated: 0 }
    }

    /// Reads the stream anew.
    ///
    /// # Errors
    /// [`ConsumeError`].
    pub async fn load(&mut self) -> Result<(), ConsumeError> {
        (self.open, self.end) = (BTreeMap::new(), 0);
        let mut first = None;
        loop {
            let page = self.streams.read(&self.stream, Revision(self.end), PAGE_EVENTS).await;
            let page = page.map_err(|error| self.failed("read", &error))?;
            let Some(last) = page.last() else { break };
            self.end = last.revision.0 + 1;
            first = first.or(page.first().map(|event| event.revision.0));
            for event in &page {
                if event.event_type == PARKED_EVENT_TYPE
                    && let Ok(message) = serde_json::from_slice::<ParkedMessage>(&event.data)
                {
                    self.open.insert(message.position, (message, event.revision));
                } else if event.event_type == SETTLED_EVENT_TYPE
                    && let Ok(data) = serde_json::from_slice::<SettledData>(&event.data)
                {
                    self.open.remove(&data.position);
                }
            }
        }
        self.truncated = first.unwrap_or(self.end);
        Ok(())
    }

    /// How many are parked.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether nothing is parked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The message of the event at `position`, if it is parked.
    #[must_use]
    pub fn get(&self, position: Position) -> Option<&ParkedMessage> {
        self.open.get(&position.0).map(|(message, _)| message)
    }

    /// What is parked after `after`, by position.
    pub fn after(&self, after: Option<Position>) -> impl Iterator<Item = &ParkedMessage> {
        let from = after.map_or(0, |after| after.0.saturating_add(1));
        self.open.range(from..).map(|(_, (message, _))| message)
    }

    /// Parks `message`, or notes that it failed again.
    ///
    /// # Errors
    /// [`ConsumeError`]; [`ConsumeError::Refused`] if as many are parked as may.
    pub async fn park(
        &mut self,
        message: ParkedMessage,
        entropy: &dyn Entropy,
    ) -> Result<(), ConsumeError> {
        if self.open.len() >= PARKED_MAX && !self.open.contains_key(&message.position) {
            let reason = format!(
                "{PARKED_MAX} messages are parked already, the last because: {}; mend the cause, \
                 then send them again or discard them, and resume",
                message.error
            );
            return Err(ConsumeError::Refused { reason });
        }
        let data = serde_json::to_vec(&message).expect("texts and numbers are JSON");
        let revision = self.append(PARKED_EVENT_TYPE, data, entropy).await?;
        self.open.insert(message.position, (message, revision));
        Ok(())
    }

    /// Notes what became of the message of the event at `position`.
    ///
    /// # Errors
    /// [`ConsumeError`]; then it is still parked.
    pub async fn settle(
        &mut self,
        position: Position,
        settled: Settled,
        entropy: &dyn Entropy,
    ) -> Result<(), ConsumeError> {
        let data = SettledData { position: position.0, settled };
        let data = serde_json::to_vec(&data).expect("texts and numbers are JSON");
        self.append(SETTLED_EVENT_TYPE, data, entropy).await?;
        self.open.remove(&position.0);
        self.truncate(entropy).await;
        Ok(())
    }

    /// Lets the store forget the settled ones at the stream's beginning. If it fails, the next one
    /// does it.
    async fn truncate(&mut self, entropy: &dyn Entropy) {
        let oldest = self.open.values().map(|(_, revision)| revision.0).min().unwrap_or(self.end);
        let worth = oldest.saturating_sub(self.truncated);
        if worth == 0 || (worth < TRUNCATE_EVERY && !self.open.is_empty()) {
            return;
        }
        let id = uuid::Builder::from_random_bytes(entropy.bytes()).into_uuid();
        let event = NewEvent::json(id, METADATA_EVENT_TYPE, format!("{{\"$tb\":{oldest}}}"));
        let metastream = self.stream.metastream();
        match self.streams.append(&metastream, ExpectedRevision::Any, event).await {
            Ok(_) => self.truncated = oldest,
            Err(error) => tracing::debug!(stream = %self.stream, %error, "not truncated"),
        }
    }

    async fn append(
        &mut self,
        event_type: &str,
        data: Vec<u8>,
        entropy: &dyn Entropy,
    ) -> Result<Revision, ConsumeError> {
        let id = uuid::Builder::from_random_bytes(entropy.bytes()).into_uuid();
        let event = NewEvent::json(id, event_type, data);
        let mut error = StreamsError::Changed;
        for _ in 0..APPEND_ATTEMPTS_MAX {
            let appended = self.streams.append(&self.stream, ExpectedRevision::Any, event.clone());
            error = match appended.await {
                Ok(revision) => {
                    let revision = revision.unwrap_or(Revision(self.end));
                    self.end = self.end.max(revision.0 + 1);
                    return Ok(revision);
                }
                Err(error) => error,
            };
            if !matches!(error, StreamsError::Unknown { .. }) {
                break;
            }
        }
        Err(self.failed("write", &error))
    }

    fn failed(&self, action: &str, error: &StreamsError) -> ConsumeError {
        let reason = format!("cannot {action} {}: {error}", self.stream);
        match error {
            StreamsError::Refused { .. } => ConsumeError::Refused { reason },
            _ => ConsumeError::Interrupted { reason },
        }
    }
}

impl ParkedMessage {
    /// The message about `event`, which was tried `attempts` times and not delivered because of `error`.
    #[must_use]
    pub fn new(
        event: &RecordedEvent,
        error: &str,
        attempts: u32,
        clock: &dyn Clock,
    ) -> ParkedMessage {
        ParkedMessage {
            position: event.position.0,
            stream: event.stream.to_string(),
            revision: event.revision.0,
            id: event.id,
            event_type: event.event_type.clone(),
            error: error.chars().take(REASON_SIZE_MAX).collect(),
            attempts,
            at: Rfc3339(clock.now()).to_string(),
        }
    }
}

#[cfg(test)]
#[path = "parked/tests.rs"]
mod tests;
