//! The groups that a node knows: those of the document of all settings, and what it has besides.
//!
//! INVARIANT: an entry of the settings that cannot be used is kept as it is in the document, however
//! often that is written, until its group is deleted.

use std::collections::BTreeMap;

use daybook_store::persistent::Settings;
use serde_json::Value;
use tokio::sync::mpsc;

use super::GROUPS_MAX;
use super::config::{self, Kept};
use super::definition::{Definition, Start};
use super::host::Command;
use super::key::GroupKey;

/// The groups of a node.
#[derive(Default)]
pub(super) struct Groups {
    pub by_key: BTreeMap<GroupKey, Running>,
    /// Entries of the settings that no group can be made of, nor named by.
    pub strays: Vec<Value>,
    /// Why there are none, if they could not be loaded.
    pub fault: Option<String>,
    pub stopped: bool,
}

/// A group of the document.
pub(super) struct Running {
    pub definition: Definition,
    pub task: Task,
    /// Its entry in the settings, if that could not be used.
    pub unreadable: Option<Value>,
}

/// What does a group's work.
pub(super) enum Task {
    /// One that hears this.
    Runs(mpsc::Sender<Command>),
    /// None, and why.
    Failed(String),
    /// One that ends, or is not loaded yet.
    Changing,
}

impl Running {
    pub fn changing(definition: Definition) -> Running {
        Running { definition, task: Task::Changing, unreadable: None }
    }

    fn unreadable(key: GroupKey, json: Value, reason: &str) -> Running {
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
        Running { definition, task: Task::Failed(reason), unreadable: Some(json) }
    }

    pub fn is_changing(&self) -> bool {
        matches!(self.task, Task::Changing)
    }

    /// Whether its task has ended, or never began.
    pub fn is_over(&self) -> bool {
        let over = match &self.task {
            Task::Runs(mailbox) => mailbox.is_closed(),
            Task::Failed(_) => true,
            Task::Changing => false,
        };
        over && self.unreadable.is_none()
    }

    pub fn entry(&self) -> Value {
        self.unreadable.clone().unwrap_or_else(|| config::encode_entry(&self.definition))
    }
}

/// The groups of a document, and the entries that are none.
pub(super) fn sorted(mut entries: Vec<Kept>) -> (BTreeMap<GroupKey, Running>, Vec<Value>) {
    let (mut by_key, mut strays) = (BTreeMap::new(), Vec::new());
    // Of two entries of one group the one that can be used counts.
    entries.sort_by_key(|entry| matches!(entry, Kept::Unreadable { .. }));
    for entry in entries {
        let running = match entry {
            Kept::Group(definition) => Running::changing(definition),
            Kept::Unreadable { key, json, reason } => {
                tracing::error!(reason, "the settings of a persistent subscription cannot be used");
                match key {
                    Some(key) => Running::unreadable(key, json, &reason),
                    None => {
                        strays.push(json);
                        continue;
                    }
                }
            }
        };
        let group = running.definition.key.clone();
        if by_key.contains_key(&group) {
            tracing::error!(%group, "the settings have two entries of the group: one is not used");
            strays.push(running.entry());
        } else if by_key.len() >= GROUPS_MAX {
            tracing::error!(%group, "there are {GROUPS_MAX} groups already: it is not started");
            strays.push(running.entry());
        } else {
            by_key.insert(group, running);
        }
    }
    (by_key, strays)
}
