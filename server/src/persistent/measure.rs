//! How fast a consumer works, and how long it takes.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Longest time that is told apart: an hour.
const LONGEST_MS: u64 = 3_600_000;
/// Significant digits of a time; KurrentDB shows whole milliseconds.
const DIGITS: u8 = 2;
/// The names clients know, and the part of all times that is no longer.
const QUANTILES: [(&str, f64); 11] = [
    ("Quintile 1", 0.2),
    ("Quintile 2", 0.4),
    ("Quintile 3", 0.6),
    ("Quintile 4", 0.8),
    ("Quintile 5", 1.0),
    ("90%", 0.9),
    ("95%", 0.95),
    ("99%", 0.99),
    ("99.5%", 0.995),
    ("99.9%", 0.999),
    ("Highest", 1.0),
];

/// Counts what is done since some moment.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    began: Duration,
    asked: u64,
}

/// What a [`Rate`] comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rated {
    /// Since it began.
    pub average_per_second: i32,
    /// Since it was asked the last time.
    pub since_asked: i64,
}

impl Rate {
    /// One that begins now.
    #[must_use]
    pub fn begin(now: Duration) -> Rate {
        Rate { began: now, asked: 0 }
    }

    /// What `total` comes to.
    pub fn ask(&mut self, total: u64, now: Duration) -> Rated {
        let ms = now.saturating_sub(self.began).as_millis().max(1);
        let average = u128::from(total) * 1000 / ms;
        let since = total.saturating_sub(self.asked);
        self.asked = total;
        Rated {
            average_per_second: i32::try_from(average).unwrap_or(i32::MAX),
            since_asked: i64::try_from(since).unwrap_or(i64::MAX),
        }
    }
}

/// How long a consumer has had its messages.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Times {
        let histogram = Histogram::new_with_bounds(1, LONGEST_MS, DIGITS);
        Times(histogram.expect("the bounds are good ones"))
    }
}

impl Times {
    /// Notes one.
    pub fn record(&mut self, took: Duration) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(LONGEST_MS);
        self.0.saturating_record(ms);
    }

    /// In milliseconds, by the names clients know; empty before the first.
    #[must_use]
    pub fn observed(&self) -> Vec<(&'static str, i64)> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let whole = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        #[expect(clippy::cast_possible_truncation, reason = "a mean of milliseconds below an hour")]
        let mean = self.0.mean().round() as i64;
        let first = [
            ("Mean", mean),
            ("Median", whole(self.0.value_at_quantile(0.5))),
            ("Fastest", whole(self.0.min())),
        ];
        let rest = QUANTILES.map(|(name, part)| (name, whole(self.0.value_at_quantile(part))));
        first.into_iter().chain(rest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_over_all_time_and_since_it_was_asked() {
        let mut rate = Rate::begin(Duration::from_secs(10));
        let asked = rate.ask(30, Duration::from_secs(13));
        assert_eq!(asked, Rated { average_per_second: 10, since_asked: 30 });
        assert_eq!(rate.ask(31, Duration::from_secs(20)).since_asked, 1);
    }

    #[test]
    fn times_have_the_names_that_clients_know() {
        let mut times = Times::default();
        assert_eq!(times.observed(), []);
        for ms in 1..=100 {
            times.record(Duration::from_millis(ms));
        }
        let found = times.observed();
        let of = |key| found.iter().find(|(name, _)| *name == key).map(|(_, ms)| *ms);
        assert_eq!(found.len(), 14);
        assert_eq!((of("Median"), of("Fastest"), of("Highest")), (Some(50), Some(1), Some(100)));
        assert_eq!((of("Quintile 1"), of("90%")), (Some(20), Some(90)));
    }
}
