//! The state of an aggregate, kept so that it need not be replayed from its first event.

use bytes::Bytes;

use crate::Revision;

/// The state of an aggregate after one event of its stream. Disposable: a stream says the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The revision of the last event that the state contains.
    pub revision: Revision,
    /// The version of the state's layout; its owner's, the store only keeps it. A reader that does
    /// not know it ignores the snapshot and replays.
    pub schema: u32,
    /// What it is a state of: the aggregate's type, or the media type of `data`. The store bounds
    /// its length.
    pub kind: String,
    /// The state. The store bounds its size.
    pub data: Bytes,
}
