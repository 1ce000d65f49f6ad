//! Rows that a writer need not ask for, because it is the only one that changes them.
//!
//! ```text
//!   young | old     rows as committed, absent ones too; when young is full it becomes old, and
//!                   what is asked for in old comes back to young: about the least recently used go
//!   seen            a Bloom filter of all keys ever committed, while the tables were empty when
//!                   the writer began: what it has not seen is not there, so a table that only
//!                   grows costs no question for each new row
//! ```
//!
//! INVARIANT: bounded by [`CACHE_SIZE_MAX`] and [`SEEN_SIZE`] a table; forgotten with the writer
//! after any error.

use std::hash::{BuildHasherDefault, DefaultHasher, Hasher};
use std::sync::Arc;

use hashbrown::HashMap;

use crate::table::{Row, Value};

/// Bytes of rows that one writer keeps, about: the accounts of a bank of a hundred thousand.
pub const CACHE_SIZE_MAX: usize = 64 * 1024 * 1024;
/// Bytes of a table's filter: at five million rows one question in a hundred is asked in vain. They
/// are touched, and so taken from the system, as rows come.
pub const SEEN_SIZE: usize = 8 * 1024 * 1024;
/// Bits of the filter that stand for one key.
const SEEN_HASHES: u64 = 4;
/// Bytes that a row takes beside its values: its key, its places in maps and lists.
const ROW_OVERHEAD: usize = 160;

type Known = HashMap<Vec<u8>, Option<Arc<Row>>, BuildHasherDefault<DefaultHasher>>;

/// The rows of one writer.
pub(super) struct Cache {
    tables: Vec<Kept>,
    /// Bytes of the young rows of all tables.
    young_size: usize,
}

#[derive(Default)]
struct Kept {
    young: Known,
    old: Known,
    seen: Option<Seen>,
}

/// What is known of a row.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    /// It is as it is.
    Known(Option<Arc<Row>>),
    /// The table must be asked.
    Unknown,
}

impl Cache {
    /// Nothing yet, of so many tables, which are either empty or of unknown content.
    pub(super) fn new(tables: usize, empty: Content) -> Cache {
        let kept = || Kept { seen: (empty == Content::Empty).then(Seen::new), ..Kept::default() };
        Cache { tables: (0..tables).map(|_| kept()).collect(), young_size: 0 }
    }

    /// What is known of the row under `key` in the table of this number.
    pub(super) fn get(&mut self, table: usize, key: &[u8]) -> Found {
        let kept = &mut self.tables[table];
        if let Some(row) = kept.young.get(key) {
            return Found::Known(row.clone());
        }
        if let Some((key, row)) = kept.old.remove_entry(key) {
            self.put(table, key, row.clone());
            return Found::Known(row);
        }
        match &kept.seen {
            Some(seen) if !seen.may_contain(key) => Found::Known(None),
            _ => Found::Unknown,
        }
    }

    /// Keeps a row as it is committed, or that there is none.
    pub(super) fn put(&mut self, table: usize, key: Vec<u8>, row: Option<Arc<Row>>) {
        let kept = &mut self.tables[table];
        if let (Some(seen), Some(_)) = (&mut kept.seen, &row) {
            seen.add(&key);
        }
        self.young_size += size(&key, row.as_deref());
        // A row that is put again is counted again: a little early is no harm.
        kept.young.insert(key, row);
        if self.young_size > CACHE_SIZE_MAX / 2 {
            for kept in &mut self.tables {
                kept.old = std::mem::take(&mut kept.young);
            }
            self.young_size = 0;
        }
    }
}

/// What stands in the tables when a writer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Nothing.
    Empty,
    /// Something.
    Unknown,
}

fn size(key: &[u8], row: Option<&Row>) -> usize {
    let texts = |value: &Value| if let Value::Text(text) = value { text.len() } else { 0 };
    let row = row.map_or(0, |row| row.iter().map(|value| size_of::<Value>() + texts(value)).sum());
    ROW_OVERHEAD + key.len() + row
}

/// Keys that were committed, and a few that were not.
struct Seen {
    bits: Vec<u64>,
}

impl Seen {
    fn new() -> Seen {
        Seen { bits: vec![0; SEEN_SIZE / 8] }
    }

    fn add(&mut self, key: &[u8]) {
        for bit in bits(key) {
            self.bits[bit / 64] |= 1 << (bit % 64);
        }
    }

    fn may_contain(&self, key: &[u8]) -> bool {
        bits(key).all(|bit| self.bits[bit / 64] & (1 << (bit % 64)) != 0)
    }
}

/// The bits that stand for `key`: two hashes make as many as are needed.
fn bits(key: &[u8]) -> impl Iterator<Item = usize> {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    let first = hasher.finish();
    hasher.write_u8(0);
    let second = hasher.finish() | 1;
    (0..SEEN_HASHES).map(move |n| {
        let hash = first.wrapping_add(second.wrapping_mul(n));
        usize::try_from(hash % (SEEN_SIZE as u64 * 8)).expect("below the filter's size")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &str) -> Option<Arc<Row>> {
        Some(Arc::new(vec![Value::from(text)]))
    }

    #[test]
    fn what_was_never_put_is_known_to_be_absent_only_in_tables_that_began_empty() {
        let mut empty = Cache::new(2, Content::Empty);
        empty.put(0, b"a".to_vec(), row("a"));
        assert_eq!(empty.get(0, b"a"), Found::Known(row("a")));
        assert_eq!(empty.get(0, b"b"), Found::Known(None));
        assert_eq!(empty.get(1, b"a"), Found::Known(None), "each table has its own");
        let mut filled = Cache::new(1, Content::Unknown);
        assert_eq!(filled.get(0, b"a"), Found::Unknown);
        filled.put(0, b"a".to_vec(), None);
        assert_eq!(filled.get(0, b"a"), Found::Known(None), "it was asked for and not there");
    }

    #[test]
    fn old_rows_go_and_are_asked_for_again() {
        let mut cache = Cache::new(1, Content::Empty);
        let text = "x".repeat(CACHE_SIZE_MAX / 64);
        for n in 0..100_u8 {
            assert_eq!(cache.get(0, &[0]), if n == 0 { Found::Known(None) } else { first() });
            cache.put(0, vec![n], if n == 0 { row("first") } else { row(&text) });
        }
        fn first() -> Found {
            Found::Known(row("first"))
        }
        assert_eq!(cache.get(0, &[1]), Found::Unknown, "it was there, and is forgotten");
        let kept: usize = cache.tables.iter().map(|kept| kept.young.len() + kept.old.len()).sum();
        assert!((32..=65).contains(&kept), "{kept} rows of a 64th of the limit each");
    }
}
