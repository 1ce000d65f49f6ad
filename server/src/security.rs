//! Who calls, how they prove it, and what they may do.
//!
//! ```text
//!   socket ─> TLS ─> node::entrance ─ identify ─> Caller ─> route's right ─> door: stream's rights
//!                                      └─ 401                └─ 401, 403      └─ 403
//! ```

pub mod caller;

pub use caller::{Caller, Proof};
