//! A store in memory that can be followed, rewound, interrupted and closed.

#![allow(clippy::unwrap_used, reason = "a test that fails shows where")]

use std::sync::Arc;

use daybook_client::Checkpoint;
use daybook_model::{ContentType, Epoch, Position, RecordedEvent, Revision, StreamName, Timestamp};
use daybook_projections::feed::Head;
use daybook_projections::{Batch, Feed, FeedError, FeedEvent, Interest, Source};
use tokio::sync::watch;

/// A log in memory. A clone is another handle.
#[derive(Clone)]
pub struct MemoryLog {
    log: Arc<watch::Sender<Log>>,
    batch_max: usize,
}

#[derive(Default)]
struct Log {
    events: Vec<RecordedEvent>,
    /// Where each epoch began.
    epochs: Vec<(u64, Epoch)>,
    interruptions: u32,
    closed: bool,
}

impl MemoryLog {
    /// An empty log whose batches have at most so many events.
    pub fn new(batch_max: usize) -> MemoryLog {
        let log = Log { epochs: vec![(0, Epoch(0))], ..Log::default() };
        MemoryLog { log: Arc::new(watch::Sender::new(log)), batch_max }
    }

    /// Adds events: stream, type, data.
    pub fn append<'a>(&self, events: impl IntoIterator<Item = (&'a str, &'a str, String)>) {
        self.log.send_modify(|log| {
            for (stream, event_type, data) in events {
                let position = log.events.len() as u64;
                log.events.push(RecordedEvent {
                    position: Position(position),
                    revision: Revision(position),
                    time: Timestamp(1_700_000_000_000_000_000 + i64::try_from(position).unwrap()),
                    id: uuid::Uuid::from_u128(u128::from(position)),
                    stream: StreamName::new(stream).unwrap(),
                    event_type: event_type.to_owned(),
                    content_type: ContentType::Binary,
                    tombstone: false,
                    metadata: bytes::Bytes::new(),
                    data: data.into(),
                });
            }
        });
    }

    /// Adds many events at once, as they are.
    pub fn load(&self, events: Vec<RecordedEvent>) {
        self.log.send_modify(|log| log.events.extend(events));
    }

    /// Restores the log to its first `len` events, in a new epoch.
    pub fn rewind(&self, len: usize) {
        self.log.send_modify(|log| {
            log.events.truncate(len);
            let epoch = Epoch(log.epochs.last().unwrap().1.0 + 1);
            log.epochs.push((len as u64, epoch));
        });
    }

    /// Lets the next reads fail.
    pub fn interrupt(&self, times: u32) {
        self.log.send_modify(|log| log.interruptions = times);
    }

    /// Closes the store.
    pub fn close(&self) {
        self.log.send_modify(|log| log.closed = true);
    }

    /// The last event's position.
    pub fn last(&self) -> Position {
        Position(self.log.borrow().events.len() as u64 - 1)
    }

    /// The last event's place.
    pub fn head_now(&self) -> Option<Checkpoint> {
        let log = self.log.borrow();
        let last = log.events.len().checked_sub(1)?;
        Some(log.place(last as u64))
    }
}

impl Log {
    fn place(&self, position: u64) -> Checkpoint {
        let epoch = self.epochs.iter().rfind(|(began, _)| *began <= position).unwrap().1;
        Checkpoint::at(Position(position), epoch)
    }

    fn check(&self, checkpoint: Checkpoint) -> Result<(), FeedError> {
        let position = checkpoint.position().0;
        if position >= self.events.len() as u64 || self.place(position) != checkpoint {
            return Err(FeedError::Rewound { checkpoint, reason: "another epoch".to_owned() });
        }
        Ok(())
    }

    fn disturbed(&self) -> Option<FeedError> {
        if self.closed {
            return Some(FeedError::Closed);
        }
        (self.interruptions > 0).then(|| FeedError::Interrupted { reason: "planted".to_owned() })
    }
}

impl Source for MemoryLog {
    type Feed = MemoryFeed;

    async fn follow(
        &self,
        after: Option<Checkpoint>,
        interest: Interest,
    ) -> Result<MemoryFeed, FeedError> {
        let next = after.map_or(0, |after| after.position().0 + 1);
        let log = self.log.borrow();
        if let Some(checkpoint) = after {
            log.check(checkpoint)?;
        }
        let changed = self.log.subscribe();
        Ok(MemoryFeed { log: self.clone(), changed, interest, next, said: false })
    }

    async fn head(&self) -> Result<Head, FeedError> {
        let time = self.log.borrow().events.last().map(|event| event.time);
        Ok(Head { checkpoint: self.head_now(), time })
    }

    async fn time_at(&self, place: Checkpoint) -> Result<Option<Timestamp>, FeedError> {
        let log = self.log.borrow();
        log.check(place)?;
        let at = usize::try_from(place.position().0).unwrap();
        Ok(log.events.get(at).map(|event| event.time))
    }
}

pub struct MemoryFeed {
    log: MemoryLog,
    changed: watch::Receiver<Log>,
    interest: Interest,
    next: u64,
    /// Whether it has said that it has caught up.
    said: bool,
}

impl Feed for MemoryFeed {
    async fn next(&mut self) -> Result<Batch, FeedError> {
        loop {
            let disturbed = self.changed.borrow_and_update().disturbed();
            if let Some(error) = disturbed {
                self.log.log.send_if_modified(|log| {
                    log.interruptions = log.interruptions.saturating_sub(1);
                    false
                });
                return Err(error);
            }
            {
                let log = self.changed.borrow();
                let from = usize::try_from(self.next).unwrap();
                let to = log.events.len().min(from + self.log.batch_max);
                let caught_up = to == log.events.len();
                if to > from || !self.said {
                    let wanted = log.events[from..to].iter();
                    let wanted = wanted.filter(|event| {
                        self.interest.wants(event.stream.as_str(), &event.event_type)
                    });
                    let events = wanted.map(|event| FeedEvent {
                        checkpoint: log.place(event.position.0),
                        event: event.clone(),
                    });
                    let events = events.collect();
                    let through = (to as u64).checked_sub(1).map(|last| log.place(last));
                    self.next = to as u64;
                    self.said = caught_up;
                    return Ok(Batch { events, through, caught_up });
                }
            }
            if self.changed.changed().await.is_err() {
                return Err(FeedError::Closed);
            }
        }
    }
}
