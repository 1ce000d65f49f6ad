//! The feed over the network: a subscription to `$all`, gathered into batches.
//!
//! What is there is delivered together, and nothing is waited for to fill a batch: history comes in
//! large ones, and what is live at once.
//!
//! In history the server leaves out what is not wanted: it filters by stream names if the interest
//! names some, else by types, and what is left is filtered here. What is live comes unfiltered,
//! because a filtered subscription tells its place from time to time only, and whoever waits for a
//! position wants to know of each that nothing was in it.
//!
//! A lost connection is the subscription's own matter ([`daybook_client::subscribe`]).
//!
//! INVARIANT: a place is handed on only when all that is wanted before it was.

use daybook_client::{
    AllFrom, Checkpoint, Client, Delivery, Direction, EventFilter, Pattern, ReadAll, ReadError,
    ResolvedEvent, SubscribeAll, SubscribeFrom, Subscription,
};
use daybook_model::{FilterTarget, Timestamp};
use futures_util::{FutureExt as _, TryStreamExt as _};

use crate::feed::{
    BATCH_EVENTS_MAX, BATCH_SIZE_MAX, Batch, Feed, FeedError, FeedEvent, Head, Interest, Source,
};

/// A store at the other end of a connection.
#[derive(Clone, Debug)]
pub struct ClientSource {
    client: Client,
}

/// What follows it.
#[derive(Debug)]
pub struct ClientFeed {
    client: Client,
    subscription: Subscription,
    interest: Interest,
    phase: Phase,
}

/// How far a feed is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// History, filtered by the server.
    Filtered,
    /// Filtered history has come to its end: the rest is to be asked for without a filter.
    Passing,
    /// Everything, and it is not live (yet, or again).
    Behind,
    /// Everything, as it is committed.
    Live,
}

impl ClientSource {
    /// The store that `client` speaks to.
    #[must_use]
    pub fn new(client: Client) -> ClientSource {
        ClientSource { client }
    }
}

impl Source for ClientSource {
    type Feed = ClientFeed;

    async fn follow(
        &self,
        after: Option<Checkpoint>,
        interest: Interest,
    ) -> Result<ClientFeed, FeedError> {
        let filter = filter(&interest);
        let phase = if filter.is_some() { Phase::Filtered } else { Phase::Behind };
        let subscription = subscribe(&self.client, after, filter).await?;
        Ok(ClientFeed { client: self.client.clone(), subscription, interest, phase })
    }

    async fn head(&self) -> Result<Head, FeedError> {
        let query = ReadAll {
            from: AllFrom::End,
            direction: Direction::Backwards,
            count: 1,
            ..ReadAll::default()
        };
        let read = async {
            let mut events = self.client.read_all(query).await?;
            events.try_next().await
        };
        let last = read.await.map_err(|error| feed_error(error, None))?;
        let checkpoint = last.as_ref().and_then(|last| last.checkpoint);
        let time = last.as_ref().and_then(ResolvedEvent::original).map(|event| event.time);
        Ok(Head { checkpoint, time })
    }

    async fn time_at(&self, place: Checkpoint) -> Result<Option<Timestamp>, FeedError> {
        let query = ReadAll { from: AllFrom::At(place), count: 1, ..ReadAll::default() };
        let read = async {
            let mut events = self.client.read_all(query).await?;
            events.try_next().await
        };
        let found = read.await.map_err(|error| feed_error(error, Some(place)))?;
        Ok(found.as_ref().and_then(ResolvedEvent::original).map(|event| event.time))
    }
}

impl Feed for ClientFeed {
    async fn next(&mut self) -> Result<Batch, FeedError> {
        // The only waits: nothing is in hand while they last.
        if self.phase == Phase::Passing {
            let after = self.subscription.checkpoint();
            self.subscription = subscribe(&self.client, after, None).await?;
            self.phase = Phase::Behind;
        }
        let first = self.subscription.next().await.map_err(|error| self.error(error))?;
        let mut batch = Batch::default();
        let mut size = 0;
        let mut delivery = first;
        loop {
            let before = self.phase;
            size += self.gather(delivery, &mut batch);
            let told = self.phase != before && self.phase != Phase::Behind;
            if told || batch.events.len() >= BATCH_EVENTS_MAX || size >= BATCH_SIZE_MAX {
                break;
            }
            match self.subscription.next().now_or_never() {
                Some(Ok(next)) => delivery = next,
                // An error comes again with the next call, or the subscription has healed it.
                Some(Err(_)) | None => break,
            }
        }
        batch.through = self.subscription.checkpoint();
        batch.caught_up = self.phase == Phase::Live;
        Ok(batch)
    }
}

impl ClientFeed {
    /// Adds what was delivered; its bytes.
    fn gather(&mut self, delivery: Delivery, batch: &mut Batch) -> usize {
        match delivery {
            Delivery::Event(ResolvedEvent { event: Some(event), checkpoint: Some(at), .. }) => {
                if !self.interest.wants(event.stream.as_str(), &event.event_type) {
                    return 0;
                }
                let size = event.data.len() + event.metadata.len();
                batch.events.push(FeedEvent { checkpoint: at, event });
                size
            }
            Delivery::CaughtUp => {
                self.phase = match self.phase {
                    Phase::Filtered | Phase::Passing => Phase::Passing,
                    Phase::Behind | Phase::Live => Phase::Live,
                };
                0
            }
            Delivery::FellBehind if self.phase == Phase::Live => {
                self.phase = Phase::Behind;
                0
            }
            Delivery::FellBehind | Delivery::Event(_) | Delivery::Checkpoint(_) => 0,
        }
    }

    fn error(&self, error: ReadError) -> FeedError {
        feed_error(error, self.subscription.checkpoint())
    }
}

async fn subscribe(
    client: &Client,
    after: Option<Checkpoint>,
    filter: Option<EventFilter>,
) -> Result<Subscription, FeedError> {
    let from = after.map_or(SubscribeFrom::Start, SubscribeFrom::After);
    let query = SubscribeAll { from, filter, ..SubscribeAll::default() };
    client.subscribe_all(query).await.map_err(|error| feed_error(error, after))
}

/// What the server can leave out.
fn filter(interest: &Interest) -> Option<EventFilter> {
    let (target, prefixes) = if !interest.streams.is_empty() {
        (FilterTarget::StreamName, interest.streams.clone())
    } else if !interest.types.is_empty() {
        (FilterTarget::EventType, interest.types.clone())
    } else {
        return None;
    };
    Some(EventFilter { target, pattern: Pattern::Prefixes(prefixes) })
}

fn feed_error(error: ReadError, at: Option<Checkpoint>) -> FeedError {
    let reason = error.to_string();
    match (error, at) {
        (ReadError::InvalidPosition { .. }, Some(checkpoint)) => {
            FeedError::Rewound { checkpoint, reason }
        }
        (error, _) if error.is_transient() => FeedError::Interrupted { reason },
        _ => FeedError::Refused { reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daybook_client::CallError;
    use daybook_model::{Epoch, Position};

    #[test]
    fn errors_say_whether_it_may_go_on() {
        let at = Checkpoint::at(Position(5), Epoch(1));
        let reason = || "r".to_owned();
        let invalid = || ReadError::InvalidPosition { reason: reason() };
        let call = ReadError::Call;
        let lost = feed_error(invalid(), Some(at));
        assert!(matches!(lost, FeedError::Rewound { checkpoint, .. } if checkpoint == at));
        assert!(matches!(feed_error(invalid(), None), FeedError::Refused { .. }));
        let busy = call(CallError::Overloaded { reason: reason() });
        assert!(matches!(feed_error(busy, Some(at)), FeedError::Interrupted { .. }));
        let denied = call(CallError::AccessDenied { reason: reason() });
        assert!(matches!(feed_error(denied, Some(at)), FeedError::Refused { .. }));
    }

    #[test]
    fn the_server_leaves_out_what_it_can() {
        let interest = |streams: &[&str], types: &[&str]| Interest {
            streams: streams.iter().map(|s| (*s).to_owned()).collect(),
            types: types.iter().map(|s| (*s).to_owned()).collect(),
        };
        assert_eq!(filter(&interest(&[], &[])), None);
        let by_stream = filter(&interest(&["a-"], &["T"])).unwrap();
        assert_eq!(by_stream.target, FilterTarget::StreamName);
        assert_eq!(filter(&interest(&[], &["T"])).unwrap().target, FilterTarget::EventType);
    }
}
