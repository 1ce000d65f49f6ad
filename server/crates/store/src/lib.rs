//! The event store: decisions, the writer, the index, reads, subscriptions, snapshots.
//!
//! ```text
//!   append   prepare ─> resolve ─> queue ─> writer ───Group──> commit: write, sync, index,
//!            (caller)   (caller)            decide, encode            publish, answer
//!   read     committed ─> view ─> positions ─> fetch ─> Page
//!   feed     read, wait until committed moves, read …
//!   index    memtables ─ seal ─> .idx ─> directory runs, merged        (maintenance)
//! ```
//!
//! INVARIANTS
//! - One writer owns revisions and positions; it never reads a disk.
//! - Readers and the writer meet at one number, `committed`.
//! - Every answer rests on what is durable.
//! - Whatever is not the log can be deleted, and is rebuilt from it.

mod commit;
mod core;
mod decide;
pub mod engine;
pub mod feed;
mod fetch;
pub mod import;
mod index;
mod maintenance;
pub mod observe;
mod open;
pub mod page;
pub mod persistent;
mod pipeline;
pub mod port;
mod prepare;
pub mod read;
mod record;
mod resolve;
pub mod scavenge;
pub mod snapshot;
pub mod status;
pub mod store;
mod tail;
pub mod verify;
pub mod virtual_stream;
mod writer;

pub use daybook_log::{Recovery, Sizes};
pub use daybook_model::append::{
    Append, AppendError, Appended, Deletion, EndedState, FailedCheck, FoundState, StreamCondition,
};
pub use engine::Engine;
pub use feed::{Delivery, SubscribeFrom, Subscription, SubscriptionFilter};
pub use import::{Carried, What};
pub use page::{Page, Target};
pub use port::WithSnapshots;
pub use read::{
    AllFrom, AllReader, Direction, EventTypes, From, IndexKey, IndexReader, ReadAll, ReadError,
    ReadStream, StreamReader,
};
pub use scavenge::{Scavenge, ScavengeStatus, Schedule};
pub use status::{About, Health, Stats, StreamInfo, StreamState};
pub use store::{Environment, Lane, Memory, OpenError, Options, Store};
pub use virtual_stream::{LinkText, Links};
