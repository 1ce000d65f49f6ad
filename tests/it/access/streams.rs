//! What a stream's lists, the defaults and tenants let a caller do, over HTTP and over gRPC.

use bytes::Bytes;
use daybook::security::Caller;
use daybook_wire::proto::persistent;
use daybook_wire::proto::persistent::read_req::options as of_group;
use daybook_wire::proto::shared::Empty;
use daybook_wire::proto::streams::batch_append_resp::Result as Outcome;
use daybook_wire::proto::streams::read_req::options as read;
use daybook_wire::proto::streams::read_resp::Content;
use daybook_wire::proto::streams::{BatchAppendResp, ReadReq, ReadResp, read_req};

use super::desk::{Desk, admin, all_framed, framed, known};
use crate::support::protocol::{RawEvent, append_messages, batch_messages, stream_identifier};

const EVENT: &str = r#"{"type":"Ordered","data":1}"#;
const READ: &str = "/event_store.client.streams.Streams/Read";

fn ada() -> Caller {
    known("ada", &[])
}

fn bob() -> Caller {
    known("bob", &["staff"])
}

/// What is asked of a stream over gRPC: its first events.
fn first_of(stream: &str, resolve_links: bool) -> Bytes {
    framed(&ReadReq {
        options: Some(read_req::Options {
            read_direction: 0,
            resolve_links,
            uuid_option: Some(read::UuidOption {
                content: Some(read::uuid_option::Content::String(Empty {})),
            }),
            control_option: None,
            count_option: Some(read::CountOption::Count(10)),
            stream_option: Some(read::StreamOption::Stream(read::StreamOptions {
                stream_identifier: Some(stream_identifier(stream.as_bytes())),
                revision_option: Some(read::stream_options::RevisionOption::Start(Empty {})),
            })),
            filter_option: Some(read::FilterOption::NoFilter(Empty {})),
        }),
    })
}

/// The statuses of requests over HTTP by `caller`.
async fn statuses(desk: &Desk, caller: &Caller, requests: &[(&str, &'static str)]) -> Vec<u16> {
    let mut found = Vec::new();
    for (route, body) in requests {
        found.push(desk.http(caller, route, *body).await.status);
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lists_of_a_stream_decide_who_reads_writes_deletes_and_describes_it() {
    let desk = Desk::new().await;
    desk.append("a-1", EVENT).await;
    let lists = r#"{"$acl":{"$r":"ada","$w":["staff"],"$d":"$ops","$mr":["ada"],"$mw":[]}}"#;
    desk.set_metadata("a-1", lists).await;
    let several = r#"{"streams":[{"stream":"b-1","events":[{"type":"T","data":1}]},
        {"stream":"a-1","events":[{"type":"T","data":1}]}]}"#;
    let checked = r#"{"streams":[{"stream":"b-1","events":[{"type":"T","data":1}]},
        {"stream":"a-1"}]}"#;
    let requests = [
        ("GET /v1/streams/a-1", ""),
        ("GET /v1/streams/a-1/subscribe", ""),
        ("POST /v1/streams/a-1", EVENT),
        ("POST /v1/append", several),
        ("POST /v1/append", checked),
        ("GET /v1/streams/a-1/metadata", ""),
        ("PUT /v1/streams/a-1/metadata", "{}"),
        ("GET /v1/streams/$$a-1", ""),
        ("POST /v1/streams/$$a-1", EVENT),
        ("GET /v1/snapshots/a-1", ""),
        ("DELETE /v1/snapshots/a-1", ""),
        ("DELETE /v1/streams/a-1?expected=77", ""),
    ];
    let (no, ok) = (403, 200);
    for (caller, expected) in [
        (ada(), [ok, ok, no, no, ok, ok, no, ok, no, 404, no, no]),
        (bob(), [no, no, ok, ok, no, no, no, no, no, no, 204, no]),
        (known("ops", &["$ops"]), [no, no, no, no, no, no, no, no, no, no, no, 409]),
        (Caller::nobody(), [401; 12]),
    ] {
        let found = statuses(&desk, &caller, &requests).await;
        assert_eq!(found, expected, "{:?}", caller.login());
    }
    desk.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_over_grpc_is_what_clients_know() {
    let desk = Desk::new().await;
    desk.append("a-1", EVENT).await;
    desk.set_metadata("a-1", r#"{"$acl":{"$r":[],"$w":[]}}"#).await;
    let mut denied = desk.grpc(&ada(), READ, first_of("a-1", false)).await;
    assert_eq!(denied.grpc_status().await, 7);
    assert_eq!(denied.header("exception"), "access-denied");
    assert!(denied.header("grpc-message").starts_with("Access%20Denied"));
    let messages = all_framed(&append_messages(b"a-1", &[RawEvent::good(1, "x")]));
    let append = "/event_store.client.streams.Streams/Append";
    let mut denied = desk.grpc(&ada(), append, messages).await;
    assert_eq!((denied.grpc_status().await, denied.header("exception")), (7, "access-denied"));

    // A batch goes on after an append that is denied, and keeps the order of the others.
    let mut batch = batch_messages(1, b"a-1", &[RawEvent::good(2, "x")]);
    for id in 3..40 {
        batch.extend(batch_messages(id, b"b-1", &[RawEvent::good(id, "x")]));
    }
    let path = "/event_store.client.streams.Streams/BatchAppend";
    let mut answer = desk.grpc(&ada(), path, all_framed(&batch)).await;
    let answers: Vec<BatchAppendResp> = answer.messages().await;
    let refused = |answer: &&BatchAppendResp| match &answer.result {
        Some(Outcome::Error(status)) => status.code == 7,
        _ => false,
    };
    assert_eq!((answers.iter().filter(refused).count(), answers.len()), (1, 38));
    let mut all = desk.grpc(&ada(), READ, first_of("b-1", false)).await;
    let first: Vec<ReadResp> = all.messages().await;
    let data: Vec<u64> = first.iter().filter_map(revision).collect();
    assert_eq!(data, (0..10).collect::<Vec<u64>>());
    let ids: Vec<u128> = first.iter().filter_map(id_of).collect();
    assert_eq!(ids, (3..13).collect::<Vec<u128>>(), "in the order in which they were sent");
    desk.server.stop().await;
}

fn recorded(answer: &ReadResp) -> Option<&daybook_wire::proto::streams::read_resp::ReadEvent> {
    match &answer.content {
        Some(Content::Event(event)) => Some(event),
        _ => None,
    }
}

fn revision(answer: &ReadResp) -> Option<u64> {
    recorded(answer)?.event.as_ref().map(|event| event.stream_revision)
}

fn id_of(answer: &ReadResp) -> Option<u128> {
    use daybook_wire::proto::shared::uuid::Value;
    match recorded(answer)?.event.as_ref()?.id.as_ref()?.value.as_ref()? {
        Value::String(text) => Some(uuid::Uuid::parse_str(text).expect("a UUID").as_u128()),
        Value::Structured(_) => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_settings_say_holds_at_once_and_after_a_restart() {
    let desk = Desk::new().await;
    desk.append("a-1", EVENT).await;
    let reads = [("GET /v1/streams/a-1", ""), ("GET /v1/streams/$ce-a", "")];
    assert_eq!(statuses(&desk, &ada(), &reads).await, [200, 403]);
    let closed = r#"{"type":"settings","data":{"$userStreamAcl":{"$r":"staff"},
        "$systemStreamAcl":{"$r":["staff"]}}}"#;
    assert_eq!(desk.http(&ada(), "POST /v1/streams/$settings", closed).await.status, 403);
    desk.append("$settings", closed).await;
    assert_eq!(statuses(&desk, &ada(), &reads).await, [403, 403]);
    assert_eq!(statuses(&desk, &bob(), &reads).await, [200, 200]);
    let desk = desk.restarted().await;
    assert_eq!(statuses(&desk, &ada(), &reads).await, [403, 403]);
    assert_eq!(statuses(&desk, &bob(), &reads).await, [200, 200]);
    // The audit log is not among the streams that the defaults open.
    let log = [("GET /v1/streams/$audit", ""), ("GET /admin/audit", "")];
    assert_eq!(statuses(&desk, &bob(), &log).await, [403, 403]);
    // What cannot be read closes, and so does taking it away, or hiding it, for good or for now.
    desk.append("$settings", r#"{"type":"settings","data":"all"}"#).await;
    assert_eq!(statuses(&desk, &bob(), &reads).await, [403, 403]);
    desk.append("$settings", closed).await;
    for unfit in ["$settings", "$$$settings", "$$$all"] {
        let route = format!("DELETE /v1/streams/{unfit}?hard=true");
        for caller in [admin(), Caller::unasked()] {
            assert_eq!(desk.http(&caller, &route, "").await.status, 403, "{unfit}");
        }
    }
    assert_eq!(statuses(&desk, &bob(), &reads).await, [200, 200], "nothing was done");
    assert_eq!(desk.http(&admin(), "DELETE /v1/streams/$settings", "").await.status, 200);
    assert_eq!(statuses(&desk, &ada(), &reads).await, [403, 403]);
    let desk = desk.restarted().await;
    assert_eq!(statuses(&desk, &ada(), &reads).await, [403, 403]);
    assert_eq!(statuses(&desk, &bob(), &reads).await, [403, 403]);
    // What is built in is what settings that say nothing leave.
    desk.append("$settings", r#"{"type":"settings","data":{}}"#).await;
    assert_eq!(statuses(&desk, &ada(), &reads).await, [200, 403]);
    desk.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_read_the_whole_log_reads_no_passwords_in_it() {
    let desk = Desk::new().await;
    let new = daybook::users::NewUser {
        login: "eve".to_owned(),
        full_name: String::new(),
        groups: Vec::new(),
        password: "a long enough password".to_owned(),
    };
    desk.server.context().users().create(new).await.expect("a user");
    desk.append("a-1", EVENT).await;
    let open = r#"{"$acl":{"$r":"$all","$mr":"$all"}}"#;
    for stream in ["$all", "$user-eve", "$users", "$et-$UserCreated", "$streams"] {
        let route = format!("POST /v1/streams/$${stream}");
        let event = format!(r#"{{"type":"$metadata","data":{open}}}"#);
        // The users' own metadata is refused to administrators, too.
        let status = desk.http(&admin(), &route, event).await.status;
        assert_eq!(status, if stream.starts_with("$user") { 403 } else { 200 }, "{stream}");
    }
    for (stream, status) in
        [("$user-eve", 403), ("$users", 403), ("$et-$UserCreated", 403), ("$streams", 403)]
    {
        let found = desk.http(&ada(), &format!("GET /v1/streams/{stream}"), "").await.status;
        assert_eq!(found, status, "{stream}");
    }
    assert_eq!(desk.http(&ada(), "GET /v1/streams?prefix=a", "").await.status, 200);
    let hash = "argon2id";
    for route in ["GET /v1/all?limit=1000", "GET /v1/all?limit=1000&stream_prefix=$user"] {
        let seen = desk.http(&ada(), route, "").await.text().await;
        for hidden in [hash, "\"stream\":\"$user", "\"stream\":\"$audit"] {
            assert!(!seen.contains(hidden), "{route}: {seen}");
        }
        let seen = desk.http(&admin(), route, "").await.text().await;
        assert!(seen.contains(hash), "{route}: {seen}");
    }
    desk.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sees_its_own_streams_and_nothing_else() {
    let desk = Desk::new().await;
    for stream in ["acme.a-1", "acme.b-1", "other.a-1"] {
        desk.append(stream, EVENT).await;
    }
    let caller = known("tess", &["tenant:acme.", "$ops", "ledger-read"]);
    for (route, status) in [
        ("GET /v1/streams/acme.a-1", 200),
        ("GET /v1/streams/other.a-1", 403),
        ("GET /v1/streams/$ce-acme.a", 403),
        ("GET /v1/streams?prefix=acme.", 200),
        ("GET /v1/streams?prefix=acme", 403),
        ("GET /v1/streams", 403),
        ("GET /v1/all", 403),
        ("GET /v1/all?stream_prefix=acme.", 200),
        ("GET /v1/all?stream_prefix=acme.a", 200),
        ("GET /v1/all?stream_prefix=acme", 403),
        ("GET /v1/all?stream_regex=^acme%5C.", 403),
        ("GET /v1/all?type_prefix=acme.", 403),
        ("GET /v1/all/subscribe?stream_prefix=acme.", 200),
        ("GET /v1/all/subscribe", 403),
        ("GET /v1/index/category/acme.a", 403),
        ("GET /v1/accounts", 403),
        ("GET /stats", 403),
    ] {
        assert_eq!(desk.http(&caller, route, "").await.status, status, "{route}");
    }
    let page = desk.http(&caller, "GET /v1/all?stream_prefix=acme.", "").await.json().await;
    assert_eq!(page["events"].as_array().expect("events").len(), 2);
    desk.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_leads_to_no_stream_that_its_reader_may_not_read() {
    let desk = Desk::new().await;
    desk.append("secret-1", EVENT).await;
    desk.append("plain-1", EVENT).await;
    desk.set_metadata("secret-1", r#"{"$acl":{"$r":[]}}"#).await;
    for target in [&b"0@secret-1"[..], b"0@plain-1"] {
        let mut event = RawEvent::good(target.len() as u128, Bytes::from_static(target));
        event.metadata.insert("type".to_owned(), "$>".to_owned());
        let messages = all_framed(&append_messages(b"mine-1", &[event]));
        let append = "/event_store.client.streams.Streams/Append";
        let mut answer = desk.grpc(&ada(), append, messages).await;
        assert_eq!(answer.grpc_status().await, 0, "{target:?}");
    }
    for (caller, expected) in [(ada(), [false, true]), (admin(), [true, true])] {
        let mut answer = desk.grpc(&caller, READ, first_of("mine-1", true)).await;
        let messages: Vec<ReadResp> = answer.messages().await;
        let led: Vec<bool> =
            messages.iter().filter_map(recorded).map(|event| event.event.is_some()).collect();
        assert_eq!(led, expected, "{:?}", caller.login());
    }
    desk.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_a_group_may_read_its_stream() {
    let desk = Desk::new().await;
    desk.append("a-1", EVENT).await;
    desk.set_metadata("a-1", r#"{"$acl":{"$r":"ada"}}"#).await;
    let asked = framed(&persistent::ReadReq {
        content: Some(persistent::read_req::Content::Options(persistent::read_req::Options {
            group_name: "mail".to_owned(),
            buffer_size: 1,
            uuid_option: Some(of_group::UuidOption {
                content: Some(of_group::uuid_option::Content::String(Empty {})),
            }),
            stream_option: Some(of_group::StreamOption::StreamIdentifier(stream_identifier(
                b"a-1",
            ))),
        })),
    });
    let path = "/event_store.client.persistent_subscriptions.PersistentSubscriptions/Read";
    // There is no such group: who may read the stream is told so.
    for (caller, status) in [(ada(), 5), (bob(), 7), (known("ops", &["$ops"]), 7)] {
        let mut answer = desk.grpc(&caller, path, asked.clone()).await;
        assert_eq!(answer.grpc_status().await, status, "{:?}", caller.login());
    }
    desk.server.stop().await;
}
