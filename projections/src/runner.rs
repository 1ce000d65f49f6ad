//! The loop that feeds a consumer: reads ahead, retries, pauses, stops, and says how far it is.
//!
//! ```text
//!            begin ──> follow ──> next … take … next … take …      (two batches are read ahead)
//!              ^                      │
//!   Starting   └── CatchingUp, Live ──┴─ interrupted ──> Retrying ──> begin
//!                                     ├─ fenced, poisoned, refused ──> Stopped, until resumed
//!                                     ├─ told ──> Paused, until resumed; or the end
//!                                     └─ the place is lost, the store closes ──> the end
//! ```
//!
//! There is no hand-over from history to live: it is one loop over one feed.
//!
//! INVARIANTS: spawns nothing; whatever is dropped when, the consumer's own place says where to go
//! on. Who was fenced never tries again by itself.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use daybook_client::Checkpoint;
use daybook_model::Position;
use tokio::sync::watch;

use crate::consumer::{ConsumeError, Consumer, Taken};
use crate::feed::{Batch, Feed, FeedError, Source};
use crate::status::{State, Status};

mod handle;
mod rate;

pub use handle::{Handle, Seams};
use handle::{Told, Wish};
use rate::Rate;

/// Batches that are read while the consumer works on the one before: the feed and the consumer each
/// keep a processor busy, and no more than these wait in memory.
pub const READ_AHEAD: usize = 2;
/// How long a batch that is being taken in may go on after the runner was told to stop or to pause.
pub const GRACE: Duration = Duration::from_secs(2);
/// How often the end of the log is looked at while the feed is not there yet.
pub const HEAD_INTERVAL: Duration = Duration::from_secs(1);
/// How long a look at the end of the log may take.
const HEAD_WAIT_MAX: Duration = Duration::from_secs(2);
/// The wait before the first attempt to go on; doubled for each further one.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait between two attempts.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Feeds a consumer until it is told to stop. Made with its [`Handle`]; ends when the last of its
/// handles is dropped.
pub struct Runner<S: Source, C: Consumer> {
    name: String,
    source: S,
    consumer: C,
    seams: Seams,
    told: Told,
    status: watch::Sender<Status>,
    rate: Rate,
    head_seen: Option<Duration>,
    failures: u32,
}

/// Why a runner ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was told to, or its handles are gone.
    Told,
    /// The store closes.
    Closed,
    /// What the consumer has built or its place is not of the store's history, or is gone: it must
    /// be built anew.
    Lost {
        /// What was found.
        reason: String,
    },
}

/// Why it does not go on as it is.
enum Broken {
    Told,
    End(End),
    Retry { reason: String },
    Stopped { reason: String, poisoned: Option<Position> },
}

/// What was read ahead: batches, and why there are no more.
type Ahead = VecDeque<Result<Batch, FeedError>>;

impl<S: Source, C: Consumer> Runner<S, C> {
    /// A runner that is to be called `name` in the log, and its handle. Nothing happens until
    /// [`Runner::run`] is polled.
    #[must_use]
    pub fn new(name: &str, source: S, consumer: C, seams: Seams) -> (Runner<S, C>, Handle) {
        let (status, shown) = watch::channel(Status::starting());
        let (handle, told) = handle::pair(shown);
        let runner = Runner {
            name: name.to_owned(),
            source,
            consumer,
            seams,
            told,
            status,
            rate: Rate::default(),
            head_seen: None,
            failures: 0,
        };
        (runner, handle)
    }

    /// Says that it is at `place`, also while it has not begun: it may be told to pause before.
    #[must_use]
    pub fn at(self, place: Option<Checkpoint>) -> Runner<S, C> {
        self.status.send_modify(|status| status.checkpoint = place);
        self
    }

    /// Runs until it is told to stop or cannot go on in any way.
    pub async fn run(mut self) -> End {
        loop {
            match self.told.wish() {
                Wish::Stop => return End::Told,
                Wish::Pause => {
                    self.enter(State::Paused);
                    self.idle().await;
                    continue;
                }
                Wish::Run => {}
            }
            match self.follow().await {
                Broken::Told => {}
                Broken::End(end) => {
                    tracing::info!(runner = self.name, ?end, "ended");
                    return end;
                }
                // Told otherwise while the batch in hand failed: nobody tells it again.
                _ if self.told.wish() != Wish::Run => {}
                Broken::Retry { reason } => self.back_off(reason).await,
                Broken::Stopped { reason, poisoned } => {
                    tracing::error!(runner = self.name, "stopped: {reason}");
                    if poisoned.is_some() {
                        self.learn_place().await;
                    }
                    self.enter(State::Stopped { reason });
                    self.status.send_modify(|status| status.poisoned = poisoned);
                    self.idle().await;
                }
            }
        }
    }

    /// Follows the feed until something is in the way.
    async fn follow(&mut self) -> Broken {
        self.enter(State::Starting);
        let begun = match self.told.or(self.consumer.begin()).await {
            Some(Ok(begun)) => begun,
            Some(Err(error)) => return error.into(),
            None => return Broken::Told,
        };
        self.status.send_modify(|status| status.checkpoint = begun);
        let interest = self.consumer.interest();
        let mut feed = match self.told.or(self.source.follow(begun, interest)).await {
            Some(Ok(feed)) => feed,
            Some(Err(error)) => return error.into(),
            None => return Broken::Told,
        };
        self.look_at_head().await;
        self.enter(State::CatchingUp);
        let mut ahead = Ahead::with_capacity(READ_AHEAD);
        loop {
            let batch = match ahead.pop_front() {
                Some(next) => next,
                None => match self.wait_for(&mut feed).await {
                    Some(next) => next,
                    None => return Broken::Told,
                },
            };
            let batch = match batch {
                Ok(batch) => batch,
                Err(error) => return error.into(),
            };
            let part = Part::of(&batch);
            let watched = self.source.follow_work(&self.name, &batch);
            let taken = match self.take(batch, &mut feed, &mut ahead).await {
                Some(Ok(taken)) => taken,
                Some(Err(error)) => {
                    if let Some(mut watched) = watched {
                        watched.failed(&error);
                    }
                    return error.into();
                }
                None => return Broken::Told,
            };
            drop(watched);
            self.failures = 0;
            self.took(&part, taken);
            if self.told.wish() != Wish::Run {
                return Broken::Told;
            }
            self.look_at_head_now_and_then().await;
        }
    }

    /// The next batch; none if it was told otherwise meanwhile.
    async fn wait_for(&mut self, feed: &mut S::Feed) -> Option<Result<Batch, FeedError>> {
        loop {
            let tick = self.seams.timer.sleep(HEAD_INTERVAL);
            tokio::select! {
                biased;
                () = self.told.otherwise() => return None,
                next = feed.next() => return Some(next),
                () = tick => {}
            }
            self.look_at_head_now_and_then().await;
        }
    }

    /// Has the consumer take in `batch`, and reads ahead meanwhile. None if it was told otherwise
    /// and the consumer took too long.
    async fn take(
        &mut self,
        batch: Batch,
        feed: &mut S::Feed,
        ahead: &mut Ahead,
    ) -> Option<Result<Taken, ConsumeError>> {
        let mut take = pin!(self.consumer.take(batch));
        loop {
            let more = ahead.len() < READ_AHEAD && ahead.back().is_none_or(Result::is_ok);
            tokio::select! {
                biased;
                taken = &mut take => return Some(taken),
                () = self.told.otherwise() => break,
                next = feed.next(), if more => ahead.push_back(next),
            }
        }
        tokio::select! {
            biased;
            taken = &mut take => Some(taken),
            () = self.seams.timer.sleep(GRACE) => None,
        }
    }

    /// Notes what became of a batch.
    fn took(&mut self, part: &Part, taken: Taken) {
        let now = self.seams.clock.monotonic();
        self.status.send_modify(|status| {
            status.events += taken.events;
            status.parked += taken.parked;
            status.event_time = part.time.or(status.event_time);
            if let Some(through) = part.through {
                status.checkpoint = Some(through);
                status.head = status.head.max(Some(through));
                status.rate = self.rate.at(now, through.position());
            }
            if part.caught_up && status.state != State::Live {
                tracing::info!(runner = self.name, "has caught up");
                status.state = State::Live;
            }
        });
    }

    /// Waits to be told something, and looks at the end of the log meanwhile.
    async fn idle(&mut self) {
        loop {
            let tick = self.seams.timer.sleep(HEAD_INTERVAL);
            tokio::select! {
                biased;
                () = self.told.anything() => return,
                () = tick => {}
            }
            self.look_at_head().await;
        }
    }

    async fn back_off(&mut self, reason: String) {
        let wait = backoff(self.failures, self.seams.entropy.bytes());
        self.failures = self.failures.saturating_add(1);
        tracing::warn!(runner = self.name, ?wait, "interrupted, tries again: {reason}");
        self.enter(State::Retrying { reason });
        tokio::select! {
            biased;
            () = self.told.anything() => {}
            () = self.seams.timer.sleep(wait) => {}
        }
    }

    /// After an error in the middle of a batch: how far it came.
    async fn learn_place(&mut self) {
        if let Some(Ok(place)) = self.told.or(self.consumer.begin()).await {
            self.status.send_modify(|status| status.checkpoint = place);
        }
    }

    async fn look_at_head_now_and_then(&mut self) {
        let now = self.seams.clock.monotonic();
        if self.head_seen.is_none_or(|seen| now.saturating_sub(seen) >= HEAD_INTERVAL) {
            self.look_at_head().await;
        }
    }

    /// Lag is for people: a look that fails or takes long is left out.
    async fn look_at_head(&mut self) {
        let timeless = {
            let status = self.status.borrow();
            status.checkpoint.filter(|_| status.event_time.is_none())
        };
        let source = &self.source;
        let look = async {
            let time = match timeless {
                Some(place) => source.time_at(place).await.ok().flatten(),
                None => None,
            };
            (source.head().await, time)
        };
        let (looked, time) = tokio::select! {
            biased;
            () = self.told.anything_unseen() => return,
            looked = look => looked,
            () = self.seams.timer.sleep(HEAD_WAIT_MAX) => return,
        };
        let now = self.seams.clock.monotonic();
        self.head_seen = Some(now);
        let Ok(head) = looked else { return };
        self.status.send_modify(|status| {
            status.event_time = status.event_time.or(time);
            status.head = head.checkpoint.max(status.checkpoint);
            if let Some(at) = status.checkpoint {
                status.rate = self.rate.at(now, at.position());
            }
        });
    }

    fn enter(&mut self, state: State) {
        self.status.send_modify(|status| {
            status.poisoned = None;
            status.state = state;
        });
    }
}

/// What a batch says besides its events.
struct Part {
    through: Option<Checkpoint>,
    caught_up: bool,
    time: Option<daybook_model::Timestamp>,
}

impl Part {
    fn of(batch: &Batch) -> Part {
        let last = batch.events.last();
        Part {
            through: batch.through.or(last.map(|last| last.checkpoint)),
            caught_up: batch.caught_up,
            time: last.map(|last| last.event.time),
        }
    }
}

impl From<FeedError> for Broken {
    fn from(error: FeedError) -> Broken {
        let reason = error.to_string();
        match error {
            FeedError::Rewound { .. } => Broken::End(End::Lost { reason }),
            FeedError::Interrupted { .. } => Broken::Retry { reason },
            FeedError::Closed => Broken::End(End::Closed),
            FeedError::Refused { .. } => Broken::Stopped { reason, poisoned: None },
        }
    }
}

impl From<ConsumeError> for Broken {
    fn from(error: ConsumeError) -> Broken {
        let reason = error.to_string();
        match error {
            ConsumeError::Lost { .. } => Broken::End(End::Lost { reason }),
            ConsumeError::Interrupted { .. } => Broken::Retry { reason },
            ConsumeError::Poisoned { position, .. } => {
                Broken::Stopped { reason, poisoned: Some(position) }
            }
            ConsumeError::Fenced { .. } | ConsumeError::Refused { .. } => {
                Broken::Stopped { reason, poisoned: None }
            }
        }
    }
}

/// The wait after so many failures in a row: doubling up to a limit, and of that at least half, the
/// rest by chance, so that many runners do not come back as one.
fn backoff(failures: u32, chance: [u8; 16]) -> Duration {
    let full = BACKOFF_MIN.saturating_mul(1 << failures.min(16)).min(BACKOFF_MAX);
    full / 2 + (full / 2).mul_f64(f64::from(chance[0]) / 255.0)
}
