//! What PostgreSQL's errors mean to a read model.
//!
//! INVARIANT: quotes the server's message, never its detail, which may hold a row.

use std::error::Error as _;
use std::time::Duration;

use deadpool_postgres::PoolError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::store::StoreError;

/// An error of `server`, met while trying `action`.
pub(super) fn store(action: &str, server: &str, error: &Error) -> StoreError {
    let (reason, transient) = match error.as_db_error() {
        Some(refused) => {
            let code = refused.code();
            (format!("{} (SQLSTATE {})", refused.message(), code.code()), is_transient(code))
        }
        None => (chain(error), true),
    };
    StoreError { action: action.to_owned(), reason: told_by(server, &reason), transient }
}

/// No connection was to be had for `action`.
pub(super) fn pool(action: &str, server: &str, error: &PoolError) -> StoreError {
    match error {
        PoolError::Backend(cause) => store(action, server, cause),
        PoolError::Timeout(_) => {
            let reason = "no connection became free in time; the server is overloaded or away";
            StoreError {
                action: action.to_owned(),
                reason: told_by(server, reason),
                transient: true,
            }
        }
        other => StoreError {
            action: action.to_owned(),
            reason: told_by(server, &other.to_string()),
            transient: true,
        },
    }
}

/// The server did not answer `action` within `limit`.
pub(super) fn late(action: &str, server: &str, limit: Duration) -> StoreError {
    let reason = told_by(server, &format!("no answer within {} s", limit.as_secs()));
    StoreError { action: action.to_owned(), reason, transient: true }
}

/// `action` cannot be done, now or later.
pub(super) fn refused(action: &str, reason: impl Into<String>) -> StoreError {
    StoreError { action: action.to_owned(), reason: reason.into(), transient: false }
}

/// Whether a table is not there: it was dropped, or never made.
pub(super) fn is_missing(error: &Error) -> bool {
    matches!(error.code(), Some(code) if [SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME]
        .contains(code))
}

fn told_by(server: &str, reason: &str) -> String {
    format!("PostgreSQL at {server}: {reason}")
}

/// Whether it may succeed later as it is: the server stops, starts, is full or was too slow.
fn is_transient(code: &SqlState) -> bool {
    let code = code.code();
    let class = code.get(..2).unwrap_or_default();
    // Connection, deadlock or serialization, resources, object in use, cancelled or shut down,
    // a system error. 25006 is a standby; 25P03 ends an idle transaction; 42P01 is a table dropped
    // by who took over.
    ["08", "40", "53", "55", "57", "58"].contains(&class)
        || ["25006", "25P03", "42P01"].contains(&code)
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_transient() {
        for (code, transient) in [
            ("57P01", true),  // shutting down
            ("57P03", true),  // starting up
            ("25006", true),  // read only: a standby, until the URL leads to its successor
            ("53300", true),  // too many connections
            ("53100", true),  // disk full
            ("40P01", true),  // deadlock
            ("55P03", true),  // lock timeout
            ("08006", true),  // connection failure
            ("28P01", false), // wrong password
            ("3D000", false), // no such database
            ("42501", false), // not allowed
            ("22021", false), // a character it cannot hold
        ] {
            assert_eq!(is_transient(&SqlState::from_code(code)), transient, "{code}");
        }
    }
}
