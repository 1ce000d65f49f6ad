//! The users of an experiment: appenders, payers, subscribers, and one who asks whether the server
//! is ready.
//!
//! ```text
//!   appender  ── append, expecting exactly its last revision, or any ──┐  a steady pace, the same
//!   payer     ── POST /v1/transfers, until its final state ────────────┤  ids until it is done
//!        all of them through one breaker and a timeout of 2 s ─────────┴──> proxy ──> server
//!   subscriber ── $all from the start, resumed by the client ─────────────> proxy
//!   returning  ── begins anew every 3 s, after what it has seen last ─────> proxy
//!   prober     ── GET /health/ready, 4 times a second ────────────────────────────> server
//! ```
//!
//! Users have a pace of their own instead of going as fast as they can: what is measured is what
//! a fault does to a load the machine can carry, not how the machine shares itself out.
//!
//! INVARIANT: what was begun is tried until it is done or [`SETTLE_TIMEOUT`] after the end is over;
//! nothing is ever in doubt because a user lost patience.

pub mod appender;
pub mod follower;
pub mod payer;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use daybook_client::resilience::{
    BreakerSettings, CircuitBreaker, Guard, GuardError, Refusal, State, Subscription, Told, Window,
    Wiring,
};
use daybook_client::{AppendError, Client, Resume, Settings};
use daybook_model::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::follower::Follower;
use self::payer::PayError;
use crate::http::Connection;
use crate::journal::{Followed, Journal, Memory};
use crate::measure::Recorder;

/// Who append, and how often each.
const APPENDERS: u32 = 8;
const APPEND_PACE: Duration = Duration::from_millis(50);
/// Who pay, and how often each.
const PAYERS: u32 = 6;
const PAY_PACE: Duration = Duration::from_millis(120);
/// How long a call may take: many times what it takes when all is well.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long all that was begun may take to be settled after the end.
pub const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Between two questions whether the server is ready, and how long an answer may take.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// Pause after a failure, and before a refused call asks again that was not told when.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);
/// The breaker's open times.
const OPEN_FIRST: Duration = Duration::from_millis(250);
const OPEN_MAX: Duration = Duration::from_secs(1);
/// A subscription that lost its call tries so often: longer than any experiment.
const RESUME: Resume = Resume {
    wait_min: Duration::from_millis(100),
    wait_max: Duration::from_secs(1),
    attempts_max: 10_000,
};
/// How often a connection is probed, and how long an answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// What all users have in common.
pub struct Site {
    /// Where they connect: the proxy.
    pub address: SocketAddr,
    /// Decides what they do.
    pub seed: u64,
    /// Where they note what they see.
    pub recorder: Recorder,
    /// Where they note what they were told.
    pub journal: Journal,
    /// What their appends go through.
    pub appends: Guard<AppendError>,
    /// What their transfers go through: the same breaker.
    pub payments: Guard<PayError>,
    /// Where the server itself is, for the prober.
    pub server: watch::Sender<SocketAddr>,
    /// Whether large events are written, to fill a disk.
    pub ballast: AtomicBool,
    over: watch::Sender<bool>,
    wiring: Wiring,
    changes: Mutex<Subscription>,
}

/// A change of the breaker's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerChange {
    /// When, on the recorder's clock.
    pub at: Duration,
    /// The state after.
    pub to: State,
}

impl Site {
    /// A site whose users connect to `address`, of a server that is at `server`.
    ///
    /// # Errors
    /// Settings that make no sense: a mistake in this program.
    pub fn new(address: SocketAddr, server: SocketAddr, seed: u64) -> anyhow::Result<Site> {
        let settings = BreakerSettings {
            // Slow answers are what some faults are about; only silence and errors count.
            slow_percent: None,
            window: Window::Time { length: Duration::from_secs(5), parts: 10 },
            open_first: OPEN_FIRST,
            open_max: OPEN_MAX,
            ..BreakerSettings::default()
        };
        let wiring = Wiring::system();
        let changes = Mutex::new(wiring.changes.subscribe());
        let breaker = CircuitBreaker::new("server", settings, wiring.clone())?;
        let appends = Guard::new(breaker.clone())
            .classify(daybook_client::resilience::classify::append)
            .timeout(CALL_TIMEOUT);
        let payments = Guard::new(breaker).classify(PayError::verdict).timeout(CALL_TIMEOUT);
        Ok(Site {
            address,
            seed,
            recorder: Recorder::new(),
            journal: Journal::default(),
            appends,
            payments,
            server: watch::Sender::new(server),
            ballast: AtomicBool::new(false),
            over: watch::Sender::new(false),
            wiring,
            changes,
        })
    }

    /// A client at `address`, with the patience that these users have.
    ///
    /// # Errors
    /// Settings that make no sense: a mistake in this program.
    pub fn client(address: SocketAddr) -> anyhow::Result<Client> {
        let settings = Settings {
            default_deadline: Some(CALL_TIMEOUT * 2),
            keep_alive_interval: Some(KEEP_ALIVE),
            keep_alive_timeout: KEEP_ALIVE_TIMEOUT,
            resume: RESUME,
            ..Settings::plain(&address.ip().to_string(), address.port())
        };
        Ok(Client::with(settings)?)
    }

    /// Whether time is up.
    #[must_use]
    pub fn is_over(&self) -> bool {
        *self.over.borrow()
    }

    /// The breaker's changes since they were asked for last.
    #[must_use]
    pub fn breaker_changes(&self) -> Vec<BreakerChange> {
        let (now, wall) = (self.recorder.now(), self.wiring.clock.now());
        let ago = |at: Timestamp| Duration::from_nanos(wall.0.saturating_sub(at.0).unsigned_abs());
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        while let Some(told) = changes.try_next() {
            if let Told::Changed(change) = told {
                found.push(BreakerChange { at: now.saturating_sub(ago(change.at)), to: change.to });
            }
        }
        found
    }

    /// The breaker's state.
    #[must_use]
    pub fn breaker(&self) -> State {
        self.appends.breaker().status().state
    }
}

/// Notes a failed attempt as what it was, and waits as long as it says.
async fn pause_after<E>(site: &Site, error: &GuardError<E>, name: impl Fn(&E) -> &'static str) {
    let (why, wait) = match error {
        GuardError::Open(Refusal { retry_after, .. }) => {
            // Refused at once, as it should be: this is no failure of the server.
            ("refused by the breaker", retry_after.unwrap_or(FAILURE_PAUSE))
        }
        GuardError::TimedOut { .. } => ("no answer in time", FAILURE_PAUSE),
        GuardError::Inner(error) => (name(error), FAILURE_PAUSE),
        GuardError::Full(_) | GuardError::Limited(_) => ("refused here", FAILURE_PAUSE),
    };
    site.recorder.failed(why);
    tokio::time::sleep(wait).await;
}

/// All users at work.
pub struct Crowd {
    site: Arc<Site>,
    workers: Vec<JoinHandle<()>>,
    prober: JoinHandle<()>,
    followers: Vec<Follower>,
}

impl Crowd {
    /// Opens the payers' accounts, then has everybody begin.
    ///
    /// # Errors
    /// If the server, which has no fault yet, refuses.
    pub async fn begin(site: Arc<Site>) -> anyhow::Result<Crowd> {
        for number in 0..PAYERS {
            payer::open(&site, number).await.context("cannot open an account")?;
        }
        let client = Site::client(site.address)?;
        let mut workers = Vec::new();
        for number in 0..APPENDERS {
            workers.push(tokio::spawn(appender::append(site.clone(), client.clone(), number)));
        }
        workers.push(tokio::spawn(appender::ballast(site.clone(), client, APPENDERS)));
        for number in 0..PAYERS {
            workers.push(tokio::spawn(payer::pay(site.clone(), number, PAYERS)));
        }
        let followers = vec![
            Follower::begin(site.clone(), "subscriber", None)?,
            Follower::begin(site.clone(), "returning subscriber", Some(follower::STAY))?,
        ];
        let prober = tokio::spawn(probe(site.clone()));
        Ok(Crowd { site, workers, prober, followers })
    }

    /// Has everybody settle what they have begun, and go. Answers with what they remember.
    ///
    /// # Errors
    /// If somebody panicked.
    pub async fn end_load(&mut self) -> anyhow::Result<Memory> {
        self.site.over.send_replace(true);
        self.site.ballast.store(false, Ordering::Relaxed);
        let workers = std::mem::take(&mut self.workers);
        let settled = async {
            for worker in workers {
                worker.await.context("a user panicked")?;
            }
            anyhow::Ok(())
        };
        // Who is late has left its append or transfer unsettled, and the checks find that.
        if let Ok(settled) = tokio::time::timeout(SETTLE_TIMEOUT, settled).await {
            settled?;
        }
        Ok(self.site.journal.memory())
    }

    /// What the subscribers saw, once they have seen `count` events, or have had the time to.
    pub async fn followed(&mut self, count: usize) -> Vec<Followed> {
        let mut all = Vec::new();
        for follower in &self.followers {
            all.push(follower.seen(count).await);
        }
        all
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.prober.abort();
        for worker in &self.workers {
            worker.abort();
        }
    }
}

async fn probe(site: Arc<Site>) {
    let mut tick = tokio::time::interval(PROBE_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let server = *site.server.borrow();
        let asked = async { Connection::new(server).get("/health/ready").await };
        let answer = tokio::time::timeout(PROBE_TIMEOUT, asked).await;
        let is_ready = matches!(answer, Ok(Ok(answer)) if answer.status == 200);
        site.recorder.ready(is_ready);
    }
}
