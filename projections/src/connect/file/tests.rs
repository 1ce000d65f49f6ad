#![expect(clippy::disallowed_methods, reason = "the tests look at the file from outside")]

use bytes::Bytes;
use daybook_model::{Context, Position, Revision, StreamName, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn message(number: u64, size: usize) -> Message {
    let body = format!(r#"{{"id":{number},"x":"{}"}}"#, "x".repeat(size));
    Message {
        id: Uuid::from_u128(u128::from(number)),
        stream: StreamName::new("order-1").expect("a name"),
        revision: Revision(number),
        position: Position(number),
        event_type: "Placed".to_owned(),
        time: Timestamp(0),
        context: Context::default(),
        body: Bytes::from(body),
        content_type: ContentType::Json,
    }
}

fn sink(path: &Path, size_max: u64) -> FileSink {
    FileSink::new(FileSettings { path: path.to_owned(), size_max })
}

/// The ids of the lines of a file, each of which must be whole.
fn ids(path: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(path).expect("a file");
    assert!(text.is_empty() || text.ends_with('\n'), "a torn line: {text:?}");
    let id = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).expect("a whole line");
        value["id"].as_u64().expect("an id")
    };
    text.lines().map(id).collect()
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Deliveries of `sizes`, with a crash in some of them that leaves any part of what was being
    /// written; after it the place is that of the delivery before.
    #[test]
    fn a_crash_loses_nothing_tears_nothing_and_repeats_only_what_was_under_way(
        deliveries in prop::collection::vec((1_u64..6, 0_usize..40, prop::option::of(0.0..=1.0)), 1..12)
    ) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("orders.jsonl");
        let (mut next, mut expected) = (0, Vec::new());
        let mut sink = sink(&path, u64::MAX);
        for (count, size, crash) in deliveries {
            let messages: Vec<_> = (next..next + count).map(|n| message(n, size)).collect();
            let before = std::fs::metadata(&path).map_or(0, |file| file.len());
            let outcomes = block_on(sink.deliver(&messages)).expect("a disk");
            prop_assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Confirmed));
            if let Some(part) = crash {
                let after = std::fs::metadata(&path).expect("a file").len();
                let kept = before + ((after - before) as f64 * part) as u64;
                drop(sink);
                let file = std::fs::OpenOptions::new().write(true).open(&path).expect("a file");
                file.set_len(kept).expect("cut");
                // What is left of it, whole lines only, is repeated by the next attempt.
                let text = std::fs::read_to_string(&path).expect("text");
                let whole = text[before as usize..].matches('\n').count() as u64;
                expected.extend(next..next + whole);
                sink = self::sink(&path, u64::MAX);
                let outcomes = block_on(sink.deliver(&messages)).expect("a disk");
                prop_assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Confirmed));
            }
            expected.extend(next..next + count);
            next += count;
        }
        prop_assert_eq!(ids(&path), expected);
    }
}

#[tokio::test]
async fn a_full_file_is_set_aside_and_never_deleted() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("orders.jsonl");
    let mut sink = sink(&path, 100);
    for number in 0..7 {
        sink.deliver(&[message(number, 20)]).await.expect("a disk");
    }
    let full = |number| directory.path().join(format!("orders.jsonl.{number:06}"));
    assert_eq!(ids(&full(1)), [0, 1]);
    assert_eq!(ids(&full(2)), [2, 3]);
    assert_eq!(ids(&full(3)), [4, 5]);
    assert_eq!(ids(&path), [6]);
}

#[tokio::test]
async fn what_is_no_json_is_refused_and_the_rest_is_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("orders.jsonl");
    let binary = Message { content_type: ContentType::Binary, ..message(1, 0) };
    let outcomes = sink(&path, 1000).deliver(&[message(0, 0), binary, message(2, 0)]).await;
    let outcomes = outcomes.expect("a disk");
    assert!(matches!(outcomes[1], Outcome::Refused { .. }), "{outcomes:?}");
    assert_eq!((&outcomes[0], &outcomes[2]), (&Outcome::Confirmed, &Outcome::Confirmed));
    assert_eq!(ids(&path), [0, 2]);
}

#[tokio::test]
async fn two_processes_do_not_write_one_file_and_a_missing_directory_is_waited_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("later/orders.jsonl");
    let mut one = sink(&path, 1000);
    let outcomes = one.deliver(&[message(0, 0)]).await.expect("it may be made");
    assert!(matches!(outcomes[0], Outcome::Failed { .. }), "{outcomes:?}");
    std::fs::create_dir_all(directory.path().join("later")).expect("a directory");
    one.deliver(&[message(0, 0)]).await.expect("a disk");
    let outcomes = sink(&path, 1000).deliver(&[message(1, 0)]).await.expect("it may end");
    let Outcome::Failed { reason, .. } = &outcomes[0] else { panic!("{outcomes:?}") };
    assert!(reason.contains("another process writes it"), "{reason}");
}
