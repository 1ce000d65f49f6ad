//! How to live with endpoints that are slow, overloaded or gone: circuit breaker, bulkhead, retry,
//! timeout and rate limit, and one guard that puts them in order.
//!
//! ```text
//!   Guard<E>  ── retry ── limit ── bulkhead ── breaker ── timeout ──> your operation
//!                                                │
//!   Breakers  endpoint ─> CircuitBreaker ────────┤   Machine   when to let calls through; pure
//!                                                │   Window    the calls it looks back at
//!   Wiring    clock, timer, chance               ├─> Metrics   for Prometheus, by endpoint
//!             metrics, changes ──────────────────┴─> Changes   subscriptions, events to store
//! ```
//!
//! A breaker answers at once when asking the endpoint would be a waste: its caller does not wait,
//! and the endpoint gets rest. A bulkhead bounds what an endpoint may cost that answers slowly.
//! A retry helps against a loss, and harms in an overload, so it has a budget. They serve gRPC
//! calls, webhooks, brokers alike: a guard is generic over the error, and [`classify`] knows this
//! crate's.
//!
//! Left out: hedging (asking twice at once doubles the load of what is not yet known to be sick),
//! adaptive concurrency limits, and state that outlives the process: a new one starts closed, and
//! finds out within a few calls.
//!
//! INVARIANTS: time and chance come through [`Wiring`] alone, so that every transition is tested
//! without waiting. Nothing here spawns a task. Every queue, window and registry is bounded.

pub mod breaker;
pub mod bulkhead;
pub mod change;
pub mod classify;
mod deadline;
pub mod endpoints;
pub mod guard;
pub mod layer;
pub mod limit;
pub mod machine;
pub mod metrics;
pub mod retry;
pub mod settings;
pub mod state;
#[cfg(test)]
mod testing;
pub mod window;
pub mod wiring;

pub use breaker::{BreakerError, CircuitBreaker, Permit, Status};
pub use bulkhead::{Bulkhead, BulkheadSettings, Full, Place};
pub use change::{Changes, StateChanged, Subscription, Told};
pub use endpoints::{Breakers, TooManyEndpoints};
pub use guard::{Guard, GuardError};
pub use layer::{GuardLayer, Guarded};
pub use limit::{Limited, RateLimit, RateSettings};
pub use machine::{Finished, Machine, Ticket};
pub use metrics::Metrics;
pub use retry::{Retry, RetrySettings};
pub use settings::{BreakerSettings, InvalidSettings, Window};
pub use state::{Change, Reason, Refusal, State, Verdict};
pub use window::Sums;
pub use wiring::Wiring;
