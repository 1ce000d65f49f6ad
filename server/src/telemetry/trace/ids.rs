//! Where the ids of traces and spans come from.

use std::sync::atomic::{AtomicU64, Ordering};

use daybook_model::Entropy;

/// Ids from one key that nobody can guess, drawn once: each request and each pipelined append wants
/// two, and a hash is cheaper than two system calls.
#[derive(Debug)]
pub struct Ids {
    key: [u8; blake3::KEY_LEN],
    next: AtomicU64,
}

impl Ids {
    /// Ids of this run.
    pub fn new(entropy: &dyn Entropy) -> Ids {
        let mut key = [0; blake3::KEY_LEN];
        for half in key.chunks_exact_mut(16) {
            half.copy_from_slice(&entropy.bytes());
        }
        Ids { key, next: AtomicU64::new(0) }
    }
}

impl Entropy for Ids {
    fn bytes(&self) -> [u8; 16] {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let hash = blake3::keyed_hash(&self.key, &number.to_le_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.as_bytes()[..16]);
        id
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use daybook_model::SystemEntropy;

    use super::*;

    #[test]
    fn no_id_comes_twice_nor_from_another_run() {
        let runs = [Ids::new(&SystemEntropy), Ids::new(&SystemEntropy)];
        let ids = runs.iter().flat_map(|run| (0..1_000).map(|_| run.bytes()));
        assert_eq!(ids.collect::<BTreeSet<_>>().len(), 2_000);
    }
}
