//! Changes of state, told to whoever listens, and as events that can be stored.
//!
//! ```text
//!   breaker ──┐                                   ┌──> Subscription ──> a log, an alarm
//!   breaker ──┼── Changes (the last 256 are kept) ┼──> Subscription ──> to_event ──> a stream
//!   breaker ──┘                                   └──> …
//! ```
//!
//! INVARIANTS: telling never waits; a subscriber that lags is told how many it missed. Changes of
//! one breaker come in their order.

use std::sync::Arc;
use std::time::Duration;

use daybook_model::{NewEvent, Timestamp};
use serde_json::json;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::state::{Reason, State};

/// Changes kept for subscribers that lag; at one change a second of each of a hundred endpoints
/// this is more than two seconds.
pub const CHANGES_KEPT: usize = 256;

/// One change of one breaker's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChanged {
    /// Made for this change; the event has it, so that writing it twice writes it once.
    pub id: Uuid,
    /// Whose calls.
    pub endpoint: Arc<str>,
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// Why.
    pub reason: Reason,
    /// When.
    pub at: Timestamp,
    /// How long calls will be refused, if it opened by itself.
    pub open_for: Option<Duration>,
    /// Trips in a row, with this one.
    pub trips: u32,
}

impl StateChanged {
    /// The type of its event, after the new state.
    #[must_use]
    pub fn event_type(&self) -> &'static str {
        match self.to {
            State::Closed => "CircuitClosed",
            State::Open => "CircuitOpened",
            State::HalfOpen => "CircuitHalfOpened",
            State::ForcedOpen => "CircuitForcedOpen",
            State::ForcedClosed => "CircuitForcedClosed",
        }
    }

    /// It as an event:
    /// `{"endpoint":"risk","from":"closed","to":"open","reason":"failures_in_a_row","failures":5,
    /// "at_unix_ns":…,"open_for_ms":5000,"trips":1}`.
    #[must_use]
    pub fn to_event(&self) -> NewEvent {
        let mut data = json!({
            "endpoint": &*self.endpoint,
            "from": self.from.as_str(),
            "to": self.to.as_str(),
            "at_unix_ns": self.at.0,
            "open_for_ms": self.open_for.map(milliseconds),
            "trips": self.trips,
        });
        data["reason"] = json!(self.reason.as_str());
        match self.reason {
            Reason::FailuresInARow(failures) => data["failures"] = json!(failures),
            Reason::ProbesSucceeded(probes) => data["probes"] = json!(probes),
            Reason::FailureRate(sums) | Reason::SlowRate(sums) => {
                data["calls"] = json!(sums.calls);
                data["failures"] = json!(sums.failures);
                data["slow"] = json!(sums.slow);
            }
            _ => {}
        }
        NewEvent::json(self.id, self.event_type(), data.to_string())
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Where breakers tell their changes. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct Changes {
    told: broadcast::Sender<StateChanged>,
}

impl Changes {
    /// One that nobody listens to yet.
    #[must_use]
    pub fn new() -> Changes {
        Changes { told: broadcast::Sender::new(CHANGES_KEPT) }
    }

    /// Listens to all changes from now on.
    #[must_use]
    pub fn subscribe(&self) -> Subscription {
        Subscription { told: self.told.subscribe() }
    }

    pub(super) fn tell(&self, change: StateChanged) {
        // That nobody listens is no error.
        let _ = self.told.send(change);
    }
}

impl Default for Changes {
    fn default() -> Changes {
        Changes::new()
    }
}

/// What a subscriber hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// A change.
    Changed(StateChanged),
    /// It was too slow: so many changes before the next one are gone.
    Missed(u64),
}

/// One listener's place among the changes.
#[derive(Debug)]
pub struct Subscription {
    told: broadcast::Receiver<StateChanged>,
}

impl Subscription {
    /// The next change; none when all breakers are gone. May be cancelled: nothing is lost.
    pub async fn next(&mut self) -> Option<Told> {
        match self.told.recv().await {
            Ok(change) => Some(Told::Changed(change)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Told::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// A change that was told already, if there is one.
    pub fn try_next(&mut self) -> Option<Told> {
        match self.told.try_recv() {
            Ok(change) => Some(Told::Changed(change)),
            Err(broadcast::error::TryRecvError::Lagged(missed)) => Some(Told::Missed(missed)),
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::window::Sums;
    use super::*;

    fn change(trips: u32) -> StateChanged {
        StateChanged {
            id: Uuid::from_u128(u128::from(trips)),
            endpoint: "risk".into(),
            from: State::Closed,
            to: State::Open,
            reason: Reason::FailureRate(Sums { calls: 20, failures: 11, slow: 3 }),
            at: Timestamp(7),
            open_for: Some(Duration::from_millis(4_500)),
            trips,
        }
    }

    #[test]
    fn a_change_is_an_event_with_its_id_and_figures() {
        let event = change(2).to_event();
        event.check().expect("a valid event");
        assert_eq!((event.id, event.event_type.as_str()), (Uuid::from_u128(2), "CircuitOpened"));
        let data: serde_json::Value = serde_json::from_slice(&event.data).expect("JSON");
        let expected = json!({
            "endpoint": "risk", "from": "closed", "to": "open", "reason": "failure_rate",
            "calls": 20, "failures": 11, "slow": 3,
            "at_unix_ns": 7, "open_for_ms": 4_500, "trips": 2,
        });
        assert_eq!(data, expected);
    }

    #[test]
    fn a_subscriber_that_lags_is_told_how_much() {
        let changes = Changes::new();
        let mut listener = changes.subscribe();
        let kept = u32::try_from(CHANGES_KEPT).expect("small");
        for number in 0..kept + 10 {
            changes.tell(change(number));
        }
        assert_eq!(listener.try_next(), Some(Told::Missed(10)));
        assert_eq!(listener.try_next(), Some(Told::Changed(change(10))));
        let rest = std::iter::from_fn(|| listener.try_next()).count();
        assert_eq!(rest, CHANGES_KEPT - 1);
    }
}
