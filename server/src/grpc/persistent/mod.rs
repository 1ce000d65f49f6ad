//! PersistentSubscriptions: groups of consumers. Protocol section 7.
//!
//! ```text
//!   decode  requests: which group, which settings
//!   manage  Create Update Delete GetInfo List ReplayParked TruncateParked RestartSubsystem
//!   read    one consumer: messages to its client, what becomes of them back
//!   show    messages and figures as the protocol has them
//! ```

pub mod decode;
pub mod manage;
pub mod read;
pub mod show;
