//! What is asked of an append, and what comes back.

use smallvec::SmallVec;

use crate::stream::Owner;
use crate::{
    Denied, ExpectedRevision, InvalidEvent, InvalidStreamName, NewEvent, Position, Revision,
    StreamName,
};

/// One atomic append: all of its events become durable, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The streams it writes or checks, each once, with what it expects of each.
    pub streams: SmallVec<[StreamCondition; 1]>,
    /// The events in the order they shall have in the log, each with its stream's index in
    /// `streams`. A stream that no event names is only checked.
    pub events: Vec<(u32, NewEvent)>,
}

/// One stream of an [`Append`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamCondition {
    /// The stream.
    pub stream: StreamName,
    /// What must hold of it.
    pub expected: ExpectedRevision,
}

impl Append {
    /// An append of `events` to one stream.
    #[must_use]
    pub fn to_stream(
        stream: StreamName,
        expected: ExpectedRevision,
        events: impl IntoIterator<Item = NewEvent>,
    ) -> Append {
        Append {
            streams: SmallVec::from_buf([StreamCondition { stream, expected }]),
            events: events.into_iter().map(|event| (0, event)).collect(),
        }
    }

    /// An append to several streams, in this order in the log.
    #[must_use]
    pub fn to_streams(
        parts: impl IntoIterator<Item = (StreamName, ExpectedRevision, Vec<NewEvent>)>,
    ) -> Append {
        let mut append = Append { streams: SmallVec::new(), events: Vec::new() };
        for (index, (stream, expected, events)) in (0u32..).zip(parts) {
            append.streams.push(StreamCondition { stream, expected });
            append.events.extend(events.into_iter().map(|event| (index, event)));
        }
        append
    }

    /// The same, if `stream`, which it does not write, is where it is expected.
    #[must_use]
    pub fn and_check(mut self, stream: StreamName, expected: ExpectedRevision) -> Append {
        self.streams.push(StreamCondition { stream, expected });
        self
    }
}

/// A durable append. For a retry that was recognised by its ids: the first one's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// For each stream of the request the revision of its last event after the append; none if the
    /// stream has no events.
    pub revisions: SmallVec<[Option<Revision>; 1]>,
    /// The position of the last event written; none if the append had no events.
    pub position: Option<Position>,
}

/// What a check may ask of a stream beside what [`ExpectedRevision`] can say: how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndedState {
    /// That it is soft-deleted.
    SoftDeleted,
    /// That it ended for ever.
    Tombstoned,
}

/// What a check found of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundState {
    /// It was never written.
    NoStream,
    /// Its last event has this revision.
    At(Revision),
    /// It is soft-deleted.
    SoftDeleted,
    /// It ended for ever.
    Tombstoned,
}

impl FoundState {
    /// What KurrentDB's number `code` says was found; none if it says nothing.
    #[must_use]
    pub fn of_code(code: i64) -> Option<FoundState> {
        match code {
            -1 => Some(FoundState::NoStream),
            -5 => Some(FoundState::SoftDeleted),
            -6 => Some(FoundState::Tombstoned),
            revision => u64::try_from(revision).ok().map(|n| FoundState::At(Revision(n))),
        }
    }

    /// KurrentDB's number for it: -1 no stream, -5 soft-deleted, -6 tombstoned.
    #[must_use]
    pub fn code(self) -> i64 {
        match self {
            FoundState::NoStream => -1,
            FoundState::At(revision) => revision.0.cast_signed(),
            FoundState::SoftDeleted => -5,
            FoundState::Tombstoned => -6,
        }
    }
}

/// A condition of an append that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedCheck {
    /// The index of its stream in the request.
    pub index: usize,
    /// The stream.
    pub stream: StreamName,
    /// What it is instead.
    pub found: FoundState,
}

/// How a stream is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// Its events are hidden; it can be written again and its revisions continue.
    Soft,
    /// It ends for ever with a tombstone.
    Tombstone,
}

fn reserved(stream: &StreamName) -> String {
    let (writer, instead) = match stream.owner() {
        Some(Owner::Ledger) => ("the ledger", "its API, /v1/accounts and /v1/transfers"),
        Some(Owner::Users) => ("the users' service", "its calls, event_store.client.users.Users"),
        Some(Owner::Projections) => {
            ("the projections", "their calls, event_store.client.projections.Projections")
        }
        Some(Owner::Groups) => (
            "the persistent subscriptions",
            "their calls, event_store.client.persistent_subscriptions.PersistentSubscriptions",
        ),
        Some(Owner::Audit) => ("the audit log", "it for reading"),
        None => {
            return format!(
                "stream '{stream}' lists what other streams hold and is written by nobody; append to \
             those, or choose another name"
            );
        }
    };
    format!("stream '{stream}' is written by {writer} alone; use {instead}")
}

/// Why an append or a deletion was not done. Unless said otherwise nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// A stream was not at the expected revision.
    #[error(
        "stream '{stream}' was expected at revision {expected} but is at {}; read it and decide \
         again", .actual.map_or("no_stream".to_owned(), |r| r.to_string())
    )]
    WrongExpectedRevision {
        /// Its index in the request.
        index: usize,
        /// The stream.
        stream: StreamName,
        /// What the request expected.
        expected: ExpectedRevision,
        /// The revision of its last event, if it has any.
        actual: Option<Revision>,
    },
    /// Conditions do not hold: all of those, if the append asked for all.
    #[error(
        "{} of the append's checks do not hold, the first on stream '{}'; read these streams and \
         decide again", failed.len(), failed.first().map_or("", |check| check.stream.as_str())
    )]
    ChecksFailed {
        /// Which, by the index of their streams.
        failed: Vec<FailedCheck>,
    },
    /// The stream has a tombstone, or is soft-deleted and was expected to exist.
    #[error("stream '{stream}' is deleted{}", if *.tombstoned { " for ever; choose another name" } else { "" })]
    StreamDeleted {
        /// Its index in the request.
        index: usize,
        /// The stream.
        stream: StreamName,
        /// Whether it ended for ever.
        tombstoned: bool,
    },
    /// An event breaks a limit.
    #[error(transparent)]
    InvalidEvent(#[from] InvalidEvent),
    /// A stream's name breaks a rule.
    #[error(transparent)]
    InvalidStreamName(#[from] InvalidStreamName),
    /// All events together are larger than [`crate::limits::APPEND_SIZE_MAX`].
    #[error("the append has {size} bytes; the limit is {limit}; split it")]
    TooLarge {
        /// Its bytes as stored.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// Its shape is wrong: no stream, the same stream twice, an event of a stream it does not name,
    /// too many events.
    #[error("the append is malformed: {reason}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
    },
    /// The stream is written by one part of the server alone (see [`StreamName::is_reserved`]), or
    /// by nobody.
    #[error("{}", reserved(.stream))]
    Reserved {
        /// The stream.
        stream: StreamName,
    },
    /// The caller may not do this with a stream.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// As many appends wait as may; try again later.
    #[error("the server is busy: {waiting} appends wait already; try again later")]
    Overloaded {
        /// How many wait.
        waiting: usize,
    },
    /// The next segment could not be prepared, because the disk is full or otherwise; appends
    /// resume by themselves when it can.
    #[error(
        "no room for another segment in {location}: {reason}; free space there, appends then \
         resume by themselves"
    )]
    DiskFull {
        /// The data directory.
        location: String,
        /// What the disk said.
        reason: String,
    },
    /// The clock leapt forward; an operator must accept the new time.
    #[error(
        "the clock leapt forward by {seconds} s while the server ran; check the machine's clock, \
         then accept it or restart"
    )]
    ClockLeapt {
        /// By how much.
        seconds: u64,
    },
    /// A write or sync of this append failed, or the store stopped before it was known to be
    /// durable: it may have happened or not. A retry with the same ids finds out, after a restart.
    #[error("the outcome of the append is unknown: {reason}; retry it with the same event ids")]
    Unknown {
        /// What happened.
        reason: String,
    },
    /// A store elsewhere refuses it, for a reason of its own.
    #[error("the store refuses the append: {reason}")]
    Refused {
        /// What it says, and what to do.
        reason: String,
    },
    /// The store takes no appends any more (stopping, or poisoned by an earlier failure).
    #[error("the store takes no appends: {reason}")]
    Closed {
        /// Why.
        reason: String,
    },
    /// What is stored could not be read to decide this append.
    #[error("cannot decide the append: {reason}")]
    Read {
        /// What could not be read.
        reason: String,
    },
}
