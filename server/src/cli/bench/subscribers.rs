//! What subscribers cost: many that wait, in memory and in appends; slow ones, to a fast one.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use daybook_client::{
    Client, Delivery, ExpectedRevision, Links, StreamName, SubscribeAll, SubscribeFrom,
    SubscribeStream, Subscription,
};
use tokio::task::{JoinHandle, JoinSet};

use super::feed::{self, Fed};
use super::load::{self, Measured, Shape};
use super::process::Server;
use super::report::{Against, Goal, Row};
use super::{Bench, FEED_RATE, Part, against};

/// Subscribers that wait, each for a stream of its own that nobody writes.
const IDLE: usize = 1_000;
/// Connections they share.
const IDLE_CONNECTIONS: usize = 16;
/// Writers beside them.
const WRITERS: u64 = 128;
/// Slow subscribers of `$all`, each on a connection of its own.
const SLOW: usize = 100;
/// How long a slow one ponders each event: it takes 100 a second, and the log grows ten times as
/// fast.
const SLOW_PAUSE: Duration = Duration::from_millis(10);
/// Events they have not seen at first: more than windows and queues take up.
const SLOW_BACKLOG: u64 = 50_000;
/// Events of one append of that backlog.
const BACKLOG_APPEND: u64 = 1_000;
/// Time in which the slow ones' windows fill before the fast one is measured.
const SLOW_WARMUP: Duration = Duration::from_secs(1);

impl Bench {
    pub(super) async fn subscribers(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        self.idle_subscribers(rows).await?;
        self.slow_subscribers(rows).await
    }

    async fn idle_subscribers(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        self.say("idle subscribers");
        let server = Server::store(&self.scratch.join("idle")).await?;
        let clients: Vec<_> =
            (0..IDLE_CONNECTIONS).map(|_| Client::new(&server.url())).collect::<Result<_, _>>()?;
        // The connections are there, and what a first subscription makes for all of them.
        drop(wait_idly(&clients, IDLE_CONNECTIONS).await?);
        let before = server.memory()?.bytes;
        let subscribers = wait_idly(&clients, IDLE).await?;
        let each = server.memory()?.bytes.saturating_sub(before) as f64 / IDLE as f64 / 1024.0;
        drop(subscribers);
        let name = format!("{IDLE} idle subscribers, each");
        rows.push(Row::with_goal(name, each, "KiB", Some(Goal::AtMost(64.0))));
        let shape = self.shape(WRITERS, 1);
        let (mut with, mut without) = (None, None);
        for _ in 0..self.args.rounds.max(1) {
            without = Some(self.load(Part::Unary, &server, shape).await?.better(without));
            let subscribers = wait_idly(&clients, IDLE).await?;
            with = Some(self.load(Part::Unary, &server, shape).await?.better(with));
            drop(subscribers);
        }
        let (Some(with), Some(without)) = (with, without) else { return Ok(()) };
        rows.push(beside(&shape, &with, &without));
        Ok(())
    }

    async fn slow_subscribers(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        self.say("slow subscribers");
        let server = Server::store(&self.scratch.join("slow")).await?;
        let client = Client::new(&server.url())?;
        let data = load::data(self.args.size);
        let stream = StreamName::new("backlog")?;
        for first in (0..SLOW_BACKLOG).step_by(BACKLOG_APPEND as usize) {
            let numbers = first..first + BACKLOG_APPEND;
            let events = numbers.map(|number| load::event(6, number, data.clone())).collect();
            client.append(&stream, ExpectedRevision::Any, events).await?;
        }
        let (mut with, mut without) = (None, None);
        for _ in 0..self.args.rounds.max(1) {
            without = steadier(self.fed(&server).await?, without);
            let slow = Slow::start(&server)?;
            tokio::time::sleep(SLOW_WARMUP).await;
            with = steadier(self.fed(&server).await?, with);
            slow.stop().await?;
        }
        let (Some(with), Some(without)) = (with, without) else { return Ok(()) };
        let goal = Some(Goal::AtMost(2.0));
        let name = format!("feed's p99 (sent -> delivered) beside {SLOW} slow ones");
        let against = Against { name: "without", figure: p99_ms(&without), cpu_us: None, goal };
        let mut row = Row::with_goal(name, p99_ms(&with), "ms", None);
        (row.latency_us, row.against) = (Some(with.sent_us), Some(against));
        rows.push(row);
        Ok(())
    }

    async fn fed(&self, server: &Server) -> anyhow::Result<Fed> {
        let duration = Duration::from_secs_f64(self.args.seconds.clamp(1.0, 60.0));
        feed::measure(&server.url(), FEED_RATE, duration, self.args.size).await
    }
}

fn beside(shape: &Shape, with: &Measured, without: &Measured) -> Row {
    let name = format!("unary {} x 1 beside {IDLE} idle subscribers", shape.clients);
    Row::of_appends(name, with, Some(against("without", without, Some(0.95))))
}

/// From sending to delivery: the time after the acknowledgement is too close to nothing.
fn p99_ms(fed: &Fed) -> f64 {
    fed.sent_us.value_at_quantile(0.99) as f64 / 1e3
}

/// The one whose p99 is lower: other programs disturbed it less.
fn steadier(fed: Fed, other: Option<Fed>) -> Option<Fed> {
    match other {
        Some(other) if p99_ms(&other) <= p99_ms(&fed) => Some(other),
        _ => Some(fed),
    }
}

/// So many subscriptions, each caught up with a stream that does not exist.
async fn wait_idly(clients: &[Client], count: usize) -> anyhow::Result<Vec<Subscription>> {
    let mut opening = JoinSet::new();
    for number in 0..count {
        let client = clients[number % clients.len()].clone();
        opening.spawn(async move {
            let stream = StreamName::new(&format!("idle-{number}"))?;
            let (from, links) = (SubscribeFrom::Start, Links::Keep);
            let mut subscription =
                client.subscribe_stream(SubscribeStream { stream, from, links }).await?;
            while subscription.next().await? != Delivery::CaughtUp {}
            anyhow::Ok(subscription)
        });
    }
    let mut subscriptions = Vec::with_capacity(count);
    while let Some(opened) = opening.join_next().await {
        subscriptions.push(opened.context("a subscriber panicked")??);
    }
    Ok(subscriptions)
}

/// The slow subscribers, while they run.
struct Slow {
    over: Arc<tokio::sync::Notify>,
    tasks: Vec<JoinHandle<anyhow::Result<()>>>,
}

impl Slow {
    fn start(server: &Server) -> anyhow::Result<Slow> {
        let over = Arc::new(tokio::sync::Notify::new());
        let start = |_| {
            let (client, over) = (Client::new(&server.url())?, Arc::clone(&over));
            anyhow::Ok(tokio::spawn(async move {
                tokio::select! {
                    ended = dawdle(client) => ended,
                    () = over.notified() => Ok(()),
                }
            }))
        };
        let tasks = (0..SLOW).map(start).collect::<anyhow::Result<_>>()?;
        Ok(Slow { over, tasks })
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.over.notify_waiters();
        for task in self.tasks {
            task.await.context("a slow subscriber panicked")??;
        }
        Ok(())
    }
}

async fn dawdle(client: Client) -> anyhow::Result<()> {
    let mut subscription = client.subscribe_all(SubscribeAll::default()).await?;
    loop {
        subscription.next().await?;
        tokio::time::sleep(SLOW_PAUSE).await;
    }
}
