//! Appending for many callers: what they append to one stream meanwhile goes to the server as one
//! append, and each gets its own result.
//!
//! ```text
//!   append ──> room ──> the stream's lane ──> batch ──> one append ──> each caller's revision
//!              (bytes)   in order of arrival    │
//!                                               └─ refused: taken apart, and sent in order
//! ```
//!
//! A lane has at most one batch on its way, so that a stream's appends keep their order. The first
//! caller of an idle lane waits a moment for company ([`BulkOptions::linger`]); while a batch is on
//! its way the next one gathers by itself. Different streams do not wait for each other: their
//! batches share one pipelined call, an [`Appender`].
//!
//! How each question is answered:
//! - *Whose fault is it?* A batch is refused as a whole. It is then taken apart, if need be until
//!   each part is sent alone: a caller is refused only for what is wrong with its own part. If a batch's outcome
//!   is unknown, or the server cannot be reached, that is the answer of exactly its callers.
//! - *What may share a batch?* A part that expects nothing joins any batch. One that expects a
//!   revision joins only if it is certain to hold there when the batch is taken. All others begin a
//!   batch of their own.
//! - *What about a retry?* A server that expects nothing of a stream recognises an append by its
//!   first event's id. Behind somebody else's events a retry would be taken for new, so it must be
//!   sent with [`BulkWriter::retry`], which shares with nobody.
//!
//! INVARIANT: no lock is held across an await; a part is answered exactly once; what waits is
//! bounded by [`WAITING_SIZE_MAX`].

mod lane;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use daybook_model::limits::APPEND_EVENTS_MAX;
use daybook_model::{ExpectedRevision, NewEvent, Revision, StreamName, SystemTimer, Timer};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::append::{Appended, check, message_size};
use crate::appender::{Appender, WINDOW_DEFAULT};
use crate::connection::Client;
use crate::error::{AppendError, CallError};
use lane::{Lane, Limits, Part, Sharing};

/// Events of one batch unless told otherwise. More make the first caller wait for the last.
pub const BATCH_EVENTS_DEFAULT: usize = 500;
/// Bytes of one batch unless told otherwise: one message, which holds up nothing behind it.
pub const BATCH_SIZE_DEFAULT: usize = 1024 * 1024;
/// How long an idle lane's first caller waits for company, unless told otherwise: about as long as
/// a disk takes to sync.
pub const LINGER_DEFAULT: Duration = Duration::from_millis(2);
/// Bytes of all parts that wait or are on their way. Who comes then waits until there is room.
pub const WAITING_SIZE_MAX: usize = 64 * 1024 * 1024;
/// Bytes that a part counts at least, so that their number is bounded, too.
const PART_SIZE_MIN: usize = 1024;

const _: () = assert!(WAITING_SIZE_MAX / PART_SIZE_MIN <= u32::MAX as usize);

/// How a [`BulkWriter`] gathers.
#[derive(Clone, Debug)]
pub struct BulkOptions {
    /// Events of one batch, unless one caller alone has more; at most
    /// [`daybook_model::limits::APPEND_EVENTS_MAX`].
    pub events_max: usize,
    /// Bytes of one batch, unless one caller alone has more.
    pub size_max: usize,
    /// How long an idle lane's first caller waits for company; zero for not at all.
    pub linger: Duration,
    /// Batches that may be on their way at once, of all streams together.
    pub window: NonZeroU32,
    /// What `linger` is measured with.
    pub timer: Arc<dyn Timer>,
}

impl Default for BulkOptions {
    fn default() -> BulkOptions {
        BulkOptions {
            events_max: BATCH_EVENTS_DEFAULT,
            size_max: BATCH_SIZE_DEFAULT,
            linger: LINGER_DEFAULT,
            window: WINDOW_DEFAULT,
            timer: Arc::new(SystemTimer),
        }
    }
}

/// Appends for many callers. A clone is another handle of the same.
#[derive(Clone, Debug)]
pub struct BulkWriter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    appender: Appender,
    options: BulkOptions,
    /// Room for parts, in units of [`PART_SIZE_MIN`].
    room: Arc<Semaphore>,
    /// The streams that somebody waits for. Each has one task that drives it.
    lanes: Mutex<BTreeMap<StreamName, Lane>>,
}

impl Client {
    /// A writer that gathers the appends of many callers.
    ///
    /// ```no_run
    /// # use daybook_client::{BulkOptions, Client, ExpectedRevision, NewEvent, StreamName};
    /// # use futures_util::future::try_join_all;
    /// # async fn example(client: Client, events: Vec<NewEvent>)
    /// # -> Result<(), Box<dyn std::error::Error>> {
    /// let writer = client.bulk_writer(BulkOptions::default());
    /// let stream = StreamName::new("clicks-2024")?;
    /// let appends = events.into_iter().map(|event| {
    ///     writer.append(&stream, ExpectedRevision::Any, vec![event])
    /// });
    /// for appended in try_join_all(appends).await? {
    ///     println!("at revision {:?}", appended.revision);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn bulk_writer(&self, options: BulkOptions) -> BulkWriter {
        let inner = Inner {
            appender: self.appender(options.window),
            options,
            room: Arc::new(Semaphore::new(WAITING_SIZE_MAX / PART_SIZE_MIN)),
            lanes: Mutex::default(),
        };
        BulkWriter { inner: Arc::new(inner) }
    }
}

impl BulkWriter {
    /// Appends `events`, that were never sent before, to `stream` if it is at the `expected`
    /// revision; all of them or none. The answer's revision is that of the last of `events`; its
    /// checkpoint is there or a little after, because others' events may follow in the same append.
    ///
    /// If it is dropped while it waits, nothing is sent; after that, its result is lost.
    ///
    /// # Errors
    /// As [`Client::append`]. After [`AppendError::Unknown`] go on with [`BulkWriter::retry`].
    pub async fn append(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        self.enter(stream, expected, events, Sharing::Gathered).await
    }

    /// Appends `events` that may have been written before: sent in turn, but shared with nobody, so
    /// that the server recognises their ids.
    ///
    /// # Errors
    /// As [`Client::append`].
    pub async fn retry(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        self.enter(stream, expected, events, Sharing::Alone).await
    }

    /// Puts a part into its lane, and waits for its answer.
    async fn enter(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        events: Vec<NewEvent>,
        sharing: Sharing,
    ) -> Result<Appended, AppendError> {
        check(&events)?;
        let size: usize = events.iter().map(message_size).sum();
        // A part that is larger than all room takes all of it.
        let units = size.div_ceil(PART_SIZE_MIN).clamp(1, WAITING_SIZE_MAX / PART_SIZE_MIN);
        let room = Arc::clone(&self.inner.room);
        let Ok(room) = room.acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX)).await
        else {
            unreachable!("the room is never closed");
        };
        let (answer, result) = oneshot::channel();
        let part = Part { expected, events, size, sharing, answer, _room: room };
        self.inner.put(stream, part);
        result.await.unwrap_or_else(|_| {
            let reason = "the runtime was stopped before the answer came".to_owned();
            Err(AppendError::Unknown { reason })
        })
    }
}

impl Inner {
    fn limits(&self) -> Limits {
        Limits {
            events: self.options.events_max.min(APPEND_EVENTS_MAX),
            size: self.options.size_max,
        }
    }

    /// Adds `part` to its lane, which is begun if there is none.
    fn put(self: &Arc<Inner>, stream: &StreamName, part: Part) {
        let limits = self.limits();
        let mut lanes = self.lanes.lock();
        if let Some(lane) = lanes.get_mut(stream) {
            lane.put(part, &limits);
            return;
        }
        let mut lane = Lane::default();
        let full = Arc::clone(&lane.full);
        lane.put(part, &limits);
        lanes.insert(stream.clone(), lane);
        drop(lanes);
        tokio::spawn(Arc::clone(self).drive(stream.clone(), full));
    }

    /// Sends what waits in a lane until nothing does.
    async fn drive(self: Arc<Inner>, stream: StreamName, full: Arc<Notify>) {
        if !self.options.linger.is_zero() {
            tokio::select! {
                () = self.options.timer.sleep(self.options.linger) => {}
                () = full.notified() => {}
            }
        }
        while let Some(batch) = self.next(&stream) {
            self.send(&stream, batch).await;
        }
    }

    /// The next batch of a lane. If there is none, the lane is gone.
    fn next(&self, stream: &StreamName) -> Option<Vec<Part>> {
        let mut lanes = self.lanes.lock();
        let batch = lanes.get_mut(stream).map(|lane| lane.cut(&self.limits()));
        let batch = batch.filter(|batch| !batch.is_empty());
        if batch.is_none() {
            lanes.remove(stream);
        }
        batch
    }

    /// Appends a batch, and answers each of its parts.
    async fn send(&self, stream: &StreamName, batch: Vec<Part>) {
        let Some(refused) = self.send_together(stream, batch).await else { return };
        // What expects something is asked alone, and so is the first, which may have been known;
        // the others need not suffer for them.
        let mut parts = refused.into_iter().peekable();
        let mut alone: Vec<Part> = parts.next().into_iter().collect();
        while !alone.is_empty() || parts.peek().is_some() {
            while let Some(part) = parts.next_if(|part| !part.is_free()) {
                alone.push(part);
            }
            self.send_each(stream, std::mem::take(&mut alone)).await;
            let mut free = Vec::new();
            while let Some(part) = parts.next_if(Part::is_free) {
                free.push(part);
            }
            if let Some(refused) = self.send_together(stream, free).await {
                self.send_each(stream, refused).await;
            }
        }
    }

    /// Appends a batch as one. Gives it back if it was refused for what need not concern all of its
    /// parts, of which nothing was written then; answers them otherwise.
    async fn send_together(&self, stream: &StreamName, batch: Vec<Part>) -> Option<Vec<Part>> {
        let expected = batch.first()?.expected;
        let events = batch.iter().flat_map(|part| part.events.iter().cloned()).collect();
        match self.appender.append(stream, expected, events).await {
            Ok(appended) => answer_each(batch, appended),
            Err(error) if batch.len() > 1 && may_be_another_s(&error) => return Some(batch),
            Err(error) => {
                for part in batch {
                    // Whoever does not wait any more does not hear.
                    let _ = part.answer.send(Err(error.clone()));
                }
            }
        }
        None
    }

    /// Appends each part by itself, in order.
    async fn send_each(&self, stream: &StreamName, parts: Vec<Part>) {
        let mut sent = Vec::with_capacity(parts.len());
        for Part { expected, events, answer, _room: room, .. } in parts {
            match self.appender.send(stream, expected, events).await {
                Ok(pending) => sent.push((pending, answer, room)),
                Err(error) => {
                    let _ = answer.send(Err(error));
                }
            }
        }
        for (pending, answer, _room) in sent {
            let _ = answer.send(pending.await);
        }
    }
}

/// Answers the parts of a batch that was appended: its last event is at `appended`'s revision.
fn answer_each(batch: Vec<Part>, appended: Appended) {
    let mut after: u64 = 0;
    for part in batch.into_iter().rev() {
        let revision = appended.revision.and_then(|last| last.0.checked_sub(after));
        after += part.events.len() as u64;
        let _ = part.answer.send(Ok(Appended { revision: revision.map(Revision), ..appended }));
    }
}

/// Whether a batch was refused for a reason that need not concern all of its parts.
fn may_be_another_s(error: &AppendError) -> bool {
    match error {
        AppendError::WrongExpectedRevision { .. }
        | AppendError::ChecksFailed { .. }
        | AppendError::StreamDeleted { .. }
        | AppendError::InvalidEvent(_)
        | AppendError::TooLarge { .. }
        | AppendError::Call(CallError::Invalid { .. }) => true,
        AppendError::Unknown { .. } | AppendError::Call(_) => false,
    }
}
