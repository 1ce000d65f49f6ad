//! Sizes beyond what is promised: refused with the limit named, nothing written, and the
//! connection goes on.

use daybook_client::AppendError as ClientError;
use daybook_model::ExpectedRevision;
use daybook_model::limits::{APPEND_SIZE_MAX, EVENT_SIZE_MAX, MESSAGE_SIZE_MAX};
use daybook_store::{Append, AppendError};
use serde_json::json;
use tempfile::TempDir;
use tonic::Code;

use crate::support::directory::read_log;
use crate::support::events::{event, name, sized};
use crate::support::http::post;
use crate::support::node::Server;
use crate::support::protocol::{
    RawEvent, append_messages, batch, batch_error, batch_messages, raw_client,
};
use crate::support::{assert_says, soon};

const ANY: ExpectedRevision = ExpectedRevision::Any;
/// Events of this size make messages that are just below the cap.
const LARGE: usize = MESSAGE_SIZE_MAX - 1024;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_may_have_16_mib_and_not_a_byte_more() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let append = |size| Append::to_stream(name("a-1"), ANY, [event(1), sized(2, size)]);
    let refused = server.store().append(append(EVENT_SIZE_MAX + 1)).await.expect_err("too large");
    assert!(matches!(refused, AppendError::InvalidEvent(_)), "{refused:?}");
    let id = uuid::Uuid::from_u128(2).to_string();
    assert_says(&refused.to_string(), &[&id, "16777217 bytes", "limit is 16777216"]);
    let large = json!({ "type": "T", "data": "x".repeat(EVENT_SIZE_MAX) }).to_string();
    let answer = post(server.address(), "/v1/streams/a-1", large).await;
    assert_eq!(answer.status, 413, "{}", answer.body);
    assert_says(&answer.body, &["urn:daybook:problem:too-large", "limit is 16777216"]);
    assert_eq!(server.store().committed().0, 1);
    server.store().append(append(EVENT_SIZE_MAX)).await.expect("just within");
    let log = read_log(server.store()).await;
    assert_eq!(log[1].data, sized(2, EVENT_SIZE_MAX).data);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_over_64_mib_is_refused_by_every_door() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let events = || (0..5).map(|i| sized(i, LARGE));
    let refused = server.store().append(Append::to_stream(name("a-1"), ANY, events())).await;
    let refused = refused.expect_err("too large");
    assert!(matches!(refused, AppendError::TooLarge { limit: APPEND_SIZE_MAX, .. }), "{refused:?}");
    assert_says(&refused.to_string(), &["limit is 67108864", "split it"]);

    let raw: Vec<RawEvent> = events().map(|e| RawEvent::good(e.id.as_u128(), e.data)).collect();
    let mut messages = batch_messages(1, b"a-1", &raw);
    messages.extend(batch_messages(2, b"a-1", &[RawEvent::good(9, "small")]));
    let (answers, end) = soon("a batch call", batch(server.address(), messages)).await;
    assert!(end.is_ok(), "{end:?}");
    let errors: Vec<_> = answers.iter().map(batch_error).collect();
    let [Some((3, text)), None] = errors.as_slice() else { panic!("{errors:?}") };
    assert_says(text, &["MaximumAppendSizeExceeded"]);
    assert_eq!(server.store().committed().0, 2, "only the small one beside it");

    let mut client = raw_client(server.address()).await;
    let messages = futures_util::stream::iter(append_messages(b"a-1", &raw));
    let refused = client.append(messages).await.expect_err("too large");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(refused.message(), "Maximum Append Size of 67108864 Exceeded.");
    assert_eq!(
        refused.metadata().get("exception").expect("a trailer"),
        "maximum-append-size-exceeded"
    );
    let messages = append_messages(b"a-1", &[RawEvent::good(10, "small")]);
    client.append(futures_util::stream::iter(messages)).await.expect("the connection goes on");
    assert_eq!(server.store().committed().0, 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_over_the_cap_ends_resource_exhausted() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let large = RawEvent::good(1, vec![b'x'; MESSAGE_SIZE_MAX + 1]);
    let mut client = raw_client(server.address()).await;
    let messages = append_messages(b"a-1", &[RawEvent::good(2, "small"), large.clone()]);
    let refused = client.append(futures_util::stream::iter(messages)).await.expect_err("too large");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let cap = MESSAGE_SIZE_MAX.to_string();
    assert_says(refused.message(), &[&cap]);

    let (answers, end) =
        soon("a batch call", batch(server.address(), batch_messages(1, b"a-1", &[large]))).await;
    let refused = end.expect_err("too large");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(answers.is_empty(), "{answers:?}");
    assert_eq!(server.store().committed().0, 1);

    let messages = append_messages(b"a-1", &[RawEvent::good(3, "small")]);
    client.append(futures_util::stream::iter(messages)).await.expect("the connection goes on");
    let within = append_messages(b"a-1", &[RawEvent::good(4, vec![b'x'; LARGE])]);
    client.append(futures_util::stream::iter(within)).await.expect("just within");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_refuses_what_no_server_takes_before_it_sends() {
    let data = TempDir::new().expect("a directory");
    let server = Server::start(data.path()).await;
    let append = |size| server.client.append(&STREAM, ANY, vec![sized(1, size)]);
    static STREAM: std::sync::LazyLock<daybook_model::StreamName> =
        std::sync::LazyLock::new(|| name("a-1"));
    let refused = append(EVENT_SIZE_MAX + 1).await.expect_err("too large");
    assert!(matches!(refused, ClientError::InvalidEvent(_)), "{refused:?}");
    let refused = append(MESSAGE_SIZE_MAX).await.expect_err("too large");
    assert_says(&refused.to_string(), &["too large", &MESSAGE_SIZE_MAX.to_string()]);
    append(LARGE).await.expect("just within");
    server.stop().await;
}
