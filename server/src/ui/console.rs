//! What a node has one of: sessions, the samples that charts show, and what alerts are firing.

use std::sync::Arc;
use std::time::Duration;

use daybook_model::{Clock, Entropy};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::alerts::{self, Alert, Figures};
use super::lags::{Behind, Lags};
use super::samples::{Ring, Sample};
use super::session::Sessions;
use crate::node::{Context, Phase};

/// How often a sample is taken, and pages are told of it.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(2);
/// Samples between two looks at the alerts: those read every figure there is.
const ALERT_SAMPLES: u64 = 5;
/// Feeds that are open at a time to visitors without a session: of a server that asks nobody, or
/// those who come with a certificate or whose proxy brings credentials; each login has but
/// [`FEEDS_OF_SESSION_MAX`](super::session::FEEDS_OF_SESSION_MAX) of them.
pub const FEEDS_OPEN_MAX: usize = 64;

/// See the module.
pub struct Console {
    sessions: Sessions,
    ring: Mutex<Ring>,
    alerts: Mutex<Vec<Alert>>,
    lags: Mutex<Lags>,
    feeds: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
}

impl Console {
    /// One without sessions or samples.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Console {
        Console {
            sessions: Sessions::new(clock.clone(), entropy),
            ring: Mutex::new(Ring::default()),
            alerts: Mutex::default(),
            lags: Mutex::default(),
            feeds: Arc::new(Semaphore::new(FEEDS_OPEN_MAX)),
            clock,
        }
    }

    /// Who is logged in.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Room for feeds to visitors without a session.
    #[must_use]
    pub fn feeds(&self) -> &Arc<Semaphore> {
        &self.feeds
    }

    /// The time.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// What was sampled, looked at by `look`.
    pub fn samples<T>(&self, look: impl FnOnce(&Ring) -> T) -> T {
        look(&self.ring.lock())
    }

    /// What fires now.
    #[must_use]
    pub fn alerts(&self) -> Vec<Alert> {
        self.alerts.lock().clone()
    }

    /// How many events something was behind, oldest first, and how far apart these were looked at;
    /// `labels` are those of its figure, in its order.
    #[must_use]
    pub fn lag(&self, behind: Behind, labels: &[(&str, &str)]) -> (Vec<f64>, Duration) {
        let every = SAMPLE_INTERVAL * u32::try_from(ALERT_SAMPLES).unwrap_or(1);
        (self.lags.lock().of(behind, labels), every)
    }

    /// Samples `context` until it stops.
    pub async fn watch(context: Context) {
        let mut interval = tokio::time::interval(SAMPLE_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut count = 0;
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                () = context.reached(Phase::Draining) => return,
            }
            let console = context.console();
            console.ring.lock().push(Sample::take(&context));
            console.sessions.forget_old();
            if count % ALERT_SAMPLES == 0 {
                let figures = Figures::take(&context).await;
                let found = console.samples(|ring| alerts::firing(&figures, ring));
                *console.alerts.lock() = found;
                console.lags.lock().take(&figures);
            }
            count += 1;
        }
    }
}
