//! What is known of a group.

use daybook_store::persistent::Counters;

use super::definition::Definition;
use super::measure::Rated;

/// A group, as it stands now.
#[derive(Clone, Debug)]
pub struct GroupInfo {
    /// How it is set up.
    pub definition: Definition,
    /// What it is doing.
    pub status: Status,
    /// Its consumers, in the order in which they came.
    pub consumers: Vec<ConsumerInfo>,
    /// How fast it works.
    pub rated: Rated,
    /// What it has done since it was loaded.
    pub counters: Counters,
    /// The place of its last checkpoint, as clients see it.
    pub checkpoint: Option<String>,
    /// The number of that.
    pub checkpoint_number: Option<u64>,
    /// The last number of its source that it has looked at.
    pub considered: Option<u64>,
    /// The number that the next event of its source will have.
    pub end: u64,
    /// The last event of its source, as clients see its place.
    pub last_known: Option<String>,
    /// Messages not sent yet.
    pub waiting_new: usize,
    /// Messages that wait to be sent again.
    pub waiting_again: usize,
    /// Messages in flight.
    pub in_flight: usize,
    /// Messages that are being parked, or cannot be.
    pub parking: usize,
    /// Messages that are not settled.
    pub unsettled: usize,
    /// Messages that are parked.
    pub parked: u64,
    /// For how long the oldest message that is not settled has been here, in seconds.
    pub oldest_seconds: f64,
}

impl GroupInfo {
    /// Of a group that cannot say more than that it does not work.
    #[must_use]
    pub fn not_ready(definition: Definition, trouble: String) -> GroupInfo {
        let status = Status { trouble: Some(trouble), ..Status::default() };
        GroupInfo {
            definition,
            status,
            consumers: Vec::new(),
            rated: Rated::default(),
            counters: Counters::default(),
            checkpoint: None,
            checkpoint_number: None,
            considered: None,
            end: 0,
            last_known: None,
            waiting_new: 0,
            waiting_again: 0,
            in_flight: 0,
            parking: 0,
            unsettled: 0,
            parked: 0,
            oldest_seconds: 0.0,
        }
    }

    /// Events of the source that it is not done with.
    #[must_use]
    pub fn lag(&self) -> u64 {
        let next = self.considered.map_or(0, |number| number + 1);
        self.end.saturating_sub(next) + self.unsettled as u64
    }
}

/// What a group is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether it has brought all of history.
    pub live: bool,
    /// Whether parked messages are being read.
    pub replaying: bool,
    /// Whether it waits for the log.
    pub reading: bool,
    /// What keeps it from working, if anything does.
    pub trouble: Option<String>,
}

impl Status {
    /// In the words that clients know.
    #[must_use]
    pub fn words(&self) -> String {
        let mut words = Vec::new();
        if self.trouble.is_some() {
            words.push("NotReady");
        }
        words.push(if self.live { "Live" } else { "Behind" });
        if self.reading && !self.live {
            words.push("OutstandingPageRequest");
        }
        if self.replaying {
            words.push("ReplayingParkedMessages");
        }
        words.join(", ")
    }
}

/// A consumer of a group.
#[derive(Clone, Debug)]
pub struct ConsumerInfo {
    /// Who it says it is.
    pub visitor: Visitor,
    /// How fast it works.
    pub rated: Rated,
    /// Messages it has settled.
    pub total: u64,
    /// How long it had them, in milliseconds by name; if that is measured.
    pub observed: Vec<(&'static str, i64)>,
    /// Messages it may still be sent.
    pub free: usize,
    /// Messages it has.
    pub in_flight: usize,
}

/// Who a consumer says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// Where it comes from, as far as that is known.
    pub from: String,
    /// Its user.
    pub username: String,
    /// What it calls its connection.
    pub connection: String,
}
