//! Waiting for a place: one question in a while for everybody who waits, and none if nobody does.
//!
//! Asked, not told: LISTEN needs a connection that is held open, found dead and made anew beside
//! each process, does not pass a connection pooler, and NOTIFY takes a lock over all of a
//! database's commits. The question reads one row a projection.
//!
//! INVARIANT: one task at most asks; it ends when nobody waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use daybook_client::Checkpoint;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::query::QueryError;
use crate::store::StoreError;

/// Pause between two questions: what read-your-writes adds to the time of a commit, and a few
/// thousandths of a processor while somebody waits.
pub const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// How far the generations that serve are, by projection.
pub(super) type Places = BTreeMap<String, Option<Checkpoint>>;
/// What the last question found; none before the first was answered.
type Found = Option<Result<Arc<Places>, StoreError>>;

/// Those who wait.
#[derive(Default)]
pub(super) struct Watch {
    asking: Mutex<Option<watch::Sender<Found>>>,
}

impl Watch {
    /// What is found from now on. `ask` is what a task asks if none is asking yet.
    pub(super) fn places<F>(self: &Arc<Watch>, ask: impl Fn() -> F + Send + 'static) -> Answers
    where
        F: Future<Output = Result<Places, StoreError>> + Send,
    {
        let mut asking = self.asking.lock();
        if let Some(sender) = &*asking {
            return Answers(sender.subscribe());
        }
        let (sender, answers) = watch::channel(None);
        *asking = Some(sender.clone());
        let watch = self.clone();
        tokio::spawn(async move {
            loop {
                sender.send_replace(Some(ask().await.map(Arc::new)));
                tokio::time::sleep(POLL_INTERVAL).await;
                let mut asking = watch.asking.lock();
                // Nobody begins to wait while this lock is held.
                if sender.receiver_count() == 0 {
                    *asking = None;
                    return;
                }
            }
        });
        Answers(answers)
    }
}

/// What is found, question by question.
pub(super) struct Answers(watch::Receiver<Found>);

impl Answers {
    /// Waits until `projection` is where `reached` wants it.
    pub(super) async fn until(
        mut self,
        projection: &str,
        reached: impl Fn(Option<Checkpoint>) -> bool,
    ) -> Result<(), QueryError> {
        // What was found before is as good: places only advance.
        self.0.mark_changed();
        while self.0.changed().await.is_ok() {
            let found = self.0.borrow_and_update().clone();
            let Some(found) = found else { continue };
            if found?.get(projection).copied().is_some_and(&reached) {
                return Ok(());
            }
        }
        Err(QueryError::Store(StoreError {
            action: format!("wait for projection {projection}"),
            reason: "this process is ending".to_owned(),
            transient: true,
        }))
    }
}
