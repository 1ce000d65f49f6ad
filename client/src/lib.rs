//! A network client for Daybook; what it speaks is KurrentDB's protocol.
//!
//! ```text
//!   Client ──┬── append            one atomic append, one call
//!            ├── appender          many appends over one call, each with its own result
//!            ├── read_stream, read_all            ──> Events, a stream of ResolvedEvent
//!            ├── subscribe_stream, subscribe_all  ──> Subscription, resumes by itself
//!            └── delete, tombstone
//!   Settings   what a connection string says             connection   one shared channel
//!   Checkpoint a place in $all to keep and go on after   decode       answers, by hand
//! ```
//!
//! The nouns are those of `daybook-model` and are re-exported here, so that a user needs one crate.
//! Errors say whether something may have been written ([`AppendError`]) and whether trying again
//! can help ([`CallError::is_transient`]).
//!
//! INVARIANT: generated protocol types never leave this crate; a call is sent once, and never
//! repeated behind its caller's back, except a subscription's, which has no effect.
//!
//! Not here yet: TLS, clusters (gossip and following the leader), persistent subscriptions,
//! retries, circuit breaker and bulkhead.

pub mod append;
pub mod appender;
pub mod connection;
mod decode;
pub mod delete;
pub mod error;
pub mod event;
pub mod read;
pub mod settings;
pub mod subscribe;

pub use append::Appended;
pub use appender::{Appender, Pending};
pub use connection::{Client, ConnectError};
pub use error::{AppendError, CallError, ReadError};
pub use event::{Checkpoint, ResolvedEvent};
pub use read::{
    AllFrom, Direction, EventFilter, Events, Links, Pattern, ReadAll, ReadStream, StreamFrom,
};
pub use settings::{ConnectionStringError, Credentials, Settings};
pub use subscribe::{Delivery, SubscribeAll, SubscribeFrom, SubscribeStream, Subscription};

pub use daybook_model::{
    ContentType, ExpectedRevision, FilterTarget, NewEvent, Position, RecordedEvent, Revision,
    StreamName, Timestamp,
};
