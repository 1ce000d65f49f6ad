//! The real binary, killed, cut from power and lied to by its disk, under load.
//!
//! ```text
//!   kill     SIGKILL at any moment under load, and in recovery   DAYBOOK_CRASH_CYCLES times
//!   scavenge SIGKILL while segments are rewritten
//!   power    ext4 on a loop device, shut down without its journal   root only
//!   strace   a failing fdatasync or write, injected into the call   where strace may trace
//! ```
//!
//! Each cycle runs the same load (`load`) against a store that earlier cycles have filled, ends the
//! server, starts it again and compares the log with everything anyone was ever told (`history`):
//! - an acknowledged append is there once, whole, at its position and revisions;
//! - a doubtful one is there once and whole, or not at all, and a retry with its ids settles it;
//! - nothing else is there;
//! - what a reader or subscriber has seen is there, in that order, without gaps;
//! - at the end `daybook verify` finds nothing.
//!
//! `cargo crash` runs it alone, with the release binary; `DAYBOOK_CRASH_CYCLES` says how long.
#![allow(clippy::disallowed_methods, reason = "a test arranges files and asks the machine")]

mod history;
mod kill;
mod load;
mod power;
mod scavenge;
mod strace;
#[allow(dead_code, reason = "the other test binary uses the rest")]
#[path = "../support/mod.rs"]
mod support;

/// Cycles if nobody says otherwise: a taste of it, in seconds.
const CYCLES_DEFAULT: u64 = 3;

/// How many cycles are asked for.
fn cycles() -> u64 {
    let asked = std::env::var("DAYBOOK_CRASH_CYCLES").ok();
    asked.map_or(CYCLES_DEFAULT, |text| text.parse().expect("DAYBOOK_CRASH_CYCLES is a number"))
}

/// A seed for the moments at which things happen: printed, though no seed can repeat a kernel's
/// schedule.
fn seed() -> u64 {
    let asked = std::env::var("DAYBOOK_CRASH_SEED").ok();
    let seed = asked.and_then(|text| text.parse().ok());
    seed.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().1)
}
