//! What somebody can do about a transfer that failed.

use std::sync::Arc;

use daybook_model::{EventStore, Timestamp};
use uuid::Uuid;

use super::{ControlError, Known, Orchestrator, append, known};
use crate::saga::State;
use crate::transfer::{Draft, PaymentAbandoned, PaymentResumed, REASON_SIZE_MAX, TransferEvent};

impl<S: EventStore> Orchestrator<S> {
    /// Has a failed transfer tried again: drive it then.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn resume(&self, id: Uuid, resumed_by: &str) -> Result<Arc<Known>, ControlError> {
        check_text("resumed_by", resumed_by)?;
        let event = |occurred_at| {
            let resumed_by = resumed_by.to_owned();
            TransferEvent::Resumed(PaymentResumed { transfer_id: id, resumed_by, occurred_at })
        };
        self.control(id, event).await
    }

    /// Ends a failed transfer, whose money somebody has seen to.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn abandon(
        &self,
        id: Uuid,
        reason: &str,
        abandoned_by: &str,
    ) -> Result<Arc<Known>, ControlError> {
        check_text("reason", reason)?;
        check_text("abandoned_by", abandoned_by)?;
        let event = |occurred_at| {
            let (reason, abandoned_by) = (reason.to_owned(), abandoned_by.to_owned());
            let transfer_id = id;
            TransferEvent::Abandoned(PaymentAbandoned {
                transfer_id,
                reason,
                abandoned_by,
                occurred_at,
            })
        };
        self.control(id, event).await
    }

    async fn control(
        &self,
        id: Uuid,
        event: impl FnOnce(Timestamp) -> TransferEvent,
    ) -> Result<Arc<Known>, ControlError> {
        let Known { transfer, revision } =
            self.transfer(id).await?.ok_or(ControlError::NotFound { id })?;
        let state = transfer.progress.state;
        if state != State::Failed {
            return Err(ControlError::NotFailed { id, state });
        }
        let mut draft = Draft::of(transfer, revision).by(self.by.clone());
        draft.push(event(draft.at(self.inner.clock.now())));
        self.store().append(append(&draft)).await?;
        self.wrote(&mut draft);
        let known = Arc::new(known(&draft));
        self.inner.registry.put(&known);
        Ok(known)
    }
}

fn check_text(field: &'static str, text: &str) -> Result<(), ControlError> {
    let good = (1..=REASON_SIZE_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    if good { Ok(()) } else { Err(ControlError::Invalid { field }) }
}
