//! What reads and subscriptions deliver, and the place in `$all` a consumer may keep.

use std::fmt;

use daybook_model::{Epoch, Position, RecordedEvent};
use daybook_wire::position;

/// A place in `$all` as the server names it: keep it, hand it back, compare it, and nothing else.
///
/// It is more than a [`Position`]: it also says which history the position belongs to. After a
/// restore has rewound the server to an older state, a checkpoint from the lost history is refused
/// ([`crate::ReadError::InvalidPosition`]) instead of waiting for ever or skipping what is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Checkpoint(pub u64);

impl Checkpoint {
    /// The event it points at, as Daybook numbers events.
    #[must_use]
    pub fn position(self) -> Position {
        position::decode(self.0).0
    }

    /// The checkpoint of `position`, which `epoch` wrote.
    #[must_use]
    pub fn at(position: Position, epoch: Epoch) -> Checkpoint {
        Checkpoint(position::encode_position(position, epoch))
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Checkpoint {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Checkpoint, Self::Err> {
        text.parse().map(Checkpoint)
    }
}

/// What stands at one place of a stream or of `$all`: an event, or a link and what it points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedEvent {
    /// The event; for a resolved link the event it points at, none if that is gone.
    pub event: Option<RecordedEvent>,
    /// The link, if it was one and links were to be resolved.
    pub link: Option<Box<RecordedEvent>>,
    /// Its place in `$all`, to go on after it.
    pub checkpoint: Option<Checkpoint>,
}

impl ResolvedEvent {
    /// The record that stands at this place: the link if there is one, else the event.
    #[must_use]
    pub fn original(&self) -> Option<&RecordedEvent> {
        self.link.as_deref().or(self.event.as_ref())
    }
}
