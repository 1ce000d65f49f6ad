//! Changes a generation's tables, on a connection of its own.
//!
//! ```text
//!   one commit   BEGIN
//!                UPDATE generations SET checkpoint = through
//!                  WHERE token = mine AND checkpoint = expected     0 rows: fenced
//!                INSERT … SELECT FROM unnest(columns) ON CONFLICT DO UPDATE    a table's rows
//!                DELETE … USING unnest(keys)
//!                INSERT INTO parked …
//!                COMMIT
//! ```
//!
//! All but the last are sent in one go. The first change locks the generation's row, so the commits
//! of two writers come one after the other, and the second finds another token.
//!
//! Commits do not wait for PostgreSQL's disk (`synchronous_commit = off`): rows and place are lost
//! together by a crash or not at all, and what is lost is built again from the feed.
//!
//! INVARIANT: after any error nothing is believed any more: neither the cache nor the connection.

use std::sync::Arc;
use std::time::Duration;

use daybook_client::Checkpoint;
use futures_util::future::{join_all, try_join_all};
use tokio::runtime::Handle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Statement};

use super::cache::{Cache, Content, Found};
use super::field::{self, Field, without_nul};
use super::names::{self, Schema};
use super::{Postgres, catalog, error};
use crate::change::{Change, ChangeSet};
use crate::order;
use crate::store::{CommitError, Parked, StoreError, Writer};
use crate::table::{Row, Table, Value};

/// Rows with which a commit is made. Large enough that its fixed cost does not count, small enough
/// that its arrays stay within some megabytes.
pub const COMMIT_ROWS_MAX: usize = 8192;
/// Time of one commit, or of one row's load.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// See [`Writer`].
pub struct PostgresWriter {
    handle: Handle,
    client: Client,
    server: String,
    projection: String,
    generation: u32,
    token: i64,
    checkpoint: Option<Checkpoint>,
    fence: Statement,
    park: Statement,
    tables: Vec<Prepared>,
    cache: Cache,
    health: Health,
}

/// A table with its statements.
struct Prepared {
    table: &'static Table,
    load: Statement,
    put: Statement,
    delete: Statement,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Sound,
    /// An error came: what the connection and the cache say is not known.
    Broken,
    /// Somebody else writes: nothing is committed any more.
    Fenced,
}

/// The rows of a table that one commit writes.
struct Written<'a> {
    put: Vec<Vec<Field<'a>>>,
    delete: Vec<Vec<Field<'a>>>,
}

impl PostgresWriter {
    /// Takes over the writing of a generation.
    pub(super) async fn open(
        home: &Postgres,
        projection: &str,
        tables: &'static [Table],
        generation: u32,
    ) -> Result<PostgresWriter, StoreError> {
        let action = format!("write generation {generation} of projection {projection}");
        let client = home.server().open(&action).await?;
        let told = |cause: Error| error::store(&action, home.server().name(), &cause);
        client.batch_execute("SET synchronous_commit = off").await.map_err(told)?;
        let place = catalog::take_over(home, &client, projection, generation).await?;
        let mut prepared = Vec::with_capacity(tables.len());
        for table in tables {
            if !place.has(table) {
                let reason = format!("its table {} has another layout", table.name);
                return Err(error::refused(&action, reason + "; build the projection anew"));
            }
            let name = home.schema().table(projection, generation, table.name)?;
            prepared.push(Prepared::new(&client, &name, table).await.map_err(told)?);
        }
        let content = if place.checkpoint.is_none() { Content::Empty } else { Content::Unknown };
        let fence = prepare_fence(&client, home.schema()).await.map_err(told)?;
        let park = prepare_park(&client, home.schema()).await.map_err(told)?;
        Ok(PostgresWriter {
            handle: Handle::current(),
            client,
            server: home.server().name().to_owned(),
            projection: projection.to_owned(),
            generation,
            token: place.token,
            checkpoint: place.checkpoint,
            fence,
            park,
            cache: Cache::new(prepared.len(), content),
            tables: prepared,
            health: Health::Sound,
        })
    }

    fn table(&self, table: &Table) -> usize {
        let at = self.tables.iter().position(|known| known.table.is(table));
        at.expect("a projection reads and changes its own tables")
    }

    /// Awaits `answer` on this thread, which may block. Until it has come, the writer is broken.
    fn answer<T>(
        &mut self,
        action: &str,
        answer: impl AsyncFnOnce(&PostgresWriter) -> Result<T, Error>,
    ) -> Result<T, StoreError> {
        if self.health == Health::Broken {
            let reason = "an error came before; the writer must be opened again".to_owned();
            return Err(StoreError { action: action.to_owned(), reason, transient: true });
        }
        let health = std::mem::replace(&mut self.health, Health::Broken);
        let handle = self.handle.clone();
        let timed = async { tokio::time::timeout(ANSWER_TIMEOUT, answer(self)).await };
        let found = match handle.block_on(timed) {
            Ok(Ok(found)) => found,
            Ok(Err(cause)) => return Err(error::store(action, &self.server, &cause)),
            Err(_) => return Err(error::late(action, &self.server, ANSWER_TIMEOUT)),
        };
        self.health = health;
        Ok(found)
    }

    /// Sends everything and commits it. Whether this writer was the one that may.
    async fn send(
        &self,
        written: &[Written<'_>],
        parked: &[Parked],
        through: i64,
    ) -> Result<bool, Error> {
        let client = &self.client;
        let expected = self.checkpoint.map(catalog::stored);
        let number = i64::from(self.generation);
        let fence: [&(dyn ToSql + Sync); 5] =
            [&self.projection, &number, &self.token, &expected, &through];
        let rows = self.tables.iter().zip(written).flat_map(|(table, written)| {
            let put = (&table.put, &written.put);
            let delete = (&table.delete, &written.delete);
            [put, delete].into_iter().filter(|(_, columns)| columns.iter().any(|c| !c.is_empty()))
        });
        let rows = rows.map(async |(statement, columns)| {
            let columns: Vec<_> = columns.iter().map(|c| c as &(dyn ToSql + Sync)).collect();
            client.execute(statement, &columns).await
        });
        // Requests go out in the order in which these are first polled.
        let (begun, fenced, rows, parked) = futures_util::join!(
            client.batch_execute("BEGIN"),
            client.execute(&self.fence, &fence),
            join_all(rows),
            try_join_all(parked.iter().map(|parked| self.park(parked))),
        );
        begun?;
        if fenced? == 0 {
            client.batch_execute("ROLLBACK").await?;
            return Ok(false);
        }
        for changed in rows {
            changed?;
        }
        parked?;
        client.batch_execute("COMMIT").await?;
        Ok(true)
    }

    async fn park(&self, parked: &Parked) -> Result<(), Error> {
        let position = parked.position.0.cast_signed();
        let number = i64::from(self.generation);
        let values: [&(dyn ToSql + Sync); 7] = [
            &self.projection,
            &number,
            &position,
            &without_nul(&parked.stream),
            &without_nul(&parked.event_type),
            &without_nul(&parked.reason),
            &parked.at.0,
        ];
        self.client.execute(&self.park, &values).await.map(drop)
    }
}

impl Writer for PostgresWriter {
    fn checkpoint(&self) -> Option<Checkpoint> {
        self.checkpoint
    }

    fn commit_rows_max(&self) -> usize {
        COMMIT_ROWS_MAX
    }

    fn load(
        &mut self,
        table: &'static Table,
        key: &[Value],
    ) -> Result<Option<Arc<Row>>, StoreError> {
        let at = self.table(table);
        let encoded = order::encoded(key);
        if self.health != Health::Broken
            && let Found::Known(row) = self.cache.get(at, &encoded)
        {
            return Ok(row);
        }
        let action = format!("read a row of {} of projection {}", table.name, self.projection);
        let row = self.answer(&action, async |writer: &PostgresWriter| {
            let key: Vec<Field<'_>> = key.iter().map(Field).collect();
            let key: Vec<_> = key.iter().map(|field| field as &(dyn ToSql + Sync)).collect();
            let found = writer.client.query_opt(&writer.tables[at].load, &key).await?;
            found.map(|found| field::row(table, &found)).transpose()
        })?;
        let row = row.map(Arc::new);
        self.cache.put(at, encoded, row.clone());
        Ok(row)
    }

    fn commit(
        &mut self,
        changes: &ChangeSet,
        parked: &[Parked],
        through: Checkpoint,
    ) -> Result<(), CommitError> {
        let written: Vec<_> = changes
            .tables()
            .map(|(table, rows)| Written::new(table, rows.values().map(|changed| changed.change())))
            .collect();
        let action = format!("commit to projection {}", self.projection);
        let through_stored = catalog::stored(through);
        let mine = self.health != Health::Fenced
            && self.answer(&action, async |writer: &PostgresWriter| {
                writer.send(&written, parked, through_stored).await
            })?;
        if !mine {
            self.health = Health::Fenced;
            return Err(CommitError::Fenced { projection: self.projection.clone() });
        }
        self.checkpoint = Some(through);
        for (at, (_, rows)) in changes.tables().enumerate() {
            for (key, changed) in rows {
                if changed.change() != Change::None {
                    self.cache.put(at, key.clone(), changed.after.clone());
                }
            }
        }
        Ok(())
    }
}

impl<'a> Written<'a> {
    fn new(table: &Table, changes: impl Iterator<Item = Change<'a>>) -> Written<'a> {
        let mut put = vec![Vec::new(); table.columns.len()];
        let mut delete = vec![Vec::new(); table.key_len];
        for change in changes {
            let (columns, row) = match change {
                Change::None => continue,
                Change::Put { after, .. } => (&mut put, after),
                Change::Delete { before } => (&mut delete, before),
            };
            for (column, value) in columns.iter_mut().zip(row) {
                column.push(Field(value));
            }
        }
        Written { put, delete }
    }
}

impl Prepared {
    async fn new(client: &Client, name: &str, table: &'static Table) -> Result<Prepared, Error> {
        let all = 0..table.columns.len();
        let key = 0..table.key_len;
        let columns = names::columns(table, all.clone());
        let keys = names::columns(table, key.clone());
        let types: Vec<Type> =
            table.columns.iter().map(|column| names::type_of(column.kind)).collect();
        let arrays: Vec<Type> =
            table.columns.iter().map(|column| names::array_of(column.kind)).collect();
        let equal = |left: &str, right: &dyn Fn(usize) -> String| {
            let parts: Vec<_> = key
                .clone()
                .map(|at| format!("{left}{} = {}", names::column(table, at), right(at)))
                .collect();
            parts.join(" AND ")
        };
        let load = format!(
            "SELECT {columns} FROM {name} WHERE {}",
            equal("", &|at| format!("${}", at + 1))
        );
        let changed: Vec<_> = (table.key_len..table.columns.len())
            .map(|at| names::column(table, at))
            .map(|column| format!("{column} = EXCLUDED.{column}"))
            .collect();
        let on_conflict = match changed.as_slice() {
            [] => "NOTHING".to_owned(),
            changed => format!("UPDATE SET {}", changed.join(", ")),
        };
        let put = format!(
            "INSERT INTO {name} ({columns}) SELECT * FROM unnest({}) \
             ON CONFLICT ({keys}) DO {on_conflict}",
            parameters(table.columns.len()),
        );
        let delete = format!(
            "DELETE FROM {name} AS rows USING unnest({}) AS gone ({keys}) WHERE {}",
            parameters(table.key_len),
            equal("rows.", &|at| format!("gone.{}", names::column(table, at))),
        );
        Ok(Prepared {
            table,
            load: client.prepare_typed(&load, &types[key.clone()]).await?,
            put: client.prepare_typed(&put, &arrays).await?,
            delete: client.prepare_typed(&delete, &arrays[key]).await?,
        })
    }
}

async fn prepare_fence(client: &Client, schema: &Schema) -> Result<Statement, Error> {
    let sql = format!(
        "UPDATE {} SET checkpoint = $5 WHERE projection = $1 AND number = $2 AND token = $3 \
         AND checkpoint IS NOT DISTINCT FROM $4",
        schema.catalog("generations")
    );
    let types = [Type::TEXT, Type::INT8, Type::INT8, Type::INT8, Type::INT8];
    client.prepare_typed(&sql, &types).await
}

async fn prepare_park(client: &Client, schema: &Schema) -> Result<Statement, Error> {
    let sql = format!(
        "INSERT INTO {} (projection, generation, position, stream, event_type, reason, parked_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        schema.catalog("parked")
    );
    let (text, whole) = (Type::TEXT, Type::INT8);
    let types =
        [text.clone(), whole.clone(), whole.clone(), text.clone(), text.clone(), text, whole];
    client.prepare_typed(&sql, &types).await
}

/// `$1, $2 …`, so many.
fn parameters(count: usize) -> String {
    let all: Vec<_> = (1..=count).map(|n| format!("${n}")).collect();
    all.join(", ")
}
