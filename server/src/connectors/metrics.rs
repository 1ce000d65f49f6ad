//! The connectors' numbers, for `/metrics`.
//!
//! INVARIANT: the values of `connector` are the names in the configuration.

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntCounterVec, Opts};

use super::Running;

const LABEL: &[&str] = &["connector"];

/// Reads the connectors when somebody asks. Their breakers are counted where all breakers are, as
/// endpoints `connector_<name>`.
pub struct ConnectorMetrics {
    running: Running,
    lag_events: GaugeVec,
    lag_seconds: GaugeVec,
    position: GaugeVec,
    parked: GaugeVec,
    live: GaugeVec,
    delivered: IntCounterVec,
    parked_total: IntCounterVec,
    retries: IntCounterVec,
    /// One at a time: a counter is brought up to its number.
    asking: Mutex<()>,
}

impl ConnectorMetrics {
    /// The numbers of `running`.
    #[must_use]
    pub fn new(running: Running) -> ConnectorMetrics {
        let gauge = |name: &str, help: &str| {
            GaugeVec::new(Opts::new(name, help), LABEL).expect("the names are good ones")
        };
        let counter = |name: &str, help: &str| {
            IntCounterVec::new(Opts::new(name, help), LABEL).expect("the names are good ones")
        };
        ConnectorMetrics {
            running,
            lag_events: gauge(
                "daybook_connector_lag_events",
                "Positions of the log that the connector is not done with.",
            ),
            lag_seconds: gauge(
                "daybook_connector_lag_seconds",
                "Age of the last event the connector is done with; 0 if it is done with all.",
            ),
            position: gauge(
                "daybook_connector_position",
                "The last position that the connector is done with.",
            ),
            parked: gauge("daybook_connector_parked", "Messages that are parked now."),
            live: gauge(
                "daybook_connector_up",
                "1 if the connector relays, 0 if it is paused, stopped or tries again.",
            ),
            delivered: counter(
                "daybook_connector_delivered_total",
                "Messages that the receiver confirmed.",
            ),
            parked_total: counter("daybook_connector_parked_total", "Messages that were parked."),
            retries: counter("daybook_connector_retries_total", "Messages that were sent again."),
            asking: Mutex::new(()),
        }
    }

    fn gauges(&self) -> [&GaugeVec; 5] {
        [&self.lag_events, &self.lag_seconds, &self.position, &self.parked, &self.live]
    }

    fn counters(&self) -> [&IntCounterVec; 3] {
        [&self.delivered, &self.parked_total, &self.retries]
    }
}

impl Collector for ConnectorMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = self.gauges().into_iter().flat_map(|gauge| gauge.desc());
        gauges.chain(self.counters().into_iter().flat_map(|counter| counter.desc())).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        use daybook_projections::State;
        let _one = self.asking.lock();
        for status in self.running.status() {
            let up = matches!(status.state, State::Starting | State::CatchingUp | State::Live);
            let numbers = [
                Some(status.lag_events as f64),
                status.lag_seconds,
                Some(status.position.unwrap_or(0) as f64),
                Some(status.parked as f64),
                Some(f64::from(u8::from(up))),
            ];
            for (gauge, number) in self.gauges().into_iter().zip(numbers) {
                match number {
                    Some(number) => gauge.with_label_values(&[&status.name]).set(number),
                    // What is not known has no line; an error: it had none before.
                    None => drop(gauge.remove_label_values(&[&status.name])),
                }
            }
            let totals = [status.delivered, status.parked_total, status.retries];
            for (counter, total) in self.counters().into_iter().zip(totals) {
                let counter = counter.with_label_values(&[&status.name]);
                counter.inc_by(total.saturating_sub(counter.get()));
            }
        }
        let gauges = self.gauges().into_iter().flat_map(|gauge| gauge.collect());
        gauges.chain(self.counters().into_iter().flat_map(|counter| counter.collect())).collect()
    }
}
