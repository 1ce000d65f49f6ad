//! How long the steps of the write path take, and how large its groups are, as histograms without
//! a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets of a histogram; one more catches the rest.
pub const BUCKETS_LEN: usize = 16;

/// Upper bounds of the buckets of durations, in microseconds.
pub const BUCKETS_US: [u64; BUCKETS_LEN] = [
    25, 50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 409_600,
    1_638_400, 6_553_600,
];

/// Upper bounds of the buckets of numbers of appends: up to the largest group.
pub const BUCKETS_APPENDS: [u64; BUCKETS_LEN] =
    [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096];

/// A histogram of whole numbers, or of durations in microseconds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64; BUCKETS_LEN],
    buckets: [AtomicU64; BUCKETS_LEN + 1],
    sum: AtomicU64,
}

impl Default for Histogram {
    /// Of durations.
    fn default() -> Histogram {
        Histogram::with_bounds(&BUCKETS_US)
    }
}

impl Histogram {
    /// A histogram with these upper bounds, which ascend.
    #[must_use]
    pub fn with_bounds(bounds: &'static [u64; BUCKETS_LEN]) -> Histogram {
        Histogram { bounds, buckets: Default::default(), sum: AtomicU64::new(0) }
    }

    /// Adds one duration, to a histogram of durations.
    pub fn add(&self, duration: Duration) {
        self.add_number(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds one number, in the unit of the bounds.
    pub fn add_number(&self, number: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < number);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(number, Ordering::Relaxed);
    }

    /// The upper bounds of the buckets.
    #[must_use]
    pub fn bounds(&self) -> &'static [u64; BUCKETS_LEN] {
        self.bounds
    }

    /// The count of each bucket (not cumulative), and the sum, in the unit of the bounds.
    #[must_use]
    pub fn snapshot(&self) -> ([u64; BUCKETS_LEN + 1], u64) {
        let counts = std::array::from_fn(|i| self.buckets[i].load(Ordering::Relaxed));
        (counts, self.sum.load(Ordering::Relaxed))
    }
}

/// The steps of the write path.
#[derive(Debug)]
pub struct Times {
    /// From an append's queueing to its batch being handed over.
    pub wait: Histogram,
    /// Deciding and encoding the appends that the writer took from the queue at once.
    pub decide: Histogram,
    /// Writing a batch to the active segment.
    pub write: Histogram,
    /// `fdatasync` of the active segment.
    pub sync: Histogram,
    /// Indexing and publishing a batch.
    pub index: Histogram,
    /// Appends of a batch: a number, not a time.
    pub group: Histogram,
}

impl Default for Times {
    fn default() -> Times {
        Times {
            wait: Histogram::default(),
            decide: Histogram::default(),
            write: Histogram::default(),
            sync: Histogram::default(),
            index: Histogram::default(),
            group: Histogram::with_bounds(&BUCKETS_APPENDS),
        }
    }
}
