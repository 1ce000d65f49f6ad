//! Metrics in Prometheus' text format.
//!
//! ```text
//!   requests, connections   counted here as they happen
//!   the store's numbers     read from `Store::stats` when asked: the writer knows no metrics
//!   the process' numbers    read from /proc when someone asks
//! ```
//!
//! INVARIANT: a label's values come from a fixed set of ours: routes, methods, status codes.

use std::time::Duration;

use daybook_projections::postgres::PoolStatus;
use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use super::families::{self, Labels};
use super::safeguards::Safeguards;
use super::security::SecurityMetrics;
use super::vault::VaultMetrics;
use super::{ledger, node, process, projections, store};
use crate::node::Context;
use crate::persistent::info::GroupInfo;
use crate::scripted::figures::Figures;
use crate::scripted::spec::Spec;

/// Upper bounds in seconds of the buckets of every duration: from a read in memory (0.1 ms) to
/// what a client gives up on (10 s).
pub const DURATION_BUCKETS: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// The node's own counters and histograms.
pub struct Metrics {
    registry: Registry,
    http_requests: IntCounterVec,
    http_duration: HistogramVec,
    grpc_calls: IntCounterVec,
    grpc_duration: HistogramVec,
    /// Calls and requests in progress.
    pub calls_open: IntGauge,
    /// Connections that are open.
    pub connections: IntGauge,
    /// Connections taken since the start.
    pub connections_total: IntCounter,
    /// Connections that could not be taken: the process has no file descriptor left, or the like.
    pub accept_errors: IntCounter,
    /// Connections cut because they did not speak in time.
    pub silent_connections: IntCounter,
    /// Bytes of memory that the process may take; 0 if nobody said.
    pub memory_limit: IntGauge,
    /// Backups, and checks of the books.
    pub safeguards: Safeguards,
    /// Who proved who they are, and how connections are protected.
    pub security: SecurityMetrics,
    /// What was asked of Vault.
    pub vault: VaultMetrics,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// All counters at zero.
    #[must_use]
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let r = &registry;
        let connections_total =
            counter(r, "daybook_connections_total", "Connections taken since the start.");
        let accept_errors = counter(
            r,
            "daybook_accept_errors_total",
            "Connections that could not be taken, for want of file descriptors or the like.",
        );
        let silent_connections = counter(
            r,
            "daybook_silent_connections_total",
            "Connections cut because they sent nothing that begins a request in time.",
        );
        Metrics {
            http_requests: counters(
                r,
                "daybook_http_requests_total",
                "HTTP requests by route and outcome.",
                &["route", "method", "status"],
            ),
            http_duration: durations(
                r,
                "daybook_http_request_duration_seconds",
                "Seconds from a request's head to the end of its answer, subscriptions left out.",
                &["route", "method"],
            ),
            grpc_calls: counters(
                r,
                "daybook_grpc_calls_total",
                "gRPC calls by method and status.",
                &["method", "status"],
            ),
            grpc_duration: durations(
                r,
                "daybook_grpc_call_duration_seconds",
                "Seconds from a call's head to its status; a subscription counts when it ends.",
                &["method"],
            ),
            calls_open: gauge(r, "daybook_calls_open", "Requests and calls in progress."),
            connections: gauge(r, "daybook_connections", "Open connections."),
            connections_total,
            accept_errors,
            silent_connections,
            memory_limit: gauge(
                r,
                "daybook_memory_limit_bytes",
                "Memory that the process may take: of its control group or the machine; 0 if \
                 unknown.",
            ),
            safeguards: Safeguards::new(r),
            security: SecurityMetrics::new(r),
            vault: VaultMetrics::new(r),
            registry,
        }
    }

    /// Counts one HTTP request. `route` is a route's pattern, never a path.
    pub fn http_request(&self, route: &str, method: &str, status: &str, took: Option<Duration>) {
        self.http_requests.with_label_values(&[route, method, status]).inc();
        if let Some(took) = took {
            self.http_duration.with_label_values(&[route, method]).observe(took.as_secs_f64());
        }
    }

    /// Counts one gRPC call. `method` is one that exists, as `package.Service/Method`.
    pub fn grpc_call(&self, method: &str, status: &str, took: Duration) {
        self.grpc_calls.with_label_values(&[method, status]).inc();
        self.grpc_duration.with_label_values(&[method]).observe(took.as_secs_f64());
    }

    /// How long requests took that write, as the rule `daybook_write_duration_seconds` counts them:
    /// the count of each bucket of [`DURATION_BUCKETS`], and of what is above all.
    #[must_use]
    pub fn writes_took(&self) -> [u64; DURATION_BUCKETS.len() + 1] {
        const APPEND: &str = "event_store.client.streams.Streams/Append";
        let of_writes = |labels: &[prometheus::proto::LabelPair]| {
            let value = |name: &str| {
                labels.iter().find(|label| label.name() == name).map_or("", |label| label.value())
            };
            let writes = ["/v1/streams", "/v1/accounts", "/v1/append"];
            let is_http = value("method") == "POST"
                && writes.iter().any(|route| value("route").starts_with(route));
            is_http || value("method") == APPEND
        };
        let families = [self.http_duration.collect(), self.grpc_duration.collect()];
        let mut counts = [0; DURATION_BUCKETS.len() + 1];
        for metric in families.iter().flatten().flat_map(|family| family.get_metric()) {
            if !of_writes(metric.get_label()) {
                continue;
            }
            let histogram = metric.get_histogram();
            let mut below = 0;
            for (count, bucket) in counts.iter_mut().zip(histogram.get_bucket()) {
                *count += bucket.cumulative_count() - below;
                below = bucket.cumulative_count();
            }
            counts[DURATION_BUCKETS.len()] += histogram.get_sample_count() - below;
        }
        counts
    }

    /// Registers what another room counts for itself.
    ///
    /// # Panics
    /// If a metric of that name exists: names are ours, so that is a mistake in this program.
    pub fn register(&self, collector: Box<dyn Collector>) {
        self.registry.register(collector).expect("metric names are unique");
    }

    /// Everything, as text.
    #[must_use]
    pub fn render(
        &self,
        context: &Context,
        groups: &[GroupInfo],
        scripted: &[(Spec, Figures)],
    ) -> String {
        let mut families = self.registry.gather();
        families.extend(node::node_families(context));
        families.extend(node::runtime_families());
        let store = context.works();
        let stats = store.stats();
        families.extend(store::store_families(&stats, &store.health()));
        families.extend(store::size_families(&stats));
        families.extend(store::time_families(store.times()));
        families.extend(ledger::families(context.ledger()));
        if let Some(read_side) = context.read_side() {
            let statuses = read_side.host().statuses();
            families.extend(projections::families(&statuses, context.clock().now()));
        }
        families.extend(crate::persistent::metrics::families(groups));
        families.extend(crate::scripted::metrics::families(scripted, store.committed().0));
        families.extend(process::families());
        families::text(families)
    }

    /// What was registered here and what the process has, as text: of a part that runs alone.
    #[must_use]
    pub fn render_process(&self) -> String {
        let mut families = self.registry.gather();
        families.extend(node::runtime_families());
        families.extend(process::families());
        families::text(families)
    }

    /// What a query front has, as text.
    #[must_use]
    pub fn render_front(&self, pool: PoolStatus) -> String {
        let used = pool.open.saturating_sub(pool.idle);
        let connections: [(&Labels<'_>, u64); 2] =
            [(&[("state", "idle")], pool.idle as u64), (&[("state", "used")], used as u64)];
        let mut families = self.registry.gather();
        families.push(families::gauges(
            "daybook_postgres_connections",
            "Connections to PostgreSQL that are open, for queries.",
            &connections,
        ));
        families.push(families::gauge(
            "daybook_postgres_waiting",
            "Queries that wait for a connection.",
            pool.waiting as u64,
        ));
        families.extend(process::families());
        families::text(families)
    }
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn durations(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    let options = HistogramOpts::new(name, help).buckets(DURATION_BUCKETS.to_vec());
    register(registry, HistogramVec::new(options, labels))
}

/// Has `registry` show what was made.
pub(super) fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> C {
    let metric = made.expect("metric names and labels are ours and valid");
    registry.register(Box::new(metric.clone())).expect("metric names are unique");
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route() {
        let metrics = Metrics::new();
        metrics.http_request("/v1/streams/{name}", "GET", "200", Some(Duration::from_millis(2)));
        metrics.grpc_call("a.B/C", "OK", Duration::from_millis(2));
        let text = families::text(metrics.registry.gather());
        assert!(text.contains(
            "daybook_http_requests_total\
             {method=\"GET\",route=\"/v1/streams/{name}\",status=\"200\"} 1"
        ));
        assert!(text.contains("daybook_grpc_calls_total{method=\"a.B/C\",status=\"OK\"} 1"));
        assert_eq!(metrics.writes_took(), [0; DURATION_BUCKETS.len() + 1], "nobody wrote");
        metrics.http_request("/v1/streams/{name}", "POST", "200", Some(Duration::from_millis(2)));
        metrics.http_request("/v1/streams/{name}", "POST", "200", Some(Duration::from_secs(60)));
        let append = "event_store.client.streams.Streams/Append";
        metrics.grpc_call(append, "OK", Duration::from_micros(1));
        let took = metrics.writes_took();
        assert_eq!((took[0], took[4], took[16], took.iter().sum::<u64>()), (1, 1, 1, 3));
    }
}
