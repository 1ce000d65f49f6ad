//! KurrentDB's public gRPC protocol, and what it means in our words.
//!
//! ```text
//!   proto/*.proto ──build.rs──> proto::*   plain generated types, clients and servers
//!                                 │
//!   uuid  position  stream  expected  event  filter  time      proto <-> model, by noun
//!   encode   events straight to bytes, for reads               the two hot paths, beside the
//!   decode   appends straight from bytes                       generated code and equal to it
//!   frame    the five bytes before each gRPC message
//!   error    what cannot be understood; the errors inside batch answers
//!   record   the records of appends to several streams
//!   detailed  the errors of such appends, with typed details
//!   trailer  the names of the trailers that carry an error's facts
//! ```
//!
//! The field numbers and texts are the protocol's; the `.proto` files are written by us from its
//! facts. They compile without protoc.
//!
//! A **position** on the wire is the event's number times 256 plus the low byte of the epoch that
//! wrote it (see [`position`]), so that a checkpoint of a history that a restore has rewound is
//! recognised.
//!
//! INVARIANT: no IO, no clock; knows neither the store nor the server. Nothing here panics on bytes
//! from the network.

pub mod decode;
pub mod detailed;
pub mod encode;
pub mod error;
pub mod event;
pub mod expected;
pub mod filter;
pub mod frame;
pub mod position;
pub mod record;
pub mod stream;
pub mod time;
pub mod trailer;
pub mod uuid;

pub use decode::{AppendPart, BatchOptions, BatchPart, append_part, batch_part};
pub use encode::{WireEvent, encode_read_event, encode_resolved_link};
pub use error::{InvalidAnswer, InvalidRequest};
pub use position::{WirePosition, encode_position};
pub use uuid::UuidForm;

/// What `build.rs` generates from the `.proto` files.
pub mod proto {
    #![allow(missing_docs, clippy::all, clippy::pedantic)]
    include!(concat!(env!("OUT_DIR"), "/proto.rs"));

    pub use self::daybook::v1 as snapshots;
    pub use self::daybook::v1 as transactions;
    pub use self::event_store::client as shared;
    pub use self::event_store::client::gossip;
    pub use self::event_store::client::monitoring;
    pub use self::event_store::client::operations;
    pub use self::event_store::client::persistent_subscriptions as persistent;
    pub use self::event_store::client::projections;
    pub use self::event_store::client::server_features;
    pub use self::event_store::client::streams;
    pub use self::event_store::client::users;
    pub use self::google::rpc as rich;
    pub use self::google::rpc::Status as BatchStatus;
    pub use self::kurrent::rpc as server_errors;
    pub use self::kurrentdb::protocol::v2::streams as streams_v2;
}

/// All our `.proto` files compiled, imports included; what gRPC reflection serves.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
