//! The numbers of projections, for `/metrics`: each labelled with its projection, whose names are
//! ours.

use daybook_model::Timestamp;
use daybook_projections::status::{BuildStatus, ProjectionStatus};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::http::readside::projections::doing;

/// What a runner can do, as the state's label says it.
const STATES: [&str; 7] =
    ["starting", "catching_up", "live", "outdated", "paused", "retrying", "stopped"];

/// The families of all projections: of what serves, and whether something is built beside it.
#[expect(clippy::cast_precision_loss, reason = "the text format knows floating point only")]
#[must_use]
pub fn families(statuses: &[ProjectionStatus], now: Timestamp) -> Vec<MetricFamily> {
    // What is not known has no line.
    let of = |kind, name: &str, help: &str, value: &dyn Fn(&BuildStatus) -> Option<f64>| {
        let served = statuses.iter().filter_map(|each| Some((each.name, each.serving.as_ref()?)));
        let metrics = served.filter_map(|(name, build)| {
            value(build).map(|value| metric(kind, &[("projection", name)], value))
        });
        family(kind, name, help, metrics.collect())
    };
    let gauge = |name, help, value: &dyn Fn(&BuildStatus) -> f64| {
        of(MetricType::GAUGE, name, help, &|build| Some(value(build)))
    };
    let counter = |name, help, value: &dyn Fn(&BuildStatus) -> f64| {
        of(MetricType::COUNTER, name, help, &|build| Some(value(build)))
    };
    vec![
        gauge(
            "daybook_projection_lag_events",
            "Positions of the log that the projection has not come by.",
            &|build| build.status.lag_events() as f64,
        ),
        of(
            MetricType::GAUGE,
            "daybook_projection_lag_seconds",
            "How long ago the last event taken in was committed; 0 if all of the log was.",
            &|build| build.status.lag_time(now).map(|lag| lag.as_secs_f64()),
        ),
        gauge(
            "daybook_projection_checkpoint_position",
            "The last position that the projection reflects.",
            &|build| build.status.checkpoint.map_or(0, |at| at.position().0) as f64,
        ),
        counter(
            "daybook_projection_events_total",
            "Events taken in since the node, or this build of the projection, was started.",
            &|build| build.status.events as f64,
        ),
        counter(
            "daybook_projection_parked_total",
            "Events that could not be taken in and were parked since then: alert on it.",
            &|build| build.status.parked as f64,
        ),
        states(statuses),
        building(statuses),
    ]
}

fn states(statuses: &[ProjectionStatus]) -> MetricFamily {
    let served = statuses.iter().filter_map(|each| Some((each.name, each.serving.as_ref()?)));
    let metrics = served.flat_map(|(name, build)| {
        STATES.map(|state| {
            let is = doing(&build.status.state) == state;
            let labels = [("projection", name), ("state", state)];
            metric(MetricType::GAUGE, &labels, f64::from(u8::from(is)))
        })
    });
    let help = "1 for what the projection's runner does: alert on stopped.";
    family(MetricType::GAUGE, "daybook_projection_state", help, metrics.collect())
}

fn building(statuses: &[ProjectionStatus]) -> MetricFamily {
    let metrics = statuses.iter().map(|each| {
        let is = f64::from(u8::from(each.building.is_some()));
        metric(MetricType::GAUGE, &[("projection", each.name)], is)
    });
    let help = "Whether the projection is being built again beside what serves.";
    family(MetricType::GAUGE, "daybook_projection_building", help, metrics.collect())
}

fn metric(kind: MetricType, labels: &[(&str, &str)], value: f64) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    let mut metric = Metric::default();
    metric.set_label(pairs.collect());
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

fn family(kind: MetricType, name: &str, help: &str, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

#[cfg(test)]
mod tests {
    use daybook_client::Checkpoint;
    use daybook_model::{Epoch, Position};
    use daybook_projections::{State, Status};
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn a_projections_numbers_become_text() {
        let at = |position| Some(Checkpoint::at(Position(position), Epoch(0)));
        let status = Status {
            state: State::Stopped { reason: "an event".to_owned() },
            checkpoint: at(9),
            head: at(19),
            event_time: Some(Timestamp(1_000_000_000)),
            events: 7,
            parked: 1,
            ..Status::starting()
        };
        let status = ProjectionStatus {
            name: "accounts",
            version: 1,
            paused: false,
            serving: Some(BuildStatus { generation: 1, version: 1, status }),
            building: None,
            note: None,
        };
        let families = families(&[status], Timestamp(3_500_000_000));
        let text = TextEncoder::new().encode_to_string(&families).expect("text");
        for line in [
            "daybook_projection_lag_events{projection=\"accounts\"} 10",
            "daybook_projection_lag_seconds{projection=\"accounts\"} 2.5",
            "daybook_projection_checkpoint_position{projection=\"accounts\"} 9",
            "# TYPE daybook_projection_events_total counter",
            "daybook_projection_events_total{projection=\"accounts\"} 7",
            "daybook_projection_parked_total{projection=\"accounts\"} 1",
            "daybook_projection_state{projection=\"accounts\",state=\"stopped\"} 1",
            "daybook_projection_state{projection=\"accounts\",state=\"live\"} 0",
            "daybook_projection_building{projection=\"accounts\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    }
}
