//! The scavenges' numbers, for `/metrics`.

use daybook_store::scavenge::Scavenge;
use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge};

/// Reads them when somebody asks.
pub struct ScavengeMetrics {
    scavenge: Scavenge,
    running: IntGauge,
    bytes_left: IntGauge,
    passes: IntCounter,
    failures: IntCounter,
    segments: IntCounter,
    events: IntCounter,
    bytes: IntCounter,
    /// One at a time: a counter is brought up to its number.
    asking: Mutex<()>,
}

impl ScavengeMetrics {
    /// The numbers of `scavenge`.
    #[must_use]
    pub fn new(scavenge: Scavenge) -> ScavengeMetrics {
        let gauge = |name: &str, help: &str| IntGauge::new(name, help).expect("a good name");
        let counter = |name: &str, help: &str| IntCounter::new(name, help).expect("a good name");
        ScavengeMetrics {
            scavenge,
            running: gauge("daybook_scavenge_running", "1 while a scavenge is at work."),
            bytes_left: gauge(
                "daybook_scavenge_left_bytes",
                "Bytes of the segments that the scavenge at work is still to read.",
            ),
            passes: counter("daybook_scavenges_total", "Scavenges that ended."),
            failures: counter(
                "daybook_scavenge_failures_total",
                "Scavenges that could not go on; the next one tries again: alert if it grows.",
            ),
            segments: counter("daybook_scavenge_segments_total", "Segments that were rewritten."),
            events: counter("daybook_scavenge_events_total", "Events that were removed."),
            bytes: counter("daybook_scavenge_bytes_total", "Bytes that were given back."),
            asking: Mutex::new(()),
        }
    }
}

fn bring_up(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

impl Collector for ScavengeMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = [&self.running, &self.bytes_left].into_iter().flat_map(|gauge| gauge.desc());
        let counters = [&self.passes, &self.failures, &self.segments, &self.events, &self.bytes];
        gauges.chain(counters.into_iter().flat_map(|counter| counter.desc())).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _one_at_a_time = self.asking.lock();
        let status = self.scavenge.status();
        let left = status.running.as_ref().map_or(0, |running| running.bytes_left);
        self.running.set(i64::from(status.running.is_some()));
        self.bytes_left.set(i64::try_from(left).unwrap_or(i64::MAX));
        bring_up(&self.passes, status.passes);
        bring_up(&self.failures, status.failures);
        bring_up(&self.segments, status.segments);
        bring_up(&self.events, status.events);
        bring_up(&self.bytes, status.bytes);
        let gauges = [&self.running, &self.bytes_left];
        let counters = [&self.passes, &self.failures, &self.segments, &self.events, &self.bytes];
        let gauges = gauges.into_iter().flat_map(|gauge| gauge.collect());
        gauges.chain(counters.into_iter().flat_map(|counter| counter.collect())).collect()
    }
}
