//! Gives back the space of events that nobody may read any more.
//!
//! ```text
//!   decide      what of a stream goes: pure, from its settings as of one moment
//!   survey      the streams that have settings, and the sealed segments that hold what goes
//!   pass        each of those segments, one step a call:
//!                 judge ─> write ─> read back ─> index ─> install ─> swap ─> remove the old
//!   judge       which events of a segment go, by the rules of a survey
//!   generation  how the new generation of a segment takes the place of the old one
//!   memory      what one pass leaves the next to know
//!   room        what is left to appends of the disk
//!   trace       what stays of an event: hashes of its id and of its index keys
//!   status      how far a pass has come, for people and metrics
//!   handle      one pass at a time, on a thread of its own: by request, or by itself
//! ```
//!
//! What goes: events past `$maxAge`, `$maxCount` or `$tb`, those of deleted streams, and metadata
//! that newer metadata replaced. What stays, always: tombstones, the newest metadata of a stream
//! (a soft-deleted stream's says where its revisions go on), the store's own events, and all that
//! is the ledger's.
//!
//! A removed event is a *hole*: its position, revision and numbers under index keys are taken for
//! ever, readers step over it, and a retry of its append is still known. So a scavenge changes the
//! answer to no question but one: what was in the event.
//!
//! # What a pass remembers
//!
//! Nothing that must survive. A pass that was cut off left segments that are rewritten and
//! segments that are not; the next one looks and goes on. What was looked at in vain is
//! remembered in memory, so that it is not read again while nothing has changed.
//!
//! # What goes wrong
//!
//! A generation that readers cannot be given is taken back, its name first; where the disk does not
//! let go of it, the segment stays alone until the next start settles which one counts. Damaged
//! bytes are noted and left, and the pass goes on behind them. A pass that panics has failed, like
//! any other: what it had not finished counts for nothing.
//!
//! INVARIANTS
//! - Only sealed segments are rewritten, and only what was appended before the moment of decision
//!   goes: a stream that is opened again keeps all that it is given then.
//! - An old generation is removed when the new one was read back, is durable under its name, and
//!   is what readers find. Those that still hold the old one go on reading it.
//! - Of a segment there is one next generation at a time: an index never meets the log of another
//!   attempt.
//! - Appends never wait for a scavenge: it takes its locks for a swap of pointers only, leaves the
//!   disk the room of the next segments, and paces what it reads and writes.

pub(crate) mod decide;
mod generation;
pub(crate) mod handle;
mod judge;
pub(crate) mod memory;
pub(crate) mod pass;
mod room;
pub(crate) mod status;
pub(crate) mod survey;
pub(crate) mod trace;

pub use handle::{NoSuchScavenge, RATE, RATE_MIN, Scavenge, Schedule, Start};
pub use pass::{Step, Thoroughness};
pub use status::{Finished, Outcome, Progress, ScavengeError, ScavengeStatus};
