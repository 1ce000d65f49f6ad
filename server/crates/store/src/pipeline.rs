//! The threads of the write path, and the bounded queue before them.
//!
//! ```text
//!   callers --queue--> writer: gather, decide, encode --Group--> committer: write, sync, index,
//!                        ^                                |       publish, answer
//!                        '------- is it free again? ------'
//! ```
//!
//! While one group is being synced the next is decided and encoded; it grows until the committer
//! is free. The more callers, the larger the group: no timer waits for one.
//!
//! INVARIANT: one mutex guards the queue and the hand-over, and nothing is done under it but moving.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use daybook_log::{ChainValue, WriteError};
use daybook_model::Position;
use parking_lot::{Condvar, Mutex};

use crate::commit::Committer;
use crate::core::Core;
use crate::writer::{BATCH_APPENDS_MAX, BATCH_SIZE_TARGET, Decider, Group, Request};

/// Appends that may wait for the writer. Sixteen full batches, about half a second's work: a
/// thousand clients with 32 in flight each must fit. Beyond, waiting is hopeless and the caller is
/// told so.
pub(crate) const QUEUE_LEN_MAX: usize = 16 * BATCH_APPENDS_MAX;
/// Bytes of the appends that may wait; at least one append of the largest size.
pub(crate) const QUEUE_SIZE_MAX: usize = 256 * 1024 * 1024;
/// Requests for which the writer is woken while the committer is busy: fewer are not worth the
/// switch of threads.
const WAKE_LEN: usize = 32;
/// How long the log must be quiet before a frame says that all of it is durable.
const QUIET: Duration = Duration::from_millis(500);

const _: () = assert!(QUEUE_SIZE_MAX > daybook_model::limits::APPEND_SIZE_MAX);

/// The queue and the hand-over.
#[derive(Debug, Default)]
pub(crate) struct Pipeline {
    state: Mutex<State>,
    /// The writer waits here for appends, or for the committer.
    writer: Condvar,
    /// The committer waits here for a group.
    committer: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Request>,
    queued_bytes: usize,
    /// How many requests must wait before the writer, which sleeps, is woken for them; 0: it is
    /// awake.
    wake_at: usize,
    handed: Option<Group>,
    committing: bool,
    closing: bool,
    writer_done: bool,
    /// The committer could not write: the decider must begin anew from here.
    reset: Option<(Position, ChainValue)>,
}

impl Pipeline {
    /// Queues a request, or gives it back with the number of those that wait already.
    pub fn submit(&self, request: Request) -> Result<(), (Request, usize)> {
        let mut state = self.state.lock();
        let size = request.prepared.size();
        let full = state.queue.len() >= QUEUE_LEN_MAX
            || (state.queued_bytes + size > QUEUE_SIZE_MAX && !state.queue.is_empty());
        if full || state.closing {
            let waiting = state.queue.len();
            return Err((request, waiting));
        }
        state.queued_bytes += size;
        state.queue.push_back(request);
        if state.wake_at > 0 && state.queue.len() >= state.wake_at {
            state.wake_at = 0;
            self.writer.notify_one();
        }
        Ok(())
    }

    /// Whether requests are refused because the store is stopping.
    pub fn is_closing(&self) -> bool {
        self.state.lock().closing
    }

    /// How many appends wait.
    pub fn depth(&self) -> usize {
        self.state.lock().queue.len()
    }

    /// Takes no more requests; both threads end when what waits is done.
    pub fn close(&self) {
        self.state.lock().closing = true;
        self.writer.notify_one();
    }

    /// The writer thread.
    pub fn write(&self, mut decider: Decider) {
        let mut group = decider.group();
        let mut taken: Vec<Request> = Vec::new();
        loop {
            let mut state = self.state.lock();
            if group.batch.is_empty()
                && let Some((next, chain)) = state.reset.take()
            {
                decider.reset(next, chain);
                group = decider.group();
            }
            if !group.batch.is_empty() && !state.committing {
                state.committing = true;
                state.handed = Some(group);
                drop(state);
                self.committer.notify_one();
                group = decider.group();
                continue;
            }
            let room = BATCH_APPENDS_MAX - group.pending.len();
            if room == 0 || group.is_full() || state.queue.is_empty() {
                if state.closing && group.batch.is_empty() && state.queue.is_empty() {
                    state.writer_done = true;
                    drop(state);
                    self.committer.notify_one();
                    return;
                }
                // While a group is being committed there is no hurry: it is woken when that is done.
                state.wake_at = if state.committing { WAKE_LEN } else { 1 };
                self.writer.wait(&mut state);
                state.wake_at = 0;
                continue;
            }
            let mut size = group.batch.bytes().len();
            while taken.len() < room.min(TAKE_MAX) && size < BATCH_SIZE_TARGET {
                let Some(request) = state.queue.pop_front() else { break };
                size += request.prepared.size();
                state.queued_bytes -= request.prepared.size();
                taken.push(request);
            }
            drop(state);
            decider.add_all(taken.drain(..), &mut group);
        }
    }

    /// The committer thread. Gives back the journal's end when it is over.
    pub fn commit(&self, mut committer: Committer, core: &Arc<Core>) {
        loop {
            let mut state = self.state.lock();
            let group = loop {
                if let Some(group) = state.handed.take() {
                    break Some(group);
                }
                if state.writer_done {
                    break None;
                }
                if committer.journal().needs_watermark() {
                    let quiet = self.committer.wait_for(&mut state, QUIET).timed_out();
                    if quiet && state.handed.is_none() && !state.writer_done {
                        // A group that is handed over now waits for one sync.
                        drop(state);
                        committer.watermark();
                        state = self.state.lock();
                    }
                } else {
                    self.committer.wait(&mut state);
                }
            };
            drop(state);
            let Some(group) = group else { break };
            let result = committer.commit(group);
            let mut state = self.state.lock();
            state.committing = false;
            match result {
                // A group built on one that was refused: the reset for it is on its way already.
                Ok(()) | Err(WriteError::Conflict { .. }) => {}
                Err(_) => state.reset = Some(committer.end()),
            }
            drop(state);
            self.writer.notify_one();
        }
        committer.watermark();
        core.close();
    }
}

/// Requests taken from the queue at once: the queue's lock is not held for longer than moving them.
const TAKE_MAX: usize = 256;
