//! The ledger on the simulated store: transfers, their orchestrator, and its sudden deaths.
//!
//! ```text
//!   seed ─> Bank ── acts ──> tasks (start, drive)  ──> Orchestrator, Repository   one poll a call
//!             │              risk: there, away, no          │ EventStore
//!             │                                             v
//!             └─ crash, faults, clock ──> SimStore ──> Engine ──> SimDisk         one step a call
//!   after every step:  Audit reads what became durable
//! ```
//!
//! # What must hold, at every end of a commit
//!
//! - Each currency's books sum to zero, and what stands in `clearing` is what the transfers that
//!   are under way were debited.
//! - A transfer debits its sender at most once and either credits its receiver or refunds its
//!   sender, never both, and its own stream says so in the same commit.
//! - No account is overdrawn further than its limit.
//!
//! # What must hold after a crash, and in the end
//!
//! Every recovery, with a checkpoint or without, finds exactly the transfers that are unfinished.
//! When the disk, the risk service and the clock are well again, every transfer is over, completed
//! or compensated, whether the process that began it lives on or not; nothing is left in
//! `clearing`, the orchestrator lists nothing, and each account is what its events say.
//!
//! [`exhaustive`] leaves nothing to chance: one transfer of each kind, cut at every change of the
//! disk, and cut once more at every change of the disk while the next process resumes it.

mod audit;
mod bank;
pub mod exhaustive;
mod store;
mod world;

pub use world::{Run, World};

use super::guarded;

/// Acts of one history.
pub const STEPS: u64 = 400;

/// Runs the history of `seed`.
///
/// # Errors
/// Which promise was broken, with what happened before.
pub fn run(seed: u64, steps: u64) -> Result<Run, String> {
    let mut world = World::new(seed)?;
    guarded(|| world.run(steps)).map_err(|reason| {
        let lines: String = world.trace.iter().map(|line| format!("    {line}\n")).collect();
        format!("{lines}ledger seed {seed}: {reason}\nagain: cargo sim -- --ledger-seed {seed}")
    })?;
    Ok(world.counts)
}

/// Runs the history of `seed` twice.
///
/// # Errors
/// As [`run`], or the two were not the same.
pub fn twice(seed: u64, steps: u64) -> Result<Run, String> {
    let (first, second) = (run(seed, steps)?, run(seed, steps)?);
    if first == second {
        return Ok(first);
    }
    Err(format!("ledger seed {seed}: two runs are not the same: {first:?}, {second:?}"))
}
