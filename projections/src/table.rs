//! What a read model is made of: tables of typed rows, in the order of their keys and indexes.
//!
//! ```text
//!   Table  accounts     columns  account_id | owner_id | status | currency | balance
//!                       key      ^^^^^^^^^^   the first `key_len` columns
//!                       index    by_owner: owner_id, then the key
//! ```
//!
//! The same table lives in sled (a row is a value, an index a range of keys) and in PostgreSQL (a
//! table with these columns and indexes, open to SQL).
//!
//! INVARIANT: no IO here.

use daybook_model::Timestamp;
use rust_decimal::Decimal;
use uuid::Uuid;

/// A table. All of it is known when the program is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name: lower case, digits and `_`; unique in its projection.
    pub name: &'static str,
    /// Its columns, those of the key first.
    pub columns: &'static [Column],
    /// How many columns, from the first on, make a row unique; none of them is ever null.
    pub key_len: usize,
    /// Other orders in which it can be read.
    pub indexes: &'static [Index],
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name: lower case, digits and `_`.
    pub name: &'static str,
    /// What it holds, or nothing ([`Value::Null`]) outside the key.
    pub kind: Kind,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text, ordered by its bytes.
    Text,
    /// A whole number of 64 bits.
    Integer,
    /// An exact decimal number, ordered by value.
    Decimal,
    /// An id.
    Uuid,
    /// A moment: UTC, in nanoseconds (PostgreSQL: `bigint`, whose own times stop at microseconds).
    Time,
    /// Yes or no.
    Flag,
}

/// An order in which a table can be read: by these columns, then by the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its name: unique in its table.
    pub name: &'static str,
    /// The numbers of its columns.
    pub columns: &'static [usize],
}

/// One field of a row. Null comes before all others of its kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Nothing.
    Null,
    /// See [`Kind::Text`].
    Text(String),
    /// See [`Kind::Integer`].
    Integer(i64),
    /// See [`Kind::Decimal`].
    Decimal(Decimal),
    /// See [`Kind::Uuid`].
    Uuid(Uuid),
    /// See [`Kind::Time`].
    Time(Timestamp),
    /// See [`Kind::Flag`].
    Flag(bool),
}

/// A row: a value for each column of its table.
pub type Row = Vec<Value>;

/// The key of a row: a value for each column of the key.
pub type Key = Vec<Value>;

impl Table {
    /// Whether `other` is this table.
    #[must_use]
    pub fn is(&self, other: &Table) -> bool {
        std::ptr::eq(self, other) || self.name == other.name
    }

    /// Everything that rows and index entries depend on, as text. Tables whose layouts differ
    /// cannot be read as one another.
    #[must_use]
    pub fn layout(&self) -> String {
        let column = |column: &Column| format!("{} {:?}", column.name, column.kind);
        let columns: Vec<_> = self.columns.iter().map(column).collect();
        let index = |index: &Index| format!("{} {:?}", index.name, index.columns);
        let indexes: Vec<_> = self.indexes.iter().map(index).collect();
        let (columns, indexes) = (columns.join(", "), indexes.join(", "));
        format!("{} ({columns}) key {} indexes ({indexes})", self.name, self.key_len)
    }

    /// The key of `row`.
    #[must_use]
    pub fn key<'a>(&self, row: &'a [Value]) -> &'a [Value] {
        &row[..self.key_len]
    }

    /// The number of the column called `name`, if there is one.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The index called `name`, if there is one.
    #[must_use]
    pub fn index(&self, name: &str) -> Option<&'static Index> {
        self.indexes.iter().find(|index| index.name == name)
    }

    /// Whether `row` has a value of the right kind for each column.
    #[must_use]
    pub fn takes(&self, row: &[Value]) -> bool {
        row.len() == self.columns.len()
            && self.columns.iter().zip(row).enumerate().all(|(at, (column, value))| {
                value.kind().map_or(at >= self.key_len, |kind| kind == column.kind)
            })
    }
}

impl Value {
    /// What it is; none of [`Value::Null`].
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Some(match self {
            Value::Null => return None,
            Value::Text(_) => Kind::Text,
            Value::Integer(_) => Kind::Integer,
            Value::Decimal(_) => Kind::Decimal,
            Value::Uuid(_) => Kind::Uuid,
            Value::Time(_) => Kind::Time,
            Value::Flag(_) => Kind::Flag,
        })
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Integer(number)
    }
}

impl From<Decimal> for Value {
    fn from(number: Decimal) -> Value {
        Value::Decimal(number)
    }
}

impl From<Uuid> for Value {
    fn from(id: Uuid) -> Value {
        Value::Uuid(id)
    }
}

impl From<Timestamp> for Value {
    fn from(time: Timestamp) -> Value {
        Value::Time(time)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Flag(flag)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}
