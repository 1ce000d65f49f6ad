//! How long an event takes from its acknowledgement to its subscriber.

use std::time::Duration;

use anyhow::{Context as _, bail};
use daybook_client::{Client, Delivery, ExpectedRevision, StreamName, SubscribeAll, SubscribeFrom};
use daybook_model::{Clock as _, Entropy as _, SystemClock, SystemEntropy};
use hdrhistogram::Histogram;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use super::load;

/// What was measured, in microseconds.
#[derive(Clone, Debug)]
pub struct Fed {
    /// From the acknowledgement to the subscriber; 0 if the subscriber was first.
    pub acknowledged_us: Histogram<u64>,
    /// From the append's sending to the subscriber.
    pub sent_us: Histogram<u64>,
}

/// Appends `rate` events a second for `duration` and follows `$all` meanwhile, over a connection
/// of its own.
///
/// # Errors
/// If an append or the subscription fails.
pub async fn measure(url: &str, rate: u64, duration: Duration, size: usize) -> anyhow::Result<Fed> {
    let (writer, reader) = (Client::new(url)?, Client::new(url)?);
    let from = SubscribeFrom::End;
    let query = SubscribeAll { from, ..SubscribeAll::default() };
    let mut subscription = reader.subscribe_all(query).await?;
    while subscription.next().await? != Delivery::CaughtUp {}
    let (run, _) = Uuid::from_bytes(SystemEntropy.bytes()).as_u64_pair();
    let count = rate * duration.as_secs().max(1);
    let clock = std::sync::Arc::new(SystemClock::new());
    let times = std::sync::Arc::clone(&clock);
    let follower = tokio::spawn(async move {
        let mut delivered = Vec::new();
        while (delivered.len() as u64) < count {
            let Delivery::Event(resolved) = subscription.next().await? else { continue };
            let Some(event) = resolved.event else { continue };
            if event.id.as_u64_pair().0 == run {
                delivered.push(times.monotonic());
            }
        }
        anyhow::Ok(delivered)
    });
    let stream = StreamName::new(&format!("feed-{run:016x}"))?;
    let data = load::data(size);
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(rate.max(1))?);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut appended = Vec::new();
    for number in 0..count {
        ticks.tick().await;
        let event = load::event(run, number, data.clone());
        let sent = clock.monotonic();
        writer.append(&stream, ExpectedRevision::Any, vec![event]).await?;
        appended.push((sent, clock.monotonic()));
    }
    let delivered = follower.await.context("the follower panicked")??;
    if delivered.len() != appended.len() {
        bail!("{} events were appended and {} delivered", appended.len(), delivered.len());
    }
    let mut fed = Fed { acknowledged_us: load::histogram()?, sent_us: load::histogram()? };
    let us = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    for ((sent, acknowledged), delivered) in appended.into_iter().zip(delivered) {
        fed.acknowledged_us.saturating_record(us(delivered.saturating_sub(acknowledged)));
        fed.sent_us.saturating_record(us(delivered.saturating_sub(sent)));
    }
    Ok(fed)
}
