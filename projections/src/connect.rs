//! Connectors: what relays chosen events to elsewhere, at least once and in order per stream.
//!
//! ```text
//!   runner ──Batch──> Relay ─ select, map ─> Sink ─┬─ RabbitMQ   publisher confirms
//!                      │  ^                        ├─ webhook    signed POST
//!                      │  └── outcome a message ───┴─ file       JSON lines, fsynced
//!                      ├─ confirmed ─> Place    $connector-<name>          the checkpoint, paused or not
//!                      └─ refused ──-> Parked   $connector-<name>-parked   one by one, for a person
//! ```
//!
//! A connector's state is events in two system streams, so it is backed up and restored with the
//! log. The place moves only behind what the receiver has confirmed; after a crash the messages
//! since the place was last written are sent again. So a receiver keeps the ids of the last
//! messages it has seen: a message's id is its event's, and never changes.
//!
//! Two instances of one connector cannot both advance: whoever begins last claims the place, by an
//! append at its exact revision, and the other's next write of it fails ([`place`]).
//!
//! A message that the receiver refuses for good is parked, and what follows goes on without it
//! (or the connector stops before it: `refused = "stop"`, which keeps a stream free of gaps). A
//! receiver that cannot be reached is waited for. Nothing is dropped silently.
//!
//! Events of system streams are relayed only if a prefix asks for them by its `$`, and a
//! connector's own never: it would feed itself.
//!
//! NATS and Kafka have no sink yet.
//!
//! INVARIANT: secrets are named in the configuration, never written there; none is in a log, an
//! error or a `Debug`.

pub mod config;
pub mod control;
pub mod file;
pub mod guard;
pub mod host;
pub mod mapping;
pub mod parked;
pub mod place;
pub mod rabbitmq;
pub mod relay;
pub mod section;
pub mod select;
pub mod sink;
pub mod streams;
pub mod webhook;

pub use config::{ConnectorSettings, load, load_with, parse, secrets_in_vault};
pub use control::{Control, ControlError};
pub use host::{Connectors, StartError};
pub use parked::ParkedMessage;
pub use relay::Relay;
pub use section::ConfigError;
pub use sink::{Message, Outcome, Sink};
pub use streams::{OverClient, OverStore, Streams, StreamsError};
