//! The five projections that servers of this protocol bring along, as clients manage them.
//!
//! ```text
//!   $by_category         $ce-account        $streams               $streams
//!   $by_event_type       $et-Paid           $stream_by_category    $category-account
//!   $by_correlation_id   $bc-7f3c…
//! ```
//!
//! Elsewhere they are programs that write links. Here the index holds what they would, so they are
//! always at the end of the log, cost nothing, and cannot fail. Clients may stop and start them all
//! the same: that is kept, as the last event of `$projections-<name>`, and shown. What the streams
//! list does not change by it.
//!
//! INVARIANT: those streams are written here alone.

use std::sync::Arc;

use daybook_model::stream::PROJECTION_PREFIX;
use daybook_model::{Entropy, ExpectedRevision, NewEvent, StreamName};
use daybook_store::{Append, AppendError, Direction, From, ReadError, ReadStream, Store};
use serde::{Deserialize, Serialize};

/// Their names, in the order of lists.
pub const NAMES: [&str; 5] =
    ["$by_category", "$by_correlation_id", "$by_event_type", "$stream_by_category", "$streams"];
/// The type of the events that say whether one runs.
const STATE_EVENT_TYPE: &str = "$ProjectionUpdated";

/// Whether a projection runs, as clients are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Running {
    /// It does.
    #[default]
    Running,
    /// It was stopped at a checkpoint.
    Stopped,
    /// It was stopped, and no checkpoint was asked for.
    Aborted,
}

impl Running {
    /// The protocol's word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Running::Running => "Running",
            Running::Stopped => "Stopped",
            Running::Aborted => "Aborted/Stopped",
        }
    }
}

/// Why a projection could not be shown or changed.
#[derive(Debug, thiserror::Error)]
pub enum BuiltinError {
    /// None of the five has that name. The text is the protocol's.
    #[error("Projection '{name}' not found")]
    NotFound {
        /// The name.
        name: String,
    },
    /// The store did not take the change.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The projections of one store. A clone is another handle.
#[derive(Clone)]
pub struct Builtin {
    store: Store,
    entropy: Arc<dyn Entropy>,
}

#[derive(Serialize, Deserialize)]
struct State {
    running: Running,
}

impl Builtin {
    /// Those of `store`.
    #[must_use]
    pub fn new(store: Store, entropy: Arc<dyn Entropy>) -> Builtin {
        Builtin { store, entropy }
    }

    /// The one of the five that is called `name`.
    ///
    /// # Errors
    /// [`BuiltinError::NotFound`]
    pub fn named(name: &str) -> Result<&'static str, BuiltinError> {
        let found = NAMES.iter().find(|known| **known == name);
        found.copied().ok_or_else(|| BuiltinError::NotFound { name: name.to_owned() })
    }

    /// Whether the one called `name` runs.
    ///
    /// # Errors
    /// [`BuiltinError`]
    pub async fn running(&self, name: &str) -> Result<Running, BuiltinError> {
        let query = ReadStream {
            stream: stream(Builtin::named(name)?),
            from: From::End,
            direction: Direction::Backwards,
            count: 1,
        };
        let mut reader = match self.store.read_stream(query).await {
            Ok(reader) => reader,
            Err(ReadError::StreamNotFound { .. }) => return Ok(Running::default()),
            Err(failed) => return Err(failed.into()),
        };
        let page = reader.next().await?;
        let last = page.as_ref().and_then(|page| page.last());
        // What cannot be read was not written here: it says nothing.
        let state = last.and_then(|event| serde_json::from_slice::<State>(event.data).ok());
        Ok(state.map_or(Running::default(), |state| state.running))
    }

    /// Notes whether the one called `name` runs.
    ///
    /// # Errors
    /// [`BuiltinError`]
    pub async fn set(&self, name: &str, running: Running) -> Result<(), BuiltinError> {
        if self.running(name).await? == running {
            return Ok(());
        }
        let data = serde_json::json!({ "running": running }).to_string();
        let id = uuid::Builder::from_random_bytes(self.entropy.bytes()).into_uuid();
        let event = NewEvent::json(id, STATE_EVENT_TYPE, data);
        let to = stream(Builtin::named(name)?);
        self.store.append(Append::to_stream(to, ExpectedRevision::Any, [event])).await?;
        Ok(())
    }
}

fn stream(name: &'static str) -> StreamName {
    StreamName::new(&format!("{PROJECTION_PREFIX}{name}")).expect("the five names are short texts")
}
