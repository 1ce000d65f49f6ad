//! The transfers that are not over, and who waits for them. In memory only: the streams say the
//! same.
//!
//! An entry exists from before a transfer's first commit until it is over, so that at any moment
//! every transfer that is begun and not over has one; the checkpoint relies on that.
//!
//! INVARIANT: an entry is claimed, known, lost, or several of these; each claim is counted in its
//! entry until it is settled or dropped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use super::{Known, UNFINISHED_MAX};
use crate::transfer::PaymentInitiated;

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
    /// What a start whose caller went away was about to write, or has written.
    begun: Option<Arc<PaymentInitiated>>,
    /// Whether it is queued for whoever drives what is lost.
    queued: bool,
    waiting: Vec<oneshot::Sender<Arc<Known>>>,
}

/// The place of a transfer that is being started. Dropped unsettled, the transfer is lost.
pub(super) struct Claim<'a> {
    registry: &'a Registry,
    /// None once it is settled.
    begun: Option<Arc<PaymentInitiated>>,
}

/// How much is known of a transfer that is in hand.
pub(super) enum InHand {
    /// Where it stands.
    Known(Arc<Known>),
    /// How it began, if it did.
    Lost(Arc<PaymentInitiated>),
}

impl Registry {
    /// A place for a transfer that begins; none if there are too many.
    pub fn claim(&self, begun: &Arc<PaymentInitiated>) -> Option<Claim<'_>> {
        let mut inner = self.inner.lock();
        if inner.entries.len() >= UNFINISHED_MAX {
            return None;
        }
        inner.entries.entry(begun.transfer_id).or_default().claims += 1;
        Some(Claim { registry: self, begun: Some(begun.clone()) })
    }

    /// The transfer, if it is in hand.
    pub fn get(&self, id: Uuid) -> Option<InHand> {
        let inner = self.inner.lock();
        let entry = inner.entries.get(&id)?;
        let known = entry.known.clone().map(InHand::Known);
        known.or_else(|| entry.begun.clone().map(InHand::Lost))
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
        let closed = inner.closed;
        let entry = inner.entries.get_mut(&id)?;
        let (waiting, told) = oneshot::channel();
        match &entry.known {
            Some(known) if !known.state().is_active() => {
                let _ = waiting.send(known.clone());
            }
            // Nobody will tell: dropped, the wait ends at once.
            _ if closed => {}
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

    /// Takes in that there is no such transfer.
    pub fn absent(&self, id: Uuid) {
        self.inner.lock().tidy(id);
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

    /// Nobody drives this transfer.
    pub fn lose(&self, id: Uuid) {
        self.inner.lock().lose(id);
        self.found.notify_one();
    }

    /// Waits for a transfer that is lost.
    pub async fn next_lost(&self) -> Uuid {
        loop {
            if let Some(id) = self.inner.lock().found() {
                return id;
            }
            self.found.notified().await;
        }
    }
}

impl Inner {
    fn put(&mut self, known: &Arc<Known>) -> Vec<oneshot::Sender<Arc<Known>>> {
        let id = known.transfer.id();
        let entry = self.entries.entry(id).or_default();
        if known.state().is_over() {
            entry.known = None;
            entry.begun = None;
            let waiting = std::mem::take(&mut entry.waiting);
            self.tidy(id);
            return waiting;
        }
        if entry.known.as_ref().is_none_or(|have| have.revision <= known.revision) {
            entry.known = Some(known.clone());
        }
        if known.state().is_active() { Vec::new() } else { std::mem::take(&mut entry.waiting) }
    }

    fn lose(&mut self, id: Uuid) {
        let entry = self.entries.entry(id).or_default();
        if !std::mem::replace(&mut entry.queued, true) {
            self.lost.push_back(id);
        }
    }

    /// The next that is lost.
    fn found(&mut self) -> Option<Uuid> {
        let id = self.lost.pop_front()?;
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.queued = false;
        }
        Some(id)
    }

    fn unclaim(&mut self, id: Uuid) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.claims -= 1;
        }
        self.tidy(id);
    }

    /// Removes an entry that is of no use.
    fn tidy(&mut self, id: Uuid) {
        let useless =
            |entry: &Entry| entry.claims == 0 && entry.known.is_none() && entry.begun.is_none();
        if self.entries.get(&id).is_some_and(useless) {
            self.entries.remove(&id);
        }
    }
}

impl Claim<'_> {
    /// The start answers: with the transfer it began, or with none.
    pub fn settle(mut self, known: Option<&Arc<Known>>) {
        let Some(begun) = self.begun.take() else { return };
        let waiting = {
            let mut inner = self.registry.inner.lock();
            let waiting = known.map(|known| inner.put(known)).unwrap_or_default();
            inner.unclaim(begun.transfer_id);
            waiting
        };
        tell(waiting, known);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let Some(begun) = self.begun.take() else { return };
        let id = begun.transfer_id;
        {
            let mut inner = self.registry.inner.lock();
            let entry = inner.entries.entry(id).or_default();
            if entry.known.is_none() {
                entry.begun = Some(begun);
            }
            inner.lose(id);
            inner.unclaim(id);
        }
        self.registry.found.notify_one();
    }
}

fn tell(waiting: Vec<oneshot::Sender<Arc<Known>>>, known: Option<&Arc<Known>>) {
    for (waiting, known) in waiting.into_iter().zip(known.into_iter().cycle()) {
        // Whoever does not wait any more does not hear.
        let _ = waiting.send(known.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use daybook_model::Timestamp;

    use super::*;
    use crate::currency::Currency;
    use crate::transfer::TransferRequest;

    fn begun(n: usize) -> Arc<PaymentInitiated> {
        let request = TransferRequest {
            transfer_id: Uuid::from_u128(n as u128),
            sender_account_id: Uuid::from_u128(1),
            receiver_account_id: Uuid::from_u128(2),
            amount: 1.into(),
            currency: Currency::from_code("USD").expect("a currency"),
            description: String::new(),
            fx: None,
        };
        let initiated = request.initiate(Timestamp(0), Duration::from_secs(1));
        Arc::new(initiated.expect("a good request"))
    }

    #[test]
    fn as_many_transfers_as_may_be_unfinished_are_let_in() {
        let registry = Registry::default();
        let claim = |n: usize| registry.claim(&begun(n));
        let claims: Vec<_> = (0..UNFINISHED_MAX).filter_map(claim).collect();
        assert_eq!(claims.len(), UNFINISHED_MAX);
        assert!(claim(UNFINISHED_MAX).is_none());
        for claim in claims {
            claim.settle(None);
        }
        assert!(claim(UNFINISHED_MAX).is_some());
    }

    #[test]
    fn a_place_goes_only_when_nobody_needs_it() {
        let registry = Registry::default();
        let begun = begun(1);
        let id = begun.transfer_id;
        let places = || registry.ids(9).map(|ids| ids.len());
        let (first, second) = (registry.claim(&begun), registry.claim(&begun));
        first.expect("a place").settle(None);
        assert_eq!(places(), Some(1), "the second start needs it");
        drop(second);
        assert_eq!(places(), Some(1), "it is lost");
        registry.claim(&begun).expect("a place").settle(None);
        assert_eq!(places(), Some(1), "it is lost still");
        assert!(matches!(registry.get(id), Some(InHand::Lost(lost)) if lost == begun));
        assert_eq!(registry.ids(0), None, "more than asked for");
        // Over, while somebody starts it once more.
        let third = registry.claim(&begun).expect("a place");
        let mut transfer = crate::transfer::Transfer::begin(begun.clone());
        transfer.progress.state = crate::saga::State::Completed;
        let revision = daybook_model::Revision(4);
        registry.put(&Arc::new(Known { transfer, revision }));
        assert_eq!(places(), Some(1), "the third start needs it");
        third.settle(None);
        assert_eq!(registry.ids(0), Some(Vec::new()));
    }
}
