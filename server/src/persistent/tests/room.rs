//! What groups take in, and how.

use super::disk::SlowDisk;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_the_source_goes_on_whatever_else_happens_meanwhile() {
    const EVENTS: u128 = 2000;
    let disk = SimDisk::new(7);
    let house = House::on(disk.clone()).await;
    let events = (1..=EVENTS).map(|id| NewEvent::json(Uuid::from_u128(id), "T", b"1".to_vec()));
    let append = Append::to_stream(name("s"), ExpectedRevision::Any, events);
    house.store.append(append).await.expect("appended");
    let settings = Settings { history_buffer_size: 5000, read_batch_size: 20, ..eager() };
    let key = house.group(settings).await;
    house.stop().await;
    // Nothing of the log is in memory any more, and one page is not all of the stream.
    let slow = SlowDisk::new(disk.restart());
    let house = House::on(slow.clone()).await;
    house.until(&key, "the first page", |info| info.waiting_new == 20).await;
    slow.shut();
    let mut consumer = house.consume(&key, EVENTS as usize).await;
    until("the second page is asked for", async || slow.waiting() > 0).await;
    for _ in 0..50 {
        consumer.ack(vec![Uuid::nil()]).await.expect("told");
    }
    // It answers after what it was told before.
    let _second = house.consume(&key, 1).await;
    assert_eq!(slow.waiting(), 1, "reads were begun anew");
    slow.open_gate();
    drop(_second);
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < EVENTS as usize {
        seen.insert(id(&next(&mut consumer).await));
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_nobody_consumes_holds_little() {
    const SIZE: usize = 100 * 1024;
    const EVENTS: usize = 30;
    let house = House::on(SimDisk::new(7)).await;
    house.append("s", 1, EVENTS as u128, SIZE).await;
    let settings = Settings { read_batch_size: 5, max_checkpoint_count: 1000, ..eager() };
    let key = house.group(settings).await;
    // It may take several pages, of which each takes its time.
    house.until(&key, "a batch", |info| info.waiting_new == 5).await;
    for _ in 0..10 {
        assert_eq!(house.info(&key).await.waiting_new, 5, "more than a batch");
    }
    let mut consumer = house.consume(&key, 2).await;
    house.until(&key, "all of it", |info| info.waiting_new == EVENTS - 2).await;
    let first = next(&mut consumer).await;
    consumer.ack(vec![id(&first)]).await.expect("told");
    house.until(&key, "it is settled", |info| info.unsettled == EVENTS - 1).await;
    drop(consumer);
    let most = budget::SHARE_SIZE / SIZE;
    house.until(&key, "it has given back", |info| info.unsettled <= most).await;
    assert!(house.info(&key).await.unsettled >= most - 1, "and no more than it had to");
    let mut consumer = house.consume(&key, 100).await;
    for number in 2..=EVENTS {
        let delivered = next(&mut consumer).await;
        assert_eq!((id(&delivered).as_u128(), delivered.retries), (number as u128, 0));
    }
    house.stop().await;
}
