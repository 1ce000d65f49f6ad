//! A wall clock that can be set, beside a monotonic clock that just runs.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use daybook_model::{Clock, SystemClock, Timestamp};

/// The machine's clocks, the wall clock off by as much as it was told to jump.
#[derive(Debug, Default)]
pub struct JumpingClock {
    machine: SystemClock,
    offset_ns: AtomicI64,
}

impl JumpingClock {
    /// The wall clock jumps forward, or backward if `seconds` is negative.
    pub fn jump(&self, seconds: i64) {
        self.offset_ns.fetch_add(seconds * 1_000_000_000, Ordering::SeqCst);
    }
}

impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.machine.now().0 + self.offset_ns.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }
}
