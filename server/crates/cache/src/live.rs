//! One sled: opened, called and closed so that nothing it does wrong spreads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use crate::limits::{CLOSE_WAIT_MAX, FLUSH_INTERVAL_MS, LOCK_WAIT_MAX};

/// A sled that must not be used any more, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

/// Opens or creates the sled in `path`, with a page cache of `cache_size` bytes; its resident
/// memory is up to four times that. Waits a moment if somebody holds its lock.
///
/// # Errors
/// [`Fault`] if sled cannot read it.
pub fn open(path: &Path, cache_size: u64) -> Result<sled::Db, Fault> {
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(cache_size)
        .flush_every_ms(Some(FLUSH_INTERVAL_MS));
    wait_until_free(path);
    guarded("open", || config.open())
}

/// Calls sled, and makes of its errors and panics a [`Fault`]. `action` completes "sled cannot …
/// it".
///
/// # Errors
/// [`Fault`] says what sled said.
pub fn guarded<T>(
    action: &'static str,
    call: impl FnOnce() -> Result<T, sled::Error>,
) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Fault(format!("sled cannot {action} it: {error}"))),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(Fault(format!("sled panicked when asked to {action} it: {text}")))
        }
    }
}

/// Flushes and drops `db` in a thread of its own, because the destructor waits without limit for
/// sled's background thread, which may have died. It is left behind if that takes too long.
pub fn close(db: sled::Db, path: &Path) {
    let shown = path.display().to_string();
    let closed = in_time("sled-close", CLOSE_WAIT_MAX, move || {
        let flushed = guarded("flush", || db.flush());
        let dropped = guarded("close", || {
            drop(db);
            Ok(())
        });
        if let Some(fault) = flushed.err().or(dropped.err()) {
            tracing::warn!("{shown} did not close well: {fault}");
        }
    });
    if closed {
        wait_until_free(path);
    } else {
        tracing::warn!("{} did not close in time and is left behind", path.display());
    }
}

/// Waits until nobody locks the sled in `path`: after a close sled's thread pool, and after
/// a `kill -9` the dying process, may hold it a moment longer. If it is not free in time, sled's
/// own error says so.
#[expect(clippy::disallowed_methods, reason = "sled does its own IO; this is the seam around it")]
fn wait_until_free(path: &Path) {
    let file = path.join("db");
    in_time("sled-lock", LOCK_WAIT_MAX, move || {
        // If it cannot be opened there is nothing to wait for. Dropped, it is unlocked.
        let _ = std::fs::File::open(file).and_then(|file| file.lock());
    });
}

/// Runs `work` in a thread and waits for it, at most `limit`; says whether it was done.
fn in_time(name: &str, limit: Duration, work: impl FnOnce() + Send + 'static) -> bool {
    let (done, finished) = mpsc::channel();
    let thread = std::thread::Builder::new().name(name.to_owned());
    let started = thread.spawn(move || {
        work();
        // Nobody waits any more if that took too long.
        let _ = done.send(());
    });
    started.is_ok() && finished.recv_timeout(limit).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_and_a_panic_of_sled_are_faults() {
        let error = guarded("read", || Err::<(), _>(sled::Error::Unsupported("no".to_owned())));
        assert!(error.unwrap_err().0.starts_with("sled cannot read it: "));
        let panic = guarded("read", || -> Result<(), sled::Error> { panic!("planted") });
        let text = "sled panicked when asked to read it: planted";
        assert_eq!(panic, Err(Fault(text.to_owned())));
    }

    #[test]
    fn a_closed_sled_opens_again_at_once() {
        let directory = tempfile::TempDir::new().unwrap();
        for turn in 0..5u8 {
            let db = open(directory.path(), 1024 * 1024).unwrap();
            let before = db.insert(b"turn", &[turn]).unwrap();
            assert_eq!(before.map(|value| value[0]), turn.checked_sub(1));
            close(db, directory.path());
        }
    }
}
