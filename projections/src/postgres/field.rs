//! Values as PostgreSQL's, both ways.
//!
//! A NUL character, which PostgreSQL's text cannot hold, becomes U+FFFD: whoever puts one into a
//! description must not stop a projection. Keys have none ([`crate::change::Changes`] refuses them),
//! or two of them would become one. An amount keeps its scale, nothing (0.00) included.

use std::borrow::Cow;
use std::error::Error;

use bytes::{BufMut as _, BytesMut};
use daybook_model::Timestamp;
use rust_decimal::Decimal;
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
            Value::Text(text) => without_nul(text).to_sql(kind, out),
            Value::Integer(number) => number.to_sql(kind, out),
            Value::Decimal(number) if number.is_zero() => {
                zero(*number, out);
                Ok(IsNull::No)
            }
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

/// Nothing, with as many digits after the point as it has: the library leaves them out, and an
/// account with nothing in it has 0.00.
fn zero(number: Decimal, out: &mut BytesMut) {
    const POSITIVE: u16 = 0;
    // How many groups of digits, which power of 10,000 the first is of, the sign, digits shown.
    out.put_u16(0);
    out.put_i16(0);
    out.put_u16(POSITIVE);
    out.put_u16(u16::try_from(number.scale()).unwrap_or(0));
}

/// Text that PostgreSQL can hold.
pub(super) fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
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
        Kind::Decimal => found.try_get::<_, Option<Decimal>>(at)?.into(),
        Kind::Uuid => found.try_get::<_, Option<uuid::Uuid>>(at)?.into(),
        Kind::Flag => found.try_get::<_, Option<bool>>(at)?.into(),
    })
}

#[cfg(test)]
mod tests {
    use tokio_postgres::types::FromSql as _;

    use super::*;

    #[test]
    fn an_amount_keeps_its_scale_also_if_it_is_nothing() {
        for text in ["0", "0.0", "0.00", "0.000", "10.00", "-0.50", "0.0001", "100000.00"] {
            let value = Value::Decimal(text.parse().expect("a number"));
            let mut bytes = BytesMut::new();
            Field(&value).to_sql(&Type::NUMERIC, &mut bytes).expect("written");
            let read = Decimal::from_sql(&Type::NUMERIC, &bytes).expect("read");
            assert_eq!(read.to_string(), text);
        }
    }
}
