//! Families of metrics, made of numbers that somebody else keeps.
//!
//! INVARIANT: names are given here by the program, and never twice in one page.

use std::time::Duration;

use daybook_store::observe::Histogram;
use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType, Summary,
};

/// A page of Prometheus' text format. A family of which nothing is known yet has no line and is left
/// out: for a page with such a one the encoder gives nothing at all.
pub(super) fn text(mut families: Vec<MetricFamily>) -> String {
    families.retain(|family| !family.get_metric().is_empty());
    // Each has a name and the buffer is a string: encoding cannot fail.
    TextEncoder::new().encode_to_string(&families).unwrap_or_default()
}

/// Names and values.
pub(super) type Labels<'a> = [(&'a str, &'a str)];

/// A gauge without labels.
pub(super) fn gauge(name: &str, help: &str, value: u64) -> MetricFamily {
    gauges(name, help, &[(&[], value)])
}

/// A counter without labels.
pub(super) fn counter(name: &str, help: &str, value: u64) -> MetricFamily {
    counters(name, help, &[(&[], value)])
}

/// A gauge with labels.
pub(super) fn gauges(name: &str, help: &str, values: &[(&Labels<'_>, u64)]) -> MetricFamily {
    family(name, help, MetricType::GAUGE, values)
}

/// A counter with labels.
pub(super) fn counters(name: &str, help: &str, values: &[(&Labels<'_>, u64)]) -> MetricFamily {
    family(name, help, MetricType::COUNTER, values)
}

#[expect(clippy::cast_precision_loss, reason = "the text format knows floating point only")]
fn family(name: &str, help: &str, kind: MetricType, values: &[(&Labels<'_>, u64)]) -> MetricFamily {
    let mut family = empty(name, help, kind);
    let metrics = values.iter().map(|(labels, value)| number(kind, labels, *value as f64));
    family.set_metric(metrics.collect());
    family
}

/// A gauge of a fraction.
pub(super) fn float_gauge(name: &str, help: &str, value: f64) -> MetricFamily {
    let mut family = empty(name, help, MetricType::GAUGE);
    family.set_metric(vec![number(MetricType::GAUGE, &[], value)]);
    family
}

/// A counter of a fraction.
pub(super) fn float_counter(name: &str, help: &str, value: f64) -> MetricFamily {
    let mut family = empty(name, help, MetricType::COUNTER);
    family.set_metric(vec![number(MetricType::COUNTER, &[], value)]);
    family
}

/// A histogram of durations.
pub(super) fn durations(name: &str, help: &str, counted: &Histogram) -> MetricFamily {
    histogram(name, help, counted, |us| Duration::from_micros(us).as_secs_f64())
}

/// A histogram of whole numbers.
#[expect(clippy::cast_precision_loss, reason = "the text format knows floating point only")]
pub(super) fn numbers(name: &str, help: &str, counted: &Histogram) -> MetricFamily {
    histogram(name, help, counted, |number| number as f64)
}

fn histogram(
    name: &str,
    help: &str,
    counted: &Histogram,
    shown_as: fn(u64) -> f64,
) -> MetricFamily {
    let (counts, sum) = counted.snapshot();
    let mut cumulative = 0;
    let buckets = counted.bounds().iter().zip(counts).map(|(bound, count)| {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(shown_as(*bound));
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    let mut shown = prometheus::proto::Histogram::default();
    shown.set_bucket(buckets.collect());
    shown.set_sample_count(counts.iter().sum());
    shown.set_sample_sum(shown_as(sum));
    let mut metric = Metric::default();
    metric.set_histogram(shown);
    let mut family = empty(name, help, MetricType::HISTOGRAM);
    family.set_metric(vec![metric]);
    family
}

/// How many there were, and how long they took together: a summary without quantiles.
pub(super) fn totals(
    name: &str,
    help: &str,
    values: &[(&Labels<'_>, u64, Duration)],
) -> MetricFamily {
    let mut family = empty(name, help, MetricType::SUMMARY);
    let metrics = values.iter().map(|(labels, count, sum)| {
        let mut summary = Summary::default();
        summary.set_sample_count(*count);
        summary.set_sample_sum(sum.as_secs_f64());
        let mut metric = labelled(labels);
        metric.set_summary(summary);
        metric
    });
    family.set_metric(metrics.collect());
    family
}

fn number(kind: MetricType, labels: &Labels<'_>, value: f64) -> Metric {
    let mut metric = labelled(labels);
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

fn labelled(labels: &Labels<'_>) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    let mut metric = Metric::default();
    metric.set_label(pairs.collect());
    metric
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
    fn what_is_not_known_yet_hides_nothing_else() {
        let families = vec![gauges("unknown", "Nobody has told.", &[]), gauge("known", "Is.", 7)];
        assert_eq!(text(families), "# HELP known Is.\n# TYPE known gauge\nknown 7\n");
    }
}
