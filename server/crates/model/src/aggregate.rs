//! An aggregate: a state made of its stream's events, and the rules by which new ones are decided.

use std::fmt;

use bytes::Bytes;

use crate::{EventView, Timestamp, Upcasters};

/// A stored event that its aggregate cannot read: of an unknown type, or not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot read event {event_type}: {reason}; it was written by another version of this server"
)]
pub struct Undecodable {
    /// Its type.
    pub event_type: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A pure, total state machine. Its default value is the aggregate that no event has touched.
///
/// INVARIANT: knows no IO, clock or chance; `now` is an argument, and what `evolve` needs of it
/// stands in the event, so that a replay gives the same state for ever.
pub trait Aggregate: Default + Clone + Send + Sync + 'static {
    /// What its snapshots are called.
    const KIND: &'static str;
    /// The version of its snapshots' layout. Raise it whenever `evolve` or the layout changes:
    /// older snapshots are then ignored, and the stream replayed.
    const SCHEMA: u32;

    /// How events that older programs wrote become what `decode` knows. Their data is brought to
    /// the newest version before it is decoded, and new events are stamped with that version.
    const UPCASTERS: Upcasters = Upcasters::NONE;

    /// What it can be asked.
    type Command: Send + Sync + 'static;
    /// What happened to it.
    type Event: Send + Sync + 'static;
    /// Why it refuses a command.
    type Rejection: std::error::Error + Clone + Send + Sync + 'static;

    /// What happens if `command` is given at `now`. No events: it holds already.
    ///
    /// # Errors
    /// The rule that forbids it.
    fn decide(
        &self,
        command: &Self::Command,
        now: Timestamp,
    ) -> Result<Vec<Self::Event>, Self::Rejection>;

    /// Takes in what happened.
    fn evolve(&mut self, event: &Self::Event);

    /// An event's type and data.
    fn encode(event: &Self::Event) -> (&'static str, Bytes);

    /// An event from how it is stored, in the newest version of its layout.
    ///
    /// # Errors
    /// [`Undecodable`] says what is wrong with it.
    fn decode(event: EventView<'_>) -> Result<Self::Event, Undecodable>;

    /// An event as it is stored, in whatever version of its layout: what everybody calls who reads
    /// events of this kind.
    ///
    /// # Errors
    /// [`Undecodable`] says what is wrong with it; one reason is that a newer program wrote it.
    fn read(event: EventView<'_>) -> Result<Self::Event, Undecodable> {
        let data = Self::UPCASTERS.data(&event)?;
        Self::decode(EventView { data: &data, ..event })
    }

    /// The state, for a snapshot.
    fn to_snapshot(&self) -> Bytes;

    /// The state from a snapshot of [`Aggregate::SCHEMA`]; none if it cannot be read.
    fn from_snapshot(data: &[u8]) -> Option<Self>;
}

/// What was decided of a command, for whoever records it elsewhere in the same append.
pub enum Decision<'a, A: Aggregate> {
    /// These events will be appended, and leave this state.
    Accepted {
        /// The events.
        events: &'a [A::Event],
        /// The state after them.
        state: &'a A,
    },
    /// The command is refused.
    Rejected(&'a A::Rejection),
}

impl<A: Aggregate> fmt::Debug for Decision<'_, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Decision::Accepted { .. } => "Accepted",
            Decision::Rejected(_) => "Rejected",
        })
    }
}
