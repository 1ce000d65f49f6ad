//! Read models in PostgreSQL: for tables that outgrow sled, for any number of query fronts, and
//! for SQL.
//!
//! ```text
//!   schema daybook
//!     store, projections, generations, parked     the catalog            catalog
//!     accounts_3_accounts                         tables of generation 3  generation, names
//!     accounts_accounts                           a view of what serves
//!
//!   PostgresWriter ── a connection of its own ──> one transaction: rows, parked, place   writer
//!   Postgres ─────── a bounded pool ────────────> one snapshot: place and page           page
//! ```
//!
//! A page is read in one REPEATABLE READ transaction, so that its rows and its `as_of` belong
//! together. Which table it is read from is found there too: what a generation is replaced by
//! meanwhile is not seen, and if its table was dropped meanwhile, the page is read again.
//!
//! INVARIANTS: a fenced or failed commit changes nothing. No statement waits without limit. A
//! schema that belongs to another store is never written.

mod cache;
mod catalog;
mod connect;
mod error;
mod field;
mod generation;
mod names;
mod page;
mod watch;
mod writer;

use std::collections::BTreeMap;
use std::sync::Arc;

use daybook_client::Checkpoint;
use daybook_model::Position;
use deadpool_postgres::{Object, Pool};
use tokio::sync::OnceCell;
use tokio_postgres::{Error, IsolationLevel};
use uuid::Uuid;

use crate::backend::{Backend, PARKED_PAGE_MAX};
use crate::projection::Projection;
use crate::query::{Page, Query, QueryError};
use crate::store::{Generation, Parked, StoreError};
use crate::table::{Row, Value};
use catalog::Place;
use names::Schema;
use watch::{Places, Watch};

pub use connect::{
    CONNECT_TIMEOUT, CONNECTIONS_MAX, IDLE_TRANSACTION_TIMEOUT_MS, LOCK_TIMEOUT_MS, POOL_TIMEOUT,
    STATEMENT_TIMEOUT_MS, Server, SettingsError,
};
pub use writer::{COMMIT_ROWS_MAX, PostgresWriter};

/// The schema unless another is named.
pub const SCHEMA_DEFAULT: &str = "daybook";
/// Times a page is read: a table may be dropped, or a connection found dead, while it is.
const READS_MAX: usize = 3;

/// Read models in one schema of one PostgreSQL database. A clone is another handle.
#[derive(Clone)]
pub struct Postgres {
    shared: Arc<Shared>,
}

struct Shared {
    server: Server,
    schema: Schema,
    store: Option<Uuid>,
    pool: Pool,
    /// Set when the schema is there and is ours.
    ready: OnceCell<()>,
    watch: Arc<Watch>,
}

/// What a connection pool does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStatus {
    /// Connections that are open.
    pub open: usize,
    /// Of them, those that nobody uses.
    pub idle: usize,
    /// Queries that wait for one.
    pub waiting: usize,
}

impl Postgres {
    /// The read models of `store` in a schema of `server`; if no store is named, of whichever it
    /// belongs to. Nothing is connected yet.
    ///
    /// # Errors
    /// [`SettingsError::Schema`].
    pub fn new(
        server: Server,
        schema: &str,
        store: Option<Uuid>,
    ) -> Result<Postgres, SettingsError> {
        let schema = Schema::new(schema)?;
        let pool = server.pool(CONNECTIONS_MAX);
        let (ready, watch) = (OnceCell::new(), Arc::default());
        Ok(Postgres { shared: Arc::new(Shared { server, schema, store, pool, ready, watch }) })
    }

    /// The server.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.shared.server
    }

    /// What the pool does.
    #[must_use]
    pub fn pool_status(&self) -> PoolStatus {
        let status = self.shared.pool.status();
        PoolStatus { open: status.size, idle: status.available, waiting: status.waiting }
    }

    /// How far the generations that serve are, by projection. An empty answer says that nothing
    /// was built yet.
    ///
    /// # Errors
    /// [`StoreError`] if PostgreSQL cannot be asked, or the schema is of another store.
    pub async fn places(&self) -> Result<BTreeMap<String, Option<Checkpoint>>, StoreError> {
        catalog::check_store(self).await?;
        self.serving_places().await
    }

    /// Drops the schema with everything in it: to begin anew, or after a test.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_schema(&self) -> Result<(), StoreError> {
        let action = format!("drop schema {}", self.schema().name());
        let client = self.client(&action).await?;
        let sql = format!("DROP SCHEMA IF EXISTS \"{}\" CASCADE", self.schema().name());
        let dropped = client.batch_execute(&sql).await;
        dropped.map_err(|cause| error::store(&action, self.server().name(), &cause))
    }

    fn schema(&self) -> &Schema {
        &self.shared.schema
    }

    fn store(&self) -> Option<Uuid> {
        self.shared.store
    }

    async fn client(&self, action: &str) -> Result<Object, StoreError> {
        let client = self.shared.pool.get().await;
        client.map_err(|cause| error::pool(action, self.server().name(), &cause))
    }

    /// Makes the schema if need be, once.
    async fn ready(&self) -> Result<(), StoreError> {
        self.shared.ready.get_or_try_init(|| catalog::set_up(self)).await?;
        Ok(())
    }

    async fn serving_places(&self) -> Result<Places, StoreError> {
        let action = "ask how far the projections are";
        let told = |cause: Error| error::store(action, self.server().name(), &cause);
        let client = self.client(action).await?;
        let sql = format!(
            "SELECT {}, projection FROM {} WHERE serving",
            Place::COLUMNS,
            self.schema().catalog("generations")
        );
        let found = match client.query_typed(&sql, &[]).await {
            Err(cause) if error::is_missing(&cause) => return Ok(Places::new()),
            found => found.map_err(told)?,
        };
        let place = |row| Ok((tokio_postgres::Row::try_get(row, 7)?, Place::read(row)?.checkpoint));
        found.iter().map(place).collect::<Result<_, _>>().map_err(told)
    }

    /// Reads a page in one snapshot.
    async fn read(&self, query: &Query) -> Result<Page, ReadError> {
        let action = format!("read {} of projection {}", query.table.name, query.projection);
        let mut client = self.client(&action).await?;
        let snapshot = client
            .build_transaction()
            .isolation_level(IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        let sql = format!(
            "SELECT {} FROM {} WHERE projection = $1 ORDER BY number",
            Place::COLUMNS,
            self.schema().catalog("generations")
        );
        let projection = (&query.projection as _, tokio_postgres::types::Type::TEXT);
        let places = match snapshot.query_typed(&sql, &[projection]).await {
            Err(cause) if error::is_missing(&cause) => Vec::new(),
            found => found?.iter().map(Place::read).collect::<Result<_, _>>()?,
        };
        let Some(place) = places.iter().find(|place| place.serving) else {
            return Err(ReadError::Query(not_ready(query.projection, &places)));
        };
        if !place.has(query.table) {
            let reason = format!(
                "it serves version {}, whose tables are others; a newer one is being built",
                place.version
            );
            return Err(ReadError::Query(QueryError::NotReady {
                projection: query.projection.to_owned(),
                reason,
            }));
        }
        let name = self.schema().table(query.projection, place.number, query.table.name)?;
        let (rows, next) = read_rows(&snapshot, &name, query).await?;
        snapshot.commit().await?;
        Ok(Page { rows, next, as_of: place.checkpoint })
    }
}

/// Why a page was not read.
enum ReadError {
    /// What PostgreSQL said; reading it again may help.
    Said(Error),
    Query(QueryError),
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> ReadError {
        ReadError::Query(error.into())
    }
}

impl From<Error> for ReadError {
    fn from(error: Error) -> ReadError {
        ReadError::Said(error)
    }
}

/// The rows of a page, and where the next begins.
async fn read_rows(
    snapshot: &tokio_postgres::Transaction<'_>,
    name: &str,
    query: &Query,
) -> Result<(Vec<Row>, Option<Vec<Value>>), Error> {
    if page::is_impossible(query) {
        return Ok((Vec::new(), None));
    }
    let sql = page::rows(name, query);
    let found = snapshot.query_typed(&sql.text, &sql.typed(&sql.fields())).await?;
    let rows = found.iter().map(|found| field::row(query.table, found));
    let mut rows: Vec<Row> = rows.collect::<Result<_, _>>()?;
    let place = |row: &Row| page::order(query).into_iter().map(|at| row[at].clone()).collect();
    if rows.len() > page::limit(query) {
        rows.truncate(page::limit(query));
        let next = rows.last().map(place);
        return Ok((rows, next));
    }
    if query.filters.is_empty() {
        return Ok((rows, None));
    }
    let sql = page::examined(name, query);
    let found = snapshot.query_typed_opt(&sql.text, &sql.typed(&sql.fields())).await?;
    let last = found.map(|found| field::row(query.table, &found)).transpose()?;
    Ok((rows, last.as_ref().map(place)))
}

fn not_ready(projection: &str, places: &[Place]) -> QueryError {
    let reason = match places.last() {
        None => "nothing of it was built yet".to_owned(),
        Some(building) => format!(
            "generation {} is being built, it is at {}",
            building.number,
            building.checkpoint.map_or("the beginning".to_owned(), |at| {
                format!("position {}", at.position().0)
            })
        ),
    };
    QueryError::NotReady { projection: projection.to_owned(), reason }
}

impl Backend for Postgres {
    type Writer = PostgresWriter;

    async fn generations(&self, projection: &str) -> Result<Vec<Generation>, StoreError> {
        if self.shared.ready.get().is_none() {
            catalog::check_store(self).await?;
        }
        catalog::generations(self, projection).await
    }

    async fn create(&self, projection: &dyn Projection) -> Result<u32, StoreError> {
        // Not once only: somebody may have dropped the schema to have it built anew.
        catalog::set_up(self).await?;
        generation::create(self, projection).await
    }

    async fn write(
        &self,
        projection: &dyn Projection,
        generation: u32,
    ) -> Result<PostgresWriter, StoreError> {
        self.ready().await?;
        PostgresWriter::open(self, projection.name(), projection.tables(), generation).await
    }

    async fn serve(&self, projection: &str, generation: u32) -> Result<(), StoreError> {
        self.ready().await?;
        generation::serve(self, projection, generation).await
    }

    async fn remove(&self, projection: &str, generation: u32) -> Result<(), StoreError> {
        self.ready().await?;
        generation::remove(self, projection, generation).await
    }

    async fn set_paused(&self, projection: &str, paused: bool) -> Result<(), StoreError> {
        self.ready().await?;
        catalog::set_paused(self, projection, paused).await
    }

    async fn query(&self, query: &Query) -> Result<Page, QueryError> {
        let action = format!("read {} of projection {}", query.table.name, query.projection);
        let mut reads = 1;
        loop {
            let cause = match self.read(query).await {
                Ok(page) => return Ok(page),
                Err(ReadError::Query(error)) => return Err(error),
                Err(ReadError::Said(cause)) => cause,
            };
            let again = error::is_missing(&cause) || cause.is_closed();
            if !again || reads == READS_MAX {
                return Err(error::store(&action, self.server().name(), &cause).into());
            }
            reads += 1;
        }
    }

    async fn reached(&self, projection: &str) -> Result<Option<Checkpoint>, QueryError> {
        let places = self.serving_places().await?;
        places.get(projection).copied().ok_or_else(|| not_ready(projection, &[]))
    }

    async fn wait(&self, projection: &str, position: Position) -> Result<(), QueryError> {
        let home = self.clone();
        let answers = self.shared.watch.places(move || {
            let home = home.clone();
            async move { home.serving_places().await }
        });
        let there =
            |at: Option<Checkpoint>| at.is_some_and(|at: Checkpoint| at.position() >= position);
        answers.until(projection, there).await
    }

    async fn parked(
        &self,
        projection: &str,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Parked>, QueryError> {
        let limit = limit.clamp(1, PARKED_PAGE_MAX);
        Ok(catalog::parked(self, projection, after, limit).await?)
    }
}
