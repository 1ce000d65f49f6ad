//! A persistent subscription group: consumers that share one place in a stream, as a machine.
//!
//! ```text
//!   push ──> waiting ──────── send ───────> in flight ── ack, skip, stop ───────────> settled
//!              ^   retried ones first         │    │
//!              ├── consumer gone: not counted ┘    └── park, or too many retries
//!              └── retry, time-out: counted ──┘              │
//!                                                         parking ── it is durable ─> settled
//! ```
//!
//! The machine is told what happens ([`Group::push`], [`Group::ack`], …) together with the time, and
//! answers with [`Action`]s for its host to carry out: send this, park that, write a checkpoint.
//! Whatever can fail at the host (parking, checkpointing) is reported back, and until then counts as
//! not done. So a message is lost only if the log loses it.
//!
//! A **ticket** numbers a message in the order in which it was pushed. The checkpoint is the number
//! before the first message that is not settled, so that what follows it after a restart is all that
//! anybody may have missed.
//!
//! **Which consumer** ([`strategy`]): in turn, the first with room, or the one that the message's
//! bucket is pinned to. A bucket (one of 1,024; of its stream or correlation id) belongs to a
//! consumer by rendezvous hashing, so a change among the consumers moves few buckets. A bucket with
//! messages in flight is served by no other consumer than the one that has them: it moves when they
//! are settled, or when they come back, and then they go first.
//!
//! **Replayed messages** come from the group's parked stream and are settled against a place of their
//! own there, so that a crash in the middle of a replay loses none.
//!
//! INVARIANTS
//! - No clock, no IO, no chance: the same calls make the same actions.
//! - Every message that was pushed is waiting, in flight, parking or settled; exactly one of them.
//! - No consumer has more in flight than its buffer; the host pushes no more than [`Group::room`].
//! - An id is in flight once: a second message of the same id waits for the first.

mod consumer;
mod group;
mod message;
mod progress;
pub mod settings;
pub mod strategy;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

pub use consumer::{Consumer, ConsumerId};
pub use group::Group;
pub use message::{Action, Counters, Message, NackAction, Origin, ParkCause, Ticket};
pub use settings::{InvalidSettings, Settings};
pub use strategy::{Bucket, Strategy};
