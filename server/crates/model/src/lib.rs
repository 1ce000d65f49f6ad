//! The nouns of Daybook, and the ports through which its heart meets the world.
//!
//! ```text
//!   StreamName  Revision ─┐                      ┌─ Clock, Entropy   (what the core may not ask for itself)
//!   ExpectedRevision      ├─ NewEvent ─> EventView ─> RecordedEvent
//!   Position  Timestamp  ─┘                      └─ Filter, StreamMetadata
//! ```
//!
//! INVARIANT: imports nothing of ours, does no IO, starts no thread, reads no clock except in
//! [`seam::SystemClock`], which exists so that nothing else has to.

pub mod event;
pub mod filter;
pub mod limits;
pub mod metadata;
pub mod number;
pub mod seam;
pub mod stream;

pub use event::{ContentType, EventView, InvalidEvent, NewEvent, RecordedEvent};
pub use filter::{Filter, FilterTarget, InvalidFilter};
pub use metadata::StreamMetadata;
pub use number::{Epoch, ExpectedRevision, Position, Revision, Timestamp};
pub use seam::{Clock, Entropy, SystemClock, SystemEntropy};
pub use stream::{InvalidStreamName, StreamName};
