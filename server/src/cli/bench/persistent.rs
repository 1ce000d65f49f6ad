//! What a group of consumers costs beside a plain subscription: the same events, from the same
//! server, over the same kind of connection.
//!
//! A group's consumer answers each message by itself, as most do, and has so many at a time as
//! `BUFFER` says. An acknowledgement has no answer of its own on the wire; what a consumer waits
//! for is the message that it makes room for, so its latency is the time between the two: the n-th
//! acknowledgement of a consumer admits the message `BUFFER` after the n-th.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use daybook_client::persistent::{Consumer, Group, GroupSettings, GroupStart};
use daybook_client::{
    Client, Delivery, Links, StreamName, SubscribeAll, SubscribeFrom, SubscribeStream, Subscription,
};
use daybook_model::{Clock as _, SystemClock};
use hdrhistogram::Histogram;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::process::Server;
use super::report::{Against, Row};
use super::{Bench, load, place};

/// Events that are delivered in each measurement.
const EVENTS: u64 = 500_000;
/// Messages that a consumer may have at a time.
const BUFFER: u32 = 200;
/// Numbers of consumers, each with a connection of its own.
const CONSUMERS: [usize; 2] = [1, 4];

/// What is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Followed {
    Stream,
    All,
}

impl Followed {
    fn name(self) -> &'static str {
        match self {
            Followed::Stream => "a stream",
            Followed::All => "$all",
        }
    }
}

/// What a delivery of all events came to.
struct Delivered {
    elapsed: Duration,
    latency_us: Histogram<u64>,
    server_cpu_us: u64,
}

impl Delivered {
    fn rate(&self) -> f64 {
        EVENTS as f64 / self.elapsed.as_secs_f64()
    }

    fn cpu_us(&self) -> f64 {
        self.server_cpu_us as f64 / EVENTS as f64
    }

    /// The faster one: what other programs disturbed less.
    fn better(self, other: Option<Delivered>) -> Option<Delivered> {
        Some(other.filter(|other| other.elapsed < self.elapsed).unwrap_or(self))
    }
}

impl Bench {
    pub(super) async fn persistent(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        self.say("filling a stream");
        let directory = self.scratch.join("persistent");
        let store = place::open(directory.clone()).await?;
        let data = load::data(self.args.size);
        let stream = place::write_stream(&store, "followed", EVENTS, &data).await?;
        store.close().await;
        drop(store);
        let server = Server::store(&directory).await?;
        // Whoever is first finds the bytes for all.
        subscribed(&server, Followed::All, &stream).await?;
        for followed in [Followed::Stream, Followed::All] {
            for consumers in CONSUMERS {
                let many = if consumers == 1 { "consumer" } else { "consumers" };
                let name = format!("group of {}, {consumers} {many}", followed.name());
                self.say(&name);
                let (mut ours, mut plain) = (None, None);
                for round in 0..self.args.rounds.max(1) {
                    plain = subscribed(&server, followed, &stream).await?.better(plain);
                    let group = format!("{consumers}-{round}");
                    let group = match followed {
                        Followed::Stream => Group::of_stream(stream.clone(), &group),
                        Followed::All => Group::of_all(&group),
                    };
                    ours = consumed(&server, &group, consumers).await?.better(ours);
                }
                let (Some(ours), Some(plain)) = (ours, plain) else { continue };
                rows.push(row(name, ours, &plain));
            }
        }
        Ok(())
    }
}

fn row(name: String, ours: Delivered, plain: &Delivered) -> Row {
    let against = Against {
        name: "catch-up",
        figure: plain.rate(),
        cpu_us: Some(plain.cpu_us()),
        goal: None,
    };
    Row {
        name,
        figure: ours.rate(),
        unit: "events/s",
        cpu_us: Some(ours.cpu_us()),
        latency_us: Some(ours.latency_us),
        against: Some(against),
    }
}

/// All events through a plain subscription.
async fn subscribed(
    server: &Server,
    followed: Followed,
    stream: &StreamName,
) -> anyhow::Result<Delivered> {
    let client = Client::new(&server.url())?;
    let (clock, cpu_us) = (SystemClock::new(), server.cpu_us()?);
    let mut subscription: Subscription = match followed {
        Followed::Stream => {
            let (stream, from, links) = (stream.clone(), SubscribeFrom::Start, Links::Keep);
            client.subscribe_stream(SubscribeStream { stream, from, links }).await?
        }
        Followed::All => client.subscribe_all(SubscribeAll::default()).await?,
    };
    let mut events = 0;
    while events < EVENTS {
        let Delivery::Event(resolved) = subscription.next().await? else { continue };
        events += u64::from(resolved.event.is_some_and(|event| event.stream == *stream));
    }
    Ok(Delivered {
        elapsed: clock.monotonic(),
        latency_us: load::histogram()?,
        server_cpu_us: server.cpu_us()? - cpu_us,
    })
}

/// All events through a group.
async fn consumed(server: &Server, group: &Group, consumers: usize) -> anyhow::Result<Delivered> {
    let groups = Client::new(&server.url())?.persistent();
    groups.create(group, &GroupSettings::default(), GroupStart::Start).await?;
    let (clock, cpu_us) = (Arc::new(SystemClock::new()), server.cpu_us()?);
    let began = clock.monotonic();
    let (over, running) = watch::channel(false);
    let progress = Progress { left: Arc::new(AtomicU64::new(EVENTS)), over: Arc::new(over) };
    let mut tasks = JoinSet::new();
    for _ in 0..consumers {
        let consumer = Client::new(&server.url())?.persistent().consume(group, BUFFER).await?;
        let (clock, progress, running) = (clock.clone(), progress.clone(), running.clone());
        tasks.spawn(consume(consumer, clock, progress, running));
    }
    let mut latency_us = load::histogram()?;
    while let Some(ended) = tasks.join_next().await {
        latency_us.add(ended.context("a consumer panicked")??)?;
    }
    let elapsed = clock.monotonic() - began;
    let server_cpu_us = server.cpu_us()? - cpu_us;
    groups.delete(group).await?;
    Ok(Delivered { elapsed, latency_us, server_cpu_us })
}

/// What the consumers of a group share.
#[derive(Clone)]
struct Progress {
    left: Arc<AtomicU64>,
    over: Arc<watch::Sender<bool>>,
}

/// Takes messages, and acknowledges each, until all consumers together have all of them.
async fn consume(
    mut consumer: Consumer,
    clock: Arc<SystemClock>,
    progress: Progress,
    mut running: watch::Receiver<bool>,
) -> anyhow::Result<Histogram<u64>> {
    let mut latency_us = load::histogram()?;
    let mut acknowledged = VecDeque::with_capacity(BUFFER as usize);
    loop {
        let message = tokio::select! {
            message = consumer.next() => message?,
            _ = running.changed() => return Ok(latency_us),
        };
        if acknowledged.len() == BUFFER as usize
            && let Some(sent) = acknowledged.pop_front()
        {
            let took = clock.monotonic().saturating_sub(sent).as_micros();
            latency_us.saturating_record(u64::try_from(took).unwrap_or(u64::MAX));
        }
        acknowledged.push_back(clock.monotonic());
        message.ack().await?;
        // A group of the log is also sent what the server itself wrote; that is few.
        if progress.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            progress.over.send_replace(true);
        }
    }
}
