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

use axum::extract::{FromRef, FromRequestParts};
use daybook_model::Position;
use daybook_wire::encode_position;
use http::StatusCode;
use http::request::Parts;

use crate::node::door::Works;
use crate::node::{Admitted, Context};
use budget::Budget;

/// What the calls of this service share.
#[derive(Clone)]
pub struct Hall {
    context: Context,
    budget: Budget,
}

impl Hall {
    /// The hall of the node that `context` belongs to.
    #[must_use]
    pub fn new(context: Context) -> Hall {
        let budget = Budget::new(context.memory().budgets.appends);
        Hall { context, budget }
    }
}

impl FromRef<Hall> for Context {
    fn from_ref(hall: &Hall) -> Context {
        hall.context.clone()
    }
}

/// What one call has.
#[derive(Clone)]
pub struct Room {
    /// The node, as its caller may use it.
    pub node: Admitted,
    /// The bytes being received.
    pub budget: Budget,
}

impl FromRequestParts<Hall> for Room {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, hall: &Hall) -> Result<Room, StatusCode> {
        let node = Admitted::from_request_parts(parts, hall).await?;
        Ok(Room { node, budget: hall.budget.clone() })
    }
}

/// The number clients see for `position`, an event that is stored.
#[must_use]
pub fn shown_position(store: &Works, position: Position) -> u64 {
    let epoch = store.epoch_at(position).unwrap_or_else(|| store.about().epoch);
    encode_position(position, epoch)
}
