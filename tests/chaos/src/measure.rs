//! What users saw and when; from that, figures of any stretch of time, and when all was well again.
//!
//! ```text
//!   users ──> Notes: done, failed, ready?, delivered      every one, with its time
//!               │
//!               ├─ sample(from, length)   rate, p50, p99, errors by kind, readiness
//!               ├─ Steady::of             what is normal here: medians of the steady seconds
//!               └─ recovery(…)            the first second that is near enough to it
//! ```
//!
//! INVARIANT: all but [`Recorder`] is pure.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use daybook_model::{Clock as _, SystemClock};

/// Notes of one experiment at most, some 300 MB: hours of it.
const NOTES_MAX: usize = 10_000_000;
/// A second that is looked for begins at a multiple of this after the fault.
const STEP: Duration = Duration::from_millis(250);
/// The length of a sample.
pub const SECOND: Duration = Duration::from_secs(1);

/// What a user does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An append, over gRPC.
    Append,
    /// A transfer, over HTTP, to its final state.
    Transfer,
}

/// Something that was done.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// When, on the recorder's clock.
    pub at: Duration,
    /// Since it was first tried, whatever came between.
    pub took: Duration,
    /// What.
    pub kind: Kind,
}

/// All that was seen, in order of time.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// What was done.
    pub done: Vec<Done>,
    /// Attempts that failed, and why.
    pub failed: Vec<(Duration, &'static str)>,
    /// Whether the server said that it is ready.
    pub ready: Vec<(Duration, bool)>,
    /// Events that came to subscribers.
    pub delivered: Vec<Duration>,
}

/// Where everybody notes what is seen.
#[derive(Debug)]
pub struct Recorder {
    clock: SystemClock,
    notes: Mutex<Notes>,
}

impl Recorder {
    /// One whose time begins now.
    #[must_use]
    pub fn new() -> Recorder {
        Recorder { clock: SystemClock::new(), notes: Mutex::default() }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// Something that was begun at `begun` is done.
    pub fn done(&self, kind: Kind, begun: Duration) {
        self.note(|notes, at| {
            if notes.done.len() < NOTES_MAX {
                notes.done.push(Done { at, took: at.saturating_sub(begun), kind });
            }
        });
    }

    /// An attempt failed.
    pub fn failed(&self, why: &'static str) {
        self.note(|notes, at| {
            if notes.failed.len() < NOTES_MAX {
                notes.failed.push((at, why));
            }
        });
    }

    /// The server was asked whether it is ready.
    pub fn ready(&self, ready: bool) {
        self.note(|notes, at| notes.ready.push((at, ready)));
    }

    /// A subscriber was given an event.
    pub fn delivered(&self) {
        self.note(|notes, at| {
            if notes.delivered.len() < NOTES_MAX {
                notes.delivered.push(at);
            }
        });
    }

    /// All of it so far.
    #[must_use]
    pub fn notes(&self) -> Notes {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The time is taken under the lock, so that notes are in its order.
    fn note(&self, add: impl FnOnce(&mut Notes, Duration)) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        add(&mut notes, now);
    }
}

/// A stretch of time in figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// When it began.
    pub from: Duration,
    /// Appends and transfers that were done.
    pub appends: u64,
    /// Of them transfers.
    pub transfers: u64,
    /// Appends and transfers a second.
    pub rate: f64,
    /// Half of them took at most so many ms; none without any.
    pub p50_ms: Option<f64>,
    /// 99 % of them took at most so many ms.
    pub p99_ms: Option<f64>,
    /// Attempts that failed, by kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// Whether the server was ready whenever it was asked; none if it was not asked.
    pub ready: Option<bool>,
    /// Events that came to subscribers.
    pub delivered: u64,
}

impl Sample {
    /// Attempts that failed.
    #[must_use]
    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }
}

fn within<T>(items: &[T], at: impl Fn(&T) -> Duration, from: Duration, to: Duration) -> &[T] {
    let begin = items.partition_point(|item| at(item) < from);
    let end = items.partition_point(|item| at(item) < to);
    &items[begin..end.max(begin)]
}

/// The smallest of `sorted` that `share` of them do not exceed.
fn quantile(sorted: &[Duration], share: f64) -> Option<f64> {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map(|took| took.as_secs_f64() * 1e3)
}

impl Notes {
    /// What happened in `length` from `from` on.
    #[must_use]
    pub fn sample(&self, from: Duration, length: Duration) -> Sample {
        let to = from + length;
        let done = within(&self.done, |done| done.at, from, to);
        let mut took: Vec<Duration> = done.iter().map(|done| done.took).collect();
        took.sort_unstable();
        let transfers = done.iter().filter(|done| done.kind == Kind::Transfer).count() as u64;
        let mut errors = BTreeMap::new();
        for (_, why) in within(&self.failed, |failed| failed.0, from, to) {
            *errors.entry(*why).or_default() += 1;
        }
        let asked = within(&self.ready, |ready| ready.0, from, to);
        Sample {
            from,
            appends: done.len() as u64 - transfers,
            transfers,
            rate: done.len() as f64 / length.as_secs_f64(),
            p50_ms: quantile(&took, 0.5),
            p99_ms: quantile(&took, 0.99),
            errors,
            ready: (!asked.is_empty()).then(|| asked.iter().all(|(_, ready)| *ready)),
            delivered: within(&self.delivered, |at| *at, from, to).len() as u64,
        }
    }

    /// Second by second, whole ones only: a cut one has figures of chance.
    #[must_use]
    pub fn series(&self, from: Duration, to: Duration) -> Vec<Sample> {
        let mut series = Vec::new();
        let mut begin = from;
        while begin + SECOND <= to {
            series.push(self.sample(begin, SECOND));
            begin += SECOND;
        }
        series
    }

    /// When the first thing was done that was done after `from`.
    #[must_use]
    pub fn first_done_after(&self, from: Duration) -> Option<Duration> {
        self.done.get(self.done.partition_point(|done| done.at < from)).map(|done| done.at)
    }
}

/// What is normal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steady {
    /// Appends and transfers a second.
    pub rate: f64,
    /// Their 99th percentile in ms.
    pub p99_ms: f64,
}

/// How near to normal is near enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nearness {
    /// The rate is at least this part of the steady one.
    pub rate_share: f64,
    /// The 99th percentile is at most so many times the steady one …
    pub p99_factor: f64,
    /// … or at most so many ms, however short the steady one is.
    pub p99_floor_ms: f64,
}

/// What a user would call "as before".
pub const NEAR: Nearness = Nearness { rate_share: 0.5, p99_factor: 3.0, p99_floor_ms: 150.0 };

impl Steady {
    /// The medians of the seconds of a steady phase; none if nothing was done.
    #[must_use]
    pub fn of(series: &[Sample]) -> Option<Steady> {
        let median = |mut values: Vec<f64>| {
            values.sort_unstable_by(f64::total_cmp);
            values.get(values.len() / 2).copied()
        };
        let rate = median(series.iter().map(|sample| sample.rate).collect())?;
        let p99_ms = median(series.iter().filter_map(|sample| sample.p99_ms).collect())?;
        (rate > 0.0).then_some(Steady { rate, p99_ms })
    }

    /// The 99th percentile that is still near enough.
    #[must_use]
    pub fn p99_limit_ms(&self, near: Nearness) -> f64 {
        (self.p99_ms * near.p99_factor).max(near.p99_floor_ms)
    }

    /// Whether a sample is near enough, and the server ready in it.
    #[must_use]
    pub fn is_met_by(&self, sample: &Sample, near: Nearness) -> bool {
        sample.ready != Some(false)
            && sample.rate >= self.rate * near.rate_share
            && sample.p99_ms.is_some_and(|p99_ms| p99_ms <= self.p99_limit_ms(near))
    }
}

/// How long after `from` the first second begins that is near enough to `steady`, and is over at
/// `now`.
#[must_use]
pub fn recovery(notes: &Notes, from: Duration, now: Duration, steady: Steady) -> Option<Duration> {
    let mut begin = from;
    while begin + SECOND <= now {
        if steady.is_met_by(&notes.sample(begin, SECOND), NEAR) {
            return Some(begin - from);
        }
        begin += STEP;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// An answer each 10 ms that takes what `took` says of its time, or none.
    fn notes(until: u64, took: impl Fn(u64) -> Option<u64>) -> Notes {
        let mut notes = Notes::default();
        for at in (0..until).step_by(10) {
            match took(at) {
                Some(took) => {
                    notes.done.push(Done { at: ms(at), took: ms(took), kind: Kind::Append });
                }
                None => notes.failed.push((ms(at), "timeout")),
            }
        }
        notes
    }

    #[test]
    fn a_second_is_counted_in_figures() {
        let mut notes = notes(3_000, |at| (at < 2_000).then_some(1 + at % 100));
        notes.done[3].kind = Kind::Transfer;
        notes.ready = vec![(ms(100), true), (ms(1_100), true), (ms(1_200), false)];
        notes.delivered = vec![ms(10), ms(1_999), ms(2_000)];
        let series = notes.series(ms(0), ms(3_500));
        assert_eq!(series.len(), 3, "the last half is none");
        let first = &series[0];
        assert_eq!((first.appends, first.transfers, first.delivered), (99, 1, 1));
        assert_eq!((first.p50_ms, first.p99_ms, first.ready), (Some(41.0), Some(91.0), Some(true)));
        assert_eq!((series[1].ready, series[2].ready), (Some(false), None));
        assert_eq!((series[2].rate, series[2].p99_ms), (0.0, None));
        assert_eq!(series[2].errors, BTreeMap::from([("timeout", 100)]));
    }

    #[test]
    fn recovery_is_the_first_second_near_enough_to_normal() {
        let steady = Steady { rate: 100.0, p99_ms: 60.0 };
        type Took = fn(u64) -> Option<u64>;
        let cases: [(&str, Took, Option<u64>); 6] = [
            ("at once", |_| Some(5), Some(0)),
            ("half of the rate will do", |at| (at % 20 == 0).then_some(5), Some(0)),
            ("nothing for 2.2 s", |at| (at >= 2_200).then_some(5), Some(1_750)),
            ("slow for 3 s", |at| Some(if at < 3_000 { 400 } else { 180 }), Some(3_000)),
            ("never", |_| None, None),
            (
                "one slow in a hundred will do",
                |at| Some(if at % 1_000 == 0 { 999 } else { 5 }),
                Some(0),
            ),
        ];
        for (name, took, expected) in cases {
            let found = recovery(&notes(6_000, took), ms(0), ms(6_000), steady);
            assert_eq!(found, expected.map(ms), "{name}");
        }
        let mut unready = notes(6_000, |_| Some(5));
        unready.ready = (0..30).map(|nth| (ms(nth * 100), nth >= 10)).collect();
        assert_eq!(recovery(&unready, ms(0), ms(6_000), steady), Some(ms(1_000)), "not ready");
        let early = notes(6_000, |_| Some(5));
        assert_eq!(recovery(&early, ms(5_500), ms(6_000), steady), None, "no whole second yet");
    }

    #[test]
    fn the_first_answer_after_a_moment_is_found() {
        let notes = notes(2_000, |at| (!(500..=1_200).contains(&at)).then_some(5));
        assert_eq!(notes.first_done_after(ms(505)), Some(ms(1_210)));
        assert_eq!(notes.first_done_after(ms(1_995)), None);
    }

    #[test]
    fn what_is_normal_is_not_moved_by_one_bad_second() {
        let notes = notes(5_000, |at| (at >= 1_000).then_some(if at < 2_000 { 900 } else { 5 }));
        let steady = Steady::of(&notes.series(ms(0), ms(5_000))).expect("something was done");
        assert_eq!(steady, Steady { rate: 100.0, p99_ms: 5.0 });
        assert_eq!(Steady::of(&[]), None);
    }
}
