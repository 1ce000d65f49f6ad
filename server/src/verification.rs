//! Reads the log of a running server from its beginning, and checks every byte of it: damage is to
//! be found while there is a backup that does not have it, and not when the event is wanted.
//!
//! ```text
//!   start ─> extent: what is durable now ─> a thread that blocks: frames, digests, chain, seals
//!                                             └─ paced, stopped with the node ─> status, metrics
//! ```
//!
//! INVARIANTS: one is at work at a time. It reads files alone: no lock of the store's is held, and
//! appends go on. What it found stays known until the next one has ended.

pub mod single;

use std::sync::Arc;
use std::time::Duration;

use daybook_log::verify::verify_extent;
use daybook_model::{Clock, Position, Timestamp};
use daybook_store::Store;
use tokio::runtime::Handle;

pub use self::single::Begun;
use self::single::Single;
use crate::telemetry::safeguards::Safeguards;

/// Bytes read a second: a third of what a slow disk gives, and a terabyte in three hours.
pub const RATE: u64 = 100 * 1024 * 1024;
/// Bytes after which the pace is looked at, and whether to go on.
const STEP: u64 = 1024 * 1024;

/// The verifications of a node. A clone is another handle.
#[derive(Clone)]
pub struct Verification {
    store: Store,
    clock: Arc<dyn Clock>,
    safeguards: Safeguards,
    work: Single<Progress, Finished>,
}

/// What is known of verifications.
pub type Status = single::Status<Progress, Finished>;

/// How far one has come.
#[derive(Clone, Debug)]
pub struct Progress {
    /// When it began.
    pub started: Timestamp,
    /// The file that it reads.
    pub file: String,
    /// Bytes of frames read.
    pub done: u64,
    /// Bytes there are, at most.
    pub total: u64,
}

/// How one ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Every event below was looked at, if it was sound.
    pub committed: Position,
    /// Bytes of frames read.
    pub bytes: u64,
    /// What it found.
    pub found: Found,
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// All of it is as it was written.
    Sound,
    /// The first thing that is not, with its file, offset and position.
    Damaged(String),
    /// It was stopped before it could tell.
    Stopped,
}

impl Verification {
    /// Of the log of `store`; nothing is done until [`Verification::start`].
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, safeguards: Safeguards) -> Verification {
        Verification { store, clock, safeguards, work: Single::default() }
    }

    /// Begins to verify all that is durable now. Must be called within a runtime.
    #[must_use]
    pub fn start(&self) -> Begun {
        let started = self.clock.now();
        let total = self.store.stats().log_bytes;
        let first = Progress { started, file: String::new(), done: 0, total };
        let (own, runtime) = (self.clone(), Handle::current());
        self.work.start(first, move |work| own.verify(work, started, &runtime))
    }

    /// What is known of them.
    #[must_use]
    pub fn status(&self) -> Status {
        self.work.status()
    }

    /// Ends the one that is at work, soon; there will be no other.
    pub fn stop(&self) {
        self.work.stop();
    }

    fn verify(
        &self,
        work: &Single<Progress, Finished>,
        started: Timestamp,
        runtime: &Handle,
    ) -> Finished {
        let extent = self.store.extent();
        let began = self.clock.monotonic();
        let (mut done, mut shown) = (0, 0);
        let verified = verify_extent(&extent, &mut |file, bytes| {
            done += bytes;
            if done < shown + STEP {
                return true;
            }
            shown = done;
            work.note(|running| {
                running.done = done;
                file.clone_into(&mut running.file);
            });
            let due = began + Duration::from_secs_f64(done as f64 / RATE as f64);
            runtime.block_on(tokio::time::sleep(due.saturating_sub(self.clock.monotonic())));
            !work.is_stopping()
        });
        let found = match verified {
            Ok(Some(_)) => Found::Sound,
            Ok(None) => Found::Stopped,
            Err(error) => {
                tracing::error!(%error, "the log is damaged: restore it from a backup");
                Found::Damaged(error.to_string())
            }
        };
        let ended = self.clock.now();
        match found {
            Found::Sound => self.safeguards.log_verified(true, ended),
            Found::Damaged(_) => self.safeguards.log_verified(false, ended),
            Found::Stopped => {}
        }
        Finished { started, ended, committed: extent.committed, bytes: done, found }
    }
}
