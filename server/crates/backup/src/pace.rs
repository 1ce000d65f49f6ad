//! How fast a backup may be: so that the network and the disk stay free for the store's work.

use std::sync::Arc;
use std::time::Duration;

use daybook_model::{Clock, SystemClock, SystemTimer, Timer};
use parking_lot::Mutex;

use crate::objects::Objects;
use crate::repository::Halt;

/// Time after which a wait looks whether it was told to stop.
const LOOK: Duration = Duration::from_millis(250);

/// A limit of bytes a second. What is spent at once is waited for afterwards.
#[derive(Debug)]
pub struct Pace {
    /// Bytes a second; none: no limit.
    rate: Option<u64>,
    clock: Arc<dyn Clock>,
    timer: Arc<dyn Timer>,
    /// When all that was spent is paid for, on the monotonic clock.
    paid: Mutex<Duration>,
}

impl Pace {
    /// As fast as it goes, or up to `rate` bytes a second, which is not zero.
    #[must_use]
    pub fn new(rate: Option<u64>) -> Pace {
        Pace {
            rate: rate.filter(|rate| *rate > 0),
            clock: Arc::new(SystemClock::new()),
            timer: Arc::new(SystemTimer),
            paid: Mutex::new(Duration::ZERO),
        }
    }

    /// Waits until `bytes` more may have been moved, or until `halt` is told.
    pub(crate) fn spend(&self, bytes: u64, objects: &Objects, halt: &Halt) {
        let Some(rate) = self.rate else { return };
        let now = self.clock.monotonic();
        let due = {
            let mut paid = self.paid.lock();
            *paid = now.max(*paid) + cost(bytes, rate);
            *paid
        };
        objects.wait(async {
            while !halt.is_set() {
                let left = due.saturating_sub(self.clock.monotonic());
                if left.is_zero() {
                    return;
                }
                self.timer.sleep(left.min(LOOK)).await;
            }
        });
    }
}

fn cost(bytes: u64, rate: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / rate as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_cost_time() {
        assert_eq!(cost(32, 16), Duration::from_secs(2));
        assert_eq!(cost(0, 16), Duration::ZERO);
    }
}
