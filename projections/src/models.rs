//! The read models of this process, wherever they are kept: what decides at run time.
//!
//! INVARIANT: adds nothing to either kind; each call goes to the one that is there.

use std::sync::Arc;

use daybook_client::Checkpoint;
use daybook_model::Position;

use crate::backend::Backend;
use crate::change::ChangeSet;
use crate::postgres::{Postgres, PostgresWriter};
use crate::projection::Projection;
use crate::query::{Page, Query, QueryError};
use crate::sled::{SledBackend, SledWriter};
use crate::store::{CommitError, Generation, Parked, StoreError, Writer};
use crate::table::{Row, Table, Value};
use crate::views;

/// Read models, and where they are. A clone is another handle.
#[derive(Clone)]
pub enum ReadModels {
    /// Beside the store, in this process.
    Sled(SledBackend),
    /// In a database that many processes share.
    Postgres(Postgres),
}

/// What changes a generation of [`ReadModels`].
pub enum ReadModelsWriter {
    /// See [`ReadModels::Sled`].
    Sled(SledWriter),
    /// See [`ReadModels::Postgres`].
    Postgres(PostgresWriter),
}

impl ReadModels {
    /// The built-in views that are kept there: all where rows may grow with the log, those that stay
    /// bounded elsewhere.
    #[must_use]
    pub fn views(&self) -> Vec<Arc<dyn Projection>> {
        match self {
            ReadModels::Sled(_) => views::embedded(),
            ReadModels::Postgres(_) => views::complete(),
        }
    }
}

/// Has whichever it is do the same.
macro_rules! either {
    ($of:ident, $models:expr, $inner:ident => $answer:expr) => {
        match $models {
            $of::Sled($inner) => $answer,
            $of::Postgres($inner) => $answer,
        }
    };
}

impl Backend for ReadModels {
    type Writer = ReadModelsWriter;

    async fn generations(&self, projection: &str) -> Result<Vec<Generation>, StoreError> {
        either!(ReadModels, self, models => models.generations(projection).await)
    }

    async fn create(&self, projection: &dyn Projection) -> Result<u32, StoreError> {
        either!(ReadModels, self, models => models.create(projection).await)
    }

    async fn write(
        &self,
        projection: &dyn Projection,
        generation: u32,
    ) -> Result<ReadModelsWriter, StoreError> {
        match self {
            ReadModels::Sled(models) => {
                models.write(projection, generation).await.map(ReadModelsWriter::Sled)
            }
            ReadModels::Postgres(models) => {
                models.write(projection, generation).await.map(ReadModelsWriter::Postgres)
            }
        }
    }

    async fn serve(&self, projection: &str, generation: u32) -> Result<(), StoreError> {
        either!(ReadModels, self, models => models.serve(projection, generation).await)
    }

    async fn remove(&self, projection: &str, generation: u32) -> Result<(), StoreError> {
        either!(ReadModels, self, models => models.remove(projection, generation).await)
    }

    async fn set_paused(&self, projection: &str, paused: bool) -> Result<(), StoreError> {
        either!(ReadModels, self, models => models.set_paused(projection, paused).await)
    }

    async fn query(&self, query: &Query) -> Result<Page, QueryError> {
        either!(ReadModels, self, models => models.query(query).await)
    }

    async fn reached(&self, projection: &str) -> Result<Option<Checkpoint>, QueryError> {
        either!(ReadModels, self, models => models.reached(projection).await)
    }

    async fn wait(&self, projection: &str, position: Position) -> Result<(), QueryError> {
        either!(ReadModels, self, models => models.wait(projection, position).await)
    }

    async fn parked(
        &self,
        projection: &str,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Parked>, QueryError> {
        either!(ReadModels, self, models => models.parked(projection, after, limit).await)
    }
}

impl Writer for ReadModelsWriter {
    fn checkpoint(&self) -> Option<Checkpoint> {
        either!(ReadModelsWriter, self, writer => writer.checkpoint())
    }

    fn commit_rows_max(&self) -> usize {
        either!(ReadModelsWriter, self, writer => writer.commit_rows_max())
    }

    fn load(
        &mut self,
        table: &'static Table,
        key: &[Value],
    ) -> Result<Option<Arc<Row>>, StoreError> {
        either!(ReadModelsWriter, self, writer => writer.load(table, key))
    }

    fn commit(
        &mut self,
        changes: &ChangeSet,
        parked: &[Parked],
        through: Checkpoint,
    ) -> Result<(), CommitError> {
        either!(ReadModelsWriter, self, writer => writer.commit(changes, parked, through))
    }

    fn pass(&mut self, through: Checkpoint) -> bool {
        either!(ReadModelsWriter, self, writer => writer.pass(through))
    }
}
