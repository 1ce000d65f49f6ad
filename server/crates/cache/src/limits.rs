//! The limits of disposable sleds, each with its unit and its reason.

use std::time::Duration;

/// Milliseconds between sled's background writes. Its garbage collection runs in the same thread,
/// so this must never be off.
pub const FLUSH_INTERVAL_MS: u64 = 500;
/// Operations of one batch: memory grows with a batch (four times as many are seven times the
/// memory), and batches of a thousand are known to be good.
pub const BATCH_OPERATIONS_MAX: usize = 1000;
/// Directories that were set aside and are kept for a look.
pub const SET_ASIDE_MAX: usize = 3;
/// New beginnings in one process. Each leaks a failed sled and its cache; a disk that
/// breaks three of them breaks the next one too.
pub const BEGINNINGS_MAX: u64 = 3;
/// Notes kept for whoever asks what happened.
pub const NOTES_MAX: usize = 16;
/// How long closing waits for sled to flush and to stop its threads before it leaves them behind.
pub const CLOSE_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long opening and closing wait until nobody holds sled's lock.
pub const LOCK_WAIT_MAX: Duration = Duration::from_secs(1);
