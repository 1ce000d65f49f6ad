//! How long the steps of the write path take, as histograms without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets in microseconds; one more catches the rest.
pub const BUCKETS_US: [u64; 16] = [
    25, 50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 409_600,
    1_638_400, 6_553_600,
];

/// A histogram of durations.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Adds one duration.
    pub fn add(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// The count of each bucket (not cumulative), and the sum in microseconds.
    #[must_use]
    pub fn snapshot(&self) -> ([u64; BUCKETS_US.len() + 1], u64) {
        let counts = std::array::from_fn(|i| self.buckets[i].load(Ordering::Relaxed));
        (counts, self.sum_us.load(Ordering::Relaxed))
    }
}

/// The steps of the write path.
#[derive(Debug, Default)]
pub struct Times {
    /// From an append's queueing to its batch being handed over.
    pub wait: Histogram,
    /// Writing a batch to the active segment.
    pub write: Histogram,
    /// `fdatasync` of the active segment.
    pub sync: Histogram,
    /// Indexing and publishing a batch.
    pub index: Histogram,
}
