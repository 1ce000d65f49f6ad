//! Everything anyone was ever told by the server, and whether its log agrees.

use std::collections::BTreeMap;

use daybook_client::{Client, ReadAll};
use daybook_model::{ExpectedRevision, NewEvent, RecordedEvent, StreamName};
use futures_util::TryStreamExt as _;
use uuid::Uuid;

use crate::load::Follower;

/// An append that was tried.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The stream.
    pub stream: StreamName,
    /// What it expected of it.
    pub expected: ExpectedRevision,
    /// What it was to append.
    pub events: Vec<NewEvent>,
    /// What it was told.
    pub outcome: Outcome,
}

/// What the client of an append was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done: the last event's revision and position.
    Done { revision: u64, position: u64 },
    /// Nobody knows.
    Unknown,
    /// Nothing was written.
    Refused,
}

/// What someone saw of the log: events from a position on, without gaps.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The position of the first.
    pub first: u64,
    /// Their ids.
    pub ids: Vec<Uuid>,
}

impl Seen {
    /// Notes the next event that was seen.
    ///
    /// # Panics
    /// If it does not follow the one before.
    pub fn note(&mut self, event: &RecordedEvent) {
        if self.ids.is_empty() {
            self.first = event.position.0;
        }
        let next = self.first + self.ids.len() as u64;
        assert_eq!(event.position.0, next, "seen twice, or a gap");
        self.ids.push(event.id);
    }
}

/// The memory of all clients.
#[derive(Default)]
pub struct History {
    /// All appends that were tried.
    pub attempts: Vec<Attempt>,
    /// All that was seen.
    pub seen: Vec<Seen>,
    /// Who has followed the store since its beginning.
    pub follower: Option<Follower>,
}

/// What the log is after a restart.
#[derive(Debug)]
pub struct Checked {
    /// Doubts that turned out as done.
    pub doubts_done: u64,
    /// Doubts that turned out as not done.
    pub doubts_lost: u64,
}

impl History {
    /// How many appends were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.attempts.iter().filter(|a| matches!(a.outcome, Outcome::Done { .. })).count()
    }

    /// Compares the log of `client`'s server with all that is remembered, then retries each doubt:
    /// none is left.
    pub async fn check(&mut self, client: &Client) -> Checked {
        let log = read_log(client).await;
        let mut by_id: BTreeMap<Uuid, u64> = BTreeMap::new();
        let mut revisions: BTreeMap<&str, u64> = BTreeMap::new();
        for event in &log {
            if event.position.0 > 0 {
                let twice = by_id.insert(event.id, event.position.0);
                assert_eq!(twice, None, "event {} is there twice", event.id);
            }
            let next = revisions.entry(event.stream.as_str()).or_default();
            assert_eq!(event.revision.0, *next, "revisions of {} have a gap", event.stream);
            *next += 1;
        }
        for seen in &self.seen {
            for (i, id) in seen.ids.iter().enumerate() {
                let there = log.get(seen.first as usize + i).map(|event| event.id);
                assert_eq!(there, Some(*id), "what was seen at {} is gone", seen.first + i as u64);
            }
        }
        let (mut known, mut doubts_done, mut doubts_lost) = (0, 0, 0);
        for attempt in &self.attempts {
            let there = place_of(attempt, &by_id, &log);
            match (attempt.outcome, there) {
                (Outcome::Done { revision, position }, Some(last)) => {
                    assert_eq!((revision, position), last, "{attempt:?} moved");
                }
                (Outcome::Done { .. }, None) => panic!("lost although acknowledged: {attempt:?}"),
                (Outcome::Unknown, Some(_)) => doubts_done += 1,
                (Outcome::Unknown, None) => doubts_lost += 1,
                (Outcome::Refused, None) => {}
                (Outcome::Refused, Some(_)) => panic!("written although refused: {attempt:?}"),
            }
            known += there.map_or(0, |_| attempt.events.len());
        }
        assert_eq!(known, by_id.len(), "events that nobody has written");
        self.settle(client).await;
        Checked { doubts_done, doubts_lost }
    }

    /// Retries each doubt with the same ids: it must be done after that, once.
    async fn settle(&mut self, client: &Client) {
        for attempt in self.attempts.iter_mut().filter(|a| a.outcome == Outcome::Unknown) {
            let (stream, events) = (&attempt.stream, attempt.events.clone());
            match client.append(stream, attempt.expected, events).await {
                Ok(done) => {
                    attempt.outcome = Outcome::Done {
                        revision: done.revision.expect("it has events").0,
                        position: done.checkpoint.expect("it has events").position().0,
                    };
                }
                // A pipelined append whose predecessor was lost: its condition can no longer hold,
                // or does again when that is settled.
                Err(daybook_client::AppendError::WrongExpectedRevision { .. }) => {
                    attempt.outcome = Outcome::Refused;
                }
                Err(other) => panic!("a doubt cannot be settled: {other}: {attempt:?}"),
            }
        }
    }
}

/// The revision and position of the last event of `attempt` if it is in the log, whole.
fn place_of(
    attempt: &Attempt,
    by_id: &BTreeMap<Uuid, u64>,
    log: &[RecordedEvent],
) -> Option<(u64, u64)> {
    let places: Vec<Option<u64>> =
        attempt.events.iter().map(|event| by_id.get(&event.id).copied()).collect();
    if places.iter().all(Option::is_none) {
        return None;
    }
    let mut last = None;
    for (event, place) in attempt.events.iter().zip(&places) {
        let position = place.unwrap_or_else(|| panic!("only in part there: {attempt:?}"));
        let stored = &log[position as usize];
        assert!(last.is_none_or(|(_, before)| position == before + 1), "torn apart: {attempt:?}");
        assert_eq!(stored.stream, attempt.stream);
        assert!(stored.data == event.data, "the data of {} differs", event.id);
        last = Some((stored.revision.0, position));
    }
    last
}

/// The whole log, its positions checked.
pub async fn read_log(client: &Client) -> Vec<RecordedEvent> {
    let mut events = client.read_all(ReadAll::default()).await.expect("a read");
    let mut log = Vec::new();
    while let Some(resolved) = events.try_next().await.expect("an event") {
        let event = resolved.event.expect("no link");
        assert_eq!(event.position.0, log.len() as u64, "positions have a gap");
        log.push(event);
    }
    log
}
