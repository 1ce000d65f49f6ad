//! A store of each format version, made once by the version that wrote it and kept for ever.
//!
//! `fixtures/format-<n>/` was written by `cargo run -p daybook-tests --example make-fixture`, which
//! says what is in it. It is never made anew: a version that cannot read it is broken.

use std::path::{Path, PathBuf};

use daybook_client::ContentType;
use daybook_model::{ExpectedRevision, Revision};
use daybook_store::{AllFrom, Append, Direction, From, IndexKey, ReadAll, ReadStream, StreamState};
use tempfile::TempDir;

use crate::support::daemon::verify;
use crate::support::directory::{MARK_SIZE, bytes, copy, read_log, segments};
use crate::support::events::{event, name};
use crate::support::node::Server;
use contents::{EVENTS, SIZES};

#[path = "fixtures/contents.rs"]
mod contents;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("it/fixtures/format-1")
}

fn copied() -> TempDir {
    let data = TempDir::new().expect("a directory");
    copy(&fixture(), data.path());
    data
}

#[tokio::test(flavor = "multi_thread")]
async fn format_1_is_read_exactly_and_its_index_is_believed() {
    assert!(segments(&fixture()).len() >= 3, "several segments, sealed and active");
    let data = copied();
    let before = bytes(data.path());
    let server = Server::try_start(data.path(), SIZES).await.expect("a server");
    let recovery = server.store().recovery().clone();
    assert!(!recovery.created && recovery.torn.is_none() && recovery.foreign_files.is_empty());
    assert!(recovery.rewritten_bytes <= MARK_SIZE, "all is proven");
    assert_eq!(server.store().stats().index_rebuilt, 0);
    assert_eq!(server.store().about().store_id.to_string(), contents::STORE_ID);

    let mut reader = server.store().read_all(ReadAll {
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
            }
            position += 1;
        }
    }
    assert_eq!(position, contents::COMMITTED);
    drop(reader);
    for (name, file) in bytes(data.path()) {
        if name.ends_with(".idx") || name.ends_with(".ids") || name.ends_with(".dir") {
            assert!(before.get(&name) == Some(&file), "{name} was written anew");
        }
    }
    server.stop().await;
    assert_eq!(verify(data.path())["events"], contents::COMMITTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn format_1_answers_by_its_index() {
    let data = copied();
    let server = Server::try_start(data.path(), SIZES).await.expect("a server");
    let store = server.store();
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
        while let Some((_, page)) = reader.next().await.expect("a page") {
            found += page.len();
        }
        assert_eq!(found, expected, "{key:?}");
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
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn format_1_is_written_on_and_its_index_can_be_built_again() {
    let data = copied();
    for name in crate::support::directory::names(data.path()) {
        if name.ends_with(".idx") || name.ends_with(".ids") || name.ends_with(".dir") {
            std::fs::remove_file(data.path().join(name)).expect("a file");
        }
    }
    let server = Server::try_start(data.path(), SIZES).await.expect("a server");
    assert!(server.store().stats().index_rebuilt > 0);
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
