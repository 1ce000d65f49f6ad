//! What charts show: a sample each two seconds, of the last quarter of an hour.
//!
//! A sample has counts since the start; what happened in between is the difference of two. So a
//! sample that is late, or left out, makes no error.

use std::collections::VecDeque;
use std::time::Duration;

use daybook_model::Timestamp;
use daybook_store::observe::{BUCKETS_LEN, BUCKETS_US};

use crate::node::Context;
use crate::telemetry::metrics::DURATION_BUCKETS;

/// Samples that are kept: of 15 minutes.
pub const SAMPLES_MAX: usize = 450;

/// Counts of a histogram's buckets; the last one has what is above all bounds.
pub type Buckets = [u64; BUCKETS_LEN + 1];

const _: () = assert!(DURATION_BUCKETS.len() == BUCKETS_LEN);

/// What was counted up to a moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When, on the monotonic clock.
    pub at: Duration,
    /// When, on the wall.
    pub time: Timestamp,
    /// Events made durable.
    pub events: u64,
    /// Appends written.
    pub appends: u64,
    /// Events read.
    pub reads: u64,
    /// Writing requests, by how long they took; bounds are [`DURATION_BUCKETS`].
    pub append_took: Buckets,
    /// fdatasync, by how long it took; bounds are [`BUCKETS_US`].
    pub sync_took: Buckets,
    /// Free bytes on the data volume.
    pub disk_free: u64,
    /// Appends that wait.
    pub queue: u64,
    /// Open subscriptions.
    pub subscriptions: u64,
}

impl Sample {
    /// One at which nothing had happened.
    #[cfg(test)]
    pub(super) fn of(at: Duration) -> Sample {
        Sample {
            at,
            time: Timestamp(0),
            events: 0,
            appends: 0,
            reads: 0,
            append_took: [0; BUCKETS_LEN + 1],
            sync_took: [0; BUCKETS_LEN + 1],
            disk_free: 0,
            queue: 0,
            subscriptions: 0,
        }
    }

    /// One of now.
    #[must_use]
    pub fn take(context: &Context) -> Sample {
        let works = context.works();
        let stats = works.stats();
        Sample {
            at: context.clock().monotonic(),
            time: context.clock().now(),
            events: stats.events,
            appends: stats.appends,
            reads: stats.read_from_memory + stats.read_from_disk,
            append_took: context.metrics().writes_took(),
            sync_took: works.times().sync.snapshot().0,
            disk_free: stats.disk_free,
            queue: stats.queue_depth,
            subscriptions: stats.subscriptions,
        }
    }
}

/// Which histogram of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Took {
    /// Requests that write.
    Append,
    /// fdatasync.
    Sync,
}

/// The last samples, oldest first.
#[derive(Debug, Default)]
pub struct Ring {
    samples: VecDeque<Sample>,
}

impl Ring {
    /// Takes one more; the oldest makes room.
    pub fn push(&mut self, sample: Sample) {
        if self.samples.len() >= SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// The newest.
    #[must_use]
    pub fn last(&self) -> Option<&Sample> {
        self.samples.back()
    }

    /// The oldest.
    #[must_use]
    pub fn first(&self) -> Option<&Sample> {
        self.samples.front()
    }

    /// Neighbours of which at most `points` are made of all samples, oldest first: each from the end
    /// of the one before. The newest always ends at the newest sample.
    #[must_use]
    pub fn spans(&self, points: usize) -> Vec<(Sample, Sample)> {
        let step = (self.samples.len().saturating_sub(1)).div_ceil(points.max(1)).max(1);
        let mut ends: Vec<usize> = (0..self.samples.len()).rev().step_by(step).collect();
        ends.reverse();
        ends.windows(2).map(|pair| (self.samples[pair[0]], self.samples[pair[1]])).collect()
    }

    /// How fast the free space shrinks, in bytes per second, by the straight line that is nearest to
    /// all samples; none if it does not shrink, or too little is known.
    #[must_use]
    pub fn disk_pace(&self) -> Option<f64> {
        // A burst is no trend.
        const SPAN_MIN: Duration = Duration::from_secs(5 * 60);
        let (first, last) = (self.first()?, self.last()?);
        if last.at.saturating_sub(first.at) < SPAN_MIN {
            return None;
        }
        let count = self.samples.len() as f64;
        let x = |sample: &Sample| sample.at.saturating_sub(first.at).as_secs_f64();
        let y = |sample: &Sample| sample.disk_free as f64;
        let (mean_x, mean_y) = (
            self.samples.iter().map(x).sum::<f64>() / count,
            self.samples.iter().map(y).sum::<f64>() / count,
        );
        let both = self.samples.iter().map(|s| (x(s) - mean_x) * (y(s) - mean_y)).sum::<f64>();
        let own = self.samples.iter().map(|s| (x(s) - mean_x).powi(2)).sum::<f64>();
        let slope = both / own;
        (slope < -1.0).then_some(-slope)
    }

    /// How long the samples reach back.
    #[must_use]
    pub fn span(&self) -> Duration {
        let (first, last) = (self.first().map(|s| s.at), self.last().map(|s| s.at));
        last.unwrap_or_default().saturating_sub(first.unwrap_or_default())
    }

    /// The oldest sample of the last `span`, and the newest; none if they do not reach back so far.
    #[must_use]
    pub fn lately(&self, span: Duration) -> Option<(Sample, Sample)> {
        let last = self.last()?;
        let since = last.at.checked_sub(span)?;
        // The last that is not younger, so that all of the span counts.
        let from = self.samples.iter().rev().find(|sample| sample.at <= since)?;
        Some((*from, *last))
    }

    /// When the disk is full at the pace of the samples.
    #[must_use]
    pub fn disk_full_in(&self) -> Option<Duration> {
        let left = self.last()?.disk_free as f64 / self.disk_pace()?;
        Duration::try_from_secs_f64(left).ok()
    }
}

/// How many a second between two samples, by `count`.
#[must_use]
pub fn rate((from, to): &(Sample, Sample), count: impl Fn(&Sample) -> u64) -> f64 {
    let seconds = to.at.saturating_sub(from.at).as_secs_f64();
    let more = count(to).saturating_sub(count(from)) as f64;
    if seconds > 0.0 { more / seconds } else { 0.0 }
}

/// The quantile of what was done between two samples, in milliseconds; none if nothing was.
#[must_use]
pub fn quantile((from, to): &(Sample, Sample), took: Took, quantile: f64) -> Option<f64> {
    let (from, to) = match took {
        Took::Append => (&from.append_took, &to.append_took),
        Took::Sync => (&from.sync_took, &to.sync_took),
    };
    let counts: Buckets = std::array::from_fn(|i| to[i].saturating_sub(from[i]));
    let bound = |i: usize| match took {
        Took::Append => DURATION_BUCKETS.get(i).map(|bound| bound * 1000.0),
        Took::Sync => BUCKETS_US.get(i).map(|bound| *bound as f64 / 1000.0),
    };
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return None;
    }
    let wanted = quantile * all as f64;
    let (mut seen, mut low) = (0.0, 0.0);
    for (i, &count) in counts.iter().enumerate() {
        // Above all bounds nothing more can be said than the last one.
        let Some(high) = bound(i) else { return Some(low) };
        let next = seen + count as f64;
        if next >= wanted && count > 0 {
            return Some(low + (high - low) * (wanted - seen) / count as f64);
        }
        (seen, low) = (next, high);
    }
    Some(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Sample {
        Sample {
            events: 10 * seconds,
            disk_free: 1_000_000 - 1_000 * seconds,
            ..Sample::of(Duration::from_secs(seconds))
        }
    }

    #[test]
    fn the_oldest_samples_make_room_and_spans_meet() {
        let mut ring = Ring::default();
        for second in 0..(SAMPLES_MAX as u64 + 50) {
            ring.push(at(second));
        }
        assert_eq!(ring.first().map(|s| s.at), Some(Duration::from_secs(50)));
        for points in [1, 7, 150, 10_000] {
            let spans = ring.spans(points);
            assert!(spans.len() <= points.max(1), "{points}");
            assert_eq!(spans.last().map(|(_, to)| to.at), ring.last().map(|s| s.at));
            assert!(spans.windows(2).all(|pair| pair[0].1.at == pair[1].0.at));
            assert!(spans.iter().all(|span| (rate(span, |s| s.events) - 10.0).abs() < 0.001));
        }
        assert!(Ring::default().spans(10).is_empty());
    }

    #[test]
    fn a_disk_that_fills_has_an_end() {
        let mut ring = Ring::default();
        assert_eq!(ring.disk_full_in(), None);
        for second in 0..100 {
            ring.push(at(4 * second));
        }
        let left = ring.disk_full_in().expect("it shrinks").as_secs();
        assert_eq!(left, 604);
        let mut still = Ring::default();
        for second in 0..100 {
            still.push(Sample { disk_free: 5, ..at(4 * second) });
        }
        assert_eq!(still.disk_full_in(), None);
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let mut to = at(2);
        to.sync_took[2] = 90; // up to 100 µs
        to.sync_took[5] = 10; // up to 800 µs
        let span = (at(0), to);
        let found = |q| quantile(&span, Took::Sync, q).expect("some");
        assert!((found(0.5) - 0.0778).abs() < 0.001, "{}", found(0.5));
        assert!((0.4..=0.8).contains(&found(0.99)), "{}", found(0.99));
        assert_eq!(quantile(&span, Took::Append, 0.5), None);
        to.append_took[BUCKETS_LEN] = 1;
        assert_eq!(quantile(&(at(0), to), Took::Append, 0.5), Some(10_000.0));
    }
}
