//! Persistent subscriptions at the wire: what consumers are promised, row by row.

use std::collections::BTreeSet;
use std::time::Duration;

use daybook_client::persistent::{
    Consumer, Group, GroupError, GroupMessage, GroupSettings, GroupStart, Persistent, Strategy,
};
use daybook_client::{Client, EventFilter, ExpectedRevision, FilterTarget, NewEvent, Pattern};
use daybook_model::{RecordedEvent, Revision};
use tempfile::TempDir;

use crate::support::daemon::{run, said};
use crate::support::events::{event, name};
use crate::support::http::{get, post};
use crate::support::node::{Server, client};
use crate::support::{assert_says, soon, until};

/// A server in a directory of its own.
struct Place {
    server: Server,
    _directory: TempDir,
}

impl Place {
    async fn new() -> Place {
        let directory = TempDir::new().expect("a directory");
        Place { server: Server::start(directory.path()).await, _directory: directory }
    }

    fn groups(&self) -> Persistent {
        self.server.client.persistent()
    }

    /// Appends `count` events to `stream`, with ids from `first` on.
    async fn append(&self, stream: &str, first: u128, count: usize) {
        append(&self.server.client, stream, first, count).await;
    }

    /// A group of `stream` that begins with its first event.
    async fn group(&self, stream: &str, settings: &GroupSettings) -> Group {
        let group = Group::of_stream(name(stream), "g");
        self.groups().create(&group, settings, GroupStart::Start).await.expect("a group");
        group
    }

    async fn consume(&self, group: &Group, buffer: u32) -> Consumer {
        self.groups().consume(group, buffer).await.expect("a consumer")
    }

    async fn parked(&self, group: &Group) -> u64 {
        self.groups().info(group).await.expect("a group").parked
    }
}

/// Appends `count` events to `stream`, with ids from `first` on.
async fn append(client: &Client, stream: &str, first: u128, count: usize) {
    let events: Vec<NewEvent> = (0..count).map(|n| event(first + n as u128)).collect();
    client.append(&name(stream), ExpectedRevision::Any, events).await.expect("appended");
}

async fn next(consumer: &mut Consumer) -> GroupMessage {
    soon("a message", consumer.next()).await.expect("a message")
}

/// The ids and retries of the next `count` messages, none of them answered.
async fn taken(consumer: &mut Consumer, count: usize) -> Vec<(u128, u32)> {
    let mut found = Vec::new();
    while found.len() < count {
        let message = next(consumer).await;
        found.push((id(&message), message.retries));
    }
    found
}

fn id(message: &GroupMessage) -> u128 {
    message.resolved.event.as_ref().map(|event| event.id.as_u128()).unwrap_or_default()
}

fn of(numbers: std::ops::Range<u128>) -> Vec<(u128, u32)> {
    numbers.map(|number| (number, 0)).collect()
}

/// Settings that say at once how far a group is.
fn eager() -> GroupSettings {
    GroupSettings { min_checkpoint_count: 1, max_checkpoint_count: 1, ..GroupSettings::default() }
}

#[tokio::test]
async fn history_comes_first_then_what_is_appended_and_the_place_is_kept() {
    let place = Place::new().await;
    place.append("s", 1, 3).await;
    let group = place.group("s", &eager()).await;
    let mut consumer = place.consume(&group, 10).await;
    place.append("s", 4, 2).await;
    for number in 1..6 {
        let message = next(&mut consumer).await;
        assert_eq!((id(&message), message.retries), (number, 0));
        message.ack().await.expect("sent");
    }
    let groups = place.groups();
    until("it is all done", || async {
        groups.info(&group).await.expect("a group").checkpoint == Some("4".to_owned())
    })
    .await;
    let info = groups.info(&group).await.expect("a group");
    assert_eq!((info.connections, info.in_flight, info.total), (1, 0, 5));
    assert_eq!((info.status.as_str(), info.last_known.as_deref()), ("Live", Some("4")));
}

#[tokio::test]
async fn a_consumer_has_no_more_than_its_buffer() {
    let place = Place::new().await;
    place.append("s", 1, 5).await;
    let group = place.group("s", &GroupSettings::default()).await;
    let mut consumer = place.consume(&group, 2).await;
    let first = next(&mut consumer).await;
    next(&mut consumer).await;
    let groups = place.groups();
    assert_eq!(groups.info(&group).await.expect("a group").in_flight, 2);
    first.ack().await.expect("sent");
    assert_eq!(taken(&mut consumer, 1).await, of(3..4));
    assert_eq!(groups.info(&group).await.expect("a group").in_flight, 2);
}

#[tokio::test]
async fn consumers_are_served_in_turn_and_their_messages_go_on_to_others() {
    let place = Place::new().await;
    let group = place.group("s", &GroupSettings::default()).await;
    let (mut first, mut second) =
        (place.consume(&group, 10).await, place.consume(&group, 10).await);
    place.append("s", 1, 6).await;
    assert_eq!(taken(&mut first, 3).await, [(1, 0), (3, 0), (5, 0)]);
    assert_eq!(taken(&mut second, 3).await, [(2, 0), (4, 0), (6, 0)]);
    drop(first);
    assert_eq!(taken(&mut second, 3).await, [(1, 0), (3, 0), (5, 0)], "uncounted");
}

#[tokio::test]
async fn each_answer_has_its_effect() {
    let place = Place::new().await;
    place.append("s", 1, 4).await;
    let group = place.group("s", &eager()).await;
    let mut consumer = place.consume(&group, 1).await;
    next(&mut consumer).await.retry("again").await.expect("sent");
    let again = next(&mut consumer).await;
    assert_eq!((id(&again), again.retries), (1, 1));
    again.skip("unwanted").await.expect("sent");
    next(&mut consumer).await.park("broken").await.expect("sent");
    next(&mut consumer).await.ack().await.expect("sent");
    assert_eq!(id(&next(&mut consumer).await), 4);
    until("it is parked", || async { place.parked(&group).await == 1 }).await;
    let parked = read(&place.server, "$persistentsubscription-s::g-parked").await;
    let [link] = &parked[..] else { panic!("{parked:?}") };
    assert_eq!((link.event_type.as_str(), &link.data[..]), ("$>", &b"1@s"[..]));
    let metadata: serde_json::Value = serde_json::from_slice(&link.metadata).expect("JSON");
    assert_eq!(metadata["reason"], "Client explicitly NAK'ed message.\nbroken");
    assert_eq!(metadata["subscriptionEventNumber"], 1);
}

async fn read(server: &Server, stream: &str) -> Vec<RecordedEvent> {
    use daybook_client::ReadStream;
    use futures_util::TryStreamExt as _;
    let read = server.client.read_stream(ReadStream::new(name(stream))).await.expect("a stream");
    let events: Vec<_> = read.try_collect().await.expect("events");
    events.into_iter().filter_map(|resolved| resolved.event).collect()
}

#[tokio::test]
async fn what_takes_too_long_comes_again_so_often_and_is_parked_with_the_reason() {
    let place = Place::new().await;
    place.append("s", 1, 1).await;
    let settings = GroupSettings {
        message_timeout: Some(Duration::from_millis(20)),
        max_retry_count: 3,
        ..GroupSettings::default()
    };
    let group = place.group("s", &settings).await;
    let mut consumer = place.consume(&group, 1).await;
    assert_eq!(taken(&mut consumer, 4).await, [(1, 0), (1, 1), (1, 2), (1, 3)]);
    until("it is parked", || async { place.parked(&group).await == 1 }).await;
    let parked = read(&place.server, "$persistentsubscription-s::g-parked").await;
    assert_says(&String::from_utf8_lossy(&parked[0].metadata), &["Reached retry count of 3"]);
}

#[tokio::test]
async fn parked_messages_are_delivered_again_and_forgotten_once_they_are_done() {
    let place = Place::new().await;
    place.append("s", 1, 3).await;
    let group = place.group("s", &GroupSettings::default()).await;
    let mut consumer = place.consume(&group, 10).await;
    for _ in 0..3 {
        next(&mut consumer).await.park("later").await.expect("sent");
    }
    until("all are parked", || async { place.parked(&group).await == 3 }).await;
    place.groups().replay_parked(&group, Some(2)).await.expect("told");
    let (first, second) = (next(&mut consumer).await, next(&mut consumer).await);
    assert_eq!((id(&first), id(&second)), (1, 2));
    assert!(first.resolved.link.is_some(), "through the link that parked it");
    second.ack().await.expect("sent");
    first.park("still").await.expect("sent");
    // The third, and the first anew.
    until("two are left", || async { place.parked(&group).await == 2 }).await;
    place.groups().replay_parked(&group, None).await.expect("told");
    assert_eq!(taken(&mut consumer, 2).await, [(3, 0), (1, 0)]);
}

#[tokio::test]
async fn groups_begin_where_they_were_told() {
    let place = Place::new().await;
    place.append("s", 1, 4).await;
    let groups = place.groups();
    for (label, start, expected) in [
        ("start", GroupStart::Start, 1..6),
        ("end", GroupStart::End, 5..6),
        ("revision", GroupStart::Revision(Revision(2)), 3..6),
    ] {
        let group = Group::of_stream(name("s"), label);
        groups.create(&group, &GroupSettings::default(), start).await.expect("a group");
        if label == "start" {
            continue;
        }
        place.append("s", 5, if label == "end" { 1 } else { 0 }).await;
        let mut consumer = place.consume(&group, 10).await;
        let count = (expected.end - expected.start) as usize;
        assert_eq!(taken(&mut consumer, count).await, of(expected), "{label}");
    }
}

#[tokio::test]
async fn a_group_of_the_log_has_a_filter_and_never_what_groups_write() {
    let place = Place::new().await;
    let groups = place.groups();
    let (all, some) = (Group::of_all("all"), Group::of_all("some"));
    groups.create(&all, &eager(), GroupStart::Start).await.expect("a group");
    let filter = EventFilter {
        target: FilterTarget::StreamName,
        pattern: Pattern::Prefixes(vec!["wanted-".to_owned()]),
    };
    let settings = eager();
    let filtered = groups.create_filtered(&some, &settings, GroupStart::Start, Some(&filter));
    filtered.await.expect("a group");
    place.append("other-1", 1, 3).await;
    place.append("wanted-1", 10, 2).await;
    let mut wanted = place.consume(&some, 10).await;
    for number in [10, 11] {
        let message = next(&mut wanted).await;
        assert_eq!(id(&message), number);
        message.ack().await.expect("sent");
    }
    let mut everything = place.consume(&all, 10).await;
    let mut streams = BTreeSet::new();
    loop {
        let message = next(&mut everything).await;
        message.ack().await.expect("sent");
        let stream = message.resolved.event.as_ref().map(|event| event.stream.to_string());
        streams.extend(stream);
        if id(&message) == 11 {
            break;
        }
    }
    assert!(streams.contains("$persistentSubscriptionConfig"), "system events too: {streams:?}");
    assert!(!streams.iter().any(|s| s.contains("$persistentsubscription-")), "{streams:?}");
    // Both have written how far they are, and that makes neither write again.
    for group in [&all, &some] {
        until("its checkpoint", || async {
            groups.info(group).await.expect("a group").checkpoint.is_some()
        })
        .await;
    }
    let before = place.server.store().committed();
    place.append("wanted-1", 12, 1).await;
    next(&mut wanted).await.ack().await.expect("sent");
    next(&mut everything).await.ack().await.expect("sent");
    until("one more checkpoint of each", || async {
        place.server.store().committed().0 >= before.0 + 3
    })
    .await;
    place.append("other-1", 20, 1).await;
    assert_eq!(id(&next(&mut everything).await), 20, "and nothing between");
}

#[tokio::test]
async fn a_category_is_followed_through_its_links() {
    let place = Place::new().await;
    let settings = GroupSettings { resolve_links: true, ..eager() };
    let group = place.group("$ce-account", &settings).await;
    place.append("account-1", 1, 1).await;
    place.append("account-2", 2, 1).await;
    let mut consumer = place.consume(&group, 10).await;
    for (number, stream) in [(1, "account-1"), (2, "account-2")] {
        let message = next(&mut consumer).await;
        let link = message.resolved.link.as_ref().expect("a link");
        assert_eq!((link.stream.as_str(), link.event_type.as_str()), ("$ce-account", "$>"));
        let event = message.resolved.event.as_ref().expect("an event");
        assert_eq!((event.id.as_u128(), event.stream.as_str()), (number, stream));
        message.park("to see where").await.expect("sent");
    }
    until("both are parked", || async { place.parked(&group).await == 2 }).await;
    let parked = read(&place.server, "$persistentsubscription-$ce-account::g-parked").await;
    let links: Vec<_> = parked.iter().map(|link| String::from_utf8_lossy(&link.data)).collect();
    assert_eq!(links, ["0@account-1", "0@account-2"]);
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_in_the_protocols_words() {
    let place = Place::new().await;
    let groups = place.groups();
    let settings = GroupSettings { max_subscriber_count: Some(1), ..GroupSettings::default() };
    let group = Group::of_stream(name("s"), "g");
    let missing = "Subscription group g on stream s does not exist.";
    for refused in [
        groups.info(&group).await.map(|_| ()),
        groups.delete(&group).await,
        groups.replay_parked(&group, None).await,
        groups.update(&group, &settings, GroupStart::Start).await,
        groups.consume(&group, 1).await.map(|_| ()),
    ] {
        assert_eq!(refused, Err(GroupError::Missing { reason: missing.to_owned() }));
    }
    groups.create(&group, &settings, GroupStart::Start).await.expect("a group");
    let twice = groups.create(&group, &settings, GroupStart::Start).await;
    assert!(matches!(twice, Err(GroupError::Exists { .. })), "{twice:?}");
    let _only = place.consume(&group, 1).await;
    let second = groups.consume(&group, 1).await.map(|_| ());
    assert!(matches!(second, Err(GroupError::Full { .. })), "{second:?}");
    let other = Group::of_stream(name("s"), "other");
    for wrong in [
        GroupSettings { read_batch_size: 500, ..GroupSettings::default() },
        GroupSettings { live_buffer_size: 0, ..GroupSettings::default() },
        GroupSettings { history_buffer_size: 1_000_000, ..GroupSettings::default() },
    ] {
        let refused = groups.create(&other, &wrong, GroupStart::Start).await;
        assert!(matches!(refused, Err(GroupError::Failed { .. })), "{wrong:?}: {refused:?}");
    }
    let long = Group::of_stream(name("s"), &"g".repeat(1000));
    let refused = groups.create(&long, &settings, GroupStart::Start).await;
    assert!(matches!(refused, Err(GroupError::Failed { .. })), "{refused:?}");
    let nowhere = GroupStart::At(daybook_client::Checkpoint(77));
    let refused = groups.create(&Group::of_all("g"), &settings, nowhere).await;
    assert!(matches!(refused, Err(GroupError::Failed { .. })), "{refused:?}");
}

#[tokio::test]
async fn an_update_keeps_the_place_and_consumers_come_back() {
    let place = Place::new().await;
    place.append("s", 1, 3).await;
    let group = place.group("s", &GroupSettings::default()).await;
    let mut consumer = place.consume(&group, 1).await;
    next(&mut consumer).await.ack().await.expect("sent");
    assert_eq!(id(&next(&mut consumer).await), 2);
    let settings = GroupSettings { strategy: Strategy::Pinned, ..GroupSettings::default() };
    place.groups().update(&group, &settings, GroupStart::Start).await.expect("updated");
    assert_eq!(id(&next(&mut consumer).await), 2, "over another call");
    let info = place.groups().info(&group).await.expect("a group");
    assert_eq!((info.strategy.as_str(), info.checkpoint.as_deref()), ("Pinned", Some("0")));
    place.groups().restart().await.expect("restarted");
    assert_eq!(id(&next(&mut consumer).await), 2);
}

#[tokio::test]
async fn a_deleted_group_ends_its_consumers_and_leaves_nothing_behind() {
    let place = Place::new().await;
    place.append("s", 1, 3).await;
    let group = place.group("s", &eager()).await;
    let mut consumer = place.consume(&group, 1).await;
    next(&mut consumer).await.park("away").await.expect("sent");
    next(&mut consumer).await.ack().await.expect("sent");
    next(&mut consumer).await;
    until("it is parked", || async { place.parked(&group).await == 1 }).await;
    place.groups().delete(&group).await.expect("deleted");
    let ended = soon("the end", consumer.next()).await.map(|_| ());
    assert!(matches!(ended, Err(GroupError::Missing { .. })), "{ended:?}");
    let group = place.group("s", &eager()).await;
    let mut anew = place.consume(&group, 10).await;
    assert_eq!(taken(&mut anew, 3).await, of(1..4));
    assert_eq!(place.parked(&group).await, 0);
}

#[tokio::test]
async fn none_of_ten_thousand_is_lost_while_consumers_come_and_go() {
    const EVENTS: usize = 10_000;
    let place = Place::new().await;
    for first in (0..EVENTS).step_by(1000) {
        place.append(&format!("s-{}", first / 1000), first as u128 + 1, 1000).await;
    }
    let settings = GroupSettings { strategy: Strategy::Pinned, resolve_links: true, ..eager() };
    let group =
        place.group("$ce-s", &GroupSettings { max_checkpoint_count: 100, ..settings }).await;
    let address = place.server.address();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let consumers: Vec<_> = (1..=3_u64)
        .map(|seed| {
            let (group, sender) = (group.clone(), sender.clone());
            tokio::spawn(async move {
                let groups = client(address).persistent();
                let mut chance = seed;
                loop {
                    let mut consumer = groups.consume(&group, 40).await.expect("a consumer");
                    // Some number of messages, and then it is gone with what it has.
                    chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    for _ in 0..200 + (chance >> 33) % 600 {
                        let Ok(message) = consumer.next().await else { return };
                        message.ack().await.ok();
                        if sender.send(id(&message)).is_err() {
                            return;
                        }
                    }
                }
            })
        })
        .collect();
    let mut seen = BTreeSet::new();
    let all = async {
        while seen.len() < EVENTS {
            seen.insert(receiver.recv().await.expect("consumers that run"));
        }
    };
    soon("all of them", all).await;
    drop(receiver);
    let groups = place.groups();
    until("it is all done", || async {
        groups.info(&group).await.expect("a group").checkpoint == Some((EVENTS - 1).to_string())
    })
    .await;
    consumers.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn groups_are_seen_over_http_in_the_metrics_and_from_the_command_line() {
    let place = Place::new().await;
    place.append("s/1", 1, 2).await;
    let group = place.group("s/1", &GroupSettings::default()).await;
    let mut consumer = place.consume(&group, 10).await;
    next(&mut consumer).await.park("broken").await.expect("sent");
    next(&mut consumer).await;
    until("it is parked", || async { place.parked(&group).await == 1 }).await;
    let address = place.server.address();
    let one = get(address, "/subscriptions/s%2F1/g/info").await.json();
    assert_eq!((&one["groupName"], &one["totalInFlightMessages"]), (&"g".into(), &1.into()));
    assert_eq!(one["connections"].as_array().map(Vec::len), Some(1));
    assert_eq!(get(address, "/subscriptions").await.json().as_array().map(Vec::len), Some(1));
    assert_eq!(get(address, "/subscriptions/s%2F1").await.status, 200);
    assert_eq!(get(address, "/subscriptions/other").await.status, 404);
    assert_eq!(get(address, "/subscriptions/s%2F1/other/info").await.status, 404);
    let metrics = get(address, "/metrics").await.body;
    for line in [
        "daybook_persistent_parked{stream=\"s/1\",group=\"g\"} 1",
        "daybook_persistent_in_flight{stream=\"s/1\",group=\"g\"} 1",
        "daybook_persistent_connections{stream=\"s/1\",group=\"g\"} 1",
        "daybook_persistent_parked_by_client_total{stream=\"s/1\",group=\"g\"} 1",
        "daybook_persistent_troubled{stream=\"s/1\",group=\"g\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} is missing in {metrics}");
    }
    let replayed = post(address, "/subscriptions/s%2F1/g/replayParked?stopAt=1", "").await;
    assert_eq!(replayed.status, 200);
    assert_eq!(id(&next(&mut consumer).await), 1);
    let url = format!("http://{address}");
    let told = async |words: &[&str]| {
        let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        words.splice(0..0, ["subscriptions".to_owned(), "--url".to_owned(), url.clone()]);
        let run = move || run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        tokio::task::spawn_blocking(run).await.expect("no panic")
    };
    let listed = told(&[]).await;
    assert_says(&String::from_utf8_lossy(&listed.stdout), &["s/1", "Live"]);
    let made = told(&["create", "$all", "mine", "--from", "end"]).await;
    assert!(made.status.success(), "{}", said(&made));
    let shown = told(&["info", "$all", "mine", "--json"]).await;
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert_eq!((&shown["stream"], &shown["strategy"]), (&"$all".into(), &"RoundRobin".into()));
    let gone = told(&["delete", "$all", "mine"]).await;
    assert!(gone.status.success(), "{}", said(&gone));
    assert_says(&said(&told(&["delete", "$all", "mine"]).await), &["does not exist"]);
    assert!(told(&["replay", "s/1", "g", "-n", "1"]).await.status.success());
    assert_eq!(post(address, "/subscriptions/restart", "").await.status, 200);
}
