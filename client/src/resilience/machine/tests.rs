//! Every transition, as scripts: what happens at which millisecond, and what the machine says.
//!
//! `ok`, `fail`, `ignored`, `cancelled` are whole calls, `slow …` such that took long; `a?` asks
//! for a call that is still out, `a fail` ends it. Repeated with `*n`. Silence means: nothing changed.

use std::collections::BTreeMap;

use super::super::settings::Window;
use super::*;

fn settings() -> BreakerSettings {
    BreakerSettings {
        failures_in_a_row: Some(3),
        failure_percent: Some(50),
        slow_percent: Some(60),
        slow_after: Duration::from_millis(100),
        window: Window::Calls(10),
        calls_min: 5,
        probes_max: 2,
        successes_to_close: 3,
        probe_silence_max: Duration::from_secs(30),
        open_first: Duration::from_secs(1),
        open_factor: 2,
        open_max: Duration::from_secs(5),
        jitter_percent: 0,
        healthy_after: Duration::from_secs(10),
    }
}

struct Script {
    machine: Machine,
    out: BTreeMap<String, Ticket>,
    now: Duration,
}

impl Script {
    /// Does `words`, and says what came of it.
    fn does(&mut self, words: &str) -> String {
        match words {
            "force open" => return change(self.machine.force_open()),
            "force closed" => return change(self.machine.force_closed()),
            "release" => return change(self.machine.release(self.now)),
            _ => {}
        }
        if let Some(name) = words.strip_suffix('?') {
            let (admitted, caused) = self.machine.admit(self.now);
            let told = change(caused);
            return match admitted {
                Ok(ticket) => {
                    self.out.insert(name.to_owned(), ticket);
                    told
                }
                Err(refusal) => format!("{told} refused {}", refused(refusal)).trim().to_owned(),
            };
        }
        let (name, verdict) = words.rsplit_once(' ').unwrap_or(("", words));
        let (slow, name) = (name.starts_with("slow"), name.trim_start_matches("slow").trim());
        let verdict = match verdict {
            "ok" => Verdict::Success,
            "fail" => Verdict::Failure,
            "ignored" => Verdict::Ignored,
            "cancelled" => Verdict::Cancelled,
            other => panic!("what is {other}?"),
        };
        let mut told = String::new();
        if name.is_empty() {
            told = self.does("?");
            if told.contains("refused") {
                return told;
            }
        }
        let ticket = self.out.remove(name).expect("it is out");
        let took = Duration::from_millis(if slow { 100 } else { 99 });
        let finished = self.machine.finish(self.now, ticket, verdict, took);
        let late = if finished.late { "late" } else { "" };
        [told, change(finished.change), late.to_owned()].join(" ").trim().to_owned()
    }
}

fn change(change: Option<Change>) -> String {
    let Some(Change { from, to, reason, open_for, trips }) = change else { return String::new() };
    let reason = match reason {
        Reason::FailureRate(sums) => format!("{}/{} failed", sums.failures, sums.calls),
        Reason::SlowRate(sums) => format!("{}/{} slow", sums.slow, sums.calls),
        other => format!("{other:?}"),
    };
    let open_for = open_for.map_or(String::new(), |time| format!(" for {time:?} trip {trips}"));
    format!("{}>{} {reason}{open_for}", from.as_str(), to.as_str())
}

fn refused(refusal: Refusal) -> String {
    let after = refusal.retry_after.map_or("?".to_owned(), |after| format!("{after:?}"));
    format!("{} {after}", refusal.state.as_str())
}

/// Runs a script: `milliseconds | what | what it says`, a line each.
fn run(settings: BreakerSettings, script: &str) {
    settings.check().expect("valid");
    let machine = Machine::new(settings, 1, Duration::ZERO);
    let mut running = Script { machine, out: BTreeMap::new(), now: Duration::ZERO };
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut parts = line.split('|').map(str::trim);
        let at = parts.next().and_then(|at| at.parse().ok()).expect("a time");
        running.now = Duration::from_millis(at);
        let (words, times) = parts.next().map_or(("", 1), |what| {
            what.split_once('*')
                .map_or((what, 1), |(w, n)| (w.trim(), n.trim().parse().expect("n")))
        });
        let expected = parts.next().unwrap_or("");
        for time in 1..=times {
            let found = running.does(words);
            let expected = if time == times { expected } else { "" };
            assert_eq!(found, expected, "time {time} of: {line}");
        }
    }
}

#[test]
fn failures_in_a_row_open_it() {
    run(
        settings(),
        "0 | fail * 2     |
         0 | ok           |
         0 | fail * 2     | closed>open 4/5 failed for 1s trip 1",
    );
    let row_only = BreakerSettings { failure_percent: None, ..settings() };
    run(
        row_only.clone(),
        "0 | fail * 2     |
         0 | ok           |
         0 | fail * 2     |
         0 | ignored      |
         0 | cancelled    |
         0 | fail         | closed>open FailuresInARow(3) for 1s trip 1
         0 | ok           | refused open 1s",
    );
    run(BreakerSettings { failures_in_a_row: None, ..row_only }, "0 | fail * 1000 |");
}

#[test]
fn a_failure_rate_opens_it_from_a_number_of_calls() {
    let rate = BreakerSettings { failures_in_a_row: None, ..settings() };
    run(rate.clone(), "0 | fail * 5 | closed>open 5/5 failed for 1s trip 1");
    run(
        rate.clone(),
        "0 | fail * 4     |
         0 | ignored * 9  |
         0 | ok           | closed>open 4/5 failed for 1s trip 1",
    );
    // 4 of 10, then one more failure for the oldest success.
    run(
        rate.clone(),
        "0 | ok * 6       |
         0 | fail * 4     |
         0 | fail         | closed>open 5/10 failed for 1s trip 1",
    );
    let window = Window::Time { length: Duration::from_secs(10), parts: 10 };
    run(
        BreakerSettings { window, ..rate },
        "0     | ok * 6   |
         1000  | fail * 4 |
         9999  | ok       |
         10000 | ignored  |
         10000 | fail     | closed>open 5/6 failed for 1s trip 1",
    );
}

#[test]
fn a_slow_rate_opens_it_however_the_calls_end() {
    let slow = BreakerSettings { failures_in_a_row: None, failure_percent: None, ..settings() };
    run(
        slow.clone(),
        "0 | ok * 2           |
         0 | slow ok          |
         0 | slow fail        |
         0 | slow cancelled   | closed>open 3/5 slow for 1s trip 1",
    );
    run(
        slow.clone(),
        "0 | ok * 2           |
         0 | slow ignored * 9 |
         0 | cancelled * 9    |
         0 | slow ok * 2      |
         0 | ok               |",
    );
    run(BreakerSettings { slow_percent: None, ..slow }, "0 | slow fail * 1000 |");
}

#[test]
fn half_open_lets_a_few_through_and_needs_their_successes() {
    run(
        settings(),
        "0    | fail * 3 | closed>open FailuresInARow(3) for 1s trip 1
         999  | ok       | refused open 1ms
         1000 | a?       | open>half_open OpenTimeOver
         1000 | b?       |
         1000 | c?       | refused half_open ?
         1000 | a ok     |
         1000 | c?       |
         1000 | d?       | refused half_open ?
         1000 | b ignored|
         1000 | d?       |
         1000 | d cancelled |
         1000 | c ok     |
         1000 | ok       | half_open>closed ProbesSucceeded(3)
         1000 | fail * 2 |
         1000 | fail     | closed>open FailuresInARow(3) for 2s trip 2",
    );
}

#[test]
fn one_bad_probe_opens_it_again() {
    let script = |bad: &str, told: &str| {
        format!(
            "0    | fail * 3 | closed>open FailuresInARow(3) for 1s trip 1
             1000 | ok       | open>half_open OpenTimeOver
             1000 | ok       |
             1000 | a?       |
             1000 | b?       |
             1000 | {bad}    | {told}
             1000 | b ok     | {}
             2000 | ok       | {}",
            if told.is_empty() { "half_open>closed ProbesSucceeded(3)" } else { "late" },
            if told.is_empty() { "" } else { "refused open 1s" }
        )
    };
    run(settings(), &script("a fail", "half_open>open ProbeFailed for 2s trip 2"));
    run(settings(), &script("slow a ok", "half_open>open ProbeSlow for 2s trip 2"));
    run(settings(), &script("slow a cancelled", "half_open>open ProbeSlow for 2s trip 2"));
    run(settings(), &script("slow a ignored", ""));
    let slow_is_fine = BreakerSettings { slow_percent: None, ..settings() };
    run(slow_is_fine, &script("slow a cancelled", ""));
}

#[test]
fn probes_that_never_end_count_as_failed() {
    run(
        settings(),
        "0     | fail * 3 | closed>open FailuresInARow(3) for 1s trip 1
         1000  | a?       | open>half_open OpenTimeOver
         5000  | b?       |
         34999 | c?       | refused half_open ?
         35000 | c?       | half_open>open ProbesSilent for 2s trip 2 refused open 2s
         36000 | a ok     | late
         37000 | ok       | open>half_open OpenTimeOver",
    );
    // With a place left there is nothing to give up on.
    run(
        settings(),
        "0      | fail * 3 | closed>open FailuresInARow(3) for 1s trip 1
         1000   | a?       | open>half_open OpenTimeOver
         900000 | b?       |",
    );
}

#[test]
fn open_times_grow_to_a_limit_and_begin_anew_after_health() {
    run(
        settings(),
        "0     | fail * 3 | closed>open FailuresInARow(3) for 1s trip 1
         1000  | fail     | open>half_open OpenTimeOver half_open>open ProbeFailed for 2s trip 2
         3000  | fail     | open>half_open OpenTimeOver half_open>open ProbeFailed for 4s trip 3
         7000  | fail     | open>half_open OpenTimeOver half_open>open ProbeFailed for 5s trip 4
         12000 | fail     | open>half_open OpenTimeOver half_open>open ProbeFailed for 5s trip 5
         17000 | ok       | open>half_open OpenTimeOver
         17000 | ok * 2   | half_open>closed ProbesSucceeded(3)
         26999 | fail * 3 | closed>open FailuresInARow(3) for 5s trip 6
         31999 | ok       | open>half_open OpenTimeOver
         31999 | ok * 2   | half_open>closed ProbesSucceeded(3)
         41999 | fail * 3 | closed>open FailuresInARow(3) for 1s trip 1",
    );
}

#[test]
fn what_ends_after_a_change_says_nothing() {
    run(
        settings(),
        "0    | a?       |
         0    | b?       |
         0    | c?       |
         0    | fail * 3 | closed>open FailuresInARow(3) for 1s trip 1
         500  | a ok     | late
         1000 | ok       | open>half_open OpenTimeOver
         1000 | b fail   | late
         1000 | ok * 2   | half_open>closed ProbesSucceeded(3)
         1000 | fail * 2 |
         1000 | c fail   | late",
    );
}

#[test]
fn it_can_be_forced_and_released() {
    run(
        settings(),
        "0    | fail * 2     |
         0    | a?           |
         0    | force open   | closed>forced_open Forced
         0    | force open   |
         9999 | ok           | refused forced_open ?
         9999 | a fail       | late
         9999 | force closed | forced_open>forced_closed Forced
         9999 | slow fail * 50 |
         9999 | b?           |
         9999 | release      | forced_closed>closed Released
         9999 | release      |
         9999 | fail * 2     |
         9999 | b fail       | late
         9999 | fail         | closed>open FailuresInARow(3) for 1s trip 1
         9999 | release      |
         9999 | force closed | open>forced_closed Forced
         9999 | release      | forced_closed>closed Released
         9999 | fail * 3     | closed>open FailuresInARow(3) for 1s trip 1",
    );
}

#[test]
fn time_that_goes_backwards_stands_still() {
    run(
        settings(),
        "5000 | fail * 3 | closed>open FailuresInARow(3) for 1s trip 1
         10   | ok       | refused open 1s
         6000 | ok       | open>half_open OpenTimeOver",
    );
}

#[test]
fn chance_takes_its_part_off_open_times_and_no_more() {
    let (mut shortest, mut longest) = (Duration::MAX, Duration::ZERO);
    for seed in 0..1_000 {
        let settings = BreakerSettings { jitter_percent: 20, ..settings() };
        let mut machine = Machine::new(settings, seed, Duration::ZERO);
        machine.trips = 1;
        let open_for = machine.trip(Duration::ZERO, Reason::ProbeFailed).open_for.expect("open");
        shortest = shortest.min(open_for);
        longest = longest.max(open_for);
    }
    let ms = Duration::from_millis;
    assert!(shortest > ms(1_600) && shortest < ms(1_610), "{shortest:?}");
    assert!(longest > ms(1_990) && longest <= ms(2_000), "{longest:?}");
}
