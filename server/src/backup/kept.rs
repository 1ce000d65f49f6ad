//! The backups in the repository that the server archives to: listed, and one of them verified.
//!
//! ```text
//!   page    ─> a thread that may block, for so long ─> the newest manifests, and the older ones after them
//!   verify  ─> is it there? ─> in the background, one at a time: every object of it is read and compared
//! ```
//!
//! INVARIANTS: nothing in the repository is changed, and archiving is never waited for nor kept
//! waiting. What a verification found stays known until the next one has ended.

use std::sync::Arc;
use std::time::Duration;

use daybook_backup::check::{Findings, check_one};
use daybook_backup::list::{self, Page};
use daybook_backup::{Access, Halt, Keys, Name, Pace, Repository, RepositoryError};
use daybook_model::{Clock, Timestamp};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::ArchiveSettings;
use crate::telemetry::safeguards::Safeguards;
use crate::verification::RATE;
use crate::verification::single::{self, Begun, Single};

/// Time that the repository has for an answer, in which it lists its manifests and reads a page of
/// them: who waits longer asks again. It is halted then.
pub const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);
/// Requests that ask the repository at a time: each holds a thread.
pub const ASKED_AT_ONCE_MAX: usize = 4;
/// What is said of damaged objects, at most: the first ones. All are counted.
pub const PROBLEMS_MAX: usize = 20;

/// The backups of a node's repository. A clone is another handle.
#[derive(Clone)]
pub struct Kept {
    settings: Arc<ArchiveSettings>,
    store: Uuid,
    clock: Arc<dyn Clock>,
    safeguards: Safeguards,
    slots: Arc<Semaphore>,
    work: Single<Progress, Finished>,
    /// Of the verification: told when the node stops.
    halt: Halt,
}

/// What is known of verifications.
pub type Status = single::Status<Progress, Finished>;

/// How far a verification has come.
#[derive(Clone, Debug)]
pub struct Progress {
    /// When it began.
    pub started: Timestamp,
    /// The backup: its manifest's name.
    pub backup: String,
    /// Bytes of objects read.
    pub done: u64,
    /// Bytes there are; 0 until its manifest was read.
    pub total: u64,
}

/// How one ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// The backup: its manifest's name.
    pub backup: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a verification.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Every object was looked at.
    Checked {
        /// What was found; of what is wrong the first [`PROBLEMS_MAX`].
        findings: Findings,
        /// How much more is wrong.
        more: usize,
    },
    /// It was stopped before it could tell.
    Stopped,
    /// The repository could not be asked, or not any more.
    Failed(String),
}

/// Why the repository did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// As many ask it as may.
    #[error("{ASKED_AT_ONCE_MAX} requests ask the archive already; try again later")]
    Busy,
    /// It took too long.
    #[error(
        "{location} did not answer within {} s; see whether this server reaches it, and ask \
         again, or for fewer at a time",
        ANSWER_WAIT_MAX.as_secs()
    )]
    TooSlow {
        /// The repository.
        location: String,
    },
    /// It refused.
    #[error(transparent)]
    Refused(#[from] RepositoryError),
    /// It broke.
    #[error("asking the archive broke: {0}")]
    Panicked(String),
}

/// Why a verification was not begun.
#[derive(Debug, thiserror::Error)]
pub enum NotBegun {
    /// Another one is at work.
    #[error(
        "{backup} is being verified, and one is at a time; GET /admin/backup/verify says how far \
         it is: ask again when it has ended"
    )]
    InProgress {
        /// Of which backup.
        backup: String,
    },
    /// The node stops.
    #[error("this server is stopping; ask again after its start")]
    Stopping,
    /// There is no such backup.
    #[error("{0}; GET /admin/backup/list names them, and archiving replaces its own by newer ones")]
    NoSuchBackup(RepositoryError),
    /// The repository did not say whether it is there.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
}

impl Kept {
    /// Those of `store`, where `settings` say.
    #[must_use]
    pub(super) fn new(
        settings: Arc<ArchiveSettings>,
        store: Uuid,
        clock: Arc<dyn Clock>,
        safeguards: Safeguards,
    ) -> Kept {
        let slots = Arc::new(Semaphore::new(ASKED_AT_ONCE_MAX));
        let (work, halt) = (Single::default(), Halt::default());
        Kept { settings, store, clock, safeguards, slots, work, halt }
    }

    /// At most `limit` of them that are older than `after`, the newest first; none before the
    /// first round.
    ///
    /// # Errors
    /// [`Unanswered`]
    pub async fn page(&self, after: Option<Name>, limit: usize) -> Result<Page, Unanswered> {
        let page = self.ask(move |repository| list::page(repository, after.as_ref(), limit)).await;
        match page {
            Err(Unanswered::Refused(RepositoryError::NotARepository { .. })) => Ok(Page::default()),
            page => page,
        }
    }

    /// Begins to verify the newest backup of those whose name begins with `named`, or of all.
    ///
    /// # Errors
    /// [`NotBegun`]
    pub async fn verify(&self, named: Option<String>) -> Result<Name, NotBegun> {
        if let Some(running) = self.work.status().running {
            return Err(NotBegun::InProgress { backup: running.backup });
        }
        let wanted = named.clone();
        let found = self.ask(move |repository| list::find(repository, wanted.as_deref())).await;
        let name = found.map_err(|error| match error {
            Unanswered::Refused(
                error @ (RepositoryError::NoSuchBackup { .. }
                | RepositoryError::NotARepository { .. }),
            ) => NotBegun::NoSuchBackup(error),
            other => other.into(),
        })?;
        let started = self.clock.now();
        let first = Progress { started, backup: name.key.clone(), done: 0, total: 0 };
        let (own, progress) = (self.clone(), first.clone());
        let work = move |work: &_| own.check(work, progress, named.as_deref());
        match self.work.start(first, work) {
            Begun::Started => Ok(name),
            Begun::InProgress => {
                let running = self.work.status().running;
                let backup = running.map_or(name.key, |running| running.backup);
                Err(NotBegun::InProgress { backup })
            }
            Begun::Stopping => Err(NotBegun::Stopping),
        }
    }

    /// What is known of verifications.
    #[must_use]
    pub fn verification(&self) -> Status {
        self.work.status()
    }

    /// Ends the verification that is at work, soon; there will be no other.
    pub(super) fn stop(&self) {
        self.work.stop();
        self.halt.now();
    }

    /// Verifies, on a thread that may block.
    fn check(
        &self,
        work: &Single<Progress, Finished>,
        Progress { started, mut backup, .. }: Progress,
        named: Option<&str>,
    ) -> Finished {
        // Beside archiving, which keeps its own pace: what is verified delays no round.
        let rate = self.settings.rate.unwrap_or(RATE).min(RATE);
        let checked = self.open(Pace::new(Some(rate)), self.halt.clone()).and_then(|repository| {
            check_one(&repository, named, &mut |done, total| {
                work.note(|running| (running.done, running.total) = (done, total));
            })
        });
        let ended = self.clock.now();
        let outcome = match checked {
            Ok((name, mut findings)) => {
                backup = name.key;
                let sound = findings.problems.is_empty();
                self.safeguards.backup_verified(sound, ended);
                if let Some(problem) = findings.problems.first() {
                    tracing::error!(backup, problem, "a backup is damaged: take another one");
                }
                let more = findings.problems.len().saturating_sub(PROBLEMS_MAX);
                findings.problems.truncate(PROBLEMS_MAX);
                Outcome::Checked { findings, more }
            }
            Err(RepositoryError::Halted) => Outcome::Stopped,
            Err(error) => {
                tracing::warn!(backup, %error, "a backup could not be verified");
                Outcome::Failed(error.to_string())
            }
        };
        Finished { started, ended, backup, outcome }
    }

    /// The repository, to be read.
    fn open(&self, pace: Pace, halt: Halt) -> Result<Repository, RepositoryError> {
        let objects = self.settings.objects(Access::Read)?;
        let repository = Repository::open_of(self.store, objects, Keys::default(), pace)?;
        Ok(repository.halted_by(halt))
    }

    /// What the repository answers, in time.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Repository) -> Result<T, RepositoryError> + Send + 'static,
    ) -> Result<T, Unanswered> {
        let slot = self.slots.clone().try_acquire_owned().map_err(|_| Unanswered::Busy)?;
        let (own, asked) = (self.clone(), Asked(Halt::default()));
        let halt = asked.0.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            question(&own.open(Pace::new(None), halt)?)
        });
        match tokio::time::timeout(ANSWER_WAIT_MAX, work).await {
            Ok(Ok(answer)) => Ok(answer?),
            Ok(Err(panicked)) => Err(Unanswered::Panicked(panicked.to_string())),
            Err(_) => Err(Unanswered::TooSlow { location: self.settings.url.clone() }),
        }
    }
}

/// Halts what nobody waits for any more.
struct Asked(Halt);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.now();
    }
}
