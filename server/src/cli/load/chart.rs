//! Line charts as SVG: a few lines over one axis, readable in light and in dark.
//!
//! ```text
//!   unit, name of the line ──────────────┐
//!   │ tick ┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄│  last points have their names beside them
//!   └──────────────────────────── tick ──┘  each x has what all lines say there as a tooltip
//! ```
//!
//! Colours are the page's: `.line-0`, `.line-1` … in its style sheet. INVARIANT: text is escaped.

use std::fmt::Write as _;

/// The drawing's size, in its own units.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 270.0;
/// Room around the lines: for the y axis, the lines' names, the y axis' title, the x axis.
const LEFT: f64 = 58.0;
const RIGHT: f64 = 104.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 38.0;
/// Names of lines are at least so far apart.
const NAME_HEIGHT: f64 = 15.0;
/// Ticks of a linear axis, about.
const TICKS: f64 = 5.0;

/// How values are laid along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from zero.
    Linear,
    /// By their logarithm.
    Logarithmic,
}

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    title: &'static str,
    scale: Scale,
    from: f64,
    to: f64,
    ticks: Vec<(f64, String)>,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it shows.
    pub name: String,
    /// x and y, in ascending order of x.
    pub points: Vec<(f64, f64)>,
}

/// Whether what lies under the first line is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// It is.
    Filled,
    /// It is not.
    Empty,
}

impl Axis {
    /// An axis from zero to a round number that is not below `most`.
    #[must_use]
    pub fn linear(title: &'static str, most: f64) -> Axis {
        let step = round_step(most / TICKS);
        let count = (most / step).ceil().max(1.0);
        let ticks = (0..=count as u32).map(|nth| {
            let value = f64::from(nth) * step;
            (value, number(value))
        });
        let ticks = ticks.collect();
        Axis { title, scale: Scale::Linear, from: 0.0, to: count * step, ticks }
    }

    /// An axis from zero to exactly `end`.
    #[must_use]
    pub fn until(title: &'static str, end: f64) -> Axis {
        let mut axis = Axis::linear(title, end);
        axis.ticks.retain(|(value, _)| *value <= end);
        axis.to = end.max(f64::MIN_POSITIVE);
        axis
    }

    /// A logarithmic axis that has `least` and `most` within and ends at 1, 2 or 5 times a power of
    /// ten.
    #[must_use]
    pub fn logarithmic(title: &'static str, least: f64, most: f64) -> Axis {
        let from = round_step_below(least.max(1e-3));
        let to = round_step(most.max(from * 10.0));
        let wide = to / from > 1000.0;
        let powers = from.log10().floor() as i32..=to.log10().ceil() as i32;
        let ticks = powers.flat_map(|power| {
            let factors = if wide { &[1.0][..] } else { &[1.0, 2.0, 5.0] };
            factors.iter().map(move |factor| factor * 10_f64.powi(power))
        });
        // Binary fractions make the ends inexact.
        let within = |value: &f64| (from * 0.999..=to * 1.001).contains(value);
        let ticks = ticks.filter(within).map(|value| (value, number(value))).collect();
        Axis { title, scale: Scale::Logarithmic, from, to, ticks }
    }

    /// An axis from the first of `ticks` to the last.
    #[must_use]
    pub fn with_ticks(title: &'static str, ticks: Vec<(f64, String)>) -> Axis {
        let from = ticks.first().map_or(0.0, |(value, _)| *value);
        let to = ticks.last().map_or(1.0, |(value, _)| *value);
        Axis { title, scale: Scale::Linear, from, to, ticks }
    }

    /// Where `value` is, from 0 to 1.
    fn part(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Logarithmic => {
                (value.max(self.from) / self.from).log10() / (self.to / self.from).log10()
            }
        };
        part.clamp(0.0, 1.0)
    }
}

fn x_of(axis: &Axis, value: f64) -> f64 {
    LEFT + axis.part(value) * (WIDTH - LEFT - RIGHT)
}

fn y_of(axis: &Axis, value: f64) -> f64 {
    HEIGHT - BOTTOM - axis.part(value) * (HEIGHT - TOP - BOTTOM)
}

/// A chart of `lines`. `describe` says what a tooltip says of an x.
#[must_use]
pub fn draw(
    x: &Axis,
    y: &Axis,
    lines: &[Line],
    area: Area,
    describe: &dyn Fn(f64) -> String,
) -> String {
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n");
    draw_axes(&mut svg, x, y);
    if let (Area::Filled, Some(line)) = (area, lines.first()) {
        let floor = HEIGHT - BOTTOM;
        let ends = (line.points.first(), line.points.last());
        if let (Some((first, _)), Some((last, _))) = ends {
            let (first, last) = (x_of(x, *first), x_of(x, *last));
            let path = path(x, y, line);
            let _ = writeln!(
                svg,
                "<path class=\"area\" d=\"{path}L{last:.1},{floor}L{first:.1},{floor}Z\"/>"
            );
        }
    }
    for (nth, line) in lines.iter().enumerate() {
        let path = path(x, y, line);
        let _ = writeln!(svg, "<path class=\"line line-{nth}\" d=\"{path}\"/>");
    }
    draw_names(&mut svg, x, y, lines);
    draw_tooltips(&mut svg, x, y, lines, describe);
    svg.push_str("</svg>\n");
    svg
}

fn draw_axes(svg: &mut String, x: &Axis, y: &Axis) {
    let right = WIDTH - RIGHT;
    for (value, label) in &y.ticks {
        let at = y_of(y, *value);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text class=\"tick\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 8.0,
            at + 4.0,
            escaped(label)
        );
    }
    for (value, label) in &x.ticks {
        let _ = writeln!(
            svg,
            "<text class=\"tick\" text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x_of(x, *value),
            HEIGHT - BOTTOM + 17.0,
            escaped(label)
        );
    }
    let _ = writeln!(
        svg,
        "<text class=\"title\" x=\"0\" y=\"12\">{}</text>\
         <text class=\"title\" text-anchor=\"end\" x=\"{right}\" y=\"{:.1}\">{}</text>",
        escaped(y.title),
        HEIGHT - 4.0,
        escaped(x.title)
    );
}

fn path(x: &Axis, y: &Axis, line: &Line) -> String {
    let mut path = String::new();
    for (nth, (at, value)) in line.points.iter().enumerate() {
        let letter = if nth == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{letter}{:.1},{:.1}", x_of(x, *at), y_of(y, *value));
    }
    path
}

/// The lines' names beside their ends, moved apart where they would overlap.
fn draw_names(svg: &mut String, x: &Axis, y: &Axis, lines: &[Line]) {
    let places = lines.iter().enumerate().map(|(nth, line)| {
        let (at, value) = line.points.last().copied().unwrap_or_default();
        (y_of(y, value) + 4.0, x_of(x, at) + 6.0, nth, line.name.as_str())
    });
    let mut places: Vec<_> = places.collect();
    places.sort_by(|one, other| other.0.total_cmp(&one.0));
    let mut below = f64::INFINITY;
    for place in &mut places {
        place.0 = place.0.min(below - NAME_HEIGHT);
        below = place.0;
    }
    // Those that were moved out of the top push the others down again.
    let mut above = TOP - NAME_HEIGHT;
    for place in places.iter_mut().rev() {
        place.0 = place.0.max(above + NAME_HEIGHT);
        above = place.0;
    }
    for (height, left, nth, name) in places {
        let _ = writeln!(
            svg,
            "<text class=\"name name-{nth}\" x=\"{left:.1}\" y=\"{height:.1}\">{}</text>",
            escaped(name)
        );
    }
}

/// Bands as high as the chart, one an x of the first line.
fn draw_tooltips(
    svg: &mut String,
    x: &Axis,
    y: &Axis,
    lines: &[Line],
    describe: &dyn Fn(f64) -> String,
) {
    let Some(line) = lines.iter().max_by_key(|line| line.points.len()) else { return };
    let width = (WIDTH - LEFT - RIGHT) / line.points.len().max(1) as f64;
    for (at, value) in &line.points {
        let (middle, height) = (x_of(x, *at), y_of(y, *value));
        let _ = writeln!(
            svg,
            "<g class=\"band\"><rect x=\"{:.1}\" y=\"{TOP}\" width=\"{width:.1}\" \
             height=\"{:.1}\"/><circle cx=\"{middle:.1}\" cy=\"{height:.1}\" r=\"3\"/>\
             <title>{}</title></g>",
            middle - width / 2.0,
            HEIGHT - TOP - BOTTOM,
            escaped(&describe(*at))
        );
    }
}

/// The next of 1, 2 and 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.max(1e-6).log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= step);
    factor.unwrap_or(10.0) * power
}

/// The last of 1, 2 and 5 times a power of ten that is not above `step`.
fn round_step_below(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let factor = [5.0, 2.0].into_iter().find(|factor| factor * power <= step);
    factor.unwrap_or(1.0) * power
}

/// A tick's number: `8k`, `250`, `0.5`.
fn number(value: f64) -> String {
    match value {
        value if value >= 10_000.0 => format!("{}k", value / 1000.0),
        // Digits that come of binary fractions alone are cut.
        value => format!("{}", (value * 1e6).round() / 1e6),
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
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number_above_all_values() {
        for (most, to, first) in
            [(0.0, 1e-6, "0"), (7.3, 8.0, "0"), (9_100.0, 10_000.0, "0"), (100.0, 100.0, "0")]
        {
            let axis = Axis::linear("", most);
            assert!((axis.to - to).abs() < to / 1e6, "{most}: {}", axis.to);
            assert_eq!(axis.ticks[0].1, first);
            assert!((2..=9).contains(&axis.ticks.len()), "{most}: {:?}", axis.ticks);
        }
        let labels = |axis: &Axis| {
            let labels: Vec<_> = axis.ticks.iter().map(|(_, label)| label.clone()).collect();
            labels.join(" ")
        };
        let axis = Axis::logarithmic("", 0.4, 2500.0);
        assert_eq!(labels(&axis), "1 10 100 1000");
        assert!((axis.part(5000.0) - 1.0).abs() < 1e-9 && axis.part(0.0) == 0.0);
        assert_eq!(labels(&Axis::logarithmic("", 2.1, 45.0)), "2 5 10 20 50");
        let axis = Axis::until("", 12.0);
        assert_eq!((labels(&axis).as_str(), axis.to), ("0 5 10", 12.0));
    }

    #[test]
    fn names_of_lines_do_not_cover_each_other() {
        let line =
            |name: &str| Line { name: name.to_owned(), points: vec![(0.0, 9.0), (1.0, 9.9)] };
        let lines = ["a", "b", "c", "d"].map(line);
        let (x, y) = (Axis::linear("s", 1.0), Axis::linear("ms", 10.0));
        let svg = draw(&x, &y, &lines, Area::Empty, &|_| String::new());
        let names = svg.lines().filter(|line| line.contains("class=\"name"));
        let heights = names.filter_map(|name| name.split("y=\"").nth(1)?.split('"').next());
        let mut heights: Vec<f64> = heights.filter_map(|text| text.parse().ok()).collect();
        heights.sort_by(f64::total_cmp);
        assert_eq!(heights.len(), 4);
        assert!(heights[0] >= TOP, "{heights:?}");
        assert!(
            heights.windows(2).all(|pair| pair[1] - pair[0] > NAME_HEIGHT - 0.2),
            "{heights:?}"
        );
    }

    #[test]
    fn a_chart_without_points_is_still_one() {
        let lines = [Line { name: "none".to_owned(), points: Vec::new() }];
        let (x, y) = (Axis::linear("s", 0.0), Axis::logarithmic("ms", 0.0, 0.0));
        let svg = draw(&x, &y, &lines, Area::Filled, &|_| String::new());
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn text_cannot_leave_its_place() {
        assert_eq!(escaped("a<b>&\"\u{1b}"), "a&lt;b&gt;&amp;&quot;\u{fffd}");
    }
}
