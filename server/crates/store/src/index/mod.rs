//! The stream index: which events belong to a key, in order.
//!
//! A *key* is a stream, a category, an event type, a correlation id, or the settings of a stream.
//! It owns an ascending list of positions, its *postings*; the n-th entry is its number n. For a
//! stream that number is the revision.
//!
//! ```text
//!   active segment      Memtable           in memory, grows with each commit
//!   sealed segments     <segment>.idx      Table: (key, number in the segment) -> positions
//!                       <segment>.ids      id keys, while they are in the duplicate window
//!   all sealed ones     <from>-<to>.dir    Table: key -> which segments, how many in each;
//!                                          tiered runs, merged in the background
//! ```
//!
//! A lookup asks the runs of the directory (a filter in memory answers for absent keys), then the
//! few `.idx` files that hold the key, then the memtables. A restart reads the active segment only.
//!
//! INVARIANTS
//! - Immutable files, written under a temporary name, synced, renamed; a file that is missing or
//!   damaged is rebuilt from its segment and comes out the same, byte for byte.
//! - Nothing here decides what is committed: readers cut at the watermark they hold.

pub(crate) mod directory;
pub(crate) mod ids;
pub(crate) mod key;
pub(crate) mod memtable;
pub(crate) mod posting;
pub(crate) mod sealed;
pub(crate) mod table;
pub(crate) mod view;

pub(crate) use key::{EventKeys, Key, KeyHasher, KeyKind};
pub(crate) use memtable::{Entry, Inner, Memtable};
pub(crate) use view::View;

/// Whether a lookup may touch the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Only what is in memory; otherwise [`crate::ReadError::NotInMemory`]. For async callers.
    Memory,
    /// Whatever it takes.
    Disk,
}
