use std::sync::Arc;

use daybook_model::memory::{Fate, ManualTime, MemoryStore};
use daybook_model::{ContentType, Timestamp};

use super::super::streams::OverStore;
use super::*;

fn time() -> ManualTime {
    ManualTime::new(Timestamp(0), 1)
}

fn parked(store: &MemoryStore) -> Parked<OverStore<MemoryStore>> {
    Parked::new(OverStore(store.clone()), "orders")
}

fn message(position: u64) -> ParkedMessage {
    let event = RecordedEvent {
        position: Position(position),
        revision: Revision(0),
        time: Timestamp(0),
        id: Uuid::from_u128(u128::from(position)),
        stream: StreamName::new("order-1").expect("a name"),
        event_type: "Placed".to_owned(),
        content_type: ContentType::Json,
        tombstone: false,
        metadata: bytes::Bytes::new(),
        data: bytes::Bytes::new(),
    };
    ParkedMessage::new(&event, "it is full", 3, &time())
}

fn positions<T: Streams>(parked: &Parked<T>) -> Vec<u64> {
    parked.after(None).map(|message| message.position).collect()
}

#[tokio::test]
async fn what_is_parked_is_found_again_until_it_is_settled() {
    let (store, time) = (MemoryStore::new(Arc::new(time())), time());
    let mut one = parked(&store);
    one.load().await.expect("empty");
    for position in [5, 3, 9, 3] {
        one.park(message(position), &time).await.expect("parked");
    }
    one.settle(Position(5), Settled::Delivered, &time).await.expect("settled");
    let given_up = Settled::Discarded { reason: "old".to_owned() };
    one.settle(Position(9), given_up, &time).await.expect("settled");
    assert_eq!(positions(&one), [3]);
    let mut other = parked(&store);
    other.load().await.expect("readable");
    assert_eq!((positions(&other), other.len()), (vec![3], 1));
    let found = other.get(Position(3)).expect("parked");
    assert_eq!((found.error.as_str(), found.attempts, found.id.as_u128()), ("it is full", 3, 3));
    let told = store
        .log()
        .iter()
        .any(|event| event.data.as_ref() == br#"{"position":9,"how":"discarded","reason":"old"}"#);
    assert!(told, "why it was given up stands in the log");
}

#[tokio::test]
async fn what_is_settled_is_truncated_away() {
    let (store, time) = (MemoryStore::new(Arc::new(time())), time());
    let mut parked = parked(&store);
    parked.load().await.expect("empty");
    for position in 0..3 {
        parked.park(message(position), &time).await.expect("parked");
    }
    for position in 0..3 {
        parked.settle(Position(position), Settled::Delivered, &time).await.expect("settled");
    }
    let log = store.log();
    let bounds: Vec<&[u8]> = log
        .iter()
        .filter(|event| event.stream.as_str() == "$$$connector-orders-parked")
        .map(|event| event.data.as_ref())
        .collect();
    assert_eq!(bounds, [br#"{"$tb":6}"#], "once, when nothing is open any more");
}

#[tokio::test]
async fn parking_is_not_lost_with_its_answer_and_not_done_twice() {
    let (store, time) = (MemoryStore::new(Arc::new(time())), time());
    let mut parked = parked(&store);
    parked.load().await.expect("empty");
    let mut fates = vec![Fate::Dropped, Fate::Dropped];
    store.judge(move |_| fates.pop().unwrap_or(Fate::Done));
    parked.park(message(1), &time).await.expect("tried again");
    assert_eq!(store.log().len(), 1);
}

#[tokio::test]
async fn as_many_as_may_are_parked_and_then_it_says_why_it_stops() {
    let (store, time) = (MemoryStore::new(Arc::new(time())), time());
    let mut parked = parked(&store);
    for position in 0..PARKED_MAX as u64 {
        parked.open.insert(position, (message(position), Revision(position)));
    }
    parked.park(message(0), &time).await.expect("it is parked already");
    let full = parked.park(message(99_999), &time).await.expect_err("one too many");
    assert!(matches!(full, ConsumeError::Refused { .. }));
    assert!(full.to_string().contains("because: it is full; mend the cause"), "{full}");
}
