//! For tests: an event store in memory that fails on demand, and a time that only a test moves.
//!
//! INVARIANT: keeps every rule of the port (atomic, expected revisions, an append whose ids are
//! there already is answered and not done, all that is shown stays),
//! so that what passes here may be blamed on the real store only if that one breaks a rule.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;
use tokio::sync::watch;
use uuid::Uuid;

use crate::append::{Append, AppendError, Appended};
use crate::{
    CategoryStore, Clock, Entropy, EventStore, EventView, ExpectedRevision, Position, ReadFailed,
    RecordedEvent, Revision, Snapshot, StreamName, Timer, Timestamp,
};

/// What becomes of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is done and answered.
    Done,
    /// It is refused, and not done.
    Refused(AppendError),
    /// It is done, and answered with [`AppendError::Unknown`].
    Lost,
    /// It is not done, and answered with [`AppendError::Unknown`].
    Dropped,
    /// It is not done, and never answered: what waits for it can only be dropped.
    CrashBefore,
    /// It is done, and never answered.
    CrashAfter,
}

type Judge = Box<dyn FnMut(&Append) -> Fate + Send>;

/// The store. A clone is another handle to the same.
#[derive(Clone)]
pub struct MemoryStore {
    inner: Arc<Mutex<Inner>>,
    /// Whether appends are let through.
    open: Arc<watch::Sender<bool>>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Inner {
    log: Vec<RecordedEvent>,
    streams: BTreeMap<StreamName, Vec<usize>>,
    snapshots: BTreeMap<StreamName, Snapshot>,
    judge: Option<Judge>,
    appends: usize,
}

impl MemoryStore {
    /// An empty store whose events are stamped by `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> MemoryStore {
        MemoryStore { inner: Arc::default(), open: Arc::new(watch::channel(true).0), clock }
    }

    /// Lets `judge` say what becomes of each append from now on.
    pub fn judge(&self, judge: impl FnMut(&Append) -> Fate + Send + 'static) {
        self.inner.lock().judge = Some(Box::new(judge));
    }

    /// Lets every append be done again.
    pub fn pardon(&self) {
        self.inner.lock().judge = None;
    }

    /// Makes appends wait, or lets all that wait through.
    pub fn hold(&self, hold: bool) {
        self.open.send_replace(!hold);
    }

    /// All events, in the order of the log.
    #[must_use]
    pub fn log(&self) -> Vec<RecordedEvent> {
        self.inner.lock().log.clone()
    }

    /// How many appends were made.
    #[must_use]
    pub fn appends(&self) -> usize {
        self.inner.lock().appends
    }

    /// The snapshot that was put last.
    #[must_use]
    pub fn last_snapshot(&self, stream: &StreamName) -> Option<Snapshot> {
        self.inner.lock().snapshots.get(stream).cloned()
    }
}

impl Inner {
    fn head(&self, stream: &StreamName) -> Option<Revision> {
        let len = self.streams.get(stream)?.len();
        len.checked_sub(1).map(|last| Revision(last as u64))
    }

    /// The answer to an append that was done before: the ids of its events are those that follow
    /// the revisions it expects.
    fn duplicate(&self, append: &Append) -> Option<Appended> {
        let mut next = Vec::with_capacity(append.streams.len());
        for condition in &append.streams {
            next.push(match condition.expected {
                ExpectedRevision::NoStream => 0,
                ExpectedRevision::Exact(revision) => revision.0 as usize + 1,
                _ => return None,
            });
        }
        let mut last = None;
        for (index, event) in &append.events {
            let own = self.streams.get(&append.streams[*index as usize].stream)?;
            let at = *own.get(next[*index as usize])?;
            if self.log[at].id != event.id {
                return None;
            }
            next[*index as usize] += 1;
            last = Some(self.log[at].position);
        }
        let revisions = next.iter().map(|next| next.checked_sub(1).map(|at| Revision(at as u64)));
        last.map(|last| Appended { revisions: revisions.collect(), position: Some(last) })
    }

    fn check(&self, append: &Append) -> Result<(), AppendError> {
        for (index, condition) in append.streams.iter().enumerate() {
            let stream = condition.stream.clone();
            if append.streams.iter().filter(|other| other.stream == stream).count() > 1 {
                return Err(AppendError::Malformed { reason: "a stream is named twice" });
            }
            let (actual, expected) = (self.head(&stream), condition.expected);
            let holds = match expected {
                ExpectedRevision::Any => true,
                ExpectedRevision::NoStream => actual.is_none(),
                ExpectedRevision::StreamExists => actual.is_some(),
                ExpectedRevision::Exact(revision) => actual == Some(revision),
            };
            if !holds {
                return Err(AppendError::WrongExpectedRevision { index, stream, expected, actual });
            }
        }
        Ok(())
    }

    fn write(&mut self, append: &Append, time: Timestamp) -> Appended {
        for (index, event) in &append.events {
            let stream = append.streams[*index as usize].stream.clone();
            let at = self.log.len();
            let own = self.streams.entry(stream.clone()).or_default();
            let revision = Revision(own.len() as u64);
            own.push(at);
            self.log.push(RecordedEvent {
                position: Position(at as u64),
                revision,
                time,
                id: event.id,
                stream,
                event_type: event.event_type.clone(),
                content_type: event.content_type,
                tombstone: false,
                metadata: event.metadata.clone(),
                data: event.data.clone(),
            });
        }
        self.appends += 1;
        let revisions: SmallVec<_> =
            append.streams.iter().map(|condition| self.head(&condition.stream)).collect();
        let position = self.log.len().checked_sub(1).map(|last| Position(last as u64));
        Appended { revisions, position: position.filter(|_| !append.events.is_empty()) }
    }
}

fn unknown() -> AppendError {
    AppendError::Unknown { reason: "a test lost it".to_owned() }
}

impl EventStore for MemoryStore {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let mut open = self.open.subscribe();
        // The sender lives as long as `self`.
        let _ = open.wait_for(|open| *open).await;
        let answered = {
            let mut inner = self.inner.lock();
            let fate = match inner.judge.as_mut() {
                Some(judge) => judge(&append),
                None => Fate::Done,
            };
            let now = self.clock.now();
            let mut write = || match inner.duplicate(&append) {
                Some(appended) => Ok(appended),
                None => inner.check(&append).map(|()| inner.write(&append, now)),
            };
            match fate {
                Fate::Done => Some(write()),
                Fate::Refused(error) => Some(Err(error)),
                Fate::Lost => Some(write().and(Err(unknown()))),
                Fate::Dropped => Some(Err(unknown())),
                Fate::CrashBefore => None,
                Fate::CrashAfter => {
                    let _ = write();
                    None
                }
            }
        };
        match answered {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    async fn head(&self, stream: &StreamName) -> Result<Option<Revision>, ReadFailed> {
        Ok(self.inner.lock().head(stream))
    }

    async fn replay<F>(
        &self,
        stream: &StreamName,
        from: Revision,
        mut each: F,
    ) -> Result<(), ReadFailed>
    where
        F: FnMut(EventView<'_>) -> ControlFlow<()> + Send,
    {
        let inner = self.inner.lock();
        let own = inner.streams.get(stream).map(Vec::as_slice).unwrap_or_default();
        for at in own.iter().skip(usize::try_from(from.0).unwrap_or(usize::MAX)) {
            if each(inner.log[*at].view()).is_break() {
                break;
            }
        }
        Ok(())
    }

    async fn transaction(
        &self,
        stream: &StreamName,
        transaction: Uuid,
    ) -> Result<Option<Revision>, ReadFailed> {
        #[derive(serde::Deserialize)]
        struct Metadata {
            #[serde(rename = "$transactionId")]
            transaction: Option<Uuid>,
        }
        let inner = self.inner.lock();
        let own = inner.streams.get(stream).map(Vec::as_slice).unwrap_or_default();
        let mut own = own.iter().map(|at| &inner.log[*at]);
        let found = own.find(|event| {
            let metadata = serde_json::from_slice::<Metadata>(&event.metadata);
            metadata.is_ok_and(|metadata| metadata.transaction == Some(transaction))
        });
        Ok(found.map(|event| event.revision))
    }

    async fn snapshot(&self, stream: &StreamName, at_or_before: Revision) -> Option<Snapshot> {
        self.last_snapshot(stream).filter(|snapshot| snapshot.revision <= at_or_before)
    }

    fn put_snapshot(&self, stream: &StreamName, snapshot: Snapshot) {
        self.inner.lock().snapshots.insert(stream.clone(), snapshot);
    }
}

impl CategoryStore for MemoryStore {
    async fn replay_category<F>(
        &self,
        category: &str,
        from: u64,
        mut each: F,
    ) -> Result<(), ReadFailed>
    where
        F: FnMut(u64, EventView<'_>) -> ControlFlow<()> + Send,
    {
        let inner = self.inner.lock();
        let of = inner.log.iter().filter(|event| event.stream.category() == Some(category));
        for (number, event) in (0..).zip(of).skip_while(|(number, _)| *number < from) {
            if each(number, event.view()).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// A clock and a timer that stand still until a test moves them, and chance from a seed.
#[derive(Clone, Debug)]
pub struct ManualTime {
    now: Arc<watch::Sender<Timestamp>>,
    seed: Arc<Mutex<u64>>,
}

impl ManualTime {
    /// A time that begins at `now`.
    #[must_use]
    pub fn new(now: Timestamp, seed: u64) -> ManualTime {
        ManualTime { now: Arc::new(watch::channel(now).0), seed: Arc::new(Mutex::new(seed)) }
    }

    /// Moves the time on, and wakes who waited for it.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        self.now.send_modify(|now| now.0 = now.0.saturating_add(by));
    }
}

impl Clock for ManualTime {
    fn now(&self) -> Timestamp {
        *self.now.borrow()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.now.borrow().0).unwrap_or(0))
    }
}

impl Timer for ManualTime {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut now = self.now.subscribe();
        let by = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let until = now.borrow_and_update().0.saturating_add(by);
        let time = self.clone();
        Box::pin(async move {
            let _ = now.wait_for(|now| now.0 >= until).await;
            drop(time);
        })
    }
}

impl Entropy for ManualTime {
    fn bytes(&self) -> [u8; 16] {
        let mut seed = self.seed.lock();
        let mut next = || {
            // SplitMix64.
            *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = *seed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&next().to_le_bytes());
        bytes[8..].copy_from_slice(&next().to_le_bytes());
        bytes
    }
}
