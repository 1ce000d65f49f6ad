use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;

use daybook_client::resilience::{Changes, Metrics, Wiring};
use daybook_model::append::Append;
use daybook_model::memory::{ManualTime, MemoryStore};
use daybook_model::{
    Epoch, EventStore as _, ExpectedRevision, NewEvent, Position, StreamName, Timer, Timestamp,
};
use parking_lot::Mutex as Short;
use proptest::prelude::*;
use uuid::Uuid;

use super::super::config::parse;
use super::super::sink::SinkStopped;
use super::super::streams::OverStore;
use super::*;
use crate::feed::{Feed, FeedError, Head};

/// Waits for nothing, and notes for how long it should have.
#[derive(Clone, Debug, Default)]
struct AtOnce(Arc<Short<Vec<Duration>>>);

impl Timer for AtOnce {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.0.lock().push(duration);
        Box::pin(std::future::ready(()))
    }
}

type Answer = Box<dyn FnMut(&[Message]) -> Vec<Outcome> + Send>;

/// Does what a test says, and notes what was confirmed.
struct Scripted {
    answer: Answer,
    confirmed: Arc<Short<Vec<u64>>>,
}

impl Sink for Scripted {
    async fn deliver(&mut self, messages: &[Message]) -> Result<Vec<Outcome>, SinkStopped> {
        let outcomes = (self.answer)(messages);
        for (message, outcome) in messages.iter().zip(&outcomes) {
            if *outcome == Outcome::Confirmed {
                self.confirmed.lock().push(message.position.0);
            }
        }
        Ok(outcomes)
    }
}

/// A log that is only asked where it ends.
#[derive(Clone)]
struct Ends(MemoryStore);

struct Never;

impl Feed for Never {
    async fn next(&mut self) -> Result<Batch, FeedError> {
        std::future::pending().await
    }
}

impl Source for Ends {
    type Feed = Never;

    async fn follow(&self, _: Option<Checkpoint>, _: Interest) -> Result<Never, FeedError> {
        Ok(Never)
    }

    async fn head(&self) -> Result<Head, FeedError> {
        let last = self.0.log().len().checked_sub(1);
        Ok(Head { checkpoint: last.map(|last| at(last as u64)), time: None })
    }

    async fn time_at(&self, _: Checkpoint) -> Result<Option<Timestamp>, FeedError> {
        Ok(None)
    }
}

fn at(position: u64) -> Checkpoint {
    Checkpoint::at(Position(position), Epoch(0))
}

/// A connector over a store in memory, and all that a test looks at.
struct Stage {
    store: MemoryStore,
    time: ManualTime,
    waits: AtOnce,
    confirmed: Arc<Short<Vec<u64>>>,
}

impl Stage {
    /// With `events` in the log, two streams taking turns.
    async fn with(events: u64) -> Stage {
        let time = ManualTime::new(Timestamp(0), 7);
        let store = MemoryStore::new(Arc::new(time.clone()));
        for number in 0..events {
            let stream = StreamName::new(&format!("order-{}", number % 2)).expect("a name");
            let id = Uuid::from_u128(u128::from(number));
            let event = NewEvent::json(id, "Placed", format!("{{\"n\":{number}}}"));
            let append = Append::to_stream(stream, ExpectedRevision::Any, [event]);
            store.append(append).await.expect("appended");
        }
        let (waits, confirmed) = (AtOnce::default(), Arc::default());
        Stage { store, time, waits, confirmed }
    }

    fn relay(
        &self,
        more: &str,
        answer: impl FnMut(&[Message]) -> Vec<Outcome> + Send + 'static,
    ) -> Relay<Ends, OverStore<MemoryStore>, Scripted> {
        let text = format!("[[connector]]\nname = 'a'\nkind = 'file'\npath = 'p'\n{more}");
        let settings = parse("test", &text, &|_| None).expect("a connector").remove(0);
        let wiring = Wiring {
            clock: Arc::new(self.time.clone()),
            timer: Arc::new(self.waits.clone()),
            entropy: Arc::new(self.time.clone()),
            metrics: Metrics::new(),
            changes: Changes::new(),
        };
        let sink = Scripted { answer: Box::new(answer), confirmed: self.confirmed.clone() };
        let streams = OverStore(self.store.clone());
        let shared = Arc::new(Shared::new(settings, streams, sink, wiring));
        Relay::new(shared, Ends(self.store.clone()))
    }

    /// What the feed has after `after`, up to `count` positions of it.
    fn batch(&self, after: Option<Checkpoint>, count: usize) -> Batch {
        let from = after.map_or(0, |after| after.position().0 + 1);
        let log = self.store.log();
        let some = log.iter().filter(|event| event.position.0 >= from).take(count);
        let event = |event: &daybook_model::RecordedEvent| FeedEvent {
            checkpoint: at(event.position.0),
            event: event.clone(),
        };
        let events: Vec<_> = some.map(event).collect();
        let through = events.last().map(|last| last.checkpoint);
        Batch { through, events, caught_up: true }
    }

    /// What is parked, by the log: positions, errors and attempts.
    fn parked(&self) -> Vec<(u64, String, u32)> {
        let log = self.store.log();
        let parked =
            log.iter().filter(|event| event.event_type == super::super::parked::PARKED_EVENT_TYPE);
        parked
            .map(|event| serde_json::from_slice::<ParkedMessage>(&event.data).expect("parked"))
            .map(|message| (message.position, message.error, message.attempts))
            .collect()
    }

    fn confirmed(&self) -> Vec<u64> {
        self.confirmed.lock().clone()
    }

    /// The checkpoint of the last place in the log.
    fn place(&self) -> Option<u64> {
        let log = self.store.log();
        let last =
            log.iter().rfind(|event| event.event_type == super::super::place::PLACE_EVENT_TYPE)?;
        let data: super::super::place::PlaceData =
            serde_json::from_slice(&last.data).expect("a place");
        data.checkpoint.map(|at| Checkpoint(at).position().0)
    }
}

fn confirm(messages: &[Message]) -> Vec<Outcome> {
    messages.iter().map(|_| Outcome::Confirmed).collect()
}

/// Confirms all but those at `positions`, for which `outcome` is given `times` times.
fn all_but(
    positions: &[u64],
    outcome: Outcome,
    mut times: u32,
) -> impl FnMut(&[Message]) -> Vec<Outcome> + Send + 'static {
    let positions = positions.to_vec();
    move |messages| {
        let hit = messages.iter().any(|message| positions.contains(&message.position.0));
        let active = times > 0;
        times -= u32::from(hit && active);
        let mut stopped = BTreeSet::new();
        let answer = |message: &Message| {
            if stopped.contains(&message.stream) {
                return Outcome::NotTried { reason: "one before it".to_owned() };
            }
            if !active || !positions.contains(&message.position.0) {
                return Outcome::Confirmed;
            }
            if !matches!(outcome, Outcome::Refused { .. }) {
                stopped.insert(message.stream.clone());
            }
            outcome.clone()
        };
        messages.iter().map(answer).collect()
    }
}

#[tokio::test]
async fn everything_is_delivered_and_the_place_follows_when_it_is_time_to() {
    let stage = Stage::with(6).await;
    let mut relay = stage.relay("[connector.checkpoint]\nevery = 4\nafter_ms = 1000", confirm);
    assert_eq!(relay.begin().await, Ok(None));
    let taken = relay.take(stage.batch(None, 3)).await.expect("taken");
    assert_eq!((taken.events, taken.parked, stage.place()), (3, 0, None), "it is not time to");
    stage.time.advance(Duration::from_millis(1000));
    relay.shared.tick().await;
    assert_eq!(stage.place(), Some(2), "a second has passed");
    relay.take(stage.batch(Some(at(2)), 3)).await.expect("taken");
    assert_eq!((stage.confirmed(), stage.place()), (vec![0, 1, 2, 3, 4, 5], Some(2)));
    relay.shared.flush().await;
    assert_eq!(stage.place(), Some(5));
}

#[tokio::test]
async fn a_connector_does_not_feed_itself() {
    let stage = Stage::with(2).await;
    let mut relay = stage.relay("[connector.checkpoint]\nevery = 1", confirm);
    let mut place = relay.begin().await.expect("begun");
    let mut rounds = 0;
    while let batch = stage.batch(place, 100)
        && batch.through.is_some()
    {
        place = batch.through;
        relay.take(batch).await.expect("taken");
        rounds += 1;
        assert!(rounds < 5, "its places bring it new ones");
    }
    assert_eq!(stage.confirmed(), [0, 1]);
}

#[tokio::test]
async fn what_fails_is_tried_again_in_order_and_waited_for_longer_each_time() {
    let stage = Stage::with(6).await;
    let failed = Outcome::failed("it is busy");
    let mut relay = stage.relay(
        "[connector.retry]\nattempts = 9\nbackoff_ms = 100\nbackoff_max_ms = 300",
        all_but(&[2], failed, 4),
    );
    relay.begin().await.expect("begun");
    relay.take(stage.batch(None, 6)).await.expect("taken");
    assert_eq!(stage.confirmed(), [0, 1, 3, 5, 2, 4], "each stream in order");
    let waits: Vec<u128> = stage.waits.0.lock().iter().map(Duration::as_millis).collect();
    for (wait, full) in waits.iter().zip([100, 200, 300, 300]) {
        assert!((full / 2..=full).contains(wait), "{waits:?}");
    }
    assert_eq!((waits.len(), relay.shared.numbers.retries.load(Ordering::Relaxed)), (4, 4));
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_gets_it_within_limits() {
    for (asked, waited) in [(5, Duration::from_secs(5)), (3600, RETRY_AFTER_MAX)] {
        let stage = Stage::with(1).await;
        let retry_after = Some(Duration::from_secs(asked));
        let busy = Outcome::Failed { reason: "busy".to_owned(), retry_after };
        let mut relay = stage.relay("", all_but(&[0], busy, 1));
        relay.begin().await.expect("begun");
        relay.take(stage.batch(None, 1)).await.expect("taken");
        assert_eq!(*stage.waits.0.lock(), [waited]);
    }
}

#[tokio::test]
async fn what_is_refused_is_parked_and_the_rest_goes_on() {
    let stage = Stage::with(5).await;
    let mut relay = stage.relay("", all_but(&[1, 3], Outcome::refused("bad colour"), 9));
    relay.begin().await.expect("begun");
    let taken = relay.take(stage.batch(None, 5)).await.expect("taken");
    assert_eq!((taken.events, taken.parked), (3, 2));
    assert_eq!(stage.confirmed(), [0, 2, 4]);
    let parked = |position| (position, "bad colour".to_owned(), 1);
    assert_eq!(stage.parked(), [parked(1), parked(3)]);
    relay.shared.flush().await;
    assert_eq!(stage.place(), Some(4));
    assert_eq!(relay.shared.numbers.parked.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn what_is_parked_is_done_with() {
    let stage = Stage::with(3).await;
    let refused = all_but(&[0, 1, 2], Outcome::refused("bad colour"), 9);
    let mut relay = stage.relay("", refused);
    relay.begin().await.expect("begun");
    relay.take(stage.batch(None, 3)).await.expect("taken");
    relay.shared.flush().await;
    assert_eq!(stage.place(), Some(2), "it is not sent again by the next process");
}

#[tokio::test]
async fn a_connector_that_is_to_stop_stops_before_what_is_refused() {
    let stage = Stage::with(6).await;
    let mut tries = 0;
    let mut relay = stage.relay("[connector.retry]\nrefused = 'stop'", move |messages| {
        tries += 1;
        // The first fails once: what is refused after it must wait for it.
        let outcome = |message: &Message| match message.position.0 {
            0 if tries == 1 => Outcome::failed("busy"),
            2 | 4 if tries == 1 => Outcome::NotTried { reason: String::new() },
            3 => Outcome::refused("bad colour"),
            _ => Outcome::Confirmed,
        };
        messages.iter().map(outcome).collect()
    });
    relay.begin().await.expect("begun");
    let stopped = relay.take(stage.batch(None, 6)).await.expect_err("refused");
    let ConsumeError::Poisoned { position, reason, .. } = stopped else { panic!("{stopped}") };
    assert_eq!((position, reason.as_str()), (Position(3), "bad colour"));
    assert!([0, 1, 2].iter().all(|position| stage.confirmed().contains(position)));
    assert_eq!((relay.begin().await, stage.parked().len()), (Ok(Some(at(2))), 0));
}

#[tokio::test]
async fn attempts_that_are_used_up_end_in_a_rest_and_what_is_done_with_is_not_sent_again() {
    let stage = Stage::with(7).await;
    let mut tries = 0;
    let mut relay = stage.relay("[connector.retry]\nattempts = 3", move |messages| {
        tries += 1;
        let outcome = |message: &Message| match message.position.0 {
            2 if tries <= 6 => Outcome::failed("away"),
            4 | 6 if tries <= 6 => Outcome::NotTried { reason: "one before it".to_owned() },
            5 => Outcome::refused("bad colour"),
            _ => Outcome::Confirmed,
        };
        messages.iter().map(outcome).collect()
    });
    relay.begin().await.expect("begun");
    for after in [None, Some(at(1))] {
        let rest = relay.take(stage.batch(after, 7)).await.expect_err("away");
        assert_eq!(rest, ConsumeError::Interrupted { reason: "away".to_owned() });
        assert_eq!(stage.confirmed(), [0, 1, 3], "the other stream goes on, once");
        assert_eq!(relay.begin().await, Ok(Some(at(1))), "nothing undone is passed over");
    }
    let taken = relay.take(stage.batch(Some(at(1)), 7)).await.expect("taken");
    assert_eq!((taken.events, taken.parked), (3, 0), "only what was left");
    assert_eq!(stage.confirmed(), [0, 1, 3, 2, 4, 6]);
    assert_eq!(stage.parked().len(), 1, "refused and parked once");
    relay.shared.flush().await;
    assert!(stage.place() >= Some(6), "{:?}", stage.place());
    assert_eq!(relay.ahead.len(), 0, "nothing is remembered for ever");
}

#[tokio::test]
async fn attempts_that_are_used_up_end_in_parking_if_it_says_so() {
    let stage = Stage::with(6).await;
    let mut relay = stage.relay(
        "[connector.retry]\nattempts = 3\nexhausted = 'park'",
        all_but(&[2], Outcome::failed("too much"), 3),
    );
    relay.begin().await.expect("begun");
    let taken = relay.take(stage.batch(None, 6)).await.expect("taken");
    assert_eq!((taken.events, taken.parked), (5, 1));
    assert_eq!(stage.parked(), [(2, "too much".to_owned(), 3)]);
}

#[tokio::test]
async fn of_what_is_left_only_what_was_tried_is_parked() {
    let stage = Stage::with(4).await;
    let mut tries = 0;
    let config = "[connector.retry]\nattempts = 3\nexhausted = 'park'";
    let mut relay = stage.relay(config, move |messages| {
        tries += 1;
        // As where calls run side by side: one fails, and opens the breaker before the other.
        let outcome = |message: &Message| match message.position.0 {
            1 if tries <= 3 => Outcome::failed("too much"),
            _ if tries <= 3 => Outcome::NotTried { reason: "the breaker is open".to_owned() },
            _ => Outcome::Confirmed,
        };
        messages.iter().map(outcome).collect()
    });
    relay.begin().await.expect("begun");
    let taken = relay.take(stage.batch(None, 4)).await.expect("taken");
    assert_eq!((taken.events, taken.parked), (3, 1));
    assert_eq!(stage.parked(), [(1, "too much".to_owned(), 3)]);
    assert_eq!(stage.confirmed(), [0, 2, 3]);
}

#[tokio::test]
async fn what_was_not_tried_uses_up_no_attempt_and_is_never_parked() {
    let stage = Stage::with(3).await;
    let open = Outcome::NotTried { reason: "the breaker is open".to_owned() };
    let mut relay = stage
        .relay("[connector.retry]\nattempts = 1\nexhausted = 'park'", all_but(&[0, 1, 2], open, 5));
    relay.begin().await.expect("begun");
    for _ in 0..5 {
        let rest = relay.take(stage.batch(None, 3)).await.expect_err("open");
        assert_eq!(rest, ConsumeError::Interrupted { reason: "the breaker is open".to_owned() });
    }
    relay.take(stage.batch(None, 3)).await.expect("closed again");
    assert_eq!((stage.confirmed(), stage.parked().len()), (vec![0, 1, 2], 0));
}

#[tokio::test]
async fn a_receiver_that_refuses_everything_stops_the_connector() {
    let stage = Stage::with(REFUSED_IN_A_ROW_MAX + 20).await;
    let everything: Vec<u64> = (0..REFUSED_IN_A_ROW_MAX + 20).collect();
    let mut relay = stage.relay("", all_but(&everything, Outcome::refused("401"), 999));
    relay.begin().await.expect("begun");
    let stopped = relay.take(stage.batch(None, 1000)).await.expect_err("all refused");
    assert!(matches!(&stopped, ConsumeError::Refused { reason } if reason.contains("401")));
    assert_eq!(stage.parked().len() as u64, REFUSED_IN_A_ROW_MAX);
    assert_eq!(relay.begin().await, Ok(Some(at(REFUSED_IN_A_ROW_MAX - 1))));
}

#[tokio::test]
async fn what_cannot_be_mapped_is_parked_in_its_turn() {
    let stage = Stage::with(4).await;
    let odd = NewEvent::json(Uuid::from_u128(50), "Placed", "[1]");
    let stream = StreamName::new("order-1").expect("a name");
    let append = Append::to_stream(stream, ExpectedRevision::Any, [odd]);
    stage.store.append(append).await.expect("appended");
    let mut relay = stage.relay("[connector.mapping]\nfields = ['n']", confirm);
    relay.begin().await.expect("begun");
    let taken = relay.take(stage.batch(None, 10)).await.expect("taken");
    assert_eq!((taken.events, taken.parked, stage.parked()[0].0), (4, 1, 4));
    assert!(stage.parked()[0].1.contains("no JSON object"));
}

#[tokio::test]
async fn the_first_time_it_begins_where_it_is_told_to_and_then_at_its_place() {
    let stage = Stage::with(4).await;
    let mut relay = stage.relay("from = 'end'", confirm);
    assert_eq!(relay.begin().await, Ok(Some(at(3))));
    let mut other = stage.relay("from = 'end'", confirm);
    assert_eq!(other.begin().await, Ok(Some(at(3))), "not at the end of now");
    let lost = relay.begin().await.expect_err("the other has claimed it");
    assert!(matches!(lost, ConsumeError::Fenced { .. }));
}

#[tokio::test]
async fn a_fenced_relay_delivers_no_further_than_its_next_checkpoint() {
    let stage = Stage::with(9).await;
    let mut one = stage.relay("[connector.checkpoint]\nevery = 3", confirm);
    one.begin().await.expect("begun");
    one.take(stage.batch(None, 3)).await.expect("taken");
    let mut other = stage.relay("[connector.checkpoint]\nevery = 3", confirm);
    assert_eq!(other.begin().await, Ok(Some(at(2))));
    let lost = one.take(stage.batch(Some(at(2)), 3)).await.expect_err("fenced");
    assert!(matches!(lost, ConsumeError::Fenced { .. }), "{lost}");
    other.take(stage.batch(Some(at(2)), 6)).await.expect("taken");
    assert_eq!(stage.place(), Some(8));
}

/// What becomes of one message, the next few times.
fn outcomes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0_u8..20, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// A receiver that fails, refuses and forgets at random, and a process that is killed at
    /// random: nothing is lost, and a stream's message is confirmed only after all before it were
    /// confirmed or parked.
    #[test]
    fn nothing_is_lost_and_streams_keep_their_order(
        dice in outcomes(), crashes in prop::collection::vec(any::<bool>(), 40), every in 1_u64..9
    ) {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(async {
            let stage = Stage::with(30).await;
            let dice = Arc::new(Short::new(dice));
            let config = format!(
                "[connector.retry]\nattempts = 3\n[connector.checkpoint]\nevery = {every}"
            );
            let settled: Arc<Short<BTreeMap<String, u64>>> = Arc::default();
            let make = || {
                let (dice, settled) = (dice.clone(), settled.clone());
                stage.relay(&config, move |messages| random(messages, &dice, &settled))
            };
            let mut relay = make();
            let mut place = relay.begin().await.expect("begun");
            for crash in crashes.iter().chain(std::iter::repeat(&false)) {
                let batch = stage.batch(place, 7);
                let Some(through) = batch.through else { break };
                match relay.take(batch).await {
                    Ok(_) => place = Some(through),
                    Err(ConsumeError::Interrupted { .. }) => {
                        place = relay.begin().await.expect("goes on");
                    }
                    Err(error) => panic!("{error}"),
                }
                if *crash {
                    relay = make();
                    place = relay.begin().await.expect("claimed");
                }
            }
            let mut reached: BTreeSet<u64> = stage.confirmed().into_iter().collect();
            reached.extend(stage.parked().into_iter().map(|(position, ..)| position));
            assert_eq!(reached, (0..30).collect::<BTreeSet<u64>>());
        });
    }
}

/// Outcomes by dice, as a sink may give them; checks that each stream goes on where it was.
fn random(
    messages: &[Message],
    dice: &Short<Vec<u8>>,
    settled: &Short<BTreeMap<String, u64>>,
) -> Vec<Outcome> {
    let mut stopped = BTreeSet::new();
    let mut settled = settled.lock();
    let outcome = |message: &Message| {
        let die = dice.lock().pop().unwrap_or(9);
        if stopped.contains(&message.stream) {
            return Outcome::NotTried { reason: "one before it".to_owned() };
        }
        if die < 7 {
            stopped.insert(message.stream.clone());
            return Outcome::failed("dice");
        }
        let next = settled.entry(message.stream.to_string()).or_insert(0);
        assert!(message.revision.0 <= *next, "{message:?} comes before revision {next}");
        *next = (*next).max(message.revision.0 + 1);
        if die == 7 { Outcome::refused("dice") } else { Outcome::Confirmed }
    };
    messages.iter().map(outcome).collect()
}
