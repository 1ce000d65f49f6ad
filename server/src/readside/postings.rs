//! Events of one type in a period, found in the store's own index: there is no copy to keep.
//!
//! Times of commits never go backwards along the log, so a period is a range of an index key's
//! numbers, found by halving.

use daybook_model::Timestamp;
use daybook_store::{Direction, IndexKey, Page, ReadError};

use crate::node::door::Door;

/// The number, under `key`, of its first event that was committed at `time` or later; how many it
/// has if there is none.
///
/// # Errors
/// [`ReadError`] if the disk fails or its bytes are damaged.
pub async fn first_at(store: &Door, key: &IndexKey, time: Timestamp) -> Result<u64, ReadError> {
    let mut reader = store.read_index(key, u64::MAX, Direction::Backwards, 1).await?;
    let last = reader.next().await?;
    // Those below `low` were before, those from `high` on were not.
    let (mut low, mut high) = (0, last.as_ref().and_then(last_number).map_or(0, |last| last + 1));
    while low < high {
        let middle = low + (high - low) / 2;
        let mut reader = store.read_index(key, middle, Direction::Forwards, 1).await?;
        let found = reader.next().await?;
        // The first at or after `middle` that was not removed.
        let found = found.as_ref().and_then(|page| page.numbered().next());
        match found {
            Some((number, event)) if event.time < time => low = number + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The number of a page's last event.
fn last_number(page: &Page) -> Option<u64> {
    page.numbered().next_back().map(|(number, _)| number)
}
