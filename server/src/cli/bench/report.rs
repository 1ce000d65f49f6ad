//! What a benchmark says: a table for people, JSON for programs.

use std::fmt;

use comfy_table::{Cell, CellAlignment, Color};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::load::Measured;
use crate::cli::report::table;

/// One line of the report.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Our figure, in `unit`.
    pub figure: f64,
    /// What the figure counts.
    pub unit: &'static str,
    /// Latencies in microseconds.
    pub latency_us: Option<Histogram<u64>>,
    /// Microseconds of the server's processor time an append.
    pub cpu_us: Option<f64>,
    /// What it is compared with.
    pub against: Option<Against>,
}

/// What a figure is compared with, measured in the same run.
#[derive(Clone, Debug)]
pub struct Against {
    /// What that is.
    pub name: &'static str,
    /// Its figure, in the same unit.
    pub figure: f64,
    /// Its processor time.
    pub cpu_us: Option<f64>,
    /// What we want to see of the ratio of ours to it, if anything.
    pub goal: Option<Goal>,
}

/// What is wanted of a ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// More is better.
    AtLeast(f64),
    /// Less is better.
    AtMost(f64),
}

impl Goal {
    fn is_met(self, ratio: f64) -> bool {
        match self {
            Goal::AtLeast(least) => ratio >= least,
            Goal::AtMost(most) => ratio <= most,
        }
    }

    fn to_json(self, ratio: Option<f64>) -> Value {
        let met = ratio.map(|ratio| self.is_met(ratio));
        match self {
            Goal::AtLeast(least) => json!({ "atLeast": least, "met": met }),
            Goal::AtMost(most) => json!({ "atMost": most, "met": met }),
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Goal::AtLeast(least) => write!(f, ">= {least}"),
            Goal::AtMost(most) => write!(f, "<= {most}"),
        }
    }
}

impl Row {
    /// A row of appends.
    #[must_use]
    pub fn of_appends(name: String, measured: &Measured, against: Option<Against>) -> Row {
        Row {
            name,
            figure: measured.rate(),
            unit: "appends/s",
            latency_us: Some(measured.latency_us.clone()),
            cpu_us: measured.server_cpu_us_per_append(),
            against,
        }
    }

    /// A figure by itself, and what is wanted of it in the figure's unit.
    #[must_use]
    pub fn with_goal(name: String, figure: f64, unit: &'static str, goal: Option<Goal>) -> Row {
        let against = goal.map(|goal| {
            let (figure, goal) = match goal {
                Goal::AtLeast(least) => (least, Goal::AtLeast(1.0)),
                Goal::AtMost(most) => (most, Goal::AtMost(1.0)),
            };
            Against { name: "goal", figure, cpu_us: None, goal: Some(goal) }
        });
        Row { name, figure, unit, latency_us: None, cpu_us: None, against }
    }

    fn ratio(&self) -> Option<f64> {
        self.against.as_ref().map(|against| self.figure / against.figure)
    }

    fn to_json(&self) -> Value {
        let latency = self.latency_us.as_ref().map(|latency| {
            let at = |quantile| latency.value_at_quantile(quantile);
            json!({
                "mean": latency.mean(),
                "p50": at(0.5),
                "p90": at(0.9),
                "p99": at(0.99),
                "p999": at(0.999),
                "max": latency.max(),
            })
        });
        let against = self.against.as_ref().map(|against| {
            json!({
                "name": against.name,
                "figure": against.figure,
                "ratio": self.ratio(),
                "goal": against.goal.map(|goal| goal.to_json(self.ratio())),
                "cpuUs": against.cpu_us,
            })
        });
        json!({
            "name": self.name,
            "figure": self.figure,
            "unit": self.unit,
            "latencyUs": latency,
            "cpuUs": self.cpu_us,
            "against": against,
        })
    }
}

/// All rows as JSON.
#[must_use]
pub fn to_json(rows: &[Row]) -> Value {
    Value::Array(rows.iter().map(Row::to_json).collect())
}

/// All rows as a table.
#[must_use]
pub fn to_table(rows: &[Row]) -> String {
    let mut table = table(&[
        "measured",
        "figure",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "CPU us",
        "against",
        "its figure",
        "its CPU",
        "ratio",
        "goal",
    ]);
    for row in rows {
        let percentile = |quantile: f64| {
            let latency = row.latency_us.as_ref();
            latency.map_or(String::new(), |l| {
                format!("{:.2}", l.value_at_quantile(quantile) as f64 / 1000.0)
            })
        };
        let number = |number: Option<f64>| number.map_or(String::new(), |n| format!("{n:.1}"));
        let against = row.against.as_ref();
        let goal = against.and_then(|against| against.goal);
        let mut ratio = Cell::new(row.ratio().map_or(String::new(), |ratio| format!("{ratio:.2}")));
        if let (Some(ratio_found), Some(goal)) = (row.ratio(), goal) {
            ratio = ratio.fg(if goal.is_met(ratio_found) { Color::Green } else { Color::Red });
        }
        let cells = [
            Cell::new(format!("{} {}", thousands(row.figure), row.unit)),
            Cell::new(percentile(0.5)),
            Cell::new(percentile(0.99)),
            Cell::new(percentile(0.999)),
            Cell::new(number(row.cpu_us)),
            Cell::new(against.map_or("", |against| against.name)),
            Cell::new(against.map_or(String::new(), |against| thousands(against.figure))),
            Cell::new(number(against.and_then(|against| against.cpu_us))),
            ratio,
            Cell::new(goal.map_or(String::new(), |goal| goal.to_string())),
        ];
        let cells = cells.into_iter().map(|cell| cell.set_alignment(CellAlignment::Right));
        table.add_row(std::iter::once(Cell::new(&row.name)).chain(cells));
    }
    format!("{table}\n")
}

/// `1234567.8` as `1,234,568`, small numbers with two decimals.
fn thousands(number: f64) -> String {
    if number < 100.0 {
        let text = format!("{:.2}", number.max(0.0));
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let digits = format!("{:.0}", number.max(0.0));
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_readable() {
        for (number, text) in
            [(0.4, "0.4"), (13.0, "13"), (999.0, "999"), (1_234_567.8, "1,234,568")]
        {
            assert_eq!(thousands(number), text);
        }
    }
}
