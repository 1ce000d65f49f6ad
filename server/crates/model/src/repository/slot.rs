//! One aggregate's place in the repository: its newest known state, and who waits for it.
//!
//! INVARIANT: at most one [`Baton`] of a slot exists. Whoever has it appends; dropping it passes it
//! to the first in the queue who still waits.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{ExecuteError, Executed, QUEUE_LEN_MAX, Task};
use crate::Revision;
use crate::aggregate::Aggregate;
use crate::append::AppendError;

/// A state, and the revision of the last event in it.
#[derive(Debug, Default)]
pub(super) struct Loaded<A> {
    pub state: A,
    pub revision: Option<Revision>,
}

/// What became of a command.
pub(super) enum Settled<A> {
    /// It was done.
    Executed(Executed<A>),
    /// It was done before; its first event is at this revision.
    Repeated(Revision),
}

/// What a turn gives for each command of its batch.
pub(super) type Answer<A> = Result<Settled<A>, ExecuteError<<A as Aggregate>::Rejection>>;

/// What ends the wait of a queued command.
pub(super) enum Signal<A: Aggregate> {
    /// Another did it.
    Answer(Box<Answer<A>>),
    /// It is first now, and has the turn.
    Turn(Box<Task<A>>, Baton<A>),
}

/// A queued command.
pub(super) struct Entry<A: Aggregate> {
    pub task: Box<Task<A>>,
    pub signal: oneshot::Sender<Signal<A>>,
}

/// How a command came in.
pub(super) enum Entered<A: Aggregate> {
    Turn(Box<Task<A>>, Baton<A>),
    Queued(oneshot::Receiver<Signal<A>>),
}

pub(super) struct Slot<A: Aggregate> {
    inner: Mutex<Inner<A>>,
}

struct Inner<A: Aggregate> {
    loaded: Option<Arc<Loaded<A>>>,
    queue: VecDeque<Entry<A>>,
    /// Whether a baton exists.
    taken: bool,
}

impl<A: Aggregate> Default for Slot<A> {
    fn default() -> Slot<A> {
        Slot { inner: Mutex::new(Inner { loaded: None, queue: VecDeque::new(), taken: false }) }
    }
}

impl<A: Aggregate> Slot<A> {
    /// Takes the turn if nobody has it, and waits in the queue otherwise.
    pub fn enter(
        self: &Arc<Slot<A>>,
        task: Task<A>,
    ) -> Result<Entered<A>, ExecuteError<A::Rejection>> {
        let task = Box::new(task);
        let mut inner = self.inner.lock();
        if !inner.taken {
            inner.taken = true;
            return Ok(Entered::Turn(task, Baton { slot: Some(self.clone()) }));
        }
        let waiting = inner.queue.len();
        if waiting >= QUEUE_LEN_MAX {
            return Err(ExecuteError::Append(AppendError::Overloaded { waiting }));
        }
        let (signal, answer) = oneshot::channel();
        inner.queue.push_back(Entry { task, signal });
        Ok(Entered::Queued(answer))
    }

    /// Up to `limit` of the queued commands, in order, that someone still waits for. Ends before a
    /// transaction that is among them already, or is `own`: it will be found in the store.
    pub fn gather(&self, own: Uuid, limit: usize) -> Vec<Entry<A>> {
        let mut inner = self.inner.lock();
        let mut gathered: Vec<Entry<A>> = Vec::with_capacity(inner.queue.len().min(limit));
        let mut ids = BTreeSet::from([own]);
        while gathered.len() < limit {
            let Some(next) = inner.queue.front() else { break };
            let fresh = next.signal.is_closed() || ids.insert(next.task.transaction.id);
            if !fresh {
                break;
            }
            gathered.extend(inner.queue.pop_front().filter(|next| !next.signal.is_closed()));
        }
        gathered
    }

    /// The newest state known.
    pub fn loaded(&self) -> Option<Arc<Loaded<A>>> {
        self.inner.lock().loaded.clone()
    }

    /// Keeps what was appended or read, unless something newer is there.
    pub fn keep(&self, loaded: Arc<Loaded<A>>) {
        let mut inner = self.inner.lock();
        if inner.loaded.as_ref().is_none_or(|have| have.revision < loaded.revision) {
            inner.loaded = Some(loaded);
        }
    }

    /// Forgets the state; it is read again.
    pub fn forget(&self) {
        self.inner.lock().loaded = None;
    }
}

/// The right to append for an aggregate.
pub(super) struct Baton<A: Aggregate> {
    /// None once it was handed on.
    slot: Option<Arc<Slot<A>>>,
}

impl<A: Aggregate> Baton<A> {
    /// Hands the turn on.
    pub fn pass(mut self) {
        if let Some(slot) = self.slot.take() {
            hand_on(&slot, &mut slot.inner.lock());
        }
    }
}

impl<A: Aggregate> Drop for Baton<A> {
    fn drop(&mut self) {
        // It was not passed: nobody knows what became of an append that was made with it.
        if let Some(slot) = self.slot.take() {
            let mut inner = slot.inner.lock();
            inner.loaded = None;
            hand_on(&slot, &mut inner);
        }
    }
}

/// Gives the turn to the first who still waits, if anyone does.
fn hand_on<A: Aggregate>(slot: &Arc<Slot<A>>, inner: &mut Inner<A>) {
    while let Some(Entry { task, signal }) = inner.queue.pop_front() {
        if signal.is_closed() {
            continue;
        }
        let baton = Baton { slot: Some(slot.clone()) };
        match signal.send(Signal::Turn(task, baton)) {
            Ok(()) => return,
            // It went away just now. The baton stays here: dropped, it would take this lock.
            Err(Signal::Turn(_, mut baton)) => baton.slot = None,
            Err(Signal::Answer(_)) => {}
        }
    }
    inner.taken = false;
}
