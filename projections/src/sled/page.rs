//! A page of a table: a walk over the keys of its rows, or of one of its indexes.

use std::ops::Bound;

use daybook_cache::{Fault, guarded};
use daybook_client::Checkpoint;

use super::codec;
use super::live::{Built, Live, fault};
use crate::order;
use crate::query::{Order, PAGE_EXAMINED_MAX, PAGE_ROWS_MAX, Page, Query};
use crate::table::{Row, Value};

impl Live {
    /// The page, or why there is none.
    pub(super) fn page(&self, query: &Query) -> Result<Result<Page, String>, Fault> {
        // A swap may take away what served when it was looked up; another serves by then.
        let mut page = self.page_of_serving(query)?;
        if page.is_none() {
            page = self.page_of_serving(query)?;
        }
        Ok(page.unwrap_or_else(|| Err("it was just removed".to_owned())))
    }

    /// The page, or why there is none; nothing if what served is gone.
    fn page_of_serving(&self, query: &Query) -> Result<Option<Result<Page, String>>, Fault> {
        let built = match self.serving(query.projection) {
            Ok(built) => built,
            Err(reason) => return Ok(Some(Err(reason))),
        };
        let Some(table) = table_number(&built, query) else {
            let (version, table) = (built.entry.version, query.table.name);
            let next = self.next_one(query.projection);
            let reason =
                format!("version {version} serves, whose table {table} is laid out otherwise");
            return Ok(Some(Err(format!("{reason}; {next}"))));
        };
        // Held to the end, so that all rows are of one place.
        let now = built.now.read();
        if Built::is_gone(&now) {
            return Ok(None);
        }
        let as_of = now.reach.checkpoint.map(Checkpoint);
        let walk = Walk::of(query, table);
        walk.rows(&built.tree, query).map(|(rows, next)| Some(Ok(Page { rows, next, as_of })))
    }

    /// How far the generation is that is to serve next, for people.
    fn next_one(&self, projection: &str) -> String {
        match self.newest(projection).map(|built| built.now.read().reach.checkpoint) {
            Some(Some(at)) => {
                format!("the new version is built up to position {}", Checkpoint(at).position())
            }
            _ => "the new version is not being built yet".to_owned(),
        }
    }
}

/// The table's number in what was built; none if it was built with another layout.
fn table_number(built: &Built, query: &Query) -> Option<u8> {
    let layouts = &built.entry.layouts;
    let at = layouts.iter().position(|(name, _)| name == query.table.name)?;
    (layouts[at].1 == query.table.layout()).then(|| u8::try_from(at).ok()).flatten()
}

/// A range of keys.
struct Walk {
    table: u8,
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
}

impl Walk {
    fn of(query: &Query, table: u8) -> Walk {
        let mut start = match query.index {
            None => codec::rows_of(table),
            Some(wanted) => {
                let at = query.table.indexes.iter().position(|index| index.name == wanted.name);
                let at = at.and_then(|at| u8::try_from(at).ok());
                codec::entries_of(table, at.expect("an index of the query's table"))
            }
        };
        let all = start.clone();
        order::encode(&query.prefix, &mut start);
        let end = order::after_prefix(&start).expect("it begins with a small byte");
        let after = query.after.as_ref().map(|after| {
            let mut key = all;
            order::encode(after, &mut key);
            key.clamp(start.clone(), end.clone())
        });
        match (query.order, after) {
            (Order::Ascending, Some(after)) => {
                Walk { table, from: Bound::Excluded(after), to: Bound::Excluded(end) }
            }
            (Order::Descending, Some(after)) => {
                Walk { table, from: Bound::Included(start), to: Bound::Excluded(after) }
            }
            (_, None) => Walk { table, from: Bound::Included(start), to: Bound::Excluded(end) },
        }
    }

    /// The rows that fit, and the place to go on after if there may be more.
    fn rows(
        self,
        tree: &sled::Tree,
        query: &Query,
    ) -> Result<(Vec<Row>, Option<Vec<Value>>), Fault> {
        let limit = query.limit.clamp(1, PAGE_ROWS_MAX);
        let mut rows = Vec::new();
        let mut last = None;
        if is_empty(&self.from, &self.to) {
            return Ok((rows, None));
        }
        let mut entries = tree.range((self.from, self.to));
        for examined in 0.. {
            let entry = guarded("read", || match query.order {
                Order::Ascending => entries.next().transpose(),
                Order::Descending => entries.next_back().transpose(),
            })?;
            let Some((_, value)) = entry else { return Ok((rows, None)) };
            if rows.len() == limit || examined == PAGE_EXAMINED_MAX {
                break;
            }
            let columns = query.table.columns.len();
            let row = match query.index {
                None => codec::open_row(&value, columns).map_err(fault)?,
                Some(_) => {
                    let key = codec::row_key(self.table, &value);
                    let Some(value) = guarded("read", || tree.get(key))? else {
                        return Err(Fault("an index has an entry without a row".to_owned()));
                    };
                    codec::open_row(&value, columns).map_err(fault)?
                }
            };
            last = Some(cursor(query, &row));
            let fits = |filter: &crate::query::Filter| {
                row.get(filter.column).is_some_and(|value| filter.is.fits(value, &filter.value))
            };
            if query.filters.iter().all(fits) {
                rows.push(row);
            }
        }
        Ok((rows, last))
    }
}

/// Where a row stands in the query's order.
fn cursor(query: &Query, row: &Row) -> Vec<Value> {
    let columns = query.index.map_or(&[][..], |index| index.columns);
    let of_index = columns.iter().map(|column| row[*column].clone());
    of_index.chain(query.table.key(row).iter().cloned()).collect()
}

/// Whether nothing lies between the bounds: sled need not be asked what that means.
fn is_empty(from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) -> bool {
    match (from, to) {
        (
            Bound::Included(from) | Bound::Excluded(from),
            Bound::Included(to) | Bound::Excluded(to),
        ) => from >= to,
        _ => false,
    }
}
