//! Archiving: a task that brings what was appended to a repository, again and again.
//!
//! ```text
//!   every interval,
//!   when asked       store.extent() ─> a thread that may block ─> Archive::round
//!   it failed        logged, counted, tried again after a while; appends never know of it
//!   the node stops   one more round, for so long; then it is halted between two objects
//! ```
//!
//! What a round does, and what it promises: [`daybook_backup::archive`].
//!
//! INVARIANT: nothing here is awaited by an append.

pub mod kept;
pub mod metrics;

use std::sync::Arc;
use std::time::Duration;

use daybook_backup::{Access, Archive, BucketKeys, Halt, KeySource, Keys, Objects, Pace};
use daybook_backup::{Recipients, Repository, RepositoryError, Round};
use daybook_model::{Clock, Position, Timestamp};
use daybook_store::Store;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use self::kept::Kept;
use crate::security::source::Source;
use crate::telemetry::safeguards::Safeguards;

/// The longest wait after a round that failed.
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Time that a stop gives to the last round.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Where the log is archived, and how often.
#[derive(Clone, Debug)]
pub struct ArchiveSettings {
    /// A directory, or an object store's URL.
    pub url: String,
    /// Time between two rounds: what a lost machine costs, at most.
    pub every: Duration,
    /// Whom it is encrypted to; nobody: it is not.
    pub recipients: Recipients,
    /// Bytes a second, at most.
    pub rate: Option<u64>,
    /// The keys of an S3 bucket, if they do not come from the environment.
    pub keys: Option<BucketKeySources>,
}

impl ArchiveSettings {
    /// The place, within a runtime.
    fn objects(&self, access: Access) -> Result<Objects, RepositoryError> {
        let source = self.keys.clone().map(|keys| Arc::new(keys) as Arc<dyn KeySource>);
        Objects::open_with(&self.url, access, Handle::current(), source)
    }
}

/// Where the keys of an S3 bucket come from: read for each request, so that what is changed there is
/// taken up without a restart.
#[derive(Clone, Debug)]
pub struct BucketKeySources {
    /// Which key it is.
    pub id: Source,
    /// The key.
    pub secret: Source,
}

impl KeySource for BucketKeySources {
    fn keys(&self) -> Result<BucketKeys, Box<dyn std::error::Error + Send + Sync>> {
        let id = self.id.read_secret("--archive-access-key")?;
        let secret = self.secret.read_secret("--archive-secret-key")?;
        Ok(BucketKeys { id, secret })
    }
}

/// What is known of archiving.
#[derive(Clone, Debug)]
pub struct Status {
    /// Where to.
    pub location: String,
    /// Time between two rounds.
    pub every: Duration,
    /// Everything below is archived; none if nothing was since the start.
    pub position: Option<Position>,
    /// When the last round began that brought everything there was then.
    pub last_success: Option<Timestamp>,
    /// Rounds that did.
    pub rounds: u64,
    /// Rounds that failed.
    pub failures: u64,
    /// Why the last one failed; none if it did not.
    pub error: Option<String>,
    /// Objects written since the start.
    pub objects: u64,
    /// Bytes of segments in them.
    pub bytes: u64,
}

/// The archiving of a node. A clone is another handle.
#[derive(Clone)]
pub struct Archiver {
    inner: Arc<Inner>,
}

struct Inner {
    status: Mutex<Status>,
    kept: Kept,
    stopping: watch::Sender<bool>,
    wanted: Notify,
    halt: Mutex<Option<Halt>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Archiver {
    /// Begins to archive `store`.
    #[must_use]
    pub fn start(
        settings: ArchiveSettings,
        store: Store,
        clock: Arc<dyn Clock>,
        safeguards: Safeguards,
    ) -> Archiver {
        let settings = Arc::new(settings);
        let status = Status {
            location: settings.url.clone(),
            every: settings.every,
            position: None,
            last_success: None,
            rounds: 0,
            failures: 0,
            error: None,
            objects: 0,
            bytes: 0,
        };
        let (stopping, _) = watch::channel(false);
        let id = store.about().store_id;
        let inner = Arc::new(Inner {
            status: Mutex::new(status),
            kept: Kept::new(settings.clone(), id, clock.clone(), safeguards),
            stopping,
            wanted: Notify::new(),
            halt: Mutex::default(),
            task: Mutex::default(),
        });
        let work = run(inner.clone(), settings, store, clock);
        *inner.task.lock() = Some(tokio::spawn(work));
        Archiver { inner }
    }

    /// What is known of it.
    #[must_use]
    pub fn status(&self) -> Status {
        self.inner.status.lock().clone()
    }

    /// The backups that are there.
    #[must_use]
    pub fn kept(&self) -> &Kept {
        &self.inner.kept
    }

    /// Begins a round now; if one is at work, another follows it.
    pub fn begin(&self) {
        self.inner.wanted.notify_one();
    }

    /// Archives once more, and ends. What cannot be brought in time is brought after the next
    /// start.
    pub async fn stop(&self) {
        self.inner.kept.stop();
        self.inner.stopping.send_replace(true);
        let Some(mut task) = self.inner.task.lock().take() else { return };
        if tokio::time::timeout(STOP_MAX, &mut task).await.is_err() {
            tracing::warn!("the last appends are not archived yet: the next start does it");
            if let Some(halt) = self.inner.halt.lock().clone() {
                halt.now();
            }
            // It ends after the object that it is at; nobody waits for that.
            task.abort();
        }
    }
}

async fn run(
    inner: Arc<Inner>,
    settings: Arc<ArchiveSettings>,
    store: Store,
    clock: Arc<dyn Clock>,
) {
    let mut stopping = inner.stopping.subscribe();
    let mut archive = None;
    let mut failed = 0u32;
    loop {
        let last = *stopping.borrow_and_update();
        let work = (inner.clone(), settings.clone(), store.clone(), clock.clone());
        let kept: Option<Archive> = archive.take();
        let done = tokio::task::spawn_blocking(move || {
            let (inner, settings, store, clock) = work;
            let mut kept = kept;
            let done = round(&mut kept, &inner, &settings, (&store, &*clock));
            (kept, done)
        });
        let done = match done.await {
            Ok((kept, done)) => {
                archive = kept;
                done.map_err(|error| error.to_string())
            }
            Err(panicked) => Err(panicked.to_string()),
        };
        note(&inner, &done);
        failed = if done.is_ok() { 0 } else { failed.saturating_add(1) };
        if last {
            return;
        }
        let more = matches!(&done, Ok((round, _)) if round.more);
        let wait = if more { Duration::ZERO } else { pause(settings.every, failed) };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = inner.wanted.notified() => {}
            // The sender lives as long as the task.
            _ = stopping.changed() => {}
        }
    }
}

/// One round, on a thread that may block. Answers with the time whose appends it brought, too.
fn round(
    archive: &mut Option<Archive>,
    inner: &Inner,
    settings: &ArchiveSettings,
    (store, clock): (&Store, &dyn Clock),
) -> Result<(Round, Timestamp), RepositoryError> {
    // In this order: what is older than `now` is in the extent, or under way.
    let now = clock.now();
    let extent = store.extent();
    let archive = match archive {
        Some(archive) => archive,
        None => {
            let objects = settings.objects(Access::Write)?;
            let keys = Keys { recipients: settings.recipients.clone(), ..Keys::default() };
            let pace = Pace::new(settings.rate);
            let repository = Repository::open_for(store.about().store_id, objects, keys, pace)?;
            *inner.halt.lock() = Some(repository.halt());
            archive.insert(Archive::open(repository, &extent)?)
        }
    };
    archive.round(&extent, now).map(|round| (round, now))
}

/// The wait before the next round, after so many in a row have failed.
fn pause(every: Duration, failed: u32) -> Duration {
    let factor = 2u32.saturating_pow(failed.saturating_sub(1).min(16));
    every.saturating_mul(factor).min(RETRY_MAX.max(every))
}

fn note(inner: &Inner, done: &Result<(Round, Timestamp), String>) {
    let mut status = inner.status.lock();
    match done {
        Ok((round, began)) => {
            if status.error.take().is_some() {
                tracing::info!(to = status.location, "archiving goes on");
            }
            status.position = Some(round.end);
            status.last_success = Some(*began);
            status.rounds += 1;
            status.objects += round.moved.objects;
            status.bytes += round.moved.bytes;
        }
        Err(error) => {
            tracing::warn!(to = status.location, error, "archiving failed, and is tried again");
            status.failures += 1;
            status.error = Some(error.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_followed_by_longer_waits_up_to_a_limit() {
        let second = Duration::from_secs;
        for (every, failed, expected) in [
            (10, 0, 10),
            (10, 1, 10),
            (10, 2, 20),
            (10, 5, 160),
            (10, 6, 300),
            (10, u32::MAX, 300),
            (600, 3, 600),
        ] {
            assert_eq!(pause(second(every), failed), second(expected), "{every} s, {failed}");
        }
    }
}
