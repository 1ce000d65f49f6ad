//! What a listener and its entrance need of whom they serve: the time, the counters, and how far
//! its stop has come. A node has one, and so has a query front, which has no store.

use std::sync::Arc;

use daybook_model::Clock;
use tokio::sync::watch;

use super::Phase;
use crate::telemetry::metrics::Metrics;

/// See the module. A clone is another handle.
#[derive(Clone)]
pub struct Life {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    phase: watch::Sender<Phase>,
    /// Whether a call has asked the process to stop.
    asked: watch::Sender<bool>,
}

impl Life {
    /// One that begins.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Life {
        let (phase, _) = watch::channel(Phase::Running);
        let (asked, _) = watch::channel(false);
        Life { clock, metrics, phase, asked }
    }

    /// The time.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Counters and histograms.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// How far the stop has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Asks whoever runs it to stop it, as a signal does.
    pub fn ask_to_stop(&self) {
        self.asked.send_replace(true);
    }

    /// Resolves when a call has asked for that.
    pub async fn asked_to_stop(&self) {
        let mut asked = self.asked.subscribe();
        // The sender lives as long as `self`, so that waiting cannot fail.
        let _ = asked.wait_for(|asked| *asked).await;
    }

    /// Goes on to `to`, never back.
    pub fn advance(&self, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let advances = *phase < to;
            *phase = to.max(*phase);
            advances
        });
    }

    /// Resolves when it has come as far as `phase`.
    pub async fn reached(&self, phase: Phase) {
        let mut seen = self.phase.subscribe();
        // The sender lives as long as `self`, so that waiting cannot fail.
        let _ = seen.wait_for(|now| *now >= phase).await;
    }
}
