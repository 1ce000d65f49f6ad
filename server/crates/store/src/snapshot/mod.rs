//! Snapshots of aggregates: a small, disposable cache beside the log.
//!
//! A snapshot is the state of one aggregate after the event of one revision, so that a reader
//! replays the few events after it and not the thousands before. Nothing here is the truth: the
//! whole directory can be deleted at any time, and all that is lost is the time to replay.
//!
//! ```text
//!   <directory>/live-7      the sled in use; a new beginning takes the next number
//!   <directory>/bad-6       set aside with its reason logged; the newest few are kept for a look
//!
//!   live-7, one tree        key                                  value (all in an envelope)
//!     stamp                 0                                    store, epoch, position, totals
//!     one snapshot          1 | stream | 0 | revision            the record
//!     its turn to go        2 | sequence                         key and size of that record
//! ```
//!
//! How each question is answered:
//! - *Can it lie?* A record stands in an envelope whose checksum is tried first, and repeats its
//!   stream, revision and epoch; what does not fit is skipped, never served. The stamp says how far
//!   the log reached when the newest snapshot was put. A sled whose stamp is of another store,
//!   format or epoch, or ahead of the log (a restore rewound it), is set aside unread: also an
//!   *older* epoch, because its snapshots may describe events that the restore took back.
//! - *Can it hurt?* sled 0.34 is old and panics on some damage. [`daybook_cache`] catches that,
//!   sets the directory aside and begins a new one; after a few of them snapshots are off until a
//!   restart.
//! - *Can it grow?* The newest [`limits::PER_STREAM_MAX`] snapshots of a stream are kept, and
//!   [`limits::ENTRIES_MAX`] and [`limits::TOTAL_SIZE_MAX`] in all; the longest untouched go first.
//! - *Is a put durable?* Not at once. sled writes in the background every half second; a snapshot
//!   lost in a crash is put again by whoever missed it.
//!
//! INVARIANT: the only room of this crate that knows sled or bincode. All methods block: async
//! callers use `spawn_blocking`. Never asks whether a revision exists: the caller puts only what it
//! has read.
//!
//! Left out: a size in time (snapshots do not expire) and a second engine behind the same face,
//! until someone needs either.

mod codec;
pub mod limits;
mod live;
mod store;
#[cfg(test)]
mod tests;

use daybook_model::{Epoch, Position};
use uuid::Uuid;

pub use daybook_model::Snapshot;
pub use store::SnapshotStore;

/// The log that snapshots are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The store's id.
    pub store_id: Uuid,
    /// Its epoch now.
    pub epoch: Epoch,
    /// Its end: the number of durable events.
    pub committed: Position,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotStats {
    /// Snapshots kept.
    pub entries: u64,
    /// Bytes of their records. Files are several times larger.
    pub bytes: u64,
    /// Records that were skipped because they were damaged, since the process started.
    pub damaged: u64,
    /// How often a directory was set aside and begun anew, since the process started.
    pub rebuilt: u64,
}

/// Why a snapshot was not put or fetched. Never a reason to stop: replay the stream instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Its data is larger than [`limits::SNAPSHOT_SIZE_MAX`].
    #[error(
        "the snapshot has {size} bytes; the limit is {}; keep a smaller state, or none",
        limits::SNAPSHOT_SIZE_MAX
    )]
    TooLarge {
        /// Its bytes.
        size: usize,
    },
    /// Its kind is longer than [`limits::KIND_SIZE_MAX`].
    #[error("the snapshot's kind has {size} bytes; the limit is {}", limits::KIND_SIZE_MAX)]
    KindTooLong {
        /// Its bytes.
        size: usize,
    },
    /// Snapshots are off in this process.
    #[error("snapshots are off: {reason}; events are not affected, a restart tries again")]
    Unavailable {
        /// Why.
        reason: String,
    },
}
