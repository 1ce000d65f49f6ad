//! How a projection stands.

use std::sync::Arc;

use parking_lot::Mutex;

/// What a host tells of its projection.
pub type Shared = Arc<Mutex<Figures>>;

/// Whether a projection goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// It does.
    #[default]
    Running,
    /// It was stopped where it was.
    Stopped,
    /// It was stopped, and goes on from where it was saved last.
    Aborted,
    /// It came to the end of the log, as it should.
    Completed,
    /// It stopped for a reason that has to do with its program.
    Faulted,
}

impl Status {
    /// The protocol's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Running => "Running",
            Status::Stopped => "Stopped",
            Status::Aborted => "Aborted/Stopped",
            Status::Completed => "Completed/Stopped",
            Status::Faulted => "Faulted",
        }
    }

    /// Whether there is nothing to be started.
    #[must_use]
    pub fn goes_on(self) -> bool {
        matches!(self, Status::Running | Status::Completed)
    }
}

/// How a projection stands.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Whether it goes on.
    pub status: Status,
    /// Why it does not, or what it waits for.
    pub reason: String,
    /// Before it all events are handled.
    pub place: u64,
    /// The same, as it was saved.
    pub saved: u64,
    /// Whether it is at the end of what it follows.
    pub caught_up: bool,
    /// Events its program handled since it was started.
    pub handled: u64,
    /// Events it has written since it was started.
    pub written: u64,
    /// Partitions whose states are in memory.
    pub partitions: usize,
    /// Events that wait to be handled.
    pub buffered: usize,
    /// Events that wait to be written.
    pub unwritten: usize,
}

impl Figures {
    /// Events of a log of `committed` events that are not handled yet; 0 at the end of what it follows.
    #[must_use]
    pub fn lag(&self, committed: u64) -> u64 {
        if self.caught_up { 0 } else { committed.saturating_sub(self.place) }
    }
}
