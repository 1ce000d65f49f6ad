//! A consumer's end of its group.

use std::sync::Arc;

use daybook_store::persistent::{ConsumerId, NackAction};
use tokio::sync::{Notify, mpsc, oneshot};
use uuid::Uuid;

use super::error::GroupError;
use super::feed::Item;
use super::host::Command;
use super::key::GroupKey;

/// A message that was sent.
#[derive(Clone, Debug)]
pub struct Delivered {
    /// What.
    pub item: Arc<Item>,
    /// How often it was sent before because it failed.
    pub retries: u32,
}

/// Why a group has let go of its consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It goes on without them; they may come again.
    Dropped,
    /// It was deleted.
    Deleted,
    /// The server stops.
    Stopping,
}

impl Ending {
    /// What a consumer is told.
    #[must_use]
    pub fn error(self, key: &GroupKey) -> GroupError {
        match self {
            Ending::Dropped => GroupError::Dropped(key.clone()),
            Ending::Deleted => GroupError::Missing(key.clone()),
            Ending::Stopping => GroupError::Stopping,
        }
    }
}

/// A consumer. When it is dropped, what it has goes to others.
pub struct Consumer {
    pub(super) id: ConsumerId,
    pub(super) key: GroupKey,
    pub(super) mailbox: mpsc::Sender<Command>,
    pub(super) deliveries: mpsc::Receiver<Delivered>,
    pub(super) ended: oneshot::Receiver<Ending>,
    pub(super) gone: Arc<Notify>,
}

impl Consumer {
    /// What comes next; waits for it. May be dropped and called again without loss.
    ///
    /// # Errors
    /// Why the group has let go of it.
    pub async fn next(&mut self) -> Result<Delivered, GroupError> {
        match self.deliveries.recv().await {
            Some(delivered) => Ok(delivered),
            None => Err(self.ending()),
        }
    }

    /// What is here already, if there is anything.
    pub fn ready(&mut self) -> Option<Delivered> {
        self.deliveries.try_recv().ok()
    }

    /// It is done with these.
    ///
    /// # Errors
    /// Why the group has let go of it.
    pub async fn ack(&mut self, ids: Vec<Uuid>) -> Result<(), GroupError> {
        self.tell(Command::Ack { consumer: self.id, ids }).await
    }

    /// It is not done with these.
    ///
    /// # Errors
    /// Why the group has let go of it.
    pub async fn nack(&mut self, ids: Vec<Uuid>, what: NackAction) -> Result<(), GroupError> {
        self.tell(Command::Nack { consumer: self.id, ids, what }).await
    }

    async fn tell(&mut self, command: Command) -> Result<(), GroupError> {
        match self.mailbox.send(command).await {
            Ok(()) => Ok(()),
            Err(_closed) => Err(self.ending()),
        }
    }

    fn ending(&mut self) -> GroupError {
        let ending = self.ended.try_recv().unwrap_or(Ending::Dropped);
        ending.error(&self.key)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // Closed first, so that whoever is woken sees it.
        self.deliveries.close();
        self.gone.notify_one();
    }
}
