//! Reads and subscriptions to the letter of the protocol: what comes, in which order, and how it
//! ends.

use std::time::Duration;

use daybook_model::{ExpectedRevision, NewEvent, StreamName};
use daybook_store::{Append, Deletion, Store};
use daybook_wire::proto::shared::Empty;
use daybook_wire::proto::streams::ReadReq;
use daybook_wire::proto::streams::read_req::options::{FilterOption, StreamOption, UuidOption};
use daybook_wire::proto::streams::read_resp::Content;
use tempfile::TempDir;
use tonic::{Code, Request};
use uuid::Uuid;

use crate::support::assert_says;
use crate::support::node::Server;
use crate::support::protocol::raw_client;
use crate::support::reading::{Ask, line};

fn name(text: &str) -> StreamName {
    StreamName::new(text).expect("a name")
}

async fn put(store: &Store, stream: &str, kind: &str, data: &'static str) {
    let id = Uuid::from_u128(u128::from(store.committed().0));
    let event = NewEvent::json(id, kind, data);
    let append = Append::to_stream(name(stream), ExpectedRevision::Any, [event]);
    store.append(append).await.expect("appended");
}

async fn describe(store: &Store, stream: &str, metadata: &'static str) {
    put(store, &format!("$${stream}"), "$metadata", metadata).await;
}

/// A server whose `s` has revisions 0 to 4, at positions 1 to 5.
async fn five(data: &TempDir) -> Server {
    let server = Server::start(data.path()).await;
    for _ in 0..5 {
        put(server.store(), "s", "T", "{}").await;
    }
    server
}

fn revisions(range: impl Iterator<Item = u64>) -> Vec<String> {
    range.map(|n| format!("{n}@s T")).collect()
}

fn and(mut lines: Vec<String>, last: &str) -> Vec<String> {
    lines.push(last.to_owned());
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_read_from_anywhere_in_both_directions() {
    let data = TempDir::new().expect("a directory");
    let server = five(&data).await;
    let s = || Ask::stream("s");
    let none = || revisions(0..0);
    let cases = [
        (s(), revisions(0..5)),
        (s().count(2), revisions(0..2)),
        (s().count(0), none()),
        (s().from(3), revisions(3..5)),
        (s().from(5), none()),
        (s().from(99), none()),
        (s().at_the_end(), none()),
        (s().backwards(), revisions(0..1)),
        (s().backwards().at_the_end(), revisions((0..5).rev())),
        (s().backwards().from(u64::MAX), revisions((0..5).rev())),
        (s().backwards().from(99).count(2), revisions((3..5).rev())),
        (s().backwards().from(2), revisions((0..3).rev())),
        // Where it ends is told when the end was reached, and only if asked for.
        (s().told(), and(revisions(0..5), "last 4")),
        (s().told().count(5), and(revisions(0..5), "last 4")),
        (s().told().count(4), revisions(0..4)),
        (s().told().from(99), and(none(), "last 4")),
        (s().told().count(0), none()),
        (Ask::stream("t"), and(none(), "not found")),
        (Ask::stream("t").told().backwards().at_the_end(), and(none(), "not found")),
        (Ask::stream("t").count(0), none()),
    ];
    for (ask, expected) in cases {
        let what = format!("{ask:?}");
        assert_eq!(ask.lines(server.address()).await, expected, "{what}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_metadata_hides_is_left_out_and_the_rest_keeps_its_revisions() {
    let data = TempDir::new().expect("a directory");
    let server = five(&data).await;
    let s = || Ask::stream("s").told();
    for (metadata, first) in [
        ("{\"$tb\":2}", 2),
        ("{\"$maxCount\":2}", 3),
        ("{\"$tb\":4,\"$maxCount\":2}", 4),
        ("{\"$maxAge\":3600}", 0),
        ("no metadata", 0),
    ] {
        describe(server.store(), "s", metadata).await;
        let at = server.address();
        let expected = and(revisions(first..5), "last 4");
        assert_eq!(s().lines(at).await, expected, "{metadata}");
        assert_eq!(s().from(first).lines(at).await, expected, "{metadata}");
        let down = and(revisions((first..5).rev()), "last 4");
        assert_eq!(s().backwards().at_the_end().lines(at).await, down, "{metadata}");
        // Of metadata there is one event, the newest.
        let found = Ask::stream("$$s").lines(at).await;
        assert_eq!(found.len(), 1, "{metadata}: {found:?}");
    }
    // All of it: empty, which is not the same as not there.
    describe(server.store(), "s", "{\"$tb\":5}").await;
    assert_eq!(s().lines(server.address()).await, ["first 5", "last 4"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stream_is_not_found_and_an_ended_one_is_an_error() {
    let data = TempDir::new().expect("a directory");
    let server = five(&data).await;
    let (store, at, any) = (server.store(), server.address(), ExpectedRevision::Any);
    store.delete(&name("s"), any, Deletion::Soft).await.expect("deleted");
    assert_eq!(Ask::stream("s").told().lines(at).await, ["not found"]);
    assert_eq!(Ask::stream("s").caught_up(at).await, ["confirmed", "caught up at revision 4"]);
    put(store, "s", "T", "{}").await;
    assert_eq!(Ask::stream("s").told().lines(at).await, and(revisions(5..6), "last 5"));
    store.delete(&name("s"), any, Deletion::Tombstone).await.expect("ended");
    for stream in ["s", "$$s"] {
        for ask in [Ask::stream(stream), Ask::stream(stream).backwards().at_the_end()] {
            let refused = ask.refused(at).await;
            assert_eq!(refused.code(), Code::FailedPrecondition, "{stream}: {refused:?}");
            assert_eq!(refused.message(), format!("Event stream '{stream}' is deleted."));
            let trailer = |key: &str| refused.metadata().get(key).expect("a trailer").clone();
            assert_eq!(trailer("exception"), "stream-deleted");
            assert_eq!(trailer("stream-name"), stream);
        }
    }
    let refused = Ask::stream("s").follow().refused(at).await;
    assert_eq!(refused.metadata().get("exception").expect("a trailer"), "stream-deleted");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_whose_target_cannot_be_read_comes_alone() {
    let data = TempDir::new().expect("a directory");
    let server = five(&data).await;
    let (store, at, any) = (server.store(), server.address(), ExpectedRevision::Any);
    describe(store, "s", "{\"$tb\":2}").await;
    for (stream, how) in [("soft", Deletion::Soft), ("hard", Deletion::Tombstone)] {
        put(store, stream, "T", "{}").await;
        store.delete(&name(stream), any, how).await.expect("deleted");
    }
    let targets =
        ["4@s", "1@s", "9@s", "0@soft", "0@hard", "0@never", "nonsense", "-1@s", "4@s@x", "4@"];
    for target in targets {
        put(store, "links", "$>", target).await;
    }
    let links: Vec<String> =
        targets.iter().enumerate().map(|(n, target)| format!("{n}@links $> {target}")).collect();
    assert_eq!(Ask::stream("links").lines(at).await, links);
    let mut followed: Vec<String> = links.iter().map(|link| format!("gone <- {link}")).collect();
    followed[0] = format!("4@s T <- {}", links[0]);
    assert_eq!(Ask::stream("links").resolved().lines(at).await, followed);
    let all = Ask::all().resolved().streams("links", 1).lines(at).await;
    assert_eq!(all, followed);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_read_by_position() {
    let data = TempDir::new().expect("a directory");
    let server = five(&data).await;
    let at = server.address();
    let all = |from: usize| {
        let mut lines = revisions(0..5);
        lines.insert(0, "0@$store $store-created".to_owned());
        lines.split_off(from)
    };
    let down = |below: usize| {
        let mut lines = all(0);
        lines.truncate(below);
        lines.reverse();
        lines
    };
    let cases = [
        (Ask::all(), all(0)),
        (Ask::all().count(0), Vec::new()),
        (Ask::all().from(0), all(0)),
        (Ask::all().from(3 << 8), all(3)),
        (Ask::all().at_the_end(), Vec::new()),
        (Ask::all().from(u64::MAX), Vec::new()),
        (Ask::all().backwards(), Vec::new()),
        (Ask::all().backwards().at_the_end(), down(6)),
        (Ask::all().backwards().from(u64::MAX).count(1), down(6)[..1].to_vec()),
        (Ask::all().backwards().from(3 << 8), down(3)),
        // What is counted is what the filter wants.
        (Ask::all().types("^T", 1).count(2), revisions(0..2)),
        (Ask::all().types("^(?!T$)", 1).count(9), all(0)[..1].to_vec()),
        (Ask::all().streams("s", 1).backwards().at_the_end().count(2), revisions((3..5).rev())),
    ];
    for (ask, expected) in cases {
        let what = format!("{ask:?}");
        assert_eq!(ask.lines(at).await, expected, "{what}");
    }
    // No record begins there, or none in this history.
    for position in [6 << 8, (3 << 8) + 1, 7] {
        let refused = Ask::all().from(position).refused(at).await;
        assert_eq!(refused.code(), Code::Unknown, "{position}");
        assert_eq!(refused.message(), "Unexpected ReadAllResult: InvalidPosition");
        let refused = Ask::all().from(position).types("T", 1).refused(at).await;
        assert_eq!(refused.message(), "Unexpected FilteredReadAllResult: InvalidPosition");
        let refused = Ask::all().from(position).follow().refused(at).await;
        assert_eq!(refused.code(), Code::InvalidArgument, "{position}");
        assert_eq!(refused.message(), "Trying to read from an invalid position.");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_confirmed_then_history_then_caught_up() {
    let data = TempDir::new().expect("a directory");
    let server = five(&data).await;
    let at = server.address();
    let around = |lines: Vec<String>, end: &str| {
        let mut all = vec!["confirmed".to_owned()];
        all.extend(lines);
        and(all, end)
    };
    let cases = [
        (Ask::stream("s"), around(revisions(0..5), "caught up at revision 4")),
        // Exclusive, unlike a read.
        (Ask::stream("s").from(2), around(revisions(3..5), "caught up at revision 4")),
        (Ask::stream("s").at_the_end(), around(Vec::new(), "caught up at revision 4")),
        (Ask::stream("t"), around(Vec::new(), "caught up")),
        (Ask::all().from(3 << 8), around(revisions(3..5), "caught up at position 1280")),
        (Ask::all().at_the_end(), around(Vec::new(), "caught up at position 1280")),
    ];
    for (ask, expected) in cases {
        let what = format!("{ask:?}");
        assert_eq!(ask.caught_up(at).await, expected, "{what}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_subscription_tells_to_the_event_how_far_it_has_looked() {
    let data = TempDir::new().expect("a directory");
    let server = five(&data).await;
    let at = server.address();
    // Two records each: 0 and 1, 2 and 3, 4 and 5.
    let wanted = Ask::all().types("^T", 2).caught_up(at).await;
    let expected = [
        "confirmed",
        "0@s T",
        "checkpoint 256",
        "1@s T",
        "2@s T",
        "checkpoint 768",
        "3@s T",
        "4@s T",
        "checkpoint 1280",
        "caught up at position 1280",
    ];
    assert_eq!(wanted, expected);
    // Nothing wanted, and the client still learns where it may go on.
    let none = Ask::all().types("^None", 4).caught_up(at).await;
    let expected = ["confirmed", "checkpoint 768", "checkpoint 1280", "caught up at position 1280"];
    assert_eq!(none, expected);
    let refused = Ask::all().types("^T", 0).follow().refused(at).await;
    assert_eq!(refused.code(), Code::Unknown);
    assert_eq!(refused.message(), "Exception was thrown by handler.");
    assert_eq!(Ask::all().types("^T", 0).lines(at).await, revisions(0..5));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_sees_a_stream_begin_go_on_after_deletion_and_end() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let request = ReadReq { options: Some(Ask::stream("s").follow().0) };
    let mut client = raw_client(server.address()).await;
    let mut answer = client.read(request).await.expect("a subscription").into_inner();
    let store = server.store();
    for expected in ["confirmed", "caught up"] {
        let message = answer.message().await.expect("a message").expect("not the end");
        assert_eq!(line(&message.content.expect("a content")), expected);
    }
    for expected in revisions(0..2) {
        put(store, "s", "T", "{}").await;
        let message = answer.message().await.expect("a message").expect("not the end");
        assert_eq!(line(&message.content.expect("a content")), expected);
        // Not before it was seen: what is deleted is not sent to who comes late.
        store.delete(&name("s"), ExpectedRevision::Any, Deletion::Soft).await.expect("deleted");
    }
    store.delete(&name("s"), ExpectedRevision::Any, Deletion::Tombstone).await.expect("ended");
    let ended = answer.message().await.expect_err("its end");
    assert_eq!(ended.code(), Code::FailedPrecondition, "{ended:?}");
    assert_eq!(ended.message(), "Event stream 's' is deleted.");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_a_subscription_after_what_came_before_it() {
    let data = TempDir::new().expect("a directory");
    let server = five(&data).await;
    let mut request = Request::new(ReadReq { options: Some(Ask::stream("s").follow().0) });
    request.set_timeout(Duration::from_millis(500));
    let mut client = raw_client(server.address()).await;
    let mut answer = client.read(request).await.expect("a subscription").into_inner();
    let mut came = Vec::new();
    let ended = loop {
        match answer.message().await {
            Ok(message) => came.extend(message.and_then(|message| message.content)),
            Err(status) => break status,
        }
    };
    assert!(matches!(ended.code(), Code::DeadlineExceeded | Code::Cancelled), "{ended:?}");
    let events = came.iter().filter(|content| matches!(content, Content::Event(_))).count();
    assert_eq!(events, 5);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_read_leaves_out_or_combines_wrongly_is_refused() {
    let data = TempDir::new().expect("a directory");
    let server = five(&data).await;
    type Spoil = fn(&mut Ask);
    let cases: [(Ask, Spoil, &str); 13] = [
        (Ask::stream("s"), |ask| ask.0.uuid_option = None, "uuid_option"),
        (
            Ask::stream("s"),
            |ask| ask.0.uuid_option = Some(UuidOption { content: None }),
            "uuid_option",
        ),
        (Ask::stream("s"), |ask| ask.0.stream_option = None, "stream_option"),
        (Ask::stream("s"), |ask| ask.0.count_option = None, "count_option"),
        (Ask::stream("s"), |ask| ask.0.filter_option = None, "filter_option"),
        (Ask::stream("s"), |ask| ask.0.read_direction = 7, "read_direction"),
        (Ask::stream("s").types("T", 1), |_| (), "stream, filter"),
        (Ask::stream("s").follow().backwards(), |_| (), "stream, subscription, backwards"),
        (Ask::all().follow().backwards(), |_| (), "$all, subscription, backwards"),
        (
            Ask::stream("s"),
            |ask| match ask.0.stream_option.as_mut() {
                Some(StreamOption::Stream(stream)) => stream.revision_option = None,
                _ => unreachable!("a stream was asked for"),
            },
            "revision_option",
        ),
        (
            Ask::all(),
            |ask| match ask.0.stream_option.as_mut() {
                Some(StreamOption::All(all)) => all.all_option = None,
                _ => unreachable!("the log was asked for"),
            },
            "all_option",
        ),
        (
            Ask::all().types("T", 1),
            |ask| match ask.0.filter_option.as_mut() {
                Some(FilterOption::Filter(filter)) => filter.window = None,
                _ => unreachable!("a filter was asked for"),
            },
            "filter.window",
        ),
        (Ask::all().types("(", 1), |_| (), "regular expression"),
    ];
    for (mut ask, spoil, says) in cases {
        spoil(&mut ask);
        let refused = ask.refused(server.address()).await;
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert_says(refused.message(), &[says]);
    }
    let mut unfiltered = Ask::all();
    unfiltered.0.filter_option = Some(FilterOption::NoFilter(Empty {}));
    assert_eq!(unfiltered.lines(server.address()).await.len(), 6);
    server.stop().await;
}
