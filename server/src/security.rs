//! Who calls, how they prove it, and what they may do.
//!
//! ```text
//!   socket ─> TLS ─> node::entrance ─ identify ─> Caller ─> route's right ─> door: stream's rights
//!                                      └─ 401                └─ 401, 403      └─ 403
//!
//!   caller   who makes a request                rights   what a route asks for, and who has it
//!   gate     the check in front of a route      acl      what a stream's lists let a caller do
//!   lapse    the end of what a proof let in     rules    the same, for a node
//!   audit    what was done, and denied
//! ```

pub mod acl;
pub mod audit;
pub mod caller;
pub mod gate;
pub mod lapse;
pub mod rights;
pub mod rules;

pub use caller::{Caller, Proof};
