//! A projection: which events it wants, which tables it keeps, and how one changes the other.

use daybook_model::EventView;

use crate::change::Changes;
use crate::feed::Interest;
use crate::store::StoreError;
use crate::table::Table;

/// A fold from events to rows.
///
/// INVARIANT: pure. The rows after an event depend on the rows before it and on the event alone, so
/// that building a projection again gives the same tables.
pub trait Projection: Send + Sync + 'static {
    /// Its name: lower case, digits and `_`; never reused for another one.
    fn name(&self) -> &'static str;

    /// Raise it with any change to the tables or to `apply`: the projection is then built anew
    /// beside the old tables, which serve until it has caught up.
    fn version(&self) -> u32;

    /// The tables it keeps. A `&Table` of this list is what its changes are made to.
    fn tables(&self) -> &'static [Table];

    /// The events it wants.
    fn interest(&self) -> Interest;

    /// Takes in one event. What it changed is undone if it fails.
    ///
    /// # Errors
    /// [`ApplyError::Poison`] if the event cannot be taken in, now or ever.
    fn apply(&self, event: EventView<'_>, changes: &mut Changes<'_>) -> Result<(), ApplyError>;

    /// What becomes of an event that cannot be taken in.
    fn on_poison(&self) -> OnPoison {
        OnPoison::Stop
    }
}

/// What becomes of a poisoned event: it is never silently dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnPoison {
    /// The projection stops before it and says so, until it is told to go on.
    Stop,
    /// It is parked with its error, and the projection goes on.
    Park,
}

/// Why an event was not taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The event itself is at fault, or the projection: trying again does not help.
    #[error("{reason}")]
    Poison {
        /// What is wrong.
        reason: String,
    },
    /// A row could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}
