//! Alerts that are judged by the samples of the last minutes.

use std::time::Duration;

use super::Alert;
use super::Severity::{self, Critical, Warning};
use crate::ui::samples::{Ring, Took, quantile};

/// How long the disk is watched before it is said to fill: a burst is no trend.
const DISK_WATCHED_MIN: Duration = Duration::from_secs(10 * 60);
/// A disk that is full sooner than this is an alert.
const DISK_FULL_SOON: Duration = Duration::from_secs(4 * 3600);
/// Over how long times are judged; as long they were watched at least.
const TIMES_SPAN: Duration = Duration::from_secs(5 * 60);
/// The slowest hundredth may take so many milliseconds.
const SLOW_MS: f64 = 100.0;

/// One of them.
pub(super) struct Trend {
    pub(super) name: &'static str,
    pub(super) severity: Severity,
    fires: fn(&Ring) -> bool,
    summary: &'static str,
    todo: &'static str,
}

/// All of them.
pub(super) const TRENDS: [Trend; 3] = [
    Trend {
        name: "DaybookDiskFilling",
        severity: Critical,
        fires: |ring| {
            let is_trend = ring.span() >= DISK_WATCHED_MIN;
            is_trend && ring.disk_full_in().is_some_and(|left| left < DISK_FULL_SOON)
        },
        summary: "The disk is full in less than four hours, at the pace of the last minutes.",
        todo: "Make room, grow the volume, or find who writes so much.",
    },
    Trend {
        name: "DaybookSyncSlow",
        severity: Warning,
        fires: |ring| is_slow(ring, Took::Sync),
        summary: "One fdatasync in a hundred took more than 100 ms in the last five minutes.",
        todo: "Look for who else uses the drive, and at its health: every append waits for it.",
    },
    Trend {
        name: "DaybookWritesSlow",
        severity: Warning,
        fires: |ring| is_slow(ring, Took::Append),
        summary: "One write in a hundred took more than 100 ms in the last five minutes.",
        todo: "If fdatasync takes as long, it is the drive; else too much load, or too little processor.",
    },
];

fn is_slow(ring: &Ring, took: Took) -> bool {
    let span = ring.lately(TIMES_SPAN);
    span.and_then(|span| quantile(&span, took, 0.99)).is_some_and(|took_ms| took_ms > SLOW_MS)
}

/// Those that fire.
pub(super) fn firing(ring: &Ring) -> Vec<Alert> {
    let firing = TRENDS.iter().filter(|trend| (trend.fires)(ring));
    let alert = |trend: &Trend| Alert {
        name: trend.name,
        severity: trend.severity,
        about: String::new(),
        summary: trend.summary,
        todo: trend.todo,
        page: if trend.name == "DaybookDiskFilling" { "/ui/operations" } else { "/ui/" },
    };
    firing.map(alert).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::samples::Sample;

    // One sample each four seconds, for a while; `grow` makes each of its place.
    fn ring(seconds: u64, grow: impl Fn(u64, &mut Sample)) -> Ring {
        let mut ring = Ring::default();
        for second in (0..=seconds).step_by(4) {
            let mut sample = Sample::of(Duration::from_secs(second));
            grow(second, &mut sample);
            ring.push(sample);
        }
        ring
    }

    fn names(ring: &Ring) -> Vec<&'static str> {
        firing(ring).iter().map(|alert| alert.name).collect()
    }

    #[test]
    fn a_disk_that_fills_for_ten_minutes_is_told() {
        let of = |seconds, pace: u64| {
            ring(seconds, |second, sample| sample.disk_free = 100_000_000 - second * pace)
        };
        assert_eq!(names(&of(600, 10_000)), ["DaybookDiskFilling"]);
        assert!(names(&of(596, 10_000)).is_empty(), "a burst is no trend");
        assert!(names(&of(600, 5_000)).is_empty(), "more than four hours are left");
    }

    #[test]
    fn slow_writes_are_told_after_five_minutes_and_only_while_they_are() {
        let bucket = |took_ms: usize, sample: &mut Sample, second| {
            sample.sync_took[took_ms] = second;
            sample.append_took[took_ms] = second;
        };
        const LAST: usize = daybook_store::observe::BUCKETS_LEN - 1;
        let slow = |seconds| ring(seconds, |second, sample| bucket(LAST, sample, second));
        assert_eq!(names(&slow(300)), ["DaybookSyncSlow", "DaybookWritesSlow"]);
        assert!(names(&slow(296)).is_empty(), "too short");
        let fast = ring(300, |second, sample| bucket(0, sample, second));
        assert!(names(&fast).is_empty());
        let was = ring(800, |second, sample| bucket(LAST, sample, second.min(400)));
        assert!(names(&was).is_empty(), "it is over");
    }
}
