//! Making, serving and removing generations: tables, views and the catalog in one transaction each.
//!
//! INVARIANT: a view shows the generation that serves, and changes in the transaction that says so.

use std::fmt::Write as _;

use deadpool_postgres::Transaction;
use tokio_postgres::Error;
use tokio_postgres::types::{ToSql, Type};

use super::catalog::{self, Place};
use super::{Postgres, error, names};
use crate::projection::Projection;
use crate::store::StoreError;
use crate::table::Table;

/// Makes a generation with empty tables. Its number.
pub(super) async fn create(
    home: &Postgres,
    projection: &dyn Projection,
) -> Result<u32, StoreError> {
    let name = projection.name();
    let action = format!("make a generation of projection {name}");
    let mut client = home.client(&action).await?;
    let told = |cause: Error| error::store(&action, home.server().name(), &cause);
    let changing = client.transaction().await.map_err(told)?;
    let next = format!(
        "INSERT INTO {} (name, generations) VALUES ($1, 1) ON CONFLICT (name) \
         DO UPDATE SET generations = {0}.generations + 1 RETURNING generations",
        home.schema().catalog("projections")
    );
    let next = changing.query_typed_one(&next, &[(&name, Type::TEXT)]).await.map_err(told)?;
    let number: i64 = next.try_get(0).map_err(told)?;
    let generation =
        u32::try_from(number).map_err(|_| error::refused(&action, "its numbers have run out"))?;
    let places = catalog::hold(home, &changing, name).await.map_err(told)?;
    let serving = places.iter().all(|place| !place.serving);
    let declared = projection.tables();
    changing.batch_execute(&declaration(home, name, generation, declared)?).await.map_err(told)?;
    let insert = format!(
        "INSERT INTO {} (projection, number, version, tables, layouts, serving) \
         VALUES ($1, $2, $3, $4, $5, $6)",
        home.schema().catalog("generations")
    );
    let version = i64::from(projection.version());
    let tables: Vec<&str> = declared.iter().map(|table| table.name).collect();
    let layouts: Vec<String> = declared.iter().map(Table::layout).collect();
    let values: [(&(dyn ToSql + Sync), Type); 6] = [
        (&name, Type::TEXT),
        (&number, Type::INT8),
        (&version, Type::INT8),
        (&tables, Type::TEXT_ARRAY),
        (&layouts, Type::TEXT_ARRAY),
        (&serving, Type::BOOL),
    ];
    changing.execute_typed(&insert, &values).await.map_err(told)?;
    if serving {
        let views = views(home, name, generation, &tables)?;
        changing.batch_execute(&views).await.map_err(told)?;
    }
    changing.commit().await.map_err(told)?;
    Ok(generation)
}

/// Lets queries see a generation, then removes all older ones.
pub(super) async fn serve(
    home: &Postgres,
    projection: &str,
    generation: u32,
) -> Result<(), StoreError> {
    let action = format!("serve generation {generation} of projection {projection}");
    let mut client = home.client(&action).await?;
    let told = |cause: Error| error::store(&action, home.server().name(), &cause);
    let changing = client.transaction().await.map_err(told)?;
    let places = catalog::hold(home, &changing, projection).await.map_err(told)?;
    let Some(next) = places.iter().find(|place| place.number == generation) else {
        return Err(error::refused(&action, "there is no such generation any more"));
    };
    if !next.serving {
        let before = places.iter().find(|place| place.serving);
        let sql = swap(home, projection, before, next)?;
        changing.batch_execute(&sql).await.map_err(told)?;
        // The one before ends before the next begins: the unique index looks at each statement.
        let set = format!(
            "UPDATE {} SET serving = NOT serving WHERE projection = $1 AND number = $2",
            home.schema().catalog("generations")
        );
        for place in before.into_iter().chain([next]) {
            let number = i64::from(place.number);
            let values: [(&(dyn ToSql + Sync), Type); 2] =
                [(&projection, Type::TEXT), (&number, Type::INT8)];
            changing.execute_typed(&set, &values).await.map_err(told)?;
        }
    }
    changing.commit().await.map_err(told)?;
    drop(client);
    for older in places.iter().filter(|place| place.number < generation) {
        remove(home, projection, older.number).await?;
    }
    Ok(())
}

/// Removes a generation with its tables, and its views if it served.
pub(super) async fn remove(
    home: &Postgres,
    projection: &str,
    generation: u32,
) -> Result<(), StoreError> {
    let action = format!("remove generation {generation} of projection {projection}");
    let mut client = home.client(&action).await?;
    let told = |cause: Error| error::store(&action, home.server().name(), &cause);
    let changing = client.transaction().await.map_err(told)?;
    let places = match catalog::hold(home, &changing, projection).await {
        Err(cause) if error::is_missing(&cause) => return Ok(()),
        found => found.map_err(told)?,
    };
    let Some(gone) = places.iter().find(|place| place.number == generation) else {
        return Ok(());
    };
    for (table, column) in [("parked", "generation"), ("generations", "number")] {
        forget(home, &changing, (table, column), (projection, generation)).await.map_err(told)?;
    }
    let mut sql = String::new();
    if gone.serving {
        sql += &without_views(home, projection, gone.tables().iter())?;
    }
    for table in gone.tables() {
        let name = home.schema().table(projection, generation, table)?;
        let _ = write!(sql, "DROP TABLE IF EXISTS {name};");
    }
    changing.batch_execute(&sql).await.map_err(told)?;
    changing.commit().await.map_err(told)
}

async fn forget(
    home: &Postgres,
    changing: &Transaction<'_>,
    (table, column): (&'static str, &'static str),
    (projection, generation): (&str, u32),
) -> Result<u64, Error> {
    let sql = format!(
        "DELETE FROM {} WHERE projection = $1 AND {column} = $2",
        home.schema().catalog(table)
    );
    let number = i64::from(generation);
    changing.execute_typed(&sql, &[(&projection, Type::TEXT), (&number, Type::INT8)]).await
}

fn declaration(
    home: &Postgres,
    projection: &str,
    generation: u32,
    tables: &[Table],
) -> Result<String, StoreError> {
    let mut sql = String::new();
    for table in tables {
        let name = home.schema().table(projection, generation, table.name)?;
        sql += &names::create(&name, table);
    }
    Ok(sql)
}

/// Replaces views where the columns are the same, which keeps the rights that people gave on them.
fn swap(
    home: &Postgres,
    projection: &str,
    before: Option<&Place>,
    next: &Place,
) -> Result<String, StoreError> {
    let before = before.map(|before| (before, before.tables().iter()));
    let mut sql = match before {
        Some((before, tables)) => {
            without_views(home, projection, tables.filter(|table| !before.agrees(next, table)))?
        }
        None => String::new(),
    };
    let tables: Vec<&str> = next.tables().iter().map(String::as_str).collect();
    sql += &views(home, projection, next.number, &tables)?;
    Ok(sql)
}

fn views(
    home: &Postgres,
    projection: &str,
    generation: u32,
    tables: &[&str],
) -> Result<String, StoreError> {
    let mut sql = String::new();
    for table in tables {
        let view = home.schema().view(projection, table)?;
        let name = home.schema().table(projection, generation, table)?;
        let _ = write!(sql, "CREATE OR REPLACE VIEW {view} AS SELECT * FROM {name};");
    }
    Ok(sql)
}

fn without_views<'a>(
    home: &Postgres,
    projection: &str,
    tables: impl Iterator<Item = &'a String>,
) -> Result<String, StoreError> {
    let mut sql = String::new();
    for table in tables {
        let _ = write!(sql, "DROP VIEW IF EXISTS {};", home.schema().view(projection, table)?);
    }
    Ok(sql)
}
