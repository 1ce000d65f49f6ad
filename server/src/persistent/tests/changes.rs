//! Changes whose client goes away, or that end before they are done.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use daybook_log::disk::sim::{Fault, Operation, Repeat};

use super::ends::FailingClock;
use super::*;

/// More waits than any change has.
const WAITS_MAX: usize = 200;

/// A group of 's' with this name.
fn named(group: &str) -> Definition {
    let mut definition = of_stream("s", Settings::default());
    definition.key.group = group.to_owned();
    definition
}

/// What may be changed, and the groups that are there then.
const CHANGES: [(&str, &[&str]); 4] = [
    ("create", &["a", "b", "c", "made"]),
    ("update", &["a", "b", "c"]),
    ("delete", &["a", "c"]),
    ("restart", &["a", "b", "c"]),
];

async fn make(groups: &Persistent, change: &str) -> Result<(), GroupError> {
    match change {
        "create" => groups.create(named("made")).await,
        "update" => groups.update(named("b")).await,
        "delete" => groups.delete(&named("b").key).await,
        _ => groups.restart().await,
    }
}

/// Makes `change`, whose client goes when it has waited `waits` times; whether it was done before.
async fn cut(change: impl Future<Output = Result<(), GroupError>>, waits: usize) -> bool {
    let mut change = pin!(change);
    let mut waited = 0;
    poll_fn(|context| match change.as_mut().poll(context) {
        Poll::Ready(done) => {
            done.expect("changed");
            Poll::Ready(true)
        }
        Poll::Pending => {
            waited += 1;
            if waited == waits { Poll::Ready(false) } else { Poll::Pending }
        }
    })
    .await
}

/// The groups that work.
async fn working(house: &House) -> Vec<String> {
    let all = house.groups.list(None).await.into_iter();
    all.filter(|info| info.status.trouble.is_none()).map(|info| info.definition.key.group).collect()
}

/// The groups that the document has, in the order of their names.
async fn kept(house: &House) -> Vec<String> {
    let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
    let journal = Journal::new(house.store.clone(), clock, entropy);
    let (_, document) = journal.config().await.expect("readable").expect("a document");
    let document: serde_json::Value = serde_json::from_slice(&document).expect("JSON");
    let entries = document["entries"].as_array().expect("entries").iter();
    let mut names: Vec<_> =
        entries.map(|entry| entry["group"].as_str().expect("a name").to_owned()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_done_to_its_end_whenever_its_client_goes() {
    for (change, left) in CHANGES {
        let mut left: Vec<String> = left.iter().map(|name| (*name).to_owned()).collect();
        left.push("later".to_owned());
        left.sort();
        for waits in 1..=WAITS_MAX {
            assert!(waits < WAITS_MAX, "{change} never ends");
            let disk = SimDisk::new(7);
            let house = House::on(disk.clone()).await;
            house.append("s", 1, 1, 10).await;
            for group in ["a", "b", "c"] {
                house.groups.create(named(group)).await.expect("a group");
            }
            // It has something to write when it ends.
            let mut consumer = house.consume(&named("b").key, 1).await;
            let message = next(&mut consumer).await;
            consumer.ack(vec![id(&message)]).await.expect("told");

            let done = cut(make(&house.groups, change), waits).await;
            house.groups.create(named("later")).await.expect("a later change is accepted");
            house.groups.update(named("a")).await.expect("a later change is accepted");
            let state = format!("{change}, whose client went at its wait {waits}");
            assert_eq!(working(&house).await, left, "{state}");
            assert_eq!(kept(&house).await, left, "{state}");
            let house = house.again(disk.restart()).await;
            assert_eq!(working(&house).await, left, "{state}, after a restart");
            house.stop().await;
            if done {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_client_goes_before_its_turn_is_not_made() {
    let house = House::on(SimDisk::new(7)).await;
    let key = house.group(eager()).await;
    let turn = house.groups.inner.changes.lock().await;
    assert!(!cut(house.groups.delete(&key), 1).await);
    drop(turn);
    assert_eq!(working(&house).await, ["g"]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_change_panics_is_kept_and_says_so() {
    let disk = SimDisk::new(7);
    let store = store_on(disk.clone());
    let fails = Arc::new(AtomicBool::new(false));
    let clock = FailingClock { clock: SystemClock::new(), fails: fails.clone() };
    let seams = (Arc::new(clock), Arc::new(SystemEntropy));
    let groups = Persistent::start(store.clone(), seams.0, seams.1, HELD_SIZE_MAX).await;
    let house = House { store, groups };
    // Its settings are written; then it is to be loaded.
    fails.store(true, Ordering::SeqCst);
    let failed = house.groups.create(named("a")).await;
    assert!(matches!(failed, Err(GroupError::Failed { .. })), "{failed:?}");
    let trouble = house.info(&named("a").key).await.status.trouble.expect("trouble");
    assert!(trouble.contains("ended unexpectedly"), "{trouble}");
    house.groups.create(named("b")).await.expect("a later change is accepted");
    assert_eq!(kept(&house).await, ["a", "b"]);
    assert_eq!(working(&house).await, ["b"]);
    house.groups.restart().await.expect("restarted");
    assert_eq!(working(&house).await, ["a", "b"]);
    let house = house.again(disk.restart()).await;
    assert_eq!(working(&house).await, ["a", "b"]);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_go_on_if_their_settings_cannot_be_read_again() {
    let disk = SimDisk::new(7);
    let house = House::on(disk.clone()).await;
    let key = house.group(eager()).await;
    house.stop().await;
    // Nothing of the log is in memory any more.
    let disk = disk.restart();
    let house = House::on(disk.clone()).await;
    let journal =
        Journal::new(house.store.clone(), Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
    disk.fail_after(Operation::Read, None, 1, Fault::Eio, Repeat::Always);
    assert!(journal.config().await.is_err(), "the document is read from the disk");
    let failed = house.groups.restart().await;
    assert!(matches!(failed, Err(GroupError::Failed { .. })), "{failed:?}");
    for refused in [
        house.groups.create(named("other")).await,
        house.groups.update(named("g")).await,
        house.groups.delete(&key).await,
    ] {
        let refused = refused.expect_err("refused").to_string();
        assert!(refused.contains("cannot be read"), "{refused}");
    }
    assert_eq!(working(&house).await, ["g"]);
    disk.clear_faults();
    house.groups.restart().await.expect("restarted");
    house.groups.create(named("other")).await.expect("a group");
    assert_eq!(working(&house).await, ["g", "other"]);
    house.stop().await;
}
