//! `daybook demo` and `daybook load`, as a user runs them.

use std::path::Path;

use daybook_log::segment::SegmentHeader;
use daybook_model::Position;
use daybook_model::repository::SNAPSHOT_EVERY_DEFAULT;
use daybook_store::snapshot::{Identity, Snapshot, SnapshotStore};
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, run, said, verify};
use crate::support::directory::segments;
use crate::support::events::name;
use crate::support::ledger::{Ledger, id};

/// Runs `daybook …`, which must succeed: the JSON it answers with.
fn answer(arguments: &[&str]) -> Value {
    let output = run(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", said(&output));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of this test's own")
}

/// How the steps of the story went, in order.
fn went(told: &Value) -> Vec<&str> {
    let steps = told["steps"].as_array().expect("steps");
    steps.iter().map(|step| step["went"].as_str().expect("a word")).collect()
}

#[test]
fn the_demo_shows_a_payment_undone_and_ends_balanced() {
    let told = answer(&["demo", "--json"]);
    assert_eq!(told["balanced"], true, "{told}");
    for word in ["done", "refused", "undone"] {
        assert!(went(&told).contains(&word), "{word}: {told}");
    }
    let undone = &told["compensated"];
    assert_eq!(undone["state"], "compensated");
    let reason = undone["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("risk_check_failed"), "{reason}");
    let steps = undone["steps"].as_array().expect("a timeline");
    assert!(steps.iter().any(|step| step["direction"] == "compensation"), "{undone}");
}

#[test]
fn the_demo_runs_on_a_server_that_has_other_accounts_already() {
    let data = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start(data.path());
    let url = format!("http://{}", daemon.address);
    let first = answer(&["demo", "--json", "--url", &url]);
    let again = answer(&["demo", "--json", "--url", &url]);
    assert_eq!((went(&first), &again["balanced"]), (went(&again), &Value::Bool(true)));
    let (status, log) = daemon.terminate();
    assert!(status.success(), "{log}");
    verify(data.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_and_the_trial_balance_end_with_what_came_of_them() {
    let data = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start(data.path());
    let url = format!("http://{}", daemon.address);
    let ledger = Ledger { address: daemon.address };
    ledger.open(id(1), "10.00").await;
    ledger.open(id(2), "1.00").await;
    let (from, to) = (id(1).to_string(), id(2).to_string());
    let make =
        |amount| run(&["transfers", "make", &from, &to, amount, "USD", "--json", "--url", &url]);
    for (amount, state, code) in [("4.00", "completed", 0), ("4000.00", "compensated", 1)] {
        let output = make(amount);
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!((told["state"].as_str(), output.status.code()), (Some(state), Some(code)));
    }
    let sums = answer(&["accounts", "trial-balance", "--verify", "--json", "--url", &url]);
    assert_eq!((&sums["balanced"], &sums["verified"]["equal"]), (&json!(true), &json!(true)));
    assert_eq!(sums["verified"]["accounts"], 2);
    let (status, log) = daemon.terminate();
    assert!(status.success(), "{log}");
}

/// What `daybook verify` answers, and whether it found the store sound.
fn verified(data: &Path) -> (Value, bool) {
    let output = run(&["verify", "--json", "--data", text(data)]);
    let told = serde_json::from_slice(&output.stdout);
    (told.unwrap_or_else(|error| panic!("{error}: {}", said(&output))), output.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_not_what_its_events_come_to_is_found() {
    let data = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start(data.path());
    let ledger = Ledger { address: daemon.address };
    ledger.open(id(1), "10.00").await;
    let path = format!("/v1/accounts/{}/deposits", id(1));
    let body = json!({"amount": "1.00", "currency": "USD"});
    // A snapshot is put each time a stream grows past so many events.
    for n in 0..u128::from(SNAPSHOT_EVERY_DEFAULT) {
        ledger.post(&path, id(100 + n), &body).await;
    }
    let (status, log) = daemon.terminate();
    assert!(status.success(), "{log}");
    let (told, sound) = verified(data.path());
    assert!(sound, "{told}");
    assert_eq!(told["snapshots"]["replayed"], 1, "{told}");

    let segments = segments(data.path());
    let first = std::fs::read(data.path().join(&segments[0])).expect("a segment");
    let header = first.first_chunk().and_then(|bytes| SegmentHeader::decode(bytes).ok());
    let header = header.expect("a header");
    let identity =
        Identity { store_id: header.store_id, epoch: header.epoch, committed: Position(u64::MAX) };
    let kept = SnapshotStore::open(&data.path().join("snapshots"), identity);
    let stream = name(&format!("ledger.account-{}", id(1)));
    let right = kept.latest(&stream, None).expect("snapshots").expect("a snapshot");
    let mut state: Value = serde_json::from_slice(&right.data).expect("JSON");
    state["balance"] = json!("999.00");
    let wrong = Snapshot { data: state.to_string().into(), ..right };
    kept.put(&stream, &wrong, Position(1)).expect("room");
    kept.close();
    let (told, sound) = verified(data.path());
    assert!(!sound, "{told}");
    let wrong = told["snapshots"]["wrong"][0].as_str().expect("a wrong one");
    assert!(wrong.contains(stream.as_str()) && wrong.contains("come to"), "{wrong}");
}

#[test]
fn people_are_told_where_to_look() {
    let output = run(&["demo"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", said(&output));
    for part in ["curl http://127.0.0.1:", "risk_check_failed", "balanced at position"] {
        assert!(told.contains(part), "{part} in {told}");
    }
    assert!(!told.contains('\u{1b}'), "no colours in a pipe: {told}");
}

#[test]
fn a_short_load_loses_no_money_and_says_how_it_went() {
    let scratch = tempfile::tempdir().expect("a directory");
    let html = scratch.path().join("report.html");
    let html_option = format!("--html={}", text(&html));
    let report = answer(&[
        "load",
        "--users",
        "20",
        "--seconds",
        "2",
        "--data",
        text(scratch.path()),
        "--json",
        &html_option,
    ]);
    assert_eq!((&report["consistent"], &report["errors"]), (&true.into(), &0.into()), "{report}");
    assert!(report["transfers_per_second"].as_f64() > Some(0.0), "{report}");
    for outcome in ["completed", "compensated"] {
        assert!(report["outcomes"][outcome].as_u64() > Some(0), "{outcome}: {report}");
    }
    for quantile in ["p50", "p95", "p99", "p999", "max"] {
        assert!(report["latency_ms"]["transfer"][quantile].as_f64() > Some(0.0), "{quantile}");
    }
    let page = std::fs::read_to_string(&html).expect("the page");
    assert!(page.contains("Consistent") && page.contains("<svg"));
    let left: Vec<_> = std::fs::read_dir(scratch.path()).expect("it is there").collect();
    assert_eq!(left.len(), 1, "the server's data is gone: {left:?}");
}

#[test]
fn two_loads_on_one_server_do_not_mistake_each_others_transfers() {
    let data = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start(data.path());
    let url = format!("http://{}", daemon.address);
    for _ in 0..2 {
        let report = answer(&["load", "--users", "10", "--seconds", "1", "--json", "--url", &url]);
        assert_eq!(report["consistent"], true, "{report}");
        assert_eq!(report["server"]["url"], Value::String(url.clone()));
    }
}
