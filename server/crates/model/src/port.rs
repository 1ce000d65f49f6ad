//! The ports through which aggregates meet a store: in process, over a network, or in a simulation.

use std::ops::ControlFlow;

use uuid::Uuid;

use crate::append::{Append, AppendError, Appended};
use crate::{EventView, Revision, Snapshot, StreamName};

/// What was asked for could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {what}: {reason}")]
pub struct ReadFailed {
    /// A stream, or a category.
    pub what: String,
    /// Why, and what to do.
    pub reason: String,
}

/// An event store, as aggregates need it. Everything it shows is durable.
pub trait EventStore: Clone + Send + Sync + 'static {
    /// Appends atomically; answers when it is durable.
    ///
    /// # Errors
    /// [`AppendError`]; only [`AppendError::Unknown`] leaves open whether it happened.
    fn append(&self, append: Append) -> impl Future<Output = Result<Appended, AppendError>> + Send;

    /// The revision of the last event of `stream`, if it has any.
    ///
    /// # Errors
    /// [`ReadFailed`] names the stream and the reason.
    fn head(
        &self,
        stream: &StreamName,
    ) -> impl Future<Output = Result<Option<Revision>, ReadFailed>> + Send;

    /// Gives the events of `stream` from revision `from` on to `each`, in order, until there are
    /// no more or it breaks. A stream that does not exist has no events.
    ///
    /// # Errors
    /// [`ReadFailed`] names the stream and the reason; `each` may have seen some of the events.
    fn replay<F>(
        &self,
        stream: &StreamName,
        from: Revision,
        each: F,
    ) -> impl Future<Output = Result<(), ReadFailed>> + Send
    where
        F: FnMut(EventView<'_>) -> ControlFlow<()> + Send;

    /// The revision of the first event of `stream` whose metadata has `transaction` as its
    /// `$transactionId`.
    ///
    /// # Errors
    /// [`ReadFailed`] names the stream and the reason.
    fn transaction(
        &self,
        stream: &StreamName,
        transaction: Uuid,
    ) -> impl Future<Output = Result<Option<Revision>, ReadFailed>> + Send;

    /// The newest snapshot of `stream` at or before `at_or_before`, if one is kept.
    fn snapshot(
        &self,
        stream: &StreamName,
        at_or_before: Revision,
    ) -> impl Future<Output = Option<Snapshot>> + Send;

    /// Keeps a snapshot, some time soon, if it can: nothing depends on it.
    fn put_snapshot(&self, stream: &StreamName, snapshot: Snapshot);
}

/// An event store that also lists the events of a category in the order of the log, as a process
/// needs that must find again what it left unfinished. Apart from [`EventStore`], because the
/// protocol of the network has no such read: whoever is outside follows a subscription instead.
pub trait CategoryStore: EventStore {
    /// Gives the events of all streams of `category` to `each`, in the order of the log, from the
    /// category's `from`-th on, each with its number in the category.
    ///
    /// # Errors
    /// [`ReadFailed`] names the category and the reason; `each` may have seen some of the events.
    fn replay_category<F>(
        &self,
        category: &str,
        from: u64,
        each: F,
    ) -> impl Future<Output = Result<(), ReadFailed>> + Send
    where
        F: FnMut(u64, EventView<'_>) -> ControlFlow<()> + Send;
}
