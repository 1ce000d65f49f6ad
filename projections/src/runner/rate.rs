//! How fast the place in the log moves, lately.

use std::collections::VecDeque;
use std::time::Duration;

use daybook_model::Position;

/// What "lately" is.
const WINDOW: Duration = Duration::from_secs(5);
/// Samples are at least so far apart.
const STEP: Duration = Duration::from_millis(100);

/// The last few places and when they were reached. At most [`WINDOW`] / [`STEP`] and two of them.
#[derive(Debug, Default)]
pub(super) struct Rate {
    samples: VecDeque<(Duration, u64)>,
}

impl Rate {
    /// Positions a second, now that `position` is reached at `now`.
    pub(super) fn at(&mut self, now: Duration, position: Position) -> f64 {
        while self.samples.len() > 1 && self.samples[1].0 + WINDOW <= now {
            self.samples.pop_front();
        }
        // A place before the first one: it was begun anew.
        if self.samples.front().is_some_and(|first| first.1 > position.0) {
            self.samples.clear();
        }
        if self.samples.back().is_none_or(|last| last.0 + STEP <= now) {
            self.samples.push_back((now, position.0));
        }
        let Some((since, from)) = self.samples.front() else { return 0.0 };
        let elapsed = now.saturating_sub(*since).as_secs_f64();
        if elapsed > 0.0 { position.0.saturating_sub(*from) as f64 / elapsed } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut rate = Rate::default();
        let ms = Duration::from_millis;
        let script = [
            (0, 0, 0.0),
            (50, 10, 200.0),
            (1000, 1000, 1000.0),
            (2000, 4000, 2000.0),
            (7000, 4000, 0.0),
            (30_000, 4000, 0.0),
            (30_200, 10, 0.0),
            (31_200, 110, 100.0),
        ];
        for (time, position, expected) in script {
            assert_eq!(rate.at(ms(time), Position(position)), expected, "at {time} ms");
        }
        for time in 0..100_000 {
            rate.at(ms(32_000 + time), Position(200 + time));
        }
        assert!(rate.samples.len() <= 52, "{}", rate.samples.len());
    }
}
