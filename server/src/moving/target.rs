//! The store that is filled.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use daybook_log::disk::os::{Access, OpenDiskError, OsDisk};
use daybook_log::disk::{Disk as _, DiskError};
use daybook_model::append::AppendError;
use daybook_model::metadata::METADATA_EVENT_TYPE;
use daybook_model::{
    Clock, Entropy as _, EventStore as _, EventView, NewEvent, ReadFailed, RecordedEvent, Revision,
    StreamName, SystemClock, SystemEntropy, Timestamp,
};
use daybook_store::{
    AllFrom, Carried, Direction, Environment, OpenError, Options, ReadAll, ReadError, Store, What,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::carry::{self, Fate};
use super::source::Mark;
use super::tally::Tally;

/// The stream in which an import notes how far it is.
pub const PROGRESS_STREAM: &str = "$daybook-import";
const PROGRESS_METASTREAM: &str = "$$$daybook-import";
const PROGRESS_EVENT_TYPE: &str = "$import-progress";
/// The stream of the store's first event.
const STORE_STREAM: &str = "$store";

/// Events of one append. Enough that a sync is nothing beside them.
const BATCH_EVENTS: usize = 1_000;
/// Bytes of one append's events after which it is made.
const BATCH_SIZE: usize = 4 * 1024 * 1024;
/// Places of one stream that are filled because the source has no events for them any more. Each
/// takes some 120 bytes until it is scavenged.
pub const GAP_MAX: u64 = 10_000_000;

/// Why a store could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The directory cannot be used.
    #[error(transparent)]
    Disk(#[from] OpenDiskError),
    /// The directory cannot be listed.
    #[error(transparent)]
    List(#[from] DiskError),
    /// The store in it cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It is a store that no import began.
    #[error(
        "{data} holds a store that no import began; import into an empty directory, or append the \
         events through the server"
    )]
    NotOurs {
        /// The directory.
        data: String,
    },
    /// It was written since, by a server.
    #[error(
        "{data} was served since events were brought in: its history is its own now; import into an \
         empty directory"
    )]
    Served {
        /// The directory.
        data: String,
    },
    /// The import was of another source.
    #[error(
        "{data} was begun from {begun}, not from {from}; go on with that, or take another --data"
    )]
    OtherSource {
        /// The directory.
        data: String,
        /// What it was begun from.
        begun: String,
        /// What is asked for now.
        from: String,
    },
    /// The source gives an event again, or in another order.
    #[error(
        "the source gives revision {revision} of stream '{stream}' after revision {head}: it is not \
         in the order of a log; export it again"
    )]
    Backwards {
        /// The stream.
        stream: StreamName,
        /// What came.
        revision: Revision,
        /// What was there.
        head: Revision,
    },
    /// So many events of a stream are missing that the places would be most of the store.
    #[error(
        "stream '{stream}' begins {missing} events after what is there, and at most {GAP_MAX} places \
         are kept; copy it to a new stream at the source and leave the old one out"
    )]
    Gap {
        /// The stream.
        stream: StreamName,
        /// How many.
        missing: u64,
    },
    /// An append failed.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// What is there could not be read.
    #[error(transparent)]
    Head(#[from] ReadFailed),
    /// What is there could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The note of how far it was is not one.
    #[error(
        "the note of how far the import was cannot be read: {0}; begin again in an empty directory"
    )]
    Note(#[from] serde_json::Error),
}

/// How far an import is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Progress {
    /// Where the events come from; without credentials.
    pub source: String,
    /// Where it goes on.
    pub mark: Option<Mark>,
    /// What was taken.
    pub tally: Tally,
}

/// A store that is being filled.
pub struct Target {
    store: Store,
    progress: Progress,
    /// The revision of the next note.
    note: u64,
    last_time: Timestamp,
    batch: Vec<Carried>,
    size: usize,
    /// The last revision of each stream of the batch.
    heads: BTreeMap<StreamName, u64>,
}

/// A clock that stands: times are brought along.
#[derive(Debug)]
struct Standing {
    time: Timestamp,
    machine: SystemClock,
}

impl Clock for Standing {
    fn now(&self) -> Timestamp {
        self.time
    }
    fn monotonic(&self) -> Duration {
        self.machine.monotonic()
    }
}

impl Target {
    /// Whether there is a store in `data` already.
    ///
    /// # Errors
    /// [`TargetError`] if the directory cannot be looked at.
    pub fn exists(data: &Path) -> Result<bool, TargetError> {
        if !data.exists() {
            return Ok(false);
        }
        Ok(!OsDisk::open_read_only(data)?.list()?.is_empty())
    }

    /// Opens the store in `data`, or makes one whose first event is of the time `first`.
    ///
    /// # Errors
    /// [`TargetError`] says why it cannot be filled.
    pub async fn open(data: &Path, source: &str, first: Timestamp) -> Result<Target, TargetError> {
        let disk = OsDisk::open(data, Access::Write)?;
        let clock = Standing { time: first, machine: SystemClock::new() };
        let environment = Environment {
            disk: Arc::new(disk),
            clock: Arc::new(clock),
            entropy: Arc::new(SystemEntropy),
        };
        let opened =
            tokio::task::spawn_blocking(move || Store::open(environment, Options::default()));
        let store = match opened.await {
            Ok(store) => store?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let mut target = Target {
            store,
            progress: Progress { source: source.to_owned(), mark: None, tally: Tally::default() },
            note: 0,
            last_time: first,
            batch: Vec::new(),
            size: 0,
            heads: BTreeMap::new(),
        };
        match target.go_on(data, source).await {
            Ok(()) => Ok(target),
            Err(error) => {
                target.store.close().await;
                Err(error)
            }
        }
    }

    /// Takes up what an earlier import noted.
    async fn go_on(&mut self, data: &Path, source: &str) -> Result<(), TargetError> {
        let (from, direction) = (AllFrom::End, Direction::Backwards);
        let query = ReadAll { from, direction, count: 1, filter: None };
        let page = self.store.read_all(query).next().await?;
        let Some(last) = page.as_ref().and_then(|page| page.last()) else { return Ok(()) };
        self.last_time = last.time;
        if last.stream == STORE_STREAM {
            return Ok(());
        }
        let data = || data.display().to_string();
        let notes = StreamName::new(PROGRESS_STREAM).expect("our own name");
        if last.stream != PROGRESS_STREAM {
            let begun = self.store.head(&notes).await?.is_some();
            let error = if begun {
                TargetError::Served { data: data() }
            } else {
                TargetError::NotOurs { data: data() }
            };
            return Err(error);
        }
        let progress: Progress = serde_json::from_slice(last.data)?;
        if progress.source != source {
            let (begun, from) = (progress.source, source.to_owned());
            return Err(TargetError::OtherSource { data: data(), begun, from });
        }
        self.note = last.revision.0 + 1;
        self.progress = progress;
        Ok(())
    }

    /// How far it is, as of what was taken last.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Takes an event, or leaves it behind; `place` is where the source goes on after it. It is
    /// durable after [`Target::commit`].
    ///
    /// # Errors
    /// [`TargetError`]
    pub async fn take(&mut self, event: RecordedEvent, place: String) -> Result<(), TargetError> {
        let id = event.id;
        match carry::fate(&event) {
            Fate::Left(reason) => self.progress.tally.leave(reason),
            Fate::Taken => {
                let revision = event.revision.0;
                let head = self.fill(&event).await?;
                if let Some(head) = head.filter(|head| *head >= revision) {
                    let (stream, revision) = (event.stream, event.revision);
                    return Err(TargetError::Backwards { stream, revision, head: Revision(head) });
                }
                self.add(event, revision);
            }
            Fate::Tombstone => {
                let next = self.head(&event.stream).await?.map_or(0, |head| head + 1);
                self.add(RecordedEvent { tombstone: true, ..event }, next);
            }
        }
        self.progress.mark = Some(Mark::after(self.progress.mark.take(), place, id));
        if self.batch.len() >= BATCH_EVENTS || self.size >= BATCH_SIZE {
            self.commit().await?;
        }
        Ok(())
    }

    /// The last revision of a stream, here and in what waits.
    async fn head(&mut self, stream: &StreamName) -> Result<Option<u64>, TargetError> {
        if let Some(head) = self.heads.get(stream) {
            return Ok(Some(*head));
        }
        Ok(self.store.head(stream).await?.map(|head| head.0))
    }

    /// Fills the places between the stream's last event and `event`. Answers the last revision.
    async fn fill(&mut self, event: &RecordedEvent) -> Result<Option<u64>, TargetError> {
        let mut head = self.head(&event.stream).await?;
        let next = head.map_or(0, |head| head + 1);
        let missing = event.revision.0.saturating_sub(next);
        if missing > GAP_MAX {
            return Err(TargetError::Gap { stream: event.stream.clone(), missing });
        }
        let time = event.time.max(self.last_time);
        for revision in next..event.revision.0 {
            self.push(Carried {
                stream: event.stream.clone(),
                revision: Revision(revision),
                time,
                what: What::Gone,
            });
            self.progress.tally.holes += 1;
            head = Some(revision);
            if self.batch.len() >= BATCH_EVENTS {
                self.commit().await?;
            }
        }
        Ok(head)
    }

    fn add(&mut self, event: RecordedEvent, revision: u64) {
        let time = event.time.max(self.last_time);
        self.progress.tally.moved += u64::from(time > event.time);
        let stored = EventView { time, revision: Revision(revision), ..event.view() };
        self.progress.tally.take(&stored);
        let RecordedEvent { id, event_type, content_type, metadata, data, .. } = event;
        let new = NewEvent { id, event_type, content_type, metadata, data };
        let what = if event.tombstone { What::Tombstone(new) } else { What::Event(new) };
        self.push(Carried { stream: event.stream, revision: Revision(revision), time, what });
    }

    fn push(&mut self, carried: Carried) {
        self.last_time = carried.time;
        self.heads.insert(carried.stream.clone(), carried.revision.0);
        self.size += match &carried.what {
            What::Event(event) | What::Tombstone(event) => event.data.len() + event.metadata.len(),
            What::Gone => 0,
        };
        self.batch.push(carried);
    }

    /// Makes durable what was taken, and where the source goes on after it, at once.
    ///
    /// # Errors
    /// [`TargetError`]
    pub async fn commit(&mut self) -> Result<(), TargetError> {
        if self.note == 0 {
            // Of the notes only the last is of use.
            let data = b"{\"$maxCount\":1}".to_vec();
            let event = NewEvent::json(new_id(), METADATA_EVENT_TYPE, data);
            self.push_system(PROGRESS_METASTREAM, 0, event);
        }
        let note = serde_json::to_vec(&self.progress)?;
        let event = NewEvent::json(new_id(), PROGRESS_EVENT_TYPE, note);
        self.push_system(PROGRESS_STREAM, self.note, event);
        self.store.import(std::mem::take(&mut self.batch)).await?;
        self.note += 1;
        self.size = 0;
        self.heads.clear();
        Ok(())
    }

    /// Whether anything waits to be made durable.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        !self.batch.is_empty()
    }

    fn push_system(&mut self, stream: &str, revision: u64, event: NewEvent) {
        let stream = StreamName::new(stream).expect("our own name");
        let (revision, time) = (Revision(revision), self.last_time);
        self.push(Carried { stream, revision, time, what: What::Event(event) });
    }

    /// Reads everything back. `show` is told how many events of how many were read.
    ///
    /// # Errors
    /// [`TargetError::Read`]
    pub async fn read_back(&self, mut show: impl FnMut(u64, u64)) -> Result<Tally, TargetError> {
        let from = AllFrom::Start;
        let query = ReadAll { from, direction: Direction::Forwards, count: u64::MAX, filter: None };
        let mut reader = self.store.read_all(query);
        let mut tally = Tally::default();
        while let Some(page) = reader.next().await? {
            for event in page.events() {
                if !matches!(event.stream, STORE_STREAM | PROGRESS_STREAM | PROGRESS_METASTREAM) {
                    tally.take(&event);
                }
            }
            show(tally.events, self.progress.tally.events);
        }
        Ok(tally)
    }

    /// Lets go of the store.
    pub async fn close(self) {
        self.store.close().await;
    }
}

fn new_id() -> Uuid {
    uuid::Builder::from_random_bytes(SystemEntropy.bytes()).into_uuid()
}
