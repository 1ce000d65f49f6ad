//! One step of a transfer: a write to an account with its record, or a question to the risk
//! service.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use daybook_model::append::AppendError;
use daybook_model::repository::{ExecuteError, Record, Task, Transaction};
use daybook_model::watch::{SagaStep, Watched};
use daybook_model::{Decision, EventStore};
use parking_lot::Mutex;
use uuid::Uuid;

use super::Orchestrator;
use crate::account::{Account, AccountId, AccountRejection, AccountState, account_stream};
use crate::risk::{Assessment, RiskRequest, Unreachable};
use crate::saga::Direction;
use crate::transfer::{
    CHECK_RISK, DEBIT_SENDER, Draft, PAYMENT_TRANSFER, Transfer, Velocity, refusal,
    step_transaction,
};

/// What became of a write.
pub(super) enum Wrote {
    /// It is durable, and this is the transfer after it: it may be that the account refused.
    Done(Box<Draft>),
    /// The transfer is elsewhere than the draft believes.
    Moved,
    /// It may have happened.
    Unknown(String),
    /// It did not happen.
    Failed { error: ExecuteError<AccountRejection>, is_final: bool },
}

impl<S: EventStore> Orchestrator<S> {
    /// One append: what the step does to the account, and what the transfer records of it.
    pub(super) async fn write(&self, draft: &Draft, step: usize, direction: Direction) -> Wrote {
        let id = draft.transfer().id();
        let Some((stream, command)) = draft.transfer().command(step, direction) else {
            let reason = "a step that has nothing to write was to be written";
            let error = ExecuteError::Append(AppendError::Malformed { reason });
            return Wrote::Failed { error, is_final: true };
        };
        let transaction = step_transaction(id, step, direction);
        // What is recorded is decided with the command, so the last that was decided is what is
        // appended.
        let recorded: Arc<Mutex<Option<Box<Draft>>>> = Arc::default();
        let (base, kept, clock) = (draft.clone(), recorded.clone(), self.inner.clock.clone());
        let record: Record<Account> = Box::new(move |decision| {
            let mut draft = Box::new(base.clone());
            match decision {
                Decision::Accepted { events, state } => {
                    let at = events.last().map_or_else(|| clock.now(), |e| e.occurred_at());
                    let is_debit = (step, direction) == (DEBIT_SENDER, Direction::Action);
                    let velocity = state.state().filter(|_| is_debit).map(|sender| Velocity {
                        hour: sender.transfers_this_hour(at),
                        day: sender.transfers_today(at),
                    });
                    draft.done_at(step, direction, velocity, at);
                }
                Decision::Rejected(rejection) => {
                    let why = refusal(step, rejection);
                    draft.failed(step, direction, why, None, clock.now());
                }
            }
            let companion = draft.companion();
            *kept.lock() = Some(draft);
            Some(companion)
        });
        let task = Task {
            command,
            transaction: Transaction { id: transaction, digest: *transaction.as_bytes() },
            context: Some(draft.context()),
            record: Some(record),
        };
        let began = self.inner.clock.monotonic();
        let watched = self.follow(id, step, direction);
        let executed = self.inner.accounts.execute(&stream, task).await;
        self.measured(step, direction, began);
        ended(watched, executed.as_ref().err());
        match executed {
            Ok(done) if done.repeated => Wrote::Moved,
            Ok(_) | Err(ExecuteError::Rejected(_)) => {
                let recorded = recorded.lock().take();
                let mut draft = recorded.expect("what was appended was recorded");
                self.wrote(&mut draft);
                Wrote::Done(draft)
            }
            Err(ExecuteError::CompanionMoved { .. }) => Wrote::Moved,
            Err(ExecuteError::Append(AppendError::Unknown { reason })) => Wrote::Unknown(reason),
            Err(error) => {
                let is_final = is_final(&error);
                Wrote::Failed { error, is_final }
            }
        }
    }

    /// What the risk service says, if it says it within `limit`.
    pub(super) async fn assess(
        &self,
        transfer: &Transfer,
        limit: Duration,
    ) -> Result<Assessment, Unreachable> {
        let began = self.inner.clock.monotonic();
        let watched = self.follow(transfer.id(), CHECK_RISK, Direction::Action);
        let request = self.risk_request(transfer).await?;
        let answer = self.within(limit, self.inner.risk.assess(&request)).await;
        self.measured(CHECK_RISK, Direction::Action, began);
        let answer = answer.unwrap_or_else(|| {
            let reason = format!("no answer within {} ms", limit.as_millis());
            Err(Unreachable { reason })
        });
        ended(watched, answer.as_ref().err().map(|unreachable| &unreachable.reason));
        answer
    }

    /// Tells who follows the work of this task, if anybody does, that a step begins.
    fn follow(&self, id: Uuid, step: usize, direction: Direction) -> Option<Box<dyn Watched>> {
        let (saga, step) = (PAYMENT_TRANSFER.name, PAYMENT_TRANSFER.steps[step].name);
        let direction = direction.as_str();
        self.inner.watch.get()?.step(&SagaStep { saga, step, direction, id })
    }

    /// Adds an attempt that began at `began` and has ended now.
    fn measured(&self, step: usize, direction: Direction, began: Duration) {
        let took = self.inner.clock.monotonic().saturating_sub(began);
        self.inner.counters.steps.add(step, direction, took);
    }

    /// What the risk service needs to know. An account that does not exist has no flag.
    async fn risk_request(&self, transfer: &Transfer) -> Result<RiskRequest, Unreachable> {
        let initiated = transfer.initiated();
        let sender = self.account(initiated.sender_account_id).await?;
        let receiver = self.account(initiated.receiver_account_id).await?;
        let (sender, receiver) = (sender.state(), receiver.state());
        let flag = |account: Option<&AccountState>| {
            account.and_then(|account| account.flag.as_ref()).map(|flag| flag.reason.clone())
        };
        Ok(RiskRequest {
            transfer_id: initiated.transfer_id,
            sender_account_id: initiated.sender_account_id,
            receiver_account_id: initiated.receiver_account_id,
            amount: initiated.amount,
            currency: initiated.currency,
            sender_flag: flag(sender),
            receiver_flag: flag(receiver),
            sender_transfers_hour: transfer.velocity.hour,
            sender_transfers_day: transfer.velocity.day,
        })
    }

    async fn account(&self, id: AccountId) -> Result<Account, Unreachable> {
        let loaded = self.inner.accounts.load(&account_stream(id)).await;
        let loaded = loaded.map_err(|e| Unreachable { reason: e.to_string() })?;
        Ok(loaded.map(|(account, _)| account).unwrap_or_default())
    }

    /// What `work` gives, or none if that takes longer than `limit`. What is ready at once needs no
    /// timer.
    async fn within<T>(&self, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut sleep = None;
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            let sleep = sleep.get_or_insert_with(|| self.inner.timer.sleep(limit));
            sleep.as_mut().poll(cx).map(|()| None)
        })
        .await
    }
}

/// Ends what was followed.
fn ended(watched: Option<Box<dyn Watched>>, error: Option<&impl fmt::Display>) {
    if let (Some(mut watched), Some(error)) = (watched, error) {
        watched.failed(error);
    }
}

/// Whether the same append may be taken later.
pub(super) fn is_transient(error: &AppendError) -> bool {
    matches!(
        error,
        AppendError::Overloaded { .. }
            | AppendError::DiskFull { .. }
            | AppendError::ClockLeapt { .. }
            | AppendError::Read { .. }
    )
}

fn is_final(error: &ExecuteError<AccountRejection>) -> bool {
    match error {
        ExecuteError::Conflict { .. } | ExecuteError::Load(_) => false,
        ExecuteError::Append(error) => !is_transient(error),
        _ => true,
    }
}

/// The stable word of a step's failure that is not a refusal.
pub(super) fn word(error: &ExecuteError<AccountRejection>) -> &'static str {
    match error {
        ExecuteError::Conflict { .. } => "conflict",
        ExecuteError::Load(_) => "unreadable",
        ExecuteError::TransactionReused { .. } => "transaction_reused",
        ExecuteError::Append(AppendError::Overloaded { .. }) => "overloaded",
        ExecuteError::Append(AppendError::DiskFull { .. }) => "disk_full",
        ExecuteError::Append(AppendError::ClockLeapt { .. }) => "clock_leapt",
        _ => "append_refused",
    }
}
