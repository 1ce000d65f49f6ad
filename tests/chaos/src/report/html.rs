//! The report as one page that stands by itself: no script, nothing loaded, light and dark.
//!
//! INVARIANT: whatever came from outside is escaped.

use std::fmt::Write as _;

use super::chart::{draw, escaped};
use super::{Ended, Report, figures, kinds, seconds};
use crate::catalogue::Experiment;
use crate::check::Check;
use crate::experiment::Outcome;

const STYLE: &str = include_str!("report.css");

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut html = String::with_capacity(256 * 1024);
    let _ = write!(
        html,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Daybook: chaos</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
    heading(&mut html, report);
    summary(&mut html, report);
    for (experiment, ended) in &report.entries {
        section(&mut html, experiment, ended);
    }
    about(&mut html, report);
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

fn heading(html: &mut String, report: &Report) {
    let [passed, failed, skipped] = report.counts();
    let (class, verdict) = if report.passed() {
        ("passed", "Nothing was lost, and all came back")
    } else {
        ("failed", "Not as it should be: see below")
    };
    let _ = writeln!(
        html,
        "<header><h1>Daybook, while things fail</h1>\n<p>{passed} experiments passed, {failed} \
         failed, {skipped} skipped. {}; seed {}; phases of {} s.</p>\n\
         <p class=\"verdict {class}\">{verdict}</p></header>",
        escaped(&report.server),
        report.seed,
        report.phase.as_secs()
    );
}

fn summary(html: &mut String, report: &Report) {
    html.push_str(
        "<div class=\"wide\"><table class=\"summary\">\n<thead><tr><th rowspan=\"2\">experiment\
         <th rowspan=\"2\">verdict<th colspan=\"2\" class=\"group\">steady<th colspan=\"4\" \
         class=\"group\">in the fault<th colspan=\"2\" class=\"group\">after it</tr>\n\
         <tr><th>done/s<th>p99 ms<th>done/s<th>p99 ms<th>failed<th>refused<th>first answer\
         <th>as before</tr></thead>\n<tbody>\n",
    );
    for (experiment, ended) in &report.entries {
        let (name, word) = (experiment.name, ended.word());
        let _ = write!(html, "<tr><td><a href=\"#{name}\">{name}</a><td class=\"{word}\">{word}");
        match ended {
            Ended::Done(outcome) => {
                for figure in figures(outcome) {
                    let _ = write!(html, "<td>{}", escaped(&figure));
                }
            }
            Ended::Broke(reason) | Ended::Skipped(reason) => {
                let _ = write!(html, "<td colspan=\"8\" class=\"reason\">{}", escaped(reason));
            }
        }
        html.push('\n');
    }
    html.push_str("</tbody></table></div>\n");
}

fn section(html: &mut String, experiment: &Experiment, ended: &Ended) {
    let Ended::Done(outcome) = ended else { return };
    let (name, word) = (experiment.name, ended.word());
    let _ = writeln!(
        html,
        "<section class=\"card\" id=\"{name}\">\n<h2>{name} <span class=\"verdict {word}\">{word}\
         </span></h2>\n<p class=\"hypothesis\">{}</p>\n<p class=\"what\">{}</p>",
        escaped(experiment.hypothesis),
        escaped(&outcome.experiment.fault.describe())
    );
    tiles(html, outcome);
    html.push_str(&draw(outcome));
    html.push_str(
        "<p class=\"legend\"><span class=\"key failed\"></span>failed <span class=\"key refused\">\
         </span>refused at once by the breaker <span class=\"key state-good\"></span>ready, closed \
         <span class=\"key state-half\"></span>half-open <span class=\"key state-bad\"></span>not \
         ready, open <span class=\"dash\"></span>near enough to the steady phase</p>\n",
    );
    let kinds = kinds(&outcome.during.errors);
    if !kinds.is_empty() {
        let _ = writeln!(html, "<p class=\"what\">Attempts in the fault: {}.</p>", escaped(&kinds));
    }
    for note in &outcome.notes {
        let _ = writeln!(html, "<p class=\"note\">{}</p>", escaped(note));
    }
    checks(html, &outcome.checks);
    html.push_str("</section>\n");
}

fn tiles(html: &mut String, outcome: &Outcome) {
    let during = &outcome.during;
    let share = outcome
        .steady
        .map_or("–".to_owned(), |steady| format!("{:.0} %", during.rate / steady.rate * 100.0));
    let longest = seconds(Some(outcome.fault.1 - outcome.fault.0));
    let from = if outcome.experiment.fault.is_a_blow() { "its beginning" } else { "its end" };
    let tiles = [
        ("the fault lasted".to_owned(), longest),
        ("of the steady rate in it".to_owned(), share),
        (format!("from {from} to the first answer"), seconds(outcome.first_answer)),
        (format!("from {from} until all was as before"), seconds(outcome.recovery)),
    ];
    html.push_str("<div class=\"tiles\">\n");
    for (name, value) in tiles {
        let _ = writeln!(html, "<div><strong>{value}</strong><span>{name}</span></div>");
    }
    html.push_str("</div>\n");
}

fn checks(html: &mut String, checks: &[Check]) {
    let failed = checks.iter().filter(|check| !check.passed()).count();
    let (open, word) = match failed {
        0 => ("", format!("{} checks passed", checks.len())),
        _ => (" open", format!("{failed} of {} checks failed", checks.len())),
    };
    let _ = writeln!(html, "<details{open}><summary>{word}</summary>\n<table class=\"checks\">");
    for check in checks {
        let word = if check.passed() { "passed" } else { "failed" };
        let (name, about) = (escaped(check.name), escaped(&check.about));
        let _ = write!(html, "<tr><td class=\"{word}\">{word}<td>{name}<td>{about}");
        for finding in &check.findings.texts {
            let _ = write!(html, "<br><code>{}</code>", escaped(finding));
        }
        if check.findings.count > check.findings.texts.len() as u64 {
            let _ = write!(html, "<br>{} findings in all", check.findings.count);
        }
        html.push('\n');
    }
    html.push_str("</table></details>\n");
}

fn about(html: &mut String, report: &Report) {
    let _ = writeln!(
        html,
        "<footer><p>{}. Eight users append to streams, six move money, two follow everything, all \
         through a proxy, a timeout of 2 s and one circuit breaker. “As before” is the first second \
         with at least half of the steady rate and at most three times its p99 (or 150 ms), the \
         server ready; for a blow it counts from its beginning, else from the fault’s end. A latency \
         is what a user waits until it is done, whatever is tried in between.</p></footer>",
        escaped(&report.machine)
    );
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn the_page_stands_by_itself_and_says_what_is_wrong() {
        let html = page(&sample());
        for part in [
            "Not as it should be",
            "lost: &lt;b&gt;&quot;one&quot;&lt;/b&gt; &amp; \u{fffd}[31m",
            "9 &lt;events&gt;",
            "no &lt;server&gt;",
            "&lt;poisoned&gt;",
            "it needs netem",
            "<details open>",
            "prefers-color-scheme: dark",
        ] {
            assert!(html.contains(part), "{part}");
        }
        for part in ["<script", "http://", "https://", "url(", "@import", "NaN", "\u{1b}"] {
            assert!(!html.contains(part), "{part}");
        }
        assert_eq!(html.matches("<svg").count(), 2);
    }
}
