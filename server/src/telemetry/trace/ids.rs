//! Where the ids of traces and spans come from.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

use daybook_model::Entropy;

/// Bytes that are drawn at once: 64 ids.
const DRAWN_SIZE: usize = 64 * ID_SIZE;
const ID_SIZE: usize = 16;

/// Ids from one key that nobody can guess, drawn once: each request wants two, each pipelined append
/// as well, and a piece of a long hash is cheaper than a hash or a system call.
#[derive(Debug)]
pub struct Ids {
    key: [u8; blake3::KEY_LEN],
    /// How often was drawn.
    times: AtomicU64,
}

/// What a thread has drawn: each has its own, so that none waits for another.
struct Drawn {
    key: [u8; blake3::KEY_LEN],
    bytes: [u8; DRAWN_SIZE],
    /// Up to where they are used.
    used: usize,
}

thread_local! {
    static DRAWN: RefCell<Drawn> = const {
        RefCell::new(Drawn { key: [0; blake3::KEY_LEN], bytes: [0; DRAWN_SIZE], used: DRAWN_SIZE })
    };
}

impl Ids {
    /// Ids of this run.
    pub fn new(entropy: &dyn Entropy) -> Ids {
        let mut key = [0; blake3::KEY_LEN];
        for half in key.chunks_exact_mut(16) {
            half.copy_from_slice(&entropy.bytes());
        }
        Ids { key, times: AtomicU64::new(0) }
    }

    fn draw(&self, drawn: &mut Drawn) {
        let number = self.times.fetch_add(1, Ordering::Relaxed);
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&number.to_le_bytes()).finalize_xof().fill(&mut drawn.bytes);
        (drawn.key, drawn.used) = (self.key, 0);
    }
}

impl Entropy for Ids {
    fn bytes(&self) -> [u8; ID_SIZE] {
        DRAWN.with_borrow_mut(|drawn| {
            if drawn.used == DRAWN_SIZE || drawn.key != self.key {
                self.draw(drawn);
            }
            let mut id = [0; ID_SIZE];
            id.copy_from_slice(&drawn.bytes[drawn.used..drawn.used + ID_SIZE]);
            drawn.used += ID_SIZE;
            id
        })
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
