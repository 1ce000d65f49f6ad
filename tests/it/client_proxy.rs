//! The client over a network that breaks all the time: nothing is lost, and nothing comes twice.
//!
//! ```text
//!   writer: one stream, exact revisions ─ proxy ──┐        ┌── proxy ─ subscriber: that stream
//!   writer: pipelined, any revision ───── proxy ──┴ server ┼── proxy ─ subscriber: $all
//!   each retries by event id                               └── proxy ─ subscriber: $all, filtered,
//!                                                                      from the end
//! ```

#[path = "../../client/tests/support/proxy.rs"]
mod proxy;

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::ops::Range;
use std::time::Duration;

use daybook_client::{
    AppendError, Appended, Appender, Client, Delivery, EventFilter, ExpectedRevision, FilterTarget,
    Links, NewEvent, Pattern, ReadAll, ReadError, ReadStream, Resume, Settings, StreamName,
    SubscribeAll, SubscribeFrom, SubscribeStream, Subscription,
};
use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _};
use proxy::{Cut, Plan, Proxy};
use uuid::Uuid;

use crate::support::events::{event, name, sized};
use crate::support::node::Server;
use crate::support::soon;

/// Of the proxies' cuts; any other is as good.
const SEED: u64 = 20_260_101;
/// How often the subscribers' connections are cut before the writers stop.
const CUTS: u64 = 1_000;
/// Appends that the pipelined writer has under way.
const WINDOW: u32 = 8;
/// Bytes of some events, so that cuts come in the middle of one.
const LARGE_SIZE: usize = 20_000;
/// Ids of events: the upper half says who wrote it.
const ONE: u128 = 1 << 64;
const MANY: u128 = 2 << 64;
const LAST: u128 = 3 << 64;

/// A client over `proxy`, which finds out soon that a connection is dead and is back at once.
fn client(proxy: &Proxy) -> Client {
    let options = "tls=false&keepAliveInterval=200&keepAliveTimeout=1000";
    let settings = Settings::parse(&format!("daybook://{}?{options}", proxy.address));
    let (wait_min, wait_max) = (Duration::from_millis(1), Duration::from_millis(8));
    let resume = Resume { wait_min, wait_max, attempts_max: u32::MAX };
    Client::with(Settings { resume, ..settings.expect("settings") }).expect("a client")
}

/// Appends until it is known to be done, each time with the same events.
async fn append(
    client: &Client,
    stream: &StreamName,
    expected: ExpectedRevision,
    events: Vec<NewEvent>,
) -> Appended {
    loop {
        match client.append(stream, expected, events.clone()).await {
            Ok(appended) => return appended,
            Err(error) => assert_worth_another(&error),
        }
    }
}

/// As [`append`], over a pipelined call.
async fn send(appender: &Appender, stream: &StreamName, events: Vec<NewEvent>) {
    while let Err(error) = appender.append(stream, ExpectedRevision::Any, events.clone()).await {
        assert_worth_another(&error);
    }
}

fn assert_worth_another(error: &AppendError) {
    match error {
        AppendError::Unknown { .. } => {}
        AppendError::Call(error) if error.is_transient() => {}
        error => panic!("{error:?}"),
    }
}

/// Begins a subscription, however often its first call is cut.
async fn begin<F: Future<Output = Result<Subscription, ReadError>>>(
    subscribe: impl Fn() -> F,
) -> Subscription {
    loop {
        match subscribe().await {
            Ok(subscription) => return subscription,
            Err(error) => assert!(error.is_transient(), "{error:?}"),
        }
    }
}

/// The ids of all events up to the last one.
async fn follow(mut subscription: Subscription) -> Vec<Uuid> {
    let mut ids = Vec::new();
    loop {
        match subscription.next().await {
            Ok(Delivery::Event(resolved)) => {
                let id = resolved.event.expect("no links here").id;
                ids.push(id);
                if id == Uuid::from_u128(LAST) {
                    return ids;
                }
            }
            Ok(_) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// Some event of this number, each sixteenth of them large.
fn some(id: u128) -> NewEvent {
    if id.is_multiple_of(16) { sized(id, LARGE_SIZE) } else { event(id) }
}

/// Appends to one stream, knowing its revision, until there were enough cuts; then the last event.
/// How many events it wrote before that.
async fn write_one(client: &Client, subscribers: &[Proxy], stream: &StreamName) -> u128 {
    let (mut expected, mut next) = (ExpectedRevision::NoStream, 0);
    while cuts(subscribers) < CUTS {
        let count = 1 + next % 3;
        let events = (next..next + count).map(|number| some(ONE + number)).collect();
        let appended = append(client, stream, expected, events).await;
        next += count;
        let revision = appended.revision.expect("it has events");
        assert_eq!(u128::from(revision.0) + 1, next);
        expected = ExpectedRevision::Exact(revision);
    }
    next
}

/// Appends to several streams at once until there were enough cuts. How many events it wrote.
async fn write_many(client: &Client, subscribers: &[Proxy]) -> u128 {
    let appender = client.appender(NonZeroU32::new(WINDOW).expect("not zero"));
    let streams: Vec<_> = (0..WINDOW).map(|number| name(&format!("proxy-{number}"))).collect();
    let mut next = 0;
    while cuts(subscribers) < CUTS {
        let numbered = streams.iter().zip(next..);
        join_all(numbered.map(|(stream, id)| send(&appender, stream, vec![some(MANY + id)]))).await;
        next += u128::from(WINDOW);
    }
    next
}

fn cuts(proxies: &[Proxy]) -> u64 {
    proxies.iter().map(Proxy::cuts).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_comes_twice_over_a_thousand_cuts() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    let one = name("proxy-one");
    let before = name("proxy-before");
    server.client.append(&before, ExpectedRevision::NoStream, vec![event(9)]).await.unwrap();

    let proxies =
        |seeds: Range<u64>| join_all(seeds.map(|seed| Proxy::start(server.address(), SEED + seed)));
    let (subscribers, writers) = (proxies(0..3).await, proxies(3..5).await);
    let clients: Vec<_> = subscribers.iter().chain(&writers).map(client).collect();
    let filter = EventFilter {
        target: FilterTarget::StreamName,
        pattern: Pattern::Prefixes(vec!["proxy-".to_owned()]),
    };
    let (filter, from) = (Some(filter), SubscribeFrom::End);
    let filtered = SubscribeAll { from, filter, ..SubscribeAll::default() };
    let (from, links) = (SubscribeFrom::Start, Links::Keep);
    let stream = SubscribeStream { stream: one.clone(), from, links };
    let all = begin(|| clients[0].subscribe_all(SubscribeAll::default())).await;
    let filtered = begin(|| clients[1].subscribe_all(filtered.clone())).await;
    let stream = begin(|| clients[2].subscribe_stream(stream.clone())).await;
    let followers = [all, filtered, stream].map(|each| tokio::spawn(follow(each)));

    let writing = async {
        let one = write_one(&clients[3], &subscribers, &one);
        let counts = tokio::join!(one, write_many(&clients[4], &subscribers));
        subscribers.iter().chain(&writers).for_each(Proxy::heal);
        counts
    };
    let (of_one, of_many) = soon("the writers", writing).await;
    let last = append(&clients[3], &one, ExpectedRevision::Any, vec![event(LAST)]);
    soon("the last append", last).await;
    let [all, filtered, stream] =
        followers.map(async |follower| soon("a subscriber", follower).await.expect("no panic"));
    let (all, filtered, stream) = tokio::join!(all, filtered, stream);
    for (what, proxies) in [("subscribers", &subscribers), ("writers", &writers)] {
        println!("cuts of {what}: {:?}", proxies.iter().map(Proxy::cuts).collect::<Vec<_>>());
    }
    println!("{of_one} and {of_many} events");

    // What is there, seen without the proxy.
    let events = server.client.read_all(ReadAll::default()).await.unwrap();
    let events: Vec<_> = events.map_ok(|event| event.event.unwrap()).try_collect().await.unwrap();
    let ids = |wanted: &dyn Fn(&str) -> bool| -> Vec<Uuid> {
        let wanted = events.iter().filter(|event| wanted(event.stream.as_str()));
        wanted.map(|event| event.id).collect()
    };
    let ours = ids(&|stream| stream.starts_with("proxy-") && stream != "proxy-before");
    let written = (0..of_one).map(|n| ONE + n).chain((0..of_many).map(|n| MANY + n)).chain([LAST]);
    let written: BTreeSet<_> = written.map(Uuid::from_u128).collect();
    assert_eq!(ours.len(), written.len(), "each event once");
    assert_eq!(ours.iter().copied().collect::<BTreeSet<_>>(), written);
    assert_same("$all", &all, &ids(&|_| true));
    assert_same("$all, filtered", &filtered, &ours);
    assert_same("one stream", &stream, &ids(&|stream| stream == "proxy-one"));
    drop((clients, subscribers, writers));
    server.stop().await;
}

/// Fails at the first difference, instead of showing thousands of ids.
#[track_caller]
fn assert_same(what: &str, seen: &[Uuid], there: &[Uuid]) {
    let differs = seen.iter().zip(there).position(|(seen, there)| seen != there);
    assert_eq!(differs, None, "{what}: another event than is there");
    assert_eq!(seen.len(), there.len(), "{what}: so many events");
}

/// Cuts after so many bytes, in this way.
fn after(up: u64, down: u64, cut: Cut) -> Plan {
    Plan { up, down, delay: Duration::ZERO, cut }
}

#[tokio::test]
async fn a_subscription_from_the_end_that_is_cut_before_it_is_live_still_begins_there() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    let mut begun_and_cut = 0;
    // The greeting and all that comes before the first event has some 600 bytes.
    for (number, bytes) in (0..900).step_by(9).enumerate() {
        let number = number as u128;
        let stream = name(&format!("end-{}", number % 2));
        let proxy =
            Proxy::cutting_first(server.address(), after(u64::MAX, bytes, Cut::Close)).await;
        let client = client(&proxy);
        let (from, links) = (SubscribeFrom::End, Links::Keep);
        let mut subscription = begin(|| async {
            if number.is_multiple_of(3) {
                let query = SubscribeAll { from: SubscribeFrom::End, ..SubscribeAll::default() };
                client.subscribe_all(query).await
            } else {
                let stream = stream.clone();
                client.subscribe_stream(SubscribeStream { stream, from, links }).await
            }
        })
        .await;
        let cuts = proxy.cuts();
        let wanted = event(100 + number);
        let id = wanted.id;
        server.client.append(&stream, ExpectedRevision::Any, vec![wanted]).await.unwrap();
        let first = soon("the event", async {
            loop {
                if let Delivery::Event(first) = subscription.next().await.unwrap() {
                    return first.event.unwrap().id;
                }
            }
        });
        assert_eq!(first.await, id, "cut after {bytes} bytes");
        begun_and_cut += proxy.cuts() - cuts;
    }
    println!("{begun_and_cut} were cut after they had begun");
    assert!(begun_and_cut > 0, "some were cut before the event");
    server.stop().await;
}

#[tokio::test]
async fn a_large_append_that_is_cut_anywhere_is_done_once() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path()).await;
    // 3 MB: several messages of a pipelined append, many frames of the other.
    let events = |number: u128| (0..12).map(move |n| sized(number << 64 | n, 250_000)).collect();
    let cuts = [0, 100, 300, 30_000, 900_000, 1_100_000, 2_500_000, 2_999_000, 3_000_900];
    for (number, bytes) in cuts.into_iter().enumerate() {
        for (pipelined, cut) in [(false, Cut::Reset), (true, Cut::Half)] {
            let id = 2 * number as u128 + u128::from(pipelined) + 1;
            let stream = name(&format!("large-{id}"));
            let proxy = Proxy::cutting_first(server.address(), after(bytes, u64::MAX, cut)).await;
            let client = client(&proxy);
            let done = async {
                if pipelined {
                    let appender = client.appender(NonZeroU32::MIN);
                    send(&appender, &stream, events(id)).await;
                } else {
                    append(&client, &stream, ExpectedRevision::NoStream, events(id)).await;
                }
            };
            soon("the append", done).await;
            let read = server.client.read_stream(ReadStream::new(stream)).await.unwrap();
            let found: Vec<_> = read.map(|event| event.unwrap().event.unwrap().id).collect().await;
            let expected: Vec<_> = (0..12).map(|n| Uuid::from_u128(id << 64 | n)).collect();
            assert_eq!(found, expected, "cut after {bytes} bytes, pipelined: {pipelined}");
        }
    }
    server.stop().await;
}
