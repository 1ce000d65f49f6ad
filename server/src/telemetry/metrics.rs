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
use daybook_store::observe::{BUCKETS_US, Histogram, Times};
use daybook_store::{Health, Stats};
use prometheus::core::Collector;
use prometheus::proto::{Bucket, Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use crate::ledger::metrics::Numbers;
use crate::node::Context;
use crate::persistent::info::GroupInfo;
use crate::telemetry::{process, projections};

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

    /// Registers what another room counts for itself.
    ///
    /// # Panics
    /// If a metric of that name exists: names are ours, so that is a mistake in this program.
    pub fn register(&self, collector: Box<dyn Collector>) {
        self.registry.register(collector).expect("metric names are unique");
    }

    /// Everything, as text.
    #[must_use]
    pub fn render(&self, context: &Context, groups: &[GroupInfo]) -> String {
        let mut families = self.registry.gather();
        families.extend(node_families(context));
        families.extend(store_families(&context.store().stats(), &context.store().health()));
        families.extend(time_families(context.store().times()));
        let ledger = context.ledger();
        families.extend(ledger_families(&ledger.numbers()));
        families.push(histogram(
            "daybook_transfer_duration_seconds",
            "From a transfer's request to its end.",
            ledger.transfer_durations(),
        ));
        if let Some(read_side) = context.read_side() {
            let statuses = read_side.host().statuses();
            families.extend(projections::families(&statuses, context.clock().now()));
        }
        families.extend(crate::persistent::metrics::families(groups));
        families.extend(process_families());
        // Families are named by us and the buffer is a string: encoding cannot fail.
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }

    /// What was registered here and what the process has, as text: of a part that runs alone.
    #[must_use]
    pub fn render_process(&self) -> String {
        let mut families = self.registry.gather();
        families.extend(process_families());
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }

    /// What a query front has, as text.
    #[must_use]
    pub fn render_front(&self, pool: PoolStatus) -> String {
        let used = pool.open.saturating_sub(pool.idle);
        let connections: [(&Labels<'_>, u64); 2] =
            [(&[("state", "idle")], pool.idle as u64), (&[("state", "used")], used as u64)];
        let mut families = self.registry.gather();
        families.push(family(
            "daybook_postgres_connections",
            "Connections to PostgreSQL that are open, for queries.",
            &connections,
            false,
        ));
        families.push(one_gauge(
            "daybook_postgres_waiting",
            "Queries that wait for a connection.",
            pool.waiting as u64,
        ));
        families.extend(process_families());
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
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

fn register<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let metric = made.expect("metric names and labels are ours and valid");
    registry.register(Box::new(metric.clone())).expect("metric names are unique");
    metric
}

fn node_families(context: &Context) -> Vec<MetricFamily> {
    let about = context.about();
    let epoch = about.epoch.to_string();
    let format = about.format.to_string();
    let store = about.store_id.to_string();
    let labels = [
        ("version", crate::VERSION),
        ("store", store.as_str()),
        ("epoch", epoch.as_str()),
        ("format", format.as_str()),
    ];
    let started = context.started().0 / 1_000_000_000;
    vec![
        family("daybook_build_info", "What runs here; always 1.", &[(&labels, 1)], false),
        one_gauge(
            "daybook_start_time_seconds",
            "When the node started, in seconds since 1970.",
            u64::try_from(started).unwrap_or(0),
        ),
        one_gauge(
            "daybook_ready",
            "Whether the node answers /health/ready with 200.",
            u64::from(context.not_ready().is_empty()),
        ),
        one_gauge(
            "daybook_endless_calls",
            "Calls without an end of their own: subscriptions, streams of batches.",
            context.endless_calls() as u64,
        ),
    ]
}

fn store_families(stats: &Stats, health: &Health) -> Vec<MetricFamily> {
    let outcomes: [(&Labels<'_>, u64); 4] = [
        (&[("outcome", "written")], stats.appends),
        (&[("outcome", "duplicate")], stats.duplicates),
        (&[("outcome", "rejected")], stats.rejections),
        (&[("outcome", "overloaded")], stats.overloads),
    ];
    let state = match health {
        Health::Writable => "writable",
        Health::DiskFull => "disk_full",
        Health::ClockLeapt { .. } => "clock_leapt",
        Health::Poisoned { .. } => "poisoned",
        Health::Closed => "closed",
    };
    let states = ["writable", "disk_full", "clock_leapt", "poisoned", "closed"];
    let labels: Vec<[(&str, &str); 1]> = states.iter().map(|name| [("state", *name)]).collect();
    let in_state: Vec<(&Labels<'_>, u64)> =
        labels.iter().map(|label| (label.as_slice(), u64::from(label[0].1 == state))).collect();
    vec![
        family("daybook_appends_total", "Appends by outcome.", &outcomes, true),
        family("daybook_store_state", "1 for the state the store is in.", &in_state, false),
        one_counter("daybook_events_written_total", "Events made durable.", stats.events),
        one_counter("daybook_bytes_written_total", "Bytes written to the log.", stats.bytes),
        one_counter(
            "daybook_batches_total",
            "Groups of appends made durable by one sync; appends / batches is the mean group.",
            stats.batches,
        ),
        one_gauge("daybook_queue_depth", "Appends that wait for the writer.", stats.queue_depth),
        one_gauge("daybook_committed_position", "Events in the log.", stats.committed),
        one_gauge("daybook_segments", "Segments of the log.", stats.segments),
        one_gauge("daybook_log_bytes", "Bytes of the log's segments.", stats.log_bytes),
        one_gauge("daybook_index_bytes", "Bytes of index files.", stats.index_bytes),
        one_gauge(
            "daybook_index_active_keys",
            "Keys of the active segment's index, held in memory.",
            stats.active_keys,
        ),
        one_gauge(
            "daybook_index_rebuilt",
            "Index files that had to be built when the store was opened.",
            stats.index_rebuilt,
        ),
        one_gauge("daybook_subscriptions", "Open subscriptions.", stats.subscriptions),
        one_gauge("daybook_disk_free_bytes", "Free bytes on the data volume.", stats.disk_free),
        float_gauge(
            "daybook_open_duration_seconds",
            "Seconds the store took to open, recovery included.",
            Duration::from_micros(stats.open_us).as_secs_f64(),
        ),
    ]
}

fn ledger_families(numbers: &Numbers) -> Vec<MetricFamily> {
    let ended: [(&Labels<'_>, u64); 3] = [
        (&[("state", "completed")], numbers.completed),
        (&[("state", "compensated")], numbers.compensated),
        (&[("state", "failed")], numbers.failed),
    ];
    let found: [(&Labels<'_>, u64); 2] =
        [(&[("found", "memory")], numbers.cache_hits), (&[("found", "log")], numbers.cache_loads)];
    vec![
        one_counter("daybook_transfers_started_total", "Transfers begun.", numbers.started),
        family(
            "daybook_transfers_ended_total",
            "Transfers that came to rest, by state; failed ones may have been resumed since.",
            &ended,
            true,
        ),
        one_gauge(
            "daybook_transfers_unfinished",
            "Transfers that are under way.",
            numbers.under_way,
        ),
        one_gauge(
            "daybook_transfers_failed",
            "Transfers that failed and wait for somebody to resume or abandon them: alert on it.",
            numbers.waiting_failed,
        ),
        one_counter(
            "daybook_transfer_retries_total",
            "Attempts at a transfer's step that failed and were repeated.",
            numbers.retries,
        ),
        one_counter(
            "daybook_account_commands_total",
            "Commands on accounts, those of transfers included.",
            numbers.commands,
        ),
        one_counter(
            "daybook_account_batches_total",
            "Appends that these were done in; commands / batches is the mean batch.",
            numbers.batches,
        ),
        one_counter(
            "daybook_account_conflicts_total",
            "Batches that were decided again because others wrote the account first.",
            numbers.conflicts,
        ),
        one_counter(
            "daybook_account_repeats_total",
            "Commands recognised as repetitions by their transaction id.",
            numbers.repeats,
        ),
        family(
            "daybook_account_states_total",
            "States of accounts that were needed, by where they were found.",
            &found,
            true,
        ),
    ]
}

fn time_families(times: &Times) -> Vec<MetricFamily> {
    vec![
        histogram(
            "daybook_append_wait_seconds",
            "From an append's queueing to its group being written.",
            &times.wait,
        ),
        histogram("daybook_write_seconds", "Writing a group to its segment.", &times.write),
        histogram("daybook_sync_seconds", "fdatasync of the active segment.", &times.sync),
        histogram("daybook_index_seconds", "Indexing and publishing a group.", &times.index),
    ]
}

fn histogram(name: &str, help: &str, counted: &Histogram) -> MetricFamily {
    let (counts, sum_us) = counted.snapshot();
    let mut cumulative = 0;
    let buckets = BUCKETS_US.iter().zip(counts).map(|(bound, count)| {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(Duration::from_micros(*bound).as_secs_f64());
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    let mut shown = prometheus::proto::Histogram::default();
    shown.set_bucket(buckets.collect());
    shown.set_sample_count(counts.iter().sum());
    shown.set_sample_sum(Duration::from_micros(sum_us).as_secs_f64());
    let mut metric = Metric::default();
    metric.set_histogram(shown);
    let mut family = empty(name, help, MetricType::HISTOGRAM);
    family.set_metric(vec![metric]);
    family
}

fn process_families() -> Vec<MetricFamily> {
    let Some(process) = process::read() else { return Vec::new() };
    let mut cpu = Counter::default();
    cpu.set_value(process.cpu_seconds);
    let mut cpu_metric = Metric::default();
    cpu_metric.set_counter(cpu);
    let mut families = vec![
        empty("process_cpu_seconds_total", "Processor time used.", MetricType::COUNTER),
        one_gauge("process_resident_memory_bytes", "Resident memory.", process.resident_bytes),
        one_gauge("process_virtual_memory_bytes", "Address space.", process.virtual_bytes),
        one_gauge("process_threads", "Threads.", process.threads),
        one_gauge("process_open_fds", "Open files and sockets.", process.open_files),
    ];
    families[0].set_metric(vec![cpu_metric]);
    if let Some(most) = process.open_files_max {
        families.push(one_gauge("process_max_fds", "Files and sockets that may be open.", most));
    }
    families
}

type Labels<'a> = [(&'a str, &'a str)];

#[expect(clippy::cast_precision_loss, reason = "the text format knows floating point only")]
fn family(name: &str, help: &str, values: &[(&Labels<'_>, u64)], counts: bool) -> MetricFamily {
    let kind = if counts { MetricType::COUNTER } else { MetricType::GAUGE };
    let mut family = empty(name, help, kind);
    let metrics = values.iter().map(|(labels, value)| {
        let mut metric = Metric::default();
        metric.set_label(labels.iter().map(pair).collect());
        if counts {
            let mut counter = Counter::default();
            counter.set_value(*value as f64);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(*value as f64);
            metric.set_gauge(gauge);
        }
        metric
    });
    family.set_metric(metrics.collect());
    family
}

fn pair((name, value): &(&str, &str)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name((*name).to_owned());
    pair.set_value((*value).to_owned());
    pair
}

fn one_counter(name: &str, help: &str, value: u64) -> MetricFamily {
    family(name, help, &[(&[], value)], true)
}

fn one_gauge(name: &str, help: &str, value: u64) -> MetricFamily {
    family(name, help, &[(&[], value)], false)
}

fn float_gauge(name: &str, help: &str, value: f64) -> MetricFamily {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::default();
    metric.set_gauge(gauge);
    let mut family = empty(name, help, MetricType::GAUGE);
    family.set_metric(vec![metric]);
    family
}

fn empty(name: &str, help: &str, kind: MetricType) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stores_numbers_become_text() {
        let stats = Stats { appends: 7, committed: 21, open_us: 1_500_000, ..Stats::default() };
        let text = TextEncoder::new()
            .encode_to_string(&store_families(&stats, &Health::DiskFull))
            .expect("text");
        for line in [
            "# TYPE daybook_appends_total counter",
            "daybook_appends_total{outcome=\"written\"} 7",
            "daybook_committed_position 21",
            "daybook_store_state{state=\"disk_full\"} 1",
            "daybook_store_state{state=\"writable\"} 0",
            "daybook_open_duration_seconds 1.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn a_histogram_counts_cumulatively() {
        let times = Times::default();
        for us in [10, 30, 30, 99_000_000] {
            times.sync.add(Duration::from_micros(us));
        }
        let text = TextEncoder::new().encode_to_string(&time_families(&times)).expect("text");
        for line in [
            "daybook_sync_seconds_bucket{le=\"0.000025\"} 1",
            "daybook_sync_seconds_bucket{le=\"0.00005\"} 3",
            "daybook_sync_seconds_bucket{le=\"+Inf\"} 4",
            "daybook_sync_seconds_count 4",
            "daybook_append_wait_seconds_count 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn requests_are_counted_by_route() {
        let metrics = Metrics::new();
        metrics.http_request("/v1/streams/{name}", "GET", "200", Some(Duration::from_millis(2)));
        metrics.grpc_call("a.B/C", "OK", Duration::from_millis(2));
        let text = TextEncoder::new().encode_to_string(&metrics.registry.gather()).expect("text");
        assert!(text.contains(
            "daybook_http_requests_total\
             {method=\"GET\",route=\"/v1/streams/{name}\",status=\"200\"} 1"
        ));
        assert!(text.contains("daybook_grpc_calls_total{method=\"a.B/C\",status=\"OK\"} 1"));
    }
}
