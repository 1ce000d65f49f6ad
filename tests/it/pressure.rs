//! More than there is room for: refused or slowed, never piled up, and nobody else pays.

use std::future::Future;
use std::sync::Arc;

use daybook::node::Config;
use daybook::readside::Place;
use daybook_client::{Delivery, SubscribeAll, SubscribeFrom, SubscribeStream, Subscription};
use daybook_log::disk::sim::SimDisk;
use daybook_model::{ExpectedRevision, SystemClock};
use daybook_store::{Append, AppendError, Sizes};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tempfile::TempDir;

use crate::support::directory::read_log;
use crate::support::events::{event, name, sized};
use crate::support::gate::GatedDisk;
use crate::support::node::{Server, client};
use crate::support::{assert_says, soon, until};

const ANY: ExpectedRevision = ExpectedRevision::Any;
/// Appends that may wait for the writer: sixteen batches of 4,096. As documented; a change of it is
/// noticed here.
const QUEUE_LEN_MAX: u64 = 16 * 4096;
/// Appends of the batch that is being synced, and of the one that is next.
const IN_BATCHES_MAX: u64 = 2 * 4096;

#[tokio::test(flavor = "multi_thread")]
async fn appends_beyond_the_queue_are_refused_at_once_and_the_others_are_all_done() {
    let disk = GatedDisk::new(SimDisk::new(7));
    let (clock, sizes) = (Arc::new(SystemClock::new()), Sizes::default());
    let server = Server::on(Arc::new(disk.clone()), clock, sizes).await;
    // The spare segment is made behind the same gate.
    until("the store to rest", || async { disk.waiting() == 0 }).await;
    disk.shut();
    let asked: u64 = QUEUE_LEN_MAX + IN_BATCHES_MAX + 5_000;
    let mut appends: FuturesUnordered<_> = (0..u128::from(asked))
        .map(|id| {
            let store = server.store().clone();
            let stream = name(&format!("a-{}", id % 100));
            async move { store.append(Append::to_stream(stream, ANY, [event(id)])).await }
        })
        .collect();
    let first = soon("a refusal", appends.next()).await.expect("an answer");
    let refused = first.expect_err("nothing can be durable yet");
    assert!(matches!(refused, AppendError::Overloaded { .. }), "{refused:?}");
    assert_says(&refused.to_string(), &["busy", "wait already", "try again later"]);
    let stats = server.store().stats();
    assert!(stats.queue_depth <= QUEUE_LEN_MAX, "{stats:?}");
    assert_eq!(server.store().committed().0, 1);

    disk.open_gate();
    let (mut done, mut turned_away) = (0, 1);
    while let Some(end) = soon("an answer", appends.next()).await {
        match end {
            Ok(_) => done += 1,
            Err(AppendError::Overloaded { .. }) => turned_away += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(done + turned_away, asked);
    assert!(done >= QUEUE_LEN_MAX, "{done} done");
    assert_eq!(server.store().stats().overloads, turned_away);
    assert_eq!(read_log(server.store()).await.len() as u64, done, "refused is not written");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_appends_are_refused_by_their_bytes_before_they_fill_the_memory() {
    const SIZE: usize = 12 * 1024 * 1024;
    /// As documented: bytes of the appends that may wait.
    const QUEUE_SIZE_MAX: usize = 256 * 1024 * 1024;
    const ASKED: usize = 2 * QUEUE_SIZE_MAX / SIZE;
    let disk = GatedDisk::new(SimDisk::new(7));
    let (clock, sizes) = (Arc::new(SystemClock::new()), Sizes::default());
    let server = Server::on(Arc::new(disk.clone()), clock, sizes).await;
    until("the store to rest", || async { disk.waiting() == 0 }).await;
    disk.shut();
    let mut large = sized(0, SIZE);
    let mut appends: FuturesUnordered<_> = (0..ASKED as u128)
        .map(|id| {
            // All of them share the bytes.
            large.id = uuid::Uuid::from_u128(id);
            let (store, event) = (server.store().clone(), large.clone());
            async move { store.append(Append::to_stream(name("a-1"), ANY, [event])).await }
        })
        .collect();
    let first = soon("a refusal", appends.next()).await.expect("an answer");
    assert!(matches!(first, Err(AppendError::Overloaded { .. })), "{first:?}");
    let waiting = server.store().stats().queue_depth as usize;
    assert!(waiting * SIZE <= QUEUE_SIZE_MAX, "{waiting} wait");
    disk.open_gate();
    let mut done = 0;
    while let Some(end) = soon("an answer", appends.next()).await {
        match end {
            Ok(_) => done += 1,
            Err(AppendError::Overloaded { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(done >= waiting, "{done} done");
    assert_eq!(server.store().committed().0, 1 + done as u64);
    server.stop().await;
}

/// The ids of the next `count` events, in order.
async fn take(subscription: &mut Subscription, count: usize) -> Vec<u128> {
    let mut ids = Vec::new();
    while ids.len() < count {
        if let Delivery::Event(resolved) = subscription.next().await.expect("a delivery") {
            let event = resolved.event.expect("no link");
            if !event.stream.as_str().starts_with('$') {
                ids.push(event.id.as_u128());
            }
        }
    }
    ids
}

async fn caught_up(subscription: &mut Subscription) {
    while subscription.next().await.expect("a delivery") != Delivery::CaughtUp {}
}

fn all_of<T>(
    futures: impl IntoIterator<Item = impl Future<Output = T>>,
) -> impl Future<Output = Vec<T>> {
    futures_util::future::join_all(futures)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_subscribers_each_see_each_event_once_in_order() {
    const CONNECTIONS: usize = 10;
    const EACH: usize = 100;
    const STREAMS: usize = 10;
    const EVENTS: u128 = 200;
    let data = TempDir::new().expect("a directory");
    // Without read models: they follow the store, too, and this counts who does.
    let config = Config { read_models: Place::Off, ..Config::in_directory(data.path()) };
    let server = Server::start_with(config).await;
    let mut subscriptions = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = client(server.address());
        for i in 0..EACH {
            // Half of them follow everything, half of them one stream.
            let followed = (i % 2 == 1).then_some((i / 2) % STREAMS);
            let subscription = match followed {
                None => client.subscribe_all(SubscribeAll::default()).await,
                Some(n) => {
                    let stream = name(&format!("a-{n}"));
                    let (from, links) = (SubscribeFrom::Start, daybook_client::Links::Keep);
                    client.subscribe_stream(SubscribeStream { stream, from, links }).await
                }
            };
            subscriptions.push((followed, subscription.expect("a subscription")));
        }
    }
    soon("all to be live", all_of(subscriptions.iter_mut().map(|(_, s)| caught_up(s)))).await;
    assert_eq!(server.store().stats().subscriptions, (CONNECTIONS * EACH) as u64);
    for id in 0..EVENTS {
        let stream = name(&format!("a-{}", id % STREAMS as u128));
        server.client.append(&stream, ANY, vec![event(id)]).await.expect("appended");
    }
    let seen = all_of(subscriptions.iter_mut().map(|(followed, subscription)| async {
        let wanted = |id: &u128| followed.is_none_or(|n| *id % STREAMS as u128 == n as u128);
        let expected: Vec<u128> = (0..EVENTS).filter(wanted).collect();
        assert_eq!(take(subscription, expected.len()).await, expected);
    }));
    soon("all to have seen all", seen).await;
    drop(subscriptions);
    until("the subscriptions to be gone", || async { server.store().stats().subscriptions == 0 })
        .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_does_not_read_holds_up_nobody_and_misses_nothing() {
    const EVENTS: u128 = 2_000;
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let mut slow = Vec::new();
    for _ in 0..20 {
        let client = client(server.address());
        let mut subscription =
            client.subscribe_all(SubscribeAll::default()).await.expect("a subscription");
        soon("it to be live", caught_up(&mut subscription)).await;
        slow.push(subscription);
    }
    let mut fast =
        server.client.subscribe_all(SubscribeAll::default()).await.expect("a subscription");
    soon("it to be live", caught_up(&mut fast)).await;
    // 16 MB: far more than any buffer between here and there.
    let stream = name("a-1");
    for id in 0..EVENTS {
        let appended = server.client.append(&stream, ANY, vec![sized(id, 8192)]);
        soon("an append", appended).await.expect("appended");
        assert_eq!(soon("the fast one's event", take(&mut fast, 1)).await, [id]);
    }
    let expected: Vec<u128> = (0..EVENTS).collect();
    let seen =
        soon("the slow ones", all_of(slow.iter_mut().map(|s| take(s, EVENTS as usize)))).await;
    assert!(seen.iter().all(|ids| *ids == expected), "once each, in order");
    drop((slow, fast));
    server.stop().await;
}
