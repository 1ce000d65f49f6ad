//! The store's streams, as a connector needs them for its own state: in process, or over the
//! network.

use std::ops::ControlFlow;

use daybook_client::{
    AppendError as ClientAppendError, CallError, Client, Direction, ReadError, ReadStream,
    StreamFrom,
};
use daybook_model::append::{Append, AppendError};
use daybook_model::{
    EventStore, EventView, ExpectedRevision, NewEvent, RecordedEvent, Revision, StreamName,
};
use futures_util::TryStreamExt as _;

/// Why a stream was not written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamsError {
    /// It is not at the revision that was expected.
    #[error("the stream has changed meanwhile")]
    Changed,
    /// It may have been written or not; the same append again finds out.
    #[error("the outcome is unknown: {reason}")]
    Unknown {
        /// What happened.
        reason: String,
    },
    /// Nothing was done; it may succeed later.
    #[error("{reason}")]
    Unavailable {
        /// What happened.
        reason: String,
    },
    /// Nothing was done; trying again does not help.
    #[error("{reason}")]
    Refused {
        /// Why, and what to do.
        reason: String,
    },
}

/// The streams of a store.
pub trait Streams: Clone + Send + Sync + 'static {
    /// Appends one event; its revision.
    ///
    /// # Errors
    /// [`StreamsError`].
    fn append(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        event: NewEvent,
    ) -> impl Future<Output = Result<Option<Revision>, StreamsError>> + Send;

    /// The last event, if there is any.
    ///
    /// # Errors
    /// [`StreamsError`].
    fn last(
        &self,
        stream: &StreamName,
    ) -> impl Future<Output = Result<Option<RecordedEvent>, StreamsError>> + Send;

    /// Up to `count` events from revision `from` on.
    ///
    /// # Errors
    /// [`StreamsError`].
    fn read(
        &self,
        stream: &StreamName,
        from: Revision,
        count: usize,
    ) -> impl Future<Output = Result<Vec<RecordedEvent>, StreamsError>> + Send;
}

/// Streams of a store in this process.
#[derive(Clone, Debug)]
pub struct OverStore<T>(pub T);

impl<T: EventStore> Streams for OverStore<T> {
    async fn append(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        event: NewEvent,
    ) -> Result<Option<Revision>, StreamsError> {
        let append = Append::to_stream(stream.clone(), expected, [event]);
        match self.0.append(append).await {
            Ok(appended) => Ok(appended.revisions.first().copied().flatten()),
            Err(error) => Err(of_store(error)),
        }
    }

    async fn last(&self, stream: &StreamName) -> Result<Option<RecordedEvent>, StreamsError> {
        let head = self.0.head(stream).await.map_err(unavailable)?;
        let Some(head) = head else { return Ok(None) };
        Ok(self.read(stream, head, 1).await?.pop())
    }

    async fn read(
        &self,
        stream: &StreamName,
        from: Revision,
        count: usize,
    ) -> Result<Vec<RecordedEvent>, StreamsError> {
        let mut events = Vec::new();
        let each = |event: EventView<'_>| {
            events.push(owned(stream, &event));
            if events.len() < count { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        self.0.replay(stream, from, each).await.map_err(unavailable)?;
        Ok(events)
    }
}

fn owned(stream: &StreamName, event: &EventView<'_>) -> RecordedEvent {
    RecordedEvent {
        position: event.position,
        revision: event.revision,
        time: event.time,
        id: event.id,
        stream: stream.clone(),
        event_type: event.event_type.to_owned(),
        content_type: event.content_type,
        tombstone: event.tombstone,
        metadata: event.metadata.to_vec().into(),
        data: event.data.to_vec().into(),
    }
}

fn unavailable(error: impl std::fmt::Display) -> StreamsError {
    StreamsError::Unavailable { reason: error.to_string() }
}

fn of_store(error: AppendError) -> StreamsError {
    let reason = error.to_string();
    match error {
        AppendError::WrongExpectedRevision { .. } => StreamsError::Changed,
        AppendError::Unknown { .. } => StreamsError::Unknown { reason },
        AppendError::Overloaded { .. }
        | AppendError::DiskFull { .. }
        | AppendError::ClockLeapt { .. }
        | AppendError::Closed { .. }
        | AppendError::Read { .. } => StreamsError::Unavailable { reason },
        _ => StreamsError::Refused { reason },
    }
}

/// Streams of a server, over the network.
#[derive(Clone, Debug)]
pub struct OverClient(pub Client);

impl OverClient {
    async fn some(&self, query: ReadStream) -> Result<Vec<RecordedEvent>, StreamsError> {
        let collected = match self.0.read_stream(query).await {
            Ok(events) => events.try_collect::<Vec<_>>().await,
            Err(error) => Err(error),
        };
        match collected {
            Ok(events) => Ok(events.into_iter().filter_map(|resolved| resolved.event).collect()),
            Err(ReadError::StreamNotFound { .. }) => Ok(Vec::new()),
            Err(ReadError::Call(error)) => Err(of_call(&error)),
            Err(error) => Err(StreamsError::Refused { reason: error.to_string() }),
        }
    }
}

impl Streams for OverClient {
    async fn append(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        event: NewEvent,
    ) -> Result<Option<Revision>, StreamsError> {
        match self.0.append(stream, expected, vec![event]).await {
            Ok(appended) => Ok(appended.revision),
            Err(ClientAppendError::WrongExpectedRevision { .. }) => Err(StreamsError::Changed),
            Err(ClientAppendError::Unknown { reason }) => Err(StreamsError::Unknown { reason }),
            Err(ClientAppendError::Call(error)) => Err(of_call(&error)),
            Err(error) => Err(StreamsError::Refused { reason: error.to_string() }),
        }
    }

    async fn last(&self, stream: &StreamName) -> Result<Option<RecordedEvent>, StreamsError> {
        let query = ReadStream {
            from: StreamFrom::End,
            direction: Direction::Backwards,
            count: 1,
            ..ReadStream::new(stream.clone())
        };
        Ok(self.some(query).await?.pop())
    }

    async fn read(
        &self,
        stream: &StreamName,
        from: Revision,
        count: usize,
    ) -> Result<Vec<RecordedEvent>, StreamsError> {
        let query = ReadStream {
            from: StreamFrom::Revision(from),
            count: count as u64,
            ..ReadStream::new(stream.clone())
        };
        self.some(query).await
    }
}

fn of_call(error: &CallError) -> StreamsError {
    let reason = error.to_string();
    if error.is_transient() {
        StreamsError::Unavailable { reason }
    } else {
        StreamsError::Refused { reason }
    }
}
