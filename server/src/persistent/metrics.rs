//! The numbers of groups, for `/metrics`.
//!
//! INVARIANT: at most [`LABELLED_MAX`] groups have lines of their own; the others are one line of
//! their sum (of ages: of the oldest), labelled `other`. Clients name groups, so that a flood of them
//! must not become a flood of series.

use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::info::GroupInfo;

/// Groups with lines of their own, the first by name.
pub const LABELLED_MAX: usize = 100;
/// What stands for the stream and the group of all others.
const OTHER: &str = "other";

/// How lines of many groups become one.
#[derive(Clone, Copy)]
enum Together {
    Sum,
    Most,
}

/// A number of each group.
struct Number {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    together: Together,
    of: fn(&GroupInfo) -> Option<f64>,
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    of: fn(&GroupInfo) -> Option<f64>,
) -> Number {
    Number { name, help, kind: MetricType::GAUGE, together: Together::Sum, of }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    of: fn(&GroupInfo) -> Option<f64>,
) -> Number {
    Number { name, help, kind: MetricType::COUNTER, together: Together::Sum, of }
}

#[expect(clippy::cast_precision_loss, reason = "the text format knows floating point only")]
const NUMBERS: [Number; 11] = [
    gauge("daybook_persistent_connections", "Consumers that are connected.", |info| {
        Some(info.consumers.len() as f64)
    }),
    gauge("daybook_persistent_in_flight", "Messages that consumers have.", |info| {
        Some(info.in_flight as f64)
    }),
    gauge("daybook_persistent_parked", "Messages that are parked: alert on it.", |info| {
        Some(info.parked as f64)
    }),
    Number {
        name: "daybook_persistent_oldest_unacknowledged_seconds",
        help: "For how long the oldest message that is not settled has waited, with a consumer or \
               for one: alert on it.",
        kind: MetricType::GAUGE,
        together: Together::Most,
        of: |info| Some(info.oldest_seconds),
    },
    Number {
        name: "daybook_persistent_lag_events",
        help: "Events of the source that the group is not done with.",
        kind: MetricType::GAUGE,
        together: Together::Most,
        of: |info| Some(info.lag() as f64),
    },
    Number {
        name: "daybook_persistent_checkpoint",
        help: "The revision, or position, of the last checkpoint.",
        kind: MetricType::GAUGE,
        together: Together::Most,
        of: |info| info.checkpoint_number.map(|number| number as f64),
    },
    gauge(
        "daybook_persistent_troubled",
        "1 if the group cannot read, write or park, or could not be loaded: alert on it.",
        |info| Some(f64::from(u8::from(info.status.trouble.is_some()))),
    ),
    counter("daybook_persistent_processed_total", "Messages settled.", |info| {
        Some(info.counters.settled as f64)
    }),
    counter(
        "daybook_persistent_retried_total",
        "Messages sent again because they failed or took too long.",
        |info| Some(info.counters.retried as f64),
    ),
    counter(
        "daybook_persistent_parked_by_client_total",
        "Messages parked because a consumer asked for it.",
        |info| Some(info.counters.parked_by_client as f64),
    ),
    counter(
        "daybook_persistent_parked_by_retries_total",
        "Messages parked because they were sent as often as they may.",
        |info| Some(info.counters.parked_by_retries as f64),
    ),
];

/// The families of all groups; none if there are none.
#[must_use]
pub fn families(infos: &[GroupInfo]) -> Vec<MetricFamily> {
    if infos.is_empty() {
        return Vec::new();
    }
    // The text format has no family without a line.
    let families = NUMBERS.iter().map(|number| family(number, infos));
    families.filter(|family| !family.get_metric().is_empty()).collect()
}

fn family(number: &Number, infos: &[GroupInfo]) -> MetricFamily {
    let (own, others) = infos.split_at(infos.len().min(LABELLED_MAX));
    let mut metrics: Vec<Metric> = own
        .iter()
        .filter_map(|info| {
            let key = &info.definition.key;
            let value = (number.of)(info)?;
            Some(metric(number.kind, (key.source.name(), &key.group), value))
        })
        .collect();
    let values = others.iter().filter_map(number.of);
    let together = match number.together {
        Together::Sum => values.reduce(|a, b| a + b),
        Together::Most => values.reduce(f64::max),
    };
    metrics.extend(together.map(|value| metric(number.kind, (OTHER, OTHER), value)));
    let mut family = MetricFamily::default();
    family.set_name(number.name.to_owned());
    family.set_help(number.help.to_owned());
    family.set_field_type(number.kind);
    family.set_metric(metrics);
    family
}

fn metric(kind: MetricType, (stream, group): (&str, &str), value: f64) -> Metric {
    let label = |name: &str, value: &str| {
        let mut label = LabelPair::default();
        label.set_name(name.to_owned());
        label.set_value(value.to_owned());
        label
    };
    let mut metric = Metric::default();
    metric.set_label(vec![label("stream", stream), label("group", group)]);
    match kind {
        MetricType::COUNTER => {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
        _ => {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
    }
    metric
}

#[cfg(test)]
mod tests {
    use daybook_store::persistent::Settings;
    use prometheus::TextEncoder;

    use super::super::definition::{Definition, Start};
    use super::super::key::{GroupKey, Source};
    use super::*;

    fn info(group: usize) -> GroupInfo {
        let key = GroupKey { source: Source::All, group: format!("g-{group}") };
        let definition = Definition {
            key,
            settings: Settings::default(),
            resolve_links: false,
            extra_statistics: false,
            start: Start::First,
            begins_at: 0,
            filter: None,
        };
        let mut info = GroupInfo::not_ready(definition, "why".to_owned());
        info.oldest_seconds = group as f64;
        info
    }

    #[test]
    fn many_groups_have_few_lines() {
        let infos: Vec<_> = (0..LABELLED_MAX + 5).map(info).collect();
        for family in families(&infos) {
            let lines = family.get_metric();
            assert!(lines.len() <= LABELLED_MAX + 1);
            let last = lines.last().map(|line| line.get_gauge().get_value());
            match family.name() {
                "daybook_persistent_oldest_unacknowledged_seconds" => {
                    assert_eq!(last, Some((LABELLED_MAX + 4) as f64), "the oldest");
                }
                "daybook_persistent_troubled" => assert_eq!(last, Some(5.0), "the sum"),
                _ => {}
            }
        }
        assert_eq!(families(&[]).len(), 0);
        let text = TextEncoder::new().encode_to_string(&families(&infos)).expect("text");
        assert!(text.contains("daybook_persistent_parked{stream=\"$all\",group=\"g-1\"} 0"));
    }
}
