//! The part of the simulation that every `cargo test` runs.

use daybook_tests::sim::{self, STEPS, exhaustive};

/// Histories of every test run.
const SEEDS: u64 = 300;

#[test]
fn no_history_breaks_a_promise() {
    for seed in 1..=SEEDS {
        if let Err(failure) = sim::run(seed, STEPS) {
            panic!("{failure}");
        }
    }
}

#[test]
fn no_short_history_cut_anywhere_breaks_a_promise() {
    exhaustive::all(2, |_| true).expect("no promise is broken");
}

#[test]
fn the_same_seed_is_the_same_history() {
    for seed in 1..=10 {
        if let Err(failure) = sim::twice(seed, STEPS) {
            panic!("{failure}");
        }
    }
}

mod regressions;
