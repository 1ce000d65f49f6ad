//! What tables are called, and how their columns are declared.
//!
//! ```text
//!   accounts_3_accounts    generation 3 of table `accounts` of projection `accounts`
//!   accounts_accounts      a view of the generation that serves: the name for people's SQL
//! ```
//!
//! INVARIANT: SQL is made of names that were checked here, quoted; values are always parameters.

use std::fmt::Write as _;

use tokio_postgres::types::Type;

use super::connect::SettingsError;
use super::error;
use crate::store::StoreError;
use crate::table::{Kind, Table};

/// Bytes of a name; PostgreSQL cuts longer ones silently.
pub const NAME_SIZE_MAX: usize = 63;
/// Parts of a page of rows that are filled at first: the rest is room for changed rows beside the
/// old ones, so that an update touches no index.
const FILL_PERCENT: u32 = 80;

/// The schema that holds everything, checked.
#[derive(Clone, Debug)]
pub(super) struct Schema(String);

impl Schema {
    pub(super) fn new(name: &str) -> Result<Schema, SettingsError> {
        if is_name(name) && !name.starts_with("pg_") {
            Ok(Schema(name.to_owned()))
        } else {
            Err(SettingsError::Schema { schema: name.to_owned() })
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// One of the catalog's tables.
    pub(super) fn catalog(&self, table: &'static str) -> String {
        format!("\"{}\".\"{table}\"", self.0)
    }

    /// A table of a generation.
    pub(super) fn table(
        &self,
        projection: &str,
        generation: u32,
        table: &str,
    ) -> Result<String, StoreError> {
        self.qualified(&[projection, table], &format!("{projection}_{generation}_{table}"))
    }

    /// The view of the generation that serves.
    pub(super) fn view(&self, projection: &str, table: &str) -> Result<String, StoreError> {
        self.qualified(&[projection, table], &format!("{projection}_{table}"))
    }

    fn qualified(&self, parts: &[&str], name: &str) -> Result<String, StoreError> {
        if parts.iter().all(|part| is_name(part)) && is_name(name) {
            return Ok(format!("\"{}\".\"{name}\"", self.0));
        }
        let reason = format!(
            "a projection and a table need names of lower-case letters, digits and '_', \
             {NAME_SIZE_MAX} bytes at most together"
        );
        Err(error::refused(&format!("name the table '{name}'"), reason))
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= NAME_SIZE_MAX
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// A column's name in SQL. Quoted: it may be one of SQL's own words.
pub(super) fn column(table: &Table, at: usize) -> String {
    let name = table.columns[at].name;
    assert!(is_name(name), "table {} has a column that is no name: {name}", table.name);
    format!("\"{name}\"")
}

/// Columns' names, with a comma between.
pub(super) fn columns(table: &Table, which: impl IntoIterator<Item = usize>) -> String {
    let names: Vec<String> = which.into_iter().map(|at| column(table, at)).collect();
    names.join(", ")
}

/// The columns of an order: of an index and then the key.
pub(super) fn order(table: &Table, index: &[usize]) -> Vec<usize> {
    index.iter().copied().chain(0..table.key_len).collect()
}

/// The statements that make `table` as `name`, with its indexes.
pub(super) fn create(name: &str, table: &Table) -> String {
    let mut sql = format!("CREATE TABLE {name} (");
    for (at, declared) in table.columns.iter().enumerate() {
        let not_null = if at < table.key_len { " NOT NULL" } else { "" };
        let _ = write!(sql, "{} {}{not_null}, ", column(table, at), declaration(declared.kind));
    }
    let key = columns(table, 0..table.key_len);
    let _ = write!(sql, "PRIMARY KEY ({key})) WITH (fillfactor = {FILL_PERCENT});");
    for index in table.indexes {
        // As pages are read: nulls first, which for columns of the key need not be said.
        let parts: Vec<String> = order(table, index.columns)
            .into_iter()
            .map(|at| {
                let nulls = if at < table.key_len { "" } else { " NULLS FIRST" };
                format!("{}{nulls}", column(table, at))
            })
            .collect();
        let _ = write!(sql, " CREATE INDEX ON {name} ({});", parts.join(", "));
    }
    sql
}

fn declaration(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text COLLATE \"C\"",
        Kind::Integer | Kind::Time => "bigint",
        Kind::Decimal => "numeric",
        Kind::Uuid => "uuid",
        Kind::Flag => "boolean",
    }
}

/// The type of a parameter that stands for one value.
pub(super) fn type_of(kind: Kind) -> Type {
    match kind {
        Kind::Text => Type::TEXT,
        Kind::Integer | Kind::Time => Type::INT8,
        Kind::Decimal => Type::NUMERIC,
        Kind::Uuid => Type::UUID,
        Kind::Flag => Type::BOOL,
    }
}

/// The type of a parameter that stands for a column of many rows.
pub(super) fn array_of(kind: Kind) -> Type {
    match kind {
        Kind::Text => Type::TEXT_ARRAY,
        Kind::Integer | Kind::Time => Type::INT8_ARRAY,
        Kind::Decimal => Type::NUMERIC_ARRAY,
        Kind::Uuid => Type::UUID_ARRAY,
        Kind::Flag => Type::BOOL_ARRAY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Column, Index};

    #[test]
    fn only_names_become_sql() {
        let schema = Schema::new("daybook").expect("a name");
        let named = schema.table("accounts", 3, "accounts").expect("names");
        assert_eq!(named, "\"daybook\".\"accounts_3_accounts\"");
        for bad in ["", "a\"; DROP TABLE x; --", "Accounts", "1st", "ä", &"a".repeat(64)] {
            assert!(Schema::new(bad).is_err(), "{bad}");
            assert!(schema.table(bad, 1, "t").is_err(), "{bad}");
            assert!(schema.view("p", bad).is_err(), "{bad}");
        }
        assert!(Schema::new("pg_catalog").is_err(), "PostgreSQL's own");
        let long = "a".repeat(40);
        assert!(schema.view(&long, &long).is_err(), "it would be cut");
    }

    #[test]
    fn a_table_is_declared_with_its_key_and_orders() {
        static TABLE: Table = Table {
            name: "t",
            columns: &[
                Column { name: "id", kind: Kind::Uuid },
                Column { name: "order", kind: Kind::Text },
                Column { name: "amount", kind: Kind::Decimal },
            ],
            key_len: 1,
            indexes: &[Index { name: "by_order", columns: &[1] }],
        };
        assert_eq!(
            create("\"s\".\"p_1_t\"", &TABLE),
            "CREATE TABLE \"s\".\"p_1_t\" (\"id\" uuid NOT NULL, \"order\" text COLLATE \"C\", \
             \"amount\" numeric, PRIMARY KEY (\"id\")) WITH (fillfactor = 80); \
             CREATE INDEX ON \"s\".\"p_1_t\" (\"order\" NULLS FIRST, \"id\");"
        );
    }
}
