//! What a group writes: parked messages and checkpoints.

use daybook_store::persistent::Origin;

use super::super::journal::{Journal, JournalError};
use super::super::key::GroupKey;
use super::{Done, Host, PARKS_MAX};

impl Host {
    pub(super) fn park(&mut self) {
        while self.parks_under_way < PARKS_MAX
            && let Some((ticket, parking)) = self.parks.pop_front()
        {
            self.parks_under_way += 1;
            let (journal, key) = (self.journal.clone(), self.definition.key.clone());
            self.work.push(Box::pin(async move {
                let result = journal.park(&key, parking.clone()).await.map(|_| ());
                Done::Parked { ticket, parking, result }
            }));
        }
    }

    pub(super) fn checkpoint(&mut self, origin: Origin, number: u64) {
        let (journal, key) = (self.journal.clone(), self.definition.key.clone());
        let is_first = self.group.checkpoint_number().is_none();
        self.work.push(Box::pin(async move {
            let result = match origin {
                Origin::Source => write_checkpoint(&journal, &key, number, is_first).await,
                Origin::Parked => journal.truncate_parked(&key, number + 1).await,
            };
            Done::Checkpoint { origin, number, result }
        }));
    }

    /// Notes whether something could be written; logs when that changes.
    pub(super) fn noted(&mut self, result: &Result<(), JournalError>, what: &str) -> bool {
        match result {
            Ok(()) => {
                if self.write_trouble.take().is_some() {
                    tracing::info!(group = %self.definition.key, "the group can write again");
                }
                true
            }
            Err(error) => {
                if self.write_trouble.is_none() {
                    let group = &self.definition.key;
                    tracing::warn!(%group, %error, "{what}; it stays unsettled and is tried again");
                }
                self.write_trouble = Some(format!("{what}: {error}"));
                false
            }
        }
    }
}

/// Writes a checkpoint; before the first sees to the stream it is written to.
async fn write_checkpoint(
    journal: &Journal,
    key: &GroupKey,
    number: u64,
    is_first: bool,
) -> Result<(), JournalError> {
    if is_first {
        journal.prepare_checkpoints(key).await?;
    }
    journal.put_checkpoint(key, number).await
}
