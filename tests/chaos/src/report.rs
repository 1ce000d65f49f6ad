//! What came of it: a table for a terminal, JSON for programs, a page for people ([`html`]).
//!
//! INVARIANT: a report in which nothing was run, or something could not be run to its end, has not
//! passed; what the machine cannot do is skipped and named, and fails nothing.

pub mod chart;
pub mod html;

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::time::Duration;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use daybook_client::resilience::State;
use owo_colors::OwoColorize as _;
use serde_json::{Value, json};

use crate::catalogue::{Experiment, Set};
use crate::check::Check;
use crate::experiment::Outcome;
use crate::measure::Sample;
use crate::needs::Need;

/// How an experiment ended.
#[derive(Clone, Debug)]
pub enum Ended {
    /// It was run.
    Done(Box<Outcome>),
    /// It could not be run to its end.
    Broke(String),
    /// This machine cannot.
    Skipped(String),
}

impl Ended {
    /// `passed`, `failed` or `skipped`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Ended::Done(outcome) if outcome.passed() => "passed",
            Ended::Done(_) | Ended::Broke(_) => "failed",
            Ended::Skipped(_) => "skipped",
        }
    }
}

/// All of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The server.
    pub server: String,
    /// What decided the figures.
    pub seed: u64,
    /// How long phases last.
    pub phase: Duration,
    /// The machine.
    pub machine: String,
    /// Each experiment and how it ended.
    pub entries: Vec<(Experiment, Ended)>,
}

fn ms(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.1}"),
    }
}

/// Seconds to two digits.
#[must_use]
pub fn seconds(time: Option<Duration>) -> String {
    time.map_or("–".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()))
}

fn machine() -> String {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = text("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = text("/proc/sys/kernel/osrelease");
    let model = model.map_or("unknown", |(_, name)| name);
    format!("{processors} processors ({model}), Linux {}", kernel.trim())
}

/// What the server says it is, and whether it is a debug build, if that can be told by its place.
fn describe(binary: &Path) -> String {
    let said = std::process::Command::new(binary).arg("--version").output();
    let version = said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
    let place = binary.parent().and_then(Path::file_name).unwrap_or_default();
    let build = match place.to_str() {
        Some(word @ ("debug" | "release")) => format!(", {word} build"),
        _ => String::new(),
    };
    format!("{}{build}", version.unwrap_or_default())
}

impl Report {
    /// One in which nothing was run yet.
    #[must_use]
    pub fn new(binary: &Path, seed: u64, phase: Duration) -> Report {
        let (server, machine) = (describe(binary), machine());
        Report { server, seed, phase, machine, entries: Vec::new() }
    }

    /// Adds an experiment that was tried.
    pub fn add(&mut self, experiment: &Experiment, outcome: anyhow::Result<Outcome>) {
        let ended = match outcome {
            Ok(outcome) => Ended::Done(Box::new(outcome)),
            Err(error) => Ended::Broke(format!("{error:#}")),
        };
        self.entries.push((experiment.clone(), ended));
    }

    /// Adds one that this machine cannot do.
    pub fn skipped(&mut self, experiment: &Experiment, reason: String) {
        self.entries.push((experiment.clone(), Ended::Skipped(reason)));
    }

    /// Experiments by how they ended: passed, failed, skipped.
    #[must_use]
    pub fn counts(&self) -> [usize; 3] {
        ["passed", "failed", "skipped"]
            .map(|word| self.entries.iter().filter(|(_, ended)| ended.word() == word).count())
    }

    /// Whether everything that was run passed, and something was.
    #[must_use]
    pub fn passed(&self) -> bool {
        let [passed, failed, _] = self.counts();
        passed > 0 && failed == 0
    }

    /// One line on all of it.
    #[must_use]
    pub fn last_line(&self) -> String {
        let [passed, failed, skipped] = self.counts();
        let slowest = self.entries.iter().filter_map(|(experiment, ended)| match ended {
            Ended::Done(outcome) => Some((outcome.recovery?, experiment.name)),
            _ => None,
        });
        let slowest = slowest.max().map_or(String::new(), |(recovery, name)| {
            format!(", slowest recovery {} ({name})", seconds(Some(recovery)))
        });
        let seed = self.seed;
        format!(
            "{passed} experiments passed, {failed} failed, {skipped} skipped{slowest}, seed {seed}"
        )
    }

    /// It for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let entries = self.entries.iter().map(|(experiment, ended)| {
            let mut value = json!({
                "name": experiment.name,
                "hypothesis": experiment.hypothesis,
                "fault": experiment.fault.describe(),
                "verdict": ended.word(),
            });
            match ended {
                Ended::Broke(reason) | Ended::Skipped(reason) => value["reason"] = json!(reason),
                Ended::Done(outcome) => value["outcome"] = outcome_to_json(outcome),
            }
            value
        });
        json!({
            "server": self.server,
            "machine": self.machine,
            "seed": self.seed,
            "seconds_per_phase": self.phase.as_secs(),
            "passed": self.passed(),
            "experiments": entries.collect::<Vec<_>>(),
        })
    }

    /// Says how the last experiment ended.
    pub fn print_last(&self) {
        let Some((_, ended)) = self.entries.last() else { return };
        let word = coloured(ended.word());
        match ended {
            Ended::Skipped(_) => {}
            Ended::Broke(reason) => println!("{word}: {reason}"),
            Ended::Done(outcome) => {
                let count = outcome.checks.len();
                println!("{word}, recovery {}, {count} checks", seconds(outcome.recovery));
                for check in outcome.checks.iter().filter(|check| !check.passed()) {
                    print_failed(check, self.seed);
                }
            }
        }
    }

    /// The table.
    pub fn print_summary(&self) {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header([
            "experiment",
            "verdict",
            "steady /s",
            "p99 ms",
            "fault /s",
            "p99 ms",
            "failed",
            "refused",
            "first answer",
            "as before",
        ]);
        for column in 2..10 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        for (experiment, ended) in &self.entries {
            let mut row = vec![experiment.name.to_owned(), coloured(ended.word())];
            if let Ended::Done(outcome) = ended {
                row.extend(figures(outcome));
            }
            table.add_row(row);
        }
        println!("\n{table}");
    }
}

/// Why a check failed, with what brings it about again.
fn print_failed(check: &Check, seed: u64) {
    println!(
        "  {} failed ({} findings, seed {seed}): {}",
        check.name, check.findings.count, check.about
    );
    for text in &check.findings.texts {
        // Text of a server must not be able to move somebody's cursor.
        let safe = |c: char| if c.is_control() { '\u{fffd}' } else { c };
        println!("    {}", text.chars().map(safe).collect::<String>());
    }
}

/// Attempts that failed, and those that the breaker refused at once.
#[must_use]
pub fn failures(errors: &BTreeMap<&'static str, u64>) -> (u64, u64) {
    let refused = errors.get("refused by the breaker").copied().unwrap_or_default();
    (errors.values().sum::<u64>() - refused, refused)
}

/// An outcome's columns after its verdict.
#[must_use]
pub fn figures(outcome: &Outcome) -> [String; 8] {
    let during = &outcome.during;
    let (failed, refused) = failures(&during.errors);
    [
        outcome.steady.map_or("–".to_owned(), |steady| format!("{:.0}", steady.rate)),
        ms(outcome.steady.map(|steady| steady.p99_ms)),
        format!("{:.0}", during.rate),
        ms(during.p99_ms),
        failed.to_string(),
        refused.to_string(),
        seconds(outcome.first_answer),
        seconds(outcome.recovery),
    ]
}

/// Why attempts failed, the most frequent first; nothing if none did.
#[must_use]
pub fn kinds(errors: &BTreeMap<&'static str, u64>) -> String {
    let mut kinds: Vec<_> = errors.iter().map(|(why, count)| (*count, *why)).collect();
    kinds.sort_unstable_by(|one, other| other.cmp(one));
    kinds.iter().map(|(count, why)| format!("{count} {why}")).collect::<Vec<_>>().join(", ")
}

fn coloured(word: &str) -> String {
    if !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some() {
        return word.to_owned();
    }
    match word {
        "passed" => word.green().to_string(),
        "failed" => word.red().bold().to_string(),
        _ => word.dimmed().to_string(),
    }
}

/// Says that an experiment begins; how it ends follows on the same line.
pub fn print_begin(experiment: &Experiment) {
    print!("{:14} {} ... ", experiment.name, experiment.fault.describe());
    // Nobody reads it: nothing to do about that.
    let _ = std::io::stdout().flush();
}

/// The experiments, and why this machine cannot do some.
pub fn print_list(experiments: &[Experiment], missing: &BTreeMap<Need, String>) {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["experiment", "set", "fault", "hypothesis", "here"]);
    for experiment in experiments {
        let need = experiment.fault.needs().iter().find(|need| missing.contains_key(need));
        let here = need.map_or("yes".to_owned(), |need| format!("no: {}", need.as_str()));
        let set = if experiment.set == Set::Short { "short" } else { "long" };
        let fault = experiment.fault.describe();
        table.add_row([experiment.name, set, &fault, experiment.hypothesis, &here]);
    }
    println!("{table}");
    for (need, reason) in missing {
        println!("not here: {}: {reason}", need.as_str());
    }
}

fn outcome_to_json(outcome: &Outcome) -> Value {
    let since = |at: Duration| at.as_secs_f64() - outcome.begun.as_secs_f64();
    let steady = outcome
        .steady
        .map(|steady| json!({ "rate": rounded(steady.rate), "p99_ms": rounded(steady.p99_ms) }));
    let checks = outcome.checks.iter().map(|check| {
        json!({
            "name": check.name,
            "passed": check.passed(),
            "about": check.about,
            "findings": check.findings.count,
            "first_findings": check.findings.texts,
        })
    });
    let breaker = outcome
        .breaker
        .iter()
        .map(|change| json!({ "at_s": rounded(since(change.at)), "to": change.to.as_str() }));
    json!({
        "steady": steady,
        "during": sample_to_json(&outcome.during, since(outcome.during.from)),
        "fault_from_s": rounded(since(outcome.fault.0)),
        "fault_to_s": rounded(since(outcome.fault.1)),
        "recovery_counts_from": if outcome.experiment.fault.is_a_blow() { "begin" } else { "end" },
        "first_answer_s": outcome.first_answer.map(|time| rounded(time.as_secs_f64())),
        "recovery_s": outcome.recovery.map(|time| rounded(time.as_secs_f64())),
        "breaker_opened": outcome.breaker.iter().filter(|c| c.to == State::Open).count(),
        "breaker": breaker.collect::<Vec<_>>(),
        "checks": checks.collect::<Vec<_>>(),
        "notes": outcome.notes,
        "series": outcome.series.iter()
            .map(|sample| sample_to_json(sample, since(sample.from)))
            .collect::<Vec<_>>(),
    })
}

fn sample_to_json(sample: &Sample, at_s: f64) -> Value {
    json!({
        "at_s": rounded(at_s),
        "rate": rounded(sample.rate),
        "appends": sample.appends,
        "transfers": sample.transfers,
        "p50_ms": sample.p50_ms.map(rounded),
        "p99_ms": sample.p99_ms.map(rounded),
        "errors": sample.errors,
        "ready": sample.ready,
        "delivered": sample.delivered,
    })
}

/// To three digits after the point: more is noise.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[cfg(test)]
pub mod tests {
    use crate::catalogue;
    use crate::journal::Findings;
    use crate::measure::{Done, Kind, Notes, SECOND, Steady};
    use crate::users::BreakerChange;

    use super::*;

    /// A run of one experiment that passed, one that failed, one that broke and one that was
    /// skipped.
    #[must_use]
    pub fn sample() -> Report {
        let all = catalogue::all(0);
        let outcome = |passes: bool| {
            let mut notes = Notes::default();
            for at in (0..9_000).step_by(10).filter(|at| !(3_000..6_500).contains(at)) {
                let at = Duration::from_millis(at);
                notes.done.push(Done { at, took: SECOND / 50, kind: Kind::Append });
            }
            notes.failed =
                vec![(SECOND * 4, "refused by the breaker"), (SECOND * 4, "no answer in time")];
            let mut findings = Findings::default();
            if !passes {
                findings.add(|| "lost: <b>\"one\"</b> & \u{1b}[31m".to_owned());
            }
            let experiment = all[0].clone();
            let series = notes.series(Duration::ZERO, SECOND * 9);
            let fault = (SECOND * 3, SECOND * 6);
            Outcome {
                experiment,
                series,
                begun: Duration::ZERO,
                fault,
                steady: Some(Steady { rate: 100.0, p99_ms: 20.0 }),
                during: notes.sample(fault.0, fault.1 - fault.0),
                first_answer: Some(SECOND / 2),
                recovery: passes.then_some(SECOND / 4),
                breaker: vec![
                    BreakerChange { at: SECOND * 4, to: State::Open },
                    BreakerChange { at: SECOND * 5, to: State::HalfOpen },
                    BreakerChange { at: SECOND * 6, to: State::Closed },
                ],
                checks: vec![Check { name: "once", about: "9 <events>".to_owned(), findings }],
                notes: vec!["the store says: <poisoned>".to_owned()],
            }
        };
        let mut report = Report::new(Path::new("/nowhere/release/daybook"), 7, SECOND * 3);
        report.machine = "2 processors".to_owned();
        report.add(&all[0], Ok(outcome(true)));
        report.add(&all[1], Ok(outcome(false)));
        report.add(&all[2], Err(anyhow::anyhow!("no <server>")));
        report.skipped(&all[3], "it needs netem: no".to_owned());
        report
    }

    #[test]
    fn one_failure_fails_the_run_and_a_skipped_one_does_not() {
        let mut report = sample();
        assert_eq!(report.counts(), [1, 2, 1]);
        assert!(!report.passed());
        let line = report.last_line();
        assert!(line.contains("1 experiments passed, 2 failed, 1 skipped"), "{line}");
        assert!(line.contains("0.25 s (latency), seed 7"), "{line}");
        report.entries.retain(|(_, ended)| ended.word() != "failed");
        assert!(report.passed());
        report.entries.retain(|(_, ended)| ended.word() == "skipped");
        assert!(!report.passed(), "nothing was run");
    }

    #[test]
    fn programs_find_verdicts_figures_and_reasons() {
        let value = sample().to_json();
        let experiments = &value["experiments"];
        assert_eq!(experiments[0]["verdict"], "passed");
        assert_eq!(experiments[0]["outcome"]["recovery_s"], 0.25);
        assert_eq!(experiments[0]["outcome"]["fault_from_s"], 3.0);
        assert_eq!(experiments[0]["outcome"]["during"]["errors"]["no answer in time"], 1);
        assert_eq!(experiments[0]["outcome"]["breaker"][1]["to"], "half_open");
        assert_eq!(experiments[1]["outcome"]["checks"][0]["findings"], 1);
        assert_eq!(experiments[2]["reason"], "no <server>");
        assert_eq!(experiments[3]["verdict"], "skipped");
        assert_eq!((&value["seed"], &value["passed"]), (&json!(7), &json!(false)));
    }

    #[test]
    fn what_the_breaker_refused_is_no_failure_of_the_server() {
        let errors = [("refused by the breaker", 40), ("unreachable", 2), ("no answer in time", 3)];
        let errors = BTreeMap::from(errors);
        assert_eq!(failures(&errors), (5, 40));
        let expected = "40 refused by the breaker, 3 no answer in time, 2 unreachable";
        assert_eq!(kinds(&errors), expected);
    }
}
