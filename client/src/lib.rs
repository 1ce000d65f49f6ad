//! A network client for Daybook; what it speaks is KurrentDB's protocol.
//!
//! ```text
//!   Client ──┬── append            one atomic append, one call
//!            ├── append_to_streams several streams at once, and checks of others
//!            ├── appender          many appends over one call, each with its own result
//!            ├── read_stream, read_all            ──> Events, a stream of ResolvedEvent
//!            ├── subscribe_stream, subscribe_all  ──> Subscription, resumes by itself
//!            ├── persistent        groups of consumers that share one place ──> Consumer
//!            ├── delete, tombstone, stream_metadata, snapshots, users
//!            ├── bulk_writer       the appends of many callers gathered, each with its own result
//!            ├── within            any of these as part of a correlation, a cause, a trace
//!            └── store ──> Repository: aggregates over the network
//!   Settings   what a connection string says             connection   the way to the node: TLS,
//!                                                                     discovery, the leader
//!   Checkpoint a place in $all to keep and go on after   decode       answers, by hand
//!
//!   resilience  circuit breaker, bulkhead, retry, timeout, rate limit, before any endpoint
//! ```
//!
//! The nouns are those of `daybook-model` and are re-exported here, so that a user needs one crate.
//! Errors say whether something may have been written ([`AppendError`]) and whether trying again
//! can help ([`CallError::is_transient`]).
//!
//! INVARIANT: generated protocol types never leave this crate; a call is sent once, and never
//! repeated behind its caller's back, except a subscription's, which has no effect.

pub mod append;
pub mod appender;
pub mod bulk;
pub mod connection;
mod decode;
pub mod delete;
pub mod error;
pub mod event;
pub mod metadata;
pub mod multi;
pub mod persistent;
pub mod read;
pub mod resilience;
pub mod settings;
pub mod snapshots;
pub mod store;
pub mod subscribe;
pub mod users;
pub mod within;

pub use append::Appended;
pub use appender::{Appender, Pending};
pub use bulk::{BulkOptions, BulkWriter};
pub use connection::{Client, ConnectError, Route, tls_connector};
pub use error::{AppendError, CallError, ReadError};
pub use event::{Checkpoint, ResolvedEvent};
pub use metadata::{Described, Metadata};
pub use multi::AppendedToStreams;
pub use read::{
    AllFrom, Direction, EventFilter, Events, Links, Pattern, ReadAll, ReadStream, StreamFrom,
};
pub use settings::{
    Cluster, ConnectionStringError, Credentials, Identity, NodeAddress, NodePreference, Resume,
    Settings, Tls, Token, Verification,
};
pub use snapshots::Snapshots;
pub use store::NetworkStore;
pub use subscribe::{Delivery, SubscribeAll, SubscribeFrom, SubscribeStream, Subscription};
pub use users::{NewUser, User, Users};
pub use within::Within;

pub use daybook_model::append::{Append, FailedCheck, FoundState, StreamCondition};
pub use daybook_model::repository::{
    ExecuteError, Executed, LoadError, Options as RepositoryOptions, Task, Transaction,
};
pub use daybook_model::upcast::{Change, Step, Upcasters};
pub use daybook_model::{
    Aggregate, ContentType, Context, EventView, ExpectedRevision, FilterTarget, NewEvent, Position,
    RecordedEvent, Repository, Revision, Snapshot, StreamMetadata, StreamName, Timestamp,
    TraceContext, Undecodable,
};
