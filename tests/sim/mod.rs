//! The deterministic simulation: a store, its clients, its disk and its bad luck, decided by one
//! number.
//!
//! ```text
//!   seed ─> World ── acts ──> Engine (the real store, one step a call) ──> SimDisk
//!             │                  │                                          │ forgets, tears,
//!             │ asked for        │ answered, read, delivered                │ fails, rots, fills up
//!             v                  v                                          v
//!          Checker: every event was asked for, once, whole, when the rules allowed it
//!          Model:   the rules once more, on a list and a map
//! ```
//!
//! # What happens
//!
//! A history is a few hundred acts: appends of every kind (right, wrong, to several streams, retried
//! with the same ids, with payloads that imitate the log's own frames), deletions, settings; single
//! steps of the writer and the committer, with reads, feeds and crashes between any two; power cuts
//! and kills, at once or some changes of the disk later, also while the store opens; failing reads,
//! writes, syncs, renames; a full disk; clocks that jump; index files that are missing, old, rotten
//! or another store's. Segments are a few KiB, so that they roll and their index files merge all
//! the time. Each seed sways the weights of the acts its own way, so that some histories consist
//! of little else than crashes, and others of hardly any.
//!
//! # What must hold
//!
//! - What was visible (acknowledged, read, delivered) is there after every crash, byte for byte, at
//!   its position; nothing is there that nobody asked for; nothing twice; a commit wholly or not.
//! - The rules of expected revisions and ids, applied to the log before each commit, allow it; each
//!   rejection and duplicate is what the rules say at some durable moment between question and
//!   answer; an unknown outcome means once or not at all, and what a restart did not find never
//!   comes back.
//! - Every way to read agrees with a scan of the log; feeds deliver each event once, in order.
//! - At any moment the power could go ([`World`] tries it on copies of the disk), and a bit that is
//!   wrong is found by `verify` and never served.
//! - Without an injected reason nothing fails.
//!
//! # What else
//!
//! [`exhaustive`] leaves nothing to chance: all short histories, cut at every change of the disk,
//! and cut once more at every change of the recovery. [`planted`] breaks the store on purpose, one
//! bug at a time, and counts the seeds until it is noticed: a check that cannot fail is none.
//!
//! Same seed, same history: [`twice`] compares hashes of all that was done and answered.
//!
//! Left out: threads (the store's own tests and the kill -9 tests have them), latency, and a failed
//! sync of the directory that is not followed by a power cut: file systems stop for good there.

pub mod checker;
pub mod damage;
pub mod exhaustive;
pub mod feed;
pub mod ledger;
pub mod model;
pub mod payload;
pub mod planted;
pub mod reads;
pub mod seams;
pub mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use world::{Counts, Sights, World};

/// Acts of one history.
pub const STEPS: u64 = 300;

/// A history that broke none.
#[derive(Clone, Debug)]
pub struct Run {
    /// What it was, in numbers.
    pub counts: Counts,
    /// A hash of all that was done and answered.
    pub hash: u64,
    /// How often what happened.
    pub sights: Sights,
}

/// A history that broke a promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// The act after which it was noticed.
    pub step: u64,
    /// The promise.
    pub reason: String,
    /// What happened before, the latest last.
    pub trace: Vec<String>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for line in &self.trace {
            writeln!(f, "    {line}")?;
        }
        writeln!(f, "seed {} broke a promise at step {}: {}", self.seed, self.step, self.reason)?;
        write!(f, "again: cargo sim -- --seed {}", self.seed)
    }
}

/// Runs the history of `seed`. Answers what it was and its hash.
///
/// # Errors
/// [`Failure`] says which promise was broken.
pub fn run(seed: u64, steps: u64) -> Result<Run, Box<Failure>> {
    let mut world = World::new(seed);
    let result = guarded(|| world.run(steps));
    let (counts, hash, sights) = (world.counts, world.hash(), world.sights.clone());
    result.map(|()| Run { counts, hash, sights }).map_err(|reason| {
        let mut trace: Vec<String> = world.trace.iter().cloned().collect();
        let disk = world.disk().recent();
        trace.push("the disk, lately:".to_owned());
        trace.extend(disk.iter().rev().take(24).rev().map(|line| format!("     {line}")));
        Box::new(Failure { seed, step: world.counts.steps, reason, trace })
    })
}

/// Runs the history of `seed` twice.
///
/// # Errors
/// [`Failure`] if it broke a promise, or was not the same.
pub fn twice(seed: u64, steps: u64) -> Result<Run, Box<Failure>> {
    let first = run(seed, steps)?;
    let second = run(seed, steps)?;
    if first.hash == second.hash {
        return Ok(first);
    }
    let reason = format!("two runs are not the same: {:016x}, {:016x}", first.hash, second.hash);
    Err(Box::new(Failure { seed, step: first.counts.steps, reason, trace: Vec::new() }))
}

/// A panic of the store is a broken promise, too.
pub(crate) fn guarded(run: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Err(format!("a panic: {}", text.unwrap_or_default()))
        }
    }
}
