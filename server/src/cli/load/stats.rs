//! What a run measures: latencies per operation, errors, and how both went second by second.
//!
//! ```text
//!   user ── record ──> one of SHARDS, under a lock held for nanoseconds
//!   once a second: every shard's last second is taken out and added up to one `Second`
//!   at the end:    every shard's totals are added up to one `Totals`
//! ```
//!
//! INVARIANT: memory depends on the number of operations, errors by name and seconds, never on the
//! number of users or requests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// Latencies are kept to three digits, up to two minutes, in microseconds. Above is "two minutes".
const LATENCY_MAX_US: u64 = 120_000_000;
/// Digits of a total, and of one second of the series.
const TOTAL_DIGITS: u8 = 3;
const SECOND_DIGITS: u8 = 2;
/// Locks that the users share. Two processors seldom want the same one of so many.
const SHARDS: usize = 16;
/// Different errors that are counted by name; more are counted as "other".
const ERRORS_MAX: usize = 20;
/// The name of the errors beyond [`ERRORS_MAX`].
const OTHER_ERRORS: &str = "other";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// From sending a transfer to its final state.
    Transfer,
    /// Opening an account.
    Open,
    /// A deposit.
    Deposit,
    /// Reading an account.
    Account,
    /// Reading a page of an account's transactions.
    Transactions,
}

impl Operation {
    /// All of them, the important one first.
    pub const ALL: [Operation; 5] = [
        Operation::Transfer,
        Operation::Open,
        Operation::Deposit,
        Operation::Account,
        Operation::Transactions,
    ];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Operation::Transfer => "transfer",
            Operation::Open => "open",
            Operation::Deposit => "deposit",
            Operation::Account => "account",
            Operation::Transactions => "transactions",
        }
    }
}

/// One second of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Second {
    /// How long it was.
    pub length_s: f64,
    /// Transfers that reached a final state in it.
    pub transfers: u64,
    /// Requests that were answered in it, those of transfers among them.
    pub requests: u64,
    /// Requests that failed in it.
    pub errors: u64,
    /// Latencies of its transfers, in milliseconds.
    pub p50_ms: f64,
    /// The 95th percentile.
    pub p95_ms: f64,
    /// The 99th.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// What was measured all in all.
#[derive(Clone, Debug)]
pub struct Totals {
    /// Latencies in microseconds, in the order of [`Operation::ALL`].
    pub latency_us: [Histogram<u64>; Operation::ALL.len()],
    /// How often which error came.
    pub errors: BTreeMap<String, u64>,
}

impl Totals {
    /// The latencies of one operation.
    #[must_use]
    pub fn of(&self, operation: Operation) -> &Histogram<u64> {
        &self.latency_us[operation as usize]
    }

    /// Requests that failed.
    #[must_use]
    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Requests that were answered as expected.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.latency_us.iter().map(Histogram::len).sum()
    }
}

struct Shard {
    totals: Totals,
    second_us: Histogram<u64>,
    second_requests: u64,
    second_errors: u64,
}

/// Where users record what they see.
pub struct Recorder {
    shards: Vec<Mutex<Shard>>,
}

impl Default for Recorder {
    fn default() -> Recorder {
        Recorder::new()
    }
}

impl Recorder {
    /// An empty one.
    #[must_use]
    pub fn new() -> Recorder {
        let shard = || Shard {
            totals: totals(),
            second_us: histogram(SECOND_DIGITS),
            second_requests: 0,
            second_errors: 0,
        };
        Recorder { shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect() }
    }

    /// Notes that an operation of `user` took `latency`.
    pub fn answered(&self, user: u32, operation: Operation, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_MAX_US);
        let mut shard = self.shard(user);
        shard.totals.latency_us[operation as usize].saturating_record(us);
        shard.second_requests += 1;
        if operation == Operation::Transfer {
            shard.second_us.saturating_record(us);
        }
    }

    /// Notes that a request of `user` failed, and as what.
    pub fn failed(&self, user: u32, name: &str) {
        let mut shard = self.shard(user);
        shard.second_errors += 1;
        count_error(&mut shard.totals.errors, name, 1);
    }

    /// What happened since this was last asked, `length` ago.
    #[must_use]
    pub fn take_second(&self, length: Duration) -> Second {
        let mut latency_us = histogram(SECOND_DIGITS);
        let mut second = Second { length_s: length.as_secs_f64(), ..Second::default() };
        for shard in &self.shards {
            let mut shard = lock(shard);
            latency_us.add(&shard.second_us).expect("of the same bounds");
            shard.second_us.reset();
            second.requests += std::mem::take(&mut shard.second_requests);
            second.errors += std::mem::take(&mut shard.second_errors);
        }
        second.transfers = latency_us.len();
        second.p50_ms = quantile_ms(&latency_us, 0.5);
        second.p95_ms = quantile_ms(&latency_us, 0.95);
        second.p99_ms = quantile_ms(&latency_us, 0.99);
        second.max_ms = latency_us.max() as f64 / 1e3;
        second
    }

    /// What happened since the beginning.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut sum = totals();
        for shard in &self.shards {
            let shard = lock(shard);
            for (sum, part) in sum.latency_us.iter_mut().zip(&shard.totals.latency_us) {
                sum.add(part).expect("of the same bounds");
            }
            for (name, count) in &shard.totals.errors {
                count_error(&mut sum.errors, name, *count);
            }
        }
        sum
    }

    fn shard(&self, user: u32) -> MutexGuard<'_, Shard> {
        lock(&self.shards[user as usize % SHARDS])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Numbers are whole after any panic.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn totals() -> Totals {
    let latency_us = Operation::ALL.map(|_| histogram(TOTAL_DIGITS));
    Totals { latency_us, errors: BTreeMap::new() }
}

fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, digits).expect("these bounds are valid")
}

fn count_error(errors: &mut BTreeMap<String, u64>, name: &str, count: u64) {
    if let Some(found) = errors.get_mut(name) {
        *found += count;
        return;
    }
    let name = if errors.len() < ERRORS_MAX { name } else { OTHER_ERRORS };
    *errors.entry(name.to_owned()).or_default() += count;
}

/// A quantile in milliseconds; 0 if nothing was recorded.
#[must_use]
pub fn quantile_ms(latency_us: &Histogram<u64>, quantile: f64) -> f64 {
    latency_us.value_at_quantile(quantile) as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_second_holds_what_came_since_the_last_one() {
        let recorder = Recorder::new();
        for user in 0..100 {
            recorder.answered(user, Operation::Transfer, ms(u64::from(user) + 1));
        }
        recorder.answered(7, Operation::Account, ms(900));
        recorder.failed(8, "conflict");
        let second = recorder.take_second(ms(1000));
        assert_eq!((second.transfers, second.requests, second.errors), (100, 101, 1));
        // The series is kept to two digits.
        assert!((49.0..=51.0).contains(&second.p50_ms), "{second:?}");
        assert!((98.0..=100.5).contains(&second.p99_ms), "{second:?}");
        assert!((99.0..=101.0).contains(&second.max_ms), "{second:?}");
        recorder.answered(1, Operation::Transfer, ms(5));
        let second = recorder.take_second(ms(500));
        assert_eq!((second.transfers, second.requests, second.errors), (1, 1, 0));
        assert!((4.9..=5.1).contains(&second.max_ms), "{second:?}");
    }

    #[test]
    fn totals_are_of_all_users_and_of_the_whole_run() {
        let recorder = Recorder::new();
        for user in 0..1000 {
            recorder.answered(user, Operation::Open, ms(10));
        }
        let _ = recorder.take_second(ms(1000));
        recorder.answered(3, Operation::Transfer, Duration::from_secs(3600));
        recorder.failed(1, "conflict");
        recorder.failed(2, "conflict");
        let totals = recorder.totals();
        assert_eq!(totals.of(Operation::Open).len(), 1000);
        assert_eq!(totals.of(Operation::Deposit).len(), 0);
        let longest = totals.of(Operation::Transfer).max();
        assert!(longest >= LATENCY_MAX_US, "saturates: {longest}");
        assert_eq!((totals.answers(), totals.error_count()), (1001, 2));
    }

    #[test]
    fn errors_of_many_names_do_not_grow_without_bound() {
        let recorder = Recorder::new();
        for number in 0..1000 {
            recorder.failed(number, &format!("error {number}"));
        }
        let totals = recorder.totals();
        assert_eq!(totals.error_count(), 1000);
        assert!(totals.errors.len() <= ERRORS_MAX + 1, "{:?}", totals.errors);
    }
}
