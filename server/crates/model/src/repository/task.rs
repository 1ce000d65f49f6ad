//! What a repository is asked, and what it answers.

use uuid::Uuid;

use super::ATTEMPTS_MAX;
use crate::aggregate::{Aggregate, Decision, Undecodable};
use crate::append::AppendError;
use crate::{Context, ExpectedRevision, NewEvent, Position, ReadFailed, Revision, StreamName};

/// What names a command, so that its retry is recognised for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Chosen by whoever gives the command; unique within the aggregate.
    pub id: Uuid,
    /// A digest of the whole request. The same id with another digest is a mistake.
    pub digest: [u8; 16],
}

/// What goes with a command into its append: events of one other stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Companion {
    /// The stream.
    pub stream: StreamName,
    /// What must hold of it. If it does not, the command is not done.
    pub expected: ExpectedRevision,
    /// Its events.
    pub events: Vec<NewEvent>,
}

/// Tells, given what was decided, what goes with it. May be asked more than once.
pub type Record<A> = Box<dyn Fn(Decision<'_, A>) -> Option<Companion> + Send + Sync>;

/// A command, and what belongs to it.
pub struct Task<A: Aggregate> {
    /// What to do.
    pub command: A::Command,
    /// What names it.
    pub transaction: Transaction,
    /// What its events belong to and what brings them about, if there is more to say of them.
    pub context: Option<Context>,
    /// What goes with it, if anything does.
    pub record: Option<Record<A>>,
}

/// A command that was done.
#[derive(Clone, Debug)]
pub struct Executed<A> {
    /// The aggregate after it.
    pub state: A,
    /// The revision of the aggregate's last event then; none if it has no events.
    pub revision: Option<Revision>,
    /// The position of the command's last event; none if it had nothing to do, or was done before.
    pub position: Option<Position>,
    /// Whether it was recognised as a retry: the answer is the first one's.
    pub repeated: bool,
}

/// Why a command was not done. Nothing was written, unless the error says that this is not known.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ExecuteError<R: std::error::Error> {
    /// A rule forbids it. If the command has a record that tells of refusals, that was written.
    #[error(transparent)]
    Rejected(R),
    /// Its transaction id was used for another request.
    #[error(
        "transaction {id} of stream '{stream}' was another request; use a new id for a new request"
    )]
    TransactionReused {
        /// The aggregate's stream.
        stream: StreamName,
        /// The id.
        id: Uuid,
    },
    /// The companion's stream was not where it was expected.
    #[error("stream '{stream}' has moved on to {}; read it and decide again",
        .actual.map_or("no_stream".to_owned(), |r| r.to_string()))]
    CompanionMoved {
        /// The companion's stream.
        stream: StreamName,
        /// Its revision.
        actual: Option<Revision>,
    },
    /// Others wrote the stream first, [`ATTEMPTS_MAX`] times in a row.
    #[error("stream '{stream}' was changed by others {ATTEMPTS_MAX} times meanwhile; try again")]
    Conflict {
        /// The stream.
        stream: StreamName,
    },
    /// The append failed.
    #[error(transparent)]
    Append(AppendError),
    /// The aggregate could not be loaded.
    #[error(transparent)]
    Load(LoadError),
}

/// Why an aggregate could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The store could not read it.
    #[error(transparent)]
    Read(#[from] ReadFailed),
    /// An event of it is not understood.
    #[error("stream '{stream}', revision {revision}: {reason}")]
    Undecodable {
        /// The stream.
        stream: StreamName,
        /// The event's revision.
        revision: Revision,
        /// What is wrong with it.
        reason: Undecodable,
    },
}
