//! Which partitions' states are in memory, which of them changed, and which may go.
//!
//! INVARIANT: what is done for one event does not grow with the number of partitions.

use std::collections::BTreeMap;

/// Partitions whose states are kept in memory; others are read again when they are needed.
pub const PARTITIONS_MAX: usize = 10_000;
/// Bytes of their states, as they were last written. In the engine's heap they take some times that.
pub const STATES_SIZE_MAX: usize = 24 * 1024 * 1024;
/// Partitions that may have changed since the last draft: each is an event of it.
pub const CHANGED_MAX: usize = 1000;
/// Bytes of their states, as they were last written. A quarter of what an append may have.
pub const CHANGED_SIZE_MAX: usize = 16 * 1024 * 1024;
/// Bytes that a state is taken to have until it is written first.
pub const STATE_SIZE_FIRST: usize = 256;

/// A partition in memory.
#[derive(Debug)]
pub struct Partition {
    /// Whether its state has a stream.
    pub saved: bool,
    /// A digest of the result that was last written of it.
    pub result: Option<blake3::Hash>,
    changed: bool,
    used: u64,
    /// Bytes of its state, as it was last read or written.
    size: usize,
}

impl Partition {
    /// One whose state is `saved`, or is its first.
    #[must_use]
    pub fn new(saved: Option<&str>, result: Option<blake3::Hash>) -> Partition {
        let size = saved.map_or(STATE_SIZE_FIRST, str::len);
        Partition { saved: saved.is_some(), result, changed: false, used: 0, size }
    }
}

/// The partitions in memory, by name.
#[derive(Debug, Default)]
pub struct Partitions {
    by_name: BTreeMap<String, Partition>,
    size: usize,
    changed: Vec<String>,
    changed_size: usize,
    turn: u64,
}

impl Partitions {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether the partition called `name` is in memory.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// The partition called `name`, which is used now.
    pub fn used(&mut self, name: &str) -> Option<&mut Partition> {
        self.turn += 1;
        let found = self.by_name.get_mut(name)?;
        found.used = self.turn;
        Some(found)
    }

    /// Takes up the state of the partition called `name`.
    pub fn take(&mut self, name: &str, partition: Partition) {
        self.turn += 1;
        self.size += partition.size;
        self.by_name.insert(name.to_owned(), Partition { used: self.turn, ..partition });
    }

    /// Notes that the state of `name`, which is in memory, is another.
    pub fn change(&mut self, name: &str) {
        let partition = self.by_name.get_mut(name).expect("it was loaded");
        if !partition.changed {
            partition.changed = true;
            self.changed.push(name.to_owned());
            self.changed_size += partition.size;
        }
    }

    /// Whether as many changed as may.
    #[must_use]
    pub fn are_full(&self) -> bool {
        self.changed.len() >= CHANGED_MAX || self.changed_size >= CHANGED_SIZE_MAX
    }

    /// Those that changed, and whether each has a stream.
    pub fn changed(&self) -> impl Iterator<Item = (&str, bool)> {
        self.changed.iter().map(|name| (name.as_str(), self.by_name[name].saved))
    }

    /// Notes that what changed is written: the states had these sizes, in the order of
    /// [`Partitions::changed`].
    pub fn saved(&mut self, sizes: &[usize]) {
        for (name, size) in self.changed.drain(..).zip(sizes) {
            let partition = self.by_name.get_mut(&name).expect("what changed is in memory");
            self.size = self.size + size - partition.size;
            partition.size = *size;
            partition.changed = false;
            partition.saved = true;
        }
        self.changed_size = 0;
    }

    /// Lets go of the half that was not used for longest, if there are too many. Answers their
    /// names. None of them has changed.
    pub fn evict(&mut self) -> Vec<String> {
        if self.by_name.len() <= PARTITIONS_MAX && self.size <= STATES_SIZE_MAX {
            return Vec::new();
        }
        let mut used: Vec<u64> = self.by_name.values().map(|partition| partition.used).collect();
        let middle = used.len() / 2;
        let (_, median, _) = used.select_nth_unstable(middle);
        let oldest = *median;
        let goes = |partition: &Partition| partition.used <= oldest && !partition.changed;
        let going = self.by_name.iter().filter(|(_, partition)| goes(partition));
        let going: Vec<String> = going.map(|(name, _)| name.clone()).collect();
        for name in &going {
            if let Some(partition) = self.by_name.remove(name) {
                self.size -= partition.size;
            }
        }
        going
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_size(size: usize) -> Partition {
        Partition::new(Some(&"x".repeat(size)), None)
    }

    #[test]
    fn what_was_not_used_for_longest_goes_and_what_changed_stays() {
        let mut partitions = Partitions::default();
        let each = STATES_SIZE_MAX / 4;
        for name in ["a", "b", "c", "d"] {
            partitions.take(name, of_size(each));
        }
        assert!(partitions.evict().is_empty(), "they just fit");
        partitions.used("a");
        partitions.change("b");
        partitions.take("e", of_size(each));
        // Used in the order b, c, d, a, e.
        assert_eq!(partitions.evict(), ["c", "d"]);
        assert!(partitions.has("b") && partitions.has("a") && partitions.has("e"));
        assert!(partitions.evict().is_empty(), "now they fit again");
    }

    #[test]
    fn what_changed_is_told_once_and_weighed_as_it_was_last_written() {
        let mut partitions = Partitions::default();
        partitions.take("a", Partition::new(None, None));
        partitions.take("b", of_size(CHANGED_SIZE_MAX));
        partitions.change("a");
        partitions.change("a");
        assert_eq!(partitions.changed().collect::<Vec<_>>(), [("a", false)]);
        assert!(!partitions.are_full());
        partitions.change("b");
        assert!(partitions.are_full());
        partitions.saved(&[10, 20]);
        assert!(!partitions.are_full());
        assert_eq!(partitions.size, 30);
        partitions.change("a");
        assert_eq!(partitions.changed().collect::<Vec<_>>(), [("a", true)]);
        for n in 0..CHANGED_MAX {
            let name = n.to_string();
            partitions.take(&name, Partition::new(None, None));
            partitions.change(&name);
        }
        assert!(partitions.are_full());
    }
}
