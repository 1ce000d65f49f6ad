//! The store's numbers.

use std::time::Duration;

use daybook_store::observe::Times;
use daybook_store::{Health, Stats};
use prometheus::proto::MetricFamily;

use super::families::{self, Labels};

/// What the store counts, and the state it is in.
pub(super) fn store_families(stats: &Stats, health: &Health) -> Vec<MetricFamily> {
    let outcomes: [(&Labels<'_>, u64); 5] = [
        (&[("outcome", "written")], stats.appends),
        (&[("outcome", "duplicate")], stats.duplicates),
        (&[("outcome", "rejected")], stats.rejections),
        (&[("outcome", "overloaded")], stats.overloads),
        (&[("outcome", "failed")], stats.failures),
    ];
    let state = match health {
        Health::Writable => "writable",
        Health::DiskFull { .. } => "disk_full",
        Health::ClockLeapt { .. } => "clock_leapt",
        Health::Poisoned { .. } => "poisoned",
        Health::Closed => "closed",
    };
    let read: [(&Labels<'_>, u64); 2] = [
        (&[("from", "memory")], stats.read_from_memory),
        (&[("from", "disk")], stats.read_from_disk),
    ];
    let states = ["writable", "disk_full", "clock_leapt", "poisoned", "closed"];
    let labels: Vec<[(&str, &str); 1]> = states.iter().map(|name| [("state", *name)]).collect();
    let in_state: Vec<(&Labels<'_>, u64)> =
        labels.iter().map(|label| (label.as_slice(), u64::from(label[0].1 == state))).collect();
    vec![
        families::counters("daybook_appends_total", "Appends by outcome.", &outcomes),
        families::gauges("daybook_store_state", "1 for the state the store is in.", &in_state),
        families::counter("daybook_events_written_total", "Events made durable.", stats.events),
        families::counter("daybook_bytes_written_total", "Bytes written to the log.", stats.bytes),
        families::counter(
            "daybook_batches_total",
            "Groups of appends made durable by one sync; appends / batches is the mean group.",
            stats.batches,
        ),
        families::counters(
            "daybook_events_read_total",
            "Events read for whomever, by where they were found.",
            &read,
        ),
        families::counter(
            "daybook_spare_failures_total",
            "Attempts to prepare the log's next segment that failed.",
            stats.spare_failures,
        ),
        families::gauge(
            "daybook_queue_depth",
            "Appends that wait for the writer.",
            stats.queue_depth,
        ),
        families::gauge("daybook_subscriptions", "Open subscriptions.", stats.subscriptions),
    ]
}

/// How large the store is.
pub(super) fn size_families(stats: &Stats) -> Vec<MetricFamily> {
    vec![
        families::gauge("daybook_committed_position", "Events in the log.", stats.committed),
        families::gauge("daybook_segments", "Segments of the log.", stats.segments),
        families::gauge("daybook_log_bytes", "Bytes of the log's segments.", stats.log_bytes),
        families::gauge("daybook_index_bytes", "Bytes of index files.", stats.index_bytes),
        families::gauge(
            "daybook_index_active_keys",
            "Keys of the active segment's index, held in memory.",
            stats.active_keys,
        ),
        families::gauge(
            "daybook_index_rebuilt",
            "Index files that had to be built when the store was opened.",
            stats.index_rebuilt,
        ),
        families::gauge(
            "daybook_disk_free_bytes",
            "Free bytes on the data volume.",
            stats.disk_free,
        ),
        families::float_gauge(
            "daybook_open_duration_seconds",
            "Seconds the store took to open, recovery included.",
            Duration::from_micros(stats.open_us).as_secs_f64(),
        ),
    ]
}

/// How long the steps of the write path take.
pub(super) fn time_families(times: &Times) -> Vec<MetricFamily> {
    vec![
        families::durations(
            "daybook_append_wait_seconds",
            "From an append's queueing to its group being written.",
            &times.wait,
        ),
        families::durations(
            "daybook_decide_seconds",
            "Deciding and encoding the appends that the writer took from its queue at once.",
            &times.decide,
        ),
        families::durations(
            "daybook_write_seconds",
            "Writing a group to its segment.",
            &times.write,
        ),
        families::durations(
            "daybook_sync_seconds",
            "fdatasync of the active segment.",
            &times.sync,
        ),
        families::durations(
            "daybook_index_seconds",
            "Indexing and publishing a group.",
            &times.index,
        ),
        families::numbers("daybook_batch_appends", "Appends of a group.", &times.group),
    ]
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn the_stores_numbers_become_text() {
        let stats = Stats { appends: 7, committed: 21, open_us: 1_500_000, ..Stats::default() };
        let mut families = store_families(&stats, &Health::DiskFull { reason: String::new() });
        families.extend(size_families(&stats));
        let text = TextEncoder::new().encode_to_string(&families).expect("text");
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
        for appends in [1, 3, 4_096] {
            times.group.add_number(appends);
        }
        let text = TextEncoder::new().encode_to_string(&time_families(&times)).expect("text");
        for line in [
            "daybook_sync_seconds_bucket{le=\"0.000025\"} 1",
            "daybook_sync_seconds_bucket{le=\"0.00005\"} 3",
            "daybook_sync_seconds_bucket{le=\"+Inf\"} 4",
            "daybook_sync_seconds_count 4",
            "daybook_append_wait_seconds_count 0",
            "daybook_batch_appends_bucket{le=\"2\"} 1",
            "daybook_batch_appends_bucket{le=\"4096\"} 3",
            "daybook_batch_appends_sum 4100",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
