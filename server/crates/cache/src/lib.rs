//! Disposable sled databases: opened, or set aside and begun anew.
//!
//! ```text
//!   Disposable<Live>       directory/live-7   the sled in use; a new beginning has the next number
//!     with(ask) ──> Live   directory/bad-6    set aside with its reason logged; the newest few are
//!       │                                     kept for a look
//!       └─ Fault ──> the next live-N, or off after a few
//!   sled      guarded calls, opening, closing in time
//!   envelope  { magic, schema, length, crc32 } around every value, checked before bincode sees it
//! ```
//!
//! sled 0.34 is old and panics on some damage. What is in it must be such that all of it can be
//! deleted at any time. Every call into it is caught; an error or a panic sets the directory aside
//! and begins a new one, at most [`limits::BEGINNINGS_MAX`] times in one process, after which it is
//! off until a restart. A sled that failed is leaked on purpose: its destructor may wait for ever
//! for a thread that died, and its background thread still writes files by name, which is why a new
//! beginning takes a new directory and not the old one's name.
//!
//! INVARIANT: knows nothing of what is kept, and nothing of events. All methods block: async
//! callers use `spawn_blocking`.

mod disposable;
pub mod envelope;
pub mod limits;
mod live;

pub use disposable::{Disposable, Kept, Unavailable};
pub use envelope::{Damage, Envelope};
pub use live::{Fault, close, guarded, open};
