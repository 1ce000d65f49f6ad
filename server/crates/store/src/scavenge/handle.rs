//! One pass at a time: by request, or by itself.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use daybook_model::Timestamp;
use parking_lot::{Condvar, Mutex};
use uuid::Uuid;

use super::memory::Memory;
use super::pass::{Pass, Step, Thoroughness};
use super::status::{Finished, Outcome, Progress, ScavengeError, ScavengeStatus};
use crate::core::Core;

/// How often a pass begins by itself.
const EVERY: Duration = Duration::from_secs(3600);
/// How soon one may begin after another, if a segment was sealed since.
const EVERY_AFTER_SEAL: Duration = Duration::from_secs(600);
/// Bytes read and written a second, unless told otherwise: a tenth of what a modest disk does.
pub const RATE: u64 = 32 * 1024 * 1024;
/// The least rate that can be asked for: slower than this a pass would never end.
pub const RATE_MIN: u64 = 64 * 1024;
/// Passes that are remembered when they have ended.
const HISTORY_LEN: usize = 16;
/// How far a wall clock may run ahead of the monotonic one before it is no more believed: what it
/// says has expired would be removed for ever.
const CLOCK_LEAP_MAX: Duration = Duration::from_secs(3600);
/// How long the thread sleeps when there is nothing to do, at most: it looks at a clock that is not
/// the machine's in a test.
const NAP: Duration = Duration::from_secs(1);

/// When passes begin, and how fast they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Whether they begin by themselves.
    pub automatic: bool,
    /// Bytes read and written a second; at least [`RATE_MIN`].
    pub rate: u64,
}

impl Default for Schedule {
    /// By request only, at [`RATE`].
    fn default() -> Schedule {
        Schedule { automatic: false, rate: RATE }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A pass begins.
    Started(Uuid),
    /// This one is at work already.
    InProgress(Uuid),
}

/// No such pass is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no scavenge {0} is running")]
pub struct NoSuchScavenge(pub Uuid);

/// What the handle and the thread share.
#[derive(Default)]
struct State {
    schedule: Schedule,
    /// The pass that was asked for, or is at work.
    running: Option<Progress>,
    requested: bool,
    stop: bool,
    /// When, by the monotonic clock, the last pass ended.
    last: Option<Duration>,
    sealed_at_last: usize,
    history: VecDeque<Finished>,
    passes: u64,
    failures: u64,
}

/// Scavenges of one store. A clone is another handle.
#[derive(Clone)]
pub struct Scavenge {
    shared: Arc<Shared>,
}

struct Shared {
    core: Arc<Core>,
    state: Mutex<State>,
    wake: Condvar,
    closing: AtomicBool,
    segments: AtomicU64,
    events: AtomicU64,
    bytes: AtomicU64,
    /// The clocks when the store was opened.
    clocks: (Timestamp, Duration),
}

impl Scavenge {
    pub(crate) fn new(core: Arc<Core>) -> Scavenge {
        let clock = &core.environment.clock;
        let clocks = (clock.now(), clock.monotonic());
        let shared = Shared {
            core,
            state: Mutex::default(),
            wake: Condvar::new(),
            closing: AtomicBool::new(false),
            segments: AtomicU64::new(0),
            events: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            clocks,
        };
        Scavenge { shared: Arc::new(shared) }
    }

    /// Says when passes begin, and how fast they are; also the one that is at work.
    pub fn schedule(&self, schedule: Schedule) {
        let rate = schedule.rate.max(RATE_MIN);
        self.shared.state.lock().schedule = Schedule { rate, ..schedule };
        self.shared.wake.notify_all();
    }

    /// Begins a pass that removes all that goes, however little, unless one is at work.
    pub fn start(&self) -> Start {
        let mut state = self.shared.state.lock();
        if let Some(running) = &state.running {
            return Start::InProgress(running.id);
        }
        let id = self.shared.id();
        state.running = Some(Progress { id, ..Progress::default() });
        state.requested = true;
        state.stop = false;
        drop(state);
        self.shared.wake.notify_all();
        Start::Started(id)
    }

    /// Ends the pass `id`: what it has rewritten stays, the rest is as it was.
    ///
    /// # Errors
    /// [`NoSuchScavenge`] if it is not at work.
    pub fn stop(&self, id: Uuid) -> Result<(), NoSuchScavenge> {
        let mut state = self.shared.state.lock();
        if state.running.as_ref().is_none_or(|running| running.id != id) {
            return Err(NoSuchScavenge(id));
        }
        state.stop = true;
        drop(state);
        self.shared.wake.notify_all();
        Ok(())
    }

    /// What is at work, and what was.
    #[must_use]
    pub fn status(&self) -> ScavengeStatus {
        let shared = &self.shared;
        let state = shared.state.lock();
        ScavengeStatus {
            automatic: state.schedule.automatic,
            running: state.running.clone(),
            history: state.history.iter().cloned().collect(),
            passes: state.passes,
            failures: state.failures,
            segments: shared.segments.load(Ordering::Relaxed),
            events: shared.events.load(Ordering::Relaxed),
            bytes: shared.bytes.load(Ordering::Relaxed),
        }
    }

    /// Ends the pass that is at work, and the thread.
    pub(crate) fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        let _state = self.shared.state.lock();
        self.shared.wake.notify_all();
    }

    /// The thread: waits for a request or for its time, until the store is closed.
    pub(crate) fn run(&self) {
        let shared = &self.shared;
        let mut memory = Memory::default();
        while let Some(thoroughness) = shared.wait() {
            let (id, requested) = match &shared.state.lock().running {
                Some(running) => (running.id, true),
                None => (shared.id(), false),
            };
            tracing::debug!(%id, requested, "a scavenge begins");
            let mut pass = Pass::new(id, thoroughness, shared.trusted_now());
            let result = shared.guarded(&mut pass, &mut memory);
            shared.ended(pass.progress, result);
        }
    }
}

impl Shared {
    fn id(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.core.environment.entropy.bytes()).into_uuid()
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire) || *self.core.closed.borrow()
    }

    /// The time, unless it leapt: then what it was when the store was opened, and what has passed
    /// since.
    fn trusted_now(&self) -> Timestamp {
        let clock = &self.core.environment.clock;
        let passed = clock.monotonic().saturating_sub(self.clocks.1);
        let ns = i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX);
        let expected = self.clocks.0.0.saturating_add(ns);
        let now = clock.now().0;
        let leapt = now.saturating_sub(expected) > CLOCK_LEAP_MAX.as_nanos() as i64;
        Timestamp(if leapt { expected } else { now })
    }

    /// Waits for what is to be done next; none when the store is closed.
    fn wait(&self) -> Option<Thoroughness> {
        let mut state = self.state.lock();
        loop {
            if self.is_closing() {
                return None;
            }
            if std::mem::take(&mut state.requested) {
                return Some(Thoroughness::Everything);
            }
            if self.is_due(&state) {
                let id = self.id();
                state.running = Some(Progress { id, ..Progress::default() });
                state.stop = false;
                return Some(Thoroughness::Worthwhile);
            }
            self.wake.wait_for(&mut state, NAP);
        }
    }

    fn is_due(&self, state: &State) -> bool {
        if !state.schedule.automatic || self.core.stop_reason().is_some() {
            return false;
        }
        let now = self.core.environment.clock.monotonic();
        // Not at once after a start, when a wrong clock of the machine may not be right yet.
        let last = state.last.unwrap_or(self.clocks.1);
        let sealed = self.core.view.load().sealed.len() != state.sealed_at_last;
        now.saturating_sub(last) >= if sealed { EVERY_AFTER_SEAL } else { EVERY }
    }

    /// Does a pass. One that panics has failed: nothing else depends on it, and what it leaves is
    /// what a crash would.
    fn guarded(&self, pass: &mut Pass, memory: &mut Memory) -> Result<(), ScavengeError> {
        let work = AssertUnwindSafe(|| {
            let result = self.work(pass, memory);
            let before = pass.progress.clone();
            pass.abandon(&self.core, memory);
            self.count(&before, &pass.progress);
            result
        });
        std::panic::catch_unwind(work).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied());
            Err(ScavengeError::Panicked { what: text.unwrap_or("it did not say why").to_owned() })
        })
    }

    fn work(&self, pass: &mut Pass, memory: &mut Memory) -> Result<(), ScavengeError> {
        let clock = self.core.environment.clock.clone();
        let began = clock.monotonic();
        // Whatever was used of the rate is waited for before more is.
        let mut due = began;
        let mut pace = |bytes: u64| self.pace(bytes, &mut due);
        loop {
            let before = pass.progress.clone();
            let step = pass.step(&self.core, memory, &mut pace)?;
            pass.progress.elapsed = clock.monotonic().saturating_sub(began);
            self.count(&before, &pass.progress);
            self.state.lock().running = Some(pass.progress.clone());
            if step == Step::Done {
                return Ok(());
            }
            if !pace(0) {
                return Err(daybook_log::rewrite::RewriteError::Stopped.into());
            }
        }
    }

    /// Adds what was done since `before`.
    fn count(&self, before: &Progress, now: &Progress) {
        self.segments.fetch_add(now.rewritten - before.rewritten, Ordering::Relaxed);
        self.events.fetch_add(now.events - before.events, Ordering::Relaxed);
        self.bytes.fetch_add(now.gain().saturating_sub(before.gain()), Ordering::Relaxed);
    }

    /// Waits until `bytes` more may be read or written. Answers whether to go on.
    fn pace(&self, bytes: u64, due: &mut Duration) -> bool {
        let clock = &self.core.environment.clock;
        let mut state = self.state.lock();
        let rate = state.schedule.rate;
        let now = clock.monotonic();
        *due = (*due).max(now) + Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate);
        loop {
            // After a failed sync nothing is known of the disk: nothing is removed from it then.
            if state.stop || self.is_closing() || self.core.stop_reason().is_some() {
                return false;
            }
            // Short waits are saved up: the machine does not wait for a microsecond.
            let left = due.saturating_sub(clock.monotonic());
            if left < Duration::from_millis(5) {
                return true;
            }
            self.wake.wait_for(&mut state, left.min(NAP));
        }
    }

    fn ended(&self, progress: Progress, result: Result<(), ScavengeError>) {
        let outcome = match result {
            Ok(()) => match &progress.damage {
                None => Outcome::Completed,
                Some(first) => {
                    let count = progress.damaged;
                    let reason = format!("{count} left as they are, being damaged: {first}");
                    Outcome::Failed { reason }
                }
            },
            Err(e) if e.is_stop() => Outcome::Stopped,
            Err(e) => Outcome::Failed { reason: e.to_string() },
        };
        let (events, segments) = (progress.events, progress.rewritten);
        let bytes = progress.gain();
        match &outcome {
            Outcome::Failed { reason } => {
                tracing::warn!(reason, "a scavenge failed; the next one will try again");
            }
            _ if segments > 0 => {
                tracing::info!(events, segments, bytes, "a scavenge gave back space");
            }
            _ => tracing::debug!("a scavenge ended"),
        }
        let clock = &self.core.environment.clock;
        let ended = clock.now();
        let mut state = self.state.lock();
        state.running = None;
        state.passes += 1;
        state.failures += u64::from(matches!(outcome, Outcome::Failed { .. }));
        state.last = Some(clock.monotonic());
        state.sealed_at_last = self.core.view.load().sealed.len();
        state.history.push_front(Finished { progress, ended, outcome });
        state.history.truncate(HISTORY_LEN);
    }
}
