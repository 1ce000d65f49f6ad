//! The calls a breaker looks back at, as three sums that are kept up to date.
//!
//! ```text
//!   Calls(n)            a ring of the last n outcomes, a byte each
//!   Time{length,parts}  a ring of sums; part k holds the calls with  now / (length / parts) == k
//!
//!      part:   … │ 41 │ 42 │ 43 │ 44 │        at 44 with 4 parts: 41 to 44 count
//!                  └── at the first call of 45, 41 goes as a whole
//! ```
//!
//! INVARIANTS: no clock, time is an argument and never goes backwards; memory is fixed when it is
//! made; `sums` is what is in the ring.

use std::time::Duration;

use super::settings::Window;

/// Sums over some calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Calls.
    pub calls: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Those of them that were slow, failed or not.
    pub slow: u64,
}

impl Sums {
    fn add(&mut self, other: Sums) {
        self.calls += other.calls;
        self.failures += other.failures;
        self.slow += other.slow;
    }

    fn take_off(&mut self, other: Sums) {
        self.calls -= other.calls;
        self.failures -= other.failures;
        self.slow -= other.slow;
    }

    /// Whether `part` of its calls is `percent` of them or more.
    pub(super) fn reaches(self, part: u64, percent: u32) -> bool {
        part * 100 >= u64::from(percent) * self.calls
    }
}

/// One call, as the window remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

impl Call {
    fn sums(self) -> Sums {
        Sums { calls: 1, failures: u64::from(self.failed), slow: u64::from(self.slow) }
    }
}

/// The ring.
#[derive(Clone, Debug)]
pub(super) struct Looking {
    ring: Ring,
    sums: Sums,
}

#[derive(Clone, Debug)]
enum Ring {
    /// `next` is where the next call goes; over the oldest, once the ring is full.
    Calls { calls: Vec<Call>, next: usize, size: usize },
    /// `newest` is the number of the part that time is in.
    Time { parts: Vec<Sums>, newest: u64, part_ns: u64 },
}

impl Looking {
    pub(super) fn new(window: Window) -> Looking {
        let ring = match window {
            Window::Calls(size) => {
                let size = size as usize;
                Ring::Calls { calls: Vec::with_capacity(size), next: 0, size }
            }
            Window::Time { length, parts } => Ring::Time {
                parts: vec![Sums::default(); parts as usize],
                newest: 0,
                part_ns: nanoseconds(length / parts),
            },
        };
        Looking { ring, sums: Sums::default() }
    }

    /// Takes a call that ended at `now`.
    pub(super) fn add(&mut self, now: Duration, call: Call) {
        self.move_to(now);
        let added = call.sums();
        match &mut self.ring {
            Ring::Calls { calls, next, size } => {
                if calls.len() < *size {
                    calls.push(call);
                } else {
                    self.sums.take_off(calls[*next].sums());
                    calls[*next] = call;
                }
                *next = (*next + 1) % *size;
            }
            Ring::Time { parts, newest, .. } => {
                let place = place(*newest, parts.len());
                parts[place].add(added);
            }
        }
        self.sums.add(added);
    }

    /// What it holds at `now`.
    pub(super) fn sums(&mut self, now: Duration) -> Sums {
        self.move_to(now);
        self.sums
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.sums = Sums::default();
        match &mut self.ring {
            Ring::Calls { calls, next, .. } => {
                calls.clear();
                *next = 0;
            }
            Ring::Time { parts, .. } => parts.fill(Sums::default()),
        }
    }

    fn move_to(&mut self, now: Duration) {
        let Ring::Time { parts, newest, part_ns } = &mut self.ring else { return };
        let number = nanoseconds(now) / *part_ns;
        let passed = number.saturating_sub(*newest).min(parts.len() as u64);
        for step in 1..=passed {
            let place = place(number - passed + step, parts.len());
            self.sums.take_off(parts[place]);
            parts[place] = Sums::default();
        }
        *newest = number.max(*newest);
    }
}

/// Where part `number` is in a ring of `parts`.
fn place(number: u64, parts: usize) -> usize {
    usize::try_from(number % parts as u64).expect("a remainder is less than its divisor")
}

/// 584 years are enough for a process.
fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_calls_holds_the_last_ones() {
        let mut window = Looking::new(Window::Calls(3));
        let mut found = Vec::new();
        for failed in [true, true, false, false, true, false, false, false] {
            window.add(Duration::ZERO, Call { failed, slow: !failed });
            let Sums { calls, failures, slow } = window.sums(Duration::ZERO);
            found.push((calls, failures, slow));
        }
        let expected = [
            (1, 1, 0),
            (2, 2, 0),
            (3, 2, 1),
            (3, 1, 2),
            (3, 1, 2),
            (3, 1, 2),
            (3, 1, 2),
            (3, 0, 3),
        ];
        assert_eq!(found, expected);
        window.clear();
        assert_eq!(window.sums(Duration::ZERO), Sums::default());
    }

    #[test]
    fn a_window_of_time_lets_go_of_whole_parts() {
        let mut window = Looking::new(Window::Time { length: Duration::from_millis(40), parts: 4 });
        let call = Call { failed: true, slow: false };
        for (ms, add, expected) in [
            (5, true, 1),
            (9, true, 2),
            (10, true, 3),
            (39, true, 4),
            (39, false, 4),
            (40, false, 2), // the part 0..10 goes
            (49, true, 3),
            (50, false, 2), // the part 10..20 goes
            (79, false, 1),
            (80, false, 0),
            (81, true, 1),
            (1_000_000, false, 0), // far away: the ring is walked once, not 100,000 times
            (1_000_000, true, 1),
            (999_000, true, 2), // time stands still rather than going backwards
        ] {
            let now = Duration::from_millis(ms);
            if add {
                window.add(now, call);
            }
            assert_eq!(window.sums(now).failures, expected, "at {ms} ms");
            assert_eq!(window.sums(now).calls, expected, "at {ms} ms");
        }
    }
}
