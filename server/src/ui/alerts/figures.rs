//! The figures that alerts are judged by: those of `/metrics`, read as a scraper reads them.

use std::collections::BTreeMap;

use crate::node::Context;

/// Figures at a moment, as `/metrics` shows them.
#[derive(Debug, Default)]
pub struct Figures {
    /// When, in seconds since 1970.
    pub now: f64,
    values: BTreeMap<String, Vec<(String, f64)>>,
}

impl Figures {
    /// Those of now.
    pub async fn take(context: &Context) -> Figures {
        let groups = context.persistent().numbers().await;
        let scripted = context.scripted().list();
        let text = context.metrics().render(context, &groups, &scripted);
        Figures::read(&text, context.clock().now().0 as f64 / 1e9)
    }

    /// Those of a text in Prometheus' format; histograms are left out.
    #[must_use]
    pub fn read(text: &str, now: f64) -> Figures {
        let mut values: BTreeMap<String, Vec<(String, f64)>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            if name.ends_with("_bucket") {
                continue;
            }
            let Ok(value) = value.parse() else { continue };
            let about = labels.trim_end_matches('}').to_owned();
            values.entry(name.to_owned()).or_default().push((about, value));
        }
        Figures { now, values }
    }

    /// All series of a figure: their labels, and their values.
    #[must_use]
    pub fn all(&self, name: &str) -> &[(String, f64)] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }

    /// The value of a figure that has one series; 0 without it.
    #[must_use]
    pub fn first(&self, name: &str) -> f64 {
        self.all(name).first().map_or(0.0, |(_, value)| *value)
    }
}
