//! Why something was not done.

use daybook_model::StreamName;
use daybook_model::append::AppendError;
use daybook_model::repository::LoadError;
use uuid::Uuid;

use super::UNFINISHED_MAX;
use crate::saga::State;
use crate::transfer::{InvalidTransfer, REASON_SIZE_MAX};

/// Why a transfer was not begun. Nothing was written, unless the outcome is unknown.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartError {
    /// The request makes no sense.
    #[error(transparent)]
    Invalid(#[from] InvalidTransfer),
    /// The id was used for another transfer.
    #[error("transfer {id} was another request; use a new id for a new transfer")]
    Reused {
        /// The id.
        id: Uuid,
    },
    /// [`UNFINISHED_MAX`] transfers are unfinished.
    #[error("{UNFINISHED_MAX} transfers are unfinished, as many as may be; try again later")]
    Overloaded,
    /// Others wrote the sender's account first, again and again.
    #[error("stream '{stream}' was changed by others meanwhile; try again")]
    Conflict {
        /// The sender's stream.
        stream: StreamName,
    },
    /// The store did not take it.
    #[error(transparent)]
    Append(AppendError),
    /// Something could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Why a failed transfer was not resumed or abandoned.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody asked for such a transfer.
    #[error("transfer {id} does not exist")]
    NotFound {
        /// The id.
        id: Uuid,
    },
    /// It has not failed.
    #[error(
        "transfer {id} is {}; only a failed one can be resumed or abandoned", .state.as_str()
    )]
    NotFailed {
        /// The id.
        id: Uuid,
        /// Its state.
        state: State,
    },
    /// A text makes no sense.
    #[error("{field}: must have 1 to {REASON_SIZE_MAX} bytes of text without control characters")]
    Invalid {
        /// Which.
        field: &'static str,
    },
    /// The store did not take it; a wrong expected revision means that somebody else was first.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Why the end of a transfer was not seen.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WaitError {
    /// The store takes no more appends, so the transfer rests until a restart.
    #[error("the server is stopping; the transfer goes on when it is back")]
    Stopped,
    /// It could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
}
