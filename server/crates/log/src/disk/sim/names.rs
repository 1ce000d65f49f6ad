//! The simulated directory: which names are durable, which changes a power cut may undo.
//!
//! Changes to one name survive in order: none without those before it. Changes to different names
//! survive independently. A rename is one change to two names: both of its effects, or neither.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::file::{Fate, forsake, settle};
use super::{CrashMode, Rng};

/// Which file a name means.
pub(super) type InodeId = u64;

type Names = BTreeMap<Arc<str>, InodeId>;

#[derive(Clone, Debug)]
enum Change {
    Link { name: Arc<str>, inode: InodeId },
    Unlink { name: Arc<str> },
    Rename { from: Arc<str>, to: Arc<str>, inode: InodeId },
}

impl Change {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Link { name, inode } => {
                names.insert(Arc::clone(name), *inode);
            }
            Self::Unlink { name } => {
                names.remove(name);
            }
            Self::Rename { from, to, inode } => {
                names.remove(from);
                names.insert(Arc::clone(to), *inode);
            }
        }
    }

    /// The names it changes; one that changes a single name gives it twice.
    const fn names(&self) -> [&Arc<str>; 2] {
        match self {
            Self::Link { name, .. } | Self::Unlink { name } => [name, name],
            Self::Rename { from, to, .. } => [from, to],
        }
    }
}

/// The directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Directory {
    current: Names,
    durable: Names,
    changes: Vec<(Change, Fate)>,
}

impl Directory {
    pub(super) fn get(&self, name: &str) -> Option<InodeId> {
        self.current.get(name).copied()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = (&Arc<str>, InodeId)> {
        self.current.iter().map(|(name, &inode)| (name, inode))
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.current);
        self.changes.push((change, Fate::Pending));
    }

    /// Gives `inode` the name, which nothing has.
    pub(super) fn link(&mut self, name: Arc<str>, inode: InodeId) {
        self.change(Change::Link { name, inode });
    }

    pub(super) fn unlink(&mut self, name: &str) {
        self.change(Change::Unlink { name: name.into() });
    }

    pub(super) fn rename(&mut self, from: &str, to: Arc<str>, inode: InodeId) {
        if *from != *to {
            self.change(Change::Rename { from: from.into(), to, inode });
        }
    }

    pub(super) fn sync(&mut self) {
        if settle(self.changes.iter_mut().map(|(_, fate)| fate)) {
            self.changes.clear();
            self.durable.clone_from(&self.current);
        }
    }

    pub(super) fn fail_sync(&mut self) {
        forsake(self.changes.iter_mut().map(|(_, fate)| fate));
    }

    /// The power goes.
    pub(super) fn crash(&mut self, mode: CrashMode, rng: &mut Rng) {
        let mut names = std::mem::take(&mut self.durable);
        // Names of which a change was lost; later ones have nothing to follow.
        let mut lost: BTreeSet<Arc<str>> = BTreeSet::new();
        for (change, fate) in std::mem::take(&mut self.changes) {
            let certain = fate == Fate::Durable || mode.keeps_names();
            let possible = mode == CrashMode::Random
                && change.names().iter().all(|name| !lost.contains(*name));
            if certain || (possible && rng.chance(1, 2)) {
                change.apply(&mut names);
                for name in change.names() {
                    lost.remove(name);
                }
            } else {
                lost.extend(change.names().map(Arc::clone));
            }
        }
        self.current = names.clone();
        self.durable = names;
    }

    /// Makes `name` mean `inode`, durably, behind the store's back.
    pub(super) fn set(&mut self, name: Arc<str>, inode: InodeId) {
        self.durable.insert(Arc::clone(&name), inode);
        self.current.insert(name, inode);
    }

    /// All files that have a name, or may have one after a power cut.
    pub(super) fn inodes(&self) -> BTreeSet<InodeId> {
        let changed = self.changes.iter().filter_map(|(change, _)| match change {
            Change::Link { inode, .. } | Change::Rename { inode, .. } => Some(*inode),
            Change::Unlink { .. } => None,
        });
        self.current.values().chain(self.durable.values()).copied().chain(changed).collect()
    }
}
