//! How far a projection has come.

use std::collections::BTreeMap;

use daybook_model::Position;
use serde::{Deserialize, Serialize};

/// How far a projection has come: all events before `position` were handled. What follows from that
/// for the streams it follows is noted too, so that none has to be looked through again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Before it all events are handled.
    pub position: u64,
    /// Of each stream the number that is next.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub next: BTreeMap<String, u64>,
}

impl Place {
    /// Before it all events are handled.
    #[must_use]
    pub fn position(&self) -> Position {
        Position(self.position)
    }
}
