//! Bugs planted on purpose: the simulation must notice each of them.

use std::sync::atomic::{AtomicBool, Ordering};

/// How one planted bug was noticed.
#[derive(Clone, Debug)]
pub struct Caught {
    /// The bug.
    pub bug: String,
    /// Seeds run until it was noticed.
    pub seeds: u64,
    /// The promise that was broken; none if nothing was noticed.
    pub reason: Option<String>,
}

static QUIET: AtomicBool = AtomicBool::new(false);

/// Keeps panics, which planted bugs cause, from being printed. For the whole process.
pub fn quiet() {
    if !QUIET.swap(true, Ordering::Relaxed) {
        std::panic::set_hook(Box::new(|_| {}));
    }
}

/// Plants each of the bugs of which `mine` says so in the calling thread, and runs up to `seeds`
/// histories with each.
#[cfg(feature = "planted-bugs")]
pub fn hunt(seeds: u64, mine: impl Fn(usize) -> bool, told: impl Fn(&Caught)) -> Vec<Caught> {
    use daybook_log::planted::{ALL, plant};
    let _ = super::damage::foreign_tables();
    let mut out = Vec::new();
    for (_, bug) in ALL.into_iter().enumerate().filter(|(i, _)| mine(*i)) {
        plant(Some(bug));
        let mut caught = Caught { bug: format!("{bug:?}"), seeds: 0, reason: None };
        for seed in 1..=seeds {
            caught.seeds = seed;
            if let Err(failure) = super::run(seed, super::STEPS) {
                caught.reason = Some(failure.reason);
                break;
            }
        }
        plant(None);
        told(&caught);
        out.push(caught);
    }
    out
}

/// Without the feature there is nothing to plant.
#[cfg(not(feature = "planted-bugs"))]
pub fn hunt(_: u64, _: impl Fn(usize) -> bool, _: impl Fn(&Caught)) -> Vec<Caught> {
    Vec::new()
}
