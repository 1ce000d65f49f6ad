//! One running server: a store, a listener, and the connections in between.
//!
//! ```text
//!   start   open the store (blocks, on a thread of its own) ─> take up the transfers that were
//!           under way ─> start the views and connectors, and wait for none ─> the first
//!           administrator, if nobody is known ─> routes ─> listen
//!   serve   listener ─ accept ─> connection ─ HTTP/1.1 or HTTP/2 ─> entrance ─> grpc | http
//!   stop    ready = 503, no new connections ─> what was begun is finished; a transfer that waits
//!           for something rests until the next start ─> views, connectors and groups of consumers
//!           write how far they are and let go of the store ─>
//!           store.close(), which ends subscriptions
//!           ─> what is still open at the deadline is cut
//! ```
//!
//! The listener is an argument, as is the moment to stop: tests run nodes on port 0 in their own
//! process, and only `cli::serve` knows of signals.

mod acks;
pub mod admitted;
pub mod answers;
pub mod context;
pub mod door;
pub mod entrance;
pub mod hosts;
pub mod life;
pub mod listener;
pub mod listeners;
pub mod shares;
pub mod tls;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use daybook_log::Recovery;
use daybook_log::disk::Disk;
use daybook_log::disk::os::{Access, OpenDiskError, OsDisk};
use daybook_model::repository::LoadError;
use daybook_model::{Clock, Entropy, SystemClock, SystemEntropy};
use daybook_projections::connect::{self, ConnectorSettings};
use daybook_projections::postgres::SettingsError;
use daybook_store::scavenge::Schedule;
use daybook_store::snapshot::{Identity, SnapshotStore};
use daybook_store::{Environment, OpenError, Options, Store, WithSnapshots};
use tokio::net::TcpListener;

pub use admitted::Admitted;
pub use context::{Context, Endless, Phase};
pub use life::Life;
pub use listeners::Listeners;

use crate::backup::metrics::ArchiveMetrics;
use crate::backup::{ArchiveSettings, Archiver};
use crate::builtin::Builtin;
use crate::config::Setting;
use crate::connectors::{self, metrics::ConnectorMetrics};
use crate::ledger::{self, Ledger};
use crate::memory::Memory;
use crate::persistent::Persistent;
use crate::readside::{self, READ_MODELS_DIRECTORY, ReadSide};
use crate::scripted::Scripted;
use crate::security::audit::Audit;
use crate::security::files::FileError;
use crate::security::first_admin::{self, FirstAdmin};
use crate::security::gate::Side;
use crate::security::rules::Rules;
use crate::security::{self, Asks, Authentication, Security, Tls, Tokens};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::scavenge::ScavengeMetrics;
use crate::telemetry::trace::{self, Tracer};
use crate::ui::Console;
use crate::users::{Users, UsersError};
use crate::verification::Verification;
use context::Parts;
use door::Works;
use entrance::Entrance;
use hosts::Hosts;
use listener::{Bounds, Connections};
use listeners::{Listening, OPERATORS_CONNECTIONS_MAX, OPERATORS_PER_ADDRESS_MAX};

/// How often a stop looks whether calls are still being answered.
const DRAIN_LOOK: Duration = Duration::from_millis(5);
/// Time a stop gives the transfers that are under way. Far more than they take, unless they wait
/// for somebody else.
const TRANSFERS_WAIT_MAX: Duration = Duration::from_secs(1);
/// Time a stop waits for calls that were cut to let go of the store.
const RELEASE_WAIT_MAX: Duration = Duration::from_millis(500);
/// Where in the data directory snapshots are kept. Disposable: it may be deleted at any time
/// while the server is stopped.
pub const SNAPSHOT_DIRECTORY: &str = "snapshots";

/// How a node is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data directory; made if it does not exist.
    pub data: PathBuf,
    /// Connections that may be open at a time; others wait to be accepted.
    pub connections_max: usize,
    /// What one client may take of the listener.
    pub bounds: Bounds,
    /// Names by which it may be called though it asks nobody who they are; see [`hosts`].
    pub host_names: Vec<String>,
    /// The store's own settings.
    pub options: Options,
    /// How much memory there is, and who may have it. It outranks what `options` and `ledger` say
    /// of memory.
    pub memory: Memory,
    /// The ledger's.
    pub ledger: ledger::Options,
    /// Where read models are kept, if anywhere.
    pub read_models: readside::Place,
    /// What is relayed to elsewhere.
    pub connectors: Vec<ConnectorSettings>,
    /// When scavenges begin, and how fast they are.
    pub scavenge: Schedule,
    /// Where the log is archived, if anywhere.
    pub archive: Option<ArchiveSettings>,
    /// How it protects itself.
    pub security: security::Settings,
    /// The administrator that is made where everyone is asked and nobody is known, if one is.
    pub first_admin: Option<FirstAdmin>,
    /// Where traces are sent, if anywhere.
    pub traces: Option<trace::Settings>,
    /// What it was told, and by whom: for people to look at.
    pub told: Vec<Setting>,
}

impl Config {
    /// The defaults, with data in `data`.
    #[must_use]
    pub fn in_directory(data: impl Into<PathBuf>) -> Config {
        Config {
            data: data.into(),
            connections_max: listener::CONNECTIONS_MAX,
            bounds: Bounds::default(),
            host_names: Vec::new(),
            options: Options::default(),
            memory: Memory::default(),
            ledger: ledger::Options::default(),
            read_models: readside::Place::default(),
            connectors: Vec::new(),
            scavenge: Schedule::default(),
            archive: None,
            security: security::Settings::default(),
            first_admin: None,
            traces: None,
            told: Vec::new(),
        }
    }
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Disk(#[from] OpenDiskError),
    /// The store in it cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// What the ledger left under way cannot be read.
    #[error("cannot take up the transfers that were under way: {0}")]
    Ledger(#[from] LoadError),
    /// The database for the read models cannot be used as it was given.
    #[error("cannot keep read models: {0}")]
    ReadModels(#[from] SettingsError),
    /// A connector can never be run as it is configured.
    #[error(transparent)]
    Connectors(#[from] connect::StartError),
    /// Nobody could come in.
    #[error("cannot create the first administrator: {0}")]
    FirstAdmin(#[from] UsersError),
    /// A file that security rests on cannot be used.
    #[error(transparent)]
    Security(#[from] FileError),
    /// An exporter of traces can never work as it is configured.
    #[error(transparent)]
    Traces(#[from] trace::StartError),
    /// The listener has no address.
    #[error("the listening socket has no address: {0}")]
    Listener(io::Error),
    /// Opening the store panicked.
    #[error("opening the store failed unexpectedly: {0}; this is a mistake in daybook, report it")]
    Panicked(String),
}

/// What a stop left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that did not end by themselves before the deadline.
    pub connections_cut: usize,
}

/// A running server. Dropping it without [`Node::stop`] is a crash as far as its clients and its
/// store can tell.
pub struct Node {
    store: Store,
    snapshots: Option<Arc<SnapshotStore>>,
    lease: Lease,
    context: Context,
    /// For clients, and if there is one, for operators.
    listening: Vec<Listening>,
    tracer: Option<Tracer>,
    /// The password that the first administrator was given by chance, until somebody took it.
    made_password: Option<String>,
}

impl Node {
    /// Opens the store in `config.data` and serves it on `listeners`: one, or one for clients and
    /// one for operators.
    ///
    /// # Errors
    /// [`StartError`] says why the store could not be opened, and what to do.
    pub async fn start(
        config: Config,
        listeners: impl Into<Listeners>,
    ) -> Result<Node, StartError> {
        let listeners = listeners.into();
        let data = config.data.clone();
        let disk = blocking(move || OsDisk::open(&data, Access::Write)).await??;
        let caches = config.data.clone();
        let environment = Environment {
            disk: Arc::new(disk),
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
        };
        Node::start_in(environment, Some(caches), config, listeners).await
    }

    /// As [`Node::start`], on a given disk, clock and source of chance; `caches` is the directory
    /// for what is disposable: the snapshots, and the read models unless they are elsewhere. Without
    /// it there are none.
    ///
    /// # Errors
    /// [`StartError`] says why the store could not be opened, and what to do.
    pub async fn start_in(
        environment: Environment,
        caches: Option<PathBuf>,
        config: Config,
        listeners: impl Into<Listeners>,
    ) -> Result<Node, StartError> {
        let listeners = listeners.into();
        let address = listeners.clients.local_addr().map_err(StartError::Listener)?;
        let metrics = Arc::new(Metrics::new());
        // Before the store: what is wrong with a certificate is told at once.
        let tls = config.security.tls.clone();
        let tls = tls.map(|tls| Tls::load(tls, metrics.security.clone())).transpose()?;
        let tokens = config.security.tokens.clone();
        let clock = environment.clock.clone();
        let tokens = tokens.map(|path| Tokens::load(path, clock, metrics.security.clone()));
        let tokens = tokens.transpose()?;
        let lease = Lease::of(&environment.disk);
        let clock = environment.clock.clone();
        let entropy = environment.entropy.clone();
        let memory = config.memory;
        memory.budgets.bound_requests();
        metrics.memory_limit.set(memory.limit_metric());
        let options = memory.budgets.of_store(config.options.clone());
        let store = blocking(move || Store::open(environment, options)).await??;
        report_recovery(store.recovery());
        store.scavenge().schedule(config.scavenge);
        let directory = |name| caches.as_ref().map(|caches| caches.join(name));
        let snapshots = open_snapshots(directory(SNAPSHOT_DIRECTORY), &store, &memory).await?;
        let beside = WithSnapshots::new(store.clone(), snapshots.clone())?;
        let instance = uuid::Builder::from_random_bytes(entropy.bytes()).into_uuid();
        let seams = (clock.clone(), entropy.clone());
        let tracer = start_traces(config.traces.as_ref(), &store, instance, seams)?;
        let options = ledger::Options {
            tracer: tracer.clone(),
            accounts_kept: memory.budgets.accounts(),
            ..config.ledger.clone()
        };
        let ledger = Ledger::start(beside, clock.clone(), entropy.clone(), options).await?;
        let files = directory(READ_MODELS_DIRECTORY).map(|at| (at, memory.budgets.of_views()));
        let seams = (clock.clone(), entropy.clone());
        let read_side = ReadSide::start(&store, files, config.read_models, seams).await?;
        metrics.register(Box::new(ScavengeMetrics::new(store.scavenge().clone())));
        for collector in tracer.iter().flat_map(Tracer::collectors) {
            metrics.register(collector);
        }
        // Of all that this node calls: the risk service, and what connectors relay to.
        let resilience = config.ledger.resilience.clone();
        for collector in resilience.collectors() {
            metrics.register(collector);
        }
        let seams = (clock.clone(), entropy.clone());
        let connectors = connectors::start(config.connectors, &store, seams, resilience)?;
        if let Some(running) = &connectors {
            metrics.register(Box::new(ConnectorMetrics::new(running.clone())));
        }
        let held = memory.budgets.groups;
        let persistent =
            Persistent::start(store.clone(), clock.clone(), entropy.clone(), held).await;
        let scripted = Scripted::start(store.clone(), clock.clone(), entropy.clone()).await;
        let safeguards = metrics.safeguards.clone();
        let archive = config.archive.map(|settings| {
            Archiver::start(settings, store.clone(), clock.clone(), safeguards.clone())
        });
        if let Some(archive) = &archive {
            metrics.register(Box::new(ArchiveMetrics::new(archive.clone())));
        }
        let audit = Audit::start(store.clone(), clock.clone(), entropy.clone(), &metrics);
        let rules = Arc::new(Rules::load(&store, audit).await.map_err(OpenError::from)?);
        let users = Users::new(store.clone(), entropy.clone());
        let first = config.first_admin.filter(|_| config.security.asks == Asks::Everyone);
        let made_password = match first {
            Some(first) => first_admin::ensure(&users, &*entropy, first).await?,
            None => None,
        };
        let authentication = match config.security.asks {
            Asks::Nobody => None,
            Asks::Everyone => {
                tokio::spawn(rules.clone().follow(store.clone()));
                let (clock, metrics) = (clock.clone(), metrics.security.clone());
                let asks = Authentication::new(users.clone(), tokens, clock, &*entropy, metrics);
                Some(Arc::new(asks.recorded(rules.audit().clone(), users.clone())))
            }
        };
        let security = Security::new(tls, authentication);
        let context = Context::new(Parts {
            works: Works::new(store.clone()),
            rules,
            snapshots: snapshots.clone(),
            ledger,
            read_side,
            connectors,
            persistent,
            users,
            security: security.clone(),
            builtin: Builtin::new(store.clone(), entropy.clone()),
            scripted,
            verification: Verification::new(store.clone(), clock.clone(), safeguards),
            archive,
            console: Arc::new(Console::new(clock.clone(), entropy.clone())),
            told: config.told,
            memory,
            clock: clock.clone(),
            entropy: entropy.clone(),
            metrics,
            address,
            started: clock.now(),
            instance,
        });
        tokio::spawn(security.clone().watch(context.life().clone()));
        tokio::spawn(Console::watch(context.clone()));
        let is_open = config.security.tls.is_none() && config.security.asks == Asks::Nobody;
        let doors = Doors {
            connections_max: config.connections_max,
            bounds: config.bounds,
            host_names: is_open.then_some(config.host_names),
        };
        let listening = listen(listeners, &context, &doors, tracer.as_ref());
        let listening = listening.map_err(StartError::Listener)?;
        Ok(Node { store, snapshots, lease, context, listening, tracer, made_password })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.context.address()
    }

    /// Where it listens for operators, if they have a listener of their own.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.listening.get(1).map(|listening| listening.address)
    }

    /// The password of the first administrator, if this start made one of chance: to be shown this
    /// once.
    pub fn take_made_password(&mut self) -> Option<String> {
        self.made_password.take()
    }

    /// Its store, without a door: for the program that the node is a part of.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// What its requests share.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Stops: takes no new connection, finishes what was begun, closes the store. Connections that
    /// are still open after `deadline` are cut; the store is closed properly in any case.
    pub async fn stop(self, deadline: Duration) -> Stopped {
        let lease = self.lease.clone();
        let stopped = self.close(deadline).await;
        // Tasks of calls that were cut let go of the store when they next run. After that the
        // directory is unlocked, and can be opened again as soon as this returns.
        let released = async {
            while !lease.is_over() {
                tokio::time::sleep(DRAIN_LOOK).await;
            }
        };
        if tokio::time::timeout(RELEASE_WAIT_MAX, released).await.is_err() {
            tracing::debug!("something still holds the store after the stop");
        }
        stopped
    }

    async fn close(self, deadline: Duration) -> Stopped {
        let clock = self.context.clock().clone();
        let began = clock.monotonic();
        self.context.advance(Phase::Draining);
        // Half of the time is for answers that are being made; the rest for subscribers to hear
        // that their subscription ended.
        self.drained(began + TRANSFERS_WAIT_MAX.min(deadline / 2)).await;
        // Transfers that still wait for something rest until the next start; who waits for one is
        // told how far it came.
        self.context.ledger().stop();
        self.drained(began + deadline / 2).await;
        if let Some(read_side) = self.context.read_side() {
            read_side.stop().await;
        }
        if let Some(connectors) = self.context.connectors() {
            connectors.stop().await;
        }
        self.context.verification().stop();
        self.context.persistent().stop().await;
        self.context.scripted().stop().await;
        // What was denied last is archived, too.
        self.context.audit().flush().await;
        if let Some(archive) = self.context.archive() {
            archive.stop().await;
        }
        self.store.close().await;
        let left = deadline.saturating_sub(clock.monotonic().saturating_sub(began));
        let all_closed = async {
            for listening in &self.listening {
                listening.all_closed().await;
            }
        };
        let idle = tokio::time::timeout(left, all_closed).await.is_ok();
        let open = self.listening.iter().map(Listening::open).sum();
        let connections_cut = if idle { 0 } else { open };
        self.context.advance(Phase::Cut);
        // All have been told; none waits for a client.
        for listening in self.listening {
            listening.ended().await;
        }
        close_snapshots(self.snapshots).await;
        if let Some(tracer) = self.tracer {
            tracer.stop().await;
        }
        Stopped { connections_cut }
    }
}

impl Node {
    /// Waits until no answer is being made, or it is `until` on the monotonic clock.
    async fn drained(&self, until: Duration) {
        while self.context.metrics().calls_open.get() > signed(self.context.endless_calls())
            && self.context.clock().monotonic() < until
        {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }
}

/// What is the same for all listeners of a node.
struct Doors {
    connections_max: usize,
    bounds: Bounds,
    /// By which names it may be called, if nobody is asked who they are.
    host_names: Option<Vec<String>>,
}

/// Serves the node of `context` on its listeners, clients' first.
fn listen(
    listeners: Listeners,
    context: &Context,
    doors: &Doors,
    tracer: Option<&Tracer>,
) -> io::Result<Vec<Listening>> {
    let Listeners { clients, operators } = listeners;
    let side = if operators.is_some() { Side::Clients } else { Side::All };
    let start = |listener: TcpListener, side, (connections_max, bounds)| {
        let is_local = listener.local_addr()?.ip().to_canonical().is_loopback();
        let hosts = doors.host_names.as_ref().filter(|_| is_local).map(|names| Hosts::new(names));
        let entrance = Entrance::new(context.clone(), side).traced(tracer.cloned()).called(hosts);
        let shared = (context.security().tls().cloned(), context.life().clone());
        Listening::start(listener, entrance, Connections::new(connections_max, bounds), shared)
    };
    let mut listening = vec![start(clients, side, (doors.connections_max, doors.bounds))?];
    if let Some(operators) = operators {
        let per_address = doors.bounds.per_address.min(OPERATORS_PER_ADDRESS_MAX);
        let bounds = Bounds { per_address, ..doors.bounds };
        listening.push(start(operators, Side::All, (OPERATORS_CONNECTIONS_MAX, bounds))?);
    }
    Ok(listening)
}

/// Tells whether a node has let go of its disk.
#[derive(Clone)]
struct Lease {
    disk: Weak<dyn Disk>,
    /// Handles of those who gave it the disk.
    others: usize,
}

impl Lease {
    /// Of a disk that is about to be opened, and held by its environment already.
    fn of(disk: &Arc<dyn Disk>) -> Lease {
        Lease { disk: Arc::downgrade(disk), others: Arc::strong_count(disk) - 1 }
    }

    fn is_over(&self) -> bool {
        self.disk.strong_count() <= self.others
    }
}

/// Tells the operator what opening the store found and did.
fn report_recovery(recovery: &Recovery) {
    if recovery.created {
        tracing::info!("there was no store here: made one");
    }
    if let Some(torn) = &recovery.torn {
        tracing::warn!(
            segment = torn.segment,
            offset = torn.offset,
            size = torn.size,
            copy = torn.copy,
            "cut a torn tail, as a crash leaves it; nothing in it was ever acknowledged"
        );
    }
    // The frame that ends a clean log proves all but itself: that one is always written again.
    if recovery.rewritten_bytes > daybook_log::frame::frame_size_of_seal() as u64 {
        tracing::info!(bytes = recovery.rewritten_bytes, "wrote the last, unproven appends again");
    }
    for file in &recovery.set_aside {
        tracing::warn!(
            file,
            "a rewritten segment was not sound and is set aside; the one it was made of counts"
        );
    }
    for file in &recovery.foreign_files {
        tracing::warn!(file, "a file that is not the store's lies in the data directory");
    }
}

/// Begins to trace what requests bring about in `store`, if that is wanted.
fn start_traces(
    settings: Option<&trace::Settings>,
    store: &Store,
    instance: uuid::Uuid,
    seams: (Arc<dyn Clock>, Arc<dyn Entropy>),
) -> Result<Option<Tracer>, StartError> {
    let Some(settings) = settings else { return Ok(None) };
    let identity = trace::Identity { store: store.about().store_id, instance };
    let tracer = Tracer::start(settings, identity, seams)?;
    store.follow_work(Arc::new(tracer.clone()));
    Ok(Some(tracer))
}

/// Opens the snapshots beside `store`. What is wrong with them is logged, and stops nothing else.
async fn open_snapshots(
    directory: Option<PathBuf>,
    store: &Store,
    memory: &Memory,
) -> Result<Option<Arc<SnapshotStore>>, StartError> {
    let Some(directory) = directory else { return Ok(None) };
    let (about, cache) = (store.about(), memory.budgets.snapshots);
    let identity =
        Identity { store_id: about.store_id, epoch: about.epoch, committed: store.committed() };
    let snapshots =
        blocking(move || SnapshotStore::open_within(&directory, identity, cache)).await?;
    for note in snapshots.notes() {
        tracing::warn!(note, "snapshots");
    }
    Ok(Some(Arc::new(snapshots)))
}

async fn close_snapshots(snapshots: Option<Arc<SnapshotStore>>) {
    let Some(snapshots) = snapshots else { return };
    if let Err(error) = blocking(move || snapshots.close()).await {
        tracing::warn!(%error, "snapshots could not be closed; they are disposable");
    }
}

/// Runs `work`, which may block, off the runtime's own threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StartError> {
    tokio::task::spawn_blocking(work).await.map_err(|e| StartError::Panicked(e.to_string()))
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
