//! Rows that were read or written lately, decoded. Only for a writer: nobody else changes them.

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use crate::table::{Row, Value};

type Map = hashbrown::HashMap<Vec<u8>, Arc<Row>, BuildHasherDefault<DefaultHasher>>;

/// Rows by their keys in sled: at least the last half of the limit that was asked for.
#[derive(Debug)]
pub(super) struct Recent {
    /// Asked for since the halves were turned.
    young: Map,
    young_size: usize,
    /// Asked for before: forgotten when the young half is full.
    old: Map,
    half_size_max: usize,
}

impl Recent {
    /// Keeps about `size_max` bytes.
    pub(super) fn new(size_max: usize) -> Recent {
        Recent {
            young: Map::default(),
            young_size: 0,
            old: Map::default(),
            half_size_max: size_max / 2,
        }
    }

    /// The row under `key`, if it is here.
    pub(super) fn get(&mut self, key: &[u8]) -> Option<Arc<Row>> {
        if let Some(row) = self.young.get(key) {
            return Some(row.clone());
        }
        let (key, row) = self.old.remove_entry(key)?;
        self.put(key, row.clone());
        Some(row)
    }

    /// Puts `row` in the place of the one with its key.
    pub(super) fn put(&mut self, key: Vec<u8>, row: Arc<Row>) {
        self.old.remove(&key);
        let key_size = key.len();
        self.young_size += size(key_size, &row);
        if let Some(before) = self.young.insert(key, row) {
            self.young_size = self.young_size.saturating_sub(size(key_size, &before));
        }
        if self.young_size > self.half_size_max {
            self.old = std::mem::take(&mut self.young);
            self.young_size = 0;
        }
    }

    /// Forgets the row under `key`.
    pub(super) fn remove(&mut self, key: &[u8]) {
        self.old.remove(key);
        if let Some((key, row)) = self.young.remove_entry(key) {
            self.young_size = self.young_size.saturating_sub(size(key.len(), &row));
        }
    }
}

/// About the bytes of an entry in memory.
fn size(key: usize, row: &Row) -> usize {
    let texts = row.iter().map(|value| match value {
        Value::Text(text) => text.len(),
        _ => 0,
    });
    let fixed = size_of::<(Vec<u8>, Arc<Row>)>() + 2 * size_of::<usize>() + size_of::<Row>();
    fixed + key + row.len() * size_of::<Value>() + texts.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lately_asked_for_stay_and_all_is_bounded() {
        let row = |n: i64| Arc::new(vec![Value::Integer(n)]);
        let one = size(8, &row(0));
        let mut recent = Recent::new(one * 20);
        for n in 0..1000i64 {
            recent.put(n.to_be_bytes().to_vec(), row(n));
            assert_eq!(recent.get(&0i64.to_be_bytes()), Some(row(0)), "asked for all the time");
            assert!(recent.young.len() + recent.old.len() <= 22);
        }
        assert_eq!(recent.get(&998i64.to_be_bytes()), Some(row(998)));
        assert_eq!(recent.get(&500i64.to_be_bytes()), None);
        recent.put(0i64.to_be_bytes().to_vec(), row(7));
        assert_eq!(recent.get(&0i64.to_be_bytes()), Some(row(7)));
        recent.remove(&0i64.to_be_bytes());
        assert_eq!(recent.get(&0i64.to_be_bytes()), None);
    }
}
