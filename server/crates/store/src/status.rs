//! What a store says of itself and of its streams.

use daybook_model::{Epoch, Revision, StreamMetadata};
use uuid::Uuid;

/// What identifies the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The store.
    pub store_id: Uuid,
    /// Raised by each restore.
    pub epoch: Epoch,
    /// The version of the log's format.
    pub format: u32,
}

/// Whether appends are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Yes.
    Writable,
    /// Not now: the disk is full, or does not take another segment. Resumes by itself.
    DiskFull {
        /// What it says.
        reason: String,
    },
    /// Not until an operator accepts the new time.
    ClockLeapt {
        /// By how many seconds.
        seconds: u64,
    },
    /// Not in this process any more: a write or sync failed.
    Poisoned {
        /// What failed.
        reason: String,
    },
    /// The store is closed.
    Closed,
}

/// Numbers for people and metrics. Counters begin at zero when the store is opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Durable events.
    pub committed: u64,
    /// Appends that were written.
    pub appends: u64,
    /// Appends answered with an earlier one's result.
    pub duplicates: u64,
    /// Appends refused because a condition did not hold.
    pub rejections: u64,
    /// Appends refused because too many waited.
    pub overloads: u64,
    /// Appends that could not be written, or of which nobody knows whether they were: the disk is
    /// full, failed, or the store stopped.
    pub failures: u64,
    /// Events written.
    pub events: u64,
    /// Bytes written to the log.
    pub bytes: u64,
    /// Groups of appends made durable together.
    pub batches: u64,
    /// Appends that wait for the writer now.
    pub queue_depth: u64,
    /// Segments of the log, the active one included.
    pub segments: u64,
    /// Bytes of the log's segments, as allocated.
    pub log_bytes: u64,
    /// Bytes of index files.
    pub index_bytes: u64,
    /// Streams and other keys of the active segment's index, in memory.
    pub active_keys: u64,
    /// Subscriptions that are open.
    pub subscriptions: u64,
    /// Events read out of the newest part of the log, which is in memory.
    pub read_from_memory: u64,
    /// Events read from files.
    pub read_from_disk: u64,
    /// How often the next segment could not be prepared.
    pub spare_failures: u64,
    /// Index files that had to be built when the store was opened.
    pub index_rebuilt: u64,
    /// Microseconds the store took to open.
    pub open_us: u64,
    /// Free bytes on the data directory's volume.
    pub disk_free: u64,
}

/// What is known of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// Whether it can be read and written.
    pub state: StreamState,
    /// The revision of its last event, if it ever had one.
    pub head: Option<Revision>,
    /// The first revision its metadata does not hide.
    pub first: Revision,
    /// Whether metadata was ever written for it.
    pub has_metadata: bool,
    /// Its settings.
    pub metadata: StreamMetadata,
}

/// Whether a stream can be read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamState {
    /// Never written.
    Missing,
    /// Has events.
    Live,
    /// Deleted, and can be written again.
    SoftDeleted,
    /// Ended for ever.
    Tombstoned,
}
