//! Groups on a store on a simulated disk: what they promise when things go wrong beside them.

mod changes;
mod disk;
mod ends;
mod replay;
mod room;

use std::sync::Arc;
use std::time::Duration;

use daybook_log::disk::Disk;
use daybook_log::disk::sim::SimDisk;
use daybook_model::{
    Clock, ExpectedRevision, NewEvent, StreamName, SystemClock, SystemEntropy, Timestamp,
};
use daybook_store::persistent::{NackAction, Settings};
use daybook_store::{Append, Deletion, Environment, Options, Sizes, Store};
use uuid::Uuid;

use super::budget::HELD_SIZE_MAX;
use super::consumer::{Consumer, Delivered};
use super::definition::{Definition, Start};
use super::info::{GroupInfo, Visitor};
use super::journal::Journal;
use super::key::{GroupKey, Source};
use super::*;

/// Longer than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a state is looked at that nobody announces.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// A store with groups.
struct House {
    store: Store,
    groups: Persistent,
}

impl House {
    async fn on(disk: impl Disk + 'static) -> House {
        let store = store_on(disk);
        let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
        let groups = Persistent::start(store.clone(), clock, entropy, HELD_SIZE_MAX).await;
        House { store, groups }
    }

    async fn append(&self, stream: &str, first: u128, count: u128, size: usize) {
        for id in first..first + count {
            let data = format!("\"{}\"", "x".repeat(size));
            let event = NewEvent::json(Uuid::from_u128(id), "T", data);
            let append = Append::to_stream(name(stream), ExpectedRevision::Any, [event]);
            self.store.append(append).await.expect("appended");
        }
    }

    async fn group(&self, settings: Settings) -> GroupKey {
        let definition = of_stream("s", settings);
        let key = definition.key.clone();
        self.groups.create(definition).await.expect("a group");
        key
    }

    async fn consume(&self, key: &GroupKey, buffer: usize) -> Consumer {
        self.groups.connect(key, nobody(), buffer).await.expect("a consumer")
    }

    async fn info(&self, key: &GroupKey) -> GroupInfo {
        self.groups.info(key).await.expect("a group")
    }

    async fn until(&self, key: &GroupKey, what: &str, reached: impl Fn(&GroupInfo) -> bool) {
        until(what, async || reached(&self.info(key).await)).await;
    }

    /// The groups end, and are loaded by another process.
    async fn again(self, disk: impl Disk + 'static) -> House {
        self.stop().await;
        House::on(disk).await
    }

    async fn stop(self) {
        self.groups.stop().await;
        self.store.close().await;
    }
}

fn store_on(disk: impl Disk + 'static) -> Store {
    let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
    let environment = Environment { disk: Arc::new(disk), clock, entropy };
    let sizes = Sizes { first: 16 * 1024, max: 8 * 1024 * 1024 };
    Store::open(environment, Options { sizes, ..Options::default() }).expect("a store")
}

fn name(stream: &str) -> StreamName {
    StreamName::new(stream).expect("a name")
}

fn of_stream(stream: &str, settings: Settings) -> Definition {
    Definition {
        key: GroupKey { source: Source::Stream(name(stream)), group: "g".to_owned() },
        settings,
        resolve_links: false,
        extra_statistics: false,
        start: Start::First,
        begins_at: 0,
        filter: None,
    }
}

/// Settings that say at once how far a group is.
fn eager() -> Settings {
    Settings { min_checkpoint_count: 1, max_checkpoint_count: 1, ..Settings::default() }
}

fn nobody() -> Visitor {
    let nobody = || "nobody".to_owned();
    Visitor { from: nobody(), username: nobody(), connection: nobody() }
}

/// Waits until `reached` says so, and fails as `what` if it never does.
async fn until(what: &str, mut reached: impl AsyncFnMut() -> bool) {
    let look = async {
        let mut interval = tokio::time::interval(LOOK_INTERVAL);
        while !reached().await {
            interval.tick().await;
        }
    };
    let looked = tokio::time::timeout(PATIENCE, look).await;
    looked.unwrap_or_else(|_| panic!("waited too long: {what}"));
}

async fn next(consumer: &mut Consumer) -> Delivered {
    let next = tokio::time::timeout(PATIENCE, consumer.next()).await;
    next.expect("a message in time").expect("a message")
}

/// What the consumer names the message by.
fn id(delivered: &Delivered) -> Uuid {
    let item = &delivered.item;
    let original = item.link.as_ref().or(item.event.as_ref());
    original.map(|placed| placed.event.id).expect("a message of something")
}

async fn park(consumer: &mut Consumer) -> Delivered {
    let delivered = next(consumer).await;
    let what = NackAction::Park("why".to_owned());
    consumer.nack(vec![id(&delivered)], what).await.expect("told");
    delivered
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_a_full_disk_keeps_from_being_parked_is_parked_when_there_is_room() {
    let disk = SimDisk::new(7);
    let house = House::on(disk.clone()).await;
    house.append("s", 1, 2, 10).await;
    let key = house.group(eager()).await;
    let mut consumer = house.consume(&key, 1).await;
    disk.set_capacity(Some(0));
    // What is left of the spare.
    let mut fillers = 1000;
    until("a full disk", async || {
        fillers += 1;
        let event = NewEvent::json(Uuid::from_u128(fillers), "T", b"1".to_vec());
        let append = Append::to_stream(name("filler"), ExpectedRevision::Any, [event]);
        house.store.append(append).await.is_err()
    })
    .await;
    park(&mut consumer).await;
    house.until(&key, "trouble", |info| info.status.trouble.is_some()).await;
    let info = house.info(&key).await;
    let trouble = info.status.trouble.clone().unwrap_or_default();
    assert!(trouble.contains("cannot park 0@s") && trouble.contains("no room"), "{trouble}");
    assert!(info.status.words().contains("NotReady"));
    assert_eq!((info.parking, info.parked, info.checkpoint_number), (1, 0, None), "not settled");
    // The others go on.
    assert_eq!(id(&next(&mut consumer).await).as_u128(), 2);
    disk.set_capacity(None);
    house.until(&key, "it is parked", |info| info.parked == 1).await;
    house.until(&key, "its checkpoint", |info| info.checkpoint_number == Some(0)).await;
    assert_eq!(house.info(&key).await.status.trouble, None);
    house.stop().await;
    let house = House::on(disk.restart()).await;
    let info = house.info(&key).await;
    assert_eq!((info.parked, info.checkpoint_number), (1, Some(0)), "once, and for good");
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_forgotten_does_not_come_back_when_what_was_replayed_is_done() {
    let disk = SimDisk::new(7);
    let house = House::on(disk.clone()).await;
    house.append("s", 1, 3, 10).await;
    let key = house.group(eager()).await;
    let mut consumer = house.consume(&key, 10).await;
    for _ in 0..3 {
        park(&mut consumer).await;
    }
    house.until(&key, "all are parked", |info| info.parked == 3).await;
    house.groups.replay(&key, None).await.expect("told");
    let first = next(&mut consumer).await;
    house.groups.truncate(&key, None).await.expect("forgotten");
    assert_eq!(house.info(&key).await.parked, 0);
    consumer.ack(vec![id(&first)]).await.expect("told");
    house.until(&key, "it is settled", |info| info.unsettled == 2).await;
    house.groups.restart().await.expect("restarted");
    assert_eq!(house.info(&key).await.parked, 0, "nor is it there for the next process");
    let house = house.again(disk.restart()).await;
    assert_eq!(house.info(&key).await.parked, 0);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_message_whose_event_is_gone_is_replayed_as_its_link() {
    let house = House::on(SimDisk::new(7)).await;
    house.append("s", 1, 2, 10).await;
    let key = house.group(eager()).await;
    let mut consumer = house.consume(&key, 10).await;
    for _ in 0..2 {
        park(&mut consumer).await;
    }
    house.until(&key, "both are parked", |info| info.parked == 2).await;
    let (stream, any) = (name("s"), ExpectedRevision::Any);
    house.store.delete(&stream, any, Deletion::Soft).await.expect("deleted");
    house.groups.replay(&key, None).await.expect("told");
    for revision in 0..2 {
        let replayed = park(&mut consumer).await;
        assert!(replayed.item.event.is_none());
        let link = replayed.item.link.as_ref().expect("the link").event.data.clone();
        assert_eq!(link, format!("{revision}@s"));
    }
    // They are parked again under the same names, and not as links to links.
    house.until(&key, "the new ones", |info| info.parked == 2 && info.parking == 0).await;
    house.groups.replay(&key, None).await.expect("told");
    let replayed = next(&mut consumer).await;
    let link = &replayed.item.link.as_ref().expect("the link").event;
    assert_eq!((link.revision.0, link.data.clone()), (2, "0@s".into()));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_used_fault_their_group_alone_and_are_kept() {
    let disk = SimDisk::new(7);
    let house = House::on(disk.clone()).await;
    let key = house.group(eager()).await;
    let journal =
        Journal::new(house.store.clone(), Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
    let stored = async || {
        let (at, document) = journal.config().await.expect("readable").expect("a document");
        let document: serde_json::Value = serde_json::from_slice(&document).expect("JSON");
        (at, document)
    };
    let (at, mut document) = stored().await;
    let entries = document["entries"].as_array_mut().expect("entries");
    let mut strange = entries[0].clone();
    strange["group"] = "strange".into();
    strange["namedConsumerStrategy"] = "Fair".into();
    strange["ofAnotherServer"] = serde_json::json!({ "kept": true });
    let nameless = serde_json::json!({ "stream": 7 });
    entries.extend([strange.clone(), nameless.clone()]);
    journal.put_config(Some(at), document.to_string().into_bytes()).await.expect("written");
    house.groups.restart().await.expect("restarted");

    assert_eq!(house.groups.fault(), None);
    assert_eq!(house.info(&key).await.status.trouble, None);
    let faulted = GroupKey { group: "strange".to_owned(), ..key.clone() };
    let trouble = house.info(&faulted).await.status.trouble.expect("trouble");
    assert!(trouble.contains("no such strategy"), "{trouble}");
    assert_eq!(house.groups.list(None).await.len(), 2);
    let mut changed = of_stream("s", Settings::default());
    changed.key = faulted.clone();
    for refused in [
        house.groups.connect(&faulted, nobody(), 1).await.map(|_| ()),
        house.groups.update(changed).await,
    ] {
        assert!(matches!(refused, Err(GroupError::Failed { .. })), "{refused:?}");
    }

    // The document is written again, more than once, also by another process.
    house.groups.create(of_stream("other", eager())).await.expect("a group");
    let house = house.again(disk.restart()).await;
    house.groups.create(of_stream("third", eager())).await.expect("a group");
    let journal =
        Journal::new(house.store.clone(), Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
    let entries = async || {
        let (_, document) = journal.config().await.expect("readable").expect("a document");
        let document: serde_json::Value = serde_json::from_slice(&document).expect("JSON");
        document["entries"].as_array().expect("entries").clone()
    };
    let kept = entries().await;
    assert!(kept.contains(&strange) && kept.contains(&nameless), "{kept:?}");
    assert_eq!(kept.len(), 5);
    house.groups.delete(&faulted).await.expect("deleted");
    let kept = entries().await;
    assert!(!kept.contains(&strange) && kept.contains(&nameless), "{kept:?}");
    house.stop().await;
}
