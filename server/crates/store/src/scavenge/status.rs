//! How far a scavenge has come.

use std::time::Duration;

use daybook_log::OpenError;
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
    /// Appends may need the room that is left.
    #[error("the disk has no room for both generations beside what appends need")]
    NoRoom,
    /// The pass met what should not be possible.
    #[error("the scavenge panicked: {what}; this is a bug, please report it")]
    Panicked {
        /// What it said.
        what: String,
    },
}

impl From<DiskError> for ScavengeError {
    fn from(e: DiskError) -> ScavengeError {
        ScavengeError::Rewrite(e.into())
    }
}

impl ScavengeError {
    pub(crate) fn is_stop(&self) -> bool {
        matches!(self, ScavengeError::Rewrite(RewriteError::Stopped))
    }

    /// Whether it is for want of space.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            ScavengeError::NoRoom => true,
            ScavengeError::Rewrite(RewriteError::Log(OpenError::Disk(e))) => e.is_full(),
            _ => false,
        }
    }

    /// Whether it says that bytes are not what they should be: those of one segment, so that others
    /// can be rewritten all the same.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            ScavengeError::Read(e) => matches!(e, ReadError::Damaged { .. }),
            ScavengeError::Rewrite(RewriteError::Log(e)) => {
                matches!(e, OpenError::Damaged { .. })
            }
            ScavengeError::Rewrite(RewriteError::Unsound { .. })
            | ScavengeError::AnotherIndex { .. } => true,
            ScavengeError::Rewrite(RewriteError::Stopped)
            | ScavengeError::NoRoom
            | ScavengeError::Panicked { .. } => false,
        }
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
    /// What was left as it is because its bytes are not what they should be: segments, and streams
    /// whose settings cannot be read.
    pub damaged: u64,
    /// What is wrong with the first of them.
    pub damage: Option<String>,
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
    /// Bytes given back.
    #[must_use]
    pub fn gain(&self) -> u64 {
        self.bytes_before.saturating_sub(self.bytes_after)
    }

    /// Notes how much was left as it is, and what is wrong with the first of it.
    pub(crate) fn left(&mut self, count: u64, damage: &dyn std::fmt::Display) {
        self.damaged += count;
        self.damage.get_or_insert_with(|| damage.to_string());
    }

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
    /// It could not go on, or had to leave out what is damaged. The next one will try again.
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
