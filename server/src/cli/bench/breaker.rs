//! What a circuit breaker costs a call that succeeds: the same call, bare and guarded, in turns.
//!
//! ```text
//!   round     10,000 bare calls, 10,000 through the breaker, 10,000 through the whole guard
//!   figure    the percentile of the guarded calls less that of the bare ones: the clock that each
//!             call is timed with costs both the same
//! ```
//!
//! The call is ready at once and does nothing, so that nothing hides the overhead. With two threads
//! both use one breaker, as callers of one endpoint do.

use std::hint::black_box;
use std::time::Duration;

use anyhow::Context as _;
use daybook_client::resilience::{
    BreakerSettings, Bulkhead, BulkheadSettings, CircuitBreaker, Guard, Retry, RetrySettings,
    Wiring,
};
use daybook_model::{Clock as _, SystemClock};
use futures_util::FutureExt as _;
use hdrhistogram::Histogram;

use super::report::{Goal, Row};

/// Rounds, of which the first tenth is not counted.
const ROUNDS: u32 = 100;
/// Calls of each kind in a round.
const CALLS_A_ROUND: u32 = 10_000;
/// Nanoseconds that the breaker may add to a call.
const OVERHEAD_MAX_NS: f64 = 1_000.0;
/// The largest time that is told apart: a thread that was not scheduled for a second.
const CALL_MAX_NS: u64 = 1_000_000_000;
/// What is told of each.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];

/// Nanoseconds of calls.
struct Times {
    bare: Histogram<u64>,
    breaker: Histogram<u64>,
    guard: Histogram<u64>,
}

/// Measures with one thread and with two.
///
/// # Errors
/// If a thread panics.
pub async fn measure() -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for threads in [1, 2] {
        let (breaker, guard) = guarded()?;
        let running = (0..threads).map(|_| {
            let (breaker, guard) = (breaker.clone(), guard.clone());
            tokio::task::spawn_blocking(move || run(&breaker, &guard))
        });
        let running: Vec<_> = running.collect();
        let mut sum: Option<Times> = None;
        for thread in running {
            let times = thread.await.context("a thread of the benchmark panicked")?;
            sum = Some(match sum {
                None => times,
                Some(sum) => sum.plus(&times),
            });
        }
        let times = sum.context("there is at least one thread")?;
        rows.extend(times.rows(threads));
    }
    Ok(rows)
}

/// A breaker, and a guard with everything that bounds a call.
fn guarded() -> anyhow::Result<(Guard<()>, Guard<()>)> {
    let wiring = Wiring::system();
    let breaker = |name| CircuitBreaker::new(name, BreakerSettings::default(), wiring.clone());
    let bulkhead = Bulkhead::new(BulkheadSettings::default(), wiring.timer.clone())?;
    let whole = Guard::new(breaker("guard")?)
        .bulkhead(bulkhead)
        .timeout(Duration::from_secs(1))
        .retry(Retry::new(RetrySettings::default())?, |_| true);
    Ok((Guard::new(breaker("breaker")?), whole))
}

async fn work() -> Result<u64, ()> {
    Ok(black_box(1))
}

fn run(breaker: &Guard<()>, guard: &Guard<()>) -> Times {
    let clock = SystemClock::new();
    let mut times = Times::new();
    for round in 0..ROUNDS {
        let counts = round >= ROUNDS / 10;
        time(&clock, counts.then_some(&mut times.bare), work);
        time(&clock, counts.then_some(&mut times.breaker), || breaker.call(work));
        time(&clock, counts.then_some(&mut times.guard), || guard.call(work));
    }
    times
}

/// Makes a round of calls.
fn time<F: Future>(
    clock: &SystemClock,
    mut into: Option<&mut Histogram<u64>>,
    call: impl Fn() -> F,
) {
    for _ in 0..CALLS_A_ROUND {
        let begun = clock.monotonic();
        // It is ready at once, and a future that is needs no runtime.
        black_box(call().now_or_never().is_some());
        let took = clock.monotonic() - begun;
        if let Some(into) = &mut into {
            into.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(CALL_MAX_NS));
        }
    }
}

impl Times {
    fn new() -> Times {
        let empty =
            || Histogram::new_with_bounds(1, CALL_MAX_NS, 3).expect("these bounds are valid");
        Times { bare: empty(), breaker: empty(), guard: empty() }
    }

    fn plus(mut self, other: &Times) -> Times {
        for (sum, part) in [
            (&mut self.bare, &other.bare),
            (&mut self.breaker, &other.breaker),
            (&mut self.guard, &other.guard),
        ] {
            sum.add(part).expect("of the same bounds");
        }
        self
    }

    fn rows(&self, threads: u32) -> Vec<Row> {
        let threads =
            if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") };
        let at = |of: &Histogram<u64>, quantile| of.value_at_quantile(quantile) as f64;
        let mut rows = Vec::new();
        for (name, of) in [("breaker", &self.breaker), ("whole guard", &self.guard)] {
            for (quantile, part) in QUANTILES {
                let added = (at(of, part) - at(&self.bare, part)).max(0.0);
                let goal = (name == "breaker").then_some(Goal::AtMost(OVERHEAD_MAX_NS));
                let name = format!("{name}, {threads}, added to a call, {quantile}");
                rows.push(Row::with_goal(name, added, "ns", goal));
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_timed_and_succeeds() {
        let (breaker, guard) = guarded().expect("valid");
        let times = run(&breaker, &guard);
        let calls = u64::from(ROUNDS - ROUNDS / 10) * u64::from(CALLS_A_ROUND);
        for counted in [&times.bare, &times.breaker, &times.guard] {
            assert_eq!(counted.len(), calls);
        }
        assert!(breaker.breaker().status().sums.failures == 0);
        assert_eq!(times.rows(1).len(), 6);
    }
}
