//! How far a runner is, for people and metrics.

use std::time::Duration;

use daybook_client::Checkpoint;
use daybook_model::{Position, Timestamp};
use serde::Serialize;

/// What a runner does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// Finds out where to go on.
    Starting,
    /// Reads history.
    CatchingUp,
    /// Has taken in everything there is.
    Live,
    /// Is of another version of its projection: it serves as it is, until another one has caught
    /// up.
    Outdated,
    /// Was told to wait.
    Paused,
    /// Was interrupted, and tries again.
    Retrying {
        /// What happened.
        reason: String,
    },
    /// Does not go on by itself.
    Stopped {
        /// Why, and what to do.
        reason: String,
    },
}

/// How far a runner is.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// What it does.
    pub state: State,
    /// All up to here had its effect; none before the first event.
    pub checkpoint: Option<Checkpoint>,
    /// The end of the log, when it was last looked at.
    pub head: Option<Checkpoint>,
    /// When the last event taken in was committed, or, before the first, the one at the place where
    /// it began; none while that is not known.
    pub event_time: Option<Timestamp>,
    /// Events taken in by this runner since it was started.
    pub events: u64,
    /// Events parked by this runner since it was started.
    pub parked: u64,
    /// The event it stopped at because it cannot be taken in; none unless it is stopped for that.
    pub poisoned: Option<Position>,
    /// Positions of the log passed per second, lately.
    pub rate: f64,
}

/// How far a generation of a projection is.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildStatus {
    /// The generation.
    pub generation: u32,
    /// The projection's version it is built by.
    pub version: u32,
    /// How far it is.
    pub status: Status,
}

/// How far a projection is.
#[derive(Clone, Debug, PartialEq)]
pub struct ProjectionStatus {
    /// The projection.
    pub name: &'static str,
    /// Its version in this program.
    pub version: u32,
    /// Whether it was told to pause.
    pub paused: bool,
    /// What queries see; none before anything was built, and while the tables cannot be reached.
    pub serving: Option<BuildStatus>,
    /// What is being built beside it, and serves when it has caught up.
    pub building: Option<BuildStatus>,
    /// What happened last to its generations, if anything did.
    pub note: Option<String>,
}

impl Status {
    /// One that has done nothing yet.
    #[must_use]
    pub fn starting() -> Status {
        Status {
            state: State::Starting,
            checkpoint: None,
            head: None,
            event_time: None,
            events: 0,
            parked: 0,
            poisoned: None,
            rate: 0.0,
        }
    }

    /// Positions of the log that are not yet taken in or found not to be wanted.
    #[must_use]
    pub fn lag_events(&self) -> u64 {
        let end = |at: Option<Checkpoint>| at.map_or(0, |at| at.position().0 + 1);
        end(self.head).saturating_sub(end(self.checkpoint))
    }

    /// How long ago the last event taken in was committed; zero if everything was taken in, none if
    /// that is not known.
    #[must_use]
    pub fn lag_time(&self, now: Timestamp) -> Option<Duration> {
        self.head?;
        if self.lag_events() == 0 {
            return Some(Duration::ZERO);
        }
        let since = |time: Timestamp| u64::try_from(now.0.saturating_sub(time.0)).unwrap_or(0);
        self.event_time.map(|time| Duration::from_nanos(since(time)))
    }

    /// How long the rest takes at the present rate; none if that cannot be said.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let lag = self.lag_events();
        (self.rate > 0.0 && lag > 0)
            .then(|| Duration::try_from_secs_f64(lag as f64 / self.rate).ok())
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use daybook_model::Epoch;

    use super::*;

    #[test]
    fn a_lag_that_nobody_knows_is_not_said_to_be_none() {
        let at = |position: Option<u64>| position.map(|n| Checkpoint::at(Position(n), Epoch(0)));
        for (place, head, time, lag) in [
            (None, None, None, None),
            (Some(5), None, Some(10), None),
            (Some(5), Some(5), None, Some(0)),
            (Some(5), Some(5), Some(10), Some(0)),
            (Some(5), Some(9), None, None),
            (Some(5), Some(9), Some(10), Some(90)),
            (Some(5), Some(9), Some(110), Some(0)),
            (None, Some(9), None, None),
        ] {
            let (checkpoint, head) = (at(place), at(head));
            let event_time = time.map(Timestamp);
            let status = Status { checkpoint, head, event_time, ..Status::starting() };
            let found = status.lag_time(Timestamp(100)).map(|lag| lag.as_nanos());
            assert_eq!(found, lag, "{place:?} of {head:?}, {time:?}");
        }
    }
}
