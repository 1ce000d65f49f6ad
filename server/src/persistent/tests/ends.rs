//! How groups end, and begin again.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::super::budget::Budget;
use super::super::consumer::Ending;
use super::super::host::{Command, Host, MAILBOX_SIZE};
use super::*;

/// What a group is told behind its end: answers of consumers count, and who joins is refused.
#[tokio::test]
async fn what_consumers_said_before_they_knew_of_the_end_counts() {
    let house = House::on(SimDisk::new(7)).await;
    house.append("s", 1, 3, 10).await;
    let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
    let journal = Journal::new(house.store.clone(), clock, entropy);
    let definition = of_stream("s", Settings::default());
    let key = definition.key.clone();
    let (mailbox, receiver) = mpsc::channel(MAILBOX_SIZE);
    let ends = (receiver, mailbox.downgrade());
    let held = Budget::default().begin();
    let host = Host::load(journal.clone(), definition, ends, held).await.expect("a group");
    let task = tokio::spawn(host.run());
    let (answer, joined) = oneshot::channel();
    let join = Command::Join { visitor: nobody(), buffer_size: 3, answer };
    mailbox.send(join).await.expect("told");
    let mut consumer = joined.await.expect("an answer").expect("a consumer");
    let taken = [next(&mut consumer).await, next(&mut consumer).await, next(&mut consumer).await];
    // The task runs on this thread: it meets all of these at once, the end first.
    let (done, ended) = oneshot::channel();
    mailbox.try_send(Command::Stop { ending: Ending::Dropped, done }).expect("room");
    let (ids, consumer_id) = (vec![id(&taken[0])], consumer.id);
    mailbox.try_send(Command::Ack { consumer: consumer_id, ids }).expect("room");
    let (ids, what) = (vec![id(&taken[1])], NackAction::Park("why".to_owned()));
    mailbox.try_send(Command::Nack { consumer: consumer_id, ids, what }).expect("room");
    let (answer, refused) = oneshot::channel();
    let join = Command::Join { visitor: nobody(), buffer_size: 3, answer };
    mailbox.try_send(join).expect("room");
    ended.await.expect("an end");
    task.await.expect("no panic");
    assert_eq!(journal.parked(&key).await.expect("readable").count(), 1);
    assert_eq!(journal.checkpoint(&key).await.expect("readable"), Some(1));
    let refused = refused.await.expect("an answer").map(|_| ());
    assert_eq!(refused, Err(GroupError::Dropped(key.clone())));
    assert_eq!(consumer.next().await.map(|_| ()), Err(GroupError::Dropped(key.clone())));
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_whose_group_was_deleted_hears_that_also_when_it_answers() {
    let house = House::on(SimDisk::new(7)).await;
    house.append("s", 1, 1, 10).await;
    let key = house.group(eager()).await;
    let mut consumer = house.consume(&key, 1).await;
    let message = next(&mut consumer).await;
    house.groups.delete(&key).await.expect("deleted");
    let answered = consumer.ack(vec![id(&message)]).await;
    assert_eq!(answered, Err(GroupError::Missing(key)));
    house.stop().await;
}

/// A clock that panics once it is told to.
#[derive(Debug)]
pub struct FailingClock {
    pub clock: SystemClock,
    pub fails: Arc<AtomicBool>,
}

impl Clock for FailingClock {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        assert!(!self.fails.swap(false, Ordering::SeqCst), "the clock is told to fail");
        self.clock.monotonic()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_task_panics_says_so_and_is_started_again() {
    let store = store_on(SimDisk::new(7));
    let fails = Arc::new(AtomicBool::new(false));
    let clock = FailingClock { clock: SystemClock::new(), fails: fails.clone() };
    let seams = (Arc::new(clock), Arc::new(SystemEntropy));
    let groups = Persistent::start(store.clone(), seams.0, seams.1, HELD_SIZE_MAX).await;
    let house = House { store, groups };
    house.append("s", 1, 2, 10).await;
    let key = house.group(eager()).await;
    let mut consumer = house.consume(&key, 1).await;
    let first = next(&mut consumer).await;
    consumer.ack(vec![id(&first)]).await.expect("told");
    house.until(&key, "its checkpoint", |info| info.checkpoint_number == Some(0)).await;
    fails.store(true, Ordering::SeqCst);
    // Whatever it is told next, it panics over.
    while consumer.ack(vec![Uuid::nil()]).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let failed = |info: &GroupInfo| {
        info.status.trouble.as_ref().is_some_and(|trouble| trouble.contains("unexpectedly"))
    };
    house.until(&key, "it says so", failed).await;
    let refused = house.groups.connect(&key, nobody(), 1).await.map(|_| ());
    assert!(matches!(refused, Err(GroupError::Failed { .. })), "{refused:?}");
    house.until(&key, "it works again", |info| info.status.trouble.is_none()).await;
    let mut consumer = house.consume(&key, 1).await;
    assert_eq!(id(&next(&mut consumer).await).as_u128(), 2, "from its checkpoint");
    house.stop().await;
}
