//! What there is: generations of projections with their place and writer, and what is parked.
//!
//! ```text
//!   store         one row: which store all of this is folded from, and the format of these tables
//!   projections   name | paused | generations        the last number given
//!   generations   projection | number | version | tables, layouts | serving | token | checkpoint
//!   parked        projection | generation | position | …
//! ```
//!
//! Whoever changes generations holds the projection's row; a writer holds its generation's row
//! while it commits. Readers hold nothing: they see one snapshot.
//!
//! INVARIANT: at most one generation of a projection serves (a unique index says so).

use daybook_client::Checkpoint;
use daybook_model::{Position, Timestamp};
use deadpool_postgres::Transaction;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::{Postgres, error};
use crate::store::{Generation, Parked, StoreError};
use crate::table::Table;

/// The format of the catalog and of the tables. A schema of another one is refused.
const FORMAT: i32 = 1;

/// One row of the catalog: a generation and its place.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) number: u32,
    pub(super) version: u32,
    pub(super) serving: bool,
    pub(super) token: i64,
    pub(super) checkpoint: Option<Checkpoint>,
    tables: Vec<String>,
    layouts: Vec<String>,
}

impl Place {
    /// The columns that [`Place::read`] wants.
    pub(super) const COLUMNS: &str = "number, version, serving, token, checkpoint, tables, layouts";

    pub(super) fn read(row: &Row) -> Result<Place, tokio_postgres::Error> {
        let number: i64 = row.try_get(0)?;
        let version: i64 = row.try_get(1)?;
        let checkpoint: Option<i64> = row.try_get(4)?;
        Ok(Place {
            number: u32::try_from(number).unwrap_or(0),
            version: u32::try_from(version).unwrap_or(0),
            serving: row.try_get(2)?,
            token: row.try_get(3)?,
            checkpoint: checkpoint.map(|stored| Checkpoint(stored.cast_unsigned())),
            tables: row.try_get(5)?,
            layouts: row.try_get(6)?,
        })
    }

    /// Whether it has `table`, with its layout.
    pub(super) fn has(&self, table: &Table) -> bool {
        self.layout(table.name).is_some_and(|layout| layout == table.layout())
    }

    fn layout(&self, table: &str) -> Option<&str> {
        let at = self.tables.iter().position(|name| name == table)?;
        self.layouts.get(at).map(String::as_str)
    }
}

/// A checkpoint as a `bigint`, bit for bit: people can read all that ever occur.
pub(super) fn stored(checkpoint: Checkpoint) -> i64 {
    checkpoint.0.cast_signed()
}

/// Makes the schema if it is not there, and claims it for the store.
pub(super) async fn set_up(home: &Postgres) -> Result<(), StoreError> {
    let schema = home.schema().name();
    let action = format!("set up schema {schema}");
    let mut client = home.client(&action).await?;
    let told = |cause| error::store(&action, home.server().name(), &cause);
    let changing = client.transaction().await.map_err(told)?;
    // Two processes may begin at once.
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended('daybook schema ' || $1, 0))";
    changing.query_typed(lock, &[(&schema, Type::TEXT)]).await.map_err(told)?;
    // Not by IF NOT EXISTS, which wants the right to make one even where there is one.
    let there = "SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1";
    let there = changing.query_typed_opt(there, &[(&schema, Type::TEXT)]).await.map_err(told)?;
    if there.is_none() {
        changing.batch_execute(&format!("CREATE SCHEMA \"{schema}\"")).await.map_err(told)?;
    }
    let there = "SELECT to_regclass($1) IS NOT NULL";
    let store = home.schema().catalog("store");
    let there = changing.query_typed_one(there, &[(&store, Type::TEXT)]).await.map_err(told)?;
    if !there.get::<_, bool>(0) {
        changing.batch_execute(&tables(home)).await.map_err(told)?;
        let insert = format!("INSERT INTO {store} (format, store) VALUES ($1, $2)");
        let values: [(&(dyn ToSql + Sync), Type); 2] =
            [(&FORMAT, Type::INT4), (&home.store(), Type::UUID)];
        changing.execute_typed(&insert, &values).await.map_err(told)?;
    }
    changing.commit().await.map_err(told)?;
    drop(client);
    check_store(home).await
}

fn tables(home: &Postgres) -> String {
    let [store, projections, generations, parked] =
        ["store", "projections", "generations", "parked"].map(|t| home.schema().catalog(t));
    format!(
        "CREATE TABLE {store} (
            one_row boolean PRIMARY KEY DEFAULT true CHECK (one_row),
            format integer NOT NULL,
            store uuid
        );
        CREATE TABLE {projections} (
            name text COLLATE \"C\" PRIMARY KEY,
            paused boolean NOT NULL DEFAULT false,
            generations bigint NOT NULL DEFAULT 0
        );
        CREATE TABLE {generations} (
            projection text COLLATE \"C\" REFERENCES {projections},
            number bigint,
            version bigint NOT NULL,
            tables text[] NOT NULL,
            layouts text[] NOT NULL,
            serving boolean NOT NULL,
            token bigint NOT NULL DEFAULT 0,
            checkpoint bigint,
            position bigint GENERATED ALWAYS AS (checkpoint >> 8) STORED,
            PRIMARY KEY (projection, number)
        ) WITH (fillfactor = 50);
        CREATE UNIQUE INDEX one_serves ON {generations} (projection) WHERE serving;
        CREATE TABLE {parked} (
            projection text COLLATE \"C\",
            generation bigint,
            position bigint,
            stream text NOT NULL,
            event_type text NOT NULL,
            reason text NOT NULL,
            parked_at bigint NOT NULL,
            PRIMARY KEY (projection, generation, position)
        );"
    )
}

/// Refuses a schema of another store or format. One that is not there belongs to nobody.
pub(super) async fn check_store(home: &Postgres) -> Result<(), StoreError> {
    let schema = home.schema().name();
    let action = format!("use schema {schema}");
    let client = home.client(&action).await?;
    let sql = format!("SELECT format, store FROM {}", home.schema().catalog("store"));
    let found = match client.query_typed_opt(&sql, &[]).await {
        Ok(found) => found,
        Err(cause) if error::is_missing(&cause) => return Ok(()),
        Err(cause) => return Err(error::store(&action, home.server().name(), &cause)),
    };
    let Some(found) = found else { return Ok(()) };
    let told = |cause| error::store(&action, home.server().name(), &cause);
    let format: i32 = found.try_get(0).map_err(told)?;
    let owner: Option<Uuid> = found.try_get(1).map_err(told)?;
    let way_out = format!(
        "give another schema, or DROP SCHEMA \"{schema}\" CASCADE if nobody needs it: its tables \
         are built again from the feed"
    );
    if format != FORMAT {
        let reason = format!("it is of format {format}, this version writes {FORMAT}; {way_out}");
        return Err(error::refused(&action, reason));
    }
    match (owner, home.store()) {
        (Some(owner), Some(mine)) if owner != mine => {
            let reason = format!("it belongs to store {owner}, this is store {mine}; {way_out}");
            Err(error::refused(&action, reason))
        }
        _ => Ok(()),
    }
}

/// The generations of a projection, ascending; none if nothing was ever set up.
pub(super) async fn generations(
    home: &Postgres,
    projection: &str,
) -> Result<Vec<Generation>, StoreError> {
    let action = format!("list the generations of projection {projection}");
    let client = home.client(&action).await?;
    let sql = format!(
        "SELECT {}, paused FROM {} JOIN {} ON name = projection WHERE projection = $1 \
         ORDER BY number",
        Place::COLUMNS,
        home.schema().catalog("generations"),
        home.schema().catalog("projections"),
    );
    let told = |cause| error::store(&action, home.server().name(), &cause);
    let found = match client.query_typed(&sql, &[(&projection, Type::TEXT)]).await {
        Err(cause) if error::is_missing(&cause) => return Ok(Vec::new()),
        found => found.map_err(told)?,
    };
    let generation = |row: &Row| {
        let place = Place::read(row)?;
        Ok(Generation {
            number: place.number,
            version: place.version,
            serving: place.serving,
            paused: row.try_get(7)?,
            checkpoint: place.checkpoint,
        })
    };
    found.iter().map(generation).collect::<Result<_, _>>().map_err(told)
}

/// Fences whoever writes a generation. Its place, and the token of who writes from now on.
pub(super) async fn take_over(
    home: &Postgres,
    client: &Client,
    projection: &str,
    generation: u32,
) -> Result<Place, StoreError> {
    let action = format!("write generation {generation} of projection {projection}");
    let sql = format!(
        "UPDATE {} SET token = token + 1 WHERE projection = $1 AND number = $2 RETURNING {}",
        home.schema().catalog("generations"),
        Place::COLUMNS,
    );
    let number = i64::from(generation);
    let found = client
        .query_typed_opt(&sql, &[(&projection, Type::TEXT), (&number, Type::INT8)])
        .await
        .map_err(|cause| error::store(&action, home.server().name(), &cause))?;
    let Some(found) = found else {
        return Err(error::refused(&action, "there is no such generation any more"));
    };
    Place::read(&found).map_err(|cause| error::store(&action, home.server().name(), &cause))
}

/// Remembers whether the projection was told to pause.
pub(super) async fn set_paused(
    home: &Postgres,
    projection: &str,
    paused: bool,
) -> Result<(), StoreError> {
    let action = format!("remember whether projection {projection} is paused");
    let client = home.client(&action).await?;
    let sql = format!(
        "INSERT INTO {} (name, paused) VALUES ($1, $2) \
         ON CONFLICT (name) DO UPDATE SET paused = EXCLUDED.paused",
        home.schema().catalog("projections")
    );
    let values: [(&(dyn ToSql + Sync), Type); 2] =
        [(&projection, Type::TEXT), (&paused, Type::BOOL)];
    match client.execute_typed(&sql, &values).await {
        Ok(_) => Ok(()),
        Err(cause) => Err(error::store(&action, home.server().name(), &cause)),
    }
}

/// What a generation has parked after `after`, oldest first.
pub(super) async fn parked(
    home: &Postgres,
    projection: &str,
    after: Option<Position>,
    limit: usize,
) -> Result<Vec<Parked>, StoreError> {
    let action = format!("list what projection {projection} has parked");
    let client = home.client(&action).await?;
    let sql = format!(
        "SELECT position, stream, event_type, reason, parked_at FROM {} \
         WHERE projection = $1 AND position > $2 AND generation = \
         (SELECT number FROM {} WHERE projection = $1 AND serving) ORDER BY position LIMIT $3",
        home.schema().catalog("parked"),
        home.schema().catalog("generations"),
    );
    let after = after.map_or(-1, |after| after.0.cast_signed());
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let values: [(&(dyn ToSql + Sync), Type); 3] =
        [(&projection, Type::TEXT), (&after, Type::INT8), (&limit, Type::INT8)];
    let told = |cause| error::store(&action, home.server().name(), &cause);
    let found = match client.query_typed(&sql, &values).await {
        Err(cause) if error::is_missing(&cause) => return Ok(Vec::new()),
        found => found.map_err(told)?,
    };
    let parked = |row: &Row| {
        Ok(Parked {
            position: Position(row.try_get::<_, i64>(0)?.cast_unsigned()),
            stream: row.try_get(1)?,
            event_type: row.try_get(2)?,
            reason: row.try_get(3)?,
            at: Timestamp(row.try_get(4)?),
        })
    };
    found.iter().map(parked).collect::<Result<_, _>>().map_err(told)
}

/// The generations of a projection, whose row is held until the transaction ends.
pub(super) async fn hold(
    home: &Postgres,
    changing: &Transaction<'_>,
    projection: &str,
) -> Result<Vec<Place>, tokio_postgres::Error> {
    let row =
        format!("SELECT FROM {} WHERE name = $1 FOR UPDATE", home.schema().catalog("projections"));
    changing.query_typed(&row, &[(&projection, Type::TEXT)]).await?;
    let sql = format!(
        "SELECT {} FROM {} WHERE projection = $1 ORDER BY number FOR UPDATE",
        Place::COLUMNS,
        home.schema().catalog("generations"),
    );
    let found = changing.query_typed(&sql, &[(&projection, Type::TEXT)]).await?;
    found.iter().map(Place::read).collect()
}

impl Place {
    /// Its tables' names, as the version that made it called them.
    pub(super) fn tables(&self) -> &[String] {
        &self.tables
    }

    /// Whether both have `table` alike, so that a view of one can become a view of the other.
    pub(super) fn agrees(&self, other: &Place, table: &str) -> bool {
        self.layout(table).is_some() && self.layout(table) == other.layout(table)
    }
}
