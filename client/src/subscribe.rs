//! Following a stream, or `$all`: history first, then what is committed, as it is committed.
//!
//! ```text
//!            ┌── event, checkpoint, caught up ──> the place seen last ──> the subscriber
//!          live
//!   opened ^  │ lost                             failed
//!          │  └──────> waiting ──────> opening ──────────> waiting, longer
//!          │                              │                   at most so many in a row:
//!          └──────────────────────────────┘                   then the subscriber is told
//!            with a new call after the place seen last
//! ```
//!
//! A subscription survives the loss of its connection and the restart of its server: it goes on
//! after the last event it has delivered, so that its subscriber sees each event once, in order.
//! What a *process* has seen before it was restarted it must remember itself: keep the event's
//! revision or [`Checkpoint`] where its effect is, and begin after it.
//!
//! A subscription from the end first asks where the end is, and begins after that place. So it has
//! a place to go on from before anything was delivered, and a connection that is lost early loses
//! nothing of what is committed after it began.
//!
//! INVARIANT: whatever is waited for is kept when the wait is abandoned: a subscriber that looks
//! after other things every second comes back to its connection as surely as one that only waits.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use daybook_model::{Entropy as _, Revision, StreamName, SystemEntropy};
use daybook_wire::proto::streams::read_req::Options;
use daybook_wire::proto::streams::read_req::options::{CountOption, SubscriptionOptions};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use tokio::time::Sleep;
use tonic::{Status, Streaming};

use crate::connection::Client;
use crate::decode::Message;
use crate::error::{CallError, ReadError};
use crate::event::{Checkpoint, ResolvedEvent};
use crate::read::{
    AllFrom, Direction, EventFilter, Links, ReadAll, ReadStream, StreamFrom, WINDOW, all_option,
    filter_option, plain_options, stream_option,
};
use crate::settings::Resume;

/// Where a subscription begins. `After` is exclusive: it takes what the subscriber saw last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubscribeFrom<Place> {
    /// With the first event.
    #[default]
    Start,
    /// With what is committed from now on: after it was asked for, not after it went live.
    End,
    /// With what follows this place.
    After(Place),
}

/// What a subscription to a stream asks for.
#[derive(Clone, Debug)]
pub struct SubscribeStream {
    /// The stream. It need not exist yet.
    pub stream: StreamName,
    /// Where it begins.
    pub from: SubscribeFrom<Revision>,
    /// What becomes of links.
    pub links: Links,
}

/// What a subscription to `$all` asks for.
#[derive(Clone, Debug)]
pub struct SubscribeAll {
    /// Where it begins.
    pub from: SubscribeFrom<Checkpoint>,
    /// Which events it wants; all if none.
    pub filter: Option<EventFilter>,
    /// With a filter: a checkpoint is delivered each time so many times 32 events were considered,
    /// wanted or not; at least 1.
    pub checkpoint_interval: u32,
    /// What becomes of links.
    pub links: Links,
}

impl Default for SubscribeAll {
    fn default() -> SubscribeAll {
        let (from, links) = (SubscribeFrom::Start, Links::Keep);
        SubscribeAll { from, filter: None, checkpoint_interval: 1, links }
    }
}

/// What a subscription delivers.
#[derive(Clone, Debug, PartialEq)]
pub enum Delivery {
    /// The next event.
    Event(ResolvedEvent),
    /// Everything up to here was considered, though nothing of it was wanted since: a subscriber
    /// that keeps it need not have this part considered again.
    Checkpoint(Checkpoint),
    /// What follows is live. Comes again after a lost connection.
    CaughtUp,
    /// The server says that it delivers from history again.
    FellBehind,
}

/// A subscription; it ends when it is dropped. See [`crate::subscribe`].
pub struct Subscription {
    client: Client,
    subject: Subject,
    phase: Phase,
    /// Calls that were lost since the last message.
    failures: u32,
}

/// How it stands with the call.
#[expect(clippy::large_enum_variant, reason = "the large one is where a subscription always is")]
enum Phase {
    Live(Streaming<Message>),
    /// Until it is tried again.
    Waiting(Pin<Box<Sleep>>),
    Opening(BoxFuture<'static, Result<Streaming<Message>, ReadError>>),
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match &self.phase {
            Phase::Live(_) => "live",
            Phase::Waiting(_) => "waiting",
            Phase::Opening(_) => "opening",
        };
        let mut shown = f.debug_struct("Subscription");
        shown.field("subject", &self.subject).field("phase", &phase);
        shown.field("failures", &self.failures).finish_non_exhaustive()
    }
}

/// What is followed, and the place seen last.
#[derive(Clone, Debug)]
enum Subject {
    Stream(SubscribeStream),
    All(SubscribeAll),
}

impl Client {
    /// Follows a stream.
    ///
    /// # Errors
    /// [`ReadError`] if the server cannot be reached or refuses. Once it has begun, the
    /// subscription deals with lost connections itself.
    pub async fn subscribe_stream(
        &self,
        query: SubscribeStream,
    ) -> Result<Subscription, ReadError> {
        self.subscribe(Subject::Stream(query)).await
    }

    /// Follows `$all`.
    ///
    /// ```no_run
    /// use daybook_client::{Client, Delivery, SubscribeAll};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::new("daybook://127.0.0.1:2113")?;
    /// let mut subscription = client.subscribe_all(SubscribeAll::default()).await?;
    /// loop {
    ///     match subscription.next().await? {
    ///         Delivery::Event(resolved) => println!("{:?}", resolved.event),
    ///         Delivery::CaughtUp => println!("what follows is live"),
    ///         Delivery::Checkpoint(_) | Delivery::FellBehind => {}
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ReadError`] if the server cannot be reached or refuses. Once it has begun, the
    /// subscription deals with lost connections itself.
    pub async fn subscribe_all(&self, query: SubscribeAll) -> Result<Subscription, ReadError> {
        self.subscribe(Subject::All(query)).await
    }

    async fn subscribe(&self, mut subject: Subject) -> Result<Subscription, ReadError> {
        in_time(self, subject.find_end(self)).await?;
        let opened = open(self.clone(), subject.clone()).await?;
        Ok(Subscription { client: self.clone(), subject, phase: Phase::Live(opened), failures: 0 })
    }
}

impl Subscription {
    /// What comes next; waits for it, through lost connections too. May be dropped while it waits,
    /// and called again, without loss.
    ///
    /// # Errors
    /// [`ReadError`] if the subscription cannot go on: the stream was deleted, the position is of a
    /// lost history, access was withdrawn; or the server could not be reached for minutes
    /// ([`Resume`]), and then it may be called again.
    pub async fn next(&mut self) -> Result<Delivery, ReadError> {
        loop {
            match &mut self.phase {
                Phase::Waiting(wait) => {
                    wait.as_mut().await;
                    let opening = open(self.client.clone(), self.subject.clone());
                    self.phase = Phase::Opening(opening.boxed());
                }
                Phase::Opening(opening) => match opening.as_mut().await {
                    Ok(messages) => self.phase = Phase::Live(messages),
                    Err(error) => self.lost(error)?,
                },
                Phase::Live(messages) => match messages.message().await {
                    Ok(Some(message)) => {
                        self.failures = 0;
                        if let Some(delivery) = self.subject.take(message) {
                            return Ok(delivery);
                        }
                    }
                    Ok(None) => {
                        let reason = "the server ended the subscription".to_owned();
                        self.lost(CallError::Overloaded { reason }.into())?;
                    }
                    Err(status) => {
                        let error = self.subject.error(&self.client, &status);
                        self.lost(error)?;
                    }
                },
            }
        }
    }

    /// As a stream of deliveries that ends after the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Delivery, ReadError>> + Send {
        futures_util::stream::unfold(Some(self), |subscription| async {
            let mut subscription = subscription?;
            let delivery = subscription.next().await;
            let rest = delivery.is_ok().then_some(subscription);
            Some((delivery, rest))
        })
    }

    /// The place in `$all` to begin after next time; none before the first event, and for a
    /// subscription to a stream.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        match &self.subject {
            Subject::All(SubscribeAll { from: SubscribeFrom::After(at), .. }) => Some(*at),
            _ => None,
        }
    }

    /// Notes that the call has ended, to begin another one in a while; the error if that is of no
    /// use, or has been tried often enough.
    fn lost(&mut self, error: ReadError) -> Result<(), ReadError> {
        let resume = self.client.settings().resume;
        let wait = backoff(&resume, self.failures, SystemEntropy.bytes());
        self.phase = Phase::Waiting(Box::pin(tokio::time::sleep(wait)));
        self.failures += 1;
        if !error.is_transient() {
            return Err(error);
        }
        if self.failures >= resume.attempts_max {
            self.failures = 0;
            return Err(error);
        }
        tracing::info!(%error, ?wait, "a subscription lost its call and goes on with another");
        Ok(())
    }
}

/// Begins a call for what follows the place that `subject` has seen last.
async fn open(client: Client, subject: Subject) -> Result<Streaming<Message>, ReadError> {
    let opening = async {
        let (options, stream) = subject.request();
        let mut messages = client.read(options, stream).await?;
        match messages.message().await {
            Ok(Some(Message::Confirmation)) => Ok(messages),
            Ok(other) => {
                let reason = format!("a subscription was not confirmed but answered {other:?}");
                Err(CallError::BadAnswer { reason }.into())
            }
            Err(status) => Err(subject.error(&client, &status)),
        }
    };
    in_time(&client, opening).await
}

/// What a subscription does before it goes on for ever, within the deadline of any other call.
async fn in_time<T>(
    client: &Client,
    beginning: impl Future<Output = Result<T, ReadError>>,
) -> Result<T, ReadError> {
    match client.settings().default_deadline {
        None => beginning.await,
        Some(deadline) => tokio::time::timeout(deadline, beginning)
            .await
            .unwrap_or(Err(CallError::DeadlineExceeded.into())),
    }
}

impl Subject {
    /// Replaces "from the end" by the place where the end is now.
    async fn find_end(&mut self, client: &Client) -> Result<(), ReadError> {
        let direction = Direction::Backwards;
        match self {
            Subject::Stream(query) if query.from == SubscribeFrom::End => {
                let all = ReadStream::new(query.stream.clone());
                let from = StreamFrom::End;
                let last = ReadStream { from, direction, count: 1, ..all };
                match client.read_stream(last).await?.next().await {
                    Some(Ok(last)) => {
                        let revision = last.original().map(|event| event.revision);
                        query.from = revision.map_or(SubscribeFrom::End, SubscribeFrom::After);
                    }
                    // Its first event is the next.
                    Some(Err(ReadError::StreamNotFound { .. })) => {
                        query.from = SubscribeFrom::Start;
                    }
                    Some(Err(error)) => return Err(error),
                    // Nothing is left of it; the server says where it is once it is live.
                    None => {}
                }
            }
            Subject::All(query) if query.from == SubscribeFrom::End => {
                let from = AllFrom::End;
                let last = ReadAll { from, direction, count: 1, ..ReadAll::default() };
                match client.read_all(last).await?.next().await {
                    Some(last) => {
                        let place = last?.checkpoint;
                        query.from = place.map_or(SubscribeFrom::End, SubscribeFrom::After);
                    }
                    None => query.from = SubscribeFrom::Start,
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn error(&self, client: &Client, status: &Status) -> ReadError {
        let stream = match self {
            Subject::Stream(query) => Some(&query.stream),
            Subject::All(_) => None,
        };
        ReadError::from_status(status, client.server(), stream)
    }

    /// The request that goes on after the place seen last.
    fn request(&self) -> (Options, Option<&StreamName>) {
        let count_option = Some(CountOption::Subscription(SubscriptionOptions {}));
        match self {
            Subject::Stream(query) => {
                let from = match query.from {
                    SubscribeFrom::Start => StreamFrom::Start,
                    SubscribeFrom::End => StreamFrom::End,
                    SubscribeFrom::After(revision) => StreamFrom::Revision(revision),
                };
                let options = Options {
                    stream_option: Some(stream_option(&query.stream, from)),
                    resolve_links: query.links == Links::Resolve,
                    count_option,
                    ..plain_options()
                };
                (options, Some(&query.stream))
            }
            Subject::All(query) => {
                let from = match query.from {
                    SubscribeFrom::Start => AllFrom::Start,
                    SubscribeFrom::End => AllFrom::End,
                    SubscribeFrom::After(checkpoint) => AllFrom::At(checkpoint),
                };
                let interval = query.checkpoint_interval.max(1);
                let options = Options {
                    stream_option: Some(all_option(from)),
                    resolve_links: query.links == Links::Resolve,
                    count_option,
                    filter_option: Some(filter_option(query.filter.as_ref(), interval)),
                    ..plain_options()
                };
                (options, None)
            }
        }
    }

    /// Notes the place of `message`; what it is to the subscriber, unless it was there before.
    fn take(&mut self, message: Message) -> Option<Delivery> {
        match (message, self) {
            (Message::Event(event), Subject::Stream(query)) => {
                let revision = event.original()?.revision;
                advance(&mut query.from, revision).then_some(Delivery::Event(event))
            }
            (Message::Event(event), Subject::All(query)) => {
                let new = event.checkpoint.is_none_or(|at| advance(&mut query.from, at));
                new.then_some(Delivery::Event(event))
            }
            (Message::Checkpoint(at), Subject::All(query)) => {
                advance(&mut query.from, at).then_some(Delivery::Checkpoint(at))
            }
            (Message::CaughtUp { revision, .. }, Subject::Stream(query)) => {
                match revision {
                    Some(revision) => _ = advance(&mut query.from, revision),
                    // Live on a stream without events: its first one is the next.
                    None if query.from == SubscribeFrom::End => query.from = SubscribeFrom::Start,
                    None => {}
                }
                Some(Delivery::CaughtUp)
            }
            (Message::CaughtUp { checkpoint, .. }, Subject::All(query)) => {
                if let Some(at) = checkpoint {
                    advance(&mut query.from, at);
                }
                Some(Delivery::CaughtUp)
            }
            (Message::FellBehind, _) => Some(Delivery::FellBehind),
            _ => None,
        }
    }
}

/// Moves to `place` unless it was reached before; whether it was not.
fn advance<Place: Ord + Copy>(from: &mut SubscribeFrom<Place>, place: Place) -> bool {
    if let SubscribeFrom::After(seen) = from
        && *seen >= place
    {
        return false;
    }
    *from = SubscribeFrom::After(place);
    true
}

/// The wait after so many failures in a row.
pub(crate) fn backoff(resume: &Resume, failures: u32, chance: [u8; 16]) -> Duration {
    let doubled = 1u32.checked_shl(failures.min(31)).unwrap_or(u32::MAX);
    let full = resume.wait_min.saturating_mul(doubled).min(resume.wait_max);
    full / 2 + (full / 2).mul_f64(f64::from(chance[0]) / 255.0)
}

/// Events considered between two checkpoints at the smallest interval.
pub const CHECKPOINT_WINDOW: u32 = WINDOW;

#[cfg(test)]
mod tests {
    use super::*;
    use daybook_model::{ContentType, Epoch, Position, RecordedEvent, Timestamp};

    fn event(revision: u64, position: u64) -> Message {
        Message::Event(ResolvedEvent {
            event: Some(RecordedEvent {
                position: Position(position),
                revision: Revision(revision),
                time: Timestamp(0),
                id: ::uuid::Uuid::nil(),
                stream: StreamName::new("s").unwrap(),
                event_type: "T".to_owned(),
                content_type: ContentType::Json,
                tombstone: false,
                metadata: bytes::Bytes::new(),
                data: bytes::Bytes::new(),
            }),
            link: None,
            checkpoint: Some(Checkpoint::at(Position(position), Epoch(0))),
        })
    }

    fn stream(from: SubscribeFrom<Revision>) -> Subject {
        let stream = StreamName::new("s").unwrap();
        Subject::Stream(SubscribeStream { stream, from, links: Links::Keep })
    }

    fn place(subject: &Subject) -> String {
        match subject {
            Subject::Stream(query) => format!("{:?}", query.from),
            Subject::All(query) => format!("{:?}", query.from),
        }
    }

    #[test]
    fn a_subscription_goes_on_after_what_it_delivered_and_delivers_nothing_twice() {
        let mut subject = stream(SubscribeFrom::Start);
        assert!(subject.take(event(0, 10)).is_some());
        assert!(subject.take(event(1, 12)).is_some());
        assert!(subject.take(event(1, 12)).is_none());
        assert_eq!(place(&subject), "After(Revision(1))");
        let mut all = Subject::All(SubscribeAll::default());
        assert!(all.take(event(0, 10)).is_some());
        assert!(all.take(event(0, 10)).is_none());
        let later = Checkpoint::at(Position(40), Epoch(0));
        assert_eq!(all.take(Message::Checkpoint(later)), Some(Delivery::Checkpoint(later)));
        assert_eq!(all.take(Message::Checkpoint(later)), None);
        assert_eq!(place(&all), format!("After({later:?})"));
    }

    #[test]
    fn a_subscription_from_the_end_has_a_place_once_it_is_live() {
        let live = |revision| Message::CaughtUp { revision, checkpoint: None };
        let mut subject = stream(SubscribeFrom::End);
        assert_eq!(subject.take(live(Some(Revision(4)))), Some(Delivery::CaughtUp));
        assert_eq!(place(&subject), "After(Revision(4))");
        let mut empty = stream(SubscribeFrom::End);
        assert_eq!(empty.take(live(None)), Some(Delivery::CaughtUp));
        assert_eq!(place(&empty), "Start");
    }

    #[test]
    fn waits_grow_to_a_limit_and_are_spread_by_chance() {
        for (failures, least, most) in
            [(0, 50, 100), (1, 100, 200), (5, 1600, 3200), (60, 2500, 5000)]
        {
            let resume = Resume::default();
            assert_eq!(backoff(&resume, failures, [0; 16]), Duration::from_millis(least));
            assert_eq!(backoff(&resume, failures, [255; 16]), Duration::from_millis(most));
        }
    }
}
