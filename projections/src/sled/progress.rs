//! How far what serves is, for those who wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use daybook_client::Checkpoint;
use parking_lot::Mutex;
use tokio::sync::watch;

/// The place of one projection: of its generation that serves.
pub(super) type Reached = Arc<watch::Sender<Option<Checkpoint>>>;

/// The places of all projections. A clone is another handle.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress(Arc<Mutex<BTreeMap<String, Reached>>>);

impl Progress {
    /// The place of `projection`.
    pub(super) fn of(&self, projection: &str) -> Reached {
        let mut all = self.0.lock();
        let reached = all.entry(projection.to_owned());
        reached.or_insert_with(|| Arc::new(watch::Sender::new(None))).clone()
    }

    /// Nothing is reached any more.
    pub(super) fn forget(&self) {
        for reached in self.0.lock().values() {
            reached.send_replace(None);
        }
    }
}
