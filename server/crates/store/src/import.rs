//! Events from elsewhere, taken in as they were there: with their ids, times and revisions.
//!
//! So a store is filled before it is served. Nothing is decided: an event goes where its revision
//! says, or the append is refused. What the other side has lost is a *hole*, a place that no reader
//! sees: the revisions after it are what they were.
//!
//! INVARIANT: times never go back, whatever is asked: the time of the event before is the least.

use daybook_model::append::{AppendError, Appended};
use daybook_model::{ExpectedRevision, NewEvent, Revision, StreamName, Timestamp};

use crate::prepare::Prepared;
use crate::store::Store;

/// An event from elsewhere, or the place of one that is gone there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Its stream.
    pub stream: StreamName,
    /// Its number there: the one after the stream's last.
    pub revision: Revision,
    /// When it was committed.
    pub time: Timestamp,
    /// What it is.
    pub what: What,
}

/// What is taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An event.
    Event(NewEvent),
    /// The event that ends its stream for ever.
    Tombstone(NewEvent),
    /// Nothing but the place.
    Gone,
}

/// What must hold of a stream whose next event has `revision`.
pub(crate) fn expected(revision: Revision) -> ExpectedRevision {
    match revision.0.checked_sub(1) {
        None => ExpectedRevision::NoStream,
        Some(before) => ExpectedRevision::Exact(Revision(before)),
    }
}

impl Store {
    /// Takes in `events`, in this order, all or none; answers when they are durable. There may be
    /// no other writer.
    ///
    /// # Errors
    /// [`AppendError::WrongExpectedRevision`] if one is not the next of its stream; otherwise as
    /// [`Store::append`].
    pub async fn import(&self, events: Vec<Carried>) -> Result<Appended, AppendError> {
        let core = self.core().clone();
        let prepared = tokio::task::spawn_blocking(move || {
            let salt = core.environment.entropy.bytes();
            Prepared::carried(&core.hasher, salt, &events).map(Box::new)
        });
        let prepared = prepared
            .await
            .unwrap_or_else(|_| Err(AppendError::Closed { reason: "it is stopping".to_owned() }))?;
        self.submit(prepared, None).await
    }
}
