//! `cargo sim -- …`: runs the simulation.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use daybook_tests::sim::planted::Caught;
use daybook_tests::sim::{self, Counts, Failure, STEPS, Sights, exhaustive, ledger, planted};

/// Histories of the fixed run.
const CI_SEEDS: u64 = 25_000;
/// Histories of the fixed run that are run twice.
const CI_TWICE: u64 = 200;
/// Histories of the ledger in the fixed run.
const CI_LEDGER_SEEDS: u64 = 3_000;
/// Histories after which a planted bug counts as not noticed.
const PLANTED_SEEDS_MAX: u64 = 6_000;
/// Threads.
const THREADS: usize = 2;

const USAGE: &str = "cargo sim -- [--ci] [--minutes N] [--seed N] [--seeds N] [--from N] \
                     [--steps N] [--trace N] [--planted] [--exhaustive] [--ledger] [--ledger-seed N] \
                     [--json[=FILE]]

  --ci          the fixed seeds, all short histories, all planted bugs; two to five minutes
  --minutes N   new seeds for so long
  --seed N      one history, with what happened in it
  --seeds N     so many histories, from --from N (1) on
  --steps N     acts of each history
  --trace N     lines of what happened before a failure
  --planted     the planted bugs only
  --exhaustive  the short histories only
  --ledger      the ledger's histories only: --seeds N of them, from --from N on, or --minutes N
  --ledger-seed N  one history of the ledger
  --json[=FILE] the results as JSON, on standard output or into FILE";

#[derive(Default)]
struct Options {
    ci: bool,
    minutes: Option<u64>,
    seed: Option<u64>,
    seeds: Option<u64>,
    from: Option<u64>,
    steps: Option<u64>,
    planted: bool,
    exhaustive: bool,
    ledger: bool,
    ledger_seed: Option<u64>,
    json: Option<Option<String>>,
}

fn options() -> Result<Options, String> {
    let mut options = Options::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().ok_or(format!("{argument} needs a number"))?;
            value.parse::<u64>().map(Some).map_err(|_| format!("{value} is no number"))
        };
        match argument.as_str() {
            "--ci" => options.ci = true,
            "--planted" => options.planted = true,
            "--exhaustive" => options.exhaustive = true,
            "--ledger" => options.ledger = true,
            "--ledger-seed" => options.ledger_seed = number()?,
            "--minutes" => options.minutes = number()?,
            "--seed" => options.seed = number()?,
            "--seeds" => options.seeds = number()?,
            "--from" => options.from = number()?,
            "--steps" => options.steps = number()?,
            "--trace" => {
                let lines = number()?.and_then(|lines| usize::try_from(lines).ok());
                sim::world::TRACE_LEN.store(lines.unwrap_or(0), Ordering::Relaxed);
            }
            "--json" => options.json = Some(None),
            other => match other.strip_prefix("--json=") {
                Some(file) => options.json = Some(Some(file.to_owned())),
                None => return Err(format!("unknown option {other}")),
            },
        }
    }
    Ok(options)
}

/// What was run, and what it brought.
#[derive(Default)]
struct Results {
    counts: Counts,
    sights: Sights,
    failures: Vec<Failure>,
    broken: Vec<String>,
    short: exhaustive::Tried,
    caught: Vec<Caught>,
    ledger: ledger::Run,
    ledger_cuts: u64,
    seeds_per_second: u64,
}

#[expect(clippy::disallowed_methods, reason = "how long the simulation itself takes")]
fn clock() -> Instant {
    Instant::now()
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(reason) => {
            eprintln!("{reason}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let steps = options.steps.unwrap_or(STEPS);
    if let Some(seed) = options.seed {
        return one(seed, steps);
    }
    if let Some(seed) = options.ledger_seed {
        return one_of_ledger(seed, options.steps.unwrap_or(ledger::STEPS));
    }
    let mut results = Results::default();
    let all = !options.planted && !options.exhaustive && !options.ledger;
    if options.ci || options.exhaustive {
        short(&mut results);
    }
    if options.ci || all {
        let until = options.minutes.map(|minutes| Duration::from_secs(60 * minutes));
        let fixed = options.seeds.unwrap_or(if options.ci { CI_SEEDS } else { 1000 });
        let count = if until.is_some() { u64::MAX } else { fixed };
        // A long run is for seeds that were never run.
        let new = until.map(|_| u64::from(std::process::id()) << 32);
        many(&mut results, options.from.or(new).unwrap_or(1), count, until, steps);
    }
    if options.ci || options.ledger {
        many_of_ledger(&mut results, &options);
    }
    if options.ci || options.planted {
        hunt(&mut results);
    }
    report(&options, &results)
}

fn one(seed: u64, steps: u64) -> ExitCode {
    match sim::twice(seed, steps) {
        Ok(run) => {
            println!("seed {seed}: {:?}, {:016x}: ok\n{:#?}", run.counts, run.hash, run.sights);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn one_of_ledger(seed: u64, steps: u64) -> ExitCode {
    match ledger::twice(seed, steps) {
        Ok(run) => {
            println!("ledger seed {seed}: ok\n{run:#?}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn many_of_ledger(results: &mut Results, options: &Options) {
    let started = clock();
    let until = options.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let count = match (until, options.ci) {
        (Some(_), _) => u64::MAX,
        (None, true) => CI_LEDGER_SEEDS,
        (None, false) => options.seeds.unwrap_or(CI_LEDGER_SEEDS),
    };
    let new = until.map(|_| u64::from(std::process::id()) << 32);
    let from = options.from.or(new).unwrap_or(1);
    let steps = options.steps.unwrap_or(ledger::STEPS);
    let next = AtomicU64::new(0);
    let shared = Mutex::new(Results::default());
    std::thread::scope(|scope| {
        for me in 0..THREADS {
            let (next, shared) = (&next, &shared);
            scope.spawn(move || {
                let cuts = ledger::exhaustive::all(|i| i % THREADS == me);
                let lock = || shared.lock().unwrap_or_else(|e| e.into_inner());
                match cuts {
                    Ok(cuts) => lock().ledger_cuts += cuts,
                    Err(reason) => lock().broken.push(reason),
                }
                while lock().broken.len() < 5 {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count || until.is_some_and(|until| started.elapsed() > until) {
                        break;
                    }
                    let run = ledger::run(from.wrapping_add(index), steps);
                    match run {
                        Ok(run) => lock().ledger.add(&run),
                        Err(reason) => lock().broken.push(reason),
                    }
                }
            });
        }
    });
    let shared = shared.into_inner().unwrap_or_else(|e| e.into_inner());
    for reason in &shared.broken {
        println!("{reason}\n");
    }
    for (what, times) in &shared.ledger.sights {
        println!("{times:>12}  {what}");
    }
    let ledger::Run { histories, transfers, completed, compensated, crashes, .. } = shared.ledger;
    println!(
        "ledger: {} cuts of single transfers; {histories} histories, {transfers} transfers, \
         {completed} completed, {compensated} compensated, {crashes} crashes, {:.1?}",
        shared.ledger_cuts,
        started.elapsed()
    );
    results.ledger = shared.ledger;
    results.ledger_cuts = shared.ledger_cuts;
    results.broken.extend(shared.broken);
}

fn short(results: &mut Results) {
    let started = clock();
    let parts: Vec<_> = std::thread::scope(|scope| {
        let mine = |me: usize| scope.spawn(move || exhaustive::all(3, |i| i % THREADS == me));
        let threads: Vec<_> = (0..THREADS).map(mine).collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    for part in parts {
        match part {
            Ok(Ok(tried)) => {
                results.short.histories += tried.histories;
                results.short.cuts += tried.cuts;
            }
            Ok(Err(reason)) => {
                println!("{reason}");
                results.broken.push(reason);
            }
            Err(_) => results.broken.push("a thread panicked".to_owned()),
        }
    }
    let exhaustive::Tried { histories, cuts } = results.short;
    println!("{histories} short histories, {cuts} cuts, {:.1?}", started.elapsed());
}

fn many(results: &mut Results, from: u64, count: u64, until: Option<Duration>, steps: u64) {
    let started = clock();
    let next = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let shared = Mutex::new((Counts::default(), Vec::new(), Sights::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count || until.is_some_and(|until| started.elapsed() > until) {
                        break;
                    }
                    let seed = from.wrapping_add(index);
                    let result = if index < CI_TWICE && until.is_none() {
                        sim::twice(seed, steps)
                    } else {
                        sim::run(seed, steps)
                    };
                    let mut shared = shared.lock().unwrap_or_else(|e| e.into_inner());
                    match result {
                        Ok(run) => {
                            shared.0.add(&run.counts);
                            for (what, times) in run.sights {
                                *shared.2.entry(what).or_default() += times;
                            }
                        }
                        Err(failure) => {
                            println!("{failure}\n");
                            shared.1.push(*failure);
                            if shared.1.len() >= 5 {
                                stop.store(true, Ordering::Relaxed);
                            }
                        }
                    }
                }
            });
        }
    });
    let (counts, failures, sights) = shared.into_inner().unwrap_or_else(|e| e.into_inner());
    let seconds = started.elapsed().as_secs_f64().max(0.001);
    results.seeds_per_second = (counts.histories as f64 / seconds) as u64;
    results.counts = counts;
    results.failures = failures;
    for (what, times) in &sights {
        println!("{times:>12}  {what}");
    }
    println!("{counts:?}, {seconds:.1} s");
    results.sights = sights;
}

fn hunt(results: &mut Results) {
    if !cfg!(feature = "planted-bugs") {
        println!("no planted bugs: built without the feature planted-bugs");
        return;
    }
    planted::quiet();
    let started = clock();
    println!("{:<26} {:>6}  noticed because", "planted bug", "seeds");
    let told = |caught: &Caught| {
        let reason = caught.reason.as_deref().unwrap_or("NOT NOTICED");
        let reason: String = reason.chars().take(110).collect();
        println!("{:<26} {:>6}  {reason}", caught.bug, caught.seeds);
    };
    let next = AtomicU64::new(0);
    let _ = &next;
    let parts: Vec<_> = std::thread::scope(|scope| {
        let mine = |me: usize| {
            scope.spawn(move || planted::hunt(PLANTED_SEEDS_MAX, |i| i % THREADS == me, told))
        };
        let threads: Vec<_> = (0..THREADS).map(mine).collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    for part in parts {
        match part {
            Ok(caught) => results.caught.extend(caught),
            Err(_) => results.broken.push("a thread panicked".to_owned()),
        }
    }
    println!("planted bugs: {:.1?}", started.elapsed());
}

fn report(options: &Options, results: &Results) -> ExitCode {
    let caught = results.caught.iter().filter(|caught| caught.reason.is_some()).count();
    let planted = results.caught.len();
    let good = results.failures.is_empty() && results.broken.is_empty() && caught == planted;
    if let Some(file) = &options.json {
        let json = json(results, good);
        match file {
            None => println!("{json}"),
            Some(file) =>
            {
                #[expect(clippy::disallowed_methods, reason = "a report for whoever asked")]
                if let Err(e) = std::fs::write(file, json) {
                    eprintln!("cannot write {file}: {e}");
                    return ExitCode::from(2);
                }
            }
        }
    }
    let counts = &results.counts;
    println!(
        "sim: {} seeds, {} appends, {} crashes, {caught}/{planted} planted bugs caught, {} \
         seeds/s: {}",
        counts.histories,
        counts.appends,
        counts.crashes,
        results.seeds_per_second,
        if good { "ok" } else { "FAILED" }
    );
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn json(results: &Results, good: bool) -> String {
    let caught: Vec<_> = results
        .caught
        .iter()
        .map(|c| serde_json::json!({ "bug": c.bug, "seeds": c.seeds, "noticed": c.reason }))
        .collect();
    let failures: Vec<_> = results
        .failures
        .iter()
        .map(|f| serde_json::json!({ "seed": f.seed, "step": f.step, "reason": f.reason }))
        .collect();
    let counts = &results.counts;
    serde_json::json!({
        "ok": good,
        "seeds": counts.histories,
        "steps": counts.steps,
        "appends": counts.appends,
        "events": counts.events,
        "crashes": counts.crashes,
        "reads": counts.reads,
        "what_happened": results.sights,
        "seeds_per_second": results.seeds_per_second,
        "short_histories": results.short.histories,
        "short_history_cuts": results.short.cuts,
        "ledger_histories": results.ledger.histories,
        "ledger_transfers": results.ledger.transfers,
        "ledger_crashes": results.ledger.crashes,
        "ledger_cuts": results.ledger_cuts,
        "ledger_what_happened": results.ledger.sights,
        "planted_bugs": caught,
        "failures": failures,
        "broken": results.broken,
    })
    .to_string()
}
