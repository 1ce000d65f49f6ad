//! Writers, readers and subscribers that go on until their server is gone.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daybook_client::{
    AppendError, Appended, Client, Delivery, ReadAll, SubscribeAll, SubscribeFrom,
};
use daybook_log::disk::sim::Rng;
use daybook_model::{ExpectedRevision, Revision, StreamName};
use futures_util::TryStreamExt as _;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::history::{Attempt, History, Outcome, Seen};
use crate::support::events::{name, sized};
use crate::support::{soon, until};

/// Bytes of an event at most: large enough to fill segments within a cycle or two.
const EVENT_SIZE_MAX: u64 = 2_000;
/// Subscribers to everything; the first begins at the start, the others with what is new.
const SUBSCRIBERS: u64 = 3;
/// How often it is asked whether the server is still there.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Appends that a pipelined writer has on their way at most.
const WINDOW: NonZeroU32 = NonZeroU32::new(8).expect("not zero");

/// A server's clients at work.
pub struct Load {
    writers: Vec<JoinHandle<Vec<Attempt>>>,
    watchers: Vec<JoinHandle<Seen>>,
    progress: Arc<Progress>,
}

/// How many appends were acknowledged, and how many writers have given up.
#[derive(Debug, Default)]
struct Progress {
    acknowledged: AtomicU64,
    gave_up: AtomicU64,
    changed: Notify,
}

impl Progress {
    fn note(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_waiters();
    }
}

/// What tells one cycle's load from another's.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Unlike every other cycle's.
    pub cycle: u64,
    /// How many write.
    pub writers: u64,
    /// Decides sizes.
    pub seed: u64,
}

impl Load {
    /// Sets `shape.writers` writers, some readers and some subscribers to work on a server.
    pub fn begin(shape: Shape, connect: impl Fn() -> Client) -> Load {
        let progress = Arc::new(Progress::default());
        let mut clients = Vec::new();
        let mut connection = |n: u64| {
            // Eight writers share a connection.
            if n.is_multiple_of(8) {
                clients.push(connect());
            }
            clients.last().expect("one").clone()
        };
        let writers = (0..shape.writers)
            .map(|n| {
                let (client, progress) = (connection(n), progress.clone());
                let writer = Writer::new(shape, n, client, progress);
                tokio::spawn(async move {
                    match n % 4 {
                        // Where several write one stream only the order is decided here.
                        0 => writer.shared().await,
                        1 => writer.pipelined().await,
                        _ => writer.alone().await,
                    }
                })
            })
            .collect();
        let mut watchers = Vec::new();
        for n in 0..SUBSCRIBERS {
            watchers.push(tokio::spawn(subscribe(connect(), n)));
        }
        watchers.push(tokio::spawn(read(connect())));
        Load { writers, watchers, progress }
    }

    /// Waits until `count` appends were acknowledged, or no more will be.
    pub async fn acknowledged(&self, count: u64) {
        let reached = async {
            loop {
                let changed = self.progress.changed.notified();
                if self.progress.acknowledged.load(Ordering::Relaxed) >= count
                    || self.progress.gave_up.load(Ordering::Relaxed) == self.writers.len() as u64
                {
                    return;
                }
                changed.await;
            }
        };
        soon("the load to make progress", reached).await;
    }

    /// Waits until no writer writes any more.
    pub async fn writers_gave_up(&self) {
        self.acknowledged(u64::MAX).await;
    }

    /// Adds what all of them were told to `history`. Their server must be gone, or refuse appends.
    pub async fn end(self, history: &mut History) {
        for writer in self.writers {
            history.attempts.extend(soon("a writer's end", writer).await.expect("no panic"));
        }
        for watcher in self.watchers {
            history.seen.push(soon("a watcher's end", watcher).await.expect("no panic"));
        }
    }
}

struct Writer {
    client: Client,
    progress: Arc<Progress>,
    stream: StreamName,
    /// The upper half of its events' ids.
    id: u64,
    events: u64,
    rng: Rng,
    attempts: Vec<Attempt>,
}

impl Writer {
    fn new(shape: Shape, n: u64, client: Client, progress: Arc<Progress>) -> Writer {
        let id = shape.cycle << 16 | n;
        let stream =
            if n.is_multiple_of(4) { "shared-1".to_owned() } else { format!("writer-{id}") };
        Writer {
            client,
            progress,
            stream: name(&stream),
            id,
            events: 0,
            rng: Rng::new(shape.seed ^ id),
            attempts: Vec::new(),
        }
    }

    /// The next append, as a doubt: that is what it is until it is answered.
    fn attempt(&mut self, expected: ExpectedRevision) -> usize {
        let count = 1 + self.rng.below(4);
        let events = (0..count)
            .map(|_| {
                let id = u128::from(self.id) << 64 | u128::from(self.events);
                self.events += 1;
                sized(id, self.rng.below(EVENT_SIZE_MAX) as usize)
            })
            .collect();
        let (stream, outcome) = (self.stream.clone(), Outcome::Unknown);
        self.attempts.push(Attempt { stream, expected, events, outcome });
        self.attempts.len() - 1
    }

    /// Notes the answer to an attempt. Answers whether to go on.
    fn answered(&mut self, index: usize, answer: Result<Appended, AppendError>) -> bool {
        self.attempts[index].outcome = match answer {
            Ok(done) => {
                self.progress.note();
                let position = done.checkpoint.expect("it has events").position().0;
                Outcome::Done { revision: done.revision.expect("it has events").0, position }
            }
            Err(AppendError::Unknown { .. }) => Outcome::Unknown,
            Err(_) => Outcome::Refused,
        };
        matches!(self.attempts[index].outcome, Outcome::Done { .. })
    }

    /// To a stream of its own, each append expecting exactly what the one before left.
    async fn alone(mut self) -> Vec<Attempt> {
        let mut expected = ExpectedRevision::NoStream;
        loop {
            let index = self.attempt(expected);
            let events = self.attempts[index].events.clone();
            let answer = self.client.append(&self.stream, expected, events).await;
            if !self.answered(index, answer) {
                return self.end();
            }
            expected = ExpectedRevision::Exact(Revision(self.events - 1));
        }
    }

    /// To a stream that others write, too.
    async fn shared(mut self) -> Vec<Attempt> {
        loop {
            let index = self.attempt(ExpectedRevision::Any);
            let events = self.attempts[index].events.clone();
            let answer = self.client.append(&self.stream, ExpectedRevision::Any, events).await;
            if !self.answered(index, answer) {
                return self.end();
            }
        }
    }

    /// To a stream of its own, several appends on their way at a time.
    async fn pipelined(mut self) -> Vec<Attempt> {
        let appender = self.client.appender(WINDOW);
        let mut pending = BTreeMap::new();
        let mut going = true;
        while going || !pending.is_empty() {
            if going && pending.len() < WINDOW.get() as usize {
                let expected = match self.events.checked_sub(1) {
                    None => ExpectedRevision::NoStream,
                    Some(last) => ExpectedRevision::Exact(Revision(last)),
                };
                let index = self.attempt(expected);
                let events = self.attempts[index].events.clone();
                match appender.send(&self.stream, expected, events).await {
                    Ok(sent) => drop(pending.insert(index, sent)),
                    Err(error) => going &= self.answered(index, Err(error)),
                }
            } else if let Some((index, sent)) = pending.pop_first() {
                let answer = sent.await;
                going &= self.answered(index, answer);
            }
        }
        self.end()
    }

    fn end(self) -> Vec<Attempt> {
        self.progress.gave_up.fetch_add(1, Ordering::Relaxed);
        self.progress.changed.notify_waiters();
        self.attempts
    }
}

/// Follows everything from the start (`n` is 0), or what comes from now on, until the server goes.
async fn subscribe(client: Client, n: u64) -> Seen {
    let mut seen = Seen::default();
    let from = if n == 0 { SubscribeFrom::Start } else { SubscribeFrom::End };
    let query = SubscribeAll { from, ..SubscribeAll::default() };
    let Ok(mut subscription) = client.subscribe_all(query).await else { return seen };
    // It would survive its server; here it ends with the connection, which another call notices.
    let gone = gone(&client);
    tokio::pin!(gone);
    loop {
        tokio::select! {
            biased;
            delivery = subscription.next() => match delivery {
                Ok(Delivery::Event(resolved)) => seen.note(&resolved.event.expect("no link")),
                Ok(_) => {}
                Err(_) => return seen,
            },
            () = &mut gone => return seen,
        }
    }
}

/// A subscriber that lives through the ends and starts of its server: its client takes it up again.
pub struct Follower {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

impl Follower {
    /// One that begins at the start.
    pub async fn begin(client: Client) -> Follower {
        let subscription = client.subscribe_all(SubscribeAll::default()).await;
        let mut subscription = subscription.expect("a subscription");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let to = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                match subscription.next().await {
                    Ok(Delivery::Event(resolved)) => {
                        let event = resolved.event.expect("no link");
                        to.lock().expect("no panic").note(&event);
                    }
                    Ok(_) => {}
                    Err(error) => assert!(error.is_transient(), "{error}"),
                }
            }
        });
        Follower { seen, task }
    }

    /// What it has seen, once that is `count` events.
    pub async fn end(self, count: u64) -> Seen {
        let seen = || self.seen.lock().expect("no panic").ids.len() as u64;
        until("the follower to have seen all", || async {
            assert!(!self.task.is_finished(), "the follower failed");
            seen() >= count
        })
        .await;
        self.task.abort();
        self.seen.lock().expect("no panic").clone()
    }
}

/// Resolves when the server does not answer any more.
async fn gone(client: &Client) {
    let mut tick = tokio::time::interval(LOOK_INTERVAL);
    loop {
        tick.tick().await;
        let read = client.read_all(ReadAll { count: 1, ..ReadAll::default() }).await;
        let Ok(mut events) = read else { return };
        if events.try_next().await.is_err() {
            return;
        }
    }
}

/// Reads everything from the start, again and again, until the server goes. Answers with the most
/// it ever saw.
async fn read(client: Client) -> Seen {
    let mut most = Seen::default();
    loop {
        let mut seen = Seen::default();
        let Ok(mut events) = client.read_all(ReadAll::default()).await else { return most };
        let end = loop {
            match events.try_next().await {
                Ok(Some(resolved)) => seen.note(&resolved.event.expect("no link")),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if seen.ids.len() > most.ids.len() {
            most = seen;
        }
        if end.is_err() {
            return most;
        }
    }
}
