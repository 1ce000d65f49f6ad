//! Aggregates over the network, and what goes with their events: snapshots, versions, contexts.

mod plain;

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use daybook_client::{
    Change, Client, Context, ExecuteError, LoadError, Metadata, NetworkStore, ReadStream,
    RepositoryOptions, Step, Task, TraceContext, Transaction, Upcasters,
};
use daybook_model::append::{Append, AppendError, Appended};
use daybook_model::{
    Aggregate, Clock, EventStore, EventView, ExpectedRevision, NewEvent, ReadFailed, RecordedEvent,
    Repository, Revision, Snapshot, StreamName, SystemEntropy, SystemTimer, Timestamp, Undecodable,
};
use futures_util::TryStreamExt as _;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::events::name;
use crate::support::node::{Server, client};
use crate::support::{assert_says, until};

/// Cents in a purse, which holds 10,000 at most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Purse(u64);

#[derive(Clone, Debug, PartialEq, Eq)]
struct TooMuch(u64);

impl std::fmt::Display for TooMuch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the purse would hold {}", self.0)
    }
}

impl std::error::Error for TooMuch {}

impl Aggregate for Purse {
    const KIND: &'static str = "purse";
    const SCHEMA: u32 = 1;
    /// First whole euros, then cents, now cents under a better name.
    const UPCASTERS: Upcasters = Upcasters::new(&[
        Step {
            event_type: "Filled",
            from: 1,
            change: Change::Json(|data| {
                let euros = data.remove("euros").and_then(|euros| euros.as_u64());
                data.insert("amount".to_owned(), (euros.ok_or("no euros")? * 100).into());
                Ok(())
            }),
        },
        Step {
            event_type: "Filled",
            from: 2,
            change: Change::Json(|data| {
                let amount = data.remove("amount").ok_or("no amount")?;
                data.insert("cents".to_owned(), amount);
                Ok(())
            }),
        },
    ]);
    /// Fill in so many cents each.
    type Command = Vec<u64>;
    type Event = u64;
    type Rejection = TooMuch;

    fn decide(&self, command: &Vec<u64>, _: Timestamp) -> Result<Vec<u64>, TooMuch> {
        let sum = self.0 + command.iter().sum::<u64>();
        if sum > 10_000 { Err(TooMuch(sum)) } else { Ok(command.clone()) }
    }

    fn evolve(&mut self, event: &u64) {
        self.0 += event;
    }

    fn encode(event: &u64) -> (&'static str, Bytes) {
        ("Filled", json!({ "cents": event }).to_string().into())
    }

    fn decode(event: EventView<'_>) -> Result<u64, Undecodable> {
        let data: Value = serde_json::from_slice(event.data).unwrap_or_default();
        data["cents"].as_u64().ok_or_else(|| Undecodable {
            event_type: event.event_type.to_owned(),
            reason: "no cents".to_owned(),
        })
    }

    fn to_snapshot(&self) -> Bytes {
        self.0.to_string().into()
    }

    fn from_snapshot(data: &[u8]) -> Option<Purse> {
        std::str::from_utf8(data).ok()?.parse().ok().map(Purse)
    }
}

/// A store that counts the events it replays.
#[derive(Clone)]
struct Counted<S> {
    store: S,
    replayed: Arc<AtomicU64>,
}

impl<S: EventStore> EventStore for Counted<S> {
    async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.store.append(append).await
    }

    async fn head(&self, stream: &StreamName) -> Result<Option<Revision>, ReadFailed> {
        self.store.head(stream).await
    }

    async fn replay<F>(
        &self,
        stream: &StreamName,
        from: Revision,
        mut each: F,
    ) -> Result<(), ReadFailed>
    where
        F: FnMut(EventView<'_>) -> ControlFlow<()> + Send,
    {
        let count = |event: EventView<'_>| {
            self.replayed.fetch_add(1, Ordering::Relaxed);
            each(event)
        };
        self.store.replay(stream, from, count).await
    }

    async fn transaction(
        &self,
        stream: &StreamName,
        transaction: Uuid,
    ) -> Result<Option<Revision>, ReadFailed> {
        self.store.transaction(stream, transaction).await
    }

    async fn snapshot(&self, stream: &StreamName, at_or_before: Revision) -> Option<Snapshot> {
        self.store.snapshot(stream, at_or_before).await
    }

    fn put_snapshot(&self, stream: &StreamName, snapshot: Snapshot) {
        self.store.put_snapshot(stream, snapshot);
    }
}

/// A clock that stands still, so that two runs decide the same.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000_000_000)
    }

    fn monotonic(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

fn purses<S: EventStore>(store: S, snapshot_every: u64) -> Repository<Purse, S> {
    let options = RepositoryOptions { snapshot_every, ..RepositoryOptions::default() };
    Repository::new(store, Arc::new(Still), Arc::new(SystemTimer), Arc::new(SystemEntropy), options)
}

fn fill(cents: &[u64], id: u128) -> Task<Purse> {
    let digest = u128::to_be_bytes(cents.iter().map(|cents| u128::from(*cents)).sum());
    let transaction = Transaction { id: Uuid::from_u128(id), digest };
    Task { command: cents.to_vec(), transaction, context: None, record: None }
}

async fn read(client: &Client, stream: &StreamName) -> Vec<RecordedEvent> {
    let events = client.read_stream(ReadStream::new(stream.clone())).await.expect("a read");
    let events: Vec<_> = events.try_collect().await.expect("events");
    events.into_iter().filter_map(|resolved| resolved.event).collect()
}

/// What a life of several aggregates comes to: answers, and events as they are stored; and the
/// positions that its commands were told.
async fn life<S: EventStore>(store: S, client: &Client) -> (Vec<String>, Vec<Option<u64>>) {
    let purses = purses(store, 4);
    let (mut said, mut places) = (Vec::new(), Vec::new());
    for (stream, cents, id) in [
        ("purse-1", &[100][..], 1),
        ("purse-2", &[1, 2, 3], 2),
        ("purse-1", &[100], 1),
        ("purse-1", &[101], 1),
        ("purse-1", &[9_000], 3),
        ("purse-1", &[9_000], 4),
        ("purse-1", &[], 5),
        ("purse-2", &[10, 20, 30], 6),
        ("purse-2", &[1, 2, 3], 2),
        ("purse-1", &[900], 7),
    ] {
        let task = Task { context: Some(context()), ..fill(cents, id) };
        let answer = purses.execute(&name(stream), task).await;
        if let Ok(done) = &answer {
            places.push(done.position.map(|position| position.0));
        }
        let answer = answer.map(|done| (done.state, done.revision, done.repeated));
        said.push(format!("{answer:?}"));
    }
    for stream in ["purse-1", "purse-2", "purse-3"] {
        said.push(format!("{:?}", purses.load(&name(stream)).await));
        let at = purses.load_at(&name(stream), Revision(1)).await;
        said.push(format!("{at:?}"));
    }
    for stream in ["purse-1", "purse-2"] {
        for event in read(client, &name(stream)).await {
            let RecordedEvent { id, revision, event_type, metadata, data, .. } = event;
            said.push(format!("{stream} {revision} {id} {event_type} {metadata:?} {data:?}"));
        }
    }
    (said, places)
}

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn context() -> Context {
    Context {
        correlation: Some("order 7".to_owned()),
        causation: Some(Uuid::from_u128(77)),
        actor: None,
        trace: Some(TraceContext::parse(TRACEPARENT, Some("a=1")).expect("valid")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregate_is_the_same_over_the_network_as_in_process() {
    let (data, other) = (TempDir::new().expect("a directory"), TempDir::new().expect("another"));
    let (server, far) = (Server::start(data.path()).await, Server::start(other.path()).await);
    let (near, places) = life(server.store().clone(), &server.client).await;
    assert!(places.iter().any(Option::is_some), "{places:?}");
    assert_eq!(life(far.client.store(), &far.client).await, (near.clone(), places.clone()));
    assert_says(&near[3], &["TransactionReused"]);
    assert_says(&near[5], &["Rejected", "18100"]);
    assert_eq!(near.len(), 10 + 6 + 3 + 6, "{near:#?}");
    server.stop().await;

    // A server without our own services is asked for each once, and is right all the same.
    let third = TempDir::new().expect("a third");
    let server = Server::start(third.path()).await;
    let (plain, seen) = plain::start(server.address()).await;
    let client = self::client(plain);
    // Its positions are its own.
    let unknown = vec![None; places.len()];
    assert_eq!(life(client.store(), &server.client).await, (near, unknown));
    assert_eq!(seen.transactions.load(Ordering::SeqCst), 1);
    let snapshots = client.snapshots();
    let kept = Snapshot {
        revision: Revision(0),
        schema: 1,
        kind: "purse".to_owned(),
        data: Bytes::from_static(b"1"),
    };
    for _ in 0..3 {
        assert_eq!(snapshots.put(&name("purse-1"), &kept).await, Ok(()));
        assert_eq!(snapshots.latest(&name("purse-1"), None).await, Ok(None));
        assert_eq!(snapshots.delete(&name("purse-1")).await, Ok(()));
    }
    let before = seen.snapshots.load(Ordering::SeqCst);
    assert_eq!(snapshots.latest(&name("purse-1"), None).await, Ok(None));
    assert_eq!(seen.snapshots.load(Ordering::SeqCst), before, "it is asked once");
    server.stop().await;
    far.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_spares_the_replay() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let (client, stream) = (&server.client, name("purse-1"));
    let purses = self::purses(client.store(), 10);
    for n in 0..25 {
        purses.execute(&stream, fill(&[n], n.into())).await.expect("done");
    }
    let (snapshots, sum) = (client.snapshots(), (0..25).sum::<u64>());
    let newest = || async { snapshots.latest(&stream, None).await.expect("an answer") };
    until("the snapshot is kept", || async {
        newest().await.is_some_and(|found| found.revision == Revision(19))
    })
    .await;
    let replay = |expected: u64| {
        let replayed = Arc::<AtomicU64>::default();
        let store = Counted { store: client.store(), replayed: replayed.clone() };
        let stream = stream.clone();
        async move {
            let (state, revision) =
                self::purses(store, 10).load(&stream).await.expect("readable").expect("it exists");
            assert_eq!((state, revision), (Purse(sum), Revision(24)));
            assert_eq!(replayed.load(Ordering::Relaxed), expected);
        }
    };
    replay(5).await;
    // An older one, on demand.
    let older = snapshots.latest(&stream, Some(Revision(18))).await.expect("an answer");
    assert_eq!(older.expect("it is kept").revision, Revision(9));
    // One of another version is not used, and neither is none.
    let odd = Snapshot { schema: 2, revision: Revision(24), ..newest().await.expect("one") };
    snapshots.put(&stream, &odd).await.expect("kept");
    replay(25).await;
    snapshots.delete(&stream).await.expect("deleted");
    assert_eq!(newest().await, None);
    replay(25).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_decided_again() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let stream = name("purse-1");
    let (one, other) = (purses(server.client.store(), 0), purses(server.client.store(), 0));
    one.execute(&stream, fill(&[1], 1)).await.expect("done");
    other.execute(&stream, fill(&[9_990], 2)).await.expect("done");
    // It knows of 1 only, and learns that there is no room.
    let refused = one.execute(&stream, fill(&[10], 3)).await;
    assert!(matches!(refused, Err(ExecuteError::Rejected(TooMuch(10_001)))), "{refused:?}");
    let done = one.execute(&stream, fill(&[9], 4)).await.expect("done");
    assert_eq!((done.state, done.revision), (Purse(10_000), Some(Revision(2))));
    assert_eq!(one.counters().conflicts.load(Ordering::Relaxed), 1);

    // Many at once from two processes: each is done exactly once.
    let stream = name("purse-2");
    let tasks = (0..100).map(|n| {
        let purses = if n % 2 == 0 { &one } else { &other };
        purses.execute(&stream, fill(&[1], n))
    });
    for done in join_all(tasks).await {
        done.expect("done");
    }
    let found = one.load(&stream).await.expect("readable");
    assert_eq!(found, Some((Purse(100), Revision(99))));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_older_programs_are_read_and_of_newer_ones_refused() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let (client, stream) = (&server.client, name("purse-1"));
    let event = |id: u128, metadata: &'static str, data: &'static str| NewEvent {
        metadata: Bytes::from_static(metadata.as_bytes()),
        ..NewEvent::json(Uuid::from_u128(id), "Filled", data)
    };
    let old = vec![
        event(1, "", r#"{"euros":2}"#),
        event(2, r#"{"$schemaVersion":2}"#, r#"{"amount":30}"#),
        event(3, r#"{"$schemaVersion":3}"#, r#"{"cents":4}"#),
    ];
    client.append(&stream, ExpectedRevision::NoStream, old).await.expect("appended");
    let purses = self::purses(client.store(), 0);
    let done = purses.execute(&stream, fill(&[1, 1], 9)).await.expect("done");
    assert_eq!(done.state, Purse(236));
    for event in &read(client, &stream).await[3..] {
        let metadata: Value = serde_json::from_slice(&event.metadata).expect("JSON");
        assert_eq!(metadata["$schemaVersion"], 3);
    }
    let newer = event(4, r#"{"$schemaVersion":4}"#, r#"{"milli":1}"#);
    client.append(&stream, ExpectedRevision::Any, vec![newer]).await.expect("appended");
    let error = purses.load(&stream).await.expect_err("refused");
    assert!(matches!(error, LoadError::Undecodable { revision: Revision(5), .. }), "{error:?}");
    assert_says(&error.to_string(), &["purse-1", "version 4", "knows 3", "newer"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_read_changed_and_acted_on() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let (client, stream) = (&server.client, name("purse-1"));
    let found = client.stream_metadata(&stream).await.expect("an answer");
    assert_eq!(found.metadata, Metadata::default());
    assert_eq!(found.expected, ExpectedRevision::NoStream);
    let mut metadata = Metadata::parse(br#"{"$acl":{"$r":"ops"},"team":"web"}"#);
    metadata.settings.max_count = Some(2);
    client.set_stream_metadata(&stream, found.expected, &metadata).await.expect("set");
    let stale = client.set_stream_metadata(&stream, found.expected, &metadata).await;
    assert!(matches!(stale, Err(daybook_client::AppendError::WrongExpectedRevision { .. })));
    let events = (1..=5).map(|n| NewEvent::json(Uuid::from_u128(n), "Filled", "{}")).collect();
    client.append(&stream, ExpectedRevision::Any, events).await.expect("appended");
    let shown: Vec<u64> =
        read(client, &stream).await.iter().map(|event| event.revision.0).collect();
    assert_eq!(shown, [3, 4]);

    let mut found = client.stream_metadata(&stream).await.expect("an answer");
    assert_eq!(found.metadata, metadata);
    found.metadata.settings.max_count = None;
    found.metadata.settings.truncate_before = Some(1);
    client.set_stream_metadata(&stream, found.expected, &found.metadata).await.expect("set");
    assert_eq!(read(client, &stream).await.len(), 4);
    let found = client.stream_metadata(&stream).await.expect("an answer");
    assert_eq!(found.expected, ExpectedRevision::Exact(Revision(1)));
    assert_eq!(found.metadata.other, metadata.other);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_thing_led_to_the_other_under_one_trace() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let (address, seen) = plain::start(server.address()).await;
    let client = client(address);
    let purses = self::purses(client.store(), 0);
    let first = Task { context: Some(context()), ..fill(&[5], 1) };
    purses.execute(&name("purse-1"), first).await.expect("done");

    // Three reactions: another aggregate's, a plain event, and one that comes over a bare append.
    let mut cause = read(&client, &name("purse-1")).await.remove(0);
    let mut chain = vec![cause.clone()];
    for step in 0..3 {
        let context = Context::after(&cause.view(), &SystemEntropy);
        let stream = name(&format!("reaction-{step}"));
        if step == 0 {
            let task = Task { context: Some(context), ..fill(&[1], 2) };
            purses.execute(&stream, task).await.expect("done");
        } else {
            let mut event = NewEvent::json(Uuid::from_u128(1_000 + step), "Reacted", "{}");
            event.metadata = Bytes::from_static(br#"{"own":1.50}"#);
            let within = client.within(&context);
            within.append(&stream, ExpectedRevision::NoStream, vec![event]).await.expect("done");
        }
        cause = read(&client, &stream).await.remove(0);
        chain.push(cause.clone());
    }
    let said: Vec<Context> = chain.iter().map(|event| Context::of(&event.metadata)).collect();
    assert_eq!(said[0], context());
    for (n, pair) in chain.windows(2).enumerate() {
        let next = &said[n + 1];
        assert_eq!(next.correlation.as_deref(), Some("order 7"));
        assert_eq!(next.causation, Some(pair[0].id));
        let (trace, before) = (next.trace.as_ref(), said[n].trace.as_ref());
        let (trace, before) = (trace.expect("a trace"), before.expect("a trace"));
        assert_eq!((trace.trace_id(), trace.tracestate()), (before.trace_id(), Some("a=1")));
        assert_ne!(trace.span_id(), before.span_id());
    }
    assert!(chain[3].metadata.windows(10).any(|part| part == br#""own":1.50"#));

    // Each append travelled under the trace that its event names; a call without one under none.
    let headers = std::mem::take(&mut *seen.headers.lock().expect("not poisoned"));
    let traces: Vec<&str> = headers
        .iter()
        .filter_map(|headers| headers.get("traceparent"))
        .map(|value| value.to_str().expect("text"))
        .collect();
    let written: Vec<String> =
        said.iter().filter_map(|said| said.trace.as_ref()).map(ToString::to_string).collect();
    assert_eq!(traces, written);
    assert_eq!(traces[0], TRACEPARENT);
    let states = headers.iter().filter(|headers| headers.contains_key("tracestate")).count();
    assert_eq!(states, 4);

    // Reads and deletes, too.
    let within = client.within(&context());
    let query = ReadStream::new(name("reaction-1"));
    let events: Vec<_> =
        within.read_stream(query).await.expect("a read").try_collect().await.expect("events");
    assert_eq!(events.len(), 1);
    within.read_all(daybook_client::ReadAll::default()).await.expect("a read");
    within.delete(&name("reaction-1"), ExpectedRevision::Any).await.expect("deleted");
    within.tombstone(&name("reaction-2"), ExpectedRevision::Any).await.expect("ended");
    let headers = seen.headers.lock().expect("not poisoned").clone();
    assert!(headers.iter().all(|headers| headers["traceparent"] == TRACEPARENT));
    assert_eq!(headers.len(), 4);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_network_cannot_do_is_refused_with_a_reason() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let (store, other) = (server.client.store(), nobody(server.address()));
    let event = || NewEvent::json(Uuid::from_u128(1), "Filled", "{}");
    let to = |stream: &str| Append::to_stream(name(stream), ExpectedRevision::Any, [event()]);
    let mut astray = to("purse-1");
    astray.events[0].0 = 1;
    for (append, store, words) in [
        (astray, &store, ["does not name", "malformed"]),
        (to("ledger.account-1"), &store, ["ledger.account-1", "/v1/accounts"]),
        (to("purse-1"), &other, ["takes no appends", "cannot be reached"]),
    ] {
        let error = store.append(append).await.expect_err("refused");
        assert_says(&error.to_string(), &words);
    }
    let committed = server.store().committed();
    store.append(to("purse-1")).await.expect("done");
    assert_eq!(server.store().committed(), committed.next());
    server.client.tombstone(&name("purse-1"), ExpectedRevision::Any).await.expect("ended");
    let deleted = store.append(to("purse-1")).await.expect_err("refused");
    assert!(matches!(deleted, AppendError::StreamDeleted { tombstoned: true, .. }), "{deleted:?}");
    let ended = store.replay(&name("purse-1"), Revision(0), |_| ControlFlow::Continue(())).await;
    assert_says(&ended.expect_err("refused").to_string(), &["purse-1", "deleted for ever"]);
    assert_eq!(store.head(&name("nothing")).await, Ok(None));
    assert_says(
        &other.transaction(&name("purse-1"), Uuid::nil()).await.expect_err("gone").to_string(),
        &["purse-1", "cannot be reached"],
    );
    server.stop().await;
}

/// A store at an address where nobody listens.
fn nobody(near: SocketAddr) -> NetworkStore {
    // Bound and closed again: nobody else is given it so soon.
    let listener = std::net::TcpListener::bind((near.ip(), 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    client(address).store()
}
