//! The duplicate window: which event ids were written lately, and where.
//!
//! Several small maps instead of one large: the oldest is dropped whole. An entry is only a hint:
//! whoever finds one reads the event and compares.

use std::collections::VecDeque;

use daybook_model::Position;

use crate::index::key::{IdentityState, KeyMap};

/// Ids that are remembered at least, also after a restart.
pub(crate) const WINDOW_MIN: u64 = 1_048_576;
/// Ids in one map: as many as fill 2^18 buckets at hashbrown's load.
const MAP_LEN: usize = 229_376;
/// Full maps that are kept beside the one that is being filled.
const MAPS: usize = 5;

const _: () = assert!((MAP_LEN * MAPS) as u64 >= WINDOW_MIN);

/// The duplicate window.
#[derive(Default)]
pub(crate) struct IdWindow {
    maps: VecDeque<KeyMap<u64, Position>>,
}

impl IdWindow {
    pub fn insert(&mut self, id_key: u64, position: Position) {
        if self.maps.back().is_none_or(|map| map.len() >= MAP_LEN) {
            if self.maps.len() > MAPS {
                self.maps.pop_front();
            }
            self.maps.push_back(KeyMap::with_hasher(IdentityState));
        }
        if let Some(map) = self.maps.back_mut() {
            map.insert(id_key, position);
        }
    }

    /// Where the id was written last, perhaps.
    pub fn get(&self, id_key: u64) -> Option<Position> {
        self.maps.iter().rev().find_map(|map| map.get(&id_key).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_the_window_is_remembered_and_no_more_than_a_little() {
        let mut window = IdWindow::default();
        let count = 2 * WINDOW_MIN;
        let spread = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for n in 0..count {
            window.insert(spread(n), Position(n));
        }
        for n in count - WINDOW_MIN..count {
            assert_eq!(window.get(spread(n)), Some(Position(n)));
        }
        assert_eq!(window.get(spread(0)), None);
    }
}
