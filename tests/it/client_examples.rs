//! The client's examples, run against a server.

use std::ops::ControlFlow;

use daybook_client::{Context, ReadStream, RecordedEvent, Revision, SubscribeFrom};
use futures_util::TryStreamExt as _;
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::events::name;
use crate::support::node::Server;
use crate::support::soon;

#[path = "../../client/examples/aggregate_with_snapshots.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod aggregate_with_snapshots;
#[path = "../../client/examples/append_and_read.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod append_and_read;
#[path = "../../client/examples/breaker_with_events.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod breaker_with_events;
#[path = "../../client/examples/custom_saga.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod custom_saga;
#[path = "../../client/examples/subscribe_with_checkpoint.rs"]
#[allow(dead_code, reason = "its main is not called")]
mod subscribe_with_checkpoint;

async fn read(server: &Server, stream: &str) -> Vec<RecordedEvent> {
    let events = server.client.read_stream(ReadStream::new(name(stream))).await.expect("a read");
    let events: Vec<_> = events.try_collect().await.expect("events");
    events.into_iter().filter_map(|resolved| resolved.event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn append_and_read() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let read = append_and_read::run(&server.client).await.expect("the example works");
    assert_eq!(read.lines.len(), 2);
    assert!(read.lines[1].starts_with("1 MoneyDeposited {\"amount\":\"12.50\""), "{read:?}");
    assert_eq!(read.overtaken_at, Some(Revision(1)));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribe_with_checkpoint() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let place = TempDir::new().expect("a directory");
    let path = place.path().join("checkpoint");
    let mut seen = Vec::new();
    for run in 0..3 {
        append_and_read::run(&server.client).await.expect("events");
        let mut left = 2;
        let each = |event: &RecordedEvent| {
            seen.push((run, event.event_type.clone()));
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let followed = subscribe_with_checkpoint::follow(&server.client, &path, each);
        soon("the events of this run", followed).await.expect("the example works");
    }
    // Each run sees its own two events, and none that an earlier one has seen.
    let expected = (0..3)
        .flat_map(|run| [(run, "AccountOpened".to_owned()), (run, "MoneyDeposited".to_owned())]);
    assert_eq!(seen, expected.collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregate_with_snapshots() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let cart = aggregate_with_snapshots::run(&server.client).await.expect("the example works");
    assert!(cart.ordered);
    assert_eq!(
        cart.items.into_iter().collect::<Vec<_>>(),
        [("cup".to_owned(), 16), ("tea".to_owned(), 32)]
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_saga() {
    use custom_saga::{Fulfilment, place};
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let saga = Fulfilment::new(&server.client);
    saga.supply("tea", 10).await.expect("supplied");
    let mut orders = Vec::new();
    for pieces in [4, 5, 6, 1] {
        orders.push(place(&server.client, "tea", pieces).await.expect("placed"));
    }
    let followed = soon("four orders", saga.follow(SubscribeFrom::Start, 4)).await;
    let checkpoint = followed.expect("the example works").expect("a checkpoint");
    let (mut answers, mut confirmed) = (Vec::new(), Vec::new());
    for order in &orders {
        let events = read(&server, order.as_str()).await;
        let [placed, answer] = &events[..] else { panic!("{events:?}") };
        let data = String::from_utf8_lossy(&answer.data).into_owned();
        answers.push(format!("{} {data}", answer.event_type));
        let why = Context::of(&answer.metadata);
        assert_eq!(why.causation, Some(placed.id));
        assert_eq!(why.correlation, Some(placed.id.to_string()));
        confirmed.extend((answer.event_type == "OrderConfirmed").then_some(placed.id));
    }
    assert_eq!(
        answers,
        [
            "OrderConfirmed {}",
            "OrderConfirmed {}",
            "OrderRejected {\"reason\":\"only 1 in stock\"}",
            "OrderConfirmed {}",
        ]
    );
    // What the stock did, it did because of the orders.
    let stock = read(&server, "stock-tea").await;
    let causes: Vec<Option<Uuid>> =
        stock[1..].iter().map(|event| Context::of(&event.metadata).causation).collect();
    assert_eq!(causes, confirmed.into_iter().map(Some).collect::<Vec<_>>());

    // A saga that has forgotten everything sees all orders again, and does nothing twice.
    let end = server.store().committed();
    let again = Fulfilment::new(&server.client);
    soon("four orders again", again.follow(SubscribeFrom::Start, 4)).await.expect("follows");
    assert_eq!(server.store().committed(), end);
    // From its checkpoint it sees the new ones only.
    place(&server.client, "tea", 1).await.expect("placed");
    let from = SubscribeFrom::After(checkpoint);
    soon("one more order", again.follow(from, 1)).await.expect("follows");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn breaker_with_events() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let recorded = breaker_with_events::run(&server.client).await.expect("the example works");
    // The provider is down for five calls: three open the circuit, two probes find it still down.
    let (opened, half_opened) = ("CircuitOpened", "CircuitHalfOpened");
    let again = [opened, half_opened];
    let expected = [again, again, again].concat();
    assert_eq!(recorded, [&expected[..], &["CircuitClosed"]].concat());
    server.stop().await;
}
