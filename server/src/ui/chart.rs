//! A line chart as SVG, drawn here and nowhere else: pages that follow are sent it anew.
//!
//! What it shows is in words in its label, and in numbers in the table below it. Where a script
//! runs, the pointer and the arrow keys ask for each of its moments: a slider lies over the plot and
//! carries what the lines were.

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};

/// Points of one line: more than pixels would not be seen.
pub const POINTS_MAX: usize = 150;
/// Rows of the table below a chart.
const ROWS_MAX: usize = 15;
/// The plot's own units.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;

/// One line.
pub struct Line {
    /// What it is.
    pub name: &'static str,
    /// Its values, oldest first; none where there is nothing to show.
    pub values: Vec<Option<f64>>,
}

/// A chart.
pub struct Chart<'a> {
    /// Of what.
    pub title: &'a str,
    /// In what.
    pub unit: &'a str,
    /// Its lines, at most three.
    pub lines: Vec<Line>,
    /// What stands below its points, oldest first: as many as values.
    pub labels: Vec<String>,
}

impl Chart<'_> {
    /// Draws it.
    #[must_use]
    pub fn draw(&self) -> Markup {
        let known = || self.lines.iter().flat_map(|line| line.values.iter().flatten());
        let most = known().copied().fold(0.0, f64::max);
        let least = known().copied().fold(0.0, f64::min);
        let (low, high) = (if least < 0.0 { -nice(-least) } else { 0.0 }, nice(most));
        html! {
            figure.chart {
                figcaption {
                    span.title { (self.title) }
                    @for (i, line) in self.lines.iter().enumerate() {
                        span.legend {
                            span.swatch.(format!("line{i}")) {}
                            (line.name) " "
                            strong { (last(line).map_or("–".to_owned(), short)) }
                            " " span.muted { (self.unit) }
                        }
                    }
                }
                div.plot {
                    span.top aria-hidden="true" { (short(high)) }
                    span.bottom aria-hidden="true" { (short(low)) }
                    svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none"
                        role="img" aria-label=(self.said()) {
                        (grid())
                        @for (i, line) in self.lines.iter().enumerate() {
                            path.line.(format!("line{i}")) d=(path(&line.values, low, high))
                                vector-effect="non-scaling-stroke" {}
                            path.dots.(format!("line{i}")) d=(path(&alone(&line.values), low, high))
                                vector-effect="non-scaling-stroke" {}
                        }
                    }
                    @if known().next().is_none() { span.nothing { "nothing to show yet" } }
                    @else { (self.moments()) }
                }
                div.axis aria-hidden="true" {
                    span { (self.labels.first().map_or("", String::as_str)) }
                    span { (self.labels.last().map_or("", String::as_str)) }
                }
                (self.numbers())
            }
        }
    }

    /// The slider through the moments.
    fn moments(&self) -> Markup {
        let last = self.labels.len().saturating_sub(1);
        let told = |line: &Line| {
            let values = line.values.iter().map(|value| value.map_or_else(String::new, plain));
            format!("{}={}", line.name, values.collect::<Vec<_>>().join(","))
        };
        let values: Vec<String> = self.lines.iter().map(told).collect();
        html! {
            input.scrub type="range" min="0" max=(last) value=(last) hidden data-scrub
                aria-label=(format!("{}: a moment of it", self.title)) data-unit=(self.unit)
                data-at=(self.labels.join("|")) data-values=(values.join("|"));
        }
    }

    fn said(&self) -> String {
        let mut said = self.title.to_owned();
        for line in &self.lines {
            let most = line.values.iter().flatten().copied().fold(0.0, f64::max);
            let now = last(line).map_or("nothing".to_owned(), short);
            let _ =
                write!(said, "; {}: {now} {} now, at most {}", line.name, self.unit, short(most));
        }
        said
    }

    fn numbers(&self) -> Markup {
        let count = self.labels.len();
        let step = count.div_ceil(ROWS_MAX).max(1);
        let shown: Vec<usize> = (0..count).rev().step_by(step).collect();
        html! {
            details.numbers {
                summary { "In numbers" }
                div.scroll tabindex="0" role="region"
                    aria-label=(format!("{} in numbers", self.title)) {
                    table {
                        caption.unseen { (self.title) ", " (self.unit) }
                        thead { tr {
                            th scope="col" { "when" }
                            @for line in &self.lines { th.right scope="col" { (line.name) } }
                        } }
                        tbody { @for i in shown { tr {
                            th scope="row" { (self.labels[i]) }
                            @for line in &self.lines {
                                td.right { (value(line, i).map_or("–".to_owned(), short)) }
                            }
                        } } }
                    }
                }
            }
        }
    }
}

fn value(line: &Line, i: usize) -> Option<f64> {
    line.values.get(i).copied().flatten()
}

fn last(line: &Line) -> Option<f64> {
    line.values.iter().rev().flatten().next().copied()
}

fn grid() -> Markup {
    let mut lines = String::new();
    for quarter in 1..4 {
        let y = HEIGHT * f64::from(quarter) / 4.0;
        let _ = write!(lines, "M0 {y}H{WIDTH}");
    }
    html! { path.grid d=(PreEscaped(lines)) vector-effect="non-scaling-stroke" {} }
}

/// The line through all values; where one is missing it is broken off.
fn path(values: &[Option<f64>], low: f64, high: f64) -> String {
    let mut path = String::new();
    let last = values.len().saturating_sub(1).max(1) as f64;
    let mut pen = 'M';
    for (i, value) in values.iter().enumerate() {
        let Some(value) = value else {
            pen = 'M';
            continue;
        };
        let x = WIDTH * i as f64 / last;
        let y = HEIGHT - (HEIGHT - 4.0) * (value - low) / (high - low) - 2.0;
        let _ = write!(path, "{pen}{x:.1} {y:.1}");
        // A point alone is a dot.
        if pen == 'M' {
            path.push_str("h0.1");
        }
        pen = 'L';
    }
    path
}

/// Those values that have no neighbour to draw a line to.
fn alone(values: &[Option<f64>]) -> Vec<Option<f64>> {
    let known = |i: usize| values.get(i).is_some_and(Option::is_some);
    let is_alone = |i: usize| !known(i + 1) && i.checked_sub(1).is_none_or(|before| !known(before));
    values.iter().enumerate().map(|(i, value)| value.filter(|_| is_alone(i))).collect()
}

/// The next number of 1, 2, 5, 10 … that is not below `value`.
fn nice(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|step| *step >= value).unwrap_or(value)
}

/// A number in about three digits.
#[must_use]
pub fn short(value: f64) -> String {
    let size = value.abs();
    if size >= 1_000_000.0 {
        format!("{:.1} M", value / 1_000_000.0)
    } else if size >= 10_000.0 {
        format!("{:.1} k", value / 1_000.0)
    } else if size >= 100.0 || value == 0.0 || (size >= 1.0 && value.fract() == 0.0) {
        format!("{value:.0}")
    } else if size >= 1.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

/// A number in at most three digits after the point.
fn plain(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_breaks_off_where_nothing_is_known() {
        let values = [Some(0.0), Some(10.0), None, Some(5.0)];
        assert_eq!(path(&values, 0.0, 10.0), "M0.0 118.0h0.1L200.0 2.0M600.0 60.0h0.1");
        assert_eq!(path(&[], 0.0, 1.0), "");
        assert_eq!(alone(&values), [None, None, None, Some(5.0)]);
    }

    #[test]
    fn an_axis_ends_at_a_round_number() {
        for (value, end) in [(0.0, 1.0), (0.03, 0.05), (1.0, 1.0), (7.2, 10.0), (1234.0, 2000.0)] {
            assert!((nice(value) - end).abs() < 1e-9, "{value}");
        }
        for (value, text) in [
            (0.0, "0"),
            (0.25, "0.250"),
            (3.0, "3"),
            (3.21, "3.2"),
            (123.4, "123"),
            (12_345.0, "12.3 k"),
            (2_500_000.0, "2.5 M"),
        ] {
            assert_eq!(short(value), text);
        }
        for (value, text) in [(0.0, "0"), (100.0, "100"), (1234.5, "1234.5"), (0.0004, "0")] {
            assert_eq!(plain(value), text);
        }
    }

    #[test]
    fn a_chart_says_in_words_what_it_shows() {
        let lines = vec![Line { name: "written", values: vec![Some(2.0), None, Some(1.0)] }];
        let labels = ["a", "b", "c"].map(str::to_owned).to_vec();
        let chart = Chart { title: "Events", unit: "/s", lines, labels }.draw().into_string();
        assert!(chart.contains("Events; written: 1 /s now, at most 2"), "{chart}");
        assert_eq!(chart.matches("<tr>").count(), 4);
        assert!(chart.contains("data-at=\"a|b|c\" data-values=\"written=2,,1\""), "{chart}");
    }
}
