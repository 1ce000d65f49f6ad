//! A connector's place: how far it has come, as the last event of `$connector-<name>`.
//!
//! ```text
//!   $connector-payments   #7  owner A  checkpoint 4096
//!                         #8  owner A  checkpoint 8192
//!                         #9  owner B  checkpoint 8192     B claims it, at revision 8
//!          A writes at 8 ──> changed: the last is B's ──> A is fenced, and stops
//! ```
//!
//! Each write expects the revision of the one before it. So of two instances one advances: the
//! other's write fails, it finds an owner that it is not, and never writes again. An instance whose
//! write was lost on the way finds itself, and goes on.
//!
//! INVARIANTS: the checkpoint written is never beyond what was confirmed or parked. The stream has
//! [`PLACES_MAX`] events at most, by its `$maxCount`.

use daybook_client::Checkpoint;
use daybook_model::metadata::METADATA_EVENT_TYPE;
use daybook_model::{ExpectedRevision, NewEvent, RecordedEvent, Revision, StreamName};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::select::CONNECTOR_PREFIX;
use super::streams::{Streams, StreamsError};
use crate::consumer::ConsumeError;

/// The type of the events.
pub const PLACE_EVENT_TYPE: &str = "$connector-place";
/// Places that are kept: one is needed, the others are for whoever looks for what happened.
pub const PLACES_MAX: u64 = 16;
/// Times one write is tried before it is left for later.
const WRITE_ATTEMPTS_MAX: u32 = 5;

/// What an event of the stream says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceData {
    /// All up to here was confirmed or parked; none before the first event.
    pub checkpoint: Option<u64>,
    /// Whether it was told to pause.
    pub paused: bool,
    /// The instance that wrote it.
    pub owner: Uuid,
    /// Messages confirmed since there is this connector.
    pub delivered: u64,
}

/// The stream of the connector `name`.
#[must_use]
pub fn place_stream(name: &str) -> StreamName {
    StreamName::new(&format!("{CONNECTOR_PREFIX}{name}")).expect("a connector's name is short text")
}

/// The place, as one instance sees and writes it.
pub struct Place<T> {
    streams: T,
    name: String,
    stream: StreamName,
    owner: Uuid,
    /// Of the last event that is known; none if the stream has none.
    revision: Option<Revision>,
    /// Whether this instance has claimed it.
    claimed: bool,
    /// Whether another one has claimed it since.
    lost: bool,
    /// As it stands in the stream.
    stored: PlaceData,
    /// As it is by now.
    now: PlaceData,
    /// Messages done with that the stream does not know of.
    unwritten: u64,
}

impl<T: Streams> Place<T> {
    /// The place of the connector `name`, as `owner` will write it. Nothing is read yet.
    #[must_use]
    pub fn new(streams: T, name: &str, owner: Uuid) -> Place<T> {
        let (stream, stored, now) =
            (place_stream(name), PlaceData::default(), PlaceData::default());
        let (revision, claimed, lost, name) = (None, false, false, name.to_owned());
        Place { streams, name, stream, owner, revision, claimed, lost, stored, now, unwritten: 0 }
    }

    /// The checkpoint by now.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.now.checkpoint.map(Checkpoint)
    }

    /// Whether it is paused.
    #[must_use]
    pub fn paused(&self) -> bool {
        self.now.paused
    }

    /// Messages confirmed since there is this connector.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.now.delivered
    }

    /// Messages confirmed or parked that the stream does not know of.
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        self.unwritten
    }

    /// Positions passed that the stream does not know of.
    #[must_use]
    pub fn passed(&self) -> u64 {
        let position = |at: Option<u64>| at.map_or(0, |at| Checkpoint(at).position().0 + 1);
        position(self.now.checkpoint).saturating_sub(position(self.stored.checkpoint))
    }

    /// What the stream says, without claiming it; none if it says nothing.
    ///
    /// # Errors
    /// [`ConsumeError`].
    pub async fn look(&self) -> Result<Option<PlaceData>, ConsumeError> {
        match self.streams.last(&self.stream).await {
            Ok(last) => last.map(|event| self.parse(&event)).transpose(),
            Err(error) => Err(self.failed("read", &error)),
        }
    }

    /// Claims the place, or finds out whether it is still this instance's. A connector that has
    /// none yet begins after `first`.
    ///
    /// # Errors
    /// [`ConsumeError::Fenced`] if another instance has claimed it since.
    pub async fn begin(&mut self, first: Option<Checkpoint>) -> Result<(), ConsumeError> {
        let last = self.streams.last(&self.stream).await.map_err(|e| self.failed("read", &e))?;
        let Some(last) = last else {
            self.bound().await?;
            self.revision = None;
            self.stored = PlaceData::default();
            self.now = PlaceData { checkpoint: first.map(|at| at.0), ..PlaceData::default() };
            (self.claimed, self.lost) = (true, false);
            return self.write().await;
        };
        let data = self.parse(&last)?;
        let rewound = self.revision.is_some_and(|known| last.revision < known);
        if self.claimed && !rewound {
            if data.owner != self.owner {
                self.lost = true;
                return Err(self.fenced());
            }
            // What was confirmed since is still true; an event that came late is this instance's.
            (self.revision, self.stored) = (Some(last.revision), data);
            return Ok(());
        }
        if rewound {
            tracing::warn!(connector = self.name, "the store was rewound: going back with it");
        }
        (self.revision, self.stored, self.now) = (Some(last.revision), data.clone(), data);
        (self.claimed, self.lost) = (true, false);
        self.write().await
    }

    /// Forgets what was done since the stream was last written: it is of a history that the store
    /// has lost. What the stream says then holds.
    pub fn forget(&mut self) {
        self.claimed = false;
        self.unwritten = 0;
    }

    /// Moves on: so many more messages are confirmed, so many parked, and all up to `checkpoint`
    /// is done with.
    pub fn advance(&mut self, checkpoint: Checkpoint, delivered: u64, parked: u64) {
        self.now.checkpoint = Some(checkpoint.0);
        self.now.delivered += delivered;
        self.unwritten += delivered + parked;
    }

    /// Pauses or resumes, durably.
    ///
    /// # Errors
    /// [`ConsumeError`]; then it is as before.
    pub async fn set_paused(&mut self, paused: bool) -> Result<(), ConsumeError> {
        let before = std::mem::replace(&mut self.now.paused, paused);
        let written = self.write().await;
        if written.is_err() {
            self.now.paused = before;
        }
        written
    }

    /// Writes how far it is.
    ///
    /// # Errors
    /// [`ConsumeError::Fenced`] if another instance has claimed it.
    pub async fn write(&mut self) -> Result<(), ConsumeError> {
        if !self.claimed {
            let reason = format!("connector {} has not begun yet; try again", self.name);
            return Err(ConsumeError::Interrupted { reason });
        }
        if self.lost {
            return Err(self.fenced());
        }
        let mut error = StreamsError::Changed;
        for _ in 0..WRITE_ATTEMPTS_MAX {
            let data = PlaceData { owner: self.owner, ..self.now.clone() };
            let expected =
                self.revision.map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact);
            let event = self.event(&data, expected);
            error = match self.streams.append(&self.stream, expected, event).await {
                Ok(revision) => {
                    self.revision = revision;
                    (self.stored, self.now.owner) = (data, self.owner);
                    self.unwritten = 0;
                    return Ok(());
                }
                Err(error) => error,
            };
            match &error {
                // The same bytes again: the id says whether they are there.
                StreamsError::Unknown { .. } => {}
                StreamsError::Changed => self.look_again().await?,
                _ => break,
            }
        }
        Err(self.failed("write", &error))
    }

    /// After somebody wrote the stream: it was this instance, or this instance has lost it.
    async fn look_again(&mut self) -> Result<(), ConsumeError> {
        let last = self.streams.last(&self.stream).await.map_err(|e| self.failed("read", &e))?;
        let Some(last) = last else {
            let reason = format!("{} was deleted meanwhile", self.stream);
            self.revision = None;
            return Err(ConsumeError::Interrupted { reason });
        };
        // Claiming, one has nothing to lose yet: whoever was faster is fenced by the next attempt.
        let data = self.parse(&last)?;
        if data.owner != self.owner {
            if self.stored.owner == self.owner {
                self.lost = true;
                return Err(self.fenced());
            }
            (self.stored, self.now) = (data.clone(), data);
        }
        self.revision = Some(last.revision);
        Ok(())
    }

    /// Lets the store forget all but the last places.
    async fn bound(&self) -> Result<(), ConsumeError> {
        let data = format!("{{\"$maxCount\":{PLACES_MAX}}}");
        let id = Uuid::new_v5(&self.owner, data.as_bytes());
        let event = NewEvent::json(id, METADATA_EVENT_TYPE, data);
        let metastream = self.stream.metastream();
        let bounded = self.streams.append(&metastream, ExpectedRevision::Any, event).await;
        bounded.map(|_| ()).map_err(|error| self.failed("write", &error))
    }

    /// An event whose id says what it holds and where: a repetition is recognised, and another
    /// content is not taken for one.
    fn event(&self, data: &PlaceData, expected: ExpectedRevision) -> NewEvent {
        let json = serde_json::to_vec(data).expect("numbers and a UUID are JSON");
        let mut name = json.clone();
        name.extend_from_slice(expected.to_string().as_bytes());
        NewEvent::json(Uuid::new_v5(&self.owner, &name), PLACE_EVENT_TYPE, json)
    }

    fn parse(&self, event: &RecordedEvent) -> Result<PlaceData, ConsumeError> {
        serde_json::from_slice(&event.data).map_err(|error| ConsumeError::Refused {
            reason: format!(
                "event {} of {} is no connector's place ({error}); delete that stream to begin \
                 anew, or give the connector another name",
                event.revision, self.stream
            ),
        })
    }

    fn fenced(&self) -> ConsumeError {
        let reason = format!(
            "connector {} is run by another instance now; this one stops, so that messages are \
             not sent twice",
            self.name
        );
        ConsumeError::Fenced { reason }
    }

    fn failed(&self, action: &str, error: &StreamsError) -> ConsumeError {
        let reason = format!("cannot {action} {}: {error}", self.stream);
        match error {
            StreamsError::Refused { .. } => ConsumeError::Refused { reason },
            _ => ConsumeError::Interrupted { reason },
        }
    }
}

#[cfg(test)]
#[path = "place/tests.rs"]
mod tests;
