//! A server as the event store of aggregates: [`daybook_model::Repository`] over the network.
//!
//! ```text
//!   Repository ── append ─────────> Append, AppendRecords      one stream, or several
//!              ── head, replay ───> Read
//!              ── transaction ────> daybook.v1.Transactions    else the stream is read for it
//!              ── snapshot ───────> daybook.v1.Snapshots       else there are none
//! ```
//!
//! The last two services are Daybook's own. A server without them (KurrentDB) is right all the
//! same, and slower: every command on an aggregate then reads its whole stream, to learn whether it
//! was done before. It is asked for each service once. Its positions are places in its files, and
//! are not told as an event's number in the log.
//!
//! INVARIANT: an append is sent once. What to do about [`AppendError::Unknown`] is decided by who
//! gave the command: the same task again tells.

use std::ops::ControlFlow;
use std::sync::{Arc, OnceLock};

use daybook_model::append::{Append, AppendError, Appended, FoundState, StreamCondition};
use daybook_model::{
    Context, EventStore, EventView, ExpectedRevision, NewEvent, ReadFailed, Revision, Snapshot,
    StreamName,
};
use daybook_wire::proto::transactions as proto;
use daybook_wire::proto::transactions::transactions_client::TransactionsClient;
use futures_util::TryStreamExt as _;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::connection::Client;
use crate::error::{self, CallError, ReadError};
use crate::read::{Direction, ReadStream, StreamFrom};
use crate::snapshots::Snapshots;

/// Snapshots that may be on their way at once. More are dropped: whoever misses one replays its
/// stream and puts it again.
const SNAPSHOTS_WAITING_MAX: usize = 64;
/// The metadata key of a command's id.
const TRANSACTION_KEY: &str = "$transactionId";

/// A server, as aggregates need it. A clone is another handle.
#[derive(Clone, Debug)]
pub struct NetworkStore {
    client: Client,
    snapshots: Snapshots,
    /// Places for snapshots on their way.
    waiting: Arc<Semaphore>,
    /// Whether the server looks up transactions, once it has said so. If it does it is a Daybook,
    /// whose positions count events.
    transactions: Arc<OnceLock<bool>>,
}

impl Client {
    /// This client's server as a store of aggregates.
    ///
    /// ```no_run
    /// use std::sync::Arc;
    /// use daybook_client::{Aggregate, Client, NetworkStore, Repository, RepositoryOptions};
    /// use daybook_model::{SystemClock, SystemEntropy, SystemTimer};
    ///
    /// /// The aggregates of kind `A`, wherever they live.
    /// fn aggregates<A: Aggregate>(client: &Client) -> Repository<A, NetworkStore> {
    ///     let (clock, timer) = (Arc::new(SystemClock::new()), Arc::new(SystemTimer));
    ///     let options = RepositoryOptions::default();
    ///     Repository::new(client.store(), clock, timer, Arc::new(SystemEntropy), options)
    /// }
    /// ```
    #[must_use]
    pub fn store(&self) -> NetworkStore {
        NetworkStore {
            client: self.clone(),
            snapshots: self.snapshots(),
            waiting: Arc::new(Semaphore::new(SNAPSHOTS_WAITING_MAX)),
            transactions: Arc::default(),
        }
    }
}

impl NetworkStore {
    /// The client beneath.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Asks the server's index; none if it has no such service.
    async fn look_up(
        &self,
        stream: &StreamName,
        transaction: Uuid,
    ) -> Result<Option<Option<Revision>>, CallError> {
        if self.transactions.get() == Some(&false) {
            return Ok(None);
        }
        let request = proto::FindTransactionRequest {
            stream: stream.as_str().to_owned(),
            transaction: transaction.to_string(),
        };
        let mut calls = TransactionsClient::new(self.client.channel());
        match calls.find(self.client.call(request)).await {
            Ok(answer) => {
                let _ = self.transactions.set(true);
                Ok(Some(answer.into_inner().revision.map(Revision)))
            }
            Err(status) => match self.client.call_error(&status) {
                CallError::Unsupported { reason } => {
                    // Said before by another call, at most.
                    let _ = self.transactions.set(false);
                    let server = self.client.server();
                    tracing::warn!(
                        server,
                        reason,
                        "the server looks up no transactions: streams are read for them"
                    );
                    Ok(None)
                }
                error => Err(error),
            },
        }
    }

    /// Whether positions of the server count events, so that one can be told from another. Asked
    /// once; a server that does not answer is asked again.
    async fn counts_events(&self, stream: &StreamName) -> bool {
        if self.transactions.get().is_none() {
            // Of no transaction: what it answers does not matter, but that it does.
            let _ = self.look_up(stream, Uuid::nil()).await;
        }
        self.transactions.get() == Some(&true)
    }

    /// Appends to several streams, if the server can. Of a stream that is only checked the revision
    /// is told if it was expected.
    async fn append_to_several(&self, append: Append) -> Result<Appended, AppendError> {
        let streams = append.streams.clone();
        let first = append.events.first();
        let trace = first.and_then(|(_, event)| Context::of(&event.metadata).trace);
        let appended = self.client.append_to_streams_traced(append, trace.as_ref()).await;
        let appended = appended.map_err(|error| refused_of_several(error, &streams))?;
        let revision = |condition: &StreamCondition| {
            let checked = match condition.expected {
                ExpectedRevision::Exact(revision) => Some(revision),
                _ => None,
            };
            appended.revisions.get(&condition.stream).copied().or(checked)
        };
        let position = match streams.first() {
            Some(first) if self.counts_events(&first.stream).await => {
                Some(appended.checkpoint.position())
            }
            _ => None,
        };
        Ok(Appended { revisions: streams.iter().map(revision).collect(), position })
    }

    /// Reads `stream` until the first event of `transaction`.
    async fn search(
        &self,
        stream: &StreamName,
        transaction: Uuid,
    ) -> Result<Option<Revision>, ReadFailed> {
        let mut found = None;
        let each = |event: EventView<'_>| {
            if names(event.metadata, transaction) {
                found = Some(event.revision);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        self.replay(stream, Revision::FIRST, each).await?;
        Ok(found)
    }
}

/// Whether `metadata` has `transaction` as its transaction.
fn names(metadata: &[u8], transaction: Uuid) -> bool {
    #[derive(serde::Deserialize)]
    struct Metadata<'a> {
        #[serde(rename = "$transactionId", borrow)]
        transaction: Option<std::borrow::Cow<'a, str>>,
    }
    let key = TRANSACTION_KEY.as_bytes();
    metadata.windows(key.len()).any(|part| part == key)
        && serde_json::from_slice::<Metadata<'_>>(metadata).is_ok_and(|metadata| {
            let id = metadata.transaction.and_then(|id| Uuid::try_parse(&id).ok());
            id == Some(transaction)
        })
}

/// The one stream of `append`, what is expected of it, and its events.
fn single(append: Append) -> Result<(StreamName, ExpectedRevision, Vec<NewEvent>), AppendError> {
    let Append { mut streams, events } = append;
    let Some(condition) = streams.pop() else {
        return Err(AppendError::Malformed { reason: "it names no stream" });
    };
    if events.iter().any(|(index, _)| *index != 0) {
        return Err(AppendError::Malformed { reason: "an event is of a stream it does not name" });
    }
    let events = events.into_iter().map(|(_, event)| event).collect();
    Ok((condition.stream, condition.expected, events))
}

/// An error of an append to several `streams` in the words of the port: of checks that fail, the
/// first.
fn refused_of_several(error: error::AppendError, streams: &[StreamCondition]) -> AppendError {
    use error::AppendError as Network;
    let first = match error {
        Network::ChecksFailed { failed } => failed.into_iter().next(),
        Network::Call(CallError::Unsupported { .. }) => {
            let reason = "the server appends to exactly one stream at a time; leave out what goes \
                          with a command, and react to its events instead";
            return AppendError::Malformed { reason };
        }
        other => {
            let reserved = streams.iter().find(|condition| condition.stream.is_reserved());
            let named = reserved.or(streams.first());
            return match named {
                Some(named) => refused(other, &named.stream, named.expected),
                None => AppendError::Refused { reason: other.to_string() },
            };
        }
    };
    let Some((check, condition)) =
        first.and_then(|check| streams.get(check.index).map(|found| (check, found)))
    else {
        return AppendError::Refused { reason: "a check that it does not name fails".to_owned() };
    };
    let (index, stream, expected) = (check.index, check.stream, condition.expected);
    match check.found {
        FoundState::Tombstoned => AppendError::StreamDeleted { index, stream, tombstoned: true },
        FoundState::SoftDeleted if expected == ExpectedRevision::StreamExists => {
            AppendError::StreamDeleted { index, stream, tombstoned: false }
        }
        FoundState::At(revision) => {
            AppendError::WrongExpectedRevision { index, stream, expected, actual: Some(revision) }
        }
        FoundState::NoStream | FoundState::SoftDeleted => {
            AppendError::WrongExpectedRevision { index, stream, expected, actual: None }
        }
    }
}

/// An error of this client in the words of the port.
fn refused(error: error::AppendError, of: &StreamName, expected: ExpectedRevision) -> AppendError {
    use error::AppendError as Network;
    match error {
        Network::WrongExpectedRevision { stream, expected, actual } => {
            AppendError::WrongExpectedRevision { index: 0, stream, expected, actual }
        }
        Network::StreamDeleted { stream } => {
            let tombstoned = expected != ExpectedRevision::StreamExists;
            AppendError::StreamDeleted { index: 0, stream, tombstoned }
        }
        Network::InvalidEvent(invalid) => AppendError::InvalidEvent(invalid),
        Network::Unknown { reason } => AppendError::Unknown { reason },
        Network::Call(CallError::AccessDenied { .. }) if of.is_reserved() => {
            AppendError::Reserved { stream: of.clone() }
        }
        Network::Call(call) if call.is_transient() => {
            AppendError::Closed { reason: call.to_string() }
        }
        other => AppendError::Refused { reason: other.to_string() },
    }
}

fn failed(stream: &StreamName) -> impl FnOnce(ReadError) -> ReadFailed {
    let what = format!("stream '{stream}'");
    move |error| ReadFailed { what, reason: error.to_string() }
}

impl EventStore for NetworkStore {
    /// The call is a part of the trace that its first event names.
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        if append.streams.len() > 1 {
            return self.append_to_several(append).await;
        }
        let (stream, expected, events) = single(append)?;
        let trace = events.first().and_then(|event| Context::of(&event.metadata).trace);
        let appended = self.client.append_traced(&stream, expected, events, trace.as_ref()).await;
        let appended = appended.map_err(|error| refused(error, &stream, expected))?;
        let position = match appended.checkpoint {
            Some(checkpoint) if self.counts_events(&stream).await => Some(checkpoint.position()),
            _ => None,
        };
        Ok(Appended { revisions: std::iter::once(appended.revision).collect(), position })
    }

    async fn head(&self, stream: &StreamName) -> Result<Option<Revision>, ReadFailed> {
        let query = ReadStream {
            from: StreamFrom::End,
            direction: Direction::Backwards,
            count: 1,
            ..ReadStream::new(stream.clone())
        };
        let mut events = self.client.read_stream(query).await.map_err(failed(stream))?;
        match events.try_next().await {
            Ok(last) => Ok(last.and_then(|resolved| resolved.event).map(|event| event.revision)),
            Err(ReadError::StreamNotFound { .. }) => Ok(None),
            Err(error) => Err(failed(stream)(error)),
        }
    }

    /// A soft-deleted stream has no events; one with a tombstone cannot be read.
    async fn replay<F>(
        &self,
        stream: &StreamName,
        from: Revision,
        mut each: F,
    ) -> Result<(), ReadFailed>
    where
        F: FnMut(EventView<'_>) -> ControlFlow<()> + Send,
    {
        let from = StreamFrom::Revision(from);
        let query = ReadStream { from, ..ReadStream::new(stream.clone()) };
        let mut events = self.client.read_stream(query).await.map_err(failed(stream))?;
        loop {
            match events.try_next().await {
                Ok(None) | Err(ReadError::StreamNotFound { .. }) => return Ok(()),
                Ok(Some(resolved)) => {
                    let Some(event) = resolved.event else { continue };
                    if each(event.view()).is_break() {
                        return Ok(());
                    }
                }
                Err(error) => return Err(failed(stream)(error)),
            }
        }
    }

    async fn transaction(
        &self,
        stream: &StreamName,
        transaction: Uuid,
    ) -> Result<Option<Revision>, ReadFailed> {
        match self.look_up(stream, transaction).await {
            Ok(Some(found)) => Ok(found),
            Ok(None) => self.search(stream, transaction).await,
            Err(error) => Err(failed(stream)(error.into())),
        }
    }

    async fn snapshot(&self, stream: &StreamName, at_or_before: Revision) -> Option<Snapshot> {
        match self.snapshots.latest(stream, Some(at_or_before)).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(%stream, %error, "no snapshot: the stream is replayed");
                None
            }
        }
    }

    fn put_snapshot(&self, stream: &StreamName, snapshot: Snapshot) {
        let Ok(place) = self.waiting.clone().try_acquire_owned() else { return };
        // Outside of a runtime nothing can be sent; a snapshot may be lost.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (snapshots, stream) = (self.snapshots.clone(), stream.clone());
        runtime.spawn(async move {
            if let Err(error) = snapshots.put(&stream, &snapshot).await {
                tracing::debug!(%stream, %error, "a snapshot was not kept");
            }
            drop(place);
        });
    }
}
