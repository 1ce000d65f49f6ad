//! Moving in and out: the events of another server, or of a file, brought into a store of our own
//! with their ids, times and revisions; and a store's events written to a file.
//!
//! ```text
//!   KurrentDB, Daybook ── $all ──┐                          ┌─> target   one append a batch:
//!                                ├─> carry  what becomes ───┤            events and the place
//!   JSON lines ──────── lines ───┘          of each event   │            in the source, together
//!                      source                               └─> tally    counts and a digest
//!
//!   target, read back from its first event on ─────────────────> tally   must be the same
//! ```
//!
//! The target is a data directory that no server uses: what is brought in has times that are long
//! past, and a history has one writer. Where an import was broken off it goes on, because the place
//! in the source is an event of the same append as what was taken up to there.
//!
//! INVARIANTS
//! - An event is taken whole and unchanged, or left out and counted under its reason.
//! - Revisions are the source's. Where the source has lost events the target has *holes*: places
//!   that no reader sees.
//! - Nothing that carries a secret is written: the source is named by its address alone.

pub mod carry;
pub mod lines;
pub mod source;
pub mod tally;
pub mod target;

pub use source::Source;
pub use tally::Tally;
pub use target::{Target, TargetError};
