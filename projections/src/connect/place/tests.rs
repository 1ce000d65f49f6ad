use std::sync::Arc;

use daybook_model::append::Append;
use daybook_model::memory::{Fate, ManualTime, MemoryStore};
use daybook_model::{EventStore as _, Timestamp};

use super::super::streams::OverStore;
use super::*;

const A: Uuid = Uuid::from_u128(0xA);
const B: Uuid = Uuid::from_u128(0xB);

fn store() -> MemoryStore {
    MemoryStore::new(Arc::new(ManualTime::new(Timestamp(0), 1)))
}

fn place(store: &MemoryStore, owner: Uuid) -> Place<OverStore<MemoryStore>> {
    Place::new(OverStore(store.clone()), "orders", owner)
}

fn at(position: u64) -> Checkpoint {
    Checkpoint::at(daybook_model::Position(position), daybook_model::Epoch(0))
}

/// Who wrote each place of the stream, and at which position.
fn written(store: &MemoryStore) -> Vec<(Uuid, Option<u64>)> {
    let places = store.log().into_iter().filter(|event| event.event_type == PLACE_EVENT_TYPE);
    places
        .map(|event| serde_json::from_slice::<PlaceData>(&event.data).expect("a place"))
        .map(|data| (data.owner, data.checkpoint.map(|at| Checkpoint(at).position().0)))
        .collect()
}

#[tokio::test]
async fn a_place_is_kept_and_found_again() {
    let store = store();
    let mut first = place(&store, A);
    first.begin(Some(at(3))).await.expect("a new place");
    assert_eq!((first.checkpoint(), first.delivered()), (Some(at(3)), 0));
    first.advance(at(7), 4, 0);
    assert_eq!((first.unwritten(), first.passed()), (4, 4));
    first.write().await.expect("still ours");
    assert_eq!((first.unwritten(), first.passed()), (0, 0));
    let mut second = place(&store, B);
    second.begin(None).await.expect("claimed");
    assert_eq!((second.checkpoint(), second.delivered()), (Some(at(7)), 4));
    assert_eq!(written(&store), [(A, Some(3)), (A, Some(7)), (B, Some(7))]);
    let bound = &store.log()[0];
    assert_eq!(bound.stream.as_str(), "$$$connector-orders");
    assert_eq!(bound.data.as_ref(), br#"{"$maxCount":16}"#);
}

#[tokio::test]
async fn of_two_instances_the_one_that_began_last_goes_on() {
    let store = store();
    let (mut a, mut b) = (place(&store, A), place(&store, B));
    a.begin(None).await.expect("a new place");
    b.begin(None).await.expect("claimed");
    for _ in 0..2 {
        a.advance(at(5), 5, 0);
        let lost = a.write().await.expect_err("it is B's");
        assert!(matches!(lost, ConsumeError::Fenced { .. }), "{lost}");
        let lost = a.begin(None).await.expect_err("it is still B's");
        assert!(matches!(lost, ConsumeError::Fenced { .. }), "{lost}");
        b.advance(at(2), 1, 0);
        b.write().await.expect("still B's");
    }
    assert!(written(&store).iter().all(|(_, at)| at.is_none_or(|at| at == 2)));
}

/// A store in which somebody writes between a reader's look and its next append.
#[derive(Clone)]
struct Between {
    streams: OverStore<MemoryStore>,
    once: Arc<parking_lot::Mutex<Option<PlaceData>>>,
}

impl Streams for Between {
    async fn append(
        &self,
        stream: &StreamName,
        expected: ExpectedRevision,
        event: NewEvent,
    ) -> Result<Option<Revision>, StreamsError> {
        let between = self.once.lock().take();
        if let Some(data) = between {
            let data = serde_json::to_vec(&data).expect("JSON");
            let first = NewEvent::json(Uuid::from_u128(77), PLACE_EVENT_TYPE, data);
            self.streams.append(stream, ExpectedRevision::Any, first).await?;
        }
        self.streams.append(stream, expected, event).await
    }

    async fn last(&self, stream: &StreamName) -> Result<Option<RecordedEvent>, StreamsError> {
        self.streams.last(stream).await
    }

    async fn read(
        &self,
        stream: &StreamName,
        from: Revision,
        count: usize,
    ) -> Result<Vec<RecordedEvent>, StreamsError> {
        self.streams.read(stream, from, count).await
    }
}

#[tokio::test]
async fn who_claims_late_begins_where_the_other_has_come_to() {
    let store = store();
    place(&store, A).begin(None).await.expect("a new place");
    let moved = PlaceData { checkpoint: Some(at(9).0), paused: true, owner: A, delivered: 2 };
    let once = Arc::new(parking_lot::Mutex::new(Some(moved)));
    let between = Between { streams: OverStore(store.clone()), once };
    let mut b = Place::new(between, "orders", B);
    b.begin(None).await.expect("claimed all the same");
    assert_eq!((b.checkpoint(), b.paused(), b.delivered()), (Some(at(9)), true, 2));
    assert_eq!(written(&store), [(A, None), (A, Some(9)), (B, Some(9))]);
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_not_taken_for_anothers() {
    for fate in [Fate::Lost, Fate::Dropped] {
        let store = store();
        let mut place = place(&store, A);
        place.begin(None).await.expect("a new place");
        let mut fates = vec![fate.clone()];
        store.judge(move |_| fates.pop().unwrap_or(Fate::Done));
        place.advance(at(1), 1, 0);
        place.write().await.expect("tried again");
        place.advance(at(2), 1, 0);
        place.write().await.expect("goes on");
        assert_eq!(written(&store), [(A, None), (A, Some(1)), (A, Some(2))], "{fate:?}");
    }
}

#[tokio::test]
async fn a_write_that_arrives_after_it_was_given_up_is_this_instances() {
    let store = store();
    let mut one = place(&store, A);
    one.begin(None).await.expect("a new place");
    store.judge(|_| Fate::Dropped);
    one.advance(at(1), 1, 0);
    let failed = one.write().await.expect_err("no answer");
    assert!(matches!(failed, ConsumeError::Interrupted { .. }), "{failed}");
    store.pardon();
    let late = PlaceData { checkpoint: Some(at(1).0), owner: A, delivered: 1, paused: false };
    let event = one.event(&late, ExpectedRevision::Exact(Revision(0)));
    let append =
        Append::to_stream(place_stream("orders"), ExpectedRevision::Exact(Revision(0)), [event]);
    store.append(append).await.expect("it arrives");
    one.advance(at(5), 4, 0);
    one.begin(None).await.expect("it is our own");
    assert_eq!(one.checkpoint(), Some(at(5)), "what was confirmed since is still true");
    one.write().await.expect("goes on");
    assert_eq!(written(&store).last(), Some(&(A, Some(5))));
}

#[tokio::test]
async fn a_pause_that_was_not_written_is_none() {
    let store = store();
    let mut place = place(&store, A);
    let early = place.set_paused(true).await.expect_err("it has not begun");
    assert!(early.to_string().contains("has not begun yet"), "{early}");
    place.begin(None).await.expect("a new place");
    let refused = || daybook_model::append::AppendError::Overloaded { waiting: 1 };
    store.judge(move |_| Fate::Refused(refused()));
    assert!(matches!(place.set_paused(true).await, Err(ConsumeError::Interrupted { .. })));
    assert!(!place.paused());
    store.pardon();
    place.set_paused(true).await.expect("written");
    assert!(place.look().await.expect("readable").expect("there").paused);
}

#[tokio::test]
async fn what_is_no_place_stops_the_connector_and_says_what_to_do() {
    let store = store();
    let event = NewEvent::json(Uuid::from_u128(9), "Other", "[]");
    let append = Append::to_stream(place_stream("orders"), ExpectedRevision::Any, [event]);
    store.append(append).await.expect("appended");
    let error = place(&store, A).begin(None).await.expect_err("no place");
    assert!(matches!(error, ConsumeError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("delete that stream to begin"), "{error}");
}
