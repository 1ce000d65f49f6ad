//! One experiment from its first user to its verdict.
//!
//! ```text
//!   warm up │ steady │ fault ......... │ recovery ............ │ settle, check, stop, verify
//!           │        │ begin, hold,    │ until a second is near │ the log, the accounts, the
//!           │        │ end             │ enough to the steady   │ subscribers, the store
//!           └─ what is normal ─────────┘ ones, and then some
//! ```
//!
//! Timing is reported. What decides is whether every invariant holds, and whether it was as before
//! within a generous limit.
//!
//! INVARIANT: every phase is bounded in time, the whole by [`EXPERIMENT_MAX`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use daybook_client::resilience::State;
use daybook_client::{Client, ReadAll, Settings};
use futures_util::TryStreamExt as _;
use serde_json::Value;

use crate::catalogue::{Breaker, Experiment};
use crate::check::{self, Books, Check, Entry, cents};
use crate::faults::Fault;
use crate::http::Connection;
use crate::journal::{Findings, Memory};
use crate::measure::{Sample, Steady, recovery};
use crate::stage::Stage;
use crate::users::{BreakerChange, Crowd};

/// Before what is normal is measured: connections are made, files are new.
const WARM_UP: Duration = Duration::from_secs(1);
/// How often it is looked whether all is as before.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// What follows recovery, to be seen in the report.
const AFTERWARDS: Duration = Duration::from_secs(1);
/// How long the last sagas may take. A step is retried for less.
const QUIET_TIMEOUT: Duration = Duration::from_secs(60);
/// An experiment that takes longer than this hangs.
pub const EXPERIMENT_MAX: Duration = Duration::from_secs(900);
/// A page of events over HTTP, and an answer about books: as long as a debug server may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(60);

/// How it is run.
#[derive(Clone, Copy, Debug)]
pub struct Course<'a> {
    /// The server.
    pub binary: &'a Path,
    /// Decides what chance decides.
    pub seed: u64,
    /// How long the steady phase and the fault last.
    pub phase: Duration,
}

/// What came of an experiment.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which.
    pub experiment: Experiment,
    /// Second by second, from the beginning of the steady phase.
    pub series: Vec<Sample>,
    /// When the series begins; all times are on the same clock.
    pub begun: Duration,
    /// When the fault began and when it had ended.
    pub fault: (Duration, Duration),
    /// What was normal.
    pub steady: Option<Steady>,
    /// The fault as one stretch.
    pub during: Sample,
    /// Until the first answer, from where recovery counts.
    pub first_answer: Option<Duration>,
    /// Until all was as before, from there.
    pub recovery: Option<Duration>,
    /// What the breaker did.
    pub breaker: Vec<BreakerChange>,
    /// The checks.
    pub checks: Vec<Check>,
    /// What is worth telling.
    pub notes: Vec<String>,
}

impl Outcome {
    /// Whether everything is as it should be.
    #[must_use]
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(Check::passed)
    }

    /// From when recovery counts: a blow's beginning, else the fault's end.
    #[must_use]
    pub fn recovers_from(&self) -> Duration {
        if self.experiment.fault.is_a_blow() { self.fault.0 } else { self.fault.1 }
    }
}

/// Runs an experiment.
///
/// # Errors
/// If it cannot be run to its end: a server that does not start, a fault that cannot be made.
pub async fn run(experiment: &Experiment, course: Course<'_>) -> anyhow::Result<Outcome> {
    match tokio::time::timeout(EXPERIMENT_MAX, play(experiment, course)).await {
        Ok(outcome) => outcome,
        Err(_) => bail!("it hangs: it was not over after {EXPERIMENT_MAX:?}"),
    }
}

async fn play(experiment: &Experiment, course: Course<'_>) -> anyhow::Result<Outcome> {
    let mut stage = Stage::set(&experiment.fault, course.binary, course.seed).await?;
    let site = Arc::clone(&stage.site);
    let mut crowd = Crowd::begin(site.clone()).await?;
    tokio::time::sleep(WARM_UP).await;
    let begun = site.recorder.now();
    tokio::time::sleep(course.phase).await;
    let fault_begun = site.recorder.now();
    let held = experiment.fault.begin(&mut stage).await.context("the fault does not begin")?;
    // What a server still answers while it is asked to stop is not its recovery.
    let struck = site.recorder.now();
    tokio::time::sleep(hold(experiment, course)).await;
    experiment.fault.end(held, &mut stage).await.context("the fault does not end")?;
    let fault = (fault_begun, site.recorder.now());
    let steady = Steady::of(&site.recorder.notes().series(begun, fault_begun));
    let from = if experiment.fault.is_a_blow() { fault.0 } else { fault.1 };
    let answer_from = if experiment.fault.is_a_blow() { struck } else { fault.1 };
    let recovered = until_as_before(experiment, &stage, from, steady).await;
    let ended = site.recorder.now();
    let memory = crowd.end_load().await?;
    let (log, books) = ask(&stage, &memory).await?;
    let followed = crowd.followed(log.len()).await;
    drop(crowd);
    let breaker = site.breaker_changes();
    let mut checks = check::all(&memory, &log, &followed, &books);
    checks.push(check_breaker(experiment.breaker, &breaker, site.breaker(), fault.1));
    checks.push(check_recovery(experiment, steady, recovered));
    checks.push(verified(&mut stage).await?);
    let notes = site.recorder.notes();
    Ok(Outcome {
        experiment: experiment.clone(),
        series: notes.series(begun, ended),
        begun,
        fault,
        steady,
        during: notes.sample(fault.0, fault.1 - fault.0),
        first_answer: notes.first_done_after(answer_from).map(|at| at - from),
        recovery: recovered,
        breaker,
        checks,
        notes: stage.notes.clone(),
    })
}

/// How long the fault is left as it is.
fn hold(experiment: &Experiment, course: Course<'_>) -> Duration {
    match experiment.fault {
        Fault::Kill(down) | Fault::Terminate(down) => down,
        _ => course.phase.max(experiment.lasts_min),
    }
}

async fn until_as_before(
    experiment: &Experiment,
    stage: &Stage,
    from: Duration,
    steady: Option<Steady>,
) -> Option<Duration> {
    let (recorder, steady) = (&stage.site.recorder, steady?);
    let mut recovered = None;
    while recovered.is_none() && recorder.now() < from + experiment.recovery_max {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let now = recorder.now();
        recovered = recovery(&recorder.notes(), from, now, steady);
    }
    tokio::time::sleep(AFTERWARDS).await;
    recovered
}

/// The whole log and the books, from the server itself.
async fn ask(stage: &Stage, memory: &Memory) -> anyhow::Result<(Vec<Entry>, Books)> {
    let address = stage.server()?.address();
    let mut connection = Connection::new(address);
    // Sagas first: what they still do shall be in the log.
    let sagas = quiet(&mut connection).await?;
    let mut balances = Vec::new();
    for account in &memory.accounts {
        let found = get(&mut connection, &format!("/v1/accounts/{account}")).await?;
        balances.push(cents(&found["balance"]));
    }
    let trial_balance = get(&mut connection, "/v1/trial-balance?verify=true").await?;
    let settings = Settings {
        default_deadline: Some(ASK_TIMEOUT),
        ..Settings::plain(&address.ip().to_string(), address.port())
    };
    let client = Client::with(settings)?;
    let mut events = client.read_all(ReadAll::default()).await?;
    let mut log = Vec::new();
    while let Some(resolved) = events.try_next().await? {
        let Some(event) = resolved.original() else { continue };
        log.push(Entry {
            position: event.position.0,
            stream: event.stream.as_str().to_owned(),
            revision: event.revision.0,
            id: event.id,
            event_type: event.event_type.clone(),
            data: event.data.clone(),
        });
    }
    Ok((log, Books { balances, trial_balance, sagas }))
}

/// Waits until no saga is under way. Answers with those that still are, or have failed.
async fn quiet(connection: &mut Connection) -> anyhow::Result<Vec<String>> {
    let under_way = async {
        loop {
            let mut count = 0;
            for state in ["running", "compensating"] {
                let found = get(connection, &format!("/v1/sagas?state={state}")).await?;
                count += found["sagas"].as_array().map_or(0, Vec::len);
            }
            if count == 0 {
                return anyhow::Ok(());
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    if let Ok(asked) = tokio::time::timeout(QUIET_TIMEOUT, under_way).await {
        asked?;
    }
    let left = get(connection, "/v1/sagas").await?;
    let left = left["sagas"].as_array().context("no list of sagas")?;
    Ok(left.iter().map(Value::to_string).collect())
}

async fn get(connection: &mut Connection, path: &str) -> anyhow::Result<Value> {
    let asked = tokio::time::timeout(ASK_TIMEOUT, connection.get(path)).await;
    let answer = asked.with_context(|| format!("no answer to GET {path}"))??;
    if answer.status != 200 {
        bail!("GET {path}: {} {}", answer.status, answer.body);
    }
    Ok(answer.body)
}

fn check_breaker(
    expected: Breaker,
    changes: &[BreakerChange],
    state: State,
    fault_over: Duration,
) -> Check {
    let mut findings = Findings::default();
    let opened = changes.iter().filter(|change| change.to == State::Open).count();
    match expected {
        Breaker::OpensAndHeals if opened == 0 => findings.add(|| "it never opened".to_owned()),
        Breaker::StaysClosed if opened > 0 => findings.add(|| format!("it opened {opened} times")),
        _ => {}
    }
    if state != State::Closed {
        findings.add(|| format!("it is {} in the end", state.as_str()));
    }
    let healed = changes.last().filter(|change| change.to == State::Closed);
    let about = match healed {
        Some(healed) => {
            let after = healed.at.as_secs_f64() - fault_over.as_secs_f64();
            let when = if after < 0.0 { "before" } else { "after" };
            let after = after.abs();
            format!("opened {opened} times, closed for good {after:.2} s {when} the fault's end")
        }
        None => format!("opened {opened} times"),
    };
    Check { name: "breaker", about, findings }
}

fn check_recovery(
    experiment: &Experiment,
    steady: Option<Steady>,
    recovered: Option<Duration>,
) -> Check {
    let mut findings = Findings::default();
    let limit = experiment.recovery_max;
    match (steady, recovered) {
        (None, _) => findings.add(|| "nothing was done before the fault".to_owned()),
        (_, None) => findings.add(|| format!("it was not as before within {limit:?}")),
        _ => {}
    }
    let about = recovered.map_or("not as before".to_owned(), |recovered| {
        format!("as before {:.2} s after", recovered.as_secs_f64())
    });
    Check { name: "recovery", about, findings }
}

/// Stops the server, and has its store verified.
async fn verified(stage: &mut Stage) -> anyhow::Result<Check> {
    let mut findings = Findings::default();
    let status = stage.take_server()?.terminate().await?;
    if status.code() != Some(0) {
        findings.add(|| format!("a server that was asked to stop ended with {status}"));
    }
    if let Some(wrong) = stage.launch.verify().await? {
        findings.add(|| wrong);
    }
    let about = "stopped with 0; `daybook verify` finds the store sound".to_owned();
    Ok(Check { name: "verify", about, findings })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::SECOND;

    #[test]
    fn a_breaker_that_does_not_do_its_work_is_found() {
        use Breaker::{EndsClosed, OpensAndHeals, StaysClosed};
        use State::{Closed, HalfOpen, Open};
        for (expected, states, passes) in [
            (OpensAndHeals, &[Open, HalfOpen, Closed][..], true),
            (OpensAndHeals, &[], false),
            (OpensAndHeals, &[Open, HalfOpen, Open], false),
            (EndsClosed, &[], true),
            (EndsClosed, &[Open, HalfOpen, Closed], true),
            (EndsClosed, &[Open, HalfOpen], false),
            (StaysClosed, &[], true),
            (StaysClosed, &[Open, HalfOpen, Closed], false),
        ] {
            let change = |(nth, to): (u32, &State)| BreakerChange { at: SECOND * nth, to: *to };
            let changes: Vec<_> = (1..).zip(states).map(change).collect();
            let last = states.last().copied().unwrap_or(Closed);
            let check = check_breaker(expected, &changes, last, SECOND * 2);
            assert_eq!(check.passed(), passes, "{expected:?} {states:?}: {check:?}");
        }
    }

    #[test]
    fn the_limit_of_recovery_and_a_steady_phase_decide() {
        let experiment = &crate::catalogue::all(0)[0];
        let steady = Some(Steady { rate: 100.0, p99_ms: 5.0 });
        for (steady, recovered, passes) in
            [(steady, Some(SECOND * 29), true), (steady, None, false), (None, None, false)]
        {
            let check = check_recovery(experiment, steady, recovered);
            assert_eq!(check.passed(), passes, "{check:?}");
        }
    }
}
