//! The log itself as what an answer reflects: what the store's index answers is no copy of it, and
//! has to wait only for what is not committed yet.

use daybook_model::Position;
use daybook_store::{ReadError, SubscribeFrom};

use super::answer::{MIN_POSITION_WAIT_MAX, late};
use crate::http::problem::Problem;
use crate::node::door::Door;

/// The last position of the log, when that is `at_least`; none if nothing is in it.
///
/// # Errors
/// [`Problem`]: nothing was written there in time, or the store is closing.
pub async fn log_at(store: &Door, at_least: Option<Position>) -> Result<Option<u64>, Problem> {
    if let Some(position) = at_least
        && position >= store.committed()
    {
        // Begun before it is looked at again, so that nothing is missed in between.
        let mut commits = store.subscribe_all(SubscribeFrom::End, None).await?;
        let there = async {
            while position >= store.committed() {
                commits.next().await?;
            }
            Ok::<(), ReadError>(())
        };
        match tokio::time::timeout(MIN_POSITION_WAIT_MAX, there).await {
            Ok(there) => there?,
            Err(_) => return Err(late("the log", last(store), position)),
        }
    }
    Ok(last(store))
}

fn last(store: &Door) -> Option<u64> {
    store.committed().0.checked_sub(1)
}
