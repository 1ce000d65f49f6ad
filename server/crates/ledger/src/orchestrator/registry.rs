//! The transfers that are not over, and who waits for them. In memory only: the streams say the same.
//!
//! An entry exists from before a transfer's first commit until it is over, so that at any moment every
//! transfer that is begun and not over has one; the checkpoint relies on that.
//!
//! INVARIANT: an entry is claimed, known, lost, or several of these.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use super::{Known, UNFINISHED_MAX};

#[derive(Default)]
pub(super) struct Registry {
    inner: Mutex<Inner>,
    /// Told when something is lost.
    found: Notify,
}

#[derive(Default)]
struct Inner {
    entries: BTreeMap<Uuid, Entry>,
    /// Those that are lost and were not handed out yet.
    lost: VecDeque<Uuid>,
    closed: bool,
}

#[derive(Default)]
struct Entry {
    known: Option<Arc<Known>>,
    /// Starts of it that have not answered yet.
    claims: u32,
    /// Whether it may have begun without anybody to drive it.
    lost: bool,
    waiting: Vec<oneshot::Sender<Arc<Known>>>,
}

/// The place of a transfer that is being started. Dropped unsettled, the transfer is lost.
pub(super) struct Claim<'a> {
    registry: &'a Registry,
    id: Uuid,
    settled: bool,
}

impl Registry {
    /// A place for a transfer that begins; none if there are too many.
    pub fn claim(&self, id: Uuid) -> Option<Claim<'_>> {
        let mut inner = self.inner.lock();
        if inner.entries.len() >= UNFINISHED_MAX {
            return None;
        }
        inner.entries.entry(id).or_default().claims += 1;
        Some(Claim { registry: self, id, settled: false })
    }

    /// The transfer, if it is in hand.
    pub fn get(&self, id: Uuid) -> Option<Arc<Known>> {
        self.inner.lock().entries.get(&id)?.known.clone()
    }

    /// Takes in where a transfer stands. If it rests, who waits is told; if it is over, it goes.
    pub fn put(&self, known: &Arc<Known>) {
        let waiting = self.inner.lock().put(known);
        tell(waiting, Some(known));
    }

    /// Takes in a transfer that nobody has in hand, and waits for it; it is lost until driven.
    pub fn adopt(&self, known: &Arc<Known>) -> oneshot::Receiver<Arc<Known>> {
        let (waiting, told) = oneshot::channel();
        {
            let mut inner = self.inner.lock();
            let entry = inner.entries.entry(known.transfer.id()).or_default();
            entry.waiting.push(waiting);
            if entry.known.as_ref().is_none_or(|have| have.revision < known.revision) {
                entry.known = Some(known.clone());
            }
        }
        self.lose(known.transfer.id());
        told
    }

    /// A wait for the transfer's end, if it is in hand.
    pub fn wait(&self, id: Uuid) -> Option<oneshot::Receiver<Arc<Known>>> {
        let mut inner = self.inner.lock();
        let entry = inner.entries.get_mut(&id)?;
        let (waiting, told) = oneshot::channel();
        match &entry.known {
            Some(known) if !known.state().is_active() => {
                let _ = waiting.send(known.clone());
            }
            _ => {
                entry.waiting.retain(|waiting| !waiting.is_closed());
                entry.waiting.push(waiting);
            }
        }
        Some(told)
    }

    /// All that are known, in the order of their ids.
    pub fn list(&self) -> Vec<Arc<Known>> {
        let inner = self.inner.lock();
        inner.entries.values().filter_map(|entry| entry.known.clone()).collect()
    }

    /// The ids of all entries, if they are no more than `limit`.
    pub fn ids(&self, limit: usize) -> Option<Vec<Uuid>> {
        let inner = self.inner.lock();
        (inner.entries.len() <= limit).then(|| inner.entries.keys().copied().collect())
    }

    /// Takes in that a lost transfer never began.
    pub fn never_began(&self, id: Uuid) {
        let mut inner = self.inner.lock();
        if let Some(entry) = inner.entries.get_mut(&id) {
            entry.lost = false;
            if entry.claims == 0 {
                inner.entries.remove(&id);
            }
        }
    }

    /// Nothing is driven any more: who waits is told so, now and from now on.
    pub fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        for entry in inner.entries.values_mut() {
            entry.waiting.clear();
        }
    }

    /// Whether nothing is driven any more.
    pub fn is_closed(&self) -> bool {
        self.inner.lock().closed
    }

    /// Nobody drives this transfer, if it exists.
    pub fn lose(&self, id: Uuid) {
        {
            let mut inner = self.inner.lock();
            let entry = inner.entries.entry(id).or_default();
            if !std::mem::replace(&mut entry.lost, true) {
                inner.lost.push_back(id);
            }
        }
        self.found.notify_one();
    }

    /// Waits for a transfer that is lost.
    pub async fn next_lost(&self) -> Uuid {
        loop {
            let found = self.inner.lock().lost.pop_front();
            match found {
                Some(id) => return id,
                None => self.found.notified().await,
            }
        }
    }
}

impl Inner {
    fn put(&mut self, known: &Arc<Known>) -> Vec<oneshot::Sender<Arc<Known>>> {
        let id = known.transfer.id();
        if known.state().is_over() {
            return self.entries.remove(&id).map(|entry| entry.waiting).unwrap_or_default();
        }
        let entry = self.entries.entry(id).or_default();
        if entry.known.as_ref().is_none_or(|have| have.revision <= known.revision) {
            entry.known = Some(known.clone());
            entry.lost = false;
        }
        if known.state().is_active() { Vec::new() } else { std::mem::take(&mut entry.waiting) }
    }
}

impl Claim<'_> {
    /// The start answers: with the transfer it began, or with none.
    pub fn settle(mut self, begun: Option<&Arc<Known>>) {
        self.settled = true;
        let id = self.id;
        let waiting = {
            let mut inner = self.registry.inner.lock();
            if let Some(entry) = inner.entries.get_mut(&id) {
                entry.claims -= 1;
                let idle = entry.claims == 0 && entry.known.is_none() && !entry.lost;
                if idle && begun.is_none() {
                    inner.entries.remove(&id);
                }
            }
            begun.map(|known| inner.put(known)).unwrap_or_default()
        };
        tell(waiting, begun);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.settled {
            if let Some(entry) = self.registry.inner.lock().entries.get_mut(&self.id) {
                entry.claims -= 1;
            }
            self.registry.lose(self.id);
        }
    }
}

fn tell(waiting: Vec<oneshot::Sender<Arc<Known>>>, known: Option<&Arc<Known>>) {
    for (waiting, known) in waiting.into_iter().zip(known.into_iter().cycle()) {
        // Whoever does not wait any more does not hear.
        let _ = waiting.send(known.clone());
    }
}
