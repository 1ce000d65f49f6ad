//! Where events come from: the server's own feed, or the network client's subscription.
//!
//! INVARIANT: events come in the order of the log, each once, without a gap among those that are of
//! [`Interest`]; a [`Batch`] that ends at a [`Checkpoint`] stands for everything up to it.

use daybook_client::Checkpoint;
use daybook_model::watch::Watched;
use daybook_model::{RecordedEvent, Timestamp};

/// Events of one batch at most. Large enough that the cost of handing it over does not count, small
/// enough that a pause is obeyed at once.
pub const BATCH_EVENTS_MAX: usize = 4096;
/// Bytes of one batch's events at most, except that one event always fits.
pub const BATCH_SIZE_MAX: usize = 4 * 1024 * 1024;

/// Which events a consumer wants: those whose stream begins with one of the prefixes and whose type
/// is one of the types. An empty list stands for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Beginnings of stream names.
    pub streams: Vec<String>,
    /// Event types.
    pub types: Vec<String>,
}

impl Interest {
    /// Whether it wants an event of this stream and type.
    #[must_use]
    pub fn wants(&self, stream: &str, event_type: &str) -> bool {
        let any = |list: &[String], fits: &dyn Fn(&str) -> bool| {
            list.is_empty() || list.iter().any(|item| fits(item))
        };
        any(&self.streams, &|prefix| stream.starts_with(prefix))
            && any(&self.types, &|wanted| event_type == wanted)
    }
}

/// An event, and its place in the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedEvent {
    /// To go on after it.
    pub checkpoint: Checkpoint,
    /// The event.
    pub event: RecordedEvent,
}

/// The next part of the feed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The events that are wanted, in order; none if nothing of this part is.
    pub events: Vec<FeedEvent>,
    /// All up to here was considered; none only in a batch without events.
    pub through: Option<Checkpoint>,
    /// Whether what follows is live: nothing that was committed when it was read comes after it.
    pub caught_up: bool,
}

/// Where the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last event; none of an empty log.
    pub checkpoint: Option<Checkpoint>,
    /// When it was committed.
    pub time: Option<Timestamp>,
}

/// Why the feed does not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The place is not of the log's history: the store was restored to an older state.
    #[error("checkpoint {checkpoint} is not of the store's history: {reason}")]
    Rewound {
        /// The place.
        checkpoint: Checkpoint,
        /// What was found.
        reason: String,
    },
    /// It may go on later.
    #[error("the feed is interrupted: {reason}")]
    Interrupted {
        /// What happened.
        reason: String,
    },
    /// The store is closing: there will be nothing more.
    #[error("the feed has ended: the store is closing")]
    Closed,
    /// It will not go on by itself.
    #[error("the feed cannot go on: {reason}")]
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}

/// A store that can be followed.
pub trait Source: Clone + Send + Sync + 'static {
    /// What follows it.
    type Feed: Feed;

    /// Follows what comes after `after`, from the first event on if there is none.
    ///
    /// # Errors
    /// [`FeedError`]; [`FeedError::Rewound`] if `after` is of a history that was lost.
    fn follow(
        &self,
        after: Option<Checkpoint>,
        interest: Interest,
    ) -> impl Future<Output = Result<Self::Feed, FeedError>> + Send;

    /// Where the log ends now.
    ///
    /// # Errors
    /// [`FeedError`].
    fn head(&self) -> impl Future<Output = Result<Head, FeedError>> + Send;

    /// When the event at `place` was committed, or, if it was removed, the first one after it; none
    /// if there is none.
    ///
    /// # Errors
    /// [`FeedError`]; [`FeedError::Rewound`] if `place` is of a history that was lost.
    fn time_at(
        &self,
        place: Checkpoint,
    ) -> impl Future<Output = Result<Option<Timestamp>, FeedError>> + Send;

    /// Tells who follows the work that events bring about, if anybody does, that `runner` takes in
    /// `batch`, until what this returns is dropped.
    fn follow_work(&self, runner: &str, batch: &Batch) -> Option<Box<dyn Watched>> {
        let _ = (runner, batch);
        None
    }
}

/// A place in the feed that moves.
pub trait Feed: Send + 'static {
    /// The next batch. Waits while there is none; a batch without events comes when the feed has
    /// caught up, and from time to time while nothing is wanted, so that the place is known. May be
    /// dropped while it waits, and called again, without loss.
    ///
    /// # Errors
    /// [`FeedError`].
    fn next(&mut self) -> impl Future<Output = Result<Batch, FeedError>> + Send;
}
