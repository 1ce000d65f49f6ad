//! A page as SQL: a range of an order, filters over a bounded part of it, and where it goes on.
//!
//! A cursor is a place in an order of several columns, some of which may be null. It becomes one
//! range for each column that may differ, nearest first, each of which an index can find:
//!
//! ```text
//!   order status, balance, id   after (open, 5, x)
//!     status = open AND balance = 5 AND id > x
//!     status = open AND balance > 5
//!     status > open
//! ```
//!
//! Columns of the key are never null, so those that are left compare as one row: `(a, b) > (…)`.
//!
//! INVARIANT: no IO here; all values are parameters.

use std::cmp::Ordering;
use std::fmt::Write as _;

use tokio_postgres::types::{ToSql, Type};

use super::field::Field;
use super::names;
use crate::query::{Comparison, Order, PAGE_EXAMINED_MAX, PAGE_ROWS_MAX, Query};
use crate::table::{Table, Value};

/// SQL with its parameters.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sql<'a> {
    pub(super) text: String,
    parameters: Vec<(&'a Value, Type)>,
}

impl Sql<'_> {
    /// Fields for [`Sql::typed`].
    pub(super) fn fields(&self) -> Vec<Field<'_>> {
        self.parameters.iter().map(|(value, _)| Field(value)).collect()
    }

    /// What is sent.
    pub(super) fn typed<'f>(&self, fields: &'f [Field<'f>]) -> Vec<(&'f (dyn ToSql + Sync), Type)> {
        let typed = |(field, (_, kind)): (&'f Field<'f>, &(&Value, Type))| {
            (field as &'f (dyn ToSql + Sync), kind.clone())
        };
        fields.iter().zip(&self.parameters).map(typed).collect()
    }
}

/// Rows of a page at most.
pub(super) fn limit(query: &Query) -> usize {
    query.limit.clamp(1, PAGE_ROWS_MAX)
}

/// Whether a value that a column must have is one that PostgreSQL's text cannot hold, so that no
/// row has it.
pub(super) fn is_impossible(query: &Query) -> bool {
    let nul = |value: &Value| matches!(value, Value::Text(text) if text.contains('\0'));
    query.prefix.iter().any(nul) || query.filters.iter().any(|filter| nul(&filter.value))
}

/// The page: one row more than its limit, which says whether something follows.
pub(super) fn rows<'a>(name: &str, query: &'a Query) -> Sql<'a> {
    let mut sql = Builder::default();
    let range = sql.range(name, query);
    let order = order_by(query);
    let mut text = format!("SELECT * FROM ({range}) AS range {order}");
    if !query.filters.is_empty() {
        text = format!(
            "SELECT * FROM ({text} LIMIT {PAGE_EXAMINED_MAX}) AS examined WHERE {} {order}",
            sql.filters(query)
        );
    }
    let _ = write!(text, " LIMIT {}", limit(query) + 1);
    Sql { text, parameters: sql.parameters }
}

/// The last row that was examined, if there was as much as may be.
pub(super) fn examined<'a>(name: &str, query: &'a Query) -> Sql<'a> {
    let mut sql = Builder::default();
    let range = sql.range(name, query);
    let text = format!(
        "SELECT * FROM ({range}) AS range {} LIMIT 1 OFFSET {}",
        order_by(query),
        PAGE_EXAMINED_MAX - 1
    );
    Sql { text, parameters: sql.parameters }
}

/// The columns of the query's order.
pub(super) fn order(query: &Query) -> Vec<usize> {
    names::order(query.table, query.index.map_or(&[], |index| index.columns))
}

/// The order after the prefix, whose values are the same in all rows.
fn order_by(query: &Query) -> String {
    let parts: Vec<_> = order(query)
        .into_iter()
        .skip(query.prefix.len())
        .map(|at| {
            let name = names::column(query.table, at);
            match (query.order, is_nullable(query.table, at)) {
                (Order::Ascending, true) => format!("{name} ASC NULLS FIRST"),
                (Order::Ascending, false) => format!("{name} ASC"),
                (Order::Descending, true) => format!("{name} DESC NULLS LAST"),
                (Order::Descending, false) => format!("{name} DESC"),
            }
        })
        .collect();
    if parts.is_empty() { String::new() } else { format!("ORDER BY {}", parts.join(", ")) }
}

fn is_nullable(table: &Table, column: usize) -> bool {
    column >= table.key_len
}

/// Where a cursor stands, seen from the rows that have the prefix.
enum Place<'a> {
    /// Before all of them, or there is none.
    Before,
    /// Among them: its columns after the prefix.
    Within(&'a [Value]),
    /// Behind all of them.
    Behind,
}

fn place_within(query: &Query) -> Place<'_> {
    let Some(after) = &query.after else { return Place::Before };
    let (prefix, rest) = after.split_at(query.prefix.len().min(after.len()));
    let ordering = match query.order {
        Order::Ascending => prefix.cmp(&query.prefix),
        Order::Descending => prefix.cmp(&query.prefix).reverse(),
    };
    match ordering {
        Ordering::Less => Place::Before,
        Ordering::Equal => Place::Within(rest),
        Ordering::Greater => Place::Behind,
    }
}

/// Collects parameters while text is written.
#[derive(Default)]
struct Builder<'a> {
    parameters: Vec<(&'a Value, Type)>,
}

impl<'a> Builder<'a> {
    fn parameter(&mut self, table: &Table, column: usize, value: &'a Value) -> String {
        self.parameters.push((value, names::type_of(table.columns[column].kind)));
        format!("${}", self.parameters.len())
    }

    fn equal(&mut self, table: &Table, column: usize, value: &'a Value) -> String {
        let name = names::column(table, column);
        match value {
            Value::Null => format!("{name} IS NULL"),
            value => format!("{name} = {}", self.parameter(table, column, value)),
        }
    }

    /// The rows of `query` in no order and without limit.
    fn range(&mut self, name: &str, query: &'a Query) -> String {
        let table = query.table;
        let order = order(query);
        let columns = names::columns(table, 0..table.columns.len());
        let prefix: Vec<_> =
            order.iter().zip(&query.prefix).map(|(at, v)| self.equal(table, *at, v)).collect();
        let branches = match place_within(query) {
            Place::Before => vec![Vec::new()],
            Place::Behind => vec![vec!["false".to_owned()]],
            Place::Within(after) => {
                let rest: Vec<_> = order.into_iter().skip(query.prefix.len()).zip(after).collect();
                self.beyond(table, query.order, &rest)
            }
        };
        let select = |branch: &Vec<String>| {
            let conditions: Vec<_> = prefix.iter().chain(branch).cloned().collect();
            match conditions.as_slice() {
                [] => format!("SELECT {columns} FROM {name}"),
                some => format!("SELECT {columns} FROM {name} WHERE {}", some.join(" AND ")),
            }
        };
        let selects: Vec<_> = branches.iter().map(select).collect();
        selects.join(" UNION ALL ")
    }

    /// The ranges beyond a place, each as conditions that hold together.
    fn beyond(
        &mut self,
        table: &Table,
        order: Order,
        place: &[(usize, &'a Value)],
    ) -> Vec<Vec<String>> {
        let nullable = place.iter().take_while(|(at, _)| is_nullable(table, *at)).count();
        let (nullable, key) = place.split_at(nullable);
        let mut same = Vec::new();
        let mut branches = Vec::new();
        for (at, value) in nullable {
            for differs in self.differing(table, order, (*at, value)) {
                branches.push(same.iter().cloned().chain([differs]).collect());
            }
            same.push(self.equal(table, *at, value));
        }
        let sign = match order {
            Order::Ascending => '>',
            Order::Descending => '<',
        };
        same.push(match key {
            [] => "false".to_owned(),
            key => {
                let columns = names::columns(table, key.iter().map(|(at, _)| *at));
                let values: Vec<_> =
                    key.iter().map(|(at, value)| self.parameter(table, *at, value)).collect();
                format!("({columns}) {sign} ({})", values.join(", "))
            }
        });
        branches.push(same);
        branches.reverse();
        branches
    }

    /// What comes after `value` in a column that may be null; nulls are the smallest.
    fn differing(
        &mut self,
        table: &Table,
        order: Order,
        (at, value): (usize, &'a Value),
    ) -> Vec<String> {
        let name = names::column(table, at);
        match (order, value) {
            (Order::Ascending, Value::Null) => vec![format!("{name} IS NOT NULL")],
            (Order::Ascending, value) => {
                vec![format!("{name} > {}", self.parameter(table, at, value))]
            }
            (Order::Descending, Value::Null) => Vec::new(),
            (Order::Descending, value) => vec![
                format!("{name} IS NULL"),
                format!("{name} < {}", self.parameter(table, at, value)),
            ],
        }
    }

    fn filters(&mut self, query: &'a Query) -> String {
        let conditions: Vec<_> = query
            .filters
            .iter()
            .map(|filter| {
                let name = names::column(query.table, filter.column);
                let sign = match (filter.is, &filter.value) {
                    (Comparison::AtLeast, Value::Null) => return format!("{name} IS NOT NULL"),
                    (_, Value::Null) => return "false".to_owned(),
                    (Comparison::Equal, _) => "=",
                    (Comparison::AtLeast, _) => ">=",
                    (Comparison::Below, _) => "<",
                };
                format!(
                    "{name} {sign} {}",
                    self.parameter(query.table, filter.column, &filter.value)
                )
            })
            .collect();
        conditions.join(" AND ")
    }
}

#[cfg(test)]
mod tests {
    use rust_decimal::Decimal;

    use super::*;
    use crate::query::Filter;
    use crate::table::{Column, Index, Kind};

    static TABLE: Table = Table {
        name: "t",
        columns: &[
            Column { name: "a", kind: Kind::Text },
            Column { name: "b", kind: Kind::Integer },
            Column { name: "status", kind: Kind::Text },
            Column { name: "balance", kind: Kind::Decimal },
        ],
        key_len: 2,
        indexes: &[Index { name: "by_status", columns: &[2, 3] }],
    };

    fn query(index: Option<&'static Index>) -> Query {
        Query {
            projection: "p",
            table: &TABLE,
            index,
            prefix: Vec::new(),
            filters: Vec::new(),
            order: Order::Ascending,
            after: None,
            limit: 2,
        }
    }

    const SELECT: &str = "SELECT \"a\", \"b\", \"status\", \"balance\" FROM t";

    #[test]
    fn a_key_is_compared_as_one_row() {
        let query = Query { after: Some(vec!["x".into(), 1.into()]), ..query(None) };
        assert_eq!(
            rows("t", &query).text,
            format!(
                "SELECT * FROM ({SELECT} WHERE (\"a\", \"b\") > ($1, $2)) AS range \
                 ORDER BY \"a\" ASC, \"b\" ASC LIMIT 3"
            )
        );
    }

    #[test]
    fn a_place_in_an_index_becomes_ranges_nearest_first() {
        let after = Some(vec!["open".into(), Value::Null, "x".into(), 1.into()]);
        let index = TABLE.index("by_status");
        let ascending = Query { after: after.clone(), ..query(index) };
        let mut builder = Builder::default();
        assert_eq!(
            builder.range("t", &ascending).replace(SELECT, "…"),
            "… WHERE \"status\" = $2 AND \"balance\" IS NULL AND (\"a\", \"b\") > ($3, $4) \
             UNION ALL … WHERE \"status\" = $2 AND \"balance\" IS NOT NULL \
             UNION ALL … WHERE \"status\" > $1"
        );
        let descending = Query { after, order: Order::Descending, ..query(index) };
        let mut builder = Builder::default();
        assert_eq!(
            builder.range("t", &descending).replace(SELECT, "…"),
            "… WHERE \"status\" = $2 AND \"balance\" IS NULL AND (\"a\", \"b\") < ($3, $4) \
             UNION ALL … WHERE \"status\" < $1 UNION ALL … WHERE \"status\" IS NULL"
        );
    }

    #[test]
    fn filters_look_at_a_bounded_part() {
        let filter = Filter { column: 3, is: Comparison::AtLeast, value: Decimal::ONE.into() };
        let query = Query {
            prefix: vec!["open".into()],
            filters: vec![filter],
            ..query(TABLE.index("by_status"))
        };
        let order = "ORDER BY \"balance\" ASC NULLS FIRST, \"a\" ASC, \"b\" ASC";
        assert_eq!(
            rows("t", &query).text,
            format!(
                "SELECT * FROM (SELECT * FROM ({SELECT} WHERE \"status\" = $1) AS range {order} \
                 LIMIT 10000) AS examined WHERE \"balance\" >= $2 {order} LIMIT 3"
            )
        );
    }
}
