//! Which consumer is next.

use super::consumer::{Consumer, ConsumerId};

/// Buckets that pinned streams are spread over; KurrentDB's number. Fewer than streams, so that a
/// change among consumers costs the same however many streams there are.
pub const BUCKETS: u16 = 1024;

/// How messages are spread over the consumers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// In turn, in the order in which they connected; one without room is passed over.
    #[default]
    RoundRobin,
    /// The first that has room.
    DispatchToSingle,
    /// The one that the message's stream is pinned to.
    Pinned,
    /// The one that the message's correlation id is pinned to.
    PinnedByCorrelation,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Strategy; 4] = [
        Strategy::RoundRobin,
        Strategy::DispatchToSingle,
        Strategy::Pinned,
        Strategy::PinnedByCorrelation,
    ];

    /// The name clients know.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Strategy::RoundRobin => "RoundRobin",
            Strategy::DispatchToSingle => "DispatchToSingle",
            Strategy::Pinned => "Pinned",
            Strategy::PinnedByCorrelation => "PinnedByCorrelation",
        }
    }

    /// The strategy of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Strategy> {
        Strategy::ALL.into_iter().find(|strategy| strategy.name() == name)
    }

    /// Whether a bucket belongs to one consumer at a time.
    #[must_use]
    pub fn pins(self) -> bool {
        matches!(self, Strategy::Pinned | Strategy::PinnedByCorrelation)
    }
}

/// What is pinned together: messages whose stream, or correlation id, falls into the same bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket(u16);

impl Bucket {
    /// The bucket of a name.
    #[must_use]
    pub fn of(name: &str) -> Bucket {
        // FNV-1a, then mixed, because its low bits alone are poor for names that end in counters.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in name.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Bucket((mix(hash) % u64::from(BUCKETS)) as u16)
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The consumer that each bucket belongs to; empty without consumers.
pub(super) fn owners(consumers: &[Consumer]) -> Vec<ConsumerId> {
    if consumers.is_empty() {
        return Vec::new();
    }
    (0..u64::from(BUCKETS)).filter_map(|bucket| owner(bucket, consumers)).collect()
}

/// The consumer with the highest draw for `bucket`: another consumer's coming or going changes only
/// what it wins or had won.
fn owner(bucket: u64, consumers: &[Consumer]) -> Option<ConsumerId> {
    let draw = |id: ConsumerId| mix(mix(id.0.wrapping_add(0x9e37_79b9_7f4a_7c15)) ^ bucket);
    consumers.iter().map(|consumer| consumer.id).max_by_key(|id| (draw(*id), id.0))
}

/// The finalizer of SplitMix64: every bit of the input changes half of the output's.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consumers(count: u64) -> Vec<Consumer> {
        (0..count).map(|id| Consumer::new(ConsumerId(id), 10)).collect()
    }

    #[test]
    fn each_strategy_is_found_by_its_name() {
        for strategy in Strategy::ALL {
            assert_eq!(Strategy::of_name(strategy.name()), Some(strategy));
        }
        assert_eq!(Strategy::of_name("roundrobin"), None);
    }

    #[test]
    fn a_consumer_that_comes_takes_its_share_and_moves_nothing_else() {
        let before = owners(&consumers(3));
        let after = owners(&consumers(4));
        let moved: Vec<_> = (0..before.len()).filter(|i| before[*i] != after[*i]).collect();
        assert!(moved.iter().all(|i| after[*i] == ConsumerId(3)));
        let share = usize::from(BUCKETS) / 4;
        assert!((share / 2..share * 2).contains(&moved.len()), "{} of {share}", moved.len());
    }

    #[test]
    fn names_are_spread_over_the_buckets() {
        let mut seen = vec![false; usize::from(BUCKETS)];
        for n in 0..10_000 {
            seen[Bucket::of(&format!("account-{n}")).index()] = true;
        }
        assert!(seen.into_iter().filter(|hit| *hit).count() > 1000);
    }
}
