//! What a runner feeds when it runs a connector: events become messages, messages are delivered,
//! and the place follows what was confirmed.
//!
//! ```text
//!   batch ─ wanted? ─ map ─> at most 256 messages ──> sink ──┬─ confirmed ─> done
//!              ^                    ^                        ├─ refused ───> parked, done (or stop)
//!              │                    └── wait ── what is left ┴─ failed
//!   place <── all done up to here
//! ```
//!
//! What is left is tried again in order, after a wait that doubles, or that the receiver asks for.
//! When the attempts are used up, or the breaker is open, the batch is given back to the runner,
//! which rests and begins again after the last message before which all are done with. What is done
//! with beyond it is remembered, and sent again only by another process.
//!
//! INVARIANTS: the place never passes a message that is neither confirmed nor parked. The locks of
//! place, parked and sink are held across what they order (their appends, a delivery): whoever else
//! wants one waits for it, and no task that holds one waits for another task.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use daybook_client::Checkpoint;

use super::config::{Exhausted, From, Refused};
use super::parked::ParkedMessage;
use super::place::Place;
use super::sink::{DELIVERY_MESSAGES_MAX, Message, Outcome, Sink};
use super::streams::Streams;
use crate::consumer::{ConsumeError, Consumer, Taken};
use crate::feed::{Batch, FeedEvent, Interest, Source};

mod shared;

pub use shared::{Numbers, Shared};

/// Messages refused in a row after which a connector stops: not they are at fault, then.
pub const REFUSED_IN_A_ROW_MAX: u64 = 100;
/// The longest wait that a receiver may ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Feeds a sink. A clone is another handle; one of them is used at a time.
pub struct Relay<F, T, S> {
    shared: Arc<Shared<T, S>>,
    source: F,
    refused_in_a_row: u64,
    /// Events beyond the place that are done with: at most those of one delivery.
    ahead: BTreeSet<Checkpoint>,
}

/// What is left of one delivery.
struct Work<'a> {
    events: &'a [FeedEvent],
    /// For each event whether it is done with.
    done: Vec<bool>,
    /// What is to be sent, by the numbers of their events.
    left: Vec<(usize, Message)>,
    delivered: u64,
    parked: u64,
    attempts: u32,
}

impl<F: Source, T: Streams, S: Sink> Relay<F, T, S> {
    /// What feeds the sink of `shared` from `source`.
    #[must_use]
    pub fn new(shared: Arc<Shared<T, S>>, source: F) -> Relay<F, T, S> {
        Relay { shared, source, refused_in_a_row: 0, ahead: BTreeSet::new() }
    }

    /// Where a connector begins that has no place yet.
    async fn first(&self, place: &Place<T>) -> Result<Option<Checkpoint>, ConsumeError> {
        if self.shared.settings.from == From::Start || place.look().await?.is_some() {
            return Ok(None);
        }
        let head = self.source.head().await;
        head.map(|head| head.checkpoint)
            .map_err(|error| ConsumeError::Interrupted { reason: error.to_string() })
    }

    /// Delivers what is wanted of `events`, all or up to an error. The place follows in both cases.
    async fn deliver(&mut self, events: &[FeedEvent]) -> Result<Taken, ConsumeError> {
        let mut work = Work::new(events, &self.ahead);
        let ended = self.work_off(&mut work).await;
        let done = work.done.iter().take_while(|done| **done).count();
        let mut place = self.shared.place.lock().await;
        if let Some(last) = done.checked_sub(1) {
            let last = events[last].checkpoint;
            place.advance(last, work.delivered, work.parked);
            self.ahead.retain(|at| *at > last);
        }
        self.shared.write_if_due(&mut place).await?;
        ended.map(|()| Taken { events: work.delivered, parked: work.parked })
    }

    async fn work_off(&mut self, work: &mut Work<'_>) -> Result<(), ConsumeError> {
        for (number, event) in work.events.iter().enumerate() {
            if work.done[number] {
                continue;
            }
            match self.shared.settings.mapping.message(&event.event) {
                Ok(message) => work.left.push((number, message)),
                Err(reason) => {
                    // In its turn: nothing before it may be passed over.
                    self.send(work).await?;
                    self.refuse(work, number, &reason).await?;
                }
            }
        }
        self.send(work).await
    }

    /// Sends what is left, again and again until nothing is.
    async fn send(&mut self, work: &mut Work<'_>) -> Result<(), ConsumeError> {
        let retry = self.shared.settings.retry;
        while !work.left.is_empty() {
            let (numbers, messages): (Vec<_>, Vec<_>) =
                std::mem::take(&mut work.left).into_iter().unzip();
            let delivered = self.shared.sink.lock().await.deliver(&messages).await;
            let outcomes =
                delivered.map_err(|stopped| ConsumeError::Refused { reason: stopped.reason })?;
            work.attempts += 1;
            let before = work.delivered;
            let mut trouble = Trouble::default();
            for ((number, message), outcome) in numbers.into_iter().zip(messages).zip(outcomes) {
                match outcome {
                    Outcome::Confirmed => {
                        work.delivered += 1;
                        self.done(work, number);
                        self.refused_in_a_row = 0;
                    }
                    Outcome::Refused { reason } => trouble.refused.push((number, message, reason)),
                    outcome => {
                        trouble.note(number, outcome);
                        work.left.push((number, message));
                    }
                }
            }
            let confirmed = work.delivered - before;
            self.shared.numbers.delivered.fetch_add(confirmed, Ordering::Relaxed);
            self.settle_refused(work, trouble.refused).await?;
            if work.left.is_empty() {
                break;
            }
            if confirmed > 0 {
                work.attempts = 1;
            }
            self.shared.note(&trouble.reason);
            let Some(first) = trouble.first else {
                return Err(ConsumeError::Interrupted { reason: trouble.reason });
            };
            if work.attempts >= retry.attempts_max {
                self.give_up(work, first, trouble.reason).await?;
                continue;
            }
            self.shared.numbers.retries.fetch_add(trouble.tried, Ordering::Relaxed);
            self.wait(work.attempts, trouble.retry_after).await;
        }
        work.attempts = 0;
        Ok(())
    }

    /// Parks what was refused, or stops at the first of it.
    async fn settle_refused(
        &mut self,
        work: &mut Work<'_>,
        refused: Vec<(usize, Message, String)>,
    ) -> Result<(), ConsumeError> {
        for (number, message, reason) in refused {
            let earlier_left = work.left.first().is_some_and(|(left, _)| *left < number);
            if self.shared.settings.retry.refused == Refused::Stop && earlier_left {
                // It is asked about again when all before it is done with.
                let at = work.left.partition_point(|(left, _)| *left < number);
                work.left.insert(at, (number, message));
            } else {
                self.refuse(work, number, &reason).await?;
            }
        }
        Ok(())
    }

    /// Deals with a message that will never be taken.
    async fn refuse(
        &mut self,
        work: &mut Work<'_>,
        number: usize,
        reason: &str,
    ) -> Result<(), ConsumeError> {
        self.shared.note(reason);
        let event = &work.events[number].event;
        if self.shared.settings.retry.refused == Refused::Stop {
            return Err(ConsumeError::Poisoned {
                position: event.position,
                stream: event.stream.to_string(),
                event_type: event.event_type.clone(),
                reason: reason.to_owned(),
            });
        }
        self.refused_in_a_row += 1;
        if self.refused_in_a_row > REFUSED_IN_A_ROW_MAX {
            let reason = format!(
                "{REFUSED_IN_A_ROW_MAX} messages in a row were refused and are parked, the last \
                 because: {reason}; mend the cause, then resume and send the parked ones again"
            );
            return Err(ConsumeError::Refused { reason });
        }
        self.park(work, number, reason).await
    }

    /// The attempts are used up; `first` is the number of the first event that was tried in vain.
    async fn give_up(
        &mut self,
        work: &mut Work<'_>,
        first: usize,
        reason: String,
    ) -> Result<(), ConsumeError> {
        match self.shared.settings.retry.exhausted {
            Exhausted::Wait => Err(ConsumeError::Interrupted { reason }),
            Exhausted::Park => {
                // What was not tried is not at fault: it stays.
                work.left.retain(|(number, _)| *number != first);
                self.park(work, first, &reason).await?;
                work.attempts = 0;
                Ok(())
            }
        }
    }

    async fn park(
        &mut self,
        work: &mut Work<'_>,
        number: usize,
        reason: &str,
    ) -> Result<(), ConsumeError> {
        let Shared { wiring, numbers, settings, .. } = &*self.shared;
        let event = &work.events[number].event;
        let message = ParkedMessage::new(event, reason, work.attempts, &*wiring.clock);
        let mut parked = self.shared.parked.lock().await;
        parked.park(message, &*wiring.entropy).await?;
        self.shared.count_parked(&parked);
        numbers.parked_total.fetch_add(1, Ordering::Relaxed);
        let (connector, position) = (&settings.name, event.position.0);
        tracing::warn!(connector, position, reason, "parked a message");
        drop(parked);
        work.parked += 1;
        self.done(work, number);
        Ok(())
    }

    /// Notes that an event is done with.
    fn done(&mut self, work: &mut Work<'_>, number: usize) {
        work.done[number] = true;
        self.ahead.insert(work.events[number].checkpoint);
    }

    async fn wait(&self, attempts: u32, asked: Option<Duration>) {
        let retry = &self.shared.settings.retry;
        let doubled = retry.backoff_min.saturating_mul(1 << attempts.saturating_sub(1).min(20));
        let full = doubled.min(retry.backoff_max);
        let chance = f64::from(self.shared.wiring.entropy.bytes()[0]) / 255.0;
        let wait = full / 2 + (full / 2).mul_f64(chance);
        let asked = asked.unwrap_or_default().min(RETRY_AFTER_MAX);
        self.shared.wiring.timer.sleep(wait.max(asked)).await;
    }
}

impl<'a> Work<'a> {
    /// `ahead`: those that are done with already.
    fn new(events: &'a [FeedEvent], ahead: &BTreeSet<Checkpoint>) -> Work<'a> {
        let done = events.iter().map(|event| ahead.contains(&event.checkpoint)).collect();
        let left = Vec::with_capacity(events.len());
        Work { events, done, left, delivered: 0, parked: 0, attempts: 0 }
    }
}

/// What went wrong in one delivery.
#[derive(Default)]
struct Trouble {
    refused: Vec<(usize, Message, String)>,
    /// How many of what is left were tried.
    tried: u64,
    /// The number of the first event of those; none if none was.
    first: Option<usize>,
    reason: String,
    retry_after: Option<Duration>,
}

impl Trouble {
    fn note(&mut self, number: usize, outcome: Outcome) {
        match outcome {
            Outcome::Failed { reason, retry_after } => {
                if self.tried == 0 {
                    (self.first, self.reason) = (Some(number), reason);
                }
                self.tried += 1;
                self.retry_after = self.retry_after.max(retry_after);
            }
            Outcome::NotTried { reason } if self.reason.is_empty() => self.reason = reason,
            _ => {}
        }
    }
}

impl<F: Source, T: Streams, S: Sink> Consumer for Relay<F, T, S> {
    fn interest(&self) -> Interest {
        self.shared.settings.selection.interest()
    }

    async fn begin(&mut self) -> Result<Option<Checkpoint>, ConsumeError> {
        self.refused_in_a_row = 0;
        // Also if it is paused: somebody may have paused it to look through them.
        {
            let mut parked = self.shared.parked.lock().await;
            parked.load().await?;
            self.shared.count_parked(&parked);
        }
        let mut place = self.shared.place.lock().await;
        let first = self.first(&place).await?;
        place.begin(first).await?;
        *self.shared.numbers.checkpoint.lock() = place.checkpoint();
        if place.paused() {
            // It was told so in a former process.
            let Some(handle) = &*self.shared.handle.lock() else {
                let reason = format!("connector {} is paused", self.shared.settings.name);
                return Err(ConsumeError::Interrupted { reason });
            };
            // It waits at its place, before anything is read.
            handle.pause();
        }
        Ok(place.checkpoint())
    }

    async fn take(&mut self, batch: Batch) -> Result<Taken, ConsumeError> {
        let Batch { mut events, through, .. } = batch;
        events.retain(|event| self.shared.settings.selection.wants(&event.event.view()));
        let mut all = Taken::default();
        for some in events.chunks(DELIVERY_MESSAGES_MAX) {
            let taken = self.deliver(some).await?;
            (all.events, all.parked) = (all.events + taken.events, all.parked + taken.parked);
        }
        if let Some(through) = through {
            let mut place = self.shared.place.lock().await;
            place.advance(through, 0, 0);
            self.shared.write_if_due(&mut place).await?;
        }
        Ok(all)
    }
}

#[cfg(test)]
#[path = "relay/tests.rs"]
mod tests;
