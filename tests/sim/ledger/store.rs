//! The engine as an [`EventStore`] whose appends are answered when the simulation gets there.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use daybook_model::append::{Append, AppendError, Appended};
use daybook_model::{
    CategoryStore, Clock, EventStore, EventView, ReadFailed, Revision, Snapshot, StreamName, Timer,
};
use daybook_store::engine::Ticket;
use daybook_store::read::From;
use daybook_store::{Direction, Engine, IndexKey, ReadError, ReadStream};
use uuid::Uuid;

use super::super::seams::SimClock;

/// Snapshots outlive a process, or not.
pub type Snapshots = BTreeMap<StreamName, Snapshot>;

/// The store of one process. A clone is another handle.
#[derive(Clone)]
pub struct SimStore {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    engine: Engine,
    waiting: BTreeMap<u64, Ticket>,
    answers: BTreeMap<u64, Result<Appended, AppendError>>,
    next: u64,
    snapshots: Snapshots,
}

impl SimStore {
    pub fn new(engine: Engine, snapshots: Snapshots) -> SimStore {
        let (waiting, answers) = (BTreeMap::new(), BTreeMap::new());
        let inner = Inner { engine, waiting, answers, next: 0, snapshots };
        SimStore { inner: Arc::new(Mutex::new(inner)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the engine, and takes in what it has answered since.
    pub fn with<T>(&self, act: impl FnOnce(&mut Engine) -> T) -> T {
        let mut inner = self.lock();
        let done = act(&mut inner.engine);
        let Inner { engine, waiting, answers, .. } = &mut *inner;
        for (key, ticket) in std::mem::take(waiting) {
            match engine.poll(ticket) {
                (Some(answer), _) => {
                    answers.insert(key, answer);
                }
                (None, again) => waiting.extend(again.map(|ticket| (key, ticket))),
            }
        }
        done
    }

    /// What would be left of the snapshots.
    pub fn snapshots(&self) -> Snapshots {
        self.lock().snapshots.clone()
    }
}

fn failed(what: &str) -> impl FnOnce(ReadError) -> ReadFailed {
    let what = what.to_owned();
    move |e| ReadFailed { what, reason: e.to_string() }
}

impl EventStore for SimStore {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let key = {
            let mut inner = self.lock();
            let key = inner.next;
            inner.next += 1;
            let ticket = inner.engine.submit(&append);
            inner.waiting.insert(key, ticket);
            key
        };
        poll_fn(|_| match self.lock().answers.remove(&key) {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        })
        .await
    }

    async fn head(&self, stream: &StreamName) -> Result<Option<Revision>, ReadFailed> {
        let found = self.lock().engine.stream_info(stream);
        found.map(|info| info.head).map_err(failed(stream.as_str()))
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
        let query = ReadStream {
            stream: stream.clone(),
            from: From::Revision(from),
            direction: Direction::Forwards,
            count: u64::MAX,
        };
        let mut reader = match self.lock().engine.read_stream(&query) {
            Ok(reader) => reader,
            Err(ReadError::StreamNotFound { .. }) => return Ok(()),
            Err(e) => return Err(failed(stream.as_str())(e)),
        };
        while let Some(page) = reader.next_page().map_err(failed(stream.as_str()))? {
            if page.events().try_for_each(&mut each).is_break() {
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
        let found = self.lock().engine.transaction(stream, transaction);
        found.map_err(failed(stream.as_str()))
    }

    async fn snapshot(&self, stream: &StreamName, at_or_before: Revision) -> Option<Snapshot> {
        let snapshot = self.lock().snapshots.get(stream).cloned();
        snapshot.filter(|snapshot| snapshot.revision <= at_or_before)
    }

    fn put_snapshot(&self, stream: &StreamName, snapshot: Snapshot) {
        self.lock().snapshots.insert(stream.clone(), snapshot);
    }
}

impl CategoryStore for SimStore {
    async fn replay_category<F>(
        &self,
        category: &str,
        from: u64,
        mut each: F,
    ) -> Result<(), ReadFailed>
    where
        F: FnMut(u64, EventView<'_>) -> ControlFlow<()> + Send,
    {
        let key = IndexKey::Category(category.to_owned());
        let mut reader = self.lock().engine.read_index(&key, from, Direction::Forwards, u64::MAX);
        while let Some(page) = reader.next_page().map_err(failed(category))? {
            let mut numbered = page.numbered();
            if numbered.try_for_each(|(number, event)| each(number, event)).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// A timer of the simulation's clock; whoever waits is polled again and again.
#[derive(Debug)]
pub struct SimTimer(pub Arc<SimClock>);

impl Timer for SimTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let clock = self.0.clone();
        let until = clock.monotonic().saturating_add(duration);
        Box::pin(poll_fn(move |_| match clock.monotonic() >= until {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }))
    }
}
