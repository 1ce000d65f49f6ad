//! How far projections, groups and connectors were behind, at each look at the figures.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use super::alerts::Figures;

/// Series that are kept: more groups than anybody looks at.
const SERIES_MAX: usize = 200;
/// Looks that are kept: of 15 minutes, one each ten seconds.
const LOOKS_MAX: usize = 90;

/// What is behind the log's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Behind {
    /// A view that is built in.
    Projection,
    /// A projection that a user wrote.
    Program,
    /// A group of consumers.
    Group,
    /// A connector.
    Connector,
}

impl Behind {
    const ALL: [Behind; 4] =
        [Behind::Projection, Behind::Program, Behind::Group, Behind::Connector];

    /// The figure that says it.
    fn figure(self) -> &'static str {
        match self {
            Behind::Projection => "daybook_projection_lag_events",
            Behind::Program => "daybook_script_lag_events",
            Behind::Group => "daybook_persistent_lag_events",
            Behind::Connector => "daybook_connector_lag_events",
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Lags {
    series: BTreeMap<(Behind, String), VecDeque<f64>>,
}

impl Lags {
    /// Takes one look more. What is there no more is forgotten.
    pub fn take(&mut self, figures: &Figures) {
        let found = Behind::ALL.iter().flat_map(|behind| {
            figures.all(behind.figure()).iter().map(|(labels, lag)| (*behind, labels, *lag))
        });
        let mut kept = BTreeMap::new();
        for (behind, labels, lag) in found.take(SERIES_MAX) {
            let series = (behind, labels.clone());
            let mut values = self.series.remove(&series).unwrap_or_default();
            if values.len() >= LOOKS_MAX {
                values.pop_front();
            }
            values.push_back(lag);
            kept.insert(series, values);
        }
        self.series = kept;
    }

    /// Those of one series, oldest first; `labels` in the order in which its figure has them.
    #[must_use]
    pub fn of(&self, behind: Behind, labels: &[(&str, &str)]) -> Vec<f64> {
        let values = self.series.get(&(behind, written(labels)));
        values.map(|values| values.iter().copied().collect()).unwrap_or_default()
    }
}

/// Labels as the text format writes them.
fn written(labels: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        let value = value.replace('\\', r"\\").replace('\n', r"\n").replace('"', "\\\"");
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{comma}{name}=\"{value}\"");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lags_are_kept_by_series_and_bounded() {
        let mut lags = Lags::default();
        for look in 0..200 {
            let text = format!(
                "daybook_projection_lag_events{{projection=\"a\"}} {look}\n\
                 daybook_script_lag_events{{projection=\"a\"}} 7\n\
                 daybook_connector_lag_events{{connector=\"b\"}} 1\n"
            );
            lags.take(&Figures::read(&text, 0.0));
        }
        let found = lags.of(Behind::Projection, &[("projection", "a")]);
        assert_eq!((found.len(), found.first(), found.last()), (90, Some(&110.0), Some(&199.0)));
        assert_eq!(lags.of(Behind::Program, &[("projection", "a")]), [7.0; 90]);
        lags.take(&Figures::default());
        assert!(lags.of(Behind::Connector, &[("connector", "b")]).is_empty());
    }

    #[test]
    fn a_name_with_quotes_is_found_as_prometheus_writes_it() {
        use prometheus::{Encoder as _, GaugeVec, Opts, TextEncoder, core::Collector as _};

        let name = "a \"b\" \\ c\nd}";
        let opts = Opts::new("daybook_persistent_lag_events", "how far");
        let gauge = GaugeVec::new(opts, &["group", "stream"]).expect("a good name");
        gauge.with_label_values(&["g", name]).set(3.0);
        let mut text = Vec::new();
        TextEncoder::new().encode(&gauge.collect(), &mut text).expect("it is text");
        let mut lags = Lags::default();
        lags.take(&Figures::read(&String::from_utf8(text).expect("it is text"), 0.0));
        assert_eq!(lags.of(Behind::Group, &[("group", "g"), ("stream", name)]), [3.0]);
    }
}
