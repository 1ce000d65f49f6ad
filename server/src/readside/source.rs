//! The store of this process as what projections follow: its own feed, without the network.
//!
//! ```text
//!   Store::subscribe_all ──Page──> wanted? ──FeedEvent──> Batch ──> runner
//!      │ caught up                   └─ no: only the place moves on
//!   Store::follow_all_of, if all that is wanted is of one category
//! ```
//!
//! Until it has caught up the feed looks at every event of the log: that is the fastest way through
//! it. Then it is woken by the events of its category alone, and not by each append of the server;
//! whoever waits for a position of others waits [`PLACE_INTERVAL`] at most.
//!
//! INVARIANT: a batch is handed over as soon as nothing more is there at once, and never later than
//! its limits. A dropped [`Feed::next`] loses nothing: what was read is kept for the next one.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use daybook_client::Checkpoint;
use daybook_model::watch::Watched;
use daybook_model::{EventView, Position, RecordedEvent, StreamName, Timer, Timestamp, stream};
use daybook_projections::feed::{BATCH_EVENTS_MAX, BATCH_SIZE_MAX, Head};
use daybook_projections::{Batch, Feed, FeedError, FeedEvent, Interest, Source};
use daybook_store::{
    AllFrom, Delivery, Direction, IndexKey, Page, ReadAll, ReadError, Store, SubscribeFrom,
    Subscription,
};

/// Events that are looked at in vain before a batch is handed over without them, so that a place
/// that moves is seen to move. Much more than a page, so that it costs nothing.
const CONSIDERED_MAX: u64 = 64 * 1024;

/// How long after others' events the place is known to be behind them: little beside the append
/// that whoever waits for it has just made, and two hundred times a second cost nothing.
pub const PLACE_INTERVAL: Duration = Duration::from_millis(5);

/// The store, as what is followed.
#[derive(Clone)]
pub struct StoreSource {
    store: Store,
    timer: Arc<dyn Timer>,
}

/// A place in the store's feed.
pub struct StoreFeed {
    store: Store,
    timer: Arc<dyn Timer>,
    subscription: Subscription,
    /// What it follows once it has caught up; none if it does, or follows the log for ever.
    part: Option<IndexKey>,
    /// Whether it follows a part of the log.
    partial: bool,
    interest: Interest,
    batch: Batch,
    /// Bytes of the batch's events.
    size: usize,
    /// Events looked at for the batch.
    considered: u64,
}

impl StoreSource {
    /// `store` as what is followed.
    #[must_use]
    pub fn new(store: Store, timer: Arc<dyn Timer>) -> StoreSource {
        StoreSource { store, timer }
    }

    /// Whether `after` is of the log's own history.
    fn check(&self, after: Checkpoint) -> Result<(), FeedError> {
        let position = after.position();
        let rewound = |reason| Err(FeedError::Rewound { checkpoint: after, reason });
        match self.store.epoch_at(position) {
            None => rewound(format!("the log ends before position {position}")),
            Some(epoch) if Checkpoint::at(position, epoch) != after => {
                rewound(format!("position {position} was written anew, in epoch {epoch}"))
            }
            Some(_) => Ok(()),
        }
    }
}

impl Source for StoreSource {
    type Feed = StoreFeed;

    async fn follow(
        &self,
        after: Option<Checkpoint>,
        interest: Interest,
    ) -> Result<StoreFeed, FeedError> {
        let from = match after {
            None => SubscribeFrom::Start,
            Some(after) => {
                self.check(after)?;
                SubscribeFrom::After(after.position().0)
            }
        };
        Ok(StoreFeed {
            store: self.store.clone(),
            timer: self.timer.clone(),
            subscription: self.store.subscribe_all(from, None),
            part: part(&interest),
            partial: false,
            interest,
            batch: Batch::default(),
            size: 0,
            considered: 0,
        })
    }

    async fn head(&self) -> Result<Head, FeedError> {
        let from = AllFrom::End;
        let query = ReadAll { from, direction: Direction::Backwards, count: 1, filter: None };
        let page = self.store.read_all(query).next().await.map_err(|error| unreadable(&error))?;
        let last = page.as_ref().and_then(Page::last);
        let checkpoint = last.and_then(|last| checkpoint(&self.store, last.position));
        Ok(Head { checkpoint, time: last.map(|last| last.time) })
    }

    async fn time_at(&self, place: Checkpoint) -> Result<Option<Timestamp>, FeedError> {
        self.check(place)?;
        let (from, direction) = (AllFrom::Position(place.position()), Direction::Forwards);
        let query = ReadAll { from, direction, count: 1, filter: None };
        let page = self.store.read_all(query).next().await.map_err(|error| unreadable(&error))?;
        Ok(page.as_ref().and_then(Page::last).map(|event| event.time))
    }

    fn follow_work(&self, runner: &str, batch: &Batch) -> Option<Box<dyn Watched>> {
        let events = batch.events.iter().map(|each| &each.event);
        let mut events = events.map(|event| (&event.metadata[..], event.time));
        self.store.watch()?.batch(runner, &mut events)
    }
}

impl Feed for StoreFeed {
    async fn next(&mut self) -> Result<Batch, FeedError> {
        loop {
            if self.is_due() {
                return Ok(self.hand_over());
            }
            match self.subscription.next().await {
                Ok(Delivery::Events(page)) => self.take(&page),
                Ok(Delivery::CaughtUp { at, .. }) => {
                    if let Some(part) = self.part.take() {
                        self.follow(&part, at);
                    }
                    self.batch.caught_up = true;
                    return Ok(self.hand_over());
                }
                // Of a part of the log: there was nothing of it up to here.
                Ok(Delivery::Checkpoint { position, .. }) => {
                    let through = checkpoint(&self.store, position);
                    self.batch.through = self.batch.through.max(through);
                }
                Err(error) => return Err(unreadable(&error)),
            }
        }
    }
}

impl StoreFeed {
    /// Follows a part of the log after the position `at`.
    fn follow(&mut self, part: &IndexKey, at: Option<u64>) {
        let from = at.map_or(SubscribeFrom::Start, SubscribeFrom::After);
        let timer = self.timer.clone();
        self.subscription = self.store.follow_all_of(part, from, PLACE_INTERVAL, timer);
        self.partial = true;
    }

    /// Whether the batch is to be handed over: it is full, or there is nothing to add to it now.
    fn is_due(&self) -> bool {
        let Some(through) = self.batch.through else { return false };
        self.partial
            || self.batch.events.len() >= BATCH_EVENTS_MAX
            || self.size >= BATCH_SIZE_MAX
            || self.considered >= CONSIDERED_MAX
            || through.position().next() >= self.store.committed()
    }

    fn hand_over(&mut self) -> Batch {
        let mut batch = std::mem::take(&mut self.batch);
        (self.size, self.considered) = (0, 0);
        let at_end = |through: Checkpoint| through.position().next() >= self.store.committed();
        batch.caught_up |= batch.through.is_some_and(at_end);
        batch
    }

    fn take(&mut self, page: &Page) {
        self.considered += page.len() as u64;
        for event in page.events() {
            if !self.interest.wants(event.stream, event.event_type) {
                continue;
            }
            if let Some(checkpoint) = checkpoint(&self.store, event.position) {
                self.size += event.data.len() + event.metadata.len();
                self.batch.events.push(FeedEvent { checkpoint, event: owned(&event) });
            }
        }
        if let Some(last) = page.last() {
            self.batch.through = checkpoint(&self.store, last.position);
        }
    }
}

/// The part of the log that has all of `interest`, if the store keeps one.
fn part(interest: &Interest) -> Option<IndexKey> {
    let [prefix] = &interest.streams[..] else { return None };
    let category = stream::category(prefix)?;
    let whole = prefix.strip_prefix(category) == Some("-");
    whole.then(|| IndexKey::Category(category.to_owned()))
}

/// The checkpoint of an event that is committed.
fn checkpoint(store: &Store, position: Position) -> Option<Checkpoint> {
    store.epoch_at(position).map(|epoch| Checkpoint::at(position, epoch))
}

fn owned(event: &EventView<'_>) -> RecordedEvent {
    RecordedEvent {
        position: event.position,
        revision: event.revision,
        time: event.time,
        id: event.id,
        stream: StreamName::new(event.stream).expect("a stored name is one"),
        event_type: event.event_type.to_owned(),
        content_type: event.content_type,
        tombstone: event.tombstone,
        metadata: Bytes::copy_from_slice(event.metadata),
        data: Bytes::copy_from_slice(event.data),
    }
}

fn unreadable(error: &ReadError) -> FeedError {
    match error {
        ReadError::Closed => FeedError::Closed,
        // The store builds the index file anew; the log itself is sound.
        ReadError::IndexDamaged { .. } => FeedError::Interrupted { reason: error.to_string() },
        other => FeedError::Refused { reason: other.to_string() },
    }
}
