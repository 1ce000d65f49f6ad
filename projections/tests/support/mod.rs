//! What the tests of projections share: a store in memory, and a projection to keep.

#![allow(clippy::unwrap_used, reason = "a test that fails shows where")]
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod conformance;
pub mod source;
pub mod tally;

use std::time::Duration;

use daybook_projections::query::PAGE_ROWS_MAX;
use daybook_projections::{Backend, Host, Page, ProjectionStatus, Query, Row, Table};

/// A wait that fails a test; nothing waits so long when all is well.
pub const TOO_LONG: Duration = Duration::from_secs(60);

/// All rows of a table in the order of its key, and the place they are of.
pub async fn dump<B: Backend>(
    backend: &B,
    projection: &'static str,
    table: &'static Table,
) -> (Vec<Row>, Page) {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = backend.query(&all_of(projection, table, after)).await.unwrap();
        rows.extend(page.rows.clone());
        after = page.next.clone();
        if after.is_none() {
            return (rows, page);
        }
    }
}

/// The query for a page of a whole table.
pub fn all_of(
    projection: &'static str,
    table: &'static Table,
    after: Option<Vec<daybook_projections::Value>>,
) -> Query {
    Query {
        projection,
        table,
        index: None,
        prefix: Vec::new(),
        filters: Vec::new(),
        order: daybook_projections::query::Order::Ascending,
        after,
        limit: PAGE_ROWS_MAX,
    }
}

/// Waits until the status of a hosted projection is as it should be.
pub async fn until(
    host: &Host,
    name: &str,
    wanted: impl Fn(&ProjectionStatus) -> bool,
) -> ProjectionStatus {
    let waited = tokio::time::timeout(TOO_LONG, async {
        loop {
            let status = host.status(name).unwrap();
            if wanted(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    match waited.await {
        Ok(status) => status,
        Err(_) => panic!("not in time: {:#?}", host.status(name)),
    }
}
