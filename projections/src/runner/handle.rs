//! What a runner is told, and what it is told by.

use std::sync::Arc;

use daybook_model::{Clock, Entropy, SystemClock, SystemEntropy, SystemTimer, Timer};
use tokio::sync::watch;

use crate::status::Status;

/// Time and chance, for a runner.
#[derive(Clone, Debug)]
pub struct Seams {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Waiting.
    pub timer: Arc<dyn Timer>,
    /// Chance, for waits that differ.
    pub entropy: Arc<dyn Entropy>,
}

impl Seams {
    /// Those of the machine.
    #[must_use]
    pub fn system() -> Seams {
        Seams {
            clock: Arc::new(SystemClock::new()),
            timer: Arc::new(SystemTimer),
            entropy: Arc::new(SystemEntropy),
        }
    }
}

/// What a runner is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Run,
    Pause,
    Stop,
}

/// Tells a runner what to do, and shows how far it is. A clone is another handle.
#[derive(Clone, Debug)]
pub struct Handle {
    wish: Arc<watch::Sender<Wish>>,
    status: watch::Receiver<Status>,
}

/// What a runner was told.
#[derive(Debug)]
pub(super) struct Told(watch::Receiver<Wish>);

pub(super) fn pair(status: watch::Receiver<Status>) -> (Handle, Told) {
    let (wish, told) = watch::channel(Wish::Run);
    (Handle { wish: Arc::new(wish), status }, Told(told))
}

impl Handle {
    /// Has it wait, once the batch in hand is taken in.
    pub fn pause(&self) {
        self.tell(Wish::Pause);
    }

    /// Has it go on: also one that has stopped, and one that waits before it tries again.
    pub fn resume(&self) {
        self.tell(Wish::Run);
    }

    /// Has it end, once the batch in hand is taken in.
    pub fn stop(&self) {
        self.tell(Wish::Stop);
    }

    /// How far it is.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Its status as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    fn tell(&self, wish: Wish) {
        self.wish.send_modify(|told| {
            // Who was told to stop is not told anything else.
            if *told != Wish::Stop {
                *told = wish;
            }
        });
    }
}

impl Told {
    /// What was told last.
    pub(super) fn wish(&self) -> Wish {
        if self.0.has_changed().is_err() { Wish::Stop } else { *self.0.borrow() }
    }

    /// Waits until it is to do something else than run.
    pub(super) async fn otherwise(&mut self) {
        // An error: nobody can tell it anything any more, which ends it.
        let _ = self.0.wait_for(|wish| *wish != Wish::Run).await;
    }

    /// Waits until it is told something, whatever it is.
    pub(super) async fn anything(&mut self) {
        let _ = self.0.changed().await;
    }

    /// Waits until it was told something, without taking note of it.
    pub(super) async fn anything_unseen(&mut self) {
        if self.0.changed().await.is_ok() {
            self.0.mark_changed();
        }
    }

    /// What `work` comes to; none if it was told otherwise before.
    pub(super) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.otherwise() => None,
            done = work => Some(done),
        }
    }
}
