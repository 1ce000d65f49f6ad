//! The writer's half of the write path: decides each append against what is stored and what is on
//! its way there, and encodes it into the batch that is next.
//!
//! ```text
//!   resolve (caller)  ->  Request  ->  Decider::add  ->  Group  ->  Committer
//! ```
//!
//! A request was resolved as of a position. What changed since is in [`Recent`], in memory. If the
//! request still holds it is added; otherwise it goes back to its caller, which resolves it again
//! when the change is durable: so every rejection and every duplicate rests on durable facts.
//!
//! INVARIANT: the decider reads no disk, waits for nothing, and is the only one that gives events
//! their revisions and positions.

use std::sync::Arc;
use std::time::Duration;

use daybook_log::frame::PLACE_SIZE_MAX;
use daybook_log::planted::{self, Bug};
use daybook_log::{Batch, ChainValue};
use daybook_model::append::{AppendError, Appended};
use daybook_model::watch::Steps;
use daybook_model::{ExpectedRevision, Position, Revision, Timestamp};
use smallvec::SmallVec;
use tokio::sync::oneshot;

use crate::core::{self, Core};
use crate::decide::{Decision, decide};
use crate::index::Key;
use crate::index::key::{IdentityState, KeyMap};
use crate::prepare::{EVENT_OVERHEAD, Prepared};
use crate::record::{VARINT_SIZE_MAX, encode_place};
use crate::resolve::{Resolved, is_ahead, wrong};
use crate::status::Health;

/// Event ids after which the older half of [`Recent`] is forgotten. A request must be decided
/// within so many events of its resolution, or is resolved again: far more than the queue holds.
const RECENT_LEN: usize = 131_072;
/// A wall clock that runs ahead of the monotonic clock by more has leapt.
const CLOCK_LEAP_MAX: Duration = Duration::from_secs(3600);
/// Appends of one batch: bounds the answers that one sync owes.
pub(crate) const BATCH_APPENDS_MAX: usize = 4096;
/// Bytes after which a batch takes no more appends: at the speed of a disk about as long as its
/// sync takes.
pub(crate) const BATCH_SIZE_TARGET: usize = 4 * 1024 * 1024;

const _: () = assert!(8 + VARINT_SIZE_MAX <= PLACE_SIZE_MAX);

/// What an append's caller is told.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The append's end.
    Done(Result<Appended, AppendError>),
    /// It is durable. What it was made of goes back to where it was made: memory that one thread
    /// takes and another lets go of is slow.
    Written(Appended, Box<Prepared>),
    /// Something it rests on changed: resolve it again when `until` is committed.
    Again { prepared: Box<Prepared>, until: Position },
}

/// An append on its way to the writer.
#[derive(Debug)]
pub(crate) struct Request {
    pub prepared: Box<Prepared>,
    pub resolved: Resolved,
    pub answer: oneshot::Sender<Reply>,
    /// When it was queued, by the monotonic clock.
    pub queued: Duration,
}

/// An append in a batch.
#[derive(Debug)]
pub(crate) struct Pending {
    pub prepared: Box<Prepared>,
    pub appended: Appended,
    pub answer: oneshot::Sender<Reply>,
    pub queued: Duration,
    /// The revision of the first event of each stream.
    pub firsts: SmallVec<[u64; 1]>,
}

/// A batch and those who wait for it.
#[derive(Debug)]
pub(crate) struct Group {
    pub batch: Batch,
    pub pending: Vec<Pending>,
    /// Whether anybody wants to know how far an append of it came.
    pub is_watched: bool,
}

impl Group {
    /// Notes in the appends that somebody wants to know of how far they came.
    pub fn note(&mut self, mut note: impl FnMut(&mut Steps)) {
        if !self.is_watched {
            return;
        }
        let batch = self.pending.len() as u64;
        for pending in &mut self.pending {
            if let Some(steps) = &mut pending.prepared.steps {
                steps.batch = batch;
                note(steps);
            }
        }
    }

    /// Whether it takes no more appends.
    pub fn is_full(&self) -> bool {
        self.pending.len() >= BATCH_APPENDS_MAX || self.batch.bytes().len() >= BATCH_SIZE_TARGET
    }
}

/// What was written lately, durable or not: newer than any request's `as_of`.
#[derive(Debug, Default)]
struct Recent {
    young: Generation,
    old: Generation,
}

#[derive(Debug)]
struct Generation {
    floor: Position,
    /// The last position and revision of each stream (and settings key) written.
    streams: KeyMap<Key, (Position, u64)>,
    ids: KeyMap<u64, Position>,
}

impl Default for Generation {
    fn default() -> Generation {
        let streams = KeyMap::with_hasher(IdentityState);
        let ids = KeyMap::with_hasher(IdentityState);
        Generation { floor: Position(0), streams, ids }
    }
}

impl Recent {
    fn stream(&self, key: Key) -> Option<(Position, u64)> {
        self.young.streams.get(&key).or_else(|| self.old.streams.get(&key)).copied()
    }

    fn id(&self, id_key: u64) -> Option<Position> {
        self.young.ids.get(&id_key).or_else(|| self.old.ids.get(&id_key)).copied()
    }

    /// The position of the last change to `key` at or after `as_of`.
    fn changed(&self, key: Key, as_of: Position) -> Option<(Position, u64)> {
        self.stream(key).filter(|(position, _)| *position >= as_of)
    }

    fn rotate_if_full(&mut self, next: Position) {
        if self.young.ids.len() >= RECENT_LEN {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.floor = next;
            self.young.streams.clear();
            self.young.ids.clear();
        }
    }
}

/// What is left of a resolution when its request is decided.
enum Check {
    Holds,
    /// Something changed: it must be resolved again when this position is committed.
    Again(Position),
    /// The condition on this stream does not hold, and nothing on its way will make it.
    Wrong(usize),
}

/// Decides appends and builds batches.
#[derive(Debug)]
pub(crate) struct Decider {
    core: Arc<Core>,
    next: Position,
    chain: ChainValue,
    recent: Recent,
    last_time: Timestamp,
    /// The two clocks when they were last compared.
    clocks: (Timestamp, Duration),
    warned_of_clock: bool,
    /// Whether the last append was refused because the clock leapt.
    leapt: bool,
}

impl std::fmt::Debug for Core {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Core").field("store_id", &self.store_id).finish_non_exhaustive()
    }
}

impl Decider {
    /// A decider at the end of a log whose last event has `last_time`.
    pub fn new(core: Arc<Core>, chain: ChainValue, last_time: Timestamp) -> Decider {
        let next = core.committed();
        let clock = &core.environment.clock;
        let clocks = (clock.now(), clock.monotonic());
        let mut decider = Decider {
            core,
            next,
            chain,
            recent: Recent::default(),
            last_time,
            clocks,
            warned_of_clock: false,
            leapt: false,
        };
        decider.reset(next, chain);
        decider
    }

    /// Forgets what was decided but not written: the log ends at `next`.
    pub fn reset(&mut self, next: Position, chain: ChainValue) {
        self.next = next;
        self.chain = chain;
        self.recent = Recent::default();
        self.recent.young.floor = next;
        self.recent.old.floor = next;
    }

    /// An empty group at the end.
    pub fn group(&self) -> Group {
        let (bytes, spans) = self.core.tail.buffers();
        let batch = Batch::in_buffers(bytes, spans, self.core.store_salt, self.next, self.chain);
        let pending = self.core.pending.lock().pop().unwrap_or_default();
        Group { batch, pending, is_watched: false }
    }

    /// Decides what was taken from the queue, and says how long that took.
    pub fn add_all(&mut self, taken: impl Iterator<Item = Request>, group: &mut Group) {
        let started = self.core.environment.clock.monotonic();
        for request in taken {
            self.add(request, group);
        }
        let took = self.core.environment.clock.monotonic().saturating_sub(started);
        self.core.times.decide.add(took);
    }

    /// Decides `request`: adds it to `group`, or answers it.
    pub fn add(&mut self, request: Request, group: &mut Group) {
        match self.check(&request) {
            Check::Holds => {}
            Check::Again(until) => {
                if planted::is(Bug::RejectionNotAwaited)
                    && let Some(rejection) = self.rejection(&request)
                {
                    let _ = request.answer.send(Reply::Done(Err(rejection)));
                    return;
                }
                let Request { prepared, answer, .. } = request;
                // A caller that has gone away needs no answer.
                let _ = answer.send(Reply::Again { prepared, until });
                return;
            }
            Check::Wrong(index) => {
                let condition = &request.prepared.streams[index].condition;
                let error = wrong(index, condition, &request.resolved.facts[index]);
                core::count(&self.core.counters.rejections, 1);
                let _ = request.answer.send(Reply::Done(Err(error)));
                return;
            }
        }
        // What was decided elsewhere brings its times along.
        let time = if request.prepared.carried { Ok(self.last_time) } else { self.time() };
        let time = match time {
            Ok(time) => time,
            Err(e) => {
                core::count(&self.core.counters.failures, 1);
                let _ = request.answer.send(Reply::Done(Err(e)));
                return;
            }
        };
        self.write(request, time, group);
    }

    /// Whether the request still holds, now that other appends were decided since its resolution.
    fn check(&self, request: &Request) -> Check {
        let as_of = request.resolved.as_of;
        if as_of < self.recent.old.floor {
            return Check::Again(self.recent.old.floor);
        }
        if planted::is(Bug::OverlayForgotten) {
            return Check::Holds;
        }
        let prepared = &request.prepared;
        for (index, stream) in prepared.streams.iter().enumerate() {
            if index > 0 && planted::is(Bug::SecondStreamUnchecked) {
                break;
            }
            if let Some((position, _)) = self.recent.changed(stream.settings, as_of) {
                return Check::Again(position.next());
            }
            let Some((position, head)) = self.recent.changed(stream.key, as_of) else {
                // Nothing is on its way that could bring the revision it expects, and what it
                // rests on is durable.
                if is_ahead(&stream.condition, &request.resolved.facts[index]) {
                    return Check::Wrong(index);
                }
                continue;
            };
            let mut facts = request.resolved.facts[index];
            facts.head = Some(head);
            let weak = matches!(
                stream.condition.expected,
                ExpectedRevision::Any | ExpectedRevision::StreamExists
            );
            let known = stream.events.iter().any(|event| {
                let id_key = prepared.events[*event as usize].id_key;
                weak && self.recent.id(id_key).is_some_and(|at| at >= as_of)
            });
            let none: SmallVec<[Option<u64>; 4]> = SmallVec::from_elem(None, stream.events.len());
            let holds = decide(&facts, stream.condition.expected, &none) == Decision::Append;
            // A soft-deleted stream's new first revision was written into its metadata event.
            if known || !holds || facts.soft_deleted {
                return Check::Again(position.next());
            }
        }
        Check::Holds
    }

    /// What is wrong with a request, given what is not durable yet: a planted bug.
    fn rejection(&self, request: &Request) -> Option<AppendError> {
        let stream = request.prepared.streams.first()?;
        let (_, head) = self.recent.changed(stream.key, request.resolved.as_of)?;
        Some(AppendError::WrongExpectedRevision {
            index: 0,
            stream: stream.condition.stream.clone(),
            expected: stream.condition.expected,
            actual: Some(Revision(head)),
        })
    }

    fn write(&mut self, request: Request, time: Timestamp, group: &mut Group) {
        let Request { mut prepared, resolved, answer, queued } = request;
        let mut nexts: SmallVec<[u64; 1]> = SmallVec::new();
        for (stream, facts) in prepared.streams.iter().zip(&resolved.facts) {
            let head = self.recent.changed(stream.key, resolved.as_of).map(|(_, head)| head);
            let next = head.or(facts.head).map_or(0, |head| head + 1);
            nexts.push(if planted::is(Bug::RevisionReused) {
                next.saturating_sub(1)
            } else {
                next
            });
        }
        let firsts = nexts.clone();
        group.batch.reserve(prepared.size() + prepared.events.len() * EVENT_OVERHEAD);
        let mut commit = group.batch.begin(&prepared.salt);
        let mut place = Vec::with_capacity(8 + VARINT_SIZE_MAX);
        let mut last = None;
        for (i, event) in prepared.events.iter().enumerate() {
            let next = &mut nexts[event.stream as usize];
            if let Some(brought) = event.time {
                self.last_time = self.last_time.max(brought);
            }
            let time = event.time.map_or(time, |_| self.last_time);
            place.clear();
            encode_place(&mut place, time, Revision(*next));
            let position = commit.next();
            if i < prepared.asked_events() {
                last = Some(position);
            }
            commit.record(&place, prepared.body(event), &event.digest);
            let written = (position, *next);
            self.recent.young.streams.insert(event.keys[0], written);
            if let Some(key) = event.settings {
                self.recent.young.streams.insert(key, written);
            }
            self.recent.young.ids.insert(event.id_key, position);
            *next += 1;
        }
        commit.finish();
        self.next = group.batch.next();
        self.chain = group.batch.chain();
        self.recent.rotate_if_full(self.next);
        let revisions = nexts[..prepared.asked_streams()]
            .iter()
            .map(|next| next.checked_sub(1).map(Revision))
            .collect();
        let appended = Appended { revisions, position: last };
        if let Some(steps) = &mut prepared.steps {
            steps.queued = queued;
            steps.decided = self.core.environment.clock.monotonic();
            group.is_watched = true;
        }
        group.pending.push(Pending { prepared, appended, answer, queued, firsts });
    }

    /// The time of the next commit: never before the one before.
    fn time(&mut self) -> Result<Timestamp, AppendError> {
        let clock = &self.core.environment.clock;
        let (now, monotonic) = (clock.now(), clock.monotonic());
        // From the moment of acceptance on, so that the next leap is one again.
        if let Some(accepted) = self.core.take_clock_acceptance() {
            self.clocks = accepted;
        }
        let passed = i128::from(now.0) - i128::from(self.clocks.0.0);
        let real = (monotonic.saturating_sub(self.clocks.1)).as_nanos() as i128;
        let ahead = passed - real;
        if ahead > CLOCK_LEAP_MAX.as_nanos() as i128 {
            let seconds = (ahead / 1_000_000_000) as u64;
            self.leapt = true;
            self.core.set_health(Health::ClockLeapt { seconds });
            return Err(AppendError::ClockLeapt { seconds });
        }
        if std::mem::take(&mut self.leapt) {
            // Accepted, or put right by itself.
            self.core.end_clock_leap();
        }
        self.clocks = (now, monotonic);
        if now < self.last_time && !self.warned_of_clock {
            self.warned_of_clock = true;
            let behind_ns = self.last_time.0 - now.0;
            tracing::warn!(behind_ns, "the clock is behind the last commit; its time is reused");
        }
        if now >= self.last_time || planted::is(Bug::ClockGoesBack) {
            self.last_time = now;
            self.warned_of_clock = false;
        }
        Ok(self.last_time)
    }
}
