//! All of it before one endpoint's calls, in the order in which it makes sense.
//!
//! ```text
//!   call ──> retry ──┬─> 1 breaker     refuses?  ── Open      before anything is waited for
//!     ▲        │     ├─> 2 rate limit  no turn?  ── Limited   a turn is waited for outside the
//!     │        │     │                                        bulkhead, where it blocks nobody
//!     │      pause   ├─> 3 bulkhead    no place? ── Full
//!     │   (no place, ├─> 4 breaker     permit    ── Open      as late as possible: time in queues
//!     │    no permit │                                        is not the endpoint's, nor a probe's
//!     │    is held)  ├─> 5 timeout     over?     ── TimedOut  of each attempt; a failure
//!     │        │     └─> 6 the operation
//!     └────────┴── result; failures that `when` knows to be safe, while attempts and budget last
//! ```
//!
//! Retry is outermost, so that every attempt asks the breaker anew, an opened breaker ends the
//! retries, and a pause holds nothing. What was refused here (Open, Limited, Full) is never tried
//! again by it: it would turn a quick refusal into a slow one.
//!
//! INVARIANTS: the operation runs only with a permit, and with a place and a turn if there are such
//! limits. Dropping a call gives everything back at once. No lock is held across an await.

use std::sync::Arc;
use std::time::Duration;

use super::breaker::{CircuitBreaker, Permit};
use super::bulkhead::{Bulkhead, Full, Place};
use super::deadline::within;
use super::limit::{Limited, RateLimit};
use super::metrics::Rejected;
use super::retry::Retry;
use super::state::{Refusal, Verdict};

/// Why a guarded call has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuardError<E> {
    /// The breaker did not let it through.
    #[error(transparent)]
    Open(Refusal),
    /// The bulkhead had no place for it.
    #[error(transparent)]
    Full(Full),
    /// The endpoint's quota is used up.
    #[error(transparent)]
    Limited(Limited),
    /// It was tried, and took too long; whether it had an effect is unknown.
    #[error("there was no answer within {after:?}; whether it had an effect is unknown")]
    TimedOut {
        /// The time that each attempt has.
        after: Duration,
    },
    /// It was tried, and failed.
    #[error("{0}")]
    Inner(E),
}

impl<E> GuardError<E> {
    /// Whether the operation was not tried, this time.
    #[must_use]
    pub fn is_rejection(&self) -> bool {
        matches!(self, GuardError::Open(_) | GuardError::Full(_) | GuardError::Limited(_))
    }

    /// When it may be tried again, if that is known.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            GuardError::Open(refusal) => refusal.retry_after,
            GuardError::Limited(limited) => Some(limited.retry_after),
            GuardError::Full(_) | GuardError::TimedOut { .. } | GuardError::Inner(_) => None,
        }
    }
}

type Classify<E> = Arc<dyn Fn(&E) -> Verdict + Send + Sync>;
type When<E> = Arc<dyn Fn(&GuardError<E>) -> bool + Send + Sync>;

/// One endpoint's guard, for operations that fail with an `E`. A clone is another handle to the
/// same.
///
/// ```
/// # use std::time::Duration;
/// # use daybook_client::resilience::*;
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// #[derive(Debug)]
/// enum RiskError { Refused, Silent }
/// # async fn ask() -> Result<&'static str, RiskError> { Ok("approved") }
///
/// let wiring = Wiring::system();
/// let breaker = CircuitBreaker::new("risk", BreakerSettings::default(), wiring.clone()).unwrap();
/// let bulkhead = Bulkhead::new(BulkheadSettings::default(), wiring.timer.clone()).unwrap();
/// let guard = Guard::new(breaker)
///     .classify(|error| match error {
///         RiskError::Refused => Verdict::Success, // it works, and says no
///         RiskError::Silent => Verdict::Failure,
///     })
///     .bulkhead(bulkhead)
///     .timeout(Duration::from_secs(2))
///     .retry(Retry::new(RetrySettings::default()).unwrap(), |error| match error {
///         GuardError::TimedOut { .. } => true, // a question may be asked twice
///         GuardError::Inner(error) => matches!(error, RiskError::Silent),
///         _ => false,
///     });
///
/// match guard.call(|| async { ask().await }).await {
///     Ok(answer) => println!("{answer}"),
///     Err(GuardError::Open(refusal)) => println!("not asked: {refusal}"),
///     Err(other) => println!("{other:?}"),
/// }
/// # }
/// ```
pub struct Guard<E> {
    breaker: CircuitBreaker,
    classify: Classify<E>,
    limit: Option<RateLimit>,
    bulkhead: Option<Bulkhead>,
    timeout: Option<Duration>,
    retry: Option<(Retry, When<E>)>,
}

impl<E> Clone for Guard<E> {
    fn clone(&self) -> Guard<E> {
        Guard {
            breaker: self.breaker.clone(),
            classify: self.classify.clone(),
            limit: self.limit.clone(),
            bulkhead: self.bulkhead.clone(),
            timeout: self.timeout,
            retry: self.retry.clone(),
        }
    }
}

impl<E> std::fmt::Debug for Guard<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("breaker", &self.breaker).finish_non_exhaustive()
    }
}

impl<E> Guard<E> {
    /// `breaker` and nothing else; every error is a failure of the endpoint.
    #[must_use]
    pub fn new(breaker: CircuitBreaker) -> Guard<E> {
        let classify = Arc::new(|_: &E| Verdict::Failure);
        Guard { breaker, classify, limit: None, bulkhead: None, timeout: None, retry: None }
    }

    /// Errors say of the endpoint what `classify` says.
    #[must_use]
    pub fn classify(self, classify: impl Fn(&E) -> Verdict + Send + Sync + 'static) -> Guard<E> {
        Guard { classify: Arc::new(classify), ..self }
    }

    /// Calls wait for their turn.
    #[must_use]
    pub fn rate_limit(self, limit: RateLimit) -> Guard<E> {
        Guard { limit: Some(limit), ..self }
    }

    /// Calls need a place in `bulkhead`.
    #[must_use]
    pub fn bulkhead(self, bulkhead: Bulkhead) -> Guard<E> {
        Guard { bulkhead: Some(bulkhead), ..self }
    }

    /// Each attempt has `timeout`; then it is dropped.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Guard<E> {
        Guard { timeout: Some(timeout), ..self }
    }

    /// Calls are tried again if `when` says that it is safe and of use. It is asked about
    /// [`GuardError::TimedOut`] and [`GuardError::Inner`] only, and about the former it should say
    /// yes only if doing it twice is the same as doing it once.
    #[must_use]
    pub fn retry(
        self,
        retry: Retry,
        when: impl Fn(&GuardError<E>) -> bool + Send + Sync + 'static,
    ) -> Guard<E> {
        Guard { retry: Some((retry, Arc::new(when))), ..self }
    }

    /// The breaker.
    #[must_use]
    pub fn breaker(&self) -> &CircuitBreaker {
        &self.breaker
    }

    /// Runs `operation`, which makes a new future for each attempt.
    ///
    /// # Errors
    /// [`GuardError`] of the last attempt.
    pub async fn call<T, F, Fut>(&self, mut operation: F) -> Result<T, GuardError<E>>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let Some((retry, when)) = &self.retry else { return self.attempt(&mut operation).await };
        retry.pay_in();
        let mut retries = 0;
        loop {
            let error = match self.attempt(&mut operation).await {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            retries += 1;
            if retries >= retry.attempts_max() || error.is_rejection() || !when(&error) {
                return Err(error);
            }
            if !retry.pay_out() {
                self.breaker.metrics().retries_unpaid.inc();
                return Err(error);
            }
            let wiring = self.breaker.wiring();
            wiring.timer.sleep(retry.pause(retries, wiring.draw())).await;
            self.breaker.metrics().retries.inc();
        }
    }

    async fn attempt<T, Fut: Future<Output = Result<T, E>>>(
        &self,
        operation: &mut impl FnMut() -> Fut,
    ) -> Result<T, GuardError<E>> {
        let (permit, _inside) = self.enter().await?;
        let operation = operation();
        let result = match self.timeout {
            None => operation.await,
            Some(limit) => {
                let timer = &*self.breaker.wiring().timer;
                match within(timer, limit, operation).await {
                    Some(result) => result,
                    None => {
                        permit.finish(Verdict::Failure);
                        return Err(GuardError::TimedOut { after: limit });
                    }
                }
            }
        };
        let verdict =
            result.as_ref().err().map_or(Verdict::Success, |error| (self.classify)(error));
        permit.finish(verdict);
        result.map_err(GuardError::Inner)
    }

    /// All that an attempt needs before it may begin.
    async fn enter(&self) -> Result<(Permit, Option<Inside<'_>>), GuardError<E>> {
        let metrics = self.breaker.metrics();
        if self.limit.is_some() || self.bulkhead.is_some() {
            self.breaker.check().map_err(GuardError::Open)?;
        }
        if let Some(limit) = &self.limit {
            limit.turn().await.map_err(|limited| {
                metrics.rejected(Rejected::Limited);
                GuardError::Limited(limited)
            })?;
        }
        let inside = match &self.bulkhead {
            None => None,
            Some(bulkhead) => {
                let place = bulkhead.enter().await.map_err(|full| {
                    metrics.rejected(Rejected::Full);
                    GuardError::Full(full)
                })?;
                metrics.inside.inc();
                Some(Inside { inside: &metrics.inside, _place: place })
            }
        };
        Ok((self.breaker.admit().map_err(GuardError::Open)?, inside))
    }
}

/// A place in the bulkhead, and in its gauge.
struct Inside<'a> {
    inside: &'a prometheus::IntGauge,
    _place: Place,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.inside.dec();
    }
}

#[cfg(test)]
mod tests;
