//! What stands before a receiver that is somebody else's service: breaker, bulkhead, timeout.
//!
//! Trying again is the relay's: it must keep the order of a stream's messages, and wait as long as
//! the receiver asks for. So a guard here repeats no call.

use std::time::Duration;

use daybook_client::resilience::{
    BreakerSettings, Bulkhead, BulkheadSettings, CircuitBreaker, Guard, GuardError, Wiring,
};

use super::section::{ConfigError, Section};
use super::sink::{Outcome, SinkStopped};

/// Time one call may take unless the configuration says otherwise.
const TIMEOUT_DEFAULT_MS: u64 = 10_000;
/// The longest time one call may be given: it bounds what a pause waits for.
const TIMEOUT_MAX_MS: u64 = 120_000;
/// Calls of one receiver at a time.
pub const CONCURRENCY_MAX: u64 = 64;

/// How a receiver's calls are guarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardSettings {
    /// Time each call may take.
    pub timeout: Duration,
    /// When calls are let through.
    pub breaker: BreakerSettings,
}

/// Why a call of a receiver failed; all such failures count against it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct SendError {
    /// What happened.
    pub reason: String,
    /// When to try again, if the receiver says so.
    pub retry_after: Option<Duration>,
}

impl SendError {
    /// A failure of which nobody said when to try again.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> SendError {
        SendError { reason: reason.into(), retry_after: None }
    }
}

/// Stands before one receiver.
pub type SinkGuard = Guard<SendError>;

impl GuardSettings {
    /// Reads `timeout_ms` and `[connector.breaker]`.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(section: &mut Section<'_>) -> Result<GuardSettings, ConfigError> {
        let timeout = section.number("timeout_ms", 1..=TIMEOUT_MAX_MS, TIMEOUT_DEFAULT_MS)?;
        let mut own = section.section("breaker")?;
        let defaults = BreakerSettings::default();
        let percent = |number: Option<u32>| u64::from(number.unwrap_or(100));
        let failures = own.number("failures", 1..=10_000, 5)?;
        let failure_percent =
            own.number("failure_percent", 1..=100, percent(defaults.failure_percent))?;
        let slow_percent = own.number("slow_percent", 1..=100, percent(defaults.slow_percent))?;
        let slow = own.number("slow_ms", 1..=TIMEOUT_MAX_MS, millis(defaults.slow_after))?;
        let open = own.number("open_ms", 1..=3_600_000, 1000)?;
        let open_max = own.number("open_max_ms", open..=86_400_000, open.max(60_000))?;
        let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let breaker = BreakerSettings {
            failures_in_a_row: Some(number(failures)),
            failure_percent: Some(number(failure_percent)),
            slow_percent: Some(number(slow_percent)),
            slow_after: Duration::from_millis(slow),
            open_first: Duration::from_millis(open),
            open_max: Duration::from_millis(open_max),
            ..defaults
        };
        breaker.check().map_err(|error| own.wrong(error.name, error.rule))?;
        own.finish()?;
        Ok(GuardSettings { timeout: Duration::from_millis(timeout), breaker })
    }

    /// The guard of `endpoint`, with room for `concurrency` calls at a time.
    ///
    /// # Errors
    /// [`SinkStopped`] if the settings contradict each other.
    pub fn build(
        &self,
        endpoint: &str,
        concurrency: u32,
        wiring: &Wiring,
    ) -> Result<SinkGuard, SinkStopped> {
        let stopped = |error: &dyn std::fmt::Display| SinkStopped { reason: error.to_string() };
        // A connector is the only caller of its receiver and never asks for more than its places,
        // but for a parked message that a person sends again meanwhile.
        let room = BulkheadSettings {
            inside_max: concurrency.max(1),
            waiting_max: concurrency.max(1),
            wait_max: self.timeout,
        };
        let bulkhead = Bulkhead::new(room, wiring.timer.clone()).map_err(|e| stopped(&e))?;
        let breaker = CircuitBreaker::new(endpoint, self.breaker.clone(), wiring.clone())
            .map_err(|e| stopped(&e))?;
        Ok(Guard::new(breaker).bulkhead(bulkhead).timeout(self.timeout))
    }
}

/// What a guarded call that has no result means for its messages.
#[must_use]
pub fn failed(error: &GuardError<SendError>) -> Outcome {
    let reason = error.to_string();
    match error {
        GuardError::Inner(error) => Outcome::Failed { reason, retry_after: error.retry_after },
        GuardError::TimedOut { .. } => Outcome::failed(reason),
        _ => Outcome::NotTried { reason },
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
