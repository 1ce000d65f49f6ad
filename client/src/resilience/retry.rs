//! Trying again: less and less often, and never so much that the retries are the load.
//!
//! ```text
//!   pause before retry n:  anything up to  pause_first * 2^(n-1), at most pause_max
//!   budget:                each call pays in budget_percent of a retry, each retry takes one
//! ```
//!
//! With nothing but failures, then, retries add `budget_percent` to the load, not a multiple of it.
//! The budget is the endpoint's, so all its callers share one. tower has a budget, too, that is
//! filled by the machine's clock; this one needs no clock.
//!
//! INVARIANT: over any number of calls there are at most
//! `budget_reserve + budget_percent / 100 * calls` retries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::settings::InvalidSettings;

/// The budget is counted in hundredths of a retry.
const WHOLE: u64 = 100;

/// How often and how soon a call is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// Attempts in all, with the first.
    pub attempts_max: u32,
    /// The longest pause before the first retry; twice that before the second, and so on …
    pub pause_first: Duration,
    /// … up to this.
    pub pause_max: Duration,
    /// Retries paid for by a hundred calls.
    pub budget_percent: u32,
    /// Retries that may be saved up, and that there are at the beginning; with 0 there are none.
    pub budget_reserve: u32,
}

impl Default for RetrySettings {
    fn default() -> RetrySettings {
        RetrySettings {
            attempts_max: 3,
            pause_first: Duration::from_millis(50),
            pause_max: Duration::from_secs(2),
            budget_percent: 10,
            budget_reserve: 10,
        }
    }
}

/// An endpoint's retries. A clone shares the budget.
#[derive(Clone, Debug)]
pub struct Retry {
    settings: RetrySettings,
    saved: Arc<AtomicU64>,
}

impl Retry {
    /// One with its reserve full.
    ///
    /// # Errors
    /// [`InvalidSettings`]: they make no sense.
    pub fn new(settings: RetrySettings) -> Result<Retry, InvalidSettings> {
        let invalid =
            |name, found: String, rule| InvalidSettings { of: "retry", name, found, rule };
        if settings.attempts_max == 0 {
            return Err(invalid("attempts_max", "0".to_owned(), "give at least 1, the first"));
        }
        if settings.budget_percent > 100 {
            let found = settings.budget_percent.to_string();
            return Err(invalid("budget_percent", found, "give at most 100"));
        }
        if settings.pause_max < settings.pause_first {
            let found = format!("{:?}", settings.pause_max);
            return Err(invalid("pause_max", found, "give at least pause_first"));
        }
        let saved = Arc::new(AtomicU64::new(u64::from(settings.budget_reserve) * WHOLE));
        Ok(Retry { settings, saved })
    }

    /// Attempts in all, with the first.
    pub(super) fn attempts_max(&self) -> u32 {
        self.settings.attempts_max
    }

    /// A call is made, and pays its part.
    pub(super) fn pay_in(&self) {
        let RetrySettings { budget_percent, budget_reserve, .. } = self.settings;
        let full = u64::from(budget_reserve) * WHOLE;
        // Every successful call comes here, and mostly nothing is to be done.
        if self.saved.load(Ordering::Relaxed) < full {
            self.change(|saved| Some((saved + u64::from(budget_percent)).min(full)));
        }
    }

    /// Whether a retry can be paid.
    pub(super) fn pay_out(&self) -> bool {
        self.change(|saved| saved.checked_sub(WHOLE))
    }

    /// How long to wait before retry number `retry`, which begins at 1.
    pub(super) fn pause(&self, retry: u32, draw: u64) -> Duration {
        let RetrySettings { pause_first, pause_max, .. } = self.settings;
        let factor = 2_u32.checked_pow(retry.saturating_sub(1));
        let longest = factor.and_then(|factor| pause_first.checked_mul(factor));
        let longest = longest.map_or(pause_max, |longest| longest.min(pause_max));
        let nanoseconds = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(draw % nanoseconds.saturating_add(1))
    }

    fn change(&self, to: impl FnMut(u64) -> Option<u64>) -> bool {
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, to).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(change: impl Fn(&mut RetrySettings)) -> Result<Retry, InvalidSettings> {
        let mut settings = RetrySettings::default();
        change(&mut settings);
        Retry::new(settings)
    }

    #[test]
    fn retries_are_at_most_a_part_of_the_calls() {
        for (percent, reserve, calls, expected) in
            [(10, 10, 1_000, 109), (10, 0, 1_000, 0), (100, 5, 50, 50), (0, 7, 1_000, 7)]
        {
            let budget = retry(|s| (s.budget_percent, s.budget_reserve) = (percent, reserve));
            let budget = budget.expect("valid");
            let mut retries = 0;
            for _ in 0..calls {
                budget.pay_in();
                retries += u32::from(budget.pay_out());
            }
            assert_eq!(retries, expected, "{percent} % of {calls} and {reserve}");
        }
    }

    #[test]
    fn what_is_saved_has_a_limit() {
        let budget = retry(|s| s.budget_reserve = 3).expect("valid");
        (0..10_000).for_each(|_| budget.pay_in());
        assert_eq!((0..10).filter(|_| budget.pay_out()).count(), 3);
    }

    #[test]
    fn pauses_grow_to_a_limit_and_are_up_to_chance() {
        let retry = retry(|s| {
            (s.pause_first, s.pause_max) = (Duration::from_millis(50), Duration::from_millis(300));
        });
        let retry = retry.expect("valid");
        for (number, longest) in [(1, 50), (2, 100), (3, 200), (4, 300), (5, 300), (400, 300)] {
            let longest_ns = longest * 1_000_000;
            assert_eq!(retry.pause(number, longest_ns), Duration::from_millis(longest));
            assert_eq!(
                retry.pause(number, longest_ns + 1),
                Duration::ZERO,
                "it wraps at the limit"
            );
            assert!(retry.pause(number, 0x1234_5678_9abc_def0) <= Duration::from_millis(longest));
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        type Change = fn(&mut RetrySettings);
        let cases: [(&str, Change); 4] = [
            ("", |_| {}),
            ("attempts_max", |s| s.attempts_max = 0),
            ("budget_percent", |s| s.budget_percent = 101),
            ("pause_max", |s| s.pause_max = Duration::ZERO),
        ];
        for (expected, change) in cases {
            assert_eq!(retry(change).err().map_or("", |error| error.name), expected);
        }
    }
}
