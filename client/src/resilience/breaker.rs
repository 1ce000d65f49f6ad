//! The machine with a lock around it, on a clock: what callers share.
//!
//! ```text
//!   admit ──> Permit ── finish(verdict) ──> Machine::finish ──┬─> metrics
//!               └────── dropped: cancelled ──> the same       └─> a change is told
//! ```
//!
//! INVARIANTS: each permit is given back once, whatever happens to its call. The lock is held for a
//! step of the machine and to tell listeners of a change, never across an await or a log line.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use uuid::Uuid;

use super::change::StateChanged;
use super::machine::{Machine, Ticket};
use super::metrics::{EndpointMetrics, Rejected};
use super::settings::{BreakerSettings, InvalidSettings};
use super::state::{Change, Refusal, State, Verdict};
use super::window::Sums;
use super::wiring::Wiring;

/// A circuit breaker. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct CircuitBreaker {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    endpoint: Arc<str>,
    slow_after: Duration,
    machine: Mutex<Machine>,
    metrics: EndpointMetrics,
    wiring: Wiring,
}

/// Where a breaker stands, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its state.
    pub state: State,
    /// What its window holds.
    pub sums: Sums,
    /// Trips in a row.
    pub trips: u32,
    /// Time until calls may be let through again, if they are refused and that is known.
    pub retry_after: Option<Duration>,
}

impl CircuitBreaker {
    /// A closed breaker before `endpoint`, whose name is its label in metrics.
    ///
    /// # Errors
    /// [`InvalidSettings`]: they make no sense.
    pub fn new(
        endpoint: &str,
        settings: BreakerSettings,
        wiring: Wiring,
    ) -> Result<CircuitBreaker, InvalidSettings> {
        settings.check()?;
        let metrics = wiring.metrics.endpoint(endpoint);
        let slow_after = settings.slow_after;
        let machine = Machine::new(settings, wiring.draw(), wiring.clock.monotonic());
        let machine = Mutex::new(machine);
        let inner = Inner { endpoint: endpoint.into(), slow_after, machine, metrics, wiring };
        Ok(CircuitBreaker { inner: Arc::new(inner) })
    }

    /// What its calls go to.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.inner.endpoint
    }

    /// Lets a call through.
    ///
    /// # Errors
    /// [`Refusal`]: it is not to be tried now.
    pub fn admit(&self) -> Result<Permit, Refusal> {
        let now = self.now();
        let admitted = self.step(|machine| machine.admit(now));
        match admitted {
            Ok(ticket) => {
                Ok(Permit { breaker: self.clone(), ticket: Some(ticket), admitted_at: now })
            }
            Err(refusal) => {
                self.inner.metrics.rejected(Rejected::Open);
                Err(refusal)
            }
        }
    }

    /// Whether a call would be refused now; to be asked before waiting for anything else that the
    /// call needs. It takes no place.
    ///
    /// # Errors
    /// [`Refusal`]: it would be, and it is counted as refused.
    pub fn check(&self) -> Result<(), Refusal> {
        let now = self.now();
        let peeked = self.inner.machine.lock().peek(now);
        match peeked {
            Ok(()) => Ok(()),
            // Refused for good, and the machine learns that somebody asked. Should it have changed
            // its mind meanwhile, the place is given back.
            Err(_) => self.admit().map(Permit::unused),
        }
    }

    /// Runs `call` if it is let through; its result counts as `classify` says.
    ///
    /// # Errors
    /// [`BreakerError`]: it was refused, or failed by itself.
    pub async fn call<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
        classify: impl FnOnce(&E) -> Verdict,
    ) -> Result<T, BreakerError<E>> {
        let permit = self.admit()?;
        let result = call.await;
        permit.finish(result.as_ref().err().map_or(Verdict::Success, classify));
        result.map_err(BreakerError::Inner)
    }

    /// Where it stands.
    #[must_use]
    pub fn status(&self) -> Status {
        let now = self.now();
        let mut machine = self.inner.machine.lock();
        let retry_after = machine.peek(now).err().and_then(|refusal| refusal.retry_after);
        Status {
            state: machine.state(),
            sums: machine.sums(now),
            trips: machine.trips(),
            retry_after,
        }
    }

    /// Refuses all calls until it is released.
    pub fn force_open(&self) {
        self.step(|machine| ((), machine.force_open()));
    }

    /// Lets all calls through until it is released.
    pub fn force_closed(&self) {
        self.step(|machine| ((), machine.force_closed()));
    }

    /// Ends what was forced: closed, as if it were new.
    pub fn release(&self) {
        let now = self.now();
        self.step(|machine| ((), machine.release(now)));
    }

    pub(super) fn metrics(&self) -> &EndpointMetrics {
        &self.inner.metrics
    }

    pub(super) fn wiring(&self) -> &Wiring {
        &self.inner.wiring
    }

    fn now(&self) -> Duration {
        self.inner.wiring.clock.monotonic()
    }

    /// Has the machine take a step, and tells the change that it caused: to listeners under the
    /// lock, so that they hear changes in their order, and to the log after it.
    fn step<T>(&self, step: impl FnOnce(&mut Machine) -> (T, Option<Change>)) -> T {
        let (outcome, change) = {
            let mut machine = self.inner.machine.lock();
            let (outcome, change) = step(&mut machine);
            if let Some(change) = change {
                self.tell(change);
            }
            (outcome, change)
        };
        if let Some(Change { from, to, reason, open_for, .. }) = change {
            let (from, to, reason) = (from.as_str(), to.as_str(), reason.as_str());
            let open_for = open_for.map(|time| format!("{time:.1?}"));
            tracing::info!(endpoint = self.endpoint(), from, to, reason, open_for, "breaker");
        }
        outcome
    }

    fn tell(&self, change: Change) {
        let Change { from, to, reason, open_for, trips } = change;
        let Inner { endpoint, metrics, wiring, .. } = &*self.inner;
        metrics.changed(endpoint, from, to);
        let (id, at) = (Uuid::from_bytes(wiring.entropy.bytes()), wiring.clock.now());
        let endpoint = endpoint.clone();
        wiring.changes.tell(StateChanged { id, endpoint, from, to, reason, at, open_for, trips });
    }
}

/// A call that was let through. Dropped without [`Permit::finish`] it counts as cancelled.
#[derive(Debug)]
#[must_use = "a permit that is dropped counts as a cancelled call"]
pub struct Permit {
    breaker: CircuitBreaker,
    ticket: Option<Ticket>,
    admitted_at: Duration,
}

impl Permit {
    /// Whether it was let through to find out whether the endpoint is back.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.ticket.as_ref().is_some_and(Ticket::is_probe)
    }

    /// Says how the call ended.
    pub fn finish(mut self, verdict: Verdict) {
        self.give_back(verdict);
    }

    /// Gives back the permit of a call that was never made.
    fn unused(mut self) {
        if let Some(ticket) = self.ticket.take() {
            let now = self.breaker.now();
            self.breaker.step(|machine| {
                let finished = machine.finish(now, ticket, Verdict::Ignored, Duration::ZERO);
                ((), finished.change)
            });
        }
    }

    fn give_back(&mut self, verdict: Verdict) {
        let Some(ticket) = self.ticket.take() else { return };
        let inner = &*self.breaker.inner;
        let now = self.breaker.now();
        let took = now.saturating_sub(self.admitted_at);
        let late = self.breaker.step(|machine| {
            let finished = machine.finish(now, ticket, verdict, took);
            (finished.late, finished.change)
        });
        inner.metrics.ended(verdict, took);
        if took >= inner.slow_after {
            inner.metrics.slow.inc();
        }
        if late {
            inner.metrics.late.inc();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.give_back(Verdict::Cancelled);
    }
}

/// What came of a call through a breaker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BreakerError<E> {
    /// It was not tried.
    #[error("{0}")]
    Open(Refusal),
    /// It was tried, and failed.
    #[error("{0}")]
    Inner(E),
}

impl<E> From<Refusal> for BreakerError<E> {
    fn from(refusal: Refusal) -> BreakerError<E> {
        BreakerError::Open(refusal)
    }
}
