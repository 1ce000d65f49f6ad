//! What waits for one stream, and which of it may go together. Pure but for its wake-up.

use std::collections::VecDeque;
use std::sync::Arc;

use daybook_model::{ExpectedRevision, NewEvent};
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};

use crate::append::Appended;
use crate::error::AppendError;

/// What one batch may have, unless one part alone has more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub events: usize,
    pub size: usize,
}

/// Whether a part may share its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    Gathered,
    Alone,
}

/// What one caller appends.
#[derive(Debug)]
pub(super) struct Part {
    pub expected: ExpectedRevision,
    pub events: Vec<NewEvent>,
    /// Bytes of its events' messages.
    pub size: usize,
    pub sharing: Sharing,
    pub answer: oneshot::Sender<Result<Appended, AppendError>>,
    /// Given back when the part is answered.
    pub _room: OwnedSemaphorePermit,
}

impl Part {
    /// Whether it does not say where the stream must be.
    pub fn is_free(&self) -> bool {
        matches!(self.expected, ExpectedRevision::Any | ExpectedRevision::StreamExists)
    }
}

/// The parts that wait for one stream.
#[derive(Debug, Default)]
pub(super) struct Lane {
    waiting: VecDeque<Part>,
    events: usize,
    size: usize,
    /// Told when a whole batch waits.
    pub full: Arc<Notify>,
}

impl Lane {
    pub fn put(&mut self, part: Part, limits: &Limits) {
        self.events += part.events.len();
        self.size += part.size;
        self.waiting.push_back(part);
        if self.events >= limits.events || self.size >= limits.size {
            self.full.notify_one();
        }
    }

    /// The parts from the first on that may go together and that somebody still waits for.
    pub fn cut(&mut self, limits: &Limits) -> Vec<Part> {
        let mut batch: Vec<Part> = Vec::new();
        let (mut events, mut size) = (0, 0);
        while let Some(next) = self.waiting.front() {
            let fits =
                events + next.events.len() <= limits.events && size + next.size <= limits.size;
            let gone = next.answer.is_closed();
            let joins = batch.first().is_none_or(|first| fits && may_follow(first, events, next));
            if !gone && !joins {
                break;
            }
            let Some(next) = self.waiting.pop_front() else { break };
            self.events -= next.events.len();
            self.size -= next.size;
            if gone {
                continue;
            }
            events += next.events.len();
            size += next.size;
            batch.push(next);
        }
        batch
    }
}

/// Whether `next` may follow in a batch that begins with `first` and has so many events: whenever
/// the batch is taken, what `next` expects must hold where it stands.
fn may_follow(first: &Part, events: usize, next: &Part) -> bool {
    let shared = [first, next].iter().all(|part| part.sharing == Sharing::Gathered);
    // An append without events is a question only, and answered otherwise.
    let written = !first.events.is_empty() && !next.events.is_empty();
    shared
        && written
        && match (first.expected, next.expected) {
            (_, ExpectedRevision::Any | ExpectedRevision::StreamExists) => true,
            (ExpectedRevision::Exact(base), ExpectedRevision::Exact(revision)) => {
                base.0.checked_add(events as u64) == Some(revision.0)
            }
            // Even after `NoStream`: a stream that was soft-deleted goes on with its old numbers.
            (_, ExpectedRevision::NoStream | ExpectedRevision::Exact(_)) => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daybook_model::Revision;
    use tokio::sync::Semaphore;
    use uuid::Uuid;

    const ANY: ExpectedRevision = ExpectedRevision::Any;
    const NONE: ExpectedRevision = ExpectedRevision::NoStream;
    const EXISTS: ExpectedRevision = ExpectedRevision::StreamExists;

    fn at(revision: u64) -> ExpectedRevision {
        ExpectedRevision::Exact(Revision(revision))
    }

    type Waiting = oneshot::Receiver<Result<Appended, AppendError>>;

    fn part(expected: ExpectedRevision, events: usize, size: usize) -> (Part, Waiting) {
        let (answer, waiting) = oneshot::channel();
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let event = NewEvent::json(Uuid::nil(), "Happened", "{}");
        let (events, sharing) = (vec![event; events], Sharing::Gathered);
        (Part { expected, events, size, sharing, answer, _room: room }, waiting)
    }

    /// The number of parts of each batch that `lane` is cut into.
    fn batches(lane: &mut Lane, limits: Limits) -> Vec<usize> {
        std::iter::from_fn(|| Some(lane.cut(&limits).len()).filter(|len| *len > 0)).collect()
    }

    #[test]
    fn what_is_certain_to_hold_together_goes_together() {
        let limits = Limits { events: 100, size: 100 };
        for (parts, expected) in [
            (vec![(ANY, 1), (ANY, 2), (ANY, 1)], vec![3]),
            (vec![(NONE, 1), (ANY, 1), (EXISTS, 1)], vec![3]),
            (vec![(at(5), 2), (at(7), 1), (ANY, 3), (at(11), 1)], vec![4]),
            (vec![(at(5), 2), (at(6), 1)], vec![1, 1]),
            (vec![(at(5), 1), (at(5), 1)], vec![1, 1]),
            (vec![(NONE, 1), (NONE, 1)], vec![1, 1]),
            (vec![(NONE, 1), (at(0), 1)], vec![1, 1]),
            (vec![(ANY, 1), (at(0), 1), (ANY, 1)], vec![1, 2]),
            (vec![(ANY, 0), (ANY, 1)], vec![1, 1]),
            (vec![(at(u64::MAX), 1), (at(0), 1)], vec![1, 1]),
            (vec![], vec![]),
        ] {
            let (mut lane, mut waiting) = (Lane::default(), Vec::new());
            for (expected, events) in &parts {
                let (part, answer) = part(*expected, *events, 1);
                lane.put(part, &limits);
                waiting.push(answer);
            }
            assert_eq!(batches(&mut lane, limits), expected, "{parts:?}");
        }
    }

    #[test]
    fn a_batch_keeps_its_limits_unless_one_part_breaks_them_alone() {
        for (parts, expected) in [
            (vec![(1, 1); 10], vec![4, 4, 2]),
            (vec![(1, 40); 3], vec![2, 1]),
            (vec![(9, 1), (1, 1)], vec![1, 1]),
            (vec![(1, 1), (9, 1), (1, 1)], vec![1, 1, 1]),
            (vec![(1, 500), (1, 1)], vec![1, 1]),
        ] {
            let limits = Limits { events: 4, size: 100 };
            let (mut lane, mut waiting) = (Lane::default(), Vec::new());
            for (events, size) in &parts {
                let (part, answer) = part(ANY, *events, *size);
                lane.put(part, &limits);
                waiting.push(answer);
            }
            assert_eq!(batches(&mut lane, limits), expected, "{parts:?}");
            assert_eq!((lane.events, lane.size), (0, 0));
        }
    }

    #[test]
    fn a_retry_shares_with_nobody_and_who_went_away_is_not_sent() {
        let limits = Limits { events: 100, size: 100 };
        let mut lane = Lane::default();
        let mut waiting = Vec::new();
        for n in 0..5 {
            let (mut part, answer) = part(ANY, 1, 1);
            if n == 1 {
                part.sharing = Sharing::Alone;
            }
            lane.put(part, &limits);
            waiting.push(answer);
        }
        drop(waiting.remove(3));
        assert_eq!(batches(&mut lane, limits), [1, 1, 2]);
    }
}
