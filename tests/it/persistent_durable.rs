//! Persistent subscriptions through what ends a server: a stop, a kill, a restore.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use daybook_client::persistent::{Consumer, Group, GroupMessage, GroupSettings, GroupStart};
use daybook_client::{Client, ExpectedRevision, NewEvent, ReadStream};
use daybook_log::disk::sim::SimDisk;
use daybook_model::append::Append;
use futures_util::StreamExt as _;
use tempfile::TempDir;

use crate::support::daemon::{Daemon, run, said};
use crate::support::events::{event, name};
use crate::support::gate::GatedDisk;
use crate::support::node::{Server, client};
use crate::support::{soon, until};

async fn append(client: &Client, first: u128, count: usize) {
    let events: Vec<NewEvent> = (0..count).map(|n| event(first + n as u128)).collect();
    client.append(&name("s"), ExpectedRevision::Any, events).await.expect("appended");
}

async fn next(consumer: &mut Consumer) -> GroupMessage {
    soon("a message", consumer.next()).await.expect("a message")
}

fn id(message: &GroupMessage) -> u128 {
    message.resolved.event.as_ref().map(|event| event.id.as_u128()).unwrap_or_default()
}

fn groups_of_both() -> [Group; 2] {
    [Group::of_stream(name("s"), "g"), Group::of_all("all")]
}

/// The next event of these tests: a group of the log is also sent what the system wrote.
async fn next_of_ours(consumer: &mut Consumer) -> GroupMessage {
    loop {
        let message = next(consumer).await;
        if message.resolved.event.as_ref().is_some_and(|event| event.stream.as_str() == "s") {
            return message;
        }
        message.ack().await.expect("sent");
    }
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was_with_what_is_parked() {
    let directory = TempDir::new().expect("a directory");
    let server = Server::start(directory.path()).await;
    append(&server.client, 1, 4).await;
    let groups = server.client.persistent();
    let settings = GroupSettings { max_retry_count: 7, ..GroupSettings::default() };
    for group in groups_of_both() {
        groups.create(&group, &settings, GroupStart::Start).await.expect("a group");
        let mut consumer = groups.consume(&group, 100).await.expect("a consumer");
        next_of_ours(&mut consumer).await.ack().await.expect("sent");
        next_of_ours(&mut consumer).await.park("broken").await.expect("sent");
        next_of_ours(&mut consumer).await;
        until("it is parked", || async { groups.info(&group).await.expect("a group").parked == 1 })
            .await;
    }
    server.stop().await;
    let server = Server::start(directory.path()).await;
    let groups = server.client.persistent();
    assert_eq!(groups.list().await.expect("a list").len(), 2);
    for group in groups_of_both() {
        let info = groups.info(&group).await.expect("a group");
        assert_eq!(info.parked, 1, "{group:?}");
        assert!(info.checkpoint.is_some(), "{group:?}: a stop says how far it is");
        let mut consumer = groups.consume(&group, 100).await.expect("a consumer");
        for number in [3, 4] {
            let message = next_of_ours(&mut consumer).await;
            assert_eq!((id(&message), message.retries), (number, 0), "{group:?}");
            message.ack().await.expect("sent");
        }
        groups.replay_parked(&group, None).await.expect("told");
        let replayed = next_of_ours(&mut consumer).await;
        assert_eq!(id(&replayed), 2);
        replayed.ack().await.expect("sent");
        until("it is forgotten", || async {
            groups.info(&group).await.expect("a group").parked == 0
        })
        .await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_group_from_the_end_loses_nothing_before_its_first_checkpoint() {
    let directory = TempDir::new().expect("a directory");
    let server = Server::start(directory.path()).await;
    append(&server.client, 1, 2).await;
    for group in groups_of_both() {
        let groups = server.client.persistent();
        let made = groups.create(&group, &GroupSettings::default(), GroupStart::End).await;
        made.expect("a group");
    }
    append(&server.client, 3, 2).await;
    server.stop().await;
    let server = Server::start(directory.path()).await;
    for group in groups_of_both() {
        let mut consumer = server.client.persistent().consume(&group, 10).await.expect("one");
        for number in [3, 4] {
            assert_eq!(id(&next_of_ours(&mut consumer).await), number, "{group:?}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_killed_server_delivers_again_what_its_checkpoint_does_not_cover() {
    const EVENTS: usize = 300;
    const MOST: u32 = 10;
    let directory = TempDir::new().expect("a directory");
    let daemon = Daemon::start(directory.path());
    let client_of = |daemon: &Daemon| client(daemon.address);
    let first = client_of(&daemon);
    append(&first, 1, EVENTS).await;
    let group = Group::of_stream(name("s"), "g");
    let settings = GroupSettings {
        min_checkpoint_count: MOST,
        max_checkpoint_count: MOST,
        ..GroupSettings::default()
    };
    let groups = first.persistent();
    groups.create(&group, &settings, GroupStart::Start).await.expect("a group");
    let mut consumer = groups.consume(&group, 50).await.expect("a consumer");
    let mut done = BTreeSet::new();
    while done.len() < EVENTS / 2 {
        let message = next(&mut consumer).await;
        message.ack().await.expect("sent");
        done.insert(id(&message));
    }
    until("a checkpoint", || async {
        groups.info(&group).await.expect("a group").checkpoint.is_some()
    })
    .await;
    daemon.kill();
    let daemon = Daemon::start(directory.path());
    let again = client_of(&daemon);
    let mut consumer = again.persistent().consume(&group, 50).await.expect("a consumer");
    let first = next(&mut consumer).await;
    assert!(id(&first) > 1, "the checkpoint was lost");
    let mut seen = BTreeSet::from([id(&first)]);
    first.ack().await.expect("sent");
    while seen.union(&done).count() < EVENTS {
        let message = next(&mut consumer).await;
        message.ack().await.expect("sent");
        seen.insert(id(&message));
    }
    daemon.kill();
}

#[tokio::test]
async fn a_restored_backup_goes_on_where_it_says() {
    let directory = TempDir::new().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let text = |path: &Path| path.display().to_string();
    let server = Server::start(&path("data")).await;
    append(&server.client, 1, 3).await;
    let groups = server.client.persistent();
    for group in groups_of_both() {
        let made = groups.create(&group, &GroupSettings::default(), GroupStart::Start).await;
        made.expect("a group");
        let mut consumer = groups.consume(&group, 1).await.expect("a consumer");
        next_of_ours(&mut consumer).await.park("broken").await.expect("sent");
        until("it is parked", || async { groups.info(&group).await.expect("a group").parked == 1 })
            .await;
    }
    server.stop().await;
    let saved = run(&["backup", "--data", &text(&path("data")), "--to", &text(&path("saved"))]);
    assert!(saved.status.success(), "{}", said(&saved));
    // What the backup does not have any more.
    let server = Server::start(&path("data")).await;
    append(&server.client, 4, 1).await;
    server.stop().await;
    let done =
        run(&["restore", "--from", &text(&path("saved")), "--data", &text(&path("restored"))]);
    assert!(done.status.success(), "{}", said(&done));
    let server = Server::start(&path("restored")).await;
    append(&server.client, 50, 1).await;
    for group in groups_of_both() {
        let groups = server.client.persistent();
        let info = groups.info(&group).await.expect("a group");
        assert_eq!((info.parked, info.status.contains("NotReady")), (1, false), "{group:?}");
        let mut consumer = groups.consume(&group, 10).await.expect("a consumer");
        for number in [2, 3, 50] {
            assert_eq!(id(&next_of_ours(&mut consumer).await), number, "{group:?}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_checkpoint_of_another_history_keeps_its_group_from_working_and_says_so() {
    let directory = TempDir::new().expect("a directory");
    let server = Server::start(directory.path()).await;
    let group = Group::of_all("g");
    let groups = server.client.persistent();
    let made = groups.create(&group, &GroupSettings::default(), GroupStart::Start).await;
    made.expect("a group");
    let stream = name("$persistentsubscription-$all::g-checkpoint");
    let place = NewEvent::json(
        uuid::Uuid::from_u128(9),
        "$SubscriptionCheckpoint",
        "\"C:999999999/P:999999999\"".as_bytes().to_vec(),
    );
    // A client may not write there; it is as after a move to another log.
    let refused = server.client.append(&stream, ExpectedRevision::Any, vec![place.clone()]).await;
    assert!(refused.is_err());
    let append = Append::to_stream(stream, ExpectedRevision::Any, [place]);
    server.store().append(append).await.expect("appended");
    server.stop().await;
    let server = Server::start(directory.path()).await;
    let groups = server.client.persistent();
    let info = groups.info(&group).await.expect("a group");
    assert!(info.status.contains("NotReady"), "{info:?}");
    let refused = groups.consume(&group, 1).await.map(|_| ());
    let text = refused.expect_err("refused").to_string();
    assert!(text.contains("this log's history has no place"), "{text}");
    groups.delete(&group).await.expect("deleted");
    let made = groups.create(&group, &GroupSettings::default(), GroupStart::Start).await;
    made.expect("a group");
    groups.consume(&group, 1).await.expect("a consumer");
    server.stop().await;
}

/// Each change is cut while it waits for the disk: its settings are being written, or the place of a
/// group that ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_in_the_middle_of_a_change_loses_no_group() {
    let sim = SimDisk::new(7);
    let disk = GatedDisk::new(sim.clone());
    let server = Server::on_disk(Arc::new(disk.clone())).await;
    let groups = server.client.persistent();
    // Its place is written when it ends, and not before.
    let settings = GroupSettings {
        checkpoint_after: None,
        min_checkpoint_count: 1000,
        max_checkpoint_count: 1000,
        ..GroupSettings::default()
    };
    let [group, all] = groups_of_both();
    for group in [&group, &all] {
        groups.create(group, &settings, GroupStart::Start).await.expect("a group");
    }
    let made = Group::of_stream(name("s"), "made");
    for (number, change) in (1..).zip(["create", "update", "restart"]) {
        append(&server.client, number, 1).await;
        let mut consumer = groups.consume(&group, 1).await.expect("a consumer");
        let message = next(&mut consumer).await;
        assert_eq!(id(&message), number);
        message.ack().await.expect("sent");
        until("it is done", || async {
            groups.info(&group).await.expect("a group").in_flight == 0
        })
        .await;
        until("the store to rest", || async { disk.waiting() == 0 }).await;
        disk.shut();
        let (groups_there, target, settings) = (groups.clone(), group.clone(), settings.clone());
        let created = made.clone();
        let changing = tokio::spawn(async move {
            match change {
                "create" => groups_there.create(&created, &settings, GroupStart::Start).await,
                "update" => groups_there.update(&target, &settings, GroupStart::Start).await,
                _ => groups_there.restart().await,
            }
        });
        until("it waits for the disk", || async { disk.waiting() > 0 }).await;
        changing.abort();
        assert!(changing.await.expect_err("it was cut").is_cancelled(), "{change}");
        // On the same connection, behind the news that the client went.
        assert_eq!(read(&server.client, "s").await, number as usize, "{change}");
        disk.open_gate();
        let accepted = groups.update(&all, &GroupSettings::default(), GroupStart::Start).await;
        accepted.unwrap_or_else(|failed| panic!("{change}: {failed}"));
        assert_eq!(groups.list().await.expect("a list").len(), 3, "{change}");
    }
    server.stop().await;
    let server = Server::on_disk(Arc::new(sim.restart())).await;
    let groups = server.client.persistent();
    for group in [&group, &all, &made] {
        let info = groups.info(group).await.expect("a group");
        assert!(!info.status.contains("NotReady"), "{info:?}");
    }
    server.stop().await;
}

/// How many events `stream` has.
async fn read(client: &Client, stream: &str) -> usize {
    let read = client.read_stream(ReadStream::new(name(stream))).await.expect("a stream");
    read.count().await
}
