//! All parts of the index at one moment, and lookups over them.

use std::collections::BTreeSet;
use std::sync::Arc;

use daybook_model::Position;

use crate::index::directory::{self, Holdings, NameCursor, Run};
use crate::index::sealed::Sealed;
use crate::index::{Access, Key, Memtable};
use crate::read::ReadError;

/// The parts of the index, oldest first. Replaced as a whole when a segment is sealed, an index
/// file is written, or runs are merged.
#[derive(Clone)]
pub(crate) struct View {
    pub sealed: Vec<Arc<Sealed>>,
    /// Together they cover all of `sealed`.
    pub runs: Vec<Arc<Run>>,
    /// Sealed segments whose files are not written yet, and the active one.
    pub memtables: Vec<Arc<Memtable>>,
    /// Counts of keys in so many sealed segments, for keys asked for lately.
    pub counts: Arc<CountCache>,
}

/// Keys whose count in the sealed segments is kept in memory: the streams that are being written.
const COUNTS_LEN: usize = 65_536;

/// Counts of keys, each with the number of sealed segments it was taken over.
pub(crate) type CountCache = quick_cache::sync::Cache<Key, (usize, u64)>;

impl View {
    pub fn new(
        sealed: Vec<Arc<Sealed>>,
        runs: Vec<Arc<Run>>,
        memtables: Vec<Arc<Memtable>>,
    ) -> View {
        View { sealed, runs, memtables, counts: Arc::new(CountCache::new(COUNTS_LEN)) }
    }

    /// The memtable of the active segment.
    pub fn active(&self) -> &Arc<Memtable> {
        self.memtables.last().expect("a view has an active segment")
    }

    /// How many entries `key` has below `committed`.
    pub fn count(&self, key: Key, committed: Position, access: Access) -> Result<u64, ReadError> {
        let sealed = self.sealed_count(key, access)?;
        let young: u64 = self.memtables.iter().map(|table| table.count(key, committed)).sum();
        Ok(sealed + young)
    }

    /// How many entries `key` has in sealed segments whose files are written.
    fn sealed_count(&self, key: Key, access: Access) -> Result<u64, ReadError> {
        if !self.runs.iter().any(|run| run.table.may_have(key)) {
            return Ok(0);
        }
        let sealed = self.sealed.len();
        if let Some((of, count)) = self.counts.get(&key)
            && of == sealed
        {
            return Ok(count);
        }
        let count = self.holdings(key, access)?.iter().map(|(_, count)| count).sum();
        self.counts.insert(key, (sealed, count));
        Ok(count)
    }

    /// The sealed segments that hold `key`, oldest first.
    pub fn holdings(&self, key: Key, access: Access) -> Result<Holdings, ReadError> {
        let mut holdings = Holdings::new();
        for run in &self.runs {
            run.holdings(key, access, &mut holdings)?;
        }
        Ok(holdings)
    }

    /// Up to `limit` positions of `key` below `committed`, ascending, from its `from`-th entry on.
    pub fn positions(
        &self,
        key: Key,
        from: u64,
        limit: usize,
        committed: Position,
        access: Access,
    ) -> Result<Vec<Position>, ReadError> {
        let mut out = Vec::new();
        let mut before = 0;
        for (segment, count) in self.holdings(key, access)? {
            if from < before + count && out.len() < limit {
                let sealed = self.sealed_at(segment);
                let skip = from.saturating_sub(before);
                sealed.positions(key, skip, limit - out.len(), access, &mut out)?;
            }
            before += count;
        }
        for table in &self.memtables {
            if out.len() == limit {
                break;
            }
            let count = table.count(key, committed);
            if from < before + count {
                let skip = from.saturating_sub(before);
                table.positions(key, skip, limit - out.len(), committed, &mut out);
            }
            before += count;
        }
        Ok(out)
    }

    /// How many entries of `key` come before `position`.
    pub fn rank(
        &self,
        key: Key,
        position: Position,
        committed: Position,
        access: Access,
    ) -> Result<u64, ReadError> {
        let before = |number| -> Result<bool, ReadError> {
            let entry = self.positions(key, number, 1, committed, access)?;
            Ok(entry.first().is_some_and(|entry| *entry < position))
        };
        let (mut low, mut high) = (0, self.count(key, committed, access)?);
        // Who follows the log asks for its end.
        if high > 0 && before(high - 1)? {
            return Ok(high);
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if before(middle)? {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The sealed segment that begins at `first`.
    pub fn sealed_at(&self, first: Position) -> &Arc<Sealed> {
        let at = self.sealed.partition_point(|each| each.segment.header.first <= first);
        &self.sealed[at - 1]
    }

    /// Up to `limit` names of streams that begin with `prefix` and come after `after`, ascending.
    pub fn names(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, ReadError> {
        let from = after.map_or(prefix, |after| after.max(prefix));
        let wanted =
            |name: &str| name.starts_with(prefix) && after.is_none_or(|after| name > after);
        let mut cursors: Vec<NameCursor> = self
            .runs
            .iter()
            .map(|run| NameCursor::new(run.clone(), from))
            .collect::<Result<_, _>>()?;
        let mut names = Vec::new();
        while names.len() < limit {
            match directory::next_name(&mut cursors)? {
                Some(name) if name.starts_with(prefix) => {
                    if wanted(&name) {
                        names.push(name);
                    }
                }
                Some(name) if name.as_str() < prefix => {}
                _ => break,
            }
        }
        let mut least: BTreeSet<String> = names.into_iter().collect();
        for table in &self.memtables {
            let inner = table.inner.read();
            for name in inner.names.iter().filter(|name| wanted(name)) {
                let full = least.len() >= limit;
                if full && least.last().is_some_and(|last| **name >= **last) {
                    continue;
                }
                least.insert(name.to_string());
                if full {
                    least.pop_last();
                }
            }
        }
        Ok(least.into_iter().take(limit).collect())
    }
}
