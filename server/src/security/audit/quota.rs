//! How much is kept of what was refused: nobody fills the disk by asking for what he may not have,
//! and nobody drowns what others tried.
//!
//! ```text
//!   the first of a caller in a minute    kept, of so many callers
//!   its next ones                        kept: nine of it, and sixty of all callers together
//!   all else                             counted: how many, and of how many of these callers
//! ```
//!
//! INVARIANT: memory is bounded, by the callers of whom something is kept.

use std::collections::BTreeMap;
use std::time::Duration;

/// Refusals of one caller that are kept of one minute. Enough to see what it tries.
pub const KEPT_PER_CALLER_MAX: u32 = 10;
/// Refusals of all callers that are kept of one minute, beside the first of each: 86,400 a day, some
/// 30 MB.
pub const KEPT_MAX: u32 = 60;
/// The minute.
const WINDOW: Duration = Duration::from_secs(60);

/// How many refusals were kept in this minute, by callers.
#[derive(Debug)]
pub struct Quota<K> {
    callers_max: usize,
    /// When the minute began; none before the first refusal.
    began: Option<Duration>,
    further: u32,
    left_out: LeftOut,
    callers: BTreeMap<K, Own>,
}

/// Of one caller.
#[derive(Debug)]
struct Own {
    seen: u32,
    is_left_out: bool,
}

/// What becomes of a refusal.
#[derive(Debug, PartialEq, Eq)]
pub struct Kept {
    /// Whether it is recorded.
    pub keep: bool,
    /// What was left out of the minute that is over, if anything was.
    pub left_out_before: Option<LeftOut>,
}

/// What is not recorded of a minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many refusals.
    pub count: u64,
    /// Of how many callers of whom others are recorded.
    pub callers: u64,
}

impl<K: Ord> Quota<K> {
    /// That of so many callers a minute.
    pub fn new(callers_max: usize) -> Quota<K> {
        let left_out = LeftOut::default();
        Quota { callers_max, began: None, further: 0, left_out, callers: BTreeMap::new() }
    }

    /// What becomes of one more refusal of `caller`, of which `most` are kept.
    pub fn take(&mut self, caller: K, most: u32, now: Duration) -> Kept {
        let mut left_out_before = None;
        if self.began.is_none_or(|began| now.saturating_sub(began) >= WINDOW) {
            left_out_before = Some(self.left_out).filter(|left_out| left_out.count > 0);
            *self = Quota { began: Some(now), ..Quota::new(self.callers_max) };
        }
        let is_full = self.callers.len() >= self.callers_max;
        let keep = match self.callers.get_mut(&caller) {
            None if is_full => false,
            None => {
                self.callers.insert(caller, Own { seen: 1, is_left_out: false });
                true
            }
            Some(own) => {
                own.seen = own.seen.saturating_add(1);
                let keep = own.seen <= most && self.further < KEPT_MAX;
                self.further += u32::from(keep);
                self.left_out.callers += u64::from(!keep && !own.is_left_out);
                own.is_left_out |= !keep;
                keep
            }
        };
        self.left_out.count += u64::from(!keep);
        Kept { keep, left_out_before }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Duration = Duration::from_secs(1000);
    const CALLERS_MAX: usize = 500;

    #[test]
    fn noisy_callers_fill_nothing_and_drown_nobody() {
        let mut quota = Quota::new(CALLERS_MAX);
        let mut keeps = |caller: &str, now| quota.take(caller.to_owned(), 10, now).keep;
        let kept = (0..50).filter(|_| keeps("ada", AT)).count();
        assert_eq!(kept, KEPT_PER_CALLER_MAX as usize);
        // Nine callers are enough to spend what all have together.
        let others = (0..9 * 50).filter(|n| keeps(&format!("noisy {}", n % 9), AT)).count();
        assert_eq!(kept - 1 + others - 9, KEPT_MAX as usize);
        assert!(keeps("ops", AT), "the first of each is kept");
        assert!(!keeps("ops", AT), "and no more");
        let many = (0..10 * CALLERS_MAX).filter(|n| keeps(&format!("user {n}"), AT)).count();
        assert_eq!(many, CALLERS_MAX - 11, "of so many callers");
        assert_eq!(quota.callers.len(), CALLERS_MAX);
    }

    #[test]
    fn what_is_left_out_of_a_minute_is_told_in_the_next() {
        let mut quota = Quota::new(CALLERS_MAX);
        for _ in 0..15 {
            quota.take("ada", 10, AT);
            quota.take("bob", 1, AT);
        }
        let _ = quota.take("eve", 10, AT);
        let left_out_before = Some(LeftOut { count: 5 + 14, callers: 2 });
        let later = quota.take("eve", 10, AT + WINDOW);
        assert_eq!(later, Kept { keep: true, left_out_before });
        let much_later = quota.take("eve", 10, AT + 3 * WINDOW);
        assert_eq!(much_later, Kept { keep: true, left_out_before: None });
    }
}
