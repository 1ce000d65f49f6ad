//! The groups that run: loaded, found by their keys, ended, started again.
//!
//! A group whose task ends by a panic is started again from what it has kept, at once if it ran for
//! a while, else after a pause: what made it panic may do so again.
//!
//! INVARIANT: an entry of the settings that cannot be used is kept as it is in the document, however
//! often that is written, until its group is deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daybook_model::Revision;
use daybook_store::persistent::Settings;
use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::config::{self, Kept};
use super::consumer::Ending;
use super::definition::{Definition, Start};
use super::error::GroupError;
use super::host::{Asker, Command, Host, MAILBOX_SIZE};
use super::info::GroupInfo;
use super::journal::JournalError;
use super::key::GroupKey;
use super::{CONFIG_SIZE_MAX, GROUPS_MAX, Persistent, UPDATED_BY};

/// How long a busy group may take to say how it stands.
const INFO_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a group must have run to be started again at once after a panic, and how long it waits
/// otherwise: one that always panics costs a line in the log a second.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// The groups of a node.
#[derive(Default)]
pub(super) struct Groups {
    pub by_key: BTreeMap<GroupKey, Running>,
    /// Entries of the settings that no group can be made of, nor named by.
    strays: Vec<Value>,
    /// Why there are none, if they could not be loaded.
    pub fault: Option<String>,
    pub stopped: bool,
}

/// A group that was loaded, or could not be.
pub(super) struct Running {
    pub definition: Definition,
    pub mailbox: Result<mpsc::Sender<Command>, String>,
    /// Its entry in the settings, if that could not be used.
    pub unreadable: Option<Value>,
}

impl Running {
    fn unreadable(key: GroupKey, json: Value, reason: String) -> Running {
        let definition = Definition {
            key,
            settings: Settings::default(),
            resolve_links: false,
            extra_statistics: false,
            start: Start::First,
            begins_at: 0,
            filter: None,
        };
        let reason =
            format!("its settings cannot be used: {reason}; delete it and create it again");
        Running { definition, mailbox: Err(reason), unreadable: Some(json) }
    }

    /// Whether its task has ended, or never began.
    fn is_over(&self) -> bool {
        self.unreadable.is_none() && self.mailbox.as_ref().map_or(true, mpsc::Sender::is_closed)
    }

    fn entry(&self) -> Value {
        self.unreadable.clone().unwrap_or_else(|| config::encode_entry(&self.definition))
    }
}

impl Persistent {
    pub(super) async fn load(&self, revision: &mut Option<Revision>) {
        let loaded = match self.inner.journal.config().await {
            Ok(None) => Ok(Vec::new()),
            Ok(Some((at, document))) => {
                *revision = Some(at);
                config::decode(&document)
            }
            Err(failed) => Err(failed.to_string()),
        };
        let entries = match loaded {
            Ok(entries) => entries,
            Err(reason) => {
                tracing::error!(reason, "the settings of persistent subscriptions cannot be read");
                self.inner.groups.write().fault = Some(reason);
                return;
            }
        };
        {
            let mut groups = self.inner.groups.write();
            groups.fault = None;
            groups.strays.clear();
        }
        for entry in entries {
            self.load_entry(entry).await;
        }
    }

    async fn load_entry(&self, entry: Kept) {
        let is_full = self.inner.groups.read().by_key.len() >= GROUPS_MAX;
        match entry {
            Kept::Group(definition) if !is_full => self.run(definition).await,
            Kept::Group(definition) => {
                let group = &definition.key;
                tracing::error!(%group, "there are {GROUPS_MAX} groups already: it is not started");
                let entry = config::encode_entry(&definition);
                self.inner.groups.write().strays.push(entry);
            }
            Kept::Unreadable { key, json, reason } => {
                tracing::error!(reason, "the settings of a persistent subscription cannot be used");
                let mut groups = self.inner.groups.write();
                match key.filter(|key| !is_full && !groups.by_key.contains_key(key)) {
                    Some(key) => {
                        let running = Running::unreadable(key.clone(), json, reason);
                        groups.by_key.insert(key, running);
                    }
                    None => groups.strays.push(json),
                }
            }
        }
    }

    /// Starts the task of a group.
    pub(super) async fn run(&self, definition: Definition) {
        let (sender, receiver) = mpsc::channel(MAILBOX_SIZE);
        let (journal, held) = (self.inner.journal.clone(), self.inner.budget.begin());
        let ends = (receiver, sender.downgrade());
        let mailbox = match Host::load(journal, definition.clone(), ends, held).await {
            Ok(host) => {
                self.watch(definition.key.clone(), tokio::spawn(host.run()));
                Ok(sender)
            }
            Err(error) => {
                tracing::error!(group = %definition.key, %error, "a group cannot be loaded");
                Err(error.to_string())
            }
        };
        let key = definition.key.clone();
        let running = Running { definition, mailbox, unreadable: None };
        self.inner.groups.write().by_key.insert(key, running);
    }

    /// Starts a group again should its task panic.
    fn watch(&self, key: GroupKey, task: JoinHandle<()>) {
        // Weak: what waits here must not keep a store open that was closed.
        let inner = Arc::downgrade(&self.inner);
        let here = move || inner.upgrade().map(|inner| Persistent { inner });
        let began = self.inner.journal.clock().monotonic();
        tokio::spawn(async move {
            if !task.await.is_err_and(|ended| ended.is_panic()) {
                return;
            }
            tracing::error!(
                group = %key,
                "a group's task ended unexpectedly and is started again; this is a mistake in \
                 daybook, report it"
            );
            let Some(persistent) = here() else { return };
            let ran = persistent.inner.journal.clock().monotonic().saturating_sub(began);
            if ran < RESTART_PAUSE {
                persistent.fail(&key);
                drop(persistent);
                tokio::time::sleep(RESTART_PAUSE).await;
            }
            if let Some(persistent) = here() {
                persistent.start_again(key).await;
            }
        });
    }

    /// Says of a group whose task has ended that it has.
    fn fail(&self, key: &GroupKey) {
        if let Some(running) = self.inner.groups.write().by_key.get_mut(key)
            && running.is_over()
        {
            running.mailbox =
                Err("its task ended unexpectedly; it is started again in a moment".to_owned());
        }
    }

    /// Starts a group whose task has ended, unless somebody has changed it meanwhile.
    fn start_again(self, key: GroupKey) -> BoxFuture<'static, ()> {
        async move {
            let _changes = self.inner.changes.lock().await;
            let definition = {
                let groups = self.inner.groups.read();
                let over = groups.by_key.get(&key).filter(|running| running.is_over());
                over.filter(|_| !groups.stopped).map(|running| running.definition.clone())
            };
            if let Some(definition) = definition {
                self.run(definition).await;
            }
        }
        .boxed()
    }

    pub(super) async fn end(&self, key: &GroupKey, ending: Ending) {
        let Some(running) = self.inner.groups.write().by_key.remove(key) else { return };
        end(running, ending).await;
    }

    pub(super) async fn end_all(&self, ending: Ending) {
        let all = std::mem::take(&mut self.inner.groups.write().by_key);
        join_all(all.into_values().map(|running| end(running, ending))).await;
    }

    /// Writes all settings, with `definition` in the place of those of `key`.
    pub(super) async fn keep(
        &self,
        revision: &mut Option<Revision>,
        key: &GroupKey,
        definition: Option<&Definition>,
    ) -> Result<(), GroupError> {
        let failed = |error: JournalError| GroupError::failed(key, error);
        let document = {
            let groups = self.inner.groups.read();
            let others = groups.by_key.values().filter(|other| other.definition.key != *key);
            let entries = others.map(Running::entry).chain(definition.map(config::encode_entry));
            let entries = entries.chain(groups.strays.iter().cloned()).collect();
            config::encode(entries, self.inner.journal.clock().now(), UPDATED_BY)
        };
        if document.len() > CONFIG_SIZE_MAX {
            let size = document.len();
            let reason = format!("all settings have {size} bytes; the limit is {CONFIG_SIZE_MAX}");
            return Err(GroupError::failed(key, reason));
        }
        let written = self.inner.journal.put_config(*revision, document).await.map_err(failed)?;
        *revision = Some(written);
        Ok(())
    }

    pub(super) fn definition(&self, key: &GroupKey) -> Result<Definition, GroupError> {
        let groups = self.inner.groups.read();
        if groups.stopped {
            return Err(GroupError::Stopping);
        }
        match groups.by_key.get(key) {
            Some(running) => Ok(running.definition.clone()),
            None => Err(GroupError::Missing(key.clone())),
        }
    }

    fn mailbox(&self, key: &GroupKey) -> Result<mpsc::Sender<Command>, GroupError> {
        let groups = self.inner.groups.read();
        if groups.stopped {
            return Err(GroupError::Stopping);
        }
        match groups.by_key.get(key).map(|running| &running.mailbox) {
            Some(Ok(mailbox)) => Ok(mailbox.clone()),
            Some(Err(reason)) => Err(GroupError::failed(key, reason)),
            None => Err(GroupError::Missing(key.clone())),
        }
    }

    /// Refuses a group whose settings cannot be used: its filter, which changes keep, is not known.
    pub(super) fn usable(&self, key: &GroupKey) -> Result<(), GroupError> {
        match self.inner.groups.read().by_key.get(key) {
            Some(Running { unreadable: Some(_), mailbox: Err(reason), .. }) => {
                Err(GroupError::failed(key, reason))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn tell(&self, key: &GroupKey, command: Command) -> Result<(), GroupError> {
        if self.mailbox(key)?.send(command).await.is_ok() {
            return Ok(());
        }
        // It was changed or deleted since, or its task ended unexpectedly.
        self.settled(key).await;
        self.definition(key)?;
        Err(GroupError::Dropped(key.clone()))
    }

    pub(super) async fn ask<T>(
        &self,
        key: &GroupKey,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, GroupError> {
        let (answer, answered) = oneshot::channel();
        self.tell(key, command(answer)).await?;
        answered.await.map_err(|_ended| GroupError::Dropped(key.clone()))
    }

    pub(super) async fn asked(&self, key: &GroupKey, by: Asker) -> Result<GroupInfo, GroupError> {
        let asking = self.ask(key, |answer| Command::Info { by, answer });
        let asked = tokio::time::timeout(INFO_WAIT_MAX, asking).await;
        asked.unwrap_or_else(|_late| Err(GroupError::failed(key, "the group does not answer")))
    }
}

async fn end(running: Running, ending: Ending) {
    let Ok(mailbox) = running.mailbox else { return };
    let (done, ended) = oneshot::channel();
    if mailbox.send(Command::Stop { ending, done }).await.is_ok() {
        // A task that ended otherwise has dropped its end.
        let _ = ended.await;
    }
}
