//! What runs here, whether it is ready, and what the runtime it runs on has to do.

use std::time::Duration;

use prometheus::proto::MetricFamily;
use tokio::runtime::Handle;

use super::families;
use crate::node::Context;

/// What identifies the node, and its readiness.
pub(super) fn node_families(context: &Context) -> Vec<MetricFamily> {
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
        families::gauges("daybook_build_info", "What runs here; always 1.", &[(&labels, 1)]),
        families::gauge(
            "daybook_start_time_seconds",
            "When the node started, in seconds since 1970.",
            u64::try_from(started).unwrap_or(0),
        ),
        families::gauge(
            "daybook_ready",
            "Whether the node answers /health/ready with 200.",
            u64::from(context.not_ready().is_empty()),
        ),
        families::gauge(
            "daybook_endless_calls",
            "Calls without an end of their own: subscriptions, streams of batches.",
            context.endless_calls() as u64,
        ),
    ]
}

/// The runtime that serves requests; none outside of one.
#[must_use]
pub(super) fn runtime_families() -> Vec<MetricFamily> {
    let Ok(handle) = Handle::try_current() else { return Vec::new() };
    let runtime = handle.metrics();
    let workers = runtime.num_workers();
    let busy = (0..workers).map(|worker| runtime.worker_total_busy_duration(worker));
    vec![
        families::gauge("daybook_runtime_workers", "Threads that serve requests.", workers as u64),
        families::gauge(
            "daybook_runtime_tasks",
            "Tasks that these threads have in hand.",
            runtime.num_alive_tasks() as u64,
        ),
        families::gauge(
            "daybook_runtime_queue_depth",
            "Tasks that wait for any of these threads.",
            runtime.global_queue_depth() as u64,
        ),
        families::float_counter(
            "daybook_runtime_busy_seconds_total",
            "How long these threads were busy, all together.",
            busy.sum::<Duration>().as_secs_f64(),
        ),
    ]
}
