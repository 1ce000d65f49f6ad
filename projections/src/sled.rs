//! Tables in sled, in this process: the default, for read models of up to about a million rows.
//!
//! ```text
//!   Disposable<Live> ── one sled for all projections of the process
//!     tree catalog    0 | projection | 0 | number     version, serving, layouts of its tables
//!                     1 | projection                  it was told to pause
//!                     2 | projection                  the number of its next generation
//!     tree of one     0                               the place in the feed, how many rows
//!     generation      1 | table | key                 a row
//!                     2 | table | index | columns, key      the row's key
//!                     3 | position                    a parked event
//! ```
//!
//! A commit is one batch on one tree: rows, index entries, parked events and the place stand or
//! fall together, also when the process is killed. sled writes in the background: a kill may take
//! the last half second back, place and all, and the runner takes those events in again.
//!
//! A page is read under the lock that commits take, so all of it is of one place. That lock is held
//! across sled's reads and writes, and never across an await.
//!
//! What cannot be used (missing, damaged, of another store or format, panicking) is set aside and
//! built again from the feed.
//!
//! INVARIANTS: nothing here is truth. Keys are in the order of their values ([`crate::order`]).
//! Rows are wrapped in an envelope whose checksum is tried before they are believed.

use std::path::Path;
use std::sync::Arc;

use daybook_cache::{Disposable, Fault};
use daybook_client::Checkpoint;
use daybook_model::Position;
use uuid::Uuid;

use crate::backend::{Backend, PARKED_PAGE_MAX};
use crate::projection::Projection;
use crate::query::{Page, Query, QueryError};
use crate::store::{Generation, Parked, StoreError};

mod codec;
mod live;
mod opening;
mod page;
mod progress;
mod recent;
#[cfg(test)]
mod tests;
mod writer;

use live::{Live, Place};
use progress::Progress;
pub use writer::SledWriter;

/// Rows of one generation at most. sled grows badly past about a million keys.
pub const ROWS_MAX: u64 = 1_000_000;
/// Bytes of sled's page cache unless told otherwise. Resident memory is up to four times this; with twice as much a rebuild
/// of a hundred thousand accounts is no faster.
pub const CACHE_SIZE: u64 = 32 * 1024 * 1024;
/// Bytes of rows that the writer of one generation keeps decoded unless told otherwise, about: some
/// ten thousand accounts. The rest is read from sled's page cache. With a third more a rebuild takes more than the
/// 256 MiB that it may.
pub const RECENT_SIZE_MAX: usize = 24 * 1024 * 1024;

/// What the tables may keep in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of sled's page cache.
    pub cache: u64,
    /// Bytes of rows that the writer of one generation keeps decoded.
    pub recent: usize,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory { cache: CACHE_SIZE, recent: RECENT_SIZE_MAX }
    }
}

/// Tables in sled. A clone is another handle; the last one closes it.
#[derive(Clone)]
pub struct SledBackend {
    shared: Arc<Shared>,
}

struct Shared {
    sled: Disposable<Live>,
    progress: Progress,
    recent: usize,
}

impl SledBackend {
    /// Opens the tables in `directory`, which is created if missing and is nobody else's. They must
    /// be of the store `store`. Never fails: what cannot be used is set aside, and
    /// [`SledBackend::notes`] says so. Blocks.
    #[must_use]
    pub fn open(directory: &Path, store: Uuid) -> SledBackend {
        SledBackend::open_within(directory, store, Memory::default())
    }

    /// As [`SledBackend::open`], with so much memory.
    #[must_use]
    pub fn open_within(directory: &Path, store: Uuid, memory: Memory) -> SledBackend {
        let progress = Progress::default();
        let place = Place { store, progress: progress.clone(), cache: memory.cache };
        let sled = Disposable::open(directory, place);
        SledBackend { shared: Arc::new(Shared { sled, progress, recent: memory.recent }) }
    }

    /// What was set aside or failed since the process started, oldest first.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.shared.sled.notes()
    }

    /// Writes what waits and closes. Blocks; later calls fail.
    pub fn close(&self) {
        self.shared.sled.close();
    }

    /// Asks sled. `action` completes "cannot …".
    fn ask<T>(
        &self,
        action: impl FnOnce() -> String,
        ask: impl FnOnce(&Live) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        match self.shared.sled.with(ask) {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => {
                // All that was built is gone with what failed.
                self.shared.progress.forget();
                let reason = self.shared.sled.rebuilt_reason().unwrap_or_default();
                let reason =
                    format!("the read models were set aside: {reason}; they are built again");
                Err(StoreError { action: action(), reason, transient: true })
            }
            Err(off) => {
                let reason = format!("the read models are off: {off}; a restart tries again");
                Err(StoreError { action: action(), reason, transient: false })
            }
        }
    }

    /// As [`SledBackend::ask`], where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        projection: &str,
        ask: impl FnOnce(&Live) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (backend, name) = (self.clone(), projection.to_owned());
        let said = move || format!("{action} of {name}");
        let task = tokio::task::spawn_blocking(move || backend.ask(said, ask));
        task.await.unwrap_or_else(|error| {
            let (action, reason) = (format!("{action} of {projection}"), error.to_string());
            Err(StoreError { action, reason, transient: true })
        })
    }
}

impl Backend for SledBackend {
    type Writer = SledWriter;

    async fn generations(&self, projection: &str) -> Result<Vec<Generation>, StoreError> {
        let name = projection.to_owned();
        self.blocking("list the generations", projection, move |live| live.generations(&name)).await
    }

    async fn create(&self, projection: &dyn Projection) -> Result<u32, StoreError> {
        let (name, version, tables) =
            (projection.name(), projection.version(), projection.tables());
        self.blocking("create a generation", name, move |live| live.create(name, version, tables))
            .await
    }

    async fn write(
        &self,
        projection: &dyn Projection,
        generation: u32,
    ) -> Result<SledWriter, StoreError> {
        let name = projection.name();
        let taken = self
            .blocking("take over a generation", name, move |live| live.take_over(name, generation))
            .await?;
        let Some(taken) = taken else {
            let action = format!("write generation {generation} of {name}");
            let reason = "there is none of this number".to_owned();
            return Err(StoreError { action, reason, transient: false });
        };
        Ok(SledWriter::new(self.clone(), projection, taken))
    }

    async fn serve(&self, projection: &str, generation: u32) -> Result<(), StoreError> {
        let name = projection.to_owned();
        let serves = self
            .blocking("swap the generations", projection, move |live| live.serve(&name, generation))
            .await?;
        if serves {
            return Ok(());
        }
        let action = format!("serve generation {generation} of {projection}");
        let reason = "there is none of this number".to_owned();
        Err(StoreError { action, reason, transient: false })
    }

    async fn remove(&self, projection: &str, generation: u32) -> Result<(), StoreError> {
        let name = projection.to_owned();
        self.blocking("remove a generation", projection, move |live| live.remove(&name, generation))
            .await
    }

    async fn set_paused(&self, projection: &str, paused: bool) -> Result<(), StoreError> {
        let name = projection.to_owned();
        self.blocking("pause or resume the work", projection, move |live| {
            live.set_paused(&name, paused)
        })
        .await
    }

    async fn query(&self, query: &Query) -> Result<Page, QueryError> {
        let asked = query.clone();
        let page = self.blocking("read a page", query.projection, move |live| live.page(&asked));
        page.await?.map_err(|reason| not_ready(query.projection, reason))
    }

    async fn reached(&self, projection: &str) -> Result<Option<Checkpoint>, QueryError> {
        let name = projection.to_owned();
        let reached =
            self.blocking("look at the place", projection, move |live| live.reached(&name));
        reached.await?.map_err(|reason| not_ready(projection, reason))
    }

    async fn wait(&self, projection: &str, position: Position) -> Result<(), QueryError> {
        let mut place = self.shared.progress.of(projection).subscribe();
        let there = |at: &Option<Checkpoint>| at.is_some_and(|at| at.position() >= position);
        // The sender is never dropped while this backend is there.
        let _ = place.wait_for(there).await;
        Ok(())
    }

    async fn parked(
        &self,
        projection: &str,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Parked>, QueryError> {
        let (name, limit) = (projection.to_owned(), limit.min(PARKED_PAGE_MAX));
        let parked = self.blocking("list what is parked", projection, move |live| {
            live.parked(&name, after, limit)
        });
        parked.await?.map_err(|reason| not_ready(projection, reason))
    }
}

fn not_ready(projection: &str, reason: String) -> QueryError {
    QueryError::NotReady { projection: projection.to_owned(), reason }
}
