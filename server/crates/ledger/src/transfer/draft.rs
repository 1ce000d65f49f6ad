//! A transfer with events that are decided but not yet written.

use std::sync::Arc;

use daybook_model::repository::Companion;
use daybook_model::{ContentType, Context, ExpectedRevision, NewEvent, Revision, Timestamp};
use uuid::Uuid;

use super::{
    PAYMENT_TRANSFER, PaymentCompleted, PaymentEnded, PaymentInitiated, SagaStepCompleted,
    SagaStepFailed, Transfer, TransferEvent, Velocity, transfer_stream,
};
use crate::saga::{Direction, Next};

/// A transfer as it will be when its pending events are written.
#[derive(Clone, Debug)]
pub struct Draft {
    transfer: Transfer,
    /// The stream's last event; none: it has none yet.
    revision: Option<Revision>,
    pending: Vec<TransferEvent>,
    /// Who has the pending events happen, if somebody does.
    by: Option<Arc<str>>,
}

impl Draft {
    /// A transfer that nothing is written of.
    #[must_use]
    pub fn birth(initiated: Arc<PaymentInitiated>) -> Draft {
        let pending = vec![TransferEvent::Initiated(initiated.clone())];
        Draft { transfer: Transfer::begin(initiated), revision: None, pending, by: None }
    }

    /// A transfer as its stream has it up to `revision`.
    #[must_use]
    pub fn of(transfer: Transfer, revision: Revision) -> Draft {
        Draft { transfer, revision: Some(revision), pending: Vec::new(), by: None }
    }

    /// The same, whose pending events `by` has happen.
    #[must_use]
    pub fn by(self, by: Option<Arc<str>>) -> Draft {
        Draft { by, ..self }
    }

    /// What its events belong to, and who has them happen.
    #[must_use]
    pub fn context(&self) -> Context {
        let actor = self.by.as_deref().map(str::to_owned);
        Context { actor, ..Context::correlated(self.transfer.id()) }
    }

    /// The transfer, with what is pending.
    #[must_use]
    pub fn transfer(&self) -> &Transfer {
        &self.transfer
    }

    /// The revision of the last event that is written.
    #[must_use]
    pub fn revision(&self) -> Option<Revision> {
        self.revision
    }

    /// How many events are pending.
    #[must_use]
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// What is to be done at `now`.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Next {
        self.transfer.progress.next(&PAYMENT_TRANSFER, now)
    }

    /// Adds an event.
    pub fn push(&mut self, event: TransferEvent) {
        self.transfer.apply(&event);
        self.pending.push(event);
    }

    /// Adds that a step was taken, or taken back, and, if that was the last, that all is over.
    pub fn done(&mut self, step: usize, direction: Direction, now: Timestamp) {
        self.done_at(step, direction, None, now);
    }

    /// As [`Draft::done`], with how many transfers the sender had made lately.
    pub fn done_at(
        &mut self,
        step: usize,
        direction: Direction,
        velocity: Option<Velocity>,
        now: Timestamp,
    ) {
        let occurred_at = self.at(now);
        self.push(TransferEvent::StepCompleted(SagaStepCompleted {
            transfer_id: self.transfer.id(),
            step,
            direction,
            attempt: self.transfer.progress.failures + 1,
            velocity,
            occurred_at,
        }));
        self.close(now);
    }

    /// Adds that an attempt failed for `reason`, for good or until `retry_at`, and, if nothing is
    /// to be undone or can be, that all is over.
    pub fn failed(
        &mut self,
        step: usize,
        direction: Direction,
        reason: String,
        retry_at: Option<Timestamp>,
        now: Timestamp,
    ) {
        let occurred_at = self.at(now);
        self.push(TransferEvent::StepFailed(SagaStepFailed {
            transfer_id: self.transfer.id(),
            step,
            direction,
            attempt: self.transfer.progress.failures + 1,
            reason,
            is_final: retry_at.is_none(),
            retry_at,
            occurred_at,
        }));
        self.close(now);
    }

    /// Adds the closing event, if it is due.
    pub fn close(&mut self, now: Timestamp) {
        let occurred_at = self.at(now);
        let initiated = self.transfer.initiated();
        let transfer_id = initiated.transfer_id;
        let ended = |reason| PaymentEnded { transfer_id, reason, occurred_at };
        let event = match self.next(occurred_at) {
            Next::Complete => {
                let (credited_amount, credited_currency) = initiated.credited();
                TransferEvent::Completed(PaymentCompleted {
                    transfer_id,
                    sender_account_id: initiated.sender_account_id,
                    receiver_account_id: initiated.receiver_account_id,
                    amount: initiated.amount,
                    currency: initiated.currency,
                    credited_amount,
                    credited_currency,
                    occurred_at,
                })
            }
            Next::Reject => {
                let reason = self.transfer.reason.clone();
                TransferEvent::Rejected(ended(reason.unwrap_or_default()))
            }
            Next::Fail => {
                let last = self.transfer.steps.last();
                let reason = last.and_then(|last| last.failure.clone());
                TransferEvent::Failed(ended(reason.unwrap_or_default()))
            }
            _ => return,
        };
        self.push(event);
    }

    /// `now`, or the time of the last event if that is later: a transfer's times never go back.
    #[must_use]
    pub fn at(&self, now: Timestamp) -> Timestamp {
        now.max(self.transfer.progress.since)
    }

    /// What to append to the transfer's stream.
    #[must_use]
    pub fn companion(&self) -> Companion {
        let id = self.transfer.id();
        let expected = self.revision.map_or(ExpectedRevision::NoStream, ExpectedRevision::Exact);
        let first = self.revision.map_or(0, |revision| revision.0 + 1);
        let metadata = self.context().to_metadata();
        let new = |(event, revision): (&TransferEvent, u64)| {
            let data = event.encode();
            NewEvent {
                id: event_id(id, revision, &data),
                event_type: event.event_type().to_owned(),
                content_type: ContentType::Json,
                metadata: metadata.clone(),
                data,
            }
        };
        let events = self.pending.iter().zip(first..).map(new).collect();
        Companion { stream: transfer_stream(id), expected, events }
    }

    /// Takes in that what was pending is written.
    pub fn written(&mut self) {
        let written = self.pending.len() as u64;
        let next = self.revision.map_or(0, |revision| revision.0 + 1) + written;
        self.revision = next.checked_sub(1).map(Revision);
        self.pending.clear();
        self.by = None;
    }
}

/// The id of the event at `revision`. Made of what the event says, so that of two orchestrators
/// that decide differently at one revision the second is refused, and not taken for a retry of the
/// first.
fn event_id(transfer: Uuid, revision: u64, data: &[u8]) -> Uuid {
    let place = Uuid::from_u128(transfer.as_u128().wrapping_add(u128::from(revision)));
    Uuid::new_v5(&place, data)
}
