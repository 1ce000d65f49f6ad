//! `daybook projections`, as a user runs it: beside a server, and keeping read models of its own.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::daemon::{Daemon, daybook, run, said};

/// Runs `daybook projections …`, which must succeed: the JSON it answers with.
fn answer(url: &str, arguments: &[&str]) -> Value {
    let all: Vec<&str> =
        ["projections"].iter().chain(arguments).chain(&["--json", "--url", url]).copied().collect();
    let output = run(&all);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{all:?}: {text}{}", said(&output));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

#[test]
fn projections_are_shown_and_steered() {
    let data = TempDir::new().expect("a directory");
    let daemon = Daemon::start(data.path());
    let url = format!("http://{}", daemon.address);
    assert!(run(&["demo", "--url", &url]).status.success());
    let list = answer(&url, &[]);
    let names: Vec<&str> = list["projections"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["accounts", "payments"]);
    assert_eq!(answer(&url, &["list"])["projections"].as_array().map(Vec::len), Some(2));
    let live = answer(&url, &["status", "accounts", "--watch"]);
    assert_eq!(
        (&live["serving"]["state"], &live["serving"]["lag_events"]),
        (&"live".into(), &0.into())
    );
    assert_eq!(answer(&url, &["pause", "accounts"])["paused"], true);
    assert_eq!(answer(&url, &["resume", "accounts"])["paused"], false);
    answer(&url, &["rebuild", "accounts"]);
    let again = answer(&url, &["status", "accounts", "--watch"]);
    assert!(again["serving"]["generation"].as_u64() > live["serving"]["generation"].as_u64());
    assert_eq!(answer(&url, &["parked", "accounts"]), Value::Array(Vec::new()));
    for (arguments, words) in [
        (["skip", "accounts"], "it has not stopped at an event"),
        (["status", "nothing"], "no projection called 'nothing'"),
    ] {
        let output = run(&[&["projections", "--url", &url], &arguments[..]].concat());
        assert!(!output.status.success(), "{arguments:?}");
        assert!(said(&output).contains(words), "{arguments:?}: {}", said(&output));
    }
    let people = run(&["projections", "--url", &url]);
    let text = String::from_utf8_lossy(&people.stdout).into_owned();
    assert!(text.contains("accounts") && text.contains("live"), "{text}");
}

#[test]
fn read_models_are_kept_by_a_process_of_their_own() {
    let data = TempDir::new().expect("a directory");
    let daemon = Daemon::start(data.path());
    let url = format!("http://{}", daemon.address);
    assert!(run(&["demo", "--url", &url]).status.success());
    let own = data.path().join("own");
    let own = own.to_str().expect("a path of this test's own");
    for round in ["built", "gone on"] {
        let mut command = daybook(&["projections", "run", "--url", &url, "--data", own]);
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let said = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut lines = said.lines().map_while(Result::ok);
        let caught_up = lines.by_ref().filter(|line| line.contains("has caught up")).take(2);
        assert_eq!(caught_up.count(), 2, "{round}: it ended before");
        kill_process(Pid::from_child(&child), Signal::TERM).expect("it lives");
        let rest: Vec<String> = lines.collect();
        assert!(child.wait().expect("its end").success(), "{round}: {rest:?}");
    }
}
