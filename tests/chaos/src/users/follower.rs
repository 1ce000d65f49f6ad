//! A subscriber of `$all` that notes every event it is given, and whether it came when it should.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daybook_client::{
    Checkpoint, Client, Delivery, ReadError, SubscribeAll, SubscribeFrom, Subscription,
};
use daybook_model::RecordedEvent;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{FAILURE_PAUSE, SETTLE_TIMEOUT, Site};
use crate::journal::Followed;

/// How long a returning subscriber stays before it begins anew.
pub const STAY: Duration = Duration::from_secs(3);
/// How often it is looked whether a subscriber has seen enough.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// How much longer a subscriber is watched once it has seen all: what comes twice comes soon.
const LINGER: Duration = Duration::from_millis(200);

/// A subscriber at work. Ends when it is dropped.
pub struct Follower {
    followed: Arc<Mutex<Followed>>,
    task: JoinHandle<()>,
}

impl Followed {
    /// Takes the next event.
    pub fn take(&mut self, event: &RecordedEvent) {
        let expected = self.ids.len() as u64;
        let position = event.position.0;
        if position == expected {
            self.ids.push(event.id);
        } else {
            let what = if position < expected { "again, or late" } else { "too early" };
            self.findings.add(|| format!("{position} came {what}: {expected} was next"));
        }
    }
}

impl Follower {
    /// One that begins at the start and stays, or begins anew each time it has stayed for `stay`.
    ///
    /// # Errors
    /// Settings that make no sense: a mistake in this program.
    pub fn begin(
        site: Arc<Site>,
        name: &'static str,
        stay: Option<Duration>,
    ) -> anyhow::Result<Follower> {
        let followed = Arc::new(Mutex::new(Followed { name, ..Followed::default() }));
        let client = Site::client(site.address)?;
        let task = tokio::spawn(follow(site, client, followed.clone(), stay));
        Ok(Follower { followed, task })
    }

    /// What it has seen, once that is `count` events, or it has had the time to.
    pub async fn seen(&self, count: usize) -> Followed {
        let snapshot = || self.followed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let enough = async {
            while snapshot().ids.len() < count {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        // Too few are found by the checks.
        let _ = tokio::time::timeout(SETTLE_TIMEOUT, enough).await;
        tokio::time::sleep(LINGER).await;
        snapshot()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    site: Arc<Site>,
    client: Client,
    followed: Arc<Mutex<Followed>>,
    stay: Option<Duration>,
) {
    let with = |act: &mut dyn FnMut(&mut Followed)| {
        act(&mut followed.lock().unwrap_or_else(PoisonError::into_inner));
    };
    let mut place = None;
    loop {
        let until = stay.map(|stay| Instant::now() + stay);
        let Ok(mut subscription) = subscribe(&client, place).await else {
            site.recorder.failed("subscription lost");
            tokio::time::sleep(FAILURE_PAUSE).await;
            continue;
        };
        with(&mut |followed| followed.begun += 1);
        loop {
            let next = match until {
                None => subscription.next().await,
                Some(until) => match tokio::time::timeout_at(until, subscription.next()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            match next {
                Ok(Delivery::Event(resolved)) => {
                    place = resolved.checkpoint.or(place);
                    if let Some(event) = resolved.original() {
                        site.recorder.delivered();
                        with(&mut |followed| followed.take(event));
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    site.recorder.failed("subscription lost");
                    if !error.is_transient() {
                        with(&mut |followed| followed.findings.add(|| error.to_string()));
                        tokio::time::sleep(FAILURE_PAUSE).await;
                        break;
                    }
                }
            }
        }
    }
}

async fn subscribe(client: &Client, place: Option<Checkpoint>) -> Result<Subscription, ReadError> {
    let from = place.map_or(SubscribeFrom::Start, SubscribeFrom::After);
    client.subscribe_all(SubscribeAll { from, ..SubscribeAll::default() }).await
}
