//! The words of a breaker: its states, what calls say of their endpoint, and why it changes.

use std::time::Duration;

use super::window::Sums;

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Calls go through.
    Closed,
    /// Calls are refused.
    Open,
    /// A few calls go through, to find out.
    HalfOpen,
    /// Calls are refused until somebody releases it.
    ForcedOpen,
    /// Calls go through, whatever becomes of them, until somebody releases it.
    ForcedClosed,
}

impl State {
    /// All of them.
    pub const ALL: [State; 5] =
        [State::Closed, State::Open, State::HalfOpen, State::ForcedOpen, State::ForcedClosed];

    /// Its word in metrics and events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Closed => "closed",
            State::Open => "open",
            State::HalfOpen => "half_open",
            State::ForcedOpen => "forced_open",
            State::ForcedClosed => "forced_closed",
        }
    }
}

/// What a call says about its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It works. A refusal that it has thought about is a success, too.
    Success,
    /// It does not.
    Failure,
    /// Nothing.
    Ignored,
    /// The caller gave up before there was an answer.
    Cancelled,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Verdict; 4] =
        [Verdict::Success, Verdict::Failure, Verdict::Ignored, Verdict::Cancelled];

    /// Its word in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Success => "success",
            Verdict::Failure => "failure",
            Verdict::Ignored => "ignored",
            Verdict::Cancelled => "cancelled",
        }
    }
}

/// Why the state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// So many failures in a row.
    FailuresInARow(u32),
    /// Too many of the window's calls failed.
    FailureRate(Sums),
    /// Too many of the window's calls were slow.
    SlowRate(Sums),
    /// The open time was over, and a call came.
    OpenTimeOver,
    /// So many probes succeeded.
    ProbesSucceeded(u32),
    /// A probe failed.
    ProbeFailed,
    /// A probe was slow.
    ProbeSlow,
    /// All probes were out for too long.
    ProbesSilent,
    /// Somebody forced it.
    Forced,
    /// Somebody gave it back to its own judgement.
    Released,
}

impl Reason {
    /// Its word in events and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::FailuresInARow(_) => "failures_in_a_row",
            Reason::FailureRate(_) => "failure_rate",
            Reason::SlowRate(_) => "slow_rate",
            Reason::OpenTimeOver => "open_time_over",
            Reason::ProbesSucceeded(_) => "probes_succeeded",
            Reason::ProbeFailed => "probe_failed",
            Reason::ProbeSlow => "probe_slow",
            Reason::ProbesSilent => "probes_silent",
            Reason::Forced => "forced",
            Reason::Released => "released",
        }
    }
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// Why.
    pub reason: Reason,
    /// How long it will refuse calls, if it opened by itself.
    pub open_for: Option<Duration>,
    /// Trips in a row, with this one.
    pub trips: u32,
}

/// A call that was not let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker is {}; try again {}", state.as_str(), self.when())]
pub struct Refusal {
    /// The state it met.
    pub state: State,
    /// Time until calls may be let through again, if that is known: not while probes are out, nor
    /// while it is forced open.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    fn when(&self) -> String {
        match (self.retry_after, self.state) {
            (Some(time), _) => format!("in {:.1} s", time.as_secs_f64()),
            (None, State::ForcedOpen) => "when it is released".to_owned(),
            (None, _) => "when the calls that probe the endpoint have ended".to_owned(),
        }
    }
}
