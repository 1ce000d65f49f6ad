//! The timeline of one experiment as SVG: four panels over one axis of time.
//!
//! ```text
//!   done a second   ▁▁▂▂▇▇▇▇▒▒▒▒▒▒▒▒▂▇▇▇▇     ▒ the fault     ┊ as before
//!   p99, ms         ────────▒▒▒▒▒▒▒▒──────     ┄ what is near enough to the steady phase
//!   failed attempts         ▒█▒▒█▒▒▒
//!   ready, breaker  ████████▒▒░░░▒▒▒██████
//!                  -4      0        6     9  s from the fault's beginning
//! ```
//!
//! Colours are the page's. INVARIANT: text is escaped; every number drawn is finite.

use std::fmt::Write as _;
use std::time::Duration;

use daybook_client::resilience::State;

use super::failures;
use crate::experiment::Outcome;
use crate::measure::{NEAR, SECOND, Sample};

/// The drawing's size, in its own units, and the room around the panels.
const WIDTH: f64 = 860.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
/// Where each panel begins and ends.
const RATE: (f64, f64) = (30.0, 126.0);
const LATENCY: (f64, f64) = (158.0, 254.0);
const FAILED: (f64, f64) = (286.0, 336.0);
const STATES: (f64, f64) = (356.0, 388.0);
const HEIGHT: f64 = 424.0;
/// The least that the axis of latencies shows, in ms.
const LATENCY_LEAST_MS: f64 = 1.0;

/// The axis of time.
struct Time {
    /// What is at its beginning and its end, in seconds from the fault's beginning.
    from: f64,
    to: f64,
}

impl Time {
    fn x(&self, at: f64) -> f64 {
        let part = ((at - self.from) / (self.to - self.from).max(1e-3)).clamp(0.0, 1.0);
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }
}

/// The chart.
#[must_use]
pub fn draw(outcome: &Outcome) -> String {
    let since = |at: Duration| at.as_secs_f64() - outcome.fault.0.as_secs_f64();
    let from = since(outcome.begun);
    let to = outcome.series.last().map_or(from + 1.0, |last| since(last.from) + 1.0);
    let time = Time { from, to };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Timeline of {}\">\n",
        escaped(outcome.experiment.name)
    );
    draw_fault(&mut svg, outcome, &time, &since);
    draw_rate(&mut svg, outcome, &time, &since);
    draw_latency(&mut svg, outcome, &time, &since);
    draw_failed(&mut svg, outcome, &time, &since);
    draw_states(&mut svg, outcome, &time, &since);
    draw_time(&mut svg, &time);
    draw_tooltips(&mut svg, outcome, &time, &since);
    svg.push_str("</svg>\n");
    svg
}

type Since<'a> = &'a dyn Fn(Duration) -> f64;

fn rect(svg: &mut String, class: &str, (x1, x2): (f64, f64), (y1, y2): (f64, f64)) {
    let (width, height) = ((x2 - x1).max(0.5), (y2 - y1).max(0.0));
    let _ = writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{x1:.1}\" y=\"{y1:.1}\" width=\"{width:.1}\" \
         height=\"{height:.1}\"/>"
    );
}

fn text(svg: &mut String, class: &str, anchor: &str, (x, y): (f64, f64), words: &str) {
    let words = escaped(words);
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>"
    );
}

fn across(svg: &mut String, class: &str, y: f64) {
    let right = WIDTH - RIGHT;
    let _ = writeln!(
        svg,
        "<line class=\"{class}\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
    );
}

fn draw_fault(svg: &mut String, outcome: &Outcome, time: &Time, since: Since<'_>) {
    let (begin, end) = (time.x(0.0), time.x(since(outcome.fault.1)));
    rect(svg, "fault", (begin, end), (RATE.0 - 8.0, STATES.1));
    text(svg, "word fault-word", "start", (begin + 4.0, RATE.0 - 14.0), "fault");
    if let Some(recovery) = outcome.recovery {
        let at = time.x(since(outcome.recovers_from() + recovery));
        let (top, bottom) = (RATE.0 - 8.0, STATES.1);
        let _ = writeln!(
            svg,
            "<line class=\"before\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{top}\" y2=\"{bottom}\"/>"
        );
        // Beside a short fault its word would cover the other.
        let place = (at.max(begin + 44.0) + 4.0, RATE.0 - 14.0);
        text(svg, "word before-word", "start", place, "as before");
    }
}

/// Horizontal lines at `ticks`, and a panel's title.
fn draw_axis(
    svg: &mut String,
    title: &str,
    panel: (f64, f64),
    ticks: &[f64],
    y: &dyn Fn(f64) -> f64,
) {
    for tick in ticks {
        across(svg, "grid", y(*tick));
        text(svg, "tick", "end", (LEFT - 8.0, y(*tick) + 4.0), &number(*tick));
    }
    text(svg, "title", "start", (0.0, panel.0 - 10.0), title);
}

fn linear((top, bottom): (f64, f64), most: f64) -> impl Fn(f64) -> f64 {
    move |value: f64| bottom - (value / most).clamp(0.0, 1.0) * (bottom - top)
}

fn draw_rate(svg: &mut String, outcome: &Outcome, time: &Time, since: Since<'_>) {
    let rates = outcome.series.iter().map(|sample| sample.rate);
    let most = round_up(rates.fold(1.0, f64::max));
    let y = linear(RATE, most);
    draw_axis(svg, "done a second", RATE, &[0.0, most / 2.0, most], &y);
    let points: Vec<(f64, f64)> =
        outcome.series.iter().map(|s| (time.x(middle(s, since)), y(s.rate))).collect();
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        let path = path(&points);
        let (floor, first, last) = (RATE.1, first.0, last.0);
        let _ = writeln!(
            svg,
            "<path class=\"area\" d=\"{path}L{last:.1},{floor}L{first:.1},{floor}Z\"/>\
             <path class=\"line rate\" d=\"{path}\"/>"
        );
    }
    if let Some(steady) = outcome.steady {
        across(svg, "near", y(steady.rate * NEAR.rate_share));
    }
}

fn draw_latency(svg: &mut String, outcome: &Outcome, time: &Time, since: Since<'_>) {
    let values = outcome.series.iter().filter_map(|sample| sample.p99_ms);
    let most = values.fold(10.0, f64::max);
    let powers = (most / LATENCY_LEAST_MS).log10().ceil().max(1.0);
    let (top, bottom) = LATENCY;
    let y = move |ms: f64| {
        let part = (ms.max(LATENCY_LEAST_MS) / LATENCY_LEAST_MS).log10() / powers;
        bottom - part.clamp(0.0, 1.0) * (bottom - top)
    };
    let ticks: Vec<f64> =
        (0..=powers as i32).map(|power| LATENCY_LEAST_MS * 10_f64.powi(power)).collect();
    draw_axis(svg, "p99, ms", LATENCY, &ticks, &y);
    // Seconds in which nothing was done have no latency: the line has a gap there.
    for part in outcome.series.split(|sample| sample.p99_ms.is_none()) {
        let points: Vec<(f64, f64)> =
            part.iter().filter_map(|s| Some((time.x(middle(s, since)), y(s.p99_ms?)))).collect();
        let _ = writeln!(svg, "<path class=\"line latency\" d=\"{}\"/>", path(&points));
        for (x, y) in points {
            let _ =
                writeln!(svg, "<circle class=\"point\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.2\"/>");
        }
    }
    if let Some(steady) = outcome.steady {
        across(svg, "near", y(steady.p99_limit_ms(NEAR)));
    }
}

fn draw_failed(svg: &mut String, outcome: &Outcome, time: &Time, since: Since<'_>) {
    let counts = outcome.series.iter().map(|sample| sample.error_count());
    let most = round_up(counts.max().unwrap_or_default().max(1) as f64);
    let y = linear(FAILED, most);
    let some = outcome.series.iter().any(|sample| sample.error_count() > 0);
    let ticks: &[f64] = if some { &[0.0, most] } else { &[0.0] };
    draw_axis(svg, "failed attempts", FAILED, ticks, &y);
    if !some {
        text(svg, "tick", "start", (LEFT + 6.0, FAILED.1 - 6.0), "none");
    }
    for sample in outcome.series.iter().filter(|sample| sample.error_count() > 0) {
        let begin = since(sample.from);
        let span = (time.x(begin) + 1.5, time.x(begin + 1.0) - 1.5);
        let (failed, refused) = failures(&sample.errors);
        let middle = y(failed as f64);
        rect(svg, "failed", span, (middle, FAILED.1));
        rect(svg, "refused", span, (y((failed + refused) as f64), middle));
    }
}

fn draw_states(svg: &mut String, outcome: &Outcome, time: &Time, since: Since<'_>) {
    let (top, bottom) = STATES;
    let half = (bottom - top) / 2.0;
    let rows = [(top, top + half - 3.0), (top + half + 1.0, bottom - 2.0)];
    for (name, row) in ["ready", "breaker"].into_iter().zip(rows) {
        text(svg, "tick", "end", (LEFT - 8.0, row.1 - 2.0), name);
    }
    for sample in &outcome.series {
        let class = match sample.ready {
            Some(true) => "state-good",
            Some(false) => "state-bad",
            None => "state-none",
        };
        let begin = since(sample.from);
        rect(svg, class, (time.x(begin), time.x(begin + 1.0)), rows[0]);
    }
    let (mut begin, mut state) = (time.from, State::Closed);
    let changes = outcome.breaker.iter().map(|change| (since(change.at), change.to));
    for (at, to) in changes.chain([(time.to, State::Closed)]) {
        let class = match state {
            State::Closed | State::ForcedClosed => "state-good",
            State::Open | State::ForcedOpen => "state-bad",
            State::HalfOpen => "state-half",
        };
        if at > begin {
            rect(svg, class, (time.x(begin), time.x(at)), rows[1]);
        }
        (begin, state) = (at.max(begin), to);
    }
}

fn draw_time(svg: &mut String, time: &Time) {
    let step =
        [1.0, 2.0, 5.0, 10.0, 20.0, 60.0].into_iter().find(|s| (time.to - time.from) / s <= 16.0);
    let step = step.unwrap_or(120.0);
    let mut at = (time.from / step).ceil() * step;
    while at <= time.to {
        text(svg, "tick", "middle", (time.x(at), STATES.1 + 16.0), &number(at));
        at += step;
    }
    let words = "seconds from the fault’s beginning";
    text(svg, "title", "end", (WIDTH - RIGHT, HEIGHT - 4.0), words);
}

/// Bands as high as the chart, one a second, that say what was measured there.
fn draw_tooltips(svg: &mut String, outcome: &Outcome, time: &Time, since: Since<'_>) {
    for sample in &outcome.series {
        let begin = since(sample.from);
        let (x1, x2) = (time.x(begin), time.x(begin + 1.0));
        let (top, height, width) = (RATE.0, STATES.1 - RATE.0, x2 - x1);
        let _ = writeln!(
            svg,
            "<rect class=\"band\" x=\"{x1:.1}\" y=\"{top}\" width=\"{width:.1}\" \
             height=\"{height}\"><title>{}</title></rect>",
            escaped(&describe(sample, begin))
        );
    }
}

fn describe(sample: &Sample, begin: f64) -> String {
    let ms = |value: Option<f64>| value.map_or("–".to_owned(), |ms| format!("{ms:.1} ms"));
    let mut words = format!(
        "{begin:.1} s\n{} appends, {} transfers\np50 {}, p99 {}\n{} events to subscribers",
        sample.appends,
        sample.transfers,
        ms(sample.p50_ms),
        ms(sample.p99_ms),
        sample.delivered
    );
    for (why, count) in &sample.errors {
        let _ = write!(words, "\n{count} {why}");
    }
    words
}

fn middle(sample: &Sample, since: Since<'_>) -> f64 {
    since(sample.from) + SECOND.as_secs_f64() / 2.0
}

fn path(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (nth, (x, y)) in points.iter().enumerate() {
        let letter = if nth == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{letter}{x:.1},{y:.1}");
    }
    path
}

/// The next round number: its half is one, too.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let factor = [1.0, 1.6, 2.0, 2.4, 3.0, 4.0, 5.0, 6.0, 8.0]
        .into_iter()
        .find(|factor| factor * power >= value);
    factor.unwrap_or(10.0) * power
}

fn number(value: f64) -> String {
    match value {
        value if value >= 10_000.0 => format!("{}k", value / 1000.0),
        value => format!("{}", (value * 100.0).round() / 100.0),
    }
}

/// `text` within HTML.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() && c != '\n' => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::Ended;
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn every_number_of_a_chart_is_one() {
        let report = sample();
        let Ended::Done(outcome) = &report.entries[0].1 else { panic!("it was run") };
        let mut empty = outcome.clone();
        empty.series.clear();
        empty.steady = None;
        empty.breaker.clear();
        for outcome in [outcome, &empty] {
            let svg = draw(outcome);
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert!(!svg.contains("width=\"-"), "{svg}");
        }
    }

    #[test]
    fn an_axis_ends_at_a_round_number_above_all_values() {
        for (value, expected) in
            [(1.0, 1.0), (7.0, 8.0), (9.0, 10.0), (101.0, 160.0), (208.0, 240.0)]
        {
            assert!((round_up(value) - expected).abs() < 1e-9, "{value}: {}", round_up(value));
        }
    }
}
