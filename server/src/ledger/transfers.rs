//! Transfers in this node: each that is under way has a task that drives it to its end.
//!
//! ```text
//!   transfer ── task: start ─┬─> answer: begun, refused, known already
//!                            └─> drive ─> over ─> whoever waits for its end
//!   take_up  ── for each that a restart, or a client that went away, left behind: drive
//! ```
//!
//! INVARIANT: a task ends when its transfer rests, or when the node stops; dropping it anywhere
//! loses nothing.

use std::sync::Arc;
use std::time::Duration;

use daybook_ledger::account::{AccountId, AccountStatus};
use daybook_ledger::orchestrator::{ControlError, Counters, Known, StartError, Started, WaitError};
use daybook_ledger::transfer::{TransferRequest, transfer_stream};
use daybook_model::append::AppendError;
use daybook_model::repository::LoadError;
use daybook_model::{Context, Revision};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::Ledger;
use crate::security::Caller;
use crate::telemetry::trace::current::{Current, inherited, scoped};

impl Ledger {
    /// Takes up what an earlier run left under way, and from now on what is lost.
    pub(super) async fn take_up(&self) -> Result<(), LoadError> {
        let left = self.inner.transfers.recover().await?;
        if !left.is_empty() {
            tracing::info!(transfers = left.len(), "taking up transfers that were under way");
        }
        for id in left {
            self.drive(id);
        }
        let ledger = self.clone();
        self.until_stopped(async move {
            loop {
                let id = ledger.inner.transfers.next_lost().await;
                ledger.drive(id);
            }
        });
        let ledger = self.clone();
        self.until_stopped(async move { ledger.inner.transfers.keep_checkpoints().await });
        Ok(())
    }

    /// Begins a transfer for `caller`, and has it driven to its end. The same request again answers
    /// with the transfer as it is.
    ///
    /// # Errors
    /// [`StartError`]: why it was not begun, or that nobody knows.
    pub async fn transfer(
        &self,
        request: TransferRequest,
        caller: &Caller,
    ) -> Result<Started, StartError> {
        let (answer, answered) = oneshot::channel();
        let ledger = self.clone();
        let transfers = self.inner.transfers.acting_for(caller.login());
        tokio::spawn(inherited(async move {
            let began = ledger.inner.clock.monotonic();
            let started = transfers.start(&request).await;
            let known = started.as_ref().ok().filter(|started| started.first);
            let under_way = known.map(|started| started.known.state().is_active());
            // Whoever asked may have gone: the transfer goes on.
            let _ = answer.send(started);
            match under_way {
                Some(true) => ledger.drive_until_stopped(request.transfer_id).await,
                Some(false) => {}
                None => return,
            }
            let took = ledger.inner.clock.monotonic().saturating_sub(began);
            ledger.inner.durations.add(took);
        }));
        answered.await.unwrap_or_else(|_| {
            let reason = "the task that began it ended".to_owned();
            Err(StartError::Append(AppendError::Unknown { reason }))
        })
    }

    /// Waits up to `wait` until the transfer is over or has failed; none if it is not by then, or
    /// the node is stopping.
    ///
    /// # Errors
    /// [`LoadError`]: it cannot be read.
    pub async fn finished(
        &self,
        id: Uuid,
        wait: Duration,
    ) -> Result<Option<Arc<Known>>, LoadError> {
        let mut stopping = self.inner.stopping.subscribe();
        let finished = tokio::time::timeout(wait, self.inner.transfers.finished(id));
        tokio::select! {
            finished = finished => match finished {
                Ok(Ok(known)) => Ok(known),
                Ok(Err(WaitError::Load(error))) => Err(error),
                Ok(Err(WaitError::Stopped)) | Err(_) => Ok(None),
            },
            _ = stopping.wait_for(|stopping| *stopping) => Ok(None),
        }
    }

    /// The transfer `id`; none if nobody began it.
    ///
    /// # Errors
    /// [`LoadError`]: it cannot be read.
    pub async fn transfer_now(&self, id: Uuid) -> Result<Option<Known>, LoadError> {
        self.inner.transfers.transfer(id).await
    }

    /// Whether closing this account would strand money: it is open, and a transfer from it is under
    /// way, or has failed and waits for somebody.
    ///
    /// # Errors
    /// [`LoadError`]: the account cannot be read.
    pub async fn would_strand(&self, id: AccountId) -> Result<bool, LoadError> {
        let pays = |known: &Arc<Known>| known.transfer.initiated().sender_account_id == id;
        if !self.unfinished().iter().any(pays) {
            return Ok(false);
        }
        let account = self.account(id).await?;
        let state = account.as_ref().and_then(|(account, _)| account.state());
        Ok(state.is_some_and(|state| state.status != AccountStatus::Closed))
    }

    /// The transfers that are not over, in the order of their ids.
    #[must_use]
    pub fn unfinished(&self) -> Vec<Arc<Known>> {
        self.inner.transfers.unfinished()
    }

    /// What became of transfers since the start.
    #[must_use]
    pub fn transfer_counters(&self) -> &Counters {
        self.inner.transfers.counters()
    }

    /// Has a failed transfer tried again: `caller` does so, in the name of `by`.
    ///
    /// # Errors
    /// [`ControlError`]
    pub async fn resume(
        &self,
        id: Uuid,
        by: String,
        caller: &Caller,
    ) -> Result<Arc<Known>, ControlError> {
        let ledger = self.clone();
        let transfers = self.inner.transfers.acting_for(caller.login());
        let work = async move {
            let known = transfers.resume(id, &by).await?;
            ledger.drive(id);
            Ok(known)
        };
        finish_control(work).await
    }

    /// Ends a failed transfer, whose money somebody has seen to: `caller` does so, in the name of
    /// `by`.
    ///
    /// # Errors
    /// [`ControlError`]
    pub async fn abandon(
        &self,
        id: Uuid,
        (reason, by): (String, String),
        caller: &Caller,
    ) -> Result<Arc<Known>, ControlError> {
        let transfers = self.inner.transfers.acting_for(caller.login());
        finish_control(async move { transfers.abandon(id, &reason, &by).await }).await
    }

    /// Drives a transfer in a task of its own.
    fn drive(&self, id: Uuid) {
        let ledger = self.clone();
        tokio::spawn(async move {
            let current = ledger.traced(id).await;
            scoped(current, ledger.drive_until_stopped(id)).await;
        });
    }

    /// The trace of the request that began a transfer, if it is recorded and anybody asks.
    async fn traced(&self, id: Uuid) -> Option<Current> {
        let tracer = self.inner.tracer.clone()?;
        let began = self.store().store().read_event(&transfer_stream(id), Revision::FIRST).await;
        let page = began.ok().flatten()?;
        let context = Context::of(page.last()?.metadata).trace?;
        context.is_sampled().then(|| Current::of_event(tracer, context))
    }

    async fn drive_until_stopped(&self, id: Uuid) {
        let mut stopping = self.inner.stopping.subscribe();
        tokio::select! {
            () = self.inner.transfers.drive(id) => {}
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
    }

    /// Runs `work` in a task of its own, until the node stops.
    fn until_stopped(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut stopping = self.inner.stopping.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                () = work => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        });
    }
}

async fn finish_control(
    work: impl Future<Output = Result<Arc<Known>, ControlError>> + Send + 'static,
) -> Result<Arc<Known>, ControlError> {
    tokio::spawn(inherited(work)).await.unwrap_or_else(|_| {
        let reason = "the task that did it ended".to_owned();
        Err(ControlError::Append(AppendError::Unknown { reason }))
    })
}
