//! What every part of this room is connected to: time, chance, metrics, and who listens.

use std::sync::Arc;

use daybook_model::{Clock, Entropy, SystemClock, SystemEntropy, SystemTimer, Timer};

use super::change::Changes;
use super::metrics::Metrics;

/// The outside of breakers and guards. A clone is connected to the same.
#[derive(Clone, Debug)]
pub struct Wiring {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Waiting.
    pub timer: Arc<dyn Timer>,
    /// Jitter, and the ids of events.
    pub entropy: Arc<dyn Entropy>,
    /// Numbers, by endpoint.
    pub metrics: Metrics,
    /// Where changes of state are told.
    pub changes: Changes,
}

impl Wiring {
    /// The machine's clock and chance; metrics of its own, which are registered nowhere yet.
    #[must_use]
    pub fn system() -> Wiring {
        Wiring {
            clock: Arc::new(SystemClock::new()),
            timer: Arc::new(SystemTimer),
            entropy: Arc::new(SystemEntropy),
            metrics: Metrics::new(),
            changes: Changes::new(),
        }
    }

    /// A number that chance decides.
    pub(super) fn draw(&self) -> u64 {
        let bytes = self.entropy.bytes();
        let (high, low) = (&bytes[..8], &bytes[8..]);
        // Both halves, because a version 4 UUID fixes some bits of each.
        let number =
            |half: &[u8]| half.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
        number(high) ^ number(low).rotate_left(32)
    }
}

impl Default for Wiring {
    fn default() -> Wiring {
        Wiring::system()
    }
}
