//! The limits of snapshots, each with its unit and its reason.

use daybook_cache::limits::BATCH_OPERATIONS_MAX;

/// Bytes of one snapshot's data. sled keeps up to 16 values in one page, reads it whole and
/// rewrites it whole every few changes: this bounds a page to about 16 MiB. An aggregate with a
/// larger state wants to be several.
pub const SNAPSHOT_SIZE_MAX: usize = 1024 * 1024;
/// Bytes of a snapshot's kind. Room for a media type.
pub const KIND_SIZE_MAX: usize = 255;
/// Snapshots kept of one stream, the highest revisions: the newest is what readers want, the two
/// before it serve a reader that asks for a slightly older state.
pub const PER_STREAM_MAX: usize = 3;
/// Snapshots kept in all. Each has two keys, and sled grows badly past about a million.
pub const ENTRIES_MAX: u64 = 250_000;
/// Bytes of all records together. sled's files are up to 15 times its data; this keeps them to a
/// few GB.
pub const TOTAL_SIZE_MAX: u64 = 512 * 1024 * 1024;
/// Bytes of sled's page cache unless told otherwise. Its resident memory is up to four times this.
pub const CACHE_SIZE: u64 = 64 * 1024 * 1024;
/// Snapshots removed in one batch, two keys each: memory grows with a batch, and batches of
/// a thousand keys are known to be good.
pub const EVICT_BATCH_MAX: usize = 400;

/// What one store may keep. The constants above, except in tests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) per_stream: usize,
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    /// Bytes of sled's page cache.
    pub(crate) cache: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            per_stream: PER_STREAM_MAX,
            entries: ENTRIES_MAX,
            bytes: TOTAL_SIZE_MAX,
            cache: CACHE_SIZE,
        }
    }
}

const _: () = assert!(EVICT_BATCH_MAX * 2 < BATCH_OPERATIONS_MAX);
const _: () = assert!(ENTRIES_MAX * 2 < 1_000_000);
