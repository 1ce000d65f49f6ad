//! Finding the unfinished transfers after a restart: the category of all transfers is read from a
//! checkpoint on.
//!
//! ```text
//!   category   0 ........................ number ............ end
//!                 checkpoint: number, ids └── read by recover ─┘
//! ```
//!
//! A checkpoint says: of the transfers that began before `number`, only those of `ids` may be
//! unfinished. It is taken from the registry, not from the log, and costs no reading: the registry
//! holds a transfer from before its first commit on, and `number` is no more than the events that
//! were durable before the registry was asked. It is a snapshot like any other: without it all is
//! read from the beginning.
//!
//! INVARIANT: nothing is decoded but an event's type and its stream's name.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use daybook_model::repository::LoadError;
use daybook_model::{CategoryStore, Revision, Snapshot, StreamName};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{CHECKPOINT_EVERY, Orchestrator};
use crate::transfer::{TRANSFER_CATEGORY, transfer_of_stream};

/// Ids of one checkpoint: at 16 bytes each they stay within what a snapshot may hold. If there are
/// more, none is put until there are fewer.
const CHECKPOINT_IDS_MAX: usize = 60_000;
/// What a checkpoint is called among snapshots.
const KIND: &str = "ledger.unfinished";
/// The version of its layout: the ids, 16 bytes each. Its revision is the number.
const SCHEMA: u32 = 1;

/// How long the category of transfers is, as far as this orchestrator knows.
#[derive(Default)]
pub(super) struct CategoryLog {
    /// Events that it has at least: those found by `recover`, and those written since.
    len: AtomicU64,
    /// Whether a transfer was left alone because it cannot be read: then nothing is checkpointed,
    /// so that a version that can read it finds it.
    left_alone: AtomicBool,
    /// Told when a checkpoint is due.
    due: Notify,
}

impl CategoryLog {
    /// Takes in that events of a transfer became durable.
    pub fn wrote(&self, events: usize) {
        let before = self.len.fetch_add(events as u64, Ordering::Relaxed);
        if before / CHECKPOINT_EVERY != (before + events as u64) / CHECKPOINT_EVERY {
            self.due.notify_one();
        }
    }
}

/// The stream that names the checkpoint. It has no events.
fn checkpoint_stream() -> StreamName {
    StreamName::new("ledger.unfinished").expect("a valid name")
}

impl<S: CategoryStore> Orchestrator<S> {
    /// Finds the transfers that are not over. Those that it answers with want to be driven; those
    /// that failed are listed.
    ///
    /// # Errors
    /// The transfers cannot be read.
    pub async fn recover(&self) -> Result<Vec<Uuid>, LoadError> {
        let (from, mut unfinished) = self.checkpointed().await;
        let mut number = from;
        let each = |at: u64, event: daybook_model::EventView<'_>| {
            number = at + 1;
            if let Some(id) = transfer_of_stream(event.stream) {
                match event.event_type {
                    "PaymentInitiated" => {
                        unfinished.insert(id);
                    }
                    "PaymentCompleted" | "PaymentRejected" | "PaymentAbandoned" => {
                        unfinished.remove(&id);
                    }
                    _ => {}
                }
            }
            ControlFlow::Continue(())
        };
        self.store().replay_category(TRANSFER_CATEGORY, from, each).await?;
        self.inner.log.len.store(number, Ordering::Relaxed);
        let mut active = Vec::new();
        for id in unfinished {
            let known = match self.transfer(id).await {
                Ok(Some(known)) => known,
                Ok(None) => continue,
                // One stream that was not written by this ledger must not keep all others, and the
                // server with them, from starting. It rests until a version that can read it.
                Err(error @ LoadError::Undecodable { .. }) => {
                    tracing::error!(transfer = %id, %error, "a transfer is left alone");
                    self.inner.log.left_alone.store(true, Ordering::Relaxed);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if known.state().is_over() {
                continue;
            }
            if known.state().is_active() {
                active.push(id);
            }
            self.inner.registry.put(&Arc::new(known));
        }
        Ok(active)
    }

    /// Puts checkpoints as they fall due, until it is dropped.
    pub async fn keep_checkpoints(&self) {
        loop {
            self.inner.log.due.notified().await;
            self.checkpoint().await;
        }
    }

    /// Puts a checkpoint, so that a recovery reads no further back than here.
    pub async fn checkpoint(&self) {
        if self.inner.log.left_alone.load(Ordering::Relaxed) {
            return;
        }
        let number = self.inner.log.len.load(Ordering::Relaxed);
        let Some(last) = number.checked_sub(1) else { return };
        // The count is of what this orchestrator believes it wrote; what would be skipped for ever
        // if it were too high had better be looked at.
        let mut found = false;
        let each = |at: u64, _: daybook_model::EventView<'_>| {
            found = at == last;
            ControlFlow::Break(())
        };
        let read = self.store().replay_category(TRANSFER_CATEGORY, last, each).await;
        let Some(ids) = self.inner.registry.ids(CHECKPOINT_IDS_MAX) else { return };
        if read.is_err() || !found {
            tracing::warn!(number, "no checkpoint of the transfers: the log is shorter than that");
            return;
        }
        let data: Bytes = ids.iter().flat_map(|id| *id.as_bytes()).collect();
        let revision = Revision(number);
        let snapshot = Snapshot { revision, schema: SCHEMA, kind: KIND.to_owned(), data };
        self.store().put_snapshot(&checkpoint_stream(), snapshot);
    }

    /// The newest checkpoint; the beginning if there is none that can be read.
    async fn checkpointed(&self) -> (u64, BTreeSet<Uuid>) {
        let newest = Revision(u64::MAX);
        let Some(snapshot) = self.store().snapshot(&checkpoint_stream(), newest).await else {
            return (0, BTreeSet::new());
        };
        let known = snapshot.schema == SCHEMA && snapshot.kind == KIND;
        let (ids, rest) = snapshot.data.as_chunks::<16>();
        if !known || !rest.is_empty() {
            return (0, BTreeSet::new());
        }
        (snapshot.revision.0, ids.iter().map(|id| Uuid::from_bytes(*id)).collect())
    }
}
