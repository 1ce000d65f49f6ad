//! The part of the simulation that every `cargo test` runs.

use daybook_tests::sim::{self, STEPS, exhaustive, ledger};

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

/// Histories of the ledger in every test run.
const LEDGER_SEEDS: u64 = 100;

#[test]
fn no_history_of_the_ledger_breaks_a_promise() {
    let mut counts = ledger::Run::default();
    for seed in 1..=LEDGER_SEEDS {
        match ledger::twice(seed, ledger::STEPS) {
            Ok(run) => counts.add(&run),
            Err(failure) => panic!("{failure}"),
        }
    }
    assert!(counts.completed > LEDGER_SEEDS, "{counts:?}");
    assert!(counts.compensated > LEDGER_SEEDS, "{counts:?}");
    assert!(counts.crashes > LEDGER_SEEDS, "{counts:?}");
}

#[test]
fn a_transfer_cut_at_a_change_of_the_disk_is_resumed() {
    let cuts = ledger::exhaustive::all(|kind| kind < 2).expect("no promise is broken");
    assert!(cuts > 100, "{cuts}");
}

mod regressions;
