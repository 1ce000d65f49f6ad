//! Requests that no good client sends: refused at every door, and nothing is written.

use daybook_model::limits::{EVENT_TYPE_SIZE_MAX, STREAM_NAME_SIZE_MAX};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;

use crate::support::assert_says;
use crate::support::http::post;
use crate::support::node::Server;
use crate::support::protocol::{
    RawEvent, append, append_messages, batch, batch_error, batch_messages,
};

/// gRPC's INVALID_ARGUMENT inside a batch answer.
const INVALID_ARGUMENT: i32 = 3;

struct Case {
    stream: Vec<u8>,
    event: RawEvent,
    /// What the refusal says.
    says: &'static [&'static str],
}

fn cases() -> Vec<Case> {
    let good = || RawEvent::good(1, "x");
    let on = |stream: &[u8], says| Case { stream: stream.to_vec(), event: good(), says };
    let with = |event, says| Case { stream: b"a-1".to_vec(), event, says };
    let long = vec![b'x'; STREAM_NAME_SIZE_MAX + 1];
    let mut long_type = good();
    long_type.metadata.insert("type".to_owned(), "T".repeat(EVENT_TYPE_SIZE_MAX + 1));
    let mut empty_type = good();
    empty_type.metadata.insert("type".to_owned(), String::new());
    vec![
        on(b"", &["stream name is empty", "at least one character"]),
        on(&long, &["stream name has 1025 bytes", "limit is 1024"]),
        on(b"a\nb", &["control character U+000A", "leave it out"]),
        on(b"$all", &["'$all'", "choose another stream"]),
        on(b"\xff\xfe", &["not valid UTF-8"]),
        with(good().without("type"), &["Required Metadata Property 'type' is missing"]),
        with(
            good().without("content-type"),
            &["Required Metadata Property 'content-type' is missing"],
        ),
        with(good().with_id(Some("not-a-uuid")), &["'id'", "not a UUID"]),
        with(good().with_id(Some("")), &["'id'", "not a UUID"]),
        with(good().with_id(None), &["'id'", "set it"]),
        with(long_type, &["type of 1001 bytes", "at most 1000"]),
        with(empty_type, &["empty type", "name what happened"]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_appends_are_refused_over_grpc_and_nothing_is_written() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    for Case { stream, event, says } in cases() {
        let good = RawEvent::good(2, "y");
        // All or nothing: a good event before the bad one goes with it.
        let messages = append_messages(&stream, &[good, event]);
        let refused = append(server.address(), messages).await.expect_err("a bad append");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert_says(refused.message(), says);
        if says[0].starts_with("Required") {
            let exception = refused.metadata().get("exception").expect("a trailer");
            assert_eq!(exception, "missing-required-metadata-property");
        }
    }
    assert_eq!(server.store().committed().0, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_append_of_a_batch_call_is_refused_and_those_beside_it_are_not() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let mut messages = Vec::new();
    let cases = cases();
    for (i, case) in cases.iter().enumerate() {
        let (bad, good) = (i as u128 * 2, i as u128 * 2 + 1);
        messages.extend(batch_messages(bad, &case.stream, std::slice::from_ref(&case.event)));
        messages.extend(batch_messages(good, b"good", &[RawEvent::good(100 + good, "y")]));
    }
    let (answers, end) = batch(server.address(), messages).await;
    assert!(end.is_ok(), "{end:?}");
    assert_eq!(answers.len(), cases.len() * 2);
    let mut refused = 0;
    for answer in &answers {
        let number = daybook_wire::uuid::from_proto(answer.correlation_id.as_ref(), "id");
        let number = number.expect("a correlation").as_u128() as usize;
        match (number % 2, batch_error(answer)) {
            (0, Some((code, text))) => {
                assert_eq!(code, INVALID_ARGUMENT, "{text}");
                assert_says(&text, cases[number / 2].says);
                refused += 1;
            }
            (1, None) => {}
            (_, other) => panic!("case {number}: {other:?}"),
        }
    }
    assert_eq!(refused, cases.len());
    assert_eq!(server.store().committed().0, 1 + cases.len() as u64);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_appends_are_refused_over_http_and_the_field_is_named() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let event = |key: &str, value: Value| {
        let mut event = json!({ "type": "Happened", "data": 1 });
        event[key] = value;
        event.to_string()
    };
    let good = event("data", json!(1));
    let long = "x".repeat(STREAM_NAME_SIZE_MAX + 1);
    let cases = [
        (format!("/v1/streams/{long}"), good.clone(), "stream", "limit is 1024"),
        ("/v1/streams/a%0Ab".to_owned(), good.clone(), "stream", "control character"),
        ("/v1/streams/$all".to_owned(), good.clone(), "stream", "'$all'"),
        ("/v1/streams/%FF".to_owned(), good, "", "UTF-8"),
        ("/v1/streams/a".to_owned(), json!({ "data": 1 }).to_string(), "", "type"),
        ("/v1/streams/a".to_owned(), event("type", json!("")), "type", "name what happened"),
        ("/v1/streams/a".to_owned(), event("id", json!("nope")), "", "UUID"),
        ("/v1/streams/a".to_owned(), event("contentType", json!("x/y")), "", "contentType"),
        ("/v1/streams/a?expected=-3".to_owned(), event("data", json!(1)), "expected", ""),
        ("/v1/streams/a".to_owned(), "{".to_owned(), "", ""),
    ];
    for (path, body, field, word) in cases {
        let answer = post(server.address(), &path, body).await;
        assert_eq!(answer.status, 400, "{path}: {answer:?}");
        let problem = answer.json();
        assert_eq!(problem["type"], "urn:daybook:problem:invalid-request", "{problem}");
        assert_says(problem["detail"].as_str().expect("a detail"), &[word]);
        if !field.is_empty() {
            assert_eq!(problem["field"], field, "{problem}");
        }
    }
    let several = json!({ "streams": [{ "stream": "" }] }).to_string();
    let answer = post(server.address(), "/v1/append", several).await;
    assert_eq!((answer.status, &answer.json()["field"]), (400, &json!("stream")));
    assert_eq!(server.store().committed().0, 1);
    server.stop().await;
}
