//! What a person can do with a connector: look, pause, resume, and deal with what is parked.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use daybook_client::resilience::{CircuitBreaker, State as BreakerState};
use daybook_model::{Position, Revision, StreamName};
use serde::Serialize;

use super::parked::{ParkedMessage, Settled};
use super::relay::Shared;
use super::sink::{AnySink, Outcome, Sink};
use super::streams::Streams;
use crate::consumer::ConsumeError;
use crate::runner::GRACE;
use crate::status::{State, Status};

/// Parked messages of one answer at most.
pub const PARKED_PAGE_MAX: usize = 1000;
/// Time that a connector has to finish what is under way before it is said to pause. Longer than
/// a runner gives it.
const PAUSE_WAIT_MAX: Duration = Duration::from_secs(4);
const _: () = assert!(PAUSE_WAIT_MAX.as_nanos() > GRACE.as_nanos());

/// Bytes of the reason for giving a message up.
pub const DISCARD_REASON_SIZE_MAX: usize = 1000;

/// How far a connector is.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectorStatus {
    /// Its name.
    pub name: String,
    /// What it relays to.
    pub kind: &'static str,
    /// What it does.
    #[serde(flatten)]
    pub state: State,
    /// The last position that is done with; none before the first.
    pub position: Option<u64>,
    /// Positions that are not.
    pub lag_events: u64,
    /// How long ago the last event done with was committed; 0 if all are, none if that is not known.
    pub lag_seconds: Option<f64>,
    /// Messages confirmed since the process was started.
    pub delivered: u64,
    /// Messages sent again since the process was started.
    pub retries: u64,
    /// Messages parked now.
    pub parked: u64,
    /// Messages parked since the process was started.
    pub parked_total: u64,
    /// What its breaker does; none if it needs none.
    pub breaker: Option<&'static str>,
    /// Why a message was not taken, the last time.
    pub last_error: Option<String>,
}

/// Why a person's wish was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No message of this position is parked.
    #[error("connector {connector} has parked no message of position {position}")]
    NotParked {
        /// The connector.
        connector: String,
        /// The position.
        position: Position,
    },
    /// The event itself is not there any more.
    #[error(
        "event {position} is gone from stream '{stream}', by its retention or deletion; discard \
         the message"
    )]
    Gone {
        /// The position.
        position: Position,
        /// Its stream.
        stream: String,
    },
    /// It was sent again, and not taken. It is still parked.
    #[error("the message of position {position} was not taken: {reason}")]
    NotTaken {
        /// The position.
        position: Position,
        /// Why.
        reason: String,
    },
    /// The reason given is not one.
    #[error("reason: give 1 to {DISCARD_REASON_SIZE_MAX} bytes that say why it is given up")]
    BadReason,
    /// The connector's own state could not be written.
    #[error(transparent)]
    State(#[from] ConsumeError),
}

/// What became of all that was parked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Retried {
    /// Messages that were delivered.
    pub delivered: u64,
    /// Messages that are still parked.
    pub parked: u64,
}

/// A connector, for people. A clone is another handle.
pub struct Control<T, S = AnySink> {
    pub(super) shared: Arc<Shared<T, S>>,
    pub(super) breaker: Option<CircuitBreaker>,
}

impl<T, S> Clone for Control<T, S> {
    fn clone(&self) -> Control<T, S> {
        Control { shared: self.shared.clone(), breaker: self.breaker.clone() }
    }
}

impl<T: Streams, S: Sink> Control<T, S> {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.settings.name
    }

    /// What its breaker does; none if it needs none.
    #[must_use]
    pub fn breaker(&self) -> Option<BreakerState> {
        self.breaker.as_ref().map(|breaker| breaker.status().state)
    }

    /// How far it is.
    #[must_use]
    pub fn status(&self) -> ConnectorStatus {
        let numbers = &self.shared.numbers;
        let runner = self.shared.handle.lock().as_ref().map(crate::runner::Handle::status);
        let mut runner = runner.unwrap_or_else(Status::starting);
        // The runner's own is behind it within a batch, and unknown to one that is paused at once.
        runner.checkpoint = runner.checkpoint.max(*numbers.checkpoint.lock());
        let lag = runner.lag_time(self.shared.wiring.clock.now());
        ConnectorStatus {
            name: self.name().to_owned(),
            kind: self.shared.settings.sink.kind(),
            position: runner.checkpoint.map(|at| at.position().0),
            lag_events: runner.lag_events(),
            lag_seconds: lag.map(|lag| lag.as_secs_f64()),
            state: runner.state,
            delivered: numbers.delivered.load(Ordering::Relaxed),
            retries: numbers.retries.load(Ordering::Relaxed),
            parked: numbers.parked.load(Ordering::Relaxed),
            parked_total: numbers.parked_total.load(Ordering::Relaxed),
            breaker: self.breaker().map(word),
            last_error: numbers.last_error.lock().clone(),
        }
    }

    /// Has it wait, also in the next process, until it is resumed.
    ///
    /// # Errors
    /// [`ControlError::State`].
    pub async fn pause(&self) -> Result<(), ControlError> {
        self.shared.place.lock().await.set_paused(true).await?;
        let Some(handle) = self.shared.handle.lock().clone() else { return Ok(()) };
        handle.pause();
        let mut status = handle.watch();
        tokio::select! {
            // An error: it has ended, which is as good.
            _ = status.wait_for(|status| status.state == State::Paused) => {}
            () = self.shared.wiring.timer.sleep(PAUSE_WAIT_MAX) => {}
        }
        Ok(())
    }

    /// Has it go on: also one that has stopped by itself.
    ///
    /// # Errors
    /// [`ControlError::State`].
    pub async fn resume(&self) -> Result<(), ControlError> {
        {
            let mut place = self.shared.place.lock().await;
            if place.paused() {
                place.set_paused(false).await?;
            }
        }
        if let Some(handle) = &*self.shared.handle.lock() {
            handle.resume();
        }
        Ok(())
    }

    /// What is parked after `after`, by position; at most [`PARKED_PAGE_MAX`].
    pub async fn parked(&self, after: Option<Position>, limit: usize) -> Vec<ParkedMessage> {
        let parked = self.shared.parked.lock().await;
        parked.after(after).take(limit.min(PARKED_PAGE_MAX)).cloned().collect()
    }

    /// Sends a parked message again.
    ///
    /// # Errors
    /// [`ControlError`]; then it is still parked.
    pub async fn retry(&self, position: Position) -> Result<(), ControlError> {
        // Fails if another instance has taken over, whose parked messages these are now.
        self.shared.place.lock().await.write().await?;
        let message = self.shared.parked.lock().await.get(position).cloned();
        let message = message.ok_or_else(|| self.not_parked(position))?;
        let taken = self.send_again(&message).await;
        if taken.is_ok() {
            self.shared.numbers.delivered.fetch_add(1, Ordering::Relaxed);
        }
        // Others may have looked through the parked ones meanwhile, and settled this one.
        let mut parked = self.shared.parked.lock().await;
        let entropy = &*self.shared.wiring.entropy;
        match &taken {
            _ if parked.get(position).is_none() => {}
            Ok(()) => parked.settle(position, Settled::Delivered, entropy).await?,
            Err(ControlError::NotTaken { reason, .. }) => {
                let (attempts, error) = (message.attempts.saturating_add(1), reason.clone());
                parked.park(ParkedMessage { attempts, error, ..message }, entropy).await?;
            }
            Err(_) => {}
        }
        self.shared.count_parked(&parked);
        taken
    }

    /// Sends all parked messages again, in order; those that are not taken stay.
    ///
    /// # Errors
    /// [`ControlError::State`]: it ended before the last one.
    pub async fn retry_all(&self) -> Result<Retried, ControlError> {
        let all: Vec<Position> = {
            let parked = self.shared.parked.lock().await;
            parked.after(None).map(|message| Position(message.position)).collect()
        };
        let mut retried = Retried::default();
        for position in all {
            match self.retry(position).await {
                Ok(()) => retried.delivered += 1,
                Err(ControlError::NotTaken { .. } | ControlError::Gone { .. }) => {
                    retried.parked += 1;
                }
                Err(ControlError::NotParked { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(retried)
    }

    /// Gives a parked message up; `reason` is kept in the log.
    ///
    /// # Errors
    /// [`ControlError`]; then it is still parked.
    pub async fn discard(&self, position: Position, reason: &str) -> Result<(), ControlError> {
        if reason.trim().is_empty() || reason.len() > DISCARD_REASON_SIZE_MAX {
            return Err(ControlError::BadReason);
        }
        self.shared.place.lock().await.write().await?;
        let mut parked = self.shared.parked.lock().await;
        if parked.get(position).is_none() {
            return Err(self.not_parked(position));
        }
        let settled = Settled::Discarded { reason: reason.to_owned() };
        parked.settle(position, settled, &*self.shared.wiring.entropy).await?;
        self.shared.count_parked(&parked);
        Ok(())
    }

    async fn send_again(&self, parked: &ParkedMessage) -> Result<(), ControlError> {
        let position = Position(parked.position);
        let gone = || ControlError::Gone { position, stream: parked.stream.clone() };
        let not_taken = |reason| ControlError::NotTaken { position, reason };
        let stream = StreamName::new(&parked.stream).map_err(|_| gone())?;
        let read = self.shared.streams.read(&stream, Revision(parked.revision), 1).await;
        let event = read.map_err(|error| not_taken(error.to_string()))?.pop();
        let event = event.filter(|event| event.position == position).ok_or_else(gone)?;
        let message = self.shared.settings.mapping.message(&event).map_err(not_taken)?;
        let outcomes = self.shared.sink.lock().await.deliver(&[message]).await;
        match outcomes.map_err(|stopped| not_taken(stopped.reason))?.pop() {
            Some(Outcome::Confirmed) => Ok(()),
            Some(
                Outcome::Refused { reason }
                | Outcome::Failed { reason, .. }
                | Outcome::NotTried { reason },
            ) => Err(not_taken(reason)),
            None => Err(not_taken("the sink said nothing of it".to_owned())),
        }
    }

    fn not_parked(&self, position: Position) -> ControlError {
        ControlError::NotParked { connector: self.name().to_owned(), position }
    }
}

fn word(state: BreakerState) -> &'static str {
    match state {
        BreakerState::Closed => "closed",
        BreakerState::Open => "open",
        BreakerState::HalfOpen => "half_open",
        BreakerState::ForcedOpen => "forced_open",
        BreakerState::ForcedClosed => "forced_closed",
    }
}
