//! What the repository promises, on a store that fails on demand.

use std::sync::Mutex;

use bytes::Bytes;
use futures_util::future::{FutureExt, join_all};
use futures_util::poll;

use uuid::Uuid;

use super::*;
use crate::memory::{Fate, ManualTime, MemoryStore};
use crate::{
    Context, Decision, EventView, ExpectedRevision, NewEvent, Timestamp, TraceContext, Undecodable,
};

/// A sum that may not exceed 1,000,000.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sum(u64);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sum would be {0}")]
struct TooMuch(u64);

impl Aggregate for Sum {
    const KIND: &'static str = "sum";
    const SCHEMA: u32 = 3;
    /// Numbers to add, one event each.
    type Command = Vec<u64>;
    type Event = u64;
    type Rejection = TooMuch;

    fn decide(&self, command: &Vec<u64>, _: Timestamp) -> Result<Vec<u64>, TooMuch> {
        let sum = self.0 + command.iter().sum::<u64>();
        if sum > 1_000_000 { Err(TooMuch(sum)) } else { Ok(command.clone()) }
    }

    fn evolve(&mut self, event: &u64) {
        self.0 += event;
    }

    fn encode(event: &u64) -> (&'static str, Bytes) {
        ("Added", event.to_string().into())
    }

    fn decode(event: EventView<'_>) -> Result<u64, Undecodable> {
        let text = std::str::from_utf8(event.data).unwrap_or_default();
        text.parse().map_err(|_| Undecodable {
            event_type: event.event_type.to_owned(),
            reason: "no number".to_owned(),
        })
    }

    fn to_snapshot(&self) -> Bytes {
        self.0.to_string().into()
    }

    fn from_snapshot(data: &[u8]) -> Option<Sum> {
        std::str::from_utf8(data).ok()?.parse().ok().map(Sum)
    }
}

type Sums = Repository<Sum, MemoryStore>;

struct Bench {
    time: ManualTime,
    store: MemoryStore,
    sums: Sums,
}

fn bench(options: Options) -> Bench {
    let time = ManualTime::new(Timestamp(1), 7);
    let store = MemoryStore::new(Arc::new(time.clone()));
    let sums = repository(&store, &time, options);
    Bench { time, store, sums }
}

/// Another process, as far as the store can tell.
fn repository(store: &MemoryStore, time: &ManualTime, options: Options) -> Sums {
    let time = Arc::new(time.clone());
    Repository::new(store.clone(), time.clone(), time.clone(), time, options)
}

fn stream(name: &str) -> StreamName {
    StreamName::new(name).expect("a name")
}

fn add(number: u64, id: u128) -> Task<Sum> {
    let transaction =
        Transaction { id: Uuid::from_u128(id), digest: u128::to_be_bytes(number.into()) };
    Task { command: vec![number], transaction, context: None, record: None }
}

/// Runs `work` while time passes.
async fn as_time_passes<T>(time: &ManualTime, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        if let Some(done) = work.as_mut().now_or_never() {
            return done;
        }
        time.advance(Duration::from_millis(1));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_hot_aggregate_takes_batches_and_loses_no_command() {
    let Bench { store, sums, .. } = bench(Options::default());
    let hot = stream("sum-hot");
    store.hold(true);
    let tasks = (1..=1_000).map(|n| sums.execute(&hot, add(n, n.into())));
    let mut all = Box::pin(join_all(tasks));
    assert!(poll!(&mut all).is_pending());
    store.hold(false);
    let answers = all.await;
    let mut revisions: Vec<_> =
        answers.iter().map(|done| done.as_ref().expect("done").revision).collect();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), 1_000, "each has an event of its own");
    for done in answers.into_iter().map(|done| done.expect("done")) {
        assert_eq!(done.position.map(|at| at.0), done.revision.map(|at| at.0));
    }
    // The first alone, then what waited meanwhile.
    assert_eq!(store.appends(), 1 + 999usize.div_ceil(BATCH_LEN_MAX));
    assert_eq!(sums.load(&hot).await.expect("loads").expect("exists").0, Sum(500_500));
    assert_eq!(sums.counters().conflicts.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_queue_that_is_full_says_so() {
    let Bench { store, sums, .. } = bench(Options::default());
    let hot = stream("sum-hot");
    store.hold(true);
    let waiting = (0..=QUEUE_LEN_MAX as u128).map(|n| sums.execute(&hot, add(1, n)));
    let mut waiting = Box::pin(join_all(waiting));
    assert!(poll!(&mut waiting).is_pending());
    let refused = sums.execute(&hot, add(1, u128::MAX)).await.expect_err("full");
    assert!(matches!(refused, ExecuteError::Append(AppendError::Overloaded { .. })), "{refused}");
}

#[tokio::test]
async fn a_lost_race_is_decided_again_on_what_is_new() {
    let Bench { time, store, sums } = bench(Options::default());
    let (other, name) = (repository(&store, &time, Options::default()), stream("sum-1"));
    sums.execute(&name, add(1, 1)).await.expect("done");
    other.execute(&name, add(999_990, 2)).await.expect("done");
    // This cache knows of 1 only. What is accepted must count the other's, …
    let done = as_time_passes(&time, sums.execute(&name, add(5, 3))).await.expect("done");
    assert_eq!((done.state, done.revision), (Sum(999_996), Some(Revision(2))));
    // … and so must what is refused, …
    as_time_passes(&time, other.execute(&name, add(4, 4))).await.expect("done");
    let refused = as_time_passes(&time, sums.execute(&name, add(1, 5))).await;
    assert!(matches!(refused, Err(ExecuteError::Rejected(TooMuch(1_000_001)))), "{refused:?}");
    // … and what is only read.
    let more = repository(&store, &time, Options::default());
    assert_eq!(other.load(&name).await.expect("loads"), Some((Sum(1_000_000), Revision(3))));
    assert_eq!(more.load(&name).await.expect("loads"), Some((Sum(1_000_000), Revision(3))));
    assert_eq!(more.load(&stream("sum-2")).await.expect("loads"), None);
}

#[tokio::test]
async fn races_lost_for_ever_end_in_a_conflict() {
    let Bench { time, store, sums } = bench(Options::default());
    store.judge(|append| {
        let condition = append.streams[0].clone();
        Fate::Refused(AppendError::WrongExpectedRevision {
            index: 0,
            stream: condition.stream,
            expected: condition.expected,
            actual: None,
        })
    });
    let answer = as_time_passes(&time, sums.execute(&stream("sum-1"), add(1, 1))).await;
    assert!(matches!(answer, Err(ExecuteError::Conflict { .. })), "{answer:?}");
    assert_eq!(sums.counters().conflicts.load(Ordering::Relaxed), u64::from(ATTEMPTS_MAX));
    assert!(store.log().is_empty());
}

#[tokio::test]
async fn a_retry_is_answered_as_the_first_was_for_ever() {
    let Bench { time, store, sums } = bench(Options { cache_len: 1, snapshot_every: 2 });
    let name = stream("sum-1");
    let several = || Task { command: vec![1, 2, 3], ..add(6, 1) };
    let first = sums.execute(&name, several()).await.expect("done");
    for n in 2..10 {
        sums.execute(&name, add(10, n)).await.expect("done");
    }
    for sums in [sums, repository(&store, &time, Options::default())] {
        let again = sums.execute(&name, several()).await.expect("recognised");
        assert!(again.repeated);
        assert_eq!((again.state, again.revision), (Sum(6), first.revision));
        let reused = sums.execute(&name, add(7, 1)).await.expect_err("another request");
        assert!(matches!(reused, ExecuteError::TransactionReused { .. }), "{reused}");
    }
    assert_eq!(store.log().len(), 11);
}

#[tokio::test]
async fn a_retry_that_overtakes_its_first_is_done_once() {
    let Bench { store, sums, .. } = bench(Options::default());
    let name = stream("sum-1");
    store.hold(true);
    let tasks = [add(1, 1), add(2, 2), add(2, 2), add(3, 3), add(1, 1)];
    let mut all = Box::pin(join_all(tasks.map(|task| sums.execute(&name, task))));
    assert!(poll!(&mut all).is_pending());
    store.hold(false);
    let repeated: Vec<bool> =
        all.await.into_iter().map(|done| done.expect("done").repeated).collect();
    assert_eq!(repeated, [false, false, true, false, true]);
    assert_eq!(store.log().len(), 3);
}

#[tokio::test]
async fn two_requests_under_one_id_never_pass_for_each_other() {
    let Bench { time, store, sums } = bench(Options::default());
    let (other, name) = (repository(&store, &time, Options::default()), stream("sum-1"));
    sums.execute(&name, add(1, 1)).await.expect("done");
    store.hold(true);
    let mut first = Box::pin(sums.execute(&name, add(10, 2)));
    let mut second = Box::pin(other.execute(&name, add(20, 2)));
    assert!(poll!(&mut first).is_pending(), "its append is on its way");
    assert!(poll!(&mut second).is_pending(), "decided on the same state");
    store.hold(false);
    assert_eq!(first.await.expect("done").state, Sum(11));
    let reused = as_time_passes(&time, second).await.expect_err("another request");
    assert!(matches!(reused, ExecuteError::TransactionReused { .. }), "{reused}");
    assert_eq!(other.load(&name).await.expect("loads"), Some((Sum(11), Revision(1))));
}

#[tokio::test]
async fn a_slot_that_left_the_cache_in_a_turn_loses_one_race_and_no_more() {
    let Bench { time, store, sums } = bench(Options { cache_len: 2, snapshot_every: 0 });
    let (other, name) = (repository(&store, &time, Options::default()), stream("sum-1"));
    sums.execute(&name, add(1, 1)).await.expect("done");
    other.execute(&name, add(2, 2)).await.expect("done");
    let mut late = Box::pin(sums.execute(&name, add(3, 3)));
    assert!(poll!(&mut late).is_pending(), "it lost the race, and waits a moment");
    // Often enough that the cache takes them for hotter.
    for n in 2..100 {
        for _ in 0..9 {
            sums.load(&stream(&format!("sum-{n}"))).await.expect("loads");
        }
    }
    assert_eq!(as_time_passes(&time, late).await.expect("done").state, Sum(6));
    assert_eq!(sums.counters().conflicts.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_unknown_outcome_is_resolved_by_the_same_task() {
    for (fate, repeated) in [(Fate::Lost, true), (Fate::Dropped, false)] {
        let Bench { store, sums, .. } = bench(Options::default());
        let name = stream("sum-1");
        sums.execute(&name, add(1, 1)).await.expect("done");
        let once = Mutex::new(Some(fate));
        store.judge(move |_| once.lock().expect("not poisoned").take().unwrap_or(Fate::Done));
        let unknown = sums.execute(&name, add(2, 2)).await.expect_err("unknown");
        assert!(matches!(unknown, ExecuteError::Append(AppendError::Unknown { .. })), "{unknown}");
        let again = sums.execute(&name, add(2, 2)).await.expect("done");
        assert_eq!((again.state, again.repeated), (Sum(3), repeated));
        assert_eq!(store.log().len(), 2);
    }
}

#[tokio::test]
async fn who_goes_away_takes_nobody_along() {
    let Bench { store, sums, .. } = bench(Options::default());
    let name = stream("sum-1");
    sums.execute(&name, add(1, 1)).await.expect("done");
    store.hold(true);
    let mut first = Box::pin(sums.execute(&name, add(2, 2)));
    let mut second = Box::pin(sums.execute(&name, add(3, 3)));
    let mut third = Box::pin(sums.execute(&name, add(4, 4)));
    let mut fourth = Box::pin(sums.execute(&name, add(5, 5)));
    for each in [&mut first, &mut second, &mut third, &mut fourth] {
        assert!(poll!(each).is_pending());
    }
    // A queued command nobody waits for is not done; the turn of who went away goes on.
    drop(second);
    drop(first);
    assert!(poll!(&mut third).is_pending(), "it has the turn, and the store holds");
    assert!(poll!(&mut fourth).is_pending());
    // It goes away with the fourth in its append: that one cannot know.
    drop(third);
    store.hold(false);
    let fourth = fourth.await;
    assert!(matches!(fourth, Err(ExecuteError::Append(AppendError::Unknown { .. }))), "{fourth:?}");
    let after = sums.execute(&name, add(6, 6)).await.expect("the turn was not lost");
    assert_eq!(after.state, Sum(7));
}

#[tokio::test]
async fn a_turn_given_to_someone_who_just_left_goes_on() {
    let Bench { store, sums, .. } = bench(Options::default());
    let name = stream("sum-1");
    store.hold(true);
    let mut first = Box::pin(sums.execute(&name, add(1, 1)));
    assert!(poll!(&mut first).is_pending());
    let mut second = Box::pin(sums.execute(&name, add(2, 2)));
    let mut third = Box::pin(sums.execute(&name, add(3, 3)));
    assert!(poll!(&mut second).is_pending());
    assert!(poll!(&mut third).is_pending());
    store.hold(false);
    first.await.expect("done");
    // The second was given the turn, and never looked.
    drop(second);
    assert_eq!(third.await.expect("done").state, Sum(4));
}

fn journal(id: u128, expected: ExpectedRevision) -> Record<Sum> {
    Box::new(move |decision| {
        let said = match decision {
            Decision::Accepted { state, .. } => format!("\"{}\"", state.0),
            Decision::Rejected(rejection) => format!("\"{rejection}\""),
        };
        let event = NewEvent::json(Uuid::from_u128(id), "Recorded", said);
        Some(Companion { stream: stream(&format!("journal-{id}")), expected, events: vec![event] })
    })
}

#[tokio::test]
async fn a_record_goes_with_its_command_or_tells_of_its_refusal() {
    let Bench { store, sums, .. } = bench(Options::default());
    let name = stream("sum-1");
    let recorded =
        |number, id, expected| Task { record: Some(journal(id, expected)), ..add(number, id) };
    store.hold(true);
    let tasks = [
        recorded(1, 1, ExpectedRevision::NoStream),
        recorded(2, 2, ExpectedRevision::NoStream),
        recorded(2_000_000, 3, ExpectedRevision::NoStream),
        recorded(4, 4, ExpectedRevision::Exact(Revision(7))),
        recorded(5, 5, ExpectedRevision::NoStream),
    ];
    let mut all = Box::pin(join_all(tasks.map(|task| sums.execute(&name, task))));
    assert!(poll!(&mut all).is_pending());
    store.hold(false);
    let answers = all.await;
    let sums_after: Vec<_> =
        answers.iter().map(|done| done.as_ref().ok().map(|done| done.state.0)).collect();
    assert_eq!(sums_after, [Some(1), Some(3), None, None, Some(8)]);
    assert!(matches!(answers[2], Err(ExecuteError::Rejected(TooMuch(2_000_003)))));
    assert!(matches!(&answers[3], Err(ExecuteError::CompanionMoved { actual: None, .. })));
    let said: Vec<String> = store
        .log()
        .iter()
        .map(|event| format!("{} {}", event.stream, String::from_utf8_lossy(&event.data)))
        .collect();
    let expected = [
        "sum-1 1",
        "journal-1 \"1\"",
        "sum-1 2",
        "journal-2 \"3\"",
        "journal-3 \"the sum would be 2000003\"",
        "sum-1 5",
        "journal-5 \"8\"",
    ];
    assert_eq!(said, expected);
    for (n, answer) in [(1, 2), (4, 5)] {
        let position = answers[n].as_ref().expect("done").position.expect("it was written");
        assert_eq!(position.0, answer, "of its last event of its own");
    }
}

#[tokio::test]
async fn a_snapshot_spares_the_replay_and_is_never_believed_blindly() {
    let options = Options { cache_len: 100, snapshot_every: 10 };
    let Bench { time, store, sums } = bench(options);
    let name = stream("sum-1");
    for n in 0..25 {
        sums.execute(&name, add(n, n.into())).await.expect("done");
    }
    let good = store.last_snapshot(&name).expect("one was put");
    assert_eq!((good.revision, good.schema, &good.kind[..]), (Revision(19), 3, "sum"));
    // A lie that is believed shows that the snapshot is used; one that is not, that it is not.
    let lie = |change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = Snapshot { data: "1000".into(), ..good.clone() };
        change(&mut snapshot);
        store.put_snapshot(&name, snapshot);
        let sums = repository(&store, &time, options);
        let name = name.clone();
        async move { sums.load(&name).await.expect("loads").expect("exists").0.0 }
    };
    let after_20: u64 = (20..25).sum();
    let truth: u64 = (0..25).sum();
    assert_eq!(lie(&|_| {}).await, 1_000 + after_20);
    assert_eq!(lie(&|snapshot| snapshot.schema = 2).await, truth);
    assert_eq!(lie(&|snapshot| snapshot.kind = "account".to_owned()).await, truth);
    assert_eq!(lie(&|snapshot| snapshot.data = "?".into()).await, truth);
    assert_eq!(lie(&|snapshot| snapshot.revision = Revision(25)).await, truth);
}

#[tokio::test]
async fn history_is_answered_by_revision() {
    let Bench { sums, .. } = bench(Options { cache_len: 10, snapshot_every: 4 });
    let name = stream("sum-1");
    for n in 1..=10 {
        sums.execute(&name, add(n, n.into())).await.expect("done");
    }
    for revision in 0..10 {
        let sum = sums.load_at(&name, Revision(revision)).await.expect("loads");
        assert_eq!(sum, Sum((1..=revision + 1).sum()), "after {revision}");
    }
}

#[tokio::test]
async fn an_event_that_is_not_understood_is_named() {
    let Bench { store, sums, .. } = bench(Options::default());
    let name = stream("sum-1");
    sums.execute(&name, add(1, 1)).await.expect("done");
    let alien = NewEvent::json(Uuid::from_u128(9), "Added", "x");
    let append = crate::append::Append::to_stream(name.clone(), ExpectedRevision::Any, [alien]);
    store.append(append).await.expect("done");
    let error = sums.load(&name).await.expect_err("not understood").to_string();
    assert!(error.contains("'sum-1', revision 1") && error.contains("no number"), "{error}");
}

#[tokio::test]
async fn what_events_belong_to_stands_in_their_metadata() {
    let Bench { store, sums, .. } = bench(Options::default());
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let contexts = [
        None,
        Some(Context::default()),
        Some(Context::correlated(Uuid::from_u128(7))),
        Some(Context {
            correlation: Some("a \"b\"".to_owned()),
            causation: Some(Uuid::from_u128(8)),
            actor: Some("ada".to_owned()),
            trace: Some(TraceContext::parse(parent, Some("v=1")).expect("valid")),
        }),
    ];
    for (n, context) in (1..).zip(contexts) {
        let task = Task { command: vec![n, n], context, ..add(n, n.into()) };
        sums.execute(&stream("sum-1"), task).await.expect("done");
    }
    let id = |n: u128| Uuid::from_u128(n).to_string();
    let mark =
        |n: u128| format!(r#""$transactionId":"{}","request":"{n:032x}","events":2}}"#, id(n));
    let belongs = format!(r#"{{"$correlationId":"{}""#, id(7));
    let all = format!(
        r#"{{"$correlationId":"a \"b\"","$causationId":"{}","$by":"ada","traceparent":"{parent}","tracestate":"v=1""#,
        id(8)
    );
    let expected = [
        format!("{{{}", mark(1)),
        String::new(),
        format!("{{{}", mark(2)),
        String::new(),
        format!("{belongs},{}", mark(3)),
        format!("{belongs}}}"),
        format!("{all},{}", mark(4)),
        format!("{all}}}"),
    ];
    let log = store.log();
    let found: Vec<_> = log.iter().map(|event| String::from_utf8_lossy(&event.metadata)).collect();
    assert_eq!(found, expected);
}
