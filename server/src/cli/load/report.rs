//! What a run says: tables for people, JSON for programs. The page is [`super::html`]'s.

use std::fmt::Write as _;

use comfy_table::{Cell, CellAlignment};
use owo_colors::OwoColorize as _;
use serde_json::{Value, json};

use super::pause::Paused;
use super::stats::{Operation, Second, Totals, quantile_ms};
use super::verdict::Check;
use crate::cli::report::{colours, escaped, facts, table};

/// The percentiles that are told, and their names.
pub const QUANTILES: [(&str, f64); 4] =
    [("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)];

/// What became of the transfers, as their senders were told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// The money has arrived.
    pub completed: u64,
    /// It has not left, or come back.
    pub compensated: u64,
    /// The saga needs a human.
    pub failed: u64,
    /// No answer came.
    pub unknown: u64,
}

/// Processor seconds of the server and of the load while transfers were measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Processor {
    /// Of the server, if it was started here.
    pub server_s: Option<f64>,
    /// Of the users, all in this process.
    pub load_s: f64,
}

/// The machine that carried the load, and the server if it was started here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Processors.
    pub processors: usize,
    /// Their model.
    pub model: String,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// The system and its version.
    pub system: String,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The server's version.
    pub version: String,
    /// Where it was; none if it was started for the run.
    pub url: Option<String>,
    /// The machine.
    pub machine: Machine,
    /// Users.
    pub users: u32,
    /// How long transfers were measured, in seconds.
    pub seconds: f64,
    /// The seconds of that time.
    pub series: Vec<Second>,
    /// Latencies and errors of the whole run.
    pub totals: Totals,
    /// What became of the transfers.
    pub outcomes: Outcomes,
    /// Processor time.
    pub processor: Processor,
    /// The phase in which the server hung, if there was one.
    pub paused: Option<Paused>,
    /// Consistency.
    pub checks: Vec<Check>,
}

impl Report {
    /// Whether all checks passed.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(Check::passed)
    }

    /// Transfers that reached a final state, a second.
    #[must_use]
    pub fn transfers_per_second(&self) -> f64 {
        self.rate(|second| second.transfers)
    }

    /// Requests that were answered, a second.
    #[must_use]
    pub fn requests_per_second(&self) -> f64 {
        self.rate(|second| second.requests)
    }

    fn rate(&self, count: impl Fn(&Second) -> u64) -> f64 {
        let count: u64 = self.series.iter().map(count).sum();
        if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 }
    }

    /// Of all requests, the part that failed.
    #[must_use]
    pub fn error_rate(&self) -> f64 {
        let errors = self.totals.error_count();
        let all = errors + self.totals.answers();
        errors as f64 / all.max(1) as f64
    }

    /// Microseconds of processor time a transfer, of the server and of the load.
    #[must_use]
    pub fn processor_us_per_transfer(&self) -> (Option<f64>, f64) {
        let transfers: u64 = self.series.iter().map(|second| second.transfers).sum();
        let each = |seconds: f64| seconds * 1e6 / transfers.max(1) as f64;
        (self.processor.server_s.map(each), each(self.processor.load_s))
    }

    /// The report for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let latency = Operation::ALL.into_iter().map(|operation| {
            let latency_us = self.totals.of(operation);
            let quantiles = QUANTILES.map(|(name, quantile)| {
                (name.to_owned(), json!(rounded(quantile_ms(latency_us, quantile))))
            });
            let mut value: serde_json::Map<_, _> = quantiles.into_iter().collect();
            value.insert("max".to_owned(), json!(rounded(latency_us.max() as f64 / 1e3)));
            value.insert("mean".to_owned(), json!(rounded(latency_us.mean() / 1e3)));
            value.insert("count".to_owned(), json!(latency_us.len()));
            (operation.name().to_owned(), Value::Object(value))
        });
        let latency: serde_json::Map<_, _> = latency.collect();
        let (server_us, load_us) = self.processor_us_per_transfer();
        json!({
            "transfers_per_second": rounded(self.transfers_per_second()),
            "requests_per_second": rounded(self.requests_per_second()),
            "errors": self.totals.error_count(),
            "error_rate": self.error_rate(),
            "errors_by_name": self.totals.errors,
            "users": self.users,
            "seconds": rounded(self.seconds),
            "latency_ms": latency,
            "outcomes": {
                "completed": self.outcomes.completed,
                "compensated": self.outcomes.compensated,
                "failed": self.outcomes.failed,
                "unknown": self.outcomes.unknown,
            },
            "pause": self.paused.as_ref().map(Paused::to_json),
            "consistent": self.is_consistent(),
            "checks": self.checks.iter().map(check_to_json).collect::<Vec<_>>(),
            "server": {
                "version": self.version,
                "url": self.url,
                "cpu_seconds": self.processor.server_s.map(rounded),
                "cpu_us_per_transfer": server_us.map(rounded),
            },
            "load": {
                "cpu_seconds": rounded(self.processor.load_s),
                "cpu_us_per_transfer": rounded(load_us),
            },
            "machine": {
                "processors": self.machine.processors,
                "model": self.machine.model,
                "memory_bytes": self.machine.memory_bytes,
                "system": self.machine.system,
            },
            "series": self.series.iter().map(second_to_json).collect::<Vec<_>>(),
        })
    }

    /// The report for people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let (server_us, load_us) = self.processor_us_per_transfer();
        let cpu = match server_us {
            Some(server_us) => {
                format!("server {server_us:.0} us a transfer, users {load_us:.0} us")
            }
            None => format!("users {load_us:.0} us a transfer"),
        };
        let Outcomes { completed, compensated, failed, unknown } = self.outcomes;
        let mut lines = vec![
            ("transfers", format!("{} a second", thousands(self.transfers_per_second()))),
            ("requests", format!("{} a second", thousands(self.requests_per_second()))),
            ("users", format!("{}, for {:.1} s", self.users, self.seconds)),
            (
                "outcomes",
                format!(
                    "{completed} completed, {compensated} compensated, {failed} failed, {unknown} \
                     unknown"
                ),
            ),
            ("errors", self.errors()),
            ("processor", cpu),
        ];
        lines.extend(self.paused.iter().flat_map(Paused::facts));
        let mut text = facts(&lines);
        let _ = writeln!(text, "\n{}\n", self.latency_table());
        for check in &self.checks {
            let word = match check.passed() {
                true if colours() => "ok    ".green().to_string(),
                true => "ok    ".to_owned(),
                false if colours() => "FAILED".red().bold().to_string(),
                false => "FAILED".to_owned(),
            };
            let _ = writeln!(text, "{word}  {:<13}  {}", check.name, check.about);
            for finding in &check.findings.texts {
                let _ = writeln!(text, "          {}", escaped(finding));
            }
            let told = check.findings.texts.len() as u64;
            if check.findings.count > told {
                let _ = writeln!(text, "          … and {} more", check.findings.count - told);
            }
        }
        let verdict = if self.is_consistent() { "consistent" } else { "INCONSISTENT" };
        let verdict = match (colours(), self.is_consistent()) {
            (true, true) => verdict.green().bold().to_string(),
            (true, false) => verdict.red().bold().to_string(),
            (false, _) => verdict.to_owned(),
        };
        let _ = writeln!(text, "\n{verdict}");
        text
    }

    /// The errors by name.
    #[must_use]
    pub fn errors(&self) -> String {
        let count = self.totals.error_count();
        if count == 0 {
            return "none".to_owned();
        }
        let names = self.totals.errors.iter().map(|(name, count)| format!("{count} x {name}"));
        let names: Vec<_> = names.collect();
        format!("{count} ({:.3} %): {}", self.error_rate() * 100.0, names.join(", "))
    }

    fn latency_table(&self) -> comfy_table::Table {
        let mut table =
            table(&["operation", "answers", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms", "max ms"]);
        for operation in Operation::ALL {
            let latency_us = self.totals.of(operation);
            if latency_us.is_empty() {
                continue;
            }
            let quantiles = QUANTILES.map(|(_, quantile)| quantile_ms(latency_us, quantile));
            let cells = quantiles.into_iter().chain([latency_us.max() as f64 / 1e3]);
            let count = thousands(latency_us.len() as f64);
            let cells = std::iter::once(count).chain(cells.map(|ms| format!("{ms:.2}")));
            let cells = cells.map(|text| Cell::new(text).set_alignment(CellAlignment::Right));
            table.add_row(std::iter::once(Cell::new(operation.name())).chain(cells));
        }
        table
    }
}

fn check_to_json(check: &Check) -> Value {
    json!({
        "name": check.name,
        "passed": check.passed(),
        "about": check.about,
        "findings": check.findings.count,
        "first_findings": check.findings.texts,
    })
}

fn second_to_json(second: &Second) -> Value {
    json!({
        "seconds": rounded(second.length_s),
        "transfers": second.transfers,
        "requests": second.requests,
        "errors": second.errors,
        "p50_ms": rounded(second.p50_ms),
        "p95_ms": rounded(second.p95_ms),
        "p99_ms": rounded(second.p99_ms),
        "max_ms": rounded(second.max_ms),
    })
}

/// To three digits after the point: more is noise.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// `1234567.8` as `1,234,568`.
#[must_use]
pub fn thousands(number: f64) -> String {
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
pub(super) mod tests {
    use std::time::Duration;

    use super::super::audit::Findings;
    use super::super::stats::Recorder;
    use super::*;

    /// A report of three seconds, with all there can be in it.
    #[must_use]
    pub fn sample() -> Report {
        let recorder = Recorder::new();
        let mut series = Vec::new();
        for second in 1..=3 {
            for user in 0..100 {
                let latency = Duration::from_micros(u64::from(user * second) * 37 + 900);
                recorder.answered(user, Operation::Transfer, latency);
                recorder.answered(user, Operation::Account, latency / 3);
            }
            series.push(recorder.take_second(Duration::from_secs(1)));
        }
        recorder.failed(1, "<overloaded>");
        let mut findings = Findings::default();
        findings.add(|| "a leg is missing \u{1b}[2J <script>".to_owned());
        Report {
            version: "1.2.3".to_owned(),
            url: None,
            machine: Machine::default(),
            users: 100,
            seconds: 3.0,
            series,
            totals: recorder.totals(),
            outcomes: Outcomes { completed: 290, compensated: 10, failed: 0, unknown: 0 },
            processor: Processor { server_s: Some(0.03), load_s: 0.01 },
            paused: Some(super::super::pause::tests::sample()),
            checks: vec![
                Check { name: "quiet", about: "all".to_owned(), findings: Findings::default() },
                Check { name: "transfers", about: "300 <all>".to_owned(), findings },
            ],
        }
    }

    #[test]
    fn programs_find_the_figures_by_their_names() {
        let mut report = sample();
        let value = report.to_json();
        assert_eq!(value["transfers_per_second"], 100.0);
        assert_eq!(value["requests_per_second"], 200.0);
        assert_eq!((&value["errors"], &value["users"]), (&json!(1), &json!(100)));
        assert_eq!(value["error_rate"], 1.0 / 601.0);
        for name in ["p50", "p95", "p99", "p999", "max"] {
            let ms = value["latency_ms"]["transfer"][name].as_f64().expect("a number");
            assert!((0.9..13.0).contains(&ms), "{name}: {ms}");
        }
        assert_eq!(value["outcomes"]["compensated"], 10);
        assert_eq!(value["server"]["cpu_us_per_transfer"], 100.0);
        assert_eq!(value["series"].as_array().map(Vec::len), Some(3));
        assert_eq!(value["pause"]["calls_rejected"], 4_321);
        assert_eq!(value["consistent"], false);
        report.checks.pop();
        assert_eq!(report.to_json()["consistent"], true);
        report.checks.clear();
        assert!(!report.is_consistent(), "nothing was checked");
    }

    #[test]
    fn people_see_what_is_wrong() {
        let text = sample().to_text();
        for part in ["100 a second", "FAILED  transfers", "a leg is missing", "INCONSISTENT"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn large_numbers_are_readable() {
        for (number, text) in [(0.4, "0"), (999.0, "999"), (1_234_567.8, "1,234,568")] {
            assert_eq!(thousands(number), text);
        }
    }
}
