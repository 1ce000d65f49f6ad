//! What a runner feeds: a projection over its tables, or a connector.

use daybook_client::Checkpoint;
use daybook_model::Position;

use crate::feed::{Batch, Interest};

/// Takes in the feed, batch by batch.
///
/// Any of its futures may be dropped before it is done, when the runner is told to stop or to pause
/// and the consumer takes too long; [`Consumer::begin`] comes next, if anything does.
pub trait Consumer: Send + 'static {
    /// The events it wants.
    fn interest(&self) -> Interest;

    /// Begins, or begins anew after an error: what was taken in and not kept is forgotten. The
    /// place to go on after.
    fn begin(&mut self) -> impl Future<Output = Result<Option<Checkpoint>, ConsumeError>> + Send;

    /// Takes in `batch`. When it returns without an error, all of the batch has had its effect.
    ///
    /// # Errors
    /// [`ConsumeError`]; the runner then calls [`Consumer::begin`] before it goes on.
    fn take(&mut self, batch: Batch) -> impl Future<Output = Result<Taken, ConsumeError>> + Send;
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Events that had their effect.
    pub events: u64,
    /// Events that were parked.
    pub parked: u64,
}

/// Why a batch was not taken in, or not wholly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConsumeError {
    /// Somebody else does this work now.
    #[error("{reason}")]
    Fenced {
        /// Who lost what.
        reason: String,
    },
    /// An event cannot be taken in; everything before it was.
    #[error(
        "event {position} ({event_type} of {stream}) cannot be taken in: {reason}; mend the cause \
         and resume"
    )]
    Poisoned {
        /// The event.
        position: Position,
        /// Its stream.
        stream: String,
        /// Its type.
        event_type: String,
        /// Why.
        reason: String,
    },
    /// What was built is gone or cannot be used: it must be built anew, from the first event.
    #[error("{reason}")]
    Lost {
        /// What was found.
        reason: String,
    },
    /// It may go on later.
    #[error("{reason}")]
    Interrupted {
        /// What happened.
        reason: String,
    },
    /// It will not go on by itself.
    #[error("{reason}")]
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}
