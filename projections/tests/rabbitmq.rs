//! The relay to a real RabbitMQ: `DAYBOOK_TEST_AMQP` names one (`amqp://127.0.0.1:PORT`, login guest),
//! and `DAYBOOK_TEST_AMQP_RESTART` is a program that restarts it, if there is one. See
//! `tests/readside/run`.

#![allow(dead_code, reason = "the log in memory can do more than is needed here")]
#![allow(clippy::unwrap_used, reason = "a test that fails shows where")]

#[path = "support/source.rs"]
mod source;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daybook_client::resilience::Wiring;
use daybook_model::SystemClock;
use daybook_model::memory::MemoryStore;
use daybook_projections::State;
use daybook_projections::connect::control::ConnectorStatus;
use daybook_projections::connect::{Connectors, OverStore, parse};
use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};
use source::MemoryLog;

/// A wait that fails a test; nothing waits so long when all is well.
const TOO_LONG: Duration = Duration::from_secs(90);

/// The broker, or none: then the test is skipped, and says so.
fn broker(test: &str) -> Option<String> {
    let broker = std::env::var("DAYBOOK_TEST_AMQP").ok();
    if broker.is_none() {
        println!("skipped: {test}: DAYBOOK_TEST_AMQP names no broker");
    }
    broker
}

/// A queue of a test's own, bound to an exchange.
struct Queue {
    connection: Connection,
    channel: Channel,
    name: String,
}

impl Queue {
    async fn connect(broker: &str, name: &str) -> Queue {
        let waited = tokio::time::timeout(TOO_LONG, async {
            loop {
                match Connection::connect(broker, ConnectionProperties::default()).await {
                    Ok(connection) => return connection,
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        });
        let connection = waited.await.expect("the broker is there");
        let channel = connection.create_channel().await.unwrap();
        let name = name.to_owned();
        Queue { connection, channel, name }
    }

    /// A durable queue with every message of `exchange`.
    async fn bound(broker: &str, name: &str, exchange: &str, key: &str) -> Queue {
        let queue = Queue::connect(broker, name).await;
        let Queue { channel, .. } = &queue;
        let none = FieldTable::default;
        let durable = QueueDeclareOptions { durable: true, ..Default::default() };
        channel.queue_declare(name.into(), durable, none()).await.unwrap();
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let kind = ExchangeKind::Topic;
        channel.exchange_declare(exchange.into(), kind, durable, none()).await.unwrap();
        let options = QueueBindOptions::default();
        channel
            .queue_bind(name.into(), exchange.into(), key.into(), options, none())
            .await
            .unwrap();
        queue
    }

    async fn consume(&self) -> Consumer {
        let options = BasicConsumeOptions::default();
        let tag = "test".into();
        self.channel
            .basic_consume(self.name.as_str().into(), tag, options, FieldTable::default())
            .await
            .unwrap()
    }

    async fn remove(self, exchange: &str) {
        let Queue { connection, channel, name } = self;
        channel.queue_delete(name.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
        let options = ExchangeDeleteOptions::default();
        channel.exchange_delete(exchange.into(), options).await.unwrap();
        connection.close(200, "done".into()).await.unwrap();
    }
}

/// The next message, acknowledged; none if the connection broke.
async fn next(consumer: &mut Consumer) -> Option<Delivery> {
    let next = tokio::time::timeout(TOO_LONG, consumer.next()).await.expect("a message in time");
    let delivery = next?.ok()?;
    delivery.ack(BasicAckOptions::default()).await.ok()?;
    Some(delivery)
}

fn number_of(delivery: &Delivery) -> u64 {
    let value: serde_json::Value = serde_json::from_slice(&delivery.data).unwrap();
    value["data"]["n"].as_u64().unwrap()
}

fn fill(log: &MemoryLog, category: &str, numbers: std::ops::Range<u64>) {
    let events: Vec<(String, String)> =
        numbers.map(|n| (format!("{category}-{}", n % 3), format!("{{\"n\":{n}}}"))).collect();
    log.append(events.iter().map(|(stream, data)| (stream.as_str(), "OrderPlaced", data.clone())));
}

struct Stage {
    log: MemoryLog,
    store: MemoryStore,
}

impl Stage {
    fn new() -> Stage {
        let store = MemoryStore::new(Arc::new(SystemClock::new()));
        Stage { log: MemoryLog::new(100), store }
    }

    fn start(&self, broker: &str, more: &str) -> Connectors<OverStore<MemoryStore>> {
        let text =
            format!("[[connector]]\nname = 'rabbit'\nkind = 'rabbitmq'\nurl = '{broker}'\n{more}");
        let settings = parse("c.toml", &text, &|_| None).unwrap();
        let streams = OverStore(self.store.clone());
        Connectors::start(settings, self.log.clone(), streams, &Wiring::system()).unwrap()
    }
}

async fn until(
    running: &Connectors<OverStore<MemoryStore>>,
    wanted: impl Fn(&ConnectorStatus) -> bool,
) -> ConnectorStatus {
    let status = || running.get("rabbit").unwrap().status();
    let waited = tokio::time::timeout(TOO_LONG, async {
        while !wanted(&status()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("not in time: {:#?}", status()));
    status()
}

#[tokio::test]
async fn messages_are_confirmed_and_say_what_they_are_about() {
    let Some(broker) = broker("messages_are_confirmed_and_say_what_they_are_about") else { return };
    let exchange = "daybook.basics";
    let queue = Queue::bound(&broker, "test.basics", exchange, "OrderPlaced").await;
    let mut consumer = queue.consume().await;
    let stage = Stage::new();
    fill(&stage.log, "basics", 0..500);
    let running = stage.start(&broker, "window = 64");
    for n in 0..500 {
        let delivery = next(&mut consumer).await.expect("a message");
        assert_eq!(number_of(&delivery), n);
        let properties = &delivery.properties;
        assert_eq!(*properties.delivery_mode(), Some(2));
        let id = uuid::Uuid::from_u128(u128::from(n)).to_string();
        assert_eq!(properties.message_id().as_ref().map(|id| id.as_str()), Some(id.as_str()));
        assert_eq!(properties.kind().as_ref().map(|kind| kind.as_str()), Some("OrderPlaced"));
        assert_eq!(*properties.timestamp(), Some(1_700_000_000));
        let headers = properties.headers().clone().unwrap();
        let position = AMQPValue::LongLongInt(i64::try_from(n).unwrap());
        assert_eq!(headers.inner().get("daybook-position"), Some(&position));
        assert_eq!(delivery.routing_key.as_str(), "OrderPlaced");
    }
    let status = until(&running, |status| status.state == State::Live).await;
    assert_eq!((status.delivered, status.parked, status.breaker), (500, 0, Some("closed")));
    running.stop().await;
    queue.remove(exchange).await;
}

#[tokio::test]
async fn what_no_queue_is_bound_for_is_parked_unless_it_may_be_lost() {
    let name = "what_no_queue_is_bound_for_is_parked_unless_it_may_be_lost";
    let Some(broker) = broker(name) else { return };
    let exchange = "daybook.unbound";
    let queue = Queue::bound(&broker, "test.unbound", exchange, "Another").await;
    for (more, delivered, parked) in [("", 0, 10), ("mandatory = false", 10, 0)] {
        let stage = Stage::new();
        fill(&stage.log, "unbound", 0..10);
        let running = stage.start(&broker, more);
        let status = until(&running, |status| status.state == State::Live).await;
        assert_eq!((status.delivered, status.parked), (delivered, parked));
        let found = running.get("rabbit").unwrap().parked(None, 100).await;
        assert!(found.iter().all(|one| one.error.contains("312 NO_ROUTE")), "{found:?}");
        running.stop().await;
    }
    queue.remove(exchange).await;
}

#[tokio::test]
async fn of_a_window_only_what_no_queue_is_bound_for_is_parked() {
    let Some(broker) = broker("of_a_window_only_what_no_queue_is_bound_for_is_parked") else {
        return;
    };
    const EVENTS: u64 = 400;
    // A broker confirms several at once, so which of them came back must not depend on the answer.
    for (window, every) in [(1, 7), (2, 2), (128, 7), (128, 2), (400, 13)] {
        let exchange = format!("daybook.mixed{window}x{every}");
        let name = format!("test.mixed{window}x{every}");
        let queue = Queue::bound(&broker, &name, &exchange, "OrderPlaced").await;
        let mut consumer = queue.consume().await;
        let stage = Stage::new();
        let is_unbound = |n: &u64| n % every == 1;
        let streams: Vec<(String, &str, String)> = (0..EVENTS)
            .map(|n| {
                let event_type = if is_unbound(&n) { "OrderLost" } else { "OrderPlaced" };
                let stream = format!("mixed{window}x{every}-{}", n % 3);
                (stream, event_type, format!("{{\"n\":{n}}}"))
            })
            .collect();
        stage.log.append(
            streams.iter().map(|(stream, kind, data)| (stream.as_str(), *kind, data.clone())),
        );
        let running = stage.start(&broker, &format!("window = {window}"));
        let status = until(&running, |status| status.state == State::Live).await;
        let (unbound, bound): (Vec<u64>, Vec<u64>) = (0..EVENTS).partition(is_unbound);
        let parked = running.get("rabbit").unwrap().parked(None, 1000).await;
        let positions: Vec<u64> = parked.iter().map(|one| one.position).collect();
        assert_eq!(positions, unbound, "window {window}");
        assert!(parked.iter().all(|one| {
            one.error.contains("312 NO_ROUTE") && one.error.contains("for OrderLost")
        }));
        assert_eq!((status.delivered, status.retries), (bound.len() as u64, 0), "{status:?}");
        for n in &bound {
            let delivery = next(&mut consumer).await.expect("a message");
            assert_eq!(number_of(&delivery), *n, "window {window}: each once, in order");
        }
        running.stop().await;
        queue.remove(&exchange).await;
    }
}

#[tokio::test]
async fn an_exchange_that_is_missing_is_said_and_waited_for() {
    let Some(broker) = broker("an_exchange_that_is_missing_is_said_and_waited_for") else { return };
    let stage = Stage::new();
    fill(&stage.log, "missing", 0..5);
    let quick =
        "[connector.retry]\nbackoff_ms = 1\nattempts = 2\n[connector.breaker]\nopen_ms = 10";
    let running = stage.start(&broker, &format!("declare = false\n{quick}"));
    let told = |status: &ConnectorStatus| {
        status.last_error.as_ref().is_some_and(|error| error.contains("NOT_FOUND"))
    };
    until(&running, told).await;
    let exchange = "daybook.missing";
    let queue = Queue::bound(&broker, "test.missing", exchange, "#").await;
    let status = until(&running, |status| status.state == State::Live).await;
    assert_eq!((status.delivered, status.parked), (5, 0));
    running.stop().await;
    queue.remove(exchange).await;
}

#[tokio::test]
async fn a_broker_that_restarts_loses_nothing() {
    let Some(broker) = broker("a_broker_that_restarts_loses_nothing") else { return };
    let Ok(restart) = std::env::var("DAYBOOK_TEST_AMQP_RESTART") else {
        println!("skipped: a_broker_that_restarts_loses_nothing: no DAYBOOK_TEST_AMQP_RESTART");
        return;
    };
    const EVENTS_MAX: u64 = 200_000;
    const STEP: u64 = 500;
    let (exchange, name) = ("daybook.restart", "test.restart");
    let queue = Queue::bound(&broker, name, exchange, "#").await;
    let stage = Stage::new();
    let mut filled = 5000;
    fill(&stage.log, "restart", 0..filled);
    let more =
        "[connector.breaker]\nopen_ms = 50\nopen_max_ms = 500\n[connector.retry]\nattempts = 3";
    let running = stage.start(&broker, more);
    until(&running, |status| status.delivered > 1000).await;
    let restarted = tokio::task::spawn_blocking(move || {
        std::process::Command::new(restart).status().expect("the program can be run")
    });
    // There is always something to publish, so that the broker goes away in the middle of it.
    while !restarted.is_finished() && filled < EVENTS_MAX {
        fill(&stage.log, "restart", filled..filled + STEP);
        filled += STEP;
        until(&running, |status| status.delivered + STEP > filled).await;
    }
    assert!(restarted.await.unwrap().success(), "the broker restarts");
    drop(queue);
    let status = until(&running, |status| status.delivered >= filled).await;
    assert_eq!((status.delivered, status.parked), (filled, 0));
    assert!(status.last_error.is_some(), "the restart was noticed, or it came too late");
    let queue = Queue::connect(&broker, name).await;
    let mut consumer = queue.consume().await;
    let mut times: BTreeMap<u64, u32> = BTreeMap::new();
    let mut reached = [None; 3];
    while (times.len() as u64) < filled {
        let n = number_of(&next(&mut consumer).await.expect("a message"));
        *times.entry(n).or_default() += 1;
        // A new one comes right after the one before it in its stream.
        let stream = usize::try_from(n % 3).unwrap();
        if reached[stream].is_none_or(|last| n > last) {
            assert_eq!(reached[stream].map_or(n % 3, |last: u64| last + 3), n, "out of order");
            reached[stream] = Some(n);
        }
    }
    let twice = times.values().filter(|times| **times > 1).count();
    println!("restart: {filled} messages, none lost, {twice} of them came more than once");
    running.stop().await;
    queue.remove(exchange).await;
}
