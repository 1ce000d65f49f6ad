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
//! Around them stand [`Context`] and [`TraceContext`], which say what an event belongs to and what
//! brought it about, [`watch`], by which that is followed, and [`upcast`], by which old events are
//! still read.
//!
//! INVARIANT: imports nothing of ours, does no IO, starts no thread, reads no clock except in
//! [`seam::SystemClock`], which exists so that nothing else has to.

pub mod access;
pub mod aggregate;
pub mod append;
pub mod context;
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
pub mod trace;
pub mod upcast;
pub mod watch;

pub use access::{AccessList, Act, Denied};
pub use aggregate::{Aggregate, Decision, Undecodable};
pub use context::Context;
pub use event::{ContentType, EventView, InvalidEvent, NewEvent, RecordedEvent};
pub use filter::{Filter, FilterTarget, InvalidFilter};
pub use metadata::StreamMetadata;
pub use number::{Epoch, ExpectedRevision, Position, Revision, Timestamp};
pub use port::{CategoryStore, EventStore, ReadFailed};
pub use repository::Repository;
pub use seam::{Clock, Entropy, SystemClock, SystemEntropy, SystemTimer, Timer};
pub use snapshot::Snapshot;
pub use stream::{InvalidStreamName, Owner, StreamName};
pub use trace::TraceContext;
pub use upcast::Upcasters;
