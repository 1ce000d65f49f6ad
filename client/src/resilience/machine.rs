//! When calls are let through: a state machine without a clock, a lock or a runtime.
//!
//! ```text
//!              failures in a row, failure rate, slow rate
//!       ┌──────────┐ ────────────────────────────────> ┌──────────┐
//!       │  closed  │                                   │   open   │ refuses everything
//!       └──────────┘ <───────────┐          ┌───────── └──────────┘
//!            ▲        N probes    │          │ open time    ▲
//!            │        succeeded   │          ▼ is over      │ one probe failed, was slow,
//!            │                   ┌─────────────┐            │ or all are silent
//!            │                   │  half-open  │ ───────────┘
//!            │                   └─────────────┘  lets a few probes through
//!            └── released ── forced open, forced closed <── from anywhere, by hand
//! ```
//!
//! - A call asks to be let through ([`Machine::admit`]), gets a [`Ticket`], and gives it back with
//!   how it ended ([`Machine::finish`]) — always, also if it was cancelled.
//! - Each change of state begins a new *generation*. A ticket of an earlier one says nothing about
//!   the endpoint now: it is taken back as late, and changes nothing.
//! - After a counted call while closed it trips on failures in a row, then on the failure rate,
//!   then on the slow rate; the rates only from `calls_min` calls in the window.
//! - The n-th trip in a row stays open for `open_first * open_factor^(n-1)`, at most `open_max`,
//!   less what chance takes off. Trips are in a row until it was closed for `healthy_after`.
//! - A cancelled call is neither a success nor a failure. If it was slow by then it counts as slow,
//!   because whoever gives up on a silent endpoint would otherwise keep it looking healthy.
//! - An ignored call leaves no trace but gives back its place.
//!
//! INVARIANTS: time is an argument; one that is earlier than the last is taken for the last. Chance
//! comes from a seed. In half-open never more than `probes_max` tickets are out. Bounded memory.

use std::time::Duration;

use super::settings::BreakerSettings;
use super::state::{Change, Reason, Refusal, State, Verdict};
use super::window::{Call, Looking, Sums};

/// A call that was let through. To be given back with its end, once.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an admitted call must be finished, or its place is lost"]
pub struct Ticket {
    generation: u64,
    probe: bool,
}

impl Ticket {
    /// Whether it was let through to find out whether the endpoint is back.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.probe
    }
}

/// What came of a ticket that was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Whether it was of an earlier generation, and changed nothing.
    pub late: bool,
    /// The change it caused.
    pub change: Option<Change>,
}

/// The breaker's judgement.
#[derive(Clone, Debug)]
pub struct Machine {
    settings: BreakerSettings,
    phase: Phase,
    generation: u64,
    /// The latest time it was told.
    latest: Duration,
    window: Looking,
    /// Failures since the last success, while closed.
    in_a_row: u32,
    trips: u32,
    chance: u64,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed { since: Duration },
    Open { until: Duration },
    HalfOpen { out: u32, succeeded: u32, last_probe: Duration },
    ForcedOpen,
    ForcedClosed,
}

impl Machine {
    /// A closed one. `settings` have been checked; `seed` decides the jitter.
    #[must_use]
    pub fn new(settings: BreakerSettings, seed: u64, now: Duration) -> Machine {
        let window = Looking::new(settings.window);
        Machine {
            settings,
            phase: Phase::Closed { since: now },
            generation: 0,
            latest: now,
            window,
            in_a_row: 0,
            trips: 0,
            chance: seed,
        }
    }

    /// Where it stands. An open one whose time is over stays open until a call comes.
    #[must_use]
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
            Phase::ForcedOpen => State::ForcedOpen,
            Phase::ForcedClosed => State::ForcedClosed,
        }
    }

    /// What the window holds now.
    pub fn sums(&mut self, now: Duration) -> Sums {
        let now = self.tell(now);
        self.window.sums(now)
    }

    /// Trips in a row so far.
    #[must_use]
    pub fn trips(&self) -> u32 {
        self.trips
    }

    /// Whether [`Machine::admit`] would refuse a call now. Changes nothing.
    ///
    /// # Errors
    /// [`Refusal`]: it would.
    pub fn peek(&self, now: Duration) -> Result<(), Refusal> {
        let now = now.max(self.latest);
        let retry_after = match self.phase {
            Phase::Closed { .. } | Phase::ForcedClosed => return Ok(()),
            Phase::Open { until } if now >= until => return Ok(()),
            Phase::Open { until } => Some(until - now),
            Phase::HalfOpen { out, .. } if out < self.settings.probes_max => return Ok(()),
            Phase::HalfOpen { .. } | Phase::ForcedOpen => None,
        };
        Err(Refusal { state: self.state(), retry_after })
    }

    /// Lets a call through, or not; with the change of state that this caused.
    pub fn admit(&mut self, now: Duration) -> (Result<Ticket, Refusal>, Option<Change>) {
        let now = self.tell(now);
        let mut change = None;
        if let Phase::Open { until } = self.phase
            && now >= until
        {
            let half_open = Phase::HalfOpen { out: 0, succeeded: 0, last_probe: now };
            change = Some(self.change(half_open, Reason::OpenTimeOver));
        }
        if let Phase::HalfOpen { out, last_probe, .. } = self.phase
            && out >= self.settings.probes_max
            && now - last_probe >= self.settings.probe_silence_max
        {
            change = Some(self.trip(now, Reason::ProbesSilent));
        }
        if let Err(refusal) = self.peek(now) {
            return (Err(refusal), change);
        }
        let mut probe = false;
        if let Phase::HalfOpen { out, last_probe, .. } = &mut self.phase {
            *out += 1;
            *last_probe = now;
            probe = true;
        }
        (Ok(Ticket { generation: self.generation, probe }), change)
    }

    /// Takes back `ticket` of a call that took `took` and ended so.
    pub fn finish(
        &mut self,
        now: Duration,
        ticket: Ticket,
        verdict: Verdict,
        took: Duration,
    ) -> Finished {
        let now = self.tell(now);
        if ticket.generation != self.generation {
            return Finished { late: true, change: None };
        }
        let slow = took >= self.settings.slow_after;
        let change = match self.phase {
            Phase::Closed { .. } => self.finish_closed(now, verdict, slow),
            Phase::HalfOpen { .. } => self.finish_probe(now, verdict, slow),
            // Nothing is let through while it is open.
            Phase::Open { .. } | Phase::ForcedOpen | Phase::ForcedClosed => None,
        };
        Finished { late: false, change }
    }

    /// Refuses all calls from now on.
    pub fn force_open(&mut self) -> Option<Change> {
        self.force(Phase::ForcedOpen)
    }

    /// Lets all calls through from now on.
    pub fn force_closed(&mut self) -> Option<Change> {
        self.force(Phase::ForcedClosed)
    }

    /// Gives a forced one back to its own judgement: closed, as if it were new.
    pub fn release(&mut self, now: Duration) -> Option<Change> {
        let now = self.tell(now);
        if !matches!(self.phase, Phase::ForcedOpen | Phase::ForcedClosed) {
            return None;
        }
        self.trips = 0;
        Some(self.change(Phase::Closed { since: now }, Reason::Released))
    }

    fn force(&mut self, phase: Phase) -> Option<Change> {
        if std::mem::discriminant(&self.phase) == std::mem::discriminant(&phase) {
            return None;
        }
        Some(self.change(phase, Reason::Forced))
    }

    fn finish_closed(&mut self, now: Duration, verdict: Verdict, slow: bool) -> Option<Change> {
        match verdict {
            Verdict::Success => self.in_a_row = 0,
            Verdict::Failure => self.in_a_row = self.in_a_row.saturating_add(1),
            Verdict::Cancelled if slow => {}
            Verdict::Cancelled | Verdict::Ignored => return None,
        }
        self.window.add(now, Call { failed: verdict == Verdict::Failure, slow });
        let reason = self.too_much(now)?;
        Some(self.trip(now, reason))
    }

    /// Why the calls so far are enough to open.
    fn too_much(&mut self, now: Duration) -> Option<Reason> {
        if self.settings.failures_in_a_row.is_some_and(|max| self.in_a_row >= max) {
            return Some(Reason::FailuresInARow(self.in_a_row));
        }
        let sums = self.window.sums(now);
        if sums.calls < u64::from(self.settings.calls_min) {
            return None;
        }
        let reached = |part, percent: Option<u32>| percent.is_some_and(|p| sums.reaches(part, p));
        if reached(sums.failures, self.settings.failure_percent) {
            return Some(Reason::FailureRate(sums));
        }
        reached(sums.slow, self.settings.slow_percent).then_some(Reason::SlowRate(sums))
    }

    fn finish_probe(&mut self, now: Duration, verdict: Verdict, slow: bool) -> Option<Change> {
        let Phase::HalfOpen { out, succeeded, .. } = &mut self.phase else { return None };
        *out -= 1;
        let counts = verdict != Verdict::Ignored;
        if verdict == Verdict::Failure {
            return Some(self.trip(now, Reason::ProbeFailed));
        }
        if counts && slow && self.settings.slow_percent.is_some() {
            return Some(self.trip(now, Reason::ProbeSlow));
        }
        if verdict != Verdict::Success {
            return None;
        }
        *succeeded += 1;
        let succeeded = *succeeded;
        if succeeded < self.settings.successes_to_close {
            return None;
        }
        Some(self.change(Phase::Closed { since: now }, Reason::ProbesSucceeded(succeeded)))
    }

    fn trip(&mut self, now: Duration, reason: Reason) -> Change {
        if let Phase::Closed { since } = self.phase
            && now - since >= self.settings.healthy_after
        {
            self.trips = 0;
        }
        self.trips = self.trips.saturating_add(1);
        let open_for = self.open_time();
        let mut change = self.change(Phase::Open { until: now + open_for }, reason);
        change.open_for = Some(open_for);
        change
    }

    /// How long this trip lasts.
    fn open_time(&mut self) -> Duration {
        let BreakerSettings { open_first, open_factor, open_max, jitter_percent, .. } =
            self.settings;
        let factor = open_factor.checked_pow(self.trips - 1);
        let full = factor.and_then(|factor| open_first.checked_mul(factor));
        let full = full.map_or(open_max, |full| full.min(open_max));
        let less = u128::from(self.draw() % 1_000_000) * u128::from(jitter_percent);
        // At most JITTER_PERCENT_MAX percent of `full`; whole nanoseconds.
        let less = full.as_nanos() * less / 100_000_000;
        full - Duration::from_nanos(u64::try_from(less).unwrap_or(0))
    }

    fn change(&mut self, phase: Phase, reason: Reason) -> Change {
        let from = self.state();
        self.phase = phase;
        self.generation += 1;
        self.in_a_row = 0;
        self.window.clear();
        Change { from, to: self.state(), reason, open_for: None, trips: self.trips }
    }

    fn tell(&mut self, now: Duration) -> Duration {
        self.latest = self.latest.max(now);
        self.latest
    }

    /// The next of the seed's numbers: splitmix64, which needs one word of state.
    fn draw(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.chance ^ (self.chance >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests;
