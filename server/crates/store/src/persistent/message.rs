//! What goes into a group, and what comes out of it.

use uuid::Uuid;

use super::consumer::ConsumerId;
use super::strategy::Bucket;

/// A message's number in the order in which messages were pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Where a message was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// What the group follows.
    Source,
    /// Its parked stream.
    Parked,
}

/// A message to be delivered.
#[derive(Clone, Debug)]
pub struct Message<P> {
    /// What consumers name it by: the id of the link if there is one, else of the event.
    pub id: Uuid,
    /// Its number where it was taken from; rising.
    pub number: u64,
    /// What it is pinned with.
    pub bucket: Bucket,
    /// Bytes it holds.
    pub size: usize,
    /// What is sent. Cloned for each delivery, so a handle.
    pub payload: P,
}

/// What a consumer makes of a message that it does not acknowledge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NackAction {
    /// Park it, for this reason.
    Park(String),
    /// Send it again, before new ones.
    Retry,
    /// It is done. What clients call Stop is no more than this.
    Skip,
}

/// Why a message is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParkCause {
    /// A consumer asked for it.
    ClientNak,
    /// It was sent as often as it may.
    MaxRetries,
}

/// What the host is to do.
#[derive(Clone, Debug)]
pub enum Action<P> {
    /// Send a message; if it cannot be, [`Group::bounce`](super::Group::bounce).
    Send {
        /// To whom.
        to: ConsumerId,
        /// Which.
        ticket: Ticket,
        /// How often it was sent before because it failed.
        retries: u32,
        /// What.
        payload: P,
    },
    /// Write it to the parked stream; then [`Group::parked`](super::Group::parked).
    Park {
        /// Which.
        ticket: Ticket,
        /// What.
        payload: P,
        /// Why, for people.
        reason: String,
        /// Why, for numbers.
        cause: ParkCause,
    },
    /// Make this place durable; then [`Group::checkpointed`](super::Group::checkpointed).
    Checkpoint {
        /// Of which stream.
        origin: Origin,
        /// Everything up to here is settled.
        number: u64,
    },
}

/// What a group has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Messages settled.
    pub settled: u64,
    /// Messages sent, each time counted.
    pub sent: u64,
    /// Messages sent again because they failed or took too long.
    pub retried: u64,
    /// Parked because a consumer asked for it.
    pub parked_by_client: u64,
    /// Parked because they were sent as often as they may.
    pub parked_by_retries: u64,
}
