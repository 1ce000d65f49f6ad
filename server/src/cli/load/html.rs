//! The report as one page that stands by itself: no script, nothing loaded, light and dark.

use std::fmt::Write as _;

use super::chart::{Area, Axis, Line, draw, escaped};
use super::report::{QUANTILES, Report, thousands};
use super::stats::{Operation, Second, quantile_ms};

const STYLE: &str = include_str!("report.css");

/// Percentiles a distribution is drawn through: their number of nines and their name.
const LADDER: [(f64, &str); 5] =
    [(NINES_MIN, "50 %"), (1.0, "90 %"), (2.0, "99 %"), (3.0, "99.9 %"), (4.0, "99.99 %")];
/// Nines of the median, where a distribution begins to be drawn.
const NINES_MIN: f64 = std::f64::consts::LOG10_2;
/// Points of a distribution between two of them.
const POINTS_A_NINE: u32 = 12;

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut html = String::with_capacity(64 * 1024);
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Daybook under load</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
    heading(&mut html, report);
    tiles(&mut html, report);
    html.push_str("<h2>Transfers a second</h2>\n");
    html.push_str(&throughput(&report.series));
    html.push_str("<h2>Latency of a transfer, from its request to its final state</h2>\n");
    html.push_str(&latency_over_time(&report.series));
    html.push_str("<h2>Distribution of latencies</h2>\n");
    html.push_str(&distribution(report));
    latency_table(&mut html, report);
    paused(&mut html, report);
    checks(&mut html, report);
    about(&mut html, report);
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

fn heading(html: &mut String, report: &Report) {
    let (class, verdict) = if report.is_consistent() {
        ("good", "Consistent: no money was lost or made")
    } else {
        ("bad", "Inconsistent: see the checks below")
    };
    let _ = writeln!(
        html,
        "<header><h1>Daybook under load</h1>\n<p>{} users for {:.1} s, each a closed loop over a \
         connection of its own</p>\n<p class=\"verdict {class}\">{verdict}</p></header>",
        report.users, report.seconds
    );
}

fn tiles(html: &mut String, report: &Report) {
    let transfer_us = report.totals.of(Operation::Transfer);
    let (server_us, _) = report.processor_us_per_transfer();
    let ms = |quantile| format!("{:.1} ms", quantile_ms(transfer_us, quantile));
    let tiles = [
        ("transfers a second", thousands(report.transfers_per_second())),
        ("median", ms(0.5)),
        ("99th percentile", ms(0.99)),
        ("longest", format!("{:.1} ms", transfer_us.max() as f64 / 1e3)),
        ("errors", thousands(report.totals.error_count() as f64)),
        (
            "server’s processor time a transfer",
            server_us.map_or("–".to_owned(), |us| format!("{us:.0} µs")),
        ),
    ];
    html.push_str("<section class=\"tiles\">\n");
    for (name, value) in tiles {
        let _ = writeln!(html, "<div><strong>{value}</strong><span>{name}</span></div>");
    }
    html.push_str("</section>\n");
}

/// The middle of each second, from the beginning.
fn middles(series: &[Second]) -> Vec<f64> {
    let mut begun = 0.0;
    let middle = |second: &Second| {
        let middle = begun + second.length_s / 2.0;
        begun += second.length_s;
        middle
    };
    series.iter().map(middle).collect()
}

fn length(series: &[Second]) -> f64 {
    series.iter().map(|second| second.length_s).sum()
}

fn line(name: &str, series: &[Second], value: impl Fn(&Second) -> f64) -> Line {
    let points = middles(series).into_iter().zip(series.iter().map(value)).collect();
    Line { name: name.to_owned(), points }
}

/// What the tooltip of the second around `at` says.
fn describe(series: &[Second], at: f64) -> String {
    let nth = middles(series).iter().position(|middle| *middle >= at);
    let Some(second) = nth.and_then(|nth| series.get(nth)) else { return String::new() };
    format!(
        "second {}\n{} transfers, {} requests, {} errors\np50 {:.1} ms\np95 {:.1} ms\np99 {:.1} \
         ms\nlongest {:.1} ms",
        nth.unwrap_or_default() + 1,
        thousands(second.transfers as f64),
        thousands(second.requests as f64),
        second.errors,
        second.p50_ms,
        second.p95_ms,
        second.p99_ms,
        second.max_ms
    )
}

fn throughput(series: &[Second]) -> String {
    let rate = |count: u64, second: &Second| count as f64 / second.length_s.max(1e-3);
    let transfers = line("transfers", series, |second| rate(second.transfers, second));
    let most = transfers.points.iter().map(|(_, rate)| *rate).fold(1.0, f64::max);
    let mut lines = vec![transfers];
    if series.iter().any(|second| second.errors > 0) {
        lines.push(line("errors", series, |second| rate(second.errors, second)));
    }
    let (x, y) = (Axis::until("seconds", length(series)), Axis::linear("a second", most));
    draw(&x, &y, &lines, Area::Filled, &|at| describe(series, at))
}

fn latency_over_time(series: &[Second]) -> String {
    let lines = [
        line("longest", series, |second| second.max_ms),
        line("p99", series, |second| second.p99_ms),
        line("p95", series, |second| second.p95_ms),
        line("p50", series, |second| second.p50_ms),
    ];
    let most = series.iter().map(|second| second.max_ms).fold(1.0, f64::max);
    let least = series.iter().map(|second| second.p50_ms).filter(|ms| *ms > 0.0);
    let least = least.fold(most, f64::min);
    let (x, y) =
        (Axis::until("seconds", length(series)), Axis::logarithmic("milliseconds", least, most));
    draw(&x, &y, &lines, Area::Empty, &|at| describe(series, at))
}

fn distribution(report: &Report) -> String {
    let mut lines = Vec::new();
    for operation in Operation::ALL {
        let latency_us = report.totals.of(operation);
        // Beyond the last answer there is nothing to draw.
        let nines_max = (latency_us.len().max(1) as f64).log10().min(4.0);
        let steps = ((nines_max - NINES_MIN) * f64::from(POINTS_A_NINE)).floor() as u32;
        let points = (0..=steps).map(|step| {
            let nines = NINES_MIN + f64::from(step) / f64::from(POINTS_A_NINE);
            (nines, quantile_ms(latency_us, 1.0 - 10_f64.powf(-nines)))
        });
        if !latency_us.is_empty() {
            lines.push(Line { name: operation.name().to_owned(), points: points.collect() });
        }
    }
    let values = || lines.iter().flat_map(|line| line.points.iter().map(|(_, ms)| *ms));
    let y = Axis::logarithmic(
        "milliseconds",
        values().filter(|ms| *ms > 0.0).fold(1.0, f64::min),
        values().fold(1.0, f64::max),
    );
    let ticks = LADDER.map(|(nines, name)| (nines, name.to_owned()));
    let x = Axis::with_ticks("part of all that took at most so long", ticks.into());
    draw(&x, &y, &lines, Area::Empty, &|nines| {
        let quantile = 1.0 - 10_f64.powf(-nines);
        let mut text = format!("{:.4} % took at most", quantile * 100.0);
        for operation in Operation::ALL {
            let latency_us = report.totals.of(operation);
            if !latency_us.is_empty() {
                let ms = quantile_ms(latency_us, quantile);
                let _ = write!(text, "\n{} {ms:.2} ms", operation.name());
            }
        }
        text
    })
}

fn latency_table(html: &mut String, report: &Report) {
    html.push_str("<table>\n<tr><th>operation<th>answers");
    for (name, _) in QUANTILES {
        let _ = write!(html, "<th>{} ms", name.replace("p999", "p99.9"));
    }
    html.push_str("<th>max ms\n");
    for operation in Operation::ALL {
        let latency_us = report.totals.of(operation);
        if latency_us.is_empty() {
            continue;
        }
        let count = thousands(latency_us.len() as f64);
        let _ = write!(html, "<tr><td>{}<td>{count}", operation.name());
        for (_, quantile) in QUANTILES {
            let _ = write!(html, "<td>{:.2}", quantile_ms(latency_us, quantile));
        }
        let _ = writeln!(html, "<td>{:.2}", latency_us.max() as f64 / 1e3);
    }
    html.push_str("</table>\n");
}

fn paused(html: &mut String, report: &Report) {
    let Some(paused) = &report.paused else { return };
    html.push_str("<h2>While the server hung, and after</h2>\n<table class=\"about\">\n");
    for (name, value) in paused.facts() {
        let _ = writeln!(html, "<tr><th>{name}<td>{}", escaped(&value));
    }
    html.push_str("</table>\n");
}

fn checks(html: &mut String, report: &Report) {
    html.push_str("<h2>Consistency, checked from the outside after the run</h2>\n");
    html.push_str("<table class=\"checks\">\n");
    for check in &report.checks {
        let (class, word) = if check.passed() { ("good", "passed") } else { ("bad", "failed") };
        let _ = write!(
            html,
            "<tr><td class=\"{class}\">{word}<td>{}<td>{}",
            escaped(check.name),
            escaped(&check.about)
        );
        for finding in &check.findings.texts {
            let _ = write!(html, "<br><code>{}</code>", escaped(finding));
        }
        if check.findings.count > check.findings.texts.len() as u64 {
            let _ = write!(html, "<br>{} findings in all", check.findings.count);
        }
        html.push('\n');
    }
    html.push_str("</table>\n");
}

fn about(html: &mut String, report: &Report) {
    let outcomes = report.outcomes;
    let (server_us, load_us) = report.processor_us_per_transfer();
    let server_us = server_us.map_or("not known".to_owned(), |us| format!("{us:.0} µs"));
    let place = match &report.url {
        Some(url) => format!("a server at {url}"),
        None => "a server on this machine, started for the run, durable".to_owned(),
    };
    let machine = &report.machine;
    let rows = [
        ("server", format!("Daybook {}, {place}", report.version)),
        (
            "transfers",
            format!(
                "{} completed, {} compensated, {} failed, {} unknown",
                outcomes.completed, outcomes.compensated, outcomes.failed, outcomes.unknown
            ),
        ),
        ("errors", report.errors()),
        ("processor time a transfer", format!("server {server_us}, users {load_us:.0} µs")),
        (
            "machine",
            format!(
                "{} processors ({}), {:.1} GiB of memory, {}",
                machine.processors,
                machine.model,
                machine.memory_bytes as f64 / f64::from(1 << 30),
                machine.system
            ),
        ),
    ];
    html.push_str("<h2>About this run</h2>\n<table class=\"about\">\n");
    for (name, value) in rows {
        let _ = writeln!(html, "<tr><th>{name}<td>{}", escaped(&value));
    }
    html.push_str("</table>\n");
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::sample;
    use super::*;

    #[test]
    fn the_page_stands_by_itself_and_says_what_is_wrong() {
        let html = page(&sample());
        for part in
            ["Inconsistent", "a leg is missing", "300 &lt;all&gt;", "<svg", "p99.9", "half_open"]
        {
            assert!(html.contains(part), "{part}");
        }
        for part in ["<script", "http://", "https://", "url(", "@import", "NaN", "\u{1b}"] {
            assert!(!html.contains(part), "{part}");
        }
        assert_eq!(html.matches("<svg").count(), 3);
    }

    #[test]
    fn a_page_of_a_run_without_a_second_is_still_one() {
        let mut report = sample();
        report.series.clear();
        let html = page(&report);
        assert!(!html.contains("NaN") && !html.contains("inf\""), "{html}");
    }
}
