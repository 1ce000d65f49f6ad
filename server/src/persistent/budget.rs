//! The bytes that all groups together hold of messages.
//!
//! INVARIANTS
//! - However much the others hold, each group may hold [`SHARE_SIZE`]: none stands still because of
//!   another.
//! - Who was refused is woken when there is room again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::watch;

/// Bytes of messages that all groups may hold unless told otherwise. Above it a group takes in nothing new unless it holds
/// less than its share.
pub const HELD_SIZE_MAX: usize = 256 * 1024 * 1024;
/// Bytes that each group may hold whatever the others do: some hundred messages of a usual size.
pub const SHARE_SIZE: usize = 1024 * 1024;

/// What all groups hold. A clone counts the same.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    size: AtomicUsize,
    /// As many bytes all may hold.
    size_max: usize,
    /// Says that there is room again.
    freed: watch::Sender<()>,
}

/// What one group holds; given back when dropped.
#[derive(Debug)]
pub struct Held {
    budget: Budget,
    freed: watch::Receiver<()>,
    size: usize,
}

impl Default for Budget {
    fn default() -> Budget {
        Budget::new(HELD_SIZE_MAX)
    }
}

impl Budget {
    /// One of `size_max` bytes.
    #[must_use]
    pub fn new(size_max: usize) -> Budget {
        let (freed, _) = watch::channel(());
        Budget(Arc::new(Shared { size: AtomicUsize::new(0), size_max, freed }))
    }

    /// For a group that holds nothing yet.
    #[must_use]
    pub fn begin(&self) -> Held {
        Held { budget: self.clone(), freed: self.0.freed.subscribe(), size: 0 }
    }

    fn give_back(&self, size: usize) -> usize {
        let before = self.0.size.fetch_sub(size, Ordering::AcqRel);
        let left = before - size;
        if before >= self.0.size_max && left < self.0.size_max {
            self.0.freed.send_replace(());
        }
        left
    }
}

impl Held {
    /// The group now holds `size` bytes; answers whether it may take in more.
    pub fn set(&mut self, size: usize) -> bool {
        // Before the question: room that others give back after it is heard of.
        self.freed.borrow_and_update();
        let all = if size >= self.size {
            let more = size - self.size;
            self.budget.0.size.fetch_add(more, Ordering::AcqRel) + more
        } else {
            self.budget.give_back(self.size - size)
        };
        self.size = size;
        size < SHARE_SIZE || all < self.budget.0.size_max
    }

    /// Resolves when there is room again, after [`Held::set`] said that there is none.
    pub async fn freed(&mut self) {
        // The sender lives as long as the budget, which this holds.
        let _ = self.freed.changed().await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.give_back(self.size);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_group_may_always_take_its_share() {
        let budget = Budget::default();
        let (mut greedy, mut modest) = (budget.begin(), budget.begin());
        assert!(!greedy.set(HELD_SIZE_MAX));
        assert!(modest.set(SHARE_SIZE - 1));
        assert!(!modest.set(SHARE_SIZE));
        drop(greedy);
        assert!(modest.set(SHARE_SIZE));
        drop(modest);
        assert_eq!(budget.0.size.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_was_refused_hears_of_room() {
        let budget = Budget::default();
        let (mut greedy, mut refused) = (budget.begin(), budget.begin());
        greedy.set(HELD_SIZE_MAX);
        assert!(!refused.set(SHARE_SIZE));
        assert!(refused.freed().now_or_never().is_none());
        greedy.set(HELD_SIZE_MAX - SHARE_SIZE / 2);
        assert!(refused.freed().now_or_never().is_none(), "not enough");
        greedy.set(0);
        assert!(refused.freed().now_or_never().is_some());
        assert!(refused.set(SHARE_SIZE));
    }
}
