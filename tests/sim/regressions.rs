//! Seeds that failed once, each with what was wrong. The store was mended, so they pass; a change
//! of the simulation gives them another history, so what they showed is also tested by itself.

use daybook_tests::sim::{self, STEPS};

/// Seeds that failed.
const SEEDS: [u64; 0] = [];

#[test]
fn seeds_that_failed_once_pass() {
    for seed in SEEDS {
        if let Err(failure) = sim::run(seed, STEPS) {
            panic!("{failure}");
        }
    }
}
