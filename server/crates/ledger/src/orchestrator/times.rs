//! How long attempts at the steps of transfers take, for metrics. Since the start, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::saga::{Direction, Effect};
use crate::transfer::PAYMENT_TRANSFER;

/// The attempts at one step in one direction.
#[derive(Debug)]
struct Attempts {
    step: usize,
    direction: Direction,
    count: AtomicU64,
    sum_us: AtomicU64,
}

/// The attempts at each step that can be taken, and taken back.
#[derive(Debug)]
pub struct StepTimes {
    attempts: Vec<Attempts>,
}

/// What was measured of one step in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepTime {
    /// The step's name.
    pub step: &'static str,
    /// Whether it was taken, or taken back.
    pub direction: Direction,
    /// Attempts, failed ones included.
    pub count: u64,
    /// How long they took together.
    pub sum: Duration,
}

impl Default for StepTimes {
    fn default() -> StepTimes {
        let steps = PAYMENT_TRANSFER.steps;
        let attempts = |step, direction| Attempts {
            step,
            direction,
            count: AtomicU64::new(0),
            sum_us: AtomicU64::new(0),
        };
        let taken = (0..steps.len()).map(|step| attempts(step, Direction::Action));
        // A question leaves nothing to take back, and behind the last step nothing can fail.
        let undone = (0..steps.len() - 1).filter(|step| steps[*step].effect == Effect::Write);
        let undone = undone.map(|step| attempts(step, Direction::Compensation));
        StepTimes { attempts: taken.chain(undone).collect() }
    }
}

impl StepTimes {
    /// Adds an attempt.
    pub(super) fn add(&self, step: usize, direction: Direction, took: Duration) {
        let found = |each: &&Attempts| (each.step, each.direction) == (step, direction);
        let Some(attempts) = self.attempts.iter().find(found) else { return };
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        attempts.count.fetch_add(1, Ordering::Relaxed);
        attempts.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = StepTime> {
        self.attempts.iter().map(|each| StepTime {
            step: PAYMENT_TRANSFER.steps[each.step].name,
            direction: each.direction,
            count: each.count.load(Ordering::Relaxed),
            sum: Duration::from_micros(each.sum_us.load(Ordering::Relaxed)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transfer::{CHECK_RISK, DEBIT_SENDER};

    #[test]
    fn attempts_are_added_up_by_step_and_direction() {
        let times = StepTimes::default();
        for us in [1_000, 2_500] {
            times.add(DEBIT_SENDER, Direction::Action, Duration::from_micros(us));
        }
        times.add(DEBIT_SENDER, Direction::Compensation, Duration::from_micros(7));
        // There is no such thing, and so no line for it.
        times.add(CHECK_RISK, Direction::Compensation, Duration::from_micros(1));
        let all: Vec<_> = times
            .all()
            .map(|each| (each.step, each.direction.as_str(), each.count, each.sum.as_micros()))
            .collect();
        assert_eq!(
            all,
            [
                ("debit_sender", "action", 2, 3_500),
                ("check_risk", "action", 0, 0),
                ("credit_receiver", "action", 0, 0),
                ("debit_sender", "compensation", 1, 7),
            ]
        );
    }
}
