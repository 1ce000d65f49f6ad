//! The bytes that all groups together hold of messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of messages that all groups may hold. Above it a group takes in nothing new unless it holds
/// nothing, so that each goes on, however slowly.
pub const HELD_SIZE_MAX: usize = 256 * 1024 * 1024;

/// What all groups hold. A clone counts the same.
#[derive(Clone, Debug, Default)]
pub struct Budget(Arc<AtomicUsize>);

/// What one group holds; given back when dropped.
#[derive(Debug)]
pub struct Held {
    budget: Budget,
    size: usize,
}

impl Budget {
    /// For a group that holds nothing yet.
    #[must_use]
    pub fn begin(&self) -> Held {
        Held { budget: self.clone(), size: 0 }
    }
}

impl Held {
    /// The group now holds `size` bytes; answers whether it may take in more.
    pub fn set(&mut self, size: usize) -> bool {
        let total = &self.budget.0;
        let all = if size >= self.size {
            total.fetch_add(size - self.size, Ordering::Relaxed) + (size - self.size)
        } else {
            total.fetch_sub(self.size - size, Ordering::Relaxed) - (self.size - size)
        };
        self.size = size;
        size == 0 || all < HELD_SIZE_MAX
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.size, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_holds_nothing_may_always_take_something() {
        let budget = Budget::default();
        let (mut greedy, mut modest) = (budget.begin(), budget.begin());
        assert!(!greedy.set(HELD_SIZE_MAX));
        assert!(modest.set(0));
        assert!(!modest.set(1));
        drop(greedy);
        assert!(modest.set(1));
        drop(modest);
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
    }
}
