//! The step from the generation that serves to the one that was built beside it, when something
//! happens in the middle of it.

#![allow(clippy::unwrap_used, reason = "a test that fails shows where")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use daybook_client::Checkpoint;
use daybook_model::{Epoch, Position};
use daybook_projections::sled::{SledBackend, SledWriter};
use daybook_projections::store::{Generation, Parked};
use daybook_projections::{
    Backend, Host, Order, Page, Projection, Query, QueryError, Seams, State, StoreError,
};
use support::source::MemoryLog;
use support::tally::{NAME, Tally, moved};
use support::{TOO_LONG, until};
use tempfile::TempDir;
use uuid::Uuid;

/// Tables in sled whose store closes as soon as somebody asks how far they are.
#[derive(Clone)]
struct Closing {
    sled: SledBackend,
    log: MemoryLog,
    armed: Arc<AtomicBool>,
    served: Arc<AtomicU32>,
}

impl Backend for Closing {
    type Writer = SledWriter;

    async fn generations(&self, projection: &str) -> Result<Vec<Generation>, StoreError> {
        self.sled.generations(projection).await
    }

    async fn create(&self, projection: &dyn Projection) -> Result<u32, StoreError> {
        self.sled.create(projection).await
    }

    async fn write(
        &self,
        projection: &dyn Projection,
        generation: u32,
    ) -> Result<SledWriter, StoreError> {
        self.sled.write(projection, generation).await
    }

    async fn serve(&self, projection: &str, generation: u32) -> Result<(), StoreError> {
        self.served.fetch_add(1, Ordering::SeqCst);
        self.sled.serve(projection, generation).await
    }

    async fn remove(&self, projection: &str, generation: u32) -> Result<(), StoreError> {
        self.sled.remove(projection, generation).await
    }

    async fn set_paused(&self, projection: &str, paused: bool) -> Result<(), StoreError> {
        self.sled.set_paused(projection, paused).await
    }

    async fn query(&self, query: &Query) -> Result<Page, QueryError> {
        self.sled.query(query).await
    }

    async fn reached(&self, projection: &str) -> Result<Option<Checkpoint>, QueryError> {
        if !self.armed.load(Ordering::SeqCst) {
            return self.sled.reached(projection).await;
        }
        self.log.close();
        // Further than what is built will ever be.
        Ok(Some(Checkpoint::at(Position(1_000_000), Epoch(0))))
    }

    async fn wait(&self, projection: &str, position: Position) -> Result<(), QueryError> {
        self.sled.wait(projection, position).await
    }

    async fn parked(
        &self,
        projection: &str,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Parked>, QueryError> {
        self.sled.parked(projection, after, limit).await
    }
}

#[tokio::test]
async fn what_has_ended_behind_the_one_that_serves_does_not_take_its_place() {
    let directory = TempDir::new().unwrap();
    let log = MemoryLog::new(7);
    let events: Vec<_> = (0..100).map(|n| ("account-x", "Moved", moved(n, 20))).collect();
    log.append(events);
    let sled = SledBackend::open(directory.path(), Uuid::from_u128(7));
    let (armed, served) = (Arc::default(), Arc::default());
    let backend = Closing { sled, log: log.clone(), armed, served };
    let host = Host::start(&log, &backend, vec![Arc::new(Tally::new())], &Seams::system());
    until(&host, NAME, |s| {
        s.serving.as_ref().is_some_and(|build| build.status.state == State::Live)
    })
    .await;
    backend.armed.store(true, Ordering::SeqCst);
    host.order(NAME, Order::Rebuild).await.unwrap();
    let said = |note: &str| note.contains("cannot swap") || note.contains("serves");
    let status = until(&host, NAME, |s| {
        // The order itself is noted first.
        s.note.as_deref().is_some_and(|note| said(note) && !note.contains("beside what serves"))
    })
    .await;
    let note = status.note.unwrap();
    assert!(note.contains("its runner ended before it was there"), "{note}");
    assert_eq!(backend.served.load(Ordering::SeqCst), 0);
    let serving = backend.generations(NAME).await.unwrap();
    assert!(serving.iter().all(|generation| generation.serving == (generation.number == 1)));
    tokio::time::timeout(TOO_LONG, host.stop()).await.unwrap();
}
