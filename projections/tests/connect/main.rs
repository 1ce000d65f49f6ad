//! Connectors as a whole: a store, the runner, and a receiver of messages that misbehaves.

#![allow(dead_code, reason = "the log in memory can do more than is needed here")]
#![allow(clippy::unwrap_used, reason = "a test that fails shows where")]

mod receiver;
#[path = "../support/source.rs"]
mod source;

use std::sync::Arc;
use std::time::Duration;

use daybook_client::resilience::Wiring;
use daybook_model::append::Append;
use daybook_model::memory::MemoryStore;
use daybook_model::{
    EventStore as _, ExpectedRevision, NewEvent, Position, StreamName, SystemClock,
};
use daybook_projections::State;
use daybook_projections::connect::control::{ConnectorStatus, Control, ControlError};
use daybook_projections::connect::{Connectors, OverStore, parse};
use receiver::{Answer, Receiver};
use serde_json::Value;
use source::MemoryLog;
use uuid::Uuid;

/// A wait that fails a test; nothing waits so long when all is well.
const TOO_LONG: Duration = Duration::from_secs(60);
const SECRET: &str = "a secret between us";

type Running = Connectors<OverStore<MemoryStore>>;

/// The place in a trace that the events belong to.
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A store with a feed.
struct Stage {
    store: MemoryStore,
    log: MemoryLog,
}

impl Stage {
    /// With `events` in two streams that take turns.
    async fn with(events: u64) -> Stage {
        let stage = Stage {
            store: MemoryStore::new(Arc::new(SystemClock::new())),
            log: MemoryLog::new(10),
        };
        for number in 0..events {
            let stream = StreamName::new(&format!("order-{}", number % 2)).unwrap();
            let id = Uuid::from_u128(u128::from(number) + 1);
            let event = NewEvent {
                metadata: format!(r#"{{"traceparent":"{TRACE}"}}"#).into(),
                ..NewEvent::json(id, "Placed", format!("{{\"n\":{number}}}"))
            };
            let append = Append::to_stream(stream, ExpectedRevision::Any, [event]);
            stage.store.append(append).await.unwrap();
        }
        stage.log.load(stage.store.log());
        stage
    }

    /// Starts a connector to `receiver`; `more` is added to its table.
    fn start(&self, receiver: &Receiver, more: &str) -> Running {
        let quick = "[connector.retry]\nbackoff_ms = 1\nbackoff_max_ms = 5\nattempts = 50\n";
        self.start_as(receiver, &format!("{more}\n{quick}"))
    }

    fn start_as(&self, receiver: &Receiver, more: &str) -> Running {
        let text = format!(
            "[[connector]]\nname = 'hook'\nkind = 'webhook'\nurl = '{}'\nsecret_env = 'KEY'\n{more}",
            receiver.url
        );
        let settings = parse("c.toml", &text, &|_| Some(SECRET.to_owned())).unwrap();
        let streams = OverStore(self.store.clone());
        Connectors::start(settings, self.log.clone(), streams, &Wiring::system()).unwrap()
    }
}

fn hook(running: &Running) -> &Control<OverStore<MemoryStore>> {
    running.get("hook").unwrap()
}

/// Waits until the status is as it should be.
async fn until(running: &Running, wanted: impl Fn(&ConnectorStatus) -> bool) -> ConnectorStatus {
    let waited = tokio::time::timeout(TOO_LONG, async {
        loop {
            let status = hook(running).status();
            if wanted(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    match waited.await {
        Ok(status) => status,
        Err(_) => panic!("not in time: {:#?}", hook(running).status()),
    }
}

fn live(status: &ConnectorStatus) -> bool {
    status.state == State::Live && status.lag_events == 0
}

/// The numbers of the events that were sent, in order.
fn numbers<'a>(seen: impl IntoIterator<Item = &'a receiver::Seen>) -> Vec<u64> {
    let events = seen.into_iter().flat_map(|one| match one.json() {
        Value::Array(several) => several,
        one => vec![one],
    });
    events.map(|event| event["data"]["n"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn each_event_is_posted_once_signed_and_with_its_id() {
    let (stage, receiver) = (Stage::with(25).await, Receiver::new().await);
    let running = stage.start(&receiver, "");
    let seen = receiver.taken(25).await;
    assert_eq!(numbers(&seen), (0..25).collect::<Vec<_>>());
    for one in &seen {
        assert!(one.is_signed_with(SECRET) && !one.is_signed_with("another"), "{one:?}");
        assert_eq!(one.headers["idempotency-key"].to_str().unwrap(), one.json()["id"]);
        assert_eq!(one.headers["content-type"], "application/json");
        assert_eq!(one.headers["traceparent"], TRACE, "where its event belongs");
        assert_eq!((one.path.as_str(), &one.json()["type"]), ("/hook", &"Placed".into()));
    }
    let status = until(&running, live).await;
    assert_eq!((status.delivered, status.retries, status.parked), (25, 0, 0));
    assert_eq!((status.kind, status.breaker), ("webhook", Some("closed")));
    running.stop().await;
    // A restart after an orderly stop sends nothing again.
    stage.log.append([("order-9", "Placed", r#"{"n":99}"#.to_owned())]);
    let running = stage.start(&receiver, "");
    assert_eq!(numbers(&receiver.taken(26).await[25..]), [99]);
    running.stop().await;
}

#[tokio::test]
async fn a_receiver_that_fails_is_tried_again_and_nothing_is_lost_or_out_of_order() {
    let (stage, receiver) = (Stage::with(20).await, Receiver::new().await);
    let mut round = 0;
    receiver.script(move |_| {
        round += 1;
        match round % 7 {
            1 => Answer::Status(500),
            2 => Answer::With(503, "retry-after", "0".to_owned()),
            4 => Answer::Status(429),
            _ => Answer::Body(200, 100_000),
        }
    });
    let running = stage.start(&receiver, "[connector.breaker]\nfailure_percent = 100");
    let seen = receiver.taken(20).await;
    assert_eq!(numbers(&seen), (0..20).collect::<Vec<_>>());
    let status = until(&running, live).await;
    assert!(status.retries > 0 && status.parked == 0, "{status:?}");
    assert!(status.last_error.is_some_and(|error| error.contains("answers")));
    running.stop().await;
}

#[tokio::test]
async fn silence_is_a_failure() {
    let (stage, receiver) = (Stage::with(3).await, Receiver::new().await);
    receiver.answer([Answer::Status(200), Answer::Silence]);
    let running = stage.start(&receiver, "timeout_ms = 100");
    assert_eq!(numbers(&receiver.taken(3).await), [0, 1, 2]);
    let status = until(&running, live).await;
    assert!(status.last_error.is_some_and(|error| error.contains("no answer within 100ms")));
    running.stop().await;
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_its_message_is_parked() {
    let (stage, receiver) = (Stage::with(3).await, Receiver::new().await);
    let elsewhere = receiver.url.replace("/hook", "/elsewhere");
    receiver.answer([Answer::With(302, "location", elsewhere)]);
    let running = stage.start(&receiver, "");
    let seen = receiver.until(|all| all.len() == 3).await;
    assert!(seen.iter().all(|one| one.path == "/hook"), "{seen:?}");
    until(&running, live).await;
    let parked = hook(&running).parked(None, 10).await;
    assert_eq!((parked.len(), parked[0].position), (1, 0));
    assert!(parked[0].error.contains("redirects are not followed"), "{}", parked[0].error);
    running.stop().await;
}

#[tokio::test]
async fn of_a_batch_only_what_is_refused_is_parked() {
    let (stage, receiver) = (Stage::with(10).await, Receiver::new().await);
    receiver.script(|value| {
        let events = value.as_array().expect("an array");
        let bad = events.iter().any(|event| event["data"]["n"] == 4);
        Answer::Status(if bad { 422 } else { 200 })
    });
    let running = stage.start(&receiver, "batch = 5");
    let status = until(&running, live).await;
    assert_eq!((status.delivered, status.parked), (9, 1));
    let parked = hook(&running).parked(None, 10).await;
    assert_eq!(parked[0].position, 4);
    let seen = receiver.seen.borrow().clone();
    assert!(seen.len() < 10, "most came in batches: {}", seen.len());
    assert!(!seen[0].headers.contains_key("traceparent"), "a batch belongs nowhere");
    let taken = seen.iter().filter(|one| one.taken());
    assert_eq!(numbers(taken), [0, 1, 2, 3, 5, 6, 7, 8, 9]);
    running.stop().await;
}

#[tokio::test]
async fn streams_go_side_by_side_and_each_keeps_its_order() {
    let (stage, receiver) = (Stage::with(40).await, Receiver::new().await);
    let mut round = 0;
    receiver.script(move |_| {
        round += 1;
        Answer::Status(if round % 5 == 3 { 500 } else { 200 })
    });
    let running = stage.start(&receiver, "concurrency = 4");
    until(&running, live).await;
    let seen = receiver.seen.borrow().clone();
    let taken = numbers(seen.iter().filter(|one| one.taken()));
    for stream in 0..2 {
        let own: Vec<u64> = taken.iter().copied().filter(|n| n % 2 == stream).collect();
        assert_eq!(own, (0..40).filter(|n| n % 2 == stream).collect::<Vec<_>>());
    }
    running.stop().await;
}

#[tokio::test]
async fn a_receiver_that_is_away_is_left_alone_by_the_breaker_and_then_gets_everything() {
    let (stage, receiver) = (Stage::with(5).await, Receiver::new().await);
    receiver.script(|_| Answer::Status(500));
    let running = stage.start_as(
        &receiver,
        "[connector.retry]\nbackoff_ms = 1\n[connector.breaker]\nfailures = 3\nopen_ms = 300",
    );
    let status = until(&running, |status| status.breaker == Some("open")).await;
    assert!(status.delivered == 0 && status.parked == 0, "{status:?}");
    assert_eq!(receiver.seen.borrow().len(), 3, "then it is left alone");
    until(&running, |status| matches!(status.state, State::Retrying { .. })).await;
    receiver.script(|_| Answer::Status(200));
    assert_eq!(numbers(&receiver.taken(5).await), [0, 1, 2, 3, 4]);
    until(&running, |status| live(status) && status.breaker == Some("closed")).await;
    running.stop().await;
}

#[tokio::test]
async fn a_pause_survives_a_restart() {
    let (stage, receiver) = (Stage::with(4).await, Receiver::new().await);
    let running = stage.start(&receiver, "");
    receiver.taken(4).await;
    until(&running, live).await;
    hook(&running).pause().await.unwrap();
    until(&running, |status| status.state == State::Paused).await;
    running.stop().await;
    stage.log.append([("order-9", "Placed", r#"{"n":99}"#.to_owned())]);
    let running = stage.start(&receiver, "");
    until(&running, |status| status.state == State::Paused).await;
    assert_eq!(receiver.seen.borrow().len(), 4);
    hook(&running).resume().await.unwrap();
    assert_eq!(numbers(&receiver.taken(5).await[4..]), [99]);
    running.stop().await;
}

#[tokio::test]
async fn what_is_parked_is_sent_again_or_given_up_by_a_person() {
    let (stage, receiver) = (Stage::with(6).await, Receiver::new().await);
    receiver.script(|event| {
        Answer::Status(if event["data"]["n"].as_u64() > Some(2) { 400 } else { 200 })
    });
    let running = stage.start(&receiver, "");
    until(&running, |status| live(status) && status.parked == 3).await;
    let hook = hook(&running);
    let still = hook.retry(Position(3)).await.unwrap_err();
    assert!(matches!(&still, ControlError::NotTaken { reason, .. } if reason.contains("400")));
    assert_eq!(hook.parked(None, 10).await[0].attempts, 2);
    assert!(matches!(hook.retry(Position(1)).await, Err(ControlError::NotParked { .. })));
    assert_eq!(hook.discard(Position(3), " ").await, Err(ControlError::BadReason));
    hook.discard(Position(3), "a test order").await.unwrap();
    receiver.script(|_| Answer::Status(200));
    hook.retry(Position(5)).await.unwrap();
    let left: Vec<u64> = hook.parked(None, 10).await.iter().map(|one| one.position).collect();
    assert_eq!(left, [4]);
    running.stop().await;
    // What is left is found by the next process.
    let running = stage.start(&receiver, "");
    until(&running, |status| live(status) && status.parked == 1).await;
    let retried = self::hook(&running).retry_all().await.unwrap();
    assert_eq!((retried.delivered, retried.parked), (1, 0));
    let seen = receiver.taken(5).await;
    assert_eq!(numbers(&seen), [0, 1, 2, 5, 4]);
    running.stop().await;
}

#[tokio::test]
async fn a_paused_connector_shows_what_is_parked_and_how_far_it_is_after_a_restart() {
    let (stage, receiver) = (Stage::with(6).await, Receiver::new().await);
    receiver.script(|event| {
        Answer::Status(if event["data"]["n"].as_u64() > Some(3) { 400 } else { 200 })
    });
    let running = stage.start(&receiver, "");
    until(&running, |status| live(status) && status.parked == 2).await;
    hook(&running).pause().await.unwrap();
    running.stop().await;
    stage.log.append([("order-9", "Placed", r#"{"n":99}"#.to_owned())]);
    let running = stage.start(&receiver, "");
    let status = until(&running, |status| {
        status.state == State::Paused && status.lag_events == 1 && status.lag_seconds.is_some()
    })
    .await;
    assert_eq!((status.parked, status.position), (2, Some(5)));
    assert!(status.lag_seconds > Some(0.0), "its last event is of long ago: {status:?}");
    let parked = hook(&running).parked(None, 10).await;
    assert_eq!(parked.iter().map(|one| one.position).collect::<Vec<_>>(), [4, 5]);
    // They can be dealt with as it is.
    receiver.script(|_| Answer::Status(200));
    hook(&running).retry(Position(4)).await.unwrap();
    hook(&running).discard(Position(5), "a test order").await.unwrap();
    let status = hook(&running).status();
    assert_eq!((status.state, status.parked), (State::Paused, 0));
    running.stop().await;
}

#[tokio::test]
async fn who_looks_through_the_parked_ones_does_not_wait_for_one_that_is_sent_again() {
    let (stage, receiver) = (Stage::with(2).await, Receiver::new().await);
    receiver.script(|_| Answer::Status(400));
    let running = stage.start(&receiver, "timeout_ms = 60000");
    until(&running, |status| live(status) && status.parked == 2).await;
    receiver.script(|_| Answer::Silence);
    let again = tokio::spawn({
        let hook = hook(&running).clone();
        async move { hook.retry(Position(0)).await }
    });
    receiver.until(|all| all.len() == 3).await;
    let looked = async {
        assert_eq!(hook(&running).parked(None, 10).await.len(), 2);
        hook(&running).discard(Position(0), "it never answers").await.unwrap();
        hook(&running).discard(Position(1), "nor to this").await.unwrap();
    };
    tokio::time::timeout(TOO_LONG / 2, looked).await.expect("nobody waits for the receiver");
    assert_eq!(hook(&running).status().parked, 0);
    again.abort();
    running.stop().await;
}

#[tokio::test]
async fn a_connector_whose_history_was_lost_goes_back_to_what_its_stream_says() {
    let (stage, receiver) = (Stage::with(6).await, Receiver::new().await);
    let seldom = "[connector.checkpoint]\nevery = 10000\nafter_ms = 600000";
    let running = stage.start(&receiver, seldom);
    until(&running, |status| live(status) && status.delivered == 6).await;
    // What is told durably says how far it is.
    hook(&running).pause().await.unwrap();
    hook(&running).resume().await.unwrap();
    let more = |numbers: std::ops::Range<u64>| {
        let events = numbers.map(|n| ("order-1", "Placed", format!("{{\"n\":{n}}}")));
        stage.log.append(events.collect::<Vec<_>>());
    };
    more(6..20);
    until(&running, |status| live(status) && status.delivered == 20).await;
    // Restored to the state after the first ten; others came then.
    stage.log.rewind(10);
    more(100..105);
    stage.log.interrupt(1);
    stage.log.append([("order-1", "Placed", r#"{"n":105}"#.to_owned())]);
    receiver.until(|all| numbers(all).contains(&105)).await;
    until(&running, live).await;
    let seen = numbers(&*receiver.seen.borrow());
    let again: Vec<u64> = (6..10).chain(100..106).collect();
    assert_eq!(seen[..20], (0..20).collect::<Vec<_>>());
    assert_eq!(seen[20..], again, "from the place that the stream tells, and none is missing");
    running.stop().await;
}

#[tokio::test]
async fn a_second_instance_takes_over_and_the_first_stops() {
    let (stage, receiver) = (Stage::with(4).await, Receiver::new().await);
    let often = "[connector.checkpoint]\nevery = 1";
    let first = stage.start(&receiver, often);
    receiver.taken(4).await;
    until(&first, live).await;
    let second = stage.start(&receiver, often);
    until(&second, live).await;
    stage.log.append([("order-9", "Placed", r#"{"n":99}"#.to_owned())]);
    let status = until(&first, |status| matches!(status.state, State::Stopped { .. })).await;
    let State::Stopped { reason } = status.state else { panic!("{status:?}") };
    assert!(reason.contains("run by another instance"), "{reason}");
    until(&second, live).await;
    assert!(matches!(hook(&first).pause().await, Err(ControlError::State(_))));
    stage.log.append([("order-9", "Placed", r#"{"n":100}"#.to_owned())]);
    receiver.until(|all| numbers(all).contains(&100)).await;
    let hundreds = numbers(&*receiver.seen.borrow()).into_iter().filter(|n| *n == 100).count();
    assert_eq!(hundreds, 1, "the first sends nothing any more");
    first.stop().await;
    second.stop().await;
}
