//! Values as PostgreSQL's, both ways.

use std::error::Error;

use bytes::BytesMut;
use daybook_model::Timestamp;
use tokio_postgres::Row as Found;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::table::{Kind, Row, Table, Value};

/// A value as a parameter, whose type is said beside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a>(pub(super) &'a Value);

impl ToSql for Field<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self.0 {
            Value::Null => Ok(IsNull::Yes),
            Value::Text(text) => text.to_sql(kind, out),
            Value::Integer(number) => number.to_sql(kind, out),
            Value::Decimal(number) => number.to_sql(kind, out),
            Value::Uuid(id) => id.to_sql(kind, out),
            Value::Time(time) => time.0.to_sql(kind, out),
            Value::Flag(flag) => flag.to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        // The types are derived from the same columns as the values.
        true
    }

    to_sql_checked!();
}

/// A row of `table` as it was found: all of its columns, in order.
pub(super) fn row(table: &Table, found: &Found) -> Result<Row, tokio_postgres::Error> {
    (0..table.columns.len()).map(|at| value(table.columns[at].kind, found, at)).collect()
}

/// One column as it was found.
pub(super) fn value(kind: Kind, found: &Found, at: usize) -> Result<Value, tokio_postgres::Error> {
    Ok(match kind {
        Kind::Text => found.try_get::<_, Option<String>>(at)?.map_or(Value::Null, Value::Text),
        Kind::Integer => found.try_get::<_, Option<i64>>(at)?.into(),
        Kind::Time => found.try_get::<_, Option<i64>>(at)?.map(Timestamp).into(),
        Kind::Decimal => found.try_get::<_, Option<rust_decimal::Decimal>>(at)?.into(),
        Kind::Uuid => found.try_get::<_, Option<uuid::Uuid>>(at)?.into(),
        Kind::Flag => found.try_get::<_, Option<bool>>(at)?.into(),
    })
}
