//! The read side: tables folded from the feed, and what is relayed to elsewhere.
//!
//! ```text
//!   source ──Batch──> runner ──> Consumer ─┬─ a Projection over its tables (sled, PostgreSQL)
//!     │                 │                  └─ a connector (RabbitMQ, webhook, file)
//!     │                 └─ status, pause, resume, poison
//!     ├─ in the server: its own feed          query ──Page──> whoever asks, with `as_of`
//!     └─ elsewhere: the network client
//! ```
//!
//! A projection is a pure fold from events to rows. Its rows and its place in the feed are
//! committed together, so each event has its effect once, whatever is killed when. Nothing here is
//! truth: a table can be dropped at any time, and is built again from the feed.
//!
//! INVARIANTS: writes nothing into the store, except a connector's own place and what it parked.
//! A projection sees no clock, no IO and no other projection's tables.

pub mod backend;
pub mod build;
pub mod change;
pub mod connect;
pub mod consumer;
pub mod feed;
pub mod host;
pub mod models;
pub mod order;
pub mod postgres;
pub mod projection;
pub mod query;
pub mod runner;
pub mod sled;
pub mod source;
pub mod status;
pub mod store;
pub mod table;
pub mod views;

pub use backend::Backend;
pub use change::{Change, ChangeSet, Changes};
pub use consumer::{ConsumeError, Consumer, Taken};
pub use feed::{Batch, Feed, FeedError, FeedEvent, Interest, Source};
pub use host::{Host, Order, OrderError};
pub use projection::{ApplyError, OnPoison, Projection};
pub use query::{Page, Query, QueryError};
pub use runner::{End, Handle, Runner, Seams};
pub use status::{BuildStatus, ProjectionStatus, State, Status};
pub use store::{CommitError, Generation, Parked, StoreError, Writer};
pub use table::{Column, Index, Key, Kind, Row, Table, Value};
