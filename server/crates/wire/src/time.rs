//! Times: the 100 ns ticks of `created`, timestamps, deadlines.

use std::time::Duration;

use daybook_model::Timestamp;

/// Nanoseconds of one tick.
const TICK_NS: i64 = 100;
/// Nanoseconds of one second.
const SECOND_NS: i64 = 1_000_000_000;

/// 100 ns ticks since 1970: what `created` counts.
#[must_use]
pub fn ticks(time: Timestamp) -> i64 {
    time.0 / TICK_NS
}

/// The time of so many ticks; the last that can be written if there are more.
#[must_use]
pub fn from_ticks(ticks: i64) -> Timestamp {
    Timestamp(ticks.saturating_mul(TICK_NS))
}

/// `time` as the protocol's timestamp.
#[must_use]
pub fn to_proto(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.0.div_euclid(SECOND_NS),
        nanos: i32::try_from(time.0.rem_euclid(SECOND_NS)).unwrap_or(0),
    }
}

/// The time a timestamp means, cut to what [`Timestamp`] can hold.
#[must_use]
pub fn from_proto(time: &prost_types::Timestamp) -> Timestamp {
    let nanos = i64::from(time.nanos);
    Timestamp(time.seconds.saturating_mul(SECOND_NS).saturating_add(nanos))
}

/// How long a deadline of `duration` leaves; none if it has passed. Clients send enormous ones for
/// "no deadline", which are cut and never overflow.
#[must_use]
pub fn remaining(duration: &prost_types::Duration) -> Option<Duration> {
    let nanos = i128::from(duration.seconds) * i128::from(SECOND_NS) + i128::from(duration.nanos);
    (nanos > 0).then(|| Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive_the_round_trip() {
        for nanos in [0, 1, 1_700_000_000_123_456_700, -1, i64::MAX] {
            assert_eq!(from_proto(&to_proto(Timestamp(nanos))), Timestamp(nanos), "{nanos}");
        }
        assert_eq!(ticks(Timestamp(1_700_000_000_123_456_789)), 17_000_000_001_234_567);
        assert_eq!(from_ticks(17), Timestamp(1700));
    }

    #[test]
    fn a_deadline_of_nothing_has_passed_and_an_enormous_one_is_cut() {
        let duration = |seconds, nanos| prost_types::Duration { seconds, nanos };
        assert_eq!(remaining(&duration(0, 0)), None);
        assert_eq!(remaining(&duration(-1, 0)), None);
        assert_eq!(remaining(&duration(0, 1)), Some(Duration::from_nanos(1)));
        assert_eq!(remaining(&duration(10, 0)), Some(Duration::from_secs(10)));
        assert!(remaining(&duration(315_576_000_000, 0)).is_some());
        assert!(remaining(&duration(i64::MAX, i32::MAX)).is_some());
    }
}
