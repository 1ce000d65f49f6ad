//! The orchestrator: takes every transfer to its end, whatever happens meanwhile.
//!
//! ```text
//!   start ── commit 1: debit + record ──> Started ── the host spawns ──> drive
//!                                                                          │ next(now)?
//!   finished ── waits in the registry <── settled ──┐                      v
//!                                                   │        act: a step + its record, one commit
//!   recover ── ids of the unfinished ──> drive      └─────── wait: until a recorded time
//! ```
//!
//! Nothing it keeps in memory matters: the registry of unfinished transfers is rebuilt from their
//! streams, and whatever a `drive` believes is tried against the transfer's exact revision by its
//! next commit. So a `drive` can be dropped at any await, run twice at once, or die with the
//! machine: the next one reads the stream and goes on where it ends.
//!
//! What fails:
//!
//! | failure | what follows |
//! |---|---|
//! | an account refuses | final: what was done is undone |
//! | store busy, disk full, clock leapt, races lost | recorded, and tried again after a pause |
//! | outcome unknown | a pause, then the stream says what happened |
//! | store closed | driving stops; a restart resumes |
//! | the caller of `start` goes away | it is lost, and found: [`Orchestrator::next_lost`] |
//!
//! INVARIANT: spawns nothing, knows no runtime; time and chance come from the seams. No lock is
//! held across an await.
//!
//! Left out: several orchestrators over one store. Two would not harm each other's transfers, but
//! each lists, and checkpoints, only its own.

mod control;
mod drive;
mod error;
mod recover;
mod registry;
mod step;
mod times;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use daybook_model::append::{Append, AppendError};
use daybook_model::repository::{ExecuteError, LoadError};
use daybook_model::watch::Watch;
use daybook_model::{Clock, Entropy, EventStore, Repository, Revision, Timer};
use uuid::Uuid;

use crate::account::Account;
use crate::risk::{OnUnreachable, RiskService};
use crate::saga::{Direction, State};
use crate::transfer::{
    DEBIT_SENDER, Draft, PAYMENT_TRANSFER, PaymentInitiated, Transfer, TransferEvent,
    TransferRequest, transfer_stream,
};
use registry::Registry;
use step::Wrote;

pub use error::{ControlError, StartError, WaitError};
pub use times::{StepTime, StepTimes};

/// Transfers that may be unfinished at once. Each takes about a kilobyte here; beyond it new ones
/// are refused, because so many waiting means that something they wait for has failed.
pub const UNFINISHED_MAX: usize = 100_000;
/// Transfer events after which a checkpoint is put, so that a recovery reads few more than that:
/// some seconds of a busy server.
pub const CHECKPOINT_EVERY: u64 = 250_000;

/// How an orchestrator is set up.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What happens when the risk service gives no answer.
    pub on_unreachable: OnUnreachable,
    /// How long a transfer may take before it is undone.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Options {
        let timeout = PAYMENT_TRANSFER.timeout;
        Options { on_unreachable: OnUnreachable::default(), timeout }
    }
}

/// What the orchestrator has done, for metrics. Counts since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Transfers begun, refused ones included.
    pub started: AtomicU64,
    /// Transfers completed.
    pub completed: AtomicU64,
    /// Transfers refused or undone.
    pub compensated: AtomicU64,
    /// Transfers that failed and need somebody.
    pub failed: AtomicU64,
    /// Attempts that failed and were repeated.
    pub retries: AtomicU64,
    /// How long attempts at steps took.
    pub steps: StepTimes,
}

/// A transfer as its stream has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The transfer.
    pub transfer: Transfer,
    /// The revision of its last event.
    pub revision: Revision,
}

impl Known {
    /// Where its saga stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.transfer.progress.state
    }
}

/// A transfer that was asked for.
#[derive(Clone, Debug)]
pub struct Started {
    /// The transfer.
    pub known: Arc<Known>,
    /// Whether it began just now: then, if it is not over already, somebody must
    /// [`Orchestrator::drive`] it.
    pub first: bool,
}

/// Takes transfers to their end. A clone is another handle to the same.
pub struct Orchestrator<S: EventStore> {
    inner: Arc<Inner<S>>,
    /// Who begins, resumes and abandons by this handle, if that is known.
    by: Option<Arc<str>>,
}

impl<S: EventStore> Clone for Orchestrator<S> {
    fn clone(&self) -> Orchestrator<S> {
        Orchestrator { inner: self.inner.clone(), by: self.by.clone() }
    }
}

struct Inner<S: EventStore> {
    accounts: Repository<Account, S>,
    risk: Arc<dyn RiskService>,
    clock: Arc<dyn Clock>,
    timer: Arc<dyn Timer>,
    entropy: Arc<dyn Entropy>,
    options: Options,
    registry: Registry,
    counters: Counters,
    watch: OnceLock<Arc<dyn Watch>>,
    log: recover::CategoryLog,
}

impl<S: EventStore> Orchestrator<S> {
    /// An orchestrator of transfers between `accounts`, in the store where they are. Call
    /// [`Orchestrator::recover`] before anything is started.
    #[must_use]
    pub fn new(
        accounts: Repository<Account, S>,
        risk: Arc<dyn RiskService>,
        (clock, timer, entropy): (Arc<dyn Clock>, Arc<dyn Timer>, Arc<dyn Entropy>),
        options: Options,
    ) -> Orchestrator<S> {
        let (registry, counters) = (Registry::default(), Counters::default());
        let watch = OnceLock::new();
        let log = recover::CategoryLog::default();
        let inner = Inner {
            accounts,
            risk,
            clock,
            timer,
            entropy,
            options,
            registry,
            counters,
            watch,
            log,
        };
        Orchestrator { inner: Arc::new(inner), by: None }
    }

    /// Another handle, by which `by` begins, resumes and abandons: their events say so.
    #[must_use]
    pub fn acting_for(&self, by: Option<&str>) -> Orchestrator<S> {
        Orchestrator { inner: self.inner.clone(), by: by.map(Arc::from) }
    }

    /// Has `watch` follow the steps of transfers from now on. The first one stays.
    pub fn follow_work(&self, watch: Arc<dyn Watch>) {
        let _ = self.inner.watch.set(watch);
    }

    /// What it has done.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.inner.counters
    }

    /// Begins a transfer: debits the sender. A sender that refuses is not an error; the transfer is
    /// then over. The same request again gives the transfer as it is now.
    ///
    /// Dropped before it answers, or with an unknown outcome, it may have begun a transfer that
    /// nobody drives; [`Orchestrator::next_lost`] tells of it. Whoever drives it begins it again,
    /// which does nothing if it was begun.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(&self, request: &TransferRequest) -> Result<Started, StartError> {
        let inner = &self.inner;
        let now = inner.clock.now();
        let initiated = Arc::new(request.initiate(now, inner.options.timeout)?);
        let id = initiated.transfer_id;
        // A repetition is known by its stream, whatever became of the transfer then; asking costs
        // less than losing the sender's turn to it.
        let head = self.store().head(&transfer_stream(id)).await.map_err(LoadError::Read)?;
        if head.is_some() {
            return self.repeated(&initiated).await;
        }
        let claim = inner.registry.claim(&initiated).ok_or(StartError::Overloaded)?;
        let wrote = self.begin(&initiated).await;
        let refused = match wrote {
            Wrote::Done(draft) => {
                let known = Arc::new(known(&draft));
                claim.settle(Some(&known));
                return Ok(Started { known, first: true });
            }
            // The claim is dropped, and the transfer lost: whoever drives it finds out.
            Wrote::Unknown(reason) => {
                return Err(StartError::Append(AppendError::Unknown { reason }));
            }
            Wrote::Moved => None,
            Wrote::Failed { error, .. } => Some(error),
        };
        claim.settle(None);
        match refused {
            None => self.repeated(&initiated).await,
            Some(ExecuteError::Conflict { stream }) => Err(StartError::Conflict { stream }),
            Some(ExecuteError::Load(error)) => Err(StartError::Load(error)),
            Some(ExecuteError::Append(error)) => Err(StartError::Append(error)),
            Some(_) => Err(StartError::Reused { id }),
        }
    }

    /// The first commit of a transfer: the sender's debit, or that it refuses.
    async fn begin(&self, initiated: &Arc<PaymentInitiated>) -> Wrote {
        let draft = Draft::birth(initiated.clone()).by(self.by.clone());
        let wrote = self.write(&draft, DEBIT_SENDER, Direction::Action).await;
        if let Wrote::Done(_) = wrote {
            count(&self.inner.counters.started);
        }
        wrote
    }

    /// The answer to a request whose id was used before.
    async fn repeated(&self, asked: &PaymentInitiated) -> Result<Started, StartError> {
        let id = asked.transfer_id;
        let known = self.transfer(id).await?.ok_or(StartError::Reused { id })?;
        if !known.transfer.initiated().is_same_request(asked) {
            return Err(StartError::Reused { id });
        }
        Ok(Started { known: Arc::new(known), first: false })
    }

    /// The transfer as its stream has it now, if there is one.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn transfer(&self, id: Uuid) -> Result<Option<Known>, LoadError> {
        let stream = transfer_stream(id);
        let mut transfer = None;
        let mut revision = None;
        let mut wrong = None;
        let each = |event: daybook_model::EventView<'_>| {
            match TransferEvent::decode(event) {
                Ok(event) => Transfer::fold(&mut transfer, &event),
                Err(reason) => {
                    wrong = Some((event.revision, reason));
                    return std::ops::ControlFlow::Break(());
                }
            }
            revision = Some(event.revision);
            std::ops::ControlFlow::Continue(())
        };
        self.store().replay(&stream, Revision::FIRST, each).await?;
        if let Some((revision, reason)) = wrong {
            return Err(LoadError::Undecodable { stream, revision, reason });
        }
        let known = transfer.zip(revision);
        Ok(known.map(|(transfer, revision)| Known { transfer, revision }))
    }

    /// Waits until the transfer is over, or has failed; none if there is no such transfer.
    ///
    /// # Errors
    /// [`WaitError`].
    pub async fn finished(&self, id: Uuid) -> Result<Option<Arc<Known>>, WaitError> {
        let registry = &self.inner.registry;
        if let Some(waiting) = registry.wait(id)
            && let Ok(known) = waiting.await
        {
            return Ok(Some(known));
        }
        // It was over before the wait began, or nobody has it in hand.
        let Some(known) = self.transfer(id).await? else { return Ok(None) };
        let known = Arc::new(known);
        if !known.state().is_active() {
            return Ok(Some(known));
        }
        if self.inner.registry.is_closed() {
            return Err(WaitError::Stopped);
        }
        let waiting = registry.adopt(&known);
        waiting.await.map(Some).map_err(|_| WaitError::Stopped)
    }

    /// The transfers that are not over, in the order of their ids.
    #[must_use]
    pub fn unfinished(&self) -> Vec<Arc<Known>> {
        self.inner.registry.list()
    }

    /// The transfers that failed and need somebody, in the order of their ids.
    #[must_use]
    pub fn failed(&self) -> Vec<Arc<Known>> {
        let mut failed = self.unfinished();
        failed.retain(|known| known.state() == State::Failed);
        failed
    }

    /// Waits for a transfer that may have begun and that nobody drives, because whoever asked for
    /// it went away: drive it.
    pub async fn next_lost(&self) -> Uuid {
        self.inner.registry.next_lost().await
    }

    fn store(&self) -> &S {
        self.inner.accounts.store()
    }

    /// Takes in that what was pending is durable.
    fn wrote(&self, draft: &mut Draft) {
        self.inner.log.wrote(draft.pending_len());
        draft.written();
        if !draft.transfer().progress.state.is_active() {
            self.rests(draft.transfer());
        }
    }

    /// Counts a transfer that just came to rest.
    fn rests(&self, transfer: &Transfer) {
        let counters = &self.inner.counters;
        match transfer.progress.state {
            State::Completed => count(&counters.completed),
            State::Compensated => count(&counters.compensated),
            State::Failed => {
                count(&counters.failed);
                tracing::error!(
                    transfer = %transfer.id(),
                    reason = transfer.reason.as_deref().unwrap_or_default(),
                    "a transfer could not be undone and needs somebody: resume or abandon it"
                );
            }
            _ => {}
        }
    }
}

/// What is written of a draft of which nothing is pending.
fn known(draft: &Draft) -> Known {
    let revision = draft.revision().expect("a draft that was written has a revision");
    Known { transfer: draft.transfer().clone(), revision }
}

/// The append of a draft's events alone.
fn append(draft: &Draft) -> Append {
    let companion = draft.companion();
    Append::to_stream(companion.stream, companion.expected, companion.events)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
