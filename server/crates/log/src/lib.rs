//! The log: Daybook's only truth. Everything else can be deleted and is rebuilt from it.
//!
//! ```text
//!   Batch ──write──> Journal ──> segment files  <first position>-<generation>.log
//!   (frame)  sync       │            │
//!                       │            ├─ scan ──> recovery (the last segment, at start)
//!                       └─ spare     ├─ scan ──> verify   (all of them)
//!                         (next.tmp) └─ copy ──> backup
//! ```
//!
//! One *frame* holds one *commit*: all events of one append, all or nothing. The bytes are drawn
//! in `docs/format.md`.
//!
//! INVARIANTS
//! - This crate never sees a stream name: its records are opaque bytes with a digest and a position.
//! - All files are reached through [`disk`].
//! - A failed write or sync poisons the [`journal::Journal`]: it is never tried again.
//! - Nothing here starts a thread, and no function is async.

pub mod backup;
pub mod chain;
pub mod checksum;
pub mod disk;
pub mod frame;
pub mod journal;
pub mod planted;
pub mod recovery;
pub mod rewrite;
pub mod scan;
pub mod segment;
mod spare;
pub mod verify;

pub use chain::ChainValue;
pub use frame::Batch;
pub use journal::{Journal, Placed, Sizes, WriteError};
pub use recovery::{OpenError, Opened, RecoveredRecord, Recovery};
pub use segment::Segment;
pub use spare::Spares;
