//! Driving one transfer: what is next, until nothing is.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use daybook_model::append::AppendError;
use daybook_model::repository::ExecuteError;
use daybook_model::{EventStore, Timestamp};
use uuid::Uuid;

use super::registry::InHand;
use super::step::{Wrote, is_transient, word};
use super::{Known, Orchestrator, append, count, known};
use crate::risk::{Assessment, OnUnreachable};
use crate::saga::{Direction, Next, Retry};
use crate::transfer::{CHECK_RISK, Draft, PAYMENT_TRANSFER, PaymentInitiated, reason};

/// The pauses of what cannot be recorded, because the store takes no records either.
const OUTAGE: Retry = Retry {
    attempts_max: u32::MAX,
    first: Duration::from_millis(50),
    longest: Duration::from_secs(5),
};

/// How driving goes on.
type Flow = ControlFlow<Rest, Box<Draft>>;

/// Why driving ends.
enum Rest {
    /// The transfer is over, or failed, or does not exist.
    Settled,
    /// The store takes no appends any more.
    Closed,
    /// Something is wrong that no repetition mends; it was logged.
    Stuck,
}

/// A transfer that is being driven. Dropped before the end it is lost, unless driving it panics:
/// then it rests until a restart, lest it panic for ever.
struct Driving<S: EventStore> {
    orchestrator: Orchestrator<S>,
    id: Uuid,
    ended: bool,
}

impl<S: EventStore> Driving<S> {
    fn end(mut self) {
        self.ended = true;
    }
}

impl<S: EventStore> Drop for Driving<S> {
    fn drop(&mut self) {
        if !self.ended && !std::thread::panicking() {
            self.orchestrator.inner.registry.lose(self.id);
        }
    }
}

impl<S: EventStore> Orchestrator<S> {
    /// Takes a transfer to its end: resolves when it is over or has failed, or when the store takes
    /// no appends any more. May be dropped at any time, also before it was ever polled, and run
    /// twice at once.
    pub fn drive(&self, id: Uuid) -> impl Future<Output = ()> + Send + use<S> {
        let driving = Driving { orchestrator: self.clone(), id, ended: false };
        async move {
            let orchestrator = &driving.orchestrator;
            if let Rest::Closed = orchestrator.drive_to_rest(id).await {
                orchestrator.inner.registry.close();
            }
            driving.end();
        }
    }

    async fn drive_to_rest(&self, id: Uuid) -> Rest {
        let mut flow = match self.inner.registry.get(id) {
            Some(InHand::Known(known)) => ControlFlow::Continue(draft_of(&known)),
            Some(InHand::Lost(initiated)) => self.begin_again(&initiated).await,
            None => self.reload(id).await,
        };
        // Time does not go back for one who waited, whatever the clock says.
        let mut floor = Timestamp(i64::MIN);
        loop {
            let draft = match flow {
                ControlFlow::Continue(draft) => draft,
                ControlFlow::Break(rest) => return rest,
            };
            let now = draft.at(self.inner.clock.now().max(floor));
            flow = match draft.next(now) {
                Next::Finished => ControlFlow::Break(Rest::Settled),
                Next::Wait { until } => {
                    self.sleep_until(now, until).await;
                    floor = until;
                    ControlFlow::Continue(draft)
                }
                Next::Act { step: CHECK_RISK, until, .. } => {
                    self.check_risk(draft, now, until).await
                }
                Next::Act { step, direction, .. } => self.act(draft, step, direction, now).await,
                Next::Expired { step, is_final, .. } => {
                    let what = if is_final { "the transfer" } else { "this attempt" };
                    let why = reason("timeout", format_args!("{what} took too long"));
                    self.attempt_failed(draft, (step, Direction::Action), why, is_final, now).await
                }
                // Closing events are written with what makes them due.
                Next::Complete | Next::Reject | Next::Fail => {
                    let mut draft = draft;
                    draft.close(now);
                    self.record(draft).await
                }
            };
        }
    }

    /// Begins a transfer whose caller went away: the same commit once more, because the first one
    /// may be under way still, and only its repetition tells that it will not come.
    async fn begin_again(&self, initiated: &Arc<PaymentInitiated>) -> Flow {
        let mut failures = 0;
        loop {
            match self.begin(initiated).await {
                Wrote::Done(draft) => return self.put(draft),
                Wrote::Moved => return self.reload(initiated.transfer_id).await,
                Wrote::Failed {
                    error: ExecuteError::Append(AppendError::Closed { .. }), ..
                } => {
                    return ControlFlow::Break(Rest::Closed);
                }
                Wrote::Failed { error, is_final: true } => {
                    let transfer = initiated.transfer_id;
                    tracing::error!(%transfer, %error, "a transfer cannot be begun again");
                    return ControlFlow::Break(Rest::Stuck);
                }
                Wrote::Unknown(_) | Wrote::Failed { .. } => {
                    failures += 1;
                    self.pause(failures).await;
                }
            }
        }
    }

    /// Takes a step that writes, or takes it back.
    async fn act(
        &self,
        draft: Box<Draft>,
        step: usize,
        direction: Direction,
        now: Timestamp,
    ) -> Flow {
        match self.write(&draft, step, direction).await {
            Wrote::Done(draft) => self.put(draft),
            Wrote::Moved => self.moved(&draft).await,
            Wrote::Unknown(why) => {
                tracing::warn!(transfer = %draft.transfer().id(), why, "outcome unknown");
                self.pause(1).await;
                self.reload(draft.transfer().id()).await
            }
            Wrote::Failed { error: ExecuteError::Append(AppendError::Closed { .. }), .. } => {
                ControlFlow::Break(Rest::Closed)
            }
            Wrote::Failed { error, is_final } => {
                let why = reason(word(&error), &error);
                self.attempt_failed(draft, (step, direction), why, is_final, now).await
            }
        }
    }

    /// Asks the risk service. The answer is recorded with the next write.
    async fn check_risk(&self, mut draft: Box<Draft>, now: Timestamp, until: Timestamp) -> Flow {
        let answer = self.assess(draft.transfer(), between(now, until)).await;
        let step = (CHECK_RISK, Direction::Action);
        let now = draft.at(self.inner.clock.now().max(now));
        match answer {
            Ok(Assessment::Approved) => {
                draft.done(CHECK_RISK, Direction::Action, now);
                ControlFlow::Continue(draft)
            }
            Ok(Assessment::Rejected { rule, detail }) => {
                let why = reason("risk_check_failed", format_args!("{rule}: {detail}"));
                self.attempt_failed(draft, step, why, true, now).await
            }
            Err(unreachable) => {
                let is_final = self.inner.options.on_unreachable == OnUnreachable::Reject;
                let why = reason("risk_unreachable", unreachable.reason);
                self.attempt_failed(draft, step, why, is_final, now).await
            }
        }
    }

    /// An attempt failed. If that is final, the record travels with the first compensation, which
    /// is due at once; if not, it is written now, so that the pause before the next one outlives
    /// us.
    async fn attempt_failed(
        &self,
        mut draft: Box<Draft>,
        (step, direction): (usize, Direction),
        why: String,
        is_final: bool,
        now: Timestamp,
    ) -> Flow {
        let progress = draft.transfer().progress;
        let retry_at = match is_final {
            true => None,
            false => progress.retry_at(&PAYMENT_TRANSFER, step, now, self.jitter()),
        };
        draft.failed(step, direction, why, retry_at, now);
        if retry_at.is_some() {
            count(&self.inner.counters.retries);
        } else if matches!(draft.next(now), Next::Act { .. }) {
            return ControlFlow::Continue(draft);
        }
        self.record(draft).await
    }

    /// Writes what is pending, alone; waits as long as the store cannot take it.
    async fn record(&self, mut draft: Box<Draft>) -> Flow {
        let mut failures = 0;
        loop {
            match self.store().append(append(&draft)).await {
                Ok(_) => {
                    self.wrote(&mut draft);
                    return self.put(draft);
                }
                Err(AppendError::Closed { .. }) => return ControlFlow::Break(Rest::Closed),
                Err(AppendError::WrongExpectedRevision { .. }) => return self.moved(&draft).await,
                Err(AppendError::Unknown { .. }) => {
                    self.pause(1).await;
                    return self.reload(draft.transfer().id()).await;
                }
                Err(error) if is_transient(&error) => {
                    failures += 1;
                    self.pause(failures).await;
                }
                Err(error) => {
                    let transfer = draft.transfer().id();
                    tracing::error!(%transfer, %error, "a transfer's record was refused");
                    return ControlFlow::Break(Rest::Stuck);
                }
            }
        }
    }

    /// Shows where the transfer stands, and goes on from there.
    fn put(&self, draft: Box<Draft>) -> Flow {
        self.inner.registry.put(&Arc::new(known(&draft)));
        ControlFlow::Continue(draft)
    }

    /// Goes on from what the stream says, because another was there first.
    async fn moved(&self, believed: &Draft) -> Flow {
        let id = believed.transfer().id();
        let flow = self.reload(id).await;
        if let ControlFlow::Continue(draft) = &flow
            && draft.revision() == believed.revision()
        {
            // Its step was done, and its stream does not say so: its transaction was used by
            // something else. Nothing that is tried again would change that.
            tracing::error!(transfer = %id, "a step's transaction was used by something else");
            return ControlFlow::Break(Rest::Stuck);
        }
        flow
    }

    /// What the stream says.
    async fn reload(&self, id: Uuid) -> Flow {
        let mut failures = 0;
        loop {
            match self.transfer(id).await {
                Ok(Some(known)) => {
                    self.inner.registry.put(&Arc::new(known.clone()));
                    return ControlFlow::Continue(draft_of(&known));
                }
                Ok(None) => {
                    self.inner.registry.absent(id);
                    return ControlFlow::Break(Rest::Settled);
                }
                Err(error) => {
                    tracing::error!(transfer = %id, %error, "a transfer cannot be read");
                    failures += 1;
                    self.pause(failures).await;
                }
            }
        }
    }

    /// A number from 0 to 1.
    fn jitter(&self) -> f64 {
        let [low, high, ..] = self.inner.entropy.bytes();
        f64::from(u16::from_le_bytes([low, high])) / f64::from(u16::MAX)
    }

    async fn pause(&self, failures: u32) {
        self.inner.timer.sleep(OUTAGE.pause(failures, self.jitter())).await;
    }

    async fn sleep_until(&self, now: Timestamp, until: Timestamp) {
        self.inner.timer.sleep(between(now, until)).await;
    }
}

fn draft_of(known: &Known) -> Box<Draft> {
    Box::new(Draft::of(known.transfer.clone(), known.revision))
}

fn between(now: Timestamp, until: Timestamp) -> Duration {
    Duration::from_nanos(u64::try_from(until.0.saturating_sub(now.0)).unwrap_or(0))
}
