//! Work that one at a time does, on a thread that may block: how far it is, and how the last one
//! ended.
//!
//! ```text
//!   start ─> running: P ─> the work, which notes how far it is ─> last: L
//!                └ another one is refused                └ it panicked: nothing is said of it
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// See the module. A clone is another handle.
pub struct Single<P, L> {
    inner: Arc<Inner<P, L>>,
}

struct Inner<P, L> {
    status: Mutex<Status<P, L>>,
    stopping: AtomicBool,
}

/// What is known of it.
#[derive(Clone, Debug)]
pub struct Status<P, L> {
    /// How far the one is that is at work.
    pub running: Option<P>,
    /// How the last one ended.
    pub last: Option<L>,
}

/// Whether it was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It was.
    Started,
    /// Another one is at work.
    InProgress,
    /// The node stops: there will be no other.
    Stopping,
}

impl<P, L> Clone for Single<P, L> {
    fn clone(&self) -> Single<P, L> {
        Single { inner: self.inner.clone() }
    }
}

impl<P, L> Default for Single<P, L> {
    fn default() -> Single<P, L> {
        let status = Mutex::new(Status { running: None, last: None });
        Single { inner: Arc::new(Inner { status, stopping: AtomicBool::new(false) }) }
    }
}

impl<P: Clone + Send + 'static, L: Clone + Send + 'static> Single<P, L> {
    /// Begins `work`, which is at `first`, unless another is at work. Must be called within a
    /// runtime.
    #[must_use]
    pub fn start(&self, first: P, work: impl FnOnce(&Single<P, L>) -> L + Send + 'static) -> Begun {
        {
            let mut status = self.inner.status.lock();
            if self.is_stopping() {
                return Begun::Stopping;
            }
            if status.running.is_some() {
                return Begun::InProgress;
            }
            status.running = Some(first);
        }
        let mut ending = Ending { single: self.clone(), last: None };
        tokio::task::spawn_blocking(move || {
            let last = work(&ending.single);
            ending.say(last);
        });
        Begun::Started
    }

    /// Notes how far the work is.
    pub fn note(&self, change: impl FnOnce(&mut P)) {
        if let Some(running) = &mut self.inner.status.lock().running {
            change(running);
        }
    }

    /// What is known of it.
    #[must_use]
    pub fn status(&self) -> Status<P, L> {
        self.inner.status.lock().clone()
    }

    /// Whether the work is to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.inner.stopping.load(Ordering::Acquire)
    }

    /// Ends the one that is at work, soon; there will be no other.
    pub fn stop(&self) {
        self.inner.stopping.store(true, Ordering::Release);
    }
}

/// Says that nothing is at work any more, whatever became of it.
struct Ending<P, L> {
    single: Single<P, L>,
    /// None if it panicked.
    last: Option<L>,
}

impl<P, L> Ending<P, L> {
    fn say(&mut self, last: L) {
        self.last = Some(last);
    }
}

impl<P, L> Drop for Ending<P, L> {
    fn drop(&mut self) {
        let mut status = self.single.inner.status.lock();
        status.running = None;
        if let Some(last) = self.last.take() {
            status.last = Some(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn one_is_at_work_at_a_time_and_one_that_panicked_keeps_nobody_out() {
        let single: Single<u32, u32> = Single::default();
        let (go, told) = mpsc::channel::<()>();
        let begun = single.start(1, move |single| {
            single.note(|at| *at = 2);
            told.recv().expect("told");
            7
        });
        assert_eq!(begun, Begun::Started);
        assert_eq!(single.start(1, |_| 8), Begun::InProgress);
        go.send(()).expect("it waits");
        let ended = async |single: &Single<u32, u32>| {
            while single.status().running.is_some() {
                tokio::task::yield_now().await;
            }
            single.status().last
        };
        assert_eq!(ended(&single).await, Some(7));
        assert_eq!(single.start(1, |_| panic!("it broke")), Begun::Started);
        assert_eq!(ended(&single).await, Some(7), "nothing is said of it");
        assert_eq!(single.start(1, |_| 9), Begun::Started);
        assert_eq!(ended(&single).await, Some(9));
        single.stop();
        assert_eq!(single.start(1, |_| 10), Begun::Stopping);
    }
}
