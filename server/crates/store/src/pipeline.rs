//! The threads of the write path, and the bounded queue before them.
//!
//! ```text
//!                            .-> committer: gather, decide, encode; write, sync, index, publish, answer
//!   callers --queue--> Desk -|                                            |
//!                            '-> writer: the same of the next group, while this goes on
//! ```
//!
//! Few callers are served by one thread, so that no append waits for a switch between two. While a
//! group is being synced and many wait, the writer decides and encodes the next: it grows until the
//! committer is free. The more callers, the larger the group: no timer waits for one. But where
//! processors are short, who is about to append may do so first: a sync costs as much for many as
//! for one.
//!
//! INVARIANTS: one mutex guards the queue, and nothing is done under it but moving. Who is at the
//! desk may take that mutex, never the other way round. Groups are committed in the order in which
//! they were begun, each before the next is begun or while it grows.

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
/// Requests taken from the queue at once: neither the queue's lock nor the desk is held for long.
const TAKE_MAX: usize = 256;
/// Appends of a group from which on it is committed as it is. Before a smaller one the committer
/// gathers what waits, and offers its processor to those who are about to append.
const WORTH_LEN: usize = 32;
/// How long the log must be quiet before a frame says that all of it is durable.
const QUIET: Duration = Duration::from_millis(500);

const _: () = assert!(QUEUE_SIZE_MAX > daybook_model::limits::APPEND_SIZE_MAX);

/// The queue, and where it is worked at.
#[derive(Debug)]
pub(crate) struct Pipeline {
    state: Mutex<State>,
    desk: Mutex<Desk>,
    /// The committer waits here for appends.
    committer: Condvar,
    /// The writer waits here for many of them.
    writer: Condvar,
}

#[derive(Debug)]
struct State {
    queue: VecDeque<Request>,
    queued_bytes: usize,
    /// Appends that were taken to the desk for its group.
    taken: usize,
    /// Whether that group takes no more.
    full: bool,
    committer: At,
    closing: bool,
    ended: bool,
}

/// What the committer is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Nothing: it is to be woken for the next append.
    Rest,
    /// The desk.
    Desk,
    /// A group that it commits: the writer is to be woken if many wait.
    Commit,
}

/// Where appends become a group.
#[derive(Debug)]
struct Desk {
    decider: Decider,
    group: Group,
    taken: Vec<Request>,
}

impl Pipeline {
    /// One that goes on where `decider` stands.
    pub fn new(decider: Decider) -> Pipeline {
        let state = State {
            queue: VecDeque::new(),
            queued_bytes: 0,
            taken: 0,
            full: false,
            committer: At::Desk,
            closing: false,
            ended: false,
        };
        let group = decider.group();
        Pipeline {
            state: Mutex::new(state),
            desk: Mutex::new(Desk { decider, group, taken: Vec::new() }),
            committer: Condvar::new(),
            writer: Condvar::new(),
        }
    }

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
        match state.committer {
            At::Rest => {
                state.committer = At::Desk;
                self.committer.notify_one();
            }
            At::Commit if state.queue.len() == WAKE_LEN => _ = self.writer.notify_one(),
            At::Commit | At::Desk => {}
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
        self.committer.notify_one();
    }

    /// The writer thread: decides what waits while a group is being committed.
    pub fn write(&self) {
        let mut state = self.state.lock();
        while !state.ended {
            if state.committer == At::Commit && state.queue.len() >= WAKE_LEN && !state.full {
                drop(state);
                self.gather(&mut self.desk.lock());
                state = self.state.lock();
            } else {
                self.writer.wait(&mut state);
            }
        }
    }

    /// The committer thread.
    pub fn commit(&self, mut committer: Committer, core: &Arc<Core>) {
        // Whether the last group was of more than one append: if not, nobody else is about to.
        let mut many = false;
        // The last group could not be written: the decider must begin anew from here.
        let mut reset = None;
        while self.is_due(&mut committer) {
            let group = self.next_group(many, &mut reset);
            if group.batch.is_empty() {
                continue;
            }
            many = group.pending.len() > 1;
            match committer.commit(group) {
                // A group built on one that was refused: the reset for it is on its way already.
                Ok(()) | Err(WriteError::Conflict { .. }) => {}
                Err(_) => reset = Some(committer.end()),
            }
        }
        committer.watermark();
        core.close();
    }

    /// Waits for appends; false if there will be no more.
    fn is_due(&self, committer: &mut Committer) -> bool {
        let mut state = self.state.lock();
        state.committer = At::Desk;
        while state.queue.is_empty() && state.taken == 0 {
            if state.closing {
                state.ended = true;
                self.writer.notify_one();
                return false;
            }
            state.committer = At::Rest;
            if committer.journal().needs_watermark() {
                let quiet = self.committer.wait_for(&mut state, QUIET).timed_out();
                if quiet && state.queue.is_empty() && !state.closing {
                    // An append that comes now waits for one sync.
                    state.committer = At::Desk;
                    drop(state);
                    committer.watermark();
                    state = self.state.lock();
                }
            } else {
                self.committer.wait(&mut state);
            }
            state.committer = At::Desk;
        }
        true
    }

    /// The group that is next; an empty one if nothing of it is left to write.
    fn next_group(&self, many: bool, reset: &mut Option<(Position, ChainValue)>) -> Group {
        let mut desk = self.desk.lock();
        if desk.group.batch.is_empty()
            && let Some((next, chain)) = reset.take()
        {
            desk.decider.reset(next, chain);
            desk.group = desk.decider.group();
        }
        if reset.is_none() && desk.group.pending.len() < WORTH_LEN {
            self.gather(&mut desk);
            let others = many || desk.group.pending.len() > 1;
            if others && desk.group.pending.len() < WORTH_LEN {
                // Costs nothing if a processor is idle.
                std::thread::yield_now();
                self.gather(&mut desk);
            }
        }
        let next = desk.decider.group();
        let group = std::mem::replace(&mut desk.group, next);
        let mut state = self.state.lock();
        (state.taken, state.full) = (0, false);
        state.committer = At::Commit;
        if state.queue.len() >= WAKE_LEN {
            self.writer.notify_one();
        }
        group
    }

    /// Takes what waits to the desk and decides it, as much as there is room for at once.
    fn gather(&self, desk: &mut Desk) {
        let Desk { decider, group, taken } = desk;
        let mut state = self.state.lock();
        if group.is_full() {
            state.full = true;
            return;
        }
        let room = TAKE_MAX.min(BATCH_APPENDS_MAX - group.pending.len());
        let mut size = group.batch.bytes().len();
        while taken.len() < room && size < BATCH_SIZE_TARGET {
            let Some(request) = state.queue.pop_front() else { break };
            size += request.prepared.size();
            state.queued_bytes -= request.prepared.size();
            taken.push(request);
        }
        // At once: the committer does not rest while something is on the desk.
        state.taken += taken.len();
        drop(state);
        if !taken.is_empty() {
            decider.add_all(taken.drain(..), group);
        }
    }
}
