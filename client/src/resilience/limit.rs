//! So many calls in a time, and no more: for endpoints whose owner has set a quota.
//!
//! ```text
//!   10 calls a second, burst 3:      call  1   2   3   4        5
//!                                    at    0   0   0   100 ms   200 ms
//! ```
//!
//! One number is kept, when the next call would be due if they came evenly (the generic cell rate
//! algorithm). tower has a rate limit, too, but one that is owned by a single caller and bound to
//! tokio's clock.
//!
//! INVARIANTS: in any time `t` at most `burst + t * calls / per` calls pass. At most
//! `wait_max * calls / per` wait. A caller that goes away while it waits has used its turn.

use std::sync::Arc;
use std::time::Duration;

use daybook_model::{Clock, Timer};
use parking_lot::Mutex;

use super::settings::InvalidSettings;
use super::wiring::Wiring;

/// A quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateSettings {
    /// So many calls …
    pub calls: u32,
    /// … in such a time.
    pub per: Duration,
    /// Calls that may come at once after a pause.
    pub burst: u32,
    /// How long a call waits for its turn.
    pub wait_max: Duration,
}

/// The quota is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rate limit is reached; try again in {:.1} s", retry_after.as_secs_f64())]
pub struct Limited {
    /// When a call could pass.
    pub retry_after: Duration,
}

/// A rate limit. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct RateLimit {
    /// Time between calls that come evenly.
    interval: Duration,
    /// How much earlier than due a call may come.
    early: Duration,
    wait_max: Duration,
    due: Arc<Mutex<Duration>>,
    clock: Arc<dyn Clock>,
    timer: Arc<dyn Timer>,
}

impl RateLimit {
    /// One that nobody has used yet.
    ///
    /// # Errors
    /// [`InvalidSettings`]: they make no sense.
    pub fn new(settings: RateSettings, wiring: &Wiring) -> Result<RateLimit, InvalidSettings> {
        let RateSettings { calls, per, burst, wait_max } = settings;
        let invalid = |name, found: String, rule| {
            Err(InvalidSettings { of: "rate limit", name, found, rule })
        };
        if calls == 0 || per.checked_div(calls).is_none_or(|interval| interval.is_zero()) {
            let found = format!("{calls} calls per {per:?}");
            return invalid("rate", found, "give at least one, and at most one per nanosecond");
        }
        let interval = per / calls;
        let Some(early) = burst.checked_sub(1).and_then(|more| interval.checked_mul(more)) else {
            return invalid("burst", burst.to_string(), "give at least 1, and a possible time");
        };
        let (clock, timer) = (wiring.clock.clone(), wiring.timer.clone());
        Ok(RateLimit { interval, early, wait_max, due: Arc::default(), clock, timer })
    }

    /// A call's turn, at once or after a wait.
    ///
    /// # Errors
    /// [`Limited`]: it would have to wait for too long.
    pub async fn turn(&self) -> Result<(), Limited> {
        let wait = self.book()?;
        if !wait.is_zero() {
            self.timer.sleep(wait).await;
        }
        Ok(())
    }

    fn book(&self) -> Result<Duration, Limited> {
        let now = self.clock.monotonic();
        let mut due = self.due.lock();
        let mine = now.max(*due);
        let wait = mine.saturating_sub(now + self.early);
        if wait > self.wait_max {
            return Err(Limited { retry_after: wait });
        }
        *due = mine + self.interval;
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Manual;
    use super::*;

    #[tokio::test]
    async fn calls_pass_at_the_rate_after_a_burst() {
        let manual = Manual::new();
        let settings = RateSettings {
            calls: 10,
            per: Duration::from_secs(1),
            burst: 3,
            wait_max: Duration::from_millis(150),
        };
        let limit = RateLimit::new(settings, &manual.wiring()).expect("valid");
        let ms = |n| Ok(Duration::from_millis(n));
        let limited = |n| Err(Limited { retry_after: Duration::from_millis(n) });
        for (at, expected) in [
            (0, ms(0)),
            (0, ms(0)),
            (0, ms(0)),
            (0, ms(100)),
            (0, limited(200)),
            (49, limited(151)),
            (50, ms(150)),
            (1_000, ms(0)),
            (1_000, ms(0)),
            (1_000, ms(0)),
            (1_000, ms(100)),
        ] {
            manual.set(Duration::from_millis(at));
            assert_eq!(limit.book(), expected, "at {at} ms");
        }
        // The wait is over the timer: on a clock that stands still nobody waits for ever.
        let before = manual.slept();
        manual.set(Duration::from_millis(1_050));
        limit.turn().await.expect("its turn");
        assert_eq!(manual.slept() - before, Duration::from_millis(150));
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let wiring = Manual::new().wiring();
        let second = Duration::from_secs(1);
        for (calls, per, burst, expected) in [
            (1, second, 1, ""),
            (0, second, 1, "rate"),
            (1, Duration::ZERO, 1, "rate"),
            (1, second, 0, "burst"),
            (1, Duration::MAX, 3, "burst"),
        ] {
            let settings = RateSettings { calls, per, burst, wait_max: second };
            let found = RateLimit::new(settings, &wiring).err().map_or("", |error| error.name);
            assert_eq!(found, expected);
        }
    }
}
