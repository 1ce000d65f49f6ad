//! The groups that run: loaded, found by their keys, ended, started again.
//!
//! A group whose task ends by a panic is started again from what it has kept, at once if it ran for
//! a while, else after a pause: what made it panic may do so again.
//!
//! INVARIANT: groups enter and leave with the document, in the turn that wrote or read it: one whose
//! task ends, is loaded, or cannot be, stays and says so.

use std::sync::Arc;
use std::time::Duration;

use daybook_model::Revision;
use futures_util::future::{BoxFuture, FutureExt as _, join_all};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::config;
use super::consumer::Ending;
use super::definition::Definition;
use super::error::GroupError;
use super::host::{Asker, Command, Host, MAILBOX_SIZE};
use super::info::GroupInfo;
use super::journal::JournalError;
use super::key::GroupKey;
use super::known::{Groups, Running, Task, sorted};
use super::{CONFIG_SIZE_MAX, Persistent, UPDATED_BY};

/// How long a busy group may take to say how it stands.
const INFO_WAIT_MAX: Duration = Duration::from_secs(5);
/// How long a group must have run to be started again at once after a panic, and how long it waits
/// otherwise: one that always panics costs a line in the log a second.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

impl Persistent {
    /// Reads the document, and begins anew with its groups. Those that are there go on as they are if
    /// it cannot be read; the answer is why.
    pub(super) async fn load(&self, revision: &mut Option<Revision>) -> Result<(), String> {
        let loaded = match self.inner.journal.config().await {
            Ok(None) => Ok((None, Vec::new())),
            Ok(Some((at, document))) => {
                config::decode(&document).map(|entries| (Some(at), entries))
            }
            Err(failed) => Err(failed.to_string()),
        };
        let (at, entries) = match loaded {
            Ok(loaded) => loaded,
            Err(reason) => {
                tracing::error!(reason, "the settings of persistent subscriptions cannot be read");
                self.inner.groups.write().fault = Some(reason.clone());
                return Err(reason);
            }
        };
        *revision = at;
        self.end_all(Ending::Dropped).await;
        let (by_key, strays) = sorted(entries);
        let readable = by_key.values().filter(|running| running.unreadable.is_none());
        let definitions: Vec<_> = readable.map(|running| running.definition.clone()).collect();
        {
            let mut groups = self.inner.groups.write();
            *groups = Groups { by_key, strays, fault: None, stopped: groups.stopped };
        }
        for definition in definitions {
            self.run(definition).await;
        }
        Ok(())
    }

    /// Starts the task of a group.
    pub(super) async fn run(&self, definition: Definition) {
        let (sender, receiver) = mpsc::channel(MAILBOX_SIZE);
        let (journal, held) = (self.inner.journal.clone(), self.inner.budget.begin());
        let ends = (receiver, sender.downgrade());
        let task = match Host::load(journal, definition.clone(), ends, held).await {
            Ok(host) => {
                self.watch(definition.key.clone(), tokio::spawn(host.run()));
                Task::Runs(sender)
            }
            Err(error) => {
                tracing::error!(group = %definition.key, %error, "a group cannot be loaded");
                Task::Failed(error.to_string())
            }
        };
        let key = definition.key.clone();
        let running = Running { definition, task, unreadable: None };
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
            let reason = "its task ended unexpectedly; it is started again in a moment";
            running.task = Task::Failed(reason.to_owned());
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

    /// Says of the groups whose change ended before it was done that they do not work.
    pub(super) fn give_up(&self) {
        let mut groups = self.inner.groups.write();
        for running in groups.by_key.values_mut().filter(|running| running.is_changing()) {
            let reason = "its change ended unexpectedly; restart the persistent subscriptions";
            running.task = Task::Failed(reason.to_owned());
        }
    }

    /// Ends all tasks. Their groups stay.
    pub(super) async fn end_all(&self, ending: Ending) {
        let tasks: Vec<Task> = {
            let mut groups = self.inner.groups.write();
            let running = groups.by_key.values_mut().map(|running| &mut running.task);
            let running = running.filter(|task| matches!(task, Task::Runs(_)));
            running.map(|task| std::mem::replace(task, Task::Changing)).collect()
        };
        join_all(tasks.into_iter().map(|task| end(task, ending))).await;
    }

    /// Writes all settings, with `definition` in the place of those of `key`. Answers the task that
    /// is to end.
    pub(super) async fn keep(
        &self,
        revision: &mut Option<Revision>,
        key: &GroupKey,
        definition: Option<&Definition>,
    ) -> Result<Task, GroupError> {
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
        // Nothing is waited for between the two: what is written is known.
        let mut groups = self.inner.groups.write();
        let before = match definition {
            Some(definition) => {
                groups.by_key.insert(key.clone(), Running::changing(definition.clone()))
            }
            None => groups.by_key.remove(key),
        };
        Ok(before.map_or(Task::Changing, |running| running.task))
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
        match groups.by_key.get(key).map(|running| &running.task) {
            Some(Task::Runs(mailbox)) => Ok(mailbox.clone()),
            Some(Task::Failed(reason)) => Err(GroupError::failed(key, reason)),
            Some(Task::Changing) => Err(GroupError::Dropped(key.clone())),
            None => Err(GroupError::Missing(key.clone())),
        }
    }

    /// Refuses a group whose settings cannot be used: its filter, which changes keep, is not known.
    pub(super) fn usable(&self, key: &GroupKey) -> Result<(), GroupError> {
        match self.inner.groups.read().by_key.get(key) {
            Some(Running { unreadable: Some(_), task: Task::Failed(reason), .. }) => {
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

pub(super) async fn end(task: Task, ending: Ending) {
    let Task::Runs(mailbox) = task else { return };
    let (done, ended) = oneshot::channel();
    if mailbox.send(Command::Stop { ending, done }).await.is_ok() {
        // A task that ended otherwise has dropped its end.
        let _ = ended.await;
    }
}
