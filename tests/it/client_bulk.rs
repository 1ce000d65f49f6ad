//! The client's bulk writer: many callers, one append, a result for each.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use daybook_client::{
    AppendError, BulkOptions, CallError, Client, ExpectedRevision, NewEvent, ReadStream, Revision,
    StreamName,
};
use daybook_model::Timer;
use futures_util::future::join_all;
use futures_util::{FutureExt as _, TryStreamExt as _, poll};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::events::{event, name, sized};
use crate::support::node::{Server, client};
use crate::support::soon;

/// Time that does not pass.
#[derive(Debug)]
struct Never;

impl Timer for Never {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::pending())
    }
}

fn exact(revision: u64) -> ExpectedRevision {
    ExpectedRevision::Exact(Revision(revision))
}

async fn ids(client: &Client, stream: &StreamName) -> Vec<Uuid> {
    let events = client.read_stream(ReadStream::new(stream.clone())).await.expect("a read");
    let events: Vec<_> = events.try_collect().await.expect("events");
    events.into_iter().filter_map(|resolved| resolved.event).map(|event| event.id).collect()
}

/// What the `n`-th caller expects: most nothing, some what cannot hold.
fn expected(n: u128) -> ExpectedRevision {
    match n % 100 {
        7 | 57 => exact(1_000_000),
        0..10 => ExpectedRevision::NoStream,
        20 | 21 => ExpectedRevision::StreamExists,
        _ => ExpectedRevision::Any,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_a_thousand_callers_gets_its_own_result() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    // Nothing is sent before all callers of a stream wait.
    let options = BulkOptions { events_max: 200, timer: Arc::new(Never), ..BulkOptions::default() };
    let writer = server.client.bulk_writer(options);
    let stream = |n: u128| name(&format!("click-{}", n / 100));
    let appends = (0..1_000u128).map(|n| {
        let (writer, stream, events) =
            (writer.clone(), stream(n), vec![event(2 * n + 1), event(2 * n + 2)]);
        async move { writer.append(&stream, expected(n), events).await }
    });
    let answers = soon("all answers", join_all(appends)).await;
    let mut written: BTreeMap<StreamName, Vec<Uuid>> = BTreeMap::new();
    for s in 0..10 {
        let stream = stream(s * 100);
        written.insert(stream.clone(), ids(&server.client, &stream).await);
    }
    let (mut checkpoints, mut conflicts, mut total) = (BTreeSet::new(), 0, 0);
    for (n, answer) in (0..).zip(&answers) {
        let ids = &written[&stream(n)];
        let own = [2 * n + 1, 2 * n + 2].map(Uuid::from_u128);
        match answer {
            Ok(appended) => {
                let last = appended.revision.expect("a revision").0 as usize;
                assert_eq!(ids[last - 1..=last], own, "caller {n} is told where its events are");
                checkpoints.insert(appended.checkpoint.expect("a place"));
                total += 1;
            }
            Err(AppendError::WrongExpectedRevision { expected, .. }) => {
                assert_eq!(*expected, self::expected(n), "caller {n} is told of its own part");
                assert!(!ids.contains(&own[0]) && !ids.contains(&own[1]), "caller {n}");
                conflicts += 1;
            }
            Err(other) => panic!("caller {n}: {other}"),
        }
    }
    // Of each stream's callers two expect what never holds, and of nine that expect no stream eight
    // come too late. Three appends are taken: the first caller's; what waited behind the last that
    // came too late, and behind the second that expects what never holds.
    assert_eq!((conflicts, total), (100, 900));
    assert_eq!(written.values().map(Vec::len).sum::<usize>(), total * 2);
    assert_eq!(checkpoints.len(), 30, "appends for {total} callers");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_goes_when_it_is_full_or_its_time_has_come() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    for (events_max, size_max) in [(10, usize::MAX), (usize::MAX, 10 * (16 + 8 + 128))] {
        let options =
            BulkOptions { events_max, size_max, timer: Arc::new(Never), ..BulkOptions::default() };
        let writer = server.client.bulk_writer(options);
        let stream = name(&format!("click-{events_max}"));
        let send = |n| writer.append(&stream, ExpectedRevision::Any, vec![event(n)]);
        let mut nine: Vec<_> = (1..10).map(|n| Box::pin(send(n))).collect();
        for waiting in &mut nine {
            assert!(poll!(waiting).is_pending());
        }
        assert_eq!(server.client.stream_metadata(&stream).await.map(|_| ()), Ok(()));
        assert!(nine.iter_mut().all(|waiting| waiting.now_or_never().is_none()));
        let tenth = soon("the batch is full", send(10)).await.expect("appended");
        let nine = soon("with it", join_all(nine)).await;
        for (n, answer) in (0..).zip(nine) {
            let answer = answer.expect("appended");
            assert_eq!(answer.revision, Some(Revision(n)));
            assert_eq!(answer.checkpoint, tenth.checkpoint, "they are one append");
        }
        assert_eq!(tenth.revision, Some(Revision(9)));
    }
    // Without company: the time comes.
    let writer = server.client.bulk_writer(BulkOptions::default());
    let stream = name("click-alone");
    let alone = writer.append(&stream, ExpectedRevision::NoStream, vec![event(1)]).await;
    assert_eq!(alone.expect("appended").revision, Some(Revision(0)));
    // A chain of expectations is one append, too.
    let options = BulkOptions { events_max: 4, timer: Arc::new(Never), ..BulkOptions::default() };
    let writer = server.client.bulk_writer(options);
    let parts = [(0, vec![event(2), event(3)]), (2, vec![event(4)]), (3, vec![event(5)])];
    let chain = parts.map(|(at, events)| writer.append(&stream, exact(at), events));
    let answers = soon("the batch is full", join_all(chain)).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("appended")).collect();
    let revisions: Vec<_> = answers.iter().map(|answer| answer.revision.expect("one").0).collect();
    assert_eq!(revisions, [2, 3, 4]);
    assert!(answers.iter().all(|answer| answer.checkpoint == answers[0].checkpoint));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_recognised_whoever_else_appends() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let (stream, any) = (name("click-1"), ExpectedRevision::Any);
    let options = BulkOptions { events_max: 3, timer: Arc::new(Never), ..BulkOptions::default() };
    let writer = server.client.bulk_writer(options);
    let first = server.client.append(&stream, any, vec![event(1), event(2)]).await;
    let first = first.expect("appended");
    let (before, again, after) = soon("all three", async {
        tokio::join!(
            writer.append(&stream, any, vec![event(3)]),
            writer.retry(&stream, any, vec![event(1), event(2)]),
            writer.append(&stream, any, vec![event(4)]),
        )
    })
    .await;
    assert_eq!(again.expect("recognised").revision, first.revision);
    assert_eq!(before.expect("appended").revision, Some(Revision(2)));
    assert_eq!(after.expect("appended").revision, Some(Revision(3)));
    let expected: Vec<_> = (1..=4).map(Uuid::from_u128).collect();
    assert_eq!(ids(&server.client, &stream).await, expected);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_is_the_answer_of_exactly_those_it_concerns() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let any = ExpectedRevision::Any;
    let (ended, live) = (name("click-ended"), name("click-live"));
    server.client.tombstone(&ended, any).await.expect("ended");
    let writer = server.client.bulk_writer(BulkOptions::default());
    let appends = (1..=20u128).map(|n| {
        let stream = if n % 2 == 0 { &ended } else { &live };
        writer.append(stream, any, vec![event(n)])
    });
    let answers = soon("all answers", join_all(appends)).await;
    for (n, answer) in (1..).zip(answers) {
        match answer {
            Ok(_) => assert_eq!(n % 2, 1, "{n}"),
            Err(AppendError::StreamDeleted { stream }) => {
                assert_eq!((n % 2, stream), (0, ended.clone()))
            }
            Err(other) => panic!("{n}: {other}"),
        }
    }
    // What no server would take is refused before it can spoil a batch.
    let nameless = NewEvent { event_type: String::new(), ..event(99) };
    let refused = writer.append(&live, any, vec![nameless]).await;
    assert!(matches!(refused, Err(AppendError::InvalidEvent(_))), "{refused:?}");
    let empty = writer.append(&live, exact(9), vec![]).await;
    assert_eq!(empty.expect("it holds").revision, Some(Revision(9)));

    // With the server gone, every caller is told, and nobody waits for ever.
    let far = client(server.address());
    let writer = far.bulk_writer(BulkOptions::default());
    server.stop().await;
    let answers = (1..=20u128).map(|n| writer.append(&live, any, vec![event(n)]));
    for answer in soon("all answers", join_all(answers)).await {
        assert!(
            matches!(answer, Err(AppendError::Call(CallError::Unreachable { .. }))),
            "{answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_may_wait_waits_for_room() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let writer = server.client.bulk_writer(BulkOptions::default());
    let stream = name("click-1");
    let appends = (1..=8)
        .map(|n| writer.append(&stream, ExpectedRevision::Any, vec![sized(n, 12 * 1024 * 1024)]));
    for answer in soon("all answers", join_all(appends)).await {
        answer.expect("appended");
    }
    let expected: Vec<_> = (1..=8).map(Uuid::from_u128).collect();
    assert_eq!(ids(&server.client, &stream).await, expected);
    server.stop().await;
}
