//! The `daybook` server: everything between a socket or a terminal and the store.
//!
//! ```text
//!   cli ──> config ──> node ──┬── http   JSON, SSE, health, metrics      one port: HTTP/1.1 and
//!                             └── grpc   the KurrentDB protocol          HTTP/2 with prior knowledge
//!                      node/context ── the store, the clock, the counters: what every request sees
//!                      ledger       ── accounts and transfers over the store
//!                      readside     ── the built-in views, kept up with the store
//!                      scripted     ── projections that users write, in JavaScript
//!                      backup      ── archiving: what was appended goes elsewhere
//!                      telemetry    ── log lines and metrics
//!                      memory       ── how much there is, and who may have it
//!                      ui           ── the web console, which asks http as any client does
//!   cli ──> query ── http/readside over read models in PostgreSQL, without a node     both through
//!   cli ──> connectors ── http/connectors over the network, without a node            front
//! ```
//!
//! INVARIANT: nothing in here decides what an event store does; that is `daybook-store`'s. Proto
//! types do not leave `grpc`, serde types do not leave `http`, and `anyhow` does not leave `cli`.

pub mod backup;
pub mod builtin;
pub mod cli;
pub mod config;
pub mod connectors;
pub mod front;
pub mod grpc;
pub mod http;
pub mod ledger;
pub mod memory;
pub mod moving;
pub mod node;
pub mod persistent;
pub mod query;
pub mod readside;
pub mod scripted;
pub mod security;
pub mod telemetry;
pub mod ui;
pub mod users;
pub mod verification;

/// This server's own version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The version of KurrentDB whose protocol this server speaks; clients choose features by it.
pub const COMPATIBLE_VERSION: &str = "26.1.0";
