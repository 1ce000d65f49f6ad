//! The live feed: a subscription reads up to `committed`, then waits until there is more.
//!
//! There is no hand-over from history to live, so there is none to get wrong: the same read serves
//! both. A stream's subscriber waits on its key, only one of the whole log on the watermark. The
//! newest commits come out of the shared tail in memory. A slow consumer slows only itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use daybook_model::{Filter, Position, StreamName, Timer, Timestamp};
use tokio::sync::{Notify, watch};

use crate::Page;
use crate::core::Core;
use crate::index::{Access, Key, KeyKind, View};
use crate::read::{ReadError, blocking};
use crate::virtual_stream::{self, Links};
use look::{Look, Looker, Reach, StreamKeys, What};
use wait::{Begun, Pace, begin};

mod look;
mod wait;

pub use wait::IDLE_EVENTS;
pub(crate) use wait::KeyWaiters;

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeFrom {
    /// With the first event.
    Start,
    /// With events that are committed from now on.
    End,
    /// With what follows this revision (of a stream) or position (of the log).
    After(u64),
}

/// A filter on a subscription to the whole log.
#[derive(Clone, Debug)]
pub struct SubscriptionFilter {
    /// Which events it wants.
    pub filter: Arc<Filter>,
    /// A checkpoint is delivered each time so many events were considered; at least 1.
    pub checkpoint_interval: u64,
}

/// What a subscription delivers.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// Events, in order.
    Events(Page),
    /// All events up to and including `position` were considered.
    Checkpoint {
        /// The last position considered.
        position: Position,
        /// When this was said.
        time: Timestamp,
    },
    /// All history was delivered; what follows is live.
    CaughtUp {
        /// The last revision (of a stream) or position (of the log) considered, if there is one.
        at: Option<u64>,
        /// When this was said.
        time: Timestamp,
    },
}

/// What a subscription follows.
enum Source {
    Stream {
        name: StreamName,
        keys: StreamKeys,
        changed: Arc<Notify>,
    },
    All {
        committed: watch::Receiver<Position>,
        filter: Option<SubscriptionFilter>,
    },
    /// A part of the log: the events of a key.
    Indexed {
        key: Key,
        interval: u64,
        changed: Arc<Notify>,
        pace: Pace,
    },
}

impl Source {
    /// The key that its events have, if it is not the whole log.
    fn key(&self) -> Option<Key> {
        match self {
            Source::Stream { keys, .. } => Some(keys.events),
            Source::Indexed { key, .. } => Some(*key),
            Source::All { .. } => None,
        }
    }

    /// What to wait for, asked before a look, so that what is committed during it is not missed.
    fn begin_wait(&mut self) -> Wait {
        match self {
            Source::Stream { changed, .. } => Wait::Key(begin(changed)),
            Source::Indexed { changed, pace, .. } => Wait::KeyOr(begin(changed), pace.begin()),
            Source::All { committed, .. } => {
                committed.borrow_and_update();
                Wait::Log
            }
        }
    }

    /// Events considered between two checkpoints, if there are to be any.
    fn interval(&self) -> Option<u64> {
        match self {
            Source::All { filter, .. } => filter.as_ref().map(|f| f.checkpoint_interval),
            Source::Indexed { interval, .. } => Some(*interval),
            Source::Stream { .. } => None,
        }
    }
}

/// What a subscription waits for.
enum Wait {
    /// The log to go on.
    Log,
    /// Events of its key.
    Key(Begun),
    /// Those, or the log to have gone on without them; and, if that is of many events, those.
    KeyOr(Begun, Option<Begun>),
}

impl Wait {
    /// `behind`: the log has already gone on beyond what was told.
    async fn over(self, source: &mut Source, behind: bool) {
        match (self, source) {
            // It fails when the store is gone, which the next look finds.
            (Wait::Log, Source::All { committed, .. }) => _ = committed.changed().await,
            (Wait::KeyOr(changed, far), Source::Indexed { pace, .. }) => tokio::select! {
                () = changed => {}
                () = pace.over(far, behind) => {}
            },
            (Wait::Key(changed) | Wait::KeyOr(changed, _), _) => changed.await,
            (Wait::Log, Source::Stream { .. } | Source::Indexed { .. }) => {}
        }
    }
}

/// A subscription: history from where it begins, then what is committed, in order, without a gap.
pub struct Subscription {
    core: Arc<Core>,
    closed: watch::Receiver<bool>,
    source: Source,
    /// If the stream is one of links.
    links: Option<Arc<Links>>,
    /// Whether each link's target is asked whether it may be shown.
    following: bool,
    /// The revision or position that is next.
    next: u64,
    /// Where the log ended, and its index, when a subscription from a stream's end was made, until
    /// its revision there is known. The index of then, because a later one has sealed segments
    /// whose entries it no longer tells apart by position.
    from_end: Option<(Position, Arc<View>)>,
    caught_up: bool,
    /// Events considered since the last checkpoint.
    considered: u64,
    /// A checkpoint that is owed, before anything else.
    owed: Option<Position>,
    /// What a look brought beyond the place of that checkpoint.
    rest: Option<Look>,
    last_checkpoint: Option<Position>,
}

/// What follows a look.
enum Next {
    Deliver(Delivery),
    LookAgain,
    Wait,
}

impl Subscription {
    pub(crate) fn stream(core: Arc<Core>, name: StreamName, from: SubscribeFrom) -> Subscription {
        let events = virtual_stream::key(&core.hasher, &name);
        let settings = core.hasher.key(KeyKind::Settings, name.as_str());
        // A tombstone is an event of its stream, and metadata hides nothing that is delivered:
        // the stream's own key wakes for all that matters.
        let changed = core.waiters.register(events);
        let keys = StreamKeys { events, settings };
        Subscription::new(core, Source::Stream { name, keys, changed }, from)
    }

    /// Finds out which events their own streams hide, if the stream is one of links: for who
    /// follows them. See [`Page::targets`].
    #[must_use]
    pub fn following(mut self) -> Subscription {
        self.following = true;
        self
    }

    pub(crate) fn all(
        core: Arc<Core>,
        from: SubscribeFrom,
        filter: Option<SubscriptionFilter>,
    ) -> Subscription {
        let committed = core.committed.subscribe();
        Subscription::new(core, Source::All { committed, filter }, from)
    }

    /// As [`Subscription::all`], of the events of `key` that are not the system's. What is
    /// considered are the key's events; where there are none, a checkpoint comes after
    /// [`IDLE_EVENTS`] others, or as many more as the interval is.
    pub(crate) fn indexed(
        core: Arc<Core>,
        key: Key,
        from: SubscribeFrom,
        interval: u64,
    ) -> Subscription {
        let changed = core.waiters.register(key);
        let pace = Pace::Events { far: core.waiters.far.clone(), interval };
        Subscription::new(core, Source::Indexed { key, interval, changed, pace }, from)
    }

    /// As [`Subscription::indexed`], but where there are none a checkpoint comes so long after the
    /// log went on, and no other.
    pub(crate) fn timed(
        core: Arc<Core>,
        key: Key,
        from: SubscribeFrom,
        every: Duration,
        timer: Arc<dyn Timer>,
    ) -> Subscription {
        let changed = core.waiters.register(key);
        let committed = core.committed.subscribe();
        let pace = Pace::Time { committed, timer, every, over: false };
        Subscription::new(core, Source::Indexed { key, interval: u64::MAX, changed, pace }, from)
    }

    fn new(core: Arc<Core>, source: Source, from: SubscribeFrom) -> Subscription {
        let next = match (from, &source) {
            (SubscribeFrom::Start, _) => 0,
            (SubscribeFrom::After(n), _) => n.saturating_add(1),
            (SubscribeFrom::End, Source::Stream { .. }) => 0,
            (SubscribeFrom::End, _) => core.committed().0,
        };
        let from_end = match (from, &source) {
            (SubscribeFrom::End, Source::Stream { .. }) => {
                let committed = core.committed();
                Some((committed, core.view.load_full()))
            }
            _ => None,
        };
        core.counters.subscriptions.fetch_add(1, Ordering::Relaxed);
        let closed = core.closed.subscribe();
        let links = match &source {
            Source::Stream { name, .. } => Links::of(name, core.store_id).map(Arc::new),
            Source::All { .. } | Source::Indexed { .. } => None,
        };
        Subscription {
            core,
            closed,
            source,
            links,
            following: false,
            next,
            from_end,
            caught_up: false,
            considered: 0,
            owed: None,
            rest: None,
            last_checkpoint: None,
        }
    }

    /// What comes next; waits for it. May be dropped and called again without loss.
    ///
    /// # Errors
    /// [`ReadError::StreamDeleted`] when the stream ended for ever, [`ReadError::Closed`] when the
    /// store stops, or why the log could not be read.
    pub async fn next(&mut self) -> Result<Delivery, ReadError> {
        loop {
            if *self.closed.borrow() {
                return Err(ReadError::Closed);
            }
            if let Some(delivery) = self.owed() {
                return Ok(delivery);
            }
            let wait = self.source.begin_wait();
            let look = match self.rest.take() {
                Some(rest) => rest,
                None => self.look().await?,
            };
            match self.apply(look)? {
                Next::Deliver(delivery) => return Ok(delivery),
                Next::LookAgain => {}
                Next::Wait => {
                    let behind = self.untold() > 0;
                    tokio::select! {
                        () = wait.over(&mut self.source, behind) => {}
                        _ = self.closed.changed() => {}
                    }
                }
            }
        }
    }

    /// What comes next, if it is there already; none at the end of the log. May read the disk.
    ///
    /// # Errors
    /// As [`Subscription::next`].
    pub fn try_next(&mut self) -> Result<Option<Delivery>, ReadError> {
        loop {
            if let Some(delivery) = self.owed() {
                return Ok(Some(delivery));
            }
            let look = match self.rest.take() {
                Some(rest) => rest,
                None => self.looker().look(Access::Disk)?,
            };
            match self.apply(look)? {
                Next::Deliver(delivery) => return Ok(Some(delivery)),
                Next::LookAgain => {}
                Next::Wait => return Ok(None),
            }
        }
    }

    fn owed(&mut self) -> Option<Delivery> {
        let position = self.owed.take()?;
        self.last_checkpoint = Some(position);
        self.considered = 0;
        Some(Delivery::Checkpoint { position, time: self.now() })
    }

    fn apply(&mut self, look: Look) -> Result<Next, ReadError> {
        match self.cut(look) {
            Look::Deliver(page, reach) => {
                self.advance(reach);
                if matches!(self.source, Source::Indexed { pace: Pace::Time { .. }, .. }) {
                    // The events say it.
                    self.last_checkpoint = self.next.checked_sub(1).map(Position);
                }
                Ok(Next::Deliver(Delivery::Events(page)))
            }
            Look::Deleted(stream) => Err(ReadError::StreamDeleted { stream }),
            Look::Nothing(reach) if self.from_end.take().is_some() => {
                self.next = reach.next;
                Ok(Next::LookAgain)
            }
            Look::Nothing(reach) if reach.next > self.next => {
                self.advance(reach);
                Ok(Next::LookAgain)
            }
            Look::Nothing(_) if self.caught_up && self.is_to_tell() => {
                self.owed = self.next.checked_sub(1).map(Position);
                Ok(Next::LookAgain)
            }
            Look::Nothing(_) if self.caught_up => Ok(Next::Wait),
            Look::Nothing(_) => {
                let at = self.next.checked_sub(1);
                let checkpoints = self.source.interval().is_some();
                if checkpoints && at.map(Position) > self.last_checkpoint {
                    self.owed = at.map(Position);
                    return Ok(Next::LookAgain);
                }
                self.caught_up = true;
                Ok(Next::Deliver(Delivery::CaughtUp { at, time: self.now() }))
            }
        }
    }

    /// What `look` brought up to the place where a checkpoint is due; the rest is kept. Consumers
    /// count on their interval, and a page may be many of them long.
    fn cut(&mut self, look: Look) -> Look {
        let Source::All { filter: Some(filter), .. } = &self.source else { return look };
        let left = filter.checkpoint_interval.saturating_sub(self.considered);
        let due = self.next.saturating_add(left);
        let until = Reach { next: due, considered: left };
        match look {
            Look::Deliver(page, reach) if reach.next > due => {
                let (page, rest) = page.split(Position(due));
                self.rest = Some(Look::of(rest, reach.after(until)));
                Look::of(page, until)
            }
            Look::Nothing(reach) if reach.next > due => {
                self.rest = Some(Look::Nothing(reach.after(until)));
                Look::Nothing(until)
            }
            whole => whole,
        }
    }

    /// Whether the log went on for long with nothing for it: it is told how far it is then.
    fn is_to_tell(&mut self) -> bool {
        let untold = self.untold();
        match &mut self.source {
            Source::Indexed { pace, .. } => pace.is_to_tell(untold),
            Source::Stream { .. } | Source::All { .. } => false,
        }
    }

    /// How many events' places are behind it, but were not told yet.
    fn untold(&self) -> u64 {
        self.next.saturating_sub(self.last_checkpoint.map_or(0, |position| position.0 + 1))
    }

    fn now(&self) -> Timestamp {
        self.core.environment.clock.now()
    }

    /// Notes how far it came, and whether a checkpoint is due.
    fn advance(&mut self, reach: Reach) {
        self.considered += reach.considered;
        self.next = reach.next;
        if self.source.interval().is_some_and(|interval| self.considered >= interval) {
            self.owed = self.next.checked_sub(1).map(Position);
        }
    }

    async fn look(&mut self) -> Result<Look, ReadError> {
        match self.looker().look(Access::Memory) {
            Err(ReadError::NotInMemory) => {}
            other => return other,
        }
        // The state is copied, so that a dropped wait changes nothing.
        let look = self.looker();
        blocking(move || look.look(Access::Disk)).await
    }

    fn looker(&self) -> Looker {
        let what = match &self.source {
            Source::Stream { name, keys, .. } => {
                let (name, links) = (name.clone(), self.links.clone());
                What::Stream { name, keys: *keys, links, following: self.following }
            }
            Source::All { filter, .. } => {
                What::All { filter: filter.as_ref().map(|f| f.filter.clone()) }
            }
            Source::Indexed { key, interval, .. } => {
                // No further than to the next checkpoint.
                let limit = interval.saturating_sub(self.considered);
                What::Indexed { key: *key, limit }
            }
        };
        let from_end = self.from_end.clone();
        Looker { core: self.core.clone(), what, next: self.next, from_end }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.core.counters.subscriptions.fetch_sub(1, Ordering::Relaxed);
        if let Some(key) = self.source.key() {
            self.core.waiters.leave(key);
        }
    }
}
