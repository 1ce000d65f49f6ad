//! A store of each format version, made once by the version that wrote it and kept for ever.
//!
//! `fixtures/format-<n>/` has index tables of version 1, `fixtures/format-<n>-index-<m>/` of a later
//! one. Each was written by `cargo run -p daybook-tests --example make-fixture`, which says what is
//! in it. It is never made anew: a version that cannot read it is broken.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use daybook_client::ContentType;
use daybook_model::{EventStore, ExpectedRevision, Revision};
use daybook_store::{AllFrom, Append, Direction, From, IndexKey, ReadAll, ReadStream, StreamState};
use tempfile::TempDir;

use crate::support::daemon::verify;
use crate::support::directory::{MARK_SIZE, bytes, copy, read_log, segments};
use crate::support::events::{event, name};
use crate::support::node::Server;
use contents::{EVENTS, PURSE, SIZES, TRANSACTIONS};

#[path = "fixtures/contents.rs"]
mod contents;

/// One fixture.
struct Fixture {
    name: &'static str,
    /// How many positions it has.
    committed: u64,
    /// Whether its index is of the format that this version writes.
    believed: bool,
    /// How many transactions it has.
    transactions: u64,
}

const FIXTURES: [Fixture; 3] = [
    Fixture { name: "format-1", committed: contents::COMMITTED, believed: false, transactions: 0 },
    Fixture {
        name: "format-1-index-2",
        committed: contents::COMMITTED_2,
        believed: false,
        transactions: TRANSACTIONS,
    },
    Fixture {
        name: "format-1-index-3",
        committed: contents::COMMITTED_2,
        believed: true,
        transactions: TRANSACTIONS,
    },
];

impl Fixture {
    fn path(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("it/fixtures").join(self.name)
    }

    fn copied(&self) -> TempDir {
        let data = TempDir::new().expect("a directory");
        copy(&self.path(), data.path());
        data
    }
}

/// The store of `format-1-index-3/` with a limit, scavenged: its sealed segments are of generation 1.
const REWRITTEN: Fixture = Fixture {
    name: "format-2-index-3",
    committed: contents::COMMITTED_2 + 1,
    believed: true,
    transactions: TRANSACTIONS,
};

/// What is not there any more: all but the last of the limited stream, the events of the deleted
/// streams, and the metadata of the one that ended.
fn removed() -> Vec<u64> {
    let limited = (1..=EVENTS).filter(|p| contents::stream(*p).as_str() == contents::LIMITED);
    let mut removed: Vec<u64> = limited.collect();
    removed.truncate(removed.len() - contents::LIMIT as usize);
    removed.extend([EVENTS + 1, EVENTS + 3, EVENTS + 5]);
    removed
}

#[tokio::test(flavor = "multi_thread")]
async fn rewritten_segments_are_read_with_their_holes() {
    let data = REWRITTEN.copied();
    let names = segments(data.path());
    assert!(names.iter().filter(|name| name.ends_with("-1.log")).count() >= 2, "{names:?}");
    for rebuilt in [false, true] {
        if rebuilt {
            for name in crate::support::directory::names(data.path()) {
                if is_index(&name) {
                    std::fs::remove_file(data.path().join(name)).expect("a file");
                }
            }
        }
        let server = Server::try_start(data.path(), SIZES).await.expect("a server");
        assert_eq!(server.store().stats().index_rebuilt > 0, rebuilt);
        let mut there = 0;
        let mut reader = server.store().read_all(ReadAll {
            from: AllFrom::Start,
            direction: Direction::Forwards,
            count: u64::MAX,
            filter: None,
        });
        while let Some(page) = reader.next().await.expect("a page") {
            for found in page.events() {
                let position = found.position.0;
                assert!(!removed().contains(&position), "{position}");
                there += 1;
                if (1..=EVENTS).contains(&position) {
                    assert_eq!(found.revision, contents::revision(position));
                    assert_eq!(found.data, &contents::event(position).data[..]);
                }
            }
        }
        // It would hold the store open.
        drop(reader);
        assert_eq!(there + removed().len() as u64, REWRITTEN.committed);
        let limited = server.store().stream_info(&name(contents::LIMITED)).await;
        assert_eq!(limited.expect("known").head, Some(Revision(14)));
        // What was removed is known when it comes again.
        let first = contents::event(1);
        let retry = Append::to_stream(contents::stream(1), ExpectedRevision::NoStream, [first]);
        let retried = server.store().append(retry).await.expect("a duplicate");
        assert_eq!(retried.position.map(|position| position.0), Some(1));
        server.stop().await;
        let report = verify(data.path());
        assert_eq!(report["events"], REWRITTEN.committed);
        assert_eq!(report["removedEvents"], removed().len());
    }
}

fn is_index(name: &str) -> bool {
    [".idx", ".ids", ".dir"].iter().any(|suffix| name.ends_with(suffix))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_read_exactly_and_an_index_of_this_format_is_believed() {
    for fixture in FIXTURES {
        assert!(segments(&fixture.path()).len() >= 3, "several segments, sealed and active");
        let data = fixture.copied();
        let before = bytes(data.path());
        let server = Server::try_start(data.path(), SIZES).await.expect("a server");
        let recovery = server.store().recovery().clone();
        assert!(!recovery.created && recovery.torn.is_none() && recovery.foreign_files.is_empty());
        assert!(recovery.rewritten_bytes <= MARK_SIZE, "all is proven");
        assert_eq!(server.store().stats().index_rebuilt == 0, fixture.believed);
        assert_eq!(server.store().about().store_id.to_string(), contents::STORE_ID);
        check_events(server.store(), fixture.committed).await;
        check_index_files(&before, &bytes(data.path()), fixture.believed);
        server.stop().await;
        assert_eq!(verify(data.path())["events"], fixture.committed);
    }
}

async fn check_events(store: &daybook_store::Store, committed: u64) {
    let mut reader = store.read_all(ReadAll {
        from: AllFrom::Start,
        direction: Direction::Forwards,
        count: u64::MAX,
        filter: None,
    });
    let mut position = 0;
    while let Some(page) = reader.next().await.expect("a page") {
        for found in page.events() {
            if position > 0 && position <= EVENTS {
                let expected = contents::event(position);
                assert_eq!(found.position.0, position);
                assert_eq!(found.stream, contents::stream(position).as_str());
                assert_eq!(found.revision, contents::revision(position));
                assert_eq!(found.time, contents::time(position));
                assert_eq!(found.id, expected.id);
                assert_eq!(found.event_type, expected.event_type);
                assert_eq!(found.content_type, expected.content_type);
                assert_eq!(found.metadata, &expected.metadata[..]);
                assert_eq!(found.data, &expected.data[..]);
            } else if found.stream == PURSE {
                let expected = contents::transaction(found.revision.0);
                assert_eq!(found.id, expected.id);
                assert_eq!(found.metadata, &expected.metadata[..]);
                assert_eq!(found.data, &expected.data[..]);
            }
            position += 1;
        }
    }
    assert_eq!(position, committed);
}

/// Tables of this format are left as they are; those of an older one are written anew. What else is
/// beside the segments is left too.
fn check_index_files(
    before: &BTreeMap<String, Vec<u8>>,
    after: &BTreeMap<String, Vec<u8>>,
    believed: bool,
) {
    for (name, file) in after.iter().filter(|(name, _)| is_index(name)) {
        let kept = believed || name.ends_with(".ids");
        assert_eq!(before.get(name) == Some(file), kept, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_answers_by_its_index() {
    for fixture in FIXTURES {
        let data = fixture.copied();
        let server = Server::try_start(data.path(), SIZES).await.expect("a server");
        check_answers(server.store(), fixture.transactions).await;
        server.stop().await;
    }
}

async fn check_answers(store: &daybook_store::Store, transactions: u64) {
    for stream in ["account-0", "account-1", "account-2", "transfer-3"] {
        let expected: Vec<u64> =
            (1..=EVENTS).filter(|p| contents::stream(*p).as_str() == stream).collect();
        let (from, direction) = (From::Start, Direction::Forwards);
        let query = ReadStream { stream: name(stream), from, direction, count: u64::MAX };
        let mut reader = store.read_stream(query).await.expect("a stream");
        let mut found = Vec::new();
        while let Some(page) = reader.next().await.expect("a page") {
            found.extend(page.events().map(|event| event.position.0));
        }
        assert_eq!(found, expected, "{stream}");
    }
    let types = IndexKey::EventType("Opened".to_owned());
    let category = IndexKey::Category("transfer".to_owned());
    let transfers = (1..=EVENTS).filter(|p| contents::stream(*p).as_str() == "transfer-3").count();
    // Four streams' first events, and those of the two that were deleted.
    for (key, expected) in [(types, 6), (category, transfers)] {
        let mut reader = store.read_index(&key, 0, Direction::Forwards, u64::MAX);
        let mut found = 0;
        while let Some(page) = reader.next().await.expect("a page") {
            found += page.len();
        }
        assert_eq!(found, expected, "{key:?}");
    }
    // Each of these has one event that deleted a stream, or two.
    for (listed, expected) in [("$et-$deleted", 2), ("$category-account", 3)] {
        let head = store.stream_info(&name(listed)).await.expect("an answer").head;
        assert_eq!(head, Some(Revision(expected - 1)), "{listed}");
    }
    for (stream, state) in [
        ("account-0", StreamState::Live),
        ("soft", StreamState::SoftDeleted),
        ("hard", StreamState::Tombstoned),
        ("never", StreamState::Missing),
    ] {
        let info = store.stream_info(&name(stream)).await.expect("an answer");
        assert_eq!(info.state, state, "{stream}");
    }
    for n in 0..=transactions {
        let found = store.transaction(&name(PURSE), contents::transaction_id(n)).await;
        assert_eq!(found, Ok((n < transactions).then_some(Revision(n))), "transaction {n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_written_on_and_its_index_can_be_built_again() {
    for fixture in FIXTURES {
        write_on(&fixture).await;
    }
}

async fn write_on(fixture: &Fixture) {
    let data = fixture.copied();
    for name in crate::support::directory::names(data.path()) {
        if is_index(&name) {
            std::fs::remove_file(data.path().join(name)).expect("a file");
        }
    }
    let server = Server::try_start(data.path(), SIZES).await.expect("a server");
    assert!(server.store().stats().index_rebuilt > 0);
    check_answers(server.store(), fixture.transactions).await;
    let before = server.store().committed();
    // 1, 5, 9 … 57
    let head = Revision(14);
    let exact = ExpectedRevision::Exact(head);
    let append = Append::to_stream(name("account-1"), exact, [event(1_000_000)]);
    let appended = server.store().append(append).await.expect("appended");
    assert_eq!(appended.position, Some(before));
    assert_eq!(appended.revisions.as_slice(), [Some(Revision(head.0 + 1))]);
    // A retry of the oldest event is recognised as what it is.
    let first = contents::event(1);
    assert_eq!(first.content_type, ContentType::Json);
    let retry = Append::to_stream(contents::stream(1), ExpectedRevision::NoStream, [first]);
    let retried = server.store().append(retry).await.expect("a duplicate");
    assert_eq!(retried.position.map(|position| position.0), Some(1));
    assert_eq!(read_log(server.store()).await.len() as u64, before.0);
    server.stop().await;
    verify(data.path());
}
