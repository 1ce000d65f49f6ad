//! The simulation's clock and entropy: they say what the seed says, and move only when told.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use daybook_log::disk::sim::Rng;
use daybook_model::{Clock, Entropy, Timestamp};

/// Where simulated time begins, in nanoseconds since 1970.
const EPOCH_NS: i64 = 1_700_000_000_000_000_000;

/// Two clocks that are moved by hand.
#[derive(Debug)]
pub struct SimClock {
    wall: AtomicI64,
    monotonic: AtomicU64,
}

impl Default for SimClock {
    fn default() -> SimClock {
        SimClock { wall: AtomicI64::new(EPOCH_NS), monotonic: AtomicU64::new(0) }
    }
}

impl SimClock {
    /// Time passes on both clocks, in nanoseconds.
    pub fn pass(&self, ns: u64) {
        self.wall.fetch_add(ns.cast_signed(), Ordering::Relaxed);
        self.monotonic.fetch_add(ns, Ordering::Relaxed);
    }

    /// The wall clock alone jumps, in nanoseconds.
    pub fn jump(&self, ns: i64) {
        self.wall.fetch_add(ns, Ordering::Relaxed);
    }

    /// A clock of its own that shows the same.
    #[must_use]
    pub fn fork(&self) -> SimClock {
        SimClock {
            wall: AtomicI64::new(self.wall.load(Ordering::Relaxed)),
            monotonic: AtomicU64::new(self.monotonic.load(Ordering::Relaxed)),
        }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.wall.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic.load(Ordering::Relaxed))
    }
}

/// Bytes that only the seed could guess.
#[derive(Debug)]
pub struct SimEntropy {
    seed: u64,
    drawn: AtomicU64,
}

impl SimEntropy {
    /// The bytes of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> SimEntropy {
        SimEntropy { seed, drawn: AtomicU64::new(0) }
    }

    /// What will be drawn next.
    #[must_use]
    pub fn peek(&self) -> [u8; 16] {
        self.at(self.drawn.load(Ordering::Relaxed))
    }

    fn at(&self, drawn: u64) -> [u8; 16] {
        let mut bytes = [0; 16];
        Rng::new(self.seed.rotate_left(17) ^ drawn).fill(&mut bytes);
        bytes
    }
}

impl Entropy for SimEntropy {
    fn bytes(&self) -> [u8; 16] {
        self.at(self.drawn.fetch_add(1, Ordering::Relaxed))
    }
}
