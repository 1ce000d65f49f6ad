//! A consumer of a group.

/// Names a consumer within its group; its host gives it, rising.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConsumerId(pub u64);

/// A consumer, and what it has been sent.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// Its name.
    pub id: ConsumerId,
    /// Messages it may have in flight.
    pub buffer_size: usize,
    /// Messages it has in flight.
    pub in_flight: usize,
    /// Messages it has settled.
    pub settled: u64,
    /// Whether it is sent nothing for now, because it does not take what it was sent.
    pub paused: bool,
}

impl Consumer {
    pub(super) fn new(id: ConsumerId, buffer_size: usize) -> Consumer {
        Consumer { id, buffer_size, in_flight: 0, settled: 0, paused: false }
    }

    /// Messages it can be sent now.
    #[must_use]
    pub fn free(&self) -> usize {
        if self.paused { 0 } else { self.buffer_size.saturating_sub(self.in_flight) }
    }
}
