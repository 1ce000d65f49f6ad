//! Parked messages that are delivered again.

use daybook_log::disk::sim::{Fault, Operation, Repeat};

use super::*;

const PARKED: u128 = 3;

/// A group of 's', all of whose messages are parked.
async fn parked(house: &House) -> GroupKey {
    house.append("s", 1, PARKED, 10).await;
    let key = house.group(eager()).await;
    let mut consumer = house.consume(&key, 10).await;
    for _ in 0..PARKED {
        park(&mut consumer).await;
    }
    let done = Some(PARKED as u64 - 1);
    house.until(&key, "all are parked", |info| info.checkpoint_number == done).await;
    key
}

/// The parked messages that were delivered again, by what they are of.
async fn replayed(consumer: &mut Consumer) -> Vec<u128> {
    let mut seen = Vec::new();
    for _ in 0..PARKED {
        let message = next(consumer).await;
        let event = message.item.event.as_ref().expect("an event");
        seen.push(event.event.id.as_u128());
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_goes_on_after_a_read_that_failed() {
    for nth in 1..=3 {
        let disk = SimDisk::new(7);
        let house = House::on(disk.clone()).await;
        let key = parked(&house).await;
        house.stop().await;
        // Nothing of the log is in memory any more.
        let disk = disk.restart();
        let house = House::on(disk.clone()).await;
        let mut consumer = house.consume(&key, 10).await;
        house.until(&key, "it waits for the log", |info| info.status.live).await;
        disk.fail_after(Operation::Read, None, nth, Fault::Eio, Repeat::Always);
        house.groups.replay(&key, None).await.expect("told");
        let failed = |info: &GroupInfo| {
            let trouble = info.status.trouble.as_deref().unwrap_or_default();
            trouble.contains("cannot replay") && info.status.replaying
        };
        house.until(&key, "it says so", failed).await;
        disk.clear_faults();
        assert_eq!(replayed(&mut consumer).await, [1, 2, 3], "read {nth} failed");
        house.until(&key, "it works", |info| info.status.trouble.is_none()).await;
        house.stop().await;
    }
}

/// The group's task runs on this thread: it meets both at once.
#[tokio::test]
async fn a_second_replay_takes_nothing_from_the_first() {
    let house = House::on(SimDisk::new(7)).await;
    let key = parked(&house).await;
    let mut consumer = house.consume(&key, 10).await;
    house.groups.replay(&key, None).await.expect("told");
    house.groups.replay(&key, Some(1)).await.expect("told");
    assert_eq!(replayed(&mut consumer).await, [1, 2, 3]);
    house.stop().await;
}
