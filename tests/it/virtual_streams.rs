//! Virtual streams and secondary indexes as clients of the protocol and of HTTP meet them.

use daybook_model::{ExpectedRevision, NewEvent, StreamName};
use daybook_store::{Append, Deletion, Store};
use daybook_wire::proto::streams::read_resp::Content;
use serde_json::Value;
use tempfile::TempDir;
use tonic::Code;
use uuid::Uuid;

use crate::support::http::{get, post};
use crate::support::node::{SMALL, Server};
use crate::support::protocol::{RawEvent, append, append_messages, batch, batch_messages};
use crate::support::reading::{Ask, line};
use crate::support::until;

async fn put(store: &Store, stream: &str, kind: &str) {
    let id = Uuid::from_u128(u128::from(store.committed().0));
    let mut event = NewEvent::json(id, kind, "{\"n\":1}");
    event.metadata = "{\"$correlationId\":\"c\"}".into();
    let stream = StreamName::new(stream).expect("a name");
    let append = Append::to_stream(stream, ExpectedRevision::Any, [event]);
    store.append(append).await.expect("appended");
}

/// Positions 1 to 8: accounts 1 (twice), 2 (deleted), 3 (ended) and an order.
async fn filled(server: &Server) {
    let store = server.store();
    for (stream, kind) in [
        ("account-1", "Opened"),
        ("account-2", "Opened"),
        ("order-1", "Placed"),
        ("account-3", "Opened"),
        ("account-1", "Paid"),
        ("account-2", "Paid"),
    ] {
        put(store, stream, kind).await;
    }
    for (stream, how) in [("account-2", Deletion::Soft), ("account-3", Deletion::Tombstone)] {
        let stream = StreamName::new(stream).expect("a name");
        store.delete(&stream, ExpectedRevision::Any, how).await.expect("deleted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_shown_as_events_or_followed() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    filled(&server).await;
    let at = server.address();
    let last = i64::MAX;
    let links = [
        "0@$ce-account $> 0@account-1".to_owned(),
        "1@$ce-account $> 0@account-2".to_owned(),
        "2@$ce-account $> 0@account-3".to_owned(),
        "3@$ce-account $> 1@account-1".to_owned(),
        "4@$ce-account $> 1@account-2".to_owned(),
        "5@$ce-account $> 0@$$account-2".to_owned(),
        format!("6@$ce-account $> {last}@account-3"),
    ];
    let all = Ask::stream("$ce-account");
    assert_eq!(all.clone().lines(at).await, links);
    let targets = [
        "0@account-1 Opened",
        "gone",
        "gone",
        "1@account-1 Paid",
        "gone",
        "0@$$account-2 $metadata",
        "gone",
    ];
    let followed: Vec<String> =
        targets.iter().zip(&links).map(|(target, link)| format!("{target} <- {link}")).collect();
    assert_eq!(all.clone().resolved().lines(at).await, followed);
    let down = all.clone().resolved().backwards().from(3).count(2).lines(at).await;
    assert_eq!(down, [followed[3].clone(), followed[2].clone()]);
    let told = all.clone().told().from(5).lines(at).await;
    assert_eq!(told, [links[5].clone(), links[6].clone(), "last 6".to_owned()]);
    assert_eq!(all.from(7).told().lines(at).await, ["last 6"]);
    assert_eq!(Ask::stream("$ce-none").lines(at).await, ["not found"]);
    for (stream, expected) in [
        ("$et-Paid", vec!["1@account-1 Paid <- 0@$et-Paid $> 1@account-1".to_owned()]),
        ("$bc-c", vec!["0@account-1 Opened <- 0@$bc-c $> 0@account-1".to_owned()]),
        ("$streams", vec!["0@$store $store-created <- 0@$streams $> 0@$store".to_owned()]),
        ("$category-order", vec!["0@$category-order $@ order-1".to_owned()]),
        ("$et-$deleted", vec!["gone <- 0@$et-$deleted $> 0@account-2".to_owned()]),
    ] {
        let found = Ask::stream(stream).resolved().count(1).lines(at).await;
        assert_eq!(found, expected, "{stream}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_has_the_place_and_time_of_what_it_names_and_an_id_of_its_own() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    filled(&server).await;
    let answer = Ask::stream("$ce-account").resolved().count(1).answer(server.address()).await;
    let answer = answer.expect("an answer");
    let [Content::Event(found)] = &answer[..] else { panic!("{answer:?}") };
    let (event, link) = (found.event.as_ref().expect("it"), found.link.as_ref().expect("it"));
    assert_eq!(event.commit_position, link.commit_position);
    assert_eq!(event.prepare_position, link.prepare_position);
    assert_eq!(event.metadata["created"], link.metadata["created"]);
    assert_eq!(link.metadata["content-type"], "application/octet-stream");
    let metadata: Value = serde_json::from_slice(&link.custom_metadata).expect("JSON");
    let id = daybook_wire::uuid::from_proto(event.id.as_ref(), "id").expect("an id");
    assert_eq!(metadata["$causedBy"], id.to_string());
    assert_eq!(metadata["$o"], "account-1");
    assert_ne!(event.id, link.id);
    let again = Ask::stream("$ce-account").count(1).answer(server.address()).await;
    let again = again.expect("an answer");
    let [Content::Event(again)] = &again[..] else { panic!("{again:?}") };
    assert_eq!(again.event.as_ref(), Some(link));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_somebody_stored_is_listed_as_what_it_names() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    put(server.store(), "account-1", "Opened").await;
    let link = NewEvent::json(Uuid::from_u128(77), "$>", "0@account-1");
    let stream = StreamName::new("mine-1").expect("a name");
    let append = Append::to_stream(stream, ExpectedRevision::Any, [link]);
    server.store().append(append).await.expect("appended");
    let lines = Ask::stream("$ce-mine").resolved().lines(server.address()).await;
    assert_eq!(lines, ["0@account-1 Opened <- 0@$ce-mine $> 0@account-1"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_of_links_are_told_what_comes() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    filled(&server).await;
    let at = server.address();
    let caught_up = Ask::stream("$ce-account").resolved().from(5).caught_up(at).await;
    let last = i64::MAX;
    let end = format!("gone <- 6@$ce-account $> {last}@account-3");
    assert_eq!(caught_up, ["confirmed".to_owned(), end, "caught up at revision 6".to_owned()]);
    let waiting = tokio::spawn(async move {
        let new = |content: &Content| line(content).contains("account-4");
        Ask::stream("$category-account").at_the_end().follow().until(at, new).await
    });
    // Whenever the subscription begins, one of these comes after it.
    let mut n = 0;
    while !waiting.is_finished() {
        put(server.store(), &format!("account-4{n}"), "Opened").await;
        n += 1;
        tokio::task::yield_now().await;
    }
    let told = waiting.await.expect("no panic").expect("an answer");
    assert!(line(told.last().expect("a message")).contains("$@ account-4"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_writes_a_virtual_stream_through_any_door() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    filled(&server).await;
    let (at, before) = (server.address(), server.store().committed());
    let event = RawEvent::good(1, "x");
    let messages = append_messages(b"$ce-account", std::slice::from_ref(&event));
    let refused = append(at, messages).await.expect_err("a refusal");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    assert!(refused.message().starts_with("Access Denied"), "{refused:?}");
    assert_eq!(refused.metadata().get("exception").expect("a trailer"), "access-denied");
    let (answers, end) = batch(at, batch_messages(1, b"$streams", &[event])).await;
    assert!(end.is_ok());
    assert!(format!("{answers:?}").contains("AccessDenied"), "{answers:?}");
    let body = r#"{"type":"Happened","data":1}"#.to_owned();
    let problem = post(at, "/v1/streams/$et-Opened", body).await;
    assert_eq!(problem.status, 403, "{problem:?}");
    assert_eq!(problem.json()["type"], "urn:daybook:problem:reserved-stream");
    assert_eq!(server.store().committed(), before);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_what_is_listed_comes_with_its_link() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    filled(&server).await;
    let page = get(server.address(), "/v1/streams/$ce-account?limit=2").await.json();
    let (first, second) = (&page["events"][0], &page["events"][1]);
    assert_eq!((&first["stream"], &first["type"]), (&"account-1".into(), &"Opened".into()));
    assert_eq!(first["link"]["stream"], "$ce-account");
    assert_eq!(first["link"]["revision"], 0);
    // Its stream was deleted: there is the link alone.
    assert_eq!((&second["stream"], &second["type"]), (&"$ce-account".into(), &"$>".into()));
    assert_eq!(second["names"], "0@account-2");
    assert_eq!((&page["head"], &page["next"]), (&6.into(), &2.into()));
    let rest = get(server.address(), "/v1/streams/$ce-account?from=2").await.json();
    assert_eq!(rest["events"].as_array().map(Vec::len), Some(5));
    assert_eq!((&rest["next"], &rest["atEnd"]), (&7.into(), &true.into()));
    let listed = get(server.address(), "/v1/streams/$category-order").await.json();
    assert_eq!(listed["events"][0]["names"], "order-1");
    let none = get(server.address(), "/v1/streams/$ce-none").await;
    assert_eq!(none.status, 404);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secondary_indexes_are_parts_of_the_log() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    filled(&server).await;
    let at = server.address();
    let index = |name: &str| Ask::all().streams(name, 2);
    let accounts = [
        "0@account-1 Opened",
        "0@account-2 Opened",
        "0@account-3 Opened",
        "1@account-1 Paid",
        "1@account-2 Paid",
    ];
    assert_eq!(index("$idx-ce-account").lines(at).await, accounts);
    assert_eq!(index("$idx-et-Paid").lines(at).await, accounts[3..]);
    let down = index("$idx-ce-account").backwards().at_the_end().count(2).lines(at).await;
    assert_eq!(down, [accounts[4], accounts[3]]);
    // Forwards a position is read itself, backwards it is not.
    assert_eq!(index("$idx-ce-account").from(4 << 8).lines(at).await, accounts[2..]);
    let down = index("$idx-ce-account").from(4 << 8).backwards().lines(at).await;
    assert_eq!(down, [accounts[1], accounts[0]]);
    assert_eq!(index("$idx-all").count(3).lines(at).await[2], "0@order-1 Placed");
    assert_eq!(index("$idx-ce-none").lines(at).await, [""; 0]);
    for unknown in ["$idx-user-x", "$idx-ce-", "$idx-"] {
        let refused = index(unknown).refused(at).await;
        assert_eq!(refused.code(), Code::NotFound);
        assert_eq!(refused.message(), format!("Index '{unknown}' not found."));
        assert_eq!(refused.metadata().get("exception").expect("a trailer"), "index-not-found");
    }
    let followed = index("$idx-ce-account").from(1 << 8).caught_up(at).await;
    let expected = [
        "confirmed",
        accounts[1],
        accounts[2],
        "checkpoint 1024",
        accounts[3],
        accounts[4],
        "checkpoint 1536",
        "checkpoint 2048",
        "caught up at position 2048",
    ];
    assert_eq!(followed, expected);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_first_event_was_scavenged_is_listed_still() {
    let data = TempDir::new().expect("a directory");
    let server = Server::try_start(data.path(), SMALL).await.expect("a server");
    let (store, at) = (server.store(), server.address());
    for stream in ["account-1", "account-2"] {
        for kind in ["Opened", "Paid"] {
            put(store, stream, kind).await;
        }
        let id = Uuid::from_u128(u128::from(store.committed().0));
        let event = NewEvent::json(id, "$metadata", "{\"$maxCount\":1}");
        let metastream = StreamName::new(stream).expect("a name").metastream();
        let append = Append::to_stream(metastream, ExpectedRevision::Any, [event]);
        store.append(append).await.expect("appended");
    }
    for n in 0..100 {
        let event = NewEvent::json(Uuid::from_u128(n << 64), "Filled", vec![b'1'; 1024]);
        let stream = StreamName::new("filler").expect("a name");
        let append = Append::to_stream(stream, ExpectedRevision::Any, [event]);
        store.append(append).await.expect("appended");
    }
    until("the first events to be removed", || async {
        store.scavenge().start();
        store.scavenge().status().events == 2
    })
    .await;
    let streams = [
        "gone <- 1@$streams $> 0@account-1",
        "0@$$account-1 $metadata <- 2@$streams $> 0@$$account-1",
        "gone <- 3@$streams $> 0@account-2",
        "0@$$account-2 $metadata <- 4@$streams $> 0@$$account-2",
        "0@filler Filled <- 5@$streams $> 0@filler",
    ];
    assert_eq!(Ask::stream("$streams").resolved().from(1).lines(at).await, streams);
    let down = Ask::stream("$streams").resolved().backwards().from(3).count(3).lines(at).await;
    assert_eq!(down, [streams[2], streams[1], streams[0]]);
    let told = Ask::stream("$streams").resolved().from(0).caught_up(at).await;
    assert_eq!(told[1..6], streams);
    let accounts = ["0@$category-account $@ account-1", "1@$category-account $@ account-2"];
    assert_eq!(Ask::stream("$category-account").resolved().lines(at).await, accounts);
    let paid = "1@account-1 Paid <- 1@$ce-account $> 1@account-1";
    assert_eq!(Ask::stream("$ce-account").resolved().count(1).lines(at).await, [paid]);
    // Its link has the place and time of what was removed, and says not what caused it.
    let answer = Ask::stream("$streams").from(1).count(1).answer(at).await.expect("an answer");
    let [Content::Event(found)] = &answer[..] else { panic!("{answer:?}") };
    let link = found.event.as_ref().expect("the link");
    assert_eq!((link.commit_position, &*link.custom_metadata), (256, &b"{}"[..]));
    let listed = get(at, "/v1/streams/$streams?from=1&limit=1").await.json();
    let listed = &listed["events"][0];
    assert_eq!((&listed["names"], &listed["position"]), (&"0@account-1".into(), &1.into()));
    assert_eq!(listed["metadata"], serde_json::json!({}));
    let listed = get(at, "/v1/streams/$category-account").await.json();
    assert_eq!(listed["events"].as_array().map(Vec::len), Some(2));
    server.stop().await;
}
