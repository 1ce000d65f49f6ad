//! Time and chance by hand, for this room's tests.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use daybook_model::{Clock, Entropy, Timer, Timestamp};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::change::Changes;
use super::metrics::Metrics;
use super::wiring::Wiring;

/// A clock that is set, a timer whose sleeps end at once (and are added up) or when the clock gets
/// there, and chance that counts. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct Manual {
    state: Arc<Mutex<Hands>>,
}

#[derive(Debug, Default)]
struct Hands {
    now: Duration,
    slept: Duration,
    waits: bool,
    sleepers: Vec<(Duration, oneshot::Sender<()>)>,
    draws: u64,
}

impl Manual {
    /// At zero; sleeps end at once.
    pub fn new() -> Manual {
        Manual { state: Arc::default() }
    }

    /// At zero; sleeps end when the clock gets there.
    pub fn waiting() -> Manual {
        let manual = Manual::new();
        manual.state.lock().waits = true;
        manual
    }

    pub fn wiring(&self) -> Wiring {
        Wiring {
            clock: Arc::new(self.clone()),
            timer: Arc::new(self.clone()),
            entropy: Arc::new(self.clone()),
            metrics: Metrics::new(),
            changes: Changes::new(),
        }
    }

    pub fn set(&self, now: Duration) {
        let mut state = self.state.lock();
        state.now = now;
        let sleepers = std::mem::take(&mut state.sleepers);
        let (due, later) = sleepers.into_iter().partition(|(until, _)| *until <= now);
        state.sleepers = later;
        let due: Vec<(Duration, oneshot::Sender<()>)> = due;
        for (_, sleeper) in due {
            let _ = sleeper.send(());
        }
    }

    pub fn pass(&self, time: Duration) {
        let now = self.state.lock().now;
        self.set(now + time);
    }

    /// All sleeps so far, ended at once or not.
    pub fn slept(&self) -> Duration {
        self.state.lock().slept
    }
}

impl Clock for Manual {
    fn now(&self) -> Timestamp {
        let now = self.state.lock().now;
        Timestamp(i64::try_from(now.as_nanos()).expect("tests are short"))
    }

    fn monotonic(&self) -> Duration {
        self.state.lock().now
    }
}

impl Timer for Manual {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut state = self.state.lock();
        state.slept += duration;
        if !state.waits {
            return Box::pin(async {});
        }
        let (sleeper, woken) = oneshot::channel();
        let until = state.now + duration;
        state.sleepers.push((until, sleeper));
        Box::pin(async move {
            let _ = woken.await;
        })
    }
}

impl Entropy for Manual {
    fn bytes(&self) -> [u8; 16] {
        let mut state = self.state.lock();
        state.draws += 1;
        u128::from(state.draws).to_be_bytes()
    }
}
