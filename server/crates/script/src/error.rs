//! Why a program did not do what it should.

use crate::{HEAP_SIZE_MAX, SOURCE_SIZE_MAX};

/// What a program was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Being compiled.
    Compile,
    /// Naming an event's partition.
    Partition,
    /// Taking up a state.
    Load,
    /// Handling an event.
    Handle,
    /// Showing a state or a result.
    Show,
}

impl std::fmt::Display for Doing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Doing::Compile => "compile",
            Doing::Partition => "name a partition",
            Doing::Load => "take up a state",
            Doing::Handle => "handle the event",
            Doing::Show => "show a state or a result",
        })
    }
}

/// Why a program did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// Its source is too large.
    #[error("the program has {size} bytes; the limit is {SOURCE_SIZE_MAX}")]
    TooLarge {
        /// Its bytes.
        size: usize,
    },
    /// What it says of itself cannot be meant.
    #[error("the program cannot be run: {reason}")]
    Meaningless {
        /// Why.
        reason: &'static str,
    },
    /// It has an error in its text, or threw one.
    #[error("could not {doing}: {message}{}{place}", if place.is_empty() { "" } else { ", " })]
    Threw {
        /// What it was doing.
        doing: Doing,
        /// What it threw.
        message: String,
        /// Where in its source.
        place: String,
    },
    /// It did not come to an end.
    #[error("took too long to {doing}; make it do less for one event")]
    TooLong {
        /// What it was doing.
        doing: Doing,
    },
    /// It needs more memory than it is given.
    #[error(
        "needs more than {} MiB of memory to {doing}; keep less in one state, or partition it",
        HEAP_SIZE_MAX / 1024 / 1024
    )]
    Memory {
        /// What it was doing.
        doing: Doing,
    },
}
