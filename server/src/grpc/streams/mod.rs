//! Streams: the service that carries the load. Protocol section 5.
//!
//! ```text
//!   read    plan: what is asked, checked ─> show: pages to bytes ─> one body frame per page
//!   append  messages ─> one atomic append
//!   batch   messages ─> many atomic appends in flight at once ─> answers as they come
//!   delete  soft delete and tombstone
//!   budget  the bytes that appends hold while they are received, all calls together
//! ```

pub mod append;
pub mod batch;
pub mod budget;
pub mod delete;
pub mod plan;
pub mod read;
pub mod show;

use daybook_model::Position;
use daybook_wire::encode_position;

use crate::node::Context;
use crate::node::door::Door;
use budget::Budget;

/// What the calls of this service share.
#[derive(Clone)]
pub struct Room {
    /// The node.
    pub context: Context,
    /// The bytes being received.
    pub budget: Budget,
}

impl Room {
    /// The room of the node that `context` belongs to.
    #[must_use]
    pub fn new(context: Context) -> Room {
        Room { context, budget: Budget::default() }
    }
}

/// The number clients see for `position`, an event that is stored.
#[must_use]
pub fn shown_position(store: &Door, position: Position) -> u64 {
    let epoch = store.epoch_at(position).unwrap_or_else(|| store.about().epoch);
    encode_position(position, epoch)
}
