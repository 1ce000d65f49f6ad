//! Persistent subscriptions: groups of consumers that share one place in a stream or in the log.
//!
//! ```text
//!   gRPC, HTTP ── create, update, delete, info, replay ──> Persistent ── settings ──> journal
//!        │                                                     │ one task a group
//!        └─ connect ─> Consumer <── messages, acks ─────────> host ── feed <── the log
//!                                                              └──── checkpoints, parked ──> journal
//! ```
//!
//! What a group decides is [`daybook_store::persistent`]; this room gives it messages, time and a
//! memory. All that must survive is events in system streams (`journal`): a restart, a restored
//! backup, and a copied log go on where they say.
//!
//! **A place of a lost history.** A checkpoint lies behind the events that it covers in the same log,
//! so a restore rewinds both together and the group delivers again what followed. One that names a
//! place this log does not have was brought from elsewhere: the group is not started, and says so,
//! because to guess a place is to lose messages or to repeat all of them.
//!
//! INVARIANTS
//! - A message is settled only after whatever that rests on is durable.
//! - No group waits for another: each has its own task, mailbox and buffers.
//! - A group that does not work says why: in its status, in the metrics, in the log.

pub(crate) mod budget;
mod change;
pub mod config;
pub mod consumer;
pub mod definition;
pub mod error;
pub mod feed;
pub mod host;
pub mod info;
pub mod journal;
pub mod key;
mod known;
pub mod measure;
pub mod metrics;
pub mod place;
mod running;

use std::sync::Arc;

use daybook_model::{Clock, Entropy, Revision};
use daybook_store::Store;
use futures_util::future::join_all;
use parking_lot::RwLock;
use tokio::sync::Mutex;

use budget::Budget;
use consumer::{Consumer, Ending};
use error::GroupError;
use host::{Asker, Command};
use info::{GroupInfo, Visitor};
use journal::Journal;
use key::{GroupKey, Source};
use known::{Groups, Running};

/// Groups of one node. Each costs a task, a subscription, and its buffers.
pub const GROUPS_MAX: usize = 1000;
/// Bytes of all settings together, which are one event, written whole with each change.
pub const CONFIG_SIZE_MAX: usize = 4 * 1024 * 1024;
/// Who changes settings on a node without users.
const UPDATED_BY: &str = "anonymous";

/// The groups of a node. A clone is another handle.
#[derive(Clone)]
pub struct Persistent {
    inner: Arc<Inner>,
}

struct Inner {
    journal: Journal,
    budget: Budget,
    groups: RwLock<Groups>,
    /// Held by who changes settings; holds the revision of the document that has them.
    changes: Arc<Mutex<Option<Revision>>>,
}

impl Persistent {
    /// Loads the groups that are kept in `store`; all together they hold `held_max` bytes of
    /// messages. What is wrong with one is said and stops no other.
    pub async fn start(
        store: Store,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        held_max: usize,
    ) -> Persistent {
        let inner = Inner {
            journal: Journal::new(store, clock, entropy),
            budget: Budget::new(held_max),
            groups: RwLock::default(),
            changes: Arc::default(),
        };
        let persistent = Persistent { inner: Arc::new(inner) };
        let mut revision = persistent.inner.changes.lock().await;
        // It is in the log, and refuses changes; the node goes on without.
        let _ = persistent.load(&mut revision).await;
        drop(revision);
        persistent
    }

    /// Connects a consumer that may have `buffer_size` messages at a time.
    ///
    /// # Errors
    /// [`GroupError::Missing`], [`GroupError::Full`]; [`GroupError::Failed`] if the group could not
    /// be loaded.
    pub async fn connect(
        &self,
        key: &GroupKey,
        visitor: Visitor,
        buffer_size: usize,
    ) -> Result<Consumer, GroupError> {
        self.settled(key).await;
        let join = |answer| Command::Join { visitor, buffer_size, answer };
        self.ask(key, join).await?
    }

    /// How a group stands.
    ///
    /// # Errors
    /// [`GroupError::Missing`]
    pub async fn info(&self, key: &GroupKey) -> Result<GroupInfo, GroupError> {
        self.settled(key).await;
        self.info_for(key, Asker::Client).await
    }

    async fn info_for(&self, key: &GroupKey, by: Asker) -> Result<GroupInfo, GroupError> {
        let definition = self.definition(key)?;
        let mut info = match self.asked(key, by).await {
            Ok(info) => info,
            Err(missing @ GroupError::Missing(_)) => return Err(missing),
            // It is being changed, and has no numbers in between.
            Err(changed @ GroupError::Dropped(_)) if by == Asker::Collector => return Err(changed),
            Err(failed) => GroupInfo::not_ready(definition, failed.to_string()),
        };
        let (store, source) = (self.inner.journal.store(), &key.source);
        info.end = self.inner.journal.end_of(source).await.unwrap_or_default();
        let text = |number| place::text(store, source, number);
        info.last_known = info.end.checked_sub(1).map(text);
        info.checkpoint = info.checkpoint_number.map(text);
        Ok(info)
    }

    /// How the groups stand, those of `source` or all; in the order of their names.
    pub async fn list(&self, source: Option<&Source>) -> Vec<GroupInfo> {
        drop(self.inner.changes.lock().await);
        self.list_for(source, Asker::Client).await
    }

    /// The numbers of all groups.
    pub async fn numbers(&self) -> Vec<GroupInfo> {
        self.list_for(None, Asker::Collector).await
    }

    async fn list_for(&self, source: Option<&Source>, by: Asker) -> Vec<GroupInfo> {
        let keys: Vec<GroupKey> = {
            let groups = self.inner.groups.read();
            let wanted = |key: &&GroupKey| source.is_none_or(|source| key.source == *source);
            groups.by_key.keys().filter(wanted).cloned().collect()
        };
        // One may be deleted meanwhile.
        join_all(keys.iter().map(|key| self.info_for(key, by)))
            .await
            .into_iter()
            .flatten()
            .collect()
    }

    /// Delivers parked messages again, at most `limit`.
    ///
    /// # Errors
    /// [`GroupError::Missing`]
    pub async fn replay(&self, key: &GroupKey, limit: Option<u64>) -> Result<(), GroupError> {
        self.settled(key).await;
        self.tell(key, Command::Replay(limit)).await
    }

    /// Forgets parked messages, at most `limit`.
    ///
    /// # Errors
    /// [`GroupError::Missing`]; [`GroupError::Failed`] if that cannot be written.
    pub async fn truncate(&self, key: &GroupKey, limit: Option<u64>) -> Result<(), GroupError> {
        self.settled(key).await;
        self.ask(key, |answer| Command::Truncate { limit, answer }).await?
    }

    /// Ends all groups, and writes how far they are.
    pub async fn stop(&self) {
        let _changes = self.inner.changes.lock().await;
        self.inner.groups.write().stopped = true;
        self.end_all(Ending::Stopping).await;
    }

    /// Why the groups could not be loaded, if so.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.inner.groups.read().fault.clone()
    }

    /// The number that the log's place has which clients number so, if this log's history has it.
    #[must_use]
    pub fn is_place(&self, number: u64) -> bool {
        place::written(self.inner.journal.store(), number).is_some()
    }

    /// Waits for a change that is under way if it may be one of this group: who asks then must not
    /// take it for deleted, nor for one that does not work.
    async fn settled(&self, key: &GroupKey) {
        let changing = self.inner.groups.read().by_key.get(key).is_none_or(Running::is_changing);
        if changing {
            drop(self.inner.changes.lock().await);
        }
    }
}

#[cfg(test)]
mod tests;
