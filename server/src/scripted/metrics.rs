//! The numbers of projections, for `/metrics`. There are at most [`PROJECTIONS_MAX`], so that each
//! has lines of its own.
//!
//! [`PROJECTIONS_MAX`]: super::PROJECTIONS_MAX

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, Opts};

use super::figures::{Figures, Status};
use super::spec::Spec;

/// Reads a number of a projection.
type Number = fn(&Figures, u64) -> f64;

#[expect(clippy::cast_precision_loss, reason = "the text format knows floating point only")]
const NUMBERS: [(&str, &str, Number); 6] = [
    ("daybook_script_running", "1 while the projection runs.", |figures, _| {
        f64::from(u8::from(figures.status == Status::Running))
    }),
    (
        "daybook_script_faulted",
        "1 if the projection's program failed: alert on it; its state says why.",
        |figures, _| f64::from(u8::from(figures.status == Status::Faulted)),
    ),
    (
        "daybook_script_lag_events",
        "Events of the log behind which the projection is; 0 when it is at the end of what it \
         follows.",
        |figures, committed| figures.lag(committed) as f64,
    ),
    (
        "daybook_script_handled_events",
        "Events the projection handled since it was started.",
        |figures, _| figures.handled as f64,
    ),
    (
        "daybook_script_written_events",
        "Events the projection wrote since it was started.",
        |figures, _| figures.written as f64,
    ),
    (
        "daybook_script_waiting",
        "1 while the projection waits for the store to take what it writes: alert on it.",
        |figures, _| {
            f64::from(u8::from(figures.status == Status::Running && !figures.reason.is_empty()))
        },
    ),
];

/// The families of all projections; none if there are none.
#[must_use]
pub fn families(all: &[(Spec, Figures)], committed: u64) -> Vec<MetricFamily> {
    // The text format has no family without a line.
    if all.is_empty() {
        return Vec::new();
    }
    let family = |(name, help, number): &(&str, &str, Number)| {
        let gauges = GaugeVec::new(Opts::new(*name, *help), &["projection"]).expect("a good name");
        for (spec, figures) in all {
            gauges.with_label_values(&[&spec.name]).set(number(figures, committed));
        }
        gauges.collect()
    };
    NUMBERS.iter().flat_map(family).collect()
}
