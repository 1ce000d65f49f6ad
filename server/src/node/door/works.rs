//! How the store does: what says nothing of any stream, and so needs no caller.

use std::net::SocketAddr;
use std::sync::Arc;

use daybook_log::backup::{Backup, Extent};
use daybook_model::{Epoch, Position};
use daybook_store::observe::Times;
use daybook_store::{About, Health, Scavenge, Stats, Store};

use super::Door;
use crate::security::Caller;
use crate::security::rules::Rules;

/// How the store does: what says nothing of any stream. Who may ask for it, the routes say. A clone
/// is another handle.
#[derive(Clone)]
pub struct Works {
    pub(super) store: Store,
}

impl Works {
    /// Those of `store`.
    #[must_use]
    pub fn new(store: Store) -> Works {
        Works { store }
    }

    /// As [`Store::about`].
    #[must_use]
    pub fn about(&self) -> About {
        self.store.about()
    }

    /// As [`Store::committed`].
    #[must_use]
    pub fn committed(&self) -> Position {
        self.store.committed()
    }

    /// As [`Store::epoch_at`].
    #[must_use]
    pub fn epoch_at(&self, position: Position) -> Option<Epoch> {
        self.store.epoch_at(position)
    }

    /// As [`Store::health`].
    #[must_use]
    pub fn health(&self) -> Health {
        self.store.health()
    }

    /// As [`Store::accept_clock`].
    pub fn accept_clock(&self) {
        self.store.accept_clock();
    }

    /// As [`Store::times`].
    #[must_use]
    pub fn times(&self) -> &Times {
        self.store.times()
    }

    /// As [`Store::stats`].
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.store.stats()
    }

    /// As [`Store::scavenge`].
    #[must_use]
    pub fn scavenge(&self) -> &Scavenge {
        self.store.scavenge()
    }

    /// As [`Store::extent`].
    #[must_use]
    pub fn extent(&self) -> Extent {
        self.store.extent()
    }

    /// As [`Store::backup`]. Blocks.
    ///
    /// # Errors
    /// As there.
    pub fn backup(&self) -> Result<Backup, daybook_log::OpenError> {
        self.store.backup()
    }

    /// The store, as `caller` may use it, who asks from `peer`.
    pub(in crate::node) fn door(
        &self,
        rules: Arc<Rules>,
        caller: Caller,
        peer: Option<SocketAddr>,
    ) -> Door {
        Door { works: self.clone(), rules, caller, peer }
    }
}
