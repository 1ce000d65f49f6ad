//! Changes of the groups: made, set up otherwise, deleted, all loaded anew.
//!
//! ```text
//!   a request ── its turn ──> a task of its own:  the document ─> the old task ends ─> the new runs
//!       └───────────── awaits the answer ─────────────────────────────────────────────────┘
//! ```
//!
//! A change takes several steps, and its client may go between any two: a deadline passes, somebody
//! presses a key. Whose client goes while it waits for its turn has changed nothing; once it has
//! begun it is done to its end, whoever still wants to know.
//!
//! INVARIANTS
//! - One change at a time. The turn is taken before the task is begun, so however many clients come
//!   and go, there is one such task.
//! - The groups that are known are those of the document, at each step: the document is written from
//!   them, and what is not known is lost with the next change of any group.

use std::panic::AssertUnwindSafe;

use daybook_model::Revision;
use futures_util::future::FutureExt as _;
use tokio::sync::OwnedMutexGuard;

use super::consumer::Ending;
use super::definition::{Definition, Start};
use super::error::GroupError;
use super::key::{GroupKey, Source};
use super::running::end;
use super::{GROUPS_MAX, Persistent, place};

/// What stands for the name of a group in what is said of all of them.
const ALL_GROUPS: &str = "*";

/// What is to be changed.
enum Change {
    Create(Definition),
    Update(Definition),
    Delete(GroupKey),
    Restart,
}

impl Change {
    /// Whose change it is said to be if it fails.
    fn key(&self) -> GroupKey {
        match self {
            Change::Create(definition) | Change::Update(definition) => definition.key.clone(),
            Change::Delete(key) => key.clone(),
            Change::Restart => all_groups(),
        }
    }
}

/// Held by the one change that is being made: the revision of the document.
type Turn = OwnedMutexGuard<Option<Revision>>;

impl Persistent {
    /// Makes a group.
    ///
    /// # Errors
    /// [`GroupError::Exists`]; [`GroupError::Failed`] says what is wrong with the settings.
    pub async fn create(&self, definition: Definition) -> Result<(), GroupError> {
        self.change(Change::Create(definition)).await
    }

    /// Changes a group's settings. Its consumers are dropped, and it goes on from its checkpoint.
    ///
    /// # Errors
    /// [`GroupError::Missing`]; [`GroupError::Failed`] says what is wrong with the settings.
    pub async fn update(&self, definition: Definition) -> Result<(), GroupError> {
        self.change(Change::Update(definition)).await
    }

    /// Deletes a group, its checkpoint and its parked messages.
    ///
    /// # Errors
    /// [`GroupError::Missing`]; [`GroupError::Failed`] if that cannot be written.
    pub async fn delete(&self, key: &GroupKey) -> Result<(), GroupError> {
        self.change(Change::Delete(key.clone())).await
    }

    /// Drops all consumers, and loads all groups anew.
    ///
    /// # Errors
    /// [`GroupError::Failed`] if the settings cannot be read; then the groups go on as they are.
    pub async fn restart(&self) -> Result<(), GroupError> {
        self.change(Change::Restart).await
    }

    async fn change(&self, change: Change) -> Result<(), GroupError> {
        let turn = self.inner.changes.clone().lock_owned().await;
        let task = tokio::spawn(self.clone().carry_out(change, turn));
        // Nothing but the end of the process ends it before it is done.
        task.await.unwrap_or(Err(GroupError::Stopping))
    }

    async fn carry_out(self, change: Change, mut turn: Turn) -> Result<(), GroupError> {
        let key = change.key();
        let steps = async {
            match change {
                Change::Create(definition) => self.begin(&mut turn, definition).await,
                Change::Update(definition) => self.replace(&mut turn, definition).await,
                Change::Delete(key) => self.remove(&mut turn, &key).await,
                Change::Restart => self.begin_anew(&mut turn).await,
            }
        };
        AssertUnwindSafe(steps).catch_unwind().await.unwrap_or_else(|_panic| {
            tracing::error!(
                group = %key,
                "a change of persistent subscriptions ended unexpectedly; this is a mistake in \
                 daybook, report it"
            );
            self.give_up();
            let reason = "the change ended unexpectedly; look at what there is and try again";
            Err(GroupError::failed(&key, reason))
        })
    }

    async fn begin(
        &self,
        revision: &mut Option<Revision>,
        mut definition: Definition,
    ) -> Result<(), GroupError> {
        let key = definition.key.clone();
        self.check(&definition)?;
        {
            let groups = self.inner.groups.read();
            if groups.by_key.contains_key(&key) {
                return Err(GroupError::Exists(key));
            }
            if groups.by_key.len() >= GROUPS_MAX {
                let reason = format!("there are {GROUPS_MAX} groups already; delete one");
                return Err(GroupError::failed(&key, reason));
            }
        }
        definition.begins_at = self.begins_at(&definition).await?;
        // What a group of the same name may have left behind.
        let forgotten = self.inner.journal.forget(&key).await;
        forgotten.map_err(|error| GroupError::failed(&key, error))?;
        self.keep(revision, &key, Some(&definition)).await?;
        self.run(definition).await;
        Ok(())
    }

    async fn replace(
        &self,
        revision: &mut Option<Revision>,
        mut definition: Definition,
    ) -> Result<(), GroupError> {
        let key = definition.key.clone();
        let before = self.definition(&key)?;
        self.usable(&key)?;
        definition.filter = before.filter;
        self.check(&definition)?;
        definition.begins_at = match (definition.start, before.start) {
            (Start::End, Start::End) => before.begins_at,
            _ => self.begins_at(&definition).await?,
        };
        let task = self.keep(revision, &key, Some(&definition)).await?;
        end(task, Ending::Dropped).await;
        self.run(definition).await;
        Ok(())
    }

    async fn remove(
        &self,
        revision: &mut Option<Revision>,
        key: &GroupKey,
    ) -> Result<(), GroupError> {
        self.definition(key)?;
        self.changeable(key)?;
        let task = self.keep(revision, key, None).await?;
        end(task, Ending::Deleted).await;
        let forgotten = self.inner.journal.forget(key).await;
        forgotten.map_err(|error| GroupError::failed(key, error))
    }

    async fn begin_anew(&self, revision: &mut Option<Revision>) -> Result<(), GroupError> {
        if self.inner.groups.read().stopped {
            return Err(GroupError::Stopping);
        }
        self.load(revision).await.map_err(|reason| unread(&all_groups(), &reason))
    }

    /// Refuses changes while they cannot be kept.
    fn changeable(&self, key: &GroupKey) -> Result<(), GroupError> {
        if self.inner.groups.read().stopped {
            return Err(GroupError::Stopping);
        }
        self.fault().map_or(Ok(()), |reason| Err(unread(key, &reason)))
    }

    fn check(&self, definition: &Definition) -> Result<(), GroupError> {
        let key = &definition.key;
        self.changeable(key)?;
        if let Some(problem) = key.problem() {
            return Err(GroupError::failed(key, problem));
        }
        definition.settings.check().map_err(|error| GroupError::failed(key, error))?;
        if let Some(filter) = &definition.filter {
            filter.compile().map_err(|error| GroupError::failed(key, error))?;
        }
        Ok(())
    }

    /// The number that a group begins with.
    async fn begins_at(&self, definition: &Definition) -> Result<u64, GroupError> {
        let (key, journal) = (&definition.key, &self.inner.journal);
        match (definition.start, &key.source) {
            (Start::First, _) => Ok(0),
            (Start::At(revision), Source::Stream(_)) => Ok(revision),
            (Start::At(number), Source::All) => {
                let position = place::written(journal.store(), number);
                position.map(|position| position.0).ok_or_else(|| {
                    let reason = format!("the log has no position {number} to begin at");
                    GroupError::failed(key, reason)
                })
            }
            (Start::End, source) => {
                let end = journal.end_of(source).await;
                end.map_err(|error| GroupError::failed(key, error))
            }
        }
    }
}

fn all_groups() -> GroupKey {
    GroupKey { source: Source::All, group: ALL_GROUPS.to_owned() }
}

fn unread(key: &GroupKey, reason: &str) -> GroupError {
    let reason = format!("the settings that are kept cannot be read: {reason}");
    GroupError::failed(key, reason)
}
