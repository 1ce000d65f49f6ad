//! What the server says of itself: log lines for people and their tools, numbers for Prometheus,
//! traces for whoever asks where the time went.
//!
//! INVARIANT: no event's data, no metadata and no credential is ever logged; no label of a metric
//! takes its value from a client (a stream name as a label is one series per stream).

mod families;
mod ledger;
pub mod logging;
pub mod metrics;
mod node;
pub mod process;
pub mod projections;
pub mod safeguards;
pub mod scavenge;
pub mod security;
mod store;
pub mod trace;
pub mod vault;
