//! The nouns of Daybook, and the ports through which its heart meets the world.
//!
//! ```text
//!   StreamName  Revision ─┐                      ┌─ Clock, Entropy   (what the core may not ask for itself)
//!   ExpectedRevision      ├─ NewEvent ─> EventView ─> RecordedEvent
//!   Position  Timestamp  ─┘                      └─ Filter, StreamMetadata
//! ```
//!
//! An [`Aggregate`] is a state with rules; [`Repository`] keeps many of them in an [`EventStore`].
//!
//! INVARIANT: imports nothing of ours, does no IO, starts no thread, reads no clock except in
//! [`seam::SystemClock`], which exists so that nothing else has to.

pub mod aggregate;
pub mod append;
pub mod event;
pub mod filter;
pub mod limits;
#[cfg(any(test, feature = "memory"))]
pub mod memory;
pub mod metadata;
pub mod number;
pub mod port;
pub mod repository;
pub mod seam;
pub mod snapshot;
pub mod stream;

pub use aggregate::{Aggregate, Decision, Undecodable};
pub use event::{ContentType, EventView, InvalidEvent, NewEvent, RecordedEvent};
pub use filter::{Filter, FilterTarget, InvalidFilter};
pub use metadata::StreamMetadata;
pub use number::{Epoch, ExpectedRevision, Position, Revision, Timestamp};
pub use port::{EventStore, ReadFailed};
pub use repository::Repository;
pub use seam::{Clock, Entropy, SystemClock, SystemEntropy, SystemTimer, Timer};
pub use snapshot::Snapshot;
pub use stream::{InvalidStreamName, StreamName};
