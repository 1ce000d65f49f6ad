//! The numbers of archiving, for `/metrics`.

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge};

use super::Archiver;

/// Reads them when somebody asks.
pub struct ArchiveMetrics {
    archive: Archiver,
    position: IntGauge,
    last_success: IntGauge,
    rounds: IntCounter,
    failures: IntCounter,
    objects: IntCounter,
    bytes: IntCounter,
    /// One at a time: a counter is brought up to its number.
    asking: Mutex<()>,
}

impl ArchiveMetrics {
    /// The numbers of `archive`.
    #[must_use]
    pub fn new(archive: Archiver) -> ArchiveMetrics {
        let gauge = |name: &str, help: &str| IntGauge::new(name, help).expect("a good name");
        let counter = |name: &str, help: &str| IntCounter::new(name, help).expect("a good name");
        ArchiveMetrics {
            archive,
            position: gauge(
                "daybook_archive_position",
                "Events that are archived; 0 if nothing was archived since the start.",
            ),
            last_success: gauge(
                "daybook_archive_last_success_timestamp_seconds",
                "When the archive last had everything, in seconds since 1970; 0 if never since the \
                 start: alert on it.",
            ),
            rounds: counter("daybook_archive_rounds_total", "Rounds that archived everything."),
            failures: counter(
                "daybook_archive_failures_total",
                "Rounds of archiving that failed; each is tried again.",
            ),
            objects: counter("daybook_archive_objects_total", "Objects that were archived."),
            bytes: counter("daybook_archive_bytes_total", "Bytes of segments in them."),
            asking: Mutex::new(()),
        }
    }

    fn gauges(&self) -> [&IntGauge; 2] {
        [&self.position, &self.last_success]
    }

    fn counters(&self) -> [&IntCounter; 4] {
        [&self.rounds, &self.failures, &self.objects, &self.bytes]
    }
}

impl Collector for ArchiveMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = self.gauges().into_iter().flat_map(|gauge| gauge.desc());
        gauges.chain(self.counters().into_iter().flat_map(|counter| counter.desc())).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _one_at_a_time = self.asking.lock();
        let status = self.archive.status();
        let position = status.position.map_or(0, |position| position.0);
        self.position.set(i64::try_from(position).unwrap_or(i64::MAX));
        self.last_success.set(status.last_success.map_or(0, |time| time.0 / 1_000_000_000));
        let numbers = [status.rounds, status.failures, status.objects, status.bytes];
        for (counter, number) in self.counters().into_iter().zip(numbers) {
            counter.inc_by(number.saturating_sub(counter.get()));
        }
        let gauges = self.gauges().into_iter().flat_map(|gauge| gauge.collect());
        gauges.chain(self.counters().into_iter().flat_map(|counter| counter.collect())).collect()
    }
}
