//! Backups of a store, in a directory or in an object store (S3, GCS, Azure).
//!
//! A *repository* holds all backups of one store. It shares what they have in common: a sealed
//! segment never changes, so it is there once.
//!
//! ```text
//!   repository.json                                  whose repository this is
//!   segments/<segment>/<offset>-<hash>[.age]         segments in pieces of up to 32 MiB
//!   tails/<epoch>/<segment>/<offset>-<hash>[.age]    what archiving has of the last segment
//!   lists/<epoch>-<end>-<hash>.json                  the sealed segments and their pieces
//!   backups/<taken>-<epoch>-<end>-<hash>.json        a manifest: the end of the log, its list, its
//!   archive/<taken>-<epoch>-<end>-<hash>.json          last segment; written last
//!
//!   take ──┐                                   ┌──> plan ──> verify ──> restore
//!          ├──> pieces, list, then manifest ───┤
//!   archive┘     (each object whole or not)    └──> check, prune
//! ```
//!
//! An object's name carries the BLAKE3 of its bytes, so that writing it again changes nothing, and
//! damage of a manifest is seen. A backup exists when its manifest does; whatever breaks off
//! before leaves objects that nobody names, which the next backup finds or `prune` removes.
//!
//! INVARIANTS
//! - No object is ever changed. None is removed but by `prune`, and, of its own epoch's tails, by
//!   the archive that wrote them.
//! - What is copied from a store is read frame by frame, and is sound.
//! - A restore has read every object it needs before it touches its target.
//! - Calls block; none may be made on a thread of an asynchronous runtime.

pub mod archive;
pub mod check;
mod copy;
pub mod error;
pub mod keys;
pub mod list;
pub mod manifest;
pub mod objects;
pub mod pace;
pub mod prune;
mod read;
pub mod repository;
pub mod restore;
pub mod take;
#[cfg(test)]
mod tests;

pub use archive::{Archive, Round};
pub use copy::Moved;
pub use error::RepositoryError;
pub use keys::{Identities, Keys, Recipients};
pub use manifest::{Kind, Manifest, Piece, SegmentCopy};
pub use objects::{Access, BucketKeys, KeySource, Objects};
pub use pace::Pace;
pub use repository::{Halt, Name, Repository};
pub use restore::{Plan, Until};
pub use take::{Taken, take};
