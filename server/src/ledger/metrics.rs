//! The ledger's numbers, for `/metrics`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use daybook_ledger::saga::State;
use daybook_store::observe::Histogram;

use super::Ledger;

/// The numbers at a moment. Counts are since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Transfers begun.
    pub started: u64,
    /// Transfers completed.
    pub completed: u64,
    /// Transfers refused or undone.
    pub compensated: u64,
    /// Transfers that failed and needed somebody.
    pub failed: u64,
    /// Transfers that are under way now.
    pub under_way: u64,
    /// How long ago the oldest of these began.
    pub oldest: Duration,
    /// Transfers that have failed and wait for somebody now.
    pub waiting_failed: u64,
    /// Attempts at steps that were repeated.
    pub retries: u64,
    /// Commands on accounts, those of transfers included.
    pub commands: u64,
    /// Appends that they were done in.
    pub batches: u64,
    /// Races lost to others.
    pub conflicts: u64,
    /// Commands recognised as repetitions.
    pub repeats: u64,
    /// Accounts found in memory.
    pub cache_hits: u64,
    /// Accounts that had to be read.
    pub cache_loads: u64,
}

impl Ledger {
    /// The ledger's numbers now.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let transfers = self.transfer_counters();
        let accounts = self.accounts().counters();
        let unfinished = self.unfinished();
        let failed = unfinished.iter().filter(|known| known.state() == State::Failed).count();
        let active = unfinished.iter().filter(|known| known.state().is_active());
        let oldest = active.map(|known| known.transfer.initiated().occurred_at).min();
        let oldest = oldest.map_or(0, |began| self.now().0.saturating_sub(began.0));
        Numbers {
            started: get(&transfers.started),
            completed: get(&transfers.completed),
            compensated: get(&transfers.compensated),
            failed: get(&transfers.failed),
            under_way: (unfinished.len() - failed) as u64,
            oldest: Duration::from_nanos(u64::try_from(oldest).unwrap_or(0)),
            waiting_failed: failed as u64,
            retries: get(&transfers.retries),
            commands: get(&accounts.commands),
            batches: get(&accounts.batches),
            conflicts: get(&accounts.conflicts),
            repeats: get(&accounts.repeats),
            cache_hits: get(&accounts.hits),
            cache_loads: get(&accounts.loads),
        }
    }

    /// How long transfers took from their request to their end.
    #[must_use]
    pub fn transfer_durations(&self) -> &Histogram {
        &self.inner.durations
    }
}
