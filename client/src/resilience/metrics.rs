//! The room's numbers, for Prometheus.
//!
//! INVARIANTS: the values of `endpoint` are names the program gives, of which a registry of
//! breakers has a bounded number; all other labels are words of ours. A call looks no label up: its
//! endpoint's counters are found when the breaker is made.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::state::{State, Verdict};

/// Upper bounds in seconds of the buckets of response times: from a cache on the same machine to
/// what a caller gives up on.
pub const DURATION_BUCKETS: [f64; 14] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// Why a call was not tried, as a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rejected {
    Open,
    Full,
    Limited,
}

/// The numbers of all endpoints. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    state: IntGaugeVec,
    calls: IntCounterVec,
    rejected: IntCounterVec,
    slow: IntCounterVec,
    late: IntCounterVec,
    transitions: IntCounterVec,
    durations: HistogramVec,
    inside: IntGaugeVec,
    retries: IntCounterVec,
    retries_unpaid: IntCounterVec,
}

impl Metrics {
    /// All at zero, and registered nowhere.
    #[must_use]
    pub fn new() -> Metrics {
        let durations = HistogramOpts::new(
            "daybook_guarded_call_duration_seconds",
            "Time of calls that were let through, however they ended.",
        );
        let durations = durations.buckets(DURATION_BUCKETS.to_vec());
        Metrics {
            state: gauge(
                "daybook_breaker_state",
                "0 closed, 1 open, 2 half-open, 3 forced open, 4 forced closed.",
            ),
            calls: counter(
                "daybook_guarded_calls_total",
                "Calls that were let through, by how they ended.",
                &["endpoint", "outcome"],
            ),
            rejected: counter(
                "daybook_guarded_calls_rejected_total",
                "Calls that were not tried: breaker open, bulkhead full, rate limited.",
                &["endpoint", "reason"],
            ),
            slow: counter(
                "daybook_guarded_calls_slow_total",
                "Calls that took as long as a slow one, however they ended.",
                &["endpoint"],
            ),
            late: counter(
                "daybook_breaker_late_outcomes_total",
                "Calls that ended after the breaker's state had changed, and did not count.",
                &["endpoint"],
            ),
            transitions: counter(
                "daybook_breaker_transitions_total",
                "Changes of the breaker's state.",
                &["endpoint", "from", "to"],
            ),
            durations: HistogramVec::new(durations, &["endpoint"]).expect("our names are valid"),
            inside: gauge("daybook_bulkhead_inside", "Calls that have a place in the bulkhead."),
            retries: counter(
                "daybook_retries_total",
                "Calls that were tried once more.",
                &["endpoint"],
            ),
            retries_unpaid: counter(
                "daybook_retries_unpaid_total",
                "Retries not made because the budget for retries was used up.",
                &["endpoint"],
            ),
        }
    }

    /// All of them, for a registry that is filled one by one.
    #[must_use]
    pub fn collectors(&self) -> [Box<dyn Collector>; 10] {
        let all = self.clone();
        [
            Box::new(all.state),
            Box::new(all.calls),
            Box::new(all.rejected),
            Box::new(all.slow),
            Box::new(all.late),
            Box::new(all.transitions),
            Box::new(all.durations),
            Box::new(all.inside),
            Box::new(all.retries),
            Box::new(all.retries_unpaid),
        ]
    }

    /// Has `registry` show them.
    ///
    /// # Errors
    /// One of their names is taken in it.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        self.collectors().into_iter().try_for_each(|collector| registry.register(collector))
    }

    /// The counters of `endpoint`.
    pub(super) fn endpoint(&self, endpoint: &str) -> EndpointMetrics {
        let rejected = |reason| self.rejected.with_label_values(&[endpoint, reason]);
        EndpointMetrics {
            state: self.state.with_label_values(&[endpoint]),
            calls: Verdict::ALL
                .map(|verdict| self.calls.with_label_values(&[endpoint, verdict.as_str()])),
            rejected: ["open", "full", "limited"].map(rejected),
            slow: self.slow.with_label_values(&[endpoint]),
            late: self.late.with_label_values(&[endpoint]),
            transitions: self.transitions.clone(),
            durations: self.durations.with_label_values(&[endpoint]),
            inside: self.inside.with_label_values(&[endpoint]),
            retries: self.retries.with_label_values(&[endpoint]),
            retries_unpaid: self.retries_unpaid.with_label_values(&[endpoint]),
        }
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

/// The counters of one endpoint.
#[derive(Debug)]
pub(super) struct EndpointMetrics {
    state: IntGauge,
    calls: [IntCounter; Verdict::ALL.len()],
    rejected: [IntCounter; 3],
    pub(super) slow: IntCounter,
    pub(super) late: IntCounter,
    transitions: IntCounterVec,
    durations: Histogram,
    pub(super) inside: IntGauge,
    pub(super) retries: IntCounter,
    pub(super) retries_unpaid: IntCounter,
}

impl EndpointMetrics {
    pub(super) fn ended(&self, verdict: Verdict, took: Duration) {
        self.calls[verdict as usize].inc();
        self.durations.observe(took.as_secs_f64());
    }

    pub(super) fn rejected(&self, reason: Rejected) {
        self.rejected[reason as usize].inc();
    }

    pub(super) fn changed(&self, endpoint: &str, from: State, to: State) {
        self.state.set(to as i64);
        self.transitions.with_label_values(&[endpoint, from.as_str(), to.as_str()]).inc();
    }
}

fn counter(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect("our names are valid")
}

fn gauge(name: &str, help: &str) -> IntGaugeVec {
    IntGaugeVec::new(Opts::new(name, help), &["endpoint"]).expect("our names are valid")
}
