//! Why a projection was not made, changed or shown.

use daybook_script::ScriptError;
use daybook_store::{AppendError, ReadError};

use super::PROJECTIONS_MAX;

/// Why a projection was not made, changed or shown.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProjectionError {
    /// There is none of that name. The text is the protocol's.
    #[error("Projection '{name}' not found")]
    NotFound {
        /// The name.
        name: String,
    },
    /// There is one of that name.
    #[error("Projection '{name}' exists already; update it, or choose another name")]
    Exists {
        /// The name.
        name: String,
    },
    /// It cannot be deleted while it runs.
    #[error("Projection '{name}' runs; disable it before it is deleted")]
    Runs {
        /// The name.
        name: String,
    },
    /// There are as many as may be.
    #[error("there are {PROJECTIONS_MAX} projections already; delete one")]
    TooMany,
    /// What was asked for cannot be meant.
    #[error("{reason}")]
    Invalid {
        /// Why, and what to do.
        reason: String,
    },
    /// Its program cannot be run.
    #[error(transparent)]
    Script(#[from] ScriptError),
    /// The store did not take the change.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The server is stopping.
    #[error("the server is stopping; ask again when it is back")]
    Stopping,
    /// A mistake of this program.
    #[error("a projection failed unexpectedly: {0}; this is a mistake in daybook, report it")]
    Panicked(String),
}
