//! What every request sees of the node it reached.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use daybook_model::{Clock, Entropy, Timestamp};
use daybook_store::snapshot::{SnapshotStats, SnapshotStore};
use daybook_store::{About, Health};
use uuid::Uuid;

use super::door::{Door, Works};
use super::life::Life;
use crate::backup::Archiver;
use crate::builtin::Builtin;
use crate::config::Setting;
use crate::connectors::Running;
use crate::ledger::Ledger;
use crate::memory::Memory;
use crate::persistent::Persistent;
use crate::readside::ReadSide;
use crate::scripted::Scripted;
use crate::security::Caller;
use crate::security::Security;
use crate::security::audit::Audit;
use crate::security::gate::{Gate, Tongue};
use crate::security::rules::Rules;
use crate::telemetry::metrics::Metrics;
use crate::ui::Console;
use crate::users::Users;
use crate::verification::Verification;

/// The node's parts, as its `http` and `grpc` rooms share them. A clone is another handle.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Parts,
    endless: AtomicUsize,
    life: Life,
}

/// What a context is made of.
pub struct Parts {
    /// How the event store does.
    pub works: Works,
    /// What decides who may do what with its streams.
    pub rules: Arc<Rules>,
    /// Snapshots; none if the node keeps none.
    pub snapshots: Option<Arc<SnapshotStore>>,
    /// Accounts and transfers.
    pub ledger: Ledger,
    /// The built-in views; none if the node keeps none.
    pub read_side: Option<ReadSide>,
    /// What relays to elsewhere; none if nothing does.
    pub connectors: Option<Running>,
    /// Groups of consumers.
    pub persistent: Persistent,
    /// Who may call, once calls are asked for it.
    pub users: Users,
    /// How connections are protected, and who asks callers for who they are.
    pub security: Security,
    /// The projections that every server of the protocol has.
    pub builtin: Builtin,
    /// The projections that users write.
    pub scripted: Scripted,
    /// What reads the log again to see that it is sound.
    pub verification: Verification,
    /// What archives the log; none if nothing does.
    pub archive: Option<Archiver>,
    /// What the node was told at its start.
    pub told: Vec<Setting>,
    /// How much memory there is, and who may have it.
    pub memory: Memory,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Unguessable bytes.
    pub entropy: Arc<dyn Entropy>,
    /// Counters and histograms.
    pub metrics: Arc<Metrics>,
    /// The web console's sessions, and what its charts show.
    pub console: Arc<Console>,
    /// Where the node listens.
    pub address: SocketAddr,
    /// When it started.
    pub started: Timestamp,
    /// This run of the node.
    pub instance: Uuid,
}

/// How far the node's stop has come. Only ever advances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Running,
    /// Takes no new connection; finishes what was begun.
    Draining,
    /// What is still open is cut.
    Cut,
}

impl Context {
    pub(super) fn new(parts: Parts) -> Context {
        let life = Life::new(parts.clock.clone(), parts.metrics.clone());
        Context { inner: Arc::new(Inner { parts, endless: AtomicUsize::new(0), life }) }
    }

    /// How the event store does. What it holds is behind a door, which is a caller's: see
    /// [`Admitted`](super::Admitted).
    #[must_use]
    pub fn works(&self) -> &Works {
        &self.inner.parts.works
    }

    /// The event store, as what the node itself makes of it sees it: for routes whose own right is
    /// all that is to be asked, as that to look at the ledger.
    #[must_use]
    pub fn own_door(&self) -> Door {
        self.door(Caller::unasked(), None)
    }

    /// The event store, as `caller` may use it, who asks from `peer`.
    pub(super) fn door(&self, caller: Caller, peer: Option<SocketAddr>) -> Door {
        self.works().door(self.inner.parts.rules.clone(), caller, peer)
    }

    /// The snapshots, if the node keeps any.
    pub(super) fn snapshot_store(&self) -> Option<&Arc<SnapshotStore>> {
        self.inner.parts.snapshots.as_ref()
    }

    /// How the snapshots do, if the node keeps any.
    #[must_use]
    pub fn snapshot_stats(&self) -> Option<SnapshotStats> {
        self.snapshot_store().map(|snapshots| snapshots.stats())
    }

    /// Where actions and denials are recorded.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        self.inner.parts.rules.audit()
    }

    /// What checks the routes that answer in `tongue`.
    #[must_use]
    pub fn gate(&self, tongue: Tongue) -> Gate {
        Gate::new(self.audit().clone(), self.clock().clone(), tongue)
    }

    /// Accounts and transfers.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.inner.parts.ledger
    }

    /// The built-in views, if the node keeps any.
    #[must_use]
    pub fn read_side(&self) -> Option<&ReadSide> {
        self.inner.parts.read_side.as_ref()
    }

    /// What relays to elsewhere, if anything does.
    #[must_use]
    pub fn connectors(&self) -> Option<&Running> {
        self.inner.parts.connectors.as_ref()
    }

    /// Groups of consumers.
    #[must_use]
    pub fn persistent(&self) -> &Persistent {
        &self.inner.parts.persistent
    }

    /// Who may call, once calls are asked for it.
    #[must_use]
    pub fn users(&self) -> &Users {
        &self.inner.parts.users
    }

    /// How connections are protected, and who asks callers for who they are.
    #[must_use]
    pub fn security(&self) -> &Security {
        &self.inner.parts.security
    }

    /// The projections that every server of the protocol has.
    #[must_use]
    pub fn builtin(&self) -> &Builtin {
        &self.inner.parts.builtin
    }

    /// The projections that users write.
    #[must_use]
    pub fn scripted(&self) -> &Scripted {
        &self.inner.parts.scripted
    }

    /// What reads the log again to see that it is sound.
    #[must_use]
    pub fn verification(&self) -> &Verification {
        &self.inner.parts.verification
    }

    /// What archives the log, if anything does.
    #[must_use]
    pub fn archive(&self) -> Option<&Archiver> {
        self.inner.parts.archive.as_ref()
    }

    /// The web console's sessions, and what its charts show.
    #[must_use]
    pub fn console(&self) -> &Arc<Console> {
        &self.inner.parts.console
    }

    /// What the node was told at its start, and by whom.
    #[must_use]
    pub fn told(&self) -> &[Setting] {
        &self.inner.parts.told
    }

    /// How much memory there is, and who may have it.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.inner.parts.memory
    }

    /// The time.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.parts.clock
    }

    /// An id that nobody can guess: a UUID of version 4.
    #[must_use]
    pub fn new_id(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.inner.parts.entropy.bytes()).into_uuid()
    }

    /// Counters and histograms.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.parts.metrics
    }

    /// What identifies the store.
    #[must_use]
    pub fn about(&self) -> About {
        self.works().about()
    }

    /// Where the node listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.inner.parts.address
    }

    /// When the node started.
    #[must_use]
    pub fn started(&self) -> Timestamp {
        self.inner.parts.started
    }

    /// This run of the node: another after each start.
    #[must_use]
    pub fn instance(&self) -> Uuid {
        self.inner.parts.instance
    }

    /// The host and port under which a client reaches this node, given the `authority` it dialled
    /// (the `Host` header, or `:authority`). Clients connect to exactly what gossip tells them, so
    /// the name that worked is the right answer, whatever address the listener is bound to.
    #[must_use]
    pub fn reached_as(&self, authority: Option<&str>) -> (String, u16) {
        let address = self.address();
        let dialled = authority.and_then(|text| text.parse::<http::uri::Authority>().ok());
        match dialled {
            Some(dialled) => {
                let host = dialled.host().trim_matches(['[', ']']).to_owned();
                (host, dialled.port_u16().unwrap_or(address.port()))
            }
            None => (address.ip().to_string(), address.port()),
        }
    }

    /// What its listener needs of it.
    #[must_use]
    pub fn life(&self) -> &Life {
        &self.inner.life
    }

    /// How far the node's stop has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.inner.life.phase()
    }

    pub(super) fn advance(&self, to: Phase) {
        self.inner.life.advance(to);
    }

    /// Resolves when the node has come as far as `phase`.
    pub async fn reached(&self, phase: Phase) {
        self.inner.life.reached(phase).await;
    }

    /// Declares a call that has no end of its own: a subscription, or a stream of batches. Hold
    /// the answer as long as the call lasts: a stop does not wait for such calls to finish.
    #[must_use]
    pub fn endless(&self) -> Endless {
        self.inner.endless.fetch_add(1, Ordering::Relaxed);
        Endless { context: self.clone() }
    }

    /// How many calls without an end are open.
    #[must_use]
    pub fn endless_calls(&self) -> usize {
        self.inner.endless.load(Ordering::Relaxed)
    }

    /// What keeps the node from being ready, part by part; empty when it is.
    #[must_use]
    pub fn not_ready(&self) -> Vec<(&'static str, String)> {
        let mut parts = Vec::new();
        if self.phase() != Phase::Running {
            parts.push(("node", "stopping".to_owned()));
        }
        let health = self.works().health();
        if health != Health::Writable {
            parts.push(("store", describe(&health)));
        }
        parts
    }
}

/// The health of the store in an operator's words.
#[must_use]
pub fn describe(health: &Health) -> String {
    match health {
        Health::Writable => "writable".to_owned(),
        Health::DiskFull { reason } => format!(
            "the disk is full, or takes no other segment: free space, appends then resume by \
             themselves ({reason})"
        ),
        Health::ClockLeapt { seconds } => format!(
            "the clock leapt forward by {seconds} s: check the machine's clock, then accept it \
             with POST /admin/clock/accept, or restart"
        ),
        Health::Poisoned { reason } => {
            format!("a write or sync failed, appends are refused until a restart: {reason}")
        }
        Health::Closed => "the store is closed".to_owned(),
    }
}

/// A call without an end; see [`Context::endless`].
pub struct Endless {
    context: Context,
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.context.inner.endless.fetch_sub(1, Ordering::Relaxed);
    }
}
