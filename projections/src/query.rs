//! Asking a read model: one page of one table, in the order of one index, and how far it is.

use daybook_client::Checkpoint;

use crate::store::StoreError;
use crate::table::{Index, Row, Table, Value};

/// Rows of one page at most.
pub const PAGE_ROWS_MAX: usize = 1000;
/// Rows that may be looked at for one page whose filters fit few of them; the page then ends early
/// with a cursor, and may be empty.
pub const PAGE_EXAMINED_MAX: usize = 10_000;

/// A page of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The projection whose table it is.
    pub projection: &'static str,
    /// The table.
    pub table: &'static Table,
    /// The order: of an index, or of the key if none.
    pub index: Option<&'static Index>,
    /// Values of the order's first columns: only rows that have them.
    pub prefix: Vec<Value>,
    /// Further conditions, each on one column.
    pub filters: Vec<Filter>,
    /// Forwards or backwards.
    pub order: Order,
    /// Only what follows this row in the order: the index's columns, then the key.
    pub after: Option<Vec<Value>>,
    /// Rows at most; at most [`PAGE_ROWS_MAX`].
    pub limit: usize,
}

/// Which way an order is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The smallest first.
    #[default]
    Ascending,
    /// The largest first.
    Descending,
}

/// A condition on a column. A null fits none.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// The column's number.
    pub column: usize,
    /// How it compares.
    pub is: Comparison,
    /// With what.
    pub value: Value,
}

/// How a column compares with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The same.
    Equal,
    /// The same or more.
    AtLeast,
    /// Less.
    Below,
}

/// A page.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Its rows, in order.
    pub rows: Vec<Row>,
    /// What to ask for next ([`Query::after`]); none if this was the last page.
    pub next: Option<Vec<Value>>,
    /// The place in the feed that all of its rows reflect; none before the first event.
    pub as_of: Option<Checkpoint>,
}

/// Why there is no page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Nothing of it was built yet, or it has other tables than this version knows.
    #[error("projection {projection} is not there yet: {reason}")]
    NotReady {
        /// The projection.
        projection: String,
        /// How far it is.
        reason: String,
    },
    /// It cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Comparison {
    /// Whether `value` fits.
    #[must_use]
    pub fn fits(self, value: &Value, to: &Value) -> bool {
        *value != Value::Null
            && match self {
                Comparison::Equal => value == to,
                Comparison::AtLeast => value >= to,
                Comparison::Below => value < to,
            }
    }
}
