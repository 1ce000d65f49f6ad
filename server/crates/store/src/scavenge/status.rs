//! How far a scavenge has come.

use std::time::Duration;

use daybook_log::disk::DiskError;
use daybook_log::rewrite::RewriteError;
use daybook_model::Timestamp;
use uuid::Uuid;

use crate::read::ReadError;

/// Why a pass ended before its end. The log is as it was, or has one more segment rewritten.
#[derive(Debug, thiserror::Error)]
pub enum ScavengeError {
    /// The index could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A segment could not be rewritten.
    #[error(transparent)]
    Rewrite(#[from] RewriteError),
    /// The index of a rewritten segment is not what that of the old one was.
    #[error("the index of {file} is not the same as before; nothing was changed")]
    AnotherIndex {
        /// The new generation.
        file: String,
    },
}

impl From<DiskError> for ScavengeError {
    fn from(e: DiskError) -> ScavengeError {
        ScavengeError::Read(e.into())
    }
}

impl ScavengeError {
    pub(crate) fn is_stop(&self) -> bool {
        matches!(self, ScavengeError::Rewrite(RewriteError::Stopped))
    }
}

/// A pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Which one.
    pub id: Uuid,
    /// When it began.
    pub started: Option<Timestamp>,
    /// Sealed segments that may hold something that goes; grows while streams are surveyed.
    pub segments: u64,
    /// Those that were read.
    pub read: u64,
    /// Those that were rewritten.
    pub rewritten: u64,
    /// Those that were not, because the disk has no room for both generations.
    pub without_room: u64,
    /// Events removed.
    pub events: u64,
    /// Bytes of the rewritten segments before.
    pub bytes_before: u64,
    /// Bytes of the rewritten segments after.
    pub bytes_after: u64,
    /// Bytes of the segments that are still to be read.
    pub bytes_left: u64,
    /// Bytes of the segments that were.
    pub bytes_done: u64,
    /// How long it has been at work.
    pub elapsed: Duration,
    /// The segment at hand.
    pub current: Option<String>,
}

impl Progress {
    /// How much longer it will take, judging by its pace so far; none if that is not known.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let done = u32::try_from(self.bytes_done >> 10).ok().filter(|kib| *kib > 0)?;
        let left = u32::try_from(self.bytes_left >> 10).ok()?;
        Some(self.elapsed.checked_mul(left)? / done)
    }
}

/// How a pass ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All that was to be looked at was.
    Completed,
    /// Somebody stopped it, or the store closed.
    Stopped,
    /// It could not go on. The next one will try again.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A pass that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// What it did.
    pub progress: Progress,
    /// When it ended.
    pub ended: Timestamp,
    /// How.
    pub outcome: Outcome,
}

/// What is known of scavenges since the store was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScavengeStatus {
    /// Whether passes begin by themselves.
    pub automatic: bool,
    /// The pass that is at work.
    pub running: Option<Progress>,
    /// The last ones that ended, the newest first.
    pub history: Vec<Finished>,
    /// Passes that ended.
    pub passes: u64,
    /// Passes that failed.
    pub failures: u64,
    /// Segments rewritten.
    pub segments: u64,
    /// Events removed.
    pub events: u64,
    /// Bytes given back.
    pub bytes: u64,
}
