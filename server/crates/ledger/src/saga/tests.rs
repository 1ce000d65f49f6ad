//! What a saga does next, as tables over its records.

use super::*;

/// Two writes with a query between them, as a transfer has, and a write that is never undone.
static TRIP: Definition = Definition {
    name: "trip",
    timeout: Duration::from_secs(100),
    steps: &[
        Step { name: "hotel", timeout: TEN, retry: RETRY, effect: Effect::Write },
        Step { name: "weather", timeout: TEN, retry: RETRY, effect: Effect::Query },
        Step { name: "flight", timeout: TEN, retry: RETRY, effect: Effect::Write },
        Step { name: "diary", timeout: TEN, retry: RETRY, effect: Effect::Write },
    ],
};
const TEN: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
const RETRY: Retry = Retry { attempts_max: 3, first: SECOND, longest: Duration::from_secs(3) };

fn s(seconds: i64) -> Timestamp {
    Timestamp(seconds * 1_000_000_000)
}

fn started() -> Record {
    Record::Started { deadline: s(100) }
}

fn did(step: usize) -> Record {
    Record::StepCompleted { step, direction: Direction::Action }
}

fn undid(step: usize) -> Record {
    Record::StepCompleted { step, direction: Direction::Compensation }
}

fn again(step: usize, at: i64) -> Record {
    Record::StepFailed { step, direction: Direction::Action, retry_at: Some(s(at)) }
}

fn broke(step: usize) -> Record {
    Record::StepFailed { step, direction: Direction::Action, retry_at: None }
}

fn not_undone(step: usize, at: Option<i64>) -> Record {
    Record::StepFailed { step, direction: Direction::Compensation, retry_at: at.map(s) }
}

fn act(step: usize, attempt: u32, until: i64) -> Next {
    Next::Act { step, direction: Direction::Action, attempt, until: s(until) }
}

fn undo(step: usize, attempt: u32, until: i64) -> Next {
    Next::Act { step, direction: Direction::Compensation, attempt, until: s(until) }
}

/// Records, each with the second it was written in.
type Records = Vec<(i64, Record)>;

fn fold(records: &[(i64, Record)]) -> Progress {
    let mut progress = Progress::default();
    for (at, record) in records {
        progress.apply(*record, s(*at));
    }
    progress
}

#[test]
fn what_is_next_follows_from_the_records_and_the_time() {
    let expired = |step, attempt, is_final| Next::Expired { step, attempt, is_final };
    let wait = |until| Next::Wait { until: s(until) };
    let cases: Vec<(&str, Records, i64, Next)> = vec![
        ("never started", vec![], 5, Next::Finished),
        ("the first step", vec![(0, started())], 0, act(0, 1, 10)),
        ("an attempt is timed from the record before", vec![(0, started())], 9, act(0, 1, 10)),
        ("and fails when it took too long", vec![(0, started())], 10, expired(0, 1, false)),
        ("the second", vec![(0, started()), (3, did(0))], 4, act(1, 1, 13)),
        (
            "no attempt outlasts the deadline",
            vec![(0, started()), (95, did(0))],
            96,
            act(1, 1, 100),
        ),
        ("just in time", vec![(0, started()), (95, did(0))], 99, act(1, 1, 100)),
        ("time is up", vec![(0, started()), (95, did(0))], 100, expired(1, 1, true)),
        ("a pause", vec![(0, started()), (3, again(0, 7))], 6, wait(7)),
        ("its end", vec![(0, started()), (3, again(0, 7))], 7, act(0, 2, 17)),
        (
            "time is up during a pause",
            vec![(0, started()), (3, again(0, 7))],
            100,
            expired(0, 2, true),
        ),
        ("no pause outlasts the deadline", vec![(0, started()), (3, again(0, 700))], 6, wait(100)),
        (
            "a success forgets the failures before it",
            vec![(0, started()), (3, again(0, 7)), (8, did(0))],
            8,
            act(1, 1, 18),
        ),
        (
            "all done",
            vec![(0, started()), (1, did(0)), (1, did(1)), (1, did(2)), (1, did(3))],
            200,
            Next::Complete,
        ),
        ("nothing to undo", vec![(0, started()), (1, broke(0))], 200, Next::Reject),
        (
            "writes are undone in reverse, queries are not",
            vec![(0, started()), (1, did(0)), (1, did(1)), (1, did(2)), (2, broke(3))],
            50,
            undo(2, 1, 60),
        ),
        (
            "the one before",
            vec![
                (0, started()),
                (1, did(0)),
                (1, did(1)),
                (1, did(2)),
                (2, broke(3)),
                (3, undid(2)),
            ],
            50,
            undo(0, 1, 60),
        ),
        (
            "all undone",
            vec![(0, started()), (1, did(0)), (1, did(1)), (2, broke(2)), (3, undid(0))],
            50,
            Next::Reject,
        ),
        (
            "undoing has no deadline",
            vec![(0, started()), (1, did(0)), (2, broke(1))],
            900,
            undo(0, 1, 910),
        ),
        (
            "undoing pauses",
            vec![(0, started()), (1, did(0)), (2, broke(1)), (2, not_undone(0, Some(300)))],
            299,
            wait(300),
        ),
        (
            "and goes on",
            vec![(0, started()), (1, did(0)), (2, broke(1)), (2, not_undone(0, Some(300)))],
            300,
            undo(0, 2, 310),
        ),
        (
            "and fails",
            vec![(0, started()), (1, did(0)), (2, broke(1)), (2, not_undone(0, None))],
            300,
            Next::Fail,
        ),
    ];
    for (name, records, now, expected) in cases {
        assert_eq!(fold(&records).next(&TRIP, s(now)), expected, "{name}");
    }
}

#[test]
fn a_closing_record_ends_it_and_a_failed_one_can_be_resumed() {
    let mut records = vec![(0, started()), (1, did(0)), (2, broke(1)), (2, not_undone(0, None))];
    records.push((2, Record::Failed));
    let failed = fold(&records);
    assert_eq!((failed.state, failed.next(&TRIP, s(3))), (State::Failed, Next::Finished));
    for (record, state, next) in [
        (Record::Resumed, State::Compensating, undo(0, 1, 15)),
        (Record::Abandoned, State::Abandoned, Next::Finished),
    ] {
        let mut progress = failed;
        progress.apply(record, s(5));
        assert_eq!((progress.state, progress.next(&TRIP, s(5))), (state, next));
    }
    for (record, state) in
        [(Record::Completed, State::Completed), (Record::Rejected, State::Compensated)]
    {
        let mut progress = fold(&[(0, started())]);
        progress.apply(record, s(5));
        assert_eq!((progress.state, progress.next(&TRIP, s(500))), (state, Next::Finished));
    }
}

#[test]
fn pauses_double_up_to_the_longest_and_the_last_failure_is_final() {
    let ms = |ms: i64| Some(Timestamp(ms * 1_000_000));
    let cases = [
        (0, 0.0, ms(500)),
        (0, 1.0, ms(1000)),
        (0, 7.0, ms(1000)),
        (1, 0.5, ms(1500)),
        (2, 0.0, None),
        (9, 0.0, None),
    ];
    for (failures, jitter, expected) in cases {
        let progress = Progress { failures, ..fold(&[(0, started())]) };
        assert_eq!(progress.retry_at(&TRIP, 0, s(0), jitter), expected, "{failures} {jitter}");
    }
    let patient = Retry { attempts_max: u32::MAX, ..RETRY };
    for failures in [3, 4, 40, u32::MAX] {
        assert_eq!(patient.pause(failures, 1.0), Duration::from_secs(3));
    }
}

#[test]
fn a_moment_too_far_away_is_the_last_one() {
    assert_eq!(after(Timestamp(5), Duration::from_nanos(7)), Timestamp(12));
    assert_eq!(after(Timestamp(5), Duration::MAX), Timestamp(i64::MAX));
}
